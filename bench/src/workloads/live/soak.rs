//! Writers, subscribers and queries at a steady rate for a long time: what it does to the server's memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future;
use tokio::time::{Instant, interval, sleep};

use super::{
    start_server,
    traffic::{Mode, Pace, Plan, Side, WRITERS},
};
use crate::{
    data,
    driver::{Contestant, Measurement, Window},
    error::{BenchError, Result},
    report::{Record, live::LiveSoakRecord},
    wire::{Expect, Requests, Traffic, statement},
    workloads::{Context, idle::resident_bytes},
};

const SUBSCRIPTIONS: [usize; 1] = [20];
/// Clients that query meanwhile.
const READERS: usize = 4;
/// Rows of another user that are written before: a store whose buffers and caches have never been full only grows.
const FILL_ROWS: u64 = 500_000;
const OTHER_USER: &str = "other";
/// Before memory is looked at for the first time.
const WARM_UP: Duration = Duration::from_secs(10);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
/// How long the memory may take to be what it was.
const REST: Duration = Duration::from_secs(60);
/// What counts as the same.
const SAME: f64 = 1.05;
const USER: &str = "soak";

pub(super) async fn live_soak(context: &mut Context) -> Result<()> {
    for subscriptions in context.args.live.subscriptions(&SUBSCRIPTIONS) {
        soak(context, subscriptions).await?;
    }
    Ok(())
}

async fn soak(context: &mut Context, subscriptions: usize) -> Result<()> {
    let namespace = context.args.namespace.clone();
    let server = start_server(context, &[]).await?;
    data::fill(server.client(), &namespace, OTHER_USER, FILL_ROWS).await?;
    let plan = Plan { mode: Mode::SameUser, subscriptions, namespace: namespace.clone(), prefix: USER.to_owned() };
    let rate = context.args.live.commits_per_s(plan.subscribers());
    let mut side = Side::open(server.url(), &Arc::new(plan), context.args.connections()).await?;
    let sql = format!("SELECT conversation_id, role, content FROM {namespace}.messages ORDER BY id DESC LIMIT 50");
    let requests = |_: usize| -> Requests {
        let sql = sql.clone();
        Box::new(move || statement(sql.clone(), Vec::new()))
    };
    let traffic = Traffic {
        clients: READERS,
        connections: READERS,
        user: &|_| USER.to_owned(),
        requests: &requests,
        expect: Expect::Rows(50),
    };
    let mut readers = traffic.connect(server.url()).await?;
    side.run(Window { warmup: Duration::ZERO, measure: WARM_UP }, Pace::Rate(rate)).await?;

    let window = Window { warmup: Duration::ZERO, measure: context.args.window().measure };
    eprintln!(
        "live-soak: {rate:.0} commits/s of {WRITERS} writers to {subscriptions} subscribers, {READERS} readers, for {:.0} s",
        window.measure.as_secs_f64()
    );
    let before = resident_bytes(server.pid())?;
    let memory = Memory::default();
    // The readers follow each other without a pause, but leave most of the machine to the rest.
    let queries = async {
        let (begin, mut found, mut turns) = (Instant::now(), Measurement::new(), interval(Duration::from_secs(1)));
        while begin.elapsed() < window.measure {
            turns.tick().await;
            found.merge(readers.slice(Window { warmup: Duration::ZERO, measure: Duration::from_millis(100) }).await);
        }
        found
    };
    let load = async {
        let load = future::join(side.run(window, Pace::Rate(rate)), queries).await;
        memory.done.store(true, Ordering::Relaxed);
        load
    };
    let ((slice, queries), sampled) = future::join(load, memory.sample(server.pid())).await;
    let (slice, after) = (slice?, sampled?);
    if let Some(error) = queries.first_error() {
        return Err(BenchError::WrongAnswer(format!("a query beside the changes: {error}")));
    }
    let begin = Instant::now();
    let mut rested = after;
    while rested as f64 > before as f64 * SAME && begin.elapsed() < REST {
        sleep(SAMPLE_INTERVAL).await;
        rested = resident_bytes(server.pid())?;
    }
    let rest = begin.elapsed();
    side.close().await;
    let of_before = |bytes: u64| bytes as f64 / before as f64;
    context.report(Record::LiveSoak(LiveSoakRecord {
        workload: "live-soak",
        seconds: window.measure.as_secs_f64(),
        writers: WRITERS,
        subscriptions,
        commits: slice.inserts.operations(),
        changes: slice.deliveries.operations(),
        delivery_p99_ms: slice.deliveries.latency_us(0.99) / 1_000.0,
        queries: queries.operations(),
        query_p95_ms: queries.latency_us(0.95) / 1_000.0,
        resident_before_bytes: before,
        resident_most_bytes: memory.most.load(Ordering::Relaxed),
        growth: of_before(memory.most.load(Ordering::Relaxed)) - 1.0,
        resident_rested_bytes: rested,
        rested_growth: of_before(rested) - 1.0,
        rest_s: rest.as_secs_f64(),
    }))
}

/// The most memory that was seen.
#[derive(Default)]
struct Memory {
    most: AtomicU64,
    done: AtomicBool,
}

impl Memory {
    /// Looks at the memory until the load is done; answers what it was then.
    async fn sample(&self, pid: Option<u32>) -> Result<u64> {
        loop {
            let bytes = resident_bytes(pid)?;
            self.most.fetch_max(bytes, Ordering::Relaxed);
            if self.done.load(Ordering::Relaxed) {
                return Ok(bytes);
            }
            sleep(SAMPLE_INTERVAL).await;
        }
    }
}
