//! INSERT: rows evaluated here, ordered and checked by the committer.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        datatypes::SchemaRef,
    },
    common::ScalarValue,
    execution::SessionState,
    sql::sqlparser::ast,
};
use kalamdb_store::{
    codec::PrimaryKey,
    commit::{CommitError, Expected, RowChange, RowOp, Unique, committed_seq},
    ids::{CommitSeq, Partition},
};
use tokio::time::Instant;

use crate::{
    catalog::{Column, Default, Table},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
        assignment::{at, check_once, default_column},
        cold,
        dml::check_writable,
        errors::{from_commit, from_datafusion, from_store},
        expr::qualified,
        insert_values::{Cell, cell_column, cells, wrong_width},
        on_conflict::{Conflict, expired_rows},
        output::Body,
        params::{self, Parameter},
        planner::{Names, Planner, UsedTable},
        query::{QueryPlan, collect_query},
        returning::Returning,
        scan::batch_of,
        write::{self, Attempts, concatenated, key_exists, written_partition},
    },
    sql::{self, InsertSource, Name},
    types::SqlType,
    values::{CastContext, cast_column},
};

/// A planned INSERT.
#[derive(Debug)]
pub(crate) struct InsertPlan {
    pub(crate) tables: Vec<UsedTable>,
    used: UsedTable,
    /// For each column of the table, which of the source's columns it takes; `None`: its default.
    targets: Vec<Option<usize>>,
    source: Source,
    on_conflict: Option<Conflict>,
    returning: Option<Returning>,
    parameter_types: Vec<SqlType>,
}

#[derive(Debug)]
enum Source {
    /// Rows of cells, for the columns given.
    Values(Vec<Vec<Cell>>),
    Query(Box<QueryPlan>),
}

impl InsertPlan {
    /// Plans a statement.
    pub(crate) fn new<'a>(
        state: &SessionState,
        names: impl Fn() -> Names<'a> + Copy,
        statement: &sql::Insert,
        given: &[SqlType],
    ) -> Result<Self> {
        check_writable(&statement.table, names().namespace)?;
        let used = names().table(&statement.table)?;
        let table = Arc::clone(&used.table);
        let given_columns = given_columns(&table, &statement.columns)?;
        let mut targets = vec![None; table.columns().len()];
        for (position, column) in given_columns.iter().enumerate() {
            targets[*column] = Some(position);
        }
        for (column, target) in table.columns().iter().zip(&targets) {
            if target.is_none() && column.default.is_none() && !column.nullable {
                return Err(missing_value(&table, column));
            }
        }
        let planner = Planner::new(state, names(), false);
        let (source, parameter_types) = match &statement.source {
            InsertSource::Values(rows) => {
                let mut context = params::planner_context(given);
                let cells = rows
                    .iter()
                    .map(|row| cells(&planner, &table, &given_columns, row, &mut context))
                    .collect::<Result<Vec<_>>>()?;
                (Source::Values(cells), given.to_vec())
            }
            InsertSource::DefaultValues => (Source::Values(vec![Vec::new()]), given.to_vec()),
            InsertSource::Query(query) => {
                let query = QueryPlan::new(state, names, ast::Statement::Query(query.clone()), given)?;
                let width = query.schema().fields().len();
                if width != given_columns.len() {
                    return Err(wrong_width(&table, given_columns.len(), width));
                }
                (Source::Query(Box::new(query)), given.to_vec())
            }
        };
        if matches!(statement.source, InsertSource::DefaultValues) {
            targets.fill(None);
        }
        let own = qualified(table.schema(), table.name().as_str())?;
        let on_conflict =
            statement.on_conflict.as_ref().map(|c| Conflict::plan(&planner, &table, c, given)).transpose()?;
        let returning =
            statement.returning.as_ref().map(|items| Returning::plan(&planner, items, &own, given)).transpose()?;
        let mut tables = planner.used_tables();
        if let Source::Query(query) = &source {
            tables.extend(query.tables.iter().cloned());
        }
        tables.push(used.clone());
        Ok(Self { tables, used, targets, source, on_conflict, returning, parameter_types })
    }

    /// The columns that RETURNING answers, if the statement has it.
    pub(crate) fn returned(&self) -> Option<&SchemaRef> {
        self.returning.as_ref().map(Returning::schema)
    }

    /// The types of its parameters.
    pub(crate) fn parameter_types(&self) -> &[SqlType] {
        &self.parameter_types
    }

    /// Whether it reads rows before it writes.
    pub(crate) fn reads(&self) -> bool {
        self.on_conflict.is_some() || matches!(self.source, Source::Query(_))
    }

    /// Runs the statement.
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
        let (columns, rows) = self.rows(shared, &context, parameters, &values, deadline).await?;
        write::check_nulls(table, &columns)?;
        let batch = batch_of(table.schema(), columns, rows).map_err(from_datafusion)?;
        // Before it can show which keys there are.
        if let Some(rule) = &self.used.rule {
            rule.check_written(&context.caller, table, &batch)?;
        }
        match &self.on_conflict {
            None => self.insert(shared, context, &partition, batch, &values).await,
            Some(conflict) => self.upsert(shared, context, &partition, batch, &values, conflict).await,
        }
    }

    async fn insert(
        &self,
        shared: &Arc<Shared>,
        context: Arc<StatementContext>,
        partition: &Partition,
        batch: RecordBatch,
        values: &[ScalarValue],
    ) -> Result<(Body, Option<CommitSeq>)> {
        let table = &self.used.table;
        let rows = batch.num_rows();
        let (keys, mut encoded) = write::encode(table, batch.columns(), rows, shared.settings.max_write_bytes)?;
        if rows == 0 {
            return self.answer(shared, &context, values, &batch, None);
        }
        let unique = if self.generates_keys() { Unique::Generated } else { Unique::Check };
        let mut attempts = Attempts::new(shared, partition);
        let context = self.remove_expired(shared, context, partition, &keys, unique, &mut attempts).await?;
        loop {
            let cold_checked_at = match unique {
                Unique::Generated => None,
                Unique::Check => Some(self.check_cold(shared, &context, partition, &keys).await?),
            };
            let changes = keys
                .iter()
                .zip(encoded)
                .map(|(key, row)| RowChange {
                    partition: partition.clone(),
                    key: key.clone(),
                    op: RowOp::Insert { row, unique },
                })
                .collect();
            match write::commit_checked(shared, &context, changes, cold_checked_at).await {
                Ok(committed) => return self.answer(shared, &context, values, &batch, Some(committed.commit_seq)),
                Err(CommitError::SegmentsChanged { .. }) => {
                    attempts.again().await?;
                    (_, encoded) = write::encode(table, batch.columns(), rows, shared.settings.max_write_bytes)?;
                }
                Err(CommitError::KeyExists { change } | CommitError::VersionChanged { change }) => {
                    return Err(keys
                        .get(change)
                        .map_or_else(|| Error::internal("a conflict at no row"), |key| key_exists(table, key)));
                }
                Err(other) => return Err(from_commit(other)),
            }
        }
    }

    /// Removes rows that have expired but hold keys of the new ones, as the sweep of expired rows would: in one commit
    /// with the insert they would conflict with it.
    async fn remove_expired(
        &self,
        shared: &Arc<Shared>,
        context: Arc<StatementContext>,
        partition: &Partition,
        keys: &[PrimaryKey],
        unique: Unique,
        attempts: &mut Attempts<'_>,
    ) -> Result<Arc<StatementContext>> {
        let mut context = context;
        loop {
            let mut expired = expired_rows(shared, &context, &self.used.table, partition, keys, unique)?;
            if expired.is_empty() {
                return Ok(context);
            }
            let old = expired.drain().map(|(key, (expected, old))| RowChange {
                partition: partition.clone(),
                key,
                op: RowOp::Delete { expected: Expected::Hot(expected), old },
            });
            match write::commit(shared, &context, old.collect()).await {
                Ok(_) => return Ok(context),
                // The sweep was here; rows that it has not reached are still to be removed.
                Err(CommitError::VersionChanged { .. }) => {
                    attempts.again().await?;
                    context = Arc::new(context.renewed());
                }
                Err(other) => return Err(from_commit(other)),
            }
        }
    }

    /// Checks that no segment has one of these keys, as of the commit that is answered.
    ///
    /// # Errors
    /// PRIMARY_KEY_VIOLATION.
    async fn check_cold(
        &self,
        shared: &Arc<Shared>,
        context: &StatementContext,
        partition: &Partition,
        keys: &[PrimaryKey],
    ) -> Result<CommitSeq> {
        let table = &self.used.table;
        // Before the snapshot, which may so be newer but never older.
        let checked_at = shared.committer.last_commit_seq();
        if cold::has_segments(shared, table) {
            let mut keys = keys.to_vec();
            keys.sort();
            keys.dedup();
            let now = context.renewed();
            if let Some(key) = cold::find_keys(shared, now.snapshot(), table, partition, &keys).await?.first() {
                return Err(key_exists(table, key));
            }
        }
        Ok(checked_at)
    }

    async fn upsert(
        &self,
        shared: &Arc<Shared>,
        context: Arc<StatementContext>,
        partition: &Partition,
        batch: RecordBatch,
        values: &[ScalarValue],
        conflict: &Conflict,
    ) -> Result<(Body, Option<CommitSeq>)> {
        let table = &self.used.table;
        let mut attempts = Attempts::new(shared, partition);
        let mut context = context;
        loop {
            let cold_checked_at = committed_seq(context.snapshot().as_ref()).map_err(from_store)?;
            let resolved = conflict.resolve(shared, &context, &self.used, partition, &batch, values).await?;
            if resolved.changes.is_empty() {
                return self.answer(shared, &context, values, &resolved.written, None);
            }
            match write::commit_checked(shared, &context, resolved.changes, Some(cold_checked_at)).await {
                Ok(committed) => {
                    return self.answer(shared, &context, values, &resolved.written, Some(committed.commit_seq));
                }
                Err(
                    CommitError::KeyExists { .. }
                    | CommitError::VersionChanged { .. }
                    | CommitError::SegmentsChanged { .. },
                ) => {
                    attempts.again().await?;
                    context = Arc::new(context.renewed());
                }
                Err(CommitError::TableDropped { .. }) => return Err(dropped(table)),
                Err(other) => return Err(from_commit(other)),
            }
        }
    }

    /// Whether every row's key comes from a generator.
    fn generates_keys(&self) -> bool {
        let table = &self.used.table;
        let generated = table.key_column().default.as_ref().is_some_and(Default::is_generated_key);
        let from_default = match (self.targets[table.key_index()], &self.source) {
            (None, _) => true,
            (Some(position), Source::Values(rows)) => {
                rows.iter().all(|row| matches!(row.get(position), Some(Cell::Default)))
            }
            (Some(_), Source::Query(_)) => false,
        };
        generated && from_default
    }

    /// The rows to insert: the table's columns in order.
    async fn rows(
        &self,
        shared: &Arc<Shared>,
        context: &Arc<StatementContext>,
        parameters: &[Parameter],
        values: &[ScalarValue],
        deadline: Option<Instant>,
    ) -> Result<(Vec<ArrayRef>, usize)> {
        let table = &self.used.table;
        match &self.source {
            Source::Values(rows) => {
                let mut columns = Vec::with_capacity(self.targets.len());
                for (column, target) in table.columns().iter().zip(&self.targets) {
                    columns.push(match target {
                        Some(position) => cell_column(shared, context, column, rows, *position, parameters, values)?,
                        None => default_column(shared, context, column, rows.len())?,
                    });
                }
                Ok((columns, rows.len()))
            }
            Source::Query(query) => {
                let batches = collect_query(shared, Arc::clone(context), query, parameters, deadline).await?;
                let batch = concatenated(&batches, query.schema())?;
                let mut columns = Vec::with_capacity(self.targets.len());
                for (column, target) in table.columns().iter().zip(&self.targets) {
                    columns.push(match target {
                        Some(position) => {
                            let from = SqlType::from_field(query.schema().field(*position));
                            let context = CastContext::Expression;
                            cast_column(
                                batch.column(*position),
                                &from,
                                &column.sql_type,
                                column.name.as_str(),
                                context,
                            )?
                        }
                        None => default_column(shared, context, column, batch.num_rows())?,
                    });
                }
                Ok((columns, batch.num_rows()))
            }
        }
    }

    fn answer(
        &self,
        shared: &Shared,
        context: &StatementContext,
        values: &[ScalarValue],
        written: &RecordBatch,
        commit_seq: Option<CommitSeq>,
    ) -> Result<(Body, Option<CommitSeq>)> {
        let body = match &self.returning {
            Some(returning) => Body::Rows(returning.rows(shared, context, values, written)?),
            None => Body::Affected {
                row_count: written.num_rows() as u64,
                message: format!("INSERT 0 {}", written.num_rows()),
            },
        };
        Ok((body, commit_seq))
    }
}

fn given_columns(table: &Table, names: &[Name]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..table.columns().len()).collect());
    }
    let indexes =
        names.iter().map(|name| table.column_index(&name.text).map_err(|e| at(e, name))).collect::<Result<Vec<_>>>()?;
    check_once(table, indexes.iter().copied())?;
    Ok(indexes)
}

fn missing_value(table: &Table, column: &Column) -> Error {
    Error::new(
        Reason::NotNullViolation,
        format!(
            "Column \"{}\" of table {} is NOT NULL and has no DEFAULT; give it a value.",
            column.name,
            table.full_name()
        ),
    )
    .with("column", column.name.as_str())
    .with("table", table.full_name())
}

pub(crate) fn dropped(table: &Table) -> Error {
    Error::new(Reason::TableNotFound, format!("Table {} was dropped while the statement ran.", table.full_name()))
        .with("table", table.full_name())
}
