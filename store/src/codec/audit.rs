//! Keys of the audit's records, in [`Keyspace::System`](crate::kv::Keyspace::System).
//!
//! ```text
//! record  "audit/" | shelf u8 | record id u64 BE
//! ```
//!
//! Each shelf is bounded by itself. Later records have greater ids.

use super::CodecError;
use crate::kv::KeyRange;

const RECORDS: &[u8] = b"audit/";

/// The key of a record.
pub fn audit_key(shelf: u8, id: u64) -> Vec<u8> {
    [RECORDS, &[shelf], &id.to_be_bytes()].concat()
}

/// The records of a shelf, in the order of their ids.
pub fn audit_range(shelf: u8) -> KeyRange {
    KeyRange::prefix(&[RECORDS, &[shelf]].concat())
}

/// The id of an [`audit_key`].
pub fn split_audit_key(key: &[u8]) -> Result<u64, CodecError> {
    let id = key.strip_prefix(RECORDS).and_then(|rest| rest.get(1..)).and_then(|id| id.try_into().ok());
    id.map(u64::from_be_bytes).ok_or(CodecError::Corrupt("a key is not that of an audit record"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_ids_and_shelves_apart() {
        let key = audit_key(1, 0x0102);
        assert_eq!(key, b"audit/\x01\0\0\0\0\0\0\x01\x02");
        assert_eq!(split_audit_key(&key).unwrap(), 0x0102);
        assert!(audit_key(1, 255) < audit_key(1, 256));
        assert!(audit_key(1, u64::MAX) < audit_key(2, 0));
        for wrong in
            [&b"audit/"[..], b"audit/\x01", b"job/\x01\0\0\0\0\0\0\x01\x02", b"audit/\x01\0\0\0\0\0\0\x01\x02\x03"]
        {
            assert!(split_audit_key(wrong).is_err());
        }
    }
}
