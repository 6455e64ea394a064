//! Where things lie in a row's value.
//!
//! ```text
//! flags u8 | commit sequence u64 LE | commit time (µs) i64 LE | schema version u32 LE |          the header, 21 bytes
//! null bitmap | fixed-width slots | end offset u32 LE of each variable-width column | variable bytes     the payload
//! ```
//!
//! The high four bits of `flags` are the format version, 1; the others are reserved and zero. The payload has the columns of the row's schema version in
//! the order of their ids, without the primary key, which is in the key. The bitmap has one bit for each column, least
//! significant first, set for NULL. A NULL's slot is zero, a NULL of variable width is empty. End offsets count from
//! the beginning of the variable bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;

use super::CodecError;
use super::value::{bitmap_len, fixed_width};
use crate::ids::{ColumnId, CommitSeq, SchemaVersion};

/// The format of rows that this version writes, and the only one that exists so far.
const ROW_FORMAT: u8 = 1;

/// What every row value begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHeader {
    /// The commit that wrote the row.
    pub commit_seq: CommitSeq,
    /// When that was, in microseconds since 1970-01-01 UTC.
    pub commit_time_us: i64,
    /// The schema version that says which columns the payload has.
    pub schema_version: SchemaVersion,
}

impl RowHeader {
    /// Length of an encoded header in bytes.
    pub const LEN: usize = 21;

    /// Reads the header of a row value without looking at the payload.
    pub fn decode(value: &[u8]) -> Result<Self, CodecError> {
        Ok(Self::split(value)?.0)
    }

    /// Fills in, at the beginning of a row value, the commit that wrote it.
    pub(super) fn stamp(value: &mut [u8], seq: CommitSeq, commit_time_us: i64) {
        value[1..9].copy_from_slice(&seq.get().to_le_bytes());
        value[9..17].copy_from_slice(&commit_time_us.to_le_bytes());
    }

    /// The header of a row value, and its payload.
    #[inline]
    pub(super) fn split(value: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let (header, payload) = value
            .split_first_chunk::<{ Self::LEN }>()
            .ok_or(CodecError::Corrupt("a row is shorter than its header"))?;
        let [flags, s0, s1, s2, s3, s4, s5, s6, s7, t0, t1, t2, t3, t4, t5, t6, t7, v0, v1, v2, v3] = *header;
        match flags >> 4 {
            ROW_FORMAT => {}
            found => return Err(CodecError::UnknownFormat { found }),
        }
        if flags & 0x0F != 0 {
            return Err(CodecError::Corrupt("a row has unknown flags"));
        }
        let header = Self {
            commit_seq: CommitSeq::new(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7])),
            commit_time_us: i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            schema_version: SchemaVersion::new(u32::from_le_bytes([v0, v1, v2, v3])),
        };
        Ok((header, payload))
    }

    /// The encoded header.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = ROW_FORMAT << 4;
        bytes[1..9].copy_from_slice(&self.commit_seq.get().to_le_bytes());
        bytes[9..17].copy_from_slice(&self.commit_time_us.to_le_bytes());
        bytes[17..21].copy_from_slice(&self.schema_version.get().to_le_bytes());
        bytes
    }
}

/// A column that is in the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutColumn {
    /// The column.
    pub id: ColumnId,
    /// How its values are stored.
    pub data_type: DataType,
}

/// Where each column of one schema version lies in the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLayout {
    columns: Vec<LayoutColumn>,
    places: Vec<Place>,
    /// Where the end offsets begin, from the beginning of the payload.
    ends_start: usize,
    /// Where the variable bytes begin, from the beginning of the payload.
    variable_start: usize,
}

/// Where one column lies in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `width` bytes at `offset` from the beginning of the payload.
    Fixed { offset: usize, width: usize },
    /// The bytes up to end offset number `index`, from the one before it.
    Variable { index: usize },
}

impl RowLayout {
    /// The layout of rows with these columns, which must be in strictly ascending order of id and not contain the
    /// primary key. Fails on other orders and on types that cannot be stored.
    pub fn new(columns: Vec<LayoutColumn>) -> Result<Self, CodecError> {
        if !columns.is_sorted_by(|a, b| a.id < b.id) {
            return Err(CodecError::Shape("the columns of a layout must be in ascending order of id"));
        }
        let mut offset = bitmap_len(columns.len());
        let mut variable = 0;
        let mut places = Vec::with_capacity(columns.len());
        for column in &columns {
            places.push(match fixed_width(&column.data_type)? {
                Some(width) => {
                    offset += width;
                    Place::Fixed { offset: offset - width, width }
                }
                None => {
                    variable += 1;
                    Place::Variable { index: variable - 1 }
                }
            });
        }
        Ok(Self { columns, places, ends_start: offset, variable_start: offset + variable * size_of::<u32>() })
    }

    /// The columns, in the order of their ids.
    pub fn columns(&self) -> &[LayoutColumn] {
        &self.columns
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(super) fn ends_start(&self) -> usize {
        self.ends_start
    }

    pub(super) fn variable_start(&self) -> usize {
        self.variable_start
    }

    /// The place of a column among the columns.
    pub(super) fn ordinal(&self, id: ColumnId) -> Option<usize> {
        self.columns.binary_search_by_key(&id, |column| column.id).ok()
    }
}

/// The layouts of all schema versions of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutHistory {
    layouts: BTreeMap<SchemaVersion, Arc<RowLayout>>,
}

impl LayoutHistory {
    /// A history of these versions. It must have every version that a stored row can name.
    pub fn new(layouts: BTreeMap<SchemaVersion, Arc<RowLayout>>) -> Self {
        Self { layouts }
    }

    /// The layout of a version.
    pub fn get(&self, version: SchemaVersion) -> Option<&Arc<RowLayout>> {
        self.layouts.get(&version)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SchemaVersion, &Arc<RowLayout>)> {
        self.layouts.iter().map(|(version, layout)| (*version, layout))
    }
}
