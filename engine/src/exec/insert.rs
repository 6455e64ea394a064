//! INSERT: rows evaluated here, ordered and checked by the committer.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array},
        compute::take,
        datatypes::Schema,
    },
    common::{DFSchema, DFSchemaRef, ScalarValue, TableReference},
    execution::SessionState,
    sql::sqlparser::ast,
};
use kalamdb_store::{
    codec::{PrimaryKey, RowHeader},
    commit::{CommitError, RowChange, RowOp, Unique},
    ids::{CommitSeq, Partition},
};
use tokio::time::Instant;

use crate::{
    catalog::{Column, Default, Table},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
        dml::{check_writable, read_rows, stored_rows},
        errors::{from_commit, from_datafusion},
        expr::{RowExpr, qualified},
        output::Body,
        params::{self, Parameter},
        planner::{Names, Planner, UsedTable},
        query::{QueryPlan, collect_query},
        returning::Returning,
        scan::{batch_of, corrupt, is_visible},
        write::{self, Attempts, concatenated, key_exists, written_partition},
    },
    sql::{self, ConflictAction, InsertSource, Name},
    types::SqlType,
    values::{CastContext, cast_column, cast_scalar},
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

/// One value of a VALUES row.
#[derive(Debug)]
enum Cell {
    /// Already of its column's type.
    Constant(ScalarValue),
    Default,
    /// Index of the parameter.
    Parameter(usize),
    Expression(RowExpr),
}

#[derive(Debug)]
enum Conflict {
    DoNothing,
    DoUpdate {
        /// Index of the column, and its new value over the joined schema; `None`: its default.
        assignments: Vec<(usize, Option<RowExpr>)>,
        filter: Option<RowExpr>,
    },
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
                let cells = rows
                    .iter()
                    .map(|row| cells(&planner, &table, &given_columns, row, given))
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
        let (keys, encoded) = write::encode(table, batch.columns(), rows, shared.settings.max_write_bytes)?;
        if rows == 0 {
            return self.answer(shared, &context, values, &batch, None);
        }
        let unique = if self.generates_keys() { Unique::Generated } else { Unique::Check };
        let mut context = context;
        let mut attempts = Attempts::new(shared, partition);
        loop {
            let mut expired = self.expired_rows(shared, &context, partition, &keys, unique)?;
            if expired.is_empty() {
                break;
            }
            // Removed first, as the sweep of expired rows would: in one commit with the insert they would conflict with it.
            let old = expired.drain().map(|(key, (expected, old))| RowChange {
                partition: partition.clone(),
                key,
                op: RowOp::Delete { expected, old },
            });
            match write::commit(shared, context.now_us, old.collect()).await {
                Ok(_) => break,
                // The sweep was here; rows that it has not reached are still to be removed.
                Err(CommitError::VersionChanged { .. }) => {
                    attempts.again().await?;
                    context = Arc::new(context.renewed());
                }
                Err(other) => return Err(from_commit(other)),
            }
        }
        drop(attempts);
        let changes = keys
            .iter()
            .zip(encoded)
            .map(|(key, row)| RowChange {
                partition: partition.clone(),
                key: key.clone(),
                op: RowOp::Insert { row, unique },
            })
            .collect();
        match write::commit(shared, context.now_us, changes).await {
            Ok(committed) => self.answer(shared, &context, values, &batch, Some(committed.commit_seq)),
            Err(CommitError::KeyExists { change } | CommitError::VersionChanged { change }) => Err(keys
                .get(change)
                .map_or_else(|| Error::internal("a conflict at no row"), |key| key_exists(table, key))),
            Err(other) => Err(from_commit(other)),
        }
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
            let resolved = self.resolve(shared, &context, partition, &batch, values, conflict)?;
            if resolved.changes.is_empty() {
                return self.answer(shared, &context, values, &resolved.written, None);
            }
            match write::commit(shared, context.now_us, resolved.changes).await {
                Ok(committed) => {
                    return self.answer(shared, &context, values, &resolved.written, Some(committed.commit_seq));
                }
                Err(CommitError::KeyExists { .. } | CommitError::VersionChanged { .. }) => {
                    attempts.again().await?;
                    context = Arc::new(context.renewed());
                }
                Err(CommitError::TableDropped { .. }) => return Err(dropped(table)),
                Err(other) => return Err(from_commit(other)),
            }
        }
    }

    /// Decides for each row, against the statement's snapshot, whether it is inserted, updates a row, or is left out.
    fn resolve(
        &self,
        shared: &Arc<Shared>,
        context: &Arc<StatementContext>,
        partition: &Partition,
        batch: &RecordBatch,
        values: &[ScalarValue],
        conflict: &Conflict,
    ) -> Result<Resolved> {
        let table = &self.used.table;
        let max_bytes = shared.settings.max_write_bytes;
        let (keys, encoded) = write::encode(table, batch.columns(), batch.num_rows(), max_bytes)?;
        let mut unique_keys: Vec<PrimaryKey> = keys.clone();
        unique_keys.sort();
        unique_keys.dedup();
        let found = read_rows(context, table, partition, &unique_keys, max_bytes)?;
        let existing: HashMap<&PrimaryKey, usize> = found.keys.iter().enumerate().map(|(i, k)| (k, i)).collect();
        let expired = self.expired_rows(shared, context, partition, &unique_keys, Unique::Check)?;

        let mut seen = HashSet::new();
        let mut changes = Vec::new();
        let mut inserted: Vec<u32> = Vec::new();
        // Rows of the batch that conflict, with the row of `found` each conflicts with.
        let mut conflicting: Vec<(usize, usize)> = Vec::new();
        for (i, (key, row)) in keys.iter().zip(encoded).enumerate() {
            if !seen.insert(key) {
                match conflict {
                    Conflict::DoNothing => continue,
                    Conflict::DoUpdate { .. } => {
                        return Err(Error::new(
                            Reason::PrimaryKeyViolation,
                            format!(
                                "ON CONFLICT DO UPDATE would change the row with {} = {} a second time. Give each key once.",
                                table.key_column().name,
                                write::display_key(table, key)
                            ),
                        )
                        .with("table", table.full_name())
                        .with("key", write::display_key(table, key)));
                    }
                }
            }
            match existing.get(key) {
                Some(at) => conflicting.push((i, *at)),
                None => {
                    let op = match expired.get(key) {
                        Some((expected, old)) => RowOp::Update { row, expected: *expected, old: old.clone() },
                        None => RowOp::Insert { row, unique: Unique::Check },
                    };
                    changes.push(RowChange { partition: partition.clone(), key: key.clone(), op });
                    inserted.push(i as u32);
                }
            }
        }
        let taken = take_rows(batch, &inserted)?;
        let Conflict::DoUpdate { assignments, filter } = conflict else {
            return Ok(Resolved { changes, written: taken });
        };
        if conflicting.is_empty() {
            return Ok(Resolved { changes, written: taken });
        }
        let offered = take_rows(batch, &conflicting.iter().map(|(i, _)| *i as u32).collect::<Vec<_>>())?;
        let current = take_rows(&found.batch, &conflicting.iter().map(|(_, at)| *at as u32).collect::<Vec<_>>())?;
        let joined = joined_batch(table, &current, &offered)?;
        let keep: Vec<bool> = match filter {
            Some(filter) => {
                filter.holds(&shared.template, context, values, &joined)?.iter().map(|k| k == Some(true)).collect()
            }
            None => vec![true; joined.num_rows()],
        };
        let mut columns = current.columns().to_vec();
        for (index, value) in assignments {
            columns[*index] = match value {
                Some(value) => assigned(shared, context, values, table, *index, value, &joined)?,
                None => default_column(shared, context, &table.columns()[*index], joined.num_rows())?,
            };
        }
        let rows: Vec<u32> = keep.iter().enumerate().filter(|(_, k)| **k).map(|(i, _)| i as u32).collect();
        let indexes = UInt32Array::from(rows.clone());
        let columns =
            columns.iter().map(|c| take(c, &indexes, None).map_err(Error::internal)).collect::<Result<Vec<_>>>()?;
        let (new_keys, new_rows) = write::encode(table, &columns, rows.len(), max_bytes)?;
        for ((row, key), encoded) in rows.iter().zip(new_keys).zip(new_rows) {
            let at = conflicting[*row as usize].1;
            changes.push(RowChange {
                partition: partition.clone(),
                key,
                op: RowOp::Update { row: encoded, expected: found.versions[at], old: found.stored[at].clone() },
            });
        }
        let updated = batch_of(table.schema(), columns, rows.len()).map_err(from_datafusion)?;
        let written = concatenated(&[taken, updated], table.schema())?;
        Ok(Resolved { changes, written })
    }

    /// Rows of a STREAM table that have expired but are still stored: a new row with their key takes their place.
    fn expired_rows(
        &self,
        shared: &Shared,
        context: &StatementContext,
        partition: &Partition,
        keys: &[PrimaryKey],
        unique: Unique,
    ) -> Result<HashMap<PrimaryKey, (CommitSeq, Vec<u8>)>> {
        let expired_at_us = context.expired_at_us(&self.used.table);
        if expired_at_us.is_none() || unique == Unique::Generated {
            return Ok(HashMap::new());
        }
        let mut expired = HashMap::new();
        for (key, value) in keys.iter().zip(stored_rows(context, partition, keys, shared.settings.max_write_bytes)?) {
            if let Some(value) = value
                && !is_visible(&value, expired_at_us)?
            {
                let seq = RowHeader::decode(&value).map_err(corrupt)?.commit_seq;
                expired.insert(key.clone(), (seq, value));
            }
        }
        Ok(expired)
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

/// What an INSERT … ON CONFLICT changes.
struct Resolved {
    changes: Vec<RowChange>,
    /// The rows inserted or updated, as they are now.
    written: RecordBatch,
}

impl Conflict {
    fn plan(planner: &Planner<'_>, table: &Arc<Table>, clause: &sql::OnConflict, given: &[SqlType]) -> Result<Self> {
        let key = table.key_column().name.as_str();
        for column in &clause.target {
            table.column_index(&column.text).map_err(|e| at(e, column))?;
        }
        if !clause.target.is_empty() && clause.target.iter().any(|c| c.text != key) {
            return Err(Error::new(
                Reason::InvalidStatement,
                format!("ON CONFLICT can name the primary key only: ON CONFLICT ({key})."),
            ));
        }
        match &clause.action {
            ConflictAction::DoNothing => Ok(Conflict::DoNothing),
            ConflictAction::DoUpdate { assignments, filter } => {
                let schema = joined_schema(table)?;
                let plan = |expr: &ast::Expr| {
                    let expr = with_own_qualifier(expr.clone(), table);
                    RowExpr::plan(planner, &expr, &schema, given)
                };
                let assignments = assignments
                    .iter()
                    .map(|a| {
                        let index = assignable(table, &a.column)?;
                        Ok((index, a.value.as_ref().map(&plan).transpose()?))
                    })
                    .collect::<Result<Vec<_>>>()?;
                check_once(table, assignments.iter().map(|(i, _)| *i))?;
                Ok(Conflict::DoUpdate { assignments, filter: filter.as_ref().map(plan).transpose()? })
            }
        }
    }
}

/// Index of a column that a statement assigns to.
pub(crate) fn assignable(table: &Table, name: &Name) -> Result<usize> {
    let index = table.column_index(&name.text).map_err(|e| at(e, name))?;
    if index == table.key_index() {
        let message = format!(
            "Column \"{}\" is the primary key and cannot be changed. Delete the row and insert it with the new key.",
            name.text
        );
        return Err(at(Error::new(Reason::InvalidStatement, message).with("column", name.text.as_str()), name));
    }
    Ok(index)
}

/// Checks that no column is assigned to twice.
pub(crate) fn check_once(table: &Table, columns: impl Iterator<Item = usize>) -> Result<()> {
    let mut seen = HashSet::new();
    for index in columns {
        if !seen.insert(index) {
            return Err(Error::new(
                Reason::InvalidStatement,
                format!("Column \"{}\" is assigned to twice.", table.columns()[index].name),
            ));
        }
    }
    Ok(())
}

/// New values of a column, cast to its type.
pub(crate) fn assigned(
    shared: &Shared,
    context: &StatementContext,
    values: &[ScalarValue],
    table: &Table,
    index: usize,
    value: &RowExpr,
    rows: &RecordBatch,
) -> Result<ArrayRef> {
    let column = &table.columns()[index];
    let array = value.evaluate(&shared.template, context, values, rows)?;
    cast_column(&array, &value_type(value, &array), &column.sql_type, column.name.as_str(), cast_context(value))
}

fn value_type(value: &RowExpr, array: &ArrayRef) -> SqlType {
    if value.sql_type == SqlType::Null { SqlType::from_arrow(array.data_type()) } else { value.sql_type.clone() }
}

fn cast_context(value: &RowExpr) -> CastContext {
    use datafusion::logical_expr::{Expr, expr::Placeholder};
    match value.expr() {
        Expr::Literal(..) => CastContext::Literal,
        Expr::Placeholder(Placeholder { id, .. }) => {
            params::parameter_index(id).map_or(CastContext::Expression, |i| CastContext::Parameter(i + 1))
        }
        _ => CastContext::Expression,
    }
}

/// The default of a column, for a number of rows.
pub(crate) fn default_column(
    shared: &Shared,
    context: &StatementContext,
    column: &Column,
    rows: usize,
) -> Result<ArrayRef> {
    let Some(default) = &column.default else { return Ok(new_null_array(&column.data_type, rows)) };
    let constant = |value: ScalarValue| value.to_array_of_size(rows).map_err(Error::internal);
    let generated = |value: &dyn Fn() -> ScalarValue| -> Result<ArrayRef> {
        ScalarValue::iter_to_array((0..rows).map(|_| value()))
            .or_else(|_| Ok::<_, datafusion::error::DataFusionError>(new_null_array(&column.data_type, rows)))
            .map_err(Error::internal)
    };
    match default {
        Default::Constant(value) => constant(value.clone()),
        Default::Now | Default::CurrentUser => constant(statement_value(context, column, default)?),
        Default::SnowflakeId => Ok(Arc::new(datafusion::arrow::array::Int64Array::from(shared.ids.snowflakes(rows)))),
        Default::UuidV7 => generated(&|| ScalarValue::Utf8View(Some(shared.ids.uuid_v7()))),
        Default::Ulid => generated(&|| ScalarValue::Utf8View(Some(shared.ids.ulid()))),
    }
}

/// The value of NOW() or CURRENT_USER() in the type of a column.
fn statement_value(context: &StatementContext, column: &Column, default: &Default) -> Result<ScalarValue> {
    let (value, from) = match default {
        Default::Now => (ScalarValue::TimestampMicrosecond(Some(context.now_us), None), SqlType::Timestamp),
        _ => (ScalarValue::Utf8View(Some(context.caller.effective_user().as_str().to_owned())), SqlType::Text),
    };
    if from == column.sql_type {
        return Ok(value);
    }
    cast_scalar(&value, &from, &column.sql_type, column.name.as_str(), CastContext::Expression)
}

/// One column of VALUES rows.
fn cell_column(
    shared: &Shared,
    context: &StatementContext,
    column: &Column,
    rows: &[Vec<Cell>],
    position: usize,
    parameters: &[Parameter],
    values: &[ScalarValue],
) -> Result<ArrayRef> {
    let name = column.name.as_str();
    let mut cells = rows.iter().map(|row| -> Result<ScalarValue> {
        match row.get(position) {
            Some(Cell::Constant(value)) => Ok(value.clone()),
            Some(Cell::Parameter(index)) => {
                let Some(parameter) = parameters.get(*index) else {
                    return Err(Error::internal("a parameter without a value"));
                };
                if parameter.sql_type == column.sql_type && parameter.value.data_type() == column.data_type {
                    return Ok(parameter.value.clone());
                }
                if parameter.value.is_null() {
                    return ScalarValue::try_from(&column.data_type).map_err(Error::internal);
                }
                let context = CastContext::Parameter(index + 1);
                cast_scalar(&parameter.value, &parameter.sql_type, &column.sql_type, name, context)
            }
            Some(Cell::Default) | None => {
                let one = default_column(shared, context, column, 1)?;
                ScalarValue::try_from_array(&one, 0).map_err(Error::internal)
            }
            Some(Cell::Expression(expr)) => {
                let array = expr.evaluate(&shared.template, context, values, &one_row()?)?;
                let cast = cast_column(&array, &value_type(expr, &array), &column.sql_type, name, cast_context(expr))?;
                ScalarValue::try_from_array(&cast, 0).map_err(Error::internal)
            }
        }
    });
    if rows.len() == 1
        && let Some(cell) = cells.next()
    {
        // One row is the rule for chat: no builder.
        return cell?.to_array_of_size(1).map_err(Error::internal);
    }
    let cells = cells.collect::<Result<Vec<_>>>()?;
    ScalarValue::iter_to_array(cells).map_err(Error::internal)
}

/// The cells of one VALUES row, in the order of the columns given.
fn cells(
    planner: &Planner<'_>,
    table: &Table,
    given_columns: &[usize],
    row: &[Option<ast::Expr>],
    given: &[SqlType],
) -> Result<Vec<Cell>> {
    if row.len() != given_columns.len() {
        return Err(wrong_width(table, given_columns.len(), row.len()));
    }
    let no_columns: DFSchemaRef = Arc::new(DFSchema::empty());
    row.iter()
        .zip(given_columns)
        .map(|(value, index)| {
            let column = &table.columns()[*index];
            let Some(expr) = value else { return Ok(Cell::Default) };
            if let Some(constant) = exact_number(expr, column)? {
                return Ok(Cell::Constant(constant));
            }
            let planned = RowExpr::plan(planner, expr, &no_columns, given)?;
            if let datafusion::logical_expr::Expr::Placeholder(placeholder) = planned.expr()
                && let Some(index) = params::parameter_index(&placeholder.id)
            {
                return Ok(Cell::Parameter(index));
            }
            match planned.constant() {
                Some(value) => {
                    let from = SqlType::from_arrow(&value.data_type());
                    let name = column.name.as_str();
                    cast_scalar(value, &from, &column.sql_type, name, CastContext::Literal).map(Cell::Constant)
                }
                None => Ok(Cell::Expression(planned)),
            }
        })
        .collect()
}

/// A number written for a DECIMAL or floating point column, read as such: between there are types that hold less.
fn exact_number(expr: &ast::Expr, column: &Column) -> Result<Option<ScalarValue>> {
    if !matches!(column.sql_type, SqlType::Decimal { .. } | SqlType::Real | SqlType::Double) {
        return Ok(None);
    }
    let text = match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _) => text.clone(),
            _ => return Ok(None),
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => match expr.as_ref() {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(text, _) => format!("-{text}"),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let value = ScalarValue::Utf8View(Some(text));
    cast_scalar(&value, &SqlType::Text, &column.sql_type, column.name.as_str(), CastContext::Literal).map(Some)
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

/// The columns of a table beside those of the row that was offered, `excluded`.
fn joined_schema(table: &Table) -> Result<DFSchemaRef> {
    let own = TableReference::bare(own_qualifier(table));
    let own = table.schema().fields().iter().map(|f| (Some(own.clone()), Arc::clone(f)));
    let offered = table.schema().fields().iter().map(|f| {
        let nullable = f.as_ref().clone().with_nullable(true);
        (Some(TableReference::bare(EXCLUDED)), Arc::new(nullable))
    });
    DFSchema::new_with_metadata(own.chain(offered).collect(), HashMap::new()).map(Arc::new).map_err(from_datafusion)
}

/// Qualifier of the row that was offered.
const EXCLUDED: &str = "excluded";

/// Qualifier of the table's own columns beside [`EXCLUDED`].
fn own_qualifier(table: &Table) -> &str {
    match table.name().as_str() {
        EXCLUDED => "the table",
        name => name,
    }
}

fn joined_batch(table: &Table, current: &RecordBatch, offered: &RecordBatch) -> Result<RecordBatch> {
    let fields: Vec<_> = table.schema().fields().iter().cloned().collect();
    let schema = Schema::new([fields.clone(), fields].concat());
    let columns = current.columns().iter().chain(offered.columns()).cloned().collect();
    batch_of(&Arc::new(schema), columns, current.num_rows()).map_err(from_datafusion)
}

/// Gives each of the table's columns, however it is named, the table's own qualifier: a bare name means the table's
/// column, not the one of `excluded`.
fn with_own_qualifier(mut expr: ast::Expr, table: &Table) -> ast::Expr {
    use std::ops::ControlFlow;
    let is = |ident: &ast::Ident, name: &str| sql::fold_identifier(ident).text == name;
    let is_column = |ident: &ast::Ident| table.has_column(&sql::fold_identifier(ident).text);
    let own = || ast::Ident::with_quote('"', own_qualifier(table));
    let _: ControlFlow<()> = ast::visit_expressions_mut(&mut expr, |e| {
        let named = match e {
            ast::Expr::Identifier(column) if is_column(column) => vec![column.clone()],
            ast::Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [row, ..] if is(row, EXCLUDED) => return ControlFlow::Continue(()),
                [t, rest @ ..] if is(t, table.name().as_str()) => rest.to_vec(),
                [n, t, rest @ ..] if is(n, table.namespace().as_str()) && is(t, table.name().as_str()) => rest.to_vec(),
                [column, ..] if is_column(column) => parts.clone(),
                _ => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        *e = ast::Expr::CompoundIdentifier(std::iter::once(own()).chain(named).collect());
        ControlFlow::Continue(())
    });
    expr
}

fn take_rows(batch: &RecordBatch, rows: &[u32]) -> Result<RecordBatch> {
    let indexes = UInt32Array::from(rows.to_vec());
    let columns =
        batch.columns().iter().map(|c| take(c, &indexes, None).map_err(Error::internal)).collect::<Result<Vec<_>>>()?;
    batch_of(&batch.schema(), columns, rows.len()).map_err(from_datafusion)
}

fn one_row() -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).map_err(Error::internal)
}

fn wrong_width(table: &Table, columns: usize, values: usize) -> Error {
    Error::new(
        Reason::InvalidStatement,
        format!("INSERT into {} names {columns} column(s), but a row has {values} value(s).", table.full_name()),
    )
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

fn at(error: Error, name: &Name) -> Error {
    match name.position {
        Some(position) => error.at(position),
        None => error,
    }
}
