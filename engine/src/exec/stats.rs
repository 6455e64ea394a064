//! How the rows of a table lie in the two tiers, counted in a snapshot.

use std::{collections::BTreeMap, sync::Arc};

use kalamdb_store::{
    codec::{
        RowHeader, SegmentEntry, SegmentsKey, partition_prefix_len, row_prefix, split_row_key, split_segments_key,
        table_range,
    },
    ids::{Owner, Partition, UserId},
    kv::{Direction, KeyRange, Keyspace, OwnedCursor, Snapshot},
};

use crate::{
    catalog::Table,
    engine::Shared,
    error::Result,
    exec::{StatementContext, corrupt, from_store},
};

/// Entries looked at before others get their turn on the query threads.
const ENTRIES_PER_STEP: usize = 10_000;

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

/// Counts the rows of a table's partitions, or of one owner's alone; by owner, without those that have nothing. Expired
/// rows do not count.
pub(crate) async fn count(
    shared: &Shared,
    context: &StatementContext,
    table: &Table,
    owner: Option<Owner>,
) -> Result<Vec<(Owner, TierStats)>> {
    let snapshot = context.snapshot();
    let range = match owner {
        Some(owner) => KeyRange::prefix(&row_prefix(&Partition { table: table.id(), owner })),
        None => table_range(table.id()),
    };
    let mut found = BTreeMap::new();
    for (owner, stats) in hot_rows(snapshot, range.clone(), context.expired_at_us(table)).await? {
        found.insert(owner, stats);
    }
    let last_flush_us = shared.jobs.last_flush_us(table.id());
    for (owner, mut stats) in cold_rows(snapshot, range).await? {
        // What was written after the last flush of the table, a compaction wrote.
        stats.last_flush_us = stats.last_flush_us.map(|at_us| last_flush_us.map_or(at_us, |last| at_us.min(last)));
        found.entry(owner).or_default().add(&stats);
    }
    Ok(found.into_iter().collect())
}

async fn hot_rows(
    snapshot: &Arc<dyn Snapshot>,
    range: KeyRange,
    expired_at_us: Option<i64>,
) -> Result<Vec<(Owner, TierStats)>> {
    let mut found: Vec<(Owner, TierStats)> = Vec::new();
    let mut prefix = Vec::new();
    visit(snapshot, Keyspace::Rows, range, |key, value| {
        if let Some(expired_at_us) = expired_at_us
            && RowHeader::decode(value).map_err(corrupt)?.commit_time_us <= expired_at_us
        {
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

async fn cold_rows(snapshot: &Arc<dyn Snapshot>, range: KeyRange) -> Result<Vec<(Owner, TierStats)>> {
    let mut found: Vec<(Owner, TierStats)> = Vec::new();
    visit(snapshot, Keyspace::Segments, range, |key, value| {
        let (partition, what) = split_segments_key(key).map_err(corrupt)?;
        if found.last().is_none_or(|(owner, _)| *owner != partition.owner) {
            found.push((partition.owner, TierStats::default()));
        }
        let Some((_, stats)) = found.last_mut() else { return Ok(()) };
        match what {
            SegmentsKey::Entry(_) => {
                let entry = SegmentEntry::decode(value).map_err(corrupt)?;
                stats.cold_rows += entry.rows;
                stats.segments += 1;
                stats.cold_bytes += entry.file_bytes;
                stats.last_flush_us = stats.last_flush_us.max(Some(entry.created_at_us));
            }
            // The entries of a partition come before its marks.
            SegmentsKey::Mark(..) => stats.cold_rows = stats.cold_rows.saturating_sub(1),
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// Calls `each` with every entry of a range, and rests now and then.
async fn visit(
    snapshot: &Arc<dyn Snapshot>,
    keyspace: Keyspace,
    range: KeyRange,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut cursor =
        OwnedCursor::open(Arc::clone(snapshot), keyspace, range, Direction::Forward).map_err(from_store)?;
    loop {
        let ended = cursor.with(|cursor| {
            for _ in 0..ENTRIES_PER_STEP {
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
