//! UPDATE.

use std::{ops::ControlFlow, sync::Arc};

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    common::ScalarValue,
    execution::SessionState,
    sql::sqlparser::ast,
};
use kalamdb_store::{
    commit::{CommitError, RowChange, RowOp},
    ids::CommitSeq,
};
use tokio::time::Instant;

use crate::{
    engine::Shared,
    error::{Error, Result},
    exec::{
        StatementContext,
        assignment::{assignable, assigned, check_once, default_column},
        dml::{Given, Selection, check_writable},
        errors::{from_commit, from_datafusion},
        expr::{RowExpr, qualified},
        insert::dropped,
        output::Body,
        params::{self, Parameter},
        planner::{Names, Planner, UsedTable},
        returning::Returning,
        scan::batch_of,
        write::{self, Attempts, written_partition},
    },
    sql,
    types::SqlType,
    values::{CastContext, cast_column},
};

/// A planned UPDATE.
#[derive(Debug)]
pub(crate) struct UpdatePlan {
    pub(crate) tables: Vec<UsedTable>,
    used: UsedTable,
    selection: Selection,
    /// Index of the column, and its new value.
    assignments: Vec<(usize, Assigned)>,
    returning: Option<Returning>,
    parameter_types: Vec<SqlType>,
}

/// The new value of a column.
#[derive(Debug)]
enum Assigned {
    Default,
    /// Over the table's columns.
    Expression(RowExpr),
    /// With a query in it: found along with the row, at this index.
    Computed(usize),
}

impl UpdatePlan {
    /// Plans a statement.
    pub(crate) fn new<'a>(
        state: &SessionState,
        names: impl Fn() -> Names<'a> + Copy,
        statement: &sql::Update,
        given: &[SqlType],
    ) -> Result<Self> {
        check_writable(&statement.table, names().namespace)?;
        let used = names().table(&statement.table)?;
        let table = Arc::clone(&used.table);
        let name = statement.alias.as_ref().map_or(table.name().as_str(), |a| a.text.as_str());
        let schema = qualified(table.schema(), name)?;
        let planner = Planner::new(state, names(), false);
        let filter: Option<&ast::Expr> = statement.filter.as_ref();
        let values = statement.assignments.iter().filter_map(|a| a.value.as_ref());
        let computed: Vec<&ast::Expr> = values.filter(|value| holds_query(value)).collect();
        let (selection, parameter_types) = Selection::plan(&planner, &used, name, &schema, filter, &computed, given)?;
        let mut next_computed = 0;
        let assignments = statement
            .assignments
            .iter()
            .map(|assignment| {
                let index = assignable(&table, &assignment.column)?;
                let assigned = match &assignment.value {
                    None => Assigned::Default,
                    Some(value) if holds_query(value) => {
                        next_computed += 1;
                        Assigned::Computed(next_computed - 1)
                    }
                    Some(value) => Assigned::Expression(RowExpr::plan(&planner, value, &schema, &parameter_types)?),
                };
                Ok((index, assigned))
            })
            .collect::<Result<Vec<_>>>()?;
        check_once(&table, assignments.iter().map(|(index, _)| *index))?;
        let returning = statement
            .returning
            .as_ref()
            .map(|items| Returning::plan(&planner, items, &schema, &parameter_types))
            .transpose()?;
        let mut tables = planner.used_tables();
        tables.push(used.clone());
        Ok(Self { tables, used, selection, assignments, returning, parameter_types })
    }

    /// The columns that RETURNING answers, if the statement has it.
    pub(crate) fn returned(&self) -> Option<&SchemaRef> {
        self.returning.as_ref().map(Returning::schema)
    }

    /// The types of its parameters.
    pub(crate) fn parameter_types(&self) -> &[SqlType] {
        &self.parameter_types
    }

    /// Runs the statement, again when a row was changed meanwhile.
    pub(crate) async fn run(
        &self,
        shared: &Arc<Shared>,
        context: Arc<StatementContext>,
        parameters: &[Parameter],
        deadline: Option<Instant>,
    ) -> Result<(Body, Option<CommitSeq>)> {
        let table = &self.used.table;
        let partition = written_partition(table, self.used.scope, context.owner(table, self.used.scope))?;
        let values = params::convert(parameters, &self.parameter_types)?;
        let given = Given { shared, parameters, values: &values, deadline };
        let mut attempts = Attempts::new(shared, &partition);
        let mut context = context;
        loop {
            let found = self.selection.find(&given, &context, table, &partition).await?;
            if found.keys.is_empty() {
                return self.answer(shared, &context, &values, &found.batch, None);
            }
            let rows = found.batch.num_rows();
            let mut columns = found.batch.columns().to_vec();
            for (index, value) in &self.assignments {
                let column = &table.columns()[*index];
                columns[*index] = match value {
                    Assigned::Default => default_column(shared, &context, column, rows)?,
                    Assigned::Expression(value) => {
                        assigned(shared, &context, &values, table, *index, value, &found.batch)?
                    }
                    Assigned::Computed(at) => {
                        let Some((array, from)) = found.computed.get(*at) else {
                            return Err(Error::internal("a value that was not computed"));
                        };
                        let name = column.name.as_str();
                        cast_column(array, from, &column.sql_type, name, CastContext::Expression)?
                    }
                };
            }
            let (keys, encoded) = write::encode(table, &columns, rows, shared.settings.max_write_bytes)?;
            let updated = batch_of(table.schema(), columns, rows).map_err(from_datafusion)?;
            if let Some(rule) = &self.used.rule {
                rule.check_written(&context.caller, table, &updated)?;
            }
            let changes = keys
                .into_iter()
                .zip(encoded)
                .zip(found.versions.into_iter().zip(found.stored))
                .map(|((key, row), (expected, old))| RowChange {
                    partition: partition.clone(),
                    key,
                    op: RowOp::Update { row, expected, old },
                })
                .collect();
            match write::commit(shared, &context, changes).await {
                Ok(committed) => {
                    return self.answer(shared, &context, &values, &updated, Some(committed.commit_seq));
                }
                Err(CommitError::VersionChanged { .. } | CommitError::KeyExists { .. }) => {
                    attempts.again().await?;
                    context = Arc::new(context.renewed());
                }
                Err(CommitError::TableDropped { .. }) => return Err(dropped(table)),
                Err(other) => return Err(from_commit(other)),
            }
        }
    }

    fn answer(
        &self,
        shared: &Shared,
        context: &StatementContext,
        values: &[ScalarValue],
        updated: &RecordBatch,
        commit_seq: Option<CommitSeq>,
    ) -> Result<(Body, Option<CommitSeq>)> {
        let row_count = updated.num_rows();
        let body = match &self.returning {
            Some(returning) => Body::Rows(returning.rows(shared, context, values, updated)?),
            None => Body::Affected { row_count: row_count as u64, message: format!("UPDATE {row_count}") },
        };
        Ok((body, commit_seq))
    }
}

/// Whether an expression has a query in it.
fn holds_query(expr: &ast::Expr) -> bool {
    struct Find;
    impl ast::Visitor for Find {
        type Break = ();
        fn pre_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    ast::Visit::visit(expr, &mut Find).is_break()
}
