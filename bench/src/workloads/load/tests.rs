use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};

use kalamdb_proto::v1::value::Kind;

use super::*;

fn column<T: arrow::array::Array + 'static>(name: &'static str, array: T) -> (&'static str, ArrayRef) {
    (name, Arc::new(array))
}

fn batch(users: &[&str]) -> RecordBatch {
    let rows = users.len() as i64;
    let texts = |text: &str| StringArray::from_iter_values((0..rows).map(|row| format!("{text} {row}")));
    RecordBatch::try_from_iter([
        column("id", Int64Array::from_iter_values(1..=rows)),
        column("conversation_id", texts("conversation")),
        column("user_id", StringArray::from(users.to_vec())),
        column("role", StringArray::from(vec![None::<&str>; users.len()])),
        column("content", texts("text")),
        column("created_at", TimestampMillisecondArray::from_iter_values((0..rows).map(|row| row * 1_000))),
        column("files_changed", Int32Array::from_iter_values(0..rows as i32)),
    ])
    .unwrap()
}

fn rows(file: &MessageFile, from: usize, to: usize) -> Vec<Row> {
    (from..to).map(|row| Row { values: file.values(row) }).collect()
}

#[test]
fn a_statement_holds_rows_of_one_user_only() {
    let file = MessageFile::from_sorted(&batch(&["a", "a", "a", "b", "c", "c"])).unwrap();
    assert_eq!(file.users(), [0..3, 3..4, 4..6]);
    let load = Load::new(file, 2, "ns.import");
    let chunks: Vec<_> = load.chunks.iter().map(|chunk| (chunk.from, chunk.to)).collect();
    assert_eq!(chunks, [(0, 2), (2, 3), (3, 4), (4, 6)]);
    let request = load.insert(load.chunks[0]);
    assert_eq!(request.parameters.len(), 2 * COLUMNS.len());
    assert!(request.sql.ends_with("($8, $9, $10, $11, $12, $13, $14)"), "{}", request.sql);
}

#[test]
fn values_are_exact() {
    let file = MessageFile::from_sorted(&batch(&["a", "b"])).unwrap();
    let kinds: Vec<Kind> = file.values(1).into_iter().filter_map(|value| value.kind).collect();
    assert_eq!(kinds[0], Kind::IntValue(2));
    assert_eq!(kinds[2], Kind::TextValue("b".to_owned()));
    assert_eq!(kinds[3], Kind::NullValue(0));
    assert_eq!(kinds[5], Kind::TimestamptzValue(1_000_000), "milliseconds became microseconds");
}

#[test]
fn every_difference_is_found() {
    let file = MessageFile::from_sorted(&batch(&["a", "a", "a"])).unwrap();
    let right = rows(&file, 0, 3);
    assert_eq!(compare(&file, 0, 3, &right), Vec::<String>::new());
    assert_eq!(compare(&file, 0, 3, &right[..2]).len(), 1, "a lost row");

    let mut doubled = right.clone();
    doubled.push(right[2].clone());
    assert_eq!(compare(&file, 0, 3, &doubled).len(), 1, "a row too many");

    let mut changed = right.clone();
    changed[1].values[4] = wire::text("text 1 ");
    let found = compare(&file, 0, 3, &changed);
    assert!(found[0].contains("content") && found[0].contains("IntValue(2)"), "{found:?}");

    let mut narrow = right;
    narrow[0].values.pop();
    assert_eq!(compare(&file, 0, 3, &narrow).len(), 1, "a column lost");
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let without_content = batch(&["a"]).project(&[0, 1, 2, 3, 5, 6]).unwrap();
    assert!(MessageFile::from_sorted(&without_content).is_err_and(|error| error.contains("content")));
}
