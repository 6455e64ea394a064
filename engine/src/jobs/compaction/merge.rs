//! Segments of one partition merged by key, batch by batch.

use datafusion::arrow::{
    array::RecordBatch,
    compute::{concat_batches, interleave_record_batch},
    error::ArrowError,
};

use super::source::{Run, Source};
use crate::{
    error::{Error, Reason},
    jobs::{fault::Fault, live::LiveJob},
};

/// From so many rows in a run on, runs are copied one by one and not row by row.
const LONG_RUN: usize = 64;

/// The live rows of several segments, in the order of their keys. No two of them have the same key.
pub(super) struct Merge {
    sources: Vec<Source>,
    batch_rows: usize,
}

impl Merge {
    pub(super) fn new(sources: Vec<Source>, batch_rows: usize) -> Self {
        Self { sources, batch_rows }
    }

    /// The next rows; none when there are no more.
    pub(super) async fn next(&mut self, job: &LiveJob) -> Result<Option<RecordBatch>, Fault> {
        let mut runs: Vec<Run> = Vec::new();
        let mut before: Vec<u8> = Vec::new();
        let mut rows = 0;
        while rows < self.batch_rows {
            let Some(least) = self.least(None) else { break };
            if !self.sources[least].is_ready() {
                self.sources[least].read(job).await?;
                continue;
            }
            // Of an unread source only a bound is known, which may be this very key.
            let other = self.least(Some(least)).and_then(|other| self.sources[other].next_key());
            before.clear();
            before.extend_from_slice(other.unwrap_or_default());
            let before = other.is_some().then_some(before.as_slice());
            let run = self.sources[least].take(before, self.batch_rows - rows);
            match run.filter(|run| run.len > 0) {
                Some(run) => {
                    rows += run.len;
                    runs.push(run);
                }
                None => return Err(same_key_twice()),
            }
        }
        if runs.is_empty() {
            return Ok(None);
        }
        let batch = job.busy(|| joined(&runs, rows));
        batch.map(Some).map_err(|error| Fault::engine("merge segments", &Error::internal(error)))
    }

    /// About how many bytes of rows are held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.sources.iter().map(Source::memory_bytes).sum()
    }

    /// The source with the least next key, without one of them; of equal ones one that must be read first.
    fn least(&self, without: Option<usize>) -> Option<usize> {
        let sources = self.sources.iter().enumerate().filter(|(index, _)| Some(*index) != without);
        let next = sources.filter_map(|(index, source)| Some((source.next_key()?, source.is_ready(), index)));
        next.min().map(|(_, _, index)| index)
    }
}

/// The rows of some runs, of which there is at least one.
fn joined(runs: &[Run], rows: usize) -> Result<RecordBatch, ArrowError> {
    let schema = match runs {
        [run] => return Ok(run.batch.slice(run.start, run.len)),
        [first, ..] => first.batch.schema(),
        [] => return Err(ArrowError::InvalidArgumentError("no rows to join".to_owned())),
    };
    if rows / runs.len() >= LONG_RUN {
        let slices: Vec<RecordBatch> = runs.iter().map(|run| run.batch.slice(run.start, run.len)).collect();
        return concat_batches(&schema, &slices);
    }
    // Runs of the same source mostly share their batch; each batch is named once.
    let mut batches: Vec<&RecordBatch> = Vec::new();
    let mut indices = Vec::with_capacity(rows);
    for run in runs {
        let same = |batch: &&RecordBatch| same_rows(batch, &run.batch);
        let at = batches.iter().position(same).unwrap_or_else(|| {
            batches.push(&run.batch);
            batches.len() - 1
        });
        indices.extend((run.start..run.start + run.len).map(|row| (at, row)));
    }
    interleave_record_batch(&batches, &indices)
}

/// Whether two batches are clones of one.
fn same_rows(a: &RecordBatch, b: &RecordBatch) -> bool {
    match (a.columns().first(), b.columns().first()) {
        (Some(a), Some(b)) => std::sync::Arc::ptr_eq(a, b),
        _ => false,
    }
}

fn same_key_twice() -> Fault {
    let error = Error::new(Reason::Corruption, "Stored data is damaged; restore it from a backup.")
        .with_detail("two segments of a partition have a live row with the same key");
    Fault::engine("merge segments", &error)
}
