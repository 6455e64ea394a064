//! How many rows each partition has in the hot tier, in [`Keyspace::System`](crate::kv::Keyspace::System).
//!
//! ```text
//! count    "hot/counts/" | partition   -> rows u64 LE | bytes of their keys and values u64 LE
//! counted  "hot/counted"               -> nothing; the rows that were there before there were counts are counted
//! ```
//!
//! A partition without a count has no hot rows.

use super::CodecError;
use super::keys::{row_prefix, split_row_key, table_prefix};
use super::value::array;
use crate::ids::{Partition, TableId};
use crate::kv::KeyRange;

const COUNTS: &[u8] = b"hot/counts/";

/// The key that says that every partition is counted.
pub(crate) const HOT_COUNTED_KEY: &[u8] = b"hot/counted";

/// The rows of a partition in the hot tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HotCount {
    /// How many there are.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl HotCount {
    /// The count's bytes.
    pub fn encode(&self) -> [u8; 16] {
        (u128::from(self.rows) | u128::from(self.bytes) << u64::BITS).to_le_bytes()
    }

    /// Reads a count.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let rest = &mut bytes;
        let count = Self { rows: u64::from_le_bytes(array(rest)?), bytes: u64::from_le_bytes(array(rest)?) };
        if rest.is_empty() { Ok(count) } else { Err(CodecError::Corrupt("a count of rows has bytes too many")) }
    }
}

/// The key of a partition's [`HotCount`].
pub fn hot_count_key(partition: &Partition) -> Vec<u8> {
    [COUNTS, &row_prefix(partition)].concat()
}

/// The counts of all partitions of a table, by owner.
pub fn hot_count_range(table: TableId) -> KeyRange {
    KeyRange::prefix(&[COUNTS, &table_prefix(table)].concat())
}

/// The partition of a [`hot_count_key`].
pub fn split_hot_count_key(key: &[u8]) -> Result<Partition, CodecError> {
    let damaged = CodecError::Corrupt("a key is not that of a count of rows");
    let Some(prefix) = key.strip_prefix(COUNTS) else { return Err(damaged) };
    match split_row_key(prefix)? {
        (table, owner, []) => Ok(Partition { table, owner }),
        _ => Err(damaged),
    }
}
