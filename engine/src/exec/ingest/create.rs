//! A table for rows that have none yet: its columns are those of the data.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use kalamdb_store::{
    commit::BulkRows,
    ids::{CommitSeq, TableId},
};

use super::target::IngestTarget;
use crate::{
    access::{self, Caller, StatementKind},
    audit::{Act, audited},
    catalog::OWNER_COLUMN,
    engine::Shared,
    error::{Error, Reason, Result},
    sql::{ColumnDefinition, CreateTable, MAX_DECIMAL_DIGITS, MAX_TYPE_DEPTH, Name, TableKind, TableName, TableScope},
    types::SqlType,
};

/// The name of the key column of a table whose data names none.
const DEFAULT_KEY: &str = "id";

/// The statement that makes the table of an ingest.
///
/// # Errors
/// INVALID_REQUEST for a primary key that the data does not have or that cannot be one, NOT_SUPPORTED for types that no
/// column can have.
pub(super) fn statement(target: &IngestTarget, schema: &Schema) -> Result<CreateTable> {
    let options = &target.options;
    // In data for users it says whose rows they are.
    let is_owner = |name: &str| name == OWNER_COLUMN && options.table_type != TableKind::Shared;
    let fields = || schema.fields().iter().filter(|field| !is_owner(field.name()));
    let mut columns = Vec::with_capacity(schema.fields().len() + 1);
    let key = key_column(target, schema)?;
    if !fields().any(|field| field.name() == &key) {
        columns.push(ColumnDefinition {
            name: plain(&key),
            sql_type: SqlType::BigInt,
            not_null: true,
            default: None,
            auto_increment: true,
        });
    }
    for field in fields() {
        let sql_type = column_type(field, field.name() == &key)?;
        columns.push(ColumnDefinition {
            name: plain(field.name()),
            sql_type,
            not_null: !field.is_nullable(),
            default: None,
            auto_increment: false,
        });
    }
    Ok(CreateTable {
        kind: options.table_type,
        table: TableName {
            namespace: Some(plain(&target.namespace)),
            scope: TableScope::Caller,
            table: plain(&target.table),
        },
        if_not_exists: false,
        columns,
        primary_key: vec![plain(&key)],
        access: options.access.filter(|_| options.table_type == TableKind::Shared),
        ttl_us: None,
        place: None,
        flush_policy: None,
    })
}

/// The column that is the key: the one asked for, else `id`, which is added if the data has none.
fn key_column(target: &IngestTarget, schema: &Schema) -> Result<String> {
    let wrong = |message: String, column: &str| {
        Err(Error::new(Reason::InvalidRequest, message)
            .with("column", column)
            .with("option", "kalamdb.ingest.primary_key"))
    };
    if let Some(key) = &target.options.primary_key {
        return match schema.field_with_name(key) {
            Ok(field) if key_type(field).is_some() => Ok(key.clone()),
            Ok(field) => wrong(
                format!(
                    "Column \"{key}\" is {} and cannot be the primary key of {}.{}, which is BIGINT or TEXT.",
                    SqlType::from_field(field),
                    target.namespace,
                    target.table
                ),
                key,
            ),
            Err(_) => wrong(
                format!("The data has no column \"{}\", which kalamdb.ingest.primary_key names.", key.escape_debug()),
                key,
            ),
        };
    }
    match schema.field_with_name(DEFAULT_KEY) {
        Ok(field) if key_type(field).is_none() => wrong(
            format!(
                "The data has a column \"{DEFAULT_KEY}\" of type {}, which cannot be the primary key of {}.{}. Say with the \
                 option kalamdb.ingest.primary_key which column is, or rename it.",
                SqlType::from_field(field),
                target.namespace,
                target.table
            ),
            DEFAULT_KEY,
        ),
        _ => Ok(DEFAULT_KEY.to_owned()),
    }
}

/// The type of a column as a key, if it can be one: any integer that fits a BIGINT, and texts.
fn key_type(field: &Field) -> Option<SqlType> {
    match SqlType::from_field(field) {
        SqlType::SmallInt | SqlType::Int | SqlType::BigInt | SqlType::SmallIntUnsigned | SqlType::IntUnsigned => {
            (!matches!(field.data_type(), DataType::Duration(_))).then_some(SqlType::BigInt)
        }
        SqlType::Text => Some(SqlType::Text),
        _ => None,
    }
}

/// The type of a new column.
fn column_type(field: &Field, is_key: bool) -> Result<SqlType> {
    if is_key && let Some(key) = key_type(field) {
        return Ok(key);
    }
    match field.data_type() {
        // Without a value no type can be told; every value can be written as a text.
        DataType::Null => Ok(SqlType::Text),
        DataType::Duration(_) | DataType::Map(..) | DataType::Union(..) => Err(Error::new(
            Reason::NotSupported,
            format!(
                "Column \"{}\" is {}, which no column of a table can be. Convert it before it is sent.",
                field.name().escape_debug(),
                field.data_type()
            ),
        )
        .with("column", field.name().as_str())),
        _ => {
            let sql_type = SqlType::from_field(field);
            check_declarable(&sql_type, 0, field.name())?;
            Ok(sql_type)
        }
    }
}

/// Checks that a type of Arrow is one that CREATE TABLE could name: others cannot be stored in segments.
fn check_declarable(sql_type: &SqlType, depth: usize, column: &str) -> Result<()> {
    let refused = |what: &str| {
        let message = format!("Column \"{}\" {what}. Convert it before it is sent.", column.escape_debug());
        Err(Error::new(Reason::NotSupported, message).with("column", column))
    };
    if depth > MAX_TYPE_DEPTH {
        return refused(&format!("has more than {MAX_TYPE_DEPTH} lists and structs inside one another"));
    }
    match sql_type {
        SqlType::Null => refused("has lists or structs of nulls only, so that their type cannot be told"),
        SqlType::Decimal { precision, scale } => {
            let digits = i64::from(*precision);
            let is_declarable =
                (1..=MAX_DECIMAL_DIGITS).contains(&u64::from(*precision)) && (0..=digits).contains(&i64::from(*scale));
            if is_declarable {
                return Ok(());
            }
            refused(&format!(
                "is DECIMAL({precision}, {scale}); it has 1 to {MAX_DECIMAL_DIGITS} digits, of which 0 to all after the point"
            ))
        }
        SqlType::List(element) => check_declarable(element, depth + 1, column),
        SqlType::Struct(fields) => {
            if fields.is_empty() {
                return refused("is a struct without fields");
            }
            let mut names = BTreeSet::new();
            for field in fields {
                if !names.insert(field.name.as_str()) {
                    return refused(&format!("is a struct with two fields {}", field.name.escape_debug()));
                }
                check_declarable(&field.sql_type, depth + 1, column)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn plain(name: &str) -> Name {
    Name { text: name.to_owned(), position: None }
}

/// Whether somebody may make the table of an ingest. That it was refused is recorded.
pub(super) async fn may_create(shared: &Shared, caller: &Caller, target: &IngestTarget) -> Result<()> {
    match access::may_run(caller, StatementKind::CreateTable) {
        Ok(()) => Ok(()),
        refused => {
            let act = Act::new(StatementKind::CreateTable, format!("{}.{}", target.namespace, target.table));
            audited(shared, caller, act, std::future::ready(refused)).await
        }
    }
}

/// Makes the table and puts its first rows into it, in one step. Answers the table and the commit.
///
/// # Errors
/// Those of CREATE TABLE. TABLE_EXISTS when somebody else has made it meanwhile.
pub(super) async fn create(
    shared: &Shared,
    caller: &Caller,
    statement: &CreateTable,
    namespace: &str,
    rows: Option<BulkRows>,
    began_at: CommitSeq,
) -> Result<(TableId, CommitSeq)> {
    let act = Act::new(StatementKind::CreateTable, format!("{namespace}.{}", statement.table.table.text));
    let place = || shared.storages.place(statement.place.as_ref(), statement.kind);
    let creating = shared.catalog.create_table_with_rows(namespace, statement, place, rows, began_at);
    audited(shared, caller, act, creating).await
}
