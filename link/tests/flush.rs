//! Flushes against a gRPC server in the same process that answers what each test tells it to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt, stream};
use kalam_link::{Client, ErrorKind, FlushEvent, JobStatus};
use kalamdb_proto::v1::{
    self, FlushAllTablesRequest, FlushAllTablesResponse, FlushTableRequest, FlushTableResponse,
    flush_all_tables_response::Event as AllEvent,
    flush_service_server::{FlushService, FlushServiceServer},
    flush_table_response::Event,
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// `Ok(None)` is an event that this client does not know.
type Script = Vec<Result<Option<Event>, Status>>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone, Default)]
struct Scripted {
    events: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<FlushTableRequest>>>,
}

#[tonic::async_trait]
impl FlushService for Scripted {
    type FlushTableStream = Answers<FlushTableResponse>;

    async fn flush_table(
        &self,
        request: Request<FlushTableRequest>,
    ) -> Result<Response<Self::FlushTableStream>, Status> {
        assert!(request.metadata().get("grpc-timeout").is_none(), "a flush takes as long as it takes");
        self.seen.lock().unwrap().push(request.into_inner());
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        let answers = events.into_iter().map(|event| event.map(|event| FlushTableResponse { event }));
        Ok(Response::new(stream::iter(answers).boxed()))
    }

    type FlushAllTablesStream = Answers<FlushAllTablesResponse>;

    async fn flush_all_tables(
        &self,
        _: Request<FlushAllTablesRequest>,
    ) -> Result<Response<Self::FlushAllTablesStream>, Status> {
        let all = v1::AllTablesFlushed { tables: 2, rows: 7, ..Default::default() };
        let events = [AllEvent::Finished(finished(7)), AllEvent::AllFinished(all)];
        let answers = events.map(|event| Ok(FlushAllTablesResponse { event: Some(event) }));
        Ok(Response::new(stream::iter(answers).boxed()))
    }
}

async fn serve() -> (Client, Scripted) {
    let service = Scripted::default();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", incoming.local_addr().unwrap());
    tokio::spawn(Server::builder().add_service(FlushServiceServer::new(service.clone())).serve_with_incoming(incoming));
    // The time-out of the settings is not that of flushes.
    let client = Client::builder(endpoint).timeout(std::time::Duration::from_millis(1)).connect().await.unwrap();
    (client, service)
}

fn started() -> Result<Option<Event>, Status> {
    let job_id = "7".to_owned();
    Ok(Some(Event::Started(v1::FlushStarted { job_id, namespace: "chat".to_owned(), table: "t".to_owned() })))
}

fn finished(rows: u64) -> v1::FlushFinished {
    let failed = v1::FailedPartition { user_id: "ana".to_owned(), message: "full".to_owned() };
    v1::FlushFinished {
        rows,
        status: v1::JobStatus::Failed.into(),
        failed_partitions: vec![failed],
        ..Default::default()
    }
}

#[tokio::test]
async fn events_come_in_order_and_unknown_ones_are_left_out() {
    let (client, service) = serve().await;
    let flushed = |user_id: &str| {
        Ok(Some(Event::PartitionFlushed(v1::PartitionFlushed { user_id: user_id.to_owned(), ..Default::default() })))
    };
    let script = vec![started(), flushed("ana"), Ok(None), flushed(""), Ok(Some(Event::Finished(finished(3))))];
    *service.events.lock().unwrap() = script;
    let events: Vec<_> =
        client.flush_table("chat", "t").force(true).stream().await.unwrap().map(Result::unwrap).collect().await;
    let users: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            FlushEvent::PartitionFlushed(partition) => Some(partition.user_id.as_deref()),
            _ => None,
        })
        .collect();
    assert_eq!((events.len(), users), (4, vec![Some("ana"), None]));
    let seen = service.seen.lock().unwrap();
    assert_eq!((seen[0].force, seen[0].wait), (true, Some(true)));
}

#[tokio::test]
async fn waiting_answers_the_summary_and_starting_the_job() {
    let (client, service) = serve().await;
    *service.events.lock().unwrap() = vec![started(), Ok(Some(Event::Finished(finished(3))))];
    let end = client.flush_table("chat", "t").wait().await.unwrap();
    assert_eq!((end.rows, end.status, end.failed_partitions[0].message.as_str()), (3, JobStatus::Failed, "full"));
    assert_eq!(client.flush_all().wait().await.unwrap().rows, 7);

    *service.events.lock().unwrap() = vec![started()];
    assert_eq!(client.flush_table("chat", "t").start().await.unwrap(), "7");
    assert_eq!(service.seen.lock().unwrap()[1].wait, Some(false));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error() {
    let (client, service) = serve().await;
    *service.events.lock().unwrap() = vec![started(), Err(Status::new(Code::Unavailable, "stopping"))];
    let error = client.flush_table("chat", "t").wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    *service.events.lock().unwrap() = vec![started()];
    let error = client.flush_table("chat", "t").wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}
