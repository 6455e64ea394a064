//! Columns of a result and their types.

use std::{
    fmt::{self, Display, Formatter},
    ops::Deref,
};

/// A column of a result, or a field of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name as the statement gives it; names may repeat in a result.
    pub name: String,
    /// Its SQL type.
    pub sql_type: SqlType,
    /// False when it cannot hold NULL.
    pub nullable: bool,
}

/// The columns of a result, in order. Dereferences to a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns(Vec<Column>);

/// A SQL type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SqlType {
    /// The type of a bare NULL.
    Null,
    /// BOOLEAN.
    Boolean,
    /// 16 bits.
    SmallInt,
    /// 32 bits.
    Int,
    /// 64 bits.
    BigInt,
    /// 16 bits, unsigned.
    SmallIntUnsigned,
    /// 32 bits, unsigned.
    IntUnsigned,
    /// 64 bits, unsigned.
    BigIntUnsigned,
    /// binary32.
    Real,
    /// binary64.
    Double,
    /// DECIMAL(precision, scale).
    Decimal {
        /// Number of digits, 1 to 76.
        precision: u32,
        /// Digits after the point.
        scale: i32,
    },
    /// TEXT.
    Text,
    /// BYTES.
    Bytes,
    /// DATE.
    Date,
    /// TIME.
    Time,
    /// TIMESTAMP without time zone.
    Timestamp,
    /// TIMESTAMP WITH TIME ZONE.
    TimestampTz,
    /// INTERVAL.
    Interval,
    /// UUID.
    Uuid,
    /// JSON or JSONB.
    Json,
    /// An array of an element type.
    List(Box<SqlType>),
    /// Named fields.
    Struct(Vec<Column>),
    /// A type that this version of the client does not know.
    Unknown,
}

impl From<Vec<Column>> for Columns {
    fn from(columns: Vec<Column>) -> Self {
        Columns(columns)
    }
}

impl Columns {
    /// Position of the first column of that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| column.name == name)
    }
}

impl Deref for Columns {
    type Target = [Column];

    fn deref(&self) -> &[Column] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Columns {
    type Item = &'a Column;
    type IntoIter = std::slice::Iter<'a, Column>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl SqlType {
    /// Whether values are numbers, which tables show aligned to the right.
    pub fn is_numeric(&self) -> bool {
        use SqlType::*;
        matches!(
            self,
            SmallInt | Int | BigInt | SmallIntUnsigned | IntUnsigned | BigIntUnsigned | Real | Double | Decimal { .. }
        )
    }
}

/// The type as SQL writes it, such as `DECIMAL(10, 2)` or `TEXT[]`.
impl Display for SqlType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = match self {
            SqlType::Null => "NULL",
            SqlType::Boolean => "BOOLEAN",
            SqlType::SmallInt => "SMALLINT",
            SqlType::Int => "INT",
            SqlType::BigInt => "BIGINT",
            SqlType::SmallIntUnsigned => "SMALLINT UNSIGNED",
            SqlType::IntUnsigned => "INT UNSIGNED",
            SqlType::BigIntUnsigned => "BIGINT UNSIGNED",
            SqlType::Real => "REAL",
            SqlType::Double => "DOUBLE",
            SqlType::Decimal { precision, scale } => return write!(f, "DECIMAL({precision}, {scale})"),
            SqlType::Text => "TEXT",
            SqlType::Bytes => "BYTES",
            SqlType::Date => "DATE",
            SqlType::Time => "TIME",
            SqlType::Timestamp => "TIMESTAMP",
            SqlType::TimestampTz => "TIMESTAMP WITH TIME ZONE",
            SqlType::Interval => "INTERVAL",
            SqlType::Uuid => "UUID",
            SqlType::Json => "JSON",
            SqlType::List(element) => return write!(f, "{element}[]"),
            SqlType::Struct(fields) => {
                f.write_str("STRUCT<")?;
                for (index, field) in fields.iter().enumerate() {
                    let separator = if index > 0 { ", " } else { "" };
                    write!(f, "{separator}{} {}", field.name, field.sql_type)?;
                }
                ">"
            }
            SqlType::Unknown => "UNKNOWN",
        };
        f.write_str(name)
    }
}
