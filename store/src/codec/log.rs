//! Log entries.
//!
//! ```text
//! format u8 = 1 | shard u16 LE | epoch u32 LE | commit sequence u64 LE | commit time (µs) i64 LE | schema version u32 LE |
//! change count varint | changes
//!
//! change    operation u8 | key length varint | key | new image | old image
//! image     0 varint for none, else length + 1 varint | row value
//! ```

use super::value::{array, read_varint, take, write_varint};
use super::{CodecError, PrimaryKey};
use crate::ids::{CommitSeq, SchemaVersion};

const LOG_FORMAT: u8 = 1;

/// What one commit changed in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The shard whose committer ordered the commit. There is one, 0.
    pub shard: u16,
    /// The epoch of that shard. There is one, 0.
    pub epoch: u32,
    /// The commit.
    pub commit_seq: CommitSeq,
    /// Its time, in microseconds since 1970-01-01 UTC.
    pub commit_time_us: i64,
    /// The highest schema version among the images.
    pub schema_version: SchemaVersion,
    /// The changes, in the order in which they were made.
    pub changes: Vec<LogChange>,
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChange {
    /// What was done.
    pub op: ChangeOp,
    /// The row's primary key.
    pub key: PrimaryKey,
    /// The row value after the change; none for a delete.
    pub new: Option<Vec<u8>>,
    /// The row value before the change; none for an insert.
    pub old: Option<Vec<u8>>,
}

/// What was done to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeOp {
    /// A new key.
    Insert,
    /// A new value of a key.
    Update,
    /// The end of a key.
    Delete,
}

impl ChangeOp {
    pub(super) const fn code(self) -> u8 {
        match self {
            ChangeOp::Insert => 1,
            ChangeOp::Update => 2,
            ChangeOp::Delete => 3,
        }
    }
}

/// A log entry without its changes.
pub(crate) struct EntryHeader {
    pub(crate) commit_seq: CommitSeq,
    pub(crate) commit_time_us: i64,
    pub(crate) schema_version: SchemaVersion,
}

/// A change whose bytes belong to somebody else.
pub(crate) struct ChangeRef<'a> {
    pub(crate) op: ChangeOp,
    pub(crate) key: &'a PrimaryKey,
    pub(crate) new: Option<&'a [u8]>,
    pub(crate) old: Option<&'a [u8]>,
}

/// Appends an entry of shard 0, epoch 0.
pub(crate) fn encode_entry<'a>(
    into: &mut Vec<u8>,
    header: &EntryHeader,
    changes: impl ExactSizeIterator<Item = ChangeRef<'a>>,
) {
    encode_parts(into, 0, 0, header, changes);
}

/// Appends what precedes the changes of an entry.
pub(super) fn encode_head(into: &mut Vec<u8>, shard: u16, epoch: u32, header: &EntryHeader, changes: usize) {
    into.push(LOG_FORMAT);
    into.extend_from_slice(&shard.to_le_bytes());
    into.extend_from_slice(&epoch.to_le_bytes());
    into.extend_from_slice(&header.commit_seq.get().to_le_bytes());
    into.extend_from_slice(&header.commit_time_us.to_le_bytes());
    into.extend_from_slice(&header.schema_version.get().to_le_bytes());
    write_varint(into, changes);
}

fn encode_parts<'a>(
    into: &mut Vec<u8>,
    shard: u16,
    epoch: u32,
    header: &EntryHeader,
    changes: impl ExactSizeIterator<Item = ChangeRef<'a>>,
) {
    encode_head(into, shard, epoch, header, changes.len());
    for change in changes {
        into.push(change.op.code());
        write_varint(into, change.key.as_bytes().len());
        into.extend_from_slice(change.key.as_bytes());
        for image in [change.new, change.old] {
            match image {
                Some(image) => {
                    write_varint(into, image.len() + 1);
                    into.extend_from_slice(image);
                }
                None => write_varint(into, 0),
            }
        }
    }
}

impl LogEntry {
    /// The entry's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let header = EntryHeader {
            commit_seq: self.commit_seq,
            commit_time_us: self.commit_time_us,
            schema_version: self.schema_version,
        };
        let changes = self.changes.iter().map(|change| ChangeRef {
            op: change.op,
            key: &change.key,
            new: change.new.as_deref(),
            old: change.old.as_deref(),
        });
        let mut bytes = Vec::new();
        encode_parts(&mut bytes, self.shard, self.epoch, &header, changes);
        bytes
    }

    /// Reads an entry. Fails on bytes that are not exactly one entry of a known format.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let rest = &mut bytes;
        let mut entry = Self::decode_head(rest)?;
        for _ in 0..read_varint(rest)? {
            let op = match array(rest)? {
                [1] => ChangeOp::Insert,
                [2] => ChangeOp::Update,
                [3] => ChangeOp::Delete,
                _ => return Err(CodecError::Corrupt("a log entry has an unknown operation")),
            };
            let key_len = read_varint(rest)?;
            let key = PrimaryKey::from_encoded(take(rest, key_len)?);
            let (new, old) = (image(rest)?, image(rest)?);
            entry.changes.push(LogChange { op, key, new, old });
        }
        if rest.is_empty() { Ok(entry) } else { Err(TOO_LONG) }
    }

    /// Reads the keys of an entry's changes, in their order, and none of the images. Fails on bytes that are not one entry.
    pub fn decode_keys(mut bytes: &[u8]) -> Result<Vec<PrimaryKey>, CodecError> {
        let rest = &mut bytes;
        Self::decode_head(rest)?;
        let mut keys = Vec::new();
        for _ in 0..read_varint(rest)? {
            take(rest, 1)?;
            let key_len = read_varint(rest)?;
            keys.push(PrimaryKey::from_encoded(take(rest, key_len)?));
            image_bytes(rest)?;
            image_bytes(rest)?;
        }
        if rest.is_empty() { Ok(keys) } else { Err(TOO_LONG) }
    }

    /// What precedes the number of changes.
    fn decode_head(rest: &mut &[u8]) -> Result<Self, CodecError> {
        match take(rest, 1)? {
            [LOG_FORMAT] => {}
            other => return Err(CodecError::UnknownFormat { found: other.first().copied().unwrap_or(0) }),
        }
        Ok(Self {
            shard: u16::from_le_bytes(array(rest)?),
            epoch: u32::from_le_bytes(array(rest)?),
            commit_seq: CommitSeq::new(u64::from_le_bytes(array(rest)?)),
            commit_time_us: i64::from_le_bytes(array(rest)?),
            schema_version: SchemaVersion::new(u32::from_le_bytes(array(rest)?)),
            changes: Vec::new(),
        })
    }
}

const TOO_LONG: CodecError = CodecError::Corrupt("a log entry has bytes too many");

fn image(bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, CodecError> {
    Ok(image_bytes(bytes)?.map(<[u8]>::to_vec))
}

fn image_bytes<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, CodecError> {
    match read_varint(bytes)?.checked_sub(1) {
        None => Ok(None),
        Some(len) => Ok(Some(take(bytes, len)?)),
    }
}
