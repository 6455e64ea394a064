//! The sweep: deletes files that belong to no segment.
//!
//! Those are garbage, whose segments were removed, once no snapshot can need them; and pending ones that this process is
//! not making: left behind by a process that ended, or given up after a failure. The notes of both say what there is, so
//! nothing is ever searched for in a storage. Pending files are deleted twice: at once, and when no write of them can come
//! any more, which has [`super::pending`].

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use futures::StreamExt;
use kalamdb_store::{
    codec::{
        GarbageFile, PendingFile, SegmentsKey, checksums_key, garbage_key, garbage_range, pending_key, pending_range,
        row_prefix, split_garbage_key, split_pending_key, split_segments_key,
    },
    commit::PreparedCommit,
    ids::{CommitSeq, SegmentId, StorageId},
    kv::{Direction, KeyRange, Keyspace, Snapshot, WriteBatch},
    segment::SegmentError,
};
use tokio::time::Instant;

use crate::{
    engine::Shared,
    error::Result,
    exec::{corrupt, from_store},
    jobs::{
        core::{Core, Order},
        fault::Fault,
        hooks::JobStep,
        live::{LiveJob, Outcome},
        pending::Due,
        record::{JobTrigger, JobType},
    },
};

/// How often files are looked for although nobody said that there are any.
const INTERVAL: Duration = Duration::from_secs(5);

/// The first and the longest wait after files could not be deleted; it doubles from one to the other.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// Files looked for, and deleted, in one go.
const MAX_FILES: usize = 1_000;

/// Files deleted at a time.
const PARALLEL: usize = 8;

/// A file that belongs to no segment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Orphan {
    segment: SegmentId,
    storage: StorageId,
    path: String,
    note: Note,
}

/// What is noted of an orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    /// It is the file of a segment that was removed.
    Garbage,
    /// It is pending.
    Pending {
        /// Whether it stays noted after it was deleted.
        stays: bool,
        /// Whether it was deleted before.
        is_again: bool,
    },
}

impl Orphan {
    /// Whether deleting it is worth telling of.
    fn is_new(&self) -> bool {
        !matches!(self.note, Note::Pending { is_again: true, .. })
    }
}

/// Sweeps until the job system stops.
pub(super) async fn run(core: Arc<Core>, shared: Weak<Shared>) {
    let mut retry = FIRST_RETRY;
    let mut failed = false;
    loop {
        let Some(alive) = shared.upgrade() else { return };
        let swept = tokio::select! {
            () = core.stopping.cancelled() => return,
            swept = sweep(&core, &alive, failed) => swept,
        };
        drop(alive);
        failed = matches!(swept, Swept::NotAll);
        let wait = match swept {
            Swept::More => continue,
            Swept::Everything => {
                retry = FIRST_RETRY;
                INTERVAL
            }
            Swept::NotAll => {
                let wait = retry;
                retry = retry.saturating_mul(2).min(LAST_RETRY);
                wait
            }
        };
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            // Who has failed does not hurry because there is more to do.
            () = core.sweep.notified(), if !failed => {}
        }
    }
}

enum Swept {
    /// There is nothing left to delete.
    Everything,
    /// There may be more.
    More,
    /// Some files could not be deleted.
    NotAll,
}

/// Deletes files, at most [`MAX_FILES`]. `is_retry`: files could not be deleted before, which is recorded already.
async fn sweep(core: &Arc<Core>, shared: &Arc<Shared>, is_retry: bool) -> Swept {
    let orphans = match orphans(core, shared) {
        Ok(orphans) => orphans,
        Err(error) => {
            tracing::warn!(%error, "files to delete could not be looked for");
            return Swept::NotAll;
        }
    };
    if orphans.is_empty() {
        return Swept::Everything;
    }
    let is_full = orphans.len() == MAX_FILES;
    let is_routine = !orphans.iter().any(Orphan::is_new);
    let order = Order { job_type: JobType::Sweep, force: false, trigger: JobTrigger::Housekeeping, resumes: None };
    let job = core.new_job(None, order);
    let started = Instant::now();
    let begun_us = shared.env.now_us();
    job.begin(begun_us);
    let (deleted, fault) = delete(core, shared, &job, orphans).await;
    core.metrics.swept(deleted);
    let outcome = match &fault {
        None => Outcome::completed(format!("Deleted {deleted} file(s) that no segment has any more.")),
        Some(fault) => {
            let result = format!("Deleted {deleted} file(s); others are tried again. {}", fault.message);
            Outcome::failed_in_part(result, Some(fault))
        }
    };
    let is_told = if fault.is_none() { !is_routine } else { deleted > 0 || !is_retry };
    if is_told {
        core.metrics.ended(JobType::Sweep, outcome.status, started.elapsed());
        core.book.ended(&job, outcome, None, shared.env.now_us()).await;
    }
    match fault {
        Some(_) => Swept::NotAll,
        None if is_full => Swept::More,
        None => Swept::Everything,
    }
}

/// Files to delete now.
fn orphans(core: &Core, shared: &Shared) -> Result<Vec<Orphan>> {
    // The snapshot first: what was removed up to the oldest that is read is needed by none, and one that is registered
    // from now on has this removal.
    let snapshot = shared.backend.snapshot();
    let oldest = shared.snapshots.oldest();
    let mut orphans = Vec::new();
    each(snapshot.as_ref(), pending_range(), |key, value| {
        let segment = split_pending_key(key).map_err(corrupt)?;
        let note = match core.pending.due(segment) {
            Due::Nothing => None,
            Due::Deletion => Some(Note::Pending { stays: true, is_again: false }),
            Due::LastDeletion { is_again } => Some(Note::Pending { stays: false, is_again }),
        };
        if let Some(note) = note {
            let PendingFile { storage, path } = PendingFile::decode(value).map_err(corrupt)?;
            orphans.push(Orphan { segment, storage, path, note });
        }
        Ok(orphans.len() < MAX_FILES)
    })?;
    if orphans.len() < MAX_FILES {
        each(snapshot.as_ref(), garbage_range(), |key, value| {
            let segment = split_garbage_key(key).map_err(corrupt)?;
            let GarbageFile { removed_at, storage, path } = GarbageFile::decode(value).map_err(corrupt)?;
            if is_unneeded(removed_at, oldest) {
                orphans.push(Orphan { segment, storage, path, note: Note::Garbage });
            }
            Ok(orphans.len() < MAX_FILES)
        })?;
    }
    if orphans.is_empty() {
        return Ok(orphans);
    }
    // Deleting cannot be undone, so the manifest is asked too, whatever the notes say.
    let named =
        named_segments(shared.backend.snapshot().as_ref(), orphans.iter().map(|orphan| orphan.segment).collect())?;
    orphans.retain(|orphan| {
        let is_named = named.contains(&orphan.segment);
        if is_named {
            tracing::error!(segment = %orphan.segment, "a file is noted as unneeded although a segment has it; it is kept");
        }
        !is_named
    });
    Ok(orphans)
}

/// Whether no snapshot needs a file that was removed at this commit.
fn is_unneeded(removed_at: CommitSeq, oldest: Option<CommitSeq>) -> bool {
    oldest.is_none_or(|oldest| removed_at <= oldest)
}

/// Calls `see` for the entries of a range of the system's keyspace, until it says that it is enough.
fn each(snapshot: &dyn Snapshot, range: KeyRange, mut see: impl FnMut(&[u8], &[u8]) -> Result<bool>) -> Result<()> {
    let mut cursor = snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store)?;
    while let Some((key, value)) = cursor.item() {
        if !see(key, value)? {
            break;
        }
        cursor.advance().map_err(from_store)?;
    }
    Ok(())
}

/// Those of some segments that the manifest has.
fn named_segments(snapshot: &dyn Snapshot, wanted: HashSet<SegmentId>) -> Result<HashSet<SegmentId>> {
    let mut named = HashSet::new();
    let mut cursor = snapshot.cursor(Keyspace::Segments, KeyRange::all(), Direction::Forward).map_err(from_store)?;
    while cursor.valid() {
        let (partition, what) = split_segments_key(cursor.key()).map_err(corrupt)?;
        match what {
            SegmentsKey::Entry(segment) => {
                if wanted.contains(&segment) {
                    named.insert(segment);
                }
                cursor.advance().map_err(from_store)?;
            }
            // A partition's marks are its last keys, and there can be many.
            SegmentsKey::Mark(..) | SegmentsKey::MarkList(..) => {
                match KeyRange::prefix(&row_prefix(&partition)).half_open() {
                    (_, Some(next)) => cursor.seek(&next).map_err(from_store)?,
                    (_, None) => break,
                }
            }
        }
    }
    Ok(named)
}

/// Deletes files and then what is noted of them; how many that were not deleted before, and what went wrong.
async fn delete(core: &Core, shared: &Arc<Shared>, job: &LiveJob, orphans: Vec<Orphan>) -> (u64, Option<Fault>) {
    if let Err(fault) = core.reached(JobStep::BeforeDelete) {
        return (0, Some(fault));
    }
    // The removals must survive whatever happens to the machine, or their files would be missed.
    if let Err(error) = super::pending::sync(shared).await {
        return (0, Some(Fault::commit("make removals durable", error)));
    }
    let mut by_storage: BTreeMap<StorageId, Vec<Orphan>> = BTreeMap::new();
    for orphan in orphans {
        by_storage.entry(orphan.storage).or_default().push(orphan);
    }
    let (mut deleted, mut fault) = (Vec::new(), None);
    for (_, orphans) in by_storage {
        let mut deletions = futures::stream::iter(orphans)
            .map(|orphan| async move {
                let outcome = shared.cold.segments.delete(orphan.storage, &orphan.path).await;
                (orphan, outcome)
            })
            .buffer_unordered(PARALLEL);
        while let Some((mut orphan, outcome)) = deletions.next().await {
            match outcome {
                Ok(()) => deleted.push(orphan),
                Err(SegmentError::UnknownStorage(storage)) => {
                    tracing::warn!(%storage, path = orphan.path, "a file is left where it is: its storage was dropped");
                    if let Note::Pending { stays, .. } = &mut orphan.note {
                        *stays = false;
                    }
                    deleted.push(orphan);
                }
                Err(error) => {
                    fault = Some(Fault::storage("delete a file", &error));
                    // The rest of this storage would mostly fail as well.
                    break;
                }
            }
        }
    }
    if let Err(stop) = core.reached(JobStep::AfterDelete) {
        return (0, Some(stop));
    }
    match forget(core, shared, &deleted).await {
        Ok(()) => {
            let count = deleted.iter().filter(|orphan| orphan.is_new()).count() as u64;
            job.advance(|progress| progress.segments = count);
            (count, fault)
        }
        Err(failed) => (0, Some(failed)),
    }
}

/// Removes what is noted of files that are deleted.
async fn forget(core: &Core, shared: &Arc<Shared>, deleted: &[Orphan]) -> Result<(), Fault> {
    let mut kv = WriteBatch::new();
    for orphan in deleted {
        let note = match orphan.note {
            Note::Garbage => garbage_key(orphan.segment),
            Note::Pending { stays: false, .. } => pending_key(orphan.segment),
            Note::Pending { stays: true, .. } => {
                core.pending.deleted(orphan.segment);
                continue;
            }
        };
        kv.delete(Keyspace::System, note);
        kv.delete(Keyspace::System, checksums_key(orphan.segment));
    }
    if kv.is_empty() {
        return Ok(());
    }
    let commit = PreparedCommit { commit_time_us: shared.env.now_us(), kv, ..PreparedCommit::default() };
    let forgotten = shared.committer.commit(commit).await;
    forgotten.map_err(|error| Fault::commit("forget deleted files", error))?;
    let gone = deleted.iter().filter(|orphan| !matches!(orphan.note, Note::Pending { stays: true, .. }));
    gone.for_each(|orphan| core.pending.forget(orphan.segment));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_needed_by_snapshots_of_before_its_removal() {
        let removed_at = CommitSeq::new(5);
        assert!(is_unneeded(removed_at, None));
        assert!(is_unneeded(removed_at, Some(CommitSeq::new(5))));
        assert!(!is_unneeded(removed_at, Some(CommitSeq::new(4))));
    }
}
