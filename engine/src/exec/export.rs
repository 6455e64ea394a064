//! EXPORT as a statement: what it means, before the job begins.

use std::sync::Arc;

use crate::{
    access::{self, StatementKind},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        CachedStatement, Invocation,
        output::Body,
        plan_cache::Plan,
        planner::UsedTable,
        statement::{MAX_CATALOG_CHANGES, kept_changing, plan_key, planned},
    },
    jobs::{ExportJob, ExportOrder, JobTable},
    sql::{Export, ExportFormat, Statement},
    storage::TargetUse,
};

/// Runs an EXPORT to its end.
pub(crate) async fn run(shared: &Arc<Shared>, invocation: &Invocation, statement: &CachedStatement) -> Result<Body> {
    let exported = begin(shared, invocation, statement).await?.outcome().await?;
    let message = format!("EXPORT {} rows, {} bytes", exported.rows, exported.bytes);
    Ok(Body::Affected { row_count: exported.rows, message })
}

/// Begins an EXPORT: the caller's rights are those of the SELECT, and the place is one that it may write to.
///
/// # Errors
/// Those of the query's planning, PATH_NOT_ALLOWED, INVALID_STATEMENT for a file of no known format, TOO_MANY_REQUESTS.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    invocation: &Invocation,
    statement: &CachedStatement,
) -> Result<ExportJob> {
    let caller = &invocation.caller;
    access::may_run(caller, StatementKind::Export)?;
    let Statement::Export(export) = &statement.parsed.statement else {
        return Err(Error::internal("an export of another statement"));
    };
    for _ in 0..MAX_CATALOG_CHANGES {
        let place = shared.storages.target(caller, TargetUse::Export, &export.uri).map_err(|e| at_uri(e, export))?;
        let format = format_of(export, place.file_name())?;
        let context = Arc::new(shared.context(caller.clone()));
        let key = plan_key(invocation, statement);
        let plan = match shared.caches.plan(&key, &context.catalog, &context.viewer)? {
            Some(plan) => plan,
            None => Box::pin(planned(shared, invocation, statement, &context, key)).await?,
        };
        // A row of a new schema version is written only after the state that has it was published: if the state is still
        // the same, the snapshot has none.
        context.snapshot();
        if !shared.catalog.is_state(&context.catalog) {
            continue;
        }
        let table = table_of(&plan, export);
        let parameters = Arc::clone(&invocation.parameters);
        let deadline = invocation.deadline;
        return shared.jobs.export(shared, ExportOrder { place, format, table, context, plan, parameters, deadline });
    }
    Err(kept_changing())
}

fn format_of(export: &Export, file_name: &str) -> Result<ExportFormat> {
    export.format.or_else(|| ExportFormat::of_file_name(file_name)).ok_or_else(|| {
        let message = "The name of the file does not end in .parquet, .csv or .json. Add FORMAT parquet, csv or json.";
        at_uri(Error::new(Reason::InvalidStatement, message), export)
    })
}

/// The table that an EXPORT names, as its job shows it.
fn table_of(plan: &Plan, export: &Export) -> Option<JobTable> {
    let (Plan::Query(query), Some(_)) = (plan, &export.table) else { return None };
    let [UsedTable { table, .. }] = query.tables.as_slice() else { return None };
    let record = table.record();
    Some(JobTable { id: record.id, namespace: record.namespace.to_string(), name: record.name.to_string() })
}

fn at_uri(error: Error, export: &Export) -> Error {
    match export.uri_position {
        Some(position) => error.at(position),
        None => error,
    }
}
