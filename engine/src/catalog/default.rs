//! DEFAULT clauses: checked when a table is made, evaluated on the server for each row.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, RecordBatch, RecordBatchOptions},
        datatypes::{Field, Schema},
    },
    common::{DFSchema, ScalarValue},
    execution::SessionState,
    sql::{
        planner::{PlannerContext, SqlToRel},
        sqlparser::ast,
    },
};

use crate::{
    error::{Error, Reason, Result},
    exec::{Planner, from_datafusion, parser_options, physical_expr},
    sql::parse_expression,
    types::SqlType,
    values::{CastContext, cast_column},
};

/// What a column gets when an INSERT does not name it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Default {
    /// The same value for each row, already of the column's type.
    Constant(ScalarValue),
    /// NOW(), CURRENT_TIMESTAMP(): the statement's time.
    Now,
    /// CURRENT_USER().
    CurrentUser,
    /// SNOWFLAKE_ID().
    SnowflakeId,
    /// UUID_V7().
    UuidV7,
    /// ULID().
    Ulid,
}

impl Default {
    /// Whether it makes a value of its own for each row that no other row ever had.
    pub(crate) fn is_generated_key(&self) -> bool {
        matches!(self, Default::SnowflakeId | Default::UuidV7 | Default::Ulid)
    }
}

/// Evaluates expressions without columns, with every function of the dialect.
#[derive(Debug, Clone)]
pub(crate) struct ConstantEvaluator {
    state: Arc<SessionState>,
}

impl ConstantEvaluator {
    pub(crate) fn new(state: Arc<SessionState>) -> Self {
        Self { state }
    }

    /// Compiles the text of a DEFAULT clause for a column.
    pub(crate) fn compile_text(&self, text: &str, column: &str, sql_type: &SqlType) -> Result<Default> {
        self.compile(&parse_expression(text)?, column, sql_type)
    }

    /// Compiles a DEFAULT clause for a column.
    ///
    /// # Errors
    /// INVALID_TABLE_DEFINITION when the value cannot be a default or does not fit the type.
    pub(crate) fn compile(&self, expr: &ast::Expr, column: &str, sql_type: &SqlType) -> Result<Default> {
        if let Some((name, default)) = generator(expr) {
            let fits = match default {
                Default::Now => matches!(sql_type, SqlType::Timestamp | SqlType::TimestampTz | SqlType::Date),
                Default::CurrentUser | Default::Ulid => matches!(sql_type, SqlType::Text),
                Default::SnowflakeId => matches!(sql_type, SqlType::BigInt),
                Default::UuidV7 => matches!(sql_type, SqlType::Text | SqlType::Uuid),
                Default::Constant(_) => true,
            };
            if !fits {
                return Err(Error::new(
                    Reason::InvalidTableDefinition,
                    format!("DEFAULT {name}() does not fit column \"{column}\" of type {sql_type}."),
                )
                .with("column", column));
            }
            return Ok(default);
        }
        let value = self.evaluate(expr, column)?;
        let literal = matches!(expr, ast::Expr::Value(_) | ast::Expr::UnaryOp { .. });
        let context = if literal { CastContext::Literal } else { CastContext::Expression };
        let from = SqlType::from_arrow(value.data_type());
        let cast = cast_column(&value, &from, sql_type, column, context).map_err(|e| {
            Error::new(
                Reason::InvalidTableDefinition,
                format!("The DEFAULT of column \"{column}\" is wrong: {}", e.message()),
            )
            .with("column", column)
        })?;
        ScalarValue::try_from_array(&cast, 0).map(Default::Constant).map_err(Error::internal)
    }

    fn evaluate(&self, expr: &ast::Expr, column: &str) -> Result<ArrayRef> {
        let wrong = |e: Error| {
            Error::new(
                Reason::InvalidTableDefinition,
                format!(
                    "The DEFAULT of column \"{column}\" must be a constant or one of NOW(), CURRENT_TIMESTAMP(), \
                     SNOWFLAKE_ID(), UUID_V7(), ULID(), CURRENT_USER(): {}",
                    e.message()
                ),
            )
            .with("column", column)
        };
        let schema = Arc::new(DFSchema::empty());
        let planned = SqlToRel::new_with_options(&Planner::functions_only(&self.state), parser_options())
            .sql_to_expr(expr.clone(), &schema, &mut PlannerContext::new())
            .map_err(|e| wrong(from_datafusion(e)))?;
        if planned.is_volatile() {
            return Err(wrong(Error::new(
                Reason::InvalidTableDefinition,
                "the expression gives another value each time.",
            )));
        }
        let physical = physical_expr(&self.state, planned, &schema).map_err(|e| wrong(from_datafusion(e)))?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let no_columns = Arc::new(Schema::new_with_metadata(Vec::<Field>::new(), HashMap::new()));
        let one_row = RecordBatch::try_new_with_options(no_columns, Vec::new(), &options).map_err(Error::internal)?;
        physical.evaluate(&one_row).and_then(|value| value.into_array(1)).map_err(|e| wrong(from_datafusion(e)))
    }
}

/// The generator that an expression names, if it is one.
fn generator(expr: &ast::Expr) -> Option<(&'static str, Default)> {
    let ast::Expr::Function(function) = expr else { return None };
    let no_arguments = match &function.args {
        ast::FunctionArguments::None => true,
        ast::FunctionArguments::List(list) => list.args.is_empty() && list.clauses.is_empty(),
        ast::FunctionArguments::Subquery(_) => false,
    };
    if !no_arguments || function.over.is_some() || function.filter.is_some() {
        return None;
    }
    let [ast::ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return None };
    Some(match name.value.to_ascii_lowercase().as_str() {
        "now" => ("NOW", Default::Now),
        "current_timestamp" => ("CURRENT_TIMESTAMP", Default::Now),
        "current_user" => ("CURRENT_USER", Default::CurrentUser),
        "snowflake_id" => ("SNOWFLAKE_ID", Default::SnowflakeId),
        "uuid_v7" => ("UUID_V7", Default::UuidV7),
        "ulid" => ("ULID", Default::Ulid),
        _ => return None,
    })
}
