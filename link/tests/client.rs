//! The client against a gRPC server in the same process that answers what each test tells it to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use kalam_link::{Client, ClientBuilder, ErrorKind, RetryPolicy, StreamEvent, Value, params};
use kalamdb_proto::v1::{
    self, Column, ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse,
    execute_stream_response::Event,
    query_service_server::{QueryService, QueryServiceServer},
    statement_result,
};
use tokio::sync::oneshot;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};

type Answer = Result<ExecuteResponse, Status>;
type Events = Vec<Result<Event, Status>>;

#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    events: Arc<Mutex<Events>>,
    seen: Arc<Mutex<Vec<(MetadataMap, ExecuteRequest)>>>,
    delay: Arc<Mutex<Duration>>,
}

#[tonic::async_trait]
impl QueryService for Scripted {
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.seen.lock().unwrap().push((metadata, message));
        let delay = *self.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        let answer = self.answers.lock().unwrap().pop_front();
        answer.unwrap_or_else(|| Ok(affected(1))).map(Response::new)
    }

    type ExecuteStreamStream = std::pin::Pin<Box<dyn Stream<Item = Result<ExecuteStreamResponse, Status>> + Send>>;

    async fn execute_stream(
        &self,
        _: Request<ExecuteStreamRequest>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        let events: Events = std::mem::take(&mut *self.events.lock().unwrap());
        let responses = events.into_iter().map(|event| event.map(|event| ExecuteStreamResponse { event: Some(event) }));
        Ok(Response::new(stream::iter(responses).boxed()))
    }
}

struct Running {
    endpoint: String,
    service: Scripted,
    _stop: oneshot::Sender<()>,
}

async fn serve() -> Running {
    let service = Scripted::default();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", incoming.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder().add_service(QueryServiceServer::new(service.clone()));
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, async {
        let _ = stopped.await;
    }));
    Running { endpoint, service, _stop: stop }
}

impl Running {
    fn builder(&self) -> ClientBuilder {
        let quick = RetryPolicy { base_delay: Duration::from_millis(1), ..RetryPolicy::default() };
        Client::builder(&self.endpoint).retry(quick)
    }

    fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.service.answers.lock().unwrap().extend(answers);
    }

    fn calls(&self) -> usize {
        self.service.seen.lock().unwrap().len()
    }
}

fn affected(row_count: u64) -> ExecuteResponse {
    let affected = v1::Affected { row_count, message: format!("INSERT 0 {row_count}") };
    let result = Some(statement_result::Result::Affected(affected));
    ExecuteResponse { results: vec![v1::StatementResult { result, took_ms: 0.25, commit_seq: 42 }] }
}

fn id_column() -> Vec<Column> {
    let bigint = v1::SqlType { kind: v1::TypeKind::Bigint.into(), ..Default::default() };
    vec![Column { name: "id".into(), r#type: Some(bigint), nullable: false }]
}

fn batch(ids: std::ops::Range<i64>) -> Event {
    let row_count = ids.clone().count() as u64;
    let value = |id| v1::Value { kind: Some(v1::value::Kind::IntValue(id)) };
    let rows = ids.map(|id| v1::Row { values: vec![value(id)] }).collect();
    Event::Rows(v1::RowBatch { rows, row_count, ..Default::default() })
}

fn started(statement_index: u32) -> Event {
    Event::Started(v1::StatementStarted { statement_index, columns: id_column() })
}

#[tokio::test]
async fn a_call_carries_identity_parameters_and_options() {
    let server = serve().await;
    let client = server.builder().user("alice").token("t0ken").namespace("chat").connect().await.unwrap();
    let query = client.query("INSERT INTO t VALUES ($1, $2)").params(params![7, "x"]).min_commit_seq(5);
    let result = query.timeout(Duration::from_millis(1500)).execute().await.unwrap();
    assert_eq!((result.row_count(), result.commit_seq(), result.took_ms()), (1, 42, 0.25));
    client.for_user("b\u{f6}b").in_namespace("").execute("SELECT 1", ()).await.unwrap();

    let seen = server.service.seen.lock().unwrap();
    let (metadata, request) = &seen[0];
    assert_eq!(metadata.get("x-user-id").unwrap(), "alice");
    assert_eq!(metadata.get("authorization").unwrap(), "Bearer t0ken");
    assert_eq!(metadata.get("grpc-timeout").unwrap(), "2500000u");
    assert_eq!((request.namespace.as_str(), request.min_commit_seq), ("chat", 5));
    assert_eq!(request.parameters.len(), 2);
    assert_eq!(request.timeout.as_ref().map(|timeout| (timeout.seconds, timeout.nanos)), Some((1, 500_000_000)));

    let (metadata, request) = &seen[1];
    assert!(metadata.get("x-user-id").is_none());
    assert_eq!(metadata.get_bin("x-user-id-bin").unwrap().to_bytes().unwrap(), "b\u{f6}b".as_bytes());
    assert_eq!(metadata.get("authorization").unwrap(), "Bearer t0ken");
    assert_eq!(request.namespace, "");
}

#[tokio::test]
async fn reads_are_repeated_when_the_server_is_unavailable_and_writes_only_when_declared() {
    let server = serve().await;
    let client = server.builder().connect().await.unwrap();
    let down = || Err(Status::new(Code::Unavailable, "restarting"));

    server.answer([down(), down()]);
    client.execute("SELECT 1", ()).await.unwrap();
    assert_eq!(server.calls(), 3);

    server.answer([down()]);
    let error = client.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert_eq!((error.kind(), server.calls()), (ErrorKind::Unavailable, 4));

    server.answer([down()]);
    client.query("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING").idempotent(true).execute().await.unwrap();
    assert_eq!(server.calls(), 6);

    server.answer([Err(Status::new(Code::InvalidArgument, "no"))]);
    assert_eq!(client.execute("SELECT", ()).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
    assert_eq!(server.calls(), 7);
}

#[tokio::test]
async fn no_server_is_a_connection_error_and_one_that_appears_is_reached() {
    let server = serve().await;
    let endpoint = server.endpoint.clone();
    drop(server);
    let builder = || Client::builder(&endpoint).retry(RetryPolicy::NONE);
    // The port is free once the server has seen that it is to stop.
    let mut error = String::new();
    for _ in 0..100 {
        if let Err(refused) = builder().connect().await {
            assert_eq!(refused.kind(), ErrorKind::Connection);
            error = refused.to_string();
        }
        if error.contains("refused") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(error.contains("refused"), "{error}");

    let client = builder().connect_lazy().unwrap();
    assert_eq!(client.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err().kind(), ErrorKind::Connection);
    let patient = RetryPolicy { max_attempts: 20, base_delay: Duration::from_millis(20), ..RetryPolicy::default() };
    let client = Client::builder(&endpoint).retry(patient).connect_lazy().unwrap();
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let incoming = TcpIncoming::bind(endpoint["http://".len()..].parse().unwrap()).unwrap();
        Server::builder().add_service(QueryServiceServer::new(Scripted::default())).serve_with_incoming(incoming).await
    });
    assert_eq!(client.execute("INSERT INTO t VALUES (1)", ()).await.unwrap().row_count(), 1);
    late.abort();
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let server = serve().await;
    *server.service.delay.lock().unwrap() = Duration::from_secs(30);
    let client = server.builder().timeout(Duration::from_millis(50)).connect().await.unwrap();
    let error = client.execute("SELECT 1", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_stream_delivers_what_came_before_a_failure() {
    let server = serve().await;
    let finished = v1::StatementFinished { row_count: 5, took_ms: 1.5, ..Default::default() };
    *server.service.events.lock().unwrap() = vec![
        Ok(started(0)),
        Ok(batch(0..3)),
        Ok(batch(3..5)),
        Ok(Event::Finished(finished)),
        Ok(started(1)),
        Err(Status::new(Code::ResourceExhausted, "too much memory")),
    ];
    let client = server.builder().connections(2).connect().await.unwrap();
    let mut stream = client.execute_stream("SELECT id FROM t; SELECT 2", ()).await.unwrap();
    let mut rows = Vec::new();
    let mut finished = Vec::new();
    let mut error = None;
    while let Some(event) = stream.next().await {
        match event {
            Ok(StreamEvent::Rows(batch)) => rows.extend(batch.iter().map(|row| row.get::<i64>("id").unwrap())),
            Ok(StreamEvent::Finished(end)) => finished.push((end.row_count, end.message)),
            Ok(_) => {}
            Err(failure) => error = Some(failure),
        }
    }
    assert_eq!(rows, [0, 1, 2, 3, 4]);
    assert_eq!(finished, [(5, None)]);
    assert_eq!(error.unwrap().kind(), ErrorKind::ResourceExhausted);

    *server.service.events.lock().unwrap() = vec![Ok(started(0)), Ok(batch(0..2)), Ok(batch(2..4))];
    let rows: Vec<_> = client.execute_stream("SELECT id FROM t", ()).await.unwrap().rows().collect().await;
    let values: Vec<_> = rows.into_iter().map(|row| row.unwrap().into_values()).collect();
    assert_eq!(values, (0..4).map(|id| vec![Value::Int(id)]).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_statement_means_one() {
    let server = serve().await;
    let client = server.builder().connect().await.unwrap();
    let mut two = affected(1);
    two.results.extend(affected(2).results);
    server.answer([Ok(two.clone()), Ok(ExecuteResponse::default()), Ok(two)]);
    let message = |error: kalam_link::Error| error.to_string();
    assert_eq!(
        message(client.execute("a; b", ()).await.unwrap_err()),
        "exactly one statement was expected, 2 results were returned"
    );
    assert_eq!(
        message(client.execute("", ()).await.unwrap_err()),
        "exactly one statement was expected, 0 results were returned"
    );
    let counts: Vec<_> = client.execute_batch("a; b", ()).await.unwrap().iter().map(|r| r.row_count()).collect();
    assert_eq!(counts, [1, 2]);
}

#[tokio::test]
async fn a_message_over_the_bound_is_refused() {
    let server = serve().await;
    let client = server.builder().max_receive_bytes(1_000).max_send_bytes(1_000).connect().await.unwrap();
    let error = client.execute("x".repeat(2_000), ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.to_string().ends_with("the limit is 1000"), "{error}");
    assert_eq!(server.calls(), 0);
}
