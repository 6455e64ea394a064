//! Deletion marks in memory.
//!
//! A segment gets marks and never loses one as long as it is there. So what was once read of them is kept, with the
//! commit of each, and serves every snapshot: one that is older leaves the later marks out, and one that is newer adds
//! those of the lists that were written since.

use std::sync::Arc;

use kalamdb_store::{
    codec::{SegmentsKey, decode_mark_list, mark_list_key, split_segments_key},
    commit::committed_seq,
    ids::{CommitSeq, Partition, SegmentId},
    kv::{Cursor, Snapshot},
};
use moka::sync::Cache;

use crate::{
    error::Result,
    exec::{cold::manifest::LiveSegment, corrupt, from_store},
};

/// The marks of segments that scans have read, as many as fit.
#[derive(Debug)]
pub(crate) struct MarkCache(Cache<SegmentId, Arc<KnownMarks>>);

/// All marks of a segment up to a commit.
#[derive(Debug)]
struct KnownMarks {
    through: CommitSeq,
    /// The positions of the marked rows, ascending.
    rows: Arc<[u32]>,
    /// For each of them the commit that its list has.
    seqs: Vec<CommitSeq>,
}

impl MarkCache {
    /// A cache of at most so many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let weigh = |_: &SegmentId, marks: &Arc<KnownMarks>| u32::try_from(marks.bytes()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(bytes).weigher(weigh).build())
    }
}

impl KnownMarks {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.rows.len() * (size_of::<u32>() + size_of::<CommitSeq>())
    }

    /// The rows that were marked up to a commit.
    fn as_of(&self, seq: CommitSeq) -> Arc<[u32]> {
        if seq >= self.through {
            return Arc::clone(&self.rows);
        }
        self.rows.iter().zip(&self.seqs).filter(|(_, marked_at)| **marked_at <= seq).map(|(row, _)| *row).collect()
    }

    /// These marks, if any, and those of later lists.
    fn and(known: Option<&Self>, later: Vec<(u32, CommitSeq)>) -> Self {
        let through = known.map_or(CommitSeq::new(0), |known| known.through);
        let through = later.iter().map(|(_, seq)| *seq).fold(through, CommitSeq::max);
        let mut marks: Vec<(u32, CommitSeq)> = Vec::new();
        if let Some(known) = known {
            marks.reserve_exact(known.rows.len() + later.len());
            marks.extend(known.rows.iter().copied().zip(known.seqs.iter().copied()));
        }
        marks.extend(later);
        // Stable, because that is fast where long stretches are in order already.
        marks.sort_by_key(|(row, _)| *row);
        let rows = marks.iter().map(|(row, _)| *row).collect();
        Self { through, rows, seqs: marks.into_iter().map(|(_, seq)| seq).collect() }
    }
}

/// Finds the marks of segments as of a snapshot.
pub(super) struct MarkReader<'a> {
    snapshot: &'a dyn Snapshot,
    cache: &'a MarkCache,
    /// The last commit in the snapshot, once it was asked for.
    seq: Option<CommitSeq>,
}

impl<'a> MarkReader<'a> {
    pub(super) fn new(snapshot: &'a dyn Snapshot, cache: &'a MarkCache) -> Self {
        Self { snapshot, cache, seq: None }
    }

    /// Gives segments of one partition, by their ids, their marks. The cursor goes forward over the snapshot's keyspace of
    /// segments, and stands before the partition's lists of marks.
    pub(super) fn read(
        &mut self,
        cursor: &mut (dyn Cursor + '_),
        partition: &Partition,
        segments: &mut [LiveSegment],
    ) -> Result<()> {
        for segment in segments {
            let id = segment.entry.id;
            let known = self.cache.0.get(&id);
            let next = known.as_ref().map_or(0, |known| known.through.get().saturating_add(1));
            let next = mark_list_key(partition, id, CommitSeq::new(next));
            if cursor.valid() && cursor.key() < next.as_slice() {
                cursor.seek(&next).map_err(from_store)?;
            }
            let later = later_marks(cursor, partition, id)?;
            segment.marks = match known {
                None if later.is_empty() => continue,
                Some(known) if later.is_empty() => known.as_of(self.seq()?),
                known => {
                    // Lists of later commits: the snapshot has everything that is known.
                    let marks = Arc::new(KnownMarks::and(known.as_deref(), later));
                    self.cache.0.insert(id, Arc::clone(&marks));
                    Arc::clone(&marks.rows)
                }
            };
        }
        Ok(())
    }

    fn seq(&mut self) -> Result<CommitSeq> {
        match self.seq {
            Some(seq) => Ok(seq),
            None => Ok(*self.seq.insert(committed_seq(self.snapshot).map_err(from_store)?)),
        }
    }
}

/// The marks of the lists of a segment that the cursor stands before.
fn later_marks(
    cursor: &mut (dyn Cursor + '_),
    partition: &Partition,
    segment: SegmentId,
) -> Result<Vec<(u32, CommitSeq)>> {
    let mut marks = Vec::new();
    while let Some((key, value)) = cursor.item() {
        let (of, what) = split_segments_key(key).map_err(corrupt)?;
        match what {
            SegmentsKey::MarkList(id, seq) if id == segment && of == *partition => {
                marks.extend(decode_mark_list(value).map_err(corrupt)?.map(|row| (row, seq)));
            }
            _ => break,
        }
        cursor.advance().map_err(from_store)?;
    }
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use kalamdb_store::{
        codec::{PrimaryKey, SegmentEntry, encode_mark_list, segment_key},
        commit::{CommitSettings, Committer, PreparedCommit},
        ids::{Owner, SchemaVersion, StorageId, TableId, UserId},
        kv::{Keyspace, MemoryBackend, StorageBackend, WriteBatch},
    };

    use super::*;
    use crate::exec::cold::manifest::{live_segments, live_segments_of_table};

    fn partition(user: &str) -> Partition {
        Partition { table: TableId::new(5), owner: Owner::User(UserId::new(user).unwrap()) }
    }

    fn entry(id: u64) -> SegmentEntry {
        SegmentEntry {
            id: SegmentId::new(id),
            storage: StorageId::new(0),
            path: format!("{id}.parquet"),
            file_bytes: 1,
            rows: 100,
            row_group_rows: 100,
            schema_version: SchemaVersion::new(1),
            min_key: PrimaryKey::from_i64(0),
            max_key: PrimaryKey::from_i64(9),
            min_seq: CommitSeq::new(1),
            max_seq: CommitSeq::new(1),
            created_at_us: 0,
        }
    }

    async fn commit(committer: &Committer, kv: WriteBatch) {
        committer.commit(PreparedCommit { kv, ..PreparedCommit::default() }).await.unwrap();
    }

    /// Marks rows as the committer does: in a list of the commit that makes them.
    async fn mark(committer: &Committer, user: &str, segment: u64, rows: &[u32]) {
        let seq = CommitSeq::new(committer.last_commit_seq().get() + 1);
        let mut batch = WriteBatch::new();
        let key = mark_list_key(&partition(user), SegmentId::new(segment), seq);
        batch.put(Keyspace::Segments, key, encode_mark_list(rows));
        commit(committer, batch).await;
    }

    /// The marks of each segment, by owner.
    fn read(snapshot: &dyn Snapshot, cache: &MarkCache) -> Vec<(u64, Vec<u32>)> {
        let segments = live_segments_of_table(snapshot, cache, TableId::new(5), |_| true).unwrap();
        segments.into_iter().map(|segment| (segment.entry.id.get(), segment.marks.to_vec())).collect()
    }

    #[tokio::test]
    async fn every_snapshot_has_its_own_marks_whatever_was_read_before() {
        let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
        let committer = Committer::start(Arc::clone(&backend), CommitSettings::default(), None).unwrap();
        let mut entries = WriteBatch::new();
        for (user, id) in [("ana", 1), ("ana", 2), ("ana", 4), ("bo", 3), ("cy", 5)] {
            entries.put(Keyspace::Segments, segment_key(&partition(user), SegmentId::new(id)), entry(id).encode());
        }
        commit(&committer, entries).await;
        let mut moments = vec![(backend.snapshot(), read(backend.snapshot().as_ref(), &MarkCache::new(0)))];
        for (user, segment, rows) in
            [("ana", 1, &[7, 9][..]), ("cy", 5, &[0]), ("ana", 4, &[3]), ("ana", 1, &[1, 8]), ("cy", 5, &[99])]
        {
            mark(&committer, user, segment, rows).await;
            moments.push((backend.snapshot(), read(backend.snapshot().as_ref(), &MarkCache::new(0))));
        }
        let last = vec![(1, vec![1, 7, 8, 9]), (2, vec![]), (4, vec![3]), (3, vec![]), (5, vec![0, 99])];
        assert_eq!(moments.last().unwrap().1, last);
        let forward = 0..moments.len();
        let (backward, mixed) = (forward.clone().rev(), [3, 1, 5, 2, 4, 0]);
        for order in [forward.clone().collect(), backward.collect::<Vec<_>>(), mixed.to_vec()] {
            let cache = MarkCache::new(1 << 20);
            for at in order.into_iter().chain(forward.clone()) {
                let (snapshot, expected) = &moments[at];
                assert_eq!(&read(snapshot.as_ref(), &cache), expected, "moment {at}");
                let of_ana = live_segments(snapshot.as_ref(), &cache, &partition("ana"), |e| e.id.get() != 1).unwrap();
                let of_ana: Vec<_> = of_ana.into_iter().map(|s| (s.entry.id.get(), s.marks.to_vec())).collect();
                assert_eq!(of_ana, expected[1..3], "moment {at}");
            }
        }
        committer.stop();
    }
}
