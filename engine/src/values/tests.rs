use std::sync::Arc;

use datafusion::arrow::{
    array::{
        BinaryViewArray, BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array,
        Int32Array, Int64Array, IntervalMonthDayNanoArray, LargeListArray, LargeStringArray, ListArray, NullArray,
        StringArray, StringViewArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
        TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{Field, Fields, Int8Type, Int32Type, i256},
};

use super::*;
use crate::types::StructField;

use CastContext::{Expression, Literal, Parameter};

fn decimal(precision: u8, scale: i8) -> SqlType {
    SqlType::Decimal { precision, scale }
}

fn cast(value: impl Array + 'static, to: &SqlType, context: CastContext) -> Result<ArrayRef> {
    let array: ArrayRef = Arc::new(value);
    let from = SqlType::from_arrow(array.data_type());
    let result = cast_column(&array, &from, to, "c", context)?;
    assert_eq!(result.data_type(), &to.to_arrow());
    assert_eq!(result.len(), array.len());
    Ok(result)
}

fn text(values: &[&str]) -> StringArray {
    StringArray::from(values.to_vec())
}

/// The values of a column as text.
fn shown(array: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
    (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
}

fn read(value: &str, to: &SqlType) -> Result<String> {
    Ok(shown(&cast(text(&[value]), to, Literal)?).remove(0))
}

fn message(result: Result<impl std::fmt::Debug>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidValue);
    error.message().to_owned()
}

#[test]
fn integers_are_checked() {
    let result = cast(Int64Array::from(vec![Some(1), None, Some(-32768)]), &SqlType::SmallInt, Expression).unwrap();
    assert_eq!(shown(&result), ["1", "NULL", "-32768"]);
    let result = cast(Int64Array::from(vec![Some(1), None, Some(32768)]), &SqlType::SmallInt, Expression);
    assert_eq!(message(result), "Column \"c\": 32768 is out of range for SMALLINT.");
    assert!(cast(Int64Array::from(vec![-1]), &SqlType::BigIntUnsigned, Expression).is_err());
    assert!(cast(UInt64Array::from(vec![u64::MAX]), &SqlType::BigInt, Expression).is_err());
    assert_eq!(shown(&cast(Int8Array::from(vec![-5]), &SqlType::Int, Expression).unwrap()), ["-5"]);
}

#[test]
fn floats_to_integers_round_half_to_even() {
    let floats = Float64Array::from(vec![0.5, 1.5, 2.5, -0.5, -1.5, 1e9, 2_147_483_647.4]);
    let result = cast(floats, &SqlType::Int, Expression).unwrap();
    assert_eq!(shown(&result), ["0", "2", "2", "0", "-2", "1000000000", "2147483647"]);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2_147_483_647.5, -1e300] {
        assert!(cast(Float64Array::from(vec![bad]), &SqlType::Int, Expression).is_err(), "{bad}");
    }
    // Rounded as f64, 2^63 is one more than the largest BIGINT.
    assert!(cast(Float64Array::from(vec![9.223_372_036_854_776e18]), &SqlType::BigInt, Expression).is_err());
    assert!(cast(Float64Array::from(vec![-9.223_372_036_854_776e18]), &SqlType::BigInt, Expression).is_ok());
    assert_eq!(shown(&cast(Float32Array::from(vec![2.5]), &SqlType::SmallInt, Expression).unwrap()), ["2"]);
}

#[test]
fn floats_do_not_become_infinite() {
    assert!(
        message(cast(Float64Array::from(vec![1e39]), &SqlType::Real, Expression)).contains("out of range for REAL")
    );
    assert_eq!(shown(&cast(Float64Array::from(vec![f64::INFINITY]), &SqlType::Real, Expression).unwrap()), ["inf"]);
    assert_eq!(shown(&cast(Int64Array::from(vec![7]), &SqlType::Double, Expression).unwrap()), ["7.0"]);
}

#[test]
fn decimals_round_half_away_from_zero() {
    let source =
        Decimal128Array::from(vec![Some(1005), Some(-1005), Some(1004), None]).with_precision_and_scale(10, 3).unwrap();
    assert_eq!(shown(&cast(source.clone(), &decimal(5, 2), Expression).unwrap()), ["1.01", "-1.01", "1.00", "NULL"]);
    assert_eq!(
        shown(&cast(source.clone(), &decimal(40, 5), Expression).unwrap()),
        ["1.00500", "-1.00500", "1.00400", "NULL"]
    );
    assert_eq!(shown(&cast(source.clone(), &SqlType::Int, Expression).unwrap()), ["1", "-1", "1", "NULL"]);
    assert_eq!(shown(&cast(source, &SqlType::Double, Expression).unwrap()), ["1.005", "-1.005", "1.004", "NULL"]);
    let halves = Decimal128Array::from(vec![25, -25, 35]).with_precision_and_scale(10, 1).unwrap();
    assert_eq!(shown(&cast(halves, &SqlType::BigInt, Expression).unwrap()), ["3", "-3", "4"]);
}

#[test]
fn numbers_to_decimals() {
    assert_eq!(shown(&cast(Int64Array::from(vec![12, -3]), &decimal(4, 2), Expression).unwrap()), ["12.00", "-3.00"]);
    assert_eq!(
        message(cast(Int64Array::from(vec![100]), &decimal(4, 2), Expression)),
        "Column \"c\": 100 is out of range for DECIMAL(4, 2)."
    );
    assert_eq!(
        shown(&cast(UInt64Array::from(vec![u64::MAX]), &decimal(20, 0), Expression).unwrap()),
        ["18446744073709551615"]
    );
    let floats = Float64Array::from(vec![0.1, 1.005, -2.675, 1e-300, 99.994]);
    assert_eq!(shown(&cast(floats, &decimal(4, 2), Expression).unwrap()), ["0.10", "1.01", "-2.68", "0.00", "99.99"]);
    assert_eq!(
        shown(&cast(Float32Array::from(vec![0.1]), &decimal(20, 15), Expression).unwrap()),
        ["0.100000000000000"]
    );
    for bad in [f64::NAN, f64::INFINITY, 99.995, 1e300] {
        assert!(cast(Float64Array::from(vec![bad]), &decimal(4, 2), Expression).is_err(), "{bad}");
    }
}

#[test]
fn decimals_of_all_sizes() {
    let nines = "9".repeat(76);
    assert_eq!(read(&nines, &decimal(76, 0)).unwrap(), nines);
    assert_eq!(read(&format!("-{nines}"), &decimal(76, 0)).unwrap(), format!("-{nines}"));
    assert!(read(&format!("{nines}.5"), &decimal(76, 0)).is_err());
    assert!(read(&"9".repeat(77), &decimal(76, 0)).is_err());
    assert_eq!(read(&format!("0.{}", "9".repeat(200)), &decimal(76, 3)).unwrap(), "1.000");
    let large = DecimalColumn::large(i256::MAX);
    assert!(cast(large.0, &decimal(38, 0), Expression).is_err());
}

/// A DECIMAL(76, 0) column, which may hold more than it should.
struct DecimalColumn(datafusion::arrow::array::Decimal256Array);

impl DecimalColumn {
    fn large(value: i256) -> Self {
        let array = datafusion::arrow::array::Decimal256Array::from(vec![value]);
        Self(array.with_precision_and_scale(76, 0).unwrap())
    }
}

#[test]
fn decimals_from_text() {
    let cases = [
        ("1", "1.00"),
        (" +1.5 ", "1.50"),
        ("-0", "0.00"),
        (".5", "0.50"),
        ("5.", "5.00"),
        ("1e1", "10.00"),
        ("1.005", "1.01"),
        ("-1.005", "-1.01"),
        ("0.004", "0.00"),
        ("123e-2", "1.23"),
        ("1e-2000000000", "0.00"),
        ("0e999999", "0.00"),
        ("000001.1", "1.10"),
        ("0.000000000000000000001", "0.00"),
    ];
    for (given, expected) in cases {
        assert_eq!(read(given, &decimal(4, 2)).unwrap(), expected, "{given}");
    }
    for bad in
        ["", " ", "abc", "1.2.3", "--1", "+-1", "1e", "e1", ".", "-", "1e99999999999", "0x10", "NaN", "inf", "1_0", "é"]
    {
        assert_eq!(message(read(bad, &decimal(4, 2))), format!("Column \"c\": '{bad}' is not a valid DECIMAL(4, 2)."));
    }
    for large in ["100", "99.995", "1e2000000000", "1e75"] {
        assert!(message(read(large, &decimal(4, 2))).contains("out of range"), "{large}");
    }
}

#[test]
fn numbers_and_booleans_from_literals() {
    assert_eq!(read(" 42 ", &SqlType::Int).unwrap(), "42");
    assert_eq!(read("+7", &SqlType::SmallIntUnsigned).unwrap(), "7");
    assert_eq!(message(read("abc", &SqlType::Int)), "Column \"c\": 'abc' is not a valid INT.");
    assert_eq!(message(read("1.5", &SqlType::Int)), "Column \"c\": '1.5' is not a valid INT.");
    assert_eq!(message(read("3000000000", &SqlType::Int)), "Column \"c\": 3000000000 is out of range for INT.");
    assert!(message(read("99999999999999999999999999999999999999999999", &SqlType::BigInt)).contains("out of range"));
    assert_eq!(read("1.5", &SqlType::Double).unwrap(), "1.5");
    assert_eq!(read("-Infinity", &SqlType::Real).unwrap(), "-inf");
    assert_eq!(read("NaN", &SqlType::Double).unwrap(), "NaN");
    assert!(message(read("1e999", &SqlType::Double)).contains("out of range"));
    assert!(message(read("1e39", &SqlType::Real)).contains("out of range"));
    for (word, expected) in
        [("true", "true"), ("T", "true"), ("on", "true"), ("1", "true"), ("No", "false"), (" off ", "false")]
    {
        assert_eq!(read(word, &SqlType::Boolean).unwrap(), expected);
    }
    assert!(read("maybe", &SqlType::Boolean).is_err());
}

#[test]
fn typed_text_is_not_a_number() {
    for to in [SqlType::Int, SqlType::Double, SqlType::Boolean] {
        let error = cast(text(&["1"]), &to, Parameter(2)).unwrap_err();
        assert_eq!(error.reason(), Reason::ParameterTypeMismatch);
        assert_eq!(error.metadata()["parameter"], "$2");
        assert_eq!(error.metadata()["expected"], to.to_string());
        assert_eq!(error.metadata()["given"], "TEXT");
        assert_eq!(cast(text(&["1"]), &to, Expression).unwrap_err().reason(), Reason::InvalidValue);
    }
    assert_eq!(shown(&cast(text(&["1.25"]), &decimal(5, 1), Parameter(1)).unwrap()), ["1.3"]);
    assert!(cast(text(&["1.25"]), &decimal(5, 1), Expression).is_err());
}

#[test]
fn what_has_no_cast() {
    let error = cast(BooleanArray::from(vec![true]), &SqlType::Int, Parameter(1)).unwrap_err();
    assert_eq!(error.message(), "Parameter $1 for column \"c\" must be INT, but BOOLEAN was given.");
    let error = cast(Int64Array::from(vec![1]), &SqlType::Boolean, Literal).unwrap_err();
    assert_eq!(
        error.message(),
        "Column \"c\" is BOOLEAN, but the value is BIGINT. Convert it with CAST if that is meant."
    );
    for to in [SqlType::Timestamp, SqlType::Date, SqlType::Bytes, SqlType::Uuid, SqlType::Json, SqlType::Interval] {
        assert!(cast(Int64Array::from(vec![1]), &to, Literal).is_err(), "{to}");
    }
    assert!(cast(BinaryViewArray::from_iter_values([b"a"]), &SqlType::Text, Expression).is_err());
    assert!(cast(text(&["a"]), &SqlType::List(Box::new(SqlType::Text)), Literal).is_err());
    assert!(!is_assignable(&SqlType::Uuid, &SqlType::Json, Literal));
    assert!(!is_assignable(&SqlType::Text, &SqlType::Null, Literal));
}

#[test]
fn scalars_to_text() {
    assert_eq!(
        shown(&cast(Int64Array::from(vec![Some(-7), None]), &SqlType::Text, Expression).unwrap()),
        ["-7", "NULL"]
    );
    assert_eq!(shown(&cast(Float64Array::from(vec![1.5]), &SqlType::Text, Expression).unwrap()), ["1.5"]);
    assert_eq!(shown(&cast(BooleanArray::from(vec![true]), &SqlType::Text, Expression).unwrap()), ["true"]);
    assert_eq!(
        shown(&cast(TimestampMicrosecondArray::from(vec![0]), &SqlType::Text, Expression).unwrap()),
        ["1970-01-01T00:00:00"]
    );
    let price = Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).unwrap();
    assert_eq!(shown(&cast(price, &SqlType::Text, Expression).unwrap()), ["1.50"]);
}

#[test]
fn every_encoding_of_text() {
    let expected = ["a", "NULL", "a longer text than fits inline"];
    let values = vec![Some("a"), None, Some("a longer text than fits inline")];
    assert_eq!(shown(&cast(StringArray::from(values.clone()), &SqlType::Text, Expression).unwrap()), expected);
    assert_eq!(shown(&cast(LargeStringArray::from(values.clone()), &SqlType::Text, Expression).unwrap()), expected);
    assert_eq!(shown(&cast(StringViewArray::from(values.clone()), &SqlType::Text, Expression).unwrap()), expected);
    let dictionary: DictionaryArray<Int32Type> = values.into_iter().collect();
    assert_eq!(shown(&cast(dictionary, &SqlType::Text, Expression).unwrap()), expected);
    let numbers: DictionaryArray<Int32Type> = ["1", "2", "1"].into_iter().collect();
    assert_eq!(shown(&cast(numbers, &SqlType::Int, Literal).unwrap()), ["1", "2", "1"]);
}

#[test]
fn times_from_text() {
    for given in [
        "2024-02-03 04:05:06.789",
        "2024-02-03T04:05:06.789",
        "2024-02-03T04:05:06.789Z",
        "2024-02-03T06:05:06.789+02:00",
        " 2024-02-03 04:05:06.789 ",
    ] {
        assert_eq!(read(given, &SqlType::Timestamp).unwrap(), "2024-02-03T04:05:06.789", "{given}");
        assert_eq!(read(given, &SqlType::TimestampTz).unwrap(), "2024-02-03T04:05:06.789Z", "{given}");
    }
    assert_eq!(read("2024-02-03", &SqlType::Timestamp).unwrap(), "2024-02-03T00:00:00");
    assert_eq!(read("2024-02-03", &SqlType::Date).unwrap(), "2024-02-03");
    assert_eq!(read("1969-12-31 23:59:59", &SqlType::Date).unwrap(), "1969-12-31");
    assert_eq!(read("04:05:06.789012", &SqlType::Time).unwrap(), "04:05:06.789012");
    assert!(read("1 day 2 hours", &SqlType::Interval).is_ok());
    for to in [SqlType::Timestamp, SqlType::TimestampTz, SqlType::Date, SqlType::Time, SqlType::Interval] {
        for bad in ["", "abc", "2024-13-01", "2024-02-30 00:00:00", "25:00:00", "\u{1F600}"] {
            assert!(message(read(bad, &to)).contains("is not a valid"), "{bad} as {to}");
        }
    }
    assert!(cast(text(&["2024-02-03"]), &SqlType::Date, Parameter(1)).is_ok());
}

#[test]
fn times_among_one_another() {
    let before_1970 = TimestampMicrosecondArray::from(vec![-1]);
    assert_eq!(shown(&cast(before_1970.clone(), &SqlType::Date, Expression).unwrap()), ["1969-12-31"]);
    assert_eq!(shown(&cast(before_1970, &SqlType::Time, Expression).unwrap()), ["23:59:59.999999"]);
    let berlin = TimestampNanosecondArray::from(vec![1_000_000_000]).with_timezone("+01:00");
    assert_eq!(shown(&cast(berlin.clone(), &SqlType::Timestamp, Expression).unwrap()), ["1970-01-01T00:00:01"]);
    assert_eq!(shown(&cast(berlin, &SqlType::TimestampTz, Expression).unwrap()), ["1970-01-01T00:00:01Z"]);
    let days = datafusion::arrow::array::Date32Array::from(vec![1]);
    assert_eq!(shown(&cast(days, &SqlType::TimestampTz, Expression).unwrap()), ["1970-01-02T00:00:00Z"]);
    assert!(
        cast(datafusion::arrow::array::Date32Array::from(vec![i32::MAX]), &SqlType::Timestamp, Expression).is_err()
    );
    assert!(cast(TimestampSecondArray::from(vec![i64::MAX]), &SqlType::Timestamp, Expression).is_err());
}

#[test]
fn uuids_are_made_canonical() {
    let canonical = "018cc778-507b-7abc-8def-0123456789ab";
    for given in [
        canonical,
        "018CC778-507B-7ABC-8DEF-0123456789AB",
        "018cc778507b7abc8def0123456789ab",
        "{018cc778-507b-7abc-8def-0123456789ab}",
    ] {
        assert_eq!(read(given, &SqlType::Uuid).unwrap(), canonical);
    }
    assert_eq!(message(read("018cc778", &SqlType::Uuid)), "Column \"c\": '018cc778' is not a valid UUID.");
}

#[test]
fn json_is_checked_and_stored_as_given() {
    let given = "{\"b\": [1, 2.50],  \"a\": \"\\\"[\"}";
    assert_eq!(read(given, &SqlType::Json).unwrap(), given);
    assert!(message(read("{\"a\":}", &SqlType::Json)).contains("not valid JSON"));
    assert!(read("", &SqlType::Json).is_err());
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    assert!(read(&nested(128), &SqlType::Json).is_ok());
    assert!(message(read(&nested(129), &SqlType::Json)).contains("nested deeper"));
    assert!(read(&nested(1_000_000), &SqlType::Json).is_err());
}

#[test]
fn bytes_from_text() {
    let cases: [(&str, &[u8]); 5] =
        [("\\xDEADbeef", &[0xDE, 0xAD, 0xBE, 0xEF]), ("\\x", &[]), ("", &[]), ("abc", b"abc"), ("é", "é".as_bytes())];
    for (given, expected) in cases {
        let result = cast(text(&[given]), &SqlType::Bytes, Parameter(1)).unwrap();
        assert_eq!(result.as_binary_view().value(0), expected, "{given}");
    }
    for bad in ["\\xABC", "\\xZZ", "\\x+1", "\\xé"] {
        assert!(read(bad, &SqlType::Bytes).is_err(), "{bad}");
    }
}

#[test]
fn nulls_fit_everywhere() {
    for to in [SqlType::Int, SqlType::Json, SqlType::List(Box::new(SqlType::Uuid)), decimal(40, 2)] {
        assert_eq!(cast(NullArray::new(2), &to, Parameter(1)).unwrap().logical_null_count(), 2);
    }
    assert_eq!(cast(Float64Array::from(vec![None]), &SqlType::Int, Expression).unwrap().null_count(), 1);
}

#[test]
fn lists_element_by_element() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    let to = SqlType::List(Box::new(SqlType::SmallInt));
    assert_eq!(shown(&cast(list.clone(), &to, Expression).unwrap()), ["[1, NULL]", "NULL", "[]"]);
    let large = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(70000)])]);
    assert_eq!(message(cast(large.clone(), &to, Expression)), "Column \"c\": 70000 is out of range for SMALLINT.");
    // Elements that no list shows must not fail.
    let field = Arc::new(Field::new("item", DataType::Int32, true));
    let values: ArrayRef = Arc::new(Int32Array::from(vec![70000, 1, 70000, 2]));
    let offsets = OffsetBuffer::from_lengths([1, 1, 1, 1]);
    let hidden = ListArray::new(field, offsets, values, Some(NullBuffer::from(vec![true, true, false, true])));
    assert_eq!(shown(&cast(hidden.slice(1, 3), &to, Expression).unwrap()), ["[1]", "NULL", "[2]"]);
    assert!(cast(hidden, &to, Expression).is_err());
    let empty = ListArray::new_null(Arc::new(Field::new("x", DataType::Null, true)), 1);
    assert!(cast(empty, &to, Expression).is_ok());
    assert!(cast(large, &SqlType::List(Box::new(SqlType::Boolean)), Expression).is_err());
}

#[test]
fn structs_field_by_field() {
    let fields = |names: [&str; 2]| {
        Fields::from(vec![Field::new(names[0], DataType::Int64, true), Field::new(names[1], DataType::Utf8, true)])
    };
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(text(&["{}", "nonsense"]))];
    let nulls = Some(NullBuffer::from(vec![true, false]));
    let to = SqlType::Struct(vec![
        StructField { name: "doc".to_owned(), sql_type: SqlType::Json },
        StructField { name: "n".to_owned(), sql_type: SqlType::Int },
    ]);
    // The nonsense lies in a row that is NULL.
    let named = StructArray::new(fields(["n", "doc"]), columns.clone(), nulls.clone());
    assert_eq!(shown(&cast(named, &to, Expression).unwrap()), ["{doc: {}, n: 1}", "NULL"]);
    let bad = StructArray::new(fields(["n", "doc"]), columns.clone(), None);
    assert!(message(cast(bad, &to, Expression)).contains("not valid JSON"));
    let unnamed = StructArray::new(fields(["c0", "c1"]), columns.clone(), nulls.clone());
    let positional = SqlType::Struct(vec![
        StructField { name: "n".to_owned(), sql_type: SqlType::SmallInt },
        StructField { name: "doc".to_owned(), sql_type: SqlType::Json },
    ]);
    assert_eq!(shown(&cast(unnamed, &positional, Expression).unwrap()), ["{n: 1, doc: {}}", "NULL"]);
    let other = StructArray::new(fields(["a", "b"]), columns, nulls);
    assert!(cast(other, &to, Expression).is_err());
}

#[test]
fn known_uuids_and_json_are_not_read_again() {
    let array: ArrayRef = Arc::new(StringViewArray::from(vec!["{}"]));
    let result = cast_column(&array, &SqlType::Json, &SqlType::Json, "c", Expression).unwrap();
    assert!(Arc::ptr_eq(&result, &array));
    assert!(cast_column(&array, &SqlType::Json, &SqlType::Text, "c", Expression).is_ok());
}

/// Values as a client sends them that says they are of a type.
fn untrusted(values: impl Array + 'static, sql_type: &SqlType) -> Result<ArrayRef> {
    let array: ArrayRef = Arc::new(values);
    let result = cast_untrusted(&array, sql_type, sql_type, "c")?;
    assert_eq!((result.data_type(), result.len()), (&sql_type.to_arrow(), array.len()));
    Ok(result)
}

const CANONICAL: &str = "018cc778-507b-7abc-8def-0123456789ab";

#[test]
fn what_clients_say_of_values_is_checked() {
    let upper = CANONICAL.to_uppercase();
    let uuids = StringArray::from(vec![Some(upper.as_str()), None, Some(CANONICAL)]);
    assert_eq!(shown(&untrusted(uuids, &SqlType::Uuid).unwrap()), [CANONICAL, "NULL", CANONICAL]);
    assert_eq!(message(untrusted(text(&["ABC"]), &SqlType::Uuid)), "Column \"c\": 'ABC' is not a valid UUID.");
    assert!(message(untrusted(text(&["{}", "not json"]), &SqlType::Json)).contains("not valid JSON"));
    let prices = |values: Vec<Option<i128>>| Decimal128Array::from(values).with_precision_and_scale(10, 2).unwrap();
    assert!(untrusted(prices(vec![Some(9_999_999_999), None, Some(-9_999_999_999)]), &decimal(10, 2)).is_ok());
    for large in [10_i128.pow(10), -(10_i128.pow(30)), i128::MIN] {
        let refused = message(untrusted(prices(vec![Some(1), Some(large)]), &decimal(10, 2)));
        assert!(refused.contains("is out of range for DECIMAL(10, 2)"), "{refused}");
    }
    assert!(untrusted(DecimalColumn::large(i256::MAX).0, &decimal(76, 0)).is_err());
    assert!(untrusted(DecimalColumn::large(i256::from_i128(7)).0, &decimal(76, 0)).is_ok());
    assert!(untrusted(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999)]), &SqlType::Time).is_ok());
    for outside in [-1, 86_400_000_000, i64::MAX] {
        assert_eq!(
            message(untrusted(Time64MicrosecondArray::from(vec![0, outside]), &SqlType::Time)),
            format!("Column \"c\": {outside} µs is out of range for TIME.")
        );
    }
    // Those that were checked are not asked again, and what cannot be wrong is not copied.
    let canonical: ArrayRef = Arc::new(StringViewArray::from(vec![CANONICAL]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for (array, sql_type) in [(canonical, SqlType::Uuid), (numbers, SqlType::BigInt)] {
        assert!(Arc::ptr_eq(&cast_untrusted(&array, &sql_type, &sql_type, "c").unwrap(), &array));
    }
    // On the way to another type it is what it is.
    let array: ArrayRef = Arc::new(text(&["ABC"]));
    assert_eq!(shown(&cast_untrusted(&array, &SqlType::Uuid, &SqlType::Text, "c").unwrap()), ["ABC"]);
}

#[test]
fn what_clients_say_of_nested_values_is_checked() {
    let documents = SqlType::List(Box::new(SqlType::Json));
    let values: ArrayRef = Arc::new(StringViewArray::from(vec!["bad", "{}", "bad", "[]"]));
    let field = Arc::new(SqlType::Json.to_field("item", true));
    let nulls = Some(NullBuffer::from(vec![true, true, false, true]));
    let lists = ListArray::new(field, OffsetBuffer::from_lengths([1, 1, 1, 1]), values, nulls);
    // Neither what is not shown nor what a NULL hides.
    assert_eq!(shown(&untrusted(lists.slice(1, 3), &documents).unwrap()), ["[{}]", "NULL", "[[]]"]);
    assert!(message(untrusted(lists, &documents)).contains("not valid JSON"));

    let pairs = SqlType::Struct(vec![
        StructField { name: "u".to_owned(), sql_type: SqlType::Uuid },
        StructField { name: "n".to_owned(), sql_type: decimal(4, 2) },
    ]);
    let DataType::Struct(fields) = pairs.to_arrow() else { panic!("a struct expected") };
    let upper = CANONICAL.to_uppercase();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec!["ABC", upper.as_str()])),
        Arc::new(Decimal128Array::from(vec![10_i128.pow(20), 150]).with_precision_and_scale(4, 2).unwrap()),
    ];
    let hidden = StructArray::new(fields.clone(), columns.clone(), Some(NullBuffer::from(vec![false, true])));
    assert_eq!(
        shown(&untrusted(hidden.clone(), &pairs).unwrap()),
        ["NULL".to_owned(), format!("{{u: {CANONICAL}, n: 1.50}}")]
    );
    assert_eq!(untrusted(hidden.slice(1, 1), &pairs).unwrap().len(), 1);
    assert!(untrusted(StructArray::new(fields, columns, None), &pairs).is_err());
}

#[test]
fn nulls_without_a_type_do_not_become_large() {
    let nulls = |count: usize| {
        let field = Arc::new(Field::new("item", DataType::Null, true));
        ListArray::new(field, OffsetBuffer::from_lengths([count]), Arc::new(NullArray::new(count)), None)
    };
    let texts = SqlType::List(Box::new(SqlType::Text));
    assert_eq!(cast(nulls(1_000_000), &texts, Expression).unwrap().as_list::<i32>().values().null_count(), 1_000_000);
    assert!(message(cast(nulls(2_000_000), &texts, Expression)).contains("2000000 NULLs without a type"));
    let wide = (0..100).map(|i| StructField { name: format!("f{i}"), sql_type: SqlType::BigInt }).collect();
    let wide = SqlType::List(Box::new(SqlType::Struct(wide)));
    assert!(cast(nulls(1_000), &wide, Expression).is_ok());
    assert!(cast(nulls(1_000_000), &wide, Expression).is_err());
}

#[test]
fn only_the_elements_of_the_lists_are_converted() {
    let lists = LargeListArray::from_iter_primitive::<Int8Type, _, _>([
        Some(vec![Some(1), Some(2)]),
        None,
        Some(vec![Some(3)]),
        Some(vec![Some(4), None]),
        Some(vec![Some(5)]),
    ]);
    let to = SqlType::List(Box::new(SqlType::SmallInt));
    assert_eq!(shown(&cast(lists.slice(1, 3), &to, Expression).unwrap()), ["NULL", "[3]", "[4, NULL]"]);
    let part: ArrayRef = Arc::new(lists.slice(1, 3));
    assert_eq!(plain_encoding(&part, &to).unwrap().as_list::<i32>().values().len(), 3);
    assert!(cast(lists.slice(0, 0), &to, Expression).unwrap().is_empty());
}

#[test]
fn parts_of_structs_are_masked_where_they_are() {
    let every = |n: usize| move |row: usize| (!row.is_multiple_of(n)).then_some(row);
    let flags: BooleanArray = (0..1_000).map(every(3)).map(|row| row.map(|row| row % 2 > 0)).collect();
    let numbers: Int64Array = (0..1_000).map(every(5)).map(|row| row.map(|row| row as i64)).collect();
    let fields = Fields::from(vec![Field::new("ok", DataType::Boolean, true), Field::new("n", DataType::Int64, true)]);
    let nulls = NullBuffer::from_iter((0..1_000).map(|row| row % 7 > 0));
    let structs = StructArray::new(fields, vec![Arc::new(flags), Arc::new(numbers)], Some(nulls));
    let to = SqlType::Struct(vec![
        StructField { name: "ok".to_owned(), sql_type: SqlType::Boolean },
        StructField { name: "n".to_owned(), sql_type: SqlType::Int },
    ]);
    let all = shown(&cast(structs.clone(), &to, Expression).unwrap());
    assert_eq!(shown(&cast(structs.slice(501, 99), &to, Expression).unwrap()), all[501..600]);
}

#[test]
fn times_that_have_no_text_are_refused() {
    for time in [-1, 90_000_000_000] {
        let refused = message(cast(Time64MicrosecondArray::from(vec![time]), &SqlType::Text, Expression));
        assert!(refused.contains("TIME is out of range"), "{refused}");
    }
    assert!(cast(TimestampMicrosecondArray::from(vec![i64::MAX]), &SqlType::Text, Expression).is_err());
}

#[test]
fn single_values() {
    let value = ScalarValue::from("2024-02-03");
    let result = cast_scalar(&value, &SqlType::Text, &SqlType::Date, "c", Parameter(1)).unwrap();
    assert_eq!(result, ScalarValue::Date32(Some(19756)));
    let same = ScalarValue::Int64(Some(3));
    assert_eq!(cast_scalar(&same, &SqlType::BigInt, &SqlType::BigInt, "c", Literal).unwrap(), same);
    let null = cast_scalar(&ScalarValue::Null, &SqlType::Null, &SqlType::Text, "c", Parameter(1)).unwrap();
    assert_eq!(null, ScalarValue::Utf8View(None));
}

#[test]
fn not_null() {
    assert!(check_not_null(&Int64Array::from(vec![1]), "id").is_ok());
    let error = check_not_null(&Int64Array::from(vec![Some(1), None]), "id").unwrap_err();
    assert_eq!((error.reason(), error.message()), (Reason::NotNullViolation, "Column \"id\" must not be NULL."));
    assert!(check_not_null(&NullArray::new(1), "id").is_err());
    assert!(check_not_null(&NullArray::new(0), "id").is_ok());
}

#[test]
fn intervals_stay() {
    let interval = IntervalMonthDayNanoArray::from(vec![None]);
    assert!(cast(interval, &SqlType::Interval, Expression).is_ok());
}

#[test]
fn long_values_are_shortened_in_messages() {
    let error = read(&"é".repeat(1000), &SqlType::Int).unwrap_err();
    assert!(error.message().chars().count() < 120, "{}", error.message());
}
