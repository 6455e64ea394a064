//! The connection, and running SQL over it.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kalamdb_proto::v1::{
    admin_service_client::AdminServiceClient, flush_service_client::FlushServiceClient,
    query_service_client::QueryServiceClient, subscribe_service_client::SubscribeServiceClient,
};
use tonic::{Extensions, Request, Response, Status, metadata::MetadataMap, transport::Channel};

use crate::{
    admin::Admin,
    builder::ClientBuilder,
    error::{Error, Result},
    flush::{FlushAll, FlushTable},
    identity::{Credential, Identity},
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

bounded! { QueryServiceClient FlushServiceClient AdminServiceClient SubscribeServiceClient }

impl Limits {
    pub(crate) fn apply<C: Bounded>(&self, client: C) -> C {
        client.bounded(self)
    }
}

impl Shared {
    pub(crate) fn new(endpoint: Arc<str>, channels: Box<[Channel]>, settings: ClientBuilder) -> Self {
        Shared { endpoint, channels, next_channel: AtomicUsize::new(0), settings }
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
        let context = Context { metadata: identity.metadata()?, identity, namespace };
        Ok(Client { shared: Arc::new(shared), context: Arc::new(context) })
    }

    /// The same connection, acting for another user.
    pub fn for_user(&self, user: impl Into<String>) -> Client {
        let identity = Identity { user: Some(user.into()), ..self.context.identity.clone() };
        // Only a credential can be refused, and this one was accepted before.
        let metadata = identity.metadata().unwrap_or_else(|_| self.context.metadata.clone());
        self.with_context(Context { identity, metadata, namespace: self.context.namespace.clone() })
    }

    /// The same connection with another bearer token.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the token has a character that cannot be sent.
    pub fn with_token(&self, token: impl Into<String>) -> Result<Client> {
        let credential = Credential::Token(token.into());
        let identity = Identity { credential, user: self.context.identity.user.clone() };
        let metadata = identity.metadata()?;
        Ok(self.with_context(Context { identity, metadata, namespace: self.context.namespace.clone() }))
    }

    /// The same connection, with another namespace for unqualified table names; empty for none.
    pub fn in_namespace(&self, namespace: impl Into<String>) -> Client {
        self.with_context(Context {
            identity: self.context.identity.clone(),
            metadata: self.context.metadata.clone(),
            namespace: namespace.into(),
        })
    }

    /// A connection to another server with the settings, identity and namespace of this one.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn reconnect(&self, endpoint: impl Into<String>) -> Result<Client> {
        let (identity, namespace) = (self.context.identity.clone(), self.context.namespace.clone());
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

    /// Administration: the catalog, storages, jobs, the settings and the server itself.
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
            let attempt = copy.map(|copy| {
                let mut request = Request::from_parts(self.context.metadata.clone(), Extensions::default(), copy);
                if let Some(deadline) = deadline {
                    request.set_timeout(deadline);
                }
                call(self.shared.channel(), self.shared.settings.limits(), request)
            });
            async move {
                match attempt {
                    Some(attempt) => match attempt.await {
                        Ok(response) => Ok(response.into_inner()),
                        Err(status) => Err(Error::from_status(status, &self.shared.endpoint, deadline)),
                    },
                    None => Err(Error::protocol("no attempt follows the last one")),
                }
            }
        })
        .await
    }

    fn with_context(&self, context: Context) -> Client {
        Client { shared: Arc::clone(&self.shared), context: Arc::new(context) }
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
