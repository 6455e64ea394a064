//! RETURNING: rows that a write made or removed, as its answer.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        datatypes::{Schema, SchemaRef},
    },
    common::{DFSchemaRef, ScalarValue},
    sql::sqlparser::ast,
};

use crate::{
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
        errors::from_datafusion,
        expr::RowExpr,
        output::{ResultColumn, RowStream, result_columns},
        output_names::text_of,
        planner::Planner,
        scan::batch_of,
    },
    types::SqlType,
};

/// A planned RETURNING clause.
#[derive(Debug)]
pub(crate) struct Returning {
    expressions: Vec<RowExpr>,
    schema: SchemaRef,
    columns: Arc<[ResultColumn]>,
}

impl Returning {
    /// Plans a clause over the columns of the table.
    pub(crate) fn plan(
        planner: &Planner<'_>,
        items: &[ast::SelectItem],
        schema: &DFSchemaRef,
        parameter_types: &[SqlType],
    ) -> Result<Self> {
        let mut expressions = Vec::new();
        let mut fields = Vec::new();
        for item in items {
            let (expr, name) = match item {
                ast::SelectItem::UnnamedExpr(expr) => (expr, None),
                ast::SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
                ast::SelectItem::Wildcard(_) => {
                    for (qualifier, field) in schema.iter() {
                        let column = datafusion::common::Column::from((qualifier, field));
                        expressions.push(RowExpr::new(datafusion::logical_expr::Expr::Column(column), schema)?);
                        fields.push(Arc::clone(field));
                    }
                    continue;
                }
                other => {
                    return Err(Error::new(Reason::NotSupported, format!("RETURNING {other} is not supported.")));
                }
            };
            let planned = RowExpr::plan(planner, expr, schema, parameter_types)?;
            let name = name.unwrap_or_else(|| match planned.expr() {
                datafusion::logical_expr::Expr::Column(column) => column.name.clone(),
                _ => text_of(expr),
            });
            let nullable =
                datafusion::logical_expr::ExprSchemable::nullable(planned.expr(), schema.as_ref()).unwrap_or(true);
            fields.push(Arc::new(planned.sql_type.to_field(&name, nullable)));
            expressions.push(planned);
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        Ok(Self { expressions, columns: result_columns(&schema), schema })
    }

    /// The columns of the answer.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The answer for rows given by the table's columns in order.
    pub(crate) fn rows(
        &self,
        shared: &Shared,
        context: &StatementContext,
        parameters: &[ScalarValue],
        rows: &RecordBatch,
    ) -> Result<RowStream> {
        let columns = self
            .expressions
            .iter()
            .zip(self.schema.fields())
            .map(|(expression, field)| {
                let values = expression.evaluate(&shared.template, context, parameters, rows)?;
                if values.data_type() == field.data_type() {
                    return Ok(values);
                }
                datafusion::arrow::compute::cast(&values, field.data_type()).map_err(|e| from_datafusion(e.into()))
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let batch = batch_of(&self.schema, columns, rows.num_rows()).map_err(from_datafusion)?;
        Ok(RowStream::ready(Arc::clone(&self.columns), batch))
    }
}
