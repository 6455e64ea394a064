//! Rows and log entries: round trips of every type, projection, schema evolution, and damaged bytes.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use common::{any_column, any_type, layout_of};
use kalamdb_store::codec::*;
use kalamdb_store::ids::*;
use proptest::prelude::*;

const V1: SchemaVersion = SchemaVersion::new(1);

fn history(layouts: impl IntoIterator<Item = (u32, RowLayout)>) -> Arc<LayoutHistory> {
    let layouts = layouts.into_iter().map(|(version, layout)| (SchemaVersion::new(version), Arc::new(layout)));
    Arc::new(LayoutHistory::new(layouts.collect::<BTreeMap<_, _>>()))
}

fn stored(id: u16, data_type: &DataType) -> DecodeColumn {
    DecodeColumn::Stored { id: ColumnId::new(id), data_type: data_type.clone(), missing: None }
}

fn some_key() -> Vec<u8> {
    let partition = Partition { table: TableId::new(1), owner: Owner::User(UserId::new("ana").unwrap()) };
    row_key(&partition, &PrimaryKey::from_i64(42))
}

fn decode(
    history: &Arc<LayoutHistory>,
    columns: Vec<DecodeColumn>,
    rows: &[EncodedRow],
) -> Result<Vec<ArrayRef>, CodecError> {
    let has_columns = !columns.is_empty();
    let mut decoder = BatchDecoder::new(history.clone(), columns)?;
    for row in rows {
        decoder.append(&some_key(), row.as_bytes())?;
    }
    assert_eq!(decoder.len(), rows.len());
    assert_eq!(decoder.memory_size() > 0, has_columns && !rows.is_empty());
    decoder.finish()
}

/// Random columns of random types, all of one length.
fn columns() -> impl Strategy<Value = Vec<ArrayRef>> {
    (prop::collection::vec(any_type(), 0..12), 0..20_usize)
        .prop_flat_map(|(types, len)| types.into_iter().map(|data_type| any_column(data_type, len)).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_type_comes_back(columns in columns(), pick in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let layout = layout_of(&columns);
        let rows = encode_rows(&layout, V1, &columns, columns.first().map_or(3, |column| column.len())).unwrap();
        let history = history([(1, layout)]);
        let all = columns.iter().enumerate().map(|(at, column)| stored(at as u16 * 3, column.data_type())).collect();
        let decoded = decode(&history, all, &rows).unwrap();
        prop_assert_eq!(&decoded, &columns);
        // A projection, in any order and with repetitions, is the same columns.
        if !columns.is_empty() {
            let picked: Vec<usize> = pick.iter().map(|index| index.index(columns.len())).collect();
            let some = picked.iter().map(|at| stored(*at as u16 * 3, columns[*at].data_type())).collect();
            let decoded = decode(&history, some, &rows).unwrap();
            for (at, column) in picked.iter().zip(&decoded) {
                prop_assert_eq!(column, &columns[*at]);
            }
        }
    }

    #[test]
    fn damaged_rows_are_errors_not_panics(
        columns in columns(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let layout = layout_of(&columns);
        let rows = encode_rows(&layout, V1, &columns, columns.first().map_or(1, |column| column.len())).unwrap();
        let history = history([(1, layout)]);
        let all: Vec<_> =
            columns.iter().enumerate().map(|(at, column)| stored(at as u16 * 3, column.data_type())).collect();
        for row in rows {
            let mut bytes = row.as_bytes().to_vec();
            for (at, value) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            for bytes in [&bytes[..], &row.as_bytes()[..cut.index(bytes.len())]] {
                let mut decoder = BatchDecoder::new(history.clone(), all.clone()).unwrap();
                let appended = decoder.append(&some_key(), bytes);
                let finished = decoder.finish();
                prop_assert!(appended.is_ok() || finished.is_err());
                // The decoder is usable again.
                decoder.append(&some_key(), row.as_bytes()).unwrap();
                prop_assert_eq!(decoder.finish().unwrap().len(), all.len());
            }
        }
    }

    #[test]
    fn random_bytes_are_errors_not_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), data_type in any_type()) {
        let layout = RowLayout::new(vec![LayoutColumn { id: ColumnId::new(0), data_type: data_type.clone() }]).unwrap();
        let mut decoder = BatchDecoder::new(history([(1, layout)]), vec![stored(0, &data_type)]).unwrap();
        let _ = decoder.append(&bytes, &bytes);
        let header = RowHeader { commit_seq: CommitSeq::new(1), commit_time_us: 1, schema_version: V1 };
        let _ = decoder.append(&bytes, &[&header.encode(), bytes.as_slice()].concat());
        let _ = decoder.finish();
        let _ = RowHeader::decode(&bytes);
        let _ = LogEntry::decode(&bytes);
        let _ = LogEntry::decode_keys(&bytes);
        let _ = LogEntry::decode(&[&[1], bytes.as_slice()].concat());
    }

    #[test]
    fn log_entries_come_back(entry in log_entry(), extra in any::<u8>()) {
        let bytes = entry.encode();
        let keys: Vec<PrimaryKey> = entry.changes.iter().map(|change| change.key.clone()).collect();
        prop_assert_eq!(LogEntry::decode_keys(&bytes).unwrap(), keys);
        prop_assert_eq!(LogEntry::decode(&bytes).unwrap(), entry);
        for len in 0..bytes.len() {
            prop_assert!(LogEntry::decode(&bytes[..len]).is_err());
        }
        prop_assert!(LogEntry::decode(&[bytes, vec![extra]].concat()).is_err());
    }
}

fn log_entry() -> impl Strategy<Value = LogEntry> {
    let op = prop_oneof![Just(ChangeOp::Insert), Just(ChangeOp::Update), Just(ChangeOp::Delete)];
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let image = || prop::option::of(bytes());
    let change = (op, bytes(), image(), image()).prop_map(|(op, key, new, old)| LogChange {
        op,
        key: PrimaryKey::from_encoded(key),
        new,
        old,
    });
    let head = (any::<u16>(), any::<u32>(), any::<u64>(), any::<i64>(), any::<u32>());
    (head, prop::collection::vec(change, 0..5)).prop_map(|((shard, epoch, seq, time, version), changes)| LogEntry {
        shard,
        epoch,
        commit_seq: CommitSeq::new(seq),
        commit_time_us: time,
        schema_version: SchemaVersion::new(version),
        changes,
    })
}

#[test]
fn rows_of_all_schema_versions_decode_into_the_newest() {
    // Version 1 has columns 1 and 2; version 2 adds 3 with a default and 4 without; version 3 drops 1.
    let column = |id, data_type| LayoutColumn { id: ColumnId::new(id), data_type };
    let v1 = RowLayout::new(vec![column(1, DataType::Int64), column(2, DataType::Utf8View)]).unwrap();
    let v2 = RowLayout::new(vec![
        column(1, DataType::Int64),
        column(2, DataType::Utf8View),
        column(3, DataType::Utf8View),
        column(4, DataType::Int32),
    ])
    .unwrap();
    let v3 =
        RowLayout::new(vec![column(2, DataType::Utf8View), column(3, DataType::Utf8View), column(4, DataType::Int32)])
            .unwrap();
    let texts = |texts: &[Option<&str>]| Arc::new(StringViewArray::from(texts.to_vec())) as ArrayRef;
    let longs = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let ints = |values: Vec<Option<i32>>| Arc::new(Int32Array::from(values)) as ArrayRef;
    let version = SchemaVersion::new;
    let mut rows = encode_rows(&v1, version(1), &[longs(vec![10, 11]), texts(&[Some("one"), None])], 2).unwrap();
    let second = [longs(vec![20]), texts(&[Some("two")]), texts(&[None]), ints(vec![Some(4)])];
    rows.extend(encode_rows(&v2, version(2), &second, 1).unwrap());
    let third = [texts(&[Some("three")]), texts(&[Some("given")]), ints(vec![None])];
    rows.extend(encode_rows(&v3, version(3), &third, 1).unwrap());
    rows.extend(encode_rows(&v1, version(1), &[longs(vec![12]), texts(&[Some("again")])], 1).unwrap());

    let history = history([(1, v1), (2, v2), (3, v3)]);
    let long_default = "a default that does not fit into a view";
    let columns = vec![
        stored(2, &DataType::Utf8View),
        DecodeColumn::Stored {
            id: ColumnId::new(3),
            data_type: DataType::Utf8View,
            missing: Some(texts(&[Some(long_default)])),
        },
        stored(4, &DataType::Int32),
    ];
    let decoded = decode(&history, columns, &rows).unwrap();
    let expected = [
        texts(&[Some("one"), None, Some("two"), Some("three"), Some("again")]),
        texts(&[Some(long_default), Some(long_default), None, Some("given"), Some(long_default)]),
        ints(vec![None, None, Some(4), None, None]),
    ];
    assert_eq!(decoded, expected);

    let error = BatchDecoder::new(history.clone(), vec![stored(2, &DataType::Int64)]).unwrap_err();
    assert!(matches!(error, CodecError::TypeMismatch { .. }));
    let foreign = encode_rows(history.get(version(1)).unwrap(), version(9), &[longs(vec![1]), texts(&[None])], 1);
    let error = decode(&history, vec![stored(2, &DataType::Utf8View)], &foreign.unwrap()).unwrap_err();
    assert_eq!(error, CodecError::UnknownSchemaVersion(version(9)));
}

#[test]
fn system_columns_come_from_header_and_key() {
    let layout = RowLayout::new(vec![]).unwrap();
    let row = encode_rows(&layout, V1, &[], 1).unwrap().remove(0);
    let header = RowHeader { commit_seq: CommitSeq::new(77), commit_time_us: -5, schema_version: V1 };
    assert_eq!(RowHeader::decode(&header.encode()).unwrap(), header);
    let partition = |owner: &str| Partition { table: TableId::new(9), owner: Owner::User(UserId::new(owner).unwrap()) };
    let shared = Partition { table: TableId::new(9), owner: Owner::Shared };
    let wanted = vec![
        DecodeColumn::PrimaryKey { data_type: DataType::Utf8View },
        DecodeColumn::CommitSeq,
        DecodeColumn::CommitTime,
        DecodeColumn::Deleted,
        DecodeColumn::Owner,
        stored(1, &DataType::Int64),
    ];
    let mut decoder = BatchDecoder::new(history([(1, layout)]), wanted).unwrap();
    let long = "an owner with more than twelve bytes";
    decoder.append(&row_key(&partition("a\0b"), &PrimaryKey::from_str("k1")), row.as_bytes()).unwrap();
    decoder.append(&row_key(&partition("a\0b"), &PrimaryKey::from_str("")), &header.encode()).unwrap();
    decoder.append(&row_key(&shared, &PrimaryKey::from_str("k3")), row.as_bytes()).unwrap();
    decoder.append(&row_key(&partition(long), &PrimaryKey::from_str("k4")), row.as_bytes()).unwrap();
    let batch = decoder.finish().unwrap();
    assert_eq!(batch[0].as_string_view(), &StringViewArray::from(vec!["k1", "", "k3", "k4"]));
    assert_eq!(batch[1].as_primitive::<Int64Type>().values(), &[0, 77, 0, 0]);
    assert_eq!(batch[2].as_primitive::<TimestampMicrosecondType>().values(), &[0, -5, 0, 0]);
    assert_eq!(batch[2].data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())));
    assert_eq!(batch[3].as_boolean(), &BooleanArray::from(vec![false; 4]));
    let owners = StringViewArray::from(vec![Some("a\0b"), Some("a\0b"), None, Some(long)]);
    assert_eq!(batch[4].as_string_view(), &owners);
    assert_eq!(batch[5].null_count(), 4);

    // A STRING key where a BIGINT is expected, and a key without a partition.
    let int_key = vec![DecodeColumn::PrimaryKey { data_type: DataType::Int64 }];
    let mut decoder = BatchDecoder::new(history([(1, RowLayout::new(vec![]).unwrap())]), int_key).unwrap();
    assert!(decoder.append(&row_key(&shared, &PrimaryKey::from_str("k3")), row.as_bytes()).is_err());
    assert!(decoder.append(b"xx", row.as_bytes()).is_err());
    assert!(decoder.finish().is_err());
    decoder.append(&row_key(&shared, &PrimaryKey::from_i64(-7)), row.as_bytes()).unwrap();
    assert_eq!(decoder.finish().unwrap()[0].as_primitive::<Int64Type>().values(), &[-7]);
}

#[test]
fn refuses_what_it_cannot_store() {
    let column = |id, data_type| LayoutColumn { id: ColumnId::new(id), data_type };
    for data_type in [
        DataType::Utf8,
        DataType::Int8,
        DataType::Null,
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
        DataType::Struct(vec![Field::new("f", DataType::Date64, true)].into()),
    ] {
        let error = RowLayout::new(vec![column(1, data_type.clone())]).unwrap_err();
        assert_eq!(error, CodecError::UnsupportedType(data_type));
    }
    let mut deep = DataType::Int64;
    for _ in 0..100 {
        deep = DataType::List(Arc::new(Field::new("item", deep, true)));
    }
    assert!(matches!(RowLayout::new(vec![column(1, deep)]), Err(CodecError::UnsupportedType(_))));
    for ids in [[1, 1], [2, 1]] {
        let columns = ids.map(|id| column(id, DataType::Int64)).to_vec();
        assert!(matches!(RowLayout::new(columns), Err(CodecError::Shape(_))));
    }
    let layout = RowLayout::new(vec![column(1, DataType::Int64)]).unwrap();
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let longs: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert!(matches!(encode_rows(&layout, V1, &[ints], 1), Err(CodecError::TypeMismatch { .. })));
    assert!(matches!(encode_rows(&layout, V1, &[], 1), Err(CodecError::Shape(_))));
    assert!(matches!(encode_rows(&layout, V1, &[longs], 2), Err(CodecError::Shape(_))));
}

#[test]
fn takes_sliced_columns() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![Some(3), Some(4), Some(5)]),
        Some(vec![]),
    ]);
    let texts = StringViewArray::from(vec![Some("a"), None, Some("a text that is longer than a view"), Some("d")]);
    let columns: Vec<ArrayRef> = vec![Arc::new(list.slice(1, 3)), Arc::new(texts.slice(1, 3))];
    let layout = layout_of(&columns);
    let rows = encode_rows(&layout, V1, &columns, 3).unwrap();
    let wanted = columns.iter().enumerate().map(|(at, column)| stored(at as u16 * 3, column.data_type())).collect();
    assert_eq!(decode(&history([(1, layout)]), wanted, &rows).unwrap(), columns);
}
