//! Many new rows in one commit: what is written, what is refused, and that others see it as any other commit.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::datatypes::DataType;
use kalamdb_store::codec::*;
use kalamdb_store::commit::*;
use kalamdb_store::ids::*;
use kalamdb_store::kv::*;

const TABLE: TableId = TableId::new(7);

fn partition(owner: &str) -> Partition {
    Partition { table: TABLE, owner: Owner::User(UserId::new(owner).unwrap()) }
}

fn layout() -> RowLayout {
    RowLayout::new(vec![LayoutColumn { id: ColumnId::new(1), data_type: DataType::Utf8View }]).unwrap()
}

fn packed(ids: &[i64]) -> PackedInserts {
    let keys: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let texts: ArrayRef = Arc::new(ids.iter().map(|id| Some(format!("row {id}"))).collect::<StringViewArray>());
    let mut rows = PackedInserts::new();
    rows.push_rows(&layout(), SchemaVersion::new(1), &keys, &[texts], None).unwrap();
    rows
}

fn insert(owner: &str, ids: &[i64], unique: Unique) -> BulkInsert {
    BulkInsert::new(partition(owner), packed(ids), unique).unwrap()
}

fn bulk(inserts: Vec<BulkInsert>, checked_at: Option<CommitSeq>) -> PreparedCommit {
    let bulk = Some(BulkRows::new(inserts));
    PreparedCommit { commit_time_us: 5_000, bulk, cold_checked_at: checked_at, ..PreparedCommit::default() }
}

fn single(owner: &str, id: i64) -> PreparedCommit {
    let text: ArrayRef = Arc::new(StringViewArray::from(vec!["single"]));
    let row = encode_rows(&layout(), SchemaVersion::new(1), &[text], 1).unwrap().remove(0);
    let change = RowChange {
        partition: partition(owner),
        key: PrimaryKey::from_i64(id),
        op: RowOp::Insert { row, unique: Unique::Check },
    };
    PreparedCommit { changes: vec![change], ..PreparedCommit::default() }
}

/// The stored ids of an owner.
fn ids(backend: &dyn StorageBackend, owner: &str) -> Vec<i64> {
    let snapshot = backend.snapshot();
    let range = row_range(&partition(owner), Bound::Unbounded, Bound::Unbounded);
    let mut cursor = snapshot.cursor(Keyspace::Rows, range, Direction::Forward).unwrap();
    let mut ids = Vec::new();
    while let Some((key, value)) = cursor.item() {
        let (_, _, key) = split_row_key(key).unwrap();
        RowHeader::decode(value).unwrap();
        ids.push(PrimaryKey::from_encoded(key).to_i64().unwrap());
        cursor.advance().unwrap();
    }
    ids
}

fn count(backend: &dyn StorageBackend, owner: &str) -> (u64, u64) {
    let stored = backend.get(Keyspace::System, &hot_count_key(&partition(owner))).unwrap();
    let count = stored.map_or_else(HotCount::default, |bytes| HotCount::decode(&bytes).unwrap());
    (count.rows, count.bytes)
}

/// Bytes of the stored rows of an owner with their keys.
fn bytes(backend: &dyn StorageBackend, owner: &str) -> u64 {
    let snapshot = backend.snapshot();
    let range = row_range(&partition(owner), Bound::Unbounded, Bound::Unbounded);
    let mut cursor = snapshot.cursor(Keyspace::Rows, range, Direction::Forward).unwrap();
    let mut bytes = 0;
    while let Some((key, value)) = cursor.item() {
        bytes += (key.len() + value.len()) as u64;
        cursor.advance().unwrap();
    }
    bytes
}

fn start(backend: &Arc<dyn StorageBackend>) -> Committer {
    Committer::start(Arc::clone(backend), CommitSettings::default(), None).unwrap()
}

fn memory() -> (Arc<dyn StorageBackend>, Committer) {
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    let committer = start(&backend);
    (backend, committer)
}

async fn everything_is_written(backend: Arc<dyn StorageBackend>) {
    let committer = start(&backend);
    committer.commit(single("ana", 100)).await.unwrap();
    let inserts = vec![insert("ana", &[5, -3, 4], Unique::Generated), insert("bo", &[1], Unique::Generated)];
    let seq = committer.commit(bulk(inserts, None)).await.unwrap().commit_seq;
    assert_eq!((ids(backend.as_ref(), "ana"), ids(backend.as_ref(), "bo")), (vec![-3, 4, 5, 100], vec![1]));
    assert_eq!(count(backend.as_ref(), "ana"), (4, bytes(backend.as_ref(), "ana")));
    assert_eq!(count(backend.as_ref(), "bo"), (1, bytes(backend.as_ref(), "bo")));
    // The log has them in the order that they were given in, stamped as the rows are.
    let entry = backend.get(Keyspace::Log, &log_key(&partition("ana"), seq)).unwrap().unwrap();
    let entry = LogEntry::decode(&entry).unwrap();
    assert_eq!((entry.commit_seq, entry.commit_time_us), (seq, 5_000));
    let logged: Vec<i64> = entry.changes.iter().map(|change| change.key.to_i64().unwrap()).collect();
    assert_eq!(logged, [5, -3, 4]);
    for change in &entry.changes {
        let stored = backend.get(Keyspace::Rows, &row_key(&partition("ana"), &change.key)).unwrap().unwrap();
        let header = RowHeader::decode(&stored).unwrap();
        assert_eq!((header.commit_seq, header.commit_time_us), (seq, 5_000));
        assert_eq!(change.new.as_deref(), Some(stored.as_slice()));
    }
    // Rows that came so are changed as any others.
    let taken = committer.commit(single("ana", 4)).await;
    assert_eq!(taken.unwrap_err(), CommitError::KeyExists { change: 0 });
    committer.stop();
}

#[tokio::test]
async fn rows_log_and_counts_are_written_in_memory() {
    everything_is_written(Arc::new(MemoryBackend::new())).await;
}

#[tokio::test]
async fn rows_log_and_counts_are_written_to_disk() {
    let dir = tempfile::tempdir().unwrap();
    everything_is_written(Arc::new(RocksBackend::open(dir.path(), &RocksSettings::default()).unwrap())).await;
    let backend = RocksBackend::open(dir.path(), &RocksSettings::default()).unwrap();
    assert_eq!(ids(&backend, "ana"), [-3, 4, 5, 100]);
}

#[tokio::test]
async fn a_key_that_came_since_the_search_refuses_all() {
    let (backend, committer) = memory();
    let searched = committer.last_commit_seq();
    committer.commit(single("bo", 2)).await.unwrap();
    let inserts = || vec![insert("ana", &[1, 2], Unique::Check), insert("bo", &[3, 2, 1], Unique::Check)];
    let refused = committer.commit(bulk(inserts(), Some(searched))).await.unwrap_err();
    // Counted through the partitions, in the order of their rows.
    assert_eq!(refused, CommitError::KeyExists { change: 3 });
    assert_eq!((ids(backend.as_ref(), "ana"), ids(backend.as_ref(), "bo")), (Vec::new(), vec![2]));
    assert_eq!(count(backend.as_ref(), "ana"), (0, 0));
    // What was searched for later is believed.
    let generated = vec![insert("bo", &[3, 1], Unique::Generated)];
    committer.commit(bulk(generated, Some(searched))).await.unwrap();
    assert_eq!(ids(backend.as_ref(), "bo"), [1, 2, 3]);
}

#[tokio::test]
async fn the_same_rows_can_be_tried_again() {
    let (backend, committer) = memory();
    let searched = committer.last_commit_seq();
    committer.commit(single("ana", 1)).await.unwrap();
    let first = bulk(vec![insert("ana", &[1, 2], Unique::Check)], Some(searched));
    let again = PreparedCommit { cold_checked_at: None, ..first.clone() };
    assert!(committer.commit(first).await.is_err());
    let seq = committer.commit(again).await.unwrap().commit_seq;
    let stored = backend.get(Keyspace::Rows, &row_key(&partition("ana"), &PrimaryKey::from_i64(2))).unwrap().unwrap();
    assert_eq!(RowHeader::decode(&stored).unwrap().commit_seq, seq);
}

#[tokio::test]
async fn owners_that_left_and_tables_that_were_dropped_get_nothing() {
    let (backend, committer) = memory();
    let began_at = committer.last_commit_seq();
    let leaving = PreparedCommit { leaving: vec![UserId::new("bo").unwrap()], ..PreparedCommit::default() };
    committer.commit(leaving).await.unwrap();
    let inserts = || vec![insert("ana", &[1], Unique::Generated), insert("bo", &[1], Unique::Generated)];
    let late = PreparedCommit { began_at: Some(began_at), ..bulk(inserts(), None) };
    assert_eq!(committer.commit(late).await.unwrap_err(), CommitError::OwnerLeft { change: 1 });
    let drop = PreparedCommit { fences: vec![(TABLE, Fence::Dropped)], ..PreparedCommit::default() };
    committer.commit(drop).await.unwrap();
    let dropped = committer.commit(bulk(inserts(), None)).await.unwrap_err();
    assert_eq!(dropped, CommitError::TableDropped { table: TABLE });
    assert!(ids(backend.as_ref(), "ana").is_empty() && ids(backend.as_ref(), "bo").is_empty());
}

#[tokio::test]
async fn commits_around_it_are_validated_against_it() {
    let (backend, committer) = memory();
    // All are queued before the first is taken, or nearly so.
    let (before, many, after) = tokio::join!(
        committer.commit(single("ana", 1)),
        committer.commit(bulk(vec![insert("ana", &[2, 3], Unique::Generated)], None)),
        committer.commit(single("ana", 3)),
    );
    let seqs = [before.unwrap().commit_seq, many.unwrap().commit_seq];
    assert!(seqs[0] < seqs[1]);
    assert_eq!(after.unwrap_err(), CommitError::KeyExists { change: 0 });
    assert_eq!(ids(backend.as_ref(), "ana"), [1, 2, 3]);
}

#[test]
fn two_rows_with_one_key_are_no_insert() {
    let (duplicate, rows) = BulkInsert::new(partition("ana"), packed(&[3, 1, 3]), Unique::Check).unwrap_err();
    assert_eq!(duplicate, DuplicateKey { first: 0, second: 2 });
    assert_eq!(rows.len(), 3);
    let insert = insert("ana", &[3, 1, 2], Unique::Check);
    let keys: Vec<i64> = insert.keys().map(|(key, _)| PrimaryKey::from_encoded(key).to_i64().unwrap()).collect();
    assert_eq!(keys, [1, 2, 3]);
    assert_eq!(insert.place_of(PrimaryKey::from_i64(2).as_bytes()), Some(2));
    assert_eq!(insert.place_of(PrimaryKey::from_i64(4).as_bytes()), None);
}

#[tokio::test]
async fn a_commit_of_very_many_owners_counts_all_of_their_rows() {
    // More than are remembered from commit to commit.
    const OWNERS: usize = 100_010;
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    let committer = start(&backend);
    committer.commit(bulk(vec![insert("00000000", &[1, 2, 3], Unique::Generated)], None)).await.unwrap();
    let inserts = (0..OWNERS).map(|owner| insert(&format!("{owner:08}"), &[9], Unique::Generated)).collect();
    committer.commit(bulk(inserts, None)).await.unwrap();
    assert_eq!(count(backend.as_ref(), "00000000").0, 4);
    assert_eq!(count(backend.as_ref(), "00100009").0, 1);
    committer.commit(bulk(vec![insert("00000000", &[10], Unique::Generated)], None)).await.unwrap();
    assert_eq!(count(backend.as_ref(), "00000000"), (5, bytes(backend.as_ref(), "00000000")));
}
