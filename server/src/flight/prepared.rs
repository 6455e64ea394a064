//! Prepared statements: each is its handle, which has the statement and, once they are bound, its parameters. The server
//! keeps none, and has nothing to close.

use arrow_flight::sql::{ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult};
use kalamdb_engine::Error;

use super::{
    Call, FlightApi,
    command::no_transaction,
    schema,
    seal::{Purpose, Sealed},
};

impl FlightApi {
    /// Prepares a statement. What it answers tells a client what it is: a statement that answers a count has no columns, and
    /// drivers for JDBC run whatever has some as a query.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) async fn prepare(
        &self,
        call: &Call,
        request: ActionCreatePreparedStatementRequest,
    ) -> Result<ActionCreatePreparedStatementResult, Error> {
        no_transaction(request.transaction_id.as_ref())?;
        let statement = Sealed::new(request.query, call.namespace.clone());
        let described = self.describe(call, &statement, None).await?;
        let handle = self.sealer.seal(Purpose::Prepared, statement, &call.context.caller)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.bytes,
            dataset_schema: schema::encoded(&schema::sent(&described.columns))?,
            parameter_schema: schema::encoded(&schema::parameters(&described.parameter_types))?,
        })
    }
}
