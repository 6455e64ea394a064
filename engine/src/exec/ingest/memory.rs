//! What all ingests hold in memory together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::error::{Error, Reason, Result};

/// Bytes of encoded rows that wait for their commits.
#[derive(Debug)]
pub(crate) struct IngestMemory {
    limit_bytes: usize,
    held_bytes: AtomicUsize,
}

impl IngestMemory {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, held_bytes: AtomicUsize::new(0) })
    }
}

/// The part of it that belongs to some rows, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    memory: Arc<IngestMemory>,
    bytes: usize,
}

impl Held {
    pub(super) fn none(memory: &Arc<IngestMemory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0 }
    }

    /// Takes more.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when all ingests together would hold too much.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        let before = self.memory.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) <= self.memory.limit_bytes {
            return Ok(());
        }
        Err(Error::new(
            Reason::TooManyRequests,
            format!(
                "All ingests under way hold {before} bytes of rows, and may hold {} together. Try again later, or raise \
                 ingest.max_total_bytes.",
                self.memory.limit_bytes
            ),
        )
        .with("limit", "ingest.max_total_bytes"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_go_of_can_be_held_again() {
        let memory = IngestMemory::new(100);
        let mut first = Held::none(&memory);
        first.grow(60).unwrap();
        let mut second = Held::none(&memory);
        second.grow(40).unwrap();
        let error = second.grow(1).unwrap_err();
        assert_eq!(error.reason(), Reason::TooManyRequests);
        assert_eq!(error.metadata()["limit"], "ingest.max_total_bytes");
        drop((first, second));
        Held::none(&memory).grow(100).unwrap();
    }
}
