//! The rows of INSERT … VALUES.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, RecordBatch, RecordBatchOptions},
        compute::concat,
        datatypes::Schema,
    },
    common::{DFSchema, DFSchemaRef, ScalarValue},
    sql::{planner::PlannerContext, sqlparser::ast},
};

use crate::{
    catalog::{Column, Table},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
        assignment::{cast_context, default_column, of_type, value_type},
        expr::RowExpr,
        params::{self, Parameter},
        planner::Planner,
    },
    types::SqlType,
    values::{CastContext, cast_column, cast_scalar},
};

/// One value of a VALUES row.
#[derive(Debug)]
pub(crate) enum Cell {
    /// Already of its column's type.
    Constant(ScalarValue),
    Default,
    /// Index of the parameter.
    Parameter(usize),
    Expression(RowExpr),
}

/// The cells of one VALUES row, in the order of the columns given.
pub(crate) fn cells(
    planner: &Planner<'_>,
    table: &Table,
    given_columns: &[usize],
    row: &[Option<ast::Expr>],
    context: &mut PlannerContext,
) -> Result<Vec<Cell>> {
    if row.len() != given_columns.len() {
        return Err(wrong_width(table, given_columns.len(), row.len()));
    }
    let no_columns: DFSchemaRef = Arc::new(DFSchema::empty());
    row.iter()
        .zip(given_columns)
        .map(|(value, index)| {
            let column = &table.columns()[*index];
            let Some(expr) = value else { return Ok(Cell::Default) };
            if let Some(index) = parameter(expr) {
                return Ok(Cell::Parameter(index));
            }
            if let Some(constant) = exact_number(expr, column)? {
                return Ok(Cell::Constant(constant));
            }
            let planned = RowExpr::plan_in(planner, expr, &no_columns, context)?;
            match planned.constant() {
                Some(value) => {
                    let from = SqlType::from_arrow(&value.data_type());
                    let name = column.name.as_str();
                    cast_scalar(value, &from, &column.sql_type, name, CastContext::Literal).map(Cell::Constant)
                }
                None => Ok(Cell::Expression(planned)),
            }
        })
        .collect()
}

/// One column of VALUES rows.
pub(crate) fn cell_column(
    shared: &Shared,
    context: &StatementContext,
    column: &Column,
    rows: &[Vec<Cell>],
    position: usize,
    parameters: &[Parameter],
    values: &[ScalarValue],
) -> Result<ArrayRef> {
    let name = column.name.as_str();
    let mut cells = rows.iter().map(|row| -> Result<ScalarValue> {
        match row.get(position) {
            Some(Cell::Constant(value)) => Ok(value.clone()),
            Some(Cell::Parameter(index)) => {
                let Some(parameter) = parameters.get(*index) else {
                    return Err(Error::internal("a parameter without a value"));
                };
                if parameter.sql_type == column.sql_type && parameter.value.data_type() == column.data_type {
                    return Ok(parameter.value.clone());
                }
                if parameter.value.is_null() {
                    return ScalarValue::try_from(&column.data_type).map_err(Error::internal);
                }
                let context = CastContext::Parameter(index + 1);
                cast_scalar(&parameter.value, &parameter.sql_type, &column.sql_type, name, context)
            }
            Some(Cell::Default) | None => {
                let one = default_column(shared, context, column, 1)?;
                ScalarValue::try_from_array(&one, 0).map_err(Error::internal)
            }
            Some(Cell::Expression(expr)) => {
                let array = expr.evaluate(&shared.template, context, values, &one_row()?)?;
                let cast = cast_column(&array, &value_type(expr, &array), &column.sql_type, name, cast_context(expr))?;
                ScalarValue::try_from_array(&cast, 0).map_err(Error::internal)
            }
        }
    });
    if rows.len() == 1
        && let Some(cell) = cells.next()
    {
        // One row is the rule for chat: no builder.
        return of_type(cell?.to_array_of_size(1).map_err(Error::internal)?, column);
    }
    if column.data_type.is_nested() {
        let of_one = |cell: Result<ScalarValue>| of_type(cell?.to_array_of_size(1).map_err(Error::internal)?, column);
        let cells = cells.map(of_one).collect::<Result<Vec<_>>>()?;
        let cells: Vec<&dyn Array> = cells.iter().map(AsRef::as_ref).collect();
        return concat(&cells).map_err(Error::internal);
    }
    let cells = cells.collect::<Result<Vec<_>>>()?;
    ScalarValue::iter_to_array(cells).map_err(Error::internal)
}

/// The index of the parameter that an expression is, if it is nothing else.
fn parameter(expr: &ast::Expr) -> Option<usize> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Placeholder(id) => params::parameter_index(id),
            _ => None,
        },
        ast::Expr::Nested(inner) => parameter(inner),
        _ => None,
    }
}

/// A number written for a DECIMAL or floating point column, read as such: between there are types that hold less.
fn exact_number(expr: &ast::Expr, column: &Column) -> Result<Option<ScalarValue>> {
    if !matches!(column.sql_type, SqlType::Decimal { .. } | SqlType::Real | SqlType::Double) {
        return Ok(None);
    }
    let text = match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _) => text.clone(),
            _ => return Ok(None),
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => match expr.as_ref() {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(text, _) => format!("-{text}"),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let value = ScalarValue::Utf8View(Some(text));
    cast_scalar(&value, &SqlType::Text, &column.sql_type, column.name.as_str(), CastContext::Literal).map(Some)
}

fn one_row() -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).map_err(Error::internal)
}

/// The error of a row that has more or fewer values than columns were named.
pub(crate) fn wrong_width(table: &Table, columns: usize, values: usize) -> Error {
    Error::new(
        Reason::InvalidStatement,
        format!("INSERT into {} names {columns} column(s), but a row has {values} value(s).", table.full_name()),
    )
}
