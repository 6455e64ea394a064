//! The commit that drops a table: its segments become garbage in the same step, and none comes afterwards.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::sync::Arc;

use kalamdb_store::codec::*;
use kalamdb_store::commit::*;
use kalamdb_store::ids::*;
use kalamdb_store::kv::*;

const TABLE: TableId = TableId::new(7);
const OTHER: TableId = TableId::new(8);

fn partition(table: TableId, owner: &str) -> Partition {
    Partition { table, owner: Owner::User(UserId::new(owner).unwrap()) }
}

fn entry(id: u64) -> SegmentEntry {
    SegmentEntry {
        id: SegmentId::new(id),
        storage: StorageId::new(3),
        path: format!("folder/{id:016x}.parquet"),
        file_bytes: 1,
        rows: 2,
        row_group_rows: 131_072,
        schema_version: SchemaVersion::new(1),
        min_key: PrimaryKey::from_i64(1),
        max_key: PrimaryKey::from_i64(2),
        min_seq: CommitSeq::new(1),
        max_seq: CommitSeq::new(1),
        created_at_us: 0,
    }
}

fn flush(partition: Partition, id: u64) -> PreparedCommit {
    let mut keys = PackedKeys::new();
    (1..=2).for_each(|key| keys.push(&PrimaryKey::from_i64(key)));
    let add = vec![NewSegment { entry: entry(id), checksums: vec![1], keys, hot_bytes: 0 }];
    let change =
        SegmentChange { partition, based_on: CommitSeq::new(0), add, remove: Vec::new(), takes_hot_rows: true };
    PreparedCommit { segments: vec![change], ..PreparedCommit::default() }
}

fn drop_table() -> PreparedCommit {
    PreparedCommit { fences: vec![(TABLE, Fence::Dropped)], ..PreparedCommit::default() }
}

/// The segments whose entries, and those whose marks, are there.
fn manifest(backend: &dyn StorageBackend) -> (Vec<u64>, Vec<u64>) {
    let snapshot = backend.snapshot();
    let mut cursor = snapshot.cursor(Keyspace::Segments, KeyRange::all(), Direction::Forward).unwrap();
    let (mut entries, mut marks) = (Vec::new(), Vec::new());
    while cursor.valid() {
        match split_segments_key(cursor.key()).unwrap().1 {
            SegmentsKey::Entry(id) => entries.push(id.get()),
            SegmentsKey::Mark(id, _) | SegmentsKey::MarkList(id, _) => marks.push(id.get()),
        }
        cursor.advance().unwrap();
    }
    (entries, marks)
}

fn garbage(backend: &dyn StorageBackend) -> BTreeMap<u64, GarbageFile> {
    let snapshot = backend.snapshot();
    let mut cursor = snapshot.cursor(Keyspace::System, garbage_range(), Direction::Forward).unwrap();
    let mut files = BTreeMap::new();
    while cursor.valid() {
        let id = split_garbage_key(cursor.key()).unwrap();
        files.insert(id.get(), GarbageFile::decode(cursor.value()).unwrap());
        cursor.advance().unwrap();
    }
    files
}

async fn a_dropped_table_leaves_garbage_only(backend: Arc<dyn StorageBackend>) {
    let committer = Committer::start(Arc::clone(&backend), CommitSettings::default(), None).unwrap();
    for (table, owner, id) in [(TABLE, "ana", 1), (TABLE, "ana", 2), (TABLE, "bob", 3), (OTHER, "ana", 4)] {
        committer.commit(flush(partition(table, owner), id)).await.unwrap();
    }
    for (table, owner, id) in [(TABLE, "ana", 1), (TABLE, "bob", 3), (OTHER, "ana", 4)] {
        let mark = Mark { commit_seq: CommitSeq::new(1), key: PrimaryKey::from_i64(1) };
        let key = mark_key(&partition(table, owner), SegmentId::new(id), 0);
        backend.put(Keyspace::Segments, &key, &mark.encode(), Durability::Async).unwrap();
    }
    assert_eq!(manifest(backend.as_ref()), (vec![1, 2, 3, 4], vec![1, 3, 4]));
    let before = backend.snapshot();

    let seq = committer.commit(drop_table()).await.unwrap().commit_seq;
    assert_eq!(manifest(backend.as_ref()), (vec![4], vec![4]));
    let files = garbage(backend.as_ref());
    assert_eq!(files.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    for (id, file) in files {
        let SegmentEntry { storage, path, .. } = entry(id);
        assert_eq!(file, GarbageFile { removed_at: seq, storage, path });
    }
    // Whoever reads an older snapshot still finds its segments.
    let key = segment_key(&partition(TABLE, "bob"), SegmentId::new(3));
    assert!(before.get(Keyspace::Segments, &key).unwrap().is_some());

    let late = committer.commit(flush(partition(TABLE, "ana"), 5)).await;
    assert_eq!(late, Err(CommitError::TableDropped { table: TABLE }));
    committer.commit(flush(partition(OTHER, "ana"), 6)).await.unwrap();
    assert_eq!(manifest(backend.as_ref()).0, [4, 6]);
}

/// A flush and a DROP that wait together, in either order, leave no segment without an entry and without a note.
async fn a_flush_and_a_drop_at_once_lose_no_file(backend: Arc<dyn StorageBackend>) {
    let committer = Committer::start(Arc::clone(&backend), CommitSettings::default(), None).unwrap();
    let flushes = (1..=20).map(|id| {
        let committer = committer.clone();
        async move { (id, committer.commit(flush(partition(TABLE, "ana"), id)).await.is_ok()) }
    });
    let flushes = futures::future::join_all(flushes);
    let (flushed, dropped) = tokio::join!(flushes, committer.commit(drop_table()));
    dropped.unwrap();
    let came: Vec<u64> = flushed.into_iter().filter_map(|(id, came)| came.then_some(id)).collect();
    assert_eq!(garbage(backend.as_ref()).into_keys().collect::<Vec<_>>(), came);
    assert_eq!(manifest(backend.as_ref()), (Vec::new(), Vec::new()));
}

fn write(owner: &str, key: i64, began_at: Option<CommitSeq>) -> PreparedCommit {
    let row = encode_rows(&RowLayout::new(Vec::new()).unwrap(), SchemaVersion::new(1), &[], 1).unwrap().remove(0);
    let op = RowOp::Insert { row, unique: Unique::Check };
    let change = RowChange { partition: partition(TABLE, owner), key: PrimaryKey::from_i64(key), op };
    PreparedCommit { changes: vec![change], began_at, ..PreparedCommit::default() }
}

/// A statement that began before its user left adds no row; one that began later, or is of somebody else, does.
async fn rows_of_users_who_left_do_not_come(backend: Arc<dyn StorageBackend>) {
    let committer = Committer::start(Arc::clone(&backend), CommitSettings::default(), None).unwrap();
    let before = committer.commit(write("ana", 1, Some(CommitSeq::new(0)))).await.unwrap().commit_seq;
    let leave = PreparedCommit { leaving: vec![UserId::new("ana").unwrap()], ..PreparedCommit::default() };
    let left = committer.commit(leave).await.unwrap().commit_seq;
    let refused = Err(CommitError::OwnerLeft { change: 0 });
    assert_eq!(committer.commit(write("ana", 2, Some(before))).await, refused);
    committer.commit(write("bob", 2, Some(before))).await.unwrap();
    // What only deletes is how its rows go.
    let op = RowOp::Delete { expected: Expected::Hot(before), old: Vec::new() };
    let change = RowChange { partition: partition(TABLE, "ana"), key: PrimaryKey::from_i64(1), op };
    let delete = PreparedCommit { changes: vec![change], began_at: Some(before), ..PreparedCommit::default() };
    committer.commit(delete).await.unwrap();
    committer.commit(write("ana", 3, Some(left))).await.unwrap();
    // Of a commit with one such row nothing is there.
    let mut both = write("bob", 9, Some(before));
    both.changes.extend(write("ana", 9, Some(before)).changes);
    assert_eq!(committer.commit(both).await, Err(CommitError::OwnerLeft { change: 1 }));
    let keys = |owner: &str| {
        let key = row_key(&partition(TABLE, owner), &PrimaryKey::from_i64(9));
        backend.get(Keyspace::Rows, &key).unwrap()
    };
    assert_eq!((keys("ana"), keys("bob")), (None, None));
}

#[tokio::test]
async fn in_memory() {
    rows_of_users_who_left_do_not_come(Arc::new(MemoryBackend::new())).await;
    a_dropped_table_leaves_garbage_only(Arc::new(MemoryBackend::new())).await;
    a_flush_and_a_drop_at_once_lose_no_file(Arc::new(MemoryBackend::new())).await;
}

#[tokio::test]
async fn on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| Arc::new(RocksBackend::open(folder.path().join(name), &RocksSettings::default()).unwrap());
    a_dropped_table_leaves_garbage_only(open("a")).await;
    a_flush_and_a_drop_at_once_lose_no_file(open("b")).await;
    rows_of_users_who_left_do_not_come(open("c")).await;
}
