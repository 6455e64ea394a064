//! SHOW and DESCRIBE.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use kalamdb_store::ids::Owner;
use tokio::time::Instant;

use crate::{
    access,
    catalog::{ColumnInfo, TableInfo},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext, TierStats,
        errors::from_datafusion,
        output::{RowStream, result_columns, timed_out},
        planner::Names,
        scan::batch_of,
        stats,
    },
    sql::{Name, TableKind, TableName, TableScope},
    system::{self, rows},
    types::SqlType,
};

/// SHOW NAMESPACES.
pub(crate) fn namespaces(context: &StatementContext) -> Result<RowStream> {
    ready(rows::namespaces(context)?)
}

/// SHOW TABLES [IN namespace].
pub(crate) fn tables(context: &StatementContext, namespace: Option<&Name>, default: Option<&str>) -> Result<RowStream> {
    let namespace = match namespace {
        Some(name) => {
            if !system::is_system_namespace(&name.text) {
                context.catalog.namespace(&name.text).map_err(|e| match name.position {
                    Some(position) => e.at(position),
                    None => e,
                })?;
            }
            Some(name.text.as_str())
        }
        None => default,
    };
    ready(rows::tables(context, namespace)?)
}

/// SHOW STORAGES.
pub(crate) fn storages(context: &StatementContext) -> Result<RowStream> {
    ready(rows::storages(context)?)
}

/// SHOW TABLE STATS: a row for each partition that the caller may know of.
pub(crate) async fn table_stats(
    shared: &Arc<Shared>,
    context: &Arc<StatementContext>,
    name: &TableName,
    default: Option<&str>,
    deadline: Option<Instant>,
) -> Result<RowStream> {
    let namespace = name.namespace.as_ref().map(|n| n.text.as_str()).or(default);
    if namespace.is_some_and(system::is_system_namespace) {
        let message = "A table of the system keeps no rows: there are no statistics of it.";
        return Err(Error::new(Reason::InvalidStatement, message));
    }
    let names = Names { catalog: &context.catalog, viewer: &context.viewer, namespace: default };
    let used = names.table(name)?;
    if used.rule.is_some() {
        return Err(access::counts_hidden_rows(&used.table));
    }
    let table = used.table;
    let owner = match table.kind() {
        TableKind::Shared => Some(Owner::Shared),
        TableKind::User | TableKind::Stream if context.caller.role.crosses_users() => None,
        TableKind::User | TableKind::Stream => Some(Owner::User(context.caller.effective_user().clone())),
    };
    let counting = {
        let (in_task, context, owner) = (Arc::clone(shared), Arc::clone(context), owner.clone());
        shared.runtime.spawn(async move { stats::count(&in_task, &context, &table, owner).await })
    };
    let mut partitions = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, counting.outcome()).await.map_err(|_| timed_out())???,
        None => counting.outcome().await??,
    };
    let every_user = owner.is_none();
    // Who has one partition to look at has it also when it is empty.
    if let (Some(owner), true) = (owner, partitions.is_empty()) {
        partitions.push((owner, TierStats::default()));
    }
    ready(rows::table_stats(&partitions, every_user)?)
}

/// DESCRIBE: a row for each column, then a row for each property of the table.
pub(crate) fn describe(context: &StatementContext, name: &TableName, default: Option<&str>) -> Result<RowStream> {
    let named = TableName { scope: TableScope::Caller, ..name.clone() };
    let names = Names { catalog: &context.catalog, viewer: &context.viewer, namespace: default };
    let namespace = named.namespace.as_ref().map(|n| n.text.as_str()).or(default);
    let mut lines: Vec<[String; 6]> = Vec::new();
    match namespace.filter(|n| system::is_system_namespace(n)) {
        Some(namespace) => {
            let Some(provider) = system::provider(namespace, &named.table.text) else {
                context.catalog.table(namespace, &named.table.text, |_| true)?;
                return Err(Error::internal("a table of the system that is not one"));
            };
            for field in datafusion::catalog::TableProvider::schema(provider.as_ref()).fields() {
                lines.push(column_line(&ColumnInfo {
                    name: field.name().clone(),
                    sql_type: SqlType::from_field(field),
                    nullable: field.is_nullable(),
                    default: None,
                    primary_key: false,
                }));
            }
            lines.push(property_line("table_type", "SYSTEM"));
        }
        None => {
            let table = names.table(&named)?.table;
            if !access::may_see_table(&context.viewer, &table) {
                return Err(Error::internal("a table that may be used but not seen"));
            }
            let info = TableInfo::new(&table, &context.storages);
            lines.extend(info.columns.iter().map(column_line));
            lines.extend(property_lines(&info));
        }
    }
    let text = |i: usize| -> ArrayRef {
        Arc::new(lines.iter().map(|line| Some(line[i].as_str())).collect::<StringViewArray>())
    };
    let fields =
        ["name", "kind", "type", "nullable", "default", "key"].map(|name| SqlType::Text.to_field(name, false)).to_vec();
    let schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields));
    ready(batch_of(&schema, (0..6).map(text).collect(), lines.len()).map_err(from_datafusion)?)
}

fn column_line(column: &ColumnInfo) -> [String; 6] {
    [
        column.name.clone(),
        "column".to_owned(),
        column.sql_type.to_string(),
        if column.nullable { "YES" } else { "NO" }.to_owned(),
        column.default.clone().unwrap_or_default(),
        if column.primary_key { "PRIMARY KEY" } else { "" }.to_owned(),
    ]
}

fn property_lines(info: &TableInfo) -> Vec<[String; 6]> {
    let mut lines = vec![property_line("table_type", info.kind.as_str())];
    if info.kind == TableKind::Shared
        && let Some(access) = info.properties.get("access")
    {
        lines.push(property_line("access", access));
    }
    if let Some(ttl_us) = info.properties.get("ttl_us").and_then(|t| t.parse::<u64>().ok()) {
        lines.push(property_line("ttl", &format!("{} seconds", ttl_us as f64 / 1e6)));
    }
    for name in ["storage", "location", "flush_policy"] {
        if let Some(value) = info.properties.get(name) {
            lines.push(property_line(name, value));
        }
    }
    lines.push(property_line("replicas", "none"));
    lines.push(property_line("current_schema_version", &info.schema_version.to_string()));
    lines.push(property_line(
        "schema_history",
        &format!(
            "SELECT * FROM system.table_schemas WHERE namespace = '{}' AND table_name = '{}'",
            info.namespace, info.name
        ),
    ));
    lines
}

fn property_line(name: &str, value: &str) -> [String; 6] {
    [name.to_owned(), "property".to_owned(), value.to_owned(), String::new(), String::new(), String::new()]
}

fn ready(batch: RecordBatch) -> Result<RowStream> {
    Ok(RowStream::ready(result_columns(&batch.schema()), batch))
}
