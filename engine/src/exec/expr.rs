//! Expressions over the rows of one table, evaluated without a plan.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, BooleanArray, RecordBatch},
        datatypes::Schema,
    },
    common::{DFSchema, DFSchemaRef, Result as DataFusionResult, ScalarValue, TableReference, tree_node::TreeNode},
    execution::SessionState,
    logical_expr::{Expr, ExprSchemable},
    optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext},
    physical_expr::PhysicalExpr,
    sql::{
        planner::{PlannerContext, SqlToRel},
        sqlparser::ast,
    },
};

use crate::{
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
        errors::from_datafusion,
        float_compare, in_lists, params,
        planner::{Planner, parser_options},
        query::scientific_as_double,
        uuid_text,
    },
    functions::{Bindings, CheckedArithmetic, bind_expr},
    types::SqlType,
};

/// An expression that was planned over a schema; its parameters, NOW() and CURRENT_USER() are not bound yet.
#[derive(Debug, Clone)]
pub(crate) struct RowExpr {
    expr: Expr,
    schema: DFSchemaRef,
    /// The type of its values.
    pub(crate) sql_type: SqlType,
}

impl RowExpr {
    /// Plans an expression over `schema`. Aggregates, window functions and queries cannot stand in it.
    pub(crate) fn plan(
        planner: &Planner<'_>,
        expr: &ast::Expr,
        schema: &DFSchemaRef,
        parameter_types: &[SqlType],
    ) -> Result<Self> {
        Self::plan_in(planner, expr, schema, &mut params::planner_context(parameter_types))
    }

    /// The same with a context that serves many expressions: making one costs as much as there are parameters.
    pub(crate) fn plan_in(
        planner: &Planner<'_>,
        expr: &ast::Expr,
        schema: &DFSchemaRef,
        context: &mut PlannerContext,
    ) -> Result<Self> {
        let mut expr = expr.clone();
        scientific_as_double(&mut expr);
        let expr = SqlToRel::new_with_options(planner, parser_options())
            .sql_to_expr(expr, schema, context)
            .map_err(from_datafusion)?;
        Self::new(expr, schema)
    }

    /// Takes a planned expression.
    pub(crate) fn new(expr: Expr, schema: &DFSchemaRef) -> Result<Self> {
        let mut refused = None;
        expr.apply(|e| {
            refused = refused.or(match e {
                Expr::AggregateFunction(_) => Some("An aggregate function"),
                Expr::WindowFunction(_) => Some("A window function"),
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
                    Some("A query")
                }
                _ => None,
            });
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        })
        .map_err(from_datafusion)?;
        if let Some(what) = refused {
            return Err(Error::new(Reason::NotSupported, format!("{what} cannot stand here.")));
        }
        let expr = uuid_text::in_expr(expr, schema).map_err(from_datafusion)?;
        let expr = float_compare::in_expr(expr, schema).map_err(from_datafusion)?;
        let field = expr.to_field(schema.as_ref()).map(|(_, field)| field);
        let sql_type = match field {
            Ok(field) => SqlType::from_field(&field),
            // A bare parameter without a type.
            Err(_) => SqlType::Null,
        };
        Ok(Self { expr, schema: Arc::clone(schema), sql_type })
    }

    pub(crate) fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Its constant value, if it is one as it stands.
    pub(crate) fn constant(&self) -> Option<&ScalarValue> {
        match &self.expr {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        }
    }

    /// Its value for each row.
    pub(crate) fn evaluate(
        &self,
        state: &SessionState,
        context: &StatementContext,
        parameters: &[ScalarValue],
        rows: &RecordBatch,
    ) -> Result<ArrayRef> {
        let bindings = Bindings::new(parameters, context.now_us, context.caller.effective_user());
        let bound = bind_expr(self.expr.clone(), &bindings)?;
        let physical = physical_expr(state, bound, &self.schema).map_err(from_datafusion)?;
        physical.evaluate(rows).and_then(|v| v.into_array(rows.num_rows())).map_err(from_datafusion)
    }

    /// For each row whether it is true; NULL is not.
    pub(crate) fn holds(
        &self,
        state: &SessionState,
        context: &StatementContext,
        parameters: &[ScalarValue],
        rows: &RecordBatch,
    ) -> Result<BooleanArray> {
        let values = self.evaluate(state, context, parameters, rows)?;
        match values.as_any().downcast_ref::<BooleanArray>() {
            Some(values) => Ok(values.iter().map(|v| Some(v.unwrap_or(false))).collect()),
            None if values.null_count() == values.len() => Ok(std::iter::repeat_n(Some(false), values.len()).collect()),
            None => Err(Error::new(
                Reason::InvalidStatement,
                format!("WHERE needs a BOOLEAN, not {}.", SqlType::from_arrow(values.data_type())),
            )),
        }
    }
}

/// An expression ready to be evaluated apart from a plan.
pub(crate) fn physical_expr(
    state: &SessionState,
    expr: Expr,
    schema: &DFSchemaRef,
) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
    let expr = CheckedArithmetic::in_expr(expr, schema)?;
    // Some functions, such as COALESCE, run only in the form that DataFusion's simplifier gives them.
    let expr = if expr.exists(|e| Ok(matches!(e, Expr::ScalarFunction(_))))? {
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(schema))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        simplifier.simplify(simplifier.coerce(in_lists::in_expr(expr)?, schema)?)?
    } else {
        expr
    };
    state.create_physical_expr(expr, schema)
}

/// The columns of `schema`, to be named alone or behind `qualifier`.
pub(crate) fn qualified(schema: &Schema, qualifier: &str) -> Result<DFSchemaRef> {
    DFSchema::try_from_qualified_schema(TableReference::bare(qualifier), schema).map(Arc::new).map_err(from_datafusion)
}
