//! Typed values: short ways to write them and to read them.

use kalamdb_proto::v1::{Interval, ListValue, Row, StructValue, TypeKind, Value, value::Kind};

/// A value of this kind.
pub fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

/// SQL NULL.
pub fn null() -> Value {
    value(Kind::NullValue(0))
}

/// A BIGINT.
pub fn int(number: i64) -> Value {
    value(Kind::IntValue(number))
}

/// A TEXT.
pub fn text(text: impl Into<String>) -> Value {
    value(Kind::TextValue(text.into()))
}

/// A BOOLEAN.
pub fn boolean(truth: bool) -> Value {
    value(Kind::BoolValue(truth))
}

/// A DOUBLE.
pub fn double(number: f64) -> Value {
    value(Kind::DoubleValue(number))
}

/// BYTES.
pub fn bytes(bytes: impl Into<Vec<u8>>) -> Value {
    value(Kind::BytesValue(bytes.into()))
}

/// An array.
pub fn list(values: impl IntoIterator<Item = Value>) -> Value {
    value(Kind::ListValue(ListValue { values: values.into_iter().collect() }))
}

/// A struct.
pub fn structure(values: impl IntoIterator<Item = Value>) -> Value {
    value(Kind::StructValue(StructValue { values: values.into_iter().collect() }))
}

/// An INTERVAL.
pub fn interval(months: i32, days: i32, nanoseconds: i64) -> Value {
    value(Kind::IntervalValue(Interval { months, days, nanoseconds }))
}

/// A value as short text, for comparing whole rows at a glance. Different types may show alike: where the type
/// matters, compare the values.
pub fn show(value: &Value) -> String {
    match &value.kind {
        None => "(no kind)".to_owned(),
        Some(Kind::NullValue(_)) => "NULL".to_owned(),
        Some(Kind::BoolValue(v)) => v.to_string(),
        Some(Kind::IntValue(v)) => v.to_string(),
        Some(Kind::UintValue(v)) => v.to_string(),
        Some(Kind::FloatValue(v)) => v.to_string(),
        Some(Kind::DoubleValue(v)) => v.to_string(),
        Some(Kind::DecimalValue(v) | Kind::TextValue(v) | Kind::UuidValue(v) | Kind::JsonValue(v)) => v.clone(),
        Some(Kind::BytesValue(v)) => v.iter().map(|byte| format!("{byte:02x}")).collect(),
        Some(Kind::DateValue(v)) => v.to_string(),
        Some(Kind::TimeValue(v)) => v.to_string(),
        Some(Kind::TimestampValue(v) | Kind::TimestamptzValue(v)) => v.to_string(),
        Some(Kind::IntervalValue(v)) => format!("{}m{}d{}ns", v.months, v.days, v.nanoseconds),
        Some(Kind::ListValue(v)) => format!("[{}]", join(&v.values)),
        Some(Kind::StructValue(v)) => format!("{{{}}}", join(&v.values)),
    }
}

fn join(values: &[Value]) -> String {
    values.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// A row as short text, values separated by ` | `.
pub fn show_row(row: &Row) -> String {
    row.values.iter().map(show).collect::<Vec<_>>().join(" | ")
}

/// The name of a type's kind without its prefix, such as `BIGINT`.
pub fn kind_name(kind: i32) -> &'static str {
    TypeKind::try_from(kind).map_or("?", |kind| kind.as_str_name().trim_start_matches("TYPE_KIND_"))
}
