//! A table's rows as a DataFusion table.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{Schema, SchemaRef},
    catalog::{Session, TableProvider},
    common::{DFSchema, Result as DataFusionResult, project_schema, tree_node::TreeNode},
    error::DataFusionError,
    execution::memory_pool::MemoryLimit,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_plan::{ExecutionPlan, union::UnionExec},
};
use kalamdb_store::codec::DecodeColumn;

use crate::{
    access::RowRule,
    catalog::{OWNER_COLUMN, Table},
    error::{Error, Result},
    exec::{
        StatementContext,
        cold::{ColdColumn, segment_scans},
        guarded_scan::GuardedScan,
        hot_image::hot_rows,
        key_filter::{KeyCondition, KeySet},
        leakproof::is_leakproof,
        planner::UsedTable,
        scan::ScanSpec,
    },
    sql::TableScope,
    types::SqlType,
};

/// The rows of a table that a scope means, as far as a rule lets them through. Holds nothing of a caller: whose partition
/// and which snapshot are read, and who CURRENT_USER() is in the rule, is in the [`StatementContext`] of the session that
/// scans it.
#[derive(Debug)]
pub(crate) struct TableRows {
    table: Arc<Table>,
    scope: TableScope,
    rule: Option<Arc<RowRule>>,
    schema: SchemaRef,
}

impl TableRows {
    /// `with_system` shows the hidden columns too.
    pub(crate) fn new(used: UsedTable, with_system: bool) -> Self {
        let UsedTable { table, scope, rule } = used;
        let base = if with_system { table.schema_with_system() } else { table.schema() };
        let schema = match scope {
            TableScope::AllUsers => {
                let mut fields: Vec<_> = base.fields().iter().cloned().collect();
                fields.push(Arc::new(SqlType::Text.to_field(OWNER_COLUMN, false)));
                Arc::new(Schema::new(fields))
            }
            TableScope::Caller | TableScope::ActingUser => Arc::clone(base),
        };
        Self { table, scope, rule, schema }
    }

    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub(crate) fn scope(&self) -> TableScope {
        self.scope
    }

    /// What lets rows through; `None`: all come through.
    pub(crate) fn rule(&self) -> Option<&Arc<RowRule>> {
        self.rule.as_ref()
    }

    /// How the column with this index in the schema is read from a stored row.
    pub(crate) fn decode_column(&self, index: usize) -> Result<DecodeColumn> {
        decode_column(&self.table, index, self.schema.field(index).name())
    }

    /// The same column as segments have it.
    pub(crate) fn cold_column(&self, index: usize) -> Result<ColdColumn> {
        if index < self.table.columns().len() {
            return Ok(ColdColumn::Of(index));
        }
        match self.schema.field(index).name().as_str() {
            crate::catalog::SEQ_COLUMN => Ok(ColdColumn::CommitSeq),
            crate::catalog::UPDATED_COLUMN => Ok(ColdColumn::CommitTime),
            crate::catalog::DELETED_COLUMN => Ok(ColdColumn::Deleted),
            other => Err(Error::internal(format!("no column {other} at {index} of a segment"))),
        }
    }

    pub(crate) fn key_condition(&self, expr: &Expr) -> Option<KeyCondition> {
        let key = self.table.key_column();
        KeyCondition::recognise(expr, key.name.as_str(), &key.data_type)
    }
}

/// How a column is read from a stored row: one of the table's by its index, or a hidden one by its name.
pub(crate) fn decode_column(table: &Table, index: usize, name: &str) -> Result<DecodeColumn> {
    if let Some(column) = table.columns().get(index) {
        if index == table.key_index() {
            return Ok(DecodeColumn::PrimaryKey { data_type: column.data_type.clone() });
        }
        let missing = column.fill.as_ref().map(|fill| fill.to_array_of_size(1)).transpose().map_err(Error::internal)?;
        return Ok(DecodeColumn::Stored { id: column.id, data_type: column.data_type.clone(), missing });
    }
    match name {
        crate::catalog::SEQ_COLUMN => Ok(DecodeColumn::CommitSeq),
        crate::catalog::UPDATED_COLUMN => Ok(DecodeColumn::CommitTime),
        crate::catalog::DELETED_COLUMN => Ok(DecodeColumn::Deleted),
        OWNER_COLUMN => Ok(DecodeColumn::Owner),
        other => Err(Error::internal(format!("no column {other} at {index}"))),
    }
}

#[async_trait]
impl TableProvider for TableRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// The scan evaluates every condition on its own columns itself: those on the key as keys and ranges, the rest
    /// before the columns that they do not need are put together. Where a rule guards the rows, it takes over only those
    /// that cannot tell of a row that is not let through.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        filters
            .iter()
            .map(|filter| {
                let plain = !filter.is_volatile() && !filter.exists(|e| Ok(is_subquery(e)))?;
                let plain = plain && (self.rule.is_none() || is_leakproof(filter, &self.schema));
                Ok(if plain { TableProviderFilterPushDown::Exact } else { TableProviderFilterPushDown::Unsupported })
            })
            .collect()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let context = state
            .config()
            .get_extension::<StatementContext>()
            .ok_or_else(|| DataFusionError::Internal("a scan outside any statement".to_owned()))?;
        let mut filters = filters.to_vec();
        if let Some(rule) = &self.rule {
            if !filters.iter().all(|filter| is_leakproof(filter, &self.schema)) {
                return Err(DataFusionError::Internal(
                    "a condition that may leak was given to a guarded scan".to_owned(),
                ));
            }
            let user = context.caller.effective_user();
            filters.push(rule.condition_for(user).map_err(|e| DataFusionError::External(Box::new(e)))?);
        }
        let mut key_conditions = Vec::new();
        let mut others = Vec::new();
        for filter in filters {
            match self.key_condition(&filter) {
                Some(condition) => key_conditions.push(condition),
                None => others.push(filter),
            }
        }
        let keys = KeySet::new(&key_conditions, literal).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let filter = match conjunction(others) {
            Some(filter) => {
                let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
                // Scan filters may carry the qualifier of the query's name for the table; here there is only one.
                let unqualified = strip_qualifiers(filter)?;
                Some(state.create_physical_expr(unqualified, &schema)?)
            }
            None => None,
        };
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let spec = ScanSpec {
            table: Arc::clone(&self.table),
            owner: context.owner(&self.table, self.scope),
            expired_at_us: context.expired_at_us(&self.table),
            keys,
            filter,
            projection,
            full_schema: Arc::clone(&self.schema),
        };
        let Some(rule) = &self.rule else { return UnionExec::try_new(tiers_of(state, context, spec, limit)?) };
        let projection = spec.projection.clone();
        let schema = project_schema(&self.schema, Some(&projection))?;
        let tiers = tiers_of(state, context, spec, limit)?;
        let parts = (partitions_for(state), state.config_options());
        Ok(Arc::new(GuardedScan::over(tiers, &self.table, rule, &schema, &projection, limit, parts)?))
    }
}

/// The scans of the tiers that may have wanted rows.
fn tiers_of(
    state: &dyn Session,
    context: Arc<StatementContext>,
    spec: ScanSpec,
    limit: Option<usize>,
) -> DataFusionResult<Vec<Arc<dyn ExecutionPlan>>> {
    // Segments are noted before they become visible: none is missed by asking after the snapshot was taken.
    let snapshot = Arc::clone(context.snapshot());
    let partitions = partitions_for(state);
    if !context.cold().tables.contains(spec.table.id()) {
        return Ok(vec![hot_rows(context, spec, limit, partitions)?]);
    }
    let mut tiers = segment_scans(state, &context, &spec, limit)?;
    let may_be_hot = tiers.is_empty()
        || spec.may_have_rows(snapshot.as_ref()).map_err(|e| DataFusionError::External(Box::new(e)))?;
    if may_be_hot {
        tiers.insert(0, hot_rows(context, spec, limit, partitions)?);
    }
    Ok(tiers)
}

/// In how many parts an image is read: each part of a plan sorts and aggregates with memory of its own, and a query with little
/// memory can spill in one part where it could not in two.
fn partitions_for(state: &dyn Session) -> usize {
    let threads = state.config().target_partitions();
    match state.runtime_env().memory_pool.memory_limit() {
        MemoryLimit::Finite(bytes) => threads.min((bytes / MEMORY_OF_A_PART).max(1)),
        _ => threads,
    }
}

const MEMORY_OF_A_PART: usize = 32 * 1024 * 1024;

fn literal(expr: &Expr) -> Result<datafusion::common::ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Ok(value.clone()),
        other => Err(Error::internal(format!("an unbound value in a key condition: {other}"))),
    }
}

/// The same expression with columns named alone.
pub(crate) fn strip_qualifiers(expr: Expr) -> DataFusionResult<Expr> {
    use datafusion::common::{Column, tree_node::Transformed};
    expr.transform(|e| {
        Ok(match e {
            Expr::Column(column) if column.relation.is_some() => {
                Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    })
    .map(|t| t.data)
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::SetComparison(_)
    )
}
