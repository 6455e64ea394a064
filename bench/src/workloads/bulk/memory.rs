//! What many clients that read all rows at once take of the server's memory.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    BARE,
    flight::Reading,
    read::{Sample, readings},
    table::BulkTable,
};
use crate::{
    driver::Client,
    error::{BenchError, Result},
    limits::flight::FlightServer,
    report::{Record, bulk::FlightMemoryRecord},
    workloads::{Context, idle::resident_bytes},
};

const CLIENTS: usize = 10;
/// From the last call to looking at the memory.
const SETTLE: Duration = Duration::from_secs(3);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

pub(super) async fn flight_memory(context: &mut Context) -> Result<()> {
    let mut table = BulkTable::take(context).await?;
    let sql: Arc<str> = format!("SELECT * FROM {}", table.name()).into();
    let sample = Sample::read(&table.cold.url(), &sql, table.rows).await?;
    // Filling the table has left memory that an idle server does not have.
    eprintln!("flight-memory: starting the server again");
    table.cold.server().restart().await?;
    let clients = context.args.clients(&[CLIENTS]);
    for clients in clients {
        let url = table.cold.url();
        let pid = table.cold.server().pid();
        eprintln!("flight-memory: {clients} clients read {} rows each", table.rows);
        let found = watch(pid, readings(&url, &sql, table.rows, clients).await?).await?;
        let bare = FlightServer::start(&sample.schema, &sample.batches, table.rows).await?;
        let limit = watch(bare.pid(), readings(bare.url(), &sql, table.rows, clients).await?).await?;
        context.report(Record::FlightMemory(FlightMemoryRecord {
            workload: "flight-memory",
            clients,
            rows: table.rows,
            idle_bytes: found.idle_bytes,
            peak_bytes: found.peak_bytes,
            above_idle_bytes: found.above_idle_bytes(),
            rest_bytes: found.rest_bytes,
            took_ms: found.took.as_secs_f64() * 1_000.0,
            rows_per_s: found.rows_per_s(clients, table.rows),
            limit: BARE,
            limit_above_idle_bytes: limit.above_idle_bytes(),
            limit_rows_per_s: limit.rows_per_s(clients, table.rows),
        }))?;
    }
    table.keep(context);
    Ok(())
}

/// Memory of a server while its clients read.
struct Watched {
    idle_bytes: u64,
    peak_bytes: u64,
    /// Some time after the last one.
    rest_bytes: u64,
    took: Duration,
}

impl Watched {
    fn above_idle_bytes(&self) -> u64 {
        self.peak_bytes.saturating_sub(self.idle_bytes)
    }

    fn rows_per_s(&self, clients: usize, rows: u64) -> f64 {
        clients as f64 * rows as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

async fn watch(pid: Option<u32>, readings: Vec<Reading>) -> Result<Watched> {
    sleep(SETTLE).await;
    let idle_bytes = resident_bytes(pid)?;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for mut reading in readings {
        tasks.spawn(async move { reading.call().await });
    }
    let mut peak_bytes = idle_bytes;
    while !tasks.is_empty() {
        tokio::select! {
            Some(done) = tasks.join_next() => {
                let failed = |message: String| BenchError::Call { action: "reading by Flight".to_owned(), message };
                done.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
            }
            () = sleep(SAMPLE_INTERVAL) => peak_bytes = peak_bytes.max(resident_bytes(pid)?),
        }
    }
    let took = begin.elapsed();
    sleep(SETTLE).await;
    Ok(Watched { idle_bytes, peak_bytes, rest_bytes: resident_bytes(pid)?, took })
}
