//! Removes expired rows of STREAM tables. Readers do not see them from the moment they expire; this frees their space.

use std::{
    ops::Bound,
    sync::{Arc, Weak},
    time::Duration,
};

use kalamdb_store::{
    codec::{PrimaryKey, RowHeader, row_range, split_row_key, table_range},
    commit::{CommitError, Expected, RowChange, RowOp},
    ids::Partition,
    kv::{Direction, KeyRange, Keyspace},
};
use metrics::counter;

use crate::{
    catalog::Table,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{StatementContext, from_commit, from_store},
    sql::TableKind,
};

/// Rows removed by one commit.
const ROWS_PER_COMMIT: usize = 1_000;

/// How often the removal of a partition's expired rows begins again because some were written meanwhile.
const MAX_ATTEMPTS: usize = 100;

/// Rows looked at before others get their turn on the query threads.
const ROWS_PER_STEP: usize = 10_000;

/// The sweep of expired rows; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Expiry(tokio::task::JoinHandle<()>);

impl Expiry {
    /// Starts to sweep every `interval` on the current runtime.
    pub(crate) fn start(runtime: &tokio::runtime::Handle, shared: Weak<Shared>, interval: Duration) -> Self {
        Self(runtime.spawn(async move {
            let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(shared) = shared.upgrade() else { return };
                if let Err(error) = sweep(&shared).await {
                    tracing::warn!(%error, "expired rows could not be removed; trying again at the next interval");
                }
            }
        }))
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn sweep(shared: &Arc<Shared>) -> Result<()> {
    let context = shared.internal_context();
    let tables: Vec<Arc<Table>> =
        context.catalog.all_tables().filter(|t| t.kind() == TableKind::Stream).map(Arc::clone).collect();
    for table in tables {
        sweep_table(shared, &context, &table).await?;
    }
    Ok(())
}

async fn sweep_table(shared: &Arc<Shared>, context: &StatementContext, table: &Table) -> Result<()> {
    let Some(expired_at_us) = context.expired_at_us(table) else { return Ok(()) };
    expire_range(shared, context, table_range(table.id()), expired_at_us).await.map(drop)
}

/// Removes the rows of one partition that have expired at the time of `context`.
pub(crate) async fn expire_partition(
    shared: &Arc<Shared>,
    context: &StatementContext,
    table: &Table,
    partition: &Partition,
) -> Result<()> {
    let Some(expired_at_us) = context.expired_at_us(table) else { return Ok(()) };
    for _ in 0..MAX_ATTEMPTS {
        let range = row_range(partition, Bound::Unbounded, Bound::Unbounded);
        if expire_range(shared, &context.renewed(), range, expired_at_us).await? {
            return Ok(());
        }
    }
    Err(Error::new(Reason::WriteConflict, "Expired rows of the table are being written again all the time. Try again."))
}

/// Answers whether all were removed: not those that were written again meanwhile, nor others removed with them.
async fn expire_range(
    shared: &Arc<Shared>,
    context: &StatementContext,
    range: KeyRange,
    expired_at_us: i64,
) -> Result<bool> {
    let mut all = true;
    let mut rest = Some(range);
    while let Some(range) = rest.take() {
        let (changes, next) = expired_rows(context, range, expired_at_us)?;
        rest = next;
        if changes.is_empty() {
            tokio::task::yield_now().await;
            continue;
        }
        let removed = changes.len() as u64;
        match crate::exec::commit(shared, context, changes).await {
            Ok(_) => counter!("kalamdb_stream_rows_expired_total").increment(removed),
            // Rows written again meanwhile have not expired: the next sweep sees them as they are then.
            Err(CommitError::VersionChanged { .. }) => all = false,
            Err(CommitError::TableDropped { .. }) => {}
            Err(other) => return Err(from_commit(other)),
        }
    }
    Ok(all)
}

/// Some expired rows at the beginning of a range, and what is left of it.
fn expired_rows(
    context: &StatementContext,
    range: KeyRange,
    expired_at_us: i64,
) -> Result<(Vec<RowChange>, Option<KeyRange>)> {
    let snapshot = context.snapshot();
    let mut cursor = snapshot.cursor(Keyspace::Rows, range.clone(), Direction::Forward).map_err(from_store)?;
    let mut changes = Vec::new();
    let mut looked_at = 0;
    while let Some((key, value)) = cursor.item() {
        if changes.len() == ROWS_PER_COMMIT || looked_at == ROWS_PER_STEP {
            let rest = KeyRange::new(Bound::Included(key.to_vec()), range.end);
            return Ok((changes, Some(rest)));
        }
        looked_at += 1;
        let header = RowHeader::decode(value).map_err(crate::exec::corrupt)?;
        if header.commit_time_us <= expired_at_us {
            let (table, owner, key) = split_row_key(key).map_err(crate::exec::corrupt)?;
            changes.push(RowChange {
                partition: Partition { table, owner },
                key: PrimaryKey::from_encoded(key),
                op: RowOp::Delete { expected: Expected::Hot(header.commit_seq), old: value.to_vec() },
            });
        }
        cursor.advance().map_err(from_store)?;
    }
    Ok((changes, None))
}
