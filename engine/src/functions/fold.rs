//! Computing expressions that have become constant.

use std::sync::Arc;

use datafusion::{
    arrow::{array::RecordBatch, array::RecordBatchOptions, datatypes::Schema},
    common::{DFSchema, Result, ScalarValue, tree_node::Transformed},
    logical_expr::{
        BinaryExpr, Cast, ColumnarValue, Expr, TryCast, Volatility, execution_props::ExecutionProps,
        physical_planning_context::PhysicalPlanningContext,
    },
    optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext},
    physical_expr::create_physical_expr,
};

/// The value of an expression whose children are all literals; any other expression as it is. An expression that fails
/// stays too: whether it is ever evaluated (think of CASE) is only known when it runs.
pub(super) fn fold_constant(expr: Expr) -> Transformed<Expr> {
    if !has_only_literals(&expr) {
        return Transformed::no(expr);
    }
    match evaluate(&expr) {
        Ok(value) => Transformed::yes(Expr::Literal(value, None)),
        Err(_) => Transformed::no(expr),
    }
}

fn has_only_literals(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => is_literal(left) && is_literal(right),
        // A cast to a type with metadata would lose it.
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            is_literal(expr) && field.metadata().is_empty()
        }
        Expr::Negative(expr) | Expr::Not(expr) => is_literal(expr),
        Expr::ScalarFunction(function) => {
            function.func.signature().volatility == Volatility::Immutable
                && !function.args.is_empty()
                && function.args.iter().all(is_literal)
        }
        _ => false,
    }
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(_, None))
}

fn evaluate(expr: &Expr) -> Result<ScalarValue> {
    // Functions take arguments of the types that they have been coerced to; a parameter can have brought another.
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().build());
    let expr = simplifier.coerce(expr.clone(), &DFSchema::empty())?;
    let physical =
        create_physical_expr(&expr, &DFSchema::empty(), &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one_row)?;
    match physical.evaluate(&batch)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
    }
}
