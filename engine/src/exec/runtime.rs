//! The runtime of DataFusion plans, apart from the one that serves calls, so that a long query starves no short one.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use datafusion::{
    execution::{
        SessionState, SessionStateBuilder,
        config::SessionConfig,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    physical_optimizer::optimizer::PhysicalOptimizer,
};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};

use crate::{
    error::{Error, Reason, Result},
    exec::{
        memory::{QueryMemory, TotalMemory},
        sorted_tiers::SortedTiers,
        statement_session::PassingOn,
        yielding::YieldingJoins,
    },
    functions,
    functions::CheckedArithmetic,
    ids::IdSource,
    settings::EngineSettings,
};

/// How long a query waits for its turn before it is refused.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Plans can be deep; their recursion has this much room before it grows the stack itself.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Runs plans on threads of their own, with bounded memory, disk and number.
#[derive(Debug)]
pub(crate) struct QueryRuntime {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    turns: Arc<Semaphore>,
    base: Arc<RuntimeEnv>,
    memory: Arc<TotalMemory>,
    query_memory_bytes: usize,
}

impl QueryRuntime {
    pub(crate) fn new(settings: &EngineSettings, spill_dir: PathBuf) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads(settings))
            .thread_name("kalamdb-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(Error::internal)?;
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![spill_dir]))
            .with_max_temp_directory_size(settings.max_spill_bytes);
        let base = RuntimeEnvBuilder::new().with_disk_manager_builder(disk).build_arc().map_err(Error::internal)?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            turns: Arc::new(Semaphore::new(settings.max_concurrent_queries.max(1))),
            base,
            memory: TotalMemory::new(settings.total_query_memory_bytes),
            query_memory_bytes: settings.query_memory_bytes,
        })
    }

    /// The runtime itself, for background work.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> usize {
        self.handle.metrics().num_workers()
    }

    /// Starts work on the query threads. Dropping the answer stops the work at its next point of rest.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Work<T> {
        Work(self.handle.spawn(work))
    }

    /// The right to run one plan.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when none is free for a while.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        let waiting = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(MAX_WAIT, waiting).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::new(Reason::ShuttingDown, "The server is shutting down. Connect again.")),
            Err(_) => Err(Error::new(
                Reason::TooManyRequests,
                "Too many queries are under way. Try again later, or raise query.max_concurrent.",
            )
            .with("limit", "query.max_concurrent")),
        }
    }

    /// What one plan runs in: memory of its own, disk and caches shared.
    pub(crate) fn environment(&self) -> Arc<RuntimeEnv> {
        Arc::new(RuntimeEnv {
            memory_pool: Arc::new(QueryMemory::new(self.query_memory_bytes, Arc::clone(&self.memory))),
            disk_manager: Arc::clone(&self.base.disk_manager),
            cache_manager: Arc::clone(&self.base.cache_manager),
            object_store_registry: Arc::clone(&self.base.object_store_registry),
        })
    }

    pub(crate) fn reserved_bytes(&self) -> usize {
        self.memory.reserved_bytes()
    }

    /// Stops: running plans end, waiting ones are refused.
    pub(crate) fn shutdown(&self) {
        self.turns.close();
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Work on the query threads; dropping it stops the work.
#[derive(Debug)]
pub(crate) struct Work<T>(JoinHandle<T>);

impl<T> Work<T> {
    /// Its outcome.
    ///
    /// # Errors
    /// INTERNAL when it panicked, SHUTTING_DOWN when the runtime stopped.
    pub(crate) async fn outcome(mut self) -> Result<T> {
        match (&mut self.0).await {
            Ok(outcome) => Ok(outcome),
            Err(e) if e.is_cancelled() => {
                Err(Error::new(Reason::ShuttingDown, "The server is shutting down. Connect again."))
            }
            Err(e) => Err(Error::internal(e)),
        }
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The session state that every statement starts from: functions, rules and options, no tables.
pub(crate) fn template_state(settings: &EngineSettings, ids: &Arc<IdSource>) -> Result<SessionState> {
    let mut config = SessionConfig::new()
        .with_target_partitions(threads(settings))
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    options.optimizer.enable_sort_pushdown = true;
    // Each sort keeps this much for merging what it spilled; the default of 10 MB would not leave a small query any.
    options.execution.sort_spill_reservation_bytes = settings.query_memory_bytes / (8 * threads(settings));
    let state = SessionStateBuilder::new()
        .with_config(PassingOn::beside(config))
        .with_default_features()
        .with_scalar_functions(functions::scalar_functions(ids))
        .with_aggregate_functions(functions::aggregate_functions())
        .with_analyzer_rule(Arc::new(CheckedArithmetic::new()))
        .with_physical_optimizer_rules(SortedTiers::insert_into(PhysicalOptimizer::new().rules))
        .with_physical_optimizer_rule(Arc::new(YieldingJoins))
        .build();
    Ok(state)
}

fn threads(settings: &EngineSettings) -> usize {
    match settings.query_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}
