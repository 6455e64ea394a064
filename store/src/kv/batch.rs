//! Batches of writes.

use std::fmt::Debug;
use std::sync::Arc;

use super::Keyspace;

/// An ordered list of writes that a backend applies atomically.
///
/// All bytes lie in one buffer, so that adding a write costs two copies and, mostly, no allocation.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    ops: Vec<Op>,
    bytes: Vec<u8>,
    /// Applied after `ops`, whose keys they do not have.
    bulk: Vec<Arc<dyn BulkWrites>>,
}

/// Is called with the keyspace, key and value of a put.
pub(crate) type EachPut<'a> = dyn FnMut(Keyspace, &[u8], &[u8]) + 'a;

/// Puts whose bytes are not copied into the batch, because they are many and lie ready.
pub(crate) trait BulkWrites: Send + Sync + Debug {
    /// How many puts there are.
    fn count(&self) -> usize;

    /// Bytes of their keys and values together.
    fn byte_size(&self) -> usize;

    /// Calls `put` with the keyspace, key and value of each.
    fn for_each(&self, put: &mut EachPut<'_>);
}

#[derive(Debug, Clone, Copy)]
struct Op {
    kind: Kind,
    keyspace: Keyspace,
    /// The bytes of the first operand are `bytes[start..middle]`, those of the second `bytes[middle..end]`.
    start: usize,
    middle: usize,
    end: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

/// One write of a [`WriteBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOp<'a> {
    /// Set `key` to `value`.
    Put {
        /// The keyspace written to.
        keyspace: Keyspace,
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Remove `key`.
    Delete {
        /// The keyspace written to.
        keyspace: Keyspace,
        /// The key.
        key: &'a [u8],
    },
    /// Remove every key from `from` (inclusive) to `to` (exclusive).
    DeleteRange {
        /// The keyspace written to.
        keyspace: Keyspace,
        /// The least key removed.
        from: &'a [u8],
        /// The least key kept.
        to: &'a [u8],
    },
}

impl WriteOp<'_> {
    /// The keyspace written to.
    pub fn keyspace(&self) -> Keyspace {
        match self {
            WriteOp::Put { keyspace, .. }
            | WriteOp::Delete { keyspace, .. }
            | WriteOp::DeleteRange { keyspace, .. } => *keyspace,
        }
    }
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds: set `key` to `value`.
    pub fn put(&mut self, keyspace: Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(Kind::Put, keyspace, key.as_ref(), value.as_ref());
    }

    /// Adds: remove `key`.
    pub fn delete(&mut self, keyspace: Keyspace, key: impl AsRef<[u8]>) {
        self.push(Kind::Delete, keyspace, key.as_ref(), &[]);
    }

    /// Adds: remove every key from `from` (inclusive) to `to` (exclusive). Nothing if `from >= to`.
    pub fn delete_range(&mut self, keyspace: Keyspace, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        if from.as_ref() < to.as_ref() {
            self.push(Kind::DeleteRange, keyspace, from.as_ref(), to.as_ref());
        }
    }

    /// Adds every write of `other` after those already here.
    pub fn append(&mut self, other: &WriteBatch) {
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ops.extend(other.ops.iter().map(|op| Op {
            start: op.start + shift,
            middle: op.middle + shift,
            end: op.end + shift,
            ..*op
        }));
        self.bulk.extend(other.bulk.iter().cloned());
    }

    /// Adds puts that lie ready. No other write of the batch may be of one of their keys.
    pub(crate) fn put_bulk(&mut self, writes: Arc<dyn BulkWrites>) {
        self.bulk.push(writes);
    }

    /// The puts that [`WriteBatch::put_bulk`] added, which [`WriteBatch::iter`] does not go over.
    pub(crate) fn for_each_bulk(&self, mut put: impl FnMut(Keyspace, &[u8], &[u8])) {
        for bulk in &self.bulk {
            bulk.for_each(&mut put);
        }
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.ops.len() + self.bulk.iter().map(|bulk| bulk.count()).sum::<usize>()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.bulk.is_empty()
    }

    /// Bytes of all keys and values together.
    pub fn byte_size(&self) -> usize {
        self.bytes.len() + self.bulk.iter().map(|bulk| bulk.byte_size()).sum::<usize>()
    }

    /// The writes that were added one by one, in order.
    pub fn iter(&self) -> impl Iterator<Item = WriteOp<'_>> {
        self.ops.iter().map(|op| {
            let (keyspace, first, second) =
                (op.keyspace, &self.bytes[op.start..op.middle], &self.bytes[op.middle..op.end]);
            match op.kind {
                Kind::Put => WriteOp::Put { keyspace, key: first, value: second },
                Kind::Delete => WriteOp::Delete { keyspace, key: first },
                Kind::DeleteRange => WriteOp::DeleteRange { keyspace, from: first, to: second },
            }
        })
    }

    /// Adds a put whose value `fill` appends to the buffer it is given, sparing the copy of a finished value. `fill`
    /// must only append.
    pub(crate) fn put_with(&mut self, keyspace: Keyspace, key: &[u8], fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let middle = self.bytes.len();
        fill(&mut self.bytes);
        self.ops.push(Op { kind: Kind::Put, keyspace, start, middle, end: self.bytes.len() });
    }

    fn push(&mut self, kind: Kind, keyspace: Keyspace, first: &[u8], second: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(first);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(second);
        self.ops.push(Op { kind, keyspace, start, middle, end: self.bytes.len() });
    }
}
