//! A counter that follows a clock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Hands out numbers that are never below a given floor (the clock) and never given twice.
#[derive(Debug)]
pub(super) struct Ticker {
    /// The smallest number not handed out.
    next: AtomicU64,
}

impl Ticker {
    pub(super) fn new(next: u64) -> Self {
        Self { next: AtomicU64::new(next) }
    }

    /// The smallest number that was not handed out.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Takes `count` consecutive numbers, none below `floor`; returns the first.
    pub(super) fn claim(&self, floor: u64, count: u64) -> u64 {
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let first = next.max(floor);
            match self.swap(next, first.wrapping_add(count)) {
                Ok(()) => return first,
                Err(changed) => next = changed,
            }
        }
    }

    /// As [`Ticker::claim`], but None, and nothing is taken, if one of the numbers would not be below `limit`.
    pub(super) fn claim_below(&self, floor: u64, count: u64, limit: u64) -> Option<u64> {
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let first = next.max(floor);
            let end = first.wrapping_add(count);
            if end > limit {
                return None;
            }
            match self.swap(next, end) {
                Ok(()) => return Some(first),
                Err(changed) => next = changed,
            }
        }
    }

    // Relaxed is enough: the number itself is all that is communicated, and one atomic has one order of changes, so a
    // thread that learns of an id in any way takes a larger one afterwards.
    fn swap(&self, from: u64, to: u64) -> Result<(), u64> {
        self.next.compare_exchange_weak(from, to, Ordering::Relaxed, Ordering::Relaxed).map(drop)
    }
}
