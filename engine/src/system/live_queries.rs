//! `system.live_queries`.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};

use crate::{
    error::{Error, Result},
    exec::StatementContext,
    live::{self, LiveQueryInfo},
    system::definition::{LIVE_QUERY_COLUMNS, schema_of},
    types::UTC,
};

/// The live queries that concern the caller, by their ids. There can be many: the columns are built as such.
pub(super) fn rows(context: &StatementContext) -> Result<RecordBatch> {
    let queries = context.live.list(live::sees_only(&context.caller));
    let text = |of: fn(&LiveQueryInfo) -> &str| -> ArrayRef {
        Arc::new(queries.iter().map(|query| Some(of(query))).collect::<StringViewArray>())
    };
    let number = |of: fn(&LiveQueryInfo) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(queries.iter().map(|query| i64::try_from(of(query)).unwrap_or(i64::MAX))))
    };
    let ids: StringViewArray = queries.iter().map(|query| Some(query.id.to_string())).collect();
    let created = TimestampMicrosecondArray::from_iter_values(queries.iter().map(|query| query.created_at_us));
    let rates = Float64Array::from_iter_values(queries.iter().map(|query| query.bytes_per_second));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        text(|query| query.user_id.as_str()),
        text(|query| &query.namespace),
        text(|query| &query.table),
        text(|query| &query.query),
        text(|query| &query.options),
        number(|query| u64::from(query.node_id)),
        Arc::new(created.with_timezone(UTC)),
        number(|query| query.changes),
        number(|query| query.bytes_sent),
        Arc::new(rates),
        number(|query| query.position.get()),
        number(|query| query.queued_commits),
        number(|query| query.queued_bytes),
    ];
    RecordBatch::try_new(schema_of(&LIVE_QUERY_COLUMNS), columns).map_err(Error::internal)
}
