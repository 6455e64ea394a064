//! When tables with a flush policy are due: rows written, and time passed, since their last flush.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kalamdb_store::ids::TableId;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, time::Instant};

use crate::{jobs::record::JobTrigger, sql::FlushPolicy};

/// How long a row trigger waits after a flush that failed; it doubles with each further one, up to the longest wait.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

const SECOND_US: i64 = 1_000_000;

/// How many rows were written to each table since its last flush. Counting costs a shared lock and an addition.
#[derive(Debug, Default)]
pub(super) struct WrittenRows {
    tables: RwLock<HashMap<TableId, Arc<AtomicU64>>>,
    /// Whether anything was counted since the scheduler looked last.
    changed: AtomicBool,
    wake: Notify,
}

impl WrittenRows {
    /// Counts rows.
    pub(super) fn add(&self, table: TableId, rows: u64) {
        let known = self.tables.read().get(&table).map(|count| count.fetch_add(rows, Ordering::SeqCst));
        if known.is_none() {
            self.count_of(table).fetch_add(rows, Ordering::SeqCst);
        }
        // Whoever takes the flag back looks at the counts afterwards, and so sees this one.
        if !self.changed.load(Ordering::SeqCst) && !self.changed.swap(true, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// How many were counted.
    pub(super) fn get(&self, table: TableId) -> u64 {
        self.tables.read().get(&table).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    /// How many were counted; counting begins anew.
    pub(super) fn take(&self, table: TableId) -> u64 {
        self.count_of(table).swap(0, Ordering::SeqCst)
    }

    /// Waits until something is counted that was not looked at.
    pub(super) async fn changed(&self) {
        while !self.changed.load(Ordering::SeqCst) {
            self.wake.notified().await;
        }
    }

    /// Notes that the counts are looked at from now on.
    pub(super) fn look(&self) {
        self.changed.swap(false, Ordering::SeqCst);
    }

    /// Forgets tables that are not `kept`.
    pub(super) fn retain(&self, kept: impl Fn(TableId) -> bool) {
        self.tables.write().retain(|table, _| kept(*table));
    }

    fn count_of(&self, table: TableId) -> Arc<AtomicU64> {
        Arc::clone(self.tables.write().entry(table).or_default())
    }
}

/// What the triggers remember of each table's flushes.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    pub(super) written: WrittenRows,
    tables: Mutex<HashMap<TableId, LastFlush>>,
}

/// The last flush of a table, as far as triggers are concerned.
#[derive(Debug, Clone)]
pub(super) struct LastFlush {
    /// When the last one began, whatever came of it.
    begun_us: i64,
    /// When the last one began that looked at the whole table.
    completed_us: i64,
    failures: u32,
    /// Until when a row trigger waits after failures.
    not_before: Option<Instant>,
}

impl LastFlush {
    fn new(completed_us: i64) -> Self {
        Self { begun_us: completed_us, completed_us, failures: 0, not_before: None }
    }
}

/// What decides whether a table is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now_us: i64,
    pub(super) now: Instant,
    /// How often a table is looked at though nothing was written to it, for the sake of its old rows.
    pub(super) quiet_us: i64,
}

impl Triggers {
    /// Whether a table with this policy is due, and why. `completed_us` is when its last flush completed, or when it was
    /// created: it counts when nothing else is known.
    pub(super) fn due(
        &self,
        table: TableId,
        policy: &FlushPolicy,
        completed_us: impl FnOnce() -> i64,
        moment: Moment,
    ) -> Option<JobTrigger> {
        let written = self.written.get(table);
        let mut tables = self.tables.lock();
        let last = tables.entry(table).or_insert_with(|| LastFlush::new(completed_us()));
        // After a clock was set back, time counts from then on.
        last.begun_us = last.begun_us.min(moment.now_us);
        last.completed_us = last.completed_us.min(moment.now_us);
        due(policy, written, last, moment)
    }

    /// Notes that a flush begins; returns how many rows were written before.
    pub(super) fn begun(&self, table: TableId, now_us: i64) -> u64 {
        let written = self.written.take(table);
        self.tables.lock().entry(table).or_insert_with(|| LastFlush::new(now_us)).begun_us = now_us;
        written
    }

    /// Notes that a flush that began at `begun_us` did all it had to.
    pub(super) fn completed(&self, table: TableId, begun_us: i64) {
        let mut tables = self.tables.lock();
        let last = tables.entry(table).or_insert_with(|| LastFlush::new(begun_us));
        (last.completed_us, last.failures, last.not_before) = (begun_us, 0, None);
    }

    /// Notes that a flush did not do all it had to; `written` is what [`Triggers::begun`] answered.
    pub(super) fn failed(&self, table: TableId, written: u64, now: Instant) {
        if let Some(last) = self.tables.lock().get_mut(&table) {
            let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(last.failures)).min(LONGEST_WAIT);
            last.failures = last.failures.saturating_add(1);
            last.not_before = Some(now + wait);
        }
        self.written.add(table, written);
    }

    /// Forgets tables that are not `kept`.
    pub(super) fn retain(&self, kept: impl Fn(TableId) -> bool) {
        self.written.retain(&kept);
        self.tables.lock().retain(|table, _| kept(*table));
    }
}

fn due(policy: &FlushPolicy, written: u64, last: &LastFlush, moment: Moment) -> Option<JobTrigger> {
    if policy.rows.is_some_and(|rows| written >= rows) && last.not_before.is_none_or(|at| at <= moment.now) {
        return Some(JobTrigger::Rows);
    }
    let interval_us = i64::try_from(policy.interval_s?).unwrap_or(i64::MAX).saturating_mul(SECOND_US);
    let passed = |since_us: i64, us: i64| moment.now_us.saturating_sub(since_us) >= us;
    let has_work = written > 0 || passed(last.completed_us, moment.quiet_us);
    (passed(last.begun_us, interval_us) && has_work).then_some(JobTrigger::Interval)
}

#[cfg(test)]
mod tests;
