//! The scan of a partition's hot rows over its image.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use datafusion::{
    arrow::{
        array::{BooleanArray, RecordBatch},
        compute::filter_record_batch,
        datatypes::SchemaRef,
    },
    common::{Result as DataFusionResult, internal_err, project_schema, tree_node::TreeNodeRecursion},
    error::DataFusionError,
    execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext},
    physical_expr::{PhysicalExpr, PhysicalSortExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SortOrderPushdownResult,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::{EmptyRecordBatchStream, RecordBatchStreamAdapter},
    },
};
use futures::{Stream, TryStreamExt};
use kalamdb_store::{commit::committed_seq, ids::Partition};
use tokio::sync::OnceCell;

use crate::{
    error::Result,
    exec::{
        from_store,
        hot_image::{
            ImageColumn,
            changes::{Current, as_of_snapshot},
            image::{Chunk, HotImage},
            wanted,
        },
        scan::{RowsScan, batch_of},
    },
};

/// The scan as a DataFusion operator. Its partitions have one range of keys each, in the order of the keys.
#[derive(Debug, Clone)]
pub(super) struct HotImageScan {
    /// The same scan without an image, for when it turns out to be of no use.
    rows: Arc<RowsScan>,
    partition: Partition,
    /// What the scan reads, in the order of its decoded columns.
    columns: Arc<[ImageColumn]>,
    /// The image that there was when the plan was made.
    image: Arc<HotImage>,
    /// What all partitions of the plan read: the image as of the snapshot, or `None` for the store itself.
    current: Arc<OnceCell<Option<Current>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl HotImageScan {
    /// The same as a scan of the store, if there is an image for it.
    pub(super) fn over(rows: &RowsScan, partitions: usize) -> Option<Self> {
        let images = rows.context().hot_images();
        if !images.is_enabled() {
            return None;
        }
        let (partition, columns) = wanted(rows.spec(), rows.decoded())?;
        let image = images.get(&partition)?;
        if image.schema_version() != rows.spec().table.schema_version() || !image.has(&columns) {
            return None;
        }
        // Two chunks for each partition at least.
        let partitions = (image.rows() / (2 * images.settings().chunk_rows).max(1)).clamp(1, partitions.max(1));
        let properties = PlanProperties::new(
            rows.properties().equivalence_properties().clone(),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Some(Self {
            rows: Arc::new(rows.clone()),
            partition,
            columns: columns.into(),
            image,
            current: Arc::new(OnceCell::new()),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn partitions(&self) -> usize {
        self.properties.output_partitioning().partition_count()
    }

    /// The image as of the snapshot.
    async fn bring_up_to_date(&self) -> Result<Option<Current>> {
        let context = self.rows.context();
        let as_of = committed_seq(context.snapshot().as_ref()).map_err(from_store)?;
        // Meanwhile another scan may have done some of the work.
        let newest = context.hot_images().get(&self.partition).filter(|newest| {
            let newer = newest.as_of() > self.image.as_of() && newest.as_of() <= as_of;
            newer && newest.schema_version() == self.image.schema_version() && newest.has(&self.columns)
        });
        let image = newest.unwrap_or_else(|| Arc::clone(&self.image));
        let current = as_of_snapshot(context, &self.rows.spec().table, &self.partition, image).await?;
        if current.is_some() {
            context.hot_images().count(true);
        }
        Ok(current)
    }

    async fn open(self, partition: usize, tasks: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let current = self.current.get_or_try_init(|| self.bring_up_to_date()).await;
        let Some(Current { image, .. }) = current.map_err(|e| DataFusionError::External(Box::new(e)))? else {
            return match partition {
                0 => self.rows.execute(0, tasks),
                _ => Ok(Box::pin(EmptyRecordBatchStream::new(self.schema()))),
            };
        };
        let Some(places) = image.places(&self.columns) else { return internal_err!("an image without its columns") };
        let spec = self.rows.spec();
        Ok(Box::pin(ChunksStream {
            chunks: part(image, partition, self.partitions()),
            places,
            filter: self.rows.filter().map(Arc::clone),
            decoded_schema: project_schema(&spec.full_schema, Some(&self.rows.decoded()))?,
            schema: self.schema(),
            width: spec.projection.len(),
            metrics: BaselineMetrics::new(&self.metrics, partition),
            _current: Arc::clone(&self.current),
        }))
    }
}

/// The chunks that one of `partitions` reads, the next one last.
fn part(image: &HotImage, partition: usize, partitions: usize) -> Vec<Arc<Chunk>> {
    let mut before = 0;
    let of_partition = image.chunks().iter().filter(|chunk| {
        let of = before * partitions / image.rows().max(1);
        before += chunk.rows();
        of == partition
    });
    let mut chunks: Vec<Arc<Chunk>> = of_partition.map(Arc::clone).collect();
    chunks.reverse();
    chunks
}

impl DisplayAs for HotImageScan {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = self.rows.spec();
        write!(f, "HotImageScan: table={}, partitions={}", spec.table.full_name(), self.partitions())?;
        if let Some(filter) = &spec.filter {
            write!(f, ", filter={filter}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for HotImageScan {
    fn name(&self) -> &str {
        "HotImageScan"
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
        self.rows.apply_expressions(f)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("HotImageScan has no children") }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        if partition >= self.partitions() {
            return internal_err!("HotImageScan has {} partition(s), not {partition}", self.partitions());
        }
        let batches = futures::stream::once(self.clone().open(partition, context)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    /// Partitions are in the order of the keys. For the other way, and so for the last rows, the store is read.
    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> DataFusionResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        self.rows.try_pushdown_sort(order)
    }
}

struct ChunksStream {
    /// The next one last.
    chunks: Vec<Arc<Chunk>>,
    /// Where the scan's columns are among those of the image.
    places: Vec<usize>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    decoded_schema: SchemaRef,
    schema: SchemaRef,
    /// How many of the scan's columns are answered.
    width: usize,
    metrics: BaselineMetrics,
    /// Holds the memory of what is not kept.
    _current: Arc<OnceCell<Option<Current>>>,
}

impl ChunksStream {
    /// The wanted rows of the next chunk. There may be none, so that others get their turn.
    fn next_batch(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        let Some(chunk) = self.chunks.pop() else { return Ok(None) };
        let batch = batch_of(&self.decoded_schema, chunk.at(&self.places), chunk.rows())?;
        let batch = match &self.filter {
            Some(filter) => {
                let keep = filter.evaluate(&batch)?.into_array(chunk.rows())?;
                let Some(keep) = keep.as_any().downcast_ref::<BooleanArray>() else {
                    return internal_err!("a filter that is not boolean");
                };
                filter_record_batch(&batch, keep)?
            }
            None => batch,
        };
        let answered = batch.columns().iter().take(self.width).cloned().collect();
        batch_of(&self.schema, answered, batch.num_rows()).map(Some)
    }
}

impl Stream for ChunksStream {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let elapsed = self.metrics.elapsed_compute().clone();
        let timer = elapsed.timer();
        let batch = self.next_batch();
        timer.done();
        self.metrics.record_poll(Poll::Ready(batch.transpose()))
    }
}

impl RecordBatchStream for ChunksStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
