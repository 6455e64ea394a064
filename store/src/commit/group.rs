//! A group of commits on its way into one batch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bulk::{BulkInsert, BulkRows, check_still_new, stamp};
use super::disk_guard::Room;
use super::dropped::drop_segments;
use super::hot_counts::HotCounts;
use super::left_owners::LeftOwners;
use super::manifest::{ManifestChanges, MarkLists, change_segments};
use super::{Changed, ColdPlace, CommitError, Expected, Fence, PreparedCommit, RowChange, RowOp, Unique, position};
use crate::codec::{
    ChangeOp, ChangeRef, EntryHeader, Mark, PrimaryKey, RowHeader, encode_entry, mark_key, row_prefix, segment_key,
    write_log_key, write_row_key,
};
use crate::ids::{CommitSeq, Partition, SchemaVersion, TableId};
use crate::kv::{Keyspace, KvError, StorageBackend, WriteBatch};

/// Look-ups in one commit from which on they are made together.
const MULTI_GET_FROM: usize = 4;

/// What the committer keeps in memory from group to group.
pub(super) struct Remembered<'a> {
    /// The tables that were dropped since it was started.
    pub(super) dropped: &'a mut HashSet<TableId>,
    pub(super) left: &'a mut LeftOwners,
    pub(super) manifest: &'a mut ManifestChanges,
    pub(super) hot: &'a mut HotCounts,
}

/// Validates commits one after the other, each against the store as it will be after those accepted before it, and
/// gathers their writes. A refused commit leaves no trace.
pub(super) struct Group<'a> {
    backend: &'a dyn StorageBackend,
    remembered: Remembered<'a>,
    room: Room,
    last_seq: CommitSeq,
    /// The rows that accepted commits changed: their new version, or `None` for rows that are gone.
    overlay: HashMap<Vec<u8>, Option<CommitSeq>>,
    /// The rows of segments that accepted commits marked.
    marked: HashSet<ColdPlace>,
    mark_lists: MarkLists,
    batch: WriteBatch,
    logged: Logged,
    key: Vec<u8>,
}

/// What the log entries of a group are about.
#[derive(Default)]
pub(super) struct Logged {
    /// What was changed, if it is to be told.
    pub(super) changes: Vec<Changed>,
    /// Bytes of the entries with their keys.
    pub(super) bytes: u64,
    tell: Tell,
}

/// What is noted for a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tell {
    /// Nothing: there is none.
    #[default]
    Nothing,
    /// The partitions: somebody may listen when the group is published.
    Partitions,
    /// The entries, too.
    Entries,
}

/// Larger entries are not kept for a listener.
const MAX_TOLD_BYTES: usize = 64 * 1024;

impl<'a> Group<'a> {
    /// An empty group that follows the commit `last_seq`.
    pub(super) fn new(
        backend: &'a dyn StorageBackend,
        remembered: Remembered<'a>,
        room: Room,
        last_seq: CommitSeq,
        tell: Tell,
    ) -> Self {
        let (overlay, marked, mark_lists) = (HashMap::new(), HashSet::new(), MarkLists::default());
        let (batch, key) = (WriteBatch::new(), Vec::new());
        let logged = Logged { tell, ..Logged::default() };
        remembered.hot.trim();
        Self { backend, remembered, room, last_seq, overlay, marked, mark_lists, batch, logged, key }
    }

    /// Accepts a commit and gives it the next sequence, or refuses it.
    pub(super) fn add(&mut self, mut commit: PreparedCommit) -> Result<CommitSeq, CommitError> {
        self.check_room(&commit)?;
        let rows = commit.changes.iter().map(|change| &change.partition);
        let segments = commit.segments.iter().map(|change| &change.partition);
        let restored = commit.restored.iter().map(|restored| &restored.partition);
        if let Some(partition) =
            rows.chain(segments).chain(restored).find(|partition| self.remembered.dropped.contains(&partition.table))
        {
            return Err(CommitError::TableDropped { table: partition.table });
        }
        self.remembered.left.check(&commit)?;
        let before = commit.after.map_or(self.last_seq, |after| after.max(self.last_seq));
        let seq = CommitSeq::new(before.get() + 1);
        if !commit.segments.is_empty() {
            // Nothing of a refused commit may stay, and this one is the first of its group.
            let (mut batch, mut left) = (WriteBatch::new(), Vec::with_capacity(commit.segments.len()));
            for change in &commit.segments {
                self.remembered.hot.load(self.backend, &change.partition)?;
                left.push(change_segments(self.backend, change, seq, &mut batch)?);
            }
            self.batch.append(&batch);
            for (change, left) in commit.segments.iter().zip(left) {
                self.remembered.hot.change(&change.partition, left);
                self.remembered.manifest.changed(&change.partition, seq);
            }
        }
        if let Some(checked_at) = commit.cold_checked_at {
            let changed = commit.changes.iter().map(|change| &change.partition);
            self.remembered.manifest.check(changed, checked_at)?;
        }
        let mut dropped = WriteBatch::new();
        for (table, Fence::Dropped) in &commit.fences {
            drop_segments(self.backend, *table, seq, &mut dropped)?;
        }
        for changes in commit.changes.chunk_by(|a, b| a.partition == b.partition) {
            if let Some(first) = changes.first() {
                self.remembered.hot.load(self.backend, &first.partition)?;
            }
        }
        for restored in commit.restored.chunk_by(|a, b| a.partition == b.partition) {
            if let Some(first) = restored.first() {
                self.remembered.hot.load(self.backend, &first.partition)?;
            }
        }
        if let Some(bulk) = &commit.bulk {
            self.validate_bulk(&bulk.lock(), commit.cold_checked_at)?;
        }
        self.validate(&commit.changes, seq)?;
        self.last_seq = seq;
        for (table, Fence::Dropped) in &commit.fences {
            self.remembered.hot.drop_table(*table, &mut dropped);
        }
        self.batch.append(&dropped);
        for change in &mut commit.changes {
            write_row_key(&mut self.key, &change.partition, &change.key);
            match &mut change.op {
                RowOp::Insert { row, .. } | RowOp::Update { row, .. } => {
                    row.stamp(seq, commit.commit_time_us);
                    self.batch.put(Keyspace::Rows, &self.key, row.as_bytes());
                }
                RowOp::Delete { expected: Expected::Hot(_), .. } => self.batch.delete(Keyspace::Rows, &self.key),
                RowOp::Delete { expected: Expected::Cold(_), .. } => {}
            }
            if let Some(place) = superseded(&change.op) {
                let mark = Mark { commit_seq: seq, key: change.key.clone() };
                let at = mark_key(&change.partition, place.segment, place.row);
                self.batch.put(Keyspace::Segments, at, mark.encode());
                self.mark_lists.push(&change.partition, place.segment, place.row);
            }
        }
        for restored in &commit.restored {
            write_row_key(&mut self.key, &restored.partition, &restored.key);
            self.batch.put(Keyspace::Rows, &self.key, restored.row.as_bytes());
        }
        self.remembered.hot.count(&commit.changes);
        self.remembered.hot.count_restored(&commit.restored);
        self.log(&commit, seq)?;
        if let Some(bulk) = &commit.bulk {
            self.write_bulk(bulk, seq, commit.commit_time_us);
        }
        self.batch.append(&commit.kv);
        self.remembered.left.leave(commit.leaving, seq);
        for (table, fence) in commit.fences {
            match fence {
                Fence::Dropped => self.remembered.dropped.insert(table),
            };
        }
        Ok(seq)
    }

    /// Whether a commit is validated against the store alone, so that no other may come before it in its group.
    pub(super) fn must_begin_group(commit: &PreparedCommit) -> bool {
        !commit.segments.is_empty() || !commit.fences.is_empty() || commit.bulk.is_some()
    }

    /// Whether a commit writes rows past the validation, so that later commits must be validated against the store.
    pub(super) fn must_end_group(commit: &PreparedCommit) -> bool {
        !commit.segments.is_empty()
            || !commit.restored.is_empty()
            || commit.bulk.is_some()
            || commit.kv.iter().any(|op| op.keyspace() == Keyspace::Rows)
    }

    /// The last accepted commit, the writes of all, and what is in the log of them.
    pub(super) fn finish(mut self) -> (CommitSeq, WriteBatch, Logged) {
        self.mark_lists.write(self.last_seq, &mut self.batch);
        self.remembered.hot.write(&mut self.batch);
        position::write(&mut self.batch, self.last_seq);
        (self.last_seq, self.batch, self.logged)
    }

    fn check_room(&self, commit: &PreparedCommit) -> Result<(), CommitError> {
        let makes_room = || {
            commit.restored.is_empty()
                && commit.bulk.is_none()
                && commit.changes.iter().all(|change| matches!(change.op, RowOp::Delete { .. }))
        };
        match self.room {
            Room::Ample => Ok(()),
            Room::Scarce if makes_room() => Ok(()),
            Room::Scarce | Room::None => Err(CommitError::DiskFull),
        }
    }

    /// Checks that the tables of many new rows are there, and that their keys are new. They are alone in their group: what
    /// the store says holds.
    fn validate_bulk(&mut self, inserts: &[BulkInsert], cold_checked_at: Option<CommitSeq>) -> Result<(), CommitError> {
        for partition in inserts.iter().map(BulkInsert::partition) {
            if self.remembered.dropped.contains(&partition.table) {
                return Err(CommitError::TableDropped { table: partition.table });
            }
            self.remembered.hot.load(self.backend, partition)?;
        }
        let Some(checked_at) = cold_checked_at else { return Ok(()) };
        self.remembered.manifest.check(inserts.iter().map(BulkInsert::partition), checked_at)?;
        check_still_new(self.backend, inserts, checked_at, self.last_seq)
    }

    /// Writes many new rows and their log entries.
    fn write_bulk(&mut self, bulk: &BulkRows, seq: CommitSeq, commit_time_us: i64) {
        let mut inserts = bulk.lock();
        stamp(&mut inserts, seq, commit_time_us);
        for insert in inserts.iter() {
            self.remembered.hot.change(insert.partition(), insert.hot_change());
            let entry = insert.rows().entry();
            self.logged.bytes += (row_prefix(insert.partition()).len() + size_of::<u64>() + entry.len()) as u64;
            if self.logged.tell != Tell::Nothing {
                let told = self.logged.tell == Tell::Entries && entry.len() <= MAX_TOLD_BYTES;
                let entry = told.then(|| Arc::from(entry));
                self.logged.changes.push(Changed { partition: insert.partition().clone(), commit_seq: seq, entry });
            }
        }
        drop(inserts);
        self.batch.put_bulk(bulk.writes(seq));
    }

    /// Checks every change's condition and enters its outcome into the overlay; takes all of them out again if one
    /// fails.
    fn validate(&mut self, changes: &[RowChange], seq: CommitSeq) -> Result<(), CommitError> {
        let stored = self.stored_versions(changes)?;
        // What the overlay had before for each change's key, to undo.
        let mut before: Vec<Option<Option<CommitSeq>>> = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            write_row_key(&mut self.key, &change.partition, &change.key);
            let in_group = self.overlay.get(self.key.as_slice()).copied();
            let current = in_group.unwrap_or_else(|| stored.get(index).copied().flatten());
            let changed = || CommitError::VersionChanged { change: index };
            let after = match &change.op {
                RowOp::Insert { .. } if current.is_some() => Err(CommitError::KeyExists { change: index }),
                RowOp::Insert { .. } => Ok(Some(seq)),
                RowOp::Update { expected, .. } | RowOp::Delete { expected, .. } => {
                    let is_current = match expected {
                        Expected::Hot(expected) => Ok(current == Some(*expected)),
                        Expected::Cold(place) => self.is_live(&change.partition, *place),
                    };
                    let after = matches!(change.op, RowOp::Update { .. }).then_some(seq);
                    is_current.and_then(|is_current| is_current.then_some(after).ok_or_else(changed))
                }
            };
            match after {
                Ok(after) => {
                    self.marked.extend(superseded(&change.op));
                    before.push(self.overlay.insert(self.key.clone(), after));
                }
                Err(error) => {
                    self.undo(changes, before);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn undo(&mut self, changes: &[RowChange], before: Vec<Option<Option<CommitSeq>>>) {
        // Backwards, so that of several changes of one key the first one's state is what remains.
        for (change, before) in changes.iter().zip(before).rev() {
            if let Some(place) = superseded(&change.op) {
                self.marked.remove(&place);
            }
            write_row_key(&mut self.key, &change.partition, &change.key);
            match before {
                Some(version) => {
                    if let Some(entry) = self.overlay.get_mut(self.key.as_slice()) {
                        *entry = version;
                    }
                }
                None => {
                    self.overlay.remove(self.key.as_slice());
                }
            }
        }
    }

    /// For each change the version of its row in the store; `None` if there is no row, or none that could matter.
    fn stored_versions(&mut self, changes: &[RowChange]) -> Result<Vec<Option<CommitSeq>>, CommitError> {
        let needs_look_up = |change: &RowChange| {
            !matches!(change.op, RowOp::Insert { unique: Unique::Generated, .. }) && superseded(&change.op).is_none()
        };
        let look_ups = changes.iter().filter(|change| needs_look_up(change)).count();
        let mut versions = vec![None; if look_ups == 0 { 0 } else { changes.len() }];
        if look_ups < MULTI_GET_FROM {
            for (version, change) in versions.iter_mut().zip(changes).filter(|(_, change)| needs_look_up(change)) {
                write_row_key(&mut self.key, &change.partition, &change.key);
                let value = self.backend.get(Keyspace::Rows, &self.key).map_err(CommitError::Storage)?;
                *version = stored_version(value)?;
            }
            return Ok(versions);
        }
        let mut keys = Vec::with_capacity(look_ups);
        for change in changes.iter().filter(|change| needs_look_up(change)) {
            write_row_key(&mut self.key, &change.partition, &change.key);
            keys.push(self.key.clone());
        }
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        // Only the committer writes rows, so a snapshot is as good as the store itself.
        let values = self.backend.snapshot().multi_get(Keyspace::Rows, &keys).map_err(CommitError::Storage)?;
        let looked_up = versions.iter_mut().zip(changes).filter(|(_, change)| needs_look_up(change));
        for ((version, _), value) in looked_up.zip(values) {
            *version = stored_version(value)?;
        }
        Ok(versions)
    }

    /// Whether a row of a segment is the current one of its key: its segment is there, and nothing has marked it.
    fn is_live(&self, partition: &Partition, place: ColdPlace) -> Result<bool, CommitError> {
        if self.marked.contains(&place) {
            return Ok(false);
        }
        let get = |key: Vec<u8>| self.backend.get(Keyspace::Segments, &key).map_err(CommitError::Storage);
        Ok(get(segment_key(partition, place.segment))?.is_some()
            && get(mark_key(partition, place.segment, place.row))?.is_none())
    }

    /// Writes the log entries: one for each partition, with the commit's changes there in their order.
    fn log(&mut self, commit: &PreparedCommit, seq: CommitSeq) -> Result<(), CommitError> {
        let Some(first) = commit.changes.first() else { return Ok(()) };
        if commit.changes.iter().all(|change| change.partition == first.partition) {
            self.log_partition(&first.partition, commit, seq, commit.changes.iter());
            return Ok(());
        }
        let mut by_partition: HashMap<&Partition, Vec<&RowChange>> = HashMap::new();
        for change in &commit.changes {
            by_partition.entry(&change.partition).or_default().push(change);
        }
        for (partition, changes) in by_partition {
            self.log_partition(partition, commit, seq, changes.into_iter());
        }
        Ok(())
    }

    fn log_partition<'c>(
        &mut self,
        partition: &Partition,
        commit: &PreparedCommit,
        seq: CommitSeq,
        changes: impl ExactSizeIterator<Item = &'c RowChange> + Clone,
    ) {
        let changes = changes.map(change_ref);
        let schema_version = changes.clone().filter_map(|change| schema_version(&change)).max();
        let header = EntryHeader {
            commit_seq: seq,
            commit_time_us: commit.commit_time_us,
            schema_version: schema_version.unwrap_or(SchemaVersion::new(0)),
        };
        write_log_key(&mut self.key, partition, seq);
        let before = self.batch.byte_size();
        let mut entry = None;
        self.batch.put_with(Keyspace::Log, &self.key, |value| {
            let start = value.len();
            encode_entry(value, &header, changes);
            let written = value.get(start..).filter(|written| written.len() <= MAX_TOLD_BYTES);
            entry = written.filter(|_| self.logged.tell == Tell::Entries).map(Arc::from);
        });
        self.logged.bytes += (self.batch.byte_size() - before) as u64;
        if self.logged.tell != Tell::Nothing {
            self.logged.changes.push(Changed { partition: partition.clone(), commit_seq: seq, entry });
        }
    }
}

/// The row of a segment that a change replaces or removes.
fn superseded(op: &RowOp) -> Option<ColdPlace> {
    match op {
        RowOp::Update { expected: Expected::Cold(place), .. }
        | RowOp::Delete { expected: Expected::Cold(place), .. } => Some(*place),
        _ => None,
    }
}

fn change_ref(change: &RowChange) -> ChangeRef<'_> {
    let key: &PrimaryKey = &change.key;
    match &change.op {
        RowOp::Insert { row, .. } => ChangeRef { op: ChangeOp::Insert, key, new: Some(row.as_bytes()), old: None },
        RowOp::Update { row, old, .. } => {
            ChangeRef { op: ChangeOp::Update, key, new: Some(row.as_bytes()), old: Some(old) }
        }
        RowOp::Delete { old, .. } => ChangeRef { op: ChangeOp::Delete, key, new: None, old: Some(old) },
    }
}

fn schema_version(change: &ChangeRef<'_>) -> Option<SchemaVersion> {
    let versions = [change.new, change.old].into_iter().flatten().filter_map(|image| RowHeader::decode(image).ok());
    versions.map(|header| header.schema_version).max()
}

/// The version of the row that `value` is.
fn stored_version(value: Option<Vec<u8>>) -> Result<Option<CommitSeq>, CommitError> {
    let Some(value) = value else { return Ok(None) };
    match RowHeader::decode(&value) {
        Ok(header) => Ok(Some(header.commit_seq)),
        Err(error) => Err(CommitError::Storage(KvError::Corruption(error.to_string()))),
    }
}
