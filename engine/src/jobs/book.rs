//! The book of jobs: every job that waits or runs, and the records of those that ended, in memory and in the store.
//!
//! ```text
//! keyspace system
//! "job/"        | job id u64 BE    -> record of a job, JSON
//! "flush/last/" | table id u32 BE  -> when the table was last flushed, i64 LE (µs)
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kalamdb_store::{
    commit::{CommitError, Committer, PreparedCommit},
    ids::TableId,
    kv::{Direction, KeyRange, Keyspace, Snapshot, WriteBatch},
};
use parking_lot::Mutex;

use crate::{
    error::Result,
    exec::{corrupt, from_store},
    jobs::{
        live::{LiveJob, Outcome},
        record::{JobId, JobRecord, JobStatus, JobType},
    },
};

/// The most records kept; the oldest ones go first.
const MAX_RECORDS: usize = 10_000;
/// The most records of exports. Anybody can ask for one, and nobody is to wash away what operators look for.
const MAX_EXPORT_RECORDS: usize = 1_000;

const JOBS: &[u8] = b"job/";
const LAST_FLUSHES: &[u8] = b"flush/last/";

/// Every job there is a record of.
#[derive(Debug)]
pub(super) struct JobBook {
    committer: Committer,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<JobId, Arc<LiveJob>>,
    /// The records of jobs that ended, but for exports.
    ended: Shelf,
    ended_exports: Shelf,
    last_flushes_us: HashMap<TableId, i64>,
}

/// Records, the oldest first.
type Shelf = BTreeMap<JobId, Arc<JobRecord>>;

impl State {
    /// Where the records of such jobs are, and how many there may be.
    fn shelf(&mut self, job_type: JobType) -> (&mut Shelf, usize) {
        match job_type {
            JobType::Export => (&mut self.ended_exports, MAX_EXPORT_RECORDS),
            JobType::Flush | JobType::Compaction | JobType::Sweep | JobType::Backup | JobType::Restore => {
                (&mut self.ended, MAX_RECORDS)
            }
        }
    }

    /// Puts in the record of a job that ended. Answers those that are too many.
    fn end(&mut self, record: &Arc<JobRecord>) -> Vec<JobId> {
        self.live.remove(&record.id);
        let (shelf, most) = self.shelf(record.job_type);
        shelf.insert(record.id, Arc::clone(record));
        let mut surplus = Vec::new();
        while shelf.len() > most
            && let Some((oldest, _)) = shelf.pop_first()
        {
            surplus.push(oldest);
        }
        surplus
    }

    fn all_ended(&self) -> impl Iterator<Item = &Arc<JobRecord>> {
        self.ended.values().chain(self.ended_exports.values())
    }
}

impl JobBook {
    /// Reads the book. A record that cannot be read is left out: it is of no use to anybody.
    pub(super) fn load(snapshot: &dyn Snapshot, committer: Committer) -> Result<Self> {
        let mut state = State::default();
        let mut cursor =
            snapshot.cursor(Keyspace::System, KeyRange::prefix(JOBS), Direction::Forward).map_err(from_store)?;
        while let Some((_, value)) = cursor.item() {
            match serde_json::from_slice::<JobRecord>(value) {
                Ok(record) => {
                    state.shelf(record.job_type).0.insert(record.id, Arc::new(record));
                }
                Err(error) => tracing::warn!(%error, "the record of a job cannot be read"),
            }
            cursor.advance().map_err(from_store)?;
        }
        drop(cursor);
        let mut cursor = snapshot
            .cursor(Keyspace::System, KeyRange::prefix(LAST_FLUSHES), Direction::Forward)
            .map_err(from_store)?;
        while let Some((key, value)) = cursor.item() {
            let table = key.strip_prefix(LAST_FLUSHES).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes);
            let at_us = value.try_into().ok().map(i64::from_le_bytes);
            let (Some(table), Some(at_us)) = (table, at_us) else {
                return Err(corrupt("the time of a table's last flush"));
            };
            state.last_flushes_us.insert(TableId::new(table), at_us);
            cursor.advance().map_err(from_store)?;
        }
        Ok(Self { committer, state: Mutex::new(state) })
    }

    /// The newest job that is known.
    pub(super) fn last_id(&self) -> Option<JobId> {
        self.state.lock().all_ended().map(|record| record.id).max()
    }

    /// The jobs that the process before had begun and not ended, marked as interrupted from now on.
    pub(super) async fn mark_interrupted(&self, now_us: i64) -> Result<Vec<Arc<JobRecord>>, CommitError> {
        let mut batch = WriteBatch::new();
        let interrupted: Vec<Arc<JobRecord>> = {
            let mut state = self.state.lock();
            let State { ended, ended_exports, .. } = &mut *state;
            let all = ended.values_mut().chain(ended_exports.values_mut());
            let left = all.filter(|record| !record.status.is_final());
            left.map(|record| {
                let mut changed = record.as_ref().clone();
                changed.status = JobStatus::Interrupted;
                changed.result = Some(Outcome::interrupted_of(record.job_type).result);
                changed.finished_at_us = Some(now_us);
                *record = Arc::new(changed);
                put(&mut batch, record);
                Arc::clone(record)
            })
            .collect()
        };
        self.write(batch, now_us).await?;
        Ok(interrupted)
    }

    /// Enters a new job; its record is stored when it begins.
    pub(super) fn add(&self, job: &Arc<LiveJob>) {
        self.state.lock().live.insert(job.id(), Arc::clone(job));
    }

    /// Notes that a job ended which never began. It was never stored, and is not now.
    pub(super) fn never_began(&self, job: &LiveJob, outcome: Outcome, now_us: i64) {
        let record = Arc::new(job.end(outcome, now_us));
        // If it is one too many, the next job that ends makes room.
        let mut state = self.state.lock();
        state.live.remove(&record.id);
        state.shelf(record.job_type).0.insert(record.id, record);
        drop(state);
        job.announce_end();
    }

    /// Stores the record of a job that begins. When this returns it is durable.
    pub(super) async fn began(&self, job: &LiveJob, now_us: i64) -> Result<(), CommitError> {
        let record = job.begin(now_us);
        let mut batch = WriteBatch::new();
        put(&mut batch, &record);
        self.write(batch, now_us).await
    }

    /// Stores the record of a job that ended, and of a flush when it was. Those who wait for the job are told in any case.
    pub(super) async fn ended(
        &self,
        job: &LiveJob,
        outcome: Outcome,
        flushed: Option<(TableId, i64)>,
        now_us: i64,
    ) -> Arc<JobRecord> {
        let record = Arc::new(job.end(outcome, now_us));
        let mut batch = WriteBatch::new();
        put(&mut batch, &record);
        {
            let mut state = self.state.lock();
            state.end(&record).into_iter().for_each(|oldest| batch.delete(Keyspace::System, key(oldest)));
            if let Some((table, at_us)) = flushed {
                state.last_flushes_us.insert(table, at_us);
                batch.put(Keyspace::System, last_flush_key(table), at_us.to_le_bytes());
            }
        }
        if let Err(error) = self.write(batch, now_us).await {
            tracing::warn!(job = %record.id, %error, "the end of a job could not be recorded");
        }
        job.announce_end();
        record
    }

    /// Forgets what is known of tables that are not `kept`.
    pub(super) async fn forget_tables(&self, kept: impl Fn(TableId) -> bool, now_us: i64) -> Result<(), CommitError> {
        let mut batch = WriteBatch::new();
        self.state.lock().last_flushes_us.retain(|table, _| {
            let keep = kept(*table);
            if !keep {
                batch.delete(Keyspace::System, last_flush_key(*table));
            }
            keep
        });
        self.write(batch, now_us).await
    }

    /// When a table was last flushed.
    pub(super) fn last_flush_us(&self, table: TableId) -> Option<i64> {
        self.state.lock().last_flushes_us.get(&table).copied()
    }

    /// A job that has not ended.
    pub(super) fn live(&self, id: JobId) -> Option<Arc<LiveJob>> {
        self.state.lock().live.get(&id).cloned()
    }

    /// Every job that has not ended.
    pub(super) fn all_live(&self) -> Vec<Arc<LiveJob>> {
        self.state.lock().live.values().cloned().collect()
    }

    /// A job as it is now.
    pub(super) fn record(&self, id: JobId) -> Option<JobRecord> {
        let state = self.state.lock();
        match state.live.get(&id) {
            Some(job) => Some(job.record()),
            None => {
                let record = state.ended.get(&id).or_else(|| state.ended_exports.get(&id));
                record.map(|record| record.as_ref().clone())
            }
        }
    }

    /// Every job as it is now, the newest first.
    pub(super) fn list(&self) -> Vec<JobRecord> {
        let state = self.state.lock();
        let mut records: Vec<JobRecord> = state.all_ended().map(|record| record.as_ref().clone()).collect();
        records.extend(state.live.values().map(|job| job.record()));
        records.sort_by_key(|record| std::cmp::Reverse(record.id));
        records
    }

    async fn write(&self, kv: WriteBatch, now_us: i64) -> Result<(), CommitError> {
        if kv.is_empty() {
            return Ok(());
        }
        let prepared = PreparedCommit { commit_time_us: now_us, kv, ..PreparedCommit::default() };
        self.committer.commit(prepared).await.map(|_| ())
    }
}

fn put(batch: &mut WriteBatch, record: &JobRecord) {
    match serde_json::to_vec(record) {
        Ok(value) => batch.put(Keyspace::System, key(record.id), value),
        // Plain values in plain structs: there is nothing in them that could fail.
        Err(error) => tracing::error!(%error, "a job's record cannot be written"),
    }
}

fn key(id: JobId) -> Vec<u8> {
    [JOBS, &id.get().cast_unsigned().to_be_bytes()].concat()
}

fn last_flush_key(table: TableId) -> Vec<u8> {
    [LAST_FLUSHES, &table.get().to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
