//! The queue of jobs: one of a type at a time for each table, equal requests that wait being one.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use kalamdb_store::ids::TableId;

use crate::{
    error::{Error, Reason, Result},
    jobs::{live::LiveJob, record::JobType},
};

/// The most jobs that may wait.
const MAX_WAITING: usize = 10_000;

/// What a job of a table does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) job_type: JobType,
    pub(super) table: TableId,
    /// Of a flush: whether it takes partitions of few rows too. Of a compaction: whether it takes what is not worth it.
    pub(super) force: bool,
}

/// A job that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) work: Work,
    pub(super) job: Arc<LiveJob>,
}

/// Jobs that wait, and what runs.
#[derive(Debug, Default)]
pub(super) struct JobQueue {
    waiting: VecDeque<Waiting>,
    running: HashSet<(JobType, TableId)>,
    closed: bool,
}

impl JobQueue {
    /// Queues a job, unless an equal one waits already: then that one is it.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when the queue is full, SHUTTING_DOWN when it is closed.
    pub(super) fn push(&mut self, work: Work, new_job: impl FnOnce() -> Arc<LiveJob>) -> Result<Arc<LiveJob>> {
        if self.closed {
            return Err(Error::new(Reason::ShuttingDown, "The server is shutting down. Connect again."));
        }
        if let Some(same) = self.waiting.iter().find(|waiting| waiting.work == work) {
            return Ok(Arc::clone(&same.job));
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(Error::new(
                Reason::TooManyRequests,
                format!("{MAX_WAITING} jobs wait already, the most that may. Try again when some have run."),
            ));
        }
        let job = new_job();
        self.waiting.push_back(Waiting { work, job: Arc::clone(&job) });
        Ok(job)
    }

    /// Takes the first job that can run: its table has none of its type under way, and there is a free place for it.
    /// The place belongs to the job from then on.
    pub(super) fn next<P>(&mut self, mut place: impl FnMut(JobType) -> Option<P>) -> Option<(Waiting, P)> {
        let mut full: Vec<JobType> = Vec::new();
        for index in 0..self.waiting.len() {
            let Work { job_type, table, .. } = self.waiting.get(index)?.work;
            if full.contains(&job_type) || self.running.contains(&(job_type, table)) {
                continue;
            }
            match place(job_type) {
                Some(place) => {
                    self.running.insert((job_type, table));
                    return Some((self.waiting.remove(index)?, place));
                }
                None => full.push(job_type),
            }
        }
        None
    }

    /// Notes that a job has ended.
    pub(super) fn done(&mut self, work: &Work) {
        self.running.remove(&(work.job_type, work.table));
    }

    /// Whether a job of this type waits for a table.
    pub(super) fn waits(&self, job_type: JobType, table: TableId) -> bool {
        self.waiting.iter().any(|waiting| waiting.work.job_type == job_type && waiting.work.table == table)
    }

    /// How many jobs wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes out every job that waits, and accepts no more.
    pub(super) fn close(&mut self) -> Vec<Waiting> {
        self.closed = true;
        self.waiting.drain(..).collect()
    }
}

#[cfg(test)]
mod tests;
