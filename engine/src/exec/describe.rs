//! What a statement would answer, found out without running it.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::{Schema, SchemaRef},
    sql::sqlparser::ast,
};

use crate::{
    access::{self, StatementKind},
    audit,
    engine::Shared,
    error::{Error, ErrorKind, Reason, Result},
    exec::{
        CachedStatement, Invocation, StatementContext, TierStats,
        params::{self, parameter_index},
        plan_cache::{Plan, PlanKey},
        planner::Names,
        show,
        statement::planned,
    },
    sql::{InsertSource, Statement, TableKind, TableName},
    storage, system,
    types::SqlType,
    users,
};

/// A statement, described.
#[derive(Debug, Clone)]
pub struct StatementDescription {
    /// What kind of statement it is.
    pub kind: StatementKind,
    /// The columns of its rows; none if it answers a count.
    pub columns: SchemaRef,
    /// The types that `$1`, `$2`, … should have, as far as the statement tells; [`SqlType::Null`] where it does not.
    pub parameter_types: Vec<SqlType>,
}

impl StatementDescription {
    /// Whether it answers rows.
    pub fn has_rows(&self) -> bool {
        !self.columns.fields().is_empty()
    }

    /// Whether it changes nothing, so that it may be run any number of times.
    pub fn only_reads(&self) -> bool {
        matches!(
            self.kind,
            StatementKind::Query
                | StatementKind::Explain
                | StatementKind::ShowNamespaces
                | StatementKind::ShowTables
                | StatementKind::ShowTableStats
                | StatementKind::ShowStorages
                | StatementKind::ShowBackup
                | StatementKind::DescribeTable
                | StatementKind::ShowUsers
                | StatementKind::ShowApiKeys
        )
    }
}

/// Describes a statement that has `count` parameters, of the given types if they are known.
pub(crate) async fn describe(
    shared: &Arc<Shared>,
    invocation: &Invocation,
    statement: &CachedStatement,
    count: usize,
    given: Option<&[SqlType]>,
) -> Result<StatementDescription> {
    let namespace = invocation.namespace.as_deref();
    let parsed = &statement.parsed.statement;
    let kind = StatementKind::of(parsed);
    if let Err(refused) = access::may_run(&invocation.caller, kind) {
        // Clients that prepare all that they run get no further than this.
        return match audit::statement_act(statement, namespace) {
            Some(act) => audit::audited(shared, &invocation.caller, act, async { Err(refused) }).await,
            None => Err(refused),
        };
    }
    let unknown = vec![SqlType::Null; count];
    let plain = |columns: SchemaRef| Ok(StatementDescription { kind, columns, parameter_types: unknown.clone() });
    // Those that the planner does not know: no one of them has rows.
    if storage::dml::concerns(parsed, namespace) || users::dml::concerns(parsed, namespace) {
        return plain(Arc::new(Schema::empty()));
    }
    let context = Arc::new(shared.context(invocation.caller.clone()));
    match parsed {
        Statement::Query(_)
        | Statement::Explain(_)
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_) => {
            let plan = plan_of(shared, invocation, statement, &context, count, given).await?;
            let mut parameter_types = plan.parameter_types().to_vec();
            if let Statement::Insert(insert) = parsed {
                values_types(&context, namespace, insert, &mut parameter_types)?;
            }
            let columns = plan.schema().cloned().unwrap_or_else(|| Arc::new(Schema::empty()));
            Ok(StatementDescription { kind, columns, parameter_types })
        }
        Statement::ShowTableStats(stats) => plain(table_stats(&context, &stats.table, namespace)?),
        Statement::ShowNamespaces => plain(show::namespaces(&context)?.schema()),
        Statement::ShowTables { namespace: named } => {
            plain(show::tables(&context, named.as_ref(), namespace)?.schema())
        }
        Statement::ShowStorages => plain(show::storages(&context)?.schema()),
        Statement::DescribeTable { table } => plain(show::describe(&context, table, namespace)?.schema()),
        Statement::ShowBackup(_) => plain(system::backups::schema()),
        Statement::ShowUsers => plain(system::users::user_schema()),
        Statement::ShowApiKeys { .. } => plain(system::users::key_schema()),
        Statement::CreateApiKey(_) => plain(system::users::new_key_schema()),
        Statement::Subscribe(_) => {
            let message = "SUBSCRIBE is not a statement to execute: send it to SubscribeService.Subscribe, which streams its \
                           rows and changes.";
            Err(Error::new(Reason::NotSupported, message))
        }
        Statement::CreateNamespace(_)
        | Statement::AlterNamespace(_)
        | Statement::DropNamespace(_)
        | Statement::CreateTable(_)
        | Statement::AlterTable(_)
        | Statement::DropTable(_)
        | Statement::CreateStorage(_)
        | Statement::AlterStorage(_)
        | Statement::DropStorage(_)
        | Statement::FlushTable(_)
        | Statement::FlushAll(_)
        | Statement::CompactTable(_)
        | Statement::BackupDatabase(_)
        | Statement::RestoreDatabase(_)
        | Statement::Export(_)
        | Statement::KillLiveQuery(_)
        | Statement::CreateUser(_)
        | Statement::AlterUser(_)
        | Statement::DropUser(_)
        | Statement::RevokeApiKey(_) => plain(Arc::new(Schema::empty())),
    }
}

/// The plan of a statement, from the cache if it is there. Where nothing is known of the parameters, and the statement cannot
/// be planned so (as `$1 || $2` cannot), they are taken for texts.
async fn plan_of(
    shared: &Arc<Shared>,
    invocation: &Invocation,
    statement: &CachedStatement,
    context: &Arc<StatementContext>,
    count: usize,
    given: Option<&[SqlType]>,
) -> Result<Arc<Plan>> {
    let with = async |types: Vec<SqlType>| {
        let key = PlanKey {
            normalized: Arc::clone(&statement.normalized),
            namespace: invocation.namespace.clone(),
            parameter_types: types,
            rules: None,
        };
        match shared.caches.plan(&key, &context.catalog, &context.viewer)? {
            Some(plan) => Ok(plan),
            None => planned(shared, invocation, statement, context, key).await,
        }
    };
    if let Some(given) = given {
        params::check_count(count, given.len())?;
        return with(given.to_vec()).await;
    }
    match with(vec![SqlType::Null; count]).await {
        Err(error) if count > 0 && matches!(error.kind(), ErrorKind::InvalidRequest | ErrorKind::NotSupported) => {
            // The first error says more of what is wrong with the statement itself.
            with(vec![SqlType::Text; count]).await.map_err(|_| error)
        }
        outcome => outcome,
    }
}

/// Fills in the types of parameters that are values of INSERT … VALUES as they are: those of their columns.
fn values_types(
    context: &StatementContext,
    namespace: Option<&str>,
    insert: &crate::sql::Insert,
    types: &mut [SqlType],
) -> Result<()> {
    let InsertSource::Values(rows) = &insert.source else { return Ok(()) };
    let names = Names { catalog: &context.catalog, viewer: &context.viewer, namespace };
    let table = names.table(&insert.table)?.table;
    let columns: Vec<&SqlType> = if insert.columns.is_empty() {
        table.columns().iter().map(|column| &column.sql_type).collect()
    } else {
        let typed = |name: &crate::sql::Name| Ok(&table.columns()[table.column_index(&name.text)?].sql_type);
        insert.columns.iter().map(typed).collect::<Result<_>>()?
    };
    for (value, column) in rows.iter().flat_map(|row| row.iter().zip(&columns)) {
        if let Some(ast::Expr::Value(value)) = value
            && let ast::Value::Placeholder(id) = &value.value
            && let Some(slot) = parameter_index(id).and_then(|index| types.get_mut(index))
            && *slot == SqlType::Null
        {
            *slot = (*column).clone();
        }
    }
    Ok(())
}

/// The columns of SHOW TABLE STATS.
fn table_stats(context: &StatementContext, name: &TableName, namespace: Option<&str>) -> Result<SchemaRef> {
    let names = Names { catalog: &context.catalog, viewer: &context.viewer, namespace };
    let every_user = names.table(name)?.table.kind() != TableKind::Shared && context.caller.role.crosses_users();
    let none: [(kalamdb_store::ids::Owner, TierStats); 0] = [];
    Ok(system::rows::table_stats(&none, every_user)?.schema())
}
