//! The scheduler: it queues what triggers make due, and runs what is queued.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use kalamdb_store::{
    codec::table_range,
    ids::TableId,
    kv::{Direction, KeyRange, Keyspace},
};
use tokio::time::Instant;

use crate::{
    catalog::{CatalogState, Table},
    engine::Shared,
    error::Result,
    exec::from_store,
    jobs::{
        compaction,
        core::{Core, Order, Slot},
        fault::Fault,
        flush,
        live::Outcome,
        queue::Waiting,
        record::{JobStatus, JobTrigger, JobType},
        triggers::Moment,
    },
    sql::TableKind,
};

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(250);

/// How often counts of written rows are looked at while they change.
const LOOK_AT_ROWS: Duration = Duration::from_millis(20);

/// A job whose work was interrupted so often is not taken up again: it may be what ends the server.
const MAX_ATTEMPTS: u32 = 5;

/// Rows counted before others get their turn.
const ROWS_PER_STEP: usize = 8_192;

/// Runs until the job system stops.
pub(super) async fn run(core: Arc<Core>, shared: Weak<Shared>) {
    let mut policies = Policies { state: None, tables: Vec::new() };
    if let Some(shared) = shared.upgrade() {
        recover(&core, &shared).await;
    }
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            policies.renew(&core, &shared);
            core.triggers.written.look();
            policies.order_due(&core, &shared);
            dispatch(&core, &shared);
        }
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = core.wake.notified() => {}
            () = tokio::time::sleep(TICK) => {}
            () = core.triggers.written.changed() => tokio::time::sleep(LOOK_AT_ROWS).await,
        }
    }
}

/// Marks what the process before left behind, and takes its flushes up again.
async fn recover(core: &Arc<Core>, shared: &Arc<Shared>) {
    let now_us = shared.env.now_us();
    let state = shared.catalog.state();
    let exists = |id: TableId| state.all_tables().any(|table| table.id() == id);
    if let Err(error) = core.book.forget_tables(exists, now_us).await {
        tracing::warn!(%error, "what is known of dropped tables could not be removed");
    }
    let interrupted = match core.book.mark_interrupted(now_us).await {
        Ok(interrupted) => interrupted,
        Err(error) => {
            tracing::warn!(%error, "interrupted jobs could not be marked");
            return;
        }
    };
    for record in interrupted {
        tracing::info!(job = %record.id, job_type = %record.job_type, "a job was interrupted by the end of the server");
        let table = record.table.as_ref().and_then(|table| state.all_tables().find(|t| t.id() == table.id));
        let Some(table) = table.filter(|_| record.job_type == JobType::Flush) else { continue };
        if record.attempt + 1 >= MAX_ATTEMPTS {
            tracing::warn!(job = %record.id, "a flush was interrupted too often and is not taken up again");
            continue;
        }
        let resumes = Some((record.id, record.attempt + 1));
        let order = Order { job_type: JobType::Flush, force: record.force, trigger: JobTrigger::Recovery, resumes };
        if let Err(error) = core.order(table, order) {
            tracing::warn!(job = %record.id, %error, "a flush could not be taken up again");
        }
    }
}

/// The tables with a flush policy, as of a state of the catalog.
struct Policies {
    state: Option<Arc<CatalogState>>,
    tables: Vec<Arc<Table>>,
}

impl Policies {
    fn renew(&mut self, core: &Arc<Core>, shared: &Arc<Shared>) {
        if self.state.as_ref().is_some_and(|state| shared.catalog.is_state(state)) {
            return;
        }
        let is_first = self.state.is_none();
        let state = shared.catalog.state();
        let with_policy = |table: &&Arc<Table>| table.flush_policy().is_some() && table.kind() != TableKind::Stream;
        self.tables = state.all_tables().filter(with_policy).cloned().collect();
        core.triggers.retain(|id| state.all_tables().any(|table| table.id() == id));
        self.state = Some(state);
        if is_first {
            count_hot_rows(core, shared, self.tables.clone());
        }
    }

    fn order_due(&self, core: &Core, shared: &Shared) {
        let age_s = i64::try_from(shared.settings.flush.max_partition_age_s).unwrap_or(i64::MAX);
        let moment = Moment {
            now_us: shared.env.now_us(),
            now: Instant::now(),
            quiet_us: (age_s / 8).clamp(1, 3_600).saturating_mul(1_000_000),
        };
        for table in &self.tables {
            let Some(policy) = table.flush_policy() else { continue };
            let completed_us = || core.book.last_flush_us(table.id()).unwrap_or(table.record().created_at_us);
            let Some(trigger) = core.triggers.due(table.id(), &policy, completed_us, moment) else { continue };
            if core.queue.lock().waits(JobType::Flush, table.id()) {
                continue;
            }
            let order = Order { job_type: JobType::Flush, force: false, trigger, resumes: None };
            if let Err(error) = core.order(table, order) {
                tracing::warn!(table = table.full_name(), %error, "a flush that is due could not be queued");
            }
        }
    }
}

/// Counts, in the background, the rows that were hot when the server was started: they are to be flushed like those that
/// are written now.
fn count_hot_rows(core: &Arc<Core>, shared: &Arc<Shared>, tables: Vec<Arc<Table>>) {
    let (counting, shared) = (Arc::clone(core), Arc::clone(shared));
    core.threads.spawn(async move {
        for table in tables {
            let enough = table.flush_policy().and_then(|policy| policy.rows).unwrap_or(1);
            let mut rest = Some(table_range(table.id()));
            let mut counted = 0;
            while let Some(range) = rest.take().filter(|_| counted < enough && !counting.stopping.is_cancelled()) {
                match count_some(&shared, range) {
                    Ok((rows, left)) => {
                        counted += rows;
                        rest = left;
                    }
                    Err(error) => tracing::warn!(table = table.full_name(), %error, "hot rows could not be counted"),
                }
                tokio::task::yield_now().await;
            }
            if counted > 0 {
                counting.triggers.written.add(table.id(), counted);
            }
        }
    });
}

fn count_some(shared: &Shared, range: KeyRange) -> Result<(u64, Option<KeyRange>)> {
    let snapshot = shared.backend.snapshot();
    let mut cursor = snapshot.cursor(Keyspace::Rows, range.clone(), Direction::Forward).map_err(from_store)?;
    for counted in 0..ROWS_PER_STEP {
        if !cursor.valid() {
            return Ok((counted as u64, None));
        }
        cursor.advance().map_err(from_store)?;
    }
    let rest = cursor.item().map(|(key, _)| KeyRange::new(std::ops::Bound::Included(key.to_vec()), range.end));
    Ok((ROWS_PER_STEP as u64, rest))
}

/// Begins every job that can run now.
fn dispatch(core: &Arc<Core>, shared: &Arc<Shared>) {
    loop {
        let next = {
            let mut queue = core.queue.lock();
            let next = queue.next(|job_type| core.slot(job_type));
            core.metrics.waiting(queue.waiting());
            next
        };
        let Some((waiting, slot)) = next else { return };
        let begun_us = shared.env.now_us();
        // Counted at once: rows written from now on are for the next flush.
        let written = match waiting.work.job_type {
            JobType::Flush => core.triggers.begun(waiting.work.table, begun_us),
            _ => 0,
        };
        let run = Run { core: Arc::clone(core), shared: Arc::clone(shared), waiting, begun_us, written };
        core.threads.spawn(run.run(slot));
    }
}

/// A job from its beginning to its end.
struct Run {
    core: Arc<Core>,
    shared: Arc<Shared>,
    waiting: Waiting,
    begun_us: i64,
    /// Rows that were written before it began.
    written: u64,
}

impl Run {
    async fn run(self, slot: Slot) {
        let Self { core, shared, waiting: Waiting { work, job }, begun_us, written } = self;
        let started = Instant::now();
        let outcome = match core.book.began(&job, begun_us).await {
            Ok(()) => {
                let (core, shared, job) = (Arc::clone(&core), Arc::clone(&shared), Arc::clone(&job));
                let mut slot = slot;
                // A task of its own, so that a panic ends this job alone.
                let running = tokio::spawn(async move {
                    let working = async {
                        match work.job_type {
                            JobType::Flush => flush::run(&shared, &core, &job, &mut slot, work.table, work.force).await,
                            JobType::Compaction => compaction::run(&shared, &core, &job, work.table, work.force).await,
                            // Those are not queued.
                            JobType::Sweep | JobType::Export | JobType::Backup | JobType::Restore => {
                                Outcome::completed("There was nothing to do.")
                            }
                        }
                    };
                    // Whatever is under way can be dropped: what is not committed exists for nobody.
                    let outcome = tokio::select! {
                        outcome = working => outcome,
                        () = job.cancelled() => Outcome::interrupted(),
                    };
                    (outcome, slot)
                });
                match running.await {
                    Ok((outcome, slot)) => {
                        drop(slot);
                        outcome
                    }
                    Err(error) => Outcome::failed(&Fault::lost("run the job", &error)),
                }
            }
            Err(error) => Outcome::failed(&Fault::commit("record the beginning of the job", error)),
        };
        let is_flush = work.job_type == JobType::Flush;
        let is_complete = outcome.status == JobStatus::Completed;
        if is_flush {
            match is_complete {
                true => core.triggers.completed(work.table, begun_us),
                false => core.triggers.failed(work.table, written, Instant::now()),
            }
        }
        let flushed = (is_flush && is_complete).then_some((work.table, begun_us));
        core.queue.lock().done(&work);
        let record = core.book.ended(&job, outcome, flushed, shared.env.now_us()).await;
        core.metrics.ended(work.job_type, record.status, started.elapsed());
        let table = record.table.as_ref().map(|table| format!("{}.{}", table.namespace, table.name));
        let result = record.result.as_deref().unwrap_or_default();
        if record.status == JobStatus::Failed {
            tracing::warn!(job = %record.id, job_type = %record.job_type, table, result, "a job failed");
        } else {
            tracing::info!(job = %record.id, job_type = %record.job_type, table, status = %record.status, result, "a job ended");
        }
        if is_flush && record.progress.segments > 0 {
            core.check_soon(work.table);
        }
        core.wake.notify_one();
    }
}
