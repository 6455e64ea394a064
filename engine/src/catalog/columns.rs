//! The columns of new tables, and new columns of tables that exist.

use kalamdb_store::ids::ColumnId;

use crate::{
    catalog::{ColumnName, ConstantEvaluator, table::ColumnRecord},
    error::{Error, Reason, Result},
    sql::{ColumnDefinition, CreateTable, Name, TableKind},
    types::SqlType,
};

/// The most columns a table can have, dropped ones included.
pub(super) const MAX_COLUMNS: usize = 1_600;

/// The columns of a new table, checked.
pub(super) fn new_columns(statement: &CreateTable, constants: &ConstantEvaluator) -> Result<Vec<ColumnRecord>> {
    let table = &statement.table.table.text;
    if statement.columns.len() > MAX_COLUMNS {
        return Err(invalid(format!(
            "Table {table} has {} columns; the most is {MAX_COLUMNS}.",
            statement.columns.len()
        )));
    }
    let key = match statement.primary_key.as_slice() {
        [key] => key,
        [] => {
            return Err(invalid(format!(
                "Table {table} needs a PRIMARY KEY. Add a line such as: id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(),"
            )));
        }
        [_, second, ..] => {
            return Err(at(invalid(format!("The PRIMARY KEY of table {table} must be a single column.")), second));
        }
    };
    if statement.kind == TableKind::Stream && statement.ttl_us.is_none() {
        return Err(invalid(format!("STREAM table {table} needs a TTL. Add a clause such as: TTL '1 hour'")));
    }
    let mut columns: Vec<ColumnRecord> = Vec::with_capacity(statement.columns.len());
    for (i, definition) in statement.columns.iter().enumerate() {
        let mut column = new_column(ColumnId::new(i as u16), definition, constants)?;
        if columns.iter().any(|c| c.name == column.name) {
            let error = Error::new(Reason::ColumnExists, format!("Column \"{}\" is defined twice.", column.name));
            return Err(at(error.with("column", column.name.as_str()), &definition.name));
        }
        if definition.name.text == key.text {
            if !matches!(column.sql_type, SqlType::BigInt | SqlType::Text) {
                return Err(at(
                    invalid(format!(
                        "The PRIMARY KEY \"{}\" has type {}; a key is BIGINT or TEXT.",
                        column.name, column.sql_type
                    )),
                    &definition.name,
                ));
            }
            column.primary_key = true;
            column.nullable = false;
        }
        columns.push(column);
    }
    let Some(key_column) = columns.iter().find(|c| c.primary_key) else {
        return Err(at(
            Error::new(
                Reason::ColumnNotFound,
                format!("The PRIMARY KEY names column \"{}\", which table {table} does not define.", key.text),
            )
            .with("column", key.text.as_str()),
            key,
        ));
    };
    if statement.kind == TableKind::Stream {
        let default = key_column
            .default
            .as_ref()
            .map(|text| constants.compile_text(text, key_column.name.as_str(), &key_column.sql_type))
            .transpose()?;
        if !default.is_some_and(|d| d.is_generated_key()) {
            return Err(invalid(format!(
                "STREAM table {table} needs a generated key. Write: {} {} PRIMARY KEY DEFAULT {}()",
                key_column.name,
                key_column.sql_type,
                if key_column.sql_type == SqlType::BigInt { "SNOWFLAKE_ID" } else { "ULID" }
            )));
        }
    }
    Ok(columns)
}

/// A new column, checked but for being the key.
pub(super) fn new_column(
    id: ColumnId,
    definition: &ColumnDefinition,
    constants: &ConstantEvaluator,
) -> Result<ColumnRecord> {
    let name = ColumnName::from_sql(&definition.name)?;
    let default = match (&definition.default, definition.auto_increment) {
        (Some(_), true) => {
            return Err(at(
                invalid(format!("Column \"{name}\" has both AUTO_INCREMENT and DEFAULT; choose one.")),
                &definition.name,
            ));
        }
        (Some(expr), false) => {
            constants.compile(expr, name.as_str(), &definition.sql_type).map_err(|e| at(e, &definition.name))?;
            Some(expr.to_string())
        }
        (None, true) => Some(
            match definition.sql_type {
                SqlType::BigInt => "SNOWFLAKE_ID()",
                SqlType::Text => "UUID_V7()",
                _ => {
                    return Err(at(
                        invalid(format!(
                            "AUTO_INCREMENT fits BIGINT and TEXT columns; \"{name}\" has type {}.",
                            definition.sql_type
                        )),
                        &definition.name,
                    ));
                }
            }
            .to_owned(),
        ),
        (None, false) => None,
    };
    Ok(ColumnRecord {
        id,
        name,
        sql_type: definition.sql_type.clone(),
        nullable: !definition.not_null,
        default,
        fill: None,
        primary_key: false,
    })
}

pub(super) fn invalid(message: String) -> Error {
    Error::new(Reason::InvalidTableDefinition, message)
}

/// The error at the place of a name.
pub(super) fn at(error: Error, name: &Name) -> Error {
    match name.position {
        Some(position) => error.at(position),
        None => error,
    }
}
