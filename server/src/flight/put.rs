//! What clients send with `DoPut`, decoded message by message.

use std::pin::Pin;

use arrow::{array::RecordBatch, datatypes::SchemaRef, ipc};
use arrow_flight::{FlightData, FlightDescriptor, decode::FlightRecordBatchStream, error::FlightError};
use futures::{Stream, StreamExt, stream};
use kalamdb_engine::{Error, Reason};
use tonic::{Code, Status, Streaming};

/// Record batches from a client, as they come. An error is the last item.
pub(super) type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, Error>> + Send>>;

/// What one call of `DoPut` sends.
pub(super) struct Upload {
    /// What the rows are for.
    pub(super) descriptor: FlightDescriptor,
    messages: Messages,
}

/// Messages with data, in the form that arrow-flight's decoder takes.
type Messages = Pin<Box<dyn Stream<Item = Result<FlightData, FlightError>> + Send>>;

/// The rows of an upload.
pub(super) struct Rows {
    /// Of all batches.
    pub(super) schema: SchemaRef,
    /// The rows.
    pub(super) batches: BatchStream,
}

impl Upload {
    /// Reads the first message.
    ///
    /// # Errors
    /// INVALID_REQUEST when it has no descriptor, and what [`transport_error`] says.
    pub(super) async fn begin(mut stream: Streaming<FlightData>, max_message_bytes: usize) -> Result<Self, Error> {
        let first = match stream.next().await {
            Some(first) => first.map_err(|status| transport_error(&status, max_message_bytes))?,
            None => {
                return Err(invalid("DoPut was called without a message; the first one says what the rows are for."));
            }
        };
        let Some(descriptor) = first.flight_descriptor.clone() else {
            return Err(invalid(
                "The first message of DoPut has no flight_descriptor, which says what the rows are for.",
            ));
        };
        let rest = stream.map(move |message| {
            let message = message.map_err(|status| transport_error(&status, max_message_bytes)).map_err(carried)?;
            check(&message, max_message_bytes).map_err(carried)?;
            Ok(message)
        });
        check(&first, max_message_bytes)?;
        // A message may have a descriptor, or metadata, and no data.
        let has_data = |message: &Result<FlightData, FlightError>| {
            futures::future::ready(message.as_ref().map_or(true, |message| !message.data_header.is_empty()))
        };
        let messages = stream::once(futures::future::ready(Ok(first))).chain(rest).filter(has_data);
        Ok(Self { descriptor, messages: Box::pin(messages) })
    }

    /// The rows; `None`: there is not even a schema.
    ///
    /// # Errors
    /// INVALID_REQUEST for what is no Arrow IPC, and those of the connection.
    pub(super) async fn rows(self) -> Result<Option<Rows>, Error> {
        let mut decoder = FlightRecordBatchStream::new_from_flight_data(self.messages);
        // The schema is known when the first batch is, or when there is none.
        let first = decoder.next().await.transpose().map_err(decoding_error)?;
        let Some(schema) = decoder.schema().cloned() else { return Ok(None) };
        let rest = decoder.map(|batch| batch.map_err(decoding_error));
        let batches = stream::iter(first.map(Ok)).chain(rest);
        Ok(Some(Rows { schema, batches: Box::pin(batches) }))
    }
}

/// Refuses what would make the decoder allocate more than the message has.
fn check(message: &FlightData, max_message_bytes: usize) -> Result<(), Error> {
    if message.data_header.is_empty() {
        return Ok(());
    }
    let header = ipc::root_as_message(&message.data_header)
        .map_err(|error| invalid(format!("A message of DoPut is not Arrow IPC: {error}.")))?;
    let batch = match header.header_type() {
        ipc::MessageHeader::RecordBatch => header.header_as_record_batch(),
        ipc::MessageHeader::DictionaryBatch => header.header_as_dictionary_batch().and_then(|batch| batch.data()),
        _ => None,
    };
    let Some(batch) = batch else { return Ok(()) };
    // A compressed buffer says by itself how large it will be.
    if batch.compression().is_some() {
        let message = "Record batches with compressed buffers are not supported by DoPut. Send them uncompressed.";
        return Err(Error::new(Reason::NotSupported, message));
    }
    // A column of nulls takes no bytes for any number of rows.
    if usize::try_from(batch.length()).map_or(true, |rows| rows > max_message_bytes) {
        let message = format!(
            "A record batch has {} rows, more than flight.max_message_bytes, which is {max_message_bytes}. Send smaller \
             batches.",
            batch.length()
        );
        return Err(Error::new(Reason::InvalidRequest, message).with("limit", "flight.max_message_bytes"));
    }
    Ok(())
}

/// The error for a message that did not come.
fn transport_error(status: &Status, max_message_bytes: usize) -> Error {
    match status.code() {
        Code::OutOfRange => {
            let message = format!(
                "A message of DoPut is larger than flight.max_message_bytes, which is {max_message_bytes}. Send smaller \
                 record batches, or raise the limit."
            );
            Error::new(Reason::StatementTooLarge, message).with("limit", "flight.max_message_bytes")
        }
        Code::Internal | Code::InvalidArgument | Code::Unimplemented => {
            invalid(format!("A message of DoPut cannot be read: {}", status.message()))
        }
        _ => Error::new(Reason::StatementCancelled, "The client went away before it had sent everything."),
    }
}

/// An error of ours on its way through arrow-flight's decoder.
fn carried(error: Error) -> FlightError {
    FlightError::ExternalError(Box::new(error))
}

fn decoding_error(error: FlightError) -> Error {
    match error {
        FlightError::ExternalError(error) => match error.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => invalid(format!("The rows cannot be read: {other}.")),
        },
        other => invalid(format!("The rows cannot be read as Arrow IPC: {other}.")),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Reason::InvalidRequest, message)
}
