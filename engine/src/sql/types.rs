//! SQL types by their names.

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryLength, CharacterLength, DataType, ExactNumberInfo, Ident, ObjectName, TimezoneInfo,
};

use super::{errors, name::fold_identifier};
use crate::{
    error::{Error, Reason, Result},
    types::{SqlType, StructField},
};

/// Arrays and structs inside one another.
pub(crate) const MAX_TYPE_DEPTH: usize = 16;

pub(crate) const MAX_DECIMAL_DIGITS: u64 = 76;

/// DECIMAL without digits: large enough for amounts with cents of cents, small enough for 128 bits.
const DEFAULT_DECIMAL: SqlType = SqlType::Decimal { precision: 38, scale: 10 };

/// The type of this name, in CREATE TABLE and in CAST.
///
/// | names | type |
/// | --- | --- |
/// | BOOLEAN, BOOL | BOOLEAN |
/// | SMALLINT, INT2; INT, INTEGER, INT4; BIGINT, INT8; each with UNSIGNED | integers of 16, 32, 64 bits |
/// | REAL, FLOAT4; DOUBLE, DOUBLE PRECISION, FLOAT, FLOAT8 | floating point of 32, 64 bits |
/// | DECIMAL(p, s), NUMERIC(p, s), DEC(p, s) | exact; (p) is (p, 0), none is (38, 10) |
/// | TEXT, STRING, VARCHAR | TEXT |
/// | BYTES, BYTEA, BLOB, VARBINARY | BYTES |
/// | DATE; TIME; TIMESTAMP, DATETIME; TIMESTAMPTZ, TIMESTAMP WITH TIME ZONE; INTERVAL | microseconds; no other precision |
/// | UUID; JSON, JSONB | |
/// | T[], ARRAY&lt;T&gt;; STRUCT&lt;a T, b T&gt; | at most 16 inside one another |
///
/// # Errors
/// `NOT_SUPPORTED` for types of other databases, with the one to use instead; `INVALID_STATEMENT` for unknown names
/// and digits out of range; `NESTING_TOO_DEEP`.
pub fn sql_type(data_type: &DataType) -> Result<SqlType> {
    convert(data_type, 0)
}

fn convert(data_type: &DataType, depth: usize) -> Result<SqlType> {
    if depth > MAX_TYPE_DEPTH {
        let message = format!("At most {MAX_TYPE_DEPTH} arrays and structs can be inside one another.");
        return Err(Error::new(Reason::NestingTooDeep, message).with("limit", "limits.max_nesting_depth"));
    }
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => SqlType::Boolean,
        DataType::SmallInt(None) | DataType::Int2(None) => SqlType::SmallInt,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => SqlType::Int,
        DataType::BigInt(None) | DataType::Int8(None) => SqlType::BigInt,
        DataType::SmallIntUnsigned(None) | DataType::Int2Unsigned(None) => SqlType::SmallIntUnsigned,
        DataType::IntUnsigned(None) | DataType::IntegerUnsigned(None) | DataType::Int4Unsigned(None) => {
            SqlType::IntUnsigned
        }
        DataType::BigIntUnsigned(None) | DataType::Int8Unsigned(None) => SqlType::BigIntUnsigned,
        DataType::Real | DataType::Float4 => SqlType::Real,
        DataType::Double(ExactNumberInfo::None)
        | DataType::DoublePrecision
        | DataType::Float(ExactNumberInfo::None)
        | DataType::Float8 => SqlType::Double,
        DataType::Decimal(digits) | DataType::Numeric(digits) | DataType::Dec(digits) => decimal(digits)?,
        DataType::Text
        | DataType::String(None)
        | DataType::Varchar(None)
        | DataType::CharacterVarying(None)
        | DataType::CharVarying(None) => SqlType::Text,
        DataType::Bytes(None) | DataType::Bytea | DataType::Blob(None) | DataType::Varbinary(None) => SqlType::Bytes,
        DataType::Date => SqlType::Date,
        DataType::Time(None | Some(6), TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Time,
        DataType::Timestamp(None | Some(6), TimezoneInfo::None | TimezoneInfo::WithoutTimeZone)
        | DataType::Datetime(None | Some(6)) => SqlType::Timestamp,
        DataType::Timestamp(None | Some(6), TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => SqlType::TimestampTz,
        DataType::Interval { fields: None, precision: None } => SqlType::Interval,
        DataType::Uuid => SqlType::Uuid,
        DataType::JSON | DataType::JSONB => SqlType::Json,
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::SquareBracket(element, None)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => SqlType::List(Box::new(convert(element, depth + 1)?)),
        DataType::Struct(fields, _) => {
            let mut converted: Vec<StructField> = Vec::with_capacity(fields.len());
            for field in fields {
                let Some(name) = &field.field_name else {
                    return Err(invalid("The fields of a STRUCT have names: STRUCT<a BIGINT, b TEXT>."));
                };
                let name = struct_field_name(name, &converted)?;
                converted.push(StructField { name, sql_type: convert(&field.field_type, depth + 1)? });
            }
            if converted.is_empty() {
                return Err(invalid("A STRUCT has fields: STRUCT<a BIGINT, b TEXT>."));
            }
            SqlType::Struct(converted)
        }
        DataType::Custom(name, _) => return Err(unknown(name)),
        other => return Err(unsupported(other)),
    })
}

fn decimal(digits: &ExactNumberInfo) -> Result<SqlType> {
    let (precision, scale) = match digits {
        ExactNumberInfo::None => return Ok(DEFAULT_DECIMAL),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let fits = (1..=MAX_DECIMAL_DIGITS).contains(&precision);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if fits && (0..=i64::from(precision)).contains(&i64::from(scale)) => {
            Ok(SqlType::Decimal { precision, scale })
        }
        _ => Err(invalid(format!(
            "DECIMAL({precision}, {scale}) is out of range: it has 1 to {MAX_DECIMAL_DIGITS} digits, of which 0 to all \
             after the point."
        ))),
    }
}

fn struct_field_name(name: &Ident, known: &[StructField]) -> Result<String> {
    let name = fold_identifier(name);
    if known.iter().any(|field| field.name == name.text) {
        let message = format!("The STRUCT has two fields {}.", errors::clip(&name.text));
        return Err(errors::at(Error::new(Reason::InvalidStatement, message), name.position));
    }
    Ok(name.text)
}

/// A type that `sqlparser` knows and KalamDB has not.
fn unsupported(data_type: &DataType) -> Error {
    let remedy = match data_type {
        DataType::Varchar(Some(CharacterLength::IntegerLength { .. } | CharacterLength::Max))
        | DataType::CharacterVarying(_)
        | DataType::CharVarying(_)
        | DataType::Nvarchar(_)
        | DataType::String(_)
        | DataType::Char(_)
        | DataType::Character(_)
        | DataType::FixedString(_)
        | DataType::TinyText
        | DataType::MediumText
        | DataType::LongText
        | DataType::Clob(_)
        | DataType::CharacterLargeObject(_)
        | DataType::CharLargeObject(_) => "Lengths of text are not enforced: use TEXT.",
        DataType::Binary(_)
        | DataType::Varbinary(Some(BinaryLength::IntegerLength { .. } | BinaryLength::Max))
        | DataType::Blob(_)
        | DataType::Bytes(_)
        | DataType::TinyBlob
        | DataType::MediumBlob
        | DataType::LongBlob
        | DataType::Bit(_)
        | DataType::BitVarying(_)
        | DataType::VarBit(_) => "Lengths of bytes are not enforced: use BYTES.",
        DataType::Timestamp(..) | DataType::Datetime(_) | DataType::TimestampNtz(_) | DataType::Datetime64(..) => {
            "Times have microseconds: use TIMESTAMP or TIMESTAMP WITH TIME ZONE."
        }
        DataType::Time(..) => "Times of day have microseconds and no time zone: use TIME.",
        DataType::Interval { .. } => "Use INTERVAL without fields and precision.",
        DataType::TinyInt(_)
        | DataType::TinyIntUnsigned(_)
        | DataType::UTinyInt
        | DataType::Int16
        | DataType::UInt8
        | DataType::UInt16
        | DataType::USmallInt => "Use SMALLINT or SMALLINT UNSIGNED.",
        DataType::SmallInt(_)
        | DataType::Int2(_)
        | DataType::Int(_)
        | DataType::Integer(_)
        | DataType::Int4(_)
        | DataType::BigInt(_)
        | DataType::Int8(_)
        | DataType::SmallIntUnsigned(_)
        | DataType::Int2Unsigned(_)
        | DataType::IntUnsigned(_)
        | DataType::IntegerUnsigned(_)
        | DataType::Int4Unsigned(_)
        | DataType::BigIntUnsigned(_)
        | DataType::Int8Unsigned(_) => "Integers take no number of digits: leave the parentheses out.",
        DataType::MediumInt(_)
        | DataType::MediumIntUnsigned(_)
        | DataType::Int32
        | DataType::UInt32
        | DataType::Signed
        | DataType::SignedInteger
        | DataType::Unsigned
        | DataType::UnsignedInteger => "Use INT or INT UNSIGNED.",
        DataType::Int64 | DataType::UInt64 | DataType::UBigInt => "Use BIGINT or BIGINT UNSIGNED.",
        DataType::Int128
        | DataType::Int256
        | DataType::UInt128
        | DataType::UInt256
        | DataType::HugeInt
        | DataType::UHugeInt
        | DataType::BigNumeric(_)
        | DataType::BigDecimal(_)
        | DataType::DecimalUnsigned(_)
        | DataType::DecUnsigned(_) => "Use DECIMAL(p, s) of up to 76 digits.",
        DataType::Float(_)
        | DataType::Float32
        | DataType::Float64
        | DataType::FloatUnsigned(_)
        | DataType::RealUnsigned
        | DataType::Double(_)
        | DataType::DoubleUnsigned(_)
        | DataType::DoublePrecisionUnsigned => "Use REAL (32 bits) or DOUBLE (64 bits).",
        DataType::Date32 => "Use DATE.",
        DataType::Enum(..) | DataType::Set(_) => "Use TEXT.",
        DataType::Map(..) => "Use JSON, or an array of STRUCT<key TEXT, value TEXT>.",
        DataType::Array(_) => "Use an array of any length with the type of its elements: T[].",
        DataType::Tuple(_) | DataType::Nested(_) | DataType::Union(_) => "Use STRUCT<a BIGINT, b TEXT>.",
        DataType::Nullable(_) | DataType::LowCardinality(_) => "Columns are nullable unless they are NOT NULL.",
        _ => "DESCRIBE TABLE shows types in use; BIGINT, DOUBLE, TEXT, TIMESTAMP and JSON are the common ones.",
    };
    let written = errors::clip(&data_type.to_string());
    Error::new(Reason::NotSupported, format!("The type {written} is not supported. {remedy}"))
}

/// A type that nobody knows.
fn unknown(name: &ObjectName) -> Error {
    let written = errors::clip(&name.to_string());
    let upper = written.to_ascii_uppercase();
    let (reason, message) = match upper.as_str() {
        "SERIAL" | "BIGSERIAL" | "SMALLSERIAL" | "SERIAL4" | "SERIAL8" => {
            (Reason::NotSupported, format!("The type {written} is not supported. Use BIGINT … AUTO_INCREMENT."))
        }
        "MONEY" => (Reason::NotSupported, format!("The type {written} is not supported. Use DECIMAL(19, 4).")),
        "TEXT" => (Reason::NotSupported, "TEXT takes no length: use TEXT alone.".to_owned()),
        "ULID" | "XML" | "CITEXT" | "NAME" | "INET" | "CIDR" => {
            (Reason::NotSupported, format!("The type {written} is not supported. Use TEXT."))
        }
        _ => {
            let nearest = errors::nearest(&upper, TYPE_NAMES.iter().copied());
            let remedy = match nearest {
                Some(nearest) => format!("Did you mean {nearest}?"),
                None => "The common ones are BIGINT, DOUBLE, TEXT, BOOLEAN, TIMESTAMP, BYTES and JSON.".to_owned(),
            };
            (Reason::InvalidStatement, format!("There is no type {written}. {remedy}"))
        }
    };
    let start = name.0.first().and_then(|part| part.as_ident()).map(|identifier| identifier.span.start);
    errors::at(Error::new(reason, message), start.and_then(errors::position))
}

const TYPE_NAMES: &[&str] = &[
    "ARRAY",
    "BIGINT",
    "BLOB",
    "BOOL",
    "BOOLEAN",
    "BYTEA",
    "BYTES",
    "DATE",
    "DATETIME",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "INT",
    "INTEGER",
    "INTERVAL",
    "JSON",
    "JSONB",
    "NUMERIC",
    "REAL",
    "SMALLINT",
    "STRING",
    "STRUCT",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "UUID",
    "VARBINARY",
    "VARCHAR",
];

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Reason::InvalidStatement, message)
}
