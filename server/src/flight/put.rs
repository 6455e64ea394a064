//! What clients send with `DoPut`, decoded message by message.

use std::{any::Any, collections::HashMap, panic::AssertUnwindSafe, pin::Pin};

use arrow::{array::RecordBatch, datatypes::SchemaRef, ipc};
use arrow_flight::{FlightData, FlightDescriptor, decode::FlightRecordBatchStream, error::FlightError};
use futures::{Stream, StreamExt, stream};
use kalamdb_engine::{Error, Reason};
use tonic::{Code, Status, Streaming};

/// Of values that take no bytes, a column of a message may always have so many.
const FEW_VALUES: usize = 1024 * 1024;

/// About the bytes that a field of a schema, or a pair of its metadata, takes in memory beside its texts.
const FIELD_BYTES: usize = 256;

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
    pub(super) async fn begin(stream: Streaming<FlightData>, max_message_bytes: usize) -> Result<Self, Error> {
        let messages = stream.map(move |message| message.map_err(|status| transport_error(&status, max_message_bytes)));
        Self::of(messages, max_message_bytes).await
    }

    async fn of<S>(stream: S, max_message_bytes: usize) -> Result<Self, Error>
    where
        S: Stream<Item = Result<FlightData, Error>> + Send + 'static,
    {
        let mut stream = Box::pin(stream);
        let Some(first) = stream.next().await.transpose()? else {
            return Err(invalid("DoPut was called without a message; the first one says what the rows are for."));
        };
        let Some(descriptor) = first.flight_descriptor.clone() else {
            return Err(invalid(
                "The first message of DoPut has no flight_descriptor, which says what the rows are for.",
            ));
        };
        let mut vetting = Vetting { max_message_bytes, dictionaries: HashMap::new() };
        vetting.check(&first)?;
        let rest = stream.map(move |message| -> Result<FlightData, FlightError> {
            let message = message.map_err(carried)?;
            vetting.check(&message).map_err(carried)?;
            Ok(message)
        });
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
        let decoder = FlightRecordBatchStream::new_from_flight_data(self.messages);
        // Some of what a message must have to fit the schema the decoder asserts. After a panic it answers nothing more.
        let mut decoder = AssertUnwindSafe(decoder).catch_unwind();
        // The schema is known when the first batch is, or when there is none.
        let first = decoder.next().await.map(decoded).transpose()?;
        let Some(schema) = decoder.get_ref().schema().cloned() else { return Ok(None) };
        let batches = stream::iter(first.map(Ok)).chain(decoder.map(decoded));
        Ok(Some(Rows { schema, batches: Box::pin(batches) }))
    }
}

/// Looks at messages before they are decoded: at what would make the decoder allocate more than they have, or read what is
/// not there.
struct Vetting {
    max_message_bytes: usize,
    /// The size of each dictionary that the decoder keeps, by its id.
    dictionaries: HashMap<i64, usize>,
}

impl Vetting {
    fn check(&mut self, message: &FlightData) -> Result<(), Error> {
        if message.data_header.is_empty() {
            return Ok(());
        }
        let header = ipc::root_as_message(&message.data_header)
            .map_err(|error| invalid(format!("A message of DoPut is not Arrow IPC: {error}.")))?;
        let body_bytes = message.data_body.len();
        if let Some(schema) = header.header_as_schema() {
            self.check_schema(schema)
        } else if let Some(batch) = header.header_as_record_batch() {
            self.check_batch(batch, body_bytes).map(drop)
        } else if let Some(dictionary) = header.header_as_dictionary_batch() {
            self.check_dictionary(dictionary, body_bytes)
        } else {
            // The decoder knows no others.
            Ok(())
        }
    }

    /// The parts of a schema can be shared, so that a short message says a large one.
    fn check_schema(&self, schema: ipc::Schema<'_>) -> Result<(), Error> {
        let fields = schema.fields().into_iter().flatten().map(field_bytes).fold(0, usize::saturating_add);
        let metadata = schema.custom_metadata().into_iter().flatten().map(pair_bytes);
        if metadata.fold(fields, usize::saturating_add) <= self.max_message_bytes {
            return Ok(());
        }
        Err(self.too_large("The schema of the rows is larger in memory", "Send fewer columns."))
    }

    /// Answers the number of rows.
    fn check_batch(&self, batch: ipc::RecordBatch<'_>, body_bytes: usize) -> Result<usize, Error> {
        // A compressed buffer says by itself how large it will be.
        if batch.compression().is_some() {
            let message = "Record batches with compressed buffers are not supported by DoPut. Send them uncompressed.";
            return Err(Error::new(Reason::NotSupported, message));
        }
        // A column of NULLs takes no bytes for any number of rows, nor do the elements of lists of such. Each other value has
        // at least a bit.
        let most = body_bytes.saturating_mul(8).max(FEW_VALUES).min(self.max_message_bytes);
        let count = |length: i64| {
            usize::try_from(length).ok().filter(|length| *length <= most).ok_or_else(|| {
                invalid(format!(
                    "A record batch of {body_bytes} bytes says that a column has {length} values, more than {most}. Send smaller \
                     batches, or NULLs with the type of their column."
                ))
            })
        };
        let rows = count(batch.length())?;
        for node in batch.nodes().into_iter().flatten() {
            count(node.length())?;
            if node.null_count() > node.length() {
                return Err(invalid("A record batch has a column with more NULLs than values."));
            }
        }
        check_buffers(batch, body_bytes)?;
        Ok(rows)
    }

    fn check_dictionary(&mut self, dictionary: ipc::DictionaryBatch<'_>, body_bytes: usize) -> Result<(), Error> {
        let Some(values) = dictionary.data() else { return Err(invalid("A dictionary of DoPut has no values.")) };
        let bytes = self.check_batch(values, body_bytes)?.max(body_bytes);
        let kept = self.dictionaries.entry(dictionary.id()).or_default();
        *kept = if dictionary.isDelta() { kept.saturating_add(bytes) } else { bytes };
        let together = self.dictionaries.values().copied().fold(0, usize::saturating_add);
        if together <= self.max_message_bytes {
            return Ok(());
        }
        Err(self.too_large("The dictionaries of the rows are larger together", "Send columns without dictionaries."))
    }

    fn too_large(&self, what: &str, advice: &str) -> Error {
        let message = format!("{what} than flight.max_message_bytes, which is {}. {advice}", self.max_message_bytes);
        Error::new(Reason::StatementTooLarge, message).with("limit", "flight.max_message_bytes")
    }
}

/// Checks that the buffers of a batch are parts of the body, and no part of it is in two.
fn check_buffers(batch: ipc::RecordBatch<'_>, body_bytes: usize) -> Result<(), Error> {
    let mut left = body_bytes;
    let mut count = 0;
    for buffer in batch.buffers().into_iter().flatten() {
        let start = usize::try_from(buffer.offset()).ok();
        let length = usize::try_from(buffer.length()).ok().filter(|length| *length <= left);
        let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
        let (Some(length), Some(_)) = (length, end.filter(|end| *end <= body_bytes)) else {
            return Err(invalid(format!(
                "A record batch has a buffer of {} bytes from {} on, which do not fit into its {body_bytes} bytes.",
                buffer.length(),
                buffer.offset()
            )));
        };
        left -= length;
        count += 1;
    }
    let mut of_views = 0_usize;
    for buffers in batch.variadicBufferCounts().into_iter().flatten() {
        of_views = usize::try_from(buffers).map_or(usize::MAX, |buffers| of_views.saturating_add(buffers));
    }
    if of_views > count {
        return Err(invalid("A record batch has fewer buffers than its columns of views say."));
    }
    Ok(())
}

/// About the memory that a field of a schema takes.
fn field_bytes(field: ipc::Field<'_>) -> usize {
    let own = FIELD_BYTES + field.name().map_or(0, str::len);
    let metadata = field.custom_metadata().into_iter().flatten().map(pair_bytes).fold(own, usize::saturating_add);
    // A message with a deeper nesting than 64 is none to flatbuffers.
    field.children().into_iter().flatten().map(field_bytes).fold(metadata, usize::saturating_add)
}

fn pair_bytes(pair: ipc::KeyValue<'_>) -> usize {
    FIELD_BYTES + pair.key().map_or(0, str::len) + pair.value().map_or(0, str::len)
}

/// A batch as the decoder answers it, or as it panics.
fn decoded(batch: Result<Result<RecordBatch, FlightError>, Box<dyn Any + Send>>) -> Result<RecordBatch, Error> {
    match batch {
        Ok(batch) => batch.map_err(decoding_error),
        Err(_) => Err(invalid("The rows cannot be read as Arrow IPC: a message does not fit the schema.")),
    }
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

#[cfg(test)]
mod tests;
