//! `QueryService`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use kalamdb_engine::{Body, Engine, Error, Execution, Reason, RowStream, StatementOutput};
use kalamdb_proto::v1::{
    Affected, ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ResultFormat, Row, Rows, StatementResult, Value,
    query_service_server::QueryService, statement_result,
};
use prost::{Message, length_delimiter_len};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    shutting_down, split,
    stream::{ResultStream, StatementStream, pieces},
};
use crate::{
    call::CallContext,
    convert::{self, IpcStream},
    errors,
    limits::{ResultBudget, ResultLimits},
};

/// Runs SQL.
pub(crate) struct QueryApi {
    engine: Arc<Engine>,
    limits: ResultLimits,
    /// Ends calls that outlive the server's grace.
    stopping: CancellationToken,
}

impl QueryApi {
    pub(crate) fn new(engine: Arc<Engine>, limits: ResultLimits, stopping: CancellationToken) -> Self {
        Self { engine, limits, stopping }
    }

    /// Begins to run a batch; nothing has run when this returns.
    fn start(&self, context: &CallContext, batch: Batch) -> Result<(Execution, ResultFormat), Error> {
        let format = ResultFormat::try_from(batch.format).map_err(|_| {
            Error::new(Reason::InvalidRequest, format!("format {} is not a ResultFormat.", batch.format))
        })?;
        let request = kalamdb_engine::Request {
            sql: batch.sql,
            parameters: convert::to_parameters(batch.parameters)?,
            namespace: (!batch.namespace.is_empty()).then_some(batch.namespace),
            timeout: shorter(context.timeout, requested_timeout(batch.timeout)?),
            min_commit_seq: batch.min_commit_seq,
        };
        Ok((self.engine.session(context.caller.clone()).execute(request), format))
    }

    async fn run(&self, context: &CallContext, batch: Batch) -> Result<ExecuteResponse, Error> {
        let (mut execution, format) = self.start(context, batch)?;
        let mut budget = ResultBudget::new(self.limits);
        let mut results = Vec::with_capacity(1);
        loop {
            let started = Instant::now();
            let Some(output) = execution.next().await else { return Ok(ExecuteResponse { results }) };
            results.push(answer(output?, format, &mut budget, started).await?);
        }
    }
}

#[tonic::async_trait]
impl QueryService for QueryApi {
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        let (context, request) = split(request)?;
        let outcome = tokio::select! {
            // A call that needs no waiting never looks at the token, which has a lock inside.
            biased;
            outcome = self.run(&context, request.into()) => outcome,
            () = self.stopping.cancelled() => Err(shutting_down()),
        };
        outcome.map(Response::new).map_err(|error| errors::to_status(&error, context.trace))
    }

    type ExecuteStreamStream = ResultStream;

    async fn execute_stream(
        &self,
        request: Request<ExecuteStreamRequest>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        let (context, request) = split(request)?;
        let (execution, format) =
            self.start(&context, request.into()).map_err(|error| errors::to_status(&error, context.trace))?;
        let stream = StatementStream::new(execution, format, context.trace, self.stopping.clone());
        Ok(Response::new(stream.into_results()))
    }
}

/// What both calls ask.
struct Batch {
    sql: String,
    parameters: Vec<Value>,
    namespace: String,
    timeout: Option<pbjson_types::Duration>,
    format: i32,
    min_commit_seq: u64,
}

impl From<ExecuteRequest> for Batch {
    fn from(request: ExecuteRequest) -> Self {
        let ExecuteRequest { sql, parameters, namespace, timeout, format, min_commit_seq } = request;
        Self { sql, parameters, namespace, timeout, format, min_commit_seq }
    }
}

impl From<ExecuteStreamRequest> for Batch {
    fn from(request: ExecuteStreamRequest) -> Self {
        let ExecuteStreamRequest { sql, parameters, namespace, timeout, format, min_commit_seq } = request;
        Self { sql, parameters, namespace, timeout, format, min_commit_seq }
    }
}

async fn answer(
    output: StatementOutput,
    format: ResultFormat,
    budget: &mut ResultBudget,
    started: Instant,
) -> Result<StatementResult, Error> {
    let index = output.index;
    let result = match output.body {
        Body::Affected { row_count, message } => statement_result::Result::Affected(Affected { row_count, message }),
        Body::Rows(stream) => {
            let rows = collect(stream, format, budget).await.map_err(|error| error.in_statement(index))?;
            statement_result::Result::Rows(rows)
        }
    };
    Ok(StatementResult {
        result: Some(result),
        took_ms: elapsed_ms(started),
        commit_seq: output.commit_seq.map_or(0, |seq| seq.get()),
    })
}

async fn collect(mut stream: RowStream, format: ResultFormat, budget: &mut ResultBudget) -> Result<Rows, Error> {
    let mut rows = Rows { columns: convert::to_columns(stream.columns()), ..Rows::default() };
    // A batch may show far more than it holds, and than there is room for: what is converted is counted piece by piece.
    let mut pieces = pieces(format);
    if format == ResultFormat::ArrowIpc {
        let mut ipc = IpcStream::new(&stream.schema())?;
        let mut written = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            budget.take_rows(batch.num_rows())?;
            rows.row_count += batch.num_rows() as u64;
            pieces.begin(batch);
            for piece in &mut pieces {
                ipc.write(&piece?)?;
                budget.take_bytes(ipc.len() - written)?;
                written = ipc.len();
            }
        }
        rows.arrow_ipc = ipc.finish()?;
        return Ok(rows);
    }
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        budget.take_rows(batch.num_rows())?;
        rows.row_count += batch.num_rows() as u64;
        pieces.begin(batch);
        for piece in &mut pieces {
            let converted = convert::to_rows(&piece?, stream.columns())?;
            budget.take_bytes(converted.iter().map(size_in_message).sum())?;
            if rows.rows.is_empty() {
                rows.rows = converted;
            } else {
                rows.rows.extend(converted);
            }
        }
    }
    Ok(rows)
}

/// Bytes that a row takes in its message, with its tag and length.
pub(super) fn size_in_message(row: &Row) -> usize {
    let bytes = row.encoded_len();
    bytes + 1 + length_delimiter_len(bytes)
}

/// Milliseconds since `started`, with fractions.
pub(super) fn elapsed_ms(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1_000.0
}

pub(super) fn requested_timeout(timeout: Option<pbjson_types::Duration>) -> Result<Option<Duration>, Error> {
    let Some(timeout) = timeout else { return Ok(None) };
    match Duration::try_from(timeout) {
        Ok(timeout) if !timeout.is_zero() => Ok(Some(timeout)),
        _ => Err(Error::new(Reason::InvalidRequest, "timeout must be more than zero.").with("field", "timeout")),
    }
}

pub(super) fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;
