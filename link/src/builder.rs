//! Settings of a client.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::{
    client::{Client, Limits, Shared},
    credential::{AccessToken, BoxError, Credential, TokenSource},
    endpoint::Address,
    error::{Error, Result, root_cause},
    identity::Identity,
    retry::{RetryPolicy, Safety, with_retries},
    tls::{Connector, Tls},
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
/// let client = kalam_link::Client::builder("https://db.example:2900")
///     .api_key("kdb_…")
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
    tls: Option<Tls>,
    plaintext_secrets: bool,
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
            tls: None,
            plaintext_secrets: false,
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

    /// A bearer token (JWT). Of this and the three that follow, the one named last counts.
    pub fn token(self, token: impl Into<String>) -> Self {
        self.credential(Credential::Token(token.into().into()))
    }

    /// An API key.
    pub fn api_key(self, key: impl Into<String>) -> Self {
        self.credential(Credential::ApiKey(key.into().into()))
    }

    /// A name and a password, which the client exchanges for a session (`AuthService.Login`). It refreshes its tokens
    /// before they expire, and once after the server has refused one; where the session cannot be refreshed it logs in
    /// again. [`ClientBuilder::connect`] logs in at once, so that a wrong password is known there.
    pub fn login(self, username: impl Into<String>, password: impl Into<String>) -> Self {
        let source = TokenSource::login(username.into(), password.into().into());
        self.credential(Credential::Renewed(source.into()))
    }

    /// Where bearer tokens come from: asked for the first one, for the next before one expires, and once when the server
    /// has refused one. Of many calls at once only one asks.
    ///
    /// ```no_run
    /// use std::{error::Error, time::Duration};
    ///
    /// use kalam_link::{AccessToken, Client};
    ///
    /// # async fn ask_my_service() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// async fn token() -> Result<AccessToken, Box<dyn Error + Send + Sync>> {
    ///     Ok(AccessToken::new(ask_my_service().await?).expires_in(Duration::from_secs(300)))
    /// }
    ///
    /// # async fn example() -> Result<(), kalam_link::Error> {
    /// let client = Client::builder("https://db.example:2900").token_provider(token).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn token_provider<F, R>(self, provider: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<AccessToken, BoxError>> + Send + 'static,
    {
        self.credential(Credential::Renewed(TokenSource::provider(provider).into()))
    }

    /// How the connection is encrypted. Default: as [`Tls::new`] for an address that begins with `https://`, not at all
    /// for others. With it, an address without a scheme is `https`.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Whether credentials and passwords are sent over a connection to another machine that is not encrypted, where
    /// whoever is between can read them. Default: false, which is an error. For networks that are encrypted themselves.
    pub fn allow_plaintext_secrets(mut self, allowed: bool) -> Self {
        self.plaintext_secrets = allowed;
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

    /// Connects, and logs in where that is the credential.
    ///
    /// # Errors
    /// [`Error::Configuration`] for settings that are not possible, [`Error::Connection`] when the server cannot be
    /// reached within the attempts of the retry policy. Those of the server for a login that it refuses, and
    /// [`Error::Credential`] when there is no token to be had.
    pub async fn connect(self) -> Result<Client> {
        let transport = self.transport()?;
        let url = transport.address.url.clone();
        let first = with_retries(&self.retry, Safety::Once, |_| async {
            let refused = |error: tonic::transport::Error| Error::Connection {
                endpoint: url.clone(),
                message: root_cause(&error),
            };
            transport.connect().await.map_err(refused)
        })
        .await?;
        let client = self.client(&transport, Some(first))?;
        client.prepare_credential().await?;
        Ok(client)
    }

    /// Makes a client that connects, and logs in, with its first call. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Configuration`] for settings that are not possible.
    pub fn connect_lazy(self) -> Result<Client> {
        let transport = self.transport()?;
        self.client(&transport, None)
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

    fn check_private(&self, address: &Address) -> Result<()> {
        match self.identity.credential.name() {
            Some(secret) if !self.may_send_secrets(address) => Err(Error::unencrypted(secret, &address.url)),
            _ => Ok(()),
        }
    }

    /// Whether secrets may be sent to an address.
    pub(crate) fn may_send_secrets(&self, address: &Address) -> bool {
        self.plaintext_secrets || address.is_private()
    }

    fn credential(mut self, credential: Credential) -> Self {
        self.identity.credential = credential;
        self
    }

    fn transport(&self) -> Result<Transport> {
        let address = Address::parse(&self.endpoint, self.tls.is_some())?;
        // Before anybody is there to listen.
        self.check_private(&address)?;
        let tls = match (&self.tls, address.tls) {
            (Some(tls), _) => Some(tls.connector(&address, self.connect_timeout)?),
            (None, true) => Some(Tls::new().connector(&address, self.connect_timeout)?),
            (None, false) => None,
        };
        let url = &address.url;
        let endpoint = Endpoint::from_shared(url.to_owned())
            .and_then(|endpoint| endpoint.user_agent(concat!("kalam-link/", env!("CARGO_PKG_VERSION"))))
            .map_err(|error| Error::configuration(format!("{url}: {}", root_cause(&error))))?;
        let endpoint = endpoint
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        // With TLS the connector itself has the time-out, so that what it says is known as a failure to connect.
        let endpoint = if tls.is_some() { endpoint } else { endpoint.connect_timeout(self.connect_timeout) };
        Ok(Transport { address, endpoint, tls })
    }

    fn client(self, transport: &Transport, first: Option<Channel>) -> Result<Client> {
        let lazy = self.connections - usize::from(first.is_some());
        let channels = first.into_iter().chain((0..lazy).map(|_| transport.connect_lazy())).collect();
        let (identity, namespace) = (self.identity.clone(), self.namespace.clone());
        Client::new(Shared::new(transport.address.clone(), channels, self), identity, namespace)
    }
}

/// Where to connect to, and how.
struct Transport {
    address: Address,
    endpoint: Endpoint,
    tls: Option<Connector>,
}

impl Transport {
    async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        match &self.tls {
            Some(tls) => self.endpoint.connect_with_connector(tls.service()).await,
            None => self.endpoint.connect().await,
        }
    }

    fn connect_lazy(&self) -> Channel {
        match &self.tls {
            Some(tls) => self.endpoint.connect_with_connector_lazy(tls.service()),
            None => self.endpoint.connect_lazy(),
        }
    }
}
