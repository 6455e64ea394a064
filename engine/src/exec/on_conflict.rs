//! INSERT … ON CONFLICT: what becomes of rows whose keys are taken.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{RecordBatch, UInt32Array},
        compute::take,
        datatypes::Schema,
    },
    common::{DFSchema, DFSchemaRef, ScalarValue, TableReference},
    sql::sqlparser::ast,
};
use kalamdb_store::{
    codec::{PrimaryKey, RowHeader},
    commit::{Expected, RowChange, RowOp, Unique},
    ids::{CommitSeq, Partition},
};

use crate::{
    catalog::Table,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
        assignment::{assignable, assigned, at, check_once, default_column},
        dml::{read_rows, stored_rows},
        errors::from_datafusion,
        expr::RowExpr,
        planner::{Planner, UsedTable},
        scan::{batch_of, corrupt, is_visible},
        write::{self, concatenated},
    },
    sql::{self, ConflictAction},
    types::SqlType,
};

/// A planned ON CONFLICT clause.
#[derive(Debug)]
pub(crate) enum Conflict {
    DoNothing,
    DoUpdate {
        /// Index of the column, and its new value over the joined schema; `None`: its default.
        assignments: Vec<(usize, Option<RowExpr>)>,
        filter: Option<RowExpr>,
    },
}

/// What an INSERT … ON CONFLICT changes.
pub(crate) struct Resolved {
    pub(crate) changes: Vec<RowChange>,
    /// The rows inserted or updated, as they are now.
    pub(crate) written: RecordBatch,
}

impl Conflict {
    /// Plans a clause.
    pub(crate) fn plan(
        planner: &Planner<'_>,
        table: &Arc<Table>,
        clause: &sql::OnConflict,
        given: &[SqlType],
    ) -> Result<Self> {
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

    /// Decides for each row, against the statement's snapshot, whether it is inserted, updates a row, or is left out. If it
    /// meets a row that may not be seen, the statement is refused before anything is evaluated on that row.
    pub(crate) async fn resolve(
        &self,
        shared: &Arc<Shared>,
        context: &Arc<StatementContext>,
        used: &UsedTable,
        partition: &Partition,
        batch: &RecordBatch,
        values: &[ScalarValue],
    ) -> Result<Resolved> {
        let table: &Table = &used.table;
        let max_bytes = shared.settings.max_write_bytes;
        let (keys, encoded) = write::encode(table, batch.columns(), batch.num_rows(), max_bytes)?;
        let mut unique_keys: Vec<PrimaryKey> = keys.clone();
        unique_keys.sort();
        unique_keys.dedup();
        let found = read_rows(shared, context, table, partition, &unique_keys).await?;
        if let Some(rule) = &used.rule {
            let display = |key: &PrimaryKey| write::display_key(table, key);
            rule.check_conflicting(&context.caller, table, &found.batch, &found.keys, display)?;
        }
        let existing: HashMap<&PrimaryKey, usize> = found.keys.iter().enumerate().map(|(i, k)| (k, i)).collect();
        let expired = expired_rows(shared, context, table, partition, &unique_keys, Unique::Check)?;

        let mut seen = HashSet::new();
        let mut changes = Vec::new();
        let mut inserted: Vec<u32> = Vec::new();
        // Rows of the batch that conflict, with the row of `found` each conflicts with.
        let mut conflicting: Vec<(usize, usize)> = Vec::new();
        for (i, (key, row)) in keys.iter().zip(encoded).enumerate() {
            if !seen.insert(key) {
                match self {
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
                        Some((expected, old)) => {
                            RowOp::Update { row, expected: Expected::Hot(*expected), old: old.clone() }
                        }
                        None => RowOp::Insert { row, unique: Unique::Check },
                    };
                    changes.push(RowChange { partition: partition.clone(), key: key.clone(), op });
                    inserted.push(i as u32);
                }
            }
        }
        let taken = take_rows(batch, &inserted)?;
        let Conflict::DoUpdate { assignments, filter } = self else {
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
        if let Some(rule) = &used.rule {
            rule.check_written(&context.caller, table, &updated)?;
        }
        let written = concatenated(&[taken, updated], table.schema())?;
        Ok(Resolved { changes, written })
    }
}

/// Rows of a STREAM table that have expired but are still stored: a new row with their key takes their place.
pub(crate) fn expired_rows(
    shared: &Shared,
    context: &StatementContext,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
    unique: Unique,
) -> Result<HashMap<PrimaryKey, (CommitSeq, Vec<u8>)>> {
    let expired_at_us = context.expired_at_us(table);
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
