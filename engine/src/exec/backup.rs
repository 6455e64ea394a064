//! BACKUP DATABASE and RESTORE DATABASE, which ask for jobs and wait for them, and SHOW BACKUP. A job goes on when nobody
//! waits for it any more.

use std::sync::Arc;

use tokio::time::Instant;

use super::output::{Body, RowStream, result_columns, timed_out};
use crate::{
    access::{self, Caller, StatementKind},
    catalog::NamespaceName,
    engine::Shared,
    error::{Error, Position, Reason, Result},
    jobs::{
        BackupId, BackupInfo, BackupMode, BackupRequest, JobId, JobRecord, JobStatus, RestoreRequest, WatchedJob,
        describe_backups,
    },
    sql::{Name, Statement},
    storage::TargetUse,
    system,
};

/// Whether a statement is one of the three.
pub(crate) fn concerns(statement: &Statement) -> bool {
    matches!(statement, Statement::BackupDatabase(_) | Statement::RestoreDatabase(_) | Statement::ShowBackup(_))
}

/// Runs one of the three.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    caller: &Caller,
    deadline: Option<Instant>,
    statement: &Statement,
) -> Result<Body> {
    match statement {
        Statement::BackupDatabase(backup) => {
            let mode = if backup.incremental { BackupMode::Incremental } else { BackupMode::Full };
            let job = begin_backup(shared, caller, &backup.namespace, &backup.uri.text, mode);
            finished(shared, job.map_err(|error| at(error, backup.uri.position))?, deadline).await
        }
        Statement::RestoreDatabase(restore) => {
            let (namespace, into) = (&restore.namespace, restore.into.as_ref());
            let job = begin_restore(shared, caller, namespace, &restore.uri.text, restore.backup.as_deref(), into);
            finished(shared, job.map_err(|error| at(error, restore.uri.position))?, deadline).await
        }
        Statement::ShowBackup(show) => {
            let listing = show_backups(shared, caller, &show.uri.text);
            let listed = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, listing).await.map_err(|_| timed_out())?,
                None => listing.await,
            };
            let rows = system::backups::rows(&listed.map_err(|error| at(error, show.uri.position))?)?;
            Ok(Body::Rows(RowStream::ready(result_columns(&rows.schema()), rows)))
        }
        other => Err(Error::internal(format!("no statement of backups: {other:?}"))),
    }
}

/// Asks for a backup.
pub(crate) fn begin_backup(
    shared: &Arc<Shared>,
    caller: &Caller,
    namespace: &Name,
    uri: &str,
    mode: BackupMode,
) -> Result<WatchedJob> {
    access::may_run(caller, StatementKind::BackupDatabase)?;
    not_of_the_system(namespace)?;
    let place = shared.storages.target(caller, TargetUse::Backup, uri)?;
    shared.jobs.back_up(shared, BackupRequest { namespace: namespace.text.clone(), place, mode })
}

/// Asks for a restore; without `into`, under the name that the namespace had.
pub(crate) fn begin_restore(
    shared: &Arc<Shared>,
    caller: &Caller,
    namespace: &Name,
    uri: &str,
    backup: Option<&str>,
    into: Option<&Name>,
) -> Result<WatchedJob> {
    access::may_run(caller, StatementKind::RestoreDatabase)?;
    let backup = match backup {
        Some(text) => Some(BackupId::parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Error::new(
                Reason::InvalidRequest,
                format!(
                    "'{}' is no id of a backup: 16 hexadecimal digits, as SHOW BACKUP shows.",
                    shown.escape_debug()
                ),
            )
        })?),
        None => None,
    };
    let into = NamespaceName::from_sql(into.unwrap_or(namespace))?;
    let place = shared.storages.target(caller, TargetUse::Backup, uri)?;
    shared.jobs.restore(shared, RestoreRequest { namespace: namespace.text.clone(), place, backup, into })
}

/// What is at a place.
pub(crate) async fn show_backups(shared: &Arc<Shared>, caller: &Caller, uri: &str) -> Result<Vec<BackupInfo>> {
    access::may_run(caller, StatementKind::ShowBackup)?;
    describe_backups(&shared.storages.target(caller, TargetUse::Backup, uri)?).await
}

/// Waits for a job.
///
/// # Errors
/// What made it fail; STATEMENT_TIMEOUT when it takes too long.
async fn finished(shared: &Shared, job: WatchedJob, deadline: Option<Instant>) -> Result<Body> {
    let waiting = shared.jobs.wait(job.id);
    let record = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, waiting).await.map_err(|_| goes_on(job.id))?,
        None => waiting.await,
    };
    let JobRecord { status, result, reason, progress, details, .. } = record;
    let result = result.unwrap_or_default();
    let error = match status {
        JobStatus::Completed => return Ok(Body::Affected { row_count: progress.rows, message: result }),
        JobStatus::Interrupted => Error::new(Reason::ShuttingDown, "The server is shutting down. Connect again."),
        _ => Error::new(reason.unwrap_or(Reason::Internal), result),
    };
    let uri = details.iter().find_map(|detail| detail.strip_prefix("uri=")).unwrap_or_default();
    Err(error.with("job_id", job.id.to_string()).with("uri", uri))
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

fn not_of_the_system(namespace: &Name) -> Result<()> {
    if !system::is_system_namespace(&namespace.text) {
        return Ok(());
    }
    let message = format!("Namespace '{}' is of the system: its tables have no rows to back up.", namespace.text);
    Err(at(Error::new(Reason::InvalidStatement, message), namespace.position))
}

/// The same error, said of a place in the statement unless it is said of another already.
fn at(error: Error, position: Option<Position>) -> Error {
    match position {
        Some(position) => error.at(position),
        None => error,
    }
}
