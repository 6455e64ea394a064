//! Conversions between Rust types and [`Value`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::{Interval, Value};

/// A value or a result is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// The value is of another type.
    #[error("a value of type {found} is not a {expected}")]
    Type {
        /// The Rust type asked for.
        expected: &'static str,
        /// The SQL type found.
        found: &'static str,
    },
    /// The number does not fit the Rust type.
    #[error("{value} does not fit into {expected}")]
    Range {
        /// The Rust type asked for.
        expected: &'static str,
        /// The number found.
        value: String,
    },
    /// The result has no column of that name or position.
    #[error("there is no column {column}; the columns are: {columns}")]
    NoSuchColumn {
        /// What was asked for.
        column: String,
        /// The columns there are.
        columns: String,
    },
    /// A conversion that failed, with its column.
    #[error("column {column}: {source}")]
    Column {
        /// Name of the column.
        column: String,
        /// What is wrong with its value.
        source: Box<ConversionError>,
    },
    /// One row was asked for.
    #[error("exactly one row was expected, {found} were returned")]
    NotOneRow {
        /// Number of rows there are.
        found: usize,
    },
    /// A row has not as many values as there are columns.
    #[error("a row has {found} values for {expected} columns")]
    RowWidth {
        /// Number of values.
        found: usize,
        /// Number of columns.
        expected: usize,
    },
    /// One statement was expected.
    #[error("exactly one statement was expected, {found} results were returned")]
    NotOneStatement {
        /// Number of results there are.
        found: usize,
    },
}

/// A Rust type that a [`Value`] can be read as.
///
/// `Option<T>` reads NULL as `None`; any other type refuses it.
pub trait FromValue<'a>: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// [`ConversionError::Type`] and [`ConversionError::Range`].
    fn from_value(value: &'a Value) -> Result<Self, ConversionError>;
}

fn mismatch(expected: &'static str, value: &Value) -> ConversionError {
    ConversionError::Type { expected, found: value.type_name() }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Option<T> {
    fn from_value(value: &'a Value) -> Result<Self, ConversionError> {
        if value.is_null() { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

impl<'a> FromValue<'a> for &'a Value {
    fn from_value(value: &'a Value) -> Result<Self, ConversionError> {
        Ok(value)
    }
}

impl FromValue<'_> for Value {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        Ok(value.clone())
    }
}

impl<'a> FromValue<'a> for &'a str {
    fn from_value(value: &'a Value) -> Result<Self, ConversionError> {
        match value {
            Value::Text(text) | Value::Json(text) | Value::Decimal(text) => Ok(text),
            other => Err(mismatch("&str", other)),
        }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    fn from_value(value: &'a Value) -> Result<Self, ConversionError> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(mismatch("&[u8]", other)),
        }
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    fn from_value(value: &'a Value) -> Result<Self, ConversionError> {
        match value {
            Value::List(values) => values.iter().map(T::from_value).collect(),
            other => Err(mismatch("Vec", other)),
        }
    }
}

macro_rules! from_value {
    ($($type:ty: $pattern:pat => $result:expr;)*) => {$(
        impl FromValue<'_> for $type {
            fn from_value(value: &Value) -> Result<Self, ConversionError> {
                match value {
                    $pattern => $result,
                    other => Err(mismatch(stringify!($type), other)),
                }
            }
        }
    )*};
}

from_value! {
    bool: Value::Bool(value) => Ok(*value);
    f32: Value::Float(value) => Ok(*value);
    Uuid: Value::Uuid(value) => Ok(*value);
    Interval: Value::Interval(value) => Ok(*value);
    String: Value::Text(value) | Value::Json(value) | Value::Decimal(value) => Ok(value.clone());
    SystemTime: Value::TimestampTz(micros) | Value::Timestamp(micros) => system_time(*micros);
}

impl FromValue<'_> for f64 {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        match value {
            Value::Double(value) => Ok(*value),
            Value::Float(value) => Ok(f64::from(*value)),
            other => Err(mismatch("f64", other)),
        }
    }
}

/// Integers read integers of either sign that fit.
macro_rules! integers {
    ($($type:ty => $variant:ident($wide:ty);)*) => {$(
        impl FromValue<'_> for $type {
            fn from_value(value: &Value) -> Result<Self, ConversionError> {
                let fitted = match value {
                    Value::Int(number) => <$type>::try_from(*number).ok(),
                    Value::UInt(number) => <$type>::try_from(*number).ok(),
                    other => return Err(mismatch(stringify!($type), other)),
                };
                fitted.ok_or_else(|| ConversionError::Range { expected: stringify!($type), value: value.to_string() })
            }
        }

        impl From<$type> for Value {
            fn from(value: $type) -> Value {
                Value::$variant(<$wide>::from(value))
            }
        }
    )*};
}

integers! {
    i8 => Int(i64);
    i16 => Int(i64);
    i32 => Int(i64);
    i64 => Int(i64);
    u8 => UInt(u64);
    u16 => UInt(u64);
    u32 => UInt(u64);
    u64 => UInt(u64);
}

impl FromValue<'_> for usize {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let number = u64::from_value(value)?;
        usize::try_from(number).map_err(|_| ConversionError::Range { expected: "usize", value: number.to_string() })
    }
}

/// Whatever can be read from a borrowed value also converts with `TryFrom`.
macro_rules! try_from_value {
    ($($type:ty)*) => {$(
        impl TryFrom<&Value> for $type {
            type Error = ConversionError;

            fn try_from(value: &Value) -> Result<Self, ConversionError> {
                Self::from_value(value)
            }
        }

        impl TryFrom<Value> for $type {
            type Error = ConversionError;

            fn try_from(value: Value) -> Result<Self, ConversionError> {
                Self::from_value(&value)
            }
        }
    )*};
}

try_from_value! { bool i8 i16 i32 i64 u8 u16 u32 u64 usize f32 f64 Uuid Interval SystemTime }

impl TryFrom<Value> for String {
    type Error = ConversionError;

    fn try_from(value: Value) -> Result<Self, ConversionError> {
        match value {
            Value::Text(text) | Value::Json(text) | Value::Decimal(text) => Ok(text),
            other => Err(mismatch("String", &other)),
        }
    }
}

impl TryFrom<Value> for Vec<u8> {
    type Error = ConversionError;

    fn try_from(value: Value) -> Result<Self, ConversionError> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(mismatch("Vec<u8>", &other)),
        }
    }
}

macro_rules! into_value {
    ($($type:ty => $variant:ident;)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Value {
                Value::$variant(value.into())
            }
        }
    )*};
}

into_value! {
    bool => Bool;
    f32 => Float;
    f64 => Double;
    &str => Text;
    String => Text;
    Vec<u8> => Bytes;
    &[u8] => Bytes;
    Interval => Interval;
    Uuid => Uuid;
}

impl From<&String> for Value {
    fn from(value: &String) -> Value {
        Value::Text(value.clone())
    }
}

impl From<&Value> for Value {
    fn from(value: &Value) -> Value {
        value.clone()
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Value {
        Value::Bytes(value.to_vec())
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        // usize has at most 64 bits on every platform Rust supports.
        Value::UInt(value as u64)
    }
}

/// A point in time, cut to whole microseconds and held to the range that a timestamp has.
impl From<SystemTime> for Value {
    fn from(value: SystemTime) -> Value {
        let micros = match value.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => {
                // Rounded down, as after the epoch.
                i64::try_from(before.duration().as_nanos().div_ceil(1_000)).map_or(i64::MIN, |micros| -micros)
            }
        };
        Value::TimestampTz(micros)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

fn system_time(micros: i64) -> Result<SystemTime, ConversionError> {
    let magnitude = Duration::from_micros(micros.unsigned_abs());
    let time = if micros < 0 { UNIX_EPOCH.checked_sub(magnitude) } else { UNIX_EPOCH.checked_add(magnitude) };
    time.ok_or_else(|| ConversionError::Range { expected: "SystemTime", value: micros.to_string() })
}
