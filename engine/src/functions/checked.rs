//! Arithmetic of integers that fails on overflow, as in PostgreSQL. DataFusion's own wraps around.

use std::sync::{Arc, LazyLock};

use datafusion::{
    arrow::{
        array::Datum,
        compute::kernels::numeric::{add, mul, sub},
        datatypes::DataType,
    },
    common::{
        DFSchema, DFSchemaRef, Result as DataFusionResult, ScalarValue,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    error::DataFusionError,
    logical_expr::{
        ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
        Signature, Volatility, expr::ScalarFunction, expr_rewriter::NamePreserver, utils::merge_schema,
    },
    optimizer::{
        AnalyzerRule,
        simplify_expressions::{ExprSimplifier, SimplifyContext},
    },
};

use crate::error::{Error, Reason};

/// Replaces `+`, `-` and `*` of integers by functions that fail on overflow. Runs after types are coerced.
#[derive(Debug)]
pub(crate) struct CheckedArithmetic {
    add: Arc<ScalarUDF>,
    subtract: Arc<ScalarUDF>,
    multiply: Arc<ScalarUDF>,
}

impl CheckedArithmetic {
    pub(crate) fn new() -> Self {
        let function = |operator| Arc::new(ScalarUDF::new_from_impl(Checked::new(operator)));
        Self {
            add: function(Operator::Plus),
            subtract: function(Operator::Minus),
            multiply: function(Operator::Multiply),
        }
    }

    /// An expression outside any plan, its types coerced, with checks.
    pub(crate) fn in_expr(expr: Expr, schema: &DFSchemaRef) -> DataFusionResult<Expr> {
        static RULE: LazyLock<CheckedArithmetic> = LazyLock::new(CheckedArithmetic::new);
        let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(schema)).build());
        let coerced = simplifier.coerce(expr, schema)?;
        RULE.check(coerced, schema).data()
    }

    /// The same expression, with checks.
    fn check(&self, expr: Expr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
        expr.transform_up(|expr| {
            let Expr::BinaryExpr(binary) = &expr else { return Ok(Transformed::no(expr)) };
            let function = match binary.op {
                Operator::Plus => &self.add,
                Operator::Minus => &self.subtract,
                Operator::Multiply => &self.multiply,
                _ => return Ok(Transformed::no(expr)),
            };
            let integers = |e: &Expr| e.get_type(schema).is_ok_and(|t| t.is_integer());
            if !integers(&binary.left) || !integers(&binary.right) {
                return Ok(Transformed::no(expr));
            }
            let args = vec![binary.left.as_ref().clone(), binary.right.as_ref().clone()];
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args))))
        })
    }
}

impl AnalyzerRule for CheckedArithmetic {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let schema = match &plan {
                LogicalPlan::TableScan(scan) => scan.projected_schema.as_ref().clone(),
                other => merge_schema(&other.inputs()),
            };
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(self.check(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })
        .data()
    }

    fn name(&self) -> &str {
        "checked_arithmetic"
    }
}

/// One checked operator.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operator: Operator,
    signature: Signature,
}

impl Checked {
    fn new(operator: Operator) -> Self {
        Self { operator, signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operator {
            Operator::Plus => "checked_add",
            Operator::Minus => "checked_subtract",
            _ => "checked_multiply",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        types.first().cloned().ok_or_else(|| DataFusionError::Internal("arithmetic without operands".to_owned()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("arithmetic needs two operands".to_owned()));
        };
        let kernel: fn(&dyn Datum, &dyn Datum) -> Result<datafusion::arrow::array::ArrayRef, _> = match self.operator {
            Operator::Plus => add,
            Operator::Minus => sub,
            _ => mul,
        };
        let outcome = match (left, right) {
            (ColumnarValue::Array(l), ColumnarValue::Array(r)) => kernel(l, r),
            (ColumnarValue::Array(l), ColumnarValue::Scalar(r)) => kernel(l, &r.to_scalar()?),
            (ColumnarValue::Scalar(l), ColumnarValue::Array(r)) => kernel(&l.to_scalar()?, r),
            (ColumnarValue::Scalar(l), ColumnarValue::Scalar(r)) => {
                let array =
                    kernel(&l.to_scalar()?, &r.to_scalar()?).map_err(|_| overflow(args.return_field.data_type()))?;
                return ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
            }
        };
        outcome.map(ColumnarValue::Array).map_err(|_| overflow(args.return_field.data_type()))
    }
}

fn overflow(data_type: &DataType) -> DataFusionError {
    let sql_type = crate::types::SqlType::from_arrow(data_type);
    DataFusionError::External(Box::new(Error::new(
        Reason::InvalidValue,
        format!(
            "The result of an integer operation is out of the range of {sql_type}. Cast an operand to a wider type."
        ),
    )))
}
