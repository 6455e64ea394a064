//! Bare tonic streams: what live queries cost when there is no database, in a process of its own.
//!
//! `Subscribe` answers with prepared messages and keeps the stream open. `Execute` of an INSERT makes one message, of
//! the same bytes as the database would have sent, encodes it once and puts it into the streams that it concerns: those
//! of the same user that gave no parameter, or the row's conversation as the first one.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{StreamExt, stream};
use kalamdb_proto::v1::{
    ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse, SubscribeRequest, SubscribeResponse,
    Value,
    query_service_server::{QueryService, QueryServiceServer},
    subscribe_response::Event,
    value::Kind,
};
use prost::{
    DecodeError, Message,
    bytes::{BufMut, Bytes},
};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, BoxStream, Service, http},
    metadata::MetadataMap,
    server::{Grpc, NamedService, ServerStreamingService},
    transport::Server,
};

use super::{
    child::{self, ServerChild},
    echo::MAX_MESSAGE_BYTES,
};
use crate::error::{BenchError, Result};

/// Where the parameters of an INSERT are in the row that a change shows.
pub(crate) const PLACES: [usize; 5] = [0, 1, 2, 3, 5];
/// Which of the parameters may be a subscription's.
const FILTERED: usize = 1;

/// The hidden subcommand; its one argument is the file with the encoded script.
const SUBCOMMAND: &str = "broadcast-server";
/// As the database's own setting.
const MAX_STREAMS: u32 = 1_024;
/// Messages that wait for one stream; one that is slower ends.
const QUEUE: usize = 1_024;
const FAILED: &str = "the broadcast server failed";

/// What the server says: everything has been recorded from the database.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Script {
    /// What `Execute` answers.
    pub(crate) answer: ExecuteResponse,
    /// A change of one row, for the INSERTs to put their values in. Without a commit: there are no changes.
    pub(crate) change: SubscribeResponse,
    /// What every stream begins with.
    pub(crate) beginning: Vec<SubscribeResponse>,
}

impl Script {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.answer.encode_length_delimited_to_vec();
        for message in std::iter::once(&self.change).chain(&self.beginning) {
            bytes.extend(message.encode_length_delimited_to_vec());
        }
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        let answer = ExecuteResponse::decode_length_delimited(&mut bytes)?;
        let change = SubscribeResponse::decode_length_delimited(&mut bytes)?;
        let mut beginning = Vec::new();
        while !bytes.is_empty() {
            beginning.push(SubscribeResponse::decode_length_delimited(&mut bytes)?);
        }
        Ok(Self { answer, change, beginning })
    }
}

/// The server's process; it ends when this is dropped.
pub(crate) struct BroadcastServer(ServerChild);

impl BroadcastServer {
    pub(crate) async fn start(script: &Script) -> Result<Self> {
        ServerChild::start(SUBCOMMAND, &script.encode()).await.map(Self)
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url()
    }

    /// Process id; `None` once it ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.pid()
    }
}

/// Runs the server in this process until its standard input is closed, which happens when its parent ends.
pub(crate) async fn serve(script_file: &Path) -> Result<()> {
    let bytes = std::fs::read(script_file).map_err(BenchError::io(FAILED))?;
    let script =
        Script::decode(&bytes).map_err(|error| BenchError::Input(format!("{}: {error}", script_file.display())))?;
    let hub = Arc::new(Hub {
        answer: script.answer,
        change: script.change,
        beginning: script.beginning.iter().map(|message| message.encode_to_vec().into()).collect(),
        groups: Mutex::default(),
    });
    let writes = QueryServiceServer::new(Writes(Arc::clone(&hub))).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let server = Server::builder().max_concurrent_streams(MAX_STREAMS);
    child::serve({ server }.add_service(Streams(hub)).add_service(writes)).await
}

/// The hidden subcommand's argument, if the program was started with it.
pub(crate) fn subcommand_argument(arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<PathBuf> {
    child::argument(SUBCOMMAND, arguments)
}

/// Who listens, and what they are told.
struct Hub {
    answer: ExecuteResponse,
    change: SubscribeResponse,
    beginning: Vec<Bytes>,
    groups: Mutex<Groups>,
}

#[derive(Default)]
struct Groups {
    commits: u64,
    /// By user and by the one parameter.
    streams: HashMap<(String, String), Vec<mpsc::Sender<Bytes>>>,
}

impl Hub {
    fn subscribe(&self, user: String, request: &SubscribeRequest) -> BoxStream<Bytes> {
        let parameter = request.queries.first().and_then(|query| query.parameters.first());
        let group = (user, parameter.map(text).unwrap_or_default().to_owned());
        let (sender, receiver) = mpsc::channel(QUEUE);
        {
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            let streams = groups.streams.entry(group).or_default();
            // Those that have gone, now and then.
            if streams.len() == streams.capacity() {
                streams.retain(|stream| !stream.is_closed());
            }
            streams.push(sender);
        }
        Box::pin(stream::iter(self.beginning.clone()).chain(ReceiverStream::new(receiver)).map(Ok))
    }

    fn insert(&self, user: String, parameters: &[Value]) -> Result<(), Status> {
        let mut change = self.change.clone();
        let Some(Event::Changes(changes)) = &mut change.event else { return Ok(()) };
        let commit = changes.commits.first_mut().ok_or_else(|| Status::internal("the script has no commit"))?;
        let row = commit.changes.first_mut().and_then(|change| change.new_row.as_mut());
        let row = row.ok_or_else(|| Status::internal("the script has no row"))?;
        for (place, value) in PLACES.into_iter().zip(parameters) {
            let old = row.values.get_mut(place).ok_or_else(|| Status::internal("the script's row is too short"))?;
            *old = value.clone();
        }
        let parameter = parameters.get(FILTERED).map(text).unwrap_or_default().to_owned();

        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.commits += 1;
        if let Some(Event::Changes(changes)) = &mut change.event {
            changes.commits.iter_mut().for_each(|commit| commit.commit_seq = groups.commits);
        }
        let bytes = Bytes::from(change.encode_to_vec());
        for group in [(user.clone(), String::new()), (user, parameter)] {
            if let Some(streams) = groups.streams.get_mut(&group) {
                streams.retain(|stream| match stream.try_send(bytes.clone()) {
                    Ok(()) => true,
                    // Its client sees the end, and fails.
                    Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
                });
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> &str {
    match &value.kind {
        Some(Kind::TextValue(text)) => text,
        _ => "",
    }
}

fn user_of(metadata: &MetadataMap) -> String {
    metadata.get("x-user-id").and_then(|user| user.to_str().ok()).unwrap_or_default().to_owned()
}

/// `Subscribe`, as the generated code serves it, but with messages that are encoded already.
#[derive(Clone)]
struct Streams(Arc<Hub>);

impl NamedService for Streams {
    const NAME: &'static str = "kalamdb.v1.SubscribeService";
}

impl Service<http::Request<Body>> for Streams {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Subscribe(Arc::clone(&self.0));
        Box::pin(async move { Ok(Grpc::new(EncodedCodec).server_streaming(method, request).await) })
    }
}

struct Subscribe(Arc<Hub>);

impl ServerStreamingService<SubscribeRequest> for Subscribe {
    type Response = Bytes;
    type ResponseStream = BoxStream<Bytes>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<SubscribeRequest>) -> Self::Future {
        let user = user_of(request.metadata());
        ready(Ok(Response::new(self.0.subscribe(user, request.get_ref()))))
    }
}

struct EncodedCodec;

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = SubscribeRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self
    }
}

impl Encoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for EncodedCodec {
    type Item = SubscribeRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<SubscribeRequest>, Status> {
        SubscribeRequest::decode(buffer).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

struct Writes(Arc<Hub>);

#[tonic::async_trait]
impl QueryService for Writes {
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        self.0.insert(user_of(request.metadata()), &request.get_ref().parameters)?;
        Ok(Response::new(self.0.answer.clone()))
    }

    type ExecuteStreamStream = stream::Empty<Result<ExecuteStreamResponse, Status>>;

    async fn execute_stream(
        &self,
        _request: Request<ExecuteStreamRequest>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        Err(Status::unimplemented("the broadcast server answers Execute and Subscribe only"))
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_proto::v1::{LiveChange, LiveChanges, LiveCommit, LiveProgress, LiveQuery, Row};

    use super::*;
    use crate::wire;

    fn script() -> Script {
        let row = Row { values: vec![Value::default(); 6] };
        let change = LiveChange { new_row: Some(row), ..LiveChange::default() };
        let commit = LiveCommit { changes: vec![change], ..LiveCommit::default() };
        let changes = Event::Changes(LiveChanges { commits: vec![commit] });
        let progress = Event::Progress(LiveProgress::default());
        Script {
            answer: ExecuteResponse::default(),
            change: SubscribeResponse { query_index: 0, event: Some(changes) },
            beginning: vec![SubscribeResponse { query_index: 3, event: Some(progress) }; 2],
        }
    }

    #[test]
    fn a_script_survives_its_file() {
        assert_eq!(Script::decode(&script().encode()), Ok(script()));
        assert_eq!(Script::decode(&Script::default().encode()), Ok(Script::default()));
    }

    #[tokio::test]
    async fn a_change_reaches_those_whom_it_concerns() {
        let script = script();
        let beginning = script.beginning.iter().map(|message| message.encode_to_vec().into()).collect();
        let hub = Hub { answer: script.answer, change: script.change, beginning, groups: Mutex::default() };
        let subscribe = |user: &str, parameters: Vec<Value>| {
            let query = LiveQuery { parameters, ..LiveQuery::default() };
            hub.subscribe(user.to_owned(), &SubscribeRequest { queries: vec![query], ..SubscribeRequest::default() })
        };
        let all = subscribe("ana", Vec::new());
        let matching = subscribe("ana", vec![wire::text("trip")]);
        let other = subscribe("ana", vec![wire::text("work")]);
        let stranger = subscribe("bob", Vec::new());
        let row = [wire::int(7), wire::text("trip"), wire::text("user"), wire::text("hello"), wire::int(2)];
        hub.insert("ana".to_owned(), &row).unwrap();
        drop(hub);

        assert_eq!(stranger.count().await, 2);
        assert_eq!(other.count().await, 2);
        assert_eq!(matching.count().await, 3);
        let messages: Vec<_> = all.collect().await;
        let last = SubscribeResponse::decode(messages.last().unwrap().as_ref().unwrap().clone()).unwrap();
        let Some(Event::Changes(changes)) = last.event else { panic!("{last:?}") };
        assert_eq!(changes.commits[0].commit_seq, 1);
        let values = &changes.commits[0].changes[0].new_row.as_ref().unwrap().values;
        assert_eq!((values[0].clone(), values[5].clone()), (wire::int(7), wire::int(2)));
    }
}
