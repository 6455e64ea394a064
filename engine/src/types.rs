//! SQL types and their Arrow representation.

use std::{collections::HashMap, fmt, sync::Arc};

use datafusion::arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

/// The time zone of every TIMESTAMP WITH TIME ZONE.
pub const UTC: &str = "+00:00";

/// Key of the field metadata that tells UUID and JSON from TEXT, all three being Utf8View in Arrow.
pub const TYPE_METADATA_KEY: &str = "kalamdb.type";

/// A SQL type.
///
/// ```
/// use kalamdb_engine::SqlType;
///
/// let tags = SqlType::List(Box::new(SqlType::Text));
/// assert_eq!(tags.to_string(), "TEXT[]");
/// assert_eq!(SqlType::from_field(&tags.to_field("tags", true)), tags);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SqlType {
    /// The type of a bare NULL; no column has it.
    Null,
    /// BOOLEAN.
    Boolean,
    /// SMALLINT, 16 bits.
    SmallInt,
    /// INT, 32 bits.
    Int,
    /// BIGINT, 64 bits.
    BigInt,
    /// SMALLINT UNSIGNED, 16 bits.
    SmallIntUnsigned,
    /// INT UNSIGNED, 32 bits.
    IntUnsigned,
    /// BIGINT UNSIGNED, 64 bits.
    BigIntUnsigned,
    /// REAL, 32-bit floating point.
    Real,
    /// DOUBLE, 64-bit floating point.
    Double,
    /// DECIMAL(precision, scale), exact.
    Decimal {
        /// Number of digits, 1 to 76.
        precision: u8,
        /// Digits after the point, 0 to `precision` (results of expressions may have a negative one).
        scale: i8,
    },
    /// TEXT, STRING, VARCHAR: UTF-8.
    Text,
    /// BYTES.
    Bytes,
    /// DATE.
    Date,
    /// TIME, microseconds.
    Time,
    /// TIMESTAMP without time zone, microseconds.
    Timestamp,
    /// TIMESTAMP WITH TIME ZONE, microseconds, UTC.
    TimestampTz,
    /// INTERVAL: months, days, nanoseconds.
    Interval,
    /// UUID, as canonical lower-case text.
    Uuid,
    /// JSON or JSONB, as text.
    Json,
    /// `T[]`.
    List(Box<SqlType>),
    /// A struct.
    Struct(Vec<StructField>),
}

/// A field of a struct type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StructField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
}

impl SqlType {
    /// The Arrow type of its values.
    pub fn to_arrow(&self) -> DataType {
        match self {
            SqlType::Null => DataType::Null,
            SqlType::Boolean => DataType::Boolean,
            SqlType::SmallInt => DataType::Int16,
            SqlType::Int => DataType::Int32,
            SqlType::BigInt => DataType::Int64,
            SqlType::SmallIntUnsigned => DataType::UInt16,
            SqlType::IntUnsigned => DataType::UInt32,
            SqlType::BigIntUnsigned => DataType::UInt64,
            SqlType::Real => DataType::Float32,
            SqlType::Double => DataType::Float64,
            SqlType::Decimal { precision, scale } if *precision <= 38 => DataType::Decimal128(*precision, *scale),
            SqlType::Decimal { precision, scale } => DataType::Decimal256(*precision, *scale),
            SqlType::Text | SqlType::Uuid | SqlType::Json => DataType::Utf8View,
            SqlType::Bytes => DataType::BinaryView,
            SqlType::Date => DataType::Date32,
            SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            SqlType::List(element) => DataType::List(Arc::new(element.to_field("item", true))),
            SqlType::Struct(fields) => {
                DataType::Struct(fields.iter().map(|f| f.sql_type.to_field(&f.name, true)).collect::<Fields>())
            }
        }
    }

    /// An Arrow field of this type.
    pub fn to_field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.to_arrow(), nullable);
        let mark = match self {
            SqlType::Uuid => "uuid",
            SqlType::Json => "json",
            _ => return field,
        };
        field.with_metadata(HashMap::from([(TYPE_METADATA_KEY.to_owned(), mark.to_owned())]))
    }

    /// The SQL type of an Arrow field: exact for fields made by [`SqlType::to_field`], the nearest one for other types
    /// that a query can yield.
    pub fn from_field(field: &Field) -> SqlType {
        match field.metadata().get(TYPE_METADATA_KEY).map(String::as_str) {
            Some("uuid") if is_text(field.data_type()) => SqlType::Uuid,
            Some("json") if is_text(field.data_type()) => SqlType::Json,
            _ => SqlType::from_arrow(field.data_type()),
        }
    }

    /// The SQL type nearest to an Arrow type.
    pub fn from_arrow(data_type: &DataType) -> SqlType {
        match data_type {
            DataType::Null => SqlType::Null,
            DataType::Boolean => SqlType::Boolean,
            DataType::Int8 | DataType::Int16 => SqlType::SmallInt,
            DataType::Int32 => SqlType::Int,
            DataType::Int64 | DataType::Duration(_) => SqlType::BigInt,
            DataType::UInt8 | DataType::UInt16 => SqlType::SmallIntUnsigned,
            DataType::UInt32 => SqlType::IntUnsigned,
            DataType::UInt64 => SqlType::BigIntUnsigned,
            DataType::Float16 | DataType::Float32 => SqlType::Real,
            DataType::Float64 => SqlType::Double,
            DataType::Decimal32(p, s)
            | DataType::Decimal64(p, s)
            | DataType::Decimal128(p, s)
            | DataType::Decimal256(p, s) => SqlType::Decimal { precision: *p, scale: *s },
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                SqlType::Bytes
            }
            DataType::Date32 | DataType::Date64 => SqlType::Date,
            DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
            DataType::Timestamp(_, None) => SqlType::Timestamp,
            DataType::Timestamp(_, Some(_)) => SqlType::TimestampTz,
            DataType::Interval(_) => SqlType::Interval,
            DataType::List(f)
            | DataType::LargeList(f)
            | DataType::ListView(f)
            | DataType::LargeListView(f)
            | DataType::FixedSizeList(f, _)
            | DataType::Map(f, _) => SqlType::List(Box::new(SqlType::from_field(f))),
            DataType::Struct(fields) => SqlType::Struct(
                fields
                    .iter()
                    .map(|f| StructField { name: f.name().clone(), sql_type: SqlType::from_field(f) })
                    .collect(),
            ),
            DataType::Dictionary(_, value) => SqlType::from_arrow(value),
            DataType::RunEndEncoded(_, value) => SqlType::from_field(value),
            DataType::Union(..) => SqlType::Text,
        }
    }
}

/// Whether an Arrow type is one of texts. What an expression makes of a JSON keeps its metadata, and clients send any.
fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        DataType::RunEndEncoded(_, value) => is_text(value.data_type()),
        _ => false,
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlType::Null => f.write_str("NULL"),
            SqlType::Boolean => f.write_str("BOOLEAN"),
            SqlType::SmallInt => f.write_str("SMALLINT"),
            SqlType::Int => f.write_str("INT"),
            SqlType::BigInt => f.write_str("BIGINT"),
            SqlType::SmallIntUnsigned => f.write_str("SMALLINT UNSIGNED"),
            SqlType::IntUnsigned => f.write_str("INT UNSIGNED"),
            SqlType::BigIntUnsigned => f.write_str("BIGINT UNSIGNED"),
            SqlType::Real => f.write_str("REAL"),
            SqlType::Double => f.write_str("DOUBLE"),
            SqlType::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            SqlType::Text => f.write_str("TEXT"),
            SqlType::Bytes => f.write_str("BYTES"),
            SqlType::Date => f.write_str("DATE"),
            SqlType::Time => f.write_str("TIME"),
            SqlType::Timestamp => f.write_str("TIMESTAMP"),
            SqlType::TimestampTz => f.write_str("TIMESTAMP WITH TIME ZONE"),
            SqlType::Interval => f.write_str("INTERVAL"),
            SqlType::Uuid => f.write_str("UUID"),
            SqlType::Json => f.write_str("JSON"),
            SqlType::List(element) => write!(f, "{element}[]"),
            SqlType::Struct(fields) => {
                f.write_str("STRUCT<")?;
                for (i, field) in fields.iter().enumerate() {
                    let separator = if i == 0 { "" } else { ", " };
                    write!(f, "{separator}{} {}", field.name, field.sql_type)?;
                }
                f.write_str(">")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_are_uuids_and_json() {
        for (mark, expected) in [("uuid", SqlType::Uuid), ("json", SqlType::Json)] {
            let marked = |data_type: DataType| {
                let metadata = HashMap::from([(TYPE_METADATA_KEY.to_owned(), mark.to_owned())]);
                SqlType::from_field(&Field::new("c", data_type, true).with_metadata(metadata))
            };
            assert_eq!(marked(DataType::Utf8), expected);
            assert_eq!(marked(DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))), expected);
            assert_eq!(marked(DataType::Int64), SqlType::BigInt);
            assert_eq!(marked(DataType::Boolean), SqlType::Boolean);
        }
    }
}
