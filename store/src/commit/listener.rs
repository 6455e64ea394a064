//! Who is told of commits.

use crate::ids::{CommitSeq, Partition};

/// Is told of every group of commits. See [`Committer::listen`](super::Committer::listen).
///
/// A group is told of after it is written, as durably as the committer's settings say, and visible, and before its callers
/// are answered:
///
/// ```text
/// write the batch ─▶ publish its last sequence ─▶ wants_partitions? ─▶ committed ─▶ answer
/// ```
///
/// So whoever begins to want partitions and *then* asks for the last commit has, in its snapshot, every commit that it is
/// not told the partitions of: a group is either published before it asks, or finds that partitions are wanted. Both
/// steps must be sequentially consistent for that, which the committer's is.
pub trait CommitListener: Send + Sync {
    /// Whether anybody listens. If not, [`CommitListener::committed`] gets no partitions, only the sequence.
    fn wants_partitions(&self) -> bool;

    /// The commits up to `last_seq` can be read, and they changed rows of `partitions`. A partition can be named more than
    /// once; a group that changed no rows names none.
    ///
    /// Called on the committer's thread, in the order of commits, once for each group. It must not block, and must not
    /// panic, which would end the committer.
    fn committed(&self, partitions: &[Partition], last_seq: CommitSeq);
}
