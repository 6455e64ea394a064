//! Merging many segments of one table.

use std::time::Duration;

use kalam_link::JobStatus;
use tokio::time::Instant;

use super::{
    ColdServer, NO_COMPACTION,
    flush::note,
    scan::{answer, check, expected_of},
};
use crate::{
    data::Indexes,
    driver::{Contest, Measurement},
    error::{BenchError, Result},
    limits::parquet::rewrite,
    report::{LoadRecord, Record},
    workloads::{Context, scan::aggregate},
};

const DEFAULT_ROWS: u64 = 1_000_000;
const SEGMENTS: u64 = 20;
const ROUNDS: usize = 3;
const TABLE: &str = "compacted";
const LIMIT: &str = "arrow's Parquet reader and writer";

/// COMPACT TABLE of a table of small segments, each time of one made anew: with key ranges one after the other, as those
/// of messages in the order of their time, and with key ranges that all overlap.
pub(in crate::workloads) async fn compaction(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS).max(SEGMENTS);
    let cold = ColdServer::start(context, &NO_COMPACTION).await?;
    for (workload, overlapping) in [("compaction", false), ("compaction, overlapping", true)] {
        let mut found = Contest { subject: Measurement::new(), limits: vec![(LIMIT, Measurement::new())] };
        for round in 1..=ROUNDS {
            eprintln!("{workload}: filling {rows} rows in {SEGMENTS} segments ({round} of {ROUNDS})");
            fill(&cold, rows, overlapping).await?;
            let files = cold.files(TABLE).await?;
            if files.len() as u64 != SEGMENTS {
                return Err(BenchError::Process(format!("there are {} segments, not {SEGMENTS}", files.len())));
            }
            let (limit_took, rewritten) = rewrite(files).await?;
            if rewritten != rows {
                return Err(BenchError::WrongAnswer(format!("the files have {rewritten} rows of {rows}")));
            }
            let took = compact(&cold, rows).await?;
            let sql = aggregate(&cold.qualified(TABLE));
            check("the server", &answer(cold.client(), &sql).await?, &expected_of(0..rows))?;
            let segments = cold.files(TABLE).await?.len();
            if segments as u64 >= SEGMENTS {
                return Err(BenchError::WrongAnswer(format!("there still are {segments} segments")));
            }
            note(&mut found.subject, took);
            for (_, limit) in &mut found.limits {
                note(limit, limit_took);
            }
            eprintln!(
                "{workload}: {rows} rows of {SEGMENTS} segments in {:.2} s, {segments} remain; the limit takes {:.2} s",
                took.as_secs_f64(),
                limit_took.as_secs_f64()
            );
        }
        context.report(Record::Load(Box::new(LoadRecord::new(workload, 1, rows, &found))))?;
    }
    Ok(())
}

async fn fill(cold: &ColdServer, rows: u64, overlapping: bool) -> Result<()> {
    cold.create(TABLE).await?;
    let bound = |segment: u64| rows * segment / SEGMENTS;
    for segment in 0..SEGMENTS {
        let indexes = if overlapping {
            Indexes::stepping(segment, rows, SEGMENTS)
        } else {
            Indexes::from(bound(segment)..bound(segment + 1))
        };
        cold.insert(TABLE, rows, indexes).await?;
        cold.flush(TABLE).await?;
    }
    cold.quiet().await
}

/// Compacts the table, which has so many rows.
async fn compact(cold: &ColdServer, rows: u64) -> Result<Duration> {
    let begin = Instant::now();
    let job = cold.client().admin().compact_table(cold.namespace.as_str(), TABLE).await;
    let took = begin.elapsed();
    let job = job.map_err(BenchError::client("COMPACT TABLE"))?;
    if job.status != JobStatus::Completed {
        return Err(BenchError::Process(format!("COMPACT TABLE: {}", job.result.unwrap_or_default())));
    }
    if job.progress.rows != rows {
        return Err(BenchError::WrongAnswer(format!("{} rows were compacted of {rows}", job.progress.rows)));
    }
    Ok(took)
}
