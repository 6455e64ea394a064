//! The catalog as shown to callers.

use std::collections::BTreeMap;

use crate::{
    catalog::{
        CatalogState, Namespace, Table,
        table::{ColumnRecord, SchemaRecord},
    },
    sql::TableKind,
    storage::Storages,
    types::SqlType,
};

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Its name.
    pub name: String,
    /// When it was created, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// Number of its tables.
    pub table_count: usize,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// Whether it can hold NULL.
    pub nullable: bool,
    /// Its DEFAULT, as SQL.
    pub default: Option<String>,
    /// Whether it is the primary key.
    pub primary_key: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: TableKind,
    /// When it was created, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// Its current schema version.
    pub schema_version: u32,
    /// Its columns, in creation order.
    pub columns: Vec<ColumnInfo>,
    /// `access` of SHARED tables, `ttl_us` of STREAM tables; `storage`, `flush_policy` and, if one was given, `location`
    /// of tables that are not STREAM.
    pub properties: BTreeMap<String, String>,
}

/// A schema version of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaVersionInfo {
    /// Its number, from 1.
    pub version: u32,
    /// When it was made, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// What made it, such as `ADD COLUMN note`.
    pub change: String,
    /// Its columns, in creation order.
    pub columns: Vec<ColumnInfo>,
}

impl NamespaceInfo {
    pub(crate) fn new(namespace: &Namespace, table_count: usize) -> Self {
        Self {
            name: namespace.name.to_string(),
            created_at_us: namespace.created_at_us,
            table_count,
            options: namespace.options.clone(),
        }
    }
}

impl ColumnInfo {
    fn new(column: &ColumnRecord) -> Self {
        Self {
            name: column.name.to_string(),
            sql_type: column.sql_type.clone(),
            nullable: column.nullable,
            default: column.default.clone(),
            primary_key: column.primary_key,
        }
    }
}

impl TableInfo {
    pub(crate) fn new(table: &Table, storages: &Storages) -> Self {
        let record = table.record();
        let mut properties = BTreeMap::new();
        if let Some(access) = record.access {
            properties.insert("access".to_owned(), access.as_str().to_owned());
        }
        if let Some(ttl_us) = record.ttl_us {
            properties.insert("ttl_us".to_owned(), ttl_us.to_string());
        }
        if record.kind != TableKind::Stream {
            properties.insert("storage".to_owned(), storages.name_of(record.storage));
            let policy = record.flush_policy.map_or_else(|| "none".to_owned(), |policy| policy.to_string());
            properties.insert("flush_policy".to_owned(), policy);
        }
        if let Some(location) = &record.location {
            properties.insert("location".to_owned(), location.clone());
        }
        Self {
            namespace: record.namespace.to_string(),
            name: record.name.to_string(),
            kind: record.kind,
            created_at_us: record.created_at_us,
            schema_version: table.schema_version().get(),
            columns: record.versions.last().map(columns).unwrap_or_default(),
            properties,
        }
    }
}

impl SchemaVersionInfo {
    pub(crate) fn new(record: &SchemaRecord) -> Self {
        Self {
            version: record.version.get(),
            created_at_us: record.created_at_us,
            change: record.change.clone(),
            columns: columns(record),
        }
    }
}

impl CatalogState {
    /// Every schema version of a table, oldest first.
    pub(crate) fn schema_versions(table: &Table) -> Vec<SchemaVersionInfo> {
        table.record().versions.iter().map(SchemaVersionInfo::new).collect()
    }
}

fn columns(record: &SchemaRecord) -> Vec<ColumnInfo> {
    record.columns.iter().map(ColumnInfo::new).collect()
}
