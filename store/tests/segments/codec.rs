//! The manifest's records: round trips, ranges, and damaged bytes.

use kalamdb_store::codec::*;
use kalamdb_store::ids::*;
use proptest::prelude::*;

fn partition() -> impl Strategy<Value = Partition> {
    let letters = prop::sample::select(vec!['\0', '\u{1}', 'a', '\u{ff}', '/']);
    let owner = prop_oneof![
        Just(Owner::Shared),
        prop::collection::vec(letters, 1..5)
            .prop_map(|letters| Owner::User(UserId::new(&letters.into_iter().collect::<String>()).unwrap())),
    ];
    (prop_oneof![0..3_u32, any::<u32>()], owner)
        .prop_map(|(table, owner)| Partition { table: TableId::new(table), owner })
}

fn segment() -> impl Strategy<Value = SegmentId> {
    prop_oneof![0..3_u64, any::<u64>(), Just(u64::MAX)].prop_map(SegmentId::new)
}

fn key() -> impl Strategy<Value = PrimaryKey> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(PrimaryKey::from_encoded)
}

prop_compose! {
    fn entry()(
        id in segment(), storage: u32, path in "\\PC{0,200}", numbers: [u64; 4], row_group_rows in 1..u32::MAX,
        version: u32, min_key in key(), max_key in key(), created_at_us: i64,
    ) -> SegmentEntry {
        SegmentEntry {
            id, storage: StorageId::new(storage), path, file_bytes: numbers[0], rows: numbers[1], row_group_rows,
            schema_version: SchemaVersion::new(version), min_key, max_key, min_seq: CommitSeq::new(numbers[2]),
            max_seq: CommitSeq::new(numbers[3]), created_at_us,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entries_come_back(entry in entry(), cut in any::<prop::sample::Index>()) {
        let bytes = entry.encode();
        prop_assert!(SegmentEntry::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(SegmentEntry::decode(&[&bytes[..], &[0]].concat()).is_err());
        prop_assert_eq!(SegmentEntry::decode(&bytes).unwrap(), entry);
    }

    #[test]
    fn marks_and_notes_come_back(key in key(), seq: u64, storage: u32, path in "\\PC{0,100}", sums: Vec<u32>) {
        let mark = Mark { commit_seq: CommitSeq::new(seq), key };
        prop_assert_eq!(Mark::decode(&mark.encode()).unwrap(), mark);
        let pending = PendingFile { storage: StorageId::new(storage), path: path.clone() };
        prop_assert_eq!(PendingFile::decode(&pending.encode()).unwrap(), pending);
        let garbage = GarbageFile { removed_at: CommitSeq::new(seq), storage: StorageId::new(storage), path };
        prop_assert_eq!(GarbageFile::decode(&garbage.encode()).unwrap(), garbage);
        prop_assert_eq!(decode_checksums(&encode_checksums(&sums)).unwrap(), sums.clone());
        prop_assert!(decode_mark_list(&encode_mark_list(&sums)).unwrap().eq(sums));
    }

    #[test]
    fn keys_come_back_and_stay_in_their_partition(
        (mine, other) in (partition(), partition()), (a, b) in (segment(), segment()), (i, j) in any::<(u32, u32)>(),
    ) {
        let entry = segment_key(&mine, a);
        let mark = mark_key(&mine, a, i);
        prop_assert_eq!(split_segments_key(&entry).unwrap(), (mine.clone(), SegmentsKey::Entry(a)));
        prop_assert_eq!(split_segments_key(&mark).unwrap(), (mine.clone(), SegmentsKey::Mark(a, i)));
        prop_assert!(entry.starts_with(&row_prefix(&mine)) && table_range(mine.table).contains(&mark));
        prop_assert!(segment_range(&mine).contains(&entry) && !segment_range(&mine).contains(&mark));
        prop_assert!(mark_range(&mine, a).contains(&mark) && !mark_range(&mine, a).contains(&entry));
        prop_assert_eq!(mark_range(&mine, b).contains(&mark), a == b);
        prop_assert_eq!(segment_range(&other).contains(&entry), mine == other);
        prop_assert_eq!(mark_range(&other, a).contains(&mark), mine == other);
        prop_assert_eq!(segment_key(&mine, a).cmp(&segment_key(&mine, b)), a.cmp(&b));
        prop_assert_eq!(mark_key(&mine, a, i).cmp(&mark_key(&mine, b, j)), (a, i).cmp(&(b, j)));
        let (first, last) = (CommitSeq::new(u64::from(i)), CommitSeq::new(u64::MAX - u64::from(j)));
        let list = mark_list_key(&mine, a, first);
        prop_assert_eq!(split_segments_key(&list).unwrap(), (mine.clone(), SegmentsKey::MarkList(a, first)));
        prop_assert!(list > mark && table_range(mine.table).contains(&list) && !mark_range(&mine, a).contains(&list));
        prop_assert_eq!(mark_list_range(&mine, b).contains(&list), a == b);
        prop_assert_eq!(mark_list_range(&other, a).contains(&list), mine == other);
        prop_assert_eq!(list.cmp(&mark_list_key(&mine, b, last)), (a, first).cmp(&(b, last)));
        let count = hot_count_key(&mine);
        prop_assert_eq!(split_hot_count_key(&count).unwrap(), mine.clone());
        prop_assert!(hot_count_range(mine.table).contains(&count));
        prop_assert_eq!(hot_count_range(other.table).contains(&count), mine.table == other.table);
        prop_assert_eq!(split_pending_key(&pending_key(a)).unwrap(), a);
        prop_assert_eq!(split_garbage_key(&garbage_key(a)).unwrap(), a);
        prop_assert!(pending_range().contains(&pending_key(a)) && !pending_range().contains(&garbage_key(a)));
        prop_assert!(garbage_range().contains(&garbage_key(a)) && !garbage_range().contains(&checksums_key(a)));
    }

    #[test]
    fn damaged_bytes_are_errors(bytes: Vec<u8>) {
        let _ = SegmentEntry::decode(&bytes);
        let _ = SegmentEntry::decode(&[&[1], &bytes[..]].concat());
        let _ = Mark::decode(&bytes);
        let _ = PendingFile::decode(&bytes);
        let _ = GarbageFile::decode(&bytes);
        let _ = decode_checksums(&bytes);
        let _ = decode_mark_list(&bytes);
        let _ = HotCount::decode(&bytes);
        let _ = split_hot_count_key(&[b"hot/counts/", &bytes[..]].concat());
        let _ = split_pending_key(&bytes);
        if let Ok((partition, what)) = split_segments_key(&bytes) {
            let again = match what {
                SegmentsKey::Entry(segment) => segment_key(&partition, segment),
                SegmentsKey::Mark(segment, row) => mark_key(&partition, segment, row),
                SegmentsKey::MarkList(segment, seq) => mark_list_key(&partition, segment, seq),
            };
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn packed_keys_are_a_sorted_list(keys in prop::collection::btree_set(key(), 0..100), probe in key()) {
        let list: Vec<_> = keys.iter().cloned().collect();
        let packed: PackedKeys = keys.into_iter().collect();
        prop_assert_eq!(packed.len(), list.len());
        prop_assert_eq!(packed.is_empty(), list.is_empty());
        prop_assert_eq!(packed.first(), list.first().map(PrimaryKey::as_bytes));
        prop_assert_eq!(packed.last(), list.last().map(PrimaryKey::as_bytes));
        prop_assert!(packed.iter().eq(list.iter().map(PrimaryKey::as_bytes)));
        for (at, key) in list.iter().enumerate() {
            prop_assert_eq!(packed.get(at), key.as_bytes());
            prop_assert_eq!(packed.position(key.as_bytes()), Some(at as u32));
        }
        prop_assert_eq!(packed.position(probe.as_bytes()), list.binary_search(&probe).ok().map(|at| at as u32));
        prop_assert_eq!(packed.get(list.len()), b"");
    }
}

#[test]
fn an_entry_without_rows_in_a_row_group_is_refused() {
    let entry = SegmentEntry {
        id: SegmentId::new(1),
        storage: StorageId::new(0),
        path: String::new(),
        file_bytes: 1,
        rows: 10,
        row_group_rows: 4,
        schema_version: SchemaVersion::new(1),
        min_key: PrimaryKey::from_i64(0),
        max_key: PrimaryKey::from_i64(9),
        min_seq: CommitSeq::new(1),
        max_seq: CommitSeq::new(1),
        created_at_us: 0,
    };
    assert_eq!(entry.row_groups(), 3);
    assert!(SegmentEntry::decode(&SegmentEntry { row_group_rows: 0, ..entry }.encode()).is_err());
}
