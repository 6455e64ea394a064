//! Many new rows in one commit.
//!
//! Their bytes are made, sorted by key and searched for in both tiers before they come here. What is left to the committer
//! is to look at what changed since that search, to fill in its sequence, and to write: each row's bytes lie in the entry of
//! the change log, and are not copied on their way to the backend.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::hot_counts::HotChange;
use super::{CommitError, Unique, position};
use crate::codec::{DuplicateKey, LogEntry, PackedInserts, PrimaryKey, log_key, log_range, row_key, row_prefix};
use crate::ids::{CommitSeq, Partition, TableId};
use crate::kv::{BulkWrites, Direction, EachPut, Keyspace, KvError, StorageBackend};

/// New rows of one partition.
#[derive(Debug)]
pub struct BulkInsert {
    partition: Partition,
    rows: PackedInserts,
    /// The places of the rows, by ascending key. The backend takes them in this order, which is much quicker.
    by_key: Vec<u32>,
    unique: Unique,
}

impl BulkInsert {
    /// Takes rows, which the change log will have in the order that they are in, and sorts their keys.
    ///
    /// # Errors
    /// When two of the rows have one key. The rows come back with it.
    pub fn new(
        partition: Partition,
        rows: PackedInserts,
        unique: Unique,
    ) -> Result<Self, (DuplicateKey, PackedInserts)> {
        match rows.sorted() {
            Ok(by_key) => Ok(Self { partition, rows, by_key, unique }),
            Err(duplicate) => Err((duplicate, rows)),
        }
    }

    /// Whose rows they are, of which table.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// The rows.
    pub fn rows(&self) -> &PackedInserts {
        &self.rows
    }

    /// How the keys are known to be new.
    pub fn unique(&self) -> Unique {
        self.unique
    }

    /// The encoded keys, ascending, each with the place of its row.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = (&[u8], usize)> {
        self.by_key.iter().map(|row| (self.rows.key(*row as usize), *row as usize))
    }

    /// The encoded key at a place in the order of keys; empty if there is none.
    pub fn key_at(&self, at: usize) -> &[u8] {
        self.by_key.get(at).map_or(&[], |row| self.rows.key(*row as usize))
    }

    /// The place of the row with this key.
    pub fn place_of(&self, key: &[u8]) -> Option<usize> {
        // Rows that came at the same time are mostly beyond these.
        if key < self.key_at(0) || key > self.key_at(self.by_key.len().saturating_sub(1)) {
            return None;
        }
        let at = self.by_key.binary_search_by(|row| self.rows.key(*row as usize).cmp(key)).ok()?;
        self.by_key.get(at).map(|row| *row as usize)
    }

    /// About how many bytes it holds.
    pub fn byte_size(&self) -> usize {
        size_of::<Self>() + self.rows.memory_size() + self.by_key.len() * size_of::<u32>()
    }

    /// Bytes of the keys and values that are written.
    fn put_bytes(&self) -> usize {
        let (prefix, values) = (row_prefix(&self.partition).len(), self.rows.key_and_value_bytes());
        // The entry, with its key and head, and the rows.
        prefix + 64 + self.rows.byte_size() + prefix * self.rows.len() + values
    }

    /// How it changes the count of its partition.
    pub(super) fn hot_change(&self) -> HotChange {
        let keys = row_prefix(&self.partition).len() * self.rows.len();
        HotChange { rows: self.rows.len() as i64, bytes: (keys + self.rows.key_and_value_bytes()) as i64 }
    }
}

/// The new rows of one commit, of any number of partitions, each of which is there once. Clones share the rows, so that
/// whoever prepared a commit can try it again.
#[derive(Clone)]
pub struct BulkRows {
    inserts: Arc<Mutex<Vec<BulkInsert>>>,
    rows: usize,
    bytes: usize,
    /// Of what the backend writes.
    puts: usize,
    put_bytes: usize,
}

impl BulkRows {
    /// The rows of these partitions.
    pub fn new(inserts: Vec<BulkInsert>) -> Self {
        let rows = inserts.iter().map(|insert| insert.rows.len()).sum();
        let bytes = inserts.iter().map(BulkInsert::byte_size).sum();
        let puts = rows + inserts.len();
        let put_bytes = inserts.iter().map(BulkInsert::put_bytes).sum();
        Self { inserts: Arc::new(Mutex::new(inserts)), rows, bytes, puts, put_bytes }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About how many bytes they hold.
    pub fn byte_size(&self) -> usize {
        self.bytes
    }

    /// Says that the rows are of this table, for a table that gets its id in the commit that brings them.
    pub fn set_table(&self, table: TableId) {
        for insert in self.inserts.lock().iter_mut() {
            insert.partition.table = table;
        }
    }

    /// The partitions. While this is held the rows cannot be committed.
    pub fn inserts(&self) -> impl std::ops::Deref<Target = Vec<BulkInsert>> + '_ {
        self.inserts.lock()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<BulkInsert>> {
        self.inserts.lock()
    }

    /// What the backend writes. The rows must have been stamped with this commit.
    pub(super) fn writes(&self, seq: CommitSeq) -> Arc<dyn BulkWrites> {
        let (puts, put_bytes) = (self.puts, self.put_bytes);
        Arc::new(Writes { inserts: Arc::clone(&self.inserts), seq, puts, put_bytes })
    }
}

impl fmt::Debug for BulkRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkRows").field("rows", &self.rows).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Checks that none of the rows' keys has come to the hot tier since `checked_at`, as of which both tiers were searched.
/// What became of the cold tier since, the manifest's changes say.
pub(super) fn check_still_new(
    backend: &dyn StorageBackend,
    inserts: &[BulkInsert],
    checked_at: CommitSeq,
    last_seq: CommitSeq,
) -> Result<(), CommitError> {
    // Nothing has happened since.
    if checked_at >= last_seq {
        return Ok(());
    }
    let snapshot = backend.snapshot();
    let mut before = 0;
    for insert in inserts {
        if insert.unique == Unique::Check {
            let since = log_range(&insert.partition, Bound::Excluded(checked_at), Bound::Unbounded);
            let mut cursor = snapshot.cursor(Keyspace::Log, since, Direction::Forward).map_err(CommitError::Storage)?;
            while let Some((_, entry)) = cursor.item() {
                let changed = LogEntry::decode_keys(entry)
                    .map_err(|error| CommitError::Storage(KvError::Corruption(error.to_string())))?;
                for key in changed {
                    let Some(row) = insert.place_of(key.as_bytes()) else { continue };
                    if is_hot(backend, &insert.partition, &key)? {
                        return Err(CommitError::KeyExists { change: before + row });
                    }
                }
                cursor.advance().map_err(CommitError::Storage)?;
            }
            // Only now, as in `ChangeLog::read`: entries that are given up are gone from snapshots, too.
            if checked_at < position::log_floor(backend).map_err(CommitError::Storage)? {
                return Err(CommitError::LogTrimmed { table: insert.partition.table });
            }
        }
        before += insert.rows.len();
    }
    Ok(())
}

fn is_hot(backend: &dyn StorageBackend, partition: &Partition, key: &PrimaryKey) -> Result<bool, CommitError> {
    let found = backend.get(Keyspace::Rows, &row_key(partition, key)).map_err(CommitError::Storage)?;
    Ok(found.is_some())
}

/// Fills in the commit.
pub(super) fn stamp(inserts: &mut [BulkInsert], seq: CommitSeq, commit_time_us: i64) {
    for insert in inserts {
        insert.rows.stamp(seq, commit_time_us);
    }
}

/// The writes of a commit's rows: of each partition its entry of the change log, and each row.
struct Writes {
    inserts: Arc<Mutex<Vec<BulkInsert>>>,
    seq: CommitSeq,
    puts: usize,
    put_bytes: usize,
}

impl BulkWrites for Writes {
    fn count(&self) -> usize {
        self.puts
    }

    fn byte_size(&self) -> usize {
        self.put_bytes
    }

    fn for_each(&self, put: &mut EachPut<'_>) {
        let mut key = Vec::new();
        for insert in self.inserts.lock().iter() {
            put(Keyspace::Log, &log_key(&insert.partition, self.seq), insert.rows.entry());
            key.clear();
            key.extend_from_slice(&row_prefix(&insert.partition));
            let prefix_len = key.len();
            for row in &insert.by_key {
                key.truncate(prefix_len);
                key.extend_from_slice(insert.rows.key(*row as usize));
                put(Keyspace::Rows, &key, insert.rows.value(*row as usize));
            }
        }
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes").field("seq", &self.seq).field("puts", &self.puts).finish_non_exhaustive()
    }
}
