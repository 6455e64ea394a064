//! Bounds what a failure of the machine can lose under asynchronous durability.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::kv::{KvError, StorageBackend};

/// A thread that syncs the store some time after it was written to, and sleeps while nothing is written.
pub(super) struct BackgroundSync {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Whether anything was written since the last sync began.
    dirty: AtomicBool,
    stopping: Mutex<bool>,
    wake: Condvar,
}

impl BackgroundSync {
    /// Starts the thread. After a failed sync it calls `on_failure` and ends.
    pub(super) fn start(
        backend: Arc<dyn StorageBackend>,
        interval: Duration,
        on_failure: impl FnOnce(KvError) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared =
            Arc::new(Shared { dirty: AtomicBool::new(false), stopping: Mutex::new(false), wake: Condvar::new() });
        let in_thread = shared.clone();
        let run = move || {
            if let Err(error) = in_thread.run(backend.as_ref(), interval) {
                on_failure(error);
            }
        };
        let thread = std::thread::Builder::new().name("kalamdb-wal-sync".to_owned()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Notes that there is something to sync.
    pub(super) fn wrote(&self) {
        if !self.shared.dirty.swap(true, Ordering::AcqRel) {
            // The lock orders this after the thread's own test, so that the call is not missed.
            drop(self.shared.stopping.lock());
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for BackgroundSync {
    fn drop(&mut self) {
        *self.shared.stopping.lock() = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that syncs the store in the background panicked");
        }
    }
}

impl Shared {
    fn run(&self, backend: &dyn StorageBackend, interval: Duration) -> Result<(), KvError> {
        let mut stopping = self.stopping.lock();
        while !*stopping {
            if !self.dirty.load(Ordering::Acquire) {
                self.wake.wait(&mut stopping);
                continue;
            }
            let due = Instant::now() + interval;
            while !*stopping && !self.wake.wait_until(&mut stopping, due).timed_out() {}
            self.dirty.store(false, Ordering::Release);
            parking_lot::MutexGuard::unlocked(&mut stopping, || backend.sync())?;
        }
        Ok(())
    }
}
