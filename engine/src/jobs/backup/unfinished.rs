//! Backups and restores that are under way, noted so that whatever becomes of the process nothing of them is left behind.
//!
//! ```text
//! keyspace system
//! "archive/unfinished/" | job id u64 BE -> what it does, JSON
//! ```
//!
//! The note is durable before the first file is written or the first row. The note of a restore goes in the commit that
//! shows its tables, that of a backup when its manifest is there. A note that no job of this process has stands for one
//! that failed, or that the end of a process interrupted: its files, or its rows, are removed and then the note. It is
//! read when that begins and not before: removing takes its time, and what was under way becomes whole meanwhile.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use kalamdb_store::{
    codec::table_range,
    commit::{Fence, PreparedCommit},
    ids::TableId,
    kv::{Direction, KeyRange, Keyspace, WriteBatch},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{
    format::{BackupId, DUCKDB, MAX_SCRIPT_BYTES},
    place::Place,
};
use crate::{
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{from_commit, from_store},
    jobs::{core::Core, hooks::JobStep, record::JobId},
    storage::{OpenedFolder, TargetUse},
};

const UNFINISHED: &[u8] = b"archive/unfinished/";

/// The first and the longest wait after something could not be removed; it doubles from one to the other.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// What is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// A backup into the directory at `uri`.
    Backup {
        uri: String,
        /// The folder that it was, if it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<OpenedFolder>,
    },
    /// A restore into tables that nobody sees yet.
    Restore { tables: Vec<TableId> },
}

/// The notes of jobs of this process.
#[derive(Debug, Default)]
pub(in crate::jobs) struct Unfinished {
    own: Mutex<HashSet<JobId>>,
    wake: Notify,
}

/// A note, for as long as its job runs.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) job: JobId,
    unfinished: Arc<Unfinished>,
}

impl Note {
    /// The note of a job, which its work is yet to be written into.
    pub(super) fn of(core: &Core, job: JobId) -> Self {
        core.unfinished.own.lock().insert(job);
        Self { job, unfinished: Arc::clone(&core.unfinished) }
    }

    /// Adds the note to a commit.
    pub(super) fn put_in(&self, batch: &mut WriteBatch, work: &Work) -> Result<()> {
        let work = serde_json::to_vec(work).map_err(Error::internal)?;
        batch.put(Keyspace::System, key(self.job), work);
        Ok(())
    }

    /// Takes the note away in a commit.
    pub(super) fn forget_in(&self, batch: &mut WriteBatch) {
        batch.delete(Keyspace::System, key(self.job));
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.unfinished.own.lock().remove(&self.job);
        self.unfinished.wake.notify_one();
    }
}

/// Commits what is beside rows, durably even where commits alone are not.
pub(super) async fn commit(shared: &Arc<Shared>, kv: WriteBatch) -> Result<()> {
    let commit = PreparedCommit { commit_time_us: shared.env.now_us(), kv, ..PreparedCommit::default() };
    shared.committer.commit(commit).await.map_err(from_commit)?;
    crate::jobs::pending::sync(shared).await.map_err(from_commit)
}

/// Removes what unfinished jobs have left, until the job system stops.
pub(in crate::jobs) async fn run(core: Arc<Core>, shared: Weak<Shared>) {
    let mut retry = FIRST_RETRY;
    loop {
        let Some(alive) = shared.upgrade() else { return };
        let removed = tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            removed = remove_all(&core, &alive) => removed,
        };
        drop(alive);
        let wait = match removed {
            Ok(()) => {
                retry = FIRST_RETRY;
                None
            }
            Err(error) => {
                tracing::warn!(%error, "what an unfinished backup or restore has left cannot be removed now");
                let wait = retry;
                retry = retry.saturating_mul(2).min(LAST_RETRY);
                Some(wait)
            }
        };
        let time = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = core.unfinished.wake.notified() => {}
            () = time => {}
        }
    }
}

/// Removes what is left of every job that has a note and is none of this process. The error is that of the last one that
/// could not be.
async fn remove_all(core: &Core, shared: &Arc<Shared>) -> Result<()> {
    let mut outcome = Ok(());
    for job in noted_jobs(shared)? {
        // Before its note is read: a job that is whole takes the note away first.
        if core.unfinished.own.lock().contains(&job) {
            continue;
        }
        match remove(core, shared, job).await {
            Ok(None) => {}
            Ok(Some(work)) => tracing::info!(%job, ?work, "what an unfinished backup or restore has left was removed"),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// Removes what is left of a job, and its note. Answers what that was; `None`: it has no note, and so nothing is left.
pub(super) async fn remove(core: &Core, shared: &Arc<Shared>, job: JobId) -> Result<Option<Work>> {
    let step = |step: JobStep| core.reached(step).map_err(|fault| Error::new(fault.reason, fault.message));
    let Some(work) = note_of(shared, job)? else { return Ok(None) };
    step(JobStep::BeforeDelete)?;
    let mut kv = WriteBatch::new();
    let mut fences = Vec::new();
    let mut held = None;
    match &work {
        Work::Backup { uri, folder } => {
            let target = match folder {
                Some(folder) if shared.storages.may_reopen(folder) => shared.storages.reopen(uri, folder).await?,
                _ => {
                    let caller = shared.internal_context().caller.clone();
                    Some(shared.storages.target(&caller, TargetUse::Backup, uri)?.open_folder(false).await?)
                }
            };
            // With its folder all of it is gone.
            if let Some(target) = target {
                let place = Place::new(target, shared.settings.min_free_disk_bytes);
                remove_backup(&place, BackupId(job.get().cast_unsigned())).await?;
            }
        }
        Work::Restore { tables } => {
            // The commit that shows the tables takes the note away, and holds the catalog until it is done, even when
            // nobody waits for it any more. So if there is a note now, they are not shown, and never will be.
            held = Some(shared.catalog.hold().await);
            if note_of(shared, job)?.is_none() {
                return Ok(None);
            }
            for table in tables {
                let (from, to) = table_range(*table).half_open();
                let to = to.unwrap_or_else(|| vec![u8::MAX; size_of::<TableId>() + 1]);
                kv.delete_range(Keyspace::Rows, from.clone(), to.clone());
                kv.delete_range(Keyspace::Log, from, to);
                fences.push((*table, Fence::Dropped));
            }
        }
    }
    step(JobStep::AfterDelete)?;
    kv.delete(Keyspace::System, key(job));
    let commit = PreparedCommit { commit_time_us: shared.env.now_us(), kv, fences, ..PreparedCommit::default() };
    shared.committer.commit(commit).await.map_err(from_commit)?;
    drop(held);
    core.sweep_soon();
    Ok(Some(work))
}

/// Removes a backup that was not finished; of one that was, only the last step can be missing.
async fn remove_backup(place: &Place, backup: BackupId) -> Result<()> {
    match place.manifest(backup).await {
        Ok(Some(_)) => show_views(place, backup).await,
        // What cannot be read now may be read later; what is damaged was not written by this.
        Err(error) if error.reason() != Reason::BackupDamaged => Err(error),
        Ok(None) | Err(_) => place.delete_backup(backup).await,
    }
}

/// Makes the views of a backup those that DuckDB is given first.
pub(super) async fn show_views(place: &Place, backup: BackupId) -> Result<()> {
    match place.read(&format!("{}/{DUCKDB}", backup.folder()), MAX_SCRIPT_BYTES).await {
        Ok(Some(views)) => place.write_whole(backup, DUCKDB, views).await,
        Ok(None) => Ok(()),
        // It stays as it is; the backup is whole without it.
        Err(error) if error.reason() == Reason::BackupDamaged => {
            tracing::warn!(%backup, %error, "the views of a backup are not made the directory's own");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The jobs that have a note, the oldest first.
fn noted_jobs(shared: &Shared) -> Result<Vec<JobId>> {
    let snapshot = shared.backend.snapshot();
    let mut cursor =
        snapshot.cursor(Keyspace::System, KeyRange::prefix(UNFINISHED), Direction::Forward).map_err(from_store)?;
    let mut jobs = Vec::new();
    while let Some((key, _)) = cursor.item() {
        let job = key.strip_prefix(UNFINISHED).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
        jobs.push(JobId::new(job.ok_or_else(damaged_note)?.cast_signed()));
        cursor.advance().map_err(from_store)?;
    }
    Ok(jobs)
}

/// What a job's note says now.
fn note_of(shared: &Shared, job: JobId) -> Result<Option<Work>> {
    let Some(note) = shared.backend.get(Keyspace::System, &key(job)).map_err(from_store)? else { return Ok(None) };
    serde_json::from_slice(&note).map(Some).map_err(|error| damaged_note().with_detail(error))
}

fn damaged_note() -> Error {
    Error::new(Reason::Corruption, "The note of an unfinished backup or restore cannot be read.")
}

fn key(job: JobId) -> Vec<u8> {
    [UNFINISHED, &job.get().cast_unsigned().to_be_bytes()].concat()
}
