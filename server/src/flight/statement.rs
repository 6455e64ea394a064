//! Statements: described, made tickets, and run.

use arrow::datatypes::Schema;
use arrow_flight::{
    FlightEndpoint, FlightInfo, SchemaResult, Ticket, sql::ProstMessageExt as _, sql::TicketStatementQuery,
};
use bytes::Bytes;
use kalamdb_engine::{Body, Error, Parameter, Reason, SqlType, StatementDescription};
use prost::Message;
use prost_types::Timestamp;

use super::{
    Call, FlightApi, command, parameters,
    running::cancelled,
    schema,
    seal::{Fresh, Purpose, Sealed},
    stream::{self, DataStream},
};
use crate::services::shutting_down;

const US_PER_S: i64 = 1_000_000;

impl FlightApi {
    /// What a statement would answer. `given`: the types of its parameters, if they are known.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) async fn describe(
        &self,
        call: &Call,
        statement: &Sealed,
        given: Option<&[SqlType]>,
    ) -> Result<StatementDescription, Error> {
        self.session(call).describe(&statement.sql, statement.namespace.as_deref(), given).await
    }

    /// The columns of a statement's rows.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) async fn statement_schema(&self, call: &Call, statement: &Sealed) -> Result<SchemaResult, Error> {
        let rows = rows_of(statement)?;
        let types = rows.as_ref().map(|rows| types_of(rows));
        let described = self.describe(call, statement, types.as_deref()).await?;
        Ok(SchemaResult { schema: schema::encoded(&schema::sent(&described.columns))? })
    }

    /// A ticket for the rows of a statement. One that has none is run here and now, and its ticket answers nothing: clients
    /// that do not know what a statement is ask for its rows, and some never come for them.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) async fn statement_info(&self, call: &Call, statement: Sealed) -> Result<FlightInfo, Error> {
        let rows = rows_of(&statement)?.unwrap_or_default();
        let described = self.describe(call, &statement, Some(&types_of(&rows))).await?;
        if !described.has_rows() {
            let affected = self.run_for_each(call, &statement, rows, 0).await?;
            let done = Sealed::new(String::new(), None);
            let ticket = self.sealer.seal(Purpose::Done, done, &call.context.caller)?;
            let info = info(&Schema::empty(), ticket, true)?;
            return Ok(info.with_total_records(i64::try_from(affected).unwrap_or(i64::MAX)));
        }
        if rows.len() > 1 {
            return Err(command::invalid(format!(
                "A statement that answers rows takes one row of parameters; {} were given.",
                rows.len()
            )));
        }
        // Those that change something are for once, and say so by having no time until which they could be read again.
        let (purpose, repeatable) =
            if described.only_reads() { (Purpose::Read, true) } else { (Purpose::Write, false) };
        let ticket = self.sealer.seal(purpose, statement, &call.context.caller)?;
        info(&schema::sent(&described.columns), ticket, repeatable)
    }

    /// The rows of a ticket.
    ///
    /// # Errors
    /// Those of tickets and of the engine, until the first row.
    pub(super) async fn ticket_rows(&self, call: &Call, handle: &[u8]) -> Result<DataStream, Error> {
        let trace = call.context.trace;
        let ticket = self.sealer.open_ticket(handle, &call.context.caller)?;
        let turn = self.tickets.begin(&ticket)?;
        if ticket.purpose == Purpose::Done {
            return Ok(stream::of_nothing(trace));
        }
        let parameters = rows_of(&ticket.sealed)?.and_then(|rows| rows.into_iter().next()).unwrap_or_default();
        let stop = turn.cancelled();
        let mut execution = self.session(call).execute(self.request(call, &ticket.sealed, parameters));
        let output = tokio::select! {
            biased;
            output = execution.next() => output,
            () = stop.cancelled() => return Err(cancelled()),
            () = self.stopping.cancelled() => return Err(shutting_down()),
        };
        match output.transpose()?.map(|output| output.body) {
            Some(Body::Rows(rows)) => Ok(stream::of_query(rows, turn, trace, self.stopping.clone())),
            Some(Body::Affected { .. }) | None => Ok(stream::of_nothing(trace)),
        }
    }

    /// The rows of a query that is sent as its text, in place of a ticket.
    ///
    /// # Errors
    /// INVALID_STATEMENT for what changes something: who sends a ticket again does not mean to do that twice.
    pub(super) async fn query_rows(&self, call: &Call, query: String) -> Result<DataStream, Error> {
        let statement = Sealed::new(query, call.namespace.clone());
        let described = self.describe(call, &statement, Some(&[])).await?;
        if !described.only_reads() {
            let text = "A ticket that is the text of a statement may only read. Send statements that change something as \
                        commands of Flight SQL.";
            return Err(Error::new(Reason::InvalidStatement, text));
        }
        let ticket = self.sealer.seal(Purpose::Read, statement, &call.context.caller)?;
        self.ticket_rows(call, &ticket.bytes).await
    }

    /// Runs a statement once for each row of parameters, in order, or once without any if it has none; answers how many rows
    /// it changed. `first`: the number of rows that were before, for errors.
    ///
    /// # Errors
    /// The first, with the row it is of. What ran before it stays.
    pub(super) async fn run_for_each(
        &self,
        call: &Call,
        statement: &Sealed,
        rows: Vec<Vec<Parameter>>,
        first: u64,
    ) -> Result<u64, Error> {
        if rows.is_empty() {
            return self.run_once(call, statement, Vec::new()).await;
        }
        let is_one = rows.len() == 1 && first == 0;
        let mut affected = 0_u64;
        for (index, parameters) in rows.into_iter().enumerate() {
            let outcome = self.run_once(call, statement, parameters).await;
            let row = first + index as u64;
            affected += outcome.map_err(|error| if is_one { error } else { error.with("row", row.to_string()) })?;
        }
        Ok(affected)
    }

    async fn run_once(&self, call: &Call, statement: &Sealed, parameters: Vec<Parameter>) -> Result<u64, Error> {
        let mut execution = self.session(call).execute(self.request(call, statement, parameters));
        let Some(output) = execution.next().await else {
            return Err(command::invalid("There is no statement to run."));
        };
        match output?.body {
            Body::Affected { row_count, .. } => Ok(row_count),
            Body::Rows(mut rows) => {
                let mut count = 0;
                while let Some(batch) = futures::StreamExt::next(&mut rows).await {
                    count += batch?.num_rows() as u64;
                }
                Ok(count)
            }
        }
    }

    fn request(&self, call: &Call, statement: &Sealed, parameters: Vec<Parameter>) -> kalamdb_engine::Request {
        kalamdb_engine::Request {
            sql: statement.sql.clone(),
            parameters,
            namespace: statement.namespace.clone(),
            timeout: call.context.timeout,
            min_commit_seq: 0,
        }
    }
}

/// The rows of parameters that a handle or ticket has; `None`: none were given.
fn rows_of(statement: &Sealed) -> Result<Option<Vec<Vec<Parameter>>>, Error> {
    let Some(kept) = &statement.parameters else { return Ok(None) };
    let mut rows = Vec::new();
    for batch in parameters::read_kept(kept)? {
        rows.extend(parameters::of_batch(&batch, rows.len() as u64)?);
    }
    Ok(Some(rows))
}

/// The types of the parameters of each row.
fn types_of(rows: &[Vec<Parameter>]) -> Vec<SqlType> {
    rows.first().map(|row| row.iter().map(|parameter| parameter.sql_type.clone()).collect()).unwrap_or_default()
}

/// What tells a client of its rows: one endpoint, without a location, which means this server.
fn info(columns: &Schema, ticket: Fresh, repeatable: bool) -> Result<FlightInfo, Error> {
    let message = TicketStatementQuery { statement_handle: ticket.bytes };
    let endpoint = endpoint(Bytes::from(message.as_any().encode_to_vec()));
    let endpoint = if repeatable { endpoint.with_expiration_time(timestamp(ticket.expires_at_us)) } else { endpoint };
    Ok(FlightInfo { schema: schema::encoded(columns)?, ..FlightInfo::new().with_endpoint(endpoint) })
}

/// An endpoint at this server.
pub(super) fn endpoint(ticket: Bytes) -> FlightEndpoint {
    FlightEndpoint::new().with_ticket(Ticket::new(ticket))
}

/// A time as protobuf has it.
pub(super) fn timestamp(at_us: i64) -> Timestamp {
    // `rem_euclid` is below 10^6, so that the nanoseconds fit.
    let nanos = i32::try_from(at_us.rem_euclid(US_PER_S) * 1_000).unwrap_or_default();
    Timestamp { seconds: at_us.div_euclid(US_PER_S), nanos }
}
