//! Built segments to their storage and into the manifest.
//!
//! Several files are written at a time, and the segments of several partitions share a commit: so a flush of many small
//! partitions waits neither for each file nor for each sync.

use std::{collections::HashMap, sync::Arc};

use kalamdb_store::{
    commit::{NewSegment, PreparedCommit, SegmentChange},
    ids::{CommitSeq, Owner, Partition, StorageId, TableId},
    kv::WriteBatch,
    segment::SegmentFile,
};
use tokio::task::JoinSet;

use super::build::Built;
use crate::{
    engine::Shared,
    exec::LogPin,
    jobs::{
        core::Core,
        fault::{Fault, FaultKind},
        hooks::JobStep,
        live::LiveJob,
        pending::Pending,
        record::{FailedPartition, JobEvent, JobRecord},
    },
};

/// Files written at a time.
const MAX_UPLOADS: usize = 8;
/// Bounds of one commit: while it is made, other writers wait.
const COMMIT_SEGMENTS: usize = 32;
const COMMIT_ROWS: usize = 4_096;
/// Rows that a large segment counts for: they leave the hot tier by one range, not one by one.
const RANGE_ROWS: usize = 1_024;
/// So many failures one after the other mean that the storage is not there.
const MAX_FAILURES_IN_A_ROW: u32 = 16;

/// A partition that is being flushed, by the order in which it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PartitionNumber(u64);

/// Stores the segments of a flush.
pub(super) struct SegmentStore {
    shared: Arc<Shared>,
    core: Arc<Core>,
    job: Arc<LiveJob>,
    table: TableId,
    uploads: JoinSet<(Uploaded, Result<(), Fault>)>,
    upload_bytes: usize,
    max_upload_bytes: usize,
    ready: Vec<Uploaded>,
    partitions: HashMap<PartitionNumber, PartitionState>,
    begun: u64,
    failures_in_a_row: u32,
    pub(super) failures: Failures,
}

/// Partitions that could not be flushed, and what else went wrong.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) count: u64,
    /// The first of them.
    pub(super) named: Vec<FailedPartition>,
    pub(super) last: Option<Fault>,
    /// Whether another attempt may succeed for any of them.
    pub(super) any_transient: bool,
    /// Why the flush must stop.
    pub(super) stop: Option<Fault>,
    /// Whether the storage seems not to be there.
    pub(super) gave_up: bool,
}

struct PartitionState {
    owner: Owner,
    rows: u64,
    bytes: u64,
    segments: u32,
    /// Where the first segment is.
    place: Option<(StorageId, String)>,
    /// Segments on their way.
    open: usize,
    /// Whether all segments there will be were pushed.
    complete: bool,
    fault: Option<Fault>,
}

/// A segment on its way.
struct Uploaded {
    number: PartitionNumber,
    pending: Pending,
    rows: u64,
    bytes: u64,
    /// What is to be committed; taken by the commit.
    change: Option<SegmentChange>,
    /// The commit reads in the change log what changed since the snapshot, which is let go of much earlier.
    _changes: LogPin,
}

impl Uploaded {
    /// What the segment costs in a commit.
    fn commit_rows(&self) -> usize {
        usize::try_from(self.rows).unwrap_or(usize::MAX).min(RANGE_ROWS)
    }
}

impl SegmentStore {
    pub(super) fn new(shared: &Arc<Shared>, core: &Arc<Core>, job: &Arc<LiveJob>, table: TableId) -> Self {
        Self {
            shared: Arc::clone(shared),
            core: Arc::clone(core),
            job: Arc::clone(job),
            table,
            uploads: JoinSet::new(),
            upload_bytes: 0,
            max_upload_bytes: shared.settings.flush.segment_bytes,
            ready: Vec::new(),
            partitions: HashMap::new(),
            begun: 0,
            failures_in_a_row: 0,
            failures: Failures::default(),
        }
    }

    /// Whether nothing more should be pushed.
    pub(super) fn must_stop(&self) -> bool {
        self.failures.stop.is_some() || self.failures.gave_up
    }

    /// Bytes of files that are being written.
    pub(super) fn held_bytes(&self) -> usize {
        self.upload_bytes
    }

    /// Begins a partition.
    pub(super) fn begin(&mut self, owner: Owner) -> PartitionNumber {
        let number = PartitionNumber(self.begun);
        self.begun += 1;
        let state = PartitionState {
            owner,
            rows: 0,
            bytes: 0,
            segments: 0,
            place: None,
            open: 0,
            complete: false,
            fault: None,
        };
        self.partitions.insert(number, state);
        number
    }

    /// Notes that a partition has no further segments, because its rows ended or a fault came between.
    pub(super) fn complete(&mut self, number: PartitionNumber, fault: Option<Fault>) {
        if let Some(state) = self.partitions.get_mut(&number) {
            state.complete = true;
            state.fault = state.fault.take().or(fault);
        }
        self.settle(number);
    }

    /// Takes a built segment; waits while too many are on their way. The snapshot `based_on` must be registered when it is
    /// called.
    pub(super) async fn push(&mut self, number: PartitionNumber, pending: Pending, built: Built, based_on: CommitSeq) {
        let Built { file, hot_bytes, .. } = built;
        let changes = self.shared.log_pins.register(based_on);
        let file_bytes = file.bytes.len();
        while self.uploads.len() >= MAX_UPLOADS
            || (!self.uploads.is_empty() && self.upload_bytes + file_bytes > self.max_upload_bytes)
        {
            self.advance().await;
        }
        let Some(state) = self.partitions.get_mut(&number) else { return };
        state.open += 1;
        let partition = Partition { table: self.table, owner: state.owner.clone() };
        self.upload_bytes += file_bytes;
        self.job.holds(self.upload_bytes);
        let created_at_us = self.shared.env.now_us();
        let (shared, core) = (Arc::clone(&self.shared), Arc::clone(&self.core));
        self.uploads.spawn(async move {
            let written = upload(&shared, &core, &pending, &file).await;
            let entry = file.entry(pending.id, pending.storage, pending.path.clone(), created_at_us);
            let (rows, bytes) = (entry.rows, entry.file_bytes);
            let new = NewSegment { entry, checksums: file.checksums, keys: file.keys, hot_bytes };
            let add = vec![new];
            let change = SegmentChange { partition, based_on, add, remove: Vec::new(), takes_hot_rows: true };
            (Uploaded { number, pending, rows, bytes, change: Some(change), _changes: changes }, written)
        });
    }

    /// Waits until everything that was pushed is stored, or failed.
    pub(super) async fn finish(&mut self) {
        while !self.uploads.is_empty() || !self.ready.is_empty() {
            self.advance().await;
        }
    }

    /// Waits for a file that is being written, and commits what is ready when it is enough or nothing else is under way.
    async fn advance(&mut self) {
        let mut done = self.uploads.join_next().await;
        while let Some(outcome) = done {
            match outcome {
                Ok((uploaded, written)) => {
                    self.upload_bytes = self.upload_bytes.saturating_sub(uploaded.bytes as usize);
                    self.attempted(written.is_ok());
                    match written {
                        Ok(()) => self.ready.push(uploaded),
                        Err(fault) => self.failed(uploaded, fault),
                    }
                }
                // Its file stays this process's own, and its partition open: the rest of the flush is of no use.
                Err(error) => self.failures.stop = Some(Fault::lost("write a segment file", &error)),
            }
            done = self.uploads.try_join_next();
        }
        let rows: usize = self.ready.iter().map(Uploaded::commit_rows).sum();
        if rows >= COMMIT_ROWS || self.ready.len() >= COMMIT_SEGMENTS || self.uploads.is_empty() {
            while !self.ready.is_empty() {
                self.commit().await;
            }
        }
    }

    /// Makes one commit of some of the segments that are ready.
    async fn commit(&mut self) {
        let (mut rows, mut taken) = (0, 0);
        for uploaded in &self.ready {
            rows += uploaded.commit_rows();
            if taken > 0 && (rows > COMMIT_ROWS || taken == COMMIT_SEGMENTS) {
                break;
            }
            taken += 1;
        }
        let mut taken: Vec<Uploaded> = self.ready.drain(..taken).collect();
        if let Some(stop) = &self.failures.stop {
            let stop = stop.clone();
            taken.into_iter().for_each(|uploaded| self.failed(uploaded, stop.clone()));
            return;
        }
        let outcome = match self.core.reached(JobStep::BeforeCommit) {
            Ok(()) => self.try_commit(&mut taken).await,
            Err(fault) => Err(fault),
        };
        self.attempted(outcome.is_ok());
        match outcome {
            Ok(()) => taken.into_iter().for_each(|uploaded| self.stored(uploaded)),
            Err(fault) if fault.kind == FaultKind::Closed => {
                // It is unknown whether the commit will be there after a restart: the files are left alone.
                self.failures.stop = Some(fault);
            }
            Err(fault) => taken.into_iter().for_each(|uploaded| self.failed(uploaded, fault.clone())),
        }
        // It has been committed, whatever is to be made of that.
        let _ = self.core.reached(JobStep::AfterCommit);
    }

    async fn try_commit(&self, taken: &mut [Uploaded]) -> Result<(), Fault> {
        let mut kv = WriteBatch::new();
        taken.iter().for_each(|uploaded| uploaded.pending.forget_in(&mut kv));
        let segments = taken.iter_mut().filter_map(|uploaded| uploaded.change.take()).collect();
        self.shared.cold.tables.insert(self.table);
        let commit_time_us = self.shared.env.now_us();
        let commit = PreparedCommit { commit_time_us, kv, segments, ..PreparedCommit::default() };
        let committed = self.shared.committer.commit(commit).await;
        committed.map(|_| ()).map_err(|error| Fault::commit("commit a segment", error))
    }

    /// Notes whether something went well that needs a storage or the store.
    pub(super) fn attempted(&mut self, well: bool) {
        self.failures_in_a_row = if well { 0 } else { self.failures_in_a_row + 1 };
        self.failures.gave_up |= self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW;
    }

    fn stored(&mut self, uploaded: Uploaded) {
        let Uploaded { number, pending, rows, bytes, .. } = uploaded;
        self.job.advance(|progress| {
            progress.rows += rows;
            progress.bytes += bytes;
            progress.segments += 1;
        });
        self.core.metrics.flushed(rows, bytes);
        if let Some(state) = self.partitions.get_mut(&number) {
            state.open -= 1;
            state.rows += rows;
            state.bytes += bytes;
            state.segments += 1;
            state.place.get_or_insert_with(|| (pending.storage, pending.path.clone()));
        }
        pending.settled();
        self.settle(number);
    }

    fn failed(&mut self, uploaded: Uploaded, fault: Fault) {
        if fault.kind == FaultKind::Dropped {
            self.failures.stop = Some(fault.clone());
        }
        if let Some(state) = self.partitions.get_mut(&uploaded.number) {
            state.open -= 1;
            state.fault.get_or_insert(fault);
        }
        uploaded.pending.abandon();
        self.core.sweep_soon();
        self.settle(uploaded.number);
    }

    /// Tells what became of a partition when nothing of it is under way any more.
    fn settle(&mut self, number: PartitionNumber) {
        if !self.partitions.get(&number).is_some_and(|state| state.complete && state.open == 0) {
            return;
        }
        let Some(state) = self.partitions.remove(&number) else { return };
        let user_id = match state.owner {
            Owner::Shared => None,
            Owner::User(user) => Some(user),
        };
        if let Some(fault) = state.fault {
            let failed = FailedPartition { user_id, message: fault.message.clone() };
            self.failures.add(failed, fault);
        } else if let Some((storage, path)) = state.place {
            self.job.advance(|progress| progress.partitions += 1);
            let (rows, bytes, segments) = (state.rows, state.bytes, state.segments);
            self.job.tell(JobEvent::PartitionDone { user_id, rows, bytes, segments, storage, path });
        }
    }
}

impl Failures {
    fn add(&mut self, failed: FailedPartition, fault: Fault) {
        self.count += 1;
        if self.named.len() < JobRecord::MAX_FAILED_PARTITIONS {
            self.named.push(failed);
        }
        self.any_transient |= fault.kind == FaultKind::Transient;
        self.last = Some(fault);
    }
}

async fn upload(shared: &Arc<Shared>, core: &Core, pending: &Pending, file: &SegmentFile) -> Result<(), Fault> {
    core.reached(JobStep::BeforeUpload)?;
    shared
        .cold
        .segments
        .write(pending.storage, &pending.path, file)
        .await
        .map_err(|error| Fault::storage("write a segment file", &error))?;
    core.reached(JobStep::AfterUpload)
}
