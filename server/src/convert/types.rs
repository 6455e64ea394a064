//! SQL types, columns and times as protobuf.

use kalamdb_engine::{ResultColumn, SqlType};
use kalamdb_proto::v1;
use pbjson_types::Timestamp;

/// The columns of a result.
pub(crate) fn to_columns(columns: &[ResultColumn]) -> Vec<v1::Column> {
    columns.iter().map(|column| to_column(&column.name, &column.sql_type, column.nullable)).collect()
}

/// A column.
pub(crate) fn to_column(name: &str, sql_type: &SqlType, nullable: bool) -> v1::Column {
    v1::Column { name: name.to_owned(), r#type: Some(to_sql_type(sql_type)), nullable }
}

fn to_sql_type(sql_type: &SqlType) -> v1::SqlType {
    use v1::TypeKind;

    let plain = |kind: TypeKind| v1::SqlType { kind: kind.into(), ..Default::default() };
    match sql_type {
        SqlType::Null => plain(TypeKind::Null),
        SqlType::Boolean => plain(TypeKind::Boolean),
        SqlType::SmallInt => plain(TypeKind::Smallint),
        SqlType::Int => plain(TypeKind::Int),
        SqlType::BigInt => plain(TypeKind::Bigint),
        SqlType::SmallIntUnsigned => plain(TypeKind::SmallintUnsigned),
        SqlType::IntUnsigned => plain(TypeKind::IntUnsigned),
        SqlType::BigIntUnsigned => plain(TypeKind::BigintUnsigned),
        SqlType::Real => plain(TypeKind::Real),
        SqlType::Double => plain(TypeKind::Double),
        SqlType::Decimal { precision, scale } => {
            v1::SqlType { precision: u32::from(*precision), scale: i32::from(*scale), ..plain(TypeKind::Decimal) }
        }
        SqlType::Text => plain(TypeKind::Text),
        SqlType::Bytes => plain(TypeKind::Bytes),
        SqlType::Date => plain(TypeKind::Date),
        SqlType::Time => plain(TypeKind::Time),
        SqlType::Timestamp => plain(TypeKind::Timestamp),
        SqlType::TimestampTz => plain(TypeKind::Timestamptz),
        SqlType::Interval => plain(TypeKind::Interval),
        SqlType::Uuid => plain(TypeKind::Uuid),
        SqlType::Json => plain(TypeKind::Json),
        SqlType::List(element) => {
            v1::SqlType { element: Some(Box::new(to_sql_type(element))), ..plain(TypeKind::List) }
        }
        SqlType::Struct(fields) => v1::SqlType {
            fields: fields.iter().map(|field| to_column(&field.name, &field.sql_type, true)).collect(),
            ..plain(TypeKind::Struct)
        },
    }
}

/// A time in microseconds since 1970, if it is one that protobuf allows.
pub(crate) fn from_timestamp(at: &Timestamp) -> Option<i64> {
    let nanos = i64::from(at.nanos);
    if !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    at.seconds.checked_mul(1_000_000)?.checked_add(nanos / 1_000)
}

/// A time in microseconds since 1970.
pub(crate) fn to_timestamp(us: i64) -> Timestamp {
    // `rem_euclid` is below 10^6, so that the nanoseconds fit.
    let nanos = i32::try_from(us.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    Timestamp { seconds: us.div_euclid(1_000_000), nanos }
}
