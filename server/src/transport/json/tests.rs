use kalamdb_proto::v1::{Interval, ListValue, SqlType, StructValue};

use super::*;

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn response() -> ExecuteResponse {
    let values = vec![
        value(Kind::NullValue(0)),
        value(Kind::BoolValue(false)),
        value(Kind::IntValue(i64::MIN)),
        value(Kind::UintValue(u64::MAX)),
        value(Kind::FloatValue(f32::INFINITY)),
        value(Kind::FloatValue(0.1)),
        value(Kind::DoubleValue(f64::NEG_INFINITY)),
        value(Kind::DoubleValue(-0.5)),
        value(Kind::TextValue(String::new())),
        value(Kind::BytesValue(vec![0, 255])),
        value(Kind::IntervalValue(Interval { months: -1, days: 0, nanoseconds: 5 })),
        value(Kind::ListValue(ListValue {
            values: vec![value(Kind::DoubleValue(f64::INFINITY)), value(Kind::NullValue(0))],
        })),
        value(Kind::StructValue(StructValue { values: vec![value(Kind::ListValue(ListValue::default()))] })),
    ];
    let rows = Rows {
        columns: vec![Column { name: "c".to_owned(), r#type: Some(SqlType::default()), nullable: true }],
        rows: vec![Row { values }, Row::default()],
        row_count: 2,
        ..Rows::default()
    };
    let affected = Affected { row_count: 3, message: "INSERT 0 3".to_owned() };
    let ipc = Rows { arrow_ipc: vec![1, 2, 3].into(), row_count: 1, ..Rows::default() };
    ExecuteResponse {
        results: vec![
            StatementResult { result: Some(statement_result::Result::Rows(rows)), took_ms: 0.25, commit_seq: 0 },
            StatementResult { result: Some(statement_result::Result::Affected(affected)), took_ms: 1.0, commit_seq: 7 },
            StatementResult { result: Some(statement_result::Result::Rows(ipc)), took_ms: 1.0, commit_seq: 0 },
        ],
    }
}

#[test]
fn every_value_is_read_again_as_it_was() {
    let json = to_vec(&response()).unwrap();
    let mut read: ExecuteResponse = serde_json::from_slice(&json).unwrap();
    for result in &mut read.results {
        if let Some(statement_result::Result::Rows(rows)) = &mut result.result {
            rows.rows.iter_mut().for_each(|row| null_where_absent(&mut row.values));
        }
    }
    assert_eq!(read, response());
}

#[test]
fn numbers_that_json_has_not_are_texts() {
    let nan = value(Kind::DoubleValue(f64::NAN));
    let json = serde_json::to_string(&ValueJson(&nan)).unwrap();
    assert_eq!(json, r#"{"doubleValue":"NaN"}"#);
    assert_eq!(serde_json::to_string(&ValueJson(&value(Kind::NullValue(0)))).unwrap(), r#"{"nullValue":null}"#);
}
