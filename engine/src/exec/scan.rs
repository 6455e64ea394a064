//! The scan of a table's hot rows: RocksDB iteration to Arrow batches, filtered, in key order either way.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions},
        compute::{SortOptions, filter_record_batch},
        datatypes::SchemaRef,
    },
    common::{Result as DataFusionResult, internal_err, project_schema, tree_node::TreeNodeRecursion},
    error::DataFusionError,
    execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext},
    physical_expr::{
        EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, expressions::Column, utils::collect_columns,
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SortOrderPushdownResult,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
    },
};
use futures::Stream;
use kalamdb_store::{
    codec::{BatchDecoder, DecodeColumn, PrimaryKey, RowHeader, row_key, row_range, table_range},
    ids::{Owner, Partition},
    kv::{Direction, KeyRange, Keyspace, Snapshot},
};

use crate::{
    catalog::Table,
    error::{Error, Result},
    exec::{StatementContext, from_store, hot_image::FullScan, key_filter::KeySet, source::decode_column},
};

/// The first batch is small, so that a query with a LIMIT stops early; batches then double up to the session's size.
const FIRST_BATCH_ROWS: usize = 256;

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct ScanSpec {
    pub(crate) table: Arc<Table>,
    /// Whose rows; `None`: every owner's.
    pub(crate) owner: Option<Owner>,
    /// Rows last written at or before this time are expired.
    pub(crate) expired_at_us: Option<i64>,
    pub(crate) keys: KeySet,
    /// A condition over the full schema.
    pub(crate) filter: Option<Arc<dyn PhysicalExpr>>,
    /// Indexes into the full schema.
    pub(crate) projection: Vec<usize>,
    pub(crate) full_schema: SchemaRef,
}

/// More keys than this are not looked up only to know whether one of them is there.
const MAX_PROBED_KEYS: usize = 64;

impl ScanSpec {
    /// Whether the hot tier may have wanted rows, as far as their keys tell.
    pub(crate) fn may_have_rows(&self, snapshot: &dyn Snapshot) -> Result<bool> {
        let range = match (&self.owner, &self.keys) {
            (None, _) => table_range(self.table.id()),
            (Some(owner), keys) => {
                let partition = Partition { table: self.table.id(), owner: owner.clone() };
                match keys {
                    KeySet::Keys(keys) if keys.len() > MAX_PROBED_KEYS => return Ok(true),
                    KeySet::Keys(keys) => {
                        let keys: Vec<Vec<u8>> = keys.iter().map(|key| row_key(&partition, key)).collect();
                        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                        let values = snapshot.multi_get(Keyspace::Rows, &keys).map_err(from_store)?;
                        return Ok(values.iter().any(Option::is_some));
                    }
                    KeySet::Range(low, high) => row_range(&partition, low.clone(), high.clone()),
                }
            }
        };
        let cursor = snapshot.cursor(Keyspace::Rows, range, Direction::Forward).map_err(from_store)?;
        Ok(cursor.valid())
    }
}

/// The scan as a DataFusion operator.
#[derive(Debug, Clone)]
pub(crate) struct RowsScan {
    context: Arc<StatementContext>,
    spec: ScanSpec,
    /// The columns that are decoded: those projected, then those that only the filter needs.
    decoded: Vec<usize>,
    /// The filter over the decoded columns.
    filter: Option<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    direction: Direction,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RowsScan {
    pub(crate) fn try_new(
        context: Arc<StatementContext>,
        spec: ScanSpec,
        fetch: Option<usize>,
    ) -> DataFusionResult<Self> {
        let schema = project_schema(&spec.full_schema, Some(&spec.projection))?;
        let mut decoded = spec.projection.clone();
        let filter = match &spec.filter {
            Some(filter) => {
                let mut needed: Vec<usize> = collect_columns(filter).iter().map(Column::index).collect();
                needed.sort_unstable();
                for index in needed {
                    if !decoded.contains(&index) {
                        decoded.push(index);
                    }
                }
                Some(remap(filter, &decoded)?)
            }
            None => None,
        };
        let properties = Arc::new(properties_of(&spec, &schema, Direction::Forward));
        Ok(Self {
            context,
            spec,
            decoded,
            filter,
            schema,
            direction: Direction::Forward,
            fetch,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(crate) fn context(&self) -> &StatementContext {
        &self.context
    }

    pub(crate) fn spec(&self) -> &ScanSpec {
        &self.spec
    }

    /// The columns that are decoded, as indexes into the full schema: those projected, then those of the filter alone.
    pub(crate) fn decoded(&self) -> &[usize] {
        &self.decoded
    }

    /// The filter over the decoded columns.
    pub(crate) fn filter(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        self.filter.as_ref()
    }

    /// The same scan in the other direction.
    fn reversed(&self) -> Self {
        let direction = match self.direction {
            Direction::Forward => Direction::Reverse,
            Direction::Reverse => Direction::Forward,
        };
        let properties = Arc::new(properties_of(&self.spec, &self.schema, direction));
        Self { direction, properties, ..self.clone() }
    }

    fn stream(&self, batch_size: usize, metrics: BaselineMetrics) -> Result<RowsStream> {
        let mut columns = self
            .decoded
            .iter()
            .map(|i| decode_column(&self.spec.table, *i, self.spec.full_schema.field(*i).name()))
            .collect::<Result<Vec<DecodeColumn>>>()?;
        let in_full = self.direction == Direction::Forward && self.fetch.is_none();
        let full = if in_full { FullScan::begin(&self.context, &self.spec, &self.decoded)? } else { None };
        if let Some(full) = &full {
            columns.extend(full.extra()?);
        }
        let source = match (&self.spec.owner, &self.spec.keys) {
            (Some(owner), KeySet::Keys(keys)) => {
                let partition = Partition { table: self.spec.table.id(), owner: owner.clone() };
                let mut keys: Vec<Vec<u8>> = keys.iter().map(|key| row_key(&partition, key)).collect();
                // Taken from the end.
                if self.direction == Direction::Forward {
                    keys.reverse();
                }
                Source::Keys(keys)
            }
            (Some(owner), KeySet::Range(low, high)) => {
                let partition = Partition { table: self.spec.table.id(), owner: owner.clone() };
                Source::Range(Some(row_range(&partition, low.clone(), high.clone())))
            }
            (None, _) => Source::Range(Some(table_range(self.spec.table.id()))),
        };
        let every_owner = self.spec.owner.is_none();
        Ok(RowsStream {
            snapshot: Arc::clone(self.context.snapshot()),
            source,
            keys: every_owner.then(|| self.spec.keys.clone()),
            direction: self.direction,
            expired_at_us: self.spec.expired_at_us,
            decoder: BatchDecoder::new(Arc::clone(self.spec.table.history()), columns).map_err(Error::internal)?,
            filter: self.filter.clone(),
            decoded_schema: project_schema(&self.spec.full_schema, Some(&self.decoded)).map_err(Error::internal)?,
            schema: Arc::clone(&self.schema),
            width: self.spec.projection.len(),
            remaining: self.fetch,
            next_rows: FIRST_BATCH_ROWS.min(batch_size),
            batch_size,
            full,
            metrics,
        })
    }
}

/// Rows of one partition come in key order; those of several do not.
fn properties_of(spec: &ScanSpec, schema: &SchemaRef, direction: Direction) -> PlanProperties {
    let key = spec.projection.iter().position(|i| *i == spec.table.key_index());
    let equivalence = match (key, &spec.owner) {
        (Some(index), Some(_)) => {
            let name = spec.table.key_column().name.as_str();
            let options = SortOptions { descending: direction == Direction::Reverse, nulls_first: false };
            let by_key = PhysicalSortExpr::new(Arc::new(Column::new(name, index)), options);
            EquivalenceProperties::new_with_orderings(Arc::clone(schema), [[by_key]])
        }
        _ => EquivalenceProperties::new(Arc::clone(schema)),
    };
    PlanProperties::new(
        equivalence,
        Partitioning::UnknownPartitioning(1),
        EmissionType::Incremental,
        Boundedness::Bounded,
    )
}

/// The same expression over some columns of the full schema in place of all of it.
pub(crate) fn remap(filter: &Arc<dyn PhysicalExpr>, decoded: &[usize]) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    Arc::clone(filter)
        .transform(|e| {
            let Some(column) = e.downcast_ref::<Column>() else { return Ok(Transformed::no(e)) };
            let Some(index) = decoded.iter().position(|i| *i == column.index()) else {
                return internal_err!("a filter on a column that is not there");
            };
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as Arc<dyn PhysicalExpr>))
        })
        .map(|t| t.data)
}

impl DisplayAs for RowsScan {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowsScan: table={}", self.spec.table.full_name())?;
        match (&self.spec.owner, &self.spec.keys) {
            (None, _) => write!(f, ", partitions=all")?,
            (Some(_), KeySet::Keys(keys)) => write!(f, ", keys={}", keys.len())?,
            (Some(_), KeySet::Range(low, high)) => {
                let bounded = |b: &std::ops::Bound<PrimaryKey>| !matches!(b, std::ops::Bound::Unbounded);
                if bounded(low) || bounded(high) {
                    write!(f, ", key_range=true")?;
                }
            }
        }
        if self.direction == Direction::Reverse {
            write!(f, ", reverse=true")?;
        }
        if let Some(filter) = &self.spec.filter {
            write!(f, ", filter={filter}")?;
        }
        if let Some(fetch) = self.fetch {
            write!(f, ", fetch={fetch}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for RowsScan {
    fn name(&self) -> &str {
        "RowsScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        match &self.filter {
            Some(filter) => f(filter),
            None => Ok(TreeNodeRecursion::Continue),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("RowsScan has no children") }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("RowsScan has one partition, not {partition}");
        }
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let stream = self
            .stream(context.session_config().batch_size(), metrics)
            .map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(Box::pin(stream))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self { fetch: limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    /// An order that begins with the key is the scan's own, one way or the other: keys are unique, so what follows
    /// the key in the order does not matter.
    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> DataFusionResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let by_key = self.spec.owner.is_some()
            && order
                .first()
                .and_then(|first| first.expr.downcast_ref::<Column>())
                .and_then(|column| self.spec.projection.get(column.index()))
                .is_some_and(|index| *index == self.spec.table.key_index());
        // A scan that stops early stops at other rows when reversed.
        let Some(first) = order.first().filter(|_| by_key && self.fetch.is_none()) else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        let wanted = if first.options.descending { Direction::Reverse } else { Direction::Forward };
        let inner = if wanted == self.direction { self.clone() } else { self.reversed() };
        Ok(SortOrderPushdownResult::Exact { inner: Arc::new(inner) })
    }
}

/// Where the stream's rows come from.
enum Source {
    /// These keys, the next one last.
    Keys(Vec<Vec<u8>>),
    /// What is left of a range; `None`: nothing.
    Range(Option<KeyRange>),
}

struct RowsStream {
    snapshot: Arc<dyn Snapshot>,
    source: Source,
    /// Key conditions of a scan over every owner, where they do not make one range.
    keys: Option<KeySet>,
    direction: Direction,
    expired_at_us: Option<i64>,
    decoder: BatchDecoder,
    filter: Option<Arc<dyn PhysicalExpr>>,
    decoded_schema: SchemaRef,
    schema: SchemaRef,
    /// How many of the decoded columns are answered.
    width: usize,
    remaining: Option<usize>,
    next_rows: usize,
    batch_size: usize,
    /// What is made of the rows beside.
    full: Option<FullScan>,
    metrics: BaselineMetrics,
}

impl RowsStream {
    /// The next batch that is not empty after filtering, or one empty step so that others get their turn.
    fn next_batch(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        if self.remaining == Some(0) || self.is_exhausted() {
            return Ok(None);
        }
        let rows = self.read(self.next_rows).map_err(|e| DataFusionError::External(Box::new(e)))?;
        self.next_rows = (self.next_rows * 2).min(self.batch_size);
        let mut arrays = self.decoder.finish().map_err(|e| DataFusionError::External(Box::new(corrupt(e))))?;
        if let Some(full) = &mut self.full {
            full.push(&mut arrays, rows);
        }
        if self.is_exhausted()
            && let Some(full) = self.full.take()
        {
            full.finish();
        }
        arrays.truncate(self.decoded_schema.fields().len());
        let batch = batch_of(&self.decoded_schema, arrays, rows)?;
        let batch = match &self.filter {
            Some(filter) if rows > 0 => {
                let keep = filter.evaluate(&batch)?.into_array(rows)?;
                let Some(keep) = keep.as_any().downcast_ref::<BooleanArray>() else {
                    return internal_err!("a filter that is not boolean");
                };
                filter_record_batch(&batch, keep)?
            }
            _ => batch,
        };
        let keep = self.remaining.map_or(batch.num_rows(), |remaining| remaining.min(batch.num_rows()));
        if let Some(remaining) = &mut self.remaining {
            *remaining -= keep;
        }
        let batch = batch.slice(0, keep);
        let answered = batch.columns().iter().take(self.width).cloned().collect();
        Ok(Some(batch_of(&self.schema, answered, keep)?))
    }

    fn is_exhausted(&self) -> bool {
        match &self.source {
            Source::Keys(keys) => keys.is_empty(),
            Source::Range(range) => range.is_none(),
        }
    }

    /// Decodes up to `limit` visible rows; returns how many.
    fn read(&mut self, limit: usize) -> Result<usize> {
        // Without a filter no more rows are needed than are answered.
        let limit = match (&self.filter, self.remaining) {
            (None, Some(remaining)) => limit.min(remaining),
            _ => limit,
        };
        match &mut self.source {
            Source::Keys(keys) => {
                let first = keys.len().saturating_sub(limit);
                let taken: Vec<Vec<u8>> = keys.drain(first..).rev().collect();
                let wanted: Vec<&[u8]> = taken.iter().map(Vec::as_slice).collect();
                let values = self.snapshot.multi_get(Keyspace::Rows, &wanted).map_err(from_store)?;
                let mut rows = 0;
                for (key, value) in wanted.iter().zip(values) {
                    if let Some(value) = value
                        && is_visible(&value, self.expired_at_us)?
                    {
                        self.decoder.append(key, &value).map_err(corrupt)?;
                        rows += 1;
                    }
                }
                Ok(rows)
            }
            Source::Range(range) => {
                let Some(current) = range.take() else { return Ok(0) };
                let mut cursor =
                    self.snapshot.cursor(Keyspace::Rows, current.clone(), self.direction).map_err(from_store)?;
                let mut rows = 0;
                while let Some((key, value)) = cursor.item() {
                    if rows == limit {
                        *range = Some(rest_of(current, key, self.direction));
                        break;
                    }
                    let wanted = match &self.keys {
                        Some(keys) => matches_key(keys, key)?,
                        None => true,
                    };
                    if wanted && is_visible(value, self.expired_at_us)? {
                        self.decoder.append(key, value).map_err(corrupt)?;
                        rows += 1;
                    }
                    cursor.advance().map_err(from_store)?;
                }
                Ok(rows)
            }
        }
    }
}

/// The part of a range from `key` on.
fn rest_of(range: KeyRange, key: &[u8], direction: Direction) -> KeyRange {
    use std::ops::Bound;
    match direction {
        Direction::Forward => KeyRange::new(Bound::Included(key.to_vec()), range.end),
        Direction::Reverse => KeyRange::new(range.start, Bound::Included(key.to_vec())),
    }
}

fn matches_key(keys: &KeySet, row_key: &[u8]) -> Result<bool> {
    use std::ops::{Bound, RangeBounds};
    let (_, _, key) = kalamdb_store::codec::split_row_key(row_key).map_err(corrupt)?;
    let key = PrimaryKey::from_encoded(key);
    Ok(match keys {
        KeySet::Keys(keys) => keys.contains(&key),
        KeySet::Range(Bound::Unbounded, Bound::Unbounded) => true,
        KeySet::Range(low, high) => (low.as_ref(), high.as_ref()).contains(&key),
    })
}

/// Whether a stored row exists for a reader.
pub(crate) fn is_visible(value: &[u8], expired_at_us: Option<i64>) -> Result<bool> {
    let header = RowHeader::decode(value).map_err(corrupt)?;
    Ok(expired_at_us.is_none_or(|expired| header.commit_time_us > expired))
}

/// Says an error of decoding stored bytes.
pub(crate) fn corrupt(error: impl fmt::Display) -> Error {
    Error::new(crate::error::Reason::Corruption, "Stored data is damaged; restore it from a backup.").with_detail(error)
}

/// A batch that keeps its number of rows even without columns.
pub(crate) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> DataFusionResult<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

impl Stream for RowsStream {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let elapsed = self.metrics.elapsed_compute().clone();
        let timer = elapsed.timer();
        let batch = self.next_batch();
        timer.done();
        self.metrics.record_poll(Poll::Ready(batch.transpose()))
    }
}

impl RecordBatchStream for RowsStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
