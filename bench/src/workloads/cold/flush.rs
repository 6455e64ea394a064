//! Flushing many rows at once.

use super::ColdServer;
use crate::{
    driver::{Contest, Measurement, Reply},
    error::{BenchError, Result},
    limits::parquet::ParquetWriter,
    report::{LoadRecord, Record},
    workloads::Context,
};

const DEFAULT_ROWS: u64 = 1_000_000;
const ROUNDS: usize = 3;
const TABLE: &str = "flushed";
const LIMIT: &str = "arrow's Parquet writer";

/// FLUSH TABLE of a table with only hot rows, each time of one made anew.
pub(in crate::workloads) async fn flush(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let cold = ColdServer::start(context, &[]).await?;
    let mut found = Contest { subject: Measurement::new(), limits: vec![(LIMIT, Measurement::new())] };
    for round in 1..=ROUNDS {
        cold.create(TABLE).await?;
        eprintln!("filling {rows} rows ({round} of {ROUNDS})");
        cold.insert(TABLE, rows, 0..rows).await?;
        let flushed = cold.flush(TABLE).await?;
        if flushed.rows != rows {
            return Err(BenchError::WrongAnswer(format!("{} rows were flushed of {rows}", flushed.rows)));
        }
        let took = std::time::Duration::from_secs_f64(flushed.took_ms / 1_000.0);
        note(&mut found.subject, took);
        cold.quiet().await?;

        let writer = ParquetWriter::of_files(&cold.files(TABLE).await?).await?;
        if writer.rows() != rows {
            return Err(BenchError::WrongAnswer(format!("the files have {} rows of {rows}", writer.rows())));
        }
        for (_, limit) in &mut found.limits {
            note(limit, writer.write().await?);
        }
        eprintln!(
            "flush: {rows} rows in {:.2} s, {} files of {:.1} MB together",
            took.as_secs_f64(),
            flushed.segments,
            flushed.bytes as f64 / 1e6
        );
    }
    context.report(Record::Load(Box::new(LoadRecord::new("flush", 1, rows, &found))))
}

/// Records one operation that took so long.
pub(in crate::workloads) fn note(measurement: &mut Measurement, took: std::time::Duration) {
    measurement.record(took, Reply::default());
    measurement.finish_slice(1.0 / took.as_secs_f64());
}
