//! Record batches as rows of typed values.
//!
//! Columns are converted one after the other, so that a column's type is looked at once for a batch and not once for
//! each value. Nested values likewise: a list's elements are converted as one column and then dealt out.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, PrimitiveArray,
        RecordBatch, StructArray,
    },
    compute::cast,
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
        Decimal256Type, DecimalType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
        DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time32MillisecondType,
        Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
        UInt64Type,
    },
    util::display::{ArrayFormatter, FormatOptions},
};
use kalamdb_engine::{Error, Reason, ResultColumn, SqlType};
use kalamdb_proto::v1::{Interval, ListValue, Row, StructValue, Value, value::Kind};
use pbjson_types::NullValue;

type Result<T> = std::result::Result<T, Error>;

/// The rows of a batch whose columns are `columns`.
///
/// # Errors
/// INVALID_VALUE when a timestamp of a coarse unit is outside the range of microseconds, INTERNAL when the batch and
/// the columns do not belong together.
pub(crate) fn to_rows(batch: &RecordBatch, columns: &[ResultColumn]) -> Result<Vec<Row>> {
    if batch.num_columns() != columns.len() {
        return Err(Error::internal("a batch does not have the columns of its result"));
    }
    let mut rows: Vec<Row> = Vec::with_capacity(batch.num_rows());
    rows.resize_with(batch.num_rows(), || Row { values: Vec::with_capacity(columns.len()) });
    for (array, column) in batch.columns().iter().zip(columns) {
        let mut row = rows.iter_mut();
        convert(array, &column.sql_type, |value| {
            if let Some(row) = row.next() {
                row.values.push(value);
            }
        })?;
    }
    Ok(rows)
}

const NULL: Value = Value { kind: Some(Kind::NullValue(NullValue::NullValue as i32)) };

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

/// Hands each value of `array` to `sink`, in order.
fn convert(array: &ArrayRef, sql_type: &SqlType, mut sink: impl FnMut(Value)) -> Result<()> {
    /// Values of a primitive array, each through a function that cannot fail.
    macro_rules! primitive {
        ($type:ty, $kind:expr) => {
            each(array.as_primitive::<$type>(), $kind, sink)
        };
    }
    /// Values of a text or bytes array.
    macro_rules! each_of {
        ($array:expr, $kind:expr) => {{
            let kind = $kind;
            for item in $array.iter() {
                sink(item.map_or(NULL, |item| value(kind(item))));
            }
        }};
    }
    macro_rules! texts {
        ($array:expr) => {
            match sql_type {
                SqlType::Uuid => each_of!($array, |text: &str| Kind::UuidValue(text.to_owned())),
                SqlType::Json => each_of!($array, |text: &str| Kind::JsonValue(text.to_owned())),
                _ => each_of!($array, |text: &str| Kind::TextValue(text.to_owned())),
            }
        };
    }

    match array.data_type() {
        DataType::Null => (0..array.len()).for_each(|_| sink(NULL)),
        DataType::Boolean => each_of!(array.as_boolean(), Kind::BoolValue),
        DataType::Int8 => primitive!(Int8Type, |v| Kind::IntValue(v.into())),
        DataType::Int16 => primitive!(Int16Type, |v| Kind::IntValue(v.into())),
        DataType::Int32 => primitive!(Int32Type, |v| Kind::IntValue(v.into())),
        DataType::Int64 => primitive!(Int64Type, Kind::IntValue),
        DataType::UInt8 => primitive!(UInt8Type, |v| Kind::UintValue(v.into())),
        DataType::UInt16 => primitive!(UInt16Type, |v| Kind::UintValue(v.into())),
        DataType::UInt32 => primitive!(UInt32Type, |v| Kind::UintValue(v.into())),
        DataType::UInt64 => primitive!(UInt64Type, Kind::UintValue),
        DataType::Float16 => primitive!(Float16Type, |v| Kind::FloatValue(v.to_f32())),
        DataType::Float32 => primitive!(Float32Type, Kind::FloatValue),
        DataType::Float64 => primitive!(Float64Type, Kind::DoubleValue),
        DataType::Decimal32(p, s) => decimals::<Decimal32Type>(array, *p, *s, sink),
        DataType::Decimal64(p, s) => decimals::<Decimal64Type>(array, *p, *s, sink),
        DataType::Decimal128(p, s) => decimals::<Decimal128Type>(array, *p, *s, sink),
        DataType::Decimal256(p, s) => decimals::<Decimal256Type>(array, *p, *s, sink),
        DataType::Utf8 => texts!(array.as_string::<i32>()),
        DataType::LargeUtf8 => texts!(array.as_string::<i64>()),
        DataType::Utf8View => texts!(array.as_string_view()),
        DataType::Binary => each_of!(array.as_binary::<i32>(), |v: &[u8]| Kind::BytesValue(v.to_vec())),
        DataType::LargeBinary => each_of!(array.as_binary::<i64>(), |v: &[u8]| Kind::BytesValue(v.to_vec())),
        DataType::BinaryView => each_of!(array.as_binary_view(), |v: &[u8]| Kind::BytesValue(v.to_vec())),
        DataType::FixedSizeBinary(_) => {
            each_of!(array.as_fixed_size_binary(), |v: &[u8]| Kind::BytesValue(v.to_vec()))
        }
        DataType::Date32 => primitive!(Date32Type, Kind::DateValue),
        DataType::Date64 => {
            const DAY_MS: i64 = 24 * 60 * 60 * 1000;
            primitive!(Date64Type, |ms: i64| {
                let days = ms.div_euclid(DAY_MS);
                Kind::DateValue(i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX }))
            });
        }
        DataType::Time32(TimeUnit::Second) => {
            primitive!(Time32SecondType, |v| Kind::TimeValue(i64::from(v) * 1_000_000))
        }
        DataType::Time32(_) => primitive!(Time32MillisecondType, |v| Kind::TimeValue(i64::from(v) * 1_000)),
        DataType::Time64(TimeUnit::Nanosecond) => primitive!(Time64NanosecondType, |v| Kind::TimeValue(v / 1_000)),
        DataType::Time64(_) => primitive!(Time64MicrosecondType, Kind::TimeValue),
        DataType::Timestamp(unit, zone) => timestamps(array, *unit, zone.is_some(), sink)?,
        DataType::Duration(unit) => match unit {
            TimeUnit::Second => primitive!(DurationSecondType, Kind::IntValue),
            TimeUnit::Millisecond => primitive!(DurationMillisecondType, Kind::IntValue),
            TimeUnit::Microsecond => primitive!(DurationMicrosecondType, Kind::IntValue),
            TimeUnit::Nanosecond => primitive!(DurationNanosecondType, Kind::IntValue),
        },
        DataType::Interval(IntervalUnit::YearMonth) => {
            primitive!(IntervalYearMonthType, |months| interval(months, 0, 0));
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            primitive!(IntervalDayTimeType, |v| interval(0, v.days, i64::from(v.milliseconds) * 1_000_000));
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            primitive!(IntervalMonthDayNanoType, |v| interval(v.months, v.days, v.nanoseconds));
        }
        DataType::List(_) => lists(array.as_list::<i32>(), sql_type, sink)?,
        DataType::LargeList(_) => lists(array.as_list::<i64>(), sql_type, sink)?,
        DataType::FixedSizeList(..) => fixed_size_lists(array.as_fixed_size_list(), sql_type, sink)?,
        DataType::Map(..) => maps(array.as_map(), sql_type, sink)?,
        DataType::Struct(_) => structs(array.as_struct(), sql_type, sink)?,
        DataType::Dictionary(_, plain) => convert_as(array, plain, sql_type, sink)?,
        DataType::RunEndEncoded(_, plain) => convert_as(array, plain.data_type(), sql_type, sink)?,
        DataType::ListView(field) => convert_as(array, &DataType::List(field.clone()), sql_type, sink)?,
        DataType::LargeListView(field) => convert_as(array, &DataType::LargeList(field.clone()), sql_type, sink)?,
        DataType::Union(..) => formatted(array, sink)?,
    }
    Ok(())
}

/// The values of `array` as a column of their own: not generic, which ends the recursion of `convert`'s types.
fn converted(array: &ArrayRef, sql_type: &SqlType) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(array.len());
    convert(array, sql_type, |value| values.push(value))?;
    Ok(values)
}

fn each<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    kind: impl Fn(T::Native) -> Kind,
    mut sink: impl FnMut(Value),
) {
    if array.null_count() == 0 {
        array.values().iter().for_each(|item| sink(value(kind(*item))));
    } else {
        array.iter().for_each(|item| sink(item.map_or(NULL, |item| value(kind(item)))));
    }
}

fn decimals<T: DecimalType + ArrowPrimitiveType>(array: &ArrayRef, precision: u8, scale: i8, sink: impl FnMut(Value)) {
    each(array.as_primitive::<T>(), |v| Kind::DecimalValue(T::format_decimal(v, precision, scale)), sink);
}

fn interval(months: i32, days: i32, nanoseconds: i64) -> Kind {
    Kind::IntervalValue(Interval { months, days, nanoseconds })
}

fn timestamps(array: &ArrayRef, unit: TimeUnit, with_zone: bool, sink: impl FnMut(Value)) -> Result<()> {
    let kind = if with_zone { Kind::TimestamptzValue } else { Kind::TimestampValue };
    match unit {
        TimeUnit::Microsecond => each(array.as_primitive::<TimestampMicrosecondType>(), kind, sink),
        TimeUnit::Nanosecond => {
            each(array.as_primitive::<TimestampNanosecondType>(), |ns| kind(ns.div_euclid(1_000)), sink);
        }
        TimeUnit::Millisecond => scaled(array.as_primitive::<TimestampMillisecondType>(), 1_000, kind, sink)?,
        TimeUnit::Second => scaled(array.as_primitive::<TimestampSecondType>(), 1_000_000, kind, sink)?,
    }
    Ok(())
}

fn scaled<T: ArrowPrimitiveType<Native = i64>>(
    array: &PrimitiveArray<T>,
    factor: i64,
    kind: impl Fn(i64) -> Kind,
    mut sink: impl FnMut(Value),
) -> Result<()> {
    for item in array {
        let Some(item) = item else {
            sink(NULL);
            continue;
        };
        let us = item.checked_mul(factor).ok_or_else(|| {
            Error::new(Reason::InvalidValue, "A timestamp of the result is outside the range of TIMESTAMP.")
        })?;
        sink(value(kind(us)));
    }
    Ok(())
}

fn lists<O: OffsetSizeTrait>(array: &GenericListArray<O>, sql_type: &SqlType, sink: impl FnMut(Value)) -> Result<()> {
    let offsets = array.offsets();
    let (first, last) = (offsets.first().map_or(0, |o| o.as_usize()), offsets.last().map_or(0, |o| o.as_usize()));
    let elements = array.values().slice(first, last.saturating_sub(first));
    let lengths = offsets.windows(2).map(|pair| match pair {
        [from, to] => to.as_usize().saturating_sub(from.as_usize()),
        _ => 0,
    });
    deal(converted(&elements, element_type(sql_type))?, lengths, |i| array.is_null(i), sink);
    Ok(())
}

fn fixed_size_lists(array: &FixedSizeListArray, sql_type: &SqlType, sink: impl FnMut(Value)) -> Result<()> {
    let length = usize::try_from(array.value_length()).unwrap_or_default();
    let elements = converted(array.values(), element_type(sql_type))?;
    deal(elements, std::iter::repeat_n(length, array.len()), |i| array.is_null(i), sink);
    Ok(())
}

fn maps(array: &MapArray, sql_type: &SqlType, sink: impl FnMut(Value)) -> Result<()> {
    let offsets = array.value_offsets();
    let bound = |offset: Option<&i32>| offset.and_then(|offset| usize::try_from(*offset).ok()).unwrap_or_default();
    let (first, last) = (bound(offsets.first()), bound(offsets.last()));
    let entries: ArrayRef = std::sync::Arc::new(array.entries().slice(first, last.saturating_sub(first)));
    let lengths = offsets.windows(2).map(|pair| bound(pair.get(1)).saturating_sub(bound(pair.first())));
    deal(converted(&entries, element_type(sql_type))?, lengths, |i| array.is_null(i), sink);
    Ok(())
}

/// Deals elements out to lists of the given lengths. The elements of a NULL list are passed over.
fn deal(
    elements: Vec<Value>,
    lengths: impl Iterator<Item = usize>,
    is_null: impl Fn(usize) -> bool,
    mut sink: impl FnMut(Value),
) {
    let mut elements = elements.into_iter();
    for (i, length) in lengths.enumerate() {
        let values = elements.by_ref().take(length).collect();
        sink(if is_null(i) { NULL } else { value(Kind::ListValue(ListValue { values })) });
    }
}

fn element_type(sql_type: &SqlType) -> &SqlType {
    match sql_type {
        SqlType::List(element) => element,
        other => other,
    }
}

fn structs(array: &StructArray, sql_type: &SqlType, mut sink: impl FnMut(Value)) -> Result<()> {
    let mut fields = Vec::with_capacity(array.num_columns());
    for (i, (column, field)) in array.columns().iter().zip(array.fields()).enumerate() {
        let inferred;
        let field_type = match sql_type {
            SqlType::Struct(fields) if fields.len() == array.num_columns() => &fields[i].sql_type,
            _ => {
                inferred = SqlType::from_field(field);
                &inferred
            }
        };
        fields.push(converted(column, field_type)?.into_iter());
    }
    for i in 0..array.len() {
        let values = fields.iter_mut().map(|field| field.next().unwrap_or(NULL)).collect();
        sink(if array.is_null(i) { NULL } else { value(Kind::StructValue(StructValue { values })) });
    }
    Ok(())
}

/// The values of an encoded array, decoded first.
fn convert_as(array: &ArrayRef, plain: &DataType, sql_type: &SqlType, mut sink: impl FnMut(Value)) -> Result<()> {
    let decoded = cast(array, plain).map_err(Error::internal)?;
    converted(&decoded, sql_type)?.into_iter().for_each(&mut sink);
    Ok(())
}

/// The values of an array that has no SQL type, as texts.
fn formatted(array: &ArrayRef, mut sink: impl FnMut(Value)) -> Result<()> {
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default()).map_err(Error::internal)?;
    for i in 0..array.len() {
        if array.is_null(i) {
            sink(NULL);
        } else {
            let text = formatter.value(i).try_to_string().map_err(Error::internal)?;
            sink(value(Kind::TextValue(text)));
        }
    }
    Ok(())
}
