//! Comparisons of floating point numbers with decimals.
//!
//! DataFusion compares them as decimals of 30 digits: what is greater, infinite or no number at all is then an error, and
//! `WHERE price <> 1.5` fails because of one NaN in the table. As in PostgreSQL, they are compared as floating point
//! numbers here.

use datafusion::{
    arrow::datatypes::DataType,
    common::{
        DFSchema, Result,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    logical_expr::{
        BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast, expr_rewriter::NamePreserver, utils::merge_schema,
    },
};

/// Rewrites the comparisons of a plan and its subqueries, before types are coerced. The names of columns stay.
pub(crate) fn in_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
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
pub(crate) fn in_expr(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    rewrite(expr, schema).data()
}

fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let compared: Vec<&Expr> = match &expr {
            Expr::BinaryExpr(binary) if is_comparison(binary.op) => vec![&binary.left, &binary.right],
            Expr::Between(between) => vec![&between.expr, &between.low, &between.high],
            Expr::InList(list) => std::iter::once(list.expr.as_ref()).chain(&list.list).collect(),
            _ => return Ok(Transformed::no(expr)),
        };
        let any = |is: fn(&DataType) -> bool| compared.iter().any(|e| e.get_type(schema).is_ok_and(|t| is(&t)));
        if !any(DataType::is_floating) || !any(DataType::is_decimal) {
            return Ok(Transformed::no(expr));
        }
        let float = |e: Expr| match e.get_type(schema) {
            Ok(data_type) if data_type.is_decimal() => cast(e, DataType::Float64),
            _ => e,
        };
        Ok(Transformed::yes(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                Expr::BinaryExpr(BinaryExpr { left: Box::new(float(*left)), op, right: Box::new(float(*right)) })
            }
            Expr::Between(mut between) => {
                for operand in [&mut between.expr, &mut between.low, &mut between.high] {
                    **operand = float(std::mem::take(operand));
                }
                Expr::Between(between)
            }
            Expr::InList(mut list) => {
                *list.expr = float(std::mem::take(&mut list.expr));
                list.list = list.list.into_iter().map(float).collect();
                Expr::InList(list)
            }
            other => other,
        }))
    })
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}
