//! The injected source of time and randomness.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Where the engine takes the time and random numbers from.
///
/// Nothing else in the engine reads a clock of the day or a random number generator, so that a test with
/// [`FixedEnv`] can repeat a run exactly.
pub trait Env: Send + Sync + Debug + 'static {
    /// Microseconds since 1970-01-01 00:00:00 UTC. May go back when the operator sets the clock.
    fn now_us(&self) -> i64;

    /// 64 uniformly random bits, good enough that nobody can guess the next ones.
    fn random_u64(&self) -> u64;
}

/// The machine's clock and a cryptographically secure generator seeded by the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEnv;

impl Env for SystemEnv {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the real clock")]
    fn now_us(&self) -> i64 {
        let (before_epoch, distance) = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => (false, since),
            Err(error) => (true, error.duration()),
        };
        let us = i64::try_from(distance.as_micros()).unwrap_or(i64::MAX);
        if before_epoch { -us } else { us }
    }

    fn random_u64(&self) -> u64 {
        rand::random()
    }
}

/// A clock that stands still until told otherwise, and a seeded generator: for tests.
///
/// ```
/// use kalamdb_engine::env::{Env, FixedEnv};
///
/// let env = FixedEnv::new(1_700_000_000_000_000, 7);
/// env.advance_us(5);
/// assert_eq!(env.now_us(), 1_700_000_000_000_005);
/// assert_eq!(env.random_u64(), FixedEnv::new(0, 7).random_u64());
/// ```
#[derive(Debug)]
pub struct FixedEnv {
    now_us: AtomicI64,
    random_state: AtomicU64,
}

impl FixedEnv {
    /// A clock standing at `now_us`, and the sequence of numbers that belongs to `seed`.
    pub fn new(now_us: i64, seed: u64) -> Self {
        Self { now_us: AtomicI64::new(now_us), random_state: AtomicU64::new(seed) }
    }

    /// Sets the clock, forward or back.
    pub fn set_now_us(&self, now_us: i64) {
        self.now_us.store(now_us, Ordering::SeqCst);
    }

    /// Moves the clock by `us`, back if negative.
    pub fn advance_us(&self, us: i64) {
        self.now_us.fetch_add(us, Ordering::SeqCst);
    }
}

impl Env for FixedEnv {
    fn now_us(&self) -> i64 {
        self.now_us.load(Ordering::SeqCst)
    }

    fn random_u64(&self) -> u64 {
        // SplitMix64: its state is a plain counter, so that threads share it without a lock.
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.random_state.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
