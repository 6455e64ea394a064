//! What UPDATE and DELETE share: finding the rows they concern.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, UInt32Array},
        compute::{filter_record_batch, take_record_batch},
    },
    common::{DFSchemaRef, ScalarValue},
    logical_expr::{Expr, LogicalPlanBuilder, utils::split_conjunction},
    sql::{planner::SqlToRel, sqlparser::ast},
};
use kalamdb_store::{
    codec::{BatchDecoder, PrimaryKey, RowHeader, encode_rows, row_key},
    commit::Expected,
    ids::Partition,
    kv::Keyspace,
};
use tokio::time::Instant;

use crate::{
    access::RowRule,
    catalog::Table,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
        cold::{self, ColdRows},
        compact::compacted,
        errors::{from_datafusion, from_store},
        expr::RowExpr,
        key_filter::{KeyCondition, KeySet},
        params::{self, Parameter},
        planner::{Planner, UsedTable, parser_options},
        point_read::value_of,
        query::{QueryPlan, collect_query, names_system_column},
        scan::{batch_of, corrupt, is_visible},
        source::decode_column,
        write::{concatenated, primary_keys, too_large},
    },
    types::SqlType,
};

/// How the rows of an UPDATE or DELETE are found.
#[derive(Debug)]
pub(crate) enum Selection {
    /// By their keys, of which those are taken that the rule lets through, and of these those for which the rest of the
    /// condition holds.
    Keys { conditions: Vec<KeyCondition>, rule: Option<Arc<RowRule>>, rest: Option<RowExpr> },
    /// By a query that answers the table's columns.
    Query(Box<QueryPlan>),
}

/// What a run of an UPDATE or DELETE was given.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) parameters: &'a [Parameter],
    /// The parameters' values as the types that the plan declares.
    pub(crate) values: &'a [ScalarValue],
    pub(crate) deadline: Option<Instant>,
}

/// Rows as found: what they hold, and the stored bytes that the committer compares and logs.
#[derive(Debug)]
pub(crate) struct FoundRows {
    /// The table's columns, in order.
    pub(crate) batch: RecordBatch,
    /// The values that were asked for along with them, and their types.
    pub(crate) computed: Vec<(ArrayRef, SqlType)>,
    pub(crate) keys: Vec<PrimaryKey>,
    pub(crate) versions: Vec<Expected>,
    pub(crate) stored: Vec<Vec<u8>>,
}

impl Selection {
    /// Plans the condition of an UPDATE or DELETE. `computed` are values with queries in them, to be found along with
    /// each row. Answers also the types that parameters were given there.
    pub(crate) fn plan(
        planner: &Planner<'_>,
        used: &UsedTable,
        name: &str,
        schema: &DFSchemaRef,
        filter: Option<&ast::Expr>,
        computed: &[&ast::Expr],
        given: &[SqlType],
    ) -> Result<(Self, Vec<SqlType>)> {
        let scan = |types: &[SqlType]| -> Result<datafusion::logical_expr::LogicalPlan> {
            let source = planner.source(used.clone(), filter.is_some_and(names_system_column));
            let builder = LogicalPlanBuilder::scan(name, source, None).map_err(from_datafusion)?;
            let builder = match filter {
                Some(filter) => {
                    let condition = SqlToRel::new_with_options(planner, parser_options())
                        .sql_to_expr(filter.clone(), builder.schema(), &mut params::planner_context(types))
                        .map_err(from_datafusion)?;
                    builder.filter(condition).map_err(from_datafusion)?
                }
                None => builder,
            };
            builder.build().map_err(from_datafusion)
        };
        let types = if given.is_empty() {
            Vec::new()
        } else {
            params::reconcile(scan(&vec![SqlType::Null; given.len()]), given)?
        };
        if let Some(filter) = filter
            && computed.is_empty()
            && !names_system_column(filter)
            && let Some(by_key) = Self::by_key(planner, used, schema, filter, &types)?
        {
            return Ok((by_key, types));
        }
        let scanned = LogicalPlanBuilder::from(scan(&types)?);
        let mut columns: Vec<Expr> = used
            .table
            .columns()
            .iter()
            .map(|c| Expr::Column(datafusion::common::Column::new(Some(name), c.name.as_str())))
            .collect();
        for (i, value) in computed.iter().enumerate() {
            let value = SqlToRel::new_with_options(planner, parser_options())
                .sql_to_expr((*value).clone(), scanned.schema(), &mut params::planner_context(&types))
                .map_err(from_datafusion)?;
            columns.push(value.alias(format!("computed {i}")));
        }
        let plan = scanned.project(columns).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?;
        let query = QueryPlan::from_logical(planner.state(), plan, Vec::new(), types.clone())?;
        Ok((Selection::Query(Box::new(query)), types))
    }

    fn by_key(
        planner: &Planner<'_>,
        used: &UsedTable,
        schema: &DFSchemaRef,
        filter: &ast::Expr,
        types: &[SqlType],
    ) -> Result<Option<Self>> {
        let Ok(condition) = RowExpr::plan(planner, filter, schema, types) else {
            // A condition with a query in it.
            return Ok(None);
        };
        let key = used.table.key_column();
        let mut conditions = Vec::new();
        let mut others = Vec::new();
        for part in split_conjunction(condition.expr()) {
            match KeyCondition::recognise(part, key.name.as_str(), &key.data_type) {
                Some(condition) => conditions.push(condition),
                None => others.push(part.clone()),
            }
        }
        if !conditions.iter().any(KeyCondition::names_keys) {
            return Ok(None);
        }
        let rest = datafusion::logical_expr::utils::conjunction(others);
        let rest = rest.map(|expr| RowExpr::new(expr, schema)).transpose()?;
        Ok(Some(Selection::Keys { conditions, rule: used.rule.clone(), rest }))
    }

    /// Finds the rows in the statement's snapshot.
    pub(crate) async fn find(
        &self,
        given: &Given<'_>,
        context: &Arc<StatementContext>,
        table: &Table,
        partition: &Partition,
    ) -> Result<FoundRows> {
        let Given { shared, parameters, values, deadline } = *given;
        match self {
            Selection::Keys { conditions, rule, rest } => {
                let keys = match KeySet::new(conditions, |expr| value_of(expr, values))? {
                    KeySet::Keys(keys) => keys.into_iter().collect::<Vec<_>>(),
                    KeySet::Range(..) => return Err(Error::internal("a selection by key without keys")),
                };
                let found = match rule {
                    Some(rule) => read_shown_rows(shared, context, table, partition, &keys, rule).await?,
                    None => read_rows(shared, context, table, partition, &keys).await?,
                };
                match rest {
                    Some(rest) if !found.keys.is_empty() => {
                        let keep = rest.holds(&shared.template, context, values, &found.batch)?;
                        found.filtered(&keep)
                    }
                    _ => Ok(found),
                }
            }
            Selection::Query(query) => {
                let batches = collect_query(shared, Arc::clone(context), query, parameters, deadline).await?;
                let batch = concatenated(&batches, query.schema())?;
                let width = table.columns().len();
                let types = query.schema().fields().iter().skip(width).map(|f| SqlType::from_field(f));
                let computed = batch.columns().iter().skip(width).cloned().zip(types).collect();
                let columns = batch.columns().iter().take(width).cloned().collect();
                let batch = batch_of(table.schema(), columns, batch.num_rows()).map_err(from_datafusion)?;
                let keys = primary_keys(table, batch.columns())?;
                let found = stored_versions(shared, context, table, partition, &keys).await?;
                let mut versions = Vec::with_capacity(keys.len());
                let mut rows = Vec::with_capacity(keys.len());
                for found in found {
                    let Some((version, stored)) = found else {
                        return Err(Error::internal("a row that a snapshot both has and has not"));
                    };
                    versions.push(version);
                    rows.push(stored);
                }
                Ok(FoundRows { batch, computed, keys, versions, stored: rows })
            }
        }
    }
}

impl FoundRows {
    /// These rows of the hot tier and those of the cold one, in key order.
    fn and_cold(self, shared: &Shared, table: &Table, cold: ColdRows) -> Result<Self> {
        let images = stored_images(table, &cold)?;
        let bytes = self.stored.iter().chain(&images).map(Vec::len).sum::<usize>();
        if bytes > shared.settings.max_write_bytes {
            return Err(too_large(shared.settings.max_write_bytes));
        }
        let versions: Vec<Expected> =
            self.versions.iter().copied().chain(cold.places.iter().map(|place| Expected::Cold(*place))).collect();
        let keys: Vec<PrimaryKey> = self.keys.into_iter().chain(cold.keys).collect();
        let stored: Vec<Vec<u8>> = self.stored.into_iter().chain(images).collect();
        let batch = concatenated(&[self.batch, cold.batch], table.schema())?;
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
        let indexes = UInt32Array::from_iter_values(order.iter().map(|i| *i as u32));
        Ok(Self {
            batch: take_record_batch(&batch, &indexes).map_err(Error::internal)?,
            computed: Vec::new(),
            keys: order.iter().map(|i| keys[*i].clone()).collect(),
            versions: order.iter().map(|i| versions[*i]).collect(),
            stored: order.iter().map(|i| stored[*i].clone()).collect(),
        })
    }

    fn filtered(self, keep: &datafusion::arrow::array::BooleanArray) -> Result<Self> {
        let batch = filter_record_batch(&self.batch, keep).map_err(Error::internal)?;
        let kept = |i: &usize| keep.value(*i);
        let indexes: Vec<usize> = (0..self.keys.len()).filter(kept).collect();
        Ok(Self {
            batch,
            computed: Vec::new(),
            keys: indexes.iter().map(|i| self.keys[*i].clone()).collect(),
            versions: indexes.iter().map(|i| self.versions[*i]).collect(),
            stored: indexes.iter().map(|i| self.stored[*i].clone()).collect(),
        })
    }
}

/// The visible rows with these keys, in the statement's snapshot; in the order of `keys`, which must be ascending.
pub(crate) async fn read_rows(
    shared: &Shared,
    context: &StatementContext,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
) -> Result<FoundRows> {
    let hot = hot_rows(shared, context, table, partition, keys)?;
    let missing = missing_keys(keys, &hot.keys);
    if missing.is_empty() || !cold::has_segments(shared, table) {
        return Ok(hot);
    }
    let cold = cold::find_rows(shared, context.snapshot(), table, partition, &missing).await?;
    if cold.keys.is_empty() { Ok(hot) } else { hot.and_cold(shared, table, cold) }
}

/// Keys whose rows are read at once, before it is looked which of them may be seen.
const KEYS_PER_STEP: usize = 256;

/// Those of the visible rows with these keys that a rule lets through. Only they count against what a statement may hold:
/// that there are too many others must not show.
async fn read_shown_rows(
    shared: &Shared,
    context: &StatementContext,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
    rule: &RowRule,
) -> Result<FoundRows> {
    let user = context.caller.effective_user();
    let (mut shown_keys, mut versions, mut stored, mut batches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    let mut step = KEYS_PER_STEP;
    let mut rest = keys;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(step.min(rest.len()));
        let found = match read_rows(shared, context, table, partition, now).await {
            // Alone, a row is never too large.
            Err(error) if error.reason() == Reason::WriteTooLarge && now.len() > 1 => {
                step = 1;
                continue;
            }
            found => found?,
        };
        rest = later;
        let keep = rule.shows_rows(user, &found.batch)?;
        let mut shown = found.filtered(&keep)?;
        bytes += shown.stored.iter().map(Vec::len).sum::<usize>();
        if bytes > shared.settings.max_write_bytes {
            return Err(too_large(shared.settings.max_write_bytes));
        }
        shown_keys.append(&mut shown.keys);
        versions.append(&mut shown.versions);
        stored.append(&mut shown.stored);
        batches.push(shown.batch);
    }
    let batch = compacted(&concatenated(&batches, table.schema())?).map_err(from_datafusion)?;
    Ok(FoundRows { batch, computed: Vec::new(), keys: shown_keys, versions, stored })
}

fn hot_rows(
    shared: &Shared,
    context: &StatementContext,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
) -> Result<FoundRows> {
    let values = stored_rows(context, partition, keys, shared.settings.max_write_bytes)?;
    let columns = table
        .columns()
        .iter()
        .enumerate()
        .map(|(i, c)| decode_column(table, i, c.name.as_str()))
        .collect::<Result<Vec<_>>>()?;
    let mut decoder = BatchDecoder::new(Arc::clone(table.history()), columns).map_err(Error::internal)?;
    let expired_at_us = context.expired_at_us(table);
    let mut found = FoundRows {
        batch: RecordBatch::new_empty(Arc::clone(table.schema())),
        computed: Vec::new(),
        keys: Vec::new(),
        versions: Vec::new(),
        stored: Vec::new(),
    };
    for (key, value) in keys.iter().zip(values) {
        if let Some(value) = value
            && is_visible(&value, expired_at_us)?
        {
            decoder.append(&row_key(partition, key), &value).map_err(corrupt)?;
            found.keys.push(key.clone());
            found.versions.push(hot_version(&value)?);
            found.stored.push(value);
        }
    }
    let arrays = decoder.finish().map_err(corrupt)?;
    found.batch = batch_of(table.schema(), arrays, found.keys.len()).map_err(from_datafusion)?;
    Ok(found)
}

/// The versions and stored bytes of these keys, in the statement's snapshot.
async fn stored_versions(
    shared: &Shared,
    context: &StatementContext,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
) -> Result<Vec<Option<(Expected, Vec<u8>)>>> {
    let hot = stored_rows(context, partition, keys, shared.settings.max_write_bytes)?;
    let mut found = hot
        .into_iter()
        .map(|value| value.map(|value| Ok((hot_version(&value)?, value))).transpose())
        .collect::<Result<Vec<_>>>()?;
    let mut missing: Vec<PrimaryKey> =
        keys.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(key, _)| key.clone()).collect();
    if missing.is_empty() || !cold::has_segments(shared, table) {
        return Ok(found);
    }
    missing.sort();
    missing.dedup();
    let cold = cold::find_rows(shared, context.snapshot(), table, partition, &missing).await?;
    let images = stored_images(table, &cold)?;
    if images.iter().map(Vec::len).sum::<usize>() > shared.settings.max_write_bytes {
        return Err(too_large(shared.settings.max_write_bytes));
    }
    for (key, found) in keys.iter().zip(&mut found) {
        if found.is_none()
            && let Ok(at) = cold.keys.binary_search(key)
        {
            *found = Some((Expected::Cold(cold.places[at]), images[at].clone()));
        }
    }
    Ok(found)
}

/// The keys of one ascending list that are not in another.
fn missing_keys(keys: &[PrimaryKey], found: &[PrimaryKey]) -> Vec<PrimaryKey> {
    keys.iter().filter(|key| found.binary_search(key).is_err()).cloned().collect()
}

fn hot_version(value: &[u8]) -> Result<Expected> {
    Ok(Expected::Hot(RowHeader::decode(value).map_err(corrupt)?.commit_seq))
}

/// Rows of segments as the hot tier would store them, for the change log.
fn stored_images(table: &Table, rows: &ColdRows) -> Result<Vec<Vec<u8>>> {
    let stored: Vec<ArrayRef> = table.stored_columns().filter_map(|i| rows.batch.columns().get(i).cloned()).collect();
    let mut encoded =
        encode_rows(table.layout(), table.schema_version(), &stored, rows.batch.num_rows()).map_err(Error::internal)?;
    for (row, (seq, time_us)) in encoded.iter_mut().zip(rows.seqs.iter().zip(&rows.times_us)) {
        row.stamp(*seq, *time_us);
    }
    Ok(encoded.iter().map(|row| row.as_bytes().to_vec()).collect())
}

/// The stored bytes of these keys, in the statement's snapshot.
pub(crate) fn stored_rows(
    context: &StatementContext,
    partition: &Partition,
    keys: &[PrimaryKey],
    max_bytes: usize,
) -> Result<Vec<Option<Vec<u8>>>> {
    let mut found = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    for chunk in keys.chunks(1_024) {
        let row_keys: Vec<Vec<u8>> = chunk.iter().map(|key| row_key(partition, key)).collect();
        let wanted: Vec<&[u8]> = row_keys.iter().map(Vec::as_slice).collect();
        let values = context.snapshot().multi_get(Keyspace::Rows, &wanted).map_err(from_store)?;
        bytes += values.iter().flatten().map(Vec::len).sum::<usize>();
        if bytes > max_bytes {
            return Err(too_large(max_bytes));
        }
        found.extend(values);
    }
    Ok(found)
}

/// Checks that a statement names a table that can be written.
///
/// # Errors
/// INVALID_STATEMENT for tables of the system.
pub(crate) fn check_writable(name: &crate::sql::TableName, default_namespace: Option<&str>) -> Result<()> {
    let namespace = name.namespace.as_ref().map(|n| n.text.as_str()).or(default_namespace);
    match namespace {
        Some(namespace) if crate::system::is_system_namespace(namespace) => Err(Error::new(
            Reason::InvalidStatement,
            format!("{namespace}.{} is a table of the system and can be read only.", name.table.text),
        )),
        _ => Ok(()),
    }
}
