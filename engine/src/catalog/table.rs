//! A table: its record in the store, and what is derived from it for reading and writing rows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use datafusion::{
    arrow::datatypes::{DataType, Field, Schema, SchemaRef},
    common::ScalarValue,
};
use kalamdb_store::{
    codec::{LayoutColumn, LayoutHistory, RowLayout},
    ids::{ColumnId, SchemaVersion, StorageId, TableId},
};
use serde::{Deserialize, Serialize};

use crate::{
    catalog::{
        ColumnName, ConstantEvaluator, DELETED_COLUMN, Default, NamespaceName, SEQ_COLUMN, TableLabel, UPDATED_COLUMN,
        did_you_mean, nearest,
    },
    error::{Error, Reason, Result},
    sql::{Access, FlushPolicy, TableKind},
    types::SqlType,
};

/// The built-in storage `local`.
const LOCAL_STORAGE: StorageId = StorageId::new(0);

/// A table as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TableRecord {
    pub(crate) id: TableId,
    pub(crate) namespace: NamespaceName,
    pub(crate) name: TableLabel,
    pub(crate) kind: TableKind,
    pub(crate) created_at_us: i64,
    /// SHARED tables only.
    pub(crate) access: Option<Access>,
    /// STREAM tables only.
    pub(crate) ttl_us: Option<i64>,
    /// Where flushed rows go; records of before there were storages have none.
    #[serde(default = "local_storage")]
    pub(crate) storage: StorageId,
    /// The template of the folder that a partition's segments are in, relative to the storage's root; `None`: the default
    /// one.
    #[serde(default)]
    pub(crate) location: Option<String>,
    /// `None`: rows are flushed when the server sees fit.
    #[serde(default)]
    pub(crate) flush_policy: Option<FlushPolicy>,
    /// Ids of dropped columns are not used again: old rows still hold their values.
    pub(crate) next_column_id: u16,
    /// Every schema version, oldest first; the last is current.
    pub(crate) versions: Vec<SchemaRecord>,
}

fn local_storage() -> StorageId {
    LOCAL_STORAGE
}

/// One schema version as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SchemaRecord {
    pub(crate) version: SchemaVersion,
    pub(crate) created_at_us: i64,
    /// What made it, such as `ADD COLUMN note`.
    pub(crate) change: String,
    pub(crate) columns: Vec<ColumnRecord>,
}

/// One column of a schema version as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ColumnRecord {
    pub(crate) id: ColumnId,
    pub(crate) name: ColumnName,
    pub(crate) sql_type: SqlType,
    pub(crate) nullable: bool,
    /// The DEFAULT clause, as SQL.
    pub(crate) default: Option<String>,
    /// The constant, as SQL, that rows older than the column have in it; absent: NULL.
    pub(crate) fill: Option<String>,
    pub(crate) primary_key: bool,
}

/// A column of a table's current schema version.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) id: ColumnId,
    pub(crate) name: ColumnName,
    pub(crate) sql_type: SqlType,
    pub(crate) data_type: DataType,
    pub(crate) nullable: bool,
    pub(crate) default: Option<Default>,
    /// What rows older than the column have in it; `None`: NULL.
    pub(crate) fill: Option<ScalarValue>,
}

/// A table ready for use. Immutable: a change of the table makes a new one.
#[derive(Debug)]
pub(crate) struct Table {
    record: TableRecord,
    columns: Vec<Column>,
    by_name: HashMap<ColumnName, usize>,
    key: usize,
    schema: SchemaRef,
    schema_with_system: SchemaRef,
    layout: Arc<RowLayout>,
    history: Arc<LayoutHistory>,
}

impl Table {
    /// Derives a table from its record.
    pub(crate) fn new(record: TableRecord, constants: &ConstantEvaluator) -> Result<Self> {
        let damaged = || Error::internal(format!("the record of table {} has no schema version or key", record.id));
        let current = record.versions.last().ok_or_else(damaged)?;
        let columns = current.columns.iter().map(|c| Column::new(c, constants)).collect::<Result<Vec<_>>>()?;
        let key = current.columns.iter().position(|c| c.primary_key).ok_or_else(damaged)?;
        let by_name = columns.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();

        let mut fields: Vec<Field> = columns.iter().map(|c| c.sql_type.to_field(c.name.as_str(), c.nullable)).collect();
        let schema = Arc::new(Schema::new(fields.clone()));
        fields.push(SqlType::BigInt.to_field(SEQ_COLUMN, false));
        fields.push(SqlType::TimestampTz.to_field(UPDATED_COLUMN, false));
        fields.push(SqlType::Boolean.to_field(DELETED_COLUMN, false));
        let schema_with_system = Arc::new(Schema::new(fields));

        let mut layouts = BTreeMap::new();
        for version in &record.versions {
            layouts.insert(version.version, Arc::new(row_layout(&version.columns)?));
        }
        let layout = Arc::clone(layouts.get(&current.version).ok_or_else(damaged)?);
        let history = Arc::new(LayoutHistory::new(layouts));
        Ok(Self { columns, by_name, key, schema, schema_with_system, layout, history, record })
    }

    pub(crate) fn record(&self) -> &TableRecord {
        &self.record
    }

    pub(crate) fn id(&self) -> TableId {
        self.record.id
    }

    pub(crate) fn namespace(&self) -> &NamespaceName {
        &self.record.namespace
    }

    pub(crate) fn name(&self) -> &TableLabel {
        &self.record.name
    }

    /// `namespace.name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.record.namespace, self.record.name)
    }

    /// Whether rows that were encoded for `planned`, which was never made, can be this one's: both are as they were made, by
    /// the same definition of columns.
    pub(crate) fn stores_rows_as(&self, planned: &Self) -> bool {
        let columns = |table: &Self| match table.record.versions.as_slice() {
            [only] => Some(only.columns.clone()),
            _ => None,
        };
        self.kind() == planned.kind() && columns(self).is_some_and(|ours| Some(ours) == columns(planned))
    }

    pub(crate) fn kind(&self) -> TableKind {
        self.record.kind
    }

    /// The access of a SHARED table; private where none is recorded.
    pub(crate) fn access(&self) -> Access {
        self.record.access.unwrap_or(Access::Private)
    }

    /// How long rows live after they were last written; STREAM tables only.
    pub(crate) fn ttl_us(&self) -> Option<i64> {
        self.record.ttl_us
    }

    /// Where flushed rows go. Without meaning for STREAM tables.
    pub(crate) fn storage(&self) -> StorageId {
        self.record.storage
    }

    /// The template of the folder that a partition's segments are in, relative to the storage's root; `None`: the default
    /// one.
    pub(crate) fn location(&self) -> Option<&str> {
        self.record.location.as_deref()
    }

    /// When rows are flushed; `None`: nothing was said about it.
    pub(crate) fn flush_policy(&self) -> Option<FlushPolicy> {
        self.record.flush_policy
    }

    pub(crate) fn schema_version(&self) -> SchemaVersion {
        self.record.versions.last().map_or(SchemaVersion::new(0), |v| v.version)
    }

    /// Columns of the current schema version, in creation order.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Index of the primary key among [`Table::columns`].
    pub(crate) fn key_index(&self) -> usize {
        self.key
    }

    pub(crate) fn key_column(&self) -> &Column {
        &self.columns[self.key]
    }

    /// The columns a `SELECT *` returns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// [`Table::schema`], then `_seq`, `_updated` and `_deleted`.
    pub(crate) fn schema_with_system(&self) -> &SchemaRef {
        &self.schema_with_system
    }

    /// How rows of the current schema version are laid out.
    pub(crate) fn layout(&self) -> &Arc<RowLayout> {
        &self.layout
    }

    /// How rows of every schema version are laid out.
    pub(crate) fn history(&self) -> &Arc<LayoutHistory> {
        &self.history
    }

    /// Indexes of the columns that are in a row's payload, in its layout's order.
    pub(crate) fn stored_columns(&self) -> impl Iterator<Item = usize> {
        let mut stored: Vec<usize> = (0..self.columns.len()).filter(|i| *i != self.key).collect();
        stored.sort_by_key(|i| self.columns[*i].id);
        stored.into_iter()
    }

    /// Index of the column with this name.
    ///
    /// # Errors
    /// COLUMN_NOT_FOUND, with the nearest name.
    pub(crate) fn column_index(&self, name: &str) -> Result<usize> {
        self.by_name.get(name).copied().ok_or_else(|| {
            let near = nearest(name, self.columns.iter().map(|c| c.name.as_str()));
            let error = Error::new(
                Reason::ColumnNotFound,
                format!("Table {} has no column \"{name}\".{}", self.full_name(), did_you_mean(near)),
            )
            .with("column", name)
            .with("table", self.full_name());
            match near {
                Some(near) => error.with("nearest", near),
                None => error,
            }
        })
    }

    /// Whether a column with this name exists.
    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }
}

impl Column {
    fn new(record: &ColumnRecord, constants: &ConstantEvaluator) -> Result<Self> {
        let name = record.name.as_str();
        let compile = |text: &String| constants.compile_text(text, name, &record.sql_type);
        let fill = match record.fill.as_ref().map(compile).transpose()? {
            Some(Default::Constant(value)) => Some(value),
            Some(_) => return Err(Error::internal(format!("the fill of column {name} is not a constant"))),
            None => None,
        };
        Ok(Self {
            id: record.id,
            name: record.name.clone(),
            sql_type: record.sql_type.clone(),
            data_type: record.sql_type.to_arrow(),
            nullable: record.nullable,
            default: record.default.as_ref().map(compile).transpose()?,
            fill,
        })
    }
}

fn row_layout(columns: &[ColumnRecord]) -> Result<RowLayout> {
    let mut stored: Vec<LayoutColumn> = columns
        .iter()
        .filter(|c| !c.primary_key)
        .map(|c| LayoutColumn { id: c.id, data_type: c.sql_type.to_arrow() })
        .collect();
    stored.sort_by_key(|c| c.id);
    RowLayout::new(stored).map_err(Error::internal)
}

#[cfg(test)]
mod tests;
