//! FLUSH and COMPACT: statements that ask for jobs and wait for them. A job goes on when nobody waits for it any more.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    access::{self, StatementKind},
    catalog::Table,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{Invocation, ddl::namespace_of, output::Body},
    jobs::{FlushOptions, JobId, JobProgress, JobRecord, JobStatus, JobTrigger},
    sql::{Name, Statement, TableKind, TableName},
    system,
};

/// Tables whose jobs FLUSH ALL has asked for and not yet seen ended.
const TABLES_AT_ONCE: usize = 100;

/// Failures that the error of FLUSH ALL describes; all are counted.
const FAILURES_SHOWN: usize = 5;

/// Runs FLUSH or COMPACT.
pub(crate) async fn run(shared: &Arc<Shared>, invocation: &Invocation, statement: &Statement) -> Result<Body> {
    let (caller, deadline) = (&invocation.caller, invocation.deadline);
    let namespace = invocation.namespace.as_deref();
    match statement {
        Statement::FlushTable(flush) => {
            access::may_run(caller, StatementKind::FlushTable)?;
            let table = table_of(shared, &flush.table, namespace)?;
            let progress = flush_table(shared, &table, flush.force, deadline).await?;
            let mut message = flushed(shared, &progress);
            if table.kind() == TableKind::Stream {
                message.push_str("; rows of STREAM tables expire, and are never flushed");
            }
            Ok(Body::Affected { row_count: progress.rows, message })
        }
        Statement::FlushAll(flush) => {
            access::may_run(caller, StatementKind::FlushAll)?;
            let tables = tables_of(shared, flush.namespace.as_ref())?;
            let progress = flush_all(shared, tables, flush.force, deadline).await?;
            Ok(Body::Affected { row_count: progress.rows, message: flushed(shared, &progress) })
        }
        Statement::CompactTable(compact) => {
            access::may_run(caller, StatementKind::CompactTable)?;
            let table = table_of(shared, &compact.table, namespace)?;
            let job = shared.jobs.compact_table(&table, JobTrigger::Manual)?;
            let JobProgress { rows, segments, .. } = finished(shared, job, &table, deadline).await?;
            Ok(Body::Affected { row_count: rows, message: format!("COMPACT {rows} rows, {segments} new segments") })
        }
        other => Err(Error::internal(format!("neither FLUSH nor COMPACT: {other:?}"))),
    }
}

async fn flush_table(
    shared: &Arc<Shared>,
    table: &Table,
    force: bool,
    deadline: Option<Instant>,
) -> Result<JobProgress> {
    let job = shared.jobs.flush_table(table, FlushOptions { force }, JobTrigger::Manual)?;
    finished(shared, job, table, deadline).await
}

/// Flushes tables; what cannot be flushed does not keep the others from it.
async fn flush_all(
    shared: &Arc<Shared>,
    tables: Vec<Arc<Table>>,
    force: bool,
    deadline: Option<Instant>,
) -> Result<JobProgress> {
    let count = tables.len();
    let mut flushes = stream::iter(tables)
        .map(|table| async move {
            let outcome = flush_table(shared, &table, force, deadline).await;
            (table, outcome)
        })
        .buffer_unordered(TABLES_AT_ONCE);
    let mut total = JobProgress::default();
    let mut failures: Vec<(Arc<Table>, Error)> = Vec::new();
    while let Some((table, outcome)) = flushes.next().await {
        match outcome {
            Ok(progress) => add(&mut total, &progress),
            // Dropped meanwhile: nothing is left to flush.
            Err(error) if error.reason() == Reason::TableNotFound => {}
            Err(error) if error.reason() == Reason::StatementTimeout => return Err(error),
            Err(error) => failures.push((table, error)),
        }
    }
    drop(flushes);
    if failures.is_empty() { Ok(total) } else { Err(not_all(&failures, count)) }
}

/// What a job did, once it has ended.
///
/// # Errors
/// What made it fail; STATEMENT_TIMEOUT when it takes too long.
async fn finished(shared: &Shared, job: JobId, table: &Table, deadline: Option<Instant>) -> Result<JobProgress> {
    let waiting = shared.jobs.wait(job);
    let record = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, waiting).await.map_err(|_| goes_on(job))?,
        None => waiting.await,
    };
    let JobRecord { status, result, reason, progress, .. } = record;
    let result = result.unwrap_or_default();
    let error = match status {
        JobStatus::Completed => return Ok(progress),
        JobStatus::Cancelled => {
            Error::new(Reason::TableNotFound, format!("Table {} was dropped meanwhile.", table.full_name()))
        }
        JobStatus::Interrupted => Error::new(Reason::ShuttingDown, "The server is shutting down. Connect again."),
        JobStatus::Failed | JobStatus::Queued | JobStatus::Running => {
            Error::new(reason.unwrap_or(Reason::Internal), format!("Table {}: {result}", table.full_name()))
        }
    };
    Err(error.with("job_id", job.to_string()).with("table", table.full_name()))
}

fn goes_on(job: JobId) -> Error {
    Error::new(
        Reason::StatementTimeout,
        format!(
            "The statement was stopped at its time-out. Its job goes on: SELECT * FROM system.jobs WHERE job_id = '{job}' \
             tells what becomes of it."
        ),
    )
    .with("job_id", job.to_string())
}

fn flushed(shared: &Shared, progress: &JobProgress) -> String {
    let JobProgress { rows, segments, partitions_kept_hot: kept_hot, .. } = *progress;
    let mut message = format!("FLUSH {rows} rows, {segments} segments");
    if kept_hot > 0 {
        message.push_str(&format!(
            "; {kept_hot} partitions with fewer than {} rows stay hot (FLUSH TABLE … FORCE flushes them too)",
            shared.settings.flush.min_partition_rows
        ));
    }
    message
}

fn add(total: &mut JobProgress, other: &JobProgress) {
    total.rows += other.rows;
    total.segments += other.segments;
    total.partitions_kept_hot += other.partitions_kept_hot;
}

/// The error of a FLUSH ALL that did not succeed everywhere.
fn not_all(failures: &[(Arc<Table>, Error)], count: usize) -> Error {
    let mut shown: Vec<String> = failures.iter().map(|(table, error)| described(table, error)).collect();
    shown.sort_unstable();
    let more = failures.len().saturating_sub(FAILURES_SHOWN);
    shown.truncate(FAILURES_SHOWN);
    let more = if more > 0 { format!(" And {more} more.") } else { String::new() };
    let message =
        format!("{} of {count} table(s) could not be flushed whole. {}{more}", failures.len(), shown.join(" "));
    let reason = failures.first().map_or(Reason::Internal, |(_, error)| error.reason());
    let tables: Vec<String> = failures.iter().map(|(table, _)| table.full_name()).collect();
    Error::new(reason, message).with("tables", tables.join(", "))
}

fn described(table: &Table, error: &Error) -> String {
    let name = table.full_name();
    if error.message().contains(&name) {
        error.message().to_owned()
    } else {
        format!("Table {name}: {}", error.message())
    }
}

/// The table that a statement names.
fn table_of(shared: &Shared, name: &TableName, default: Option<&str>) -> Result<Arc<Table>> {
    let namespace = name.namespace.as_ref().map(|n| n.text.as_str()).or(default);
    if let Some(namespace) = namespace {
        not_of_the_system(namespace)?;
    }
    let namespace = namespace_of(name, default)?;
    let state = shared.catalog.state();
    let table = state.table(namespace, &name.table.text, |_| true).map_err(|e| at(e, &name.table))?;
    Ok(Arc::clone(table))
}

/// The tables that can have segments, of a namespace or of all.
fn tables_of(shared: &Shared, namespace: Option<&Name>) -> Result<Vec<Arc<Table>>> {
    let state = shared.catalog.state();
    if let Some(namespace) = namespace {
        not_of_the_system(&namespace.text)?;
        state.namespace(&namespace.text).map_err(|e| at(e, namespace))?;
    }
    let is_meant = |table: &&Arc<Table>| {
        table.kind() != TableKind::Stream && namespace.is_none_or(|n| table.namespace().as_str() == n.text)
    };
    Ok(state.all_tables().filter(is_meant).cloned().collect())
}

fn not_of_the_system(namespace: &str) -> Result<()> {
    if system::is_system_namespace(namespace) {
        let message = format!("Namespace '{namespace}' is of the system: its tables have no rows to write to files.");
        return Err(Error::new(Reason::InvalidStatement, message));
    }
    Ok(())
}

fn at(error: Error, name: &Name) -> Error {
    match name.position {
        Some(position) => error.at(position),
        None => error,
    }
}
