//! Arrow columns to rows.

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, ListArray, PrimitiveArray};
use arrow::array::{StringViewArray, StructArray};
use arrow::datatypes::*;

use super::layout::{Place, RowHeader, RowLayout};
use super::value::{FixedValue, bitmap_len, same_encoding, with_primitives, write_varint};
use super::{CodecError, LayoutColumn};
use crate::ids::{ColumnId, CommitSeq, SchemaVersion};

/// A row value, ready to be stored but for the commit sequence and time, which the committer fills in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRow(Vec<u8>);

impl EncodedRow {
    /// The whole value. Until the committer has stored it, its commit sequence and time are zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length of the whole value in bytes.
    pub fn byte_size(&self) -> usize {
        self.0.len()
    }

    /// Fills in the commit that wrote the row.
    pub fn stamp(&mut self, seq: CommitSeq, commit_time_us: i64) {
        RowHeader::stamp(&mut self.0, seq, commit_time_us);
    }
}

/// Encodes each row of `columns`, which are in the order of the layout's columns and all of one length.
///
/// A column must have exactly the layout's type, apart from names, nullability and metadata of nested fields and from
/// the time zone of timestamps. Whether NULL is allowed is not checked here.
pub fn encode_rows(
    layout: &RowLayout,
    schema_version: SchemaVersion,
    columns: &[ArrayRef],
    row_count: usize,
) -> Result<Vec<EncodedRow>, CodecError> {
    let sources = open_sources(layout, columns, row_count)?;
    let header = RowHeader { commit_seq: CommitSeq::new(0), commit_time_us: 0, schema_version }.encode();
    (0..row_count).map(|row| encode_row(layout, &header, &sources, row)).collect()
}

/// The columns of rows, checked against the layout.
pub(super) fn open_sources<'a>(
    layout: &RowLayout,
    columns: &'a [ArrayRef],
    row_count: usize,
) -> Result<Vec<Source<'a>>, CodecError> {
    if columns.len() != layout.columns().len() {
        return Err(CodecError::Shape("the number of columns is not the layout's"));
    }
    if columns.iter().any(|column| column.len() != row_count) {
        return Err(CodecError::Shape("the columns have different lengths"));
    }
    layout.columns().iter().zip(columns).map(|(column, array)| Source::open(column, array)).collect()
}

fn encode_row(
    layout: &RowLayout,
    header: &[u8; RowHeader::LEN],
    sources: &[Source<'_>],
    row: usize,
) -> Result<EncodedRow, CodecError> {
    let variable_start = RowHeader::LEN + layout.variable_start();
    let variable_len: usize = sources.iter().map(|source| source.variable_len_hint(row)).sum();
    let mut bytes = Vec::with_capacity(variable_start + variable_len);
    bytes.extend_from_slice(header);
    bytes.resize(variable_start, 0);
    for (ordinal, (source, place)) in sources.iter().zip(layout.places()).enumerate() {
        let null = source.is_null(row);
        if null {
            bytes[RowHeader::LEN + ordinal / 8] |= 1 << (ordinal % 8);
        }
        match *place {
            Place::Fixed { offset, width } => {
                if !null {
                    source.write_fixed(row, &mut bytes[RowHeader::LEN + offset..][..width]);
                }
            }
            Place::Variable { index } => {
                if !null {
                    source.write_variable(row, &mut bytes)?;
                }
                let end = u32::try_from(bytes.len() - variable_start).map_err(|_| CodecError::TooLarge("a row"))?;
                let at = RowHeader::LEN + layout.ends_start() + index * size_of::<u32>();
                bytes[at..][..size_of::<u32>()].copy_from_slice(&end.to_le_bytes());
            }
        }
    }
    Ok(EncodedRow(bytes))
}

/// Encodes the first value of `array` as a payload has it: the slot's bytes, or the variable bytes; `None` for NULL.
pub(super) fn encode_value(
    id: ColumnId,
    data_type: &DataType,
    array: &ArrayRef,
) -> Result<Option<Vec<u8>>, CodecError> {
    if array.len() != 1 {
        return Err(CodecError::Shape("a missing column's value must be one value"));
    }
    let source = Source::open(&LayoutColumn { id, data_type: data_type.clone() }, array)?;
    if source.is_null(0) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    match super::value::fixed_width(data_type)? {
        Some(width) => {
            bytes.resize(width, 0);
            source.write_fixed(0, &mut bytes);
        }
        None => source.write_variable(0, &mut bytes)?,
    }
    Ok(Some(bytes))
}

macro_rules! define_source {
    ($($name:ident($arrow:ident): $pattern:pat),* $(,)?) => {
        /// An array whose type was found out once, not again for each value.
        pub(super) enum Source<'a> {
            $($name(&'a PrimitiveArray<$arrow>),)*
            Boolean(&'a BooleanArray),
            Utf8(&'a StringViewArray),
            Binary(&'a BinaryViewArray),
            List(&'a ListArray, Box<Source<'a>>),
            Struct(&'a StructArray, Vec<Source<'a>>),
        }

        impl<'a> Source<'a> {
            /// `None` if the array is of a type that cannot be stored.
            fn of(array: &'a dyn Array) -> Option<Self> {
                Some(match array.data_type() {
                    $($pattern => Source::$name(array.as_primitive_opt()?),)*
                    DataType::Boolean => Source::Boolean(array.as_boolean_opt()?),
                    DataType::Utf8View => Source::Utf8(array.as_string_view_opt()?),
                    DataType::BinaryView => Source::Binary(array.as_binary_view_opt()?),
                    DataType::List(_) => {
                        let list = array.as_list_opt::<i32>()?;
                        Source::List(list, Box::new(Source::of(list.values())?))
                    }
                    DataType::Struct(_) => {
                        let fields = array.as_struct_opt()?;
                        let children = fields.columns().iter().map(|child| Source::of(child)).collect::<Option<_>>()?;
                        Source::Struct(fields, children)
                    }
                    _ => return None,
                })
            }

            pub(super) fn is_null(&self, row: usize) -> bool {
                match self {
                    $(Source::$name(array) => array.is_null(row),)*
                    Source::Boolean(array) => array.is_null(row),
                    Source::Utf8(array) => array.is_null(row),
                    Source::Binary(array) => array.is_null(row),
                    Source::List(array, _) => array.is_null(row),
                    Source::Struct(array, _) => array.is_null(row),
                }
            }

            /// Writes a value of fixed width into its slot.
            fn write_fixed(&self, row: usize, slot: &mut [u8]) {
                match self {
                    $(Source::$name(array) => array.value(row).write(slot),)*
                    Source::Boolean(array) => slot.fill(u8::from(array.value(row))),
                    Source::Utf8(_) | Source::Binary(_) | Source::List(..) | Source::Struct(..) => {}
                }
            }

            pub(super) fn has_nulls(&self) -> bool {
                match self {
                    $(Source::$name(array) => array.null_count() > 0,)*
                    Source::Boolean(array) => array.null_count() > 0,
                    Source::Utf8(array) => array.null_count() > 0,
                    Source::Binary(array) => array.null_count() > 0,
                    Source::List(array, _) => array.null_count() > 0,
                    Source::Struct(array, _) => array.null_count() > 0,
                }
            }

            /// Writes the values of fixed width of many rows, each into the slot that begins at its place in `bytes`.
            /// NULLs are left out.
            pub(super) fn write_fixed_rows(
                &self,
                rows: &[u32],
                slots: impl Iterator<Item = usize>,
                bytes: &mut [u8],
            ) {
                let rows = rows.iter().map(|row| *row as usize).zip(slots);
                match self {
                    $(Source::$name(array) => {
                        let width = <$arrow as ArrowPrimitiveType>::Native::WIDTH;
                        for (row, slot) in rows.filter(|(row, _)| array.is_valid(*row)) {
                            array.value(row).write(&mut bytes[slot..][..width]);
                        }
                    })*
                    Source::Boolean(array) => {
                        for (row, slot) in rows.filter(|(row, _)| array.is_valid(*row)) {
                            bytes[slot] = u8::from(array.value(row));
                        }
                    }
                    Source::Utf8(_) | Source::Binary(_) | Source::List(..) | Source::Struct(..) => {}
                }
            }

            /// Appends a value as an element or field has it: delimiting itself.
            fn write_nested(&self, row: usize, into: &mut Vec<u8>) -> Result<(), CodecError> {
                let width = match self {
                    $(Source::$name(_) => <$arrow as ArrowPrimitiveType>::Native::WIDTH,)*
                    Source::Boolean(_) => 1,
                    Source::Utf8(array) => {
                        write_varint(into, array.value(row).len());
                        return self.write_variable(row, into);
                    }
                    Source::Binary(array) => {
                        write_varint(into, array.value(row).len());
                        return self.write_variable(row, into);
                    }
                    Source::List(..) | Source::Struct(..) => return self.write_variable(row, into),
                };
                let start = into.len();
                into.resize(start + width, 0);
                self.write_fixed(row, &mut into[start..]);
                Ok(())
            }
        }
    };
}
with_primitives!(define_source);

impl<'a> Source<'a> {
    fn open(column: &LayoutColumn, array: &'a ArrayRef) -> Result<Self, CodecError> {
        let mismatch = || CodecError::TypeMismatch {
            column: column.id,
            stored: column.data_type.clone(),
            given: array.data_type().clone(),
        };
        if !same_encoding(&column.data_type, array.data_type()) {
            return Err(mismatch());
        }
        Self::of(array).ok_or_else(mismatch)
    }

    /// Bytes that [`Source::write_variable`] will append; a guess for nested values.
    fn variable_len_hint(&self, row: usize) -> usize {
        match self {
            // A view's low 32 bits are its length; a NULL's view can be anything.
            Source::Utf8(array) if array.is_valid(row) => array.views()[row] as u32 as usize,
            Source::Binary(array) if array.is_valid(row) => array.views()[row] as u32 as usize,
            Source::List(..) | Source::Struct(..) => 64,
            _ => 0,
        }
    }

    /// Whether its values are lists or structs.
    pub(super) fn is_nested(&self) -> bool {
        matches!(self, Source::List(..) | Source::Struct(..))
    }

    /// The bytes of a text or of bytes; none of a NULL, and of any other type.
    pub(super) fn flat_value(&self, row: usize) -> &[u8] {
        match self {
            Source::Utf8(array) if array.is_valid(row) => array.value(row).as_bytes(),
            Source::Binary(array) if array.is_valid(row) => array.value(row),
            _ => &[],
        }
    }

    /// The length of [`Source::flat_value`].
    pub(super) fn flat_len(&self, row: usize) -> usize {
        match self {
            Source::List(..) | Source::Struct(..) => 0,
            flat => flat.variable_len_hint(row),
        }
    }

    /// Appends a value of variable width as the payload has it.
    pub(super) fn write_variable(&self, row: usize, into: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Source::Utf8(array) => into.extend_from_slice(array.value(row).as_bytes()),
            Source::Binary(array) => into.extend_from_slice(array.value(row)),
            Source::List(array, element) => {
                let offsets = array.value_offsets();
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                write_varint(into, end - start);
                write_all(into, end - start, |index| (element.as_ref(), start + index))?;
            }
            Source::Struct(_, fields) => write_all(into, fields.len(), |index| (&fields[index], row))?,
            _ => {}
        }
        Ok(())
    }
}

/// Appends a null bitmap and the values that are not NULL.
fn write_all<'s, 'a: 's>(
    into: &mut Vec<u8>,
    count: usize,
    value: impl Fn(usize) -> (&'s Source<'a>, usize),
) -> Result<(), CodecError> {
    let bitmap = into.len();
    into.resize(bitmap + bitmap_len(count), 0);
    for index in 0..count {
        let (source, row) = value(index);
        if source.is_null(row) {
            into[bitmap + index / 8] |= 1 << (index % 8);
        } else {
            source.write_nested(row, into)?;
        }
    }
    // Keeps every length within a varint's 32 bits.
    if into.len() > u32::MAX as usize {
        return Err(CodecError::TooLarge("a nested value"));
    }
    Ok(())
}
