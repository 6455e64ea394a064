//! What a flush does to the calls beside it.

use std::time::Duration;

use futures::future;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::ColdServer;
use crate::{
    data,
    driver::{Contest, Contestant, Measurement, Window},
    error::{BenchError, Result},
    report::{LoadRecord, Record},
    wire::{Expect, Requests, Traffic, int, statement, text},
    workloads::Context,
};

const CLIENTS: [usize; 1] = [8];
const DEFAULT_ROWS: u64 = 1_000_000;
const ROUNDS: u64 = 3;
/// Rows of the table that is read and written meanwhile.
const OTHER_ROWS: u64 = 10_000;
const OTHER: &str = "other";
const FLUSHED: &str = "flushed";
/// The calls are measured in slices of this length, as many as a flush takes.
const SLICE: Duration = Duration::from_millis(200);
const LIMIT: &str = "without a flush";
const ROLE: &str = "user";

/// Point reads and INSERTs on one table while another one is flushed, and while nothing is.
pub(in crate::workloads) async fn flush_interference(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let cold = ColdServer::start(context, &[]).await?;
    cold.create(OTHER).await?;
    cold.insert(OTHER, OTHER_ROWS, 0..OTHER_ROWS).await?;
    let read_sql = format!("SELECT * FROM {} WHERE id = $1", cold.qualified(OTHER));
    let insert_sql =
        format!("INSERT INTO {} (conversation_id, role, content) VALUES ($1, $2, $3)", cold.qualified(OTHER));
    let last_id = data::id(OTHER_ROWS - 1);
    let reads = |client: usize| -> Requests {
        let (sql, mut random) = (read_sql.clone(), StdRng::seed_from_u64(client as u64));
        Box::new(move || statement(sql.clone(), vec![int(random.random_range(1..=last_id))]))
    };
    let inserts = |client: usize| -> Requests {
        let (sql, mut number) = (insert_sql.clone(), (client as u64) << 40);
        Box::new(move || {
            number += 1;
            let conversation = data::conversation(number % data::CONVERSATION_ROWS);
            statement(sql.clone(), vec![text(conversation), text(ROLE), text(data::content(number))])
        })
    };
    let clients = context.args.clients(&CLIENTS).first().copied().unwrap_or(CLIENTS[0]);
    let reading = Traffic {
        clients,
        connections: context.args.connections(),
        user: &|client| format!("reader-{client}"),
        requests: &reads,
        expect: Expect::Rows(1),
    };
    let writing = Traffic {
        user: &|client| format!("writer-{client}"),
        requests: &inserts,
        expect: Expect::Affected(1),
        ..reading
    };
    let mut beside =
        Beside { reads: reading.connect(&cold.url()).await?, inserts: writing.connect(&cold.url()).await? };

    let (mut during, mut without) = (Pair::new(), Pair::new());
    let whole = context.args.window();
    for round in 1..=ROUNDS {
        cold.create(FLUSHED).await?;
        eprintln!("filling {rows} rows ({round} of {ROUNDS})");
        cold.insert(FLUSHED, rows, 0..rows).await?;
        cold.quiet().await?;
        let window = Window { warmup: whole.warmup / 3, measure: whole.measure / 3 };
        without.merge(beside.slice(window).await);

        let flushing = cold.flush(FLUSHED);
        tokio::pin!(flushing);
        let measuring = async {
            loop {
                during.merge(beside.slice(Window { warmup: Duration::ZERO, measure: SLICE }).await);
            }
        };
        // A slice that the end of the flush falls into is not counted.
        let flushed = tokio::select! {
            flushed = &mut flushing => flushed?,
            () = measuring => return Err(BenchError::Process("the calls ended before the flush".to_owned())),
        };
        eprintln!("flush-interference: {} rows flushed in {:.2} s", flushed.rows, flushed.took_ms / 1_000.0);
        // The clients of a slice that was given up are gone with it.
        beside = Beside { reads: reading.connect(&cold.url()).await?, inserts: writing.connect(&cold.url()).await? };
        cold.quiet().await?;
    }
    for (name, during, without) in [
        ("flush-interference, reads", during.reads, without.reads),
        ("flush-interference, inserts", during.inserts, without.inserts),
    ] {
        let found = Contest { subject: during, limits: vec![(LIMIT, without)] };
        context.report(Record::Load(Box::new(LoadRecord::new(name, clients, 1, &found))))?;
    }
    Ok(())
}

/// Reads and INSERTs at the same time.
struct Beside<R, I> {
    reads: R,
    inserts: I,
}

struct Pair {
    reads: Measurement,
    inserts: Measurement,
}

impl<R: Contestant, I: Contestant> Beside<R, I> {
    async fn slice(&mut self, window: Window) -> Pair {
        let (reads, inserts) = future::join(self.reads.slice(window), self.inserts.slice(window)).await;
        Pair { reads, inserts }
    }
}

impl Pair {
    fn new() -> Self {
        Self { reads: Measurement::new(), inserts: Measurement::new() }
    }

    fn merge(&mut self, other: Self) {
        self.reads.merge(other.reads);
        self.inserts.merge(other.inserts);
    }
}
