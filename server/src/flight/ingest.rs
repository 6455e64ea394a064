//! `CommandStatementIngest`: rows of Arrow, put into a table.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_flight::sql::CommandStatementIngest;
use kalamdb_engine::{Engine, Error, Reason};

use super::put::BatchStream;
use crate::call::CallContext;

/// An ingest as a client asks for it.
pub(super) struct IngestCall {
    pub(super) engine: Arc<Engine>,
    /// Who calls, and for how long.
    pub(super) context: CallContext,
    /// The table, what to do if it is there or is not, and options. That it names no transaction, no temporary table and
    /// no other catalog than `kalamdb` has been checked.
    pub(super) command: CommandStatementIngest,
    /// The namespace of the command, or else that of the client's session.
    pub(super) namespace: Option<String>,
    /// The options of the client's session whose names begin with `kalamdb.ingest.`. Those of the command go before them.
    pub(super) session_options: Vec<(String, String)>,
}

/// Puts all rows of `batches`, whose schema is `schema`, into the table, and answers how many they are. An error of
/// `batches` means that the client is gone, or that it sent what is none.
///
/// # Errors
/// Those of the engine, and of `batches`.
pub(super) async fn ingest(call: IngestCall, schema: SchemaRef, batches: BatchStream) -> Result<u64, Error> {
    let IngestCall { engine: _, context: _, command, namespace: _, session_options: _ } = call;
    drop((schema, batches));
    Err(Error::new(Reason::NotSupported, format!("Rows cannot be ingested into {} yet.", command.table)))
}
