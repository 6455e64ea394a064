//! Every system table: its name, its columns, and where its rows come from. The one place that names them.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{Schema, SchemaRef},
    },
    common::ScalarValue,
};

use crate::{
    error::{Error, Result},
    exec::{StatementContext, from_datafusion},
    system::rows,
    types::SqlType,
};

/// Namespace of KalamDB's own system tables.
pub(crate) const SYSTEM: &str = "system";
/// Namespace of the SQL standard's.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// A column of a system table.
#[derive(Debug)]
pub(crate) struct ColumnDefinition {
    pub(crate) name: &'static str,
    pub(crate) sql_type: SqlType,
    pub(crate) nullable: bool,
}

/// A system table.
#[derive(Debug)]
pub(crate) struct TableDefinition {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [ColumnDefinition],
    /// The rows that concern the statement's caller.
    pub(crate) rows: fn(&StatementContext) -> Result<RecordBatch>,
}

impl TableDefinition {
    pub(crate) fn schema(&self) -> SchemaRef {
        schema_of(self.columns)
    }
}

/// The Arrow schema of columns.
pub(crate) fn schema_of(columns: &[ColumnDefinition]) -> SchemaRef {
    let fields: Vec<_> = columns.iter().map(|c| c.sql_type.to_field(c.name, c.nullable)).collect();
    Arc::new(Schema::new(fields))
}

/// Rows of values as a batch.
pub(crate) fn batch(columns: &[ColumnDefinition], rows: Vec<Vec<ScalarValue>>) -> Result<RecordBatch> {
    let schema = schema_of(columns);
    if rows.is_empty() {
        return Ok(RecordBatch::new_empty(schema));
    }
    let arrays = (0..columns.len())
        .map(|i| ScalarValue::iter_to_array(rows.iter().filter_map(|row| row.get(i).cloned())).map_err(from_datafusion))
        .collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema, arrays).map_err(Error::internal)
}

const fn column(name: &'static str, sql_type: SqlType) -> ColumnDefinition {
    ColumnDefinition { name, sql_type, nullable: false }
}

const fn nullable(name: &'static str, sql_type: SqlType) -> ColumnDefinition {
    ColumnDefinition { name, sql_type, nullable: true }
}

pub(crate) static NAMESPACE_COLUMNS: [ColumnDefinition; 4] = [
    column("name", SqlType::Text),
    column("created_at", SqlType::TimestampTz),
    column("table_count", SqlType::BigInt),
    column("options", SqlType::Json),
];

pub(crate) static TABLE_COLUMNS: [ColumnDefinition; 8] = [
    column("namespace", SqlType::Text),
    column("table_name", SqlType::Text),
    column("table_type", SqlType::Text),
    column("created_at", SqlType::TimestampTz),
    column("current_schema_version", SqlType::BigInt),
    column("primary_key", SqlType::Text),
    nullable("access", SqlType::Text),
    nullable("ttl_seconds", SqlType::Double),
];

pub(crate) static COLUMN_COLUMNS: [ColumnDefinition; 8] = [
    column("namespace", SqlType::Text),
    column("table_name", SqlType::Text),
    column("column_name", SqlType::Text),
    column("ordinal_position", SqlType::BigInt),
    column("data_type", SqlType::Text),
    column("nullable", SqlType::Boolean),
    nullable("default", SqlType::Text),
    column("primary_key", SqlType::Boolean),
];

pub(crate) static SCHEMA_COLUMNS: [ColumnDefinition; 6] = [
    column("namespace", SqlType::Text),
    column("table_name", SqlType::Text),
    column("schema_version", SqlType::BigInt),
    column("created_at", SqlType::TimestampTz),
    column("change", SqlType::Text),
    column("columns", SqlType::Json),
];

pub(crate) static SETTING_COLUMNS: [ColumnDefinition; 4] = [
    column("name", SqlType::Text),
    column("value", SqlType::Text),
    column("source", SqlType::Text),
    column("description", SqlType::Text),
];

pub(crate) static SCHEMATA_COLUMNS: [ColumnDefinition; 2] =
    [column("catalog_name", SqlType::Text), column("schema_name", SqlType::Text)];

pub(crate) static STANDARD_TABLE_COLUMNS: [ColumnDefinition; 4] = [
    column("table_catalog", SqlType::Text),
    column("table_schema", SqlType::Text),
    column("table_name", SqlType::Text),
    column("table_type", SqlType::Text),
];

pub(crate) static STANDARD_COLUMN_COLUMNS: [ColumnDefinition; 8] = [
    column("table_catalog", SqlType::Text),
    column("table_schema", SqlType::Text),
    column("table_name", SqlType::Text),
    column("column_name", SqlType::Text),
    column("ordinal_position", SqlType::BigInt),
    nullable("column_default", SqlType::Text),
    column("is_nullable", SqlType::Text),
    column("data_type", SqlType::Text),
];

/// Every system table there is.
pub(crate) static TABLES: [TableDefinition; 8] = [
    TableDefinition { namespace: SYSTEM, name: "namespaces", columns: &NAMESPACE_COLUMNS, rows: rows::namespaces },
    TableDefinition { namespace: SYSTEM, name: "tables", columns: &TABLE_COLUMNS, rows: |c| rows::tables(c, None) },
    TableDefinition { namespace: SYSTEM, name: "columns", columns: &COLUMN_COLUMNS, rows: rows::columns },
    TableDefinition { namespace: SYSTEM, name: "table_schemas", columns: &SCHEMA_COLUMNS, rows: rows::table_schemas },
    TableDefinition { namespace: SYSTEM, name: "settings", columns: &SETTING_COLUMNS, rows: rows::settings },
    TableDefinition {
        namespace: INFORMATION_SCHEMA,
        name: "schemata",
        columns: &SCHEMATA_COLUMNS,
        rows: rows::schemata,
    },
    TableDefinition {
        namespace: INFORMATION_SCHEMA,
        name: "tables",
        columns: &STANDARD_TABLE_COLUMNS,
        rows: rows::standard_tables,
    },
    TableDefinition {
        namespace: INFORMATION_SCHEMA,
        name: "columns",
        columns: &STANDARD_COLUMN_COLUMNS,
        rows: rows::standard_columns,
    },
];
