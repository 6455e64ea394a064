//! Reads by primary key, without a DataFusion plan.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        compute::{filter_record_batch, interleave},
        datatypes::SchemaRef,
    },
    common::ScalarValue,
    datasource::source_as_provider,
    logical_expr::{Expr, LogicalPlan, TableScan, expr::Placeholder},
};
use kalamdb_store::{
    codec::{BatchDecoder, DecodeColumn, PrimaryKey, row_key},
    ids::Partition,
    kv::Keyspace,
};

use crate::{
    access::RowRule,
    catalog::Table,
    error::{Error, Result},
    exec::{
        StatementContext,
        cold::{ColdColumn, FoundColumns, find_columns},
        compact::compacted,
        errors::{from_datafusion, from_store},
        key_filter::{KeyCondition, KeySet},
        params::parameter_index,
        scan::{batch_of, corrupt, is_visible},
        source::TableRows,
    },
    sql::TableScope,
};

/// `SELECT columns FROM t WHERE key = …` or `key IN (…)`, and nothing else.
#[derive(Debug)]
pub(crate) struct PointRead {
    table: Arc<Table>,
    scope: TableScope,
    conditions: Vec<KeyCondition>,
    /// The columns that are answered, then those that only the guard looks at.
    columns: Vec<DecodeColumn>,
    /// The same columns, as segments have them.
    cold_columns: Vec<ColdColumn>,
    guard: Option<Guard>,
}

/// What lets rows through.
#[derive(Debug)]
struct Guard {
    rule: Arc<RowRule>,
    /// Where the columns that it looks at are among those that are read.
    places: Vec<usize>,
    /// How many of the columns that are read are answered.
    width: usize,
}

/// Rows of the hot tier, in key order.
struct HotRows {
    columns: Vec<ArrayRef>,
    keys: Vec<PrimaryKey>,
}

impl PointRead {
    /// Finds that an optimised plan is a read by key: columns of one scan whose conditions all are on its key, and
    /// name keys.
    pub(crate) fn recognise(plan: &LogicalPlan) -> Result<Option<Self>> {
        let Some((scan, columns)) = columns_of_scan(plan) else { return Ok(None) };
        let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
        let provider: &dyn std::any::Any = provider.as_ref();
        let Some(rows) = provider.downcast_ref::<TableRows>() else { return Ok(None) };
        if rows.scope() == TableScope::AllUsers {
            return Ok(None);
        }
        let Some(conditions) = scan.filters.iter().map(|f| rows.key_condition(f)).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        // A LIMIT of at least one does nothing to a read of a single key.
        let single = conditions.iter().any(|c| matches!(c, KeyCondition::In(keys) if keys.len() == 1));
        if !conditions.iter().any(KeyCondition::names_keys) || scan.fetch.is_some_and(|n| n == 0 || !single) {
            return Ok(None);
        }
        let mut columns = columns;
        let guard = rows.rule().map(|rule| Guard::new(rule, &mut columns));
        let cold_columns = columns.iter().map(|i| rows.cold_column(*i)).collect::<Result<Vec<_>>>()?;
        let columns = columns.into_iter().map(|i| rows.decode_column(i)).collect::<Result<Vec<_>>>()?;
        Ok(Some(Self {
            table: Arc::clone(rows.table()),
            scope: rows.scope(),
            conditions,
            columns,
            cold_columns,
            guard,
        }))
    }

    /// Reads the rows, in key order.
    pub(crate) async fn read(
        &self,
        context: &StatementContext,
        parameters: &[ScalarValue],
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let keys = match KeySet::new(&self.conditions, |expr| value_of(expr, parameters))? {
            KeySet::Keys(keys) => keys,
            KeySet::Range(..) => return Err(Error::internal("a read by key without keys")),
        };
        let Some(owner) = context.owner(&self.table, self.scope) else {
            return Err(Error::internal("a read by key of every owner"));
        };
        let partition = Partition { table: self.table.id(), owner };
        // One get is consistent by itself and needs no snapshot.
        let alone = keys.len() == 1;
        let hot = self.read_hot(context, &partition, &keys, alone)?;
        // Asked after reading: a row that has left the hot tier since is in a segment that is known of by now.
        if hot.keys.len() == keys.len() || !context.cold().tables.contains(self.table.id()) {
            return self.answered(context, schema, hot.columns, hot.keys.len());
        }
        Box::pin(self.read_both(context, &partition, &keys, (!alone).then_some(hot), schema)).await
    }

    /// Reads from both tiers as of one snapshot; `hot` is what was read in it already.
    async fn read_both(
        &self,
        context: &StatementContext,
        partition: &Partition,
        keys: &BTreeSet<PrimaryKey>,
        hot: Option<HotRows>,
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let hot = match hot {
            Some(hot) => hot,
            None => self.read_hot(context, partition, keys, false)?,
        };
        let missing: Vec<PrimaryKey> =
            keys.iter().filter(|key| hot.keys.binary_search(key).is_err()).cloned().collect();
        let snapshot = context.snapshot();
        let cold = find_columns(context.cold(), snapshot, &self.table, partition, &missing, &self.cold_columns).await?;
        let rows = hot.keys.len() + cold.keys.len();
        let columns = if hot.keys.is_empty() {
            cold.columns
        } else if cold.keys.is_empty() {
            hot.columns
        } else {
            in_key_order(&hot, &cold)?
        };
        self.answered(context, schema, columns, rows)
    }

    /// The rows that were read, as far as they may be seen.
    fn answered(
        &self,
        context: &StatementContext,
        schema: &SchemaRef,
        columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<RecordBatch> {
        match &self.guard {
            None => batch_of(schema, columns, rows).map_err(from_datafusion),
            Some(guard) => guard.shown(context, schema, columns, rows),
        }
    }

    fn read_hot(
        &self,
        context: &StatementContext,
        partition: &Partition,
        keys: &BTreeSet<PrimaryKey>,
        alone: bool,
    ) -> Result<HotRows> {
        let row_keys: Vec<Vec<u8>> = keys.iter().map(|key| row_key(partition, key)).collect();
        let values = match row_keys.as_slice() {
            [key] if alone => vec![context.backend().get(Keyspace::Rows, key).map_err(from_store)?],
            row_keys => {
                let row_keys: Vec<&[u8]> = row_keys.iter().map(Vec::as_slice).collect();
                context.snapshot().multi_get(Keyspace::Rows, &row_keys).map_err(from_store)?
            }
        };
        let expired_at_us = context.expired_at_us(&self.table);
        let mut decoder =
            BatchDecoder::new(Arc::clone(self.table.history()), self.columns.clone()).map_err(Error::internal)?;
        let mut found = Vec::new();
        for ((key, row_key), value) in keys.iter().zip(&row_keys).zip(values) {
            if let Some(value) = value
                && is_visible(&value, expired_at_us)?
            {
                decoder.append(row_key, &value).map_err(corrupt)?;
                found.push(key.clone());
            }
        }
        Ok(HotRows { columns: decoder.finish().map_err(corrupt)?, keys: found })
    }
}

impl Guard {
    /// Adds the columns that it needs to those that are read.
    fn new(rule: &Arc<RowRule>, columns: &mut Vec<usize>) -> Self {
        let width = columns.len();
        let mut place = |index: &usize| {
            columns.iter().position(|column| column == index).unwrap_or_else(|| {
                columns.push(*index);
                columns.len() - 1
            })
        };
        let places = rule.columns().iter().map(&mut place).collect();
        Self { rule: Arc::clone(rule), places, width }
    }

    fn shown(
        &self,
        context: &StatementContext,
        schema: &SchemaRef,
        mut columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<RecordBatch> {
        let looked_at = self.places.iter().filter_map(|place| columns.get(*place).map(Arc::clone)).collect();
        let shown = self.rule.shows(context.caller.effective_user(), looked_at, rows)?;
        columns.truncate(self.width);
        let all = batch_of(schema, columns, rows).map_err(from_datafusion)?;
        if shown.false_count() == 0 {
            return Ok(all);
        }
        let shown = filter_record_batch(&all, &shown).map_err(Error::internal)?;
        compacted(&shown).map_err(from_datafusion)
    }
}

/// The columns of rows of both tiers, which have no key in common.
fn in_key_order(hot: &HotRows, cold: &FoundColumns) -> Result<Vec<ArrayRef>> {
    let hot_keys = hot.keys.iter().enumerate().map(|(row, key)| (key, (0, row)));
    let cold_keys = cold.keys.iter().enumerate().map(|(row, key)| (key, (1, row)));
    let mut order: Vec<(&PrimaryKey, (usize, usize))> = hot_keys.chain(cold_keys).collect();
    order.sort_unstable();
    let order: Vec<(usize, usize)> = order.into_iter().map(|(_, place)| place).collect();
    let both = hot.columns.iter().zip(&cold.columns);
    both.map(|(hot, cold)| interleave(&[hot.as_ref(), cold.as_ref()], &order).map_err(Error::internal)).collect()
}

/// The value of a constant or of a parameter.
pub(crate) fn value_of(expr: &Expr, parameters: &[ScalarValue]) -> Result<ScalarValue> {
    let found = match expr {
        Expr::Literal(value, _) => Some(value),
        Expr::Placeholder(Placeholder { id, .. }) => parameter_index(id).and_then(|i| parameters.get(i)),
        _ => None,
    };
    found.cloned().ok_or_else(|| Error::internal(format!("no value for {expr}")))
}

/// The scan that a plan only renames and reorders columns of, and the indexes of these in the table's schema.
fn columns_of_scan(plan: &LogicalPlan) -> Option<(&TableScan, Vec<usize>)> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let all = || (0..scan.source.schema().fields().len()).collect();
            Some((scan, scan.projection.clone().unwrap_or_else(all)))
        }
        LogicalPlan::SubqueryAlias(alias) => columns_of_scan(&alias.input),
        LogicalPlan::Projection(projection) => {
            let (scan, input) = columns_of_scan(&projection.input)?;
            let schema = projection.input.schema();
            let indexes = projection.expr.iter().map(|expr| {
                let column = match expr {
                    Expr::Column(column) => column,
                    Expr::Alias(alias) => match alias.expr.as_ref() {
                        Expr::Column(column) => column,
                        _ => return None,
                    },
                    _ => return None,
                };
                input.get(schema.index_of_column(column).ok()?).copied()
            });
            Some((scan, indexes.collect::<Option<Vec<_>>>()?))
        }
        _ => None,
    }
}
