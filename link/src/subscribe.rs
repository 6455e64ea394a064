//! Live queries: a query's rows, and then every change of them.

mod call;
mod decode;
mod event;
mod subscription;

use std::time::Duration;

use kalamdb_proto::v1;

pub use self::{
    call::LiveCall,
    event::{Change, ChangeType, CommitChanges, SubscriptionEvent},
    subscription::Subscription,
};
use crate::{
    client::Client,
    convert,
    error::Result,
    retry::RetryPolicy,
    value::{IntoParams, Value},
};

/// How a broken subscription is resumed when nothing else is said: for ever, since the server may be away for long.
const RECONNECT: RetryPolicy =
    RetryPolicy { max_attempts: u32::MAX, base_delay: Duration::from_millis(100), max_delay: Duration::from_secs(5) };

/// A query to subscribe to, with its options. A text converts into one.
///
/// ```
/// use kalam_link::{InitialRows, LiveQuery};
///
/// let query = LiveQuery::new("SUBSCRIBE TO chat.messages WHERE conversation = $1")
///     .params(("trip",))
///     .initial_rows(InitialRows::Last(50));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LiveQuery {
    sql: String,
    params: Vec<Value>,
    initial_rows: InitialRows,
    before_images: bool,
    slow_consumer: SlowConsumer,
    max_batch_delay: Duration,
    resume_token: Option<String>,
}

/// Which of the rows that exist already begin a live query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InitialRows {
    /// All.
    #[default]
    All,
    /// None: only changes.
    None,
    /// The rows last written, at most so many, oldest first.
    Last(u64),
}

/// What happens to changes that are not read in time. The server keeps a bounded number of them for each live query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SlowConsumer {
    /// The server ends the query with `SLOW_CONSUMER`. A [`Subscription`] goes on from where it was, reading from the
    /// server's log what it has missed.
    #[default]
    Disconnect,
    /// Changes of the same row are merged into their net effect: see [`CommitChanges::merged`]. If the rows themselves
    /// are too many, as [`SlowConsumer::Disconnect`].
    Coalesce,
}

/// A live query on its way to the server. Made by [`Client::subscribe`]; nothing happens before [`Subscribe::open`].
///
/// ```no_run
/// use futures::StreamExt;
/// use kalam_link::{Change, SubscriptionEvent};
///
/// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
/// let query = "SUBSCRIBE TO chat.messages WHERE conversation = $1";
/// let mut events = client.subscribe(query).params(("trip",)).open().await?;
/// while let Some(event) = events.next().await {
///     match event? {
///         SubscriptionEvent::Reset { .. } => println!("forget all rows"),
///         SubscriptionEvent::Rows(rows) => println!("{} rows", rows.len()),
///         SubscriptionEvent::Changes(commit) => {
///             for change in &commit.changes {
///                 match change {
///                     Change::Insert { row } => println!("new: {}", row.get::<&str>("body")?),
///                     Change::Update { row, .. } => println!("now: {}", row.get::<&str>("body")?),
///                     Change::Delete { row } => println!("gone: {}", row.get::<&str>("body")?),
///                 }
///             }
///         }
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before `open`"]
pub struct Subscribe {
    client: Client,
    query: LiveQuery,
    namespace: String,
    reconnect: RetryPolicy,
    report_reconnects: bool,
}

impl Subscribe {
    pub(crate) fn new(client: Client, query: LiveQuery) -> Self {
        let namespace = client.namespace().to_owned();
        Subscribe { client, query, namespace, reconnect: RECONNECT, report_reconnects: false }
    }

    /// Values of `$1`, `$2`, ….
    pub fn params(self, params: impl IntoParams) -> Self {
        self.with(|query| query.params(params))
    }

    /// Namespace of an unqualified table name, instead of the client's.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Which of the rows that exist already come first. Default: [`InitialRows::All`].
    pub fn initial_rows(self, rows: InitialRows) -> Self {
        self.with(|query| query.initial_rows(rows))
    }

    /// Whether an UPDATE carries the row as it was. Default: true. A DELETE always does.
    pub fn before_images(self, wanted: bool) -> Self {
        self.with(|query| query.before_images(wanted))
    }

    /// What happens to changes that are not read in time. Default: [`SlowConsumer::Disconnect`].
    pub fn slow_consumer(self, policy: SlowConsumer) -> Self {
        self.with(|query| query.slow_consumer(policy))
    }

    /// How long the server may hold changes back to send more of them at once, up to 10 s. Default: it never waits.
    pub fn max_batch_delay(self, delay: Duration) -> Self {
        self.with(|query| query.max_batch_delay(delay))
    }

    /// Goes on behind the event that this token came with, in place of beginning with rows. If the server cannot, a
    /// [`SubscriptionEvent::Reset`] and rows come first. Default: begins anew.
    pub fn resume_token(self, token: impl Into<String>) -> Self {
        self.with(|query| query.resume_token(token))
    }

    /// How the subscription is resumed when it breaks, once it has been opened: the attempts are those in a row, of
    /// which the first is the one that broke, so [`RetryPolicy::NONE`] means never. Default: without end, with pauses
    /// from 100 ms to 5 s. Opening it follows [`ClientBuilder::retry`](crate::ClientBuilder::retry).
    pub fn reconnect(mut self, policy: RetryPolicy) -> Self {
        self.reconnect = policy;
        self
    }

    /// Whether [`SubscriptionEvent::Disconnected`] and [`SubscriptionEvent::Reconnected`] are among the events.
    /// Default: false.
    pub fn report_reconnects(mut self, wanted: bool) -> Self {
        self.report_reconnects = wanted;
        self
    }

    /// Subscribes. When it answers, the server has accepted the query. The time-out of the client's settings is how
    /// long that may take; what follows has none.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`, `INVALID_RESUME_TOKEN` or `TOO_MANY_LIVE_QUERIES`.
    pub async fn open(self) -> Result<Subscription> {
        Subscription::open(self).await
    }

    fn with(mut self, change: impl FnOnce(LiveQuery) -> LiveQuery) -> Self {
        self.query = change(self.query);
        self
    }
}

impl LiveQuery {
    /// `SUBSCRIBE TO table [WHERE …]` or `SUBSCRIBE SELECT columns FROM table [WHERE …]`.
    pub fn new(sql: impl Into<String>) -> Self {
        LiveQuery {
            sql: sql.into(),
            params: Vec::new(),
            initial_rows: InitialRows::default(),
            before_images: true,
            slow_consumer: SlowConsumer::default(),
            max_batch_delay: Duration::ZERO,
            resume_token: None,
        }
    }

    /// As [`Subscribe::params`].
    #[must_use]
    pub fn params(mut self, params: impl IntoParams) -> Self {
        self.params = params.into_params();
        self
    }

    /// As [`Subscribe::initial_rows`].
    #[must_use]
    pub fn initial_rows(mut self, rows: InitialRows) -> Self {
        self.initial_rows = rows;
        self
    }

    /// As [`Subscribe::before_images`].
    #[must_use]
    pub fn before_images(mut self, wanted: bool) -> Self {
        self.before_images = wanted;
        self
    }

    /// As [`Subscribe::slow_consumer`].
    #[must_use]
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.slow_consumer = policy;
        self
    }

    /// As [`Subscribe::max_batch_delay`].
    #[must_use]
    pub fn max_batch_delay(mut self, delay: Duration) -> Self {
        self.max_batch_delay = delay;
        self
    }

    /// As [`Subscribe::resume_token`]. An empty token is none.
    #[must_use]
    pub fn resume_token(mut self, token: impl Into<String>) -> Self {
        self.resume_token = Some(token.into()).filter(|token| !token.is_empty());
        self
    }

    fn into_proto(self) -> v1::LiveQuery {
        use v1::initial_rows::Kind;
        let kind = match self.initial_rows {
            InitialRows::All => Kind::All(v1::AllRows {}),
            InitialRows::None => Kind::None(v1::NoRows {}),
            InitialRows::Last(count) => Kind::LastRows(i64::try_from(count).unwrap_or(i64::MAX)),
        };
        let slow_consumer = match self.slow_consumer {
            SlowConsumer::Disconnect => v1::SlowConsumerPolicy::Disconnect,
            SlowConsumer::Coalesce => v1::SlowConsumerPolicy::Coalesce,
        };
        v1::LiveQuery {
            sql: self.sql,
            parameters: self.params.into_iter().map(convert::to_proto).collect(),
            initial_rows: Some(v1::InitialRows { kind: Some(kind) }),
            before_images: Some(self.before_images),
            slow_consumer: slow_consumer.into(),
            max_batch_delay: (!self.max_batch_delay.is_zero()).then(|| self.max_batch_delay.into()),
            resume_token: self.resume_token.unwrap_or_default(),
        }
    }
}

impl From<&str> for LiveQuery {
    fn from(sql: &str) -> Self {
        LiveQuery::new(sql)
    }
}

impl From<String> for LiveQuery {
    fn from(sql: String) -> Self {
        LiveQuery::new(sql)
    }
}
