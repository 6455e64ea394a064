//! The threads of jobs: apart from those of queries, and of a lower priority where the system has such.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

use crate::error::{Error, Result};

/// How much later than others the threads come to their turn when there are more than processors.
const NICENESS: i32 = 10;

/// Runs jobs.
#[derive(Debug)]
pub(super) struct JobThreads {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    tasks: Arc<Tasks>,
}

/// How many tasks have not ended.
#[derive(Debug, Default)]
struct Tasks {
    count: Mutex<usize>,
    ended: Condvar,
}

/// Counts a task until it is dropped.
struct Counted(Arc<Tasks>);

impl JobThreads {
    /// Starts so many threads.
    pub(super) fn start(threads: usize) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("kalamdb-job")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()
            .map_err(Error::internal)?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)), tasks: Arc::default() })
    }

    /// Runs a task on these threads. [`JobThreads::stop`] waits for it.
    pub(super) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.spawn_on(&self.handle, task)
    }

    /// Runs a task on other threads. [`JobThreads::stop`] waits for it too.
    pub(super) fn spawn_on<T: Send + 'static>(
        &self,
        threads: &Handle,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        *self.tasks.count.lock() += 1;
        let counted = Counted(Arc::clone(&self.tasks));
        threads.spawn(async move {
            let answer = task.await;
            // Only now: the task and all it held are gone.
            drop(counted);
            answer
        })
    }

    /// Waits until every task has ended, at most for `limit`, and ends the threads. The tasks must have been told.
    /// Blocks.
    pub(super) fn stop(&self, limit: Duration) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        let mut count = self.tasks.count.lock();
        let all_ended = !self.tasks.ended.wait_while_for(&mut count, |count| *count > 0, limit).timed_out();
        if !all_ended {
            tracing::warn!(tasks = *count, "jobs did not stop in time and are left to themselves");
        }
        drop(count);
        runtime.shutdown_background();
    }
}

impl Drop for JobThreads {
    fn drop(&mut self) {
        // Without waiting, which is not allowed everywhere.
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut count = self.0.count.lock();
        *count -= 1;
        if *count == 0 {
            self.0.ended.notify_all();
        }
    }
}

/// Lowers the priority of the calling thread; on other systems than Linux it would be that of the process.
#[cfg(target_os = "linux")]
pub(super) fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the threads of jobs have the same priority as others");
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn lower_priority() {
    let _ = NICENESS;
}
