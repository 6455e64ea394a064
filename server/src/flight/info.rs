//! `GetFlightInfo` and its like: what a descriptor's rows are, and the ticket for them.

use std::pin::Pin;

use arrow_flight::{FlightDescriptor, FlightInfo, PollInfo, SchemaResult, sql::Command};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use kalamdb_engine::Error;
use prost::Message;
use tonic::Status;

use super::{
    Call, FlightApi,
    command::{Asked, invalid, no_transaction, not_supported, quoted, substrait},
    listing, schema,
    seal::{Purpose, Sealed},
    statement::{endpoint, timestamp},
    stream::{self as rows, DataStream},
};

/// Flights, one by one.
pub(super) type InfoStream = Pin<Box<dyn Stream<Item = Result<FlightInfo, Status>> + Send>>;

/// What the rows of a descriptor come from.
enum Source {
    Statement(Sealed),
    Listing(Command),
}

impl FlightApi {
    /// The columns of a descriptor's rows, and a ticket for them.
    ///
    /// # Errors
    /// Those of the engine, and of what is asked for.
    pub(super) async fn info(&self, call: &Call, descriptor: FlightDescriptor) -> Result<FlightInfo, Error> {
        let info = match self.source(call, &descriptor)? {
            Source::Statement(statement) => self.statement_info(call, statement).await?,
            Source::Listing(command) => {
                let columns = self.listing(call, command.clone(), false)?.schema();
                // It is made when it is read, for whoever reads it.
                let ticket = command.into_any().encode_to_vec();
                let info = FlightInfo::new().with_endpoint(endpoint(ticket.into()));
                FlightInfo { schema: schema::encoded(&columns)?, ..info }
            }
        };
        Ok(info.with_descriptor(descriptor))
    }

    /// The same for clients that poll: there is nothing to wait for.
    ///
    /// # Errors
    /// As [`FlightApi::info`].
    pub(super) async fn poll_info(&self, call: &Call, descriptor: FlightDescriptor) -> Result<PollInfo, Error> {
        let info = self.info(call, descriptor).await?;
        PollInfo::new().with_info(info).try_with_progress(1.0).map_err(Error::internal)
    }

    /// The columns of a descriptor's rows. Nothing is run.
    ///
    /// # Errors
    /// As [`FlightApi::info`].
    pub(super) async fn schema(&self, call: &Call, descriptor: &FlightDescriptor) -> Result<SchemaResult, Error> {
        match self.source(call, descriptor)? {
            Source::Statement(statement) => self.statement_schema(call, &statement).await,
            Source::Listing(command) => {
                let columns = self.listing(call, command, false)?.schema();
                Ok(SchemaResult { schema: schema::encoded(&columns)? })
            }
        }
    }

    /// The rows of a ticket.
    ///
    /// # Errors
    /// Those of the engine, and of tickets.
    pub(super) async fn rows(&self, call: &Call, ticket: Bytes) -> Result<DataStream, Error> {
        match Asked::of_bytes(&ticket)? {
            Asked::Query(query) => self.query_rows(call, query).await,
            Asked::Sql(command) => match *command {
                Command::TicketStatementQuery(ticket) => self.ticket_rows(call, &ticket.statement_handle).await,
                command if listing::is_listing(&command) => {
                    Ok(rows::of_batch(self.listing(call, command, true)?, call.context.trace))
                }
                other => Err(not_supported(format!(
                    "{} is no ticket. GetFlightInfo gives one for it.",
                    other.type_url().rsplit('.').next().unwrap_or_default().escape_debug()
                ))),
            },
        }
    }

    /// All tables that the caller may know of, each with a ticket for its rows; of one namespace, if one is named.
    ///
    /// # Errors
    /// INVALID_REQUEST, NAMESPACE_NOT_FOUND.
    pub(super) fn flights(&self, call: &Call, expression: &Bytes) -> Result<InfoStream, Error> {
        let namespace = match expression.as_ref() {
            [] => None,
            name => Some(std::str::from_utf8(name).map_err(|_| {
                invalid("The expression of ListFlights is the name of a namespace, whose tables are listed, or empty.")
            })?),
        };
        let tables = self.session(call).tables(namespace)?;
        let caller = &call.context.caller;
        let mut infos = Vec::with_capacity(tables.len());
        for table in tables {
            let sql = format!("SELECT * FROM {}.{}", quoted(&table.namespace), quoted(&table.name));
            let columns = schema::sent(&listing::schema_of(&table));
            let ticket = self.sealer.seal(Purpose::Read, Sealed::new(sql, None), caller)?;
            let ticket_bytes = listing::ticket(ticket.bytes);
            let endpoint = endpoint(ticket_bytes).with_expiration_time(timestamp(ticket.expires_at_us));
            let descriptor = FlightDescriptor::new_path(vec![table.namespace, table.name]);
            let info = FlightInfo { schema: schema::encoded(&columns)?, ..FlightInfo::new().with_endpoint(endpoint) };
            infos.push(info.with_descriptor(descriptor));
        }
        Ok(Box::pin(stream::iter(infos).map(Ok)))
    }

    fn source(&self, call: &Call, descriptor: &FlightDescriptor) -> Result<Source, Error> {
        let command = match Asked::of_descriptor(descriptor)? {
            Asked::Query(query) => return Ok(Source::Statement(Sealed::new(query, call.namespace.clone()))),
            Asked::Sql(command) => *command,
        };
        match command {
            Command::CommandStatementQuery(query) => {
                no_transaction(query.transaction_id.as_ref())?;
                Ok(Source::Statement(Sealed::new(query.query, call.namespace.clone())))
            }
            Command::CommandPreparedStatementQuery(query) => {
                let handle = self.sealer.open_handle(&query.prepared_statement_handle, &call.context.caller)?;
                Ok(Source::Statement(handle.sealed))
            }
            Command::CommandStatementSubstraitPlan(_) => Err(substrait()),
            command if listing::is_listing(&command) => Ok(Source::Listing(command)),
            other => Err(not_supported(format!(
                "GetFlightInfo does not take {}.",
                other.type_url().rsplit('.').next().unwrap_or_default().escape_debug()
            ))),
        }
    }
}
