//! Rows to a table.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use arrow_flight::{
    FlightData, FlightDescriptor,
    encode::{FlightDataEncoderBuilder, GRPC_TARGET_MAX_FLIGHT_SIZE_BYTES},
    error::FlightError,
    flight_service_client::FlightServiceClient,
    sql::{DoPutUpdateResult, ProstMessageExt},
};
use futures::{Stream, StreamExt, stream};
use prost::Message;
use tokio::sync::oneshot;
use tonic::Response;

use super::{BulkTarget, from_flight};
use crate::{
    client::Client,
    error::{Error, Result},
};

impl Client {
    /// Writes rows in bulk: Arrow record batches over Arrow Flight SQL, which is the quickest way for many rows. Answers how
    /// many were written; they are durable then.
    ///
    /// Columns are matched by their names; those that are missing get their defaults. All rows are written or none, unless
    /// [`BulkTarget::atomic`] says otherwise. When the stream of batches fails, or the future is dropped, nothing is
    /// written.
    ///
    /// ```no_run
    /// use arrow::array::RecordBatch;
    /// use futures::stream;
    /// use kalam_link::BulkTarget;
    ///
    /// # async fn example(client: kalam_link::Client, batch: RecordBatch) -> Result<(), kalam_link::Error> {
    /// let target = BulkTarget::append("messages").namespace("chat");
    /// let rows = client.bulk_write(target, batch.schema(), stream::iter([Ok(batch)])).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the server; of a key that exists, or is twice among the rows, [`Error::metadata_value`] of `row` is the
    /// number of the row, from 0. The error of the stream, if it fails.
    pub async fn bulk_write<S>(&self, target: BulkTarget, schema: SchemaRef, batches: S) -> Result<u64>
    where
        S: Stream<Item = Result<RecordBatch>> + Send + 'static,
    {
        let command = target.into_command(self.namespace());
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let external = |error: Error| FlightError::ExternalError(Box::new(error));
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_flight_descriptor(Some(descriptor))
            .with_max_flight_data_size(GRPC_TARGET_MAX_FLIGHT_SIZE_BYTES.min(self.max_send_bytes() / 2))
            .build(batches.map(move |batch| batch.map_err(external)));
        let (failed, failure) = oneshot::channel();
        let writing = self.stream_call(until_failure(encoded, failed), |channel, limits, request| async move {
            let mut answers = limits.apply(FlightServiceClient::new(channel)).do_put(request).await?.into_inner();
            Ok(Response::new(answers.message().await?))
        });
        tokio::select! {
            biased;
            // The call is dropped with this, in its middle: the server sees that not all has come.
            Ok(error) = failure => Err(from_stream(error, self.endpoint())),
            written = writing => {
                let answer = written?.ok_or_else(|| Error::protocol("no answer to the rows"))?;
                let result = DoPutUpdateResult::decode(answer.app_metadata)
                    .map_err(|e| Error::protocol(format!("the answer to the rows cannot be read: {e}")))?;
                u64::try_from(result.record_count).map_err(|_| Error::protocol("rows were written, but not counted"))
            }
        }
    }
}

/// The messages until one fails. After that there is neither a further one nor an end: an end would say that all rows were
/// sent.
fn until_failure(
    messages: impl Stream<Item = Result<FlightData, FlightError>> + Send + 'static,
    failed: oneshot::Sender<FlightError>,
) -> impl Stream<Item = FlightData> + Send + 'static {
    let state = (Box::pin(messages), Some(failed));
    stream::unfold(state, |(mut messages, mut failed)| async move {
        match messages.next().await? {
            Ok(message) => Some((message, (messages, failed))),
            Err(error) => {
                if let Some(failed) = failed.take() {
                    // Whoever waited may have gone; then the call has, too.
                    let _ = failed.send(error);
                }
                std::future::pending().await
            }
        }
    })
}

/// What the caller's own stream failed with, as it was.
fn from_stream(error: FlightError, endpoint: &str) -> Error {
    match error {
        FlightError::ExternalError(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::protocol(format!("the rows cannot be sent: {other}")),
        },
        FlightError::Arrow(error) => Error::configuration(format!("the rows cannot be sent: {error}")),
        other => from_flight(other, endpoint),
    }
}
