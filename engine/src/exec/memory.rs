//! Memory of queries: each has its own bound, all together another.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use datafusion::{
    common::{Result as DataFusionResult, resources_datafusion_err},
    execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};

/// Memory reserved by all queries together.
#[derive(Debug)]
pub(crate) struct TotalMemory {
    limit_bytes: usize,
    reserved_bytes: AtomicUsize,
}

impl TotalMemory {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, reserved_bytes: AtomicUsize::new(0) })
    }

    pub(crate) fn reserved_bytes(&self) -> usize {
        self.reserved_bytes.load(Ordering::Relaxed)
    }
}

/// The memory of one query: a [`FairSpillPool`] of its own, counted in the total.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    own: FairSpillPool,
    limit_bytes: usize,
    total: Arc<TotalMemory>,
}

impl QueryMemory {
    pub(crate) fn new(limit_bytes: usize, total: Arc<TotalMemory>) -> Self {
        Self { own: FairSpillPool::new(limit_bytes), limit_bytes, total }
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query memory of {} bytes", self.limit_bytes)
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query_memory"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.total.reserved_bytes.fetch_add(additional, Ordering::Relaxed);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.total.reserved_bytes.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionResult<()> {
        self.own.try_grow(reservation, additional)?;
        let before = self.total.reserved_bytes.fetch_add(additional, Ordering::Relaxed);
        if before.saturating_add(additional) > self.total.limit_bytes {
            self.total.reserved_bytes.fetch_sub(additional, Ordering::Relaxed);
            self.own.shrink(reservation, additional);
            return Err(resources_datafusion_err!(
                "all queries together hold {before} bytes of {}",
                self.total.limit_bytes
            ));
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit_bytes)
    }
}
