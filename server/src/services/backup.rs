//! Backups and restores of `AdminService`: jobs of the engine, and how far they are as streams.

use std::time::Duration;

use futures::{Stream, stream};
use kalamdb_engine::{Error, JobHandle, JobRecord, JobStatus, Reason, Session};
use kalamdb_proto::v1::{
    BackupDatabaseRequest, BackupDatabaseResponse, BackupStarted, DescribeBackupRequest, DescribeBackupResponse,
    RestoreDatabaseRequest, RestoreDatabaseResponse, backup_database_response::Event as BackupEvent,
    restore_database_response::Event as RestoreEvent,
};

use super::shutting_down;
use crate::convert;

/// How often it is told how far a job is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Begins a backup; the happenings in it.
pub(super) fn back_up(
    session: &Session,
    request: BackupDatabaseRequest,
) -> Result<impl Stream<Item = Result<BackupDatabaseResponse, Error>> + Send + use<>, Error> {
    let mode = convert::from_backup_mode(request.mode)?;
    let job = session.back_up(&request.namespace, &request.uri, mode)?;
    Ok(happenings(job, request.wait.unwrap_or(true), |happening| {
        let event = match happening {
            Happening::Started(started) => BackupEvent::Started(started),
            Happening::Under(record) => BackupEvent::Progress(convert::to_backup_progress(&record.progress)),
            Happening::Finished(record) => BackupEvent::Finished(convert::to_backup_finished(&record)),
        };
        BackupDatabaseResponse { event: Some(event) }
    }))
}

/// Begins a restore; the happenings in it.
pub(super) fn restore(
    session: &Session,
    request: RestoreDatabaseRequest,
) -> Result<impl Stream<Item = Result<RestoreDatabaseResponse, Error>> + Send + use<>, Error> {
    let RestoreDatabaseRequest { namespace, uri, backup_id, into, wait } = request;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let job = session.restore(&namespace, &uri, given(&backup_id).as_deref(), given(&into).as_deref())?;
    Ok(happenings(job, wait.unwrap_or(true), |happening| {
        let event = match happening {
            Happening::Started(started) => RestoreEvent::Started(started),
            Happening::Under(record) => RestoreEvent::Progress(convert::to_backup_progress(&record.progress)),
            Happening::Finished(record) => RestoreEvent::Finished(convert::to_backup_finished(&record)),
        };
        RestoreDatabaseResponse { event: Some(event) }
    }))
}

/// Lists backups.
pub(super) async fn describe(
    session: Session,
    request: DescribeBackupRequest,
) -> Result<DescribeBackupResponse, Error> {
    let backups = session.backups(&request.uri).await?;
    Ok(DescribeBackupResponse { backups: backups.into_iter().map(convert::to_backup).collect() })
}

/// What is told of a job.
enum Happening {
    Started(BackupStarted),
    Under(Box<JobRecord>),
    Finished(Box<JobRecord>),
}

enum Next {
    Begin,
    Watch,
    End,
}

/// What happens in a job, to its end if the caller wants to wait for it. A job that failed ends with its error.
fn happenings<A>(
    job: JobHandle,
    wait: bool,
    answer: impl Fn(Happening) -> A + Send,
) -> impl Stream<Item = Result<A, Error>> + Send {
    let happenings = stream::unfold((job, Next::Begin), move |(job, next)| async move {
        match next {
            Next::Begin => {
                let started = Happening::Started(BackupStarted { job_id: job.id().to_string() });
                Some((Ok(started), (job, if wait { Next::Watch } else { Next::End })))
            }
            Next::Watch => {
                let ended = job.ended();
                tokio::select! {
                    record = ended => Some((outcome(record), (job, Next::End))),
                    () = tokio::time::sleep(PROGRESS_INTERVAL) => {
                        let record = job.record()?;
                        Some((Ok(Happening::Under(Box::new(record))), (job, Next::Watch)))
                    }
                }
            }
            Next::End => None,
        }
    });
    futures::StreamExt::map(happenings, move |happening| happening.map(&answer))
}

fn outcome(record: JobRecord) -> Result<Happening, Error> {
    match record.status {
        JobStatus::Completed => Ok(Happening::Finished(Box::new(record))),
        JobStatus::Interrupted => Err(shutting_down()),
        _ => {
            let said = record.result.unwrap_or_default();
            let error = Error::new(record.reason.unwrap_or(Reason::Internal), said);
            Err(error.with("job_id", record.id.to_string()))
        }
    }
}
