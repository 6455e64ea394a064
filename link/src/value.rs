//! SQL values, exact for every SQL type.

mod display;
mod from;
mod params;

pub use from::{ConversionError, FromValue};
pub use params::IntoParams;
use uuid::Uuid;

/// One SQL value.
///
/// Rust values convert with `From`; `i32` and smaller become [`Value::Int`], so a parameter of any integer type fits
/// any integer column that can hold it.
///
/// ```
/// use kalam_link::Value;
///
/// assert_eq!(Value::from(7i32), Value::Int(7));
/// assert_eq!(Value::from(None::<&str>), Value::Null);
/// assert_eq!(i64::try_from(&Value::Int(7)), Ok(7));
/// assert_eq!(Value::Timestamp(1_500_000).to_string(), "1970-01-01 00:00:01.5");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL NULL, of any type.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// SMALLINT, INT, BIGINT.
    Int(i64),
    /// SMALLINT UNSIGNED, INT UNSIGNED, BIGINT UNSIGNED.
    UInt(u64),
    /// REAL.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL, in plain decimal notation such as `-12.50`.
    Decimal(String),
    /// TEXT.
    Text(String),
    /// BYTES.
    Bytes(Vec<u8>),
    /// DATE: days since 1970-01-01.
    Date(i32),
    /// TIME: microseconds since midnight.
    Time(i64),
    /// TIMESTAMP without time zone: microseconds since 1970-01-01T00:00:00.
    Timestamp(i64),
    /// TIMESTAMP WITH TIME ZONE: microseconds since 1970-01-01T00:00:00Z.
    TimestampTz(i64),
    /// INTERVAL.
    Interval(Interval),
    /// UUID.
    Uuid(Uuid),
    /// JSON or JSONB: a JSON text.
    Json(String),
    /// An array.
    List(Vec<Value>),
    /// A struct: its fields in the order of its type.
    Struct(Vec<Value>),
}

/// A calendar interval. The three parts are independent and may have different signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Whole months; a year is twelve.
    pub months: i32,
    /// Whole days.
    pub days: i32,
    /// Time within the day.
    pub nanoseconds: i64,
}

impl Value {
    /// Whether this is SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// A list of values.
    ///
    /// ```
    /// use kalam_link::Value;
    ///
    /// assert_eq!(Value::list(["a", "b"]).to_string(), "[a, b]");
    /// ```
    pub fn list<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> Value {
        Value::List(values.into_iter().map(Into::into).collect())
    }

    /// What kind of value it is, for messages: `TEXT`, `BIGINT`, ….
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Bool(_) => "BOOLEAN",
            Value::Int(_) => "BIGINT",
            Value::UInt(_) => "BIGINT UNSIGNED",
            Value::Float(_) => "REAL",
            Value::Double(_) => "DOUBLE",
            Value::Decimal(_) => "DECIMAL",
            Value::Text(_) => "TEXT",
            Value::Bytes(_) => "BYTES",
            Value::Date(_) => "DATE",
            Value::Time(_) => "TIME",
            Value::Timestamp(_) => "TIMESTAMP",
            Value::TimestampTz(_) => "TIMESTAMP WITH TIME ZONE",
            Value::Interval(_) => "INTERVAL",
            Value::Uuid(_) => "UUID",
            Value::Json(_) => "JSON",
            Value::List(_) => "LIST",
            Value::Struct(_) => "STRUCT",
        }
    }
}

#[cfg(test)]
mod tests;
