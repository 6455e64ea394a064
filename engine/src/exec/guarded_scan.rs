//! The scan of a table whose rows are guarded by rules: a wall between the rows and everything that a user can write.
//!
//! Rules are conditions of the scans of the two tiers. What users write must not be evaluated on rows that those have not
//! let through, must not be answered from statistics of rows that nobody may count, and EXPLAIN must not tell of them:
//!
//! ```text
//!   what the user wrote          filters, projections, joins, sorts, limits
//!  ─────────────────────────     GuardedScan: no children, no expressions, no statistics
//!   rules, and conditions        RowsScan, HotImageScan, DataSourceExec
//!   that cannot leak
//! ```
//!
//! To DataFusion the operator is a leaf. No rule of its optimiser, whatever it does, can move a filter, a dynamic filter or
//! a projection below it, or see a statistic, because it sees nothing there; and EXPLAIN ANALYZE finds no metrics but those
//! of what came out. What comes out tells nothing of what did not: there is one partition whatever there is to read below,
//! in however many parts; batches are full, and their buffers hold no bytes of other rows. What is safe to take over is
//! taken over here: conditions that cannot fail (when the scan is planned), an order by the key, and a limit.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use datafusion::{
    arrow::{array::RecordBatch, compute::BatchCoalescer, datatypes::SchemaRef},
    common::{Result as DataFusionResult, config::ConfigOptions, internal_err, tree_node::TreeNodeRecursion},
    execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr, expressions::Column},
    physical_optimizer::{PhysicalOptimizerRule, filter_pushdown::FilterPushdown},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
        SortOrderPushdownResult,
        coalesce_partitions::CoalescePartitionsExec,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        sorts::{sort::SortExec, sort_preserving_merge::SortPreservingMergeExec},
        union::UnionExec,
    },
};
use futures::Stream;

use crate::{
    access::RowRule,
    catalog::Table,
    exec::{cold::last_rows_first, compact::compacted},
};

/// The rows of a table that a rule lets through. Holds nothing of a user but in the scans below.
#[derive(Debug, Clone)]
pub(crate) struct GuardedScan {
    table: Arc<Table>,
    rule: Arc<RowRule>,
    /// The scans, which have the rule among their conditions.
    tiers: Arc<[Arc<dyn ExecutionPlan>]>,
    /// The same, in as many parts as can be read side by side when their order does not matter.
    in_parts: Arc<[Arc<dyn ExecutionPlan>]>,
    /// Where the key is among the columns, if it is there.
    key: Option<usize>,
    /// By the key.
    order: Option<LexOrdering>,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GuardedScan {
    /// Guards scans of the same columns, of which at most `fetch` rows were asked for. `projection` are the columns, as
    /// indexes into the table's; at most so many `parts` are read side by side.
    pub(crate) fn over(
        tiers: Vec<Arc<dyn ExecutionPlan>>,
        table: &Arc<Table>,
        rule: &Arc<RowRule>,
        schema: &SchemaRef,
        projection: &[usize],
        fetch: Option<usize>,
        (parts, config): (usize, &ConfigOptions),
    ) -> DataFusionResult<Self> {
        let in_parts = tiers.iter().map(|tier| match tier.repartitioned(parts, config)? {
            Some(parts) => Ok(parts),
            None => Ok(Arc::clone(tier)),
        });
        let in_parts = in_parts.collect::<DataFusionResult<_>>()?;
        let properties = properties(EquivalenceProperties::new(Arc::clone(schema)));
        Ok(Self {
            table: Arc::clone(table),
            rule: Arc::clone(rule),
            in_parts,
            tiers: tiers.into(),
            key: projection.iter().position(|index| *index == table.key_index()),
            order: None,
            fetch,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

/// Scans as one plan of one partition.
fn in_one(tiers: &[Arc<dyn ExecutionPlan>]) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let all = UnionExec::try_new(tiers.to_vec())?;
    Ok(match all.output_partitioning().partition_count() {
        1 => all,
        _ => Arc::new(CoalescePartitionsExec::new(all)),
    })
}

/// Scans as one plan of one partition that has their rows in an order.
fn in_order(
    tiers: &[Arc<dyn ExecutionPlan>],
    order: &LexOrdering,
    fetch: Option<usize>,
    config: &ConfigOptions,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let mut sorted: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(tiers.len());
    for tier in tiers {
        let unsorted = match tier.try_pushdown_sort(order)? {
            SortOrderPushdownResult::Exact { inner } => {
                sorted.push(match fetch {
                    Some(_) => inner.with_fetch(fetch).unwrap_or(inner),
                    None => inner,
                });
                continue;
            }
            SortOrderPushdownResult::Inexact { inner } => inner,
            SortOrderPushdownResult::Unsupported => Arc::clone(tier),
        };
        let sort = SortExec::new(order.clone(), unsorted).with_fetch(fetch).with_preserve_partitioning(true);
        let sort = last_rows_first(&sort).unwrap_or(sort);
        sorted.push(Arc::new(sort));
    }
    let all = UnionExec::try_new(sorted)?;
    let merged: Arc<dyn ExecutionPlan> = Arc::new(SortPreservingMergeExec::new(order.clone(), all).with_fetch(fetch));
    // So that sorts with a limit tell the scans what they need no more.
    FilterPushdown::new_post_optimization().optimize(merged, config)
}

fn properties(equivalence: EquivalenceProperties) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        equivalence,
        Partitioning::UnknownPartitioning(1),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

impl DisplayAs for GuardedScan {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardedScan: table={}, rules={}", self.table.full_name(), self.rule.rules())?;
        if let Some(order) = &self.order {
            write!(f, ", order={order}")?;
        }
        if let Some(fetch) = self.fetch {
            write!(f, ", fetch={fetch}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for GuardedScan {
    fn name(&self) -> &str {
        "GuardedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// None that anybody is to know of.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("GuardedScan has no children") }
    }

    fn reset_state(self: Arc<Self>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let reset = |tiers: &[Arc<dyn ExecutionPlan>]| {
            tiers.iter().map(|tier| Arc::clone(tier).reset_state()).collect::<DataFusionResult<_>>()
        };
        let (tiers, in_parts) = (reset(&self.tiers)?, reset(&self.in_parts)?);
        Ok(Arc::new(Self { tiers, in_parts, metrics: ExecutionPlanMetricsSet::new(), ..self.as_ref().clone() }))
    }

    fn execute(&self, partition: usize, tasks: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("GuardedScan has one partition, not {partition}");
        }
        let batch_size = tasks.session_config().batch_size();
        let inside = match &self.order {
            Some(order) => in_order(&self.tiers, order, self.fetch, tasks.session_config().options())?,
            None => in_one(&self.in_parts)?,
        };
        let rows = inside.execute(0, tasks)?;
        Ok(Box::pin(GuardedStream {
            rows,
            gathered: BatchCoalescer::new(self.schema(), batch_size.max(1)),
            schema: self.schema(),
            remaining: self.fetch,
            ended: false,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        }))
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

    /// An order that begins with the key is one by the key alone, as keys are unique. Whatever the tiers can do, the answer
    /// is the same, so that a plan does not tell where rows are.
    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> DataFusionResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let by_key = order.first().filter(|first| {
            let column = first.expr.downcast_ref::<Column>();
            self.key.is_some() && column.map(Column::index) == self.key
        });
        // A scan that stops early stops at other rows in another order.
        let Some(first) = by_key.filter(|_| self.fetch.is_none()) else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        let Some(order) = LexOrdering::new([first.clone()]) else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        let equivalence = EquivalenceProperties::new_with_orderings(self.schema(), [[first.clone()]]);
        let properties = properties(equivalence);
        Ok(SortOrderPushdownResult::Exact { inner: Arc::new(Self { order: Some(order), properties, ..self.clone() }) })
    }
}

/// Rows on their way out, in full batches.
struct GuardedStream {
    rows: SendableRecordBatchStream,
    gathered: BatchCoalescer,
    schema: SchemaRef,
    remaining: Option<usize>,
    ended: bool,
    metrics: BaselineMetrics,
}

impl GuardedStream {
    fn gather(&mut self, batch: RecordBatch) -> DataFusionResult<()> {
        let kept = self.remaining.map_or(batch.num_rows(), |remaining| remaining.min(batch.num_rows()));
        if let Some(remaining) = &mut self.remaining {
            *remaining -= kept;
        }
        self.gathered.push_batch(batch.slice(0, kept))?;
        if self.remaining == Some(0) { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> DataFusionResult<()> {
        self.ended = true;
        Ok(self.gathered.finish_buffered_batch()?)
    }
}

impl Stream for GuardedStream {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(batch) = self.gathered.next_completed_batch() {
            return self.metrics.record_poll(Poll::Ready(Some(compacted(&batch))));
        }
        if self.ended {
            return self.metrics.record_poll(Poll::Ready(None));
        }
        let outcome = match ready!(self.rows.as_mut().poll_next(cx)) {
            Some(Ok(batch)) => self.gather(batch),
            Some(Err(error)) => Err(error),
            None => self.end(),
        };
        if let Err(error) = outcome {
            self.ended = true;
            return Poll::Ready(Some(Err(error)));
        }
        // Others get their turn before the next step, since what there is to skip can be long.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl RecordBatchStream for GuardedStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
