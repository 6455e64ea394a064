//! What subscriptions cost those who write what does not concern them.

use std::{ops::ControlFlow, time::Instant};

use kalamdb_proto::v1::subscribe_response::Event;

use super::{
    live_queries, start_server,
    streams::{AT_ONCE, Call, Reader, Streams, only_changes, unexpected},
    subscribe_filtered_sql, wait_for_live_queries,
};
use crate::{
    data,
    driver::{Contest, Contestant, Measurement, Window},
    error::{BenchError, Result},
    report::{LoadRecord, Record},
    wire::{Expect, Requests, Traffic, statement, text, values_clause},
    workloads::Context,
};

const CLIENTS: [usize; 1] = [64];
const SUBSCRIPTIONS: [usize; 2] = [1_000, 100_000];
/// As many as the server allows (`live.max_queries_per_call`).
const CALL_QUERIES: usize = 100;
const ROUNDS: u32 = 3;
const LIMIT: &str = "no subscriptions";
const ROLE: &str = "user";

/// INSERTs beside subscriptions, in turns with the same without any, for which the subscriptions are ended: subscribers that
/// are idle are told so every second, which would be in the way.
pub(super) async fn live_writers(context: &mut Context) -> Result<()> {
    let server = start_server(context, &[]).await?;
    let namespace = context.args.namespace.clone();
    let sql =
        format!("INSERT INTO {namespace}.messages (conversation_id, role, content) VALUES {}", values_clause(1, 3));
    let requests = |client: usize| -> Requests {
        let (sql, mut number) = (sql.clone(), (client as u64) << 40);
        Box::new(move || {
            number += 1;
            let conversation = data::conversation(number % data::CONVERSATION_ROWS);
            statement(sql.clone(), vec![text(conversation), text(ROLE), text(data::content(number))])
        })
    };
    let window = context.args.window();
    let part = Window { warmup: window.warmup / ROUNDS, measure: window.measure / ROUNDS };
    for clients in context.args.clients(&CLIENTS) {
        let traffic = Traffic {
            clients,
            connections: context.args.connections(),
            user: &writer,
            requests: &requests,
            expect: Expect::Affected(1),
        };
        for subscriptions in context.args.live.subscriptions(&SUBSCRIPTIONS) {
            let mut pool = traffic.connect(server.url()).await?;
            let (mut with, mut without) = (Measurement::new(), Measurement::new());
            for round in 1..=ROUNDS {
                without.merge(pool.slice(part).await);
                let begin = Instant::now();
                let calls = subscriptions.div_ceil(CALL_QUERIES);
                let call = |call: usize| {
                    let queries = CALL_QUERIES.min(subscriptions - call * CALL_QUERIES);
                    (unconcerned(&namespace, call, queries, clients), Idle)
                };
                let streams = Streams::open(server.url(), calls, AT_ONCE, call).await?;
                let found = live_queries(server.client()).await?;
                if found != subscriptions as i64 {
                    let message = format!("{found} live queries where {subscriptions} are ready");
                    return Err(BenchError::WrongAnswer(message));
                }
                eprintln!(
                    "live-writers: {subscriptions} subscriptions in {:.2} s ({round} of {ROUNDS})",
                    begin.elapsed().as_secs_f64()
                );
                with.merge(pool.slice(part).await);
                streams.check()?;
                streams.close().await;
                wait_for_live_queries(server.client(), 0).await?;
            }
            let found = Contest { subject: with, limits: vec![(LIMIT, without)] };
            let name = format!("live-writers, {subscriptions} subscriptions");
            context.report(Record::Load(Box::new(LoadRecord::new(&name, clients, 1, &found))))?;
        }
    }
    Ok(())
}

fn writer(client: usize) -> String {
    format!("writer-{client}")
}

/// A call of subscriptions that no INSERT concerns: to conversations of a writer that it does not write to, or of somebody
/// else who writes nothing.
fn unconcerned(namespace: &str, call: usize, queries: usize, writers: usize) -> Call {
    let sql = subscribe_filtered_sql(namespace);
    let (user, other) = if call.is_multiple_of(2) {
        (writer(call / 2 % writers), format!("other-{call}-"))
    } else {
        (format!("reader-{call}"), String::new())
    };
    let query = |query: usize| only_changes(&sql, vec![text(format!("{other}{}", data::conversation(query as u64)))]);
    Call { user, queries: (0..queries).map(query).collect() }
}

/// Reads a subscription to which nothing must happen.
pub(super) struct Idle;

impl Reader for Idle {
    fn event(&mut self, _query: usize, event: Event) -> Result<ControlFlow<()>, String> {
        match event {
            Event::Started(_) | Event::Ready(_) | Event::Progress(_) => Ok(ControlFlow::Continue(())),
            Event::Rows(_) | Event::Changes(_) | Event::Reset(_) | Event::Ended(_) => Err(unexpected(&event)),
        }
    }
}
