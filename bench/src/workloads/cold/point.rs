//! Reads of one row by its key among many segments.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{ColdServer, NO_COMPACTION};
use crate::{
    data::{self, Indexes},
    error::{BenchError, Result},
    progress::Progress,
    wire::{Expect, Requests, Traffic, int, statement},
    workloads::{Context, echo_limit, limit},
};

const CLIENTS: [usize; 2] = [1, 16];
const DEFAULT_ROWS: u64 = 100_000;
const SEGMENTS: u64 = 200;
const COLD: &str = "cold";
const HOT: &str = "hot";
const USER: &str = "reader";
const LIMIT_HOT: &str = "the same row hot";

/// `SELECT *` of one row, by a random key that exists. Every segment's key range spans every key, so that only the bloom
/// filters tell where it is.
pub(in crate::workloads) async fn cold_point_read(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS).max(SEGMENTS);
    let cold = ColdServer::start(context, &NO_COMPACTION).await?;
    eprintln!("filling {rows} rows in {SEGMENTS} segments, and as many hot ones");
    cold.create(COLD).await?;
    cold.create(HOT).await?;
    let mut progress = Progress::new("cold-point-read: filling and flushing".to_owned(), "segments", SEGMENTS);
    for segment in 0..SEGMENTS {
        cold.insert(COLD, rows, Indexes::stepping(segment, rows, SEGMENTS)).await?;
        cold.flush(COLD).await?;
        progress.add(1);
    }
    cold.insert(HOT, rows, 0..rows).await?;
    cold.quiet().await?;
    let segments = cold.files(COLD).await?.len();
    if segments as u64 != SEGMENTS {
        return Err(BenchError::Process(format!("there are {segments} segments, not {SEGMENTS}")));
    }

    let last_id = data::id(rows - 1);
    let reads = |table: &str| {
        let sql = format!("SELECT * FROM {} WHERE id = $1", cold.qualified(table));
        move |client: usize| -> Requests {
            let (sql, mut random) = (sql.clone(), StdRng::seed_from_u64(client as u64));
            Box::new(move || statement(sql.clone(), vec![int(random.random_range(1..=last_id))]))
        }
    };
    let (cold_reads, hot_reads) = (reads(COLD), reads(HOT));
    for clients in context.args.clients(&CLIENTS) {
        let traffic = Traffic {
            clients,
            connections: context.args.connections(),
            user: &|_| USER.to_owned(),
            requests: &cold_reads,
            expect: Expect::Rows(1),
        };
        let hot = Traffic { requests: &hot_reads, ..traffic };
        let response = traffic.sample(&cold.url()).await?;
        let (_echo, echo) = echo_limit(&traffic, &response).await?;
        let limits = vec![echo, limit(LIMIT_HOT, hot.connect(&cold.url()).await?)];
        context.measure("cold-point-read", 1, &cold.url(), &traffic, limits).await?;
    }
    Ok(())
}
