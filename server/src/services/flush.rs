//! `FlushService`: jobs of the engine, and what happens in them as streams.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, future, stream};
use kalamdb_engine::{Engine, Error, ErrorKind, JobHandle, JobNews, JobRecord, JobStatus, Reason};
use kalamdb_proto::v1::{
    AllTablesFlushed, FlushAllTablesRequest, FlushAllTablesResponse, FlushStarted, FlushTableRequest,
    FlushTableResponse, PartitionFailed, PartitionFlushed, flush_all_tables_response::Event as AllEvent,
    flush_service_server::FlushService, flush_table_response::Event as TableEvent,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{shutting_down, split};
use crate::{
    call::{CallContext, TraceId},
    convert, errors,
};

/// Tables whose jobs one call has asked for and not yet seen ended.
const TABLES_AT_ONCE: usize = 100;

pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Flushes tables.
pub(crate) struct FlushApi {
    engine: Arc<Engine>,
    /// Ends calls that outlive the server's grace.
    stopping: CancellationToken,
}

impl FlushApi {
    pub(crate) fn new(engine: Arc<Engine>, stopping: CancellationToken) -> Self {
        Self { engine, stopping }
    }

    /// The answers of a call, as long as it may take.
    fn bounded<T: Send + 'static>(
        &self,
        context: &CallContext,
        answers: impl Stream<Item = Result<T, Error>> + Send + 'static,
    ) -> Response<Answers<T>> {
        let ends = end_of_call(context.timeout, self.stopping.clone());
        Response::new(until(answers, ends, context.trace))
    }
}

#[tonic::async_trait]
impl FlushService for FlushApi {
    type FlushTableStream = Answers<FlushTableResponse>;

    async fn flush_table(
        &self,
        request: Request<FlushTableRequest>,
    ) -> Result<Response<Self::FlushTableStream>, Status> {
        let (context, request) = split(request)?;
        let FlushTableRequest { namespace, table, force, wait } = request;
        let session = self.engine.session(context.caller.clone());
        let job = session.flush_table(&namespace, &table, force);
        let job = job.map_err(|error| errors::to_status(&error, context.trace))?;
        let table = Table { namespace, name: table };
        let answers = happenings(table, job, wait.unwrap_or(true)).map(|happening| {
            let event = match happening {
                Happening::Started(started) => TableEvent::Started(started),
                Happening::Flushed(partition) => TableEvent::PartitionFlushed(partition),
                Happening::Failed(partition) => TableEvent::PartitionFailed(partition),
                Happening::Ended(record) => TableEvent::Finished(convert::to_flush_finished(*record)),
            };
            Ok(FlushTableResponse { event: Some(event) })
        });
        Ok(self.bounded(&context, answers))
    }

    type FlushAllTablesStream = Answers<FlushAllTablesResponse>;

    async fn flush_all_tables(
        &self,
        request: Request<FlushAllTablesRequest>,
    ) -> Result<Response<Self::FlushAllTablesStream>, Status> {
        let (context, request) = split(request)?;
        let FlushAllTablesRequest { namespace, force, wait } = request;
        let wait = wait.unwrap_or(true);
        let session = self.engine.session(context.caller.clone());
        let tables = session.flushable_tables((!namespace.is_empty()).then_some(namespace.as_str()));
        let tables = tables.map_err(|error| errors::to_status(&error, context.trace))?;
        let happenings = stream::iter(tables)
            .map(move |(namespace, name)| {
                match session.flush_table(&namespace, &name, force) {
                    Ok(job) => happenings(Table { namespace, name }, job, wait).map(Ok).boxed(),
                    // Dropped meanwhile: nothing is left to flush.
                    Err(error) if error.kind() == ErrorKind::NotFound => stream::empty().boxed(),
                    Err(error) => stream::iter([Err(error)]).boxed(),
                }
            })
            .flatten_unordered(TABLES_AT_ONCE);
        let end = stream::iter(wait.then_some(None));
        let mut all = AllTablesFlushed::default();
        let answers = happenings.map(Some).chain(end).map(move |happening| {
            let event = match happening.transpose()? {
                Some(Happening::Started(started)) => AllEvent::Started(started),
                Some(Happening::Flushed(partition)) => AllEvent::PartitionFlushed(partition),
                Some(Happening::Failed(partition)) => AllEvent::PartitionFailed(partition),
                Some(Happening::Ended(record)) => {
                    count(&mut all, &record);
                    AllEvent::Finished(convert::to_flush_finished(*record))
                }
                None => AllEvent::AllFinished(all),
            };
            Ok(FlushAllTablesResponse { event: Some(event) })
        });
        Ok(self.bounded(&context, answers))
    }
}

/// A table that is flushed.
struct Table {
    namespace: String,
    name: String,
}

/// What the flush of a table tells.
enum Happening {
    Started(FlushStarted),
    Flushed(PartitionFlushed),
    Failed(PartitionFailed),
    Ended(Box<JobRecord>),
}

/// What happens in the flush of a table, to its end if the caller wants to wait for it.
fn happenings(table: Table, job: JobHandle, wait: bool) -> impl Stream<Item = Happening> + Send {
    let id = job.id();
    let Table { namespace, name } = table;
    let started = Happening::Started(FlushStarted { job_id: id.to_string(), namespace, table: name });
    let rest = stream::unfold(wait.then_some(job), |job| async move {
        let mut job = job?;
        let news = job.next().await?;
        Some((news, Some(job)))
    });
    let rest = rest.map(move |news| match news {
        JobNews::PartitionDone(partition) => Happening::Flushed(convert::to_partition_flushed(id, partition)),
        JobNews::PartitionFailed(partition) => Happening::Failed(convert::to_partition_failed(id, partition)),
        JobNews::Ended(record) => Happening::Ended(record),
    });
    stream::iter([started]).chain(rest)
}

fn count(all: &mut AllTablesFlushed, record: &JobRecord) {
    match record.status {
        JobStatus::Completed => all.tables += 1,
        // The table was dropped meanwhile: nothing is left to flush.
        JobStatus::Cancelled => {}
        JobStatus::Failed | JobStatus::Interrupted | JobStatus::Queued | JobStatus::Running => all.tables_failed += 1,
    }
    all.rows += record.progress.rows;
    all.bytes += record.progress.bytes;
    all.segments += record.progress.segments;
}

/// Completes when a call must not go on, with the reason.
pub(super) async fn end_of_call(timeout: Option<Duration>, stopping: CancellationToken) -> Error {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let late = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        () = late => {
            Error::new(Reason::StatementTimeout, "The call was stopped at its deadline. The job itself goes on.")
        }
        () = stopping.cancelled() => shutting_down(),
    }
}

/// The answers until the first error, or until `ends`, whose error is then the last.
pub(super) fn until<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Error>> + Send + 'static,
    ends: impl Future<Output = Error> + Send + 'static,
    trace: TraceId,
) -> Answers<T> {
    let state = Some((Box::pin(answers), Box::pin(ends)));
    Box::pin(stream::unfold(state, move |state| async move {
        let (mut answers, mut ends) = state?;
        tokio::select! {
            biased;
            error = &mut ends => Some((Err(errors::to_status(&error, trace)), None)),
            answer = answers.next() => match answer? {
                Ok(answer) => Some((Ok(answer), Some((answers, ends)))),
                Err(error) => Some((Err(errors::to_status(&error, trace)), None)),
            },
        }
    }))
}

#[cfg(test)]
mod tests;
