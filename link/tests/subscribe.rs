//! Live queries against a gRPC server in the same process that does what each test tells it to, behind a proxy that can
//! cut its connections.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream};
use kalam_link::{
    Change, ChangeType, Client, CommitChanges, ErrorKind, InitialRows, LiveQuery, RetryPolicy, SlowConsumer,
    Subscription, SubscriptionEvent,
};
use kalamdb_proto::v1::{
    self, SubscribeRequest, SubscribeResponse,
    subscribe_response::Event,
    subscribe_service_server::{SubscribeService, SubscribeServiceServer},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

const QUICK: RetryPolicy =
    RetryPolicy { max_attempts: u32::MAX, base_delay: Duration::from_millis(1), max_delay: Duration::from_millis(5) };

/// What the server does next in a call.
#[derive(Clone)]
enum Step {
    Send(Event),
    /// Of the query at this place.
    SendOf(u32, Event),
    Fail(Status),
    /// Cuts the connections, after what was sent has probably arrived.
    Cut,
    /// Does nothing more.
    Hang,
}

type Script = dyn Fn(usize, &SubscribeRequest) -> Vec<Step> + Send + Sync;

#[derive(Clone)]
struct Scripted {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<SubscribeRequest>>>,
    cut: watch::Sender<u32>,
    dropped: Arc<Mutex<usize>>,
}

struct CountDrop(Arc<Mutex<usize>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

#[tonic::async_trait]
impl SubscribeService for Scripted {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        assert!(request.metadata().get("grpc-timeout").is_none(), "a live query has no end");
        let request = request.into_inner();
        let call = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let steps = (self.script)(call, &request);
        // What is wrong with a request comes before the first event.
        if let [Step::Fail(status)] = steps.as_slice() {
            return Err(status.clone());
        }
        let (cut, dropped) = (self.cut.clone(), CountDrop(Arc::clone(&self.dropped)));
        let messages = stream::iter(steps).filter_map(move |step| {
            let cut = cut.clone();
            let _held = &dropped;
            async move {
                match step {
                    Step::Send(event) => Some(Ok(SubscribeResponse { query_index: 0, event: Some(event) })),
                    Step::SendOf(query_index, event) => Some(Ok(SubscribeResponse { query_index, event: Some(event) })),
                    Step::Fail(status) => Some(Err(status)),
                    Step::Cut => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        cut.send_modify(|cuts| *cuts += 1);
                        std::future::pending().await
                    }
                    Step::Hang => std::future::pending().await,
                }
            }
        });
        Ok(Response::new(messages.boxed()))
    }
}

struct Running {
    client: Client,
    service: Scripted,
}

/// A server that plays a script for each call, which is told the call's number, from 0, and its request.
async fn serve(script: impl Fn(usize, &SubscribeRequest) -> Vec<Step> + Send + Sync + 'static) -> Running {
    let (cut, cuts) = watch::channel(0);
    let service = Scripted { script: Arc::new(script), seen: Arc::default(), cut, dropped: Arc::default() };
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = incoming.local_addr().unwrap();
    let services = Server::builder().add_service(SubscribeServiceServer::new(service.clone()));
    tokio::spawn(services.serve_with_incoming(incoming));

    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", proxy.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = proxy.accept().await {
            let mut cuts = cuts.clone();
            cuts.mark_unchanged();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    });
    let client = Client::builder(endpoint).namespace("chat").retry(QUICK).connect().await.unwrap();
    Running { client, service }
}

impl Running {
    async fn open(&self) -> Subscription {
        self.client.subscribe("SUBSCRIBE TO t").reconnect(QUICK).open().await.unwrap()
    }

    /// The resume tokens of the calls so far.
    fn tokens(&self) -> Vec<String> {
        self.service.seen.lock().unwrap().iter().map(|request| request.queries[0].resume_token.clone()).collect()
    }
}

fn value(id: i64) -> v1::Value {
    v1::Value { kind: Some(v1::value::Kind::IntValue(id)) }
}

fn row(id: i64, version: i64) -> v1::Row {
    v1::Row { values: vec![value(id), value(version)] }
}

fn started() -> Step {
    let bigint = || Some(v1::SqlType { kind: v1::TypeKind::Bigint.into(), ..Default::default() });
    let column = |name: &str| v1::Column { name: name.into(), r#type: bigint(), nullable: false };
    let columns = vec![column("id"), column("version")];
    Step::Send(Event::Started(v1::LiveStarted { live_id: "7".into(), columns, node_id: 1 }))
}

fn rows(ids: impl IntoIterator<Item = i64>) -> Step {
    let rows: Vec<_> = ids.into_iter().map(|id| row(id, 0)).collect();
    let row_count = rows.len() as u64;
    Step::Send(Event::Rows(v1::RowBatch { rows, row_count, ..Default::default() }))
}

fn ready(seq: u64, row_count: u64) -> Step {
    Step::Send(Event::Ready(v1::LiveReady { commit_seq: seq, resume_token: format!("@{seq}"), row_count }))
}

/// A commit that inserts the row whose key is its sequence.
fn commit(seq: u64) -> v1::LiveCommit {
    let insert = v1::LiveChange {
        r#type: v1::ChangeType::Insert.into(),
        new_row: Some(row(seq.cast_signed(), seq.cast_signed())),
        old_row: None,
    };
    let resume_token = format!("@{seq}");
    v1::LiveCommit { commit_seq: seq, commit_time_us: 1, changes: vec![insert], resume_token, merged: false }
}

fn changes(seqs: impl IntoIterator<Item = u64>) -> Step {
    Step::Send(Event::Changes(v1::LiveChanges { commits: seqs.into_iter().map(commit).collect() }))
}

fn progress(seq: u64) -> Step {
    Step::Send(Event::Progress(v1::LiveProgress { commit_seq: seq, resume_token: format!("@{seq}") }))
}

fn reset(reason: &str) -> Step {
    Step::Send(Event::Reset(v1::LiveReset { reason: reason.into(), message: "why".into() }))
}

fn ended(reason: &str) -> Event {
    Event::Ended(v1::LiveEnded { reason: reason.into(), message: "why".into(), resume_token: String::new() })
}

/// An event as a short text.
fn text(event: &SubscriptionEvent) -> String {
    match event {
        SubscriptionEvent::Started { .. } => "started".into(),
        SubscriptionEvent::Reset { reason, .. } => format!("reset {reason}"),
        SubscriptionEvent::Rows(rows) => format!("rows {}", rows.len()),
        SubscriptionEvent::Ready { commit_seq, .. } => format!("ready {commit_seq}"),
        SubscriptionEvent::Changes(commit) => format!("commit {}", commit.commit_seq),
        SubscriptionEvent::Progress { commit_seq, .. } => format!("progress {commit_seq}"),
        SubscriptionEvent::Disconnected { attempt, .. } => format!("disconnected {attempt}"),
        SubscriptionEvent::Reconnected => "reconnected".into(),
        SubscriptionEvent::Ended { error } => format!("ended {}", error.reason().unwrap_or_default()),
        other => format!("{other:?}"),
    }
}

/// The next events, as texts, and then "end" or the reason of an error.
async fn next(events: &mut Subscription, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("an event in time");
        match event {
            Some(Ok(event)) => texts.push(text(&event)),
            Some(Err(error)) => texts.push(format!("error {}", error.reason().unwrap_or_default())),
            None => {
                texts.push("end".into());
                break;
            }
        }
    }
    texts
}

#[tokio::test]
async fn the_request_carries_all_options_and_events_are_typed() {
    let server = serve(|_, _| {
        let update = v1::LiveChange {
            r#type: v1::ChangeType::Update.into(),
            new_row: Some(row(1, 2)),
            old_row: Some(row(1, 1)),
        };
        let delete = v1::LiveChange { r#type: v1::ChangeType::Delete.into(), new_row: None, old_row: Some(row(1, 2)) };
        let mut merged = commit(9);
        (merged.merged, merged.commit_time_us) = (true, 1_700_000_000_000_000);
        merged.changes.extend([update, delete]);
        let changes = Step::Send(Event::Changes(v1::LiveChanges { commits: vec![merged] }));
        vec![started(), rows([1, 2]), ready(8, 2), changes, progress(10), Step::Hang]
    })
    .await;
    let mut events = server
        .client
        .subscribe("SUBSCRIBE TO t WHERE id > $1")
        .params((7,))
        .namespace("other")
        .initial_rows(InitialRows::Last(5))
        .before_images(false)
        .slow_consumer(SlowConsumer::Coalesce)
        .max_batch_delay(Duration::from_millis(1500))
        .open()
        .await
        .unwrap();
    assert_eq!(events.token(), None);

    match events.next().await.unwrap().unwrap() {
        SubscriptionEvent::Started { live_id, columns, node_id } => {
            assert_eq!((live_id.as_str(), columns[1].name.as_str(), node_id), ("7", "version", 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(events.live_id(), "7");
    match events.next().await.unwrap().unwrap() {
        SubscriptionEvent::Rows(rows) => assert_eq!(rows[1].get::<i64>("id").unwrap(), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(events.token(), None);
    match events.next().await.unwrap().unwrap() {
        SubscriptionEvent::Ready { commit_seq, token, row_count } => {
            assert_eq!((commit_seq, token.as_str(), row_count), (8, "@8", 2));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(events.token(), Some("@8"));
    match events.next().await.unwrap().unwrap() {
        SubscriptionEvent::Changes(CommitChanges { commit_seq, commit_time_us, changes, token, merged }) => {
            assert_eq!((commit_seq, commit_time_us, token.as_str(), merged), (9, 1_700_000_000_000_000, "@9", true));
            let types: Vec<_> = changes.iter().map(Change::change_type).collect();
            assert_eq!(types, [ChangeType::Insert, ChangeType::Update, ChangeType::Delete]);
            let version = |row: Option<&kalam_link::Row>| row.map(|row| row.get::<i64>("version").unwrap());
            let versions: Vec<_> =
                changes.iter().map(|change| (version(change.old_row()), version(change.new_row()))).collect();
            assert_eq!(versions, [(None, Some(9)), (Some(1), Some(2)), (Some(2), None)]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(next(&mut events, 1).await, ["progress 10"]);
    assert_eq!(events.token(), Some("@10"));

    let seen = server.service.seen.lock().unwrap();
    let query = &seen[0].queries[0];
    assert_eq!((seen[0].namespace.as_str(), query.sql.as_str()), ("other", "SUBSCRIBE TO t WHERE id > $1"));
    assert_eq!(query.parameters, [value(7)]);
    assert_eq!(query.initial_rows.as_ref().unwrap().kind, Some(v1::initial_rows::Kind::LastRows(5)));
    assert_eq!((query.before_images, query.slow_consumer()), (Some(false), v1::SlowConsumerPolicy::Coalesce));
    let delay = query.max_batch_delay.as_ref().unwrap();
    assert_eq!((delay.seconds, delay.nanos), (1, 500_000_000));
}

#[tokio::test]
async fn a_request_that_is_refused_fails_at_once_and_a_server_that_is_away_is_tried_again() {
    let server = serve(|_, _| vec![Step::Fail(Status::new(Code::NotFound, "no such table"))]).await;
    let error = server.client.subscribe("SUBSCRIBE TO t").open().await.unwrap_err();
    assert_eq!((error.kind(), server.tokens().len()), (ErrorKind::NotFound, 1));

    let server = serve(|call, _| match call {
        0 => vec![Step::Fail(Status::new(Code::Unavailable, "not yet"))],
        // Accepted, and then refused before the first event.
        1 => vec![Step::Fail(Status::new(Code::Unavailable, "not yet")), Step::Hang],
        _ => vec![started(), Step::Hang],
    })
    .await;
    server.client.subscribe("SUBSCRIBE TO t").resume_token("@5").open().await.unwrap();
    assert_eq!(server.tokens(), ["@5", "@5", "@5"]);
}

#[tokio::test]
async fn opening_has_the_time_out_of_the_settings() {
    let server = serve(|_, _| vec![Step::Hang]).await;
    let endpoint = server.client.endpoint();
    let client = Client::builder(endpoint).timeout(Duration::from_millis(30)).connect().await.unwrap();
    assert_eq!(client.subscribe("SUBSCRIBE TO t").open().await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn it_goes_on_behind_the_last_event_that_was_handed_out() {
    let server = serve(|call, _| match call {
        0 => vec![started(), ready(5, 0), changes([6, 7]), Step::Fail(Status::unavailable("down"))],
        1 => vec![started(), ready(7, 0), progress(8), Step::Send(ended("SHUTTING_DOWN"))],
        2 => vec![started(), ready(8, 0), changes([9]), Step::Send(ended("SLOW_CONSUMER"))],
        // A call that ends without a word.
        3 => vec![started(), ready(9, 0), changes([10])],
        4 => vec![Step::Fail(Status::resource_exhausted("no reason is given"))],
        _ => vec![started(), ready(10, 0), Step::Hang],
    })
    .await;
    let mut events = server.open().await;
    let expected = [
        "started",
        "ready 5",
        "commit 6",
        "commit 7",
        "started",
        "ready 7",
        "progress 8",
        "started",
        "ready 8",
        "commit 9",
        "started",
        "ready 9",
        "commit 10",
        "error ",
        "end",
    ];
    assert_eq!(next(&mut events, expected.len()).await, expected);
    assert_eq!(server.tokens(), ["", "@7", "@8", "@9", "@10"]);
    assert_eq!(events.token(), Some("@10"));
}

#[tokio::test]
async fn first_rows_that_break_off_are_void() {
    let server = serve(|call, _| match call {
        // Before any row: there is nothing to void.
        0 => vec![started(), Step::Cut],
        1 => vec![started(), rows([1, 2]), Step::Fail(Status::unavailable("down"))],
        2 => vec![started(), rows([1]), Step::Cut],
        3 => vec![started(), rows([1, 2]), ready(5, 2), Step::Cut],
        4 => vec![started(), reset("CHANGES_EXPIRED"), rows([1]), Step::Fail(Status::unavailable("down"))],
        5 => vec![started(), rows([1]), ready(9, 1), Step::Send(ended("SCHEMA_CHANGED"))],
        6 => vec![started(), reset("SCHEMA_CHANGED"), Step::Fail(Status::unavailable("down"))],
        _ => vec![started(), rows([3]), ready(11, 1), Step::Hang],
    })
    .await;
    let mut events = server.open().await;
    let expected = [
        "started",
        "started",
        "rows 2",
        "started",
        "reset INTERRUPTED",
        "rows 1",
        "started",
        "reset INTERRUPTED",
        "rows 2",
        "ready 5",
        "started",
        "reset CHANGES_EXPIRED",
        "rows 1",
        "started",
        "reset INTERRUPTED",
        "rows 1",
        "ready 9",
        "started",
        "reset SCHEMA_CHANGED",
        "started",
        "rows 1",
        "ready 11",
    ];
    assert_eq!(next(&mut events, expected.len()).await, expected);
    assert_eq!(server.tokens(), ["", "", "", "", "@5", "", "@9", ""]);
}

#[tokio::test]
async fn what_cannot_be_resumed_ends_it_with_its_reason() {
    for (reason, kind) in [
        ("LIVE_QUERY_KILLED", ErrorKind::Cancelled),
        ("TABLE_NOT_FOUND", ErrorKind::NotFound),
        ("PERMISSION_DENIED", ErrorKind::PermissionDenied),
        ("SOMETHING_NEW", ErrorKind::Internal),
    ] {
        let server = serve(move |_, _| {
            let mut end = v1::LiveEnded { reason: reason.into(), message: "why".into(), ..Default::default() };
            end.resume_token = "@6".into();
            vec![started(), ready(5, 0), Step::Send(Event::Ended(end)), Step::Fail(Status::internal("the call's"))]
        })
        .await;
        let mut events = server.open().await;
        assert_eq!(next(&mut events, 2).await, ["started", "ready 5"]);
        let error = events.next().await.unwrap().unwrap_err();
        assert_eq!((error.reason(), error.kind(), error.message()), (Some(reason), kind, "why".to_owned()));
        assert_eq!((error.resume_token(), events.token()), (Some("@6"), Some("@5")));
        assert!(events.next().await.is_none());
        assert_eq!(server.tokens().len(), 1);
    }

    // A refusal while it reconnects ends it, too.
    let server = serve(|call, _| match call {
        0 => vec![started(), ready(5, 0), Step::Cut],
        _ => vec![Step::Fail(Status::unauthenticated("the token has expired"))],
    })
    .await;
    let mut events = server.open().await;
    assert_eq!(next(&mut events, 2).await, ["started", "ready 5"]);
    assert_eq!(events.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn attempts_in_a_row_are_bounded_as_asked_and_spaced() {
    let server = serve(|call, _| match call {
        0 => vec![started(), ready(5, 0), Step::Cut],
        1 | 2 => vec![Step::Fail(Status::unavailable("down"))],
        3 => vec![started(), ready(5, 0), Step::Cut],
        _ => vec![Step::Fail(Status::unavailable("down"))],
    })
    .await;
    let policy = RetryPolicy { max_attempts: 4, base_delay: Duration::from_millis(20), ..QUICK };
    let policy = RetryPolicy { max_delay: Duration::from_secs(1), ..policy };
    let subscribe = server.client.subscribe("SUBSCRIBE TO t").reconnect(policy).report_reconnects(true);
    let mut events = subscribe.open().await.unwrap();
    let before = Instant::now();
    let expected = [
        "started",
        "ready 5",
        "disconnected 1",
        "disconnected 2",
        "disconnected 3",
        "reconnected",
        "started",
        "ready 5",
        "disconnected 1",
        "disconnected 2",
        "disconnected 3",
        "error ",
        "end",
    ];
    assert_eq!(next(&mut events, expected.len()).await, expected);
    // Twice half of 20, 40 and 80 ms at the least.
    assert!(before.elapsed() >= Duration::from_millis(140), "{:?}", before.elapsed());

    let server = serve(|_, _| vec![started(), ready(5, 0), Step::Cut]).await;
    let mut events = server.client.subscribe("SUBSCRIBE TO t").reconnect(RetryPolicy::NONE).open().await.unwrap();
    assert_eq!(next(&mut events, 9).await, ["started", "ready 5", "error ", "end"]);
}

#[tokio::test]
async fn closing_and_dropping_end_the_call() {
    let server = serve(|_, _| vec![started(), ready(5, 0), Step::Hang]).await;
    let mut closed = server.open().await;
    assert_eq!(next(&mut closed, 1).await, ["started"]);
    closed.close();
    assert!(closed.next().await.is_none());
    assert_eq!(closed.live_id(), "7");
    drop(server.open().await);
    let ended = || *server.service.dropped.lock().unwrap();
    for _ in 0..200 {
        if ended() == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} of 2 calls ended", ended());
}

#[tokio::test]
async fn an_answer_that_the_api_does_not_allow_ends_it() {
    let no_token = Event::Progress(v1::LiveProgress { commit_seq: 6, resume_token: String::new() });
    let no_row = v1::LiveChange { r#type: v1::ChangeType::Insert.into(), ..Default::default() };
    let commits = vec![v1::LiveCommit { changes: vec![no_row], resume_token: "@6".into(), ..Default::default() }];
    let narrow = v1::RowBatch { rows: vec![v1::Row { values: vec![value(1)] }], ..Default::default() };
    for wrong in [no_token, Event::Changes(v1::LiveChanges { commits }), Event::Rows(narrow)] {
        let server = serve(move |_, _| vec![started(), Step::Send(wrong.clone()), Step::Hang]).await;
        let mut events = server.open().await;
        assert_eq!(next(&mut events, 1).await, ["started"]);
        assert_eq!(events.next().await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);
        assert!(events.next().await.is_none());
        assert_eq!(server.tokens().len(), 1);
    }
}

#[tokio::test]
async fn a_call_of_several_queries_names_them_and_ends_with_the_last() {
    let server = serve(|_, request| {
        assert_eq!(request.queries.len(), 2);
        let of = |index: u32, step: Step| match step {
            Step::Send(event) => Step::SendOf(index, event),
            other => other,
        };
        vec![
            of(0, started()),
            of(1, started()),
            of(1, rows([1])),
            of(0, ready(5, 0)),
            of(0, Step::Send(ended("LIVE_QUERY_KILLED"))),
            of(1, ready(5, 1)),
            of(1, Step::Send(ended("SHUTTING_DOWN"))),
            Step::Fail(Status::unavailable("shutting down")),
        ]
    })
    .await;
    let queries = vec![LiveQuery::new("SUBSCRIBE TO a"), LiveQuery::new("SUBSCRIBE TO b").resume_token("@3")];
    let mut call = server.client.subscribe_many(queries).await.unwrap();
    assert_eq!((call.token(0), call.token(1), call.token(2)), (None, Some("@3"), None));
    let mut texts = Vec::new();
    while let Some(event) = call.next().await {
        let (index, event) = event.unwrap();
        texts.push(format!("{index} {}", text(&event)));
    }
    let expected = [
        "0 started",
        "1 started",
        "1 rows 1",
        "0 ready 5",
        "0 ended LIVE_QUERY_KILLED",
        "1 ready 5",
        "1 ended SHUTTING_DOWN",
    ];
    assert_eq!(texts, expected);
    assert_eq!((call.token(0), call.token(1)), (Some("@5"), Some("@5")));

    let server = serve(|_, _| vec![started(), Step::Cut]).await;
    let mut call = server.client.subscribe_many(vec![LiveQuery::new("SUBSCRIBE TO a")]).await.unwrap();
    assert!(call.next().await.unwrap().is_ok());
    assert!(call.next().await.unwrap().is_err());
    assert!(call.next().await.is_none());
}

/// Rows that exist at sequence 20, and commits that each insert one more.
const SNAPSHOT: u64 = 20;
const LAST: u64 = 40;

/// What a faithful server sends: all rows and the changes after them, or the changes after the token.
fn faithful(request: &SubscribeRequest) -> Vec<Step> {
    let token = &request.queries[0].resume_token;
    let mut steps = vec![started()];
    let after = match token.strip_prefix('@') {
        Some(seq) => seq.parse().unwrap(),
        None => {
            let ids: Vec<_> = (1..=SNAPSHOT.cast_signed()).collect();
            steps.extend(ids.chunks(6).map(|page| rows(page.iter().copied())));
            SNAPSHOT
        }
    };
    steps.push(ready(after, if token.is_empty() { SNAPSHOT } else { 0 }));
    let seqs: Vec<_> = (after + 1..=LAST).collect();
    // One commit, three, one, ….
    let mut rest = seqs.as_slice();
    for size in [1, 3].into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(size.min(rest.len()));
        steps.push(changes(now.iter().copied()));
        steps.push(progress(now[now.len() - 1]));
        rest = later;
    }
    steps
}

/// However often, wherever and however it breaks, each row comes once, in order, and those of a reset are void.
#[tokio::test]
async fn no_event_is_lost_or_doubled_wherever_it_breaks() {
    let breaks: [fn() -> Step; 4] = [
        || Step::Cut,
        || Step::Fail(Status::unavailable("down")),
        || Step::Send(ended("SLOW_CONSUMER")),
        || Step::Send(ended("SHUTTING_DOWN")),
    ];
    // A first call has some 26 messages; the calls after it go on for one, two, three, … messages.
    for first in 1..=26 {
        for (number, how) in breaks.into_iter().enumerate() {
            let server = serve(move |call, request| {
                let mut steps = faithful(request);
                let length = first + 2 * call;
                if length < steps.len() {
                    steps.truncate(length);
                    steps.push(how());
                } else {
                    steps.push(Step::Hang);
                }
                steps
            })
            .await;
            let mut events = server.open().await;
            let mut held = BTreeMap::new();
            let mut last = 0;
            while last < LAST {
                let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
                match event.expect("an event in time").unwrap().unwrap() {
                    SubscriptionEvent::Reset { .. } => held.clear(),
                    SubscriptionEvent::Rows(rows) => {
                        assert_eq!(last, 0, "rows only come before changes");
                        for row in &rows {
                            assert!(held.insert(row.get::<i64>("id").unwrap(), 0).is_none(), "twice: {row:?}");
                        }
                    }
                    SubscriptionEvent::Ready { commit_seq, .. } => {
                        assert!(last == 0 || last == commit_seq, "ready at {commit_seq} after {last}");
                        last = commit_seq;
                    }
                    SubscriptionEvent::Changes(commit) => {
                        assert_eq!(commit.commit_seq, last + 1, "break {number} after {first}");
                        last = commit.commit_seq;
                        for change in &commit.changes {
                            let id = change.new_row().unwrap().get::<i64>("id").unwrap();
                            assert!(held.insert(id, id).is_none());
                        }
                    }
                    SubscriptionEvent::Progress { commit_seq, .. } => assert_eq!(commit_seq, last),
                    _ => {}
                }
            }
            assert_eq!(held.len() as u64, LAST);
        }
    }
}
