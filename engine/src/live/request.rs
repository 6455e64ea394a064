//! What a subscriber asks for.

use crate::exec::Parameter;

/// A query to subscribe to.
#[derive(Debug, Clone, Default)]
pub struct LiveQueryRequest {
    /// `SUBSCRIBE TO t [WHERE …]` or `SUBSCRIBE SELECT columns FROM t [WHERE …]`.
    pub sql: String,
    /// Values of `$1`, `$2`, …; as many as the highest one used.
    pub parameters: Vec<Parameter>,
    /// Namespace of unqualified table names.
    pub namespace: Option<String>,
    /// How the subscriber wants to be served.
    pub options: LiveOptions,
    /// Goes on after the event that this token came with; `None`: begins anew.
    pub resume_token: Option<String>,
}

/// How a subscriber wants to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// Which rows come first. Default: all.
    pub initial_rows: InitialRows,
    /// Whether an UPDATE carries the row as it was. Default: true.
    pub before_images: bool,
    /// What happens when changes are not read in time. Default: disconnect.
    pub slow_consumer: SlowConsumer,
    /// How long the server may gather changes before it sends them, in milliseconds; told in `system.live_queries`, done by
    /// whoever sends the events. Default: 0.
    pub max_batch_delay_ms: u64,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            initial_rows: InitialRows::All,
            before_images: true,
            slow_consumer: SlowConsumer::Disconnect,
            max_batch_delay_ms: 0,
        }
    }
}

/// Which rows a live query begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialRows {
    /// None.
    None,
    /// At most so many, those that were written last, oldest first.
    Last(u64),
    /// All.
    All,
}

/// What happens when a subscriber does not read changes in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Its query ends with SLOW_CONSUMER and a resume token.
    Disconnect,
    /// Changes of the same row become one; if the rows are too many, it ends as with `Disconnect`.
    Coalesce,
}
