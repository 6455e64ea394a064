//! A gRPC client that hides nothing: every field of an answer, and of an error its code, reason and metadata.
//!
//! It stands on the generated stubs rather than on `kalam-link`, because the tests must see the protocol itself,
//! including what a well-behaved client never sends.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, BufMut, Bytes};
use kalamdb_proto::v1::{
    Affected, Column, ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse, Rows,
    StatementResult, Value, admin_service_client::AdminServiceClient, auth_service_client::AuthServiceClient,
    flush_service_client::FlushServiceClient, query_service_client::QueryServiceClient, statement_result,
};
use tonic::{
    Code, Request, Response, Status,
    client::Grpc,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::values::{show, show_row};

/// Larger than any answer that the tests ask for.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// An error of the server, as a client sees it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// gRPC's code.
    pub code: Code,
    /// The stable reason; empty when the status has no `ErrorInfo` of KalamDB.
    pub reason: String,
    /// The text for the caller.
    pub message: String,
    /// The metadata of the `ErrorInfo`.
    pub metadata: HashMap<String, String>,
}

impl Failure {
    /// A metadata value, empty when absent.
    pub fn meta(&self, name: &str) -> &str {
        self.metadata.get(name).map_or("", String::as_str)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == "kalamdb");
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        Self { code: status.code(), reason, message: status.message().to_owned(), metadata }
    }
}

/// The result of one statement.
#[derive(Debug, Clone)]
pub struct Answer(pub StatementResult);

impl Answer {
    /// The rows.
    ///
    /// # Panics
    /// When the statement returned none.
    pub fn rows(&self) -> &Rows {
        match &self.0.result {
            Some(statement_result::Result::Rows(rows)) => rows,
            other => panic!("rows expected, got {other:?}"),
        }
    }

    /// The affected-row count and message.
    ///
    /// # Panics
    /// When the statement returned rows.
    pub fn affected(&self) -> &Affected {
        match &self.0.result {
            Some(statement_result::Result::Affected(affected)) => affected,
            other => panic!("an affected-row count expected, got {other:?}"),
        }
    }

    /// Each row as short text; see [`show_row`].
    pub fn shown(&self) -> Vec<String> {
        self.rows().rows.iter().map(show_row).collect()
    }

    /// The column names.
    pub fn names(&self) -> Vec<&str> {
        self.columns().iter().map(|column| column.name.as_str()).collect()
    }

    /// The columns.
    pub fn columns(&self) -> &[Column] {
        &self.rows().columns
    }

    /// The single value of a single row.
    ///
    /// # Panics
    /// When there is not exactly one.
    pub fn value(&self) -> &Value {
        match self.rows().rows.as_slice() {
            [row] if row.values.len() == 1 => &row.values[0],
            rows => panic!("one value expected, got {rows:?}"),
        }
    }

    /// The single value as short text.
    pub fn scalar(&self) -> String {
        show(self.value())
    }
}

/// What one call may say beyond its SQL.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Values of `$1…`.
    pub parameters: Vec<Value>,
    /// The statement time-out sent in the request.
    pub timeout: Option<Duration>,
    /// `RESULT_FORMAT_…`.
    pub format: i32,
    /// The least commit sequence to see.
    pub min_commit_seq: u64,
}

/// A connection that acts as one user in one namespace.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    user: Option<Vec<u8>>,
    key: Option<String>,
    token: Option<String>,
    namespace: String,
}

impl Client {
    /// Connects; calls carry no `x-user-id` and no namespace.
    ///
    /// # Panics
    /// When nobody listens at `url`.
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.unwrap_or_else(|error| panic!("connect to {url}: {error}"))
    }

    /// Connects.
    pub async fn try_connect(url: &str) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?;
        Ok(Self { channel, user: None, key: None, token: None, namespace: String::new() })
    }

    /// The same connection, acting for another user.
    #[must_use]
    pub fn user(&self, user: impl AsRef<[u8]>) -> Self {
        Self { user: Some(user.as_ref().to_vec()), ..self.clone() }
    }

    /// The same connection with an API key.
    #[must_use]
    pub fn api_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The same connection with a token.
    #[must_use]
    pub fn token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Calls over a connection that was made otherwise, such as an encrypted one.
    pub fn over(channel: Channel) -> Self {
        Self { channel, user: None, key: None, token: None, namespace: String::new() }
    }

    /// The same connection with another default namespace.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The default namespace.
    pub fn namespace_name(&self) -> &str {
        &self.namespace
    }

    /// The underlying channel.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The stubs of the query service.
    pub fn query_service(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The stubs of the flush service.
    pub fn flush_service(&self) -> FlushServiceClient<Channel> {
        FlushServiceClient::new(self.channel.clone())
    }

    /// The stubs of the service for passwords and tokens.
    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// The stubs of the admin service.
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// A request with this client's identity.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(user) = &self.user {
            let user = MetadataValue::try_from(user.as_slice()).expect("a user id that a header can carry");
            request.metadata_mut().insert("x-user-id", user);
        }
        if let Some(key) = &self.key {
            request.metadata_mut().insert("x-api-key", key.parse().expect("a key that a header can carry"));
        }
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}");
            request.metadata_mut().insert("authorization", value.parse().expect("a token that a header can carry"));
        }
        request
    }

    /// The request message of `Execute`.
    pub fn execute_request(&self, sql: &str, options: Options) -> ExecuteRequest {
        ExecuteRequest {
            sql: sql.to_owned(),
            parameters: options.parameters,
            namespace: self.namespace.clone(),
            timeout: options.timeout.map(proto_duration),
            format: options.format,
            min_commit_seq: options.min_commit_seq,
        }
    }

    /// Runs a batch by `Execute`.
    pub async fn execute(&self, sql: &str, options: Options) -> Result<Vec<Answer>, Failure> {
        let request = self.request(self.execute_request(sql, options));
        let response: Response<ExecuteResponse> = self.query_service().execute(request).await?;
        Ok(response.into_inner().results.into_iter().map(Answer).collect())
    }

    /// Runs one statement.
    pub async fn try_run(&self, sql: &str) -> Result<Answer, Failure> {
        self.try_run_with(sql, Vec::new()).await
    }

    /// Runs one statement with parameters.
    pub async fn try_run_with(&self, sql: &str, parameters: Vec<Value>) -> Result<Answer, Failure> {
        let mut answers = self.execute(sql, Options { parameters, ..Options::default() }).await?;
        assert_eq!(answers.len(), 1, "one result for one statement: {sql}");
        Ok(answers.remove(0))
    }

    /// Runs one statement that must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub async fn run(&self, sql: &str) -> Answer {
        self.try_run(sql).await.unwrap_or_else(|failure| panic!("{sql}\nfailed: {failure:#?}"))
    }

    /// Runs one statement with parameters that must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub async fn run_with(&self, sql: &str, parameters: Vec<Value>) -> Answer {
        self.try_run_with(sql, parameters).await.unwrap_or_else(|failure| panic!("{sql}\nfailed: {failure:#?}"))
    }

    /// Runs a query and shows its rows.
    ///
    /// # Panics
    /// When it fails.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        self.run(sql).await.shown()
    }

    /// Runs a query for its single value.
    ///
    /// # Panics
    /// When it fails or has another shape.
    pub async fn scalar(&self, sql: &str) -> String {
        self.run(sql).await.scalar()
    }

    /// Runs a statement that must fail with this reason and code, and whose message must not leak internals.
    ///
    /// # Panics
    /// When it succeeds or fails otherwise.
    pub async fn fails(&self, sql: &str, reason: &str, code: Code) -> Failure {
        self.fails_with(sql, Vec::new(), reason, code).await
    }

    /// [`Client::fails`] with parameters.
    ///
    /// # Panics
    /// When it succeeds or fails otherwise.
    pub async fn fails_with(&self, sql: &str, parameters: Vec<Value>, reason: &str, code: Code) -> Failure {
        let shown: String = sql.chars().take(300).collect();
        match self.try_run_with(sql, parameters).await {
            Ok(answer) => panic!("{shown}\nmust fail with {reason}, answered {answer:?}"),
            Err(failure) => expect_failure(&shown, failure, reason, code),
        }
    }

    /// Runs a batch by `ExecuteStream`; returns the events before the end, and the error if that was the end.
    pub async fn stream(&self, sql: &str, options: Options) -> (Vec<ExecuteStreamResponse>, Option<Failure>) {
        let request = self.execute_request(sql, options);
        let request = ExecuteStreamRequest {
            sql: request.sql,
            parameters: request.parameters,
            namespace: request.namespace,
            timeout: request.timeout,
            format: request.format,
            min_commit_seq: request.min_commit_seq,
        };
        let mut events = Vec::new();
        let mut stream = match self.query_service().execute_stream(self.request(request)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (events, Some(status.into())),
        };
        loop {
            match stream.message().await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, None),
                Err(status) => return (events, Some(status.into())),
            }
        }
    }

    /// Sends these very bytes as the message of a unary call.
    pub async fn raw(&self, path: &'static str, message: impl Into<Bytes>) -> Result<Bytes, Failure> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.expect("the channel is open");
        let request = self.request(message.into());
        let response = grpc.unary(request, PathAndQuery::from_static(path), BytesCodec).await?;
        Ok(response.into_inner())
    }
}

fn proto_duration(timeout: Duration) -> pbjson_types::Duration {
    pbjson_types::Duration { seconds: timeout.as_secs() as i64, nanos: timeout.subsec_nanos() as i32 }
}

/// Checks a failure's reason and code, and that its message is fit to be shown: not empty, no path, no Rust internals.
///
/// # Panics
/// When a check fails.
pub fn expect_failure(what: &str, failure: Failure, reason: &str, code: Code) -> Failure {
    assert_eq!(failure.reason, reason, "reason of {what}\n{failure:#?}");
    assert_eq!(failure.code, code, "code of {what}\n{failure:#?}");
    assert!(!failure.message.is_empty(), "a message for {what}");
    for leak in ["panicked", ".rs:", "RUST_BACKTRACE", "/src/", "DataFusion", "RocksDB", "Arrow error"] {
        assert!(!failure.message.contains(leak), "the message of {what} shows {leak:?}: {}", failure.message);
    }
    failure
}

/// A name that no other test uses, also when many test runs share a server.
pub fn unique_name(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let now = now_since_epoch().as_micros();
    format!("{prefix}_{:x}_{}_{}", now, std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

#[allow(clippy::disallowed_methods, reason = "tests measure the real server against the real clock")]
fn now_since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Microseconds since 1970, UTC.
pub fn now_us() -> i64 {
    now_since_epoch().as_micros() as i64
}

/// Passes message bytes through as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
