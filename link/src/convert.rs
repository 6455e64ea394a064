//! The only place that knows both the generated protobuf types and this crate's own.

use std::sync::Arc;

use kalamdb_proto::v1;
use uuid::Uuid;

use crate::{
    column::{Column, Columns, SqlType},
    error::{Error, Result},
    result::StatementResult,
    row::{Row, Rows},
    stream::{Batch, StatementEnd},
    value::{Interval, Value},
};

/// A parameter for the server.
pub(crate) fn to_proto(value: Value) -> v1::Value {
    use v1::value::Kind;
    let kind = match value {
        // NullValue has one member.
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Int(value) => Kind::IntValue(value),
        Value::UInt(value) => Kind::UintValue(value),
        Value::Float(value) => Kind::FloatValue(value),
        Value::Double(value) => Kind::DoubleValue(value),
        Value::Decimal(value) => Kind::DecimalValue(value),
        Value::Text(value) => Kind::TextValue(value),
        Value::Bytes(value) => Kind::BytesValue(value),
        Value::Date(value) => Kind::DateValue(value),
        Value::Time(value) => Kind::TimeValue(value),
        Value::Timestamp(value) => Kind::TimestampValue(value),
        Value::TimestampTz(value) => Kind::TimestamptzValue(value),
        Value::Interval(Interval { months, days, nanoseconds }) => {
            Kind::IntervalValue(v1::Interval { months, days, nanoseconds })
        }
        Value::Uuid(value) => Kind::UuidValue(value.to_string()),
        Value::Json(value) => Kind::JsonValue(value),
        Value::List(values) => Kind::ListValue(v1::ListValue { values: values.into_iter().map(to_proto).collect() }),
        Value::Struct(values) => {
            Kind::StructValue(v1::StructValue { values: values.into_iter().map(to_proto).collect() })
        }
    };
    v1::Value { kind: Some(kind) }
}

/// A value of an answer.
///
/// Depth is bounded by the decoder, which refuses messages nested deeper than 100.
pub(crate) fn from_proto(value: v1::Value) -> Result<Value> {
    use v1::value::Kind;
    let kind = value.kind.ok_or_else(|| Error::protocol("a value of a kind that this client does not know"))?;
    Ok(match kind {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => Value::Bool(value),
        Kind::IntValue(value) => Value::Int(value),
        Kind::UintValue(value) => Value::UInt(value),
        Kind::FloatValue(value) => Value::Float(value),
        Kind::DoubleValue(value) => Value::Double(value),
        Kind::DecimalValue(value) => Value::Decimal(value),
        Kind::TextValue(value) => Value::Text(value),
        Kind::BytesValue(value) => Value::Bytes(value),
        Kind::DateValue(value) => Value::Date(value),
        Kind::TimeValue(value) => Value::Time(value),
        Kind::TimestampValue(value) => Value::Timestamp(value),
        Kind::TimestamptzValue(value) => Value::TimestampTz(value),
        Kind::IntervalValue(v1::Interval { months, days, nanoseconds }) => {
            Value::Interval(Interval { months, days, nanoseconds })
        }
        Kind::UuidValue(text) => {
            Value::Uuid(Uuid::try_parse(&text).map_err(|_| Error::protocol(format!("{text:?} is not a UUID")))?)
        }
        Kind::JsonValue(value) => Value::Json(value),
        Kind::ListValue(list) => Value::List(values(list.values)?),
        Kind::StructValue(fields) => Value::Struct(values(fields.values)?),
    })
}

fn values(values: Vec<v1::Value>) -> Result<Vec<Value>> {
    values.into_iter().map(from_proto).collect()
}

/// A SQL type; one that this client does not know is [`SqlType::Unknown`].
fn sql_type(sql_type: Option<v1::SqlType>) -> SqlType {
    use v1::TypeKind;
    let Some(sql_type) = sql_type else { return SqlType::Unknown };
    match sql_type.kind() {
        TypeKind::Unspecified => SqlType::Unknown,
        TypeKind::Null => SqlType::Null,
        TypeKind::Boolean => SqlType::Boolean,
        TypeKind::Smallint => SqlType::SmallInt,
        TypeKind::Int => SqlType::Int,
        TypeKind::Bigint => SqlType::BigInt,
        TypeKind::SmallintUnsigned => SqlType::SmallIntUnsigned,
        TypeKind::IntUnsigned => SqlType::IntUnsigned,
        TypeKind::BigintUnsigned => SqlType::BigIntUnsigned,
        TypeKind::Real => SqlType::Real,
        TypeKind::Double => SqlType::Double,
        TypeKind::Decimal => SqlType::Decimal { precision: sql_type.precision, scale: sql_type.scale },
        TypeKind::Text => SqlType::Text,
        TypeKind::Bytes => SqlType::Bytes,
        TypeKind::Date => SqlType::Date,
        TypeKind::Time => SqlType::Time,
        TypeKind::Timestamp => SqlType::Timestamp,
        TypeKind::Timestamptz => SqlType::TimestampTz,
        TypeKind::Interval => SqlType::Interval,
        TypeKind::Uuid => SqlType::Uuid,
        TypeKind::Json => SqlType::Json,
        TypeKind::List => SqlType::List(Box::new(self::sql_type(sql_type.element.map(|element| *element)))),
        TypeKind::Struct => SqlType::Struct(sql_type.fields.into_iter().map(column).collect()),
    }
}

pub(crate) fn column(column: v1::Column) -> Column {
    Column { name: column.name, sql_type: sql_type(column.r#type), nullable: column.nullable }
}

pub(crate) fn columns(columns: Vec<v1::Column>) -> Arc<Columns> {
    Arc::new(Columns::from(columns.into_iter().map(column).collect::<Vec<_>>()))
}

/// Typed rows, each with a value for every column.
pub(crate) fn rows(columns: Arc<Columns>, rows: Vec<v1::Row>) -> Result<Rows> {
    let rows = rows.into_iter().map(|row| values(row.values)).collect::<Result<_>>()?;
    Rows::from_values(columns, rows).map_err(|error| Error::protocol(error.to_string()))
}

/// One row, with a value for every column.
pub(crate) fn row(columns: Arc<Columns>, row: v1::Row) -> Result<Row> {
    Row::from_values(columns, values(row.values)?).map_err(|error| Error::protocol(error.to_string()))
}

/// The result of one statement, rows as `B`.
pub(crate) fn statement_result<B: Batch>(result: v1::StatementResult) -> Result<StatementResult<B>> {
    use v1::statement_result::Result as Body;
    let (rows, row_count, message) = match result.result {
        Some(Body::Rows(rows)) => {
            let row_count = rows.row_count;
            let batch = v1::RowBatch { rows: rows.rows, arrow_ipc: rows.arrow_ipc, row_count };
            (B::decode(columns(rows.columns), batch)?, row_count, None)
        }
        Some(Body::Affected(affected)) => (B::default(), affected.row_count, Some(affected.message)),
        None => return Err(Error::protocol("a result is of a kind that this client does not know")),
    };
    Ok(StatementResult { rows, row_count, message, took_ms: result.took_ms, commit_seq: result.commit_seq })
}

pub(crate) fn statement_end(finished: v1::StatementFinished, returns_rows: bool) -> StatementEnd {
    StatementEnd {
        row_count: finished.row_count,
        message: (!returns_rows).then_some(finished.message),
        took_ms: finished.took_ms,
        commit_seq: finished.commit_seq,
    }
}

/// Microseconds since 1970-01-01T00:00:00Z from protobuf's seconds and nanoseconds; 0 when absent.
pub(crate) fn micros(parts: Option<(i64, i32)>) -> i64 {
    parts.map_or(0, |(seconds, nanos)| {
        seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos).div_euclid(1_000))
    })
}

#[cfg(test)]
mod tests;
