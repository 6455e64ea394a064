//! The stored position: the sequence of the last commit, written in the same batch as the commit itself.
//!
//! ```text
//! format u8 = 1 | shard u16 LE = 0 | epoch u32 LE = 0 | commit sequence u64 LE
//! ```

use crate::codec::LAST_COMMIT_KEY;
use crate::ids::CommitSeq;
use crate::kv::{Keyspace, KvError, Snapshot, WriteBatch};

const POSITION_FORMAT: u8 = 1;
const HEAD: [u8; 7] = [POSITION_FORMAT, 0, 0, 0, 0, 0, 0];

/// The last commit that `snapshot` contains; 0 in an empty store.
pub fn committed_seq(snapshot: &dyn Snapshot) -> Result<CommitSeq, KvError> {
    snapshot.get(Keyspace::System, LAST_COMMIT_KEY)?.map_or(Ok(CommitSeq::new(0)), |bytes| decode(&bytes))
}

pub(super) fn write(batch: &mut WriteBatch, seq: CommitSeq) {
    let mut value = [0; HEAD.len() + size_of::<u64>()];
    let (head, tail) = value.split_at_mut(HEAD.len());
    head.copy_from_slice(&HEAD);
    tail.copy_from_slice(&seq.get().to_le_bytes());
    batch.put(Keyspace::System, LAST_COMMIT_KEY, value);
}

fn decode(bytes: &[u8]) -> Result<CommitSeq, KvError> {
    let seq = bytes.strip_prefix(&HEAD).and_then(|seq| seq.try_into().ok());
    seq.map(|seq| CommitSeq::new(u64::from_le_bytes(seq)))
        .ok_or_else(|| KvError::Corruption("the position of the last commit is of an unknown form".to_owned()))
}
