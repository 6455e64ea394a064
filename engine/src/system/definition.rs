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
    audit,
    error::{Error, Result},
    exec::{StatementContext, from_datafusion},
    system::{jobs, live_queries, rows, segments, users},
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
    /// Of an array that of its elements.
    value_type: SqlType,
    is_array: bool,
    pub(crate) nullable: bool,
}

impl ColumnDefinition {
    pub(crate) fn sql_type(&self) -> SqlType {
        let value_type = self.value_type.clone();
        if self.is_array { SqlType::List(Box::new(value_type)) } else { value_type }
    }
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
    let fields: Vec<_> = columns.iter().map(|c| c.sql_type().to_field(c.name, c.nullable)).collect();
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
    ColumnDefinition { name, value_type: sql_type, is_array: false, nullable: false }
}

const fn nullable(name: &'static str, sql_type: SqlType) -> ColumnDefinition {
    ColumnDefinition { name, value_type: sql_type, is_array: false, nullable: true }
}

const fn array(name: &'static str, element_type: SqlType) -> ColumnDefinition {
    ColumnDefinition { name, value_type: element_type, is_array: true, nullable: false }
}

pub(crate) static NAMESPACE_COLUMNS: [ColumnDefinition; 4] = [
    column("name", SqlType::Text),
    column("created_at", SqlType::TimestampTz),
    column("table_count", SqlType::BigInt),
    column("options", SqlType::Json),
];

pub(crate) static TABLE_COLUMNS: [ColumnDefinition; 11] = [
    column("namespace", SqlType::Text),
    column("table_name", SqlType::Text),
    column("table_type", SqlType::Text),
    column("created_at", SqlType::TimestampTz),
    column("current_schema_version", SqlType::BigInt),
    column("primary_key", SqlType::Text),
    nullable("access", SqlType::Text),
    nullable("ttl_seconds", SqlType::Double),
    nullable("storage", SqlType::Text),
    nullable("location", SqlType::Text),
    nullable("flush_policy", SqlType::Text),
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

pub(crate) static SEGMENT_COLUMNS: [ColumnDefinition; 15] = [
    column("namespace", SqlType::Text),
    column("table_name", SqlType::Text),
    nullable("user_id", SqlType::Text),
    column("segment_id", SqlType::Text),
    column("storage", SqlType::Text),
    nullable("path", SqlType::Text),
    column("rows", SqlType::BigInt),
    column("deleted_rows", SqlType::BigInt),
    column("bytes", SqlType::BigInt),
    column("schema_version", SqlType::BigInt),
    column("min_key", SqlType::Text),
    column("max_key", SqlType::Text),
    column("min_seq", SqlType::BigInt),
    column("max_seq", SqlType::BigInt),
    column("created_at", SqlType::TimestampTz),
];

pub(crate) static JOB_COLUMNS: [ColumnDefinition; 20] = [
    column("job_id", SqlType::Text),
    column("type", SqlType::Text),
    column("status", SqlType::Text),
    nullable("namespace", SqlType::Text),
    nullable("table", SqlType::Text),
    array("parameters", SqlType::Text),
    nullable("result", SqlType::Text),
    nullable("trace", SqlType::Text),
    column("memory_used", SqlType::BigInt),
    column("cpu_used", SqlType::BigInt),
    column("node", SqlType::Text),
    column("created_at", SqlType::TimestampTz),
    nullable("started_at", SqlType::TimestampTz),
    nullable("finished_at", SqlType::TimestampTz),
    column("rows", SqlType::BigInt),
    column("bytes", SqlType::BigInt),
    column("segments", SqlType::BigInt),
    column("partitions", SqlType::BigInt),
    column("partitions_kept_hot", SqlType::BigInt),
    column("partitions_failed", SqlType::BigInt),
];

pub(crate) static LIVE_QUERY_COLUMNS: [ColumnDefinition; 14] = [
    column("live_id", SqlType::Text),
    column("user_id", SqlType::Text),
    column("namespace", SqlType::Text),
    column("table_name", SqlType::Text),
    column("query", SqlType::Text),
    column("options", SqlType::Json),
    column("node", SqlType::BigInt),
    column("created_at", SqlType::TimestampTz),
    column("changes", SqlType::BigInt),
    column("bytes_sent", SqlType::BigInt),
    column("bytes_per_second", SqlType::Double),
    column("position", SqlType::BigInt),
    column("queued_commits", SqlType::BigInt),
    column("queued_bytes", SqlType::BigInt),
];

pub(crate) static AUDIT_COLUMNS: [ColumnDefinition; 11] = [
    column("audit_id", SqlType::BigInt),
    column("at", SqlType::TimestampTz),
    column("user_id", SqlType::Text),
    column("role", SqlType::Text),
    nullable("acting_as", SqlType::Text),
    nullable("address", SqlType::Text),
    column("action", SqlType::Text),
    nullable("object", SqlType::Text),
    nullable("statement", SqlType::Text),
    column("outcome", SqlType::Text),
    nullable("reason", SqlType::Text),
];

/// What SHOW TABLE STATS answers.
pub(crate) static TABLE_STATS_COLUMNS: [ColumnDefinition; 8] = [
    nullable("user_id", SqlType::Text),
    column("buffered_rows", SqlType::BigInt),
    column("buffered_bytes", SqlType::BigInt),
    column("flushed_rows", SqlType::BigInt),
    column("segments", SqlType::BigInt),
    column("segment_bytes", SqlType::BigInt),
    column("total_bytes", SqlType::BigInt),
    nullable("last_flush", SqlType::TimestampTz),
];

pub(crate) static BACKUP_COLUMNS: [ColumnDefinition; 17] = [
    column("backup_id", SqlType::Text),
    column("status", SqlType::Text),
    nullable("namespace", SqlType::Text),
    nullable("mode", SqlType::Text),
    nullable("based_on", SqlType::Text),
    nullable("created_at", SqlType::TimestampTz),
    nullable("finished_at", SqlType::TimestampTz),
    nullable("commit_seq", SqlType::BigInt),
    nullable("tables", SqlType::BigInt),
    nullable("table_names", SqlType::Text),
    nullable("row_count", SqlType::BigInt),
    nullable("files", SqlType::BigInt),
    nullable("bytes", SqlType::BigInt),
    nullable("new_files", SqlType::BigInt),
    nullable("new_bytes", SqlType::BigInt),
    nullable("version", SqlType::Text),
    nullable("problem", SqlType::Text),
];

pub(crate) static STORAGE_COLUMNS: [ColumnDefinition; 7] = [
    column("name", SqlType::Text),
    column("type", SqlType::Text),
    nullable("uri", SqlType::Text),
    nullable("credentials", SqlType::Text),
    nullable("created_at", SqlType::TimestampTz),
    column("usage_count", SqlType::BigInt),
    column("tables", SqlType::Json),
];

pub(crate) static USER_COLUMNS: [ColumnDefinition; 10] = [
    column("user_id", SqlType::Text),
    column("username", SqlType::Text),
    column("role", SqlType::Text),
    array("permissions", SqlType::Text),
    nullable("metadata", SqlType::Json),
    column("disabled", SqlType::Boolean),
    column("has_password", SqlType::Boolean),
    column("created_at", SqlType::TimestampTz),
    column("updated_at", SqlType::TimestampTz),
    nullable("last_login", SqlType::TimestampTz),
];

pub(crate) static API_KEY_COLUMNS: [ColumnDefinition; 6] = [
    column("key_id", SqlType::Text),
    column("user_id", SqlType::Text),
    nullable("name", SqlType::Text),
    column("created_at", SqlType::TimestampTz),
    nullable("expires_at", SqlType::TimestampTz),
    nullable("last_used", SqlType::TimestampTz),
];

/// What CREATE API KEY answers: the only time that a key is shown.
pub(crate) static NEW_API_KEY_COLUMNS: [ColumnDefinition; 5] = [
    column("key_id", SqlType::Text),
    column("key", SqlType::Text),
    column("user_id", SqlType::Text),
    nullable("name", SqlType::Text),
    nullable("expires_at", SqlType::TimestampTz),
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
pub(crate) static TABLES: [TableDefinition; 15] = [
    TableDefinition { namespace: SYSTEM, name: "namespaces", columns: &NAMESPACE_COLUMNS, rows: rows::namespaces },
    TableDefinition { namespace: SYSTEM, name: "tables", columns: &TABLE_COLUMNS, rows: |c| rows::tables(c, None) },
    TableDefinition { namespace: SYSTEM, name: "columns", columns: &COLUMN_COLUMNS, rows: rows::columns },
    TableDefinition { namespace: SYSTEM, name: "table_schemas", columns: &SCHEMA_COLUMNS, rows: rows::table_schemas },
    TableDefinition { namespace: SYSTEM, name: "segments", columns: &SEGMENT_COLUMNS, rows: segments::rows },
    TableDefinition { namespace: SYSTEM, name: "storages", columns: &STORAGE_COLUMNS, rows: rows::storages },
    TableDefinition { namespace: SYSTEM, name: "jobs", columns: &JOB_COLUMNS, rows: jobs::rows },
    TableDefinition { namespace: SYSTEM, name: "live_queries", columns: &LIVE_QUERY_COLUMNS, rows: live_queries::rows },
    TableDefinition { namespace: SYSTEM, name: "users", columns: &USER_COLUMNS, rows: users::users },
    TableDefinition { namespace: SYSTEM, name: "api_keys", columns: &API_KEY_COLUMNS, rows: users::api_keys },
    TableDefinition { namespace: SYSTEM, name: "settings", columns: &SETTING_COLUMNS, rows: rows::settings },
    TableDefinition { namespace: SYSTEM, name: "audit", columns: &AUDIT_COLUMNS, rows: audit::rows },
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
