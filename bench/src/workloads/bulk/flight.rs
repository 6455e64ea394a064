//! Arrow Flight SQL in the hot loop: the very same calls to the database and to the bare server.

use std::{future::ready, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use arrow_flight::{
    FlightDescriptor,
    decode::FlightRecordBatchStream,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_client::FlightServiceClient,
    sql::{
        CommandStatementIngest, CommandStatementQuery, DoPutUpdateResult, ProstMessageExt, TableDefinitionOptions,
        TableExistsOption, TableNotExistOption,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    driver::{self, Reply},
    error::{Result, status_text},
    limits::echo::MAX_MESSAGE_BYTES,
    wire::{self, as_user, user_metadata},
};

/// A connection to a server that speaks Arrow Flight.
pub(super) struct FlightClient {
    service: FlightServiceClient<Channel>,
    user: MetadataValue<Ascii>,
}

impl FlightClient {
    /// Opens a connection of its own.
    pub(super) async fn connect(url: &str, user: &str) -> Result<Self> {
        let service = FlightServiceClient::new(wire::connect(url).await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { service, user: user_metadata(user)? })
    }

    /// The rows of a query.
    pub(super) async fn read(&mut self, sql: &str) -> Result<FlightRecordBatchStream, String> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let info = self.service.get_flight_info(as_user(descriptor, &self.user)).await;
        let info = info.map_err(|status| status_text(&status))?.into_inner();
        let ticket =
            info.endpoint.into_iter().find_map(|endpoint| endpoint.ticket).ok_or("an answer without a ticket")?;
        let data = self.service.do_get(as_user(ticket, &self.user)).await.map_err(|status| status_text(&status))?;
        Ok(FlightRecordBatchStream::new_from_flight_data(data.into_inner().map_err(FlightError::from)))
    }

    /// Reads all rows of a query, and says how many they are.
    pub(super) async fn count(&mut self, sql: &str) -> Result<u64, String> {
        let mut batches = self.read(sql).await?;
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await.map_err(|error| error.to_string())? {
            rows += batch.num_rows() as u64;
        }
        Ok(rows)
    }

    /// Adds rows to a table, and says how many.
    pub(super) async fn write(
        &mut self,
        (namespace, table): (&str, &str),
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<u64, String> {
        let options = TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Fail.into(),
            if_exists: TableExistsOption::Append.into(),
        };
        let command = CommandStatementIngest {
            table_definition_options: Some(options),
            table: table.to_owned(),
            schema: Some(namespace.to_owned()),
            ..CommandStatementIngest::default()
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_flight_descriptor(Some(descriptor))
            .build(stream::iter(batches.into_iter().map(Ok)));
        // What could not be encoded is missing in the number that is answered.
        let messages = encoded.filter_map(|message| ready(message.ok()));
        let answers =
            self.service.do_put(as_user(messages, &self.user)).await.map_err(|status| status_text(&status))?;
        let answer = answers.into_inner().message().await.map_err(|status| status_text(&status))?;
        let answer = answer.ok_or("no answer to the rows")?;
        let result = DoPutUpdateResult::decode(answer.app_metadata).map_err(|error| error.to_string())?;
        Ok(result.record_count.unsigned_abs())
    }
}

/// Reads all rows of a query again and again.
pub(super) struct Reading {
    pub(super) client: FlightClient,
    pub(super) sql: Arc<str>,
    /// How many they are.
    pub(super) rows: u64,
}

impl driver::Client for Reading {
    async fn call(&mut self) -> Result<Reply, String> {
        let found = self.client.count(&self.sql).await?;
        if found == self.rows { Ok(Reply::default()) } else { Err(format!("{found} rows were read of {}", self.rows)) }
    }
}
