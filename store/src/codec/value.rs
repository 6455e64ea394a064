//! The encodings of single values, shared by rows and by what lists and structs contain.
//!
//! A value of a fixed-width type is its little-endian bytes, a BOOLEAN one byte. Texts and bytes are themselves.
//!
//! ```text
//! list      element count varint | null bitmap | the elements that are not NULL, in order
//! struct    null bitmap | the fields that are not NULL, in order
//! ```
//!
//! Inside a list or struct, texts and bytes are preceded by their length as a varint; everything else delimits itself.
//! A null bitmap has one bit for each element or field, least significant first, set for NULL.

use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{ArrowNativeType, DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit, i256};

use super::CodecError;

/// Lists and structs nested deeper than this are refused, so that decoding cannot exhaust the stack.
const MAX_NESTING: usize = 64;

/// Calls `$callback!` with every fixed-width type but BOOLEAN: a name, its Arrow type, and the data types it stands
/// for.
macro_rules! with_primitives {
    ($callback:ident) => {
        $callback! {
            Int16(Int16Type): DataType::Int16,
            Int32(Int32Type): DataType::Int32,
            Int64(Int64Type): DataType::Int64,
            UInt16(UInt16Type): DataType::UInt16,
            UInt32(UInt32Type): DataType::UInt32,
            UInt64(UInt64Type): DataType::UInt64,
            Float32(Float32Type): DataType::Float32,
            Float64(Float64Type): DataType::Float64,
            Decimal128(Decimal128Type): DataType::Decimal128(_, _),
            Decimal256(Decimal256Type): DataType::Decimal256(_, _),
            Date32(Date32Type): DataType::Date32,
            Time64(Time64MicrosecondType): DataType::Time64(TimeUnit::Microsecond),
            Timestamp(TimestampMicrosecondType): DataType::Timestamp(TimeUnit::Microsecond, _),
            Interval(IntervalMonthDayNanoType): DataType::Interval(IntervalUnit::MonthDayNano),
        }
    };
}
pub(super) use with_primitives;

/// A native value with an encoding of fixed width.
pub(super) trait FixedValue: ArrowNativeType {
    /// Width of the encoding in bytes.
    const WIDTH: usize;

    /// Decodes the first `WIDTH` bytes; `None` if there are fewer.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// Encodes into a slot of `WIDTH` bytes.
    fn write(self, slot: &mut [u8]);
}

macro_rules! fixed_values {
    ($($native:ty),*) => { $(
        impl FixedValue for $native {
            const WIDTH: usize = size_of::<$native>();

            #[inline]
            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|bytes| <$native>::from_le_bytes(*bytes))
            }

            #[inline]
            fn write(self, slot: &mut [u8]) {
                slot.copy_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}
fixed_values!(i16, i32, i64, u16, u32, u64, f32, f64, i128, i256);

impl FixedValue for IntervalMonthDayNano {
    const WIDTH: usize = 16;

    fn read(bytes: &[u8]) -> Option<Self> {
        let (months, rest) = bytes.split_first_chunk()?;
        let (days, rest) = rest.split_first_chunk()?;
        let nanoseconds = rest.first_chunk()?;
        let (months, days) = (i32::from_le_bytes(*months), i32::from_le_bytes(*days));
        Some(Self::new(months, days, i64::from_le_bytes(*nanoseconds)))
    }

    fn write(self, slot: &mut [u8]) {
        let (months, rest) = slot.split_at_mut(4);
        let (days, nanoseconds) = rest.split_at_mut(4);
        months.copy_from_slice(&self.months.to_le_bytes());
        days.copy_from_slice(&self.days.to_le_bytes());
        nanoseconds.copy_from_slice(&self.nanoseconds.to_le_bytes());
    }
}

/// The width in bytes of a type's encoding; `None` for one of variable width. Fails for types without an encoding.
pub(super) fn fixed_width(data_type: &DataType) -> Result<Option<usize>, CodecError> {
    supported_width(data_type, 0).ok_or_else(|| CodecError::UnsupportedType(data_type.clone()))
}

fn supported_width(data_type: &DataType, depth: usize) -> Option<Option<usize>> {
    if depth > MAX_NESTING {
        return None;
    }
    Some(match data_type {
        DataType::Boolean => Some(1),
        DataType::Int16 | DataType::UInt16 => Some(2),
        DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date32 => Some(4),
        DataType::Int64 | DataType::UInt64 | DataType::Float64 => Some(8),
        DataType::Time64(TimeUnit::Microsecond) | DataType::Timestamp(TimeUnit::Microsecond, _) => Some(8),
        DataType::Decimal128(_, _) | DataType::Interval(IntervalUnit::MonthDayNano) => Some(16),
        DataType::Decimal256(_, _) => Some(32),
        DataType::Utf8View | DataType::BinaryView => None,
        DataType::List(element) => {
            supported_width(element.data_type(), depth + 1)?;
            None
        }
        DataType::Struct(fields) => {
            for field in fields {
                supported_width(field.data_type(), depth + 1)?;
            }
            None
        }
        _ => return None,
    })
}

/// Whether values of one type can be stored and read as the other: the same but for the names of nested fields, their
/// nullability and metadata, and for time zones (every stored time is UTC).
pub(super) fn same_encoding(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) => a == b,
        (DataType::List(a), DataType::List(b)) => same_encoding(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_encoding(a.data_type(), b.data_type()))
        }
        _ => a == b,
    }
}

/// Bytes of a null bitmap for `count` values.
pub(super) fn bitmap_len(count: usize) -> usize {
    count.div_ceil(8)
}

/// Whether value `index` is NULL; out of the bitmap's range it is not.
#[inline]
pub(super) fn is_null(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

/// Takes `len` bytes off the front of `bytes`.
#[inline]
pub(super) fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], CodecError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(TRUNCATED)?;
    *bytes = rest;
    Ok(taken)
}

/// Takes `N` bytes off the front of `bytes`.
#[inline]
pub(super) fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], CodecError> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(TRUNCATED)?;
    *bytes = rest;
    Ok(*taken)
}

pub(super) const TRUNCATED: CodecError = CodecError::Corrupt("a value ends too early");

/// Appends `value` in seven-bit groups, least significant first; all but the last have their top bit set.
pub(super) fn write_varint(into: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        into.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// How many bytes [`write_varint`] appends.
pub(super) fn varint_len(value: usize) -> usize {
    ((usize::BITS - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

/// Writes what [`write_varint`] appends at the beginning of `into`.
pub(super) fn write_varint_at(into: &mut [u8], mut value: usize) {
    for byte in into {
        if value < 0x80 {
            *byte = value as u8;
            return;
        }
        *byte = (value & 0x7F) as u8 | 0x80;
        value >>= 7;
    }
}

/// Reads what [`write_varint`] wrote, up to 32 bits: nothing stored is longer than 4 GiB.
#[inline]
pub(super) fn read_varint(bytes: &mut &[u8]) -> Result<usize, CodecError> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(TRUNCATED)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value)
                .map(|value| value as usize)
                .map_err(|_| CodecError::Corrupt("a length is too large"));
        }
    }
    Err(CodecError::Corrupt("a length is too long"))
}

/// The offsets of a list array from the lengths of its lists.
pub(super) fn offsets(offsets: &mut Vec<i32>) -> ScalarBuffer<i32> {
    ScalarBuffer::from(std::mem::replace(offsets, vec![0]))
}
