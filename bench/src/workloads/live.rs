//! Live queries: from a commit to its subscribers, and what subscriptions cost.
//!
//! Each workload starts a server of its own. Subscribers and writers are in this process and use the generated stubs;
//! the limit is [`BroadcastServer`](crate::limits::broadcast::BroadcastServer), which the same code drives. Every change
//! that arrives is checked: one that is lost, doubled, out of order or nobody's business fails the run.
//!
//! | module | what is there |
//! | --- | --- |
//! | [`streams`] | calls of Subscribe, spread over connections |
//! | [`message`] | the rows that are written, and what is read from a change |
//! | [`traffic`] | writers and subscribers whose changes are measured and checked |

mod fanout;
mod latency;
mod memory;
mod message;
mod resume;
mod soak;
mod start;
mod streams;
mod traffic;
mod writers;

use std::time::{Duration, Instant};

use kalam_link::Client;
use tokio::time::sleep;

use super::{Context, cold};
use crate::{
    data,
    error::{BenchError, Result},
    servers::{Durability, Server},
};

/// Bare streams, as a limit.
const STREAMS: &str = "bare tonic streams";
/// The server's bounds that are meant for strangers, not for a load generator.
const SETTINGS: [(&str, &str); 4] = [
    ("limits.max_concurrent_calls", "1000000"),
    ("limits.max_result_bytes", "67108864"),
    ("live.max_queries", "200000"),
    ("live.max_queries_per_user", "200000"),
];
/// How long ended subscriptions may take to be gone; it is measured, and must be far less.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(120);

/// A workload of live queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LiveWorkload {
    Latency,
    Fanout,
    Writers,
    Memory,
    Start,
    Resume,
    Soak,
}

/// Runs a workload on a server of its own.
pub(super) async fn run(context: &mut Context, workload: LiveWorkload) -> Result<()> {
    match workload {
        LiveWorkload::Latency => latency::live_latency(context).await,
        LiveWorkload::Fanout => fanout::live_fanout(context).await,
        LiveWorkload::Writers => writers::live_writers(context).await,
        LiveWorkload::Memory => memory::live_memory(context).await,
        LiveWorkload::Start => start::live_start(context).await,
        LiveWorkload::Resume => resume::live_resume(context).await,
        LiveWorkload::Soak => soak::live_soak(context).await,
    }
}

/// A durable server with the USER table of messages.
async fn start_server(context: &Context, settings: &[(&str, &str)]) -> Result<Server> {
    let settings: Vec<_> = SETTINGS.iter().chain(settings).copied().collect();
    let server = Server::start_with(Durability::Sync, &context.folder(), &settings).await?;
    let tables = server.client().execute_batch(data::create_messages(&context.args.namespace), ());
    tables.await.map_err(BenchError::client("making the tables"))?;
    Ok(server)
}

/// How many live queries the server has.
async fn live_queries(client: &Client) -> Result<i64> {
    cold::number(client, "SELECT count(*) FROM system.live_queries").await
}

/// Waits until the server has so many live queries.
async fn wait_for_live_queries(client: &Client, expected: i64) -> Result<()> {
    const POLL_INTERVAL: Duration = Duration::from_millis(5);
    let begin = Instant::now();
    loop {
        let found = live_queries(client).await?;
        if found == expected {
            return Ok(());
        }
        if begin.elapsed() > CLEAN_UP_LIMIT {
            return Err(BenchError::WrongAnswer(format!(
                "there are {found} live queries after {} s, not {expected}",
                CLEAN_UP_LIMIT.as_secs()
            )));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// `SUBSCRIBE TO` the table of messages.
fn subscribe_sql(namespace: &str) -> String {
    format!("SUBSCRIBE TO {namespace}.messages")
}

/// The same, of one conversation.
fn subscribe_filtered_sql(namespace: &str) -> String {
    format!("SUBSCRIBE TO {namespace}.messages WHERE conversation_id = $1")
}
