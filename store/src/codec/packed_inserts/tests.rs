use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int64Array, ListBuilder, StringViewArray, StringViewBuilder};
use arrow::datatypes::Field;
use proptest::prelude::*;

use super::*;
use crate::codec::{LayoutColumn, LogEntry, PrimaryKey, encode_rows};

fn layout() -> RowLayout {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true)));
    let types = [DataType::Boolean, DataType::Utf8View, DataType::Float64, list, DataType::Utf8View];
    let column = |(id, data_type): (usize, DataType)| LayoutColumn { id: ColumnId::new(id as u16 + 1), data_type };
    RowLayout::new(types.into_iter().enumerate().map(column).collect()).unwrap()
}

type Row = (Option<bool>, Option<String>, Option<f64>, Option<Vec<Option<String>>>, Option<String>);

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    let mut lists = ListBuilder::new(StringViewBuilder::new());
    for row in rows {
        for text in row.3.iter().flatten() {
            lists.values().append_option(text.as_deref());
        }
        lists.append(row.3.is_some());
    }
    vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringViewArray>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
        Arc::new(lists.finish()),
        Arc::new(rows.iter().map(|row| row.4.as_deref()).collect::<StringViewArray>()),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let text = || prop::option::of(prop_oneof!["[a-z]{0,40}", "[a-z]{100,200}"]);
    let list = prop::option::of(prop::collection::vec(text(), 0..4));
    prop::collection::vec((any::<Option<bool>>(), text(), any::<Option<f64>>(), list, text()), 0..50)
}

proptest! {
    /// Packed rows are the rows that are encoded one by one, and the entry is the one that is made of them.
    #[test]
    fn packed_rows_are_what_single_ones_are(rows in rows(), text_keys: bool, reversed: bool) {
        let (layout, version) = (layout(), SchemaVersion::new(3));
        let columns = columns(&rows);
        let numbers: Vec<i64> = (0..rows.len() as i64).map(|i| (i * 7_919) % 101 - 50 + i * 1_000).collect();
        let texts: Vec<String> = numbers.iter().map(|i| format!("key {i}").repeat(1 + *i as usize % 30)).collect();
        let keys: ArrayRef = match text_keys {
            true => Arc::new(texts.iter().map(|text| Some(text.as_str())).collect::<StringViewArray>()),
            false => Arc::new(Int64Array::from(numbers.clone())),
        };
        let key = |row: usize| match text_keys {
            true => PrimaryKey::from_str(&texts[row]),
            false => PrimaryKey::from_i64(numbers[row]),
        };
        let order: Vec<u32> = (0..rows.len() as u32).rev().collect();
        let mut packed = PackedInserts::new();
        packed.push_rows(&layout, version, &keys, &columns, reversed.then_some(order.as_slice())).unwrap();
        let (seq, time) = (CommitSeq::new(77), 123_456);
        packed.stamp(seq, time);
        let mut single = encode_rows(&layout, version, &columns, rows.len()).unwrap();
        single.iter_mut().for_each(|row| row.stamp(seq, time));
        let source = |place: usize| if reversed { rows.len() - 1 - place } else { place };
        for place in 0..rows.len() {
            let key = key(source(place));
            prop_assert_eq!(packed.key(place), key.as_bytes());
            prop_assert_eq!(packed.value(place), single[source(place)].as_bytes());
        }
        let entry = LogEntry::decode(packed.entry()).unwrap();
        prop_assert_eq!((entry.commit_seq, entry.commit_time_us), (seq, time));
        prop_assert_eq!(entry.changes.len(), rows.len());
        for (place, change) in entry.changes.iter().enumerate() {
            prop_assert_eq!(&change.key, &key(source(place)));
            prop_assert_eq!(change.new.as_deref(), Some(single[source(place)].as_bytes()));
            prop_assert_eq!((&change.old, change.op), (&None, ChangeOp::Insert));
        }
        prop_assert_eq!(&entry.encode()[..], packed.entry());
    }
}

fn of_keys(keys: &[&str]) -> PackedInserts {
    let layout = RowLayout::new(Vec::new()).unwrap();
    let keys: ArrayRef = Arc::new(StringViewArray::from(keys.to_vec()));
    let mut packed = PackedInserts::new();
    packed.push_rows(&layout, SchemaVersion::new(1), &keys, &[], None).unwrap();
    packed
}

#[test]
fn many_blocks_are_one_behind_the_other() {
    let layout = layout();
    let rows: Vec<Row> =
        (0..BLOCK_ROWS * 2 + 5).map(|i| (Some(i % 2 == 0), Some(format!("{i}")), None, None, None)).collect();
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows.len() as i64));
    let mut packed = PackedInserts::new();
    packed.push_rows(&layout, SchemaVersion::new(1), &keys, &columns(&rows), None).unwrap();
    packed.stamp(CommitSeq::new(1), 2);
    assert_eq!(packed.len(), rows.len());
    let entry = LogEntry::decode(packed.entry()).unwrap();
    assert_eq!(entry.changes[BLOCK_ROWS].key, PrimaryKey::from_i64(BLOCK_ROWS as i64));
    assert_eq!(packed.bytes_of(0..rows.len()), packed.byte_size());
}

#[test]
fn the_order_of_keys_is_that_of_their_bytes() {
    let texts = ["b", "", "abcdefghi", "abcdefgh", "abcdefgh\0", "a", "a\0", "zzzzzzzzzz", "\u{1f600}"];
    let packed = of_keys(&texts);
    let order = packed.sorted().unwrap();
    let sorted: Vec<&[u8]> = order.iter().map(|row| packed.key(*row as usize)).collect();
    assert!(sorted.is_sorted_by(|a, b| a < b), "{sorted:?}");
    assert_eq!(of_keys(&["a", "b"]).sorted().unwrap(), [0, 1]);
    assert!(of_keys(&[]).sorted().unwrap().is_empty());
}

#[test]
fn of_keys_that_come_twice_the_first_repetition_is_told() {
    let told = |keys: &[&str]| of_keys(keys).sorted().unwrap_err();
    assert_eq!(told(&["x", "x"]), DuplicateKey { first: 0, second: 1 });
    assert_eq!(told(&["z", "a", "b", "z", "a"]), DuplicateKey { first: 0, second: 3 });
    assert_eq!(told(&["c", "b", "b", "b", "c"]), DuplicateKey { first: 1, second: 2 });
}

#[test]
fn rows_of_others_are_copied_in_runs() {
    let others = of_keys(&["a", "bb", "ccc", "dddd"]);
    let mut packed = of_keys(&["first"]);
    packed.append(&others, 1..3).unwrap();
    packed.append(&others, 2..2).unwrap();
    packed.append(&others, 0..1).unwrap();
    let keys: Vec<&[u8]> = (0..packed.len()).map(|row| packed.key(row)).collect();
    assert_eq!(keys, [&b"first"[..], b"bb", b"ccc", b"a"]);
    packed.stamp(CommitSeq::new(9), 1);
    let entry = LogEntry::decode(packed.entry()).unwrap();
    assert_eq!(entry.changes[2].key, PrimaryKey::from_str("ccc"));
    assert_eq!(others.bytes_of(1..3) + others.bytes_of(0..1), packed.byte_size() - packed.bytes_of(0..1));
}

#[test]
fn what_is_refused_leaves_no_row() {
    let layout = layout();
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let rows: Vec<Row> = vec![(None, None, None, None, None); 2];
    let mut packed = of_keys(&["a"]);
    let version = SchemaVersion::new(1);
    assert!(packed.push_rows(&layout, version, &keys, &columns(&rows), None).is_err());
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    assert!(packed.push_rows(&layout, version, &keys, &columns(&rows)[1..], None).is_err());
    assert!(packed.push_rows(&layout, version, &keys, &columns(&rows), Some(&[2])).is_err());
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    assert!(packed.push_rows(&layout, version, &floats, &columns(&rows), None).is_err());
    assert_eq!(packed.len(), 1);
}
