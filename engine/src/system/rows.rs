//! The rows of each system table.

use std::collections::BTreeMap;

use datafusion::{arrow::array::RecordBatch, common::ScalarValue};
use kalamdb_store::ids::Owner;
use serde_json::json;

use crate::{
    access::{self, Role},
    catalog::{CatalogState, ColumnInfo, Table, TableInfo},
    error::Result,
    exec::{StatementContext, TierStats},
    sql::TableKind,
    system::{
        INFORMATION_SCHEMA, SYSTEM, TABLES,
        definition::{
            COLUMN_COLUMNS, NAMESPACE_COLUMNS, SCHEMA_COLUMNS, SCHEMATA_COLUMNS, SETTING_COLUMNS,
            STANDARD_COLUMN_COLUMNS, STANDARD_TABLE_COLUMNS, STORAGE_COLUMNS, TABLE_COLUMNS, TABLE_STATS_COLUMNS,
            batch,
        },
    },
    types::{SqlType, UTC},
};

/// The catalog's name in `information_schema`.
const CATALOG: &str = "kalamdb";

/// What stands for credentials.
const REDACTED: &str = "redacted";

/// Namespaces.
pub(crate) fn namespaces(context: &StatementContext) -> Result<RecordBatch> {
    let rows = context.catalog.namespaces.values().map(|namespace| {
        let tables = visible_tables(context).filter(|t| t.namespace() == &namespace.name).count();
        vec![
            text(namespace.name.as_str()),
            time(namespace.created_at_us),
            integer(tables),
            text(&options_json(&namespace.options)),
        ]
    });
    batch(&NAMESPACE_COLUMNS, rows.collect())
}

/// Tables, of one namespace if one is given.
pub(crate) fn tables(context: &StatementContext, namespace: Option<&str>) -> Result<RecordBatch> {
    let rows = visible_tables(context).filter(|t| namespace.is_none_or(|n| t.namespace().as_str() == n)).map(|table| {
        let access = (table.kind() == TableKind::Shared).then(|| table.access().as_str());
        vec![
            text(table.namespace().as_str()),
            text(table.name().as_str()),
            text(table.kind().as_str()),
            time(table.record().created_at_us),
            integer(table.schema_version().get() as usize),
            text(table.key_column().name.as_str()),
            optional_text(access),
            ScalarValue::Float64(table.ttl_us().map(|us| us as f64 / 1e6)),
            optional_text(storage_of(context, table).as_deref()),
            optional_text(table.location()),
            optional_text(table.flush_policy().map(|policy| policy.to_string()).as_deref()),
        ]
    });
    let of_system = TABLES.iter().filter(|t| namespace.is_some_and(|n| n == t.namespace)).map(|t| {
        vec![
            text(t.namespace),
            text(t.name),
            text("SYSTEM"),
            time(0),
            integer(1),
            text(""),
            optional_text(None),
            ScalarValue::Float64(None),
            optional_text(None),
            optional_text(None),
            optional_text(None),
        ]
    });
    batch(&TABLE_COLUMNS, rows.chain(of_system).collect())
}

/// SHOW TABLE STATS: a row for each of these partitions, after one for all of them if there can be several.
pub(crate) fn table_stats(partitions: &[(Owner, TierStats)], with_total: bool) -> Result<RecordBatch> {
    let mut total = TierStats::default();
    partitions.iter().for_each(|(_, stats)| total.add(stats));
    let total = with_total.then_some((&Owner::Shared, &total));
    let rows = total.into_iter().chain(partitions.iter().map(|(owner, stats)| (owner, stats))).map(|(owner, stats)| {
        let user = match owner {
            Owner::User(user) => Some(user.as_str()),
            Owner::Shared => None,
        };
        let number = |value: u64| integer(usize::try_from(value).unwrap_or(usize::MAX));
        vec![
            optional_text(user),
            number(stats.hot_rows),
            number(stats.hot_bytes),
            number(stats.cold_rows),
            number(stats.segments),
            number(stats.cold_bytes),
            number(stats.hot_bytes + stats.cold_bytes),
            optional_time(stats.last_flush_us),
        ]
    });
    batch(&TABLE_STATS_COLUMNS, rows.collect())
}

/// Columns of the current schema version of every table.
pub(crate) fn columns(context: &StatementContext) -> Result<RecordBatch> {
    let rows = visible_tables(context).flat_map(|table| {
        let info = TableInfo::new(table, &context.storages);
        let rows: Vec<_> = info
            .columns
            .iter()
            .enumerate()
            .map(|(i, column)| {
                vec![
                    text(&info.namespace),
                    text(&info.name),
                    text(&column.name),
                    integer(i + 1),
                    text(&column.sql_type.to_string()),
                    ScalarValue::Boolean(Some(column.nullable)),
                    optional_text(column.default.as_deref()),
                    ScalarValue::Boolean(Some(column.primary_key)),
                ]
            })
            .collect();
        rows
    });
    batch(&COLUMN_COLUMNS, rows.collect())
}

/// Every schema version of every table.
pub(crate) fn table_schemas(context: &StatementContext) -> Result<RecordBatch> {
    let rows = visible_tables(context).flat_map(|table| {
        let (namespace, name) = (text(table.namespace().as_str()), text(table.name().as_str()));
        CatalogState::schema_versions(table).into_iter().map(move |version| {
            vec![
                namespace.clone(),
                name.clone(),
                integer(version.version as usize),
                time(version.created_at_us),
                text(&version.change),
                text(&columns_json(&version.columns)),
            ]
        })
    });
    batch(&SCHEMA_COLUMNS, rows.collect())
}

/// Storages. Only an operator sees where they are, and a plain user none: they are how a server is set up.
pub(crate) fn storages(context: &StatementContext) -> Result<RecordBatch> {
    let is_operator = context.caller.role >= Role::Dba;
    let shown = context.caller.role.crosses_users().then(|| context.storages.list(&context.catalog));
    let rows = shown.into_iter().flatten().map(|storage| {
        vec![
            text(&storage.name),
            text(storage.kind.as_str()),
            optional_text(is_operator.then_some(storage.uri.as_str())),
            optional_text(storage.has_credentials.then_some(REDACTED)),
            optional_time((storage.created_at_us != 0).then_some(storage.created_at_us)),
            integer(storage.tables.len()),
            text(&json!(storage.tables).to_string()),
        ]
    });
    batch(&STORAGE_COLUMNS, rows.collect())
}

/// The settings in effect.
pub(crate) fn settings(context: &StatementContext) -> Result<RecordBatch> {
    let rows =
        context.settings.iter().map(|s| vec![text(&s.name), text(&s.value), text(&s.source), text(&s.description)]);
    batch(&SETTING_COLUMNS, rows.collect())
}

/// information_schema.schemata.
pub(crate) fn schemata(context: &StatementContext) -> Result<RecordBatch> {
    let own = context.catalog.namespaces.keys().map(|name| name.as_str());
    let rows = own.chain([INFORMATION_SCHEMA, SYSTEM]).map(|name| vec![text(CATALOG), text(name)]);
    batch(&SCHEMATA_COLUMNS, rows.collect())
}

/// information_schema.tables.
pub(crate) fn standard_tables(context: &StatementContext) -> Result<RecordBatch> {
    let own = visible_tables(context).map(|t| (t.namespace().as_str(), t.name().as_str(), t.kind().as_str()));
    let of_system = TABLES.iter().map(|t| (t.namespace, t.name, "SYSTEM"));
    let rows = own
        .chain(of_system)
        .map(|(namespace, name, kind)| vec![text(CATALOG), text(namespace), text(name), text(kind)]);
    batch(&STANDARD_TABLE_COLUMNS, rows.collect())
}

/// information_schema.columns.
pub(crate) fn standard_columns(context: &StatementContext) -> Result<RecordBatch> {
    let own = visible_tables(context).map(|table| {
        let info = TableInfo::new(table, &context.storages);
        (info.namespace, info.name, info.columns)
    });
    let of_system = TABLES.iter().map(|t| {
        let columns = t
            .columns
            .iter()
            .map(|c| ColumnInfo {
                name: c.name.to_owned(),
                sql_type: c.sql_type(),
                nullable: c.nullable,
                default: None,
                primary_key: false,
            })
            .collect();
        (t.namespace.to_owned(), t.name.to_owned(), columns)
    });
    let rows = own.chain(of_system).flat_map(|(namespace, name, columns): (_, _, Vec<ColumnInfo>)| {
        columns
            .into_iter()
            .enumerate()
            .map(|(i, column)| {
                vec![
                    text(CATALOG),
                    text(&namespace),
                    text(&name),
                    text(&column.name),
                    integer(i + 1),
                    optional_text(column.default.as_deref()),
                    text(if column.nullable { "YES" } else { "NO" }),
                    text(&column.sql_type.to_string()),
                ]
            })
            .collect::<Vec<_>>()
    });
    batch(&STANDARD_COLUMN_COLUMNS, rows.collect())
}

/// The name of the storage that a table's segments go to; none of STREAM tables.
fn storage_of(context: &StatementContext, table: &Table) -> Option<String> {
    (table.kind() != TableKind::Stream).then(|| context.storages.name_of(table.storage()))
}

/// The tables whose existence concerns the caller.
pub(super) fn visible_tables(context: &StatementContext) -> impl Iterator<Item = &Table> {
    context.catalog.all_tables().map(AsRef::as_ref).filter(|table| access::may_see_table(&context.viewer, table))
}

fn options_json(options: &BTreeMap<String, String>) -> String {
    json!(options).to_string()
}

fn columns_json(columns: &[ColumnInfo]) -> String {
    let columns: Vec<_> = columns
        .iter()
        .map(|c| {
            json!({
                "name": c.name,
                "type": c.sql_type.to_string(),
                "nullable": c.nullable,
                "default": c.default,
                "primary_key": c.primary_key,
            })
        })
        .collect();
    json!(columns).to_string()
}

pub(super) fn text(value: &str) -> ScalarValue {
    optional_text(Some(value))
}

pub(super) fn optional_text(value: Option<&str>) -> ScalarValue {
    ScalarValue::Utf8View(value.map(str::to_owned))
}

pub(super) fn integer(value: usize) -> ScalarValue {
    ScalarValue::Int64(Some(value as i64))
}

pub(super) fn time(at_us: i64) -> ScalarValue {
    optional_time(Some(at_us))
}

pub(super) fn optional_time(at_us: Option<i64>) -> ScalarValue {
    debug_assert_eq!(
        SqlType::TimestampTz.to_arrow(),
        ScalarValue::TimestampMicrosecond(None, Some(UTC.into())).data_type()
    );
    ScalarValue::TimestampMicrosecond(at_us, Some(UTC.into()))
}
