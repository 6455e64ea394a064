//! Hot rows of a backup to the hot tier.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::{
    array::{ArrayRef, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use kalamdb_store::{
    commit::{CommitError, PreparedCommit, RestoredRow},
    ids::{CommitSeq, Owner, Partition, UserId},
    segment::{RowsFileReader, restore_column},
};
use tokio::task::JoinHandle;

use super::{
    copy::{lost, reached},
    format::FileLine,
    place::Place,
};
use crate::{
    catalog::Table,
    engine::Shared,
    error::{Error, Result},
    exec::{encode_whole_rows, from_commit},
    jobs::{core::Core, hooks::JobStep, live::LiveJob, segment::BATCH_ROWS},
    sql::TableKind,
};

/// Bytes of rows in a commit.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// Writes the rows of a file; how many. While some are committed, the next ones are decoded.
#[allow(clippy::too_many_arguments, reason = "the parts of a restore, and a file")]
pub(super) async fn restore_rows(
    shared: &Arc<Shared>,
    core: &Arc<Core>,
    job: &Arc<LiveJob>,
    table: &Arc<Table>,
    place: &Place,
    line: &FileLine,
    bytes: Bytes,
    last: CommitSeq,
) -> Result<u64> {
    let damaged = |why: &dyn std::fmt::Display| place.damaged(&line.path, why);
    let reader = RowsFileReader::open(&line.path, bytes, BATCH_ROWS).map_err(|error| damaged(&error))?;
    if reader.row_count() != line.rows {
        return Err(damaged(&format_args!("it has {} rows, not {}", reader.row_count(), line.rows)));
    }
    let mut commits = Commits { shared, core, rows: Vec::new(), bytes: 0, under_way: None };
    let mut count = 0;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(&error))?;
        let rows = job.busy(|| rows_of(table, &batch, last)).map_err(|why| match why {
            Unfit::Shape(why) => damaged(&why),
            Unfit::Error(error) => error,
        });
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                commits.settle().await;
                return Err(error);
            }
        };
        count += rows.len() as u64;
        for row in rows {
            commits.push(row).await?;
        }
        tokio::task::yield_now().await;
    }
    commits.finish().await?;
    Ok(count)
}

/// Why a batch has no rows of a table.
enum Unfit {
    Shape(&'static str),
    Error(Error),
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Unfit::Error(error)
    }
}

/// The rows of a batch, as they were when they were hot.
fn rows_of(table: &Table, batch: &RecordBatch, last: CommitSeq) -> Result<Vec<RestoredRow>, Unfit> {
    let own = table.columns().len();
    let with_owner = table.kind() != TableKind::Shared;
    if batch.num_columns() != own + 2 + usize::from(with_owner) {
        return Err(Unfit::Shape("it does not have the columns of its table"));
    }
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(own);
    for (column, values) in table.columns().iter().zip(batch.columns()) {
        let restored = restore_column(values, &column.data_type);
        columns.push(restored.map_err(|_| Unfit::Shape("its columns do not have the types of its table"))?);
    }
    let shape = Unfit::Shape("it does not say when its rows were written");
    let seqs = batch.column(own).as_primitive_opt::<Int64Type>();
    let times = batch.column(own + 1).as_primitive_opt::<TimestampMicrosecondType>();
    let (Some(seqs), Some(times)) = (seqs, times) else { return Err(shape) };
    let owners = match batch.columns().get(own + 2).filter(|_| with_owner) {
        Some(owners) => Some(owners.as_string_view_opt().ok_or(Unfit::Shape("it does not say whose its rows are"))?),
        None => None,
    };
    let (keys, rows) = encode_whole_rows(table, &columns, batch.num_rows(), usize::MAX)?;
    let mut owner: Option<(String, Owner)> = None;
    let mut restored = Vec::with_capacity(rows.len());
    for (at, (key, mut row)) in keys.into_iter().zip(rows).enumerate() {
        let seq = u64::try_from(seqs.value(at)).ok().map(CommitSeq::new).filter(|seq| *seq <= last);
        let seq = seq.ok_or(Unfit::Shape("it has a commit that the backup has not"))?;
        row.stamp(seq, times.value(at));
        let of_row = match owners {
            None => Owner::Shared,
            Some(owners) => match &owner {
                Some((text, owner)) if text == owners.value(at) => owner.clone(),
                _ => {
                    let text = owners.value(at);
                    let user = UserId::new(text).map_err(|_| Unfit::Shape("it has an owner that nobody can be"))?;
                    let found = Owner::User(user);
                    owner = Some((text.to_owned(), found.clone()));
                    found
                }
            },
        };
        restored.push(RestoredRow { partition: Partition { table: table.id(), owner: of_row }, key, row });
    }
    Ok(restored)
}

/// Rows on their way to the committer.
struct Commits<'a> {
    shared: &'a Arc<Shared>,
    core: &'a Arc<Core>,
    rows: Vec<RestoredRow>,
    bytes: usize,
    under_way: Option<JoinHandle<Result<(), CommitError>>>,
}

impl Commits<'_> {
    async fn push(&mut self, row: RestoredRow) -> Result<()> {
        self.bytes += row.byte_size();
        self.rows.push(row);
        let most = COMMIT_BYTES.min(self.shared.settings.max_write_bytes);
        if self.bytes >= most { self.commit().await } else { Ok(()) }
    }

    async fn commit(&mut self) -> Result<()> {
        self.arrived().await?;
        if self.rows.is_empty() {
            return Ok(());
        }
        reached(self.core, JobStep::BeforeUpload)?;
        self.bytes = 0;
        let restored = std::mem::take(&mut self.rows);
        let commit_time_us = self.shared.env.now_us();
        let commit = PreparedCommit { commit_time_us, restored, ..PreparedCommit::default() };
        let committer = self.shared.committer.clone();
        let committing = self.core.threads.spawn(async move { committer.commit(commit).await.map(|_| ()) });
        self.under_way = Some(committing);
        Ok(())
    }

    async fn arrived(&mut self) -> Result<()> {
        match self.under_way.take() {
            Some(commit) => commit.await.map_err(|error| lost(&error))?.map_err(from_commit),
            None => Ok(()),
        }
    }

    async fn finish(mut self) -> Result<()> {
        self.commit().await?;
        self.arrived().await
    }

    /// Waits for what is under way, whatever becomes of it.
    async fn settle(&mut self) {
        // What comes of it is removed with all else.
        let _ = self.arrived().await;
    }
}
