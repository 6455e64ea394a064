//! Who is told of commits.

use std::sync::Arc;

use crate::ids::{CommitSeq, Partition};

/// What one commit changed in one partition.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The partition.
    pub partition: Partition,
    /// The commit.
    pub commit_seq: CommitSeq,
    /// The entry of the change log, for [`LogEntry::decode`](crate::codec::LogEntry::decode); `None`: it is to be read from
    /// there, because it is large, or because nobody listened when the commit was made.
    pub entry: Option<Arc<[u8]>>,
}

/// Is told of every group of commits. See [`Committer::listen`](super::Committer::listen).
///
/// A group is told of after it is written, as durably as the committer's settings say, and visible, and before its callers
/// are answered:
///
/// ```text
/// write the batch ─▶ publish its last sequence ─▶ wants_changes? ─▶ committed ─▶ answer
/// ```
///
/// So whoever begins to want changes and *then* asks for the last commit has, in its snapshot, every commit that it is
/// not told the changes of: a group is either published before it asks, or finds that changes are wanted. Both
/// steps must be sequentially consistent for that, which the committer's is.
pub trait CommitListener: Send + Sync {
    /// Whether anybody listens. If not, [`CommitListener::committed`] gets no changes, only the sequence.
    fn wants_changes(&self) -> bool;

    /// The commits after `after` up to and with `last_seq` can be read, and this is all that they changed, in their order.
    ///
    /// Called on the committer's thread, in the order of commits, once for each group. It must not block, and must not
    /// panic, which would end the committer.
    fn committed(&self, changes: &[Changed], after: CommitSeq, last_seq: CommitSeq);
}
