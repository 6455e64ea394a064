//! DELETE.

use std::sync::Arc;

use datafusion::{arrow::datatypes::SchemaRef, execution::SessionState};
use kalamdb_store::{
    commit::{CommitError, RowChange, RowOp},
    ids::CommitSeq,
};
use tokio::time::Instant;

use crate::{
    engine::Shared,
    error::Result,
    exec::{
        StatementContext,
        dml::{Given, Selection, check_writable},
        errors::from_commit,
        expr::qualified,
        insert::dropped,
        output::Body,
        params::{self, Parameter},
        planner::{Names, Planner, UsedTable},
        returning::Returning,
        write::{self, Attempts, written_partition},
    },
    sql,
    types::SqlType,
};

/// A planned DELETE.
#[derive(Debug)]
pub(crate) struct DeletePlan {
    pub(crate) tables: Vec<UsedTable>,
    used: UsedTable,
    selection: Selection,
    returning: Option<Returning>,
    parameter_types: Vec<SqlType>,
}

impl DeletePlan {
    /// Plans a statement.
    pub(crate) fn new<'a>(
        state: &SessionState,
        names: impl Fn() -> Names<'a> + Copy,
        statement: &sql::Delete,
        given: &[SqlType],
    ) -> Result<Self> {
        check_writable(&statement.table, names().namespace)?;
        let used = names().table(&statement.table)?;
        let table = Arc::clone(&used.table);
        let name = statement.alias.as_ref().map_or(table.name().as_str(), |a| a.text.as_str());
        let schema = qualified(table.schema(), name)?;
        let planner = Planner::new(state, names(), false);
        let (selection, parameter_types) =
            Selection::plan(&planner, &used, name, &schema, statement.filter.as_ref(), &[], given)?;
        let returning = statement
            .returning
            .as_ref()
            .map(|items| Returning::plan(&planner, items, &schema, &parameter_types))
            .transpose()?;
        let mut tables = planner.used_tables();
        tables.push(used.clone());
        Ok(Self { tables, used, selection, returning, parameter_types })
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
            let row_count = found.keys.len();
            let changes: Vec<RowChange> = found
                .keys
                .into_iter()
                .zip(found.versions.into_iter().zip(found.stored))
                .map(|(key, (expected, old))| RowChange {
                    partition: partition.clone(),
                    key,
                    op: RowOp::Delete { expected, old },
                })
                .collect();
            let commit_seq = if changes.is_empty() {
                None
            } else {
                match write::commit(shared, &context, changes).await {
                    Ok(committed) => Some(committed.commit_seq),
                    Err(CommitError::VersionChanged { .. } | CommitError::KeyExists { .. }) => {
                        attempts.again().await?;
                        context = Arc::new(context.renewed());
                        continue;
                    }
                    Err(CommitError::TableDropped { .. }) => return Err(dropped(table)),
                    Err(other) => return Err(from_commit(other)),
                }
            };
            let body = match &self.returning {
                Some(returning) => Body::Rows(returning.rows(shared, &context, &values, &found.batch)?),
                None => Body::Affected { row_count: row_count as u64, message: format!("DELETE {row_count}") },
            };
            return Ok((body, commit_seq));
        }
    }
}
