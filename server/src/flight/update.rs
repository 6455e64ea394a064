//! `DoPut`: statements that change rows, parameters of prepared statements, and ingests.

use arrow::array::RecordBatch;
use arrow_flight::{
    FlightData, PutResult,
    sql::{
        Command, CommandStatementIngest, DoPutPreparedStatementResult, DoPutUpdateResult, TableExistsOption,
        TableNotExistOption,
    },
};
use bytes::Bytes;
use futures::StreamExt;
use kalamdb_engine::{Error, Reason, SqlType};
use prost::Message;
use tonic::Streaming;

use super::{
    Call, FlightApi,
    command::{Asked, invalid, no_transaction, not_supported, substrait},
    ingest::{IngestCall, ingest},
    parameters,
    put::{Rows, Upload},
    schema::CATALOG,
    seal::{Purpose, Sealed},
};

impl FlightApi {
    /// Takes what a client sends, and answers what came of it.
    ///
    /// # Errors
    /// Those of the engine, and of what is sent.
    pub(super) async fn put(&self, call: &Call, messages: Streaming<FlightData>) -> Result<PutResult, Error> {
        let upload = Upload::begin(messages, self.max_message_bytes).await?;
        let asked = match Asked::of_descriptor(&upload.descriptor)? {
            Asked::Sql(command) => *command,
            Asked::Query(_) => {
                return Err(invalid(
                    "DoPut takes the commands of Flight SQL. Rows are put into a table with CommandStatementIngest.",
                ));
            }
        };
        match asked {
            Command::CommandStatementUpdate(update) => {
                no_transaction(update.transaction_id.as_ref())?;
                let statement = Sealed::new(update.query, call.namespace.clone());
                self.update(call, statement, None).await.map(updated)
            }
            Command::CommandPreparedStatementUpdate(update) => {
                let handle = update.prepared_statement_handle;
                let statement = self.sealer.open_handle(&handle, &call.context.caller)?.sealed;
                let rows = upload.rows().await?;
                self.update(call, statement, rows).await.map(updated)
            }
            Command::CommandPreparedStatementQuery(query) => {
                let handle = query.prepared_statement_handle;
                let statement = self.sealer.open_handle(&handle, &call.context.caller)?.sealed;
                let handle = self.bind(call, statement, upload.rows().await?).await?;
                let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
                Ok(PutResult { app_metadata: result.encode_to_vec().into() })
            }
            Command::CommandStatementIngest(command) => self.ingest_rows(call, command, upload).await.map(updated),
            Command::CommandStatementSubstraitPlan(_) => Err(substrait()),
            other => Err(not_supported(format!(
                "DoPut does not take {}.",
                other.type_url().rsplit('.').next().unwrap_or_default().escape_debug()
            ))),
        }
    }

    /// Runs a statement for each row of parameters. Rows without columns, which some clients send for a statement without
    /// parameters, are none.
    async fn update(&self, call: &Call, statement: Sealed, rows: Option<Rows>) -> Result<u64, Error> {
        let rows = rows.filter(|rows| parameters::has_values(&rows.schema));
        let Some(Rows { batches: mut rest, .. }) = rows else {
            let kept = kept_rows(&statement)?;
            self.changes_something(call, &statement, &kept).await?;
            let mut affected = 0;
            let mut first = 0;
            for batch in kept.iter().filter(|batch| batch.num_rows() > 0) {
                affected += self.run_for_each(call, &statement, parameters::of_batch(batch, first)?, first).await?;
                first += batch.num_rows() as u64;
            }
            if statement.parameters.is_none() {
                affected = self.run_for_each(call, &statement, Vec::new(), 0).await?;
            }
            return Ok(affected);
        };
        let (mut affected, mut first) = (0, 0);
        while let Some(batch) = rest.next().await {
            for part in parameters::parts(batch?, self.max_message_bytes) {
                let part = part?;
                if first == 0 {
                    self.changes_something(call, &statement, std::slice::from_ref(&part)).await?;
                }
                let rows = parameters::of_batch(&part, first)?;
                affected += self.run_for_each(call, &statement, rows, first).await?;
                first += part.num_rows() as u64;
            }
        }
        Ok(affected)
    }

    /// Refuses statements that only read, whose rows nobody would see.
    async fn changes_something(&self, call: &Call, statement: &Sealed, rows: &[RecordBatch]) -> Result<(), Error> {
        let types: Vec<SqlType> = match rows.iter().find(|batch| batch.num_rows() > 0) {
            Some(batch) => {
                let row = parameters::of_batch(&batch.slice(0, 1), 0)?;
                row.into_iter().flatten().map(|parameter| parameter.sql_type).collect()
            }
            None => Vec::new(),
        };
        if self.describe(call, statement, Some(&types)).await?.only_reads() {
            let text = "The statement answers rows and changes none: execute it as a query.";
            return Err(Error::new(Reason::InvalidStatement, text));
        }
        Ok(())
    }

    /// The handle of a prepared statement with parameters.
    async fn bind(&self, call: &Call, statement: Sealed, rows: Option<Rows>) -> Result<Bytes, Error> {
        let parameters = match rows.filter(|rows| parameters::has_values(&rows.schema)) {
            Some(rows) => Some(parameters::kept(rows, self.sealer.max_bytes()).await?),
            None => None,
        };
        if let Some(kept) = &parameters {
            // What cannot be taken is said now, and not when the statement runs.
            for batch in parameters::read_kept(kept)? {
                parameters::of_batch(&batch, 0)?;
            }
        }
        let mut bound = statement;
        bound.parameters = parameters;
        Ok(self.sealer.seal(Purpose::Prepared, bound, &call.context.caller)?.bytes)
    }

    /// Puts rows into a table.
    async fn ingest_rows(&self, call: &Call, command: CommandStatementIngest, upload: Upload) -> Result<u64, Error> {
        no_transaction(command.transaction_id.as_ref())?;
        if command.temporary {
            return Err(not_supported("Temporary tables are not supported."));
        }
        if command.catalog.as_deref().is_some_and(|catalog| !catalog.is_empty() && catalog != CATALOG) {
            return Err(invalid(format!("There is one catalog, {CATALOG}.")));
        }
        if let Some(options) = &command.table_definition_options {
            let exist = TableNotExistOption::try_from(options.if_not_exist);
            let exists = TableExistsOption::try_from(options.if_exists);
            if exist.is_err() || exists.is_err() {
                return Err(invalid("table_definition_options has a value that is none of Flight SQL's."));
            }
        }
        let Some(Rows { schema, batches }) = upload.rows().await? else {
            return Err(invalid("The ingest has no schema. Send one, even for no rows."));
        };
        let namespace = command.schema.clone().filter(|schema| !schema.is_empty()).or_else(|| call.namespace.clone());
        let ingesting = IngestCall {
            engine: std::sync::Arc::clone(&self.engine),
            context: call.context.clone(),
            command,
            namespace,
            session_options: call.ingest_options.clone(),
        };
        ingest(ingesting, schema, batches).await
    }
}

/// The batches of parameters that a handle has.
fn kept_rows(statement: &Sealed) -> Result<Vec<RecordBatch>, Error> {
    statement.parameters.as_ref().map_or_else(|| Ok(Vec::new()), parameters::read_kept)
}

fn updated(rows: u64) -> PutResult {
    let result = DoPutUpdateResult { record_count: i64::try_from(rows).unwrap_or(i64::MAX) };
    PutResult { app_metadata: result.encode_to_vec().into() }
}
