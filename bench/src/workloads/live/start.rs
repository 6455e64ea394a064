//! From subscribing to the end of the initial rows.

use kalamdb_proto::v1::{
    LiveQuery, SubscribeResponse, subscribe_response::Event, subscribe_service_client::SubscribeServiceClient,
};
use tonic::transport::Channel;

use super::{
    STREAMS, start_server,
    streams::{Call, Connections, Recording, next, subscribe, unexpected},
    subscribe_sql,
};
use crate::{
    data,
    driver::{Client, Contest, Pool, Reply, contest},
    error::{BenchError, Result},
    limits::broadcast::{BroadcastServer, Script},
    report::{LoadRecord, Record},
    wire::{Expect, Requests, Traffic, statement},
    workloads::{Context, echo_limit, limit},
};

const CLIENTS: [usize; 2] = [1, 16];
const DEFAULT_ROWS: u64 = 1_000;
const USER: &str = "reader";
const SELECT: &str = "the same rows by SELECT";

pub(super) async fn live_start(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let namespace = context.args.namespace.clone();
    let server = start_server(context, &[]).await?;
    data::fill(server.client(), &namespace, USER, rows).await?;
    let beginning = Recording::start(server.url(), call(&namespace)).await?.until_ready(1).await?;
    let bare = BroadcastServer::start(&Script { beginning, ..Script::default() }).await?;

    let sql = format!("SELECT * FROM {namespace}.messages");
    let requests = |_: usize| -> Requests {
        let sql = sql.clone();
        Box::new(move || statement(sql.clone(), Vec::new()))
    };
    for clients in context.args.clients(&CLIENTS) {
        let selects = Traffic {
            clients,
            connections: context.args.connections(),
            user: &|_| USER.to_owned(),
            requests: &requests,
            expect: Expect::Rows(rows),
        };
        let (_echo, echo) = echo_limit(&selects, &selects.sample(server.url()).await?).await?;
        let mut limits = vec![
            limit(STREAMS, starts(context, bare.url(), clients, rows).await?),
            limit(SELECT, selects.connect(server.url()).await?),
            echo,
        ];
        let mut subject = starts(context, server.url(), clients, rows).await?;
        let found = contest(&mut subject, &mut limits, context.args.window()).await;
        let [streams, select, echo] = found.limits.as_slice() else {
            return Err(BenchError::Process("a limit was not measured".to_owned()));
        };
        for (name, subject, limit) in [
            ("live-start", &found.subject, streams),
            ("live-start, beside a SELECT", &found.subject, select),
            ("live-start: the SELECT", &select.1, echo),
        ] {
            let contest = Contest { subject: subject.clone(), limits: vec![limit.clone()] };
            context.report(Record::Load(Box::new(LoadRecord::new(name, clients, rows, &contest))))?;
        }
    }
    Ok(())
}

fn call(namespace: &str) -> Call {
    let query = LiveQuery { sql: subscribe_sql(namespace), ..LiveQuery::default() };
    Call { user: USER.to_owned(), queries: vec![query] }
}

async fn starts(context: &Context, url: &str, clients: usize, rows: u64) -> Result<Pool<Start>> {
    let namespace = &context.args.namespace;
    let connections = Connections::open(url, context.args.connections().min(clients)).await?;
    let start = |client| Start { client: connections.client(client), call: call(namespace), rows };
    Ok(Pool::new((0..clients).map(start).collect()))
}

/// Subscribes, reads the initial rows, and ends the call, again and again.
struct Start {
    client: SubscribeServiceClient<Channel>,
    call: Call,
    rows: u64,
}

impl Client for Start {
    async fn call(&mut self) -> Result<Reply, String> {
        let mut stream = subscribe(self.client.clone(), self.call.clone()).await?;
        let mut found = 0;
        loop {
            let SubscribeResponse { event, .. } = next(&mut stream).await?;
            match event.ok_or("an event of no kind")? {
                Event::Started(_) => {}
                Event::Rows(rows) => found += rows.rows.len() as u64,
                Event::Ready(ready) if ready.row_count == found && found == self.rows => return Ok(Reply::default()),
                Event::Ready(ready) => {
                    return Err(format!("{found} initial rows, {} announced, {} stored", ready.row_count, self.rows));
                }
                other => return Err(unexpected(&other)),
            }
        }
    }
}
