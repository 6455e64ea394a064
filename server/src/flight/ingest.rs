//! `CommandStatementIngest`: rows of Arrow, put into a table.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use futures::{StreamExt, stream};
use kalamdb_engine::{Engine, Error, IfExists, IfMissing, IngestOptions, IngestTarget, Reason};

use tokio::time::Instant;

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
    let IngestCall { engine, context, command, namespace, session_options } = call;
    let target = target(command, namespace, session_options)?;
    let batches = match context.timeout {
        None => batches,
        Some(timeout) => until(Instant::now() + timeout, batches),
    };
    engine.session(context.caller).ingest(target, schema, batches).await.map(|outcome| outcome.rows)
}

/// Rows that end with an error at the deadline. What was handed to the committer by then is waited for: what has become of
/// it is known when the call ends.
fn until(deadline: Instant, batches: BatchStream) -> BatchStream {
    Box::pin(stream::unfold(Some(batches), move |rest| async move {
        let mut rest = rest?;
        match tokio::time::timeout_at(deadline, rest.next()).await {
            Ok(batch) => batch.map(|batch| (batch, Some(rest))),
            Err(_) => {
                let error = Error::new(Reason::StatementTimeout, "The ingest was stopped at its deadline.");
                Some((Err(error), None))
            }
        }
    }))
}

/// What the engine is asked for.
fn target(
    command: CommandStatementIngest,
    namespace: Option<String>,
    session_options: Vec<(String, String)>,
) -> Result<IngestTarget, Error> {
    let Some(namespace) = namespace else {
        let message = format!(
            "Table \"{}\" has no namespace. Name it as the db_schema of the ingest, or set the option schema of the session.",
            command.table.escape_debug()
        );
        return Err(Error::new(Reason::NamespaceRequired, message).with("table", command.table));
    };
    let mut options = IngestOptions::default();
    for (name, value) in session_options.into_iter().chain(command.options) {
        options.set(&name, &value)?;
    }
    // What is not said is what is usual: rows are added to a table that is there.
    let wanted = command.table_definition_options.unwrap_or_default();
    let if_missing = match wanted.if_not_exist() {
        TableNotExistOption::Create => IfMissing::Create,
        TableNotExistOption::Fail | TableNotExistOption::Unspecified => IfMissing::Fail,
    };
    let if_exists = match wanted.if_exists() {
        TableExistsOption::Append | TableExistsOption::Unspecified => IfExists::Append,
        TableExistsOption::Fail => IfExists::Fail,
        TableExistsOption::Replace => {
            let message = format!(
                "Replacing a table by an ingest is not supported, because its rows would be gone if the ingest failed. DROP \
                 TABLE {namespace}.{} first, and create it with the ingest.",
                command.table.escape_debug()
            );
            return Err(Error::new(Reason::NotSupported, message).with("table", command.table));
        }
    };
    Ok(IngestTarget { namespace, table: command.table, if_missing, if_exists, options })
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::TableDefinitionOptions;

    use super::*;

    fn command(if_not_exist: TableNotExistOption, if_exists: TableExistsOption) -> CommandStatementIngest {
        let definition = TableDefinitionOptions { if_not_exist: if_not_exist.into(), if_exists: if_exists.into() };
        CommandStatementIngest {
            table_definition_options: Some(definition),
            table: "t".to_owned(),
            ..CommandStatementIngest::default()
        }
    }

    fn shop() -> Option<String> {
        Some("shop".to_owned())
    }

    #[test]
    fn modes_are_those_of_the_client() {
        let create = command(TableNotExistOption::Create, TableExistsOption::Fail);
        assert_eq!(target(create, shop(), Vec::new()).unwrap(), IngestTarget::create("shop", "t"));
        let append = command(TableNotExistOption::Fail, TableExistsOption::Append);
        assert_eq!(target(append, shop(), Vec::new()).unwrap(), IngestTarget::append("shop", "t"));
        let unsaid = CommandStatementIngest { table: "t".to_owned(), ..CommandStatementIngest::default() };
        assert_eq!(target(unsaid, shop(), Vec::new()).unwrap(), IngestTarget::append("shop", "t"));
        let replace = command(TableNotExistOption::Create, TableExistsOption::Replace);
        assert_eq!(target(replace, shop(), Vec::new()).unwrap_err().reason(), Reason::NotSupported);
    }

    #[test]
    fn options_of_the_command_go_before_those_of_the_session() {
        let session = vec![
            ("kalamdb.ingest.atomic".to_owned(), "false".to_owned()),
            ("kalamdb.ingest.primary_key".to_owned(), "a".to_owned()),
        ];
        let mut command = command(TableNotExistOption::Create, TableExistsOption::Append);
        command.options.insert("kalamdb.ingest.primary_key".to_owned(), "b".to_owned());
        let found = target(command.clone(), shop(), session).unwrap().options;
        assert_eq!((found.atomic, found.primary_key.as_deref()), (false, Some("b")));
        command.options.insert("kalamdb.ingest.atomik".to_owned(), "true".to_owned());
        let error = target(command.clone(), shop(), Vec::new()).unwrap_err();
        assert!(error.message().contains("kalamdb.ingest.atomic,"), "{error}");
        command.options.clear();
        let error = target(command, None, Vec::new()).unwrap_err();
        assert_eq!(error.reason(), Reason::NamespaceRequired);
    }
}
