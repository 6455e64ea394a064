use kalamdb_proto::v1;
use uuid::Uuid;

use super::{column, columns, from_proto, micros, rows, statement_result, to_proto};
use crate::{Interval, Rows, SqlType, Value};

#[test]
fn every_kind_of_value_survives_the_way_there_and_back() {
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::UInt(u64::MAX),
        Value::Float(f32::MIN_POSITIVE),
        Value::Double(f64::MAX),
        Value::Decimal("-0.00".into()),
        Value::Text("\u{1f600}\0".into()),
        Value::Bytes(vec![0, 255]),
        Value::Date(i32::MIN),
        Value::Time(86_399_999_999),
        Value::Timestamp(i64::MIN),
        Value::TimestampTz(i64::MAX),
        Value::Interval(Interval { months: -1, days: 2, nanoseconds: i64::MIN }),
        Value::Uuid(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)),
        Value::Json("{\"a\": [1]}".into()),
    ];
    for value in values.clone() {
        assert_eq!(from_proto(to_proto(value.clone())).unwrap(), value);
    }
    let nested = Value::List(vec![Value::Struct(values.to_vec()), Value::Null]);
    assert_eq!(from_proto(to_proto(nested.clone())).unwrap(), nested);
}

#[test]
fn answers_that_the_api_does_not_allow_are_errors() {
    assert!(from_proto(v1::Value { kind: None }).is_err());
    let uuid = v1::Value { kind: Some(v1::value::Kind::UuidValue("nope".into())) };
    assert!(from_proto(uuid).is_err());

    let one_column = columns(vec![v1::Column { name: "a".into(), r#type: None, nullable: true }]);
    assert!(rows(one_column, vec![v1::Row { values: vec![] }]).is_err());
    assert!(statement_result::<Rows>(v1::StatementResult::default()).is_err());
}

#[test]
fn types_keep_their_parameters_and_unknown_ones_are_said_to_be() {
    let kind = |kind: v1::TypeKind| v1::SqlType { kind: kind.into(), ..Default::default() };
    let decimal = v1::SqlType { precision: 10, scale: 2, ..kind(v1::TypeKind::Decimal) };
    let field = v1::Column { name: "price".into(), r#type: Some(decimal), nullable: false };
    let structure = v1::SqlType { fields: vec![field], ..kind(v1::TypeKind::Struct) };
    let list = v1::SqlType { element: Some(Box::new(structure)), ..kind(v1::TypeKind::List) };
    let converted = column(v1::Column { name: "c".into(), r#type: Some(list), nullable: true });
    assert_eq!(converted.sql_type.to_string(), "STRUCT<price DECIMAL(10, 2)>[]");

    let newer = v1::SqlType { kind: 9_999, ..Default::default() };
    let converted = column(v1::Column { name: "c".into(), r#type: Some(newer), nullable: true });
    assert_eq!(converted.sql_type, SqlType::Unknown);
}

#[test]
fn results_with_and_without_rows_are_told_apart() {
    let affected = v1::Affected { row_count: 3, message: "INSERT 0 3".into() };
    let result = statement_result::<Rows>(v1::StatementResult {
        result: Some(v1::statement_result::Result::Affected(affected)),
        took_ms: 0.5,
        commit_seq: 9,
    })
    .unwrap();
    assert_eq!((result.row_count(), result.commit_seq(), result.took_ms()), (3, 9, 0.5));
    assert_eq!(result.message(), Some("INSERT 0 3"));
    assert!(!result.returns_rows() && result.rows().is_empty() && result.columns().is_empty());

    let result = statement_result::<Rows>(v1::StatementResult {
        result: Some(v1::statement_result::Result::Rows(v1::Rows {
            columns: vec![v1::Column { name: "a".into(), r#type: None, nullable: true }],
            rows: vec![v1::Row { values: vec![to_proto(Value::Int(1))] }],
            row_count: 1,
            ..Default::default()
        })),
        ..Default::default()
    })
    .unwrap();
    assert!(result.returns_rows());
    assert_eq!(result.value::<i64>("a").unwrap(), 1);
}

#[test]
fn timestamps_are_cut_to_microseconds_in_range() {
    assert_eq!(micros(None), 0);
    assert_eq!(micros(Some((1, 1_999))), 1_000_001);
    assert_eq!(micros(Some((-1, 999_999_999))), -1);
    assert_eq!(micros(Some((i64::MAX, 0))), i64::MAX);
}
