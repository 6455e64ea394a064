use kalamdb_store::{
    codec::PrimaryKey,
    ids::{CommitSeq, SchemaVersion, StorageId},
};

use super::*;

const MIB: u64 = 1024 * 1024;

const RULES: Rules = Rules {
    min_segments: 4,
    small_bytes: 16 * MIB,
    small_rows: 1_000,
    max_deleted_percent: 20,
    max_rows: 10_000,
    max_bytes: 256 * MIB,
    max_segments: 64,
};

fn segment(id: u64, keys: std::ops::RangeInclusive<i64>, mib: u64, rows: u64, marks: u64) -> Candidate {
    let entry = SegmentEntry {
        id: SegmentId::new(id),
        storage: StorageId::new(0),
        path: String::new(),
        file_bytes: mib * MIB,
        rows,
        row_group_rows: 100,
        schema_version: SchemaVersion::new(1),
        min_key: PrimaryKey::from_i64(*keys.start()),
        max_key: PrimaryKey::from_i64(*keys.end()),
        min_seq: CommitSeq::new(1),
        max_seq: CommitSeq::new(1),
        created_at_us: 0,
    };
    Candidate { entry, marks }
}

fn picked(segments: &[Candidate]) -> Vec<u64> {
    pick(segments, &RULES).into_iter().map(SegmentId::get).collect()
}

#[test]
fn small_segments_are_merged_when_there_are_enough() {
    let mut segments = vec![segment(1, 30..=39, 1, 10, 0), segment(2, 0..=9, 1, 10, 0), segment(3, 10..=19, 1, 10, 0)];
    assert_eq!(picked(&segments), [0_u64; 0]);
    segments.push(segment(4, 40..=49, 64, 900, 0));
    assert_eq!(picked(&segments), [0_u64; 0]);
    segments.push(segment(5, 50..=59, 1, 1_000, 0));
    assert_eq!(picked(&segments), [0_u64; 0], "a segment with many rows is not small");
    segments.push(segment(6, 20..=29, 1, 10, 0));
    assert_eq!(picked(&segments), [2, 3, 6, 1]);
}

#[test]
fn segments_that_overlap_in_one_key_are_merged() {
    let mut segments = vec![
        segment(1, 0..=100, 64, 2_000, 0),
        segment(2, 50..=150, 64, 2_000, 0),
        segment(3, 90..=95, 64, 2_000, 0),
        segment(4, 101..=200, 64, 2_000, 0),
    ];
    assert_eq!(picked(&segments), [0_u64; 0], "three at most have a key in common");
    segments.push(segment(5, 95..=300, 20, 1_500, 0));
    assert_eq!(picked(&segments), [5, 1, 2, 3]);
}

#[test]
fn worn_segments_are_rewritten() {
    let segments =
        [segment(1, 0..=9, 64, 1_000, 200), segment(2, 10..=19, 64, 1_000, 201), segment(3, 20..=29, 64, 1_000, 1_000)];
    assert_eq!(picked(&segments), [2, 3]);
}

#[test]
fn what_is_merged_at_once_is_bounded() {
    let segments: Vec<_> = (0..100).map(|i| segment(i, 10 * i as i64..=10 * i as i64 + 9, 1, 999, 0)).collect();
    assert_eq!(picked(&segments), (0..10).collect::<Vec<u64>>());
    let large = [segment(1, 0..=9, 500, 1_000_000, 500_000), segment(2, 10..=19, 500, 1_000_000, 500_000)];
    assert_eq!(picked(&large), [1]);
}

#[test]
fn nothing_is_picked_from_nothing() {
    assert_eq!(picked(&[]), [0_u64; 0]);
}
