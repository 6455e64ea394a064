//! The connection, and running SQL over it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "arrow")]
use arrow_flight::flight_service_client::FlightServiceClient;
use kalamdb_proto::v1::{
    admin_service_client::AdminServiceClient, auth_service_client::AuthServiceClient,
    flush_service_client::FlushServiceClient, query_service_client::QueryServiceClient,
    subscribe_service_client::SubscribeServiceClient,
};
use tonic::{
    Extensions, Request, Response, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::Channel,
};

use crate::{
    admin::Admin,
    auth::Auth,
    builder::ClientBuilder,
    credential::{Credential, TokenSource},
    endpoint::Address,
    error::{Error, Result},
    flush::{FlushAll, FlushTable},
    identity::Identity,
    query::Query,
    result::StatementResult,
    retry::{RetryPolicy, Safety, with_retries},
    stream::ResultStream,
    subscribe::{LiveCall, LiveQuery, Subscribe},
    value::IntoParams,
};

/// How much later than the server the client gives up, so that the server's own error can arrive.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// A connection to a KalamDB server.
///
/// Cloning is cheap and shares the connection; so do [`Client::for_user`] and [`Client::in_namespace`], which is how
/// a back end serves many users over one connection. A lost connection is made again by the next call.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    context: Arc<Context>,
}

/// What clones share.
pub(crate) struct Shared {
    endpoint: Arc<str>,
    /// Whether secrets may be sent to it.
    takes_secrets: bool,
    channels: Box<[Channel]>,
    next_channel: AtomicUsize,
    settings: ClientBuilder,
}

/// Whom and where the calls are for.
struct Context {
    identity: Identity,
    metadata: MetadataMap,
    namespace: String,
}

/// Bounds on messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_receive_bytes: usize,
    pub(crate) max_send_bytes: usize,
}

/// A generated client whose message sizes can be bounded.
pub(crate) trait Bounded: Sized {
    /// Applies the bounds.
    fn bounded(self, limits: &Limits) -> Self;
}

macro_rules! bounded {
    ($($client:ident)*) => {$(
        impl Bounded for $client<Channel> {
            fn bounded(self, limits: &Limits) -> Self {
                self.max_decoding_message_size(limits.max_receive_bytes)
                    .max_encoding_message_size(limits.max_send_bytes)
            }
        }
    )*};
}

bounded! { QueryServiceClient FlushServiceClient AdminServiceClient AuthServiceClient SubscribeServiceClient }

#[cfg(feature = "arrow")]
bounded! { FlightServiceClient }

impl Limits {
    pub(crate) fn apply<C: Bounded>(&self, client: C) -> C {
        client.bounded(self)
    }
}

impl Shared {
    pub(crate) fn new(address: Address, channels: Box<[Channel]>, settings: ClientBuilder) -> Self {
        let takes_secrets = settings.may_send_secrets(&address);
        Shared { endpoint: address.url.into(), takes_secrets, channels, next_channel: AtomicUsize::new(0), settings }
    }

    fn channel(&self) -> Channel {
        let turn = match self.channels.len() {
            1 => 0,
            count => self.next_channel.fetch_add(1, Ordering::Relaxed) % count,
        };
        self.channels[turn].clone()
    }
}

impl Client {
    /// Connects with default settings. `endpoint` is `http://host:port`; `host:port` and `host` do, too.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect(endpoint: impl Into<String>) -> Result<Client> {
        Client::builder(endpoint).connect().await
    }

    /// Settings of a client to be.
    pub fn builder(endpoint: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(endpoint.into())
    }

    pub(crate) fn new(shared: Shared, identity: Identity, namespace: String) -> Result<Client> {
        let metadata = identity.metadata()?;
        let context = Context { metadata, identity, namespace };
        Ok(Client { shared: Arc::new(shared), context: Arc::new(context) })
    }

    /// The same connection, acting for another user.
    pub fn for_user(&self, user: impl Into<String>) -> Client {
        let identity = Identity { user: Some(user.into()), ..self.context.identity.clone() };
        // Only a credential can be refused, and this one was accepted before.
        let metadata = identity.metadata().unwrap_or_else(|_| self.context.metadata.clone());
        self.with_context(Context { identity, metadata, namespace: self.context.namespace.clone() })
    }

    /// The same connection with a bearer token, in place of the credential.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the token has a character that cannot be sent, or would be sent unencrypted to
    /// another machine.
    pub fn with_token(&self, token: impl Into<String>) -> Result<Client> {
        self.with_credential(Credential::Token(token.into().into()))
    }

    /// The same connection with an API key, in place of the credential.
    ///
    /// # Errors
    /// As [`Client::with_token`].
    pub fn with_api_key(&self, key: impl Into<String>) -> Result<Client> {
        self.with_credential(Credential::ApiKey(key.into().into()))
    }

    /// The same connection with a session of this name and password, in place of the credential; see
    /// [`ClientBuilder::login`]. It begins now.
    ///
    /// # Errors
    /// As [`Auth::login`].
    pub async fn with_login(&self, username: impl Into<String>, password: impl Into<String>) -> Result<Client> {
        let source = TokenSource::login(username.into(), password.into().into());
        let client = self.with_credential(Credential::Renewed(source.into()))?;
        client.prepare_credential().await?;
        Ok(client)
    }

    /// The same connection, with another namespace for unqualified table names; empty for none.
    pub fn in_namespace(&self, namespace: impl Into<String>) -> Client {
        self.with_context(Context {
            identity: self.context.identity.clone(),
            metadata: self.context.metadata.clone(),
            namespace: namespace.into(),
        })
    }

    /// A connection to another server with the settings, identity and namespace of this one. The other server gets the
    /// credential: name only one that may have it.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn reconnect(&self, endpoint: impl Into<String>) -> Result<Client> {
        let (identity, namespace) = (self.context.identity.elsewhere(), self.context.namespace.clone());
        self.shared.settings.clone().elsewhere(endpoint.into(), identity, namespace).connect().await
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// Those of the server; [`ConversionError::NotOneStatement`](crate::ConversionError::NotOneStatement) when the
    /// text has none or several. Of several, all took effect.
    pub async fn execute(&self, sql: impl Into<String>, params: impl IntoParams) -> Result<StatementResult> {
        self.query(sql).params(params).execute().await
    }

    /// Runs statements separated by `;` in order, each atomic on its own.
    ///
    /// # Errors
    /// The first failure; see [`Query::execute_batch`].
    pub async fn execute_batch(&self, sql: impl Into<String>, params: impl IntoParams) -> Result<Vec<StatementResult>> {
        self.query(sql).params(params).execute_batch().await
    }

    /// Runs statements and delivers their results while they are computed, without a bound on their size.
    ///
    /// # Errors
    /// When the call cannot be made; see [`Query::stream`].
    pub async fn execute_stream(&self, sql: impl Into<String>, params: impl IntoParams) -> Result<ResultStream> {
        self.query(sql).params(params).stream().await
    }

    /// SQL with options: time-out, namespace, read-your-writes, idempotence, Arrow rows.
    pub fn query(&self, sql: impl Into<String>) -> Query<'_> {
        Query::new(self, sql.into())
    }

    /// A live query: the rows of `SUBSCRIBE TO table [WHERE …]` or `SUBSCRIBE SELECT columns FROM table [WHERE …]`, and
    /// then every change of them. See [`Subscribe`].
    pub fn subscribe(&self, query: impl Into<LiveQuery>) -> Subscribe {
        Subscribe::new(self.clone(), query.into())
    }

    /// Several live queries in one call, for whoever must count calls. It is not resumed when it breaks: see
    /// [`LiveCall`].
    ///
    /// # Errors
    /// When the call cannot be made; what is wrong with one query fails all.
    pub async fn subscribe_many(&self, queries: Vec<LiveQuery>) -> Result<LiveCall> {
        LiveCall::open(self, queries).await
    }

    /// Moves a table's rows to Parquet files in its storage: see [`FlushTable`].
    pub fn flush_table(&self, namespace: impl Into<String>, table: impl Into<String>) -> FlushTable<'_> {
        FlushTable::new(self, namespace.into(), table.into())
    }

    /// The same for every USER and SHARED table: see [`FlushAll`].
    pub fn flush_all(&self) -> FlushAll<'_> {
        FlushAll::new(self)
    }

    /// Sessions, and who the caller is.
    pub fn auth(&self) -> Auth {
        Auth::new(self.clone())
    }

    /// Administration: the catalog, users, storages, jobs, the settings and the server itself.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// The server's URL.
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// The user that calls act for, when one was set.
    pub fn user(&self) -> Option<&str> {
        self.context.identity.user.as_deref()
    }

    /// Namespace of unqualified table names; empty for none.
    pub fn namespace(&self) -> &str {
        &self.context.namespace
    }

    pub(crate) fn default_timeout(&self) -> Option<Duration> {
        self.shared.settings.default_timeout()
    }

    /// The greatest message that is sent.
    #[cfg(feature = "arrow")]
    pub(crate) fn max_send_bytes(&self) -> usize {
        self.shared.settings.limits().max_send_bytes
    }

    pub(crate) fn retry_policy(&self) -> &RetryPolicy {
        self.shared.settings.retry_policy()
    }

    pub(crate) fn endpoint_shared(&self) -> Arc<str> {
        Arc::clone(&self.shared.endpoint)
    }

    /// Makes one call, with identity, deadline and the retries of the settings.
    pub(crate) async fn call<Q, R, F>(
        &self,
        safety: Safety,
        timeout: Option<Duration>,
        message: Q,
        call: impl Fn(Channel, Limits, Request<Q>) -> F,
    ) -> Result<R>
    where
        Q: Clone + prost::Message,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_with(self.retry_policy(), safety, timeout, message, call).await
    }

    /// The same with other retries.
    pub(crate) async fn call_with<Q, R, F>(
        &self,
        policy: &RetryPolicy,
        safety: Safety,
        timeout: Option<Duration>,
        message: Q,
        call: impl Fn(Channel, Limits, Request<Q>) -> F,
    ) -> Result<R>
    where
        Q: Clone + prost::Message,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        // The transport would report it as a broken stream.
        let (bytes, limit) = (message.encoded_len(), self.shared.settings.limits().max_send_bytes);
        if bytes > limit {
            return Err(Error::RequestTooLarge { bytes, limit });
        }
        let deadline = timeout.map(|timeout| timeout.saturating_add(DEADLINE_GRACE));
        let mut message = Some(message);
        with_retries(policy, safety, |last| {
            let copy = if last { message.take() } else { message.clone() };
            let attempt = copy.map(|copy| self.attempt(&call, copy, deadline));
            async move {
                match attempt {
                    Some(attempt) => attempt.await,
                    None => Err(Error::protocol("no attempt follows the last one")),
                }
            }
        })
        .await
    }

    /// Makes a call whose message is a stream. It is made once, since nobody can say how much of the stream is left, and may
    /// take as long as the stream does.
    #[cfg(feature = "arrow")]
    pub(crate) async fn stream_call<Q, R, F>(
        &self,
        messages: Q,
        call: impl FnOnce(Channel, Limits, Request<Q>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let Some(source) = self.context.identity.token_source() else {
            return self.send(call, self.context.metadata.clone(), messages, None).await;
        };
        let token = source.token(|| self.anonymous()).await?;
        let outcome = self.send(call, self.authorized(token.header.clone()), messages, None).await;
        if let Err(error) = &outcome
            && error.asks_for_another_token()
        {
            // For whoever tries again; this call cannot.
            let renewed = source.token_after(Some(&token), || self.anonymous()).await;
            drop(renewed);
        }
        outcome
    }

    /// Makes one call, with a token that is valid. One that the server refuses is replaced by another once: a call
    /// without a valid credential has done nothing, so that any may be repeated.
    async fn attempt<Q, R, F>(
        &self,
        call: &impl Fn(Channel, Limits, Request<Q>) -> F,
        message: Q,
        deadline: Option<Duration>,
    ) -> Result<R>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let Some(source) = self.context.identity.token_source() else {
            return self.send(call, self.context.metadata.clone(), message, deadline).await;
        };
        let token = within(deadline, source.token(|| self.anonymous())).await?;
        let copy = message.clone();
        match self.send(call, self.authorized(token.header.clone()), message, deadline).await {
            Err(error) if error.asks_for_another_token() => {
                let token = within(deadline, source.token_after(Some(&token), || self.anonymous())).await?;
                self.send(call, self.authorized(token.header), copy, deadline).await
            }
            outcome => outcome,
        }
    }

    async fn send<Q, R, F>(
        &self,
        call: impl FnOnce(Channel, Limits, Request<Q>) -> F,
        metadata: MetadataMap,
        message: Q,
        deadline: Option<Duration>,
    ) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut request = Request::from_parts(metadata, Extensions::default(), message);
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        match call(self.shared.channel(), self.shared.settings.limits(), request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(Error::from_status(status, &self.shared.endpoint, deadline)),
        }
    }

    fn authorized(&self, header: AsciiMetadataValue) -> MetadataMap {
        let mut metadata = self.context.metadata.clone();
        metadata.insert("authorization", header);
        metadata
    }

    /// The same connection, for nobody.
    pub(crate) fn anonymous(&self) -> Client {
        let (identity, metadata) = (Identity::default(), MetadataMap::new());
        self.with_context(Context { identity, metadata, namespace: String::new() })
    }

    /// Has a token ready, where one is to be had.
    pub(crate) async fn prepare_credential(&self) -> Result<()> {
        match self.context.identity.token_source() {
            Some(source) => source.token(|| self.anonymous()).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Whether another token can be had when this one has expired.
    pub(crate) fn renews_tokens(&self) -> bool {
        self.context.identity.token_source().is_some()
    }

    /// The session was ended.
    pub(crate) fn forget_session(&self) {
        if let Some(source) = self.context.identity.token_source() {
            source.forget();
        }
    }

    /// Refuses to send a secret where others can read it.
    pub(crate) fn check_private(&self, secret: &str) -> Result<()> {
        if self.shared.takes_secrets {
            return Ok(());
        }
        Err(Error::unencrypted(secret, &self.shared.endpoint))
    }

    fn with_credential(&self, credential: Credential) -> Result<Client> {
        if let Some(secret) = credential.name() {
            self.check_private(secret)?;
        }
        let identity = Identity { credential, user: self.context.identity.user.clone() };
        let metadata = identity.metadata()?;
        Ok(self.with_context(Context { identity, metadata, namespace: self.context.namespace.clone() }))
    }

    fn with_context(&self, context: Context) -> Client {
        Client { shared: Arc::clone(&self.shared), context: Arc::new(context) }
    }
}

/// Bounds the time for having a token as that of the call.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    match limit {
        None => work.await,
        Some(after) => tokio::time::timeout(after, work).await.unwrap_or(Err(Error::Timeout { after })),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.shared.endpoint)
            .field("identity", &self.context.identity)
            .field("namespace", &self.context.namespace)
            .finish_non_exhaustive()
    }
}
