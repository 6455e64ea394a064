use std::collections::HashMap;

use arrow::{
    array::{
        DictionaryArray, FixedSizeBinaryArray, Int8Array, Int64Array, NullArray, StringArray, TimestampNanosecondArray,
        UInt16Array,
    },
    datatypes::{Int32Type, Schema},
};
use futures::stream;
use kalamdb_engine::TYPE_METADATA_KEY;

use super::*;

fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn column(array: impl Array + 'static) -> (Field, ArrayRef) {
    (Field::new("p", array.data_type().clone(), true), Arc::new(array))
}

fn marked(array: impl Array + 'static, key: &str, value: &str) -> (Field, ArrayRef) {
    let (field, array) = column(array);
    (field.with_metadata(HashMap::from([(key.to_owned(), value.to_owned())])), array)
}

#[test]
fn each_column_is_a_parameter_of_its_type() {
    let words: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
    let rows = batch(vec![
        column(Int8Array::from(vec![Some(-1), None])),
        column(UInt16Array::from(vec![1, 2])),
        column(StringArray::from(vec!["x", "y"])),
        column(TimestampNanosecondArray::from(vec![1_500, 2_000])),
        column(words),
        column(NullArray::new(2)),
    ]);
    let rows = of_batch(&rows, 0).unwrap();
    let types: Vec<&SqlType> = rows[0].iter().map(|parameter| &parameter.sql_type).collect();
    let expected =
        [SqlType::SmallInt, SqlType::SmallIntUnsigned, SqlType::Text, SqlType::Timestamp, SqlType::Text, SqlType::Null];
    assert_eq!(types, expected.iter().collect::<Vec<_>>());
    assert_eq!(rows[0][0].value, ScalarValue::Int16(Some(-1)));
    assert_eq!(rows[1][0].value, ScalarValue::Int16(None));
    assert_eq!(rows[1][2].value, ScalarValue::Utf8View(Some("y".to_owned())));
    assert_eq!(rows[0][3].value, ScalarValue::TimestampMicrosecond(Some(1), None));
    assert_eq!(rows[1][4].value, ScalarValue::Utf8View(Some("b".to_owned())));
    assert!(rows[0][5].value.is_null());
}

#[test]
fn uuids_and_json_are_checked() {
    let good = "0190163d-8694-739b-aea5-966c26f8ad91";
    let uuid = |text: &str| batch(vec![marked(StringArray::from(vec![text]), TYPE_METADATA_KEY, "uuid")]);
    assert_eq!(of_batch(&uuid(good), 0).unwrap()[0][0].sql_type, SqlType::Uuid);
    let error = of_batch(&uuid("no"), 7).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
    assert!(error.message().contains("$1 of row 7"), "{error}");
    let json = |text: &str| batch(vec![marked(StringArray::from(vec![text]), TYPE_METADATA_KEY, "json")]);
    assert_eq!(of_batch(&json("{\"a\":1}"), 0).unwrap()[0][0].sql_type, SqlType::Json);
    assert!(of_batch(&json("{"), 0).is_err());
    // Arrow's own UUIDs are bytes.
    let bytes = Uuid::try_parse(good).unwrap().into_bytes();
    let bytes = FixedSizeBinaryArray::try_from_iter([bytes].into_iter()).unwrap();
    let rows = of_batch(&batch(vec![marked(bytes, EXTENSION_NAME, ARROW_UUID)]), 0).unwrap();
    assert_eq!(rows[0][0].value, ScalarValue::Utf8View(Some(good.to_owned())));
}

#[tokio::test]
async fn rows_are_kept_within_a_bound() {
    let rows = |count: i64| {
        let batch = batch(vec![column(Int64Array::from_iter_values(0..count))]);
        Rows { schema: batch.schema(), batches: Box::pin(stream::iter([Ok(batch)])) }
    };
    let kept_rows = kept(rows(10), 10_000).await.unwrap();
    assert_eq!(read_kept(&kept_rows).unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
    let error = kept(rows(10_000), 10_000).await.unwrap_err();
    assert_eq!(error.metadata().get("limit").map(String::as_str), Some("flight.max_handle_bytes"));
}
