//! What idle subscriptions cost: memory, and the time to begin, list, kill and forget them.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use kalam_link::Client;
use kalamdb_proto::v1::{ExecuteResponse, query_service_client::QueryServiceClient, subscribe_response::Event};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::transport::Channel;

use super::{
    STREAMS, start_server,
    streams::{AT_ONCE, Call, Reader, Recording, Streams, only_changes},
    subscribe_filtered_sql, wait_for_live_queries,
    writers::Idle,
};
use crate::{
    data,
    driver::{self, Contest, Contestant, Pool, Reply, contest},
    error::{BenchError, Result, status_text},
    limits::{
        broadcast::{BroadcastServer, Script},
        echo::EchoServer,
    },
    report::{LoadRecord, Record, live::LiveMemoryRecord, quotient},
    servers::Server,
    wire::{self, Expect, statement, text},
    workloads::{Context, ECHO, idle::resident_bytes, limit},
};

const SUBSCRIPTIONS: [usize; 3] = [1_000, 10_000, 50_000];
const CALL_QUERIES: [usize; 2] = [1, 100];
/// More are not listed at once: the answer grows with them.
const MAX_LISTED: usize = 10_000;
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Calls of which a live query is killed.
const KILLS: usize = 10;
/// From the last subscription to looking at the memory.
const SETTLE: Duration = Duration::from_secs(3);
const KILL_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn live_memory(context: &mut Context) -> Result<()> {
    for subscriptions in context.args.live.subscriptions(&SUBSCRIPTIONS) {
        for call_queries in CALL_QUERIES {
            measure(context, Shape { subscriptions, call_queries }).await?;
        }
    }
    Ok(())
}

/// How subscriptions are spread over calls.
#[derive(Clone, Copy)]
struct Shape {
    subscriptions: usize,
    call_queries: usize,
}

impl Shape {
    fn calls(self) -> usize {
        self.subscriptions.div_ceil(self.call_queries)
    }

    /// Each call is another user's, each query another filter.
    fn call(self, namespace: &str, call: usize) -> Call {
        let sql = subscribe_filtered_sql(namespace);
        let queries = self.call_queries.min(self.subscriptions - call * self.call_queries) as u64;
        let query = |query| only_changes(&sql, vec![text(data::conversation(query))]);
        Call { user: format!("user-{call}"), queries: (0..queries).map(query).collect() }
    }
}

/// Subscribes on a new server, whose memory nothing else has grown.
async fn measure(context: &mut Context, shape: Shape) -> Result<()> {
    let namespace = context.args.namespace.clone();
    let server = start_server(context, &[]).await?;
    let script = warm_up(&server, shape, &namespace).await?;
    let bare = measure_limit(&script, shape, &namespace).await?;

    let before = resident(server.pid()).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let begin = Instant::now();
    let streams = Streams::open(server.url(), shape.calls(), AT_ONCE, |call| {
        let tell = (call < KILLS).then(|| tell.clone());
        (shape.call(&namespace, call), Watched { tell, alone: shape.call_queries == 1 })
    });
    let streams = streams.await?;
    let subscribed = begin.elapsed();
    let after = resident(server.pid()).await?;
    if shape.subscriptions <= MAX_LISTED {
        list(context, server.url(), shape).await?;
    }
    let kills = kill(server.client(), &mut told, shape.calls().min(KILLS)).await?;
    wait_for_live_queries(server.client(), (shape.subscriptions - kills.len()) as i64).await?;
    streams.check()?;

    let begin = Instant::now();
    streams.close().await;
    wait_for_live_queries(server.client(), 0).await?;
    let clean_up_ms = milliseconds(begin.elapsed());

    let each = |bytes: u64| bytes as f64 / shape.subscriptions as f64;
    let per_s = |took: Duration| shape.subscriptions as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE);
    let bytes_per_subscription = each(after.saturating_sub(before));
    let (limit_bytes_per_subscription, limit_per_s) = (each(bare.bytes), per_s(bare.subscribed));
    context.report(Record::LiveMemory(LiveMemoryRecord {
        workload: "live-memory",
        subscriptions: shape.subscriptions,
        queries_per_call: shape.call_queries,
        resident_before_bytes: before,
        resident_bytes: after,
        bytes_per_subscription,
        subscribe_ms: milliseconds(subscribed),
        subscriptions_per_s: per_s(subscribed),
        kill_p50_ms: kills.get(kills.len() / 2).copied().map(milliseconds).unwrap_or_default(),
        kill_max_ms: kills.last().copied().map(milliseconds).unwrap_or_default(),
        clean_up_ms,
        limit: STREAMS,
        limit_bytes_per_subscription,
        limit_subscriptions_per_s: limit_per_s,
        bytes_ratio: quotient(bytes_per_subscription, limit_bytes_per_subscription),
        subscribe_ratio: quotient(per_s(subscribed), limit_per_s),
    }))
}

/// Makes the server do once what it is about to do often, and records what it says to a call.
async fn warm_up(server: &Server, shape: Shape, namespace: &str) -> Result<Script> {
    let call = Call { user: "warm-up".to_owned(), ..shape.call(namespace, 0) };
    let queries = call.queries.len();
    let mut recording = Recording::start(server.url(), call).await?;
    let beginning = recording.until_ready(queries).await?;
    drop(recording);
    wait_for_live_queries(server.client(), 0).await?;
    Ok(Script { beginning, ..Script::default() })
}

struct Bare {
    /// What all streams take.
    bytes: u64,
    subscribed: Duration,
}

async fn measure_limit(script: &Script, shape: Shape, namespace: &str) -> Result<Bare> {
    let server = BroadcastServer::start(script).await?;
    // The first connection costs what no stream should be charged with.
    Streams::open(server.url(), 1, 1, |call| (shape.call(namespace, call), Idle)).await?.close().await;
    let before = resident(server.pid()).await?;
    let begin = Instant::now();
    let calls = Streams::open(server.url(), shape.calls(), AT_ONCE, |call| (shape.call(namespace, call), Idle));
    let streams = calls.await?;
    let subscribed = begin.elapsed();
    let after = resident(server.pid()).await?;
    streams.check()?;
    streams.close().await;
    Ok(Bare { bytes: after.saturating_sub(before), subscribed })
}

async fn resident(pid: Option<u32>) -> Result<u64> {
    sleep(SETTLE).await;
    resident_bytes(pid)
}

/// What a watched call tells of its first query.
enum Told {
    Started(String),
    Ended { reason: String, at: Instant },
}

/// Reads an idle call, and tells of its first query.
struct Watched {
    tell: Option<mpsc::UnboundedSender<Told>>,
    /// Whether the first query is the only one, and the call ends with it.
    alone: bool,
}

impl Reader for Watched {
    fn event(&mut self, query: usize, event: Event) -> Result<ControlFlow<()>, String> {
        let Some(tell) = self.tell.as_ref().filter(|_| query == 0) else { return Idle.event(query, event) };
        match event {
            // Whoever should be told is gone at the end.
            Event::Started(started) => drop(tell.send(Told::Started(started.live_id))),
            Event::Ended(ended) => {
                drop(tell.send(Told::Ended { reason: ended.reason, at: Instant::now() }));
                if self.alone {
                    return Ok(ControlFlow::Break(()));
                }
            }
            other => return Idle.event(query, other),
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Kills the first live query of each watched call, and says how long each took, in order of time.
async fn kill(client: &Client, told: &mut mpsc::UnboundedReceiver<Told>, calls: usize) -> Result<Vec<Duration>> {
    let mut next = async || match timeout(KILL_LIMIT, told.recv()).await {
        Ok(Some(told)) => Ok(told),
        _ => Err(BenchError::WrongAnswer(format!("a killed live query goes on for {} s", KILL_LIMIT.as_secs()))),
    };
    let mut ids = Vec::new();
    while ids.len() < calls {
        match next().await? {
            Told::Started(id) => ids.push(id),
            Told::Ended { reason, .. } => return Err(not_killed(&reason)),
        }
    }
    let mut kills = Vec::new();
    for id in ids {
        let begin = Instant::now();
        let sql = format!("KILL LIVE QUERY {id}");
        client.execute(sql.clone(), ()).await.map_err(BenchError::client(sql))?;
        match next().await? {
            Told::Ended { reason, at } if reason.ends_with("LIVE_QUERY_KILLED") => {
                kills.push(at.saturating_duration_since(begin));
            }
            Told::Ended { reason, .. } => return Err(not_killed(&reason)),
            Told::Started(id) => return Err(BenchError::WrongAnswer(format!("live query {id} started twice"))),
        }
    }
    kills.sort_unstable();
    Ok(kills)
}

fn not_killed(reason: &str) -> BenchError {
    BenchError::WrongAnswer(format!("a live query ended with {reason}, not LIVE_QUERY_KILLED"))
}

/// `SELECT * FROM system.live_queries`, beside the echo of its answer.
async fn list(context: &mut Context, url: &str, shape: Shape) -> Result<()> {
    let rows = shape.subscriptions as u64;
    let mut subject = Listing::connect(url, rows).await?;
    let answer = subject.answer().await.map_err(BenchError::WrongAnswer)?;
    let echo = EchoServer::start(&answer).await?;
    let mut limits = vec![limit(ECHO, Pool::new(vec![Listing::connect(echo.url(), rows).await?]))];
    let mut subject = Pool::new(vec![subject]);
    let found: Contest = contest(&mut subject as &mut dyn Contestant, &mut limits, context.args.window()).await;
    let name = format!("live-memory, list, {} a call", shape.call_queries);
    context.report(Record::Load(Box::new(LoadRecord::new(&name, 1, rows, &found))))
}

/// Lists all live queries again and again.
struct Listing {
    query: QueryServiceClient<Channel>,
    rows: u64,
}

impl Listing {
    async fn connect(url: &str, rows: u64) -> Result<Self> {
        let query = QueryServiceClient::new(wire::connect(url).await?).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { query, rows })
    }

    async fn answer(&mut self) -> Result<ExecuteResponse, String> {
        let request = statement("SELECT * FROM system.live_queries", Vec::new());
        self.query.execute(request).await.map(tonic::Response::into_inner).map_err(|status| status_text(&status))
    }
}

impl driver::Client for Listing {
    async fn call(&mut self) -> Result<Reply, String> {
        let answer = self.answer().await?;
        Expect::Rows(self.rows).check(&answer)
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
