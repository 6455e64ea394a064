//! Functions with one value for the whole statement: `now()`, `current_user()` and their like.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::{DataType, Field, TimeUnit},
    common::{
        Result as DataFusionResult, ScalarValue, internal_err,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    logical_expr::{
        ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
        expr::{Placeholder, ScalarFunction},
        expr_rewriter::NamePreserver,
    },
};
use kalamdb_store::ids::UserId;

use super::from_datafusion;
use crate::error::Result;

const DAY_US: i64 = 86_400_000_000;

/// A value that is the same all over a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StatementValue {
    Now,
    CurrentDate,
    CurrentTime,
    CurrentUser,
}

impl StatementValue {
    pub(super) const ALL: [StatementValue; 4] =
        [StatementValue::Now, StatementValue::CurrentDate, StatementValue::CurrentTime, StatementValue::CurrentUser];

    /// The reserved placeholder. With its parentheses it cannot be written in SQL, so that no user's parameter can
    /// have the same name.
    pub(super) fn id(self) -> &'static str {
        match self {
            StatementValue::Now => "$now()",
            StatementValue::CurrentDate => "$current_date()",
            StatementValue::CurrentTime => "$current_time()",
            StatementValue::CurrentUser => "$current_user()",
        }
    }

    pub(super) fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.id() == id)
    }

    fn data_type(self) -> DataType {
        match self {
            StatementValue::Now => DataType::Timestamp(TimeUnit::Microsecond, None),
            StatementValue::CurrentDate => DataType::Date32,
            StatementValue::CurrentTime => DataType::Time64(TimeUnit::Microsecond),
            StatementValue::CurrentUser => DataType::Utf8View,
        }
    }

    /// The value in a statement that began at `now_us` for `user`.
    pub(super) fn value(self, now_us: i64, user: &UserId) -> ScalarValue {
        match self {
            StatementValue::Now => ScalarValue::TimestampMicrosecond(Some(now_us), None),
            // i32 days reach further than i64 microseconds.
            StatementValue::CurrentDate => ScalarValue::Date32(i32::try_from(now_us.div_euclid(DAY_US)).ok()),
            StatementValue::CurrentTime => ScalarValue::Time64Microsecond(Some(now_us.rem_euclid(DAY_US))),
            StatementValue::CurrentUser => ScalarValue::Utf8View(Some(user.as_str().to_owned())),
        }
    }

    fn placeholder(self) -> Expr {
        let field = Field::new(self.id(), self.data_type(), true);
        Expr::Placeholder(Placeholder::new_with_field(self.id().to_owned(), Some(Arc::new(field))))
    }

    /// The value that a call of one of our functions means, if the expression is one.
    pub(super) fn called_by(expr: &Expr) -> Option<Self> {
        let Expr::ScalarFunction(ScalarFunction { func, .. }) = expr else { return None };
        func.inner().downcast_ref::<StatementFunction>().map(|function| function.value)
    }
}

/// The function that stands for a [`StatementValue`] until the plan is made.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct StatementFunction {
    name: &'static str,
    value: StatementValue,
    signature: Signature,
}

impl StatementFunction {
    /// One function for each name: an alias would give the result column another name than the one written.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [
            ("now", StatementValue::Now),
            ("current_timestamp", StatementValue::Now),
            ("localtimestamp", StatementValue::Now),
            ("current_date", StatementValue::CurrentDate),
            ("today", StatementValue::CurrentDate),
            ("current_time", StatementValue::CurrentTime),
            ("localtime", StatementValue::CurrentTime),
            ("current_user", StatementValue::CurrentUser),
        ]
        .into_iter()
        .map(|(name, value)| Self { name, value, signature: Signature::nullary(Volatility::Stable) })
    }
}

impl ScalarUDFImpl for StatementFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        internal_err!("{}() was executed without being bound to its statement", self.name)
    }
}

/// Replaces calls of `now()`, `current_timestamp`, `current_date`, `current_time`, `current_user` and their synonyms, in
/// the plan and its subqueries, by typed placeholders that [`bind_parameters`](super::bind_parameters) fills.
///
/// To be done once, on the plan as made from SQL, before the optimiser sees it. The names of columns stay.
///
/// # Errors
/// `INTERNAL` if DataFusion refuses the rewritten plan.
pub(crate) fn bind_statement_values(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        // The columns of VALUES have names of their own.
        let names = (!matches!(plan, LogicalPlan::Values(_))).then(|| NamePreserver::new(&plan));
        plan.map_expressions(|expr| {
            if !expr.exists(|e| Ok(StatementValue::called_by(e).is_some()))? {
                return Ok(Transformed::no(expr));
            }
            let name = names.as_ref().map(|names| names.save(&expr));
            Ok(replace_calls(expr)?.update_data(|expr| match name {
                Some(name) => name.restore(expr),
                None => expr,
            }))
        })
        // Neither types nor names nor nullability change, so the schemas made before still hold.
    })
    .data()
    .map_err(from_datafusion)
}

fn replace_calls(expr: Expr) -> DataFusionResult<Transformed<Expr>> {
    expr.transform_up(|expr| {
        Ok(match StatementValue::called_by(&expr) {
            Some(value) => Transformed::yes(value.placeholder()),
            None => Transformed::no(expr),
        })
    })
}

/// CURRENT_USER() as a plan has it after [`bind_statement_values`]: a placeholder.
pub(crate) fn current_user() -> Expr {
    StatementValue::CurrentUser.placeholder()
}

/// Whether an expression is a call of `now()` or its like, whose value is the time of the statement.
pub(crate) fn is_time_of_statement(expr: &Expr) -> bool {
    StatementValue::called_by(expr).is_some_and(|value| value != StatementValue::CurrentUser)
}

/// Whether `current_user()` is called somewhere in an expression.
pub(crate) fn names_current_user(expr: &Expr) -> bool {
    expr.exists(|e| Ok(StatementValue::called_by(e) == Some(StatementValue::CurrentUser))).unwrap_or(true)
}

/// Whether a placeholder's id (with the leading `$`) is one that [`bind_statement_values`] makes.
pub(crate) fn is_statement_parameter(id: &str) -> bool {
    StatementValue::from_id(id).is_some()
}
