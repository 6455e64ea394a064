//! Settings of a client.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::{
    client::{Client, Limits, Shared},
    endpoint,
    error::{Error, Result, root_cause},
    identity::{Credential, Identity},
    retry::{RetryPolicy, Safety, with_retries},
};

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_MAX_MESSAGE_BYTES: usize = 64 << 20;
// Windows of HTTP/2's default 64 KB would stall a large result once per round trip. What a consumer that does not read
// can hold back is bounded by the stream's window.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a [`Client`], made by [`Client::builder`].
///
/// ```no_run
/// # async fn example() -> Result<(), kalam_link::Error> {
/// use std::time::Duration;
///
/// let client = kalam_link::Client::builder("http://db.example:2900")
///     .token("eyJhbGciOi…")
///     .user("alice")
///     .namespace("chat")
///     .timeout(Duration::from_secs(10))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `connect`"]
pub struct ClientBuilder {
    endpoint: String,
    identity: Identity,
    namespace: String,
    timeout: Option<Duration>,
    connect_timeout: Duration,
    limits: Limits,
    connections: usize,
    retry: RetryPolicy,
}

impl ClientBuilder {
    pub(crate) fn new(endpoint: String) -> Self {
        ClientBuilder {
            endpoint,
            identity: Identity::default(),
            namespace: String::new(),
            timeout: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            limits: Limits { max_receive_bytes: DEFAULT_MAX_MESSAGE_BYTES, max_send_bytes: DEFAULT_MAX_MESSAGE_BYTES },
            connections: 1,
            retry: RetryPolicy::default(),
        }
    }

    /// The user to act for, any text. It is sent as `x-user-id`, or as `x-user-id-bin` when it is not visible ASCII.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.identity.user = Some(user.into());
        self
    }

    /// A bearer token (JWT), instead of an API key.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.identity.credential = Credential::Token(token.into());
        self
    }

    /// An API key, instead of a token.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.identity.credential = Credential::ApiKey(key.into());
        self
    }

    /// Namespace of unqualified table names. Default: none, every name must be qualified.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Time-out of every call that names none, as [`Query::timeout`](crate::Query::timeout). Default: none here; the
    /// server has its own.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The longest time for making a connection. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The largest message accepted from the server, in bytes. Default: 64 MiB.
    pub fn max_receive_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_receive_bytes = bytes;
        self
    }

    /// The largest message sent, in bytes. Default: 64 MiB; the server has its own limit.
    pub fn max_send_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_send_bytes = bytes;
        self
    }

    /// Number of HTTP/2 connections, used in turn; 0 means 1. Default: 1, which carries any number of concurrent
    /// calls; more help when a single connection's thread is the bottleneck, as in load generation.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// What is repeated after a failure, and how. Default: [`RetryPolicy::default`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Error::Configuration`] for settings that are not possible, [`Error::Connection`] when the server cannot be
    /// reached within the attempts of the retry policy.
    pub async fn connect(self) -> Result<Client> {
        let url = endpoint::normalise(&self.endpoint)?;
        let endpoint = self.transport(&url)?;
        let first = with_retries(&self.retry, Safety::Once, |_| async {
            let refused = |error: tonic::transport::Error| Error::Connection {
                endpoint: url.clone(),
                message: root_cause(&error),
            };
            endpoint.connect().await.map_err(refused)
        })
        .await?;
        self.client(url, endpoint, Some(first))
    }

    /// Makes a client that connects with its first call. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Configuration`] for settings that are not possible.
    pub fn connect_lazy(self) -> Result<Client> {
        let url = endpoint::normalise(&self.endpoint)?;
        let endpoint = self.transport(&url)?;
        self.client(url, endpoint, None)
    }

    /// The same settings for another server.
    pub(crate) fn elsewhere(mut self, endpoint: String, identity: Identity, namespace: String) -> Self {
        self.endpoint = endpoint;
        self.identity = identity;
        self.namespace = namespace;
        self
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn retry_policy(&self) -> &RetryPolicy {
        &self.retry
    }

    pub(crate) fn default_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    fn transport(&self, url: &str) -> Result<Endpoint> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .and_then(|endpoint| endpoint.user_agent(concat!("kalam-link/", env!("CARGO_PKG_VERSION"))))
            .map_err(|error| Error::configuration(format!("{url}: {}", root_cause(&error))))?;
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT))
    }

    fn client(self, url: String, endpoint: Endpoint, first: Option<Channel>) -> Result<Client> {
        let lazy = self.connections - usize::from(first.is_some());
        let channels = first.into_iter().chain((0..lazy).map(|_| endpoint.connect_lazy())).collect();
        let (identity, namespace) = (self.identity.clone(), self.namespace.clone());
        Client::new(Shared::new(url.into(), channels, self), identity, namespace)
    }
}
