//! Lists of IN that DataFusion's simplifier would get wrong.
//!
//! It takes `x IN (a, b) AND x IN (c, d)` for the rows where `x` is in what the two lists have in common, and compares
//! their elements as they are written. A parameter or a column that has the same value as an element of the other list
//! is another expression all the same, and the rows are lost. In statements with several lists, those that do not hold
//! constants only are therefore written as comparisons before the simplifier sees them.

use datafusion::{
    common::{
        Result,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan, Operator, binary_expr, expr::InList, expr_rewriter::NamePreserver},
};

/// Rewrites the lists of a plan and its subqueries. The names of columns stay.
pub(crate) fn in_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut lists = Lists::default();
    plan.apply_with_subqueries(|plan| plan.apply_expressions(|expr| lists.count(expr)))?;
    if !lists.at_risk() {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(rewrite(expr)?.update_data(|expr| name.restore(expr)))
        })
    })
    .data()
}

/// Rewrites the lists of an expression that is evaluated apart from a plan.
pub(crate) fn in_expr(expr: Expr) -> Result<Expr> {
    let mut lists = Lists::default();
    lists.count(&expr)?;
    if lists.at_risk() { rewrite(expr).data() } else { Ok(expr) }
}

#[derive(Default)]
struct Lists {
    count: usize,
    with_others_than_constants: bool,
}

impl Lists {
    fn count(&mut self, expr: &Expr) -> Result<TreeNodeRecursion> {
        expr.apply(|e| {
            if let Expr::InList(list) = e {
                self.count += 1;
                self.with_others_than_constants |= !list.list.iter().all(is_constant);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    }

    fn at_risk(&self) -> bool {
        self.count > 1 && self.with_others_than_constants
    }
}

fn is_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

fn rewrite(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::InList(list) if !list.list.iter().all(is_constant) && !list.expr.is_volatile() => {
            let InList { expr, list, negated } = list;
            let equal = list.into_iter().map(|item| binary_expr(expr.as_ref().clone(), Operator::Eq, item)).collect();
            Ok(Transformed::yes(match any_of(equal) {
                Some(any) if negated => Expr::Not(Box::new(any)),
                Some(any) => any,
                None => Expr::InList(InList { expr, list: Vec::new(), negated }),
            }))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// The alternatives as a balanced tree: a leaning one of a long list would be too deep to recurse over.
fn any_of(mut alternatives: Vec<Expr>) -> Option<Expr> {
    while alternatives.len() > 1 {
        let mut pairs = Vec::with_capacity(alternatives.len().div_ceil(2));
        let mut rest = alternatives.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => binary_expr(left, Operator::Or, right),
                None => left,
            });
        }
        alternatives = pairs;
    }
    alternatives.pop()
}
