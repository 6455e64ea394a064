//! Ordered key-value stores.
//!
//! A backend holds a fixed set of [`Keyspace`]s, each an ordered map from bytes to bytes. Batches are atomic and
//! snapshots are consistent over all keyspaces together. [`RocksBackend`] keeps them on disk, [`MemoryBackend`] in
//! memory; both pass `tests/backend_conformance.rs`.

mod batch;
mod memory;
mod owned_cursor;
mod range;
mod rocks;

use std::fmt::Debug;
use std::sync::Arc;

use crate::ids::CommitSeq;

pub(crate) use batch::{BulkWrites, EachPut};
pub use batch::{WriteBatch, WriteOp};
pub use memory::MemoryBackend;
pub use owned_cursor::OwnedCursor;
pub use range::KeyRange;
pub use rocks::{RocksBackend, RocksSettings};

/// An ordered key-value store.
///
/// Every method blocks for as long as the disk needs. All of them may be called from many threads at once.
pub trait StorageBackend: Send + Sync + Debug + 'static {
    /// The current value of `key`, or `None`.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Sets `key` to `value`. When it returns `Ok` the write is visible to every later read, and as durable as
    /// `durability` says.
    fn put(&self, keyspace: Keyspace, key: &[u8], value: &[u8], durability: Durability) -> Result<(), KvError> {
        let mut batch = WriteBatch::new();
        batch.put(keyspace, key, value);
        self.write(batch, durability)
    }

    /// Removes `key`; no error if there is none. Visible and durable as [`StorageBackend::put`] is.
    fn delete(&self, keyspace: Keyspace, key: &[u8], durability: Durability) -> Result<(), KvError> {
        let mut batch = WriteBatch::new();
        batch.delete(keyspace, key);
        self.write(batch, durability)
    }

    /// Applies all operations of `batch` in their order, or none of them, whatever happens meanwhile. A later
    /// operation on a key overrides an earlier one.
    ///
    /// After an error nothing of the batch is visible, but it may come back with the next start: the bytes can have
    /// reached the disk although the confirmation did not.
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), KvError>;

    /// A view of this moment: every write that returned before is in it, and no write of later ever is.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// When it returns `Ok`, every write acknowledged before, with whatever [`Durability`], is on disk.
    fn sync(&self) -> Result<(), KvError>;

    /// Moves what is held in memory tables to table files. Not needed for durability; a restart is quicker after it.
    fn flush(&self) -> Result<(), KvError>;

    /// Roughly how large a keyspace is.
    fn size(&self, keyspace: Keyspace) -> Result<KeyspaceSize, KvError>;

    /// Gives up the entries of [`Keyspace::Log`] up to and with commit `floor`: they go at any time from now on, and from
    /// snapshots too. All others stay, those with damaged keys among them. A floor below an earlier one changes nothing.
    ///
    /// Costs nothing and writes nothing: the floor holds until the store is closed, and is to be said again after that.
    /// Most entries go when RocksDB rewrites its files anyway.
    fn discard_log(&self, floor: CommitSeq);

    /// Removes a part of what [`StorageBackend::discard_log`] gave up, beginning with the key `from`: as much as takes
    /// some seconds at the most, during which others read and write as ever. Answers where to go on, or `None` when that
    /// was the last.
    fn reclaim_log(&self, from: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// What has gone of the log since the store was opened because it was given up.
    fn log_removed(&self) -> LogRemoved;
}

/// A consistent, immutable view over all keyspaces. It keeps its store open for as long as it lives, and old versions
/// of changed entries with it: drop it soon.
pub trait Snapshot: Send + Sync + 'static {
    /// The value of `key` in this view, or `None`.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// The values of many keys, in the order of `keys`. Cheaper than as many calls of [`Snapshot::get`].
    fn multi_get(&self, keyspace: Keyspace, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, KvError>;

    /// A cursor over the entries whose keys lie in `range`, placed at the first one in `direction`: the least key
    /// going [`Direction::Forward`], the greatest going [`Direction::Reverse`].
    fn cursor(
        &self,
        keyspace: Keyspace,
        range: KeyRange,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + '_>, KvError>;

    /// A forward cursor for somebody who reads a large range once: it takes no room in caches from what others read again.
    fn bulk_cursor(&self, keyspace: Keyspace, range: KeyRange) -> Result<Box<dyn Cursor + '_>, KvError> {
        self.cursor(keyspace, range, Direction::Forward)
    }
}

/// A position in a range of entries. See [`OwnedCursor`] for one that outlives its borrow of the snapshot.
///
/// ```
/// use kalamdb_store::kv::*;
///
/// # fn main() -> Result<(), KvError> {
/// let store = MemoryBackend::new();
/// store.put(Keyspace::Catalog, b"a", b"1", Durability::Async)?;
/// let snapshot = store.snapshot();
/// let mut cursor = snapshot.cursor(Keyspace::Catalog, KeyRange::all(), Direction::Forward)?;
/// while let Some((key, value)) = cursor.item() {
///     println!("{key:?} = {value:?}");
///     cursor.advance()?;
/// }
/// # Ok(()) }
/// ```
pub trait Cursor: Send {
    /// Whether the cursor is at an entry. False once the range is exhausted, and after an error.
    fn valid(&self) -> bool;

    /// The key at the cursor; empty when it is not [`Cursor::valid`].
    fn key(&self) -> &[u8];

    /// The value at the cursor; empty when it is not [`Cursor::valid`].
    fn value(&self) -> &[u8];

    /// Key and value at the cursor, or `None` when the range is exhausted. One call in place of three.
    fn item(&self) -> Option<(&[u8], &[u8])> {
        self.valid().then(|| (self.key(), self.value()))
    }

    /// Goes to the next entry in the cursor's direction. Does nothing when the range is exhausted.
    fn advance(&mut self) -> Result<(), KvError>;

    /// Goes to the nearest entry at or beyond `key` in the cursor's direction, within the range: going forward the
    /// least key that is not less, in reverse the greatest that is not greater. May go back as well as ahead.
    fn seek(&mut self, key: &[u8]) -> Result<(), KvError>;
}

/// The keyspaces. They are fixed: a table never gets one of its own, so that a thousand tables cost no more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyspace {
    /// Namespaces, tables, schema versions.
    Catalog,
    /// The hot tier: the current version of each row, by `table | owner | primary key`.
    Rows,
    /// The change log: old and new image of every change, by `table | owner | commit sequence`.
    Log,
    /// The manifest of the cold tier, by `table | owner | segment`.
    Segments,
    /// Counters, users, jobs, storages.
    System,
}

impl Keyspace {
    /// All keyspaces, in the order of their [`Keyspace::index`].
    pub const ALL: [Keyspace; 5] =
        [Keyspace::Catalog, Keyspace::Rows, Keyspace::Log, Keyspace::Segments, Keyspace::System];

    /// The name of the keyspace on disk. Part of the data format.
    pub const fn name(self) -> &'static str {
        match self {
            Keyspace::Catalog => "catalog",
            Keyspace::Rows => "rows",
            Keyspace::Log => "log",
            Keyspace::Segments => "segments",
            Keyspace::System => "system",
        }
    }

    /// The place of the keyspace in [`Keyspace::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether the keys begin with a partition (`table | owner`), as `codec` builds them.
    pub(crate) const fn is_partitioned(self) -> bool {
        matches!(self, Keyspace::Rows | Keyspace::Log | Keyspace::Segments)
    }
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The end of the process and a power failure: the write-ahead log was synced to disk.
    Sync,
    /// The end of the process, by SIGKILL too. A failure of the machine can lose the last moments: always the newest
    /// writes and always whole batches, so that what is left is a state that once was.
    Async,
}

/// Which way a cursor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the least key to the greatest.
    Forward,
    /// From the greatest key to the least.
    Reverse,
}

/// Approximate size of a keyspace. Good for statistics, not for decisions about single entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyspaceSize {
    /// Bytes of table files on disk, compressed.
    pub disk_bytes: u64,
    /// Bytes in memory that are not yet in a table file.
    pub memory_bytes: u64,
    /// About how many keys there are.
    pub estimated_keys: u64,
}

/// Entries of the log that are gone. Approximate: one whose removal failed and was repeated counts twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogRemoved {
    /// How many.
    pub entries: u64,
    /// Bytes of their keys and values, not compressed.
    pub bytes: u64,
}

/// Why a store could not read or write. Texts are for the operator's log: they can contain paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The disk or the file system failed.
    #[error("storage I/O failed: {0}")]
    Io(String),
    /// There is no space left on the device.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// Stored bytes are damaged or of an unknown form.
    #[error("stored data is corrupt: {0}")]
    Corruption(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Anything else the store reports.
    #[error("storage failed: {0}")]
    Other(String),
}
