//! The manifest of the cold tier: which segments a partition has, which of their rows are deleted, and what is known
//! about their files.
//!
//! ```text
//! keyspace segments
//! entry      partition | 00 | segment id u64 BE               -> segment entry
//! mark       partition | 01 | segment id u64 BE | row u32 BE  -> commit sequence u64 LE | primary key
//! mark list  partition | 02 | segment id u64 BE | commit sequence u64 BE -> row u32 LE of each mark, ascending
//!
//! keyspace system
//! checksums  "segment/checksums/" | segment id u64 BE         -> CRC-32 u32 LE of each 64 KiB block of the file
//! pending    "segment/pending/"   | segment id u64 BE         -> storage u32 LE | path
//! garbage    "segment/garbage/"   | segment id u64 BE         -> removed at, commit sequence u64 LE | storage u32 LE | path
//!
//! segment entry
//! format u8 = 1 | segment id u64 LE | storage u32 LE | file bytes u64 LE | rows u64 LE | row group rows u32 LE |
//! schema version u32 LE | min sequence u64 LE | max sequence u64 LE | created at (µs) i64 LE |
//! path length varint | path | min key length varint | min key | max key length varint | max key
//! ```
//!
//! A mark says that the row at that position of the segment's file is no longer there: a commit changed or deleted it.
//! A mark list names the same rows by the batch that marked them, so that a reader who knows the marks up to some commit
//! reads the later ones only. Every mark is in exactly one list, and both are written in one batch.
//! A file is pending from before it is created until its entry is committed, and garbage from when its entry is gone
//! until it is deleted; so every file that exists is named by exactly one of entry, pending and garbage.

use super::keys::{split_row_key, write_prefix};
use super::value::{array, read_varint, take, write_varint};
use super::{CodecError, PrimaryKey};
use crate::ids::{CommitSeq, Partition, SchemaVersion, SegmentId, StorageId};
use crate::kv::KeyRange;

const ENTRY_FORMAT: u8 = 1;
const ENTRIES: u8 = 0x00;
const MARKS: u8 = 0x01;
const MARK_LISTS: u8 = 0x02;
const CHECKSUMS: &[u8] = b"segment/checksums/";
const PENDING: &[u8] = b"segment/pending/";
const GARBAGE: &[u8] = b"segment/garbage/";

/// The key, in [`Keyspace::System`](crate::kv::Keyspace::System), of the last segment id that was given, big endian. It
/// keeps ids from being given twice after the clock was set back.
pub const LAST_SEGMENT_KEY: &[u8] = b"segment/last";

/// A segment: an immutable Parquet file with rows of one partition, sorted by primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentEntry {
    /// The segment, and the name of its file.
    pub id: SegmentId,
    /// Where the file is.
    pub storage: StorageId,
    /// The file's path, relative to the storage's root.
    pub path: String,
    /// The size of the file.
    pub file_bytes: u64,
    /// How many rows are in the file, deleted ones among them.
    pub rows: u64,
    /// How many rows each row group has; the last one can have fewer.
    pub row_group_rows: u32,
    /// The schema version whose columns the file has.
    pub schema_version: SchemaVersion,
    /// The least primary key.
    pub min_key: PrimaryKey,
    /// The greatest primary key.
    pub max_key: PrimaryKey,
    /// The least commit sequence of a row.
    pub min_seq: CommitSeq,
    /// The greatest commit sequence of a row.
    pub max_seq: CommitSeq,
    /// When the file was made, in microseconds since 1970-01-01 UTC.
    pub created_at_us: i64,
}

impl SegmentEntry {
    /// The entry's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(80 + self.path.len());
        bytes.push(ENTRY_FORMAT);
        bytes.extend_from_slice(&self.id.get().to_le_bytes());
        bytes.extend_from_slice(&self.storage.get().to_le_bytes());
        bytes.extend_from_slice(&self.file_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.rows.to_le_bytes());
        bytes.extend_from_slice(&self.row_group_rows.to_le_bytes());
        bytes.extend_from_slice(&self.schema_version.get().to_le_bytes());
        bytes.extend_from_slice(&self.min_seq.get().to_le_bytes());
        bytes.extend_from_slice(&self.max_seq.get().to_le_bytes());
        bytes.extend_from_slice(&self.created_at_us.to_le_bytes());
        for text in [self.path.as_bytes(), self.min_key.as_bytes(), self.max_key.as_bytes()] {
            write_varint(&mut bytes, text.len());
            bytes.extend_from_slice(text);
        }
        bytes
    }

    /// Reads an entry. Fails on bytes that are not exactly one entry of a known format.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let rest = &mut bytes;
        let [format] = array(rest)?;
        if format != ENTRY_FORMAT {
            return Err(CodecError::UnknownFormat { found: format });
        }
        let entry = Self {
            id: SegmentId::new(u64::from_le_bytes(array(rest)?)),
            storage: StorageId::new(u32::from_le_bytes(array(rest)?)),
            file_bytes: u64::from_le_bytes(array(rest)?),
            rows: u64::from_le_bytes(array(rest)?),
            row_group_rows: u32::from_le_bytes(array(rest)?),
            schema_version: SchemaVersion::new(u32::from_le_bytes(array(rest)?)),
            min_seq: CommitSeq::new(u64::from_le_bytes(array(rest)?)),
            max_seq: CommitSeq::new(u64::from_le_bytes(array(rest)?)),
            created_at_us: i64::from_le_bytes(array(rest)?),
            path: path(text(rest)?)?,
            min_key: PrimaryKey::from_encoded(text(rest)?),
            max_key: PrimaryKey::from_encoded(text(rest)?),
        };
        if entry.row_group_rows == 0 {
            return Err(CodecError::Corrupt("a segment entry has row groups without rows"));
        }
        if rest.is_empty() { Ok(entry) } else { Err(CodecError::Corrupt("a segment entry has bytes too many")) }
    }

    /// How many row groups the file has.
    pub fn row_groups(&self) -> usize {
        self.rows.div_ceil(u64::from(self.row_group_rows).max(1)) as usize
    }
}

/// A row of a segment that a commit changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The commit.
    pub commit_seq: CommitSeq,
    /// The row's primary key.
    pub key: PrimaryKey,
}

impl Mark {
    /// The mark's bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&self.commit_seq.get().to_le_bytes()[..], self.key.as_bytes()].concat()
    }

    /// Reads a mark.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let commit_seq = CommitSeq::new(u64::from_le_bytes(array(&mut bytes)?));
        Ok(Self { commit_seq, key: PrimaryKey::from_encoded(bytes) })
    }
}

/// A file that is being made: it may or may not exist, and no entry names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingFile {
    /// Where the file is.
    pub storage: StorageId,
    /// Its path, relative to the storage's root.
    pub path: String,
}

impl PendingFile {
    /// The bytes of the note.
    pub fn encode(&self) -> Vec<u8> {
        [&self.storage.get().to_le_bytes()[..], self.path.as_bytes()].concat()
    }

    /// Reads a note.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let storage = StorageId::new(u32::from_le_bytes(array(&mut bytes)?));
        Ok(Self { storage, path: path(bytes)? })
    }
}

/// A file whose segment is gone. It is kept for the snapshots that are older than that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GarbageFile {
    /// The commit that removed the segment: snapshots of this sequence and later do not have it.
    pub removed_at: CommitSeq,
    /// Where the file is.
    pub storage: StorageId,
    /// Its path, relative to the storage's root.
    pub path: String,
}

impl GarbageFile {
    /// The bytes of the note.
    pub fn encode(&self) -> Vec<u8> {
        [&self.removed_at.get().to_le_bytes()[..], &self.storage.get().to_le_bytes(), self.path.as_bytes()].concat()
    }

    /// Reads a note.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let rest = &mut bytes;
        let removed_at = CommitSeq::new(u64::from_le_bytes(array(rest)?));
        let storage = StorageId::new(u32::from_le_bytes(array(rest)?));
        Ok(Self { removed_at, storage, path: path(rest)? })
    }
}

/// What a key of [`Keyspace::Segments`](crate::kv::Keyspace::Segments) is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentsKey {
    /// The entry of a segment.
    Entry(SegmentId),
    /// A deletion mark: the segment, and the row's position in its file.
    Mark(SegmentId, u32),
    /// A list of deletion marks: the segment, and the last commit of the batch that made them.
    MarkList(SegmentId, CommitSeq),
}

/// The key of a segment's entry.
pub fn segment_key(partition: &Partition, segment: SegmentId) -> Vec<u8> {
    key(partition, ENTRIES, &segment.get().to_be_bytes())
}

/// The entries of a partition's segments, in the order of their ids.
pub fn segment_range(partition: &Partition) -> KeyRange {
    KeyRange::prefix(&key(partition, ENTRIES, &[]))
}

/// The key of the deletion mark of the row at position `row` of a segment's file.
pub fn mark_key(partition: &Partition, segment: SegmentId, row: u32) -> Vec<u8> {
    let mut bytes = key(partition, MARKS, &segment.get().to_be_bytes());
    bytes.extend_from_slice(&row.to_be_bytes());
    bytes
}

/// The deletion marks of a segment, in the order of their rows.
pub fn mark_range(partition: &Partition, segment: SegmentId) -> KeyRange {
    KeyRange::prefix(&key(partition, MARKS, &segment.get().to_be_bytes()))
}

/// The key of the list of a segment's marks that a batch made whose last commit is `seq`.
pub fn mark_list_key(partition: &Partition, segment: SegmentId, seq: CommitSeq) -> Vec<u8> {
    let mut bytes = key(partition, MARK_LISTS, &segment.get().to_be_bytes());
    bytes.extend_from_slice(&seq.get().to_be_bytes());
    bytes
}

/// The lists of a segment's marks, in the order of their commits.
pub fn mark_list_range(partition: &Partition, segment: SegmentId) -> KeyRange {
    KeyRange::prefix(&key(partition, MARK_LISTS, &segment.get().to_be_bytes()))
}

/// A list of marks as bytes.
pub fn encode_mark_list(rows: &[u32]) -> Vec<u8> {
    rows.iter().flat_map(|row| row.to_le_bytes()).collect()
}

/// Reads what [`encode_mark_list`] wrote.
pub fn decode_mark_list(bytes: &[u8]) -> Result<impl ExactSizeIterator<Item = u32>, CodecError> {
    let (chunks, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(CodecError::Corrupt("a list of marks is not a whole number of rows"));
    }
    Ok(chunks.iter().map(|chunk| u32::from_le_bytes(*chunk)))
}

/// The parts of a key of [`Keyspace::Segments`](crate::kv::Keyspace::Segments).
pub fn split_segments_key(key: &[u8]) -> Result<(Partition, SegmentsKey), CodecError> {
    let damaged = CodecError::Corrupt("a key of the manifest is of an unknown kind");
    let (table, owner, mut rest) = split_row_key(key)?;
    let rest = &mut rest;
    let [kind] = array(rest)?;
    let segment = SegmentId::new(u64::from_be_bytes(array(rest)?));
    let what = match kind {
        ENTRIES => SegmentsKey::Entry(segment),
        MARKS => SegmentsKey::Mark(segment, u32::from_be_bytes(array(rest)?)),
        MARK_LISTS => SegmentsKey::MarkList(segment, CommitSeq::new(u64::from_be_bytes(array(rest)?))),
        _ => return Err(damaged),
    };
    if rest.is_empty() { Ok((Partition { table, owner }, what)) } else { Err(damaged) }
}

/// The key, in [`Keyspace::System`](crate::kv::Keyspace::System), of the checksums of a segment's file.
pub fn checksums_key(segment: SegmentId) -> Vec<u8> {
    [CHECKSUMS, &segment.get().to_be_bytes()].concat()
}

/// The checksums of a file's blocks as bytes.
pub fn encode_checksums(checksums: &[u32]) -> Vec<u8> {
    checksums.iter().flat_map(|checksum| checksum.to_le_bytes()).collect()
}

/// Reads what [`encode_checksums`] wrote.
pub fn decode_checksums(bytes: &[u8]) -> Result<Vec<u32>, CodecError> {
    let (chunks, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(CodecError::Corrupt("checksums are not a whole number of them"));
    }
    Ok(chunks.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect())
}

/// The key, in [`Keyspace::System`](crate::kv::Keyspace::System), of a [`PendingFile`].
pub fn pending_key(segment: SegmentId) -> Vec<u8> {
    [PENDING, &segment.get().to_be_bytes()].concat()
}

/// All [`PendingFile`]s.
pub fn pending_range() -> KeyRange {
    KeyRange::prefix(PENDING)
}

/// The segment of a [`pending_key`].
pub fn split_pending_key(key: &[u8]) -> Result<SegmentId, CodecError> {
    segment_behind(PENDING, key)
}

/// The key, in [`Keyspace::System`](crate::kv::Keyspace::System), of a [`GarbageFile`].
pub fn garbage_key(segment: SegmentId) -> Vec<u8> {
    [GARBAGE, &segment.get().to_be_bytes()].concat()
}

/// All [`GarbageFile`]s.
pub fn garbage_range() -> KeyRange {
    KeyRange::prefix(GARBAGE)
}

/// The segment of a [`garbage_key`].
pub fn split_garbage_key(key: &[u8]) -> Result<SegmentId, CodecError> {
    segment_behind(GARBAGE, key)
}

fn segment_behind(prefix: &[u8], key: &[u8]) -> Result<SegmentId, CodecError> {
    let id = key.strip_prefix(prefix).and_then(|id| id.try_into().ok());
    id.map(|id| SegmentId::new(u64::from_be_bytes(id))).ok_or(CodecError::Corrupt("a key does not end with a segment"))
}

fn key(partition: &Partition, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The row of a mark may follow, or the commit of a list.
    write_prefix(&mut bytes, partition, 1 + rest.len() + size_of::<u64>());
    bytes.push(kind);
    bytes.extend_from_slice(rest);
    bytes
}

fn text<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], CodecError> {
    let len = read_varint(bytes)?;
    take(bytes, len)
}

fn path(bytes: &[u8]) -> Result<String, CodecError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| CodecError::Corrupt("the path of a file is not UTF-8"))
}
