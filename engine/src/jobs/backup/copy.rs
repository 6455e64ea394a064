//! Files into the directory, several at a time, with their lines in the order in which they were asked for.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use kalamdb_store::{codec::SegmentEntry, ids::Partition};
use tokio::task::JoinHandle;

use super::{
    format::{FileLine, sha256},
    place::Place,
};
use crate::{
    engine::Shared,
    error::{Error, Result},
    exec::from_segment,
    jobs::{core::Core, fault::Fault, hooks::JobStep, live::LiveJob},
};

/// Files on their way at a time, and about how many bytes of them.
const PARALLEL: usize = 8;
const PARALLEL_BYTES: u64 = 128 * 1024 * 1024;

/// A file that is in the directory.
pub(super) struct Copied {
    pub(super) line: FileLine,
    /// Whether this backup copied it.
    pub(super) is_new: bool,
}

/// Files on their way.
pub(super) struct Copies {
    shared: Arc<Shared>,
    core: Arc<Core>,
    job: Arc<LiveJob>,
    place: Place,
    queue: VecDeque<(u64, JoinHandle<Result<Copied>>)>,
    bytes: u64,
}

impl Copies {
    pub(super) fn new(shared: &Arc<Shared>, core: &Arc<Core>, job: &Arc<LiveJob>, place: &Place) -> Self {
        Self {
            shared: Arc::clone(shared),
            core: Arc::clone(core),
            job: Arc::clone(job),
            place: place.clone(),
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether a file of so many bytes has to wait until another has arrived.
    pub(super) fn is_full(&self, bytes: u64) -> bool {
        self.queue.len() >= PARALLEL || (!self.queue.is_empty() && self.bytes + bytes > PARALLEL_BYTES)
    }

    /// Takes a segment to `path`, unless `before`, the line of an earlier backup, names a file that still is there.
    pub(super) fn segment(
        &mut self,
        partition: &Partition,
        entry: SegmentEntry,
        marks: u64,
        path: String,
        before: Option<FileLine>,
    ) {
        let (shared, core, job, place) =
            (Arc::clone(&self.shared), Arc::clone(&self.core), Arc::clone(&self.job), self.place.clone());
        let (table, owner) = (partition.table, partition.owner.clone());
        let file_bytes = entry.file_bytes;
        let copy = async move {
            if let Some(before) = before
                && place.size(&before.path).await? == Some(before.bytes)
            {
                let line = FileLine::of_segment(table, &owner, &entry, before.path, before.sha256, marks);
                return Ok(Copied { line, is_new: false });
            }
            let bytes = job.busy_in(shared.cold.segments.read_file(&entry)).await;
            let bytes = bytes.map_err(|error| from_segment(&error))?;
            let digest = job.busy(|| sha256(&bytes));
            put(&core, &place, &path, bytes).await?;
            let line = FileLine::of_segment(table, &owner, &entry, path, digest, marks);
            Ok(Copied { line, is_new: true })
        };
        self.spawn(file_bytes, copy);
    }

    /// Takes a file that is in memory; `line` makes its line from its SHA-256.
    pub(super) fn file(&mut self, path: String, bytes: Bytes, line: impl FnOnce(String) -> FileLine + Send + 'static) {
        let (core, job, place) = (Arc::clone(&self.core), Arc::clone(&self.job), self.place.clone());
        let len = bytes.len() as u64;
        self.spawn(len, async move {
            let digest = job.busy(|| sha256(&bytes));
            put(&core, &place, &path, bytes).await?;
            Ok(Copied { line: line(digest), is_new: true })
        });
    }

    /// The next file that was asked for, once it has arrived; `None`: none is on its way.
    pub(super) async fn next(&mut self) -> Result<Option<Copied>> {
        let Some((bytes, task)) = self.queue.pop_front() else { return Ok(None) };
        self.job.holds(usize::try_from(self.bytes).unwrap_or(usize::MAX));
        let copied = task.await.map_err(|error| lost(&error))?;
        self.bytes = self.bytes.saturating_sub(bytes);
        copied.map(Some)
    }

    /// Waits until nothing is on its way, whatever becomes of it: files are not to appear after others are removed.
    pub(super) async fn settle(&mut self) {
        for (_, task) in self.queue.drain(..) {
            // What it answers is of no use any more.
            let _ = task.await;
        }
    }

    fn spawn(&mut self, bytes: u64, copy: impl Future<Output = Result<Copied>> + Send + 'static) {
        self.bytes += bytes;
        self.queue.push_back((bytes, self.core.threads.spawn(copy)));
    }
}

async fn put(core: &Core, place: &Place, path: &str, bytes: Bytes) -> Result<()> {
    reached(core, JobStep::BeforeUpload)?;
    place.write(path, bytes).await?;
    reached(core, JobStep::AfterUpload)
}

/// Lets a test act at a step.
pub(super) fn reached(core: &Core, step: JobStep) -> Result<()> {
    core.reached(step).map_err(|fault| Error::new(fault.reason, fault.message))
}

/// The error of a part that ended without an answer.
pub(super) fn lost(error: &tokio::task::JoinError) -> Error {
    let fault = Fault::lost("run the job", error);
    Error::new(fault.reason, fault.message)
}
