use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, Decimal256Array,
        DictionaryArray, FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
        IntervalDayTimeArray, IntervalMonthDayNanoArray, LargeStringArray, ListArray, MapBuilder, NullArray,
        RecordBatch, StringArray, StringBuilder, StringViewArray, StructArray, Time32SecondArray,
        Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
        TimestampSecondArray, UInt64Array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields, Int32Type, IntervalDayTime, IntervalMonthDayNano, Schema, TimeUnit, i256},
    ipc::reader::StreamReader,
};
use datafusion::common::ScalarValue;
use kalamdb_engine::{Parameter, Reason, ResultColumn, SqlType, StructField};
use kalamdb_proto::v1::{self, Interval, ListValue, StructValue, Value, value::Kind};
use proptest::prelude::*;

use super::*;

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn null() -> Value {
    value(Kind::NullValue(0))
}

fn int(v: i64) -> Value {
    value(Kind::IntValue(v))
}

fn text(v: &str) -> Value {
    value(Kind::TextValue(v.to_owned()))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

fn structure(values: Vec<Value>) -> Value {
    value(Kind::StructValue(StructValue { values }))
}

/// The values of one column.
fn column_as(array: ArrayRef, sql_type: SqlType) -> Vec<Value> {
    let schema = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap();
    let columns = [ResultColumn { name: "c".to_owned(), sql_type, nullable: true }];
    to_rows(&batch, &columns).unwrap().into_iter().map(|mut row| row.values.remove(0)).collect()
}

/// The values of a column of the type nearest to its Arrow type.
fn column(array: impl Array + 'static) -> Vec<Value> {
    let sql_type = SqlType::from_arrow(array.data_type());
    column_as(Arc::new(array), sql_type)
}

#[test]
fn numbers_are_exact() {
    assert_eq!(
        column(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
        [int(i64::MIN), null(), int(i64::MAX)]
    );
    assert_eq!(column(Int8Array::from(vec![-128])), [int(-128)]);
    assert_eq!(column(Int16Array::from(vec![-7])), [int(-7)]);
    assert_eq!(column(UInt64Array::from(vec![u64::MAX])), [value(Kind::UintValue(u64::MAX))]);
    assert_eq!(column(Float32Array::from(vec![0.1])), [value(Kind::FloatValue(0.1))]);
    let doubles = column(Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY, -0.0]));
    let bits = |value: &Value| match value.kind {
        Some(Kind::DoubleValue(v)) => v.to_bits(),
        _ => panic!("{value:?}"),
    };
    assert_eq!(doubles.iter().map(bits).collect::<Vec<_>>(), [f64::NAN, f64::NEG_INFINITY, -0.0].map(f64::to_bits));
    assert_eq!(column(BooleanArray::from(vec![Some(true), None])), [value(Kind::BoolValue(true)), null()]);
    assert_eq!(column(NullArray::new(2)), [null(), null()]);
}

#[test]
fn decimals_have_exactly_their_scale() {
    let decimal = |text: &str| value(Kind::DecimalValue(text.to_owned()));
    let array =
        Decimal128Array::from(vec![Some(-1250), Some(5), Some(0), None]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(column(array), [decimal("-12.50"), decimal("0.05"), decimal("0.00"), null()]);
    let digits = "9".repeat(76);
    let array =
        Decimal256Array::from(vec![i256::from_string(&digits).unwrap()]).with_precision_and_scale(76, 10).unwrap();
    assert_eq!(column(array), [decimal(&format!("{}.{}", "9".repeat(66), "9".repeat(10)))]);
    let array = Decimal128Array::from(vec![12]).with_precision_and_scale(10, -2).unwrap();
    assert_eq!(column(array), [decimal("1200")]);
}

#[test]
fn texts_of_every_layout() {
    let expected = [text("é\0🦀"), null(), text("")];
    let texts = vec![Some("é\0🦀"), None, Some("")];
    assert_eq!(column(StringArray::from(texts.clone())), expected);
    assert_eq!(column(LargeStringArray::from(texts.clone())), expected);
    assert_eq!(column(StringViewArray::from(texts.clone())), expected);
    assert_eq!(column(texts.into_iter().collect::<DictionaryArray<Int32Type>>()), expected);
    let uuid = "0193a1f0-0000-7000-8000-000000000000";
    let array = Arc::new(StringViewArray::from(vec![uuid]));
    assert_eq!(column_as(array.clone(), SqlType::Uuid), [value(Kind::UuidValue(uuid.to_owned()))]);
    assert_eq!(column_as(array, SqlType::Json), [value(Kind::JsonValue(uuid.to_owned()))]);
    let array = BinaryViewArray::from(vec![Some(&b"\x00\xff"[..]), None]);
    assert_eq!(column(array), [value(Kind::BytesValue(vec![0, 255])), null()]);
}

#[test]
fn times_of_every_unit_are_microseconds() {
    let stamp = |us| value(Kind::TimestampValue(us));
    assert_eq!(column(TimestampMicrosecondArray::from(vec![-1])), [stamp(-1)]);
    assert_eq!(column(TimestampNanosecondArray::from(vec![-1, 1_999])), [stamp(-1), stamp(1)]);
    assert_eq!(column(TimestampMillisecondArray::from(vec![Some(3), None])), [stamp(3_000), null()]);
    assert_eq!(column(TimestampSecondArray::from(vec![-3])), [stamp(-3_000_000)]);
    let zoned = TimestampMicrosecondArray::from(vec![5]).with_timezone("Europe/Berlin");
    assert_eq!(column(zoned), [value(Kind::TimestamptzValue(5))]);
    assert_eq!(column(Date32Array::from(vec![i32::MIN])), [value(Kind::DateValue(i32::MIN))]);
    assert_eq!(column(Date64Array::from(vec![-1])), [value(Kind::DateValue(-1))]);
    assert_eq!(column(Time32SecondArray::from(vec![2])), [value(Kind::TimeValue(2_000_000))]);
    assert_eq!(column(Time64MicrosecondArray::from(vec![2])), [value(Kind::TimeValue(2))]);
    let interval = |months, days, nanoseconds| value(Kind::IntervalValue(Interval { months, days, nanoseconds }));
    let array = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(-1, 2, i64::MIN)]);
    assert_eq!(column(array), [interval(-1, 2, i64::MIN)]);
    let array = IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, -2)]);
    assert_eq!(column(array), [interval(0, 1, -2_000_000)]);
}

#[test]
fn a_timestamp_out_of_range_is_an_error() {
    let array: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
    let schema = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap();
    let columns = [ResultColumn { name: "c".to_owned(), sql_type: SqlType::Timestamp, nullable: true }];
    assert_eq!(to_rows(&batch, &columns).unwrap_err().reason(), Reason::InvalidValue);
    assert_eq!(to_rows(&batch, &[]).unwrap_err().reason(), Reason::Internal);
}

#[test]
fn nested_values_and_slices_of_them() {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
        Some(vec![Some(3)]),
    ]);
    let expected = [list(vec![int(1), null()]), null(), list(vec![]), list(vec![int(3)])];
    assert_eq!(column(lists.clone()), expected);
    assert_eq!(column(lists.slice(1, 3)), expected[1..]);

    // A NULL list may own elements, which belong to nobody.
    let field = Arc::new(Field::new("item", DataType::Int32, true));
    let offsets = OffsetBuffer::from_lengths([1, 2, 1]);
    let nulls = NullBuffer::from(vec![true, false, true]);
    let owning = ListArray::new(field.clone(), offsets, Arc::new(Int32Array::from(vec![1, 8, 9, 2])), Some(nulls));
    assert_eq!(column(owning), [list(vec![int(1)]), null(), list(vec![int(2)])]);

    let fixed = FixedSizeListArray::new(field, 2, Arc::new(Int32Array::from(vec![1, 2, 3, 4])), None);
    assert_eq!(column(fixed.slice(1, 1)), [list(vec![int(3), int(4)])]);

    let fields =
        Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("l", lists.data_type().clone(), true)]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1, 2, 3, 4])), Arc::new(lists)];
    let structs = StructArray::new(fields, columns, Some(NullBuffer::from(vec![true, true, false, true])));
    let expected = [
        structure(vec![int(1), expected[0].clone()]),
        structure(vec![int(2), null()]),
        null(),
        structure(vec![int(4), list(vec![int(3)])]),
    ];
    assert_eq!(column(structs.clone()), expected);
    assert_eq!(column(structs.slice(1, 3)), expected[1..]);

    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_value("v");
    map.append(true).unwrap();
    assert_eq!(column(map.finish()), [list(vec![structure(vec![text("k"), text("v")])])]);
}

#[test]
fn types_are_described_with_their_parameters() {
    let sql_type = SqlType::List(Box::new(SqlType::Struct(vec![StructField {
        name: "price".to_owned(),
        sql_type: SqlType::Decimal { precision: 10, scale: 2 },
    }])));
    let column = to_column("prices", &sql_type, false);
    assert_eq!((column.name.as_str(), column.nullable), ("prices", false));
    let list = column.r#type.unwrap();
    assert_eq!(list.kind(), v1::TypeKind::List);
    let structure = list.element.unwrap();
    let price = &structure.fields[0];
    assert_eq!(price.name, "price");
    let price = price.r#type.clone().unwrap();
    assert_eq!((price.kind(), price.precision, price.scale), (v1::TypeKind::Decimal, 10, 2));
}

#[test]
fn times_before_1970_have_positive_nanoseconds() {
    let timestamp = to_timestamp(-1);
    assert_eq!((timestamp.seconds, timestamp.nanos), (-1, 999_999_000));
    for us in [i64::MIN, 0, i64::MAX] {
        assert!((0..1_000_000_000).contains(&to_timestamp(us).nanos));
    }
}

fn parameter(value: Value) -> Result<Parameter, kalamdb_engine::Error> {
    to_parameters(vec![value]).map(|mut parameters| parameters.remove(0))
}

fn refused(value: Value) -> (Reason, String) {
    let error = to_parameters(vec![int(1), value]).map(|_| ()).unwrap_err();
    assert_eq!(error.metadata()["parameter"], "$2");
    (error.reason(), error.message().to_owned())
}

#[test]
fn parameters_keep_their_type() {
    for (given, sql_type, scalar) in [
        (null(), SqlType::Null, ScalarValue::Null),
        (int(-1), SqlType::BigInt, ScalarValue::Int64(Some(-1))),
        (value(Kind::UintValue(u64::MAX)), SqlType::BigIntUnsigned, ScalarValue::UInt64(Some(u64::MAX))),
        (text("a\0b"), SqlType::Text, ScalarValue::Utf8View(Some("a\0b".to_owned()))),
        (value(Kind::TimeValue(0)), SqlType::Time, ScalarValue::Time64Microsecond(Some(0))),
        (
            value(Kind::TimestamptzValue(-5)),
            SqlType::TimestampTz,
            ScalarValue::TimestampMicrosecond(Some(-5), Some("+00:00".into())),
        ),
        (
            value(Kind::UuidValue("0193A1F0-0000-7000-8000-00000000000F".to_owned())),
            SqlType::Uuid,
            ScalarValue::Utf8View(Some("0193a1f0-0000-7000-8000-00000000000f".to_owned())),
        ),
        (
            value(Kind::JsonValue("{\"a\": [1]}".to_owned())),
            SqlType::Json,
            ScalarValue::Utf8View(Some("{\"a\": [1]}".to_owned())),
        ),
    ] {
        let parameter = parameter(given).unwrap();
        assert_eq!((parameter.sql_type, parameter.value), (sql_type, scalar));
    }
}

#[test]
fn decimals_of_every_size() {
    for (text, precision, scale, unscaled) in [
        ("-12.50", 4, 2, "-1250"),
        ("0", 1, 0, "0"),
        ("+7", 1, 0, "7"),
        ("-0.05", 2, 2, "-5"),
        (".5", 1, 1, "5"),
        ("5.", 1, 0, "5"),
        ("00012", 2, 0, "12"),
    ] {
        let parameter = parameter(value(Kind::DecimalValue(text.to_owned()))).unwrap();
        assert_eq!(parameter.sql_type, SqlType::Decimal { precision, scale }, "{text}");
        assert_eq!(
            parameter.value,
            ScalarValue::Decimal128(Some(unscaled.parse().unwrap()), precision, scale),
            "{text}"
        );
    }
    let long = format!("-{}.{}", "9".repeat(60), "1".repeat(16));
    let parameter = parameter(value(Kind::DecimalValue(long.clone()))).unwrap();
    let expected = i256::from_string(&long.replace('.', "")).unwrap();
    assert_eq!(parameter.value, ScalarValue::Decimal256(Some(expected), 76, 16));
    for wrong in ["", ".", "-", "1e5", "1,5", "--1", "1.2.3", "NaN", "0x1", " 1", "١", &"9".repeat(77), &"0.".repeat(3)]
    {
        assert_eq!(refused(value(Kind::DecimalValue(wrong.to_owned()))).0, Reason::InvalidRequest, "{wrong}");
    }
}

#[test]
fn wrong_parameters_are_named() {
    assert!(refused(Value { kind: None }).1.contains("null_value"));
    assert!(refused(value(Kind::TimeValue(86_400_000_000))).1.contains("not within a day"));
    assert!(refused(value(Kind::TimeValue(-1))).1.contains("not within a day"));
    assert!(refused(value(Kind::UuidValue("x".to_owned()))).1.contains("not a UUID"));
    assert!(refused(value(Kind::JsonValue("{".to_owned()))).1.contains("not JSON"));
    let (reason, message) = refused(list(vec![int(1), text("a")]));
    assert_eq!(reason, Reason::ParameterTypeMismatch);
    assert!(message.contains("BIGINT and TEXT"), "{message}");
    assert!(refused(list(vec![Value { kind: None }])).1.contains("null_value"));
}

#[test]
fn nested_parameters() {
    let decimal = |text: &str| value(Kind::DecimalValue(text.to_owned()));
    for (given, sql_type) in [
        (list(vec![]), "NULL[]"),
        (list(vec![null(), int(1)]), "BIGINT[]"),
        (list(vec![list(vec![]), list(vec![text("a")]), null()]), "TEXT[][]"),
        (list(vec![decimal("1.5"), decimal("100"), null()]), "DECIMAL(4, 1)[]"),
        (structure(vec![int(1), null(), list(vec![text("x")])]), "STRUCT<c0 BIGINT, c1 NULL, c2 TEXT[]>"),
        (list(vec![structure(vec![null()]), structure(vec![int(1)])]), "STRUCT<c0 BIGINT>[]"),
    ] {
        let parameter = parameter(given.clone()).unwrap_or_else(|error| panic!("{given:?}: {error}"));
        assert_eq!(parameter.sql_type.to_string(), sql_type);
        assert_eq!(parameter.value.data_type(), parameter.sql_type.to_arrow(), "{given:?}");
        // What went in comes out, but for decimals, which get the scale of their list.
        if !sql_type.starts_with("DECIMAL") {
            let array = parameter.value.to_array().unwrap();
            assert_eq!(column_as(array, parameter.sql_type), [given]);
        }
    }
}

fn sample() -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter((0..1_000).map(|i| (i % 3 > 0).then(|| "x".repeat(i)))));
    let bytes: ArrayRef = Arc::new(BinaryViewArray::from_iter((0..1_000).map(|i| Some(vec![7u8; i % 50]))));
    let item = Arc::new(SqlType::Text.to_field("item", true));
    let inner: ArrayRef =
        Arc::new(StringViewArray::from_iter_values((0..1_000).map(|i| format!("a text of some length {i}"))));
    let lists: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(vec![1; 1_000]), inner, None));
    let uuid = SqlType::Uuid.to_field("u", true);
    let schema = Schema::new(vec![
        Field::clone(&uuid),
        Field::new("b", DataType::BinaryView, true),
        Field::new("l", lists.data_type().clone(), true),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())), true),
    ]);
    let stamps: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(0..1_000).with_timezone("+00:00"));
    RecordBatch::try_new(Arc::new(schema), vec![texts, bytes, lists, stamps]).unwrap()
}

fn read(ipc: &[u8]) -> Vec<RecordBatch> {
    StreamReader::try_new(ipc, None).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn arrow_streams_have_no_views_and_all_rows() {
    let batch = sample();
    let mut stream = IpcStream::new(&batch.schema()).unwrap();
    stream.write(&batch.slice(0, 10)).unwrap();
    let written = stream.len();
    stream.write(&batch.slice(10, 990)).unwrap();
    assert!(stream.len() > written && written > 0);
    let batches = read(&stream.finish().unwrap());
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [10, 990]);
    let schema = batches[0].schema();
    assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
    assert_eq!(schema.field(0).metadata()["kalamdb.type"], "uuid");
    assert_eq!(schema.field(1).data_type(), &DataType::Binary);
    let DataType::List(item) = schema.field(2).data_type() else { panic!("{schema}") };
    assert_eq!(item.data_type(), &DataType::Utf8);

    let columns: Vec<ResultColumn> = (schema.fields().iter())
        .map(|field| ResultColumn { name: field.name().clone(), sql_type: SqlType::from_field(field), nullable: true })
        .collect();
    let mut read_rows = to_rows(&batches[0], &columns).unwrap();
    read_rows.extend(to_rows(&batches[1], &columns).unwrap());
    assert_eq!(read_rows, to_rows(&batch, &columns).unwrap());
}

#[test]
fn messages_are_small_and_together_have_all_rows() {
    let batch = sample();
    let plain = without_views(&batch.schema());
    let mut pieces = Pieces::new(usize::MAX, 16 * 1024);
    pieces.begin(batch.clone());
    let pieces: Vec<RecordBatch> = pieces.map(|piece| to_plain(&piece.unwrap(), &plain).unwrap()).collect();
    assert_eq!(pieces.iter().map(RecordBatch::num_rows).sum::<usize>(), 1_000);
    for piece in &pieces {
        let ipc = to_ipc(piece).unwrap();
        assert!(ipc.len() < 20 * 1024, "{}", ipc.len());
        assert_eq!(read(&ipc)[0], *piece);
    }
    let whole = arrow::compute::concat_batches(&plain, &pieces).unwrap();
    assert_eq!(whole, to_plain(&batch, &plain).unwrap());
    let empty = to_plain(&batch.slice(0, 0), &plain).unwrap();
    assert_eq!(read(&to_ipc(&empty).unwrap()).len(), 1);
}

#[test]
fn what_is_made_plain_is_what_arrow_casts_to() {
    let words = [Some("é"), None, Some("a text of some length"), Some("")];
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter(words));
    let bytes: ArrayRef = Arc::new(BinaryViewArray::from_iter(words));
    let nulls = NullBuffer::from(vec![true, false, true, true]);
    let field = |name: &str, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
    let fields = Fields::from(vec![field("t", &texts), field("b", &bytes)]);
    let columns = vec![Arc::clone(&texts), Arc::clone(&bytes)];
    let structs: ArrayRef = Arc::new(StructArray::new(fields, columns, Some(nulls.clone())));
    let offsets = OffsetBuffer::from_lengths([1, 1, 0, 2]);
    let item = Arc::new(field("item", &structs));
    let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, Arc::clone(&structs), Some(nulls.clone())));
    let item = Arc::new(field("item", &texts));
    let fixed: ArrayRef = Arc::new(FixedSizeListArray::new(item, 1, Arc::clone(&texts), Some(nulls)));
    let keys = Int32Array::from(vec![Some(2), None, Some(1), Some(0)]);
    let dictionary: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::clone(&texts)));
    let named = [("t", texts), ("b", bytes), ("s", structs), ("l", lists), ("f", fixed), ("d", dictionary)];
    let whole = RecordBatch::try_from_iter_with_nullable(named.map(|(name, array)| (name, array, true))).unwrap();
    // With dictionaries, as they stay here, and without, as Flight sends them.
    let kept = without_views(&whole.schema());
    let mut undone: Vec<Field> = kept.fields().iter().map(|field| Field::clone(field)).collect();
    undone[5] = Field::new("d", DataType::Utf8, true);
    for schema in [kept, Arc::new(Schema::new(undone))] {
        for batch in [whole.clone(), whole.slice(1, 3), whole.slice(2, 1), whole.slice(0, 0)] {
            let plain = to_plain(&batch, &schema).unwrap();
            for (index, field) in schema.fields().iter().enumerate() {
                let expected = arrow::compute::cast(batch.column(index), field.data_type()).unwrap();
                assert_eq!(plain.column(index), &expected, "{}", field.name());
            }
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value { kind: None }),
        Just(null()),
        any::<i64>().prop_map(int),
        any::<i64>().prop_map(|v| value(Kind::TimeValue(v))),
        "\\PC{0,8}".prop_map(|v| text(&v)),
        "[-+]?[0-9]{0,40}[.]?[0-9]{0,40}".prop_map(|v| value(Kind::DecimalValue(v))),
        "\\PC{0,8}".prop_map(|v| value(Kind::JsonValue(v))),
        any::<(i32, i32, i64)>().prop_map(|(months, days, nanoseconds)| {
            value(Kind::IntervalValue(Interval { months, days, nanoseconds }))
        }),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let values = || proptest::collection::vec(inner.clone(), 0..6);
        prop_oneof![values().prop_map(list), values().prop_map(structure)]
    })
}

proptest! {
    #[test]
    fn any_parameter_is_taken_whole_or_refused(given in any_value()) {
        if let Ok(parameter) = parameter(given) {
            prop_assert_eq!(parameter.value.data_type(), parameter.sql_type.to_arrow());
        }
    }
}
