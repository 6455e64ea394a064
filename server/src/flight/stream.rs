//! Rows on their way to a client: made while it reads them, in messages of bounded size. Dropping the stream stops the
//! query.

use std::{pin::Pin, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use arrow_flight::{FlightData, encode::FlightDataEncoderBuilder, error::FlightError};
use futures::{Stream, StreamExt, stream};
use kalamdb_engine::{Error, RowStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    running::{Turn, cancelled},
    schema,
};
use crate::{
    call::TraceId,
    convert::{self, Pieces},
    errors,
    services::shutting_down,
};

/// Messages are kept below this size, but for a single row that is larger. Clients of tonic take no more than 4 MB unless
/// they are told to.
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Messages with rows.
pub(super) type DataStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// The rows of a query that a ticket began.
struct Sending {
    rows: RowStream,
    schema: SchemaRef,
    /// Rest of the last batch.
    pending: Pieces,
    _turn: Turn,
    cancelled: CancellationToken,
    stopping: CancellationToken,
    ended: bool,
}

impl Sending {
    async fn next(&mut self) -> Option<Result<RecordBatch, Error>> {
        if self.ended {
            return None;
        }
        let piece = self.piece().await;
        self.ended = !matches!(piece, Some(Ok(_)));
        piece
    }

    async fn piece(&mut self) -> Option<Result<RecordBatch, Error>> {
        loop {
            // Asked before each message, since one batch may have thousands of them.
            if self.cancelled.is_cancelled() {
                return Some(Err(cancelled()));
            }
            if self.stopping.is_cancelled() {
                return Some(Err(shutting_down()));
            }
            if let Some(piece) = self.pending.next() {
                return Some(piece.and_then(|piece| convert::to_plain(&piece, &self.schema)));
            }
            let batch = tokio::select! {
                biased;
                () = self.cancelled.cancelled() => return Some(Err(cancelled())),
                batch = self.rows.next() => batch,
                () = self.stopping.cancelled() => return Some(Err(shutting_down())),
            };
            match batch? {
                Ok(batch) => self.pending.begin(batch),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The rows of a query.
pub(super) fn of_query(rows: RowStream, turn: Turn, trace: TraceId, stopping: CancellationToken) -> DataStream {
    let schema = schema::sent(&rows.schema());
    let cancelled = turn.cancelled();
    let sending = Sending {
        rows,
        schema: Arc::clone(&schema),
        pending: Pieces::new(usize::MAX, MAX_MESSAGE_BYTES),
        _turn: turn,
        cancelled,
        stopping,
        ended: false,
    };
    let batches = stream::unfold(Box::new(sending), |mut sending| async move {
        let batch = sending.next().await?;
        Some((batch, sending))
    });
    // They are split already, by what they show; the encoder would split slices by the buffers that they share.
    encoded(schema, batches, usize::MAX, trace)
}

/// Rows that are there already, as they are: their types are those that Flight SQL prescribes.
pub(super) fn of_batch(batch: RecordBatch, trace: TraceId) -> DataStream {
    let schema = batch.schema();
    encoded(schema, stream::iter([Ok(batch)]), MAX_MESSAGE_BYTES, trace)
}

/// No rows, and no columns.
pub(super) fn of_nothing(trace: TraceId) -> DataStream {
    encoded(Arc::new(Schema::empty()), stream::empty(), MAX_MESSAGE_BYTES, trace)
}

fn encoded(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, Error>> + Send + 'static,
    max_message_bytes: usize,
    trace: TraceId,
) -> DataStream {
    let batches =
        batches.map(move |batch| batch.map_err(|error| FlightError::Tonic(Box::new(errors::to_status(&error, trace)))));
    let messages =
        FlightDataEncoderBuilder::new().with_schema(schema).with_max_flight_data_size(max_message_bytes).build(batches);
    Box::pin(messages.map(move |message| {
        message.map_err(|error| match error {
            FlightError::Tonic(status) => *status,
            other => errors::to_status(&Error::internal(other), trace),
        })
    }))
}
