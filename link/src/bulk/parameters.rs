//! Parameters as one row of Arrow columns, as prepared statements of Flight SQL take them.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int64Array,
        IntervalMonthDayNanoArray, ListArray, NullArray, RecordBatch, StringArray, StructArray, Time64MicrosecondArray,
        TimestampMicrosecondArray, UInt64Array, new_null_array,
    },
    buffer::OffsetBuffer,
    compute::concat,
    datatypes::{DataType, Field, IntervalMonthDayNano, Schema},
};

use crate::{
    error::{Error, Result},
    value::Value,
};

/// What tells UUID and JSON from TEXT.
const TYPE_KEY: &str = "kalamdb.type";

/// One row with the values `$1`, `$2`, …, each in a column.
pub(super) fn row_of(values: &[Value]) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(values.len());
    let mut columns = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let column = array(value)?;
        fields.push(field(&format!("${}", index + 1), value, &column));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unfit)
}

fn field(name: &str, value: &Value, column: &ArrayRef) -> Field {
    let field = Field::new(name, column.data_type().clone(), true);
    let mark = match value {
        Value::Uuid(_) => "uuid",
        Value::Json(_) => "json",
        _ => return field,
    };
    field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), mark.to_owned())]))
}

/// The value as an array of one.
fn array(value: &Value) -> Result<ArrayRef> {
    Ok(match value {
        Value::Null => Arc::new(NullArray::new(1)),
        Value::Bool(value) => Arc::new(BooleanArray::from(vec![*value])),
        Value::Int(value) => Arc::new(Int64Array::from(vec![*value])),
        Value::UInt(value) => Arc::new(UInt64Array::from(vec![*value])),
        Value::Float(value) => Arc::new(Float32Array::from(vec![*value])),
        Value::Double(value) => Arc::new(Float64Array::from(vec![*value])),
        // As text it is exact, whatever its precision.
        Value::Decimal(value) | Value::Text(value) | Value::Json(value) => {
            Arc::new(StringArray::from(vec![value.as_str()]))
        }
        Value::Uuid(value) => Arc::new(StringArray::from(vec![value.to_string()])),
        Value::Bytes(value) => Arc::new(BinaryArray::from(vec![value.as_slice()])),
        Value::Date(value) => Arc::new(Date32Array::from(vec![*value])),
        Value::Time(value) => Arc::new(Time64MicrosecondArray::from(vec![*value])),
        Value::Timestamp(value) => Arc::new(TimestampMicrosecondArray::from(vec![*value])),
        Value::TimestampTz(value) => Arc::new(TimestampMicrosecondArray::from(vec![*value]).with_timezone("+00:00")),
        Value::Interval(value) => {
            let value = IntervalMonthDayNano::new(value.months, value.days, value.nanoseconds);
            Arc::new(IntervalMonthDayNanoArray::from(vec![value]))
        }
        Value::List(values) => list(values)?,
        Value::Struct(values) => {
            let columns = values.iter().map(array).collect::<Result<Vec<_>>>()?;
            let fields: Vec<Field> =
                values.iter().zip(&columns).enumerate().map(|(i, (v, c))| field(&format!("c{i}"), v, c)).collect();
            Arc::new(StructArray::try_new(fields.into(), columns, None).map_err(unfit)?)
        }
    })
}

fn list(values: &[Value]) -> Result<ArrayRef> {
    let elements = values.iter().map(array).collect::<Result<Vec<_>>>()?;
    let typed = elements.iter().position(|element| *element.data_type() != DataType::Null);
    let data_type = typed.map_or(DataType::Null, |at| elements[at].data_type().clone());
    let elements: Vec<ArrayRef> = elements
        .into_iter()
        .map(|element| if *element.data_type() == DataType::Null { new_null_array(&data_type, 1) } else { element })
        .collect();
    let item = match typed.and_then(|at| values.get(at).zip(elements.get(at))) {
        Some((value, element)) => field("item", value, element),
        None => Field::new("item", data_type.clone(), true),
    };
    let lengths = OffsetBuffer::from_lengths([elements.len()]);
    let all = if elements.is_empty() {
        new_null_array(&data_type, 0)
    } else {
        concat(&elements.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(unfit)?
    };
    Ok(Arc::new(ListArray::try_new(Arc::new(item), lengths, all, None).map_err(unfit)?))
}

/// Elements of a list that are of different types.
fn unfit(error: arrow::error::ArrowError) -> Error {
    Error::configuration(format!("a parameter cannot be sent: {error}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn each_value_is_a_column_of_its_type() {
        let list = Value::list(["a", "b"]);
        let values = [Value::Int(7), Value::Null, Value::Decimal("1.50".into()), list, Value::List(Vec::new())];
        let row = row_of(&values).unwrap();
        assert_eq!(row.num_rows(), 1);
        let types: Vec<&DataType> = row.columns().iter().map(|column| column.data_type()).collect();
        assert_eq!(types[..3], [&DataType::Int64, &DataType::Null, &DataType::Utf8]);
        assert_eq!(row.column(3).as_list::<i32>().value(0).as_string::<i32>().value(1), "b");
        assert!(row.column(4).as_list::<i32>().value(0).is_empty());
        assert_eq!(row.schema().field(4).name(), "$5");
    }

    #[test]
    fn lists_have_elements_of_one_type() {
        let some_null = Value::List(vec![Value::Null, Value::Int(1)]);
        let row = row_of(&[some_null]).unwrap();
        assert_eq!(row.column(0).as_list::<i32>().value(0).null_count(), 1);
        assert!(row_of(&[Value::List(vec![Value::Int(1), Value::Text("a".into())])]).is_err());
    }
}
