//! A job that has not ended.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Reason,
    jobs::{
        fault::Fault,
        record::{FailedPartition, JobEvent, JobId, JobProgress, JobRecord, JobStatus, JobType},
    },
};

/// Events kept for a watcher that is slow to take them; a slower one misses the oldest.
const MAX_EVENTS: usize = 1_024;

/// A job that waits or runs, with those who watch it.
pub(crate) struct LiveJob {
    record: Mutex<JobRecord>,
    /// Set when the job should end before its work is done.
    cancel: CancellationToken,
    ended: watch::Sender<bool>,
    events: broadcast::Sender<JobEvent>,
    busy_us: AtomicU64,
    peak_bytes: AtomicU64,
}

/// What a watcher of a job gets.
#[derive(Debug)]
pub(crate) struct JobWatch {
    /// What happens from now on, partition by partition. A watcher that lags behind by more than a thousand events misses
    /// some; the totals in the job's record are always right.
    pub(crate) events: broadcast::Receiver<JobEvent>,
}

/// How a job ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: JobStatus,
    pub(super) result: String,
    pub(super) trace: Option<String>,
    /// Why it failed.
    pub(super) reason: Option<Reason>,
}

impl Outcome {
    pub(super) fn completed(result: impl Into<String>) -> Self {
        Self::without_fault(JobStatus::Completed, result)
    }

    pub(super) fn cancelled(result: impl Into<String>) -> Self {
        Self::without_fault(JobStatus::Cancelled, result)
    }

    pub(super) fn interrupted() -> Self {
        let result = "The server stopped while the job ran; what it had done is kept.";
        Self::without_fault(JobStatus::Interrupted, result)
    }

    /// The same for a job of this type: those that make a whole leave no part of it.
    pub(super) fn interrupted_of(job_type: JobType) -> Self {
        match job_type {
            JobType::Flush | JobType::Compaction | JobType::Sweep => Self::interrupted(),
            JobType::Export | JobType::Backup | JobType::Restore => {
                let result = "The server stopped while the job ran; what it had done is removed.";
                Self::without_fault(JobStatus::Interrupted, result)
            }
        }
    }

    /// It failed because of this, and of nothing that is worth telling beside it.
    pub(super) fn failed(fault: &Fault) -> Self {
        Self::failed_in_part(fault.message.clone(), Some(fault))
    }

    /// Some or all of it failed, last because of `fault`.
    pub(super) fn failed_in_part(result: impl Into<String>, fault: Option<&Fault>) -> Self {
        Self {
            status: JobStatus::Failed,
            result: result.into(),
            trace: fault.map(Fault::trace),
            reason: Some(fault.map_or(Reason::Internal, |fault| fault.reason)),
        }
    }

    fn without_fault(status: JobStatus, result: impl Into<String>) -> Self {
        Self { status, result: result.into(), trace: None, reason: None }
    }
}

impl LiveJob {
    pub(super) fn new(record: JobRecord) -> Self {
        Self {
            record: Mutex::new(record),
            cancel: CancellationToken::new(),
            ended: watch::Sender::new(false),
            events: broadcast::Sender::new(MAX_EVENTS),
            busy_us: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn id(&self) -> JobId {
        self.record.lock().id
    }

    /// The job as it is now.
    pub(super) fn record(&self) -> JobRecord {
        let mut record = self.record.lock().clone();
        record.cpu_used_us = self.busy_us.load(Ordering::Relaxed);
        record.memory_used_bytes = self.peak_bytes.load(Ordering::Relaxed);
        record
    }

    /// Notes that the job begins.
    pub(super) fn begin(&self, now_us: i64) -> JobRecord {
        {
            let mut record = self.record.lock();
            record.status = JobStatus::Running;
            record.started_at_us = Some(now_us);
        }
        self.record()
    }

    /// Notes how the job ended. Those who wait for it are told by [`LiveJob::announce_end`].
    pub(super) fn end(&self, outcome: Outcome, now_us: i64) -> JobRecord {
        {
            let mut record = self.record.lock();
            record.status = outcome.status;
            record.result = Some(outcome.result);
            record.trace = outcome.trace;
            record.reason = outcome.reason;
            record.finished_at_us = Some(now_us);
        }
        self.record()
    }

    /// Wakes those who wait for the end, once the record of it is kept.
    pub(super) fn announce_end(&self) {
        self.ended.send_replace(true);
    }

    pub(super) fn watch(&self) -> JobWatch {
        JobWatch { events: self.events.subscribe() }
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) {
        // The sender is in `self`, so that it cannot go away while this waits.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until the job should end early.
    pub(super) async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Does a piece of work and counts the time it takes.
    pub(super) fn busy<T>(&self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.busy_us.fetch_add(us, Ordering::Relaxed);
        done
    }

    /// Does work that also waits, and counts the time in which it does not.
    pub(super) async fn busy_in<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| self.busy(|| work.as_mut().poll(cx))).await
    }

    /// Notes how much the job buffers now.
    pub(super) fn holds(&self, bytes: usize) {
        self.peak_bytes.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// Changes the progress.
    pub(super) fn advance(&self, change: impl FnOnce(&mut JobProgress)) {
        change(&mut self.record.lock().progress);
    }

    /// Tells those who watch what happened to a partition.
    pub(super) fn tell(&self, event: JobEvent) {
        // Nobody may be watching.
        let _ = self.events.send(event);
    }

    /// Notes the causes of a failure that does not end the job.
    pub(super) fn note_fault(&self, trace: String) {
        self.record.lock().trace = Some(trace);
    }

    /// Replaces what is recorded of failed partitions; `count` are there altogether.
    pub(super) fn set_failed(&self, named: Vec<FailedPartition>, count: u64) {
        let mut record = self.record.lock();
        record.failed_partitions = named;
        record.failed_partitions.truncate(JobRecord::MAX_FAILED_PARTITIONS);
        record.progress.partitions_failed = count;
    }
}

impl fmt::Debug for LiveJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveJob").field("id", &self.id()).finish_non_exhaustive()
    }
}
