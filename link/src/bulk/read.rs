//! Rows of a query.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightInfo, PutResult, Result as ActionResult, Ticket,
    decode::FlightRecordBatchStream,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_client::FlightServiceClient,
    sql::{
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
        Any, CommandPreparedStatementQuery, CommandStatementQuery, DoPutPreparedStatementResult, ProstMessageExt,
    },
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use prost::Message;
use tonic::Response;

use super::{Headers, from_flight, parameters::row_of};
use crate::{
    client::Client,
    error::{Error, Result},
    retry::Safety,
    sql,
    value::{IntoParams, Value},
};

/// The rows of a query as Arrow record batches, delivered while they are computed: a slow reader slows the query down.
/// Dropping it ends the query.
pub struct BulkRows {
    schema: SchemaRef,
    batches: FlightRecordBatchStream,
    endpoint: Arc<str>,
    done: bool,
}

impl BulkRows {
    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl Stream for BulkRows {
    type Item = Result<RecordBatch>;

    /// After an error the stream ends.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let outcome = match ready!(this.batches.poll_next_unpin(context)) {
            None => None,
            Some(Ok(batch)) => Some(Ok(batch)),
            Some(Err(error)) => Some(Err(from_flight(error, &this.endpoint))),
        };
        this.done = !matches!(outcome, Some(Ok(_)));
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for BulkRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkRows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the rows of one query in bulk: as Arrow record batches over Arrow Flight SQL, which is the quickest way for
    /// many rows.
    ///
    /// ```no_run
    /// use futures::TryStreamExt;
    ///
    /// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
    /// let mut rows = client.bulk_read("SELECT * FROM chat.messages WHERE id > $1", (7,)).await?;
    /// println!("{} columns", rows.schema().fields().len());
    /// while let Some(batch) = rows.try_next().await? {
    ///     println!("{} rows", batch.num_rows());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the server, until the first row; later ones arrive in the stream.
    pub async fn bulk_read(&self, sql: impl Into<String>, params: impl IntoParams) -> Result<BulkRows> {
        let (sql, params) = (sql.into(), params.into_params());
        let safety = if sql::is_read_only(&sql) { Safety::Repeatable } else { Safety::Once };
        if params.is_empty() {
            let command = CommandStatementQuery { query: sql, transaction_id: None };
            return self.read_of(command.as_any(), safety).await;
        }
        let handle = self.bound(sql, &params).await?;
        let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
        let rows = self.read_of(command.as_any(), safety).await;
        self.close_prepared(handle).await;
        rows
    }

    async fn read_of(&self, command: Any, safety: Safety) -> Result<BulkRows> {
        let headers = &Headers::of(self);
        let descriptor = FlightDescriptor::new_cmd(command.encode_to_vec());
        let info: FlightInfo = self
            .call(safety, self.default_timeout(), descriptor, |channel, limits, request| async move {
                limits.apply(FlightServiceClient::new(channel)).get_flight_info(headers.on(request)).await
            })
            .await?;
        let ticket = match info.endpoint.as_slice() {
            [endpoint] => endpoint.ticket.clone(),
            several => {
                return Err(Error::protocol(format!("a query with {} endpoints; there is one server", several.len())));
            }
        };
        let ticket: Ticket = ticket.ok_or_else(|| Error::protocol("a query without a ticket"))?;
        let schema = info.try_decode_schema().map_err(|e| Error::protocol(format!("a query without a schema: {e}")))?;
        let data = self
            .call(safety, None, ticket, |channel, limits, request| async move {
                limits.apply(FlightServiceClient::new(channel)).do_get(headers.on(request)).await
            })
            .await?;
        let batches = FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from));
        Ok(BulkRows { schema: Arc::new(schema), batches, endpoint: self.endpoint_shared(), done: false })
    }

    /// Prepares a query and binds its parameters. Answers the handle of it.
    async fn bound(&self, query: String, params: &[Value]) -> Result<prost::bytes::Bytes> {
        let request = ActionCreatePreparedStatementRequest { query, transaction_id: None };
        let prepared: ActionCreatePreparedStatementResult =
            self.action("CreatePreparedStatement", request.as_any(), Safety::Repeatable).await?;
        let handle = prepared.prepared_statement_handle;
        let headers = &Headers::of(self);
        let row = row_of(params)?;
        let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(row.schema())
            .with_flight_descriptor(Some(descriptor))
            .build(stream::iter([Ok(row)]));
        let messages: Vec<FlightData> = encoded.try_collect().await.map_err(|e| from_flight(e, self.endpoint()))?;
        let answer: Option<PutResult> = self
            .stream_call(stream::iter(messages), |channel, limits, request| async move {
                let mut answers =
                    limits.apply(FlightServiceClient::new(channel)).do_put(headers.on(request)).await?.into_inner();
                Ok(Response::new(answers.message().await?))
            })
            .await?;
        // A server that keeps no statements answers another handle, which has the parameters in it.
        let updated = match answer.filter(|answer| !answer.app_metadata.is_empty()) {
            Some(answer) => {
                DoPutPreparedStatementResult::decode(answer.app_metadata)
                    .map_err(|e| Error::protocol(format!("the answer to parameters cannot be read: {e}")))?
                    .prepared_statement_handle
            }
            None => None,
        };
        Ok(updated.unwrap_or(handle))
    }

    /// Lets go of a prepared statement. That this fails changes nothing of the query's outcome.
    async fn close_prepared(&self, prepared_statement_handle: prost::bytes::Bytes) {
        let request = ActionClosePreparedStatementRequest { prepared_statement_handle };
        let action =
            Action { r#type: "ClosePreparedStatement".to_owned(), body: request.as_any().encode_to_vec().into() };
        let closed: Result<Option<ActionResult>> = self.act(action, Safety::Once).await;
        drop(closed);
    }

    /// An action with one answer, which is packed as all of Flight SQL's are.
    async fn action<M: ProstMessageExt + Default>(&self, name: &str, request: Any, safety: Safety) -> Result<M> {
        let action = Action { r#type: name.to_owned(), body: request.encode_to_vec().into() };
        let answer = self.act(action, safety).await?;
        let answer = answer.ok_or_else(|| Error::protocol(format!("no answer to {name}")))?;
        let any = Any::decode(answer.body).map_err(|e| Error::protocol(format!("the answer to {name}: {e}")))?;
        let unpacked = any.unpack().map_err(|e| Error::protocol(format!("the answer to {name}: {e}")))?;
        unpacked.ok_or_else(|| Error::protocol(format!("another answer to {name} than its own")))
    }

    async fn act(&self, action: Action, safety: Safety) -> Result<Option<ActionResult>> {
        let headers = &Headers::of(self);
        self.call(safety, self.default_timeout(), action, |channel, limits, request| async move {
            let request = headers.on(request);
            let mut answers = limits.apply(FlightServiceClient::new(channel)).do_action(request).await?.into_inner();
            Ok(Response::new(answers.message().await?))
        })
        .await
    }
}
