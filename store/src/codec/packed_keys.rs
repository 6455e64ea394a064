//! Many primary keys in one buffer.

use super::PrimaryKey;

/// Ascending primary keys, one behind the other in one buffer: a million of them are three allocations, not a million.
///
/// ```
/// use kalamdb_store::codec::{PackedKeys, PrimaryKey};
///
/// let keys: PackedKeys = [1, 5, 9].map(PrimaryKey::from_i64).into_iter().collect();
/// assert_eq!(keys.position(PrimaryKey::from_i64(5).as_bytes()), Some(1));
/// assert_eq!(keys.position(PrimaryKey::from_i64(6).as_bytes()), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackedKeys {
    bytes: Vec<u8>,
    /// Where each key ends; it begins where the one before it ends.
    ends: Vec<usize>,
}

impl PackedKeys {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// No keys, with room for `keys` of them that have `bytes` together.
    pub fn with_capacity(keys: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(keys) }
    }

    /// Adds a key behind the others. It must be greater than all of them, or [`PackedKeys::position`] will not find
    /// what is there.
    pub fn push(&mut self, key: &PrimaryKey) {
        self.push_encoded(key.as_bytes());
    }

    /// Adds a key that is encoded already, as [`PackedKeys::push`] does.
    pub fn push_encoded(&mut self, key: &[u8]) {
        debug_assert!(self.last().is_none_or(|last| last < key), "keys must be pushed in ascending order");
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes that the keys take in memory.
    pub fn byte_size(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<usize>()
    }

    /// The encoded key at `index`; empty when there is none.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// The least key.
    pub fn first(&self) -> Option<&[u8]> {
        (!self.is_empty()).then(|| self.get(0))
    }

    /// The greatest key.
    pub fn last(&self) -> Option<&[u8]> {
        self.len().checked_sub(1).map(|last| self.get(last))
    }

    /// The place of an encoded key, by binary search.
    pub fn position(&self, key: &[u8]) -> Option<u32> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return u32::try_from(middle).ok(),
            }
        }
        None
    }

    /// The encoded keys, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl FromIterator<PrimaryKey> for PackedKeys {
    fn from_iter<I: IntoIterator<Item = PrimaryKey>>(keys: I) -> Self {
        let mut packed = Self::new();
        for key in keys {
            packed.push(&key);
        }
        packed
    }
}
