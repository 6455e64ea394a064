//! The rows of each system table.

use std::collections::BTreeMap;

use datafusion::{arrow::array::RecordBatch, common::ScalarValue};
use serde_json::json;

use crate::{
    access,
    catalog::{CatalogState, ColumnInfo, Table, TableInfo},
    error::Result,
    exec::StatementContext,
    system::{
        INFORMATION_SCHEMA, SYSTEM, TABLES,
        definition::{
            COLUMN_COLUMNS, NAMESPACE_COLUMNS, SCHEMA_COLUMNS, SCHEMATA_COLUMNS, SETTING_COLUMNS,
            STANDARD_COLUMN_COLUMNS, STANDARD_TABLE_COLUMNS, TABLE_COLUMNS, batch,
        },
    },
    types::{SqlType, UTC},
};

/// The catalog's name in `information_schema`.
const CATALOG: &str = "kalamdb";

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
        let access = (table.kind() == crate::sql::TableKind::Shared).then(|| table.access().as_str());
        vec![
            text(table.namespace().as_str()),
            text(table.name().as_str()),
            text(table.kind().as_str()),
            time(table.record().created_at_us),
            integer(table.schema_version().get() as usize),
            text(table.key_column().name.as_str()),
            optional_text(access),
            ScalarValue::Float64(table.ttl_us().map(|us| us as f64 / 1e6)),
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
        ]
    });
    batch(&TABLE_COLUMNS, rows.chain(of_system).collect())
}

/// Columns of the current schema version of every table.
pub(crate) fn columns(context: &StatementContext) -> Result<RecordBatch> {
    let rows = visible_tables(context).flat_map(|table| {
        let info = TableInfo::new(table);
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

/// The settings in effect.
pub(crate) fn settings(context: &StatementContext) -> Result<RecordBatch> {
    access::require_operator(&context.caller, "Reading system.settings")?;
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
        let info = TableInfo::new(table);
        (info.namespace, info.name, info.columns)
    });
    let of_system = TABLES.iter().map(|t| {
        let columns = t
            .columns
            .iter()
            .map(|c| ColumnInfo {
                name: c.name.to_owned(),
                sql_type: c.sql_type.clone(),
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

fn visible_tables(context: &StatementContext) -> impl Iterator<Item = &Table> {
    context.catalog.all_tables().map(AsRef::as_ref).filter(|table| access::may_see_table(&context.caller, table))
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

fn text(value: &str) -> ScalarValue {
    optional_text(Some(value))
}

fn optional_text(value: Option<&str>) -> ScalarValue {
    ScalarValue::Utf8View(value.map(str::to_owned))
}

fn integer(value: usize) -> ScalarValue {
    ScalarValue::Int64(Some(value as i64))
}

fn time(at_us: i64) -> ScalarValue {
    debug_assert_eq!(
        SqlType::TimestampTz.to_arrow(),
        ScalarValue::TimestampMicrosecond(None, Some(UTC.into())).data_type()
    );
    ScalarValue::TimestampMicrosecond(Some(at_us), Some(UTC.into()))
}
