//! Keys of storages, in [`Keyspace::System`](crate::kv::Keyspace::System).
//!
//! ```text
//! definition  "storage/definitions/" | storage id u32 BE
//! next id     "storage/next_id"
//! ```

use super::CodecError;
use crate::ids::StorageId;
use crate::kv::KeyRange;

const DEFINITIONS: &[u8] = b"storage/definitions/";
const NEXT_ID: &[u8] = b"storage/next_id";

/// The key of a storage's definition.
pub fn storage_key(storage: StorageId) -> Vec<u8> {
    [DEFINITIONS, &storage.get().to_be_bytes()].concat()
}

/// All definitions, in the order of their ids.
pub fn storage_range() -> KeyRange {
    KeyRange::prefix(DEFINITIONS)
}

/// The storage of a [`storage_key`].
pub fn split_storage_key(key: &[u8]) -> Result<StorageId, CodecError> {
    let id = key.strip_prefix(DEFINITIONS).and_then(|id| id.try_into().ok());
    id.map(|id| StorageId::new(u32::from_be_bytes(id))).ok_or(CodecError::Corrupt("a key is not that of a storage"))
}

/// The key of the id that the next storage gets. Ids are never used again.
pub fn next_storage_id_key() -> Vec<u8> {
    NEXT_ID.to_vec()
}
