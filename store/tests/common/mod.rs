//! Random columns of every type that can be stored.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use kalamdb_store::codec::{LayoutColumn, RowLayout};
use kalamdb_store::ids::ColumnId;
use proptest::prelude::*;

/// A layout of these columns, with the ids 0, 3, 6, …
pub(crate) fn layout_of(columns: &[ArrayRef]) -> RowLayout {
    let column = |(at, array): (usize, &ArrayRef)| LayoutColumn {
        id: ColumnId::new(at as u16 * 3),
        data_type: array.data_type().clone(),
    };
    RowLayout::new(columns.iter().enumerate().map(column).collect()).unwrap()
}

/// Any type that can be stored, nested up to three deep.
pub(crate) fn any_type() -> impl Strategy<Value = DataType> {
    let flat = prop::sample::select(vec![
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(38, 10),
        DataType::Decimal128(5, -2),
        DataType::Decimal256(76, 0),
        DataType::Utf8View,
        DataType::Utf8View,
        DataType::BinaryView,
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        DataType::Interval(IntervalUnit::MonthDayNano),
    ]);
    flat.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|element| DataType::List(Arc::new(Field::new("item", element, true)))),
            prop::collection::vec(inner, 0..4).prop_map(|types| {
                let field = |(at, data_type)| Field::new(format!("f{at}"), data_type, true);
                DataType::Struct(types.into_iter().enumerate().map(field).collect())
            }),
        ]
    })
}

/// A column of `len` random values of `data_type`, some of them NULL.
pub(crate) fn any_column(data_type: DataType, len: usize) -> BoxedStrategy<ArrayRef> {
    fn primitive<T: ArrowPrimitiveType>(
        data_type: &DataType,
        len: usize,
        value: impl Strategy<Value = T::Native> + 'static,
    ) -> BoxedStrategy<ArrayRef> {
        let data_type = data_type.clone();
        let values = prop::collection::vec(prop::option::weighted(0.8, value), len);
        values
            .prop_map(move |values| {
                Arc::new(PrimitiveArray::<T>::from_iter(values).with_data_type(data_type.clone())) as ArrayRef
            })
            .boxed()
    }
    let nulls = prop::collection::vec(prop::bool::weighted(0.8), len);
    match &data_type {
        DataType::Boolean => prop::collection::vec(prop::option::of(any::<bool>()), len)
            .prop_map(|values| Arc::new(BooleanArray::from(values)) as ArrayRef)
            .boxed(),
        DataType::Int16 => primitive::<Int16Type>(&data_type, len, any::<i16>()),
        DataType::Int32 => primitive::<Int32Type>(&data_type, len, any::<i32>()),
        DataType::Int64 => primitive::<Int64Type>(&data_type, len, any::<i64>()),
        DataType::UInt16 => primitive::<UInt16Type>(&data_type, len, any::<u16>()),
        DataType::UInt32 => primitive::<UInt32Type>(&data_type, len, any::<u32>()),
        DataType::UInt64 => primitive::<UInt64Type>(&data_type, len, any::<u64>()),
        DataType::Float32 => primitive::<Float32Type>(&data_type, len, any::<f32>()),
        DataType::Float64 => primitive::<Float64Type>(&data_type, len, any::<f64>()),
        DataType::Decimal128(_, _) => primitive::<Decimal128Type>(&data_type, len, any::<i128>()),
        DataType::Decimal256(_, _) => primitive::<Decimal256Type>(
            &data_type,
            len,
            (any::<u128>(), any::<i128>()).prop_map(|(low, high)| i256::from_parts(low, high)),
        ),
        DataType::Date32 => primitive::<Date32Type>(&data_type, len, any::<i32>()),
        DataType::Time64(_) => primitive::<Time64MicrosecondType>(&data_type, len, any::<i64>()),
        DataType::Timestamp(..) => primitive::<TimestampMicrosecondType>(&data_type, len, any::<i64>()),
        DataType::Interval(_) => primitive::<IntervalMonthDayNanoType>(
            &data_type,
            len,
            (any::<i32>(), any::<i32>(), any::<i64>())
                .prop_map(|(months, days, nanoseconds)| IntervalMonthDayNano::new(months, days, nanoseconds)),
        ),
        DataType::Utf8View => prop::collection::vec(prop::option::weighted(0.8, "(\\PC|\0){0,40}"), len)
            .prop_map(|values| Arc::new(StringViewArray::from_iter(values)) as ArrayRef)
            .boxed(),
        DataType::BinaryView => {
            prop::collection::vec(prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..40)), len)
                .prop_map(|values| Arc::new(BinaryViewArray::from_iter(values)) as ArrayRef)
                .boxed()
        }
        DataType::List(element) => {
            let element = element.clone();
            (prop::collection::vec(0..5_usize, len), nulls)
                .prop_flat_map(move |(mut lengths, valid)| {
                    // A NULL list has no elements: what an array hides under a NULL is not stored.
                    for (length, valid) in lengths.iter_mut().zip(&valid) {
                        *length *= usize::from(*valid);
                    }
                    let elements = any_column(element.data_type().clone(), lengths.iter().sum());
                    let element = element.clone();
                    elements.prop_map(move |elements| {
                        let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
                        let nulls = Some(NullBuffer::from(valid.clone())).filter(|nulls| nulls.null_count() > 0);
                        Arc::new(ListArray::new(element.clone(), offsets, elements, nulls)) as ArrayRef
                    })
                })
                .boxed()
        }
        DataType::Struct(fields) => {
            let fields = fields.clone();
            let children: Vec<_> = fields.iter().map(|field| any_column(field.data_type().clone(), len)).collect();
            (children, nulls)
                .prop_map(move |(children, valid)| {
                    let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
                    let len = len;
                    let array = StructArray::try_new_with_length(fields.clone(), children, nulls, len).unwrap();
                    Arc::new(array) as ArrayRef
                })
                .boxed()
        }
        other => panic!("no strategy for {other}"),
    }
}
