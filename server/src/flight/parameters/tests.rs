use std::collections::HashMap;

use arrow::{
    array::{
        Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Int8Array, Int32Array, Int64Array, ListArray,
        ListViewArray, NullArray, StringArray, StringViewArray, Time64MicrosecondArray, TimestampNanosecondArray,
        UInt16Array,
    },
    buffer::OffsetBuffer,
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
    let upper = of_batch(&uuid(&good.to_uppercase()), 0).unwrap();
    assert_eq!(upper[0][0].value, ScalarValue::Utf8View(Some(good.to_owned())), "as it is stored");
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

#[test]
fn values_that_are_none_of_their_type_are_refused() {
    let refused = |(field, values): (Field, ArrayRef), text: &str| {
        let error = of_batch(&batch(vec![(field, values)]), 10).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidRequest);
        assert!(error.message().contains(text), "{error}");
    };
    let prices = |values: Vec<i128>| column(Decimal128Array::from(values).with_precision_and_scale(10, 2).unwrap());
    assert!(of_batch(&batch(vec![prices(vec![1, 9_999_999_999])]), 0).is_ok());
    refused(prices(vec![1, 10_i128.pow(30)]), "$1 of row 11 is no DECIMAL(10, 2)");
    refused(column(Time64MicrosecondArray::from(vec![-1])), "$1 of row 10 is no TIME");
    // Also in lists.
    let values = Arc::new(StringViewArray::from(vec!["{}", "nonsense"]));
    let item = Arc::new(SqlType::Json.to_field("item", true));
    let lists = ListArray::new(item, OffsetBuffer::from_lengths([1, 1]), values, None);
    refused(column(lists), "$1 of row 11 is no JSON[]");
    // These can show elements again and again.
    let views = ListViewArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    assert_eq!(of_batch(&batch(vec![column(views)]), 0).unwrap_err().reason(), Reason::NotSupported);
}

#[tokio::test]
async fn rows_that_show_one_value_are_taken_in_parts() {
    const ROWS: usize = 3_000;
    let word: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1024 * 1024)]));
    let rows = batch(vec![column(DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0; ROWS]), word))]);
    let parts_of = |max_row_bytes| parts(rows.clone(), max_row_bytes).collect::<Result<Vec<_>, _>>();
    let taken = parts_of(2 * 1024 * 1024).unwrap();
    assert_eq!(taken.iter().map(RecordBatch::num_rows).sum::<usize>(), ROWS);
    assert!(taken.iter().all(|part| bytes_of(part) <= BYTES_AT_ONCE), "{} parts", taken.len());
    assert_eq!(parts_of(1024).unwrap_err().reason(), Reason::StatementTooLarge);
    // A handle would have them whenever it is used.
    let rows = Rows { schema: rows.schema(), batches: Box::pin(stream::iter([Ok(rows)])) };
    let error = kept(rows, 2 * 1024 * 1024).await.unwrap_err();
    assert_eq!(error.metadata().get("limit").map(String::as_str), Some("flight.max_handle_bytes"));

    let numbers = batch(vec![column(Int64Array::from_iter_values(0..10_000))]);
    let mut next = 0;
    for part in parts(numbers, 1024) {
        let rows = of_batch(&part.unwrap(), next).unwrap();
        assert!(rows.len() <= ROWS_AT_ONCE);
        assert_eq!(rows[0][0].value, ScalarValue::Int64(Some(next as i64)), "in their order");
        next += rows.len() as u64;
    }
    assert_eq!(next, 10_000);
}
