//! Ending a server that has much to flush.

use kalam_link::Client;

use super::{ColdServer, number};
use crate::{
    error::{BenchError, Result},
    report::{Record, ShutdownRecord},
    workloads::Context,
};

const TABLES: u64 = 10;
const DEFAULT_ROWS: u64 = 100_000;
const LIMIT: &str = "an empty server";

/// SIGTERM to a server with hot rows in several tables; after a restart all of them must be there.
pub(in crate::workloads) async fn shutdown(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let mut empty = ColdServer::start(context, &[]).await?;
    let limit_took_ms = end(&mut empty).await?;
    drop(empty);

    let mut cold = ColdServer::start(context, &[]).await?;
    let tables: Vec<String> = (0..TABLES).map(|number| format!("buffered_{number}")).collect();
    eprintln!("filling {TABLES} tables of {rows} rows");
    for table in &tables {
        cold.create(table).await?;
        cold.insert(table, rows, 0..rows).await?;
    }
    eprintln!("shutdown: ending the server");
    let took_ms = end(&mut cold).await?;

    eprintln!("shutdown: ended after {took_ms:.0} ms; starting it again and counting the rows");
    let process = cold.server().process()?;
    process.restart().await?;
    let url = process.endpoint();
    let client = Client::connect(url).await.map_err(BenchError::client("connecting after the restart"))?;
    let segments = "SELECT CAST(COALESCE(SUM(rows - deleted_rows), 0) AS BIGINT) FROM system.segments";
    let flushed_rows = number(&client, segments).await?;
    for table in &tables {
        let sql = format!("SELECT count(*) FROM {}", cold.qualified(table));
        let found = number(&client, &sql).await?;
        if found != rows as i64 {
            return Err(BenchError::WrongAnswer(format!("{table} has {found} rows after the restart, not {rows}")));
        }
    }
    context.report(Record::Shutdown(ShutdownRecord {
        workload: "shutdown",
        tables: TABLES,
        rows,
        flushed_rows: flushed_rows.unsigned_abs(),
        took_ms,
        limit: LIMIT,
        limit_took_ms,
    }))
}

/// From SIGTERM to the end of the process, in milliseconds.
async fn end(cold: &mut ColdServer) -> Result<f64> {
    let exit = cold.server().process()?.terminate().await?;
    if exit.status.success() {
        Ok(exit.took.as_secs_f64() * 1_000.0)
    } else {
        Err(BenchError::Process(format!("the server ended with {}", exit.status)))
    }
}
