//! What the parts of the job system share.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use kalamdb_store::ids::TableId;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::Table,
    env::Env,
    error::Result,
    ids::IdSource,
    jobs::{
        backup::Unfinished,
        book::JobBook,
        export::Exports,
        fault::Fault,
        hooks::{JobHooks, JobStep},
        live::LiveJob,
        metrics::Metrics,
        pending::PendingFiles,
        queue::{JobQueue, Work},
        record::{JobId, JobProgress, JobRecord, JobStatus, JobTable, JobTrigger, JobType},
        threads::JobThreads,
        triggers::Triggers,
    },
};

/// Books, queue, triggers and signals.
pub(super) struct Core {
    pub(super) env: Arc<dyn Env>,
    pub(super) ids: Arc<IdSource>,
    pub(super) node: u16,
    pub(super) book: JobBook,
    pub(super) queue: Mutex<JobQueue>,
    pub(super) triggers: Triggers,
    pub(super) pending: Arc<PendingFiles>,
    pub(super) metrics: Metrics,
    pub(super) threads: JobThreads,
    pub(super) hooks: Arc<dyn JobHooks>,
    pub(super) stopping: CancellationToken,
    /// Something was queued, or a place became free.
    pub(super) wake: Notify,
    pub(super) sweep: Notify,
    /// Tables whose segments may be worth merging.
    pub(super) unchecked: Mutex<BTreeSet<TableId>>,
    pub(super) check: Notify,
    pub(super) flushes: Arc<Semaphore>,
    pub(super) compactions: Arc<Semaphore>,
    pub(super) exports: Arc<Semaphore>,
    pub(super) under_export: Exports,
    pub(super) backups: Arc<Semaphore>,
    /// Backups and restores that wait.
    pub(super) backups_waiting: AtomicUsize,
    pub(super) unfinished: Arc<Unfinished>,
    /// Held while a mark of ids is put in the store.
    pub(super) id_mark: AsyncMutex<()>,
    /// The id of the database, which backups name.
    pub(super) database_id: u64,
}

/// What is asked of a job, beside its table and type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) job_type: JobType,
    pub(super) force: bool,
    pub(super) trigger: JobTrigger,
    /// The interrupted job whose work it does again, and how many there were before.
    pub(super) resumes: Option<(JobId, u32)>,
}

/// A job's place among those that run.
pub(super) struct Slot {
    places: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
}

impl Core {
    /// Queues a job of a table, unless an equal one waits already.
    pub(super) fn order(&self, table: &Table, order: Order) -> Result<Arc<LiveJob>> {
        let work = Work { job_type: order.job_type, table: table.id(), force: order.force };
        let job = self.queue.lock().push(work, || {
            let record = table.record();
            let table =
                JobTable { id: record.id, namespace: record.namespace.to_string(), name: record.name.to_string() };
            let job = self.new_job(Some(table), order);
            self.book.add(&job);
            job
        })?;
        self.wake.notify_one();
        Ok(job)
    }

    /// A job that waits.
    pub(super) fn new_job(&self, table: Option<JobTable>, order: Order) -> Arc<LiveJob> {
        self.new_job_with(table, order, Vec::new())
    }

    /// A job that waits, with what else it was told.
    pub(super) fn new_job_with(&self, table: Option<JobTable>, order: Order, details: Vec<String>) -> Arc<LiveJob> {
        Arc::new(LiveJob::new(JobRecord {
            id: JobId::new(self.ids.snowflake()),
            job_type: order.job_type,
            status: JobStatus::Queued,
            trigger: order.trigger,
            table,
            force: order.force,
            details,
            resumes: order.resumes.map(|(id, _)| id),
            attempt: order.resumes.map_or(0, |(_, attempt)| attempt),
            result: None,
            trace: None,
            reason: None,
            memory_used_bytes: 0,
            cpu_used_us: 0,
            node: self.node,
            created_at_us: self.env.now_us(),
            started_at_us: None,
            finished_at_us: None,
            progress: JobProgress::default(),
            failed_partitions: Vec::new(),
        }))
    }

    /// What stands for a job whose record is gone.
    pub(super) fn forgotten(&self, id: JobId) -> JobRecord {
        let order = Order { job_type: JobType::Flush, force: false, trigger: JobTrigger::Manual, resumes: None };
        let mut record = self.new_job(None, order).record();
        record.id = id;
        record.status = JobStatus::Cancelled;
        record.result = Some("The job is not known any more.".to_owned());
        record
    }

    /// A place for a job of this type, if one is free.
    pub(super) fn slot(&self, job_type: JobType) -> Option<Slot> {
        let places = match job_type {
            JobType::Flush => &self.flushes,
            JobType::Compaction | JobType::Sweep => &self.compactions,
            JobType::Export => &self.exports,
            JobType::Backup | JobType::Restore => &self.backups,
        };
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        Some(Slot { places: Arc::clone(places), place: Some(place) })
    }

    /// Lets a test act at a step.
    pub(super) fn reached(&self, step: JobStep) -> Result<(), Fault> {
        self.hooks.reached(step).map_err(|text| Fault::hook(step.as_str(), &text))
    }

    /// Has the sweep look for files to delete.
    pub(super) fn sweep_soon(&self) {
        self.sweep.notify_one();
    }

    /// Has somebody look whether segments of a table are worth merging.
    pub(super) fn check_soon(&self, table: TableId) {
        self.unchecked.lock().insert(table);
        self.check.notify_one();
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("book", &self.book).finish_non_exhaustive()
    }
}

impl Slot {
    /// Rests, and lets others have the place meanwhile.
    pub(super) async fn rest(&mut self, core: &Core, time: Duration) {
        self.place = None;
        core.wake.notify_one();
        tokio::time::sleep(time).await;
        // The semaphore is never closed.
        self.place = Arc::clone(&self.places).acquire_owned().await.ok();
    }
}
