//! When which commits were made, and how much log there was: coarsely, and in bounded memory.
//!
//! ```text
//! format u8 = 1 | for each sample, in order: time (µs) i64 LE | commit sequence u64 LE | bytes u64 LE
//! ```

use kalamdb_store::ids::CommitSeq;

/// The samples over the time and the bytes that are kept: the floor is too low by one such step at most.
const STEPS: u64 = 256;

/// More are not kept, which can only happen while the floor is held back; then every second one is forgotten.
const MAX_SAMPLES: usize = 1_024;

const FORMAT: u8 = 1;
const SAMPLE_BYTES: usize = 24;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    age_us: i64,
    bytes: u64,
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Commits up to `seq` were made at this time or before.
    pub(super) time_us: i64,
    pub(super) seq: CommitSeq,
    /// About how many bytes of log were written up to `seq`, since the beginning.
    pub(super) bytes: u64,
}

/// Samples in their order: commits ascend, times and bytes do not descend.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

impl Limits {
    pub(super) fn new(age_s: u64, bytes: u64) -> Self {
        Self { age_us: i64::try_from(age_s).unwrap_or(i64::MAX).saturating_mul(1_000_000), bytes }
    }
}

impl Samples {
    /// The commit up to which the log is too old or too large; `None`: nothing is. `floor_bytes` are those of the part that
    /// was given up before.
    pub(super) fn wanted(&self, now: &Sample, floor_bytes: u64, limits: &Limits) -> Option<CommitSeq> {
        let is_old = |sample: &&Sample| now.time_us.saturating_sub(sample.time_us) >= limits.age_us;
        let too_old = self.0.iter().rfind(is_old);
        let since = |bytes: u64| now.bytes.saturating_sub(bytes);
        let too_much = if since(floor_bytes) > limits.bytes {
            self.0.iter().find(|sample| since(sample.bytes) <= limits.bytes).or(self.0.last())
        } else {
            None
        };
        too_old.into_iter().chain(too_much).map(|sample| sample.seq).max()
    }

    /// The newest sample up to `seq`.
    pub(super) fn newest_until(&self, seq: CommitSeq) -> Option<Sample> {
        self.0.iter().rfind(|sample| sample.seq <= seq).copied()
    }

    /// About how many bytes were written up to `seq`.
    pub(super) fn bytes_at(&self, seq: CommitSeq) -> u64 {
        self.newest_until(seq).or(self.0.first().copied()).map_or(0, |sample| sample.bytes)
    }

    pub(super) fn last_bytes(&self) -> u64 {
        self.0.last().map_or(0, |last| last.bytes)
    }

    /// Adds a sample if it is a step away from the last one. Answers whether it did.
    pub(super) fn note(&mut self, sample: Sample, limits: &Limits) -> bool {
        let is_due = self.0.last().is_none_or(|last| {
            sample.bytes.saturating_sub(last.bytes) >= limits.bytes / STEPS
                || sample.time_us.saturating_sub(last.time_us) >= limits.age_us / STEPS.cast_signed()
        });
        is_due && self.push(sample)
    }

    /// Adds a sample if there were commits since the last one. Answers whether it did.
    pub(super) fn push(&mut self, sample: Sample) -> bool {
        if self.0.last().is_some_and(|last| last.seq >= sample.seq) {
            return false;
        }
        self.0.push(sample);
        if self.0.len() > MAX_SAMPLES {
            let (mut index, last) = (0, self.0.len() - 1);
            self.0.retain(|_| {
                let keep = index % 2 == 0 || index == last;
                index += 1;
                keep
            });
        }
        true
    }

    /// Forgets the samples of commits before `floor`.
    pub(super) fn forget_before(&mut self, floor: CommitSeq) {
        self.0.retain(|sample| sample.seq >= floor);
    }

    /// The clock is at `now_us`. Samples of a later time were made before it was set back, who knows when: they count as
    /// made now, so that nothing is given up too early.
    pub(super) fn not_after(&mut self, now_us: i64) {
        self.0.iter_mut().rev().take_while(|sample| sample.time_us > now_us).for_each(|s| s.time_us = now_us);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.0.len() * SAMPLE_BYTES);
        bytes.push(FORMAT);
        for sample in &self.0 {
            bytes.extend_from_slice(&sample.time_us.to_le_bytes());
            bytes.extend_from_slice(&sample.seq.get().to_le_bytes());
            bytes.extend_from_slice(&sample.bytes.to_le_bytes());
        }
        bytes
    }

    /// Reads samples of commits up to `last`. `None`: they are damaged.
    pub(super) fn decode(bytes: &[u8], last: CommitSeq) -> Option<Self> {
        let (samples, rest) = bytes.strip_prefix(&[FORMAT])?.as_chunks::<SAMPLE_BYTES>();
        let mut found: Vec<Sample> = Vec::with_capacity(samples.len());
        for sample in samples {
            let (time_us, rest) = sample.split_first_chunk()?;
            let (seq, bytes) = rest.split_first_chunk()?;
            let sample = Sample {
                time_us: i64::from_le_bytes(*time_us),
                seq: CommitSeq::new(u64::from_le_bytes(*seq)),
                bytes: u64::from_le_bytes(bytes.try_into().ok()?),
            };
            let follows = found.last().is_none_or(|before| {
                before.seq < sample.seq && before.time_us <= sample.time_us && before.bytes <= sample.bytes
            });
            if !follows || sample.seq > last {
                return None;
            }
            found.push(sample);
        }
        (rest.is_empty() && !found.is_empty()).then_some(Self(found))
    }
}

#[cfg(test)]
mod tests;
