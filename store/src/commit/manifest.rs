//! Segments that come and go, as writes of one batch.
//!
//! While a flush writes a segment from a snapshot, other commits go on changing the rows that are in it. The committer
//! settles that when the segment comes: the change log says which keys of the partition changed since the snapshot. For
//! each of them the copy in the segment is marked as superseded and the hot row, if there is one, stays; every other row
//! of the segment leaves the hot tier. A compaction is settled in the same way by the marks that its input got since.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::hot_counts::HotChange;
use super::{CommitError, NewSegment, SegmentChange, position};
use crate::codec::{
    CodecError, GarbageFile, LogEntry, Mark, PrimaryKey, SegmentsKey, checksums_key, encode_checksums,
    encode_mark_list, garbage_key, log_range, mark_key, mark_list_key, mark_list_range, mark_range, row_key,
    row_prefix, segment_key, split_segments_key,
};
use crate::ids::{CommitSeq, Partition, SegmentId};
use crate::kv::{Direction, Keyspace, KvError, StorageBackend, WriteBatch};

/// Rows from which on they are removed by their range. A range is one entry whatever it covers, but each one slows down
/// readers a little until RocksDB has compacted it away.
const RANGE_FROM_ROWS: usize = 1_024;

/// Writes what a change of segments means, or refuses it. Says how the count of the partition's hot rows changes.
pub(super) fn change_segments(
    backend: &dyn StorageBackend,
    change: &SegmentChange,
    seq: CommitSeq,
    batch: &mut WriteBatch,
) -> Result<HotChange, CommitError> {
    let partition = &change.partition;
    for removed in &change.remove {
        let key = segment_key(partition, removed.id);
        if backend.get(Keyspace::Segments, &key).map_err(CommitError::Storage)?.is_none() {
            return Err(CommitError::SegmentsChanged { table: partition.table });
        }
    }
    for new in &change.add {
        batch.put(Keyspace::Segments, segment_key(partition, new.entry.id), new.entry.encode());
        batch.put(Keyspace::System, checksums_key(new.entry.id), encode_checksums(&new.checksums));
    }
    let mut marked = MarkLists::default();
    let (mut rows, mut bytes) = (0, 0);
    if change.takes_hot_rows {
        let changed = changed_keys(backend, change)?;
        // Only now, as in `ChangeLog::read`. A change that is not known would be lost: the row that it wrote would leave the
        // hot tier in favour of the one in the segment.
        if change.based_on < position::log_floor(backend).map_err(CommitError::Storage)? {
            return Err(CommitError::LogTrimmed { table: partition.table });
        }
        for new in &change.add {
            take_hot_rows(backend, partition, new, &changed, seq, batch, &mut marked)?;
            let (stay, stay_bytes) = not_taken(partition, new, &changed);
            rows += (new.keys.len() as u64).saturating_sub(stay);
            bytes += new.hot_bytes.saturating_sub(stay_bytes);
        }
    }
    for removed in &change.remove {
        carry_marks(backend, change, removed.id, batch, &mut marked)?;
        batch.delete(Keyspace::Segments, segment_key(partition, removed.id));
        let garbage = GarbageFile { removed_at: seq, storage: removed.storage, path: removed.path.clone() };
        batch.put(Keyspace::System, garbage_key(removed.id), garbage.encode());
    }
    marked.write(seq, batch);
    Ok(HotChange::without(rows, bytes))
}

/// How many rows of a new segment had left the hot tier, or had changed in it, before the segment came; and the bytes of
/// their keys and values as they were when the segment was made.
fn not_taken(partition: &Partition, new: &NewSegment, changed: &Changed) -> (u64, u64) {
    let prefix_len = row_prefix(partition).len();
    let (mut rows, mut bytes) = (0, 0);
    for (key, old_len) in changed.range(new.entry.min_key.clone()..=new.entry.max_key.clone()) {
        if new.keys.position(key.as_bytes()).is_some() {
            rows += 1;
            bytes += (prefix_len + key.as_bytes().len() + old_len) as u64;
        }
    }
    (rows, bytes)
}

/// The keys that were changed since a snapshot, and the length of the row that each had in the snapshot; 0: none.
type Changed = BTreeMap<PrimaryKey, usize>;

/// The rows that a batch marks, by segment.
#[derive(Debug, Default)]
pub(super) struct MarkLists(BTreeMap<SegmentId, (Partition, Vec<u32>)>);

impl MarkLists {
    /// Notes a row that is marked.
    pub(super) fn push(&mut self, partition: &Partition, segment: SegmentId, row: u32) {
        let (_, rows) = self.0.entry(segment).or_insert_with(|| (partition.clone(), Vec::new()));
        rows.push(row);
    }

    /// Writes the lists of a batch whose last commit is `seq`.
    pub(super) fn write(self, seq: CommitSeq, batch: &mut WriteBatch) {
        for (segment, (partition, mut rows)) in self.0 {
            rows.sort_unstable();
            batch.put(Keyspace::Segments, mark_list_key(&partition, segment, seq), encode_mark_list(&rows));
        }
    }
}

/// What commits after the snapshot changed in a partition.
fn changed_keys(backend: &dyn StorageBackend, change: &SegmentChange) -> Result<Changed, CommitError> {
    let snapshot = backend.snapshot();
    let since = log_range(&change.partition, Bound::Excluded(change.based_on), Bound::Unbounded);
    let mut cursor = snapshot.cursor(Keyspace::Log, since, Direction::Forward).map_err(CommitError::Storage)?;
    let mut changed = Changed::new();
    while let Some((_, value)) = cursor.item() {
        let entry = LogEntry::decode(value).map_err(corrupt)?;
        for change in entry.changes {
            // The first change of a key has the row of the snapshot as its old image.
            changed.entry(change.key).or_insert_with(|| change.old.map_or(0, |old| old.len()));
        }
        cursor.advance().map_err(CommitError::Storage)?;
    }
    Ok(changed)
}

fn take_hot_rows(
    backend: &dyn StorageBackend,
    partition: &Partition,
    new: &NewSegment,
    changed: &Changed,
    seq: CommitSeq,
    batch: &mut WriteBatch,
    marked: &mut MarkLists,
) -> Result<(), CommitError> {
    let within = changed.range(new.entry.min_key.clone()..=new.entry.max_key.clone()).map(|(key, _)| key);
    if new.keys.len() < RANGE_FROM_ROWS {
        for key in new.keys.iter() {
            let key = PrimaryKey::from_encoded(key);
            if !changed.contains_key(&key) {
                batch.delete(Keyspace::Rows, row_key(partition, &key));
            }
        }
    } else {
        let mut end = row_key(partition, &new.entry.max_key);
        // The least key after the greatest one.
        end.push(0);
        batch.delete_range(Keyspace::Rows, row_key(partition, &new.entry.min_key), end);
        for key in within.clone() {
            let key = row_key(partition, key);
            if let Some(row) = backend.get(Keyspace::Rows, &key).map_err(CommitError::Storage)? {
                batch.put(Keyspace::Rows, key, row);
            }
        }
    }
    for key in within {
        if let Some(row) = new.keys.position(key.as_bytes()) {
            let mark = Mark { commit_seq: seq, key: key.clone() };
            batch.put(Keyspace::Segments, mark_key(partition, new.entry.id, row), mark.encode());
            marked.push(partition, new.entry.id, row);
        }
    }
    Ok(())
}

/// Moves the marks that a removed segment got since the snapshot to the segments that its rows are in now, and removes
/// all it has.
fn carry_marks(
    backend: &dyn StorageBackend,
    change: &SegmentChange,
    removed: SegmentId,
    batch: &mut WriteBatch,
    marked: &mut MarkLists,
) -> Result<(), CommitError> {
    let partition = &change.partition;
    let snapshot = backend.snapshot();
    let lists = mark_list_range(partition, removed);
    let mut cursor = snapshot.cursor(Keyspace::Segments, lists, Direction::Forward).map_err(CommitError::Storage)?;
    while let Some((key, _)) = cursor.item() {
        batch.delete(Keyspace::Segments, key);
        cursor.advance().map_err(CommitError::Storage)?;
    }
    let marks = mark_range(partition, removed);
    let mut cursor = snapshot.cursor(Keyspace::Segments, marks, Direction::Forward).map_err(CommitError::Storage)?;
    while let Some((key, value)) = cursor.item() {
        let (_, place) = split_segments_key(key).map_err(corrupt)?;
        if !matches!(place, SegmentsKey::Mark(..)) {
            return Err(corrupt(CodecError::Corrupt("a segment's marks hold something else")));
        }
        let mark = Mark::decode(value).map_err(corrupt)?;
        if mark.commit_seq > change.based_on {
            let place = change.add.iter().find_map(|new| Some((new.entry.id, new.keys.position(mark.key.as_bytes())?)));
            let Some((segment, row)) = place else {
                return Err(corrupt(CodecError::Corrupt("a compaction lost a row that was live in its snapshot")));
            };
            batch.put(Keyspace::Segments, mark_key(partition, segment, row), value);
            marked.push(partition, segment, row);
        }
        batch.delete(Keyspace::Segments, key);
        cursor.advance().map_err(CommitError::Storage)?;
    }
    Ok(())
}

fn corrupt(error: CodecError) -> CommitError {
    CommitError::Storage(KvError::Corruption(error.to_string()))
}

/// The most partitions whose last change is remembered one by one.
const MAX_REMEMBERED: usize = 100_000;

/// When segments last came to or left each partition, since the committer was started.
#[derive(Debug)]
pub(super) struct ManifestChanges {
    last: HashMap<Partition, CommitSeq>,
    /// What is remembered of all other partitions: nothing of theirs changed after this.
    others: CommitSeq,
}

impl ManifestChanges {
    /// Nothing has changed since `now`.
    pub(super) fn new(now: CommitSeq) -> Self {
        Self { last: HashMap::new(), others: now }
    }

    /// Notes a change.
    pub(super) fn changed(&mut self, partition: &Partition, seq: CommitSeq) {
        if self.last.len() >= MAX_REMEMBERED {
            self.last.clear();
            self.others = seq;
        }
        self.last.insert(partition.clone(), seq);
    }

    /// Checks that the segments of the partitions that are written are still those of the snapshot `checked_at`.
    pub(super) fn check<'p>(
        &self,
        written: impl Iterator<Item = &'p Partition>,
        checked_at: CommitSeq,
    ) -> Result<(), CommitError> {
        let mut before: Option<&Partition> = None;
        for partition in written {
            if before == Some(partition) {
                continue;
            }
            before = Some(partition);
            if self.last.get(partition).copied().unwrap_or(self.others) > checked_at {
                return Err(CommitError::SegmentsChanged { table: partition.table });
            }
        }
        Ok(())
    }
}
