use std::sync::Arc;

use datafusion::arrow::{
    array::{
        ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
        ListBuilder, StringViewArray, StringViewBuilder, TimestampMicrosecondArray,
    },
    datatypes::Schema,
};

use super::*;
use crate::types::StructField;

fn rows() -> (Columns, RecordBatch) {
    let mut tags = ListBuilder::new(StringViewBuilder::new());
    tags.append_value([Some("a\"b"), None]);
    tags.append_null();
    let time = |zone: Option<&str>| {
        let times = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_001), None]);
        times.with_timezone_opt(zone.map(str::to_owned))
    };
    let decimals = Decimal128Array::from(vec![Some(-105), None]).with_precision_and_scale(10, 2).unwrap();
    let structs = SqlType::Struct(vec![StructField { name: "x".to_owned(), sql_type: SqlType::BigInt }]);
    let parts = datafusion::arrow::array::StructArray::from(vec![(
        Arc::new(SqlType::BigInt.to_field("x", true)),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), None])) as ArrayRef,
    )]);
    let columns: Vec<(&str, SqlType, ArrayRef)> = vec![
        ("id", SqlType::BigInt, Arc::new(Int64Array::from(vec![i64::MAX, 2]))),
        ("n", SqlType::Int, Arc::new(Int32Array::from(vec![Some(-7), None]))),
        ("f", SqlType::Double, Arc::new(Float64Array::from(vec![0.1, f64::NEG_INFINITY]))),
        ("b", SqlType::Boolean, Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("d", SqlType::Decimal { precision: 10, scale: 2 }, Arc::new(decimals)),
        ("t", SqlType::Text, Arc::new(StringViewArray::from(vec!["one, \"two\"\nthree", ""]))),
        ("j", SqlType::Json, Arc::new(StringViewArray::from(vec![Some("{\"a\":\n1.50}"), None]))),
        ("x", SqlType::Bytes, Arc::new(BinaryViewArray::from(vec![b"\x00\xff".as_slice(), b"".as_slice()]))),
        ("day", SqlType::Date, Arc::new(Date32Array::from(vec![19_782, 0]))),
        ("at", SqlType::Timestamp, Arc::new(time(None))),
        ("utc", SqlType::TimestampTz, Arc::new(time(Some(crate::types::UTC)))),
        ("tags", SqlType::List(Box::new(SqlType::Text)), Arc::new(tags.finish())),
        ("s", structs, Arc::new(parts)),
    ];
    let schema =
        Schema::new(columns.iter().map(|(name, sql_type, _)| sql_type.to_field(name, true)).collect::<Vec<_>>());
    let columns_of_file = Columns::of(&schema).unwrap();
    let batch = RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(.., array)| array).collect()).unwrap();
    let batch = columns_of_file.convert(&batch).unwrap();
    (columns_of_file, batch)
}

#[test]
fn json_is_exact() {
    let (columns, batch) = rows();
    let mut out = Vec::new();
    push_json(&columns, &batch, &mut out).unwrap();
    let lines: Vec<&str> = std::str::from_utf8(&out).unwrap().lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"id":"9223372036854775807","n":-7,"f":0.1,"b":true,"d":"-1.05","t":"one, \"two\"\nthree","j":{"a": 1.50},"x":"\\x00ff","day":"2024-02-29","at":"2023-11-14T22:13:20.000001","utc":"2023-11-14T22:13:20.000001Z","tags":["a\"b",null],"s":{"x":"-9223372036854775808"}}"#,
            r#"{"id":"2","n":null,"f":"-Infinity","b":null,"d":null,"t":"","j":null,"x":"\\x","day":"1970-01-01","at":null,"utc":null,"tags":null,"s":{"x":null}}"#,
        ]
    );
    for line in lines {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn csv_tells_null_from_empty() {
    let (columns, batch) = rows();
    let mut out = csv_header(&columns);
    push_csv(&columns, &batch, &mut out).unwrap();
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "id,n,f,b,d,t,j,x,day,at,utc,tags,s\n\
         9223372036854775807,-7,0.1,true,-1.05,\"one, \"\"two\"\"\nthree\",\"{\"\"a\"\":\n1.50}\",\\x00ff,2024-02-29,\
         2023-11-14 22:13:20.000001,2023-11-14 22:13:20.000001+00,\"[\"\"a\\\"\"b\"\",null]\",\
         \"{\"\"x\"\":\"\"-9223372036854775808\"\"}\"\n\
         2,,-Infinity,,,\"\",,\\x,1970-01-01,,,,\"{\"\"x\"\":null}\"\n"
    );
}

#[test]
fn equal_names_get_numbers() {
    let field = |name: &str| SqlType::Int.to_field(name, true);
    let columns = Columns::of(&Schema::new(vec![field("a"), field("a"), field("a_2"), field("b")])).unwrap();
    let names: Vec<&str> = columns.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["a", "a_2", "a_2_2", "b"]);
}
