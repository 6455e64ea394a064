//! Segments that come and go, as writes of one batch.
//!
//! While a flush writes a segment from a snapshot, other commits go on changing the rows that are in it. The committer
//! settles that when the segment comes: the change log says which keys of the partition changed since the snapshot. For
//! each of them the copy in the segment is marked as superseded and the hot row, if there is one, stays; every other row
//! of the segment leaves the hot tier. A compaction is settled in the same way by the marks that its input got since.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use super::{CommitError, NewSegment, RowChange, SegmentChange, position};
use crate::codec::{
    CodecError, GarbageFile, LogEntry, Mark, PrimaryKey, SegmentsKey, checksums_key, encode_checksums, garbage_key,
    log_range, mark_key, mark_range, row_key, segment_key, split_segments_key,
};
use crate::ids::{CommitSeq, Partition};
use crate::kv::{Direction, Keyspace, KvError, StorageBackend, WriteBatch};

/// Rows from which on they are removed by their range. A range is one entry whatever it covers, but each one slows down
/// readers a little until RocksDB has compacted it away.
const RANGE_FROM_ROWS: usize = 1_024;

/// Writes what a change of segments means, or refuses it.
pub(super) fn change_segments(
    backend: &dyn StorageBackend,
    change: &SegmentChange,
    seq: CommitSeq,
    batch: &mut WriteBatch,
) -> Result<(), CommitError> {
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
    if change.takes_hot_rows {
        let changed = changed_keys(backend, change)?;
        // Only now, as in `ChangeLog::read`. A change that is not known would be lost: the row that it wrote would leave the
        // hot tier in favour of the one in the segment.
        if change.based_on < position::log_floor(backend).map_err(CommitError::Storage)? {
            return Err(CommitError::LogTrimmed { table: partition.table });
        }
        for new in &change.add {
            take_hot_rows(backend, partition, new, &changed, seq, batch)?;
        }
    }
    for removed in &change.remove {
        carry_marks(backend, change, removed.id, batch)?;
        batch.delete(Keyspace::Segments, segment_key(partition, removed.id));
        let garbage = GarbageFile { removed_at: seq, storage: removed.storage, path: removed.path.clone() };
        batch.put(Keyspace::System, garbage_key(removed.id), garbage.encode());
    }
    Ok(())
}

/// The keys of a partition that commits after the snapshot changed.
fn changed_keys(backend: &dyn StorageBackend, change: &SegmentChange) -> Result<BTreeSet<PrimaryKey>, CommitError> {
    let snapshot = backend.snapshot();
    let since = log_range(&change.partition, Bound::Excluded(change.based_on), Bound::Unbounded);
    let mut cursor = snapshot.cursor(Keyspace::Log, since, Direction::Forward).map_err(CommitError::Storage)?;
    let mut keys = BTreeSet::new();
    while let Some((_, value)) = cursor.item() {
        let entry = LogEntry::decode(value).map_err(corrupt)?;
        keys.extend(entry.changes.into_iter().map(|change| change.key));
        cursor.advance().map_err(CommitError::Storage)?;
    }
    Ok(keys)
}

fn take_hot_rows(
    backend: &dyn StorageBackend,
    partition: &Partition,
    new: &NewSegment,
    changed: &BTreeSet<PrimaryKey>,
    seq: CommitSeq,
    batch: &mut WriteBatch,
) -> Result<(), CommitError> {
    let within = changed.range(new.entry.min_key.clone()..=new.entry.max_key.clone());
    if new.keys.len() < RANGE_FROM_ROWS {
        for key in new.keys.iter() {
            let key = PrimaryKey::from_encoded(key);
            if !changed.contains(&key) {
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
        }
    }
    Ok(())
}

/// Moves the marks that a removed segment got since the snapshot to the segments that its rows are in now, and removes
/// all it has.
fn carry_marks(
    backend: &dyn StorageBackend,
    change: &SegmentChange,
    removed: crate::ids::SegmentId,
    batch: &mut WriteBatch,
) -> Result<(), CommitError> {
    let snapshot = backend.snapshot();
    let marks = mark_range(&change.partition, removed);
    let mut cursor = snapshot.cursor(Keyspace::Segments, marks, Direction::Forward).map_err(CommitError::Storage)?;
    while let Some((key, value)) = cursor.item() {
        let (_, place) = split_segments_key(key).map_err(corrupt)?;
        if !matches!(place, SegmentsKey::Mark(..)) {
            return Err(corrupt(CodecError::Corrupt("a segment's marks hold something else")));
        }
        let mark = Mark::decode(value).map_err(corrupt)?;
        if mark.commit_seq > change.based_on {
            let place = change.add.iter().find_map(|new| {
                new.keys.position(mark.key.as_bytes()).map(|row| mark_key(&change.partition, new.entry.id, row))
            });
            let Some(place) = place else {
                return Err(corrupt(CodecError::Corrupt("a compaction lost a row that was live in its snapshot")));
            };
            batch.put(Keyspace::Segments, place, value);
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
    pub(super) fn check(&self, changes: &[RowChange], checked_at: CommitSeq) -> Result<(), CommitError> {
        let mut before: Option<&Partition> = None;
        for change in changes {
            if before == Some(&change.partition) {
                continue;
            }
            before = Some(&change.partition);
            if self.last.get(&change.partition).copied().unwrap_or(self.others) > checked_at {
                return Err(CommitError::SegmentsChanged { table: change.partition.table });
            }
        }
        Ok(())
    }
}
