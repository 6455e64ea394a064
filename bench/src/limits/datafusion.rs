//! DataFusion alone: the same query over the same rows, held as Arrow batches in this process's memory, or in the very
//! Parquet files that the server reads, or some here and some there.
//!
//! The statement is parsed and optimised once; each operation makes a physical plan and runs it.

use std::{ops::Range, path::PathBuf, sync::Arc};

use arrow::{
    array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray},
    error::ArrowError,
};
use datafusion::{
    dataframe::DataFrame,
    datasource::MemTable,
    error::DataFusionError,
    execution::SessionState,
    logical_expr::LogicalPlan,
    physical_plan::collect,
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};

use crate::{
    data::Message,
    driver::{Client, Reply},
    error::Result,
};

const BATCH_ROWS: u64 = 8_192;

/// Runs one query again and again.
#[derive(Clone)]
pub(crate) struct DataFusionClient {
    state: SessionState,
    plan: Arc<LogicalPlan>,
    expected_rows: u64,
}

/// The name of the table with the rows in memory.
pub(crate) const IN_MEMORY: &str = "messages";
/// The name of the table with the rows of files.
pub(crate) const IN_FILES: &str = "segments";

impl DataFusionClient {
    /// Makes the table [`IN_MEMORY`] of `rows` generated messages, and plans `sql` on it.
    pub(crate) async fn new(rows: u64, sql: &str, expected_rows: u64) -> Result<Self> {
        Self::with(Some((0..rows, rows)), &[], sql, expected_rows).await
    }

    /// Makes the table [`IN_FILES`] of Parquet files, and plans `sql` on it.
    pub(crate) async fn on_files(files: &[PathBuf], sql: &str, expected_rows: u64) -> Result<Self> {
        Self::with(None, files, sql, expected_rows).await
    }

    /// Makes both tables, that in memory of the messages in a range of so many, and plans `sql` on them.
    pub(crate) async fn with(
        in_memory: Option<(Range<u64>, u64)>,
        files: &[PathBuf],
        sql: &str,
        expected_rows: u64,
    ) -> Result<Self> {
        let context = SessionContext::new();
        if let Some((indexes, rows)) = in_memory {
            context.register_table(IN_MEMORY, Arc::new(memory_table(&context, indexes, rows)?))?;
        }
        if !files.is_empty() {
            context.register_table(IN_FILES, read_files(&context, files).await?.into_view())?;
        }
        let plan = context.sql(sql).await?.into_optimized_plan()?;
        Ok(Self { state: context.state(), plan: Arc::new(plan), expected_rows })
    }

    /// Runs the query once.
    pub(crate) async fn run(&self) -> Result<Vec<RecordBatch>, DataFusionError> {
        let plan = self.state.query_planner().create_physical_plan(&self.plan, &self.state).await?;
        collect(plan, self.state.task_ctx()).await
    }
}

impl Client for DataFusionClient {
    async fn call(&mut self) -> Result<Reply, String> {
        let batches = self.run().await.map_err(|error| error.to_string())?;
        let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if found as u64 == self.expected_rows {
            Ok(Reply::default())
        } else {
            Err(format!("{found} rows where {} are right", self.expected_rows))
        }
    }
}

/// All rows of Parquet files, in their order.
pub(crate) async fn read_all(files: &[PathBuf]) -> Result<Vec<RecordBatch>> {
    // One partition, so that the order stays.
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    Ok(read_files(&context, files).await?.collect().await?)
}

async fn read_files(context: &SessionContext, files: &[PathBuf]) -> Result<DataFrame> {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    Ok(context.read_parquet(names, ParquetReadOptions::default()).await?)
}

fn memory_table(context: &SessionContext, indexes: Range<u64>, rows: u64) -> Result<MemTable> {
    let batches = indexes
        .clone()
        .step_by(BATCH_ROWS as usize)
        .map(|from| batch(from, indexes.end.min(from + BATCH_ROWS), rows))
        .collect::<Result<Vec<_>, ArrowError>>()
        .map_err(DataFusionError::from)?;
    let schema = batches.first().map_or_else(|| Arc::new(arrow::datatypes::Schema::empty()), RecordBatch::schema);
    // As many partitions as DataFusion uses threads, as evenly filled as whole batches allow.
    let threads = context.state().config().target_partitions().max(1);
    let mut partitions = vec![Vec::new(); threads];
    for (index, batch) in batches.into_iter().enumerate() {
        if let Some(partition) = partitions.get_mut(index % threads) {
            partition.push(batch);
        }
    }
    Ok(MemTable::try_new(schema, partitions)?)
}

/// Messages `from..to` of a partition of `rows`, with the types that the server gives them.
fn batch(from: u64, to: u64, rows: u64) -> Result<RecordBatch, ArrowError> {
    let messages: Vec<Message> = (from..to).map(|index| Message::new(index, rows)).collect();
    batch_of(&messages)
}

/// Messages as Arrow columns.
pub(crate) fn batch_of(messages: &[Message]) -> Result<RecordBatch, ArrowError> {
    let columns: [(&str, ArrayRef); 6] = [
        ("id", Arc::new(Int64Array::from_iter_values(messages.iter().map(|m| m.id)))),
        ("conversation_id", texts(messages, |m| &m.conversation_id)),
        ("role", texts(messages, |m| m.role)),
        ("content", texts(messages, |m| &m.content)),
        ("created_at", Arc::new(TimestampMicrosecondArray::from_iter_values(messages.iter().map(|m| m.created_at_us)))),
        ("files_changed", Arc::new(Int32Array::from_iter_values(messages.iter().map(|m| m.files_changed)))),
    ];
    RecordBatch::try_from_iter(columns)
}

fn texts(messages: &[Message], text: impl Fn(&Message) -> &str) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(messages.iter().map(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_query_runs_over_all_generated_rows() {
        let sql = "SELECT COUNT(*) AS n, COUNT(DISTINCT role) AS roles FROM messages";
        let client = DataFusionClient::new(20_000, sql, 1).await.unwrap();
        let batches = client.run().await.unwrap();
        let column = |index: usize| batches[0].column(index).as_any().downcast_ref::<Int64Array>().unwrap().value(0);
        assert_eq!((column(0), column(1)), (20_000, crate::data::ROLE_COUNT as i64));
    }
}
