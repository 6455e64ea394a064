//! The in-memory backend.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Cursor, Direction, Durability, KeyRange, Keyspace, KeyspaceSize, KvError, Snapshot, StorageBackend};
use super::{LogRemoved, WriteBatch, WriteOp};
use crate::codec::log_key_seq;
use crate::ids::CommitSeq;

/// An ordered store in memory, for tests and for data that need not survive the process.
///
/// Keys keep several versions, each stamped with the number of the batch that wrote it. A snapshot is such a number: it
/// costs nothing to take, and a writer neither waits for readers nor copies what they see. Versions that no snapshot
/// can see any more are removed as the store is used. Every write is as durable as it can be when it returns, so
/// [`Durability`] makes no difference.
#[derive(Clone)]
pub struct MemoryBackend {
    shared: Arc<RwLock<State>>,
}

type Bytes = Arc<[u8]>;

#[derive(Default)]
struct State {
    /// The number of the last batch.
    last_batch: u64,
    maps: [BTreeMap<Bytes, Vec<Version>>; Keyspace::ALL.len()],
    /// Snapshots in use: batch number to how many there are of it.
    snapshots: BTreeMap<u64, usize>,
    /// Keys with versions to remove once no snapshot is older than the batch that superseded them; in batch order.
    garbage: VecDeque<(u64, Keyspace, Bytes)>,
    /// Log entries up to this commit were given up.
    log_floor: Option<CommitSeq>,
    log_removed: LogRemoved,
}

/// What a key was from `batch` on, until its next version. Versions of a key are in ascending order of `batch`.
struct Version {
    batch: u64,
    /// `None`: there was no such key.
    value: Option<Bytes>,
}

impl MemoryBackend {
    /// An empty store.
    pub fn new() -> Self {
        Self { shared: Arc::new(RwLock::new(State::default())) }
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").finish_non_exhaustive()
    }
}

impl StorageBackend for MemoryBackend {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.shared.read().visible(keyspace, key, u64::MAX).map(|value| value.to_vec()))
    }

    fn write(&self, batch: WriteBatch, _durability: Durability) -> Result<(), KvError> {
        let mut state = self.shared.write();
        state.last_batch += 1;
        for op in batch.iter() {
            match op {
                WriteOp::Put { keyspace, key, value } => state.set(keyspace, Bytes::from(key), Some(value.into())),
                WriteOp::Delete { keyspace, key } => state.remove(keyspace, key),
                WriteOp::DeleteRange { keyspace, from, to } => {
                    let bounds = (Bound::Included(from), Bound::Excluded(to));
                    let keys: Vec<Bytes> =
                        state.maps[keyspace.index()].range::<[u8], _>(bounds).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        state.remove(keyspace, &key);
                    }
                }
            }
        }
        batch.for_each_bulk(|keyspace, key, value| state.set(keyspace, Bytes::from(key), Some(value.into())));
        state.collect_garbage();
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        let mut state = self.shared.write();
        let batch = state.last_batch;
        *state.snapshots.entry(batch).or_default() += 1;
        Arc::new(MemorySnapshot { shared: self.shared.clone(), batch })
    }

    fn sync(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn size(&self, keyspace: Keyspace) -> Result<KeyspaceSize, KvError> {
        let state = self.shared.read();
        let map = &state.maps[keyspace.index()];
        let versions = map.iter().flat_map(|(key, versions)| versions.iter().map(|version| (key.len(), version)));
        let bytes: usize = versions.map(|(key, version)| key + version.value.as_ref().map_or(0, |v| v.len())).sum();
        Ok(KeyspaceSize { disk_bytes: 0, memory_bytes: bytes as u64, estimated_keys: map.len() as u64 })
    }

    fn discard_log(&self, floor: CommitSeq) {
        let mut state = self.shared.write();
        state.log_floor = state.log_floor.max(Some(floor));
    }

    fn reclaim_log(&self, from: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.shared.write().reclaim_log(from))
    }

    fn log_removed(&self) -> LogRemoved {
        self.shared.read().log_removed
    }
}

/// Log entries looked at under one lock.
const RECLAIMED_AT_ONCE: usize = 1_000;

impl State {
    fn visible(&self, keyspace: Keyspace, key: &[u8], batch: u64) -> Option<&Bytes> {
        visible(self.maps[keyspace.index()].get(key)?, batch)
    }

    fn remove(&mut self, keyspace: Keyspace, key: &[u8]) {
        let stored = self.maps[keyspace.index()].get_key_value(key);
        if let Some((key, _)) = stored {
            let key = key.clone();
            self.set(keyspace, key, None);
        }
    }

    fn set(&mut self, keyspace: Keyspace, key: Bytes, value: Option<Bytes>) {
        let batch = self.last_batch;
        let versions = self.maps[keyspace.index()].entry(key.clone()).or_default();
        // A batch is one step: its later write to a key takes the place of the earlier one.
        versions.pop_if(|last| last.batch == batch);
        let leaves_garbage = value.is_none() || !versions.is_empty();
        versions.push(Version { batch, value });
        if leaves_garbage {
            self.garbage.push_back((batch, keyspace, key));
        }
    }

    /// Removes, of the next log entries from `from` on, those that were given up. Answers where to go on.
    fn reclaim_log(&mut self, from: &[u8]) -> Option<Vec<u8>> {
        let floor = self.log_floor?;
        let mut entries = self.maps[Keyspace::Log.index()].range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let is_given_up = |key: &Bytes| log_key_seq(key).is_some_and(|seq| seq <= floor);
        let (mut given_up, mut bytes) = (Vec::new(), 0);
        for (key, versions) in entries.by_ref().take(RECLAIMED_AT_ONCE) {
            if let Some(value) = visible(versions, u64::MAX)
                && is_given_up(key)
            {
                bytes += key.len() + value.len();
                given_up.push(key.clone());
            }
        }
        let next = entries.next().map(|(key, _)| key.to_vec());
        self.log_removed.entries += given_up.len() as u64;
        self.log_removed.bytes += bytes as u64;
        self.last_batch += 1;
        given_up.into_iter().for_each(|key| self.set(Keyspace::Log, key, None));
        self.collect_garbage();
        next
    }

    fn collect_garbage(&mut self) {
        let oldest_needed = self.snapshots.keys().next().copied().unwrap_or(self.last_batch);
        while let Some((_, keyspace, key)) = self.garbage.pop_front_if(|(batch, ..)| *batch <= oldest_needed) {
            let map = &mut self.maps[keyspace.index()];
            let Some(versions) = map.get_mut(&key) else { continue };
            let superseded = versions.iter().rposition(|version| version.batch <= oldest_needed).unwrap_or(0);
            versions.drain(..superseded);
            if versions.iter().all(|version| version.value.is_none() && version.batch <= oldest_needed) {
                map.remove(&key);
            }
        }
    }
}

fn visible(versions: &[Version], batch: u64) -> Option<&Bytes> {
    versions.iter().rfind(|version| version.batch <= batch)?.value.as_ref()
}

struct MemorySnapshot {
    shared: Arc<RwLock<State>>,
    batch: u64,
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut state = self.shared.write();
        if let Some(count) = state.snapshots.get_mut(&self.batch) {
            *count -= 1;
            if *count == 0 {
                state.snapshots.remove(&self.batch);
                state.collect_garbage();
            }
        }
    }
}

impl Snapshot for MemorySnapshot {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.shared.read().visible(keyspace, key, self.batch).map(|value| value.to_vec()))
    }

    fn multi_get(&self, keyspace: Keyspace, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, KvError> {
        let state = self.shared.read();
        Ok(keys.iter().map(|key| state.visible(keyspace, key, self.batch).map(|value| value.to_vec())).collect())
    }

    fn cursor(
        &self,
        keyspace: Keyspace,
        range: KeyRange,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + '_>, KvError> {
        let (lower, upper) = range.half_open();
        let chunk = Vec::with_capacity(FIRST_CHUNK_ENTRIES);
        let mut cursor = MemoryCursor { snapshot: self, keyspace, lower, upper, direction, chunk, position: 0 };
        cursor.load(None);
        Ok(Box::new(cursor))
    }
}

/// Entries copied out of the store under one lock: few at first, since many cursors read one entry only.
const FIRST_CHUNK_ENTRIES: usize = 4;
const MAX_CHUNK_ENTRIES: usize = 256;

struct MemoryCursor<'a> {
    snapshot: &'a MemorySnapshot,
    keyspace: Keyspace,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    direction: Direction,
    chunk: Vec<(Bytes, Bytes)>,
    position: usize,
}

impl MemoryCursor<'_> {
    /// Fills the chunk from `from` on, in the cursor's direction; from the beginning of the range if it is `None`.
    fn load(&mut self, from: Option<Bound<&[u8]>>) {
        let wanted = if self.chunk.is_empty() { FIRST_CHUNK_ENTRIES } else { self.chunk.len() * 4 };
        let wanted = wanted.min(MAX_CHUNK_ENTRIES);
        let mut lower = Bound::Included(self.lower.as_slice());
        let mut upper = self.upper.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        // The range's own edge stays where `from` lies outside the range.
        match (from, self.direction) {
            (Some(Bound::Included(key) | Bound::Excluded(key)), Direction::Forward) if key < self.lower.as_slice() => {}
            (Some(Bound::Included(key) | Bound::Excluded(key)), Direction::Reverse)
                if self.upper.as_deref().is_some_and(|upper| key >= upper) => {}
            (Some(from), Direction::Forward) => lower = from,
            (Some(from), Direction::Reverse) => upper = from,
            (None, _) => {}
        }
        let mut chunk = Vec::with_capacity(wanted);
        if !is_empty(lower, upper) {
            let state = self.snapshot.shared.read();
            let entries = state.maps[self.keyspace.index()].range::<[u8], _>((lower, upper));
            let batch = self.snapshot.batch;
            let seen =
                |(key, versions): (&Bytes, &Vec<Version>)| Some((key.clone(), visible(versions, batch)?.clone()));
            match self.direction {
                Direction::Forward => chunk.extend(entries.filter_map(seen).take(wanted)),
                Direction::Reverse => chunk.extend(entries.rev().filter_map(seen).take(wanted)),
            }
        }
        self.chunk = chunk;
        self.position = 0;
    }
}

/// `BTreeMap::range` panics on such bounds.
fn is_empty(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    match (lower, upper) {
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (Bound::Included(lower) | Bound::Excluded(lower), Bound::Included(upper) | Bound::Excluded(upper)) => {
            lower >= upper
        }
        _ => false,
    }
}

impl Cursor for MemoryCursor<'_> {
    fn valid(&self) -> bool {
        self.position < self.chunk.len()
    }

    fn key(&self) -> &[u8] {
        self.chunk.get(self.position).map_or(&[], |(key, _)| key)
    }

    fn value(&self) -> &[u8] {
        self.chunk.get(self.position).map_or(&[], |(_, value)| value)
    }

    fn advance(&mut self) -> Result<(), KvError> {
        if self.position < self.chunk.len() {
            self.position += 1;
            if self.position == self.chunk.len()
                && let Some((last, _)) = self.chunk.last().cloned()
            {
                self.load(Some(Bound::Excluded(&last)));
            }
        }
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<(), KvError> {
        self.chunk.clear();
        self.load(Some(Bound::Included(key)));
        Ok(())
    }
}
