//! What there is to know about a live query from outside.

use std::fmt;

use kalamdb_store::ids::{CommitSeq, UserId};
use serde::{Deserialize, Serialize};

/// The id of a live query: unique, also among those of other nodes. Shown and accepted as a decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LiveQueryId(pub u64);

impl fmt::Display for LiveQueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A live query, as `system.live_queries` shows it.
#[derive(Debug, Clone)]
pub struct LiveQueryInfo {
    /// Its id.
    pub id: LiveQueryId,
    /// Whose rows it sees.
    pub user_id: UserId,
    /// The namespace of its table.
    pub namespace: String,
    /// Its table.
    pub table: String,
    /// Its text, without the values of parameters.
    pub query: String,
    /// Its options, as JSON.
    pub options: String,
    /// The node that serves it.
    pub node_id: u16,
    /// When it was subscribed, in microseconds since 1970-01-01 UTC.
    pub created_at_us: i64,
    /// Changes delivered.
    pub changes: u64,
    /// Bytes sent, as the wire has them.
    pub bytes_sent: u64,
    /// Bytes a second, over the last seconds.
    pub bytes_per_second: f64,
    /// The last commit that it has been told of.
    pub position: CommitSeq,
    /// Commits that wait to be sent.
    pub queued_commits: u64,
    /// About how many bytes they have.
    pub queued_bytes: u64,
}
