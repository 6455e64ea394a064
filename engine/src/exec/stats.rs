//! How the rows of a table lie in the two tiers, as of a snapshot.

use std::{collections::BTreeMap, sync::Arc};

use kalamdb_store::{
    codec::{
        HotCount, RowHeader, hot_count_key, hot_count_range, partition_prefix_len, row_prefix, split_hot_count_key,
        split_row_key, table_range,
    },
    ids::{Owner, Partition, TableId, UserId},
    kv::{Direction, KeyRange, Keyspace, OwnedCursor, Snapshot},
};

use crate::{
    catalog::Table,
    engine::Shared,
    error::Result,
    exec::{
        StatementContext,
        cold::{MarkCache, live_segments, live_segments_of_table},
        corrupt, from_store,
    },
};

/// Rows looked at before others get their turn on the query threads.
const ROWS_PER_STEP: usize = 10_000;

/// Of a table with more rows, expired ones that were not removed yet count, too: to leave them out, each would have to
/// be looked at.
const MAX_LOOKED_AT: u64 = 100_000;

/// How the rows of a table, or of one partition of it, lie in the two tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierStats {
    /// Rows in the hot tier, which wait for a flush.
    pub hot_rows: u64,
    /// Bytes of their keys and values.
    pub hot_bytes: u64,
    /// Rows in segments, without those deleted or superseded since.
    pub cold_rows: u64,
    /// Number of segments.
    pub segments: u64,
    /// Bytes of the segments' files.
    pub cold_bytes: u64,
    /// When rows last became cold, in microseconds since 1970-01-01T00:00:00Z: when the newest of the segments was
    /// written, but not after the last flush of the table, so that compactions do not count.
    pub last_flush_us: Option<i64>,
}

/// The statistics of one user's partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStats {
    /// The user.
    pub user_id: UserId,
    /// How the rows lie.
    pub stats: TierStats,
}

/// The statistics of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStats {
    /// The whole table.
    pub total: TierStats,
    /// Of a table with partitions of users: those that have rows, by user.
    pub partitions: Vec<PartitionStats>,
}

impl TierStats {
    /// Adds what another partition has.
    pub(crate) fn add(&mut self, other: &TierStats) {
        self.hot_rows += other.hot_rows;
        self.hot_bytes += other.hot_bytes;
        self.cold_rows += other.cold_rows;
        self.segments += other.segments;
        self.cold_bytes += other.cold_bytes;
        self.last_flush_us = self.last_flush_us.max(other.last_flush_us);
    }
}

impl TableStats {
    /// The statistics of a table from those of its partitions.
    pub(crate) fn new(partitions: Vec<(Owner, TierStats)>) -> Self {
        let mut total = TierStats::default();
        partitions.iter().for_each(|(_, stats)| total.add(stats));
        let of_users = partitions.into_iter().filter_map(|(owner, stats)| match owner {
            Owner::User(user_id) => Some(PartitionStats { user_id, stats }),
            Owner::Shared => None,
        });
        Self { total, partitions: of_users.collect() }
    }
}

/// The rows of a table's partitions, or of one owner's alone; by owner, without those that have nothing.
pub(crate) async fn count(
    shared: &Shared,
    context: &StatementContext,
    table: &Table,
    owner: Option<Owner>,
) -> Result<Vec<(Owner, TierStats)>> {
    let snapshot = context.snapshot();
    let mut hot = counted_rows(snapshot.as_ref(), table.id(), owner.clone())?;
    if let Some(expired_at_us) = context.expired_at_us(table)
        && hot.iter().map(|(_, stats)| stats.hot_rows).sum::<u64>() <= MAX_LOOKED_AT
    {
        let range = match owner.clone() {
            Some(owner) => KeyRange::prefix(&row_prefix(&Partition { table: table.id(), owner })),
            None => table_range(table.id()),
        };
        hot = unexpired_rows(snapshot, range, expired_at_us).await?;
    }
    let mut found: BTreeMap<Owner, TierStats> = hot.into_iter().collect();
    let last_flush_us = shared.jobs.last_flush_us(table.id());
    for (owner, mut stats) in cold_rows(snapshot.as_ref(), &context.cold().marks, table.id(), owner)? {
        // What was written after the last flush of the table, a compaction wrote.
        stats.last_flush_us = stats.last_flush_us.map(|at_us| last_flush_us.map_or(at_us, |last| at_us.min(last)));
        found.entry(owner).or_default().add(&stats);
    }
    Ok(found.into_iter().collect())
}

/// The hot rows, as the store has them counted.
fn counted_rows(snapshot: &dyn Snapshot, table: TableId, owner: Option<Owner>) -> Result<Vec<(Owner, TierStats)>> {
    let of = |count: &[u8]| {
        let HotCount { rows, bytes } = HotCount::decode(count).map_err(corrupt)?;
        Ok(TierStats { hot_rows: rows, hot_bytes: bytes, ..TierStats::default() })
    };
    if let Some(owner) = owner {
        let partition = Partition { table, owner };
        let count = snapshot.get(Keyspace::System, &hot_count_key(&partition)).map_err(from_store)?;
        return count.map(|count| Ok((partition.owner, of(&count)?))).into_iter().collect();
    }
    let mut found = Vec::new();
    let counts = hot_count_range(table);
    let mut cursor = snapshot.cursor(Keyspace::System, counts, Direction::Forward).map_err(from_store)?;
    while let Some((key, count)) = cursor.item() {
        found.push((split_hot_count_key(key).map_err(corrupt)?.owner, of(count)?));
        cursor.advance().map_err(from_store)?;
    }
    Ok(found)
}

/// The hot rows that have not expired, counted one by one.
async fn unexpired_rows(
    snapshot: &Arc<dyn Snapshot>,
    range: KeyRange,
    expired_at_us: i64,
) -> Result<Vec<(Owner, TierStats)>> {
    let mut found: Vec<(Owner, TierStats)> = Vec::new();
    let mut prefix = Vec::new();
    visit(snapshot, range, |key, value| {
        if RowHeader::decode(value).map_err(corrupt)?.commit_time_us <= expired_at_us {
            return Ok(());
        }
        if prefix.is_empty() || !key.starts_with(&prefix) {
            found.push((split_row_key(key).map_err(corrupt)?.1, TierStats::default()));
            prefix = key.get(..partition_prefix_len(key).unwrap_or_default()).unwrap_or_default().to_vec();
        }
        if let Some((_, stats)) = found.last_mut() {
            stats.hot_rows += 1;
            stats.hot_bytes += (key.len() + value.len()) as u64;
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

fn cold_rows(
    snapshot: &dyn Snapshot,
    marks: &MarkCache,
    table: TableId,
    owner: Option<Owner>,
) -> Result<BTreeMap<Owner, TierStats>> {
    let segments = match owner {
        Some(owner) => live_segments(snapshot, marks, &Partition { table, owner }, |_| true)?,
        None => live_segments_of_table(snapshot, marks, table, |_| true)?,
    };
    let mut found: BTreeMap<Owner, TierStats> = BTreeMap::new();
    for segment in segments {
        let rows = segment.live_rows();
        let stats = found.entry(segment.owner).or_default();
        stats.cold_rows += rows;
        stats.segments += 1;
        stats.cold_bytes += segment.entry.file_bytes;
        stats.last_flush_us = stats.last_flush_us.max(Some(segment.entry.created_at_us));
    }
    Ok(found)
}

/// Calls `each` with every hot row of a range, and rests now and then.
async fn visit(
    snapshot: &Arc<dyn Snapshot>,
    range: KeyRange,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut cursor =
        OwnedCursor::open(Arc::clone(snapshot), Keyspace::Rows, range, Direction::Forward).map_err(from_store)?;
    loop {
        let ended = cursor.with(|cursor| {
            for _ in 0..ROWS_PER_STEP {
                let Some((key, value)) = cursor.item() else { return Ok(true) };
                each(key, value)?;
                cursor.advance().map_err(from_store)?;
            }
            Ok(false)
        });
        if ended? {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}
