//! Generated identifiers: SNOWFLAKE_ID(), UUID_V7(), ULID() and UUID().

mod ticker;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use ticker::Ticker;

use crate::{
    env::Env,
    error::{Error, Reason, Result},
};

/// The largest node id: it has 10 bits in a snowflake id.
pub const MAX_NODE_ID: u16 = 1023;

/// 2024-01-01 00:00:00 UTC, where the time of a snowflake id starts, in milliseconds since 1970.
pub(crate) const SNOWFLAKE_EPOCH_MS: i64 = 1_704_067_200_000;

const SEQUENCE_BITS: u32 = 12;
const NODE_BITS: u32 = 10;
const IDS_PER_MS: u64 = 1 << SEQUENCE_BITS;
const SEQUENCE_MASK: u64 = IDS_PER_MS - 1;

/// How far the time in a snowflake id may be ahead of the clock. A burst of a million ids passes without waiting.
const MAX_AHEAD_MS: u64 = 250;

/// A clock beyond this (in the year 2093) reads as this, so that the 41 bits of an id's time never overflow.
const MAX_CLOCK_MS: u64 = (1 << 41) - (1 << 31);

/// Ids beyond this one are none that a clock led to.
pub(crate) const MAX_SNOWFLAKE: i64 = (MAX_CLOCK_MS << (NODE_BITS + SEQUENCE_BITS)) as i64;

/// Where the [mark](IdSource::due_mark) is kept, in keyspace `system`: an i64, big endian.
pub(crate) const MARK_KEY: &[u8] = b"ids/mark";

/// How far beyond the ids that were handed out a mark is: 40 million ids.
const MARK_MS: u64 = 10_000;

/// Hands out identifiers, without locks, to any number of threads. One per process.
///
/// Snowflake ids are positive 63-bit numbers that grow with every call:
///
/// ```text
///   62                                     22 21        12 11          0
///  +-----------------------------------------+------------+-------------+
///  | milliseconds since 2024-01-01 (41 bits) | node (10)  | sequence (12)|
///  +-----------------------------------------+------------+-------------+
/// ```
///
/// * When more than 4096 are taken in a millisecond, their time runs ahead of the clock, by at most 250 ms; then
///   callers wait for the clock, so that the lasting rate is 4096 a millisecond.
/// * When the clock steps back, ids go on from the last one; nothing waits and nothing repeats in this process.
/// * After a restart no id repeats although none is remembered: the ids of the process before were at most 250 ms
///   ahead of the clock, and those of the new one start beyond that.
/// * Ids that are further ahead, because the clock stepped back or a backup has them from a server whose clock was ahead,
///   are below a mark in the store, which is moved on before they come near it. A new process starts beyond it. Only a
///   clock that is set back while the server is down, or in the second before it is killed, can make an id come a second
///   time; who must set a clock back should keep the server down until the old time has passed.
///
/// UUIDs (version 7) and ULIDs start with the time as well and grow with every call, in this process; at least 62
/// random bits keep them apart from those of other processes, whatever their clocks say.
///
/// ```
/// use std::sync::Arc;
/// use kalamdb_engine::{IdSource, SystemEnv};
///
/// let ids = IdSource::new(Arc::new(SystemEnv), 1)?;
/// assert!(ids.snowflake() < ids.snowflake());
/// # Ok::<(), kalamdb_engine::Error>(())
/// ```
#[derive(Debug)]
pub struct IdSource {
    env: Arc<dyn Env>,
    node: u64,
    /// Time and sequence of the next snowflake id.
    snowflakes: Ticker,
    /// The latest time that the clock ever showed, to tell a clock that stepped back from a burst of ids.
    latest_clock_ms: AtomicU64,
    /// The time at which the clock was found standing still; waiting for it would be in vain.
    standing_clock_ms: AtomicU64,
    /// The time of the last mark that is in the store.
    marked_ms: AtomicU64,
    uuids: Ticker,
    ulids: Ticker,
}

impl IdSource {
    /// A source for the node with this id. Two nodes of one database must not have the same one.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if `node_id` is above [`MAX_NODE_ID`].
    pub fn new(env: Arc<dyn Env>, node_id: u16) -> Result<Self> {
        if node_id > MAX_NODE_ID {
            return Err(Error::new(
                Reason::InvalidRequest,
                format!("The node id {node_id} is out of range: it must be from 0 to {MAX_NODE_ID}."),
            ));
        }
        let start_ms = clock_ms(env.now_us());
        Ok(Self {
            env,
            node: u64::from(node_id) << SEQUENCE_BITS,
            snowflakes: Ticker::new((start_ms + MAX_AHEAD_MS + 1) << SEQUENCE_BITS),
            latest_clock_ms: AtomicU64::new(start_ms),
            standing_clock_ms: AtomicU64::new(u64::MAX),
            marked_ms: AtomicU64::new(0),
            uuids: Ticker::new(0),
            ulids: Ticker::new(0),
        })
    }

    /// Makes every snowflake id from now on greater than one that is known to be taken, even if the clock was set back
    /// since.
    pub fn resume_after(&self, taken: i64) {
        let at_ms = time_ms(taken);
        self.snowflakes.claim((at_ms + 1) << SEQUENCE_BITS, 0);
        // Seen from here the clock stepped back, so nobody waits for it.
        self.latest_clock_ms.fetch_max(at_ms, Ordering::Relaxed);
    }

    /// A mark that is to be put in the store, after which a later process [resumes](IdSource::resume_after): all
    /// snowflake ids up to now are less, and many to come. `None` while none is needed, as the clock tells enough, or
    /// the mark that is there.
    pub(crate) fn due_mark(&self) -> Option<i64> {
        let next_ms = self.snowflakes.next() >> SEQUENCE_BITS;
        // Small steps of the clock are waited for, and over before a new process hands out its first id.
        let is_ahead = next_ms > clock_ms(self.env.now_us()) + 2 * MAX_AHEAD_MS;
        // By then half of what the last one left room for is used up.
        let is_due = is_ahead && next_ms + MARK_MS / 2 > self.marked_ms.load(Ordering::Relaxed);
        is_due.then(|| first_at(next_ms + MARK_MS))
    }

    /// Notes that a mark is in the store, durably.
    pub(crate) fn marked(&self, mark: i64) {
        self.marked_ms.fetch_max(time_ms(mark), Ordering::Relaxed);
    }

    /// The source of time and randomness.
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.env
    }

    /// The next snowflake id.
    pub fn snowflake(&self) -> i64 {
        self.snowflake_at(self.claim_snowflakes(1))
    }

    /// The next `n` snowflake ids, in ascending order.
    pub fn snowflakes(&self, n: usize) -> Vec<i64> {
        let mut ids = Vec::with_capacity(n);
        while ids.len() < n {
            let count = ((n - ids.len()) as u64).min(IDS_PER_MS);
            let first = self.claim_snowflakes(count);
            ids.extend((first..first + count).map(|tick| self.snowflake_at(tick)));
        }
        ids
    }

    /// The next UUID version 7, as canonical lower-case text.
    pub fn uuid_v7(&self) -> String {
        self.next_uuid_v7(self.env.now_us()).hyphenated().to_string()
    }

    /// A random UUID (version 4), as canonical lower-case text.
    pub fn uuid_v4(&self) -> String {
        self.next_uuid_v4().hyphenated().to_string()
    }

    /// The next ULID, as upper-case text.
    pub fn ulid(&self) -> String {
        self.next_ulid(self.env.now_us()).to_string()
    }

    /// The next UUID version 7, given the time.
    pub(crate) fn next_uuid_v7(&self, now_us: i64) -> uuid::Uuid {
        // RFC 9562, 6.2, method 3: the 12 bits after the time hold its fraction. Being taken from one counter, time and
        // fraction together are distinct and grow.
        let tick = self.uuids.claim(time_and_fraction(now_us, 12), 1);
        let (ms, fraction) = (tick >> 12, tick & 0xFFF);
        let high = (ms << 16) | 0x7000 | fraction;
        let low = (0b10 << 62) | (self.env.random_u64() >> 2);
        uuid::Uuid::from_u64_pair(high, low)
    }

    /// A random UUID.
    pub(crate) fn next_uuid_v4(&self) -> uuid::Uuid {
        let high = (self.env.random_u64() & !0xF000) | 0x4000;
        let low = (0b10 << 62) | (self.env.random_u64() >> 2);
        uuid::Uuid::from_u64_pair(high, low)
    }

    /// The next ULID, given the time.
    pub(crate) fn next_ulid(&self, now_us: i64) -> ulid::Ulid {
        // As for UUIDs: the first 16 of the 80 bits after the time are its fraction.
        let tick = self.ulids.claim(time_and_fraction(now_us, 16), 1);
        ulid::Ulid((u128::from(tick) << 64) | u128::from(self.env.random_u64()))
    }

    fn snowflake_at(&self, tick: u64) -> i64 {
        let id = ((tick >> SEQUENCE_BITS) << (SEQUENCE_BITS + NODE_BITS)) | self.node | (tick & SEQUENCE_MASK);
        // The mask changes nothing before the year 2093.
        (id & i64::MAX as u64) as i64
    }

    /// Claims `count` (at most [`IDS_PER_MS`]) consecutive ticks; returns the first.
    fn claim_snowflakes(&self, count: u64) -> u64 {
        let mut waited_at_ms = None;
        loop {
            let now_ms = clock_ms(self.env.now_us());
            let first = match self.snowflake_limit(now_ms, waited_at_ms) {
                Some(limit) => self.snowflakes.claim_below(now_ms << SEQUENCE_BITS, count, limit),
                None => Some(self.snowflakes.claim(now_ms << SEQUENCE_BITS, count)),
            };
            if let Some(first) = first {
                return first;
            }
            waited_at_ms = Some(now_ms);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The tick that ids must stay below while the clock reads `now_ms`. None when there is no use in waiting for the
    /// clock, because it has stepped back or does not move.
    fn snowflake_limit(&self, now_ms: u64, waited_at_ms: Option<u64>) -> Option<u64> {
        let latest_ms = self.latest_clock_ms.load(Ordering::Relaxed);
        if now_ms > latest_ms {
            self.latest_clock_ms.fetch_max(now_ms, Ordering::Relaxed);
        } else if latest_ms - now_ms > MAX_AHEAD_MS {
            return None;
        }
        if waited_at_ms.is_some_and(|before| now_ms <= before) {
            self.standing_clock_ms.store(now_ms, Ordering::Relaxed);
        }
        if self.standing_clock_ms.load(Ordering::Relaxed) == now_ms {
            return None;
        }
        Some((now_ms + MAX_AHEAD_MS + 1) << SEQUENCE_BITS)
    }
}

/// The time in a snowflake id, in microseconds since 1970-01-01T00:00:00Z.
pub(crate) fn snowflake_time_us(id: i64) -> i64 {
    let ms = i64::try_from(time_ms(id)).unwrap_or(i64::MAX);
    ms.saturating_add(SNOWFLAKE_EPOCH_MS).saturating_mul(1_000)
}

/// A snowflake id of the last millisecond that ids can have while a clock is at `now_us`, unless it was set back.
pub(crate) fn last_snowflake_at(now_us: i64) -> i64 {
    first_at(clock_ms(now_us) + MAX_AHEAD_MS)
}

/// Milliseconds from [`SNOWFLAKE_EPOCH_MS`] to the time in a snowflake id.
fn time_ms(id: i64) -> u64 {
    id.cast_unsigned() >> (NODE_BITS + SEQUENCE_BITS)
}

/// The first snowflake id of a millisecond, of node 0.
fn first_at(ms: u64) -> i64 {
    (ms << (NODE_BITS + SEQUENCE_BITS)).cast_signed() & i64::MAX
}

/// Milliseconds since [`SNOWFLAKE_EPOCH_MS`]; 0 before it.
fn clock_ms(now_us: i64) -> u64 {
    let ms = now_us.div_euclid(1000).saturating_sub(SNOWFLAKE_EPOCH_MS);
    u64::try_from(ms).unwrap_or(0).min(MAX_CLOCK_MS)
}

/// 48 bits of milliseconds since 1970, then the fraction of the millisecond in `fraction_bits`.
fn time_and_fraction(now_us: i64, fraction_bits: u32) -> u64 {
    let now_us = u64::try_from(now_us).unwrap_or(0);
    // An i64 of microseconds is less than 2^48 milliseconds only up to the year 10889; later clocks wrap around.
    let ms = (now_us / 1000) & ((1 << 48) - 1);
    (ms << fraction_bits) | (((now_us % 1000) << fraction_bits) / 1000)
}
