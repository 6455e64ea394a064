//! What a statement answers.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::Stream;
use kalamdb_store::ids::CommitSeq;
use tokio::{sync::mpsc, time::Sleep};

use crate::{
    error::{Error, Reason, Result},
    exec::runtime::Work,
    types::SqlType,
};

/// The answer of one statement.
#[derive(Debug)]
pub struct StatementOutput {
    /// Its index in the batch, from 0.
    pub index: usize,
    /// What it answers.
    pub body: Body,
    /// Of a write that changed something: the commit sequence at which it is visible.
    pub commit_seq: Option<CommitSeq>,
}

/// Rows, or a count.
#[derive(Debug)]
pub enum Body {
    /// Rows, as they are computed.
    Rows(RowStream),
    /// A statement without rows.
    Affected {
        /// Rows inserted, updated or deleted; 0 for DDL.
        row_count: u64,
        /// Short text for a person.
        message: String,
    },
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// Whether it can hold NULL.
    pub nullable: bool,
}

/// The rows of a statement. Dropping it stops the query.
#[derive(Debug)]
pub struct RowStream {
    columns: Arc<[ResultColumn]>,
    schema: SchemaRef,
    source: RowSource,
}

#[derive(Debug)]
enum RowSource {
    /// Rows that are there already, in one batch.
    Ready(Option<RecordBatch>),
    /// Rows that a plan on the query threads sends.
    Running {
        batches: mpsc::Receiver<Result<RecordBatch>>,
        _work: Work<()>,
        deadline: Option<Pin<Box<Sleep>>>,
    },
    Done,
}

impl RowStream {
    /// Rows that are there already.
    pub(crate) fn ready(columns: Arc<[ResultColumn]>, batch: RecordBatch) -> Self {
        Self { columns, schema: batch.schema(), source: RowSource::Ready(Some(batch)) }
    }

    /// Rows that `work` sends; it is stopped at `deadline`.
    pub(crate) fn running(
        columns: Arc<[ResultColumn]>,
        schema: SchemaRef,
        batches: mpsc::Receiver<Result<RecordBatch>>,
        work: Work<()>,
        deadline: Option<tokio::time::Instant>,
    ) -> Self {
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
        Self { columns, schema, source: RowSource::Running { batches, _work: work, deadline } }
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[ResultColumn] {
        &self.columns
    }

    /// The Arrow schema of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Stream for RowStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = match &mut self.source {
            RowSource::Ready(batch) => batch.take().map(Ok),
            RowSource::Running { batches, deadline, .. } => {
                // Looked at first: a stream that is always ready must end too.
                if deadline.as_mut().is_some_and(|d| d.as_mut().poll(cx).is_ready()) {
                    Some(Err(timed_out()))
                } else {
                    std::task::ready!(batches.poll_recv(cx))
                }
            }
            RowSource::Done => None,
        };
        if !matches!(item, Some(Ok(_))) {
            self.source = RowSource::Done;
        }
        Poll::Ready(item)
    }
}

/// The error of a statement that reached its time-out.
pub(crate) fn timed_out() -> Error {
    Error::new(
        Reason::StatementTimeout,
        "The statement was stopped at its time-out. Allow it more time, or make it read less.",
    )
}

/// The columns of a result with this schema.
pub(crate) fn result_columns(schema: &datafusion::arrow::datatypes::Schema) -> Arc<[ResultColumn]> {
    schema
        .fields()
        .iter()
        .map(|f| ResultColumn { name: f.name().clone(), sql_type: SqlType::from_field(f), nullable: f.is_nullable() })
        .collect()
}
