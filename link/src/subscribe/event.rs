//! What happens in a live query.

use std::{sync::Arc, time::Duration};

use crate::{
    column::Columns,
    error::Error,
    row::{Row, Rows},
};

/// One step of a [`Subscription`](crate::Subscription), in this order:
///
/// ```text
/// Started, Rows*, Ready, (Changes | Progress)*
/// Started, Reset, Rows*, Ready, (Changes | Progress)*      when it cannot go on from its token
/// Started, Ready, (Changes | Progress)*                    when it does
/// ```
///
/// After a break it begins again with `Started`; what follows goes on exactly behind the last event that was handed
/// out, unless it is a `Reset`. Whoever keeps the rows, empties them at `Reset`, adds those of `Rows`, and applies
/// `Changes`.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubscriptionEvent {
    /// The query is subscribed, for the first time or again.
    Started {
        /// Its id, for `KILL LIVE QUERY` and `system.live_queries`; each time another.
        live_id: String,
        /// The columns of its rows.
        columns: Arc<Columns>,
        /// The node that serves it.
        node_id: u32,
    },
    /// All rows handed out so far are void; rows as of now follow.
    Reset {
        /// `CHANGES_EXPIRED`: the changes since the token are gone. `SCHEMA_CHANGED`: the columns are others now.
        /// `INTERRUPTED`: the connection broke among the first rows, and they begin anew.
        reason: String,
        /// The same for a person.
        message: String,
    },
    /// Some of the rows that exist already.
    Rows(Rows),
    /// All of those rows were handed out, or none are needed. What follows are changes.
    Ready {
        /// The commit sequence whose state the rows are, or after which the changes go on.
        commit_seq: u64,
        /// Resumes here.
        token: String,
        /// Number of those rows.
        row_count: u64,
    },
    /// What one commit changed.
    Changes(CommitChanges),
    /// There were no changes up to here. Comes about every second while there are none, so that tokens do not age.
    Progress {
        /// The commit sequence up to which there were none.
        commit_seq: u64,
        /// Resumes here.
        token: String,
    },
    /// The subscription broke, or could not be resumed, and will be tried again. Only with
    /// [`Subscribe::report_reconnects`](crate::Subscribe::report_reconnects).
    Disconnected {
        /// Why.
        error: Error,
        /// Number of the attempt that follows, from 1.
        attempt: u32,
        /// The pause before it.
        delay: Duration,
    },
    /// The server has accepted the query again; `Started` follows. Only with
    /// [`Subscribe::report_reconnects`](crate::Subscribe::report_reconnects).
    Reconnected,
    /// One query of a [`LiveCall`](crate::LiveCall) has ended. A [`Subscription`](crate::Subscription) says it with an
    /// error, or resumes.
    Ended {
        /// Why, with [`Error::reason`] and [`Error::resume_token`].
        error: Error,
    },
}

/// What one commit changed in a live query's rows.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitChanges {
    /// Its place in the order of all commits.
    pub commit_seq: u64,
    /// When it was made, in microseconds since 1970-01-01T00:00:00Z.
    pub commit_time_us: i64,
    /// In the order in which they were made.
    pub changes: Vec<Change>,
    /// Resumes after this commit.
    pub token: String,
    /// This stands for the commits since the last event, too, changes of the same row being one: see
    /// [`SlowConsumer::Coalesce`](crate::SlowConsumer::Coalesce).
    pub merged: bool,
}

/// The change of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A row came: it was inserted, or it began to match the filter.
    Insert {
        /// The row.
        row: Row,
    },
    /// A row that matches the filter before and after was changed.
    Update {
        /// The row as it was; none without [`Subscribe::before_images`](crate::Subscribe::before_images).
        old: Option<Row>,
        /// The row as it is now.
        row: Row,
    },
    /// A row went: it was deleted, it expired, or it no longer matches the filter.
    Delete {
        /// The row as it was.
        row: Row,
    },
}

/// The kind of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeType {
    /// A row came.
    Insert,
    /// A row was changed.
    Update,
    /// A row went.
    Delete,
}

impl Change {
    /// Its kind.
    pub fn change_type(&self) -> ChangeType {
        match self {
            Change::Insert { .. } => ChangeType::Insert,
            Change::Update { .. } => ChangeType::Update,
            Change::Delete { .. } => ChangeType::Delete,
        }
    }

    /// The row as it is now; none of a DELETE.
    pub fn new_row(&self) -> Option<&Row> {
        match self {
            Change::Insert { row } | Change::Update { row, .. } => Some(row),
            Change::Delete { .. } => None,
        }
    }

    /// The row as it was; none of an INSERT.
    pub fn old_row(&self) -> Option<&Row> {
        match self {
            Change::Insert { .. } => None,
            Change::Update { old, .. } => old.as_ref(),
            Change::Delete { row } => Some(row),
        }
    }
}

impl ChangeType {
    /// `INSERT`, `UPDATE` or `DELETE`.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeType::Insert => "INSERT",
            ChangeType::Update => "UPDATE",
            ChangeType::Delete => "DELETE",
        }
    }
}
