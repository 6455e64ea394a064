//! Arrow record batches as rows of typed values.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{
        DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
        Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, Schema, Time64MicrosecondType, TimeUnit,
        TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};

use crate::{
    column::{Column, Columns, SqlType},
    error::{Error, Result},
    row::Rows,
    value::{Interval, Value},
};

/// Key of a column's metadata that tells UUID and JSON from TEXT.
const TYPE_METADATA_KEY: &str = "kalamdb.type";

impl Columns {
    /// The columns that an Arrow schema describes; those of other types than KalamDB's get the nearest one.
    pub fn from_arrow(schema: &Schema) -> Columns {
        schema.fields().iter().map(|field| column(field)).collect::<Vec<_>>().into()
    }
}

impl Rows {
    /// The rows of an Arrow record batch, such as [`BulkRows`](crate::BulkRows) delivers.
    ///
    /// # Errors
    /// When a column is of a type that is none of KalamDB's, or its texts are not what its type says.
    pub fn from_arrow(columns: &Arc<Columns>, batch: &RecordBatch) -> Result<Rows> {
        let mut read = Vec::with_capacity(batch.num_columns());
        for (array, column) in batch.columns().iter().zip(columns.iter()) {
            read.push(values(array, &column.sql_type)?.into_iter());
        }
        let rows =
            (0..batch.num_rows()).map(|_| read.iter_mut().map(|values| values.next().unwrap_or(Value::Null)).collect());
        let rows = rows.collect();
        Rows::from_values(Arc::clone(columns), rows).map_err(|error| Error::protocol(error.to_string()))
    }
}

fn column(field: &Field) -> Column {
    Column { name: field.name().clone(), sql_type: sql_type(field), nullable: field.is_nullable() }
}

fn sql_type(field: &Field) -> SqlType {
    match field.metadata().get(TYPE_METADATA_KEY).map(String::as_str) {
        Some("uuid") => return SqlType::Uuid,
        Some("json") => return SqlType::Json,
        _ => {}
    }
    match field.data_type() {
        DataType::Null => SqlType::Null,
        DataType::Boolean => SqlType::Boolean,
        DataType::Int8 | DataType::Int16 => SqlType::SmallInt,
        DataType::Int32 => SqlType::Int,
        DataType::Int64 => SqlType::BigInt,
        DataType::UInt8 | DataType::UInt16 => SqlType::SmallIntUnsigned,
        DataType::UInt32 => SqlType::IntUnsigned,
        DataType::UInt64 => SqlType::BigIntUnsigned,
        DataType::Float16 | DataType::Float32 => SqlType::Real,
        DataType::Float64 => SqlType::Double,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            SqlType::Decimal { precision: u32::from(*precision), scale: i32::from(*scale) }
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            SqlType::Bytes
        }
        DataType::Date32 | DataType::Date64 => SqlType::Date,
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
        DataType::Timestamp(_, None) => SqlType::Timestamp,
        DataType::Timestamp(_, Some(_)) => SqlType::TimestampTz,
        DataType::Interval(_) => SqlType::Interval,
        DataType::List(element) => SqlType::List(Box::new(sql_type(element))),
        DataType::Struct(fields) => SqlType::Struct(fields.iter().map(|field| column(field)).collect()),
        _ => SqlType::Unknown,
    }
}

/// The values of an array.
fn values(array: &ArrayRef, sql_type: &SqlType) -> Result<Vec<Value>> {
    macro_rules! each {
        ($values:expr, $value:expr) => {
            $values.iter().map(|value| value.map_or(Value::Null, $value)).collect()
        };
    }
    macro_rules! primitive {
        ($array_type:ty, $value:expr) => {
            each!(array.as_primitive::<$array_type>(), $value)
        };
    }
    Ok(match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => each!(array.as_boolean(), Value::Bool),
        DataType::Int8 => primitive!(Int8Type, |v| Value::Int(i64::from(v))),
        DataType::Int16 => primitive!(Int16Type, |v| Value::Int(i64::from(v))),
        DataType::Int32 => primitive!(Int32Type, |v| Value::Int(i64::from(v))),
        DataType::Int64 => primitive!(Int64Type, Value::Int),
        DataType::UInt8 => primitive!(UInt8Type, |v| Value::UInt(u64::from(v))),
        DataType::UInt16 => primitive!(UInt16Type, |v| Value::UInt(u64::from(v))),
        DataType::UInt32 => primitive!(UInt32Type, |v| Value::UInt(u64::from(v))),
        DataType::UInt64 => primitive!(UInt64Type, Value::UInt),
        DataType::Float32 => primitive!(Float32Type, Value::Float),
        DataType::Float64 => primitive!(Float64Type, Value::Double),
        DataType::Decimal128(..) => {
            let decimals = array.as_primitive::<Decimal128Type>();
            let text = |row| Value::Decimal(decimals.value_as_string(row));
            (0..array.len()).map(|row| if decimals.is_null(row) { Value::Null } else { text(row) }).collect()
        }
        DataType::Decimal256(..) => {
            let decimals = array.as_primitive::<Decimal256Type>();
            let text = |row| Value::Decimal(decimals.value_as_string(row));
            (0..array.len()).map(|row| if decimals.is_null(row) { Value::Null } else { text(row) }).collect()
        }
        DataType::Utf8 => {
            let texts = array.as_string::<i32>().iter();
            texts.map(|text| text.map_or(Ok(Value::Null), |text| of_text(text, sql_type))).collect::<Result<_>>()?
        }
        DataType::Binary => each!(array.as_binary::<i32>(), |v| Value::Bytes(v.to_vec())),
        DataType::Date32 => primitive!(Date32Type, Value::Date),
        DataType::Time64(TimeUnit::Microsecond) => primitive!(Time64MicrosecondType, Value::Time),
        DataType::Timestamp(TimeUnit::Microsecond, None) => primitive!(TimestampMicrosecondType, Value::Timestamp),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => primitive!(TimestampMicrosecondType, Value::TimestampTz),
        DataType::Interval(IntervalUnit::MonthDayNano) => primitive!(IntervalMonthDayNanoType, |v| {
            Value::Interval(Interval { months: v.months, days: v.days, nanoseconds: v.nanoseconds })
        }),
        DataType::List(_) => {
            let SqlType::List(element) = sql_type else { return Err(unknown(array.data_type())) };
            let lists = array.as_list::<i32>();
            let lists = lists.iter().map(|list| match list {
                Some(list) => values(&list, element).map(Value::List),
                None => Ok(Value::Null),
            });
            lists.collect::<Result<_>>()?
        }
        DataType::Struct(_) => {
            let SqlType::Struct(fields) = sql_type else { return Err(unknown(array.data_type())) };
            let parts = array.as_struct();
            let mut read = Vec::with_capacity(fields.len());
            for (part, field) in parts.columns().iter().zip(fields) {
                read.push(values(part, &field.sql_type)?.into_iter());
            }
            let row = |read: &mut Vec<std::vec::IntoIter<Value>>| {
                read.iter_mut().map(|values| values.next().unwrap_or(Value::Null)).collect()
            };
            (0..array.len())
                .map(|index| {
                    let values = row(&mut read);
                    if parts.is_null(index) { Value::Null } else { Value::Struct(values) }
                })
                .collect()
        }
        other => {
            let plain = plain(other).ok_or_else(|| unknown(other))?;
            let cast = cast(array, &plain).map_err(|error| Error::protocol(format!("Arrow data: {error}")))?;
            return values(&cast, sql_type);
        }
    })
}

/// One of the types that [`values`] reads, for another with the same values.
fn plain(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        _ => return None,
    })
}

fn of_text(text: &str, sql_type: &SqlType) -> Result<Value> {
    match sql_type {
        SqlType::Json => Ok(Value::Json(text.to_owned())),
        SqlType::Uuid => {
            let uuid = text.parse().map_err(|error| Error::protocol(format!("'{text}' is no UUID: {error}")))?;
            Ok(Value::Uuid(uuid))
        }
        _ => Ok(Value::Text(text.to_owned())),
    }
}

fn unknown(data_type: &DataType) -> Error {
    Error::protocol(format!("rows with columns of the Arrow type {data_type} cannot be read as values"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::{Int64Array, ListBuilder, StringArray, StringBuilder};

    use super::*;

    #[test]
    fn batches_are_rows_of_values() {
        let uuid = "0198c0de-0000-7000-8000-000000000001";
        let mark = HashMap::from([(TYPE_METADATA_KEY.to_owned(), "uuid".to_owned())]);
        let mut tags = ListBuilder::new(StringBuilder::new());
        tags.append_value([Some("a"), None]);
        tags.append_null();
        let tags = tags.finish();
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("u", DataType::Utf8, true).with_metadata(mark),
            Field::new("tags", tags.data_type().clone(), true),
        ]));
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![i64::MAX, 2])),
            Arc::new(StringArray::from(vec![Some(uuid), None])),
            Arc::new(tags),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
        let columns = Arc::new(Columns::from_arrow(&schema));
        assert_eq!(columns[1].sql_type, SqlType::Uuid);
        assert_eq!(columns[2].sql_type, SqlType::List(Box::new(SqlType::Text)));
        let rows = Rows::from_arrow(&columns, &batch).unwrap();
        let list = Value::List(vec![Value::Text("a".to_owned()), Value::Null]);
        assert_eq!(rows.get(0).unwrap().values(), [Value::Int(i64::MAX), Value::Uuid(uuid.parse().unwrap()), list]);
        assert_eq!(rows.get(1).unwrap().values(), [Value::Int(2), Value::Null, Value::Null]);
    }
}
