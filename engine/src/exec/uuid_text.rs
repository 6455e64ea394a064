//! Text compared with UUIDs.
//!
//! A UUID is kept as text in its canonical form, but may be written in others: with capitals, in braces, without hyphens.
//! So that `id = '{0190163D-8694-739B-AEA5-966C26F8AD91}'` finds it, literals and parameters that stand beside a UUID in
//! a comparison are brought into that form.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::DataType,
    common::{
        DFSchema, Result, internal_err,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    error::DataFusionError,
    logical_expr::{
        BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
        ScalarUDFImpl, Signature, Volatility,
        expr::{Placeholder, ScalarFunction},
        expr_rewriter::NamePreserver,
        utils::merge_schema,
    },
};

use crate::{
    error::Error,
    types::SqlType,
    values::{CastContext, cast_column, cast_scalar},
};

/// Rewrites the comparisons of a plan and its subqueries, before types are coerced. The names of columns stay.
///
/// # Errors
/// `INVALID_VALUE` for a literal that is no UUID.
pub(crate) fn in_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        let mut found = false;
        plan.apply_expressions(|expr| {
            found = found || expr.exists(|e| Ok(compares_text(e)))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !found {
            return Ok(Transformed::no(plan));
        }
        let schema = match &plan {
            LogicalPlan::TableScan(scan) => scan.projected_schema.as_ref().clone(),
            other => merge_schema(&other.inputs()),
        };
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(rewrite(expr, &schema)?.update_data(|expr| name.restore(expr)))
        })
    })
    .data()
}

/// Rewrites the comparisons of an expression that is evaluated apart from a plan.
///
/// # Errors
/// `INVALID_VALUE` for a literal that is no UUID.
pub(crate) fn in_expr(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    rewrite(expr, schema).data()
}

fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        if !compares_text(&expr) {
            return Ok(Transformed::no(expr));
        }
        let is_uuid = |e: &Expr| sql_type(e, schema) == Some(SqlType::Uuid);
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (left, right) = match (is_uuid(&left), is_uuid(&right)) {
                    (true, false) => (left.clone(), Box::new(canonical(*right, &left)?)),
                    (false, true) => (Box::new(canonical(*left, &right)?), right),
                    _ => (left, right),
                };
                Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            Expr::Between(mut between) => {
                if is_uuid(&between.expr) {
                    *between.low = canonical(*between.low, &between.expr)?;
                    *between.high = canonical(*between.high, &between.expr)?;
                } else if is_uuid(&between.low) && is_uuid(&between.high) {
                    *between.expr = canonical(*between.expr, &between.low)?;
                }
                Transformed::yes(Expr::Between(between))
            }
            Expr::InList(mut list) => {
                if is_uuid(&list.expr) {
                    let items = list.list.into_iter().map(|item| canonical(item, &list.expr));
                    list.list = items.collect::<Result<_>>()?;
                } else if let Some(first) = list.list.first()
                    && list.list.iter().all(is_uuid)
                {
                    *list.expr = canonical(*list.expr, first)?;
                }
                Transformed::yes(Expr::InList(list))
            }
            Expr::Case(mut case) => {
                if let Some(compared) = case.expr.as_deref().filter(|e| is_uuid(e)) {
                    for (when, _) in &mut case.when_then_expr {
                        **when = canonical(std::mem::take(when), compared)?;
                    }
                }
                Transformed::yes(Expr::Case(case))
            }
            Expr::ScalarFunction(ScalarFunction { func, mut args }) => {
                if let [list, item] = args.as_mut_slice() {
                    if is_uuid(item) {
                        *list = canonical_list(std::mem::take(list), item)?;
                    } else if sql_type(list, schema) == Some(SqlType::List(Box::new(SqlType::Uuid))) {
                        *item = canonical(std::mem::take(item), list)?;
                    }
                }
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
            }
            other => Transformed::no(other),
        })
    })
}

fn sql_type(expr: &Expr, schema: &DFSchema) -> Option<SqlType> {
    // An expression whose type is not known yet is none of ours.
    expr.to_field(schema).ok().map(|(_, field)| SqlType::from_field(&field))
}

/// Whether an expression compares something with text that is written in the statement or given as a parameter.
fn compares_text(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => is_comparison(binary.op) && (is_given(&binary.left) || is_given(&binary.right)),
        Expr::Between(between) => [&between.expr, &between.low, &between.high].into_iter().any(|e| is_given(e)),
        Expr::InList(list) => is_given(&list.expr) || list.list.iter().any(is_given),
        Expr::Case(case) => case.expr.is_some() && case.when_then_expr.iter().any(|(when, _)| is_given(when)),
        // `id = ANY (ids)` is planned as this.
        Expr::ScalarFunction(function) => function.name() == "array_has",
        _ => false,
    }
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn is_given(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => is_text(&value.data_type()),
        // DataFusion forgets the types of parameters within `[…]`; they are known once the value is.
        Expr::Placeholder(Placeholder { field, .. }) => field.as_ref().is_none_or(|field| is_text(field.data_type())),
        _ => false,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// A literal or parameter in the canonical form; any other expression as it is. Errors name `compared`.
fn canonical(expr: Expr, compared: &Expr) -> Result<Expr> {
    match expr {
        expr if !is_given(&expr) => Ok(expr),
        Expr::Literal(value, metadata) => {
            let column = column_name(compared);
            let value = cast_scalar(&value, &SqlType::Text, &SqlType::Uuid, &column, CastContext::Literal);
            Ok(Expr::Literal(value.map_err(into_datafusion)?, metadata))
        }
        parameter => Ok(UuidText::of(parameter, compared)),
    }
}

/// As [`canonical`], for a list.
fn canonical_list(expr: Expr, compared: &Expr) -> Result<Expr> {
    let holds_text = |t: &DataType| SqlType::from_arrow(t) == SqlType::List(Box::new(SqlType::Text));
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "make_array" => {
            let args = args.into_iter().map(|item| canonical(item, compared)).collect::<Result<_>>()?;
            Ok(Expr::ScalarFunction(ScalarFunction { func, args }))
        }
        Expr::Placeholder(Placeholder { field: Some(ref field), .. }) if holds_text(field.data_type()) => {
            Ok(UuidText::of(expr, compared))
        }
        other => Ok(other),
    }
}

fn column_name(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => column.name.clone(),
        other => other.to_string(),
    }
}

fn into_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The canonical form of a UUID, or of each of a list of them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UuidText {
    /// What errors name.
    column: String,
    signature: Signature,
}

impl UuidText {
    fn of(argument: Expr, compared: &Expr) -> Expr {
        let function = Self { column: column_name(compared), signature: Signature::any(1, Volatility::Immutable) };
        let function = Arc::new(ScalarUDF::new_from_impl(function));
        Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![argument]))
    }
}

fn uuid_type(argument: &DataType) -> SqlType {
    match argument {
        DataType::List(_) => SqlType::List(Box::new(SqlType::Uuid)),
        _ => SqlType::Uuid,
    }
}

impl ScalarUDFImpl for UuidText {
    fn name(&self) -> &str {
        "uuid_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [argument] => Ok(uuid_type(argument).to_arrow()),
            _ => internal_err!("uuid_text has one argument"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [argument] = args.args.as_slice() else { return internal_err!("uuid_text has one argument") };
        let data_type = argument.data_type();
        let (from, to) = (SqlType::from_arrow(&data_type), uuid_type(&data_type));
        match argument {
            ColumnarValue::Scalar(value) => {
                cast_scalar(value, &from, &to, &self.column, CastContext::Expression).map(ColumnarValue::Scalar)
            }
            ColumnarValue::Array(values) => {
                cast_column(values, &from, &to, &self.column, CastContext::Expression).map(ColumnarValue::Array)
            }
        }
        .map_err(into_datafusion)
    }
}
