//! Values of parameters, from protobuf.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ListArray, StructArray, new_empty_array},
    buffer::OffsetBuffer,
    datatypes::{DataType, Decimal256Type, DecimalType, Field, Fields, IntervalMonthDayNano, i256},
};
use datafusion::common::ScalarValue;
use kalamdb_engine::{Error, Parameter, Reason, SqlType, StructField};
use kalamdb_proto::v1::{Value, value::Kind};

type Result<T> = std::result::Result<T, Error>;
type Checked<T> = std::result::Result<T, Problem>;

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;
const MAX_DECIMAL_DIGITS: usize = Decimal256Type::MAX_PRECISION as usize;

/// The parameters `$1`, `$2`, …
///
/// # Errors
/// INVALID_REQUEST or PARAMETER_TYPE_MISMATCH, naming the parameter.
pub(crate) fn to_parameters(values: Vec<Value>) -> Result<Vec<Parameter>> {
    let mut parameters = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        let number = i + 1;
        let problem = |problem: Problem| problem.into_error(number);
        let sql_type = type_of(&value).map_err(problem)?;
        let value = to_scalar(value, &sql_type).map_err(problem)?;
        parameters.push(Parameter { value, sql_type });
    }
    Ok(parameters)
}

/// What is wrong with a value.
struct Problem {
    reason: Reason,
    text: String,
}

impl Problem {
    fn invalid(text: impl Into<String>) -> Self {
        Self { reason: Reason::InvalidRequest, text: text.into() }
    }

    fn into_error(self, number: usize) -> Error {
        Error::new(self.reason, format!("Parameter ${number}: {}.", self.text)).with("parameter", format!("${number}"))
    }
}

/// The type that a value has by itself. The engine fits it to what the statement needs.
fn type_of(value: &Value) -> Checked<SqlType> {
    let Some(kind) = &value.kind else {
        return Err(Problem::invalid("it has no value; NULL is said with null_value"));
    };
    Ok(match kind {
        Kind::NullValue(_) => SqlType::Null,
        Kind::BoolValue(_) => SqlType::Boolean,
        Kind::IntValue(_) => SqlType::BigInt,
        Kind::UintValue(_) => SqlType::BigIntUnsigned,
        Kind::FloatValue(_) => SqlType::Real,
        Kind::DoubleValue(_) => SqlType::Double,
        Kind::DecimalValue(text) => decimal_type(text)?,
        Kind::TextValue(_) => SqlType::Text,
        Kind::BytesValue(_) => SqlType::Bytes,
        Kind::DateValue(_) => SqlType::Date,
        Kind::TimeValue(_) => SqlType::Time,
        Kind::TimestampValue(_) => SqlType::Timestamp,
        Kind::TimestamptzValue(_) => SqlType::TimestampTz,
        Kind::IntervalValue(_) => SqlType::Interval,
        Kind::UuidValue(_) => SqlType::Uuid,
        Kind::JsonValue(_) => SqlType::Json,
        Kind::ListValue(list) => {
            let mut element = SqlType::Null;
            for value in &list.values {
                element = common_type(element, type_of(value)?)?;
            }
            SqlType::List(Box::new(element))
        }
        Kind::StructValue(fields) => SqlType::Struct(
            fields
                .values
                .iter()
                .enumerate()
                .map(|(i, value)| Ok(StructField { name: format!("c{i}"), sql_type: type_of(value)? }))
                .collect::<Checked<_>>()?,
        ),
    })
}

/// The type of an array that has elements of both types.
fn common_type(a: SqlType, b: SqlType) -> Checked<SqlType> {
    Ok(match (a, b) {
        (SqlType::Null, other) | (other, SqlType::Null) => other,
        (SqlType::Decimal { precision: p1, scale: s1 }, SqlType::Decimal { precision: p2, scale: s2 }) => {
            let digits = |p: u8, s: i8| i16::from(p) - i16::from(s);
            let scale = s1.max(s2);
            let precision = digits(p1, s1).max(digits(p2, s2)) + i16::from(scale);
            match u8::try_from(precision) {
                Ok(precision) if usize::from(precision) <= MAX_DECIMAL_DIGITS => SqlType::Decimal { precision, scale },
                _ => return Err(Problem::invalid("the decimals of the list need more than 76 digits together")),
            }
        }
        (SqlType::List(a), SqlType::List(b)) => SqlType::List(Box::new(common_type(*a, *b)?)),
        (SqlType::Struct(a), SqlType::Struct(b)) if a.len() == b.len() => SqlType::Struct(
            a.into_iter()
                .zip(b)
                .map(|(a, b)| Ok(StructField { name: a.name, sql_type: common_type(a.sql_type, b.sql_type)? }))
                .collect::<Checked<_>>()?,
        ),
        (a, b) if a == b => a,
        (a, b) => {
            return Err(Problem {
                reason: Reason::ParameterTypeMismatch,
                text: format!("the elements of a list must be of one type; it has {a} and {b}"),
            });
        }
    })
}

fn to_scalar(value: Value, sql_type: &SqlType) -> Checked<ScalarValue> {
    let kind = match value.kind {
        None | Some(Kind::NullValue(_)) => return null_of(sql_type),
        Some(kind) => kind,
    };
    Ok(match kind {
        Kind::NullValue(_) => return null_of(sql_type),
        Kind::BoolValue(v) => ScalarValue::Boolean(Some(v)),
        Kind::IntValue(v) => ScalarValue::Int64(Some(v)),
        Kind::UintValue(v) => ScalarValue::UInt64(Some(v)),
        Kind::FloatValue(v) => ScalarValue::Float32(Some(v)),
        Kind::DoubleValue(v) => ScalarValue::Float64(Some(v)),
        Kind::DecimalValue(text) => decimal(&text, sql_type)?,
        Kind::TextValue(v) => ScalarValue::Utf8View(Some(v)),
        Kind::BytesValue(v) => ScalarValue::BinaryView(Some(v)),
        Kind::DateValue(v) => ScalarValue::Date32(Some(v)),
        Kind::TimeValue(v) if (0..DAY_US).contains(&v) => ScalarValue::Time64Microsecond(Some(v)),
        Kind::TimeValue(v) => {
            return Err(Problem::invalid(format!("time_value {v} is not within a day; it may be 0 to {}", DAY_US - 1)));
        }
        Kind::TimestampValue(v) => ScalarValue::TimestampMicrosecond(Some(v), None),
        Kind::TimestamptzValue(v) => ScalarValue::TimestampMicrosecond(Some(v), Some("+00:00".into())),
        Kind::IntervalValue(v) => {
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(v.months, v.days, v.nanoseconds)))
        }
        Kind::UuidValue(text) => match uuid::Uuid::try_parse(&text) {
            Ok(uuid) => ScalarValue::Utf8View(Some(uuid.to_string())),
            Err(_) => return Err(Problem::invalid("uuid_value is not a UUID")),
        },
        Kind::JsonValue(text) => match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
            Ok(_) => ScalarValue::Utf8View(Some(text)),
            Err(error) => return Err(Problem::invalid(format!("json_value is not JSON: {error}"))),
        },
        Kind::ListValue(list) => {
            let SqlType::List(element) = sql_type else { return Err(mismatched()) };
            let values = array(list.values, element)?;
            let field = Arc::new(element.to_field("item", true));
            let offsets = OffsetBuffer::from_lengths([values.len()]);
            let list = ListArray::try_new(field, offsets, values, None).map_err(|_| mismatched())?;
            ScalarValue::List(Arc::new(list))
        }
        Kind::StructValue(given) => {
            let SqlType::Struct(fields) = sql_type else { return Err(mismatched()) };
            let columns = given
                .values
                .into_iter()
                .zip(fields)
                .map(|(value, field)| array(vec![value], &field.sql_type))
                .collect::<Checked<Vec<ArrayRef>>>()?;
            let fields: Fields = fields.iter().map(|f| Field::clone(&f.sql_type.to_field(&f.name, true))).collect();
            let one = StructArray::try_new_with_length(fields, columns, None, 1).map_err(|_| mismatched())?;
            ScalarValue::Struct(Arc::new(one))
        }
    })
}

/// Values of one type as an array.
fn array(values: Vec<Value>, sql_type: &SqlType) -> Checked<ArrayRef> {
    if values.is_empty() {
        return Ok(new_empty_array(&sql_type.to_arrow()));
    }
    let scalars = values.into_iter().map(|value| to_scalar(value, sql_type)).collect::<Checked<Vec<_>>>()?;
    ScalarValue::iter_to_array(scalars).map_err(|_| mismatched())
}

fn null_of(sql_type: &SqlType) -> Checked<ScalarValue> {
    ScalarValue::try_new_null(&sql_type.to_arrow()).map_err(|_| mismatched())
}

fn mismatched() -> Problem {
    Problem::invalid("its parts do not fit together")
}

/// DECIMAL with as many digits as the text has.
fn decimal_type(text: &str) -> Checked<SqlType> {
    let invalid = || Problem::invalid("decimal_value is not a number in plain notation, such as -12.50");
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || whole.len() + fraction.len() == 0 {
        return Err(invalid());
    }
    let precision = (whole.trim_start_matches('0').len() + fraction.len()).max(1);
    if precision > MAX_DECIMAL_DIGITS {
        return Err(Problem::invalid(format!("decimal_value has {precision} digits; DECIMAL has at most 76")));
    }
    match (u8::try_from(precision), i8::try_from(fraction.len())) {
        (Ok(precision), Ok(scale)) => Ok(SqlType::Decimal { precision, scale }),
        _ => Err(invalid()),
    }
}

/// The number that a checked decimal text is, in a type with room for it.
fn decimal(text: &str, sql_type: &SqlType) -> Checked<ScalarValue> {
    let SqlType::Decimal { precision, scale } = *sql_type else { return Err(mismatched()) };
    let digits = text.strip_prefix('+').unwrap_or(text);
    let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let missing = usize::try_from(scale).unwrap_or_default().saturating_sub(fraction);
    let unscaled = format!("{}{}", digits.replace('.', ""), "0".repeat(missing));
    match sql_type.to_arrow() {
        DataType::Decimal128(..) => unscaled
            .parse()
            .map(|number| ScalarValue::Decimal128(Some(number), precision, scale))
            .map_err(|_| mismatched()),
        _ => i256::from_string(&unscaled)
            .map(|number| ScalarValue::Decimal256(Some(number), precision, scale))
            .ok_or_else(mismatched),
    }
}
