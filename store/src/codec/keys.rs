//! Keys.
//!
//! ```text
//! rows      table u32 BE | owner, escaped and terminated | primary key, order preserving
//! log       table u32 BE | owner, escaped and terminated | commit sequence u64 BE
//! segments  table u32 BE | owner, escaped and terminated | 00 | segment id u64 BE                   an entry
//!           table u32 BE | owner, escaped and terminated | 01 | segment id u64 BE | row u32 BE      a deletion mark
//! ```
//!
//! In the owner, each byte 00 is written as 00 FF, and 00 01 ends it. The owner of shared rows is empty. So no owner's
//! prefix is the beginning of another's, whatever bytes their ids have, and prefixes sort as owners do.

use std::borrow::Cow;
use std::ops::Bound;

use super::CodecError;
use crate::ids::{CommitSeq, Owner, Partition, TableId, UserId};
use crate::kv::KeyRange;

/// The key, in [`Keyspace::System`](crate::kv::Keyspace::System), of the last commit's sequence.
pub(crate) const LAST_COMMIT_KEY: &[u8] = b"commit/last";

/// The key, in [`Keyspace::System`](crate::kv::Keyspace::System), of the change log's floor.
pub(crate) const LOG_FLOOR_KEY: &[u8] = b"log/floor";

const TABLE_LEN: usize = size_of::<u32>();
const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xFF;
const TERMINATOR: u8 = 0x01;

/// A primary key, encoded so that byte order is the order of the values.
///
/// The bytes do not say which type they encode; the table's schema does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrimaryKey(Vec<u8>);

impl PrimaryKey {
    /// Encodes a BIGINT key: big endian, sign bit flipped.
    pub fn from_i64(value: i64) -> Self {
        Self(encode_i64(value).to_vec())
    }

    /// Encodes a STRING key: its UTF-8 bytes.
    #[expect(clippy::should_implement_trait, reason = "infallible, and named like from_i64")]
    pub fn from_str(value: &str) -> Self {
        Self(value.as_bytes().to_vec())
    }

    /// Takes bytes that are an encoded key already.
    pub fn from_encoded(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Decodes a BIGINT key. Fails on bytes that are not one.
    pub fn to_i64(&self) -> Result<i64, CodecError> {
        decode_i64(&self.0)
    }

    /// Decodes a STRING key. Fails on bytes that are not UTF-8.
    pub fn to_str(&self) -> Result<&str, CodecError> {
        decode_str(&self.0)
    }
}

const SIGN_BIT: u64 = 1 << 63;

/// The encoded bytes of a BIGINT key.
pub(crate) fn encode_i64(value: i64) -> [u8; 8] {
    (value.cast_unsigned() ^ SIGN_BIT).to_be_bytes()
}

pub(super) fn decode_i64(key: &[u8]) -> Result<i64, CodecError> {
    let bytes = key.try_into().map_err(|_| CodecError::Corrupt("a BIGINT key is not 8 bytes long"))?;
    Ok((u64::from_be_bytes(bytes) ^ SIGN_BIT).cast_signed())
}

pub(super) fn decode_str(key: &[u8]) -> Result<&str, CodecError> {
    std::str::from_utf8(key).map_err(|_| CodecError::Corrupt("a STRING key is not UTF-8"))
}

/// The key of a row.
pub fn row_key(partition: &Partition, key: &PrimaryKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_row_key(&mut bytes, partition, key);
    bytes
}

/// Replaces the content of `into` with the key of a row.
pub(crate) fn write_row_key(into: &mut Vec<u8>, partition: &Partition, key: &PrimaryKey) {
    into.clear();
    write_prefix(into, partition, key.0.len());
    into.extend_from_slice(&key.0);
}

/// What the keys of a partition's rows, log entries and segments all begin with.
pub fn row_prefix(partition: &Partition) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_prefix(&mut bytes, partition, 0);
    bytes
}

/// What the keys of a table's rows, log entries and segments all begin with, whoever owns them.
pub fn table_prefix(table: TableId) -> Vec<u8> {
    table.get().to_be_bytes().to_vec()
}

/// All keys of a table: of its rows, log entries or segments.
pub fn table_range(table: TableId) -> KeyRange {
    KeyRange::prefix(&table_prefix(table))
}

/// The rows of a partition with primary keys from `start` to `end`.
pub fn row_range(partition: &Partition, start: Bound<PrimaryKey>, end: Bound<PrimaryKey>) -> KeyRange {
    let whole = KeyRange::prefix(&row_prefix(partition));
    let with_prefix = |key: PrimaryKey| row_key(partition, &key);
    KeyRange::new(
        match start {
            Bound::Unbounded => whole.start,
            bounded => bounded.map(with_prefix),
        },
        match end {
            Bound::Unbounded => whole.end,
            bounded => bounded.map(with_prefix),
        },
    )
}

/// The parts of a row's key: table, owner, and the bytes of the primary key.
pub fn split_row_key(key: &[u8]) -> Result<(TableId, Owner, &[u8]), CodecError> {
    let prefix_len = partition_prefix_len(key).ok_or(NO_PARTITION)?;
    let (prefix, rest) = key.split_at_checked(prefix_len).ok_or(NO_PARTITION)?;
    let (table, _) = prefix.split_first_chunk::<TABLE_LEN>().ok_or(NO_PARTITION)?;
    let owner = owner_text(prefix)?;
    let owner = if owner.is_empty() {
        Owner::Shared
    } else {
        Owner::User(UserId::new(&owner).map_err(|_| CodecError::Corrupt("a key's owner is not a user id"))?)
    };
    Ok((TableId::new(u32::from_be_bytes(*table)), owner, rest))
}

/// The key of a commit's log entry in a partition.
pub fn log_key(partition: &Partition, seq: CommitSeq) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_log_key(&mut bytes, partition, seq);
    bytes
}

/// Replaces the content of `into` with the key of a log entry.
pub(crate) fn write_log_key(into: &mut Vec<u8>, partition: &Partition, seq: CommitSeq) {
    into.clear();
    write_prefix(into, partition, size_of::<u64>());
    into.extend_from_slice(&seq.get().to_be_bytes());
}

/// The log entries of a partition with commit sequences from `start` to `end`.
pub fn log_range(partition: &Partition, start: Bound<CommitSeq>, end: Bound<CommitSeq>) -> KeyRange {
    let key = |seq: CommitSeq| PrimaryKey(seq.get().to_be_bytes().to_vec());
    row_range(partition, start.map(key), end.map(key))
}

/// The parts of a log entry's key.
pub fn split_log_key(key: &[u8]) -> Result<(Partition, CommitSeq), CodecError> {
    let (table, owner, rest) = split_row_key(key)?;
    let seq = rest.try_into().map_err(|_| CodecError::Corrupt("a log key's sequence is not 8 bytes long"))?;
    Ok((Partition { table, owner }, CommitSeq::new(u64::from_be_bytes(seq))))
}

/// The commit of a log entry, by its key; `None` if the key is not that of a log entry.
pub(crate) fn log_key_seq(key: &[u8]) -> Option<CommitSeq> {
    let seq = key.get(partition_prefix_len(key)?..)?.try_into().ok()?;
    Some(CommitSeq::new(u64::from_be_bytes(seq)))
}

/// How many bytes of `key` are its partition (table and owner); `None` if it does not begin with one.
pub fn partition_prefix_len(key: &[u8]) -> Option<usize> {
    let mut at = TABLE_LEN;
    loop {
        at += key.get(at..)?.iter().position(|byte| *byte == ESCAPE)? + 2;
        match *key.get(at - 1)? {
            TERMINATOR => return Some(at),
            ESCAPED_ZERO => {}
            _ => return None,
        }
    }
}

/// The owner's text in a partition prefix, which [`partition_prefix_len`] measured; empty for shared rows.
pub(super) fn owner_text(prefix: &[u8]) -> Result<Cow<'_, str>, CodecError> {
    let escaped = prefix.get(TABLE_LEN..prefix.len().saturating_sub(2)).ok_or(NO_PARTITION)?;
    let not_utf8 = CodecError::Corrupt("a key's owner is not UTF-8");
    if !escaped.contains(&ESCAPE) {
        return std::str::from_utf8(escaped).map(Cow::Borrowed).map_err(|_| not_utf8);
    }
    let mut owner = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        owner.push(*byte);
        if *byte == ESCAPE && bytes.next() != Some(&ESCAPED_ZERO) {
            return Err(NO_PARTITION);
        }
    }
    String::from_utf8(owner).map(Cow::Owned).map_err(|_| not_utf8)
}

const NO_PARTITION: CodecError = CodecError::Corrupt("a key does not begin with a partition");

/// Appends what all keys of a partition begin with, and makes room for `extra` bytes more.
pub(super) fn write_prefix(into: &mut Vec<u8>, partition: &Partition, extra: usize) {
    let owner = match &partition.owner {
        Owner::Shared => &[],
        Owner::User(user) => user.as_str().as_bytes(),
    };
    into.reserve(TABLE_LEN + owner.len() + 2 + extra);
    into.extend_from_slice(&partition.table.get().to_be_bytes());
    write_escaped(into, owner);
}

/// Appends an owner so that where it ends is known: escaped and terminated.
pub(super) fn write_escaped(into: &mut Vec<u8>, owner: &[u8]) {
    let mut pieces = owner.split(|byte| *byte == ESCAPE);
    into.extend_from_slice(pieces.next().unwrap_or_default());
    for piece in pieces {
        into.extend_from_slice(&[ESCAPE, ESCAPED_ZERO]);
        into.extend_from_slice(piece);
    }
    into.extend_from_slice(&[ESCAPE, TERMINATOR]);
}
