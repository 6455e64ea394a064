//! Calls of Subscribe: many streams over few connections, each read by a task of its own.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kalamdb_proto::v1::{
    InitialRows, LiveQuery, NoRows, SubscribeRequest, SubscribeResponse, Value, initial_rows::Kind,
    subscribe_response::Event, subscribe_service_client::SubscribeServiceClient,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    error::{BenchError, Result, status_text},
    wire::{as_user, user_metadata},
};

/// Streams of one connection: less than servers allow (`server.max_concurrent_streams`), and few enough for the limit
/// of open files.
const STREAMS_PER_CONNECTION: usize = 500;
/// So much may wait unread in this process: a stream that waits must not hold up the others of its connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// How long any call may take until its queries are ready, others before it included.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// How many calls wait to be ready at the same time.
pub(super) const AT_ONCE: usize = 64;

/// A call to make.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) user: String,
    pub(super) queries: Vec<LiveQuery>,
}

/// A live query without initial rows.
pub(super) fn only_changes(sql: &str, parameters: Vec<Value>) -> LiveQuery {
    let initial_rows = Some(InitialRows { kind: Some(Kind::None(NoRows {})) });
    LiveQuery { sql: sql.to_owned(), parameters, initial_rows, ..LiveQuery::default() }
}

/// What is done with the events of a call.
pub(super) trait Reader: Send + 'static {
    /// Takes the next event of a query, and says whether to go on reading. What is wrong with it fails the run.
    fn event(&mut self, query: usize, event: Event) -> Result<ControlFlow<()>, String>;
}

/// Calls under way.
pub(super) struct Streams {
    // Before the connections, which end with them.
    tasks: JoinSet<()>,
    health: Arc<Health>,
    _connections: Connections,
}

impl Streams {
    /// Makes calls, so many at the same time, and waits until all their queries are ready.
    pub(super) async fn open<R: Reader>(
        url: &str,
        calls: usize,
        at_once: usize,
        call: impl Fn(usize) -> (Call, R),
    ) -> Result<Self> {
        let connections = Connections::open(url, calls.div_ceil(STREAMS_PER_CONNECTION)).await?;
        let (mut tasks, health) = (JoinSet::new(), Arc::<Health>::default());
        let places = Arc::new(Semaphore::new(at_once));
        for index in 0..calls {
            let place = take_place(&places, 1).await?;
            health.check()?;
            let (call, reader) = call(index);
            let (client, health) = (connections.client(index), Arc::clone(&health));
            tasks.spawn(async move {
                if let Err(error) = read(client, call, reader, place).await {
                    health.fail(error);
                }
            });
        }
        drop(take_place(&places, u32::try_from(at_once).unwrap_or(u32::MAX)).await?);
        health.check()?;
        Ok(Self { tasks, health, _connections: connections })
    }

    /// Fails if any stream has failed.
    pub(super) fn check(&self) -> Result<()> {
        self.health.check()
    }

    /// Ends all calls at once, as a client that goes away does.
    pub(super) async fn close(mut self) {
        self.tasks.shutdown().await;
    }

    /// Waits until every reader has stopped by itself.
    pub(super) async fn finished(&mut self, limit: Duration) -> Result<()> {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let ended = timeout(limit, all).await;
        self.check()?;
        ended.map_err(|_| BenchError::WrongAnswer(format!("streams are not complete after {} s", limit.as_secs())))
    }
}

async fn take_place(places: &Arc<Semaphore>, number: u32) -> Result<OwnedSemaphorePermit> {
    let place = timeout(READY_LIMIT, Arc::clone(places).acquire_many_owned(number)).await;
    place
        .map_err(|_| BenchError::Process(format!("a live query is not ready after {} s", READY_LIMIT.as_secs())))?
        .map_err(|_| BenchError::Process("the calls are over".to_owned()))
}

/// The first thing that went wrong in any stream.
#[derive(Debug, Default)]
struct Health(Mutex<Option<String>>);

impl Health {
    fn fail(&self, error: String) {
        lock(&self.0).get_or_insert(error);
    }

    fn check(&self) -> Result<()> {
        lock(&self.0).as_ref().map_or(Ok(()), |error| Err(BenchError::WrongAnswer(error.clone())))
    }
}

/// Makes a call and reads it until the reader has enough. The place is free when all queries are ready.
async fn read<R: Reader>(
    client: SubscribeServiceClient<Channel>,
    call: Call,
    mut reader: R,
    place: OwnedSemaphorePermit,
) -> Result<(), String> {
    let mut waiting = call.queries.len();
    let mut place = Some(place);
    let mut stream = subscribe(client, call).await?;
    loop {
        let SubscribeResponse { query_index, event } = next(&mut stream).await?;
        let event = event.ok_or("an event of no kind")?;
        if matches!(event, Event::Ready(_)) {
            waiting = waiting.saturating_sub(1);
            if waiting == 0 {
                place = None;
            }
        }
        if reader.event(query_index as usize, event)?.is_break() {
            drop(place);
            return Ok(());
        }
    }
}

/// Makes a call.
pub(super) async fn subscribe(
    mut client: SubscribeServiceClient<Channel>,
    call: Call,
) -> Result<Streaming<SubscribeResponse>, String> {
    let user = user_metadata(&call.user).map_err(|error| error.to_string())?;
    let request = SubscribeRequest { queries: call.queries, ..SubscribeRequest::default() };
    let response = client.subscribe(as_user(request, &user)).await;
    response.map(tonic::Response::into_inner).map_err(|status| format!("Subscribe: {}", status_text(&status)))
}

/// The next message of a call that must not end.
pub(super) async fn next(stream: &mut Streaming<SubscribeResponse>) -> Result<SubscribeResponse, String> {
    let message = stream.message().await.map_err(|status| format!("a stream: {}", status_text(&status)))?;
    message.ok_or_else(|| "a stream ended".to_owned())
}

/// What is wrong with an event that must not come.
pub(super) fn unexpected(event: &Event) -> String {
    match event {
        Event::Started(_) => "a live query started twice".to_owned(),
        Event::Rows(rows) => format!("{} initial rows of a live query that asked for none", rows.row_count),
        Event::Ready(_) => "a live query was ready twice".to_owned(),
        Event::Changes(changes) => {
            format!("{} commits that do not concern a live query", changes.commits.len())
        }
        Event::Progress(_) => "a progress that was not expected".to_owned(),
        Event::Reset(reset) => format!("a live query was reset: {}: {}", reset.reason, reset.message),
        Event::Ended(ended) => format!("a live query ended: {}: {}", ended.reason, ended.message),
    }
}

/// Connections for many streams.
pub(super) struct Connections(Vec<SubscribeServiceClient<Channel>>);

impl Connections {
    pub(super) async fn open(url: &str, connections: usize) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..connections.max(1) {
            let client = SubscribeServiceClient::new(connect(url).await?);
            clients.push(client.max_decoding_message_size(MAX_MESSAGE_BYTES));
        }
        Ok(Self(clients))
    }

    /// The client for a stream.
    pub(super) fn client(&self, stream: usize) -> SubscribeServiceClient<Channel> {
        self.0[stream % self.0.len()].clone()
    }
}

async fn connect(url: &str) -> Result<Channel> {
    let refused = |error: tonic::transport::Error| BenchError::Process(format!("cannot connect to {url}: {error}"));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(refused)?;
    endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await
        .map_err(refused)
}

/// A call whose messages are kept, for a limit to say the same.
pub(super) struct Recording {
    stream: Streaming<SubscribeResponse>,
    _connections: Connections,
}

impl Recording {
    pub(super) async fn start(url: &str, call: Call) -> Result<Self> {
        let connections = Connections::open(url, 1).await?;
        let stream = subscribe(connections.client(0), call).await.map_err(BenchError::WrongAnswer)?;
        Ok(Self { stream, _connections: connections })
    }

    /// The next messages, up to the first one with which it is enough.
    pub(super) async fn until(
        &mut self,
        mut enough: impl FnMut(&SubscribeResponse) -> bool,
    ) -> Result<Vec<SubscribeResponse>> {
        let recording = async {
            let mut messages = Vec::new();
            loop {
                let message = next(&mut self.stream).await.map_err(BenchError::WrongAnswer)?;
                let last = enough(&message);
                messages.push(message);
                if last {
                    return Ok(messages);
                }
            }
        };
        let late = |_| BenchError::WrongAnswer(format!("a sample is not complete after {} s", READY_LIMIT.as_secs()));
        timeout(READY_LIMIT, recording).await.map_err(late)?
    }

    /// The next messages, until so many queries are ready.
    pub(super) async fn until_ready(&mut self, mut queries: usize) -> Result<Vec<SubscribeResponse>> {
        let ready = |message: &SubscribeResponse| {
            queries -= usize::from(matches!(message.event, Some(Event::Ready(_))));
            queries == 0
        };
        self.until(ready).await
    }
}

/// Locks what is whole even if somebody panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
