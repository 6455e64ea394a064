//! ALTER TABLE: from a table's record to its next one.

use kalamdb_store::ids::{ColumnId, SchemaVersion};

use crate::{
    catalog::{
        ColumnName, ConstantEvaluator, Default, Table,
        columns::{MAX_COLUMNS, at, invalid, new_column},
        table::{ColumnRecord, SchemaRecord, TableRecord},
    },
    error::{Error, Reason, Result},
    sql::{AlterTableAction, ColumnDefinition, Name, TableKind},
};

/// Applies an action to the record, adding its schema version; `None`: nothing is to be done.
pub(super) fn apply(
    table: &Table,
    record: &mut TableRecord,
    action: &AlterTableAction,
    constants: &ConstantEvaluator,
    now_us: i64,
) -> Result<Option<String>> {
    let Some(current) = record.versions.last() else {
        return Err(Error::internal("a table without a schema version"));
    };
    let mut columns = current.columns.clone();
    let next = SchemaVersion::new(current.version.get() + 1);
    let description = match action {
        AlterTableAction::AddColumn { column, if_not_exists } => {
            let name = &column.name.text;
            if table.has_column(name) {
                if *if_not_exists {
                    return Ok(None);
                }
                return Err(column_exists(table, &column.name));
            }
            if usize::from(record.next_column_id) >= MAX_COLUMNS {
                return Err(invalid(format!(
                    "Table {} has had {MAX_COLUMNS} columns, the most there can be.",
                    table.full_name()
                )));
            }
            let mut added = new_column(ColumnId::new(record.next_column_id), column, constants)?;
            added.fill = fill_of(&added, column, constants, now_us).map_err(|e| at(e, &column.name))?;
            record.next_column_id += 1;
            columns.push(added);
            format!("ADD COLUMN {name}")
        }
        AlterTableAction::DropColumn { column, if_exists } => {
            let index = match table.column_index(&column.text) {
                Ok(index) => index,
                Err(_) if *if_exists => return Ok(None),
                Err(e) => return Err(at(e, column)),
            };
            if index == table.key_index() {
                return Err(at(
                    invalid(format!("Column \"{}\" is the PRIMARY KEY and cannot be dropped.", column.text)),
                    column,
                ));
            }
            columns.remove(index);
            format!("DROP COLUMN {}", column.text)
        }
        AlterTableAction::RenameColumn { from, to } => {
            let index = table.column_index(&from.text).map_err(|e| at(e, from))?;
            let name = ColumnName::from_sql(to)?;
            if table.has_column(name.as_str()) {
                return Err(column_exists(table, to));
            }
            columns[index].name = name;
            format!("RENAME COLUMN {} TO {}", from.text, to.text)
        }
        AlterTableAction::SetAccess(access) => {
            if table.kind() != TableKind::Shared {
                return Err(invalid(format!(
                    "ACCESS is of SHARED tables; {} is a {} table.",
                    table.full_name(),
                    table.kind().as_str()
                )));
            }
            record.access = Some(*access);
            format!("SET ACCESS {}", access.as_str())
        }
        AlterTableAction::SetTtl(ttl_us) => {
            if table.kind() != TableKind::Stream {
                return Err(invalid(format!(
                    "TTL is of STREAM tables; {} is a {} table.",
                    table.full_name(),
                    table.kind().as_str()
                )));
            }
            record.ttl_us = Some(*ttl_us);
            format!("SET TTL {ttl_us} microseconds")
        }
        AlterTableAction::SetFlushPolicy(policy) => {
            if table.kind() == TableKind::Stream {
                return Err(invalid(format!(
                    "FLUSH POLICY is of USER and SHARED tables; {} is a STREAM table, whose rows are never flushed.",
                    table.full_name()
                )));
            }
            record.flush_policy = *policy;
            match policy {
                Some(policy) => format!("SET FLUSH POLICY {policy}"),
                None => "SET FLUSH POLICY NONE".to_owned(),
            }
        }
    };
    record.versions.push(SchemaRecord { version: next, created_at_us: now_us, change: String::new(), columns });
    Ok(Some(description))
}

/// The constant that rows older than a new column have in it, as PostgreSQL does: its default, evaluated once.
fn fill_of(
    column: &ColumnRecord,
    definition: &ColumnDefinition,
    constants: &ConstantEvaluator,
    now_us: i64,
) -> Result<Option<String>> {
    let Some(text) = &column.default else {
        if definition.not_null {
            return Err(invalid(format!(
                "Column \"{}\" is NOT NULL: rows that exist already need a value. Add a DEFAULT.",
                column.name
            )));
        }
        return Ok(None);
    };
    match constants.compile_text(text, column.name.as_str(), &column.sql_type)? {
        Default::Constant(value) if value.is_null() && definition.not_null => {
            Err(invalid(format!("Column \"{}\" is NOT NULL and its DEFAULT is NULL.", column.name)))
        }
        Default::Constant(_) => Ok(Some(text.clone())),
        Default::Now => Ok(Some(format!("to_timestamp_micros({})", now_us))),
        Default::CurrentUser | Default::SnowflakeId | Default::UuidV7 | Default::Ulid => Err(invalid(format!(
            "Rows that exist already would need a value each from DEFAULT {text}. Add column \"{}\" without it, and set \
             the values with UPDATE.",
            column.name
        ))),
    }
}

fn column_exists(table: &Table, name: &Name) -> Error {
    let error = Error::new(
        Reason::ColumnExists,
        format!("Table {} has a column \"{}\" already.", table.full_name(), name.text),
    )
    .with("column", name.text.as_str());
    at(error, name)
}
