//! A backend that can be made to fail and to wait.

#![allow(dead_code, reason = "every test uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use kalamdb_store::ids::CommitSeq;
use kalamdb_store::kv::*;
use parking_lot::{Condvar, Mutex};

/// Passes everything on to another backend, but for what it is told to fail or hold.
#[derive(Debug)]
pub(crate) struct FaultyBackend {
    inner: Arc<dyn StorageBackend>,
    state: Arc<Mutex<State>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    fail_writes: bool,
    fail_reads: bool,
    fail_syncs: bool,
    hold: bool,
    held: bool,
    writes: usize,
    syncs: usize,
}

fn planted() -> KvError {
    KvError::Io("planted failure".to_owned())
}

impl FaultyBackend {
    pub(crate) fn new(inner: Arc<dyn StorageBackend>) -> Self {
        Self { inner, state: Arc::default(), changed: Condvar::new() }
    }

    pub(crate) fn fail_writes(&self) {
        self.state.lock().fail_writes = true;
    }

    pub(crate) fn fail_reads(&self) {
        self.state.lock().fail_reads = true;
    }

    pub(crate) fn fail_syncs(&self) {
        self.state.lock().fail_syncs = true;
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state.lock();
        (state.fail_writes, state.fail_reads, state.fail_syncs) = (false, false, false);
    }

    /// Makes writes wait from now on.
    pub(crate) fn hold(&self) {
        self.state.lock().hold = true;
    }

    /// Waits until a write waits.
    pub(crate) async fn wait_until_held(&self) {
        while !self.state.lock().held {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets writes go on.
    pub(crate) fn release(&self) {
        self.state.lock().hold = false;
        self.changed.notify_all();
    }

    /// How many batches were written.
    pub(crate) fn writes(&self) -> usize {
        self.state.lock().writes
    }

    /// Blocks until there were so many syncs.
    pub(crate) fn wait_for_syncs(&self, count: usize) {
        let mut state = self.state.lock();
        while state.syncs < count {
            self.changed.wait(&mut state);
        }
    }
}

impl StorageBackend for FaultyBackend {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        if self.state.lock().fail_reads { Err(planted()) } else { self.inner.get(keyspace, key) }
    }

    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), KvError> {
        let mut state = self.state.lock();
        while state.hold {
            state.held = true;
            self.changed.wait(&mut state);
        }
        state.held = false;
        state.writes += 1;
        if state.fail_writes {
            return Err(planted());
        }
        drop(state);
        self.inner.write(batch, durability)
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(FaultySnapshot { inner: self.inner.snapshot(), state: self.state.clone() })
    }

    fn sync(&self) -> Result<(), KvError> {
        let mut state = self.state.lock();
        if state.fail_syncs {
            return Err(planted());
        }
        state.syncs += 1;
        self.changed.notify_all();
        self.inner.sync()
    }

    fn flush(&self) -> Result<(), KvError> {
        self.inner.flush()
    }

    fn size(&self, keyspace: Keyspace) -> Result<KeyspaceSize, KvError> {
        self.inner.size(keyspace)
    }

    fn discard_log(&self, floor: CommitSeq) {
        self.inner.discard_log(floor);
    }

    fn reclaim_log(&self, from: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.inner.reclaim_log(from)
    }

    fn log_removed(&self) -> LogRemoved {
        self.inner.log_removed()
    }
}

struct FaultySnapshot {
    inner: Arc<dyn Snapshot>,
    state: Arc<Mutex<State>>,
}

impl Snapshot for FaultySnapshot {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        if self.state.lock().fail_reads { Err(planted()) } else { self.inner.get(keyspace, key) }
    }

    fn multi_get(&self, keyspace: Keyspace, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, KvError> {
        if self.state.lock().fail_reads { Err(planted()) } else { self.inner.multi_get(keyspace, keys) }
    }

    fn cursor(
        &self,
        keyspace: Keyspace,
        range: KeyRange,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + '_>, KvError> {
        self.inner.cursor(keyspace, range, direction)
    }
}
