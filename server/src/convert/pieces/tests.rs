use std::sync::Arc;

use arrow::{
    array::{
        BinaryViewArray, BooleanArray, DictionaryArray, FixedSizeListArray, Int32Array, Int64Array, ListArray,
        ListViewArray, MapBuilder, NullArray, RecordBatchOptions, StringArray, StringBuilder, StringViewArray,
        StructArray, UInt32Array,
    },
    compute::take,
    datatypes::{Field, Fields, Schema, SchemaRef},
};

use super::*;
use crate::convert::{to_plain, without_views};

const MIB: usize = 1024 * 1024;

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let named = columns.into_iter().enumerate().map(|(index, column)| (format!("c{index}"), column, true));
    RecordBatch::try_from_iter_with_nullable(named).unwrap()
}

fn pieces(batch: RecordBatch, max_rows: usize, max_bytes: usize) -> Vec<RecordBatch> {
    let mut pieces = Pieces::new(max_rows, max_bytes);
    pieces.begin(batch);
    pieces.map(Result::unwrap).collect()
}

/// Many views of one text, and NULLs behind them whose views say the same.
fn repeated(bytes: usize, rows: usize, nulls: usize) -> ArrayRef {
    let one = StringViewArray::from_iter_values(["x".repeat(bytes)]);
    let indices = (0..rows + nulls).map(|row| (row < rows).then_some(0_u32));
    take(&one, &UInt32Array::from_iter(indices), None).unwrap()
}

fn list_of(elements: ArrayRef, lengths: Vec<usize>) -> ListArray {
    let item = Arc::new(Field::new("item", elements.data_type().clone(), true));
    ListArray::new(item, OffsetBuffer::from_lengths(lengths), elements, None)
}

/// What each row of a column shows.
fn shown(column: impl Array + 'static) -> Vec<usize> {
    shown_bytes(&batch(vec![Arc::new(column)]))
}

fn plain_schema(batch: &RecordBatch) -> SchemaRef {
    without_views(&batch.schema())
}

#[test]
fn rows_are_dealt_out_in_order() {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2_500));
    let whole = batch(vec![ids]);
    let sizes = |max_rows, max_bytes| -> Vec<usize> {
        let pieces = pieces(whole.clone(), max_rows, max_bytes);
        assert_eq!(arrow::compute::concat_batches(&whole.schema(), &pieces).unwrap(), whole);
        pieces.iter().map(RecordBatch::num_rows).collect()
    };
    assert_eq!(sizes(usize::MAX, MIB), [2_500], "most batches are one piece");
    assert_eq!(sizes(1_024, MIB), [1_024, 1_024, 452]);
    assert_eq!(sizes(usize::MAX, 8_000), [1_000, 1_000, 500]);
    assert_eq!(sizes(600, 8_000), [600, 600, 600, 600, 100]);
    assert_eq!(sizes(usize::MAX, 1).len(), 2_500, "a row is never divided");
    assert!(pieces(whole.slice(0, 0), 1_024, MIB).is_empty());
    // Without columns there is nothing to count but rows.
    let options = RecordBatchOptions::new().with_row_count(Some(5));
    let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).unwrap();
    assert_eq!(pieces(none, 3, MIB).iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 2]);
}

#[test]
fn a_batch_that_is_begun_is_dropped_by_clearing() {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    let mut pieces = Pieces::new(4, MIB);
    pieces.begin(batch(vec![ids]));
    assert_eq!(pieces.next().unwrap().unwrap().num_rows(), 4);
    pieces.clear();
    assert!(pieces.next().is_none());
}

#[test]
fn each_row_counts_with_what_it_shows() {
    let texts = [Some("abc"), None, Some(""), Some("a text that is longer than a view")];
    assert_eq!(shown(StringViewArray::from_iter(texts)), [7, 4, 4, 37]);
    assert_eq!(shown(StringArray::from_iter(texts)), [7, 4, 4, 37]);
    assert_eq!(shown(BinaryViewArray::from_iter(texts)), [7, 4, 4, 37]);
    assert_eq!(shown(StringViewArray::from_iter(texts).slice(2, 2)), [4, 37]);
    assert_eq!(shown(Int32Array::from(vec![1, 2])), [4, 4]);
    assert_eq!(shown(BooleanArray::from(vec![true; 3])), [1, 1, 1]);
    assert_eq!(shown(NullArray::new(2)), [0, 0]);

    let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(["a", "bb", "ccc", "dddd"]));
    let lists = list_of(Arc::clone(&texts), vec![1, 0, 3]);
    assert_eq!(shown(lists.clone()), [9, 4, 25]);
    assert_eq!(shown(lists.slice(1, 2)), [4, 25]);
    assert_eq!(shown(list_of(Arc::new(Int64Array::from(vec![1, 2, 3])), vec![2, 1])), [20, 12]);
    assert_eq!(shown(list_of(Arc::new(lists), vec![2, 1])), [17, 29]);
    let item = Arc::new(Field::new("item", DataType::Utf8View, true));
    let fixed = FixedSizeListArray::new(Arc::clone(&item), 2, Arc::clone(&texts), None);
    assert_eq!(shown(fixed.slice(1, 1)), [15]);
    // Elements may be shown by several, and by none.
    let (offsets, sizes) = (vec![3, 0, 3].into(), vec![1, 2, 1].into());
    assert_eq!(shown(ListViewArray::new(item, offsets, sizes, Arc::clone(&texts), None)), [12, 15, 12]);

    let fields = Fields::from(vec![Field::new("a", DataType::Utf8View, true), Field::new("b", DataType::Int32, true)]);
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
    assert_eq!(shown(StructArray::new(fields, vec![Arc::clone(&texts), numbers], None)), [9, 10, 11, 12]);

    let keys = Int32Array::from(vec![3, 0, 3]);
    assert_eq!(shown(DictionaryArray::new(keys, Arc::clone(&texts))), [8, 5, 8]);
    let runs = RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3, 4, 6]), &texts).unwrap();
    assert_eq!(shown(runs.clone()), [5, 5, 6, 7, 8, 8]);
    assert_eq!(shown(runs.slice(1, 3)), [5, 6, 7]);

    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("key");
    map.values().append_value("value");
    map.append(true).unwrap();
    map.append(true).unwrap();
    assert_eq!(shown(map.finish()), [20, 4]);
}

#[test]
fn one_large_value_is_copied_for_as_many_rows_as_fit() {
    // Eight GB, converted at once; the NULLs behind would be as many by what their views say.
    let whole = batch(vec![repeated(MIB, 8_192, 8_192)]);
    let schema = plain_schema(&whole);
    let mut all = Pieces::new(usize::MAX, 4 * MIB);
    all.begin(whole);
    let (mut rows, mut count) = (0, 0);
    for piece in all {
        let piece = piece.unwrap();
        rows += piece.num_rows();
        // To convert all of them would take a while.
        if count % 500 == 0 || piece.num_rows() > 4 {
            let plain = to_plain(&piece, &schema).unwrap();
            assert!(plain.get_array_memory_size() < 5 * MIB, "{}", plain.get_array_memory_size());
        }
        count += 1;
    }
    assert_eq!(rows, 16_384);
    assert!((2_730..2_740).contains(&count), "{count} pieces of three rows, and the NULLs in one");
}

#[test]
fn only_the_elements_that_are_shown_are_converted() {
    // In lists, of which slices share all elements, and in what is in them.
    let inner = list_of(repeated(MIB, 4_096, 0), vec![1; 4_096]);
    let fields = Fields::from(vec![Field::new("l", inner.data_type().clone(), true)]);
    let structs = StructArray::new(fields, vec![Arc::new(inner)], None);
    let outer: ArrayRef = Arc::new(list_of(Arc::new(structs), vec![2; 2_048]));
    let whole = batch(vec![outer]);
    let schema = plain_schema(&whole);
    let mut all = Pieces::new(usize::MAX, 4 * MIB);
    all.begin(whole.slice(1_000, 1_048));
    for piece in all.by_ref().take(5) {
        let plain = to_plain(&piece.unwrap(), &schema).unwrap();
        assert_eq!(plain.num_rows(), 1);
        assert!(plain.get_array_memory_size() < 5 * MIB, "{}", plain.get_array_memory_size());
        let texts = plain.column(0).as_list::<i32>().value(0).as_struct().column(0).as_list::<i32>().values().clone();
        assert_eq!(texts.len(), 2);
        assert_eq!(texts.as_string::<i32>().value(1).len(), MIB);
    }
}

#[test]
fn a_row_that_is_too_large_is_refused() {
    let lists: ArrayRef = Arc::new(list_of(repeated(MIB, 515, 0), vec![1, 513, 1]));
    let mut pieces = Pieces::new(usize::MAX, 4 * MIB);
    pieces.begin(batch(vec![lists]));
    assert_eq!(pieces.next().unwrap().unwrap().num_rows(), 1, "those before it are sent");
    let error = pieces.next().unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::ResultTooLarge);
    assert!(pieces.next().is_none());
}
