//! Values that writes give to columns: assigned ones and defaults.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::array::{Array, ArrayRef, RecordBatch, new_null_array},
    common::ScalarValue,
};

use crate::{
    catalog::{Column, Default, Table},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{StatementContext, expr::RowExpr, params},
    sql::Name,
    types::SqlType,
    values::{CastContext, cast_column, cast_scalar},
};

/// Index of a column that a statement assigns to.
pub(crate) fn assignable(table: &Table, name: &Name) -> Result<usize> {
    let index = table.column_index(&name.text).map_err(|e| at(e, name))?;
    if index == table.key_index() {
        let message = format!(
            "Column \"{}\" is the primary key and cannot be changed. Delete the row and insert it with the new key.",
            name.text
        );
        return Err(at(Error::new(Reason::InvalidStatement, message).with("column", name.text.as_str()), name));
    }
    Ok(index)
}

/// Checks that no column is assigned to twice.
pub(crate) fn check_once(table: &Table, columns: impl Iterator<Item = usize>) -> Result<()> {
    let mut seen = HashSet::new();
    for index in columns {
        if !seen.insert(index) {
            return Err(Error::new(
                Reason::InvalidStatement,
                format!("Column \"{}\" is assigned to twice.", table.columns()[index].name),
            ));
        }
    }
    Ok(())
}

/// New values of a column, cast to its type.
pub(crate) fn assigned(
    shared: &Shared,
    context: &StatementContext,
    values: &[ScalarValue],
    table: &Table,
    index: usize,
    value: &RowExpr,
    rows: &RecordBatch,
) -> Result<ArrayRef> {
    let column = &table.columns()[index];
    let array = value.evaluate(&shared.template, context, values, rows)?;
    cast_column(&array, &value_type(value, &array), &column.sql_type, column.name.as_str(), cast_context(value))
}

/// The type of the values of an expression.
pub(crate) fn value_type(value: &RowExpr, array: &ArrayRef) -> SqlType {
    if value.sql_type == SqlType::Null { SqlType::from_arrow(array.data_type()) } else { value.sql_type.clone() }
}

/// What the values of an expression are, for the texts of errors.
pub(crate) fn cast_context(value: &RowExpr) -> CastContext {
    use datafusion::logical_expr::{Expr, expr::Placeholder};
    match value.expr() {
        Expr::Literal(..) => CastContext::Literal,
        Expr::Placeholder(Placeholder { id, .. }) => {
            params::parameter_index(id).map_or(CastContext::Expression, |i| CastContext::Parameter(i + 1))
        }
        _ => CastContext::Expression,
    }
}

/// The default of a column, for a number of rows.
pub(crate) fn default_column(
    shared: &Shared,
    context: &StatementContext,
    column: &Column,
    rows: usize,
) -> Result<ArrayRef> {
    let Some(default) = &column.default else { return Ok(new_null_array(&column.data_type, rows)) };
    let constant = |value: ScalarValue| of_type(value.to_array_of_size(rows).map_err(Error::internal)?, column);
    let generated = |value: &dyn Fn() -> ScalarValue| -> Result<ArrayRef> {
        ScalarValue::iter_to_array((0..rows).map(|_| value()))
            .or_else(|_| Ok::<_, datafusion::error::DataFusionError>(new_null_array(&column.data_type, rows)))
            .map_err(Error::internal)
    };
    match default {
        Default::Constant(value) => constant(value.clone()),
        Default::Now | Default::CurrentUser => constant(statement_value(context, column, default)?),
        Default::SnowflakeId => Ok(Arc::new(datafusion::arrow::array::Int64Array::from(shared.ids.snowflakes(rows)))),
        Default::UuidV7 => generated(&|| ScalarValue::Utf8View(Some(shared.ids.uuid_v7()))),
        Default::Ulid => generated(&|| ScalarValue::Utf8View(Some(shared.ids.ulid()))),
    }
}

/// Values of a column's type as the column has it: single lists and structs lose what tells UUID and JSON from TEXT.
pub(crate) fn of_type(values: ArrayRef, column: &Column) -> Result<ArrayRef> {
    if *values.data_type() == column.data_type {
        return Ok(values);
    }
    datafusion::arrow::compute::cast(&values, &column.data_type).map_err(Error::internal)
}

/// The value of NOW() or CURRENT_USER() in the type of a column.
fn statement_value(context: &StatementContext, column: &Column, default: &Default) -> Result<ScalarValue> {
    let (value, from) = match default {
        Default::Now => (ScalarValue::TimestampMicrosecond(Some(context.now_us), None), SqlType::Timestamp),
        _ => (ScalarValue::Utf8View(Some(context.caller.effective_user().as_str().to_owned())), SqlType::Text),
    };
    if from == column.sql_type {
        return Ok(value);
    }
    cast_scalar(&value, &from, &column.sql_type, column.name.as_str(), CastContext::Expression)
}

/// An error at the place of a name.
pub(crate) fn at(error: Error, name: &Name) -> Error {
    match name.position {
        Some(position) => error.at(position),
        None => error,
    }
}
