//! Encoded values to Arrow arrays.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryViewBuilder, BooleanBuilder, ListArray, NullBufferBuilder, PrimitiveBuilder};
use arrow::array::{StringViewBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::*;

use super::CodecError;
use super::value::{FixedValue, TRUNCATED, bitmap_len, is_null, offsets, read_varint, take, with_primitives};

/// Elements that builders make room for at first.
const INITIAL_CAPACITY: usize = 64;

/// Grows a list column.
pub(super) struct ListBuilder {
    field: FieldRef,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
    elements: Box<ColumnBuilder>,
    element_count: usize,
}

/// Grows a struct column.
pub(super) struct StructBuilder {
    fields: Fields,
    len: usize,
    nulls: NullBufferBuilder,
    children: Vec<ColumnBuilder>,
}

macro_rules! define_builder {
    ($($name:ident($arrow:ident): $pattern:pat),* $(,)?) => {
        /// Grows one column, value by value.
        pub(super) enum ColumnBuilder {
            $($name(PrimitiveBuilder<$arrow>),)*
            Boolean(BooleanBuilder),
            Utf8(StringViewBuilder),
            Binary(BinaryViewBuilder),
            List(ListBuilder),
            Struct(StructBuilder),
        }

        impl ColumnBuilder {
            /// An empty column of `data_type`.
            pub(super) fn new(data_type: &DataType) -> Result<Self, CodecError> {
                Ok(match data_type {
                    $($pattern => ColumnBuilder::$name(
                        PrimitiveBuilder::with_capacity(INITIAL_CAPACITY).with_data_type(data_type.clone()),
                    ),)*
                    DataType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::with_capacity(INITIAL_CAPACITY)),
                    DataType::Utf8View => ColumnBuilder::Utf8(StringViewBuilder::with_capacity(INITIAL_CAPACITY)),
                    DataType::BinaryView => ColumnBuilder::Binary(BinaryViewBuilder::with_capacity(INITIAL_CAPACITY)),
                    DataType::List(field) => ColumnBuilder::List(ListBuilder {
                        field: field.clone(),
                        offsets: vec![0],
                        nulls: NullBufferBuilder::new(INITIAL_CAPACITY),
                        elements: Box::new(ColumnBuilder::new(field.data_type())?),
                        element_count: 0,
                    }),
                    DataType::Struct(fields) => ColumnBuilder::Struct(StructBuilder {
                        fields: fields.clone(),
                        len: 0,
                        nulls: NullBufferBuilder::new(INITIAL_CAPACITY),
                        children: fields
                            .iter()
                            .map(|field| ColumnBuilder::new(field.data_type()))
                            .collect::<Result<_, _>>()?,
                    }),
                    other => return Err(CodecError::UnsupportedType(other.clone())),
                })
            }

            /// Bytes that each value takes in the array itself, beside its variable bytes.
            pub(super) fn bytes_per_value(&self) -> usize {
                match self {
                    $(ColumnBuilder::$name(_) => <$arrow as ArrowPrimitiveType>::Native::WIDTH,)*
                    ColumnBuilder::Boolean(_) => 1,
                    ColumnBuilder::Utf8(_) | ColumnBuilder::Binary(_) => size_of::<u128>(),
                    ColumnBuilder::List(_) => size_of::<i32>(),
                    ColumnBuilder::Struct(fields) => 1 + fields.children.iter().map(Self::bytes_per_value).sum::<usize>(),
                }
            }

            /// Adds a NULL.
            pub(super) fn append_null(&mut self) {
                match self {
                    $(ColumnBuilder::$name(builder) => builder.append_null(),)*
                    ColumnBuilder::Boolean(builder) => builder.append_null(),
                    ColumnBuilder::Utf8(builder) => builder.append_null(),
                    ColumnBuilder::Binary(builder) => builder.append_null(),
                    ColumnBuilder::List(list) => list.append_null(),
                    ColumnBuilder::Struct(fields) => fields.append_null(),
                }
            }

            /// Adds a value from its bytes in a payload: its slot, or its variable bytes.
            #[inline]
            pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<(), CodecError> {
                match self {
                    $(ColumnBuilder::$name(builder) => {
                        builder.append_value(FixedValue::read(bytes).ok_or(TRUNCATED)?);
                    })*
                    ColumnBuilder::Boolean(builder) => builder.append_value(*bytes.first().ok_or(TRUNCATED)? != 0),
                    ColumnBuilder::Utf8(builder) => {
                        let text = std::str::from_utf8(bytes).map_err(|_| CodecError::Corrupt("a text is not UTF-8"))?;
                        builder.try_append_value(text).map_err(|_| CodecError::TooLarge("a batch of texts"))?;
                    }
                    ColumnBuilder::Binary(builder) => {
                        builder.try_append_value(bytes).map_err(|_| CodecError::TooLarge("a batch of bytes"))?;
                    }
                    ColumnBuilder::List(list) => {
                        list.append(&mut bytes)?;
                        all_read(bytes)?;
                    }
                    ColumnBuilder::Struct(fields) => {
                        fields.append(&mut bytes)?;
                        all_read(bytes)?;
                    }
                }
                Ok(())
            }

            /// Adds an element or field, taking its bytes off the front of `bytes`.
            fn append_nested(&mut self, bytes: &mut &[u8]) -> Result<(), CodecError> {
                let len = match self {
                    $(ColumnBuilder::$name(_) => <$arrow as ArrowPrimitiveType>::Native::WIDTH,)*
                    ColumnBuilder::Boolean(_) => 1,
                    ColumnBuilder::Utf8(_) | ColumnBuilder::Binary(_) => read_varint(bytes)?,
                    ColumnBuilder::List(list) => return list.append(bytes),
                    ColumnBuilder::Struct(fields) => return fields.append(bytes),
                };
                self.append(take(bytes, len)?)
            }

            /// The column so far. The builder is empty afterwards.
            pub(super) fn finish(&mut self) -> Result<ArrayRef, CodecError> {
                Ok(match self {
                    $(ColumnBuilder::$name(builder) => Arc::new(builder.finish()),)*
                    ColumnBuilder::Boolean(builder) => Arc::new(builder.finish()),
                    ColumnBuilder::Utf8(builder) => Arc::new(builder.finish()),
                    ColumnBuilder::Binary(builder) => Arc::new(builder.finish()),
                    ColumnBuilder::List(list) => list.finish()?,
                    ColumnBuilder::Struct(fields) => fields.finish()?,
                })
            }
        }
    };
}
with_primitives!(define_builder);

fn all_read(rest: &[u8]) -> Result<(), CodecError> {
    if rest.is_empty() { Ok(()) } else { Err(CodecError::Corrupt("a nested value has bytes too many")) }
}

/// Stored bytes gave the array a form that its type forbids, such as NULL where there can be none.
const BAD_NESTED: CodecError = CodecError::Corrupt("a nested value does not fit its type");

impl ListBuilder {
    fn append_null(&mut self) {
        // The last offset was checked when it was added.
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        self.nulls.append_null();
    }

    fn append(&mut self, bytes: &mut &[u8]) -> Result<(), CodecError> {
        let count = read_varint(bytes)?;
        let bitmap = take(bytes, bitmap_len(count))?;
        self.element_count += count;
        let end = i32::try_from(self.element_count).map_err(|_| CodecError::TooLarge("a batch of lists"))?;
        for index in 0..count {
            if is_null(bitmap, index) {
                self.elements.append_null();
            } else {
                self.elements.append_nested(bytes)?;
            }
        }
        self.offsets.push(end);
        self.nulls.append_non_null();
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, CodecError> {
        self.element_count = 0;
        let elements = self.elements.finish()?;
        let offsets = OffsetBuffer::new(offsets(&mut self.offsets));
        let list = ListArray::try_new(self.field.clone(), offsets, elements, self.nulls.finish());
        Ok(Arc::new(list.map_err(|_| BAD_NESTED)?))
    }
}

impl StructBuilder {
    fn append_null(&mut self) {
        self.children.iter_mut().for_each(ColumnBuilder::append_null);
        self.nulls.append_null();
        self.len += 1;
    }

    fn append(&mut self, bytes: &mut &[u8]) -> Result<(), CodecError> {
        let bitmap = take(bytes, bitmap_len(self.children.len()))?;
        for (index, child) in self.children.iter_mut().enumerate() {
            if is_null(bitmap, index) {
                child.append_null();
            } else {
                child.append_nested(bytes)?;
            }
        }
        self.nulls.append_non_null();
        self.len += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, CodecError> {
        let children = self.children.iter_mut().map(ColumnBuilder::finish).collect::<Result<Vec<_>, _>>()?;
        let len = std::mem::take(&mut self.len);
        let array = StructArray::try_new_with_length(self.fields.clone(), children, self.nulls.finish(), len);
        Ok(Arc::new(array.map_err(|_| BAD_NESTED)?))
    }
}
