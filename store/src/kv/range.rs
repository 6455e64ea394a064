//! Ranges of keys.

use std::ops::Bound;

/// A range of keys in byte order.
///
/// A range whose start lies beyond its end is empty; that is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Where the range begins.
    pub start: Bound<Vec<u8>>,
    /// Where the range ends.
    pub end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// The keys from `start` to `end`.
    pub fn new(start: Bound<Vec<u8>>, end: Bound<Vec<u8>>) -> Self {
        Self { start, end }
    }

    /// Every key.
    pub fn all() -> Self {
        Self::new(Bound::Unbounded, Bound::Unbounded)
    }

    /// Every key that begins with `prefix`; every key at all if it is empty.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self::new(Bound::Included(prefix.to_vec()), successor(prefix).map_or(Bound::Unbounded, Bound::Excluded))
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        let after_start = match &self.start {
            Bound::Included(start) => key >= start.as_slice(),
            Bound::Excluded(start) => key > start.as_slice(),
            Bound::Unbounded => true,
        };
        after_start
            && match &self.end {
                Bound::Included(end) => key <= end.as_slice(),
                Bound::Excluded(end) => key < end.as_slice(),
                Bound::Unbounded => true,
            }
    }

    /// The same range as an inclusive lower and an exclusive upper bound; `None` for "to the last key".
    pub fn half_open(self) -> (Vec<u8>, Option<Vec<u8>>) {
        let lower = match self.start {
            Bound::Included(start) => start,
            Bound::Excluded(start) => just_after(start),
            Bound::Unbounded => Vec::new(),
        };
        let upper = match self.end {
            Bound::Included(end) => Some(just_after(end)),
            Bound::Excluded(end) => Some(end),
            Bound::Unbounded => None,
        };
        (lower, upper)
    }
}

/// The least key that is greater than `key`.
pub(super) fn just_after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// The least key that is greater than every key beginning with `prefix`; `None` if there is no such key.
pub(crate) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut next = prefix.get(..=last)?.to_vec();
    *next.last_mut()? += 1;
    Some(next)
}
