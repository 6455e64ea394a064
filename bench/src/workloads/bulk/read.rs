//! Reading all rows of a table by Arrow Flight SQL.

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch},
    compute::sum,
    datatypes::{Int64Type, SchemaRef},
};
use futures::TryStreamExt;

use super::{
    BARE,
    flight::{FlightClient, Reading},
    table::BulkTable,
};
use crate::{
    driver::Pool,
    error::{BenchError, Result},
    limits::flight::FlightServer,
    workloads::{Context, limit},
};

const CLIENTS: [usize; 1] = [1];
pub(super) const READER: &str = "reader";
/// Batches that the bare server holds; it streams them again and again.
const SAMPLE_BYTES: usize = 256 << 20;

pub(super) async fn flight_read(context: &mut Context) -> Result<()> {
    let table = BulkTable::take(context).await?;
    let (url, sql): (String, Arc<str>) = (table.cold.url(), format!("SELECT * FROM {}", table.name()).into());
    let sample = Sample::read(&url, &sql, table.rows).await?;
    let bare = FlightServer::start(&sample.schema, &sample.batches, table.rows).await?;
    eprintln!(
        "flight-read: {} rows, {:.1} MB as Arrow; the bare server streams {} batches of the same",
        table.rows,
        sample.bytes as f64 / 1e6,
        sample.batches.len()
    );
    drop(sample);
    for clients in context.args.clients(&CLIENTS) {
        let mut subject = Pool::new(readings(&url, &sql, table.rows, clients).await?);
        let mut limits = [limit(BARE, Pool::new(readings(bare.url(), &sql, table.rows, clients).await?))];
        context.compete("flight-read", clients, table.rows, &mut subject, &mut limits).await?;
    }
    table.keep(context);
    Ok(())
}

/// Clients that read the same, each with a connection of its own.
pub(super) async fn readings(url: &str, sql: &Arc<str>, rows: u64, clients: usize) -> Result<Vec<Reading>> {
    let mut readings = Vec::with_capacity(clients);
    for _ in 0..clients {
        readings.push(Reading { client: FlightClient::connect(url, READER).await?, sql: Arc::clone(sql), rows });
    }
    Ok(readings)
}

/// What the server streams.
pub(super) struct Sample {
    pub(super) schema: SchemaRef,
    /// As many of the first batches as the bare server shall hold.
    pub(super) batches: Vec<RecordBatch>,
    /// Of all batches.
    bytes: usize,
}

impl Sample {
    /// Reads all rows once, and checks that each message of the table is there once.
    pub(super) async fn read(url: &str, sql: &str, rows: u64) -> Result<Self> {
        let failed = |message: String| BenchError::Call { action: format!("reading {sql} by Flight"), message };
        let mut client = FlightClient::connect(url, READER).await?;
        let mut stream = client.read(sql).await.map_err(failed)?;
        let (mut schema, mut batches, mut bytes) = (None, Vec::new(), 0);
        let (mut found, mut ids) = (0, 0);
        while let Some(batch) = stream.try_next().await.map_err(|error| failed(error.to_string()))? {
            let column = batch.column_by_name("id").and_then(|column| column.as_primitive_opt::<Int64Type>());
            let column = column.ok_or_else(|| failed("there is no column id of BIGINT".to_owned()))?;
            ids += i128::from(sum(column).unwrap_or_default());
            found += batch.num_rows() as u64;
            schema.get_or_insert_with(|| batch.schema());
            if bytes < SAMPLE_BYTES {
                batches.push(batch.clone());
            }
            bytes += batch.get_array_memory_size();
        }
        let expected = i128::from(rows) * (i128::from(rows) + 1) / 2;
        if (found, ids) != (rows, expected) {
            return Err(BenchError::WrongAnswer(format!(
                "{found} rows whose ids add up to {ids} were read, where {rows} with {expected} are stored"
            )));
        }
        let schema = schema.ok_or_else(|| failed("there are no rows".to_owned()))?;
        Ok(Self { schema, batches, bytes })
    }
}
