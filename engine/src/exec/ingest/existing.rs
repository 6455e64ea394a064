//! Keys of rows to be inserted that the table has already.

use std::{ops::Bound, sync::Arc};

use kalamdb_store::{
    codec::{
        HotCount, PrimaryKey, RowHeader, SegmentEntry, hot_count_key, partition_prefix_len, row_key, row_range,
        segment_range,
    },
    commit::{BulkRows, Expected, RowChange, RowOp, Unique},
    ids::Partition,
    kv::{Cursor, Direction, Keyspace, Snapshot},
};

use crate::{
    catalog::Table,
    engine::Shared,
    error::Result,
    exec::{
        StatementContext, cold,
        errors::from_store,
        scan::{corrupt, is_visible},
    },
};

/// Keys that are looked at before others get their turn.
const KEYS_PER_STEP: usize = 1_024;

/// A partition is walked through when it has at most so many hot rows for each key; else the keys are looked up.
const HOT_ROWS_PER_KEY: u64 = 4;

/// A row whose key is there already.
#[derive(Debug)]
pub(super) struct Existing {
    /// The index of its partition in the commit.
    pub(super) partition: usize,
    /// Its place among the partition's rows.
    pub(super) place: usize,
    pub(super) key: PrimaryKey,
}

/// What was found of the keys.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The first key that is there.
    pub(super) existing: Option<Existing>,
    /// Rows that have expired and hold keys. They are to be removed first.
    pub(super) expired: Vec<RowChange>,
}

/// Searches both tiers, as of the context's snapshot, for the keys of rows that were not generated.
pub(super) async fn find(
    shared: &Arc<Shared>,
    context: &StatementContext,
    table: &Table,
    rows: &BulkRows,
) -> Result<Found> {
    let partitions: Vec<(Partition, Unique)> =
        rows.inserts().iter().map(|insert| (insert.partition().clone(), insert.unique())).collect();
    let has_segments = cold::has_segments(shared, table);
    let mut found = Found::default();
    for (index, (partition, unique)) in partitions.iter().enumerate() {
        if *unique == Unique::Generated {
            continue;
        }
        let of_partition = OfPartition { context, table, rows, index, partition };
        of_partition.find_hot(&mut found).await?;
        if found.existing.is_none() && has_segments {
            found.existing = of_partition.find_cold(shared).await?;
        }
        if found.existing.is_some() {
            return Ok(found);
        }
    }
    Ok(found)
}

/// The search for the keys of one partition.
struct OfPartition<'a> {
    context: &'a StatementContext,
    table: &'a Table,
    rows: &'a BulkRows,
    index: usize,
    partition: &'a Partition,
}

impl OfPartition<'_> {
    fn snapshot(&self) -> &Arc<dyn Snapshot> {
        self.context.snapshot()
    }

    async fn find_hot(&self, found: &mut Found) -> Result<()> {
        let count = self.snapshot().get(Keyspace::System, &hot_count_key(self.partition)).map_err(from_store)?;
        let hot_rows = match count {
            Some(count) => HotCount::decode(&count).map_err(corrupt)?.rows,
            None => 0,
        };
        let Some((first, last, keys)) = self.bounds() else { return Ok(()) };
        if hot_rows == 0 {
            return Ok(());
        }
        let range = row_range(self.partition, Bound::Included(first), Bound::Included(last));
        let mut cursor = self.snapshot().cursor(Keyspace::Rows, range, Direction::Forward).map_err(from_store)?;
        if !cursor.valid() {
            return Ok(());
        }
        if hot_rows <= (keys as u64).saturating_mul(HOT_ROWS_PER_KEY) {
            self.walk(cursor.as_mut(), found).await
        } else {
            drop(cursor);
            self.look_up(keys, found).await
        }
    }

    /// The least and the greatest key, and how many there are.
    fn bounds(&self) -> Option<(PrimaryKey, PrimaryKey, usize)> {
        let inserts = self.rows.inserts();
        let insert = inserts.get(self.index)?;
        let count = insert.rows().len();
        let key = |at: usize| PrimaryKey::from_encoded(insert.key_at(at));
        (count > 0).then(|| (key(0), key(count - 1), count))
    }

    /// Goes through the hot rows between the least key and the greatest, and through the keys beside them.
    async fn walk(&self, cursor: &mut dyn Cursor, found: &mut Found) -> Result<()> {
        let mut at = 0;
        loop {
            let mut hits = Vec::new();
            let mut is_end = false;
            {
                let inserts = self.rows.inserts();
                let Some(insert) = inserts.get(self.index) else { return Ok(()) };
                for _ in 0..KEYS_PER_STEP {
                    let Some((key, value)) = cursor.item() else {
                        is_end = true;
                        break;
                    };
                    let prefix_len = partition_prefix_len(key).unwrap_or_default();
                    let key = key.get(prefix_len..).unwrap_or_default();
                    while at < insert.rows().len() && insert.key_at(at) < key {
                        at += 1;
                    }
                    if at < insert.rows().len() && insert.key_at(at) == key {
                        hits.push((PrimaryKey::from_encoded(key), value.to_vec()));
                    }
                    cursor.advance().map_err(from_store)?;
                }
            }
            for (key, value) in hits {
                self.note(key, value, found)?;
            }
            if found.existing.is_some() || is_end {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Looks the keys up.
    async fn look_up(&self, keys: usize, found: &mut Found) -> Result<()> {
        for start in (0..keys).step_by(KEYS_PER_STEP) {
            let step = self.keys(start..keys.min(start + KEYS_PER_STEP));
            let row_keys: Vec<Vec<u8>> = step.iter().map(|key| row_key(self.partition, key)).collect();
            let row_keys: Vec<&[u8]> = row_keys.iter().map(Vec::as_slice).collect();
            let values = self.snapshot().multi_get(Keyspace::Rows, &row_keys).map_err(from_store)?;
            for (key, value) in step.into_iter().zip(values) {
                if let Some(value) = value {
                    self.note(key, value, found)?;
                }
            }
            if found.existing.is_some() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The keys at these places of their order.
    fn keys(&self, at: std::ops::Range<usize>) -> Vec<PrimaryKey> {
        let inserts = self.rows.inserts();
        let Some(insert) = inserts.get(self.index) else { return Vec::new() };
        at.map(|at| PrimaryKey::from_encoded(insert.key_at(at))).collect()
    }

    /// Notes a hot row that has one of the keys.
    fn note(&self, key: PrimaryKey, value: Vec<u8>, found: &mut Found) -> Result<()> {
        if is_visible(&value, self.context.expired_at_us(self.table))? {
            if found.existing.is_none() {
                found.existing = Some(self.existing(key));
            }
            return Ok(());
        }
        let seq = RowHeader::decode(&value).map_err(corrupt)?.commit_seq;
        let op = RowOp::Delete { expected: Expected::Hot(seq), old: value };
        found.expired.push(RowChange { partition: self.partition.clone(), key, op });
        Ok(())
    }

    fn existing(&self, key: PrimaryKey) -> Existing {
        let inserts = self.rows.inserts();
        let place = inserts.get(self.index).and_then(|insert| insert.place_of(key.as_bytes()));
        Existing { partition: self.index, place: place.unwrap_or_default(), key }
    }

    /// Looks for the keys in segments, of which most can be ruled out by the range of their keys.
    async fn find_cold(&self, shared: &Shared) -> Result<Option<Existing>> {
        let segments = self.key_ranges_of_segments()?;
        let Some((_, _, keys)) = self.bounds() else { return Ok(None) };
        if segments.is_empty() {
            return Ok(None);
        }
        let mut start = 0;
        while start < keys {
            let end = keys.min(start + KEYS_PER_STEP);
            let mut step = self.keys(start..end);
            step.retain(|key| segments.iter().any(|(least, greatest)| least <= key && key <= greatest));
            if !step.is_empty() {
                let found = cold::find_keys(shared, self.snapshot(), self.table, self.partition, &step).await?;
                if let Some(key) = found.into_iter().next() {
                    return Ok(Some(self.existing(key)));
                }
            }
            start = end;
            tokio::task::yield_now().await;
        }
        Ok(None)
    }

    fn key_ranges_of_segments(&self) -> Result<Vec<(PrimaryKey, PrimaryKey)>> {
        let range = segment_range(self.partition);
        let mut cursor = self.snapshot().cursor(Keyspace::Segments, range, Direction::Forward).map_err(from_store)?;
        let mut ranges = Vec::new();
        while let Some((_, value)) = cursor.item() {
            let entry = SegmentEntry::decode(value).map_err(corrupt)?;
            ranges.push((entry.min_key, entry.max_key));
            cursor.advance().map_err(from_store)?;
        }
        Ok(ranges)
    }
}
