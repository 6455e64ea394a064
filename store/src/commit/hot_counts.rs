//! Counts the rows of the hot tier, partition by partition, in the batches that change them: so whoever wants to know how
//! many there are does not have to look at each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{CommitError, Expected, RestoredRow, RowChange, RowOp};
use crate::codec::{
    HOT_COUNTED_KEY, HotCount, hot_count_key, hot_count_range, partition_prefix_len, row_prefix, split_row_key,
};
use crate::ids::{Partition, TableId};
use crate::kv::{Direction, Durability, KeyRange, Keyspace, KvError, StorageBackend, WriteBatch};

/// The most counts in memory between groups; others are read again.
const MAX_KNOWN: usize = 100_000;

/// How a count changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HotChange {
    pub(super) rows: i64,
    pub(super) bytes: i64,
}

impl HotChange {
    /// Rows that leave.
    pub(super) fn without(rows: u64, bytes: u64) -> Self {
        Self { rows: 0i64.saturating_sub_unsigned(rows), bytes: 0i64.saturating_sub_unsigned(bytes) }
    }

    fn row(&mut self, rows: i64, bytes: usize) {
        self.rows += rows;
        self.bytes += rows.signum() * bytes as i64;
    }
}

/// The counts of the partitions that commits change.
#[derive(Debug, Default)]
pub(super) struct HotCounts {
    known: HashMap<Partition, Known>,
    /// Those whose counts the current group changes.
    changed: Vec<Partition>,
}

#[derive(Debug, Default)]
struct Known {
    count: HotCount,
    changed: bool,
}

impl HotCounts {
    /// Counts what is there if that was never done.
    pub(super) fn open(backend: &dyn StorageBackend, durability: Durability) -> Result<Self, KvError> {
        if backend.get(Keyspace::System, HOT_COUNTED_KEY)?.is_none() {
            let mut batch = WriteBatch::new();
            count_all(backend, &mut batch)?;
            batch.put(Keyspace::System, HOT_COUNTED_KEY, b"");
            backend.write(batch, durability)?;
        }
        Ok(Self::default())
    }

    /// Forgets what is known when it is much. Only before a group begins: until it is written a commit needs the counts of
    /// all its partitions, however many they are.
    pub(super) fn trim(&mut self) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
    }

    /// Gets the count of a partition into memory. Changes nothing otherwise.
    pub(super) fn load(&mut self, backend: &dyn StorageBackend, partition: &Partition) -> Result<(), CommitError> {
        if self.known.contains_key(partition) {
            return Ok(());
        }
        let stored = backend.get(Keyspace::System, &hot_count_key(partition)).map_err(CommitError::Storage)?;
        let count = stored.map_or(Ok(HotCount::default()), |bytes| HotCount::decode(&bytes));
        let count = count.map_err(|error| CommitError::Storage(KvError::Corruption(error.to_string())))?;
        self.known.insert(partition.clone(), Known { count, changed: false });
        Ok(())
    }

    /// Counts the changes of a commit that is accepted. The counts of its partitions must have been loaded.
    pub(super) fn count(&mut self, changes: &[RowChange]) {
        for changes in changes.chunk_by(|a, b| a.partition == b.partition) {
            let Some(first) = changes.first() else { continue };
            let prefix_len = row_prefix(&first.partition).len();
            let mut change = HotChange::default();
            for RowChange { key, op, .. } in changes {
                let key_len = prefix_len + key.as_bytes().len();
                match op {
                    RowOp::Insert { row, .. } | RowOp::Update { row, expected: Expected::Cold(_), .. } => {
                        change.row(1, key_len + row.as_bytes().len());
                    }
                    RowOp::Update { row, expected: Expected::Hot(_), old } => {
                        change.bytes += row.as_bytes().len() as i64 - old.len() as i64;
                    }
                    RowOp::Delete { expected: Expected::Hot(_), old } => change.row(-1, key_len + old.len()),
                    RowOp::Delete { expected: Expected::Cold(_), .. } => {}
                }
            }
            self.change(&first.partition, change);
        }
    }

    /// Counts rows that are restored. The counts of their partitions must have been loaded.
    pub(super) fn count_restored(&mut self, restored: &[RestoredRow]) {
        for rows in restored.chunk_by(|a, b| a.partition == b.partition) {
            let Some(first) = rows.first() else { continue };
            let prefix_len = row_prefix(&first.partition).len();
            let mut change = HotChange::default();
            for RestoredRow { key, row, .. } in rows {
                change.row(1, prefix_len + key.as_bytes().len() + row.as_bytes().len());
            }
            self.change(&first.partition, change);
        }
    }

    /// Changes the count of a partition, which must have been loaded.
    pub(super) fn change(&mut self, partition: &Partition, change: HotChange) {
        if change == HotChange::default() {
            return;
        }
        let known = match self.known.entry(partition.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(Known::default()),
        };
        known.count.rows = known.count.rows.saturating_add_signed(change.rows);
        known.count.bytes = known.count.bytes.saturating_add_signed(change.bytes);
        if !known.changed {
            known.changed = true;
            self.changed.push(partition.clone());
        }
    }

    /// Writes the counts that the group changes.
    pub(super) fn write(&mut self, batch: &mut WriteBatch) {
        for partition in self.changed.drain(..) {
            let Some(known) = self.known.get_mut(&partition) else { continue };
            known.changed = false;
            put(&partition, known.count, batch);
        }
    }

    /// Removes the counts of a table.
    pub(super) fn drop_table(&mut self, table: TableId, batch: &mut WriteBatch) {
        self.known.retain(|partition, _| partition.table != table);
        if let (from, Some(to)) = hot_count_range(table).half_open() {
            batch.delete_range(Keyspace::System, from, to);
        }
    }
}

fn put(partition: &Partition, count: HotCount, batch: &mut WriteBatch) {
    let key = hot_count_key(partition);
    if count.rows == 0 { batch.delete(Keyspace::System, key) } else { batch.put(Keyspace::System, key, count.encode()) }
}

fn count_all(backend: &dyn StorageBackend, batch: &mut WriteBatch) -> Result<(), KvError> {
    let corrupt = |error: crate::codec::CodecError| KvError::Corruption(error.to_string());
    let snapshot = backend.snapshot();
    let mut cursor = snapshot.cursor(Keyspace::Rows, KeyRange::all(), Direction::Forward)?;
    let mut begun: Option<(Vec<u8>, Partition, HotCount)> = None;
    while let Some((key, value)) = cursor.item() {
        if begun.as_ref().is_none_or(|(prefix, ..)| !key.starts_with(prefix)) {
            if let Some((_, partition, count)) = begun.take() {
                put(&partition, count, batch);
            }
            let (table, owner, _) = split_row_key(key).map_err(corrupt)?;
            let prefix = key.get(..partition_prefix_len(key).unwrap_or_default()).unwrap_or_default().to_vec();
            begun = Some((prefix, Partition { table, owner }, HotCount::default()));
        }
        if let Some((_, _, count)) = &mut begun {
            count.rows += 1;
            count.bytes += (key.len() + value.len()) as u64;
        }
        cursor.advance()?;
    }
    if let Some((_, partition, count)) = begun {
        put(&partition, count, batch);
    }
    Ok(())
}
