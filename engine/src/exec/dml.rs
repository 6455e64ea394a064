//! What UPDATE and DELETE share: finding the rows they concern.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        compute::filter_record_batch,
    },
    common::{DFSchemaRef, ScalarValue},
    logical_expr::{Expr, LogicalPlanBuilder, utils::split_conjunction},
    sql::{planner::SqlToRel, sqlparser::ast},
};
use kalamdb_store::{
    codec::{BatchDecoder, PrimaryKey, RowHeader, row_key},
    ids::{CommitSeq, Partition},
    kv::Keyspace,
};
use tokio::time::Instant;

use crate::{
    catalog::Table,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{
        StatementContext,
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
    /// By their keys, of which those are taken for which the rest of the condition holds.
    Keys { conditions: Vec<KeyCondition>, rest: Option<RowExpr> },
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
    pub(crate) versions: Vec<CommitSeq>,
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
            && let Some(by_key) = Self::by_key(planner, &used.table, schema, filter, &types)?
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
        table: &Table,
        schema: &DFSchemaRef,
        filter: &ast::Expr,
        types: &[SqlType],
    ) -> Result<Option<Self>> {
        let Ok(condition) = RowExpr::plan(planner, filter, schema, types) else {
            // A condition with a query in it.
            return Ok(None);
        };
        let key = table.key_column();
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
        Ok(Some(Selection::Keys { conditions, rest }))
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
            Selection::Keys { conditions, rest } => {
                let keys = match KeySet::new(conditions, |expr| value_of(expr, values))? {
                    KeySet::Keys(keys) => keys.into_iter().collect::<Vec<_>>(),
                    KeySet::Range(..) => return Err(Error::internal("a selection by key without keys")),
                };
                let found = read_rows(context, table, partition, &keys, shared.settings.max_write_bytes)?;
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
                let stored = stored_rows(context, partition, &keys, shared.settings.max_write_bytes)?;
                let mut versions = Vec::with_capacity(keys.len());
                let mut rows = Vec::with_capacity(keys.len());
                for value in stored {
                    let Some(value) = value else {
                        return Err(Error::internal("a row that a snapshot both has and has not"));
                    };
                    versions.push(RowHeader::decode(&value).map_err(corrupt)?.commit_seq);
                    rows.push(value);
                }
                Ok(FoundRows { batch, computed, keys, versions, stored: rows })
            }
        }
    }
}

impl FoundRows {
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

/// The visible rows with these keys, in the statement's snapshot.
pub(crate) fn read_rows(
    context: &StatementContext,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
    max_bytes: usize,
) -> Result<FoundRows> {
    let values = stored_rows(context, partition, keys, max_bytes)?;
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
            found.versions.push(RowHeader::decode(&value).map_err(corrupt)?.commit_seq);
            found.stored.push(value);
        }
    }
    let arrays = decoder.finish().map_err(corrupt)?;
    found.batch = batch_of(table.schema(), arrays, found.keys.len()).map_err(from_datafusion)?;
    Ok(found)
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
