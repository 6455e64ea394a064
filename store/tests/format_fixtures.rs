//! The bytes on disk. Every published format stays readable, so its fixtures are never changed: a new format gets a
//! new folder beside them.
//!
//! A fixture is a text file: lines of a name, `=`, and hexadecimal bytes, with spaces and `|` for the reader.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use kalamdb_store::codec::*;
use kalamdb_store::commit::{CommitSettings, Committer, PreparedCommit, RowChange, RowOp, Unique, committed_seq};
use kalamdb_store::ids::*;
use kalamdb_store::kv::{Keyspace, MemoryBackend, StorageBackend};

fn fixture(text: &str) -> BTreeMap<&str, Vec<u8>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, hex) = line.split_once('=').unwrap();
            let digits: Vec<u8> =
                hex.chars().filter(char::is_ascii_hexdigit).map(|digit| digit.to_digit(16).unwrap() as u8).collect();
            (name.trim(), digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn user(table: u32, user: &str) -> Partition {
    Partition { table: TableId::new(table), owner: Owner::User(UserId::new(user).unwrap()) }
}

fn shared(table: u32) -> Partition {
    Partition { table: TableId::new(table), owner: Owner::Shared }
}

#[test]
fn keys_of_format_1() {
    let fixture = fixture(include_str!("fixtures/v1/keys.txt"));
    let cases = [
        ("shared row 1", row_key(&shared(1), &PrimaryKey::from_i64(1))),
        ("row -1 of ana", row_key(&user(0x0102_0304, "ana"), &PrimaryKey::from_i64(-1))),
        ("row 'k' of a NUL b", row_key(&user(2, "a\0b"), &PrimaryKey::from_str("k\0"))),
        ("table 258", table_prefix(TableId::new(258))),
        ("log entry 258 of é", log_key(&user(1, "é"), CommitSeq::new(258))),
    ];
    for (name, key) in cases {
        assert_eq!(hex(&fixture[name]), hex(&key), "{name}");
    }
    assert_eq!(fixture.len(), 5);
}

/// One column of each type: each value, and a NULL.
fn columns() -> Vec<ArrayRef> {
    let item = Arc::new(Field::new("item", DataType::Utf8View, true));
    let mut list = ListBuilder::new(StringViewBuilder::new()).with_field(item.clone());
    list.append_value([Some("x"), None, Some("a text that is longer than twelve bytes")]);
    list.append_null();
    let fields: Fields = vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Boolean, true),
        Field::new("c", DataType::List(item), true),
    ]
    .into();
    let structs = StructArray::new(
        fields,
        vec![
            Arc::new(Int32Array::from(vec![Some(-2), None])),
            Arc::new(BooleanArray::from(vec![None, Some(true)])),
            Arc::new(list.finish_cloned()),
        ],
        Some(vec![true, false].into()),
    );
    vec![
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Int16Array::from(vec![Some(-2), None])),
        Arc::new(Int32Array::from(vec![Some(-3), None])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), None])),
        Arc::new(UInt16Array::from(vec![Some(0xABCD), None])),
        Arc::new(UInt32Array::from(vec![Some(0x89AB_CDEF), None])),
        Arc::new(UInt64Array::from(vec![Some(u64::MAX - 1), None])),
        Arc::new(Float32Array::from(vec![Some(1.5), None])),
        Arc::new(Float64Array::from(vec![Some(-0.1), None])),
        Arc::new(Decimal128Array::from(vec![Some(-12_345), None]).with_precision_and_scale(10, 2).unwrap()),
        Arc::new(Decimal256Array::from(vec![Some(i256::from_i128(-7)), None]).with_precision_and_scale(76, 3).unwrap()),
        Arc::new(StringViewArray::from(vec![Some("héllo"), None])),
        Arc::new(BinaryViewArray::from(vec![Some(&[0_u8, 255][..]), None])),
        Arc::new(Date32Array::from(vec![Some(20_000), None])),
        Arc::new(Time64MicrosecondArray::from(vec![Some(86_399_999_999), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_001), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("+00:00")),
        Arc::new(IntervalMonthDayNanoArray::from(vec![Some(IntervalMonthDayNano::new(1, -2, 3)), None])),
        Arc::new(list.finish()),
        Arc::new(structs),
    ]
}

#[test]
fn rows_of_format_1() {
    let columns = columns();
    let layout = RowLayout::new(
        columns
            .iter()
            .enumerate()
            .map(|(at, column)| LayoutColumn {
                id: ColumnId::new(at as u16 + 2),
                data_type: column.data_type().clone(),
            })
            .collect(),
    )
    .unwrap();
    let version = SchemaVersion::new(3);
    let encoded = encode_rows(&layout, version, &columns, 2).unwrap();
    let fixture = fixture(include_str!("fixtures/v1/rows.txt"));
    let rows = [&fixture["values"], &fixture["nulls"]];
    for (row, encoded) in rows.iter().zip(&encoded) {
        assert_eq!(hex(row), hex(encoded.as_bytes()));
    }
    let wanted = columns
        .iter()
        .enumerate()
        .map(|(at, column)| DecodeColumn::Stored {
            id: ColumnId::new(at as u16 + 2),
            data_type: column.data_type().clone(),
            missing: None,
        })
        .collect();
    let history = LayoutHistory::new(BTreeMap::from([(version, Arc::new(layout))]));
    let mut decoder = BatchDecoder::new(Arc::new(history), wanted).unwrap();
    for row in rows {
        decoder.append(b"not needed", row).unwrap();
    }
    assert_eq!(decoder.finish().unwrap(), columns);

    // Its flags are reserved, and were never written.
    let mut tombstone = fixture["tombstone"].clone();
    assert_eq!(RowHeader::decode(&tombstone), Err(CodecError::Corrupt("a row has unknown flags")));
    tombstone[0] &= 0xF0;
    let header = RowHeader {
        commit_seq: CommitSeq::new(0x0102),
        commit_time_us: -2,
        schema_version: SchemaVersion::new(0x0304),
    };
    assert_eq!(RowHeader::decode(&tombstone).unwrap(), header);
    assert_eq!(tombstone, header.encode());
    let newer = RowHeader::decode(&fixture["of a later format"]);
    assert_eq!(newer, Err(CodecError::UnknownFormat { found: 2 }));
}

#[test]
fn log_entries_of_format_1() {
    let fixture = fixture(include_str!("fixtures/v1/log.txt"));
    let change = |op, key: &str, new: Option<&[u8]>, old: Option<&[u8]>| LogChange {
        op,
        key: PrimaryKey::from_str(key),
        new: new.map(<[u8]>::to_vec),
        old: old.map(<[u8]>::to_vec),
    };
    let long = [7; 200];
    let entry = LogEntry {
        shard: 0x0102,
        epoch: 0x0304_0506,
        commit_seq: CommitSeq::new(9),
        commit_time_us: -1,
        schema_version: SchemaVersion::new(3),
        changes: vec![
            change(ChangeOp::Insert, "a", Some(b"new"), None),
            change(ChangeOp::Update, "", Some(&long), Some(b"")),
            change(ChangeOp::Delete, "c", None, Some(b"old")),
        ],
    };
    assert_eq!(hex(&fixture["three changes"]), hex(&entry.encode()));
    assert_eq!(LogEntry::decode(&fixture["three changes"]).unwrap(), entry);
}

#[test]
fn the_manifest_of_format_1() {
    let fixture = fixture(include_str!("fixtures/v1/segments.txt"));
    let (ana, segment) = (user(5, "ana"), SegmentId::new(0x0102_0304_0506_0708));
    let (storage, path) = (StorageId::new(9), "chat/users/ana/messages/0102030405060708.parquet".to_owned());
    let entry = SegmentEntry {
        id: segment,
        storage,
        path: path.clone(),
        file_bytes: 0x000a_0b0c,
        rows: 300_000,
        row_group_rows: 131_072,
        schema_version: SchemaVersion::new(3),
        min_key: PrimaryKey::from_i64(-1),
        max_key: PrimaryKey::from_i64(5),
        min_seq: CommitSeq::new(0x11),
        max_seq: CommitSeq::new(0x1213),
        created_at_us: -2,
    };
    let mark = Mark { commit_seq: CommitSeq::new(0x0809), key: PrimaryKey::from_i64(5) };
    let pending = PendingFile { storage, path: path.clone() };
    let garbage = GarbageFile { removed_at: CommitSeq::new(0x0809), storage, path };
    let cases = [
        ("entry key", segment_key(&ana, segment)),
        ("entry", entry.encode()),
        ("mark key", mark_key(&ana, segment, 0x0002_0001)),
        ("mark", mark.encode()),
        ("mark list key", mark_list_key(&ana, segment, CommitSeq::new(0x0809))),
        ("mark list", encode_mark_list(&[0x0002_0001, 0x0003_0000])),
        ("checksums key", checksums_key(segment)),
        ("checksums", encode_checksums(&[0x0102_0304, u32::MAX])),
        ("pending key", pending_key(segment)),
        ("pending", pending.encode()),
        ("garbage key", garbage_key(segment)),
        ("garbage", garbage.encode()),
    ];
    assert_eq!(fixture.len(), cases.len());
    for (name, bytes) in cases {
        assert_eq!(hex(&fixture[name]), hex(&bytes), "{name}");
    }
    assert_eq!(SegmentEntry::decode(&fixture["entry"]).unwrap(), entry);
    assert_eq!(Mark::decode(&fixture["mark"]).unwrap(), mark);
    assert!(decode_mark_list(&fixture["mark list"]).unwrap().eq([0x0002_0001, 0x0003_0000]));
    assert_eq!(decode_checksums(&fixture["checksums"]).unwrap(), [0x0102_0304, u32::MAX]);
    assert_eq!(PendingFile::decode(&fixture["pending"]).unwrap(), pending);
    assert_eq!(GarbageFile::decode(&fixture["garbage"]).unwrap(), garbage);
    let mut newer = entry.encode();
    newer[0] = 2;
    assert_eq!(SegmentEntry::decode(&newer), Err(CodecError::UnknownFormat { found: 2 }));
}

#[tokio::test]
async fn a_commit_of_format_1() {
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    let committer = Committer::start(backend.clone(), CommitSettings::default(), None).unwrap();
    let layout = RowLayout::new(vec![]).unwrap();
    let row = encode_rows(&layout, SchemaVersion::new(1), &[], 1).unwrap().remove(0);
    let change = RowChange {
        partition: user(5, "ana"),
        key: PrimaryKey::from_i64(6),
        op: RowOp::Insert { row, unique: Unique::Generated },
    };
    let commit = PreparedCommit { commit_time_us: 0x0102, changes: vec![change], ..PreparedCommit::default() };
    committer.commit(commit).await.unwrap();
    let fixture = fixture(include_str!("fixtures/v1/commit.txt"));
    for (keyspace, key, value) in [
        (Keyspace::Rows, "row key", "row value"),
        (Keyspace::Log, "log key", "log value"),
        (Keyspace::System, "position key", "position value"),
        (Keyspace::System, "hot count key", "hot count"),
    ] {
        let stored = backend.get(keyspace, &fixture[key]).unwrap().unwrap_or_default();
        assert_eq!(hex(&fixture[value]), hex(&stored), "{value}");
    }

    assert_eq!(hex(&fixture["hot count key"]), hex(&hot_count_key(&user(5, "ana"))));
    let count = HotCount { rows: 1, bytes: 17 + 21 };
    assert_eq!(HotCount::decode(&fixture["hot count"]).unwrap(), count);

    let from_fixture = MemoryBackend::new();
    let (key, value) = (&fixture["position key"], &fixture["position value"]);
    from_fixture.put(Keyspace::System, key, value, kalamdb_store::kv::Durability::Sync).unwrap();
    assert_eq!(committed_seq(from_fixture.snapshot().as_ref()).unwrap(), CommitSeq::new(1));
}
