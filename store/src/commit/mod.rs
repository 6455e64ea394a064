//! The commit path: the only way by which rows are written.
//!
//! ```text
//! prepare ─▶ queue ─▶ [ validate against store + this group ─▶ one batch ─▶ one sync ] ─▶ publish ─▶ tell ─▶ acknowledge
//! ```
//!
//! Statements prepare their writes in parallel, each as a self-contained [`PreparedCommit`]. One thread, the
//! [`Committer`]'s, takes whatever is queued as one group, validates each commit in turn, and writes the group as one
//! batch with one sync. While it writes, the next group gathers: the busier the store, the more commits share a sync,
//! without any timer.
//!
//! What commits changed is in the change log: a [`CommitListener`] is told where, and [`ChangeLog`] reads it.

mod background_sync;
mod bulk;
mod change_log;
mod committer;
mod disk_guard;
mod dropped;
mod group;
mod hot_counts;
mod left_owners;
mod listener;
mod manifest;
mod position;
mod queue;

use std::sync::Arc;

pub use bulk::{BulkInsert, BulkRows};
pub use change_log::{ChangeLog, LogError, LogPage};
pub use committer::Committer;
pub use listener::{Changed, CommitListener};
pub use position::committed_seq;

use crate::codec::{EncodedRow, PackedKeys, PrimaryKey, SegmentEntry};
use crate::ids::{CommitSeq, Partition, SegmentId, TableId, UserId};
use crate::kv::{Durability, KvError, WriteBatch};

/// Writes that become durable and visible together or not at all.
///
/// Everything is evaluated: ids, times, defaults. What is left to the committer is to check [`RowOp`]'s conditions and
/// to give the commit its sequence.
#[derive(Debug, Clone, Default)]
pub struct PreparedCommit {
    /// The commit's time in microseconds since 1970-01-01 UTC. It is written into each row.
    pub commit_time_us: i64,
    /// The changes of rows, in order. A key may occur more than once: each change sees those before it.
    pub changes: Vec<RowChange>,
    /// New rows in large numbers. A commit with any has no `changes`, and a group of its own.
    pub bulk: Option<BulkRows>,
    /// Other writes of the same atomic step (catalog, system), applied after the changes. They are not validated and
    /// not logged.
    pub kv: WriteBatch,
    /// Tables whose rows may not change after this commit.
    pub fences: Vec<(TableId, Fence)>,
    /// The snapshot in which the cold tier was searched for the keys of this commit's inserts, and for those of `bulk` the
    /// hot tier, too. If segments came to one of its partitions since, the commit fails with
    /// [`CommitError::SegmentsChanged`]. `None`: nothing was searched for.
    pub cold_checked_at: Option<CommitSeq>,
    /// The last commit before the statement began that the changes come from. If one of the owners left since, the commit
    /// fails with [`CommitError::OwnerLeft`], unless it only deletes. `None`: it is no statement of a user.
    pub began_at: Option<CommitSeq>,
    /// Users that leave with this commit: statements that began before it can add rows to their partitions no more.
    pub leaving: Vec<UserId>,
    /// Segments that come and go. A commit with any has no `changes`.
    pub segments: Vec<SegmentChange>,
    /// Rows of tables that are being restored and that nobody can see yet.
    pub restored: Vec<RestoredRow>,
    /// The commit's sequence is greater than this one, however small the last one is. So what was restored from another
    /// database is never newer than the commit that shows it.
    pub after: Option<CommitSeq>,
}

impl PreparedCommit {
    /// About how many bytes the commit holds and will write.
    pub fn byte_size(&self) -> usize {
        let changes = self.changes.iter().map(|change| {
            let images = match &change.op {
                RowOp::Insert { row, .. } => row.byte_size(),
                RowOp::Update { row, old, .. } => row.byte_size() + old.len(),
                RowOp::Delete { old, .. } => old.len(),
            };
            size_of::<RowChange>() + change.key.as_bytes().len() + images
        });
        let segments = self.segments.iter().map(SegmentChange::byte_size);
        let bulk = self.bulk.as_ref().map_or(0, BulkRows::byte_size);
        let restored = self.restored.iter().map(RestoredRow::byte_size);
        let rows = changes.sum::<usize>() + restored.sum::<usize>();
        size_of::<Self>() + rows + bulk + self.kv.byte_size() + segments.sum::<usize>()
    }
}

/// A row of the hot tier as a backup has it. It is written as it is, with the commit and the time that it was made by:
/// neither validated nor logged, as its table has no readers and no other writers yet.
#[derive(Debug, Clone)]
pub struct RestoredRow {
    /// Whose row it is, of which table.
    pub partition: Partition,
    /// The row's primary key.
    pub key: PrimaryKey,
    /// The row, stamped.
    pub row: EncodedRow,
}

impl RestoredRow {
    /// About how many bytes it holds and will write.
    pub fn byte_size(&self) -> usize {
        size_of::<Self>() + self.key.as_bytes().len() + self.row.byte_size()
    }
}

/// Segments that come to a partition and leave it, in one step. The rows that readers see stay the same.
#[derive(Debug, Clone)]
pub struct SegmentChange {
    /// Whose segments they are, of which table.
    pub partition: Partition,
    /// The snapshot that the new segments were made from.
    pub based_on: CommitSeq,
    /// The segments that come; their files are complete and durable. Their key ranges may overlap those of others, but no
    /// key may be in two of them.
    pub add: Vec<NewSegment>,
    /// The segments that leave because their live rows are in `add`. Their files become garbage.
    pub remove: Vec<SegmentEntry>,
    /// Whether the rows of `add` come from the hot tier and leave it. Those that changed since the snapshot stay, and
    /// their copies in the new segments are marked.
    pub takes_hot_rows: bool,
}

impl SegmentChange {
    fn byte_size(&self) -> usize {
        let added = self.add.iter().map(|new| new.keys.byte_size() + size_of_val(new.checksums.as_slice()));
        size_of::<Self>() + added.sum::<usize>() + self.remove.len() * size_of::<SegmentEntry>()
    }
}

/// A segment that comes.
#[derive(Debug, Clone)]
pub struct NewSegment {
    /// Its entry in the manifest.
    pub entry: SegmentEntry,
    /// The checksums of its file's blocks.
    pub checksums: Vec<u32>,
    /// The keys of its rows, by their position in the file.
    pub keys: PackedKeys,
    /// Bytes of the keys and values that its rows have in the hot tier; 0 if they come from other segments.
    pub hot_bytes: u64,
}

/// Why changes of a table's rows are refused from some commit on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fence {
    /// The commit drops the table. Statements that began before must not leave rows behind.
    Dropped,
}

/// A change of one row.
#[derive(Debug, Clone)]
pub struct RowChange {
    /// Whose row it is, of which table.
    pub partition: Partition,
    /// The row's primary key.
    pub key: PrimaryKey,
    /// What is done to it.
    pub op: RowOp,
}

/// What is done to a row, and what must be true of it for that.
#[derive(Debug, Clone)]
pub enum RowOp {
    /// Adds a row.
    Insert {
        /// The new row.
        row: EncodedRow,
        /// How the key is known to be new.
        unique: Unique,
    },
    /// Replaces a row.
    Update {
        /// The new row. It goes to the hot tier wherever the old one is.
        row: EncodedRow,
        /// The version that was read. If the row has another, or is gone, the commit fails with
        /// [`CommitError::VersionChanged`].
        expected: Expected,
        /// The row value that was read, for the log.
        old: Vec<u8>,
    },
    /// Removes a row.
    Delete {
        /// As for [`RowOp::Update`].
        expected: Expected,
        /// The row value that was read, for the log.
        old: Vec<u8>,
    },
}

/// The version of a row that a statement read, and so the one that it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expected {
    /// A row of the hot tier, by the commit that wrote it.
    Hot(CommitSeq),
    /// A row of a segment. Segments never change, so its place says everything.
    Cold(ColdPlace),
}

/// The place of a row in the cold tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColdPlace {
    /// The segment.
    pub segment: SegmentId,
    /// The row's position in the file, from 0.
    pub row: u32,
}

/// How the key of a new row is known to be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unique {
    /// It was generated to be unique. The store is not searched for it, only this group's commits.
    Generated,
    /// It was given. If it exists the commit fails with [`CommitError::KeyExists`].
    Check,
}

/// The answer to a commit that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the order of all commits.
    pub commit_seq: CommitSeq,
}

/// Why a commit was not made.
///
/// After [`CommitError::Poisoned`] it is unknown whether the commit will be there after a restart. After every other
/// error it left no trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A key that should be new exists.
    #[error("change {change} inserts a key that exists")]
    KeyExists {
        /// The index of the change in [`PreparedCommit::changes`], or of the row in [`PreparedCommit::bulk`], counted
        /// through all its partitions.
        change: usize,
    },
    /// A row is no longer the version that was read. Read again and retry.
    #[error("change {change} is of a row that changed since it was read")]
    VersionChanged {
        /// The index of the change in [`PreparedCommit::changes`].
        change: usize,
    },
    /// Segments came to a partition, or left it, since the commit was prepared. Read again and retry.
    #[error("the segments of table {table} changed since they were read")]
    SegmentsChanged {
        /// The table.
        table: TableId,
    },
    /// The change log does not reach back to the snapshot that segments were made from, or that was searched for keys. Do it
    /// again with a new one.
    #[error("the changes of table {table} since the commit's snapshot are no longer known")]
    LogTrimmed {
        /// The table.
        table: TableId,
    },
    /// The user whose rows they are was dropped since the statement began.
    #[error("change {change} is of a user that left since the statement began")]
    OwnerLeft {
        /// The index of the change in [`PreparedCommit::changes`], or of the partition in [`PreparedCommit::bulk`].
        change: usize,
    },
    /// The table was dropped.
    #[error("table {table} was dropped")]
    TableDropped {
        /// The table.
        table: TableId,
    },
    /// A write failed, this one or one before. Nothing more is written until the store is opened again; reads go on.
    #[error("the store accepts no more writes, because one failed: {0}")]
    Poisoned(String),
    /// There is too little free space on the disk. Deleting rows and dropping tables is possible for longer than adding
    /// is.
    #[error("too little free space on the disk")]
    DiskFull,
    /// The commit is larger than any may be.
    #[error("the commit is larger than {limit} bytes")]
    TooLarge {
        /// The greatest [`PreparedCommit::byte_size`].
        limit: usize,
    },
    /// The committer was stopped.
    #[error("the store is closed")]
    Closed,
    /// The store could not be read to validate the commit.
    #[error(transparent)]
    Storage(KvError),
}

/// How a [`Committer`] works.
#[derive(Debug, Clone)]
pub struct CommitSettings {
    /// What an acknowledged commit survives.
    pub durability: Durability,
    /// How many commits may wait; further callers of [`Committer::commit`] wait for a place. At least 1.
    pub queue_capacity: usize,
    /// About how many bytes the waiting commits may hold together. A large commit takes the places of several.
    pub max_queue_bytes: usize,
    /// A group is closed when it has this many bytes.
    pub max_group_bytes: usize,
    /// The greatest [`PreparedCommit::byte_size`], up to 1 GiB.
    pub max_commit_bytes: usize,
    /// Under [`Durability::Async`], how long after a write the store is synced: what a failure of the machine can lose.
    pub async_sync_interval_ms: u64,
    /// With less free disk space than this, commits that add or change rows are refused; with less than half, all are.
    /// `None`: no such guard.
    pub min_free_bytes: Option<u64>,
}

impl Default for CommitSettings {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            durability: Durability::Sync,
            queue_capacity: 1024,
            max_queue_bytes: 256 * MIB,
            max_group_bytes: 4 * MIB,
            max_commit_bytes: 64 * MIB,
            async_sync_interval_ms: 200,
            min_free_bytes: None,
        }
    }
}

/// Tells how many bytes are free on the disk of the store.
pub type FreeSpace = Arc<dyn Fn() -> std::io::Result<u64> + Send + Sync>;
