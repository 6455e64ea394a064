//! The answer of `ExecuteStream`: statement after statement, message after message, each of bounded size and made
//! only when the client has room for it. Dropping it stops the statements.

use std::{collections::VecDeque, pin::Pin, time::Instant};

use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt, stream};
use kalamdb_engine::{Body, Error, Execution, RowStream, StatementOutput};
use kalamdb_proto::v1::{
    ExecuteStreamResponse, ResultFormat, Row, RowBatch, StatementFinished, StatementStarted,
    execute_stream_response::Event,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    query::{elapsed_ms, size_in_message},
    shutting_down,
};
use crate::{
    call::TraceId,
    convert::{self, Pieces},
    errors,
};

/// Messages are kept below this size, but for a single row that is larger.
pub(super) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Rows converted at once.
const ROWS_AT_ONCE: usize = 1_024;
/// Bytes converted at once: less than those of a message, which has more to say of each value.
const BYTES_AT_ONCE: usize = MAX_MESSAGE_BYTES / 16 * 15;

/// The stream of messages.
pub(crate) type ResultStream = Pin<Box<dyn Stream<Item = Result<ExecuteStreamResponse, Status>> + Send>>;

/// A batch of statements under way.
pub(super) struct StatementStream {
    execution: Execution,
    format: ResultFormat,
    trace: TraceId,
    stopping: CancellationToken,
    /// Messages made and not sent.
    ready: VecDeque<Event>,
    current: Option<CurrentStatement>,
    ended: bool,
}

/// A statement whose rows are being sent.
struct CurrentStatement {
    rows: RowStream,
    /// Schema of the messages, with [`ResultFormat::ArrowIpc`].
    ipc_schema: Option<SchemaRef>,
    /// Rest of the last batch.
    pending: Pieces,
    index: usize,
    row_count: u64,
    commit_seq: u64,
    started: Instant,
}

impl StatementStream {
    pub(super) fn new(execution: Execution, format: ResultFormat, trace: TraceId, stopping: CancellationToken) -> Self {
        Self { execution, format, trace, stopping, ready: VecDeque::new(), current: None, ended: false }
    }

    /// The messages.
    pub(super) fn into_results(self) -> ResultStream {
        Box::pin(stream::unfold(Box::new(self), |mut statements| async move {
            let event = statements.next().await?;
            Some((event, statements))
        }))
    }

    async fn next(&mut self) -> Option<Result<ExecuteStreamResponse, Status>> {
        if self.ended {
            return None;
        }
        let stopping = self.stopping.clone();
        let outcome = tokio::select! {
            biased;
            outcome = self.next_event() => outcome,
            () = stopping.cancelled() => Err(shutting_down()),
        };
        match outcome {
            Ok(Some(event)) => Some(Ok(ExecuteStreamResponse { event: Some(event) })),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                self.current = None;
                Some(Err(errors::to_status(&error, self.trace)))
            }
        }
    }

    async fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(current) = &mut self.current else {
                let started = Instant::now();
                match self.execution.next().await {
                    None => return Ok(None),
                    Some(output) => self.begin(output?, started)?,
                }
                continue;
            };
            let index = current.index;
            match current.next_messages().await.map_err(|error| error.in_statement(index))? {
                Some(messages) => self.ready.extend(messages.into_iter().map(Event::Rows)),
                None => {
                    let finished = StatementFinished {
                        row_count: current.row_count,
                        message: String::new(),
                        took_ms: elapsed_ms(current.started),
                        commit_seq: current.commit_seq,
                    };
                    self.current = None;
                    self.ready.push_back(Event::Finished(finished));
                }
            }
        }
    }

    fn begin(&mut self, output: StatementOutput, started: Instant) -> Result<(), Error> {
        let StatementOutput { index, body, commit_seq } = output;
        let commit_seq = commit_seq.map_or(0, |seq| seq.get());
        let statement_index = u32::try_from(index).unwrap_or(u32::MAX);
        match body {
            Body::Affected { row_count, message } => {
                let took_ms = elapsed_ms(started);
                self.ready.push_back(Event::Started(StatementStarted { statement_index, columns: Vec::new() }));
                self.ready.push_back(Event::Finished(StatementFinished { row_count, message, took_ms, commit_seq }));
            }
            Body::Rows(rows) => {
                let columns = convert::to_columns(rows.columns());
                let ipc_schema =
                    (self.format == ResultFormat::ArrowIpc).then(|| convert::without_views(&rows.schema()));
                self.ready.push_back(Event::Started(StatementStarted { statement_index, columns }));
                self.current = Some(CurrentStatement {
                    rows,
                    ipc_schema,
                    pending: pieces(self.format),
                    index,
                    row_count: 0,
                    commit_seq,
                    started,
                });
            }
        }
        Ok(())
    }
}

impl CurrentStatement {
    /// Messages with the next rows; `None` after the last.
    async fn next_messages(&mut self) -> Result<Option<Vec<RowBatch>>, Error> {
        let piece = loop {
            if let Some(piece) = self.pending.next() {
                break piece?;
            }
            match self.rows.next().await {
                None => return Ok(None),
                Some(batch) => self.pending.begin(batch?),
            }
        };
        let row_count = piece.num_rows() as u64;
        self.row_count += row_count;
        if let Some(schema) = &self.ipc_schema {
            let arrow_ipc = convert::to_ipc(&convert::to_plain(&piece, schema)?)?;
            return Ok(Some(vec![RowBatch { arrow_ipc, row_count, ..RowBatch::default() }]));
        }
        Ok(Some(into_messages(convert::to_rows(&piece, self.rows.columns())?, MAX_MESSAGE_BYTES)))
    }
}

/// Batches in pieces that are converted one at a time: what a client that stops reading makes the server hold is no more
/// than one of them, converted.
pub(super) fn pieces(format: ResultFormat) -> Pieces {
    let max_rows = if format == ResultFormat::ArrowIpc { usize::MAX } else { ROWS_AT_ONCE };
    Pieces::new(max_rows, BYTES_AT_ONCE)
}

/// Rows dealt out to messages of at most `max_bytes`, unless a single row has more.
pub(super) fn into_messages(rows: Vec<Row>, max_bytes: usize) -> Vec<RowBatch> {
    let mut messages: Vec<RowBatch> = Vec::new();
    let mut room = 0;
    let count = rows.len();
    for row in rows {
        let bytes = size_in_message(&row);
        match messages.last_mut() {
            Some(message) if bytes <= room => {
                room -= bytes;
                message.rows.push(row);
                message.row_count += 1;
            }
            _ => {
                room = max_bytes.saturating_sub(bytes);
                let mut message = RowBatch { row_count: 1, ..RowBatch::default() };
                message.rows.reserve(if messages.is_empty() { count } else { 1 });
                message.rows.push(row);
                messages.push(message);
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests;
