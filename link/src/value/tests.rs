use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::{ConversionError, FromValue, Interval, IntoParams, Value};

#[test]
fn integers_convert_when_they_fit_and_never_otherwise() {
    assert_eq!(i16::try_from(Value::Int(-7)), Ok(-7));
    assert_eq!(i64::try_from(Value::UInt(7)), Ok(7));
    assert_eq!(u64::try_from(&Value::UInt(u64::MAX)), Ok(u64::MAX));
    assert_eq!(
        i64::try_from(&Value::UInt(u64::MAX)),
        Err(ConversionError::Range { expected: "i64", value: u64::MAX.to_string() })
    );
    assert_eq!(u8::try_from(Value::Int(-1)).unwrap_err().to_string(), "-1 does not fit into u8");
    assert_eq!(i64::try_from(Value::Text("1".into())).unwrap_err().to_string(), "a value of type TEXT is not a i64");
}

#[test]
fn null_is_read_only_as_an_option() {
    assert_eq!(Option::<i64>::from_value(&Value::Null), Ok(None));
    assert_eq!(Option::<i64>::from_value(&Value::Int(1)), Ok(Some(1)));
    assert!(i64::from_value(&Value::Null).is_err());
    assert!(Option::<i64>::from_value(&Value::Bool(true)).is_err());
}

#[test]
fn rust_values_become_sql_values() {
    let values = (1u8, -1i64, "a", String::from("b"), vec![1u8, 2], 1.5f32, None::<i32>, true).into_params();
    assert_eq!(
        values,
        [
            Value::UInt(1),
            Value::Int(-1),
            Value::Text("a".into()),
            Value::Text("b".into()),
            Value::Bytes(vec![1, 2]),
            Value::Float(1.5),
            Value::Null,
            Value::Bool(true),
        ]
    );
    assert_eq!(Value::from(b"ab"), Value::Bytes(vec![97, 98]));
    assert_eq!(Value::list([Some(1), None]), Value::List(vec![Value::Int(1), Value::Null]));
    assert_eq!(crate::params![], Vec::<Value>::new());
}

#[test]
fn lists_and_borrowed_values_are_read() {
    let list = Value::list(["a", "b"]);
    assert_eq!(Vec::<&str>::from_value(&list), Ok(vec!["a", "b"]));
    assert!(Vec::<i64>::from_value(&list).is_err());
    assert_eq!(<&[u8]>::from_value(&Value::Bytes(vec![7])), Ok(&[7u8][..]));
}

#[test]
fn times_before_and_after_the_epoch_survive() {
    for micros in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000] {
        let time = SystemTime::try_from(Value::TimestampTz(micros)).unwrap();
        assert_eq!(Value::from(time), Value::TimestampTz(micros));
    }
    assert_eq!(Value::from(UNIX_EPOCH - Duration::from_nanos(1)), Value::TimestampTz(-1));
}

#[test]
fn text_is_as_people_write_it() {
    let interval = |months, days, nanoseconds| Value::Interval(Interval { months, days, nanoseconds });
    for (value, text) in [
        (Value::Null, "NULL"),
        (Value::Int(i64::MIN), "-9223372036854775808"),
        (Value::Double(0.1), "0.1"),
        (Value::Double(3.0), "3"),
        (Value::Double(1e300), "1e300"),
        (Value::Double(f64::NAN), "NaN"),
        (Value::Float(0.1), "0.1"),
        (Value::Float(1e-10), "1e-10"),
        (Value::Decimal("-12.50".into()), "-12.50"),
        (Value::Bytes(vec![0, 255]), "\\x00ff"),
        (Value::Date(-1), "1969-12-31"),
        (Value::Time(86_399_999_999), "23:59:59.999999"),
        (Value::TimestampTz(0), "1970-01-01 00:00:00+00"),
        (Value::Uuid(Uuid::nil()), "00000000-0000-0000-0000-000000000000"),
        (Value::Struct(vec![Value::Int(1), Value::Null]), "(1, NULL)"),
        (interval(0, 0, 0), "00:00:00"),
        (interval(14, -1, -1_500_000_000), "1 year 2 mons -1 days -00:00:01.5"),
        (interval(i32::MIN, 0, i64::MIN), "-178956970 years -8 mons -2562047:47:16.854775808"),
    ] {
        assert_eq!(value.to_string(), text);
    }
}
