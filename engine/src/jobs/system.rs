//! The job system as the rest of the engine sees it.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use kalamdb_store::{
    codec::table_range,
    commit::Committer,
    ids::TableId,
    kv::{Direction, Keyspace, StorageBackend},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::Table,
    engine::Shared,
    env::Env,
    error::Result,
    exec::from_store,
    ids::IdSource,
    jobs::{
        backup::{self, BackupRequest, RestoreRequest},
        book::JobBook,
        core::{Core, Order},
        export::{self, Exports},
        hooks::JobHooks,
        house, id_mark,
        live::{JobWatch, Outcome},
        metrics::Metrics,
        pending::PendingFiles,
        queue::JobQueue,
        record::{JobId, JobRecord, JobTrigger, JobType},
        scheduler, sweep,
        threads::JobThreads,
    },
    settings::FlushSettings,
    sql::TableKind,
};

/// How long closing waits for jobs to notice.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Exports at a time; further ones wait.
const MAX_EXPORTS: usize = 4;

/// Flushes, compactions, sweeps, exports and backups of an engine.
pub(crate) struct Jobs {
    core: Arc<Core>,
    /// Set when the jobs are started.
    shared: OnceLock<Weak<Shared>>,
}

/// What the job system works with, beside what it finds in [`Shared`] once it is started.
pub(crate) struct JobParts {
    pub(crate) backend: Arc<dyn StorageBackend>,
    pub(crate) committer: Committer,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) node_id: u16,
    pub(crate) database_id: u64,
    pub(crate) hooks: Arc<dyn JobHooks>,
    /// How long a write to a storage that was given up may still take effect.
    pub(crate) write_grace: Duration,
}

/// A job that was asked for, and what happens to it from the beginning.
#[derive(Debug)]
pub(crate) struct WatchedJob {
    pub(crate) id: JobId,
    pub(crate) watch: JobWatch,
}

/// How a flush is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FlushOptions {
    /// Flush partitions of few rows too.
    pub(crate) force: bool,
}

impl Jobs {
    /// Reads what is known of jobs. Nothing runs before [`Jobs::start`].
    ///
    /// # Errors
    /// When the store cannot be read, or no thread can be started.
    pub(crate) fn open(parts: JobParts, settings: &FlushSettings) -> Result<Self> {
        let JobParts { backend, committer, env, ids, node_id, database_id, hooks, write_grace } = parts;
        let concurrency = settings.concurrency.max(1);
        let book = JobBook::load(backend.snapshot().as_ref(), committer)?;
        if let Some(last) = book.last_id() {
            ids.resume_after(last.get());
        }
        let core = Core {
            env,
            ids,
            node: node_id,
            book,
            queue: parking_lot::Mutex::new(JobQueue::default()),
            triggers: Default::default(),
            pending: Arc::new(PendingFiles::new(write_grace)),
            metrics: Metrics::register(),
            // Beside flushes a compaction and a sweep; and a flush reads on one thread while it writes on another.
            threads: JobThreads::start(concurrency + 1)?,
            hooks,
            stopping: CancellationToken::new(),
            wake: Notify::new(),
            sweep: Notify::new(),
            unchecked: Default::default(),
            check: Notify::new(),
            flushes: Arc::new(Semaphore::new(concurrency)),
            compactions: Arc::new(Semaphore::new(1)),
            exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
            under_export: Exports::default(),
            backups: Arc::new(Semaphore::new(1)),
            backups_waiting: Default::default(),
            unfinished: Default::default(),
            id_mark: Default::default(),
            database_id,
        };
        Ok(Self { core: Arc::new(core), shared: OnceLock::new() })
    }

    /// Begins to work: takes up what was interrupted, follows the triggers, deletes files that nobody needs.
    pub(crate) fn start(&self, shared: &Arc<Shared>) {
        let core = &self.core;
        if self.shared.set(Arc::downgrade(shared)).is_err() {
            return;
        }
        // The scheduler must be quick even when the threads of jobs have a lot to do.
        core.threads.spawn_on(shared.runtime.handle(), scheduler::run(Arc::clone(core), Arc::downgrade(shared)));
        core.threads.spawn(house::run(Arc::clone(core), Arc::downgrade(shared)));
        match export::left_behind(shared.backend.as_ref()) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => drop(core.threads.spawn(export::sweep(Arc::clone(shared), found))),
            Err(error) => tracing::warn!(%error, "files of exports that did not end could not be looked for"),
        }
        core.threads.spawn(sweep::run(Arc::clone(core), Arc::downgrade(shared)));
        core.threads.spawn(backup::remove_unfinished(Arc::clone(core), Arc::downgrade(shared)));
        core.threads.spawn(id_mark::run(Arc::clone(core), Arc::downgrade(shared)));
    }

    /// Queues a flush of a table. An equal one that waits already is taken for this one. A STREAM table is never flushed:
    /// its job ends with 0 rows.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when too many jobs wait, SHUTTING_DOWN.
    pub(crate) fn flush_table(&self, table: &Table, options: FlushOptions, trigger: JobTrigger) -> Result<JobId> {
        Ok(self.flush_table_watched(table, options, trigger)?.id)
    }

    /// The same as [`Jobs::flush_table`], watched so that nothing is missed.
    ///
    /// # Errors
    /// As [`Jobs::flush_table`].
    pub(crate) fn flush_table_watched(
        &self,
        table: &Table,
        options: FlushOptions,
        trigger: JobTrigger,
    ) -> Result<WatchedJob> {
        self.order(table, Order { job_type: JobType::Flush, force: options.force, trigger, resumes: None })
    }

    /// Queues a compaction of a table that merges whatever can be merged.
    ///
    /// # Errors
    /// As [`Jobs::flush_table`].
    pub(crate) fn compact_table(&self, table: &Table, trigger: JobTrigger) -> Result<JobId> {
        Ok(self.compact_table_watched(table, trigger)?.id)
    }

    /// The same as [`Jobs::compact_table`], watched so that nothing is missed.
    ///
    /// # Errors
    /// As [`Jobs::flush_table`].
    pub(crate) fn compact_table_watched(&self, table: &Table, trigger: JobTrigger) -> Result<WatchedJob> {
        self.order(table, Order { job_type: JobType::Compaction, force: true, trigger, resumes: None })
    }

    /// Asks for a backup of a namespace, which begins when no other backup or restore runs.
    ///
    /// # Errors
    /// NAMESPACE_NOT_FOUND, TOO_MANY_REQUESTS, SHUTTING_DOWN.
    pub(crate) fn back_up(&self, shared: &Arc<Shared>, request: BackupRequest) -> Result<WatchedJob> {
        backup::order(&self.core, shared, backup::Request::Backup(request))
    }

    /// Asks for a restore of a namespace, which begins when no other backup or restore runs.
    ///
    /// # Errors
    /// NAMESPACE_EXISTS, TOO_MANY_REQUESTS, SHUTTING_DOWN.
    pub(crate) fn restore(&self, shared: &Arc<Shared>, request: RestoreRequest) -> Result<WatchedJob> {
        backup::order(&self.core, shared, backup::Request::Restore(request))
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    fn order(&self, table: &Table, order: Order) -> Result<WatchedJob> {
        // A job that begins before it is watched has told nothing yet: it must be recorded first.
        let job = self.core.order(table, order)?;
        Ok(WatchedJob { id: job.id(), watch: job.watch() })
    }

    /// Waits until a job has ended. One that is not known, because its record was the oldest of too many, is as if it had
    /// been cancelled.
    pub(crate) async fn wait(&self, id: JobId) -> JobRecord {
        match self.core.book.live(id) {
            Some(job) => {
                job.ended().await;
                job.record()
            }
            None => self.record(id).unwrap_or_else(|| self.core.forgotten(id)),
        }
    }

    /// A job as it is now; `None`: there is none, or its record was the oldest of too many.
    pub(crate) fn record(&self, id: JobId) -> Option<JobRecord> {
        self.core.book.record(id)
    }

    /// Every job as it is now, the newest first.
    pub(crate) fn list(&self) -> Vec<JobRecord> {
        self.core.book.list()
    }

    /// When a table was last flushed, in microseconds since 1970-01-01T00:00:00Z.
    pub(crate) fn last_flush_us(&self, table: TableId) -> Option<i64> {
        self.core.book.last_flush_us(table)
    }

    /// Counts rows that were written to a table. Cheap: it is called for every commit.
    pub(crate) fn rows_written(&self, table: TableId, rows: u64) {
        self.core.triggers.written.add(table, rows);
    }

    /// Has the sweep look for files to delete, after segments were removed.
    pub(crate) fn sweep_soon(&self) {
        self.core.sweep_soon();
    }

    /// Flushes every table with rows in the hot tier, for this long at most. What is not flushed by then stays hot, which
    /// costs nothing but the time of the next flush.
    pub(crate) async fn flush_all_for_shutdown(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let Some(shared) = self.shared.get().and_then(Weak::upgrade) else { return };
        // No queries are left that would want the processors.
        self.core.flushes.add_permits(1);
        let mut flushes = Vec::new();
        for table in shared.catalog.state().all_tables().filter(|table| table.kind() != TableKind::Stream) {
            let queued = match has_hot_rows(&shared, table) {
                Ok(false) => continue,
                Ok(true) => self.flush_table(table, FlushOptions::default(), JobTrigger::Shutdown),
                Err(error) => Err(error),
            };
            match queued {
                Ok(id) => flushes.push(id),
                Err(error) => tracing::warn!(table = table.full_name(), %error, "a table is not flushed at shutdown"),
            }
        }
        let all = async {
            for id in &flushes {
                self.wait(*id).await;
            }
        };
        if tokio::time::timeout_at(deadline, all).await.is_err() {
            tracing::warn!("not every table was flushed in time; the rest of the rows stay in the hot tier");
        }
    }

    /// Stops: jobs that run end at their next step, those that wait never begin. Blocks until they have ended.
    pub(crate) fn stop(&self) {
        let core = &self.core;
        let waiting = core.queue.lock().close();
        core.stopping.cancel();
        for waiting in waiting {
            core.book.never_began(&waiting.job, Outcome::interrupted(), core.env.now_us());
        }
        for job in core.book.all_live() {
            job.cancel();
        }
        core.threads.stop(STOP_LIMIT);
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jobs").field(&self.core).finish()
    }
}

fn has_hot_rows(shared: &Shared, table: &Table) -> Result<bool> {
    let snapshot = shared.backend.snapshot();
    let cursor = snapshot.cursor(Keyspace::Rows, table_range(table.id()), Direction::Forward).map_err(from_store)?;
    Ok(cursor.valid())
}
