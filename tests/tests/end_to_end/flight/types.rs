//! Every type of column, as it arrives: no views, no dictionaries, and exact.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int16Type, Int32Type,
        Int64Type, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
        UInt16Type, UInt32Type, UInt64Type, i256,
    },
};

use kalamdb_proto::v1::{Value, value::Kind};
use kalamdb_tests::values::{boolean, bytes, double, int, interval, list, null, structure, text, value};

use super::{flight, query};
use crate::support::client;

/// The columns, with a value of each.
fn columns() -> [(&'static str, Value); 22] {
    [
        ("BOOLEAN", boolean(true)),
        ("SMALLINT", int(i16::MIN.into())),
        ("INT", int(i32::MIN.into())),
        ("BIGINT", int(i64::MAX)),
        ("SMALLINT UNSIGNED", value(Kind::UintValue(u16::MAX.into()))),
        ("INT UNSIGNED", value(Kind::UintValue(u32::MAX.into()))),
        ("BIGINT UNSIGNED", value(Kind::UintValue(u64::MAX))),
        ("REAL", value(Kind::FloatValue(0.5))),
        ("DOUBLE", double(0.1)),
        ("DECIMAL(38, 10)", value(Kind::DecimalValue("1234567890123456789012345678.0123456789".to_owned()))),
        ("DECIMAL(76, 0)", value(Kind::DecimalValue(LARGE.to_owned()))),
        ("TEXT", text("größe")),
        ("BYTES", bytes([0, 0xff, 0x10])),
        ("DATE", value(Kind::DateValue(19_782))),
        ("TIME", value(Kind::TimeValue(86_399_999_999))),
        ("TIMESTAMP", value(Kind::TimestampValue(NOON_US))),
        ("TIMESTAMP WITH TIME ZONE", value(Kind::TimestamptzValue(NOON_US))),
        ("INTERVAL", interval(1, 2, 3_000_000_000)),
        ("UUID", value(Kind::UuidValue("0190163d-8694-739b-aea5-966c26f8ad91".to_owned()))),
        ("JSON", value(Kind::JsonValue(r#"{"a": [1, null]}"#.to_owned()))),
        ("INT[]", list([int(1), null(), int(3)])),
        ("STRUCT<a INT, b TEXT>", structure([int(1), text("x")])),
    ]
}

const LARGE: &str = "1234567890123456789012345678901234567890123456789012345678901234567890";
/// 2024-02-29 12:34:56.789012.
const NOON_US: i64 = 1_709_210_096_789_012;

fn expected() -> [DataType; 22] {
    let item = |data_type| DataType::List(Arc::new(Field::new("item", data_type, true)));
    let fields = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)];
    [
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(38, 10),
        DataType::Decimal256(76, 0),
        DataType::Utf8,
        DataType::Binary,
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Utf8,
        DataType::Utf8,
        item(DataType::Int32),
        DataType::Struct(fields.into()),
    ]
}

#[tokio::test]
async fn every_type_arrives_exactly() {
    let client = client().await;
    let (names, values): (Vec<_>, Vec<_>) = columns().into_iter().unzip();
    let columns: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("c{i} {name}")).collect();
    client.run(&format!("CREATE USER TABLE types (id BIGINT PRIMARY KEY, {})", columns.join(", "))).await;
    let places: Vec<String> = (1..=values.len()).map(|n| format!("${n}")).collect();
    client.run_with(&format!("INSERT INTO types VALUES (1, {})", places.join(", ")), values).await;
    client.run("INSERT INTO types (id) VALUES (2)").await;
    let mut flight = flight(&client);
    // Hot, and from a segment.
    for tier in ["hot", "cold"] {
        if tier == "cold" {
            client.run("FLUSH TABLE types FORCE").await;
        }
        let batches = query(&mut flight, "SELECT * FROM types ORDER BY id").await.unwrap();
        let batch = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        check(&batch, tier);
    }
}

fn check(batch: &RecordBatch, tier: &str) {
    let schema = batch.schema();
    let types: Vec<&DataType> = schema.fields().iter().skip(1).map(|field| field.data_type()).collect();
    assert_eq!(types, expected().iter().collect::<Vec<_>>(), "{tier}");
    let names: Vec<&str> =
        schema.fields().iter().skip(1).map(|field| field.metadata()["ARROW:FLIGHT:SQL:TYPE_NAME"].as_str()).collect();
    assert_eq!(names[9..12], ["DECIMAL", "DECIMAL", "TEXT"]);
    assert_eq!(names[16..20], ["TIMESTAMP WITH TIME ZONE", "INTERVAL", "UUID", "JSON"]);
    assert!((1..23).all(|column| batch.column(column).is_null(1)), "{tier}");

    let column = |index: usize| batch.column(index + 1);
    assert!(column(0).as_boolean().value(0));
    assert_eq!(column(1).as_primitive::<Int16Type>().value(0), i16::MIN);
    assert_eq!(column(2).as_primitive::<Int32Type>().value(0), i32::MIN);
    assert_eq!(column(3).as_primitive::<Int64Type>().value(0), i64::MAX);
    assert_eq!(column(4).as_primitive::<UInt16Type>().value(0), u16::MAX);
    assert_eq!(column(5).as_primitive::<UInt32Type>().value(0), u32::MAX);
    assert_eq!(column(6).as_primitive::<UInt64Type>().value(0), u64::MAX);
    assert!((column(7).as_primitive::<Float32Type>().value(0) - 0.5).abs() < f32::EPSILON);
    assert_eq!(column(8).as_primitive::<Float64Type>().value(0).to_bits(), 0.1_f64.to_bits());
    let decimal = 12_345_678_901_234_567_890_123_456_780_123_456_789;
    assert_eq!(column(9).as_primitive::<Decimal128Type>().value(0), decimal);
    let large = i256::from_string(LARGE).unwrap();
    assert_eq!(column(10).as_primitive::<Decimal256Type>().value(0), large);
    assert_eq!(column(11).as_string::<i32>().value(0), "größe");
    assert_eq!(column(12).as_binary::<i32>().value(0), [0, 0xff, 0x10]);
    assert_eq!(column(13).as_primitive::<Date32Type>().value(0), 19_782);
    assert_eq!(column(14).as_primitive::<Time64MicrosecondType>().value(0), 86_399_999_999);
    assert_eq!(column(15).as_primitive::<TimestampMicrosecondType>().value(0), NOON_US);
    assert_eq!(column(16).as_primitive::<TimestampMicrosecondType>().value(0), NOON_US);
    let interval = column(17).as_primitive::<IntervalMonthDayNanoType>().value(0);
    assert_eq!((interval.months, interval.days, interval.nanoseconds), (1, 2, 3_000_000_000));
    assert_eq!(column(18).as_string::<i32>().value(0), "0190163d-8694-739b-aea5-966c26f8ad91");
    assert_eq!(column(19).as_string::<i32>().value(0), "{\"a\": [1, null]}");
    let list = column(20).as_list::<i32>().value(0);
    assert_eq!(list.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    assert_eq!(column(21).as_struct().column(1).as_string::<i32>().value(0), "x");
}

#[tokio::test]
async fn types_that_clients_cannot_read_are_sent_as_others() {
    let client = client().await;
    let mut flight = flight(&client);
    for (expression, data_type) in [
        ("arrow_cast('x', 'Dictionary(Int32, Utf8)')", DataType::Utf8),
        ("arrow_cast('x', 'Utf8View')", DataType::Utf8),
        ("arrow_cast('x', 'BinaryView')", DataType::Binary),
        ("arrow_cast('x', 'LargeUtf8')", DataType::LargeUtf8),
        ("NULL", DataType::Null),
    ] {
        let batches = query(&mut flight, &format!("SELECT {expression} AS c")).await;
        let batches = batches.unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert_eq!(batches[0].schema().field(0).data_type(), &data_type, "{expression}");
        assert_eq!(batches[0].num_rows(), 1);
    }
}
