//! Reading the change log, and giving up its oldest part.
//!
//! ```text
//!            floor: stored before anything at or below it goes
//!              │
//!   1 2 3 4 5 6│7 8 9 … last commit
//!   ───────────┼───────────────────
//!   gone, or   │ all there
//!   may be     │
//! ```
//!
//! Entries are not deleted one by one, which would cost as much as writing them did: raising the floor is one small write,
//! and the backend drops what lies below when it rewrites its files anyway.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::position;
use crate::codec::{LogEntry, log_range};
use crate::ids::{CommitSeq, Partition};
use crate::kv::{Direction, Keyspace, KvError, StorageBackend};

/// The changes that commits made, by partition. A handle: clones share one floor.
///
/// A store has one; whoever raises the floor of a second would not be noticed by the first.
#[derive(Clone)]
pub struct ChangeLog {
    backend: Arc<dyn StorageBackend>,
    floor: Arc<AtomicU64>,
    /// Held while the floor is raised.
    raising: Arc<Mutex<()>>,
}

/// Some entries of a partition, in the order of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// The entries.
    pub entries: Vec<LogEntry>,
    /// There are no others up to this commit: what was asked for if the page is complete, else the last entry's.
    pub read_to: CommitSeq,
    /// Whether everything that was asked for is in the page.
    pub complete: bool,
}

/// Why changes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Some of the commits that were asked for may be gone.
    #[error("the change log begins after commit {floor}")]
    Trimmed {
        /// Commits after this one can be read.
        floor: CommitSeq,
    },
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] KvError),
}

impl ChangeLog {
    /// The change log of a store. Reads its floor.
    pub fn new(backend: Arc<dyn StorageBackend>) -> Result<Self, KvError> {
        let floor = position::log_floor(backend.as_ref())?;
        backend.discard_log(floor);
        Ok(Self { backend, floor: Arc::new(AtomicU64::new(floor.get())), raising: Arc::default() })
    }

    /// Commits at or below are gone, or may be at any time.
    pub fn floor(&self) -> CommitSeq {
        CommitSeq::new(self.floor.load(Ordering::SeqCst))
    }

    /// The entries of `partition` after `after`, up to and with `upto`, in their order: as many as have about `max_bytes`
    /// bytes, but at least one.
    ///
    /// # Errors
    /// [`LogError::Trimmed`] if any commit after `after` may be gone, whatever was read. [`LogError::Storage`] if the store
    /// fails, and if commit `upto` is not visible yet.
    pub fn read(
        &self,
        partition: &Partition,
        after: CommitSeq,
        upto: CommitSeq,
        max_bytes: usize,
    ) -> Result<LogPage, LogError> {
        let page = self.entries(partition, after, upto, max_bytes);
        // Only now: entries that a compaction drops are gone from snapshots too, and the floor can be raised while they
        // are being read. It is raised before anything goes, so if it has not passed `after` by now, nothing was missing.
        let floor = self.floor();
        if after < floor {
            return Err(LogError::Trimmed { floor });
        }
        page.map_err(LogError::Storage)
    }

    fn entries(
        &self,
        partition: &Partition,
        after: CommitSeq,
        upto: CommitSeq,
        max_bytes: usize,
    ) -> Result<LogPage, KvError> {
        let snapshot = self.backend.snapshot();
        let last = position::committed_seq(snapshot.as_ref())?;
        if upto > last {
            // The page would claim to have commits that are still to come.
            return Err(KvError::Other(format!("commit {upto} cannot be read: the last one is {last}")));
        }
        let range = log_range(partition, Bound::Excluded(after), Bound::Included(upto));
        let mut cursor = snapshot.cursor(Keyspace::Log, range, Direction::Forward)?;
        let (mut entries, mut bytes): (Vec<LogEntry>, usize) = (Vec::new(), 0);
        while let Some((_, value)) = cursor.item() {
            if let Some(last) = entries.last()
                && bytes + value.len() > max_bytes
            {
                let read_to = last.commit_seq;
                return Ok(LogPage { entries, read_to, complete: false });
            }
            bytes += value.len();
            entries.push(LogEntry::decode(value).map_err(|error| KvError::Corruption(error.to_string()))?);
            cursor.advance()?;
        }
        Ok(LogPage { entries, read_to: upto, complete: true })
    }

    /// Gives up the commits up to and with `to`. When it returns `Ok`, the new floor is on disk. The entries go later, as
    /// the store finds the time; see [`StorageBackend::reclaim_log`]. A floor that is not higher changes nothing.
    ///
    /// Reads under way that need them fail with [`LogError::Trimmed`], and so does the commit of a segment that was made
    /// from a snapshot before `to`, with [`CommitError::LogTrimmed`](super::CommitError::LogTrimmed).
    pub fn raise_floor(&self, to: CommitSeq) -> Result<(), KvError> {
        let _raising = self.raising.lock();
        if to <= self.floor() {
            return Ok(());
        }
        // In this order. On disk first: after a crash, nothing may be missing above the floor that is found. Known to
        // readers next: they must hear of it before the first entry goes.
        position::store_log_floor(self.backend.as_ref(), to)?;
        self.floor.store(to.get(), Ordering::SeqCst);
        self.backend.discard_log(to);
        Ok(())
    }
}

impl fmt::Debug for ChangeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeLog").field("floor", &self.floor()).finish_non_exhaustive()
    }
}
