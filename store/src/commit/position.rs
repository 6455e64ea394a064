//! Places in the order of commits, as they are stored.
//!
//! ```text
//! format u8 = 1 | shard u16 LE = 0 | epoch u32 LE = 0 | commit sequence u64 LE
//! ```
//!
//! Two are stored: the sequence of the last commit, written in the same batch as the commit itself, and the change log's
//! floor.

use crate::codec::{LAST_COMMIT_KEY, LOG_FLOOR_KEY};
use crate::ids::CommitSeq;
use crate::kv::{Durability, Keyspace, KvError, Snapshot, StorageBackend, WriteBatch};

const POSITION_FORMAT: u8 = 1;
const HEAD: [u8; 7] = [POSITION_FORMAT, 0, 0, 0, 0, 0, 0];

/// The last commit that `snapshot` contains; 0 in an empty store.
pub fn committed_seq(snapshot: &dyn Snapshot) -> Result<CommitSeq, KvError> {
    decode(snapshot.get(Keyspace::System, LAST_COMMIT_KEY)?)
}

pub(super) fn write(batch: &mut WriteBatch, seq: CommitSeq) {
    batch.put(Keyspace::System, LAST_COMMIT_KEY, encode(seq));
}

/// The stored floor of the change log; 0 if nothing was ever trimmed.
pub(super) fn log_floor(backend: &dyn StorageBackend) -> Result<CommitSeq, KvError> {
    decode(backend.get(Keyspace::System, LOG_FLOOR_KEY)?)
}

/// Stores the floor of the change log. When it returns `Ok`, the floor is on disk.
pub(super) fn store_log_floor(backend: &dyn StorageBackend, floor: CommitSeq) -> Result<(), KvError> {
    backend.put(Keyspace::System, LOG_FLOOR_KEY, &encode(floor), Durability::Sync)
}

fn encode(seq: CommitSeq) -> [u8; 15] {
    let mut value = [0; HEAD.len() + size_of::<u64>()];
    let (head, tail) = value.split_at_mut(HEAD.len());
    head.copy_from_slice(&HEAD);
    tail.copy_from_slice(&seq.get().to_le_bytes());
    value
}

fn decode(value: Option<Vec<u8>>) -> Result<CommitSeq, KvError> {
    let Some(bytes) = value else { return Ok(CommitSeq::new(0)) };
    let seq = bytes.strip_prefix(&HEAD).and_then(|seq| seq.try_into().ok());
    seq.map(|seq| CommitSeq::new(u64::from_le_bytes(seq)))
        .ok_or_else(|| KvError::Corruption("a stored place in the order of commits is of an unknown form".to_owned()))
}
