//! What a subscriber receives.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use kalamdb_store::{codec::PrimaryKey, ids::CommitSeq};

use crate::error::{Error, Reason};

/// What happened to a live query.
#[derive(Debug)]
pub enum LiveEvent {
    /// The initial rows were, or become, void: the query cannot go on where its token says. Rows as of now follow.
    Reset {
        /// CHANGES_EXPIRED or SCHEMA_CHANGED, and a message.
        why: Error,
    },
    /// Some of the initial rows, in the query's columns.
    Rows(RecordBatch),
    /// All initial rows were given. What follows are changes.
    Ready {
        /// The state that the rows are, or after which the changes go on.
        commit_seq: CommitSeq,
        /// Resumes here.
        token: String,
        /// Number of initial rows.
        row_count: u64,
    },
    /// What commits changed, in their order; at least one.
    Changes(Vec<Arc<CommitChanges>>),
    /// There were no changes up to here.
    Progress {
        /// The last commit that is accounted for.
        commit_seq: CommitSeq,
        /// Resumes here.
        token: String,
    },
    /// The query has ended; nothing follows.
    Ended(LiveEnd),
}

/// Why a live query ended.
#[derive(Debug, Clone)]
pub struct LiveEnd {
    /// SLOW_CONSUMER, LIVE_QUERY_KILLED, TABLE_NOT_FOUND, SCHEMA_CHANGED, SHUTTING_DOWN or what failed.
    pub why: Error,
    /// Resumes after the last event that was given before this one, where that is possible.
    pub token: Option<String>,
}

impl LiveEnd {
    /// The reason.
    pub fn reason(&self) -> Reason {
        self.why.reason()
    }
}

/// What one commit changed in a query's result; the same value for all subscribers of the same query.
pub struct CommitChanges {
    /// The commit.
    pub commit_seq: CommitSeq,
    /// Its time, in microseconds since 1970-01-01 UTC.
    pub commit_time_us: i64,
    /// In the order in which they were made.
    pub changes: Vec<LiveChange>,
    /// Resumes after this commit.
    pub token: String,
    /// Whether this stands for more than one commit: changes of the same row became one.
    pub merged: bool,
    /// About how many bytes it keeps in memory.
    pub(super) bytes: usize,
    encoded: OnceLock<Bytes>,
}

/// A change of one row of a query's result.
#[derive(Debug, Clone)]
pub struct LiveChange {
    /// What happened to it.
    pub kind: ChangeKind,
    /// Its primary key.
    pub key: PrimaryKey,
    /// The row as it is now: of inserts and updates.
    pub new: Option<RowImage>,
    /// The row as it was: of deletes, and of updates if wanted.
    pub old: Option<RowImage>,
}

/// A row of a batch with the query's columns.
#[derive(Debug, Clone)]
pub struct RowImage {
    /// The batch, shared with other changes.
    pub batch: Arc<RecordBatch>,
    /// The row's place in it.
    pub row: usize,
}

/// What happened to a row of a query's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It came: inserted, or it began to match.
    Insert,
    /// It was changed, and matches before and after.
    Update,
    /// It went: deleted, expired, or it no longer matches.
    Delete,
}

impl LiveChange {
    /// About how many bytes it keeps in memory.
    pub(super) fn byte_size(&self) -> usize {
        let image = |image: &Option<RowImage>| {
            image.as_ref().map_or(0, |image| image.batch.get_array_memory_size() / image.batch.num_rows().max(1))
        };
        size_of::<Self>() + self.key.as_bytes().len() + image(&self.new) + image(&self.old)
    }
}

impl CommitChanges {
    pub(super) fn new(
        commit_seq: CommitSeq,
        commit_time_us: i64,
        changes: Vec<LiveChange>,
        token: String,
        merged: bool,
        bytes: usize,
    ) -> Self {
        Self { commit_seq, commit_time_us, changes, token, merged, bytes, encoded: OnceLock::new() }
    }

    /// The bytes that `encode` makes of it: made once, then shared. Every caller is to pass the same function.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(self)).clone()
    }
}

impl fmt::Debug for CommitChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitChanges")
            .field("commit_seq", &self.commit_seq)
            .field("changes", &self.changes.len())
            .finish_non_exhaustive()
    }
}
