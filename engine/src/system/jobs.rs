//! The jobs of the engine, as `system.jobs` lists them.

use std::sync::Arc;

use datafusion::{
    arrow::array::{Array, ListBuilder, RecordBatch, StringViewBuilder},
    common::ScalarValue,
};

use crate::{
    access::Role,
    error::Result,
    exec::StatementContext,
    jobs::JobRecord,
    system::{
        definition::{JOB_COLUMNS, batch},
        rows::{integer, optional_text, optional_time, text, time},
    },
};

/// `system.jobs`: for an operator all, for others none: they are how the server works, not what a user asked for.
pub(super) fn rows(context: &StatementContext) -> Result<RecordBatch> {
    let is_operator = context.caller.role >= Role::Dba;
    let jobs = if is_operator { context.jobs.list() } else { Vec::new() };
    batch(&JOB_COLUMNS, jobs.into_iter().map(row).collect())
}

fn row(job: JobRecord) -> Vec<ScalarValue> {
    let number = |value: u64| integer(usize::try_from(value).unwrap_or(usize::MAX));
    vec![
        text(&job.id.to_string()),
        text(job.job_type.as_str()),
        text(job.status.as_str()),
        optional_text(job.table.as_ref().map(|table| table.namespace.as_str())),
        optional_text(job.table.as_ref().map(|table| table.name.as_str())),
        texts(&job.parameters()),
        optional_text(job.result.as_deref()),
        optional_text(job.trace.as_deref()),
        number(job.memory_used_bytes),
        number(job.cpu_used_us),
        text(&job.node.to_string()),
        time(job.created_at_us),
        optional_time(job.started_at_us),
        optional_time(job.finished_at_us),
        number(job.progress.rows),
        number(job.progress.bytes),
        number(job.progress.segments),
        number(job.progress.partitions),
        number(job.progress.partitions_kept_hot),
        number(job.progress.partitions_failed),
    ]
}

fn texts(values: &[String]) -> ScalarValue {
    let mut list = ListBuilder::new(StringViewBuilder::new());
    list.append_value(values.iter().map(Some));
    let list = list.finish();
    debug_assert_eq!(list.len(), 1);
    ScalarValue::List(Arc::new(list))
}
