use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use bytes::Bytes;
use futures::StreamExt;
use http_body::Body as _;
use kalamdb_engine::{Caller, EngineSettings, Request, Role, SystemEnv, UserId};
use kalamdb_proto::v1::{
    ChangeType, LiveChanges, LiveCommit, NoRows, SubscribeResponse, initial_rows, subscribe_response::Event,
    value::Kind,
};
use prost::Message;
use tokio::time::timeout;
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    body::FrameBody,
    frame::{Frame, Written},
    *,
};
use crate::{call::TraceIds, identity::Grant};

const PATIENCE: Duration = Duration::from_secs(20);

fn engine() -> Arc<Engine> {
    Engine::open(EngineSettings::default(), Vec::new(), Arc::new(SystemEnv)).unwrap()
}

fn api(engine: &Arc<Engine>) -> SubscribeApi {
    SubscribeApi::new(Arc::clone(engine), 3, 7)
}

fn context(timeout: Option<Duration>) -> CallContext {
    let trace = TraceIds::new(&SystemEnv).of(&http::HeaderMap::new());
    CallContext {
        caller: Caller::new(UserId::new("ana").unwrap(), Role::System),
        grant: Grant::bypass(),
        timeout,
        trace,
    }
}

async fn run(engine: &Engine, sql: &str) {
    let mut run = engine.session(context(None).caller).execute(Request::new(sql));
    while let Some(done) = run.next().await {
        done.unwrap();
    }
}

async fn with_table() -> Arc<Engine> {
    let engine = engine();
    run(&engine, "CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, body TEXT)").await;
    engine
}

fn query(sql: &str) -> v1::LiveQuery {
    v1::LiveQuery { sql: sql.to_owned(), ..Default::default() }
}

fn request(queries: impl IntoIterator<Item = v1::LiveQuery>) -> SubscribeRequest {
    SubscribeRequest { queries: queries.into_iter().collect(), namespace: "app".to_owned() }
}

async fn refused(api: &SubscribeApi, request: SubscribeRequest) -> (Code, String) {
    match api.subscribe(&context(None), request).await {
        Ok(_) => panic!("not refused"),
        Err(status) => (status.code(), status.get_details_error_info().unwrap().reason),
    }
}

/// The messages of a body, as a client decodes them.
struct Client {
    body: Pin<Box<FrameBody<LiveCall>>>,
    bytes: Vec<u8>,
    trailers: Option<http::HeaderMap>,
}

impl Client {
    fn new(call: LiveCall) -> Self {
        Self { body: Box::pin(FrameBody::new(call)), bytes: Vec::new(), trailers: None }
    }

    async fn subscribe(engine: &Arc<Engine>, queries: impl IntoIterator<Item = v1::LiveQuery>) -> Self {
        Self::new(api(engine).subscribe(&context(None), request(queries)).await.unwrap())
    }

    /// The next message; `None` behind the last.
    async fn next(&mut self) -> Option<SubscribeResponse> {
        loop {
            if let Some(message) = self.decode() {
                return Some(message);
            }
            let frame = timeout(PATIENCE, poll_fn(|cx| self.body.as_mut().poll_frame(cx))).await.expect("an event");
            let frame = frame?.unwrap();
            match frame.into_data() {
                Ok(data) => self.bytes.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    fn decode(&mut self) -> Option<SubscribeResponse> {
        let header = self.bytes.first_chunk::<5>()?;
        assert_eq!(header[0], 0, "not compressed");
        let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
        let message = SubscribeResponse::decode(self.bytes.get(5..5 + length)?).unwrap();
        self.bytes.drain(..5 + length);
        Some(message)
    }

    /// The next event but progress.
    async fn event(&mut self) -> (u32, Event) {
        loop {
            let SubscribeResponse { query_index, event } = self.next().await.expect("an event");
            match event.unwrap() {
                Event::Progress(progress) => assert!(!progress.resume_token.is_empty()),
                event => return (query_index, event),
            }
        }
    }

    /// The next changes, some or all of those that there are.
    async fn commits(&mut self) -> Vec<LiveCommit> {
        match self.event().await.1 {
            Event::Changes(LiveChanges { commits }) => commits,
            event => panic!("{event:?}"),
        }
    }

    async fn status(mut self) -> (String, String) {
        while let Some(message) = self.next().await {
            assert!(matches!(message.event, Some(Event::Ended(_) | Event::Progress(_))), "{message:?}");
        }
        let trailers = self.trailers.unwrap();
        let text = |name: &str| trailers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        (text("grpc-status"), text("grpc-message"))
    }
}

fn ints(row: &v1::Row) -> i64 {
    match row.values[0].kind {
        Some(Kind::IntValue(value)) => value,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_then_changes_then_the_end() {
    let engine = with_table().await;
    run(&engine, "INSERT INTO app.t SELECT v, 'x' FROM generate_series(1, 3000) AS g(v)").await;
    let mut client = Client::subscribe(&engine, [query("SUBSCRIBE TO t WHERE id > 1000")]).await;
    let (0, Event::Started(started)) = client.event().await else { panic!() };
    assert_eq!((started.node_id, started.columns.len()), (7, 2));
    let mut rows = 0;
    let ready = loop {
        match client.event().await.1 {
            Event::Rows(batch) => rows += batch.row_count,
            Event::Ready(ready) => break ready,
            event => panic!("{event:?}"),
        }
    };
    assert_eq!((rows, ready.row_count), (2000, 2000));

    run(&engine, "UPDATE app.t SET body = 'y' WHERE id IN (1, 1001); DELETE FROM app.t WHERE id = 1002").await;
    run(&engine, "INSERT INTO app.t VALUES (5000, 'z'), (5001, NULL)").await;
    let mut commits = Vec::new();
    while commits.len() < 3 {
        commits.extend(client.commits().await);
    }
    let kinds: Vec<Vec<_>> = commits.iter().map(|c| c.changes.iter().map(|c| c.r#type()).collect()).collect();
    assert_eq!(kinds, [vec![ChangeType::Update], vec![ChangeType::Delete], vec![ChangeType::Insert; 2]]);
    assert!(commits.is_sorted_by_key(|commit| commit.commit_seq) && commits[0].commit_seq > ready.commit_seq);
    let update = &commits[0].changes[0];
    assert_eq!(update.new_row.as_ref().map(ints), Some(1001));
    assert_eq!(update.old_row.as_ref().unwrap().values[1].kind, Some(Kind::TextValue("x".to_owned())));
    assert_eq!(commits[1].changes[0].old_row.as_ref().map(ints), Some(1002));
    assert_eq!(commits[2].changes.iter().map(|c| ints(c.new_row.as_ref().unwrap())).collect::<Vec<_>>(), [5000, 5001]);

    let token = commits[1].resume_token.clone();
    let mut resumed = query("SUBSCRIBE TO t WHERE id > 1000");
    resumed.resume_token = token;
    let mut again = Client::subscribe(&engine, [resumed]).await;
    assert!(matches!(again.event().await.1, Event::Started(_)));
    assert!(matches!(again.event().await.1, Event::Ready(ready) if ready.commit_seq == commits[1].commit_seq));
    assert_eq!(again.commits().await, commits[2..]);

    engine.end_live_queries();
    let (_, Event::Ended(ended)) = client.event().await else { panic!() };
    assert_eq!(ended.reason, "SHUTTING_DOWN");
    assert!(!ended.resume_token.is_empty());
    assert_eq!(client.status().await.0, "14");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_a_call_are_served_and_end_by_themselves() {
    let engine = with_table().await;
    let queries =
        [query("SUBSCRIBE TO t"), query("SUBSCRIBE SELECT body FROM t"), query("SUBSCRIBE TO t WHERE id = 1")];
    let mut client = Client::subscribe(&engine, queries).await;
    let mut ids = vec![String::new(); 3];
    let mut ready = 0;
    while ready < 3 {
        match client.event().await {
            (index, Event::Started(started)) => ids[index as usize] = started.live_id,
            (_, Event::Ready(_)) => ready += 1,
            (_, event) => panic!("{event:?}"),
        }
    }
    run(&engine, "INSERT INTO app.t VALUES (1, 'a')").await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let (index, Event::Changes(_)) = client.event().await else { panic!() };
        told.push(index);
    }
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2]);

    let session = engine.session(context(None).caller);
    assert_eq!(session.live_queries().unwrap().len(), 3);
    for (ended, id) in ids.iter().enumerate() {
        session.kill_live_query(convert::to_live_query_id(id).unwrap()).unwrap();
        let (index, Event::Ended(end)) = client.event().await else { panic!() };
        assert_eq!((index as usize, end.reason.as_str()), (ended, "LIVE_QUERY_KILLED"));
    }
    let (code, message) = client.status().await;
    assert_eq!(code, "1", "{message}");
    assert!(session.live_queries().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_queries_of_a_call_are_told_how_far_they_are() {
    let engine = with_table().await;
    let mut client = Client::subscribe(&engine, [query("SUBSCRIBE TO t"), query("SUBSCRIBE TO t WHERE id = 1")]).await;
    let mut at = [0; 2];
    let mut ready = 0;
    while ready < 2 {
        if let (index, Event::Ready(event)) = client.event().await {
            at[index as usize] = event.commit_seq;
            ready += 1;
        }
    }
    // It concerns one of them, and the other hears how far it is all the same.
    run(&engine, "INSERT INTO app.t VALUES (2, 'x')").await;
    let (mut changed, mut token) = (0, String::new());
    while changed == 0 || token.is_empty() {
        let SubscribeResponse { query_index, event } = client.next().await.expect("an event");
        let last = &mut at[query_index as usize];
        match event.unwrap() {
            Event::Changes(changes) => {
                assert_eq!((query_index, changed), (0, 0));
                changed = changes.commits[0].commit_seq;
                assert!(changed > *last, "a progress has overtaken the change");
                *last = changed;
            }
            Event::Progress(progress) => {
                assert!(progress.commit_seq >= *last);
                *last = progress.commit_seq;
                if query_index == 1 && changed > 0 && progress.commit_seq >= changed {
                    token = progress.resume_token;
                }
            }
            event => panic!("{event:?}"),
        }
    }
    let mut resumed = query("SUBSCRIBE TO t WHERE id = 1");
    resumed.resume_token = token;
    let mut again = Client::subscribe(&engine, [resumed]).await;
    assert!(matches!(again.event().await.1, Event::Started(_)));
    assert!(matches!(again.event().await.1, Event::Ready(ready) if ready.commit_seq >= changed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_leaves_nothing() {
    let engine = with_table().await;
    let mut client = Client::subscribe(&engine, [query("SUBSCRIBE TO t"), query("SUBSCRIBE TO t")]).await;
    client.event().await;
    assert_eq!(engine.live_counters().active, 2);
    drop(client);
    assert_eq!(engine.live_counters().active, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline() {
    let engine = with_table().await;
    let context = context(Some(Duration::from_millis(200)));
    let call = api(&engine).subscribe(&context, request([query("SUBSCRIBE TO t")])).await.unwrap();
    let mut client = Client::new(call);
    while client.next().await.is_some() {}
    assert_eq!(client.status().await.0, "4");
    assert_eq!(engine.live_counters().active, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_one_query_is_wrong_with_the_call() {
    let engine = with_table().await;
    let api = api(&engine);
    assert_eq!(refused(&api, request([])).await, (Code::InvalidArgument, "INVALID_REQUEST".to_owned()));
    let four = (0..4).map(|_| query("SUBSCRIBE TO t"));
    assert_eq!(refused(&api, request(four)).await, (Code::ResourceExhausted, "TOO_MANY_LIVE_QUERIES".to_owned()));
    let wrong = request([query("SUBSCRIBE TO t"), query("SUBSCRIBE TO nothing")]);
    let status = api.subscribe(&context(None), wrong).await.err().unwrap();
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["query_index"].as_str()), ("TABLE_NOT_FOUND", "1"));
    assert_eq!(engine.live_counters().active, 0);

    let negative = v1::InitialRows { kind: Some(initial_rows::Kind::LastRows(-1)) };
    let seconds = |seconds| Some(pbjson_types::Duration { seconds, nanos: 0 });
    for wrong in [
        v1::LiveQuery { initial_rows: Some(negative), ..query("SUBSCRIBE TO t") },
        v1::LiveQuery { slow_consumer: 9, ..query("SUBSCRIBE TO t") },
        v1::LiveQuery { max_batch_delay: seconds(11), ..query("SUBSCRIBE TO t") },
        v1::LiveQuery { max_batch_delay: seconds(-1), ..query("SUBSCRIBE TO t") },
        query("SELECT * FROM t"),
    ] {
        assert_eq!(refused(&api, request([wrong])).await.0, Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_held_back_to_come_together() {
    let engine = with_table().await;
    let held = v1::LiveQuery {
        initial_rows: Some(v1::InitialRows { kind: Some(initial_rows::Kind::None(NoRows {})) }),
        max_batch_delay: Some(pbjson_types::Duration { seconds: 1, nanos: 500_000_000 }),
        ..query("SUBSCRIBE TO t")
    };
    let mut client = Client::subscribe(&engine, [held]).await;
    assert!(matches!(client.event().await.1, Event::Started(_)));
    assert!(matches!(client.event().await.1, Event::Ready(_)));
    for id in 0..5 {
        run(&engine, &format!("INSERT INTO app.t VALUES ({id}, 'x')")).await;
    }
    assert_eq!(client.commits().await.len(), 5);
}

/// There can be a hundred thousand of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_waits_is_small() {
    let engine = with_table().await;
    let context = context(None);
    let queries = api(&engine).queries(&context, request([query("SUBSCRIBE TO t")])).await.unwrap();
    for (query, delay) in queries {
        let feed = QueryFeed::new(query, 0, delay, 7, context.trace, Arc::clone(&context.grant)).into_stream();
        let bytes = size_of_val(&*feed);
        println!("a query that waits: {bytes} bytes");
        assert!(bytes <= 2_048, "{bytes} bytes");
    }
}

/// Bytes that a frame is sent as.
fn written(frame: Frame) -> (Vec<u8>, usize) {
    let mut written = Written::default();
    assert!(frame.write(&mut written));
    let (mut bytes, mut pieces) = (Vec::new(), 0);
    let length = written.len();
    while let Some(piece) = written.take() {
        bytes.extend_from_slice(&piece);
        pieces += 1;
    }
    assert_eq!((bytes.len(), written.len()), (length, 0));
    (bytes, pieces)
}

#[test]
fn shared_bytes_make_a_message() {
    let commit = |seq: u64, token_bytes: usize| LiveCommit {
        commit_seq: seq,
        resume_token: "t".repeat(token_bytes),
        ..LiveCommit::default()
    };
    let shared = |commit: &LiveCommit| Bytes::from(LiveChanges { commits: vec![commit.clone()] }.encode_to_vec());
    for (query_index, sizes) in [(0, vec![10]), (300, vec![10, 20, 30]), (1, vec![10, 100_000, 5, 70_000])] {
        let commits: Vec<_> = (1..).zip(&sizes).map(|(seq, size)| commit(seq, *size)).collect();
        let frame = Frame::Changes { query_index, commits: commits.iter().map(shared).collect() };
        let length = frame.message_len();
        let (bytes, pieces) = written(frame);
        assert_eq!(bytes.len(), 5 + length);
        assert_eq!(bytes[..5], [&[0][..], &u32::try_from(length).unwrap().to_be_bytes()].concat());
        let expected = SubscribeResponse { query_index, event: Some(Event::Changes(LiveChanges { commits })) };
        assert_eq!(SubscribeResponse::decode(&bytes[5..]).unwrap(), expected);
        assert_eq!(pieces, if sizes.len() == 4 { 4 } else { 1 }, "small ones are copied, large ones are not");
    }
    let event = Event::Ready(v1::LiveReady { commit_seq: 5, resume_token: "r".to_owned(), row_count: 1 });
    let (bytes, _) = written(Frame::event(2, event.clone()));
    let message = SubscribeResponse { query_index: 2, event: Some(event) };
    assert_eq!(bytes[5..], message.encode_to_vec());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_is_the_message_that_it_stands_for() {
    let engine = with_table().await;
    let queries = api(&engine).queries(&context(None), request([query("SUBSCRIBE TO t")])).await.unwrap();
    let (mut live, _) = queries.into_iter().next().unwrap();
    let idle = live.idle_progress();
    assert!(idle.now().is_none(), "it has not begun");
    let token = loop {
        let mut next = pin!(live.next_unless_idle());
        let told = poll_fn(|cx| match next.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => idle.now().map_or(Poll::Pending, |(_, token)| Poll::Ready(Some(token))),
        });
        if let Some(token) = told.await {
            break token;
        }
    };
    assert!(idle.now().is_none(), "it waits no longer");
    for (query_index, commit_seq) in [(0, 0), (0, 5), (3, 0), (300, u64::MAX)] {
        let (bytes, pieces) = written(Frame::Progress { query_index, commit_seq, token });
        let progress = v1::LiveProgress { commit_seq, resume_token: token.as_str().to_owned() };
        let message = SubscribeResponse { query_index, event: Some(Event::Progress(progress)) };
        assert_eq!((&bytes[5..], pieces), (message.encode_to_vec().as_slice(), 1));
        assert_eq!(bytes[..5], [&[0][..], &u32::try_from(bytes.len() - 5).unwrap().to_be_bytes()].concat());
    }
}

#[tokio::test]
async fn a_body_without_frames_is_a_status() {
    let empty = futures::stream::empty::<Result<Frame, Status>>();
    let mut body = pin!(FrameBody::new(empty.boxed()));
    let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap().unwrap();
    assert_eq!(frame.trailers_ref().unwrap()["grpc-status"], "0");
    assert!(poll_fn(|cx| body.as_mut().poll_frame(cx)).await.is_none());
}
