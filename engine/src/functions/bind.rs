//! Filling in parameters.

use datafusion::{
    arrow::datatypes::{DataType, FieldRef},
    common::{
        Result as DataFusionResult, ScalarValue,
        metadata::FieldMetadata,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Values, expr::Placeholder, expr_rewriter::NamePreserver},
};
use kalamdb_store::ids::UserId;

use super::{fold::fold_constant, from_datafusion, into_datafusion, statement_value::StatementValue};
use crate::{
    error::{Error, Reason, Result},
    types::SqlType,
};

/// The values that a statement fills in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bindings<'a> {
    positional: &'a [ScalarValue],
    now_us: i64,
    user: &'a UserId,
}

impl<'a> Bindings<'a> {
    /// The values of `$1…$n`, the time at which the statement began (microseconds since 1970, UTC), and whom
    /// `current_user()` names.
    pub(crate) fn new(positional: &'a [ScalarValue], now_us: i64, user: &'a UserId) -> Self {
        Self { positional, now_us, user }
    }

    fn constant(&self, placeholder: &Placeholder) -> Result<Expr> {
        if let Some(value) = StatementValue::from_id(&placeholder.id) {
            return Ok(Expr::Literal(value.value(self.now_us, self.user), None));
        }
        let number = parameter_number(&placeholder.id)?;
        let Some(value) = self.positional.get(number - 1) else {
            let given = self.positional.len();
            return Err(Error::new(
                Reason::ParameterCountMismatch,
                format!("The statement uses ${number}, but {given} parameters were given."),
            )
            .with("expected", number.to_string())
            .with("given", given.to_string()));
        };
        match &placeholder.field {
            Some(field) => {
                let metadata = FieldMetadata::from(field.metadata());
                Ok(Expr::Literal(convert(value, field, number)?, (!metadata.is_empty()).then_some(metadata)))
            }
            None => Ok(Expr::Literal(value.clone(), None)),
        }
    }

    /// Replaces what this expression is, not its children; then computes it if that leaves only constants.
    fn bind_node(&self, expr: Expr) -> DataFusionResult<Transformed<Expr>> {
        let value = StatementValue::called_by(&expr).map(|v| Expr::Literal(v.value(self.now_us, self.user), None));
        match (value, expr) {
            (Some(value), _) => Ok(Transformed::yes(value)),
            (None, Expr::Placeholder(p)) => self.constant(&p).map(Transformed::yes).map_err(into_datafusion),
            (None, expr) => Ok(fold_constant(expr)),
        }
    }
}

/// The `n` of `$n`, from 1.
fn parameter_number(id: &str) -> Result<usize> {
    let number = id.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
    number.filter(|n| *n > 0).ok_or_else(|| {
        Error::new(
            Reason::InvalidStatement,
            format!("\"{id}\" is not a parameter. Parameters are written $1, $2 and so on."),
        )
    })
}

/// The value in the type that the plan was made for. Plans are normally made for the types of the values given; this
/// serves those whose type DataFusion inferred, and refuses to lose anything.
fn convert(value: &ScalarValue, field: &FieldRef, number: usize) -> Result<ScalarValue> {
    let (from, to) = (value.data_type(), field.data_type());
    if from == *to {
        return Ok(value.clone());
    }
    let mismatch = || {
        let (expected, given) = (SqlType::from_field(field).to_string(), SqlType::from_arrow(&from).to_string());
        Error::new(
            Reason::ParameterTypeMismatch,
            format!("Parameter ${number} must be {expected} here, but {given} was given."),
        )
        .with("parameter", format!("${number}"))
        .with("expected", expected)
        .with("given", given)
    };
    if value.is_null() {
        return ScalarValue::try_from(to).map_err(|_| mismatch());
    }
    let text_to_time = is_text(&from) && (to.is_temporal() || matches!(to, DataType::Interval(_)));
    let related = (from.is_numeric() && to.is_numeric())
        || (from.is_temporal() && to.is_temporal())
        || (is_text(&from) && is_text(to))
        || (is_bytes(&from) && is_bytes(to))
        || (from.is_nested() && to.is_nested());
    if !related && !text_to_time {
        return Err(mismatch());
    }
    let converted = value.cast_to(to).map_err(|_| mismatch())?;
    if related && converted.cast_to(&from).ok().as_ref() != Some(value) {
        return Err(mismatch());
    }
    Ok(converted)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// Replaces every placeholder of a plan and its subqueries by its value, and computes what then is constant, such as
/// `$now() - INTERVAL '1 day'`, so that scans can prune by it. The names of columns stay.
///
/// Works on plans before and after optimisation, so also on cached ones.
///
/// # Errors
/// * `PARAMETER_COUNT_MISMATCH` if the plan has a `$n` without a value.
/// * `PARAMETER_TYPE_MISMATCH` if a value does not fit the type that the plan was made for.
/// * `INVALID_STATEMENT` for a placeholder with a name instead of a number.
pub(crate) fn bind_parameters(plan: LogicalPlan, bindings: &Bindings<'_>) -> Result<LogicalPlan> {
    bind_plan(plan, bindings).map_err(from_datafusion)
}

fn bind_plan(plan: LogicalPlan, bindings: &Bindings<'_>) -> DataFusionResult<LogicalPlan> {
    if !plan_has_placeholder(&plan)? {
        return Ok(plan);
    }
    // Nodes are visited from the leaves up: schemas are right until the first change.
    let mut changed = false;
    plan.transform_up_with_subqueries(|plan| {
        // The columns of VALUES have names of their own.
        let names = (!matches!(plan, LogicalPlan::Values(_))).then(|| NamePreserver::new(&plan));
        let bound = plan.map_expressions(|expr| {
            if !has_placeholder(&expr)? {
                return Ok(Transformed::no(expr));
            }
            let name = names.as_ref().map(|names| names.save(&expr));
            let bound = expr.transform_up(|expr| bindings.bind_node(expr))?;
            Ok(bound.update_data(|expr| match name {
                Some(name) => name.restore(expr),
                None => expr,
            }))
        })?;
        changed |= bound.transformed;
        if changed { bound.map_data(recompute_schema) } else { Ok(bound) }
    })
    .data()
}

/// Replaces placeholders, and calls of functions such as `now()`, in one expression that is evaluated apart from a plan.
/// Subqueries in it are not entered.
///
/// # Errors
/// As of [`bind_parameters`].
pub(crate) fn bind_expr(expr: Expr, bindings: &Bindings<'_>) -> Result<Expr> {
    expr.transform_up(|expr| bindings.bind_node(expr)).data().map_err(from_datafusion)
}

fn plan_has_placeholder(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            found = found || has_placeholder(expr)?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

fn has_placeholder(expr: &Expr) -> DataFusionResult<bool> {
    expr.exists(|expr| Ok(matches!(expr, Expr::Placeholder(_)) || StatementValue::called_by(expr).is_some()))
}

fn recompute_schema(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    match plan {
        LogicalPlan::Values(Values { schema, values }) => {
            let fits = |row: &Vec<Expr>| {
                row.iter().zip(schema.fields()).all(|(expr, field)| match expr {
                    Expr::Literal(value, _) => value.data_type() == *field.data_type(),
                    _ => true,
                })
            };
            if values.iter().all(fits) {
                Ok(LogicalPlan::Values(Values { schema, values }))
            } else {
                // A placeholder of unknown type made the column NULL: infer its type again.
                LogicalPlanBuilder::values(values)?.build()
            }
        }
        plan => plan.recompute_schema(),
    }
}
