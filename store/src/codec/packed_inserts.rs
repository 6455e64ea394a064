//! Many new rows in one buffer, in the form that the change log has them.
//!
//! ```text
//! room for the entry's head | 01 | key length varint | key | length + 1 varint | row value | 00 | 01 | …
//!                             `-------------------------- one row ---------------------------'
//! ```
//!
//! So the buffer is the entry of the change log, and what is stored under each key is a part of it: a row's bytes are
//! written once, for both.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringViewArray};
use arrow::datatypes::{DataType, Int64Type};

use super::CodecError;
use super::encode::{Source, open_sources};
use super::keys::encode_i64;
use super::layout::{Place, RowHeader, RowLayout};
use super::log::{ChangeOp, EntryHeader, encode_head};
use super::value::{varint_len, write_varint_at};
use crate::ids::{ColumnId, CommitSeq, SchemaVersion};

/// Room for the head of a log entry: its fixed fields and the number of changes.
const HEAD_LEN: usize = 32;

/// Rows that are encoded column by column, so few that their bytes stay in the processor's caches.
const BLOCK_ROWS: usize = 1024;

/// New rows of one schema version with their keys, encoded but for the commit that will write them.
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{ArrayRef, Int64Array, StringViewArray};
/// use arrow::datatypes::DataType;
/// use kalamdb_store::codec::{LayoutColumn, PackedInserts, PrimaryKey, RowLayout};
/// use kalamdb_store::ids::{ColumnId, SchemaVersion};
///
/// # fn main() -> Result<(), kalamdb_store::codec::CodecError> {
/// let layout = RowLayout::new(vec![LayoutColumn { id: ColumnId::new(1), data_type: DataType::Utf8View }])?;
/// let keys: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
/// let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some("seven"), None]));
/// let mut rows = PackedInserts::new();
/// rows.push_rows(&layout, SchemaVersion::new(1), &keys, &[texts], None)?;
/// assert_eq!(rows.len(), 2);
/// assert_eq!(rows.key(1), PrimaryKey::from_i64(8).as_bytes());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct PackedInserts {
    bytes: Vec<u8>,
    rows: Vec<PackedRow>,
    /// The greatest one among the rows.
    schema_version: SchemaVersion,
    /// Where the entry begins, once its head is filled in.
    entry_start: usize,
}

/// Where a row lies in the buffer.
#[derive(Debug, Clone, Copy)]
struct PackedRow {
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
}

impl PackedRow {
    /// Where its change begins.
    fn start(&self) -> usize {
        self.key as usize - varint_len(self.key_len as usize) - 1
    }

    /// Where its change ends: behind the byte that says that there is no old image.
    fn end(&self) -> usize {
        self.value as usize + self.value_len as usize + 1
    }
}

/// Two rows with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The place of the first of them.
    pub first: usize,
    /// The place of the second one.
    pub second: usize,
}

impl Default for PackedInserts {
    fn default() -> Self {
        Self::new()
    }
}

impl PackedInserts {
    /// No rows.
    pub fn new() -> Self {
        Self::with_capacity(0, 0)
    }

    /// No rows, with room for so many that have so many [`PackedInserts::byte_size`].
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEAD_LEN + bytes);
        buffer.resize(HEAD_LEN, 0);
        let schema_version = SchemaVersion::new(0);
        Self { bytes: buffer, rows: Vec::with_capacity(rows), schema_version, entry_start: HEAD_LEN }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of all rows with their keys.
    pub fn byte_size(&self) -> usize {
        self.bytes.len() - HEAD_LEN
    }

    /// Bytes of memory that it takes.
    pub fn memory_size(&self) -> usize {
        self.bytes.capacity() + self.rows.capacity() * size_of::<PackedRow>()
    }

    /// Bytes of the rows in a range of places.
    pub fn bytes_of(&self, rows: Range<usize>) -> usize {
        self.span(&rows).map_or(0, |span| span.len())
    }

    /// The encoded primary key of the row at a place; empty if there is none.
    pub fn key(&self, row: usize) -> &[u8] {
        self.rows.get(row).map_or(&[], |row| &self.bytes[row.key as usize..][..row.key_len as usize])
    }

    /// The row value at a place; empty if there is none.
    pub fn value(&self, row: usize) -> &[u8] {
        self.rows.get(row).map_or(&[], |row| &self.bytes[row.value as usize..][..row.value_len as usize])
    }

    /// The place of the first row that has more bytes than that with its key.
    pub fn first_larger_than(&self, bytes: usize) -> Option<usize> {
        self.rows.iter().position(|row| row.key_len as usize + row.value_len as usize > bytes)
    }

    /// Bytes of all keys and all values.
    pub(crate) fn key_and_value_bytes(&self) -> usize {
        self.rows.iter().map(|row| row.key_len as usize + row.value_len as usize).sum()
    }

    /// Adds rows. `columns` are in the order of the layout's columns and, as `keys`, of one length; `order` says which of
    /// their rows are taken, in which order; `None`: all, as they are. `keys` has no NULL.
    ///
    /// # Errors
    /// For columns of other types than the layout's, and for keys that are neither `Int64` nor `Utf8View`. TooLarge beyond
    /// 4 GiB. Then nothing is added.
    pub fn push_rows(
        &mut self,
        layout: &RowLayout,
        schema_version: SchemaVersion,
        keys: &ArrayRef,
        columns: &[ArrayRef],
        order: Option<&[u32]>,
    ) -> Result<(), CodecError> {
        let sources = open_sources(layout, columns, keys.len())?;
        let keys = Keys::open(keys)?;
        if order.is_some_and(|order| order.iter().any(|row| *row as usize >= keys.len())) {
            return Err(CodecError::Shape("rows are to be taken that are not there"));
        }
        let before = (self.bytes.len(), self.rows.len());
        let header = RowHeader { commit_seq: CommitSeq::new(0), commit_time_us: 0, schema_version }.encode();
        let block = Block { layout, header: &header, keys: &keys, sources: &sources };
        let pushed = match order {
            Some(order) => order.chunks(BLOCK_ROWS).try_for_each(|rows| self.push_block(&block, rows)),
            None => (0..keys.len()).step_by(BLOCK_ROWS).try_for_each(|start| {
                let end = keys.len().min(start + BLOCK_ROWS);
                let rows: Vec<u32> = (start as u32..end as u32).collect();
                self.push_block(&block, &rows)
            }),
        };
        if pushed.is_err() {
            self.bytes.truncate(before.0);
            self.rows.truncate(before.1);
        } else {
            self.schema_version = self.schema_version.max(schema_version);
        }
        pushed
    }

    /// Adds rows of others, which lie one behind the other there.
    ///
    /// # Errors
    /// TooLarge beyond 4 GiB. Then nothing is added.
    pub fn append(&mut self, others: &Self, rows: Range<usize>) -> Result<(), CodecError> {
        let Some(span) = others.span(&rows) else { return Ok(()) };
        let base = self.bytes.len();
        if u32::try_from(base + span.len()).is_err() {
            return Err(TOO_LARGE);
        }
        let moved = |at: u32| (at as usize - span.start + base) as u32;
        self.bytes.extend_from_slice(&others.bytes[span.clone()]);
        self.rows.extend(others.rows[rows].iter().map(|row| PackedRow {
            key: moved(row.key),
            value: moved(row.value),
            ..*row
        }));
        self.schema_version = self.schema_version.max(others.schema_version);
        Ok(())
    }

    /// The places of the rows by ascending key.
    ///
    /// # Errors
    /// The first row, by its place, whose key an earlier one has, too.
    pub fn sorted(&self) -> Result<Vec<u32>, DuplicateKey> {
        let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
        if (1..self.rows.len()).all(|row| self.key(row - 1) < self.key(row)) {
            return Ok(order);
        }
        // Most comparisons are settled by the first eight bytes, which are all of a BIGINT.
        let mut keyed: Vec<(u64, u32)> = order.iter().map(|row| (leading(self.key(*row as usize)), *row)).collect();
        keyed.sort_unstable_by(|(a, row_a), (b, row_b)| {
            let whole = || self.key(*row_a as usize).cmp(self.key(*row_b as usize));
            a.cmp(b).then_with(whole).then_with(|| row_a.cmp(row_b))
        });
        for (place, (_, row)) in order.iter_mut().zip(keyed) {
            *place = row;
        }
        let same = |pair: &&[u32]| matches!(pair, [a, b] if self.key(*a as usize) == self.key(*b as usize));
        // Rows with one key are in the order of their places, so a pair's second one is never the first with its key.
        let duplicates = order.windows(2).filter(same).filter_map(|pair| pair.last());
        match duplicates.min() {
            None => Ok(order),
            Some(second) => {
                let key = self.key(*second as usize);
                let first = (0..*second as usize).find(|row| self.key(*row) == key);
                Err(DuplicateKey { first: first.unwrap_or_default(), second: *second as usize })
            }
        }
    }

    /// Fills in the commit that writes the rows, in all of them and in the entry.
    pub(crate) fn stamp(&mut self, seq: CommitSeq, commit_time_us: i64) {
        for row in &self.rows {
            if let Some(value) = self.bytes.get_mut(row.value as usize..) {
                RowHeader::stamp(value, seq, commit_time_us);
            }
        }
        let header = EntryHeader { commit_seq: seq, commit_time_us, schema_version: self.schema_version };
        let mut head = Vec::with_capacity(HEAD_LEN);
        encode_head(&mut head, 0, 0, &header, self.rows.len());
        debug_assert!(head.len() <= HEAD_LEN);
        self.entry_start = HEAD_LEN - head.len();
        self.bytes[self.entry_start..HEAD_LEN].copy_from_slice(&head);
    }

    /// The entry of the change log. The rows must have been stamped.
    pub(crate) fn entry(&self) -> &[u8] {
        &self.bytes[self.entry_start..]
    }

    /// Where rows that lie one behind the other begin and end.
    fn span(&self, rows: &Range<usize>) -> Option<Range<usize>> {
        let (first, last) = (self.rows.get(rows.start)?, self.rows.get(rows.end.checked_sub(1)?)?);
        (rows.start < rows.end).then(|| first.start()..last.end())
    }

    fn push_block(&mut self, block: &Block<'_>, rows: &[u32]) -> Result<(), CodecError> {
        let Block { layout, header, keys, sources } = block;
        let payload = RowHeader::LEN + layout.variable_start();
        let nested = nested_values(sources, rows)?;
        let first = self.rows.len();
        let mut at = self.bytes.len();
        for (index, row) in rows.iter().enumerate() {
            let row = *row as usize;
            let variable: usize = sources.iter().map(|source| source.flat_len(row)).sum();
            let of_nested: usize = nested.iter().flatten().map(|values| values.len_of(index)).sum();
            let (key_len, value_len) = (keys.len_of(row), payload + variable + of_nested);
            let key = at + 1 + varint_len(key_len);
            let value = key + key_len + varint_len(value_len + 1);
            let end = value + value_len + 1;
            if u32::try_from(end).is_err() {
                return Err(TOO_LARGE);
            }
            let (key, key_len) = (key as u32, key_len as u32);
            self.rows.push(PackedRow { key, key_len, value: value as u32, value_len: value_len as u32 });
            at = end;
        }
        self.bytes.resize(at, 0);
        let (bytes, packed) = (&mut self.bytes, &self.rows[first..]);
        for (row, place) in rows.iter().zip(packed) {
            let start = place.start();
            bytes[start] = ChangeOp::Insert.code();
            write_varint_at(&mut bytes[start + 1..], place.key_len as usize);
            let (key, value) = (place.key as usize, place.value as usize);
            keys.write(*row as usize, &mut bytes[key..][..place.key_len as usize]);
            write_varint_at(&mut bytes[key + place.key_len as usize..], place.value_len as usize + 1);
            bytes[value..][..RowHeader::LEN].copy_from_slice(*header);
        }
        // Where the next variable bytes of each row go.
        let mut ends: Vec<usize> = packed.iter().map(|place| place.value as usize + payload).collect();
        for (ordinal, (source, place)) in sources.iter().zip(layout.places()).enumerate() {
            if source.has_nulls() {
                for (_, packed) in rows.iter().zip(packed).filter(|(row, _)| source.is_null(**row as usize)) {
                    bytes[packed.value as usize + RowHeader::LEN + ordinal / 8] |= 1 << (ordinal % 8);
                }
            }
            match *place {
                Place::Fixed { offset, .. } => {
                    let slots = packed.iter().map(|packed| packed.value as usize + RowHeader::LEN + offset);
                    source.write_fixed_rows(rows, slots, bytes);
                }
                Place::Variable { index } => {
                    let slot = RowHeader::LEN + layout.ends_start() + index * size_of::<u32>();
                    let nested = nested.get(ordinal).and_then(Option::as_ref);
                    for (i, (row, packed)) in rows.iter().zip(packed).enumerate() {
                        let value = match nested {
                            Some(nested) => nested.value(i),
                            None => source.flat_value(*row as usize),
                        };
                        let end = &mut ends[i];
                        bytes[*end..][..value.len()].copy_from_slice(value);
                        *end += value.len();
                        let offset = (*end - packed.value as usize - payload) as u32;
                        let slot = packed.value as usize + slot;
                        bytes[slot..][..size_of::<u32>()].copy_from_slice(&offset.to_le_bytes());
                    }
                }
            }
        }
        Ok(())
    }
}

const TOO_LARGE: CodecError = CodecError::TooLarge("rows that are written at once");

/// The first bytes of a key as a number: of two keys with different ones, the one with the smaller is less.
fn leading(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => key.iter().rev().fold(0, |all, byte| (all >> 8) | (u64::from(*byte) << 56)),
    }
}

/// What rows are encoded from.
struct Block<'a> {
    layout: &'a RowLayout,
    header: &'a [u8; RowHeader::LEN],
    keys: &'a Keys<'a>,
    sources: &'a [Source<'a>],
}

/// A key column.
enum Keys<'a> {
    Int(&'a PrimitiveArray<Int64Type>),
    Text(&'a StringViewArray),
}

impl<'a> Keys<'a> {
    fn open(array: &'a ArrayRef) -> Result<Self, CodecError> {
        if array.null_count() > 0 {
            return Err(CodecError::Shape("a key is NULL"));
        }
        let mismatch = || CodecError::TypeMismatch {
            column: ColumnId::new(0),
            stored: DataType::Int64,
            given: array.data_type().clone(),
        };
        match array.data_type() {
            DataType::Int64 => array.as_primitive_opt().map(Keys::Int).ok_or_else(mismatch),
            DataType::Utf8View => array.as_string_view_opt().map(Keys::Text).ok_or_else(mismatch),
            _ => Err(mismatch()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Keys::Int(array) => array.len(),
            Keys::Text(array) => array.len(),
        }
    }

    fn len_of(&self, row: usize) -> usize {
        match self {
            Keys::Int(_) => size_of::<i64>(),
            // A view's low 32 bits are its length.
            Keys::Text(array) => array.views()[row] as u32 as usize,
        }
    }

    fn write(&self, row: usize, into: &mut [u8]) {
        match self {
            Keys::Int(array) => into.copy_from_slice(&encode_i64(array.value(row))),
            Keys::Text(array) => into.copy_from_slice(array.value(row).as_bytes()),
        }
    }
}

/// The encoded values of a list or struct column in a block of rows.
struct NestedValues {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl NestedValues {
    fn value(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        &self.bytes[start..end]
    }

    fn len_of(&self, index: usize) -> usize {
        self.value(index).len()
    }
}

/// The values of columns whose length is not known before they are encoded; `None` for all other columns.
fn nested_values(sources: &[Source<'_>], rows: &[u32]) -> Result<Vec<Option<NestedValues>>, CodecError> {
    if !sources.iter().any(Source::is_nested) {
        return Ok(Vec::new());
    }
    let values = |source: &Source<'_>| {
        let mut values = NestedValues { bytes: Vec::new(), ends: Vec::with_capacity(rows.len()) };
        for row in rows {
            let row = *row as usize;
            if !source.is_null(row) {
                source.write_variable(row, &mut values.bytes)?;
            }
            values.ends.push(values.bytes.len());
        }
        Ok(values)
    };
    sources.iter().map(|source| source.is_nested().then(|| values(source)).transpose()).collect()
}

#[cfg(test)]
mod tests;
