//! Backups of namespaces, and restores.
//!
//! | module | what is there |
//! | --- | --- |
//! | [`format`], [`lists`] | what the files of a backup say |
//! | [`place`], [`room`] | the directory that they are in, and room on its disk |
//! | [`write`] | BACKUP DATABASE; `walk`, `copy` and `hot` are its parts, `duckdb` its views |
//! | [`restore`], [`restore_rows`] | RESTORE DATABASE |
//! | [`unfinished`] | nothing is left behind |
//! | [`show`] | SHOW BACKUP |
//!
//! `docs/reference/backup.md` describes the directory, and ADR 013 says why it is so.

mod copy;
mod duckdb;
mod format;
mod hot;
mod lists;
mod place;
mod restore;
mod restore_rows;
mod room;
mod show;
mod unfinished;
mod walk;
mod write;

use std::sync::{Arc, atomic::Ordering};

use tokio::time::Instant;

pub(super) use self::unfinished::{Unfinished, run as remove_unfinished};
pub(crate) use self::{format::BackupId, show::describe};
pub use self::{
    format::BackupMode,
    show::{BackupContent, BackupInfo, BackupStatus},
};
use crate::{
    catalog::NamespaceName,
    engine::Shared,
    error::{Error, Reason, Result},
    jobs::{
        core::{Core, Order},
        fault::Fault,
        live::{LiveJob, Outcome},
        record::{JobStatus, JobTrigger, JobType},
        system::WatchedJob,
    },
    storage::TargetPlace,
};

/// The most backups and restores that may wait; one runs at a time.
const MAX_WAITING: usize = 100;

/// What a backup is made of, and where.
#[derive(Debug)]
pub(crate) struct BackupRequest {
    pub(crate) namespace: String,
    pub(crate) place: TargetPlace,
    pub(crate) mode: BackupMode,
}

/// What is restored, and as what.
#[derive(Debug)]
pub(crate) struct RestoreRequest {
    /// The namespace in the backup.
    pub(crate) namespace: String,
    pub(crate) place: TargetPlace,
    /// `None`: the newest.
    pub(crate) backup: Option<BackupId>,
    /// The namespace that it becomes.
    pub(crate) into: NamespaceName,
}

/// One of the two.
#[derive(Debug)]
pub(super) enum Request {
    Backup(BackupRequest),
    Restore(RestoreRequest),
}

impl Request {
    fn job_type(&self) -> JobType {
        match self {
            Request::Backup(_) => JobType::Backup,
            Request::Restore(_) => JobType::Restore,
        }
    }

    /// What the job's record says of it.
    fn details(&self) -> Vec<String> {
        match self {
            Request::Backup(BackupRequest { namespace, place, mode }) => {
                vec![
                    format!("namespace={namespace}"),
                    format!("uri={}", place.uri()),
                    format!("mode={}", mode.as_str()),
                ]
            }
            Request::Restore(RestoreRequest { namespace, place, backup, into }) => {
                let mut details =
                    vec![format!("namespace={namespace}"), format!("uri={}", place.uri()), format!("as={into}")];
                details.extend(backup.map(|backup| format!("backup={backup}")));
                details
            }
        }
    }
}

/// Asks for a backup or a restore. It begins when none other runs, and goes on whether or not somebody waits for it.
///
/// # Errors
/// NAMESPACE_NOT_FOUND, NAMESPACE_EXISTS, TOO_MANY_REQUESTS, SHUTTING_DOWN.
pub(super) fn order(core: &Arc<Core>, shared: &Arc<Shared>, request: Request) -> Result<WatchedJob> {
    match &request {
        Request::Backup(backup) => shared.catalog.state().namespace(&backup.namespace).map(|_| ())?,
        Request::Restore(restore) => restore::check_free(shared, &restore.into)?,
    }
    if core.stopping.is_cancelled() {
        return Err(Error::new(Reason::ShuttingDown, "The server is shutting down. Connect again."));
    }
    let waiting = Arc::clone(core);
    if core.backups_waiting.fetch_add(1, Ordering::AcqRel) >= MAX_WAITING {
        core.backups_waiting.fetch_sub(1, Ordering::AcqRel);
        return Err(Error::new(
            Reason::TooManyRequests,
            format!(
                "{MAX_WAITING} backups and restores wait already, the most that may. Try again when some have run."
            ),
        ));
    }
    let waits = Waits(waiting);
    let order = Order { job_type: request.job_type(), force: false, trigger: JobTrigger::Manual, resumes: None };
    let job = core.new_job_with(None, order, request.details());
    core.book.add(&job);
    let watched = WatchedJob { id: job.id(), watch: job.watch() };
    core.threads.spawn(run(Arc::clone(core), Arc::clone(shared), job, request, waits));
    Ok(watched)
}

/// One that waits, until it is dropped.
struct Waits(Arc<Core>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.backups_waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A job from its beginning to its end.
async fn run(core: Arc<Core>, shared: Arc<Shared>, job: Arc<LiveJob>, request: Request, waits: Waits) {
    let job_type = request.job_type();
    let turn = tokio::select! {
        turn = Arc::clone(&core.backups).acquire_owned() => turn,
        () = job.cancelled() => {
            core.book.never_began(&job, Outcome::interrupted_of(job_type), core.env.now_us());
            return;
        }
    };
    drop(waits);
    let started = Instant::now();
    let outcome = match core.book.began(&job, core.env.now_us()).await {
        Ok(()) => {
            let (core, shared, job) = (Arc::clone(&core), Arc::clone(&shared), Arc::clone(&job));
            // A task of its own, so that a panic ends this job alone.
            let running = tokio::spawn(async move {
                let working = async {
                    match &request {
                        Request::Backup(request) => write::run(&shared, &core, &job, request).await,
                        Request::Restore(request) => restore::run(&shared, &core, &job, request).await,
                    }
                };
                tokio::select! {
                    outcome = working => outcome_of(outcome),
                    // What is under way can be dropped: its note says what is to be removed.
                    () = job.cancelled() => Outcome::interrupted_of(job_type),
                }
            });
            match running.await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::failed(&Fault::lost("run the job", &error)),
            }
        }
        Err(error) => Outcome::failed(&Fault::commit("record the beginning of the job", error)),
    };
    drop(turn);
    let record = core.book.ended(&job, outcome, None, core.env.now_us()).await;
    core.metrics.ended(record.job_type, record.status, started.elapsed());
    let (parameters, result) = (record.parameters(), record.result.as_deref().unwrap_or_default());
    if record.status == JobStatus::Failed {
        tracing::warn!(job = %record.id, job_type = %record.job_type, ?parameters, result, "a job failed");
    } else {
        tracing::info!(job = %record.id, job_type = %record.job_type, ?parameters, status = %record.status, result, "a job ended");
    }
}

fn outcome_of(outcome: Result<String>) -> Outcome {
    match outcome {
        Ok(result) => Outcome::completed(result),
        Err(error) => Outcome::failed(&Fault::engine("back up or restore", &error)),
    }
}
