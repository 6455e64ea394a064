//! EXPORT of a table to one Parquet file.

use tokio::time::Instant;

use super::table::BulkTable;
use crate::{
    driver::{Contest, Measurement},
    error::{BenchError, Result},
    limits::parquet::{ParquetWriter, file_rows},
    report::{LoadRecord, Record},
    workloads::{Context, cold::flush::note},
};

const ROUNDS: usize = 3;
const LIMIT: &str = "arrow's Parquet writer";

pub(super) async fn export(context: &mut Context) -> Result<()> {
    let table = BulkTable::take(context).await?;
    eprintln!("export: reading the rows for {LIMIT}");
    let writer = ParquetWriter::of_files(&table.files().await?).await?;
    if writer.rows() != table.rows {
        return Err(BenchError::WrongAnswer(format!("the files have {} rows of {}", writer.rows(), table.rows)));
    }
    let mut found = Contest { subject: Measurement::new(), limits: vec![(LIMIT, Measurement::new())] };
    for round in 1..=ROUNDS {
        let file = table.path(&format!("export-{round}.parquet"))?;
        let sql = format!("EXPORT FROM {} TO '{}' FORMAT parquet", table.name(), file.display());
        let begin = Instant::now();
        table.cold.client().execute(sql.clone(), ()).await.map_err(BenchError::client(sql))?;
        let took = begin.elapsed();
        let rows = file_rows(&file)?;
        if rows != table.rows {
            return Err(BenchError::WrongAnswer(format!("{} has {rows} rows of {}", file.display(), table.rows)));
        }
        let bytes = std::fs::metadata(&file).map_err(BenchError::io("the exported file"))?.len();
        std::fs::remove_file(&file).map_err(BenchError::io("removing the exported file"))?;
        note(&mut found.subject, took);
        for (_, limit) in &mut found.limits {
            note(limit, writer.write().await?);
        }
        eprintln!(
            "export, {round} of {ROUNDS}: {rows} rows in {:.2} s, {:.1} MB",
            took.as_secs_f64(),
            bytes as f64 / 1e6
        );
    }
    context.report(Record::Load(Box::new(LoadRecord::new("export", 1, table.rows, &found))))?;
    table.keep(context);
    Ok(())
}
