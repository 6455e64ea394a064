//! Running one statement of any kind.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use kalamdb_store::ids::CommitSeq;
use tokio::time::Instant;

use crate::{
    access::{self, Caller, StatementKind},
    audit,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext, backup, ddl,
        delete::DeletePlan,
        export,
        insert::InsertPlan,
        maintenance,
        output::{Body, timed_out},
        params::{self, Parameter},
        plan_cache::{CachedStatement, Plan, PlanKey},
        planner::Names,
        query::{QueryPlan, run_query},
        show,
        update::UpdatePlan,
    },
    live,
    sql::Statement,
    storage,
    types::SqlType,
    users,
};

/// What a statement runs with, beside its own text.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) caller: Caller,
    /// Namespace of unqualified names.
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) parameters: Arc<[Parameter]>,
    pub(crate) deadline: Option<Instant>,
}

/// Runs a statement.
///
/// A write that was handed to the committer is waited for even beyond the deadline: its outcome is then known.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    invocation: &Invocation,
    statement: &CachedStatement,
) -> Result<(Body, Option<CommitSeq>)> {
    // The futures of everything but a query by key are boxed: inside this one they would make it large, and it is
    // moved several times on its way to a task for each call.
    match audit::statement_act(statement, invocation.namespace.as_deref()) {
        Some(act) => {
            Box::pin(audit::audited(shared, &invocation.caller, act, dispatch(shared, invocation, statement))).await
        }
        None => dispatch(shared, invocation, statement).await,
    }
}

/// Runs a statement, if the caller may run any of its kind.
async fn dispatch(
    shared: &Arc<Shared>,
    invocation: &Invocation,
    statement: &CachedStatement,
) -> Result<(Body, Option<CommitSeq>)> {
    let namespace = invocation.namespace.as_deref();
    let kind = &statement.parsed.statement;
    access::may_run(&invocation.caller, StatementKind::of(kind))?;
    if is_ddl(kind) {
        return Box::pin(ddl::run(shared, &invocation.caller, namespace, kind)).await.map(|body| (body, None));
    }
    if is_maintenance(kind) {
        return Box::pin(maintenance::run(shared, invocation, kind)).await.map(|body| (body, None));
    }
    if backup::concerns(kind) {
        let (caller, deadline) = (&invocation.caller, invocation.deadline);
        return Box::pin(backup::run(shared, caller, deadline, kind)).await.map(|body| (body, None));
    }
    if storage::dml::concerns(kind, namespace) {
        return Box::pin(storage::dml::run(shared, invocation, kind)).await.map(|body| (body, None));
    }
    if users::statement::is_about_users(kind) {
        let running = Box::pin(users::statement::run(shared, &invocation.caller, kind));
        return until(invocation.deadline, running).await.map(|body| (body, None));
    }
    if users::dml::concerns(kind, namespace) {
        let running = Box::pin(users::dml::run(shared, invocation, kind));
        return until(invocation.deadline, running).await.map(|body| (body, None));
    }
    if matches!(kind, Statement::Export(_)) {
        return Box::pin(export::run(shared, invocation, statement)).await.map(|body| (body, None));
    }
    for _ in 0..MAX_CATALOG_CHANGES {
        let context = Arc::new(shared.context(invocation.caller.clone()));
        match attempt(shared, invocation, statement, &context).await? {
            Attempt::Done(body, commit_seq) => return Ok((body, commit_seq)),
            Attempt::CatalogChanged => {}
        }
    }
    Err(kept_changing())
}

/// The error of a statement that met too many changes of the catalog.
pub(super) fn kept_changing() -> Error {
    Error::new(Reason::WriteConflict, "Tables kept being altered while the statement ran. Run it again.")
}

/// Waits for a statement until its time-out. What it has begun to change by then it changes as a whole.
async fn until<T>(deadline: Option<Instant>, running: impl Future<Output = Result<T>>) -> Result<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, running).await.map_err(|_| timed_out())?,
        None => running.await,
    }
}

/// How often a statement begins again because DDL came between its look at the catalog and its look at the rows.
pub(super) const MAX_CATALOG_CHANGES: usize = 100;

enum Attempt {
    Done(Body, Option<CommitSeq>),
    /// Rows may be of a schema version that the statement's state of the catalog does not have.
    CatalogChanged,
}

async fn attempt(
    shared: &Arc<Shared>,
    invocation: &Invocation,
    statement: &CachedStatement,
    context: &Arc<StatementContext>,
) -> Result<Attempt> {
    let namespace = invocation.namespace.as_deref();
    let rows = match &statement.parsed.statement {
        Statement::ShowNamespaces => show::namespaces(context)?,
        Statement::ShowTables { namespace: named } => show::tables(context, named.as_ref(), namespace)?,
        Statement::ShowStorages => show::storages(context)?,
        Statement::DescribeTable { table } => show::describe(context, table, namespace)?,
        Statement::KillLiveQuery(kill) => {
            live::kill_live_query(shared, &invocation.caller, kill.id)?;
            let message = format!("Live query {} killed", kill.id);
            return Ok(Attempt::Done(Body::Affected { row_count: 0, message }, None));
        }
        Statement::Subscribe(_) => {
            let message = "SUBSCRIBE is not a statement to execute: send it to SubscribeService.Subscribe, which streams its \
                           rows and changes. Clients and kalam-cli do.";
            return Err(Error::new(Reason::NotSupported, message));
        }
        Statement::ShowTableStats(stats) => {
            Box::pin(show::table_stats(shared, context, &stats.table, namespace, invocation.deadline)).await?
        }
        _ => {
            let key = plan_key(invocation, statement);
            let cached = shared.caches.plan(&key, &context.catalog, &context.viewer)?;
            let plan = match cached {
                Some(plan) => plan,
                None => Box::pin(planned(shared, invocation, statement, context, key)).await?,
            };
            if plan.scans() {
                // A row of a new schema version is written only after the state that has it was published: if the
                // state is still the same, the snapshot has none.
                context.snapshot();
                if !shared.catalog.is_state(&context.catalog) {
                    return Ok(Attempt::CatalogChanged);
                }
            }
            let outcome = run_plan(shared, invocation, Arc::clone(context), &plan).await;
            return match outcome {
                Ok((body, commit_seq)) => Ok(Attempt::Done(body, commit_seq)),
                Err(e) if e.reason() == Reason::Corruption && !shared.catalog.is_state(&context.catalog) => {
                    Ok(Attempt::CatalogChanged)
                }
                Err(e) => Err(e),
            };
        }
    };
    Ok(Attempt::Done(Body::Rows(rows), None))
}

async fn run_plan(
    shared: &Arc<Shared>,
    invocation: &Invocation,
    context: Arc<StatementContext>,
    plan: &Plan,
) -> Result<(Body, Option<CommitSeq>)> {
    let parameters = &invocation.parameters;
    let deadline = invocation.deadline;
    match plan {
        Plan::Query(query) => {
            let rows = run_query(shared, context, query, parameters, deadline).await?;
            Ok((Body::Rows(rows), None))
        }
        Plan::Insert(insert) => Box::pin(insert.run(shared, context, parameters, deadline)).await,
        Plan::Update(update) => Box::pin(update.run(shared, context, parameters, deadline)).await,
        Plan::Delete(delete) => Box::pin(delete.run(shared, context, parameters, deadline)).await,
    }
}

fn is_ddl(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::CreateNamespace(_)
            | Statement::AlterNamespace(_)
            | Statement::DropNamespace(_)
            | Statement::CreateTable(_)
            | Statement::AlterTable(_)
            | Statement::CreateStorage(_)
            | Statement::AlterStorage(_)
            | Statement::DropStorage(_)
            | Statement::DropTable(_)
    )
}

fn is_maintenance(statement: &Statement) -> bool {
    matches!(statement, Statement::FlushTable(_) | Statement::FlushAll(_) | Statement::CompactTable(_))
}

pub(super) fn plan_key(invocation: &Invocation, statement: &CachedStatement) -> PlanKey {
    PlanKey {
        normalized: Arc::clone(&statement.normalized),
        namespace: invocation.namespace.clone(),
        parameter_types: params::types_of(&invocation.parameters),
        rules: None,
    }
}

/// Plans a statement on the query threads, and keeps the plan.
pub(crate) async fn planned(
    shared: &Arc<Shared>,
    invocation: &Invocation,
    statement: &CachedStatement,
    context: &Arc<StatementContext>,
    key: PlanKey,
) -> Result<Arc<Plan>> {
    let parsed = statement.parsed.statement.clone();
    let template = Arc::clone(&shared.template);
    let planning = {
        let context = Arc::clone(context);
        let key = key.clone();
        shared.runtime.spawn(async move {
            let names =
                || Names { catalog: &context.catalog, viewer: &context.viewer, namespace: key.namespace.as_deref() };
            plan(&template, names, &parsed, &key.parameter_types)
        })
    };
    let plan = match invocation.deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, planning.outcome()).await.map_err(|_| timed_out())???,
        None => planning.outcome().await??,
    };
    let plan = Arc::new(plan);
    shared.caches.insert(key, Arc::clone(&plan));
    Ok(plan)
}

fn plan<'a>(
    state: &datafusion::execution::SessionState,
    names: impl Fn() -> Names<'a> + Copy,
    statement: &Statement,
    given: &[SqlType],
) -> Result<Plan> {
    match statement {
        Statement::Query(query) => {
            QueryPlan::new(state, names, ast::Statement::Query(query.clone()), given).map(Plan::Query)
        }
        Statement::Export(export) => {
            QueryPlan::new(state, names, ast::Statement::Query(export.query.clone()), given).map(Plan::Query)
        }
        Statement::Explain(explain) => {
            let query = ast::Statement::Explain {
                describe_alias: ast::DescribeAlias::Explain,
                analyze: explain.analyze,
                verbose: explain.verbose,
                query_plan: false,
                estimate: false,
                statement: Box::new(ast::Statement::Query(explain.query.clone())),
                format: None,
                options: None,
            };
            QueryPlan::new(state, names, query, given).map(Plan::Query)
        }
        Statement::Insert(insert) => InsertPlan::new(state, names, insert, given).map(Plan::Insert),
        Statement::Update(update) => UpdatePlan::new(state, names, update, given).map(Plan::Update),
        Statement::Delete(delete) => DeletePlan::new(state, names, delete, given).map(Plan::Delete),
        other => Err(Error::internal(format!("no plan for {other:?}"))),
    }
}
