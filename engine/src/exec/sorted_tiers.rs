//! Orders of both tiers together.
//!
//! DataFusion takes the rows of all inputs of a union and sorts them. But `ORDER BY key LIMIT n` needs no more than the
//! first rows of each tier: the hot one has its rows in key order, either way, and the cold one its files, the last rows
//! of which are read first where they are wanted.

use std::sync::Arc;

use datafusion::{
    common::{
        Result as DataFusionResult,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan, SortOrderPushdownResult,
        limit::LocalLimitExec,
        sorts::{sort::SortExec, sort_preserving_merge::SortPreservingMergeExec},
        union::UnionExec,
    },
};

use crate::exec::cold::last_rows_first;

/// Sorts the inputs of a union, in place of its output, where one of them is in the wanted order already.
#[derive(Debug)]
pub(crate) struct SortedTiers;

impl SortedTiers {
    /// Puts the rule where it belongs among those of DataFusion: sorts are in their places, and the dynamic filters of
    /// those with a limit are not made yet.
    pub(crate) fn insert_into(
        mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
    ) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
        let place = rules.iter().position(|rule| rule.name() == "PushdownSort").map_or(rules.len(), |at| at + 1);
        rules.insert(place, Arc::new(SortedTiers));
        rules
    }
}

impl PhysicalOptimizerRule for SortedTiers {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|plan| {
            let sort = plan
                .downcast_ref::<SortPreservingMergeExec>()
                .and_then(|merge| merge.input().downcast_ref::<SortExec>().map(|sort| (merge, sort)));
            if let Some((merge, sort)) = sort
                && let Some(union) = sort.input().downcast_ref::<UnionExec>()
                && let Some(sorted) = sort_inputs(sort, union)?
            {
                let merge = SortPreservingMergeExec::new(merge.expr().clone(), sorted).with_fetch(merge.fetch());
                let merge: Arc<dyn ExecutionPlan> = Arc::new(merge);
                return Ok(Transformed::yes(merge));
            }
            if let Some(sort) = plan.downcast_ref::<SortExec>().and_then(last_rows_first) {
                let sort: Arc<dyn ExecutionPlan> = Arc::new(sort);
                return Ok(Transformed::yes(sort));
            }
            Ok(Transformed::no(plan))
        })
        .data()
    }

    fn name(&self) -> &str {
        "sorted_tiers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The union with each input in the order of the sort; `None` if that spares no input its sort.
fn sort_inputs(sort: &SortExec, union: &UnionExec) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
    let order = sort.expr();
    // Of a longer order only the first part is what a scan says of its rows.
    if order.len() != 1 {
        return Ok(None);
    }
    let mut spared = false;
    let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(union.inputs().len());
    for input in union.inputs() {
        let inner = match input.try_pushdown_sort(order)? {
            SortOrderPushdownResult::Exact { inner } => {
                spared = true;
                inputs.push(match sort.fetch() {
                    Some(fetch) => {
                        inner.with_fetch(Some(fetch)).unwrap_or_else(|| Arc::new(LocalLimitExec::new(inner, fetch)))
                    }
                    None => inner,
                });
                continue;
            }
            SortOrderPushdownResult::Inexact { inner } => inner,
            SortOrderPushdownResult::Unsupported => Arc::clone(input),
        };
        let sorted = SortExec::new(order.clone(), inner).with_fetch(sort.fetch()).with_preserve_partitioning(true);
        inputs.push(Arc::new(sorted));
    }
    if !spared {
        return Ok(None);
    }
    UnionExec::try_new(inputs).map(Some)
}
