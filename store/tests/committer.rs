//! The committer: what it accepts, in which order, and what is left when something fails.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod faulty;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array, StringViewArray};
use arrow::datatypes::DataType;
use faulty::FaultyBackend;
use kalamdb_store::codec::*;
use kalamdb_store::commit::*;
use kalamdb_store::ids::*;
use kalamdb_store::kv::*;

const TABLE: u32 = 7;

fn partition(table: u32, owner: &str) -> Partition {
    Partition { table: TableId::new(table), owner: Owner::User(UserId::new(owner).unwrap()) }
}

fn ana() -> Partition {
    partition(TABLE, "ana")
}

fn layout() -> RowLayout {
    RowLayout::new(vec![LayoutColumn { id: ColumnId::new(1), data_type: DataType::Utf8View }]).unwrap()
}

fn row(text: &str) -> EncodedRow {
    let column: ArrayRef = Arc::new(StringViewArray::from(vec![text]));
    encode_rows(&layout(), SchemaVersion::new(1), &[column], 1).unwrap().remove(0)
}

fn change(partition: &Partition, id: i64, op: RowOp) -> RowChange {
    RowChange { partition: partition.clone(), key: PrimaryKey::from_i64(id), op }
}

fn insert(id: i64, text: &str) -> RowChange {
    change(&ana(), id, RowOp::Insert { row: row(text), unique: Unique::Check })
}

fn generated(id: i64, text: &str) -> RowChange {
    change(&ana(), id, RowOp::Insert { row: row(text), unique: Unique::Generated })
}

fn update(id: i64, text: &str, expected: u64) -> RowChange {
    let old = b"the image that was read".to_vec();
    change(&ana(), id, RowOp::Update { row: row(text), expected: Expected::Hot(CommitSeq::new(expected)), old })
}

fn delete(id: i64, expected: u64) -> RowChange {
    change(
        &ana(),
        id,
        RowOp::Delete { expected: Expected::Hot(CommitSeq::new(expected)), old: b"the deleted image".to_vec() },
    )
}

fn commit_of(changes: Vec<RowChange>) -> PreparedCommit {
    PreparedCommit { commit_time_us: 1_000, changes, ..PreparedCommit::default() }
}

fn settings(durability: Durability) -> CommitSettings {
    CommitSettings { durability, ..CommitSettings::default() }
}

fn memory() -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new())
}

fn start(backend: &Arc<dyn StorageBackend>) -> Committer {
    Committer::start(backend.clone(), settings(Durability::Sync), None).unwrap()
}

/// The rows of a partition: key to version and text.
fn rows(backend: &dyn StorageBackend, partition: &Partition) -> BTreeMap<i64, (u64, String)> {
    let snapshot = backend.snapshot();
    let history = LayoutHistory::new(BTreeMap::from([(SchemaVersion::new(1), Arc::new(layout()))]));
    let text = DecodeColumn::Stored { id: ColumnId::new(1), data_type: DataType::Utf8View, missing: None };
    let columns = vec![DecodeColumn::PrimaryKey { data_type: DataType::Int64 }, DecodeColumn::CommitSeq, text];
    let mut decoder = BatchDecoder::new(Arc::new(history), columns).unwrap();
    let range = row_range(partition, Bound::Unbounded, Bound::Unbounded);
    let mut cursor = snapshot.cursor(Keyspace::Rows, range, Direction::Forward).unwrap();
    while let Some((key, value)) = cursor.item() {
        decoder.append(key, value).unwrap();
        cursor.advance().unwrap();
    }
    let batch = decoder.finish().unwrap();
    let ints = |at: usize| batch[at].as_any().downcast_ref::<Int64Array>().unwrap();
    let texts = batch[2].as_any().downcast_ref::<StringViewArray>().unwrap();
    (0..texts.len()).map(|row| (ints(0).value(row), (ints(1).value(row) as u64, texts.value(row).to_owned()))).collect()
}

fn log(backend: &dyn StorageBackend, partition: &Partition) -> Vec<LogEntry> {
    let snapshot = backend.snapshot();
    let range = log_range(partition, Bound::Unbounded, Bound::Unbounded);
    let mut cursor = snapshot.cursor(Keyspace::Log, range, Direction::Forward).unwrap();
    let mut entries = Vec::new();
    while let Some((key, value)) = cursor.item() {
        let entry = LogEntry::decode(value).unwrap();
        assert_eq!(split_log_key(key).unwrap(), (partition.clone(), entry.commit_seq));
        entries.push(entry);
        cursor.advance().unwrap();
    }
    entries
}

fn has(id: i64, seq: u64, text: &str) -> (i64, (u64, String)) {
    (id, (seq, text.to_owned()))
}

#[tokio::test]
async fn inserts_updates_and_deletes() {
    let backend = memory();
    let committer = start(&backend);
    assert_eq!(committer.last_commit_seq(), CommitSeq::new(0));
    let committed = committer.commit(commit_of(vec![insert(1, "a"), insert(2, "b"), generated(3, "c")])).await.unwrap();
    assert_eq!(committed.commit_seq, CommitSeq::new(1));
    committer.commit(commit_of(vec![update(1, "A", 1), delete(2, 1)])).await.unwrap();
    assert_eq!(rows(&*backend, &ana()), BTreeMap::from([has(1, 2, "A"), has(3, 1, "c")]));
    assert_eq!(committer.last_commit_seq(), CommitSeq::new(2));
    assert_eq!(committed_seq(backend.snapshot().as_ref()).unwrap(), CommitSeq::new(2));
    let stored = backend.get(Keyspace::Rows, &row_key(&ana(), &PrimaryKey::from_i64(1))).unwrap().unwrap();
    let header = RowHeader::decode(&stored).unwrap();
    assert_eq!((header.commit_time_us, header.schema_version), (1_000, SchemaVersion::new(1)));
}

#[tokio::test]
async fn logs_every_change_with_its_images() {
    let backend = memory();
    let committer = start(&backend);
    let bob = partition(TABLE, "bob");
    let of_bob = |id, text| change(&bob, id, RowOp::Insert { row: row(text), unique: Unique::Check });
    committer.commit(commit_of(vec![insert(1, "a"), of_bob(1, "x"), insert(2, "b"), of_bob(2, "y")])).await.unwrap();
    committer.commit(commit_of(vec![delete(2, 1), update(1, "A", 1), insert(2, "again")])).await.unwrap();

    let stored = |partition: &Partition, id| {
        backend.get(Keyspace::Rows, &row_key(partition, &PrimaryKey::from_i64(id))).unwrap().unwrap()
    };
    let of_ana = log(&*backend, &ana());
    let summary = |entry: &LogEntry| {
        let changes = entry.changes.iter().map(|change| {
            (change.op, change.key.to_i64().unwrap(), change.new.is_some(), change.old.clone().unwrap_or_default())
        });
        (entry.commit_seq.get(), entry.commit_time_us, entry.schema_version.get(), changes.collect::<Vec<_>>())
    };
    assert_eq!(
        of_ana.iter().map(summary).collect::<Vec<_>>(),
        vec![
            (1, 1_000, 1, vec![(ChangeOp::Insert, 1, true, vec![]), (ChangeOp::Insert, 2, true, vec![])]),
            (
                2,
                1_000,
                1,
                vec![
                    (ChangeOp::Delete, 2, false, b"the deleted image".to_vec()),
                    (ChangeOp::Update, 1, true, b"the image that was read".to_vec()),
                    (ChangeOp::Insert, 2, true, vec![]),
                ]
            ),
        ]
    );
    // The new image is the stored row itself.
    assert_eq!(of_ana[1].changes[1].new.as_ref(), Some(&stored(&ana(), 1)));
    assert_eq!(of_ana[1].changes[2].new.as_ref(), Some(&stored(&ana(), 2)));
    let of_bob = log(&*backend, &bob);
    assert_eq!(of_bob.len(), 1);
    assert_eq!(of_bob[0].changes.len(), 2);
    assert_eq!(of_bob[0].changes[1].new.as_ref(), Some(&stored(&bob, 2)));
}

#[tokio::test]
async fn refuses_existing_keys_and_changed_rows_without_a_trace() {
    let backend = memory();
    let committer = start(&backend);
    committer.commit(commit_of((0..10).map(|id| insert(id, "old")).collect())).await.unwrap();
    let refused = [
        (vec![insert(20, "x"), insert(5, "x")], CommitError::KeyExists { change: 1 }),
        (vec![insert(20, "x"), insert(20, "y")], CommitError::KeyExists { change: 1 }),
        (vec![generated(20, "x"), generated(20, "y")], CommitError::KeyExists { change: 1 }),
        (vec![insert(20, "x"), update(5, "x", 9)], CommitError::VersionChanged { change: 1 }),
        (vec![update(99, "x", 1)], CommitError::VersionChanged { change: 0 }),
        (vec![delete(99, 1)], CommitError::VersionChanged { change: 0 }),
        (vec![delete(1, 1), delete(1, 1)], CommitError::VersionChanged { change: 1 }),
        (vec![update(1, "x", 1), update(1, "y", 1)], CommitError::VersionChanged { change: 1 }),
        // Enough look-ups to be made together.
        ((20..30).chain([3]).map(|id| insert(id, "x")).collect(), CommitError::KeyExists { change: 10 }),
        (
            (0..8).map(|id| update(id, "x", if id == 6 { 2 } else { 1 })).collect(),
            CommitError::VersionChanged { change: 6 },
        ),
    ];
    for (changes, error) in refused {
        let mut commit = commit_of(changes);
        commit.kv.put(Keyspace::Catalog, b"trace", b"trace");
        assert_eq!(committer.commit(commit).await, Err(error));
    }
    assert_eq!(rows(&*backend, &ana()), (0..10).map(|id| has(id, 1, "old")).collect());
    assert_eq!(backend.get(Keyspace::Catalog, b"trace").unwrap(), None);
    assert_eq!(log(&*backend, &ana()).len(), 1);
    // A refused commit takes no sequence.
    assert_eq!(committer.commit(commit_of(vec![insert(20, "x")])).await.unwrap().commit_seq, CommitSeq::new(2));
}

#[tokio::test]
async fn a_key_may_change_several_times_in_one_commit() {
    let backend = memory();
    let committer = start(&backend);
    committer.commit(commit_of(vec![insert(1, "a")])).await.unwrap();
    committer.commit(commit_of(vec![delete(1, 1), insert(1, "b")])).await.unwrap();
    assert_eq!(rows(&*backend, &ana()), BTreeMap::from([has(1, 2, "b")]));
}

/// Holds the committer in a first write while further commits queue up, so that they are taken as one group, which is
/// then written in so many parts.
async fn in_one_group(
    backend: &Arc<FaultyBackend>,
    committer: &Committer,
    commits: Vec<PreparedCommit>,
    parts: usize,
) -> Vec<Result<Committed, CommitError>> {
    backend.hold();
    let first = tokio::spawn({
        let committer = committer.clone();
        async move { committer.commit(PreparedCommit::default()).await }
    });
    backend.wait_until_held().await;
    let mut waiting = Vec::new();
    for commit in commits {
        let mut submitted = Box::pin({
            let committer = committer.clone();
            async move { committer.commit(commit).await }
        });
        // The first poll queues the commit; the order of the polls is the order of the queue.
        assert!(futures_poll(submitted.as_mut()).await.is_none());
        waiting.push(submitted);
    }
    let writes = backend.writes();
    backend.release();
    first.await.unwrap().unwrap();
    let mut answers = Vec::new();
    for submitted in waiting {
        answers.push(submitted.await);
    }
    assert_eq!(backend.writes() - writes, 1 + parts);
    answers
}

/// Polls a future once.
async fn futures_poll<T>(mut future: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sees_earlier_commits_of_its_own_group() {
    let backend = Arc::new(FaultyBackend::new(memory()));
    let committer = Committer::start(backend.clone(), settings(Durability::Sync), None).unwrap();
    committer.commit(commit_of(vec![insert(1, "a"), insert(2, "b")])).await.unwrap();
    let answers = in_one_group(
        &backend,
        &committer,
        vec![
            commit_of(vec![insert(10, "first")]),
            commit_of(vec![insert(11, "lost"), insert(10, "second")]),
            commit_of(vec![insert(11, "free again")]),
            commit_of(vec![update(1, "new", 1)]),
            commit_of(vec![update(1, "late", 1)]),
            commit_of(vec![delete(2, 1)]),
            commit_of(vec![delete(2, 1)]),
            commit_of(vec![insert(2, "reborn")]),
            commit_of(vec![generated(10, "collides")]),
        ],
        1,
    )
    .await;
    let committed = |seq| Ok(Committed { commit_seq: CommitSeq::new(seq) });
    assert_eq!(
        answers,
        vec![
            committed(3),
            Err(CommitError::KeyExists { change: 1 }),
            committed(4),
            committed(5),
            Err(CommitError::VersionChanged { change: 0 }),
            committed(6),
            Err(CommitError::VersionChanged { change: 0 }),
            committed(7),
            Err(CommitError::KeyExists { change: 0 }),
        ]
    );
    let expected = [has(1, 5, "new"), has(2, 7, "reborn"), has(10, 3, "first"), has(11, 4, "free again")];
    assert_eq!(rows(&*backend, &ana()), BTreeMap::from(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_table_takes_no_more_rows() {
    let backend = Arc::new(FaultyBackend::new(memory()));
    let committer = Committer::start(backend.clone(), settings(Durability::Sync), None).unwrap();
    committer.commit(commit_of(vec![insert(1, "a")])).await.unwrap();
    let table = TableId::new(TABLE);
    let mut drop_table = PreparedCommit { fences: vec![(table, Fence::Dropped)], ..PreparedCommit::default() };
    for keyspace in [Keyspace::Rows, Keyspace::Log] {
        drop_table.kv.delete_range(keyspace, table_prefix(table), table_prefix(TableId::new(TABLE + 1)));
    }
    let other = partition(TABLE + 1, "ana");
    let of_other = change(&other, 1, RowOp::Insert { row: row("stays"), unique: Unique::Check });
    let answers = in_one_group(
        &backend,
        &committer,
        vec![
            commit_of(vec![insert(2, "goes with the table")]),
            drop_table,
            commit_of(vec![insert(3, "too late")]),
            commit_of(vec![of_other]),
        ],
        // The drop looks at what the store holds, so it is in a part of its own.
        3,
    )
    .await;
    assert!(answers[0].is_ok() && answers[1].is_ok() && answers[3].is_ok(), "{answers:?}");
    assert_eq!(answers[2], Err(CommitError::TableDropped { table }));
    let later = committer.commit(commit_of(vec![delete(1, 1)])).await;
    assert_eq!(later, Err(CommitError::TableDropped { table }));
    assert!(rows(&*backend, &ana()).is_empty());
    assert!(log(&*backend, &ana()).is_empty());
    assert_eq!(rows(&*backend, &other).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_poisons_the_store_but_not_its_reads() {
    let backend = Arc::new(FaultyBackend::new(memory()));
    let committer = Committer::start(backend.clone(), settings(Durability::Sync), None).unwrap();
    committer.commit(commit_of(vec![insert(1, "a")])).await.unwrap();
    assert_eq!(committer.is_poisoned(), None);
    let waiter = tokio::spawn({
        let committer = committer.clone();
        async move { committer.wait_for(CommitSeq::new(99)).await }
    });
    backend.fail_writes();
    let failed = committer.commit(commit_of(vec![insert(2, "b")])).await;
    assert!(matches!(&failed, Err(CommitError::Poisoned(reason)) if reason.contains("planted")), "{failed:?}");
    // It stays poisoned although the store would write again.
    backend.heal();
    assert!(matches!(committer.commit(commit_of(vec![insert(3, "c")])).await, Err(CommitError::Poisoned(_))));
    assert!(committer.is_poisoned().unwrap().contains("planted"));
    assert!(matches!(waiter.await.unwrap(), Err(CommitError::Poisoned(_))));
    assert_eq!(committer.last_commit_seq(), CommitSeq::new(1));
    assert_eq!(rows(&*backend, &ana()), BTreeMap::from([has(1, 1, "a")]));
    committer.stop();
    assert!(matches!(committer.commit(commit_of(vec![])).await, Err(CommitError::Poisoned(_))));

    let again = Committer::start(backend.clone(), settings(Durability::Sync), None).unwrap();
    assert_eq!(again.commit(commit_of(vec![insert(2, "b")])).await.unwrap().commit_seq, CommitSeq::new(2));
}

#[tokio::test]
async fn a_failed_background_sync_poisons_too() {
    let backend = Arc::new(FaultyBackend::new(memory()));
    let settings = CommitSettings { async_sync_interval_ms: 1, ..settings(Durability::Async) };
    let committer = Committer::start(backend.clone(), settings, None).unwrap();
    committer.commit(commit_of(vec![insert(1, "a")])).await.unwrap();
    backend.wait_for_syncs(1);
    backend.fail_syncs();
    committer.commit(commit_of(vec![insert(2, "b")])).await.unwrap();
    let waited = committer.wait_for(CommitSeq::new(9)).await;
    assert!(matches!(waited, Err(CommitError::Poisoned(_))), "{waited:?}");
}

#[tokio::test]
async fn a_failed_read_fails_only_its_commit() {
    let backend = Arc::new(FaultyBackend::new(memory()));
    let committer = Committer::start(backend.clone(), settings(Durability::Sync), None).unwrap();
    // The first commit of a partition reads how many rows it has.
    committer.commit(commit_of(vec![generated(0, "z")])).await.unwrap();
    backend.fail_reads();
    assert!(matches!(committer.commit(commit_of(vec![insert(1, "a")])).await, Err(CommitError::Storage(_))));
    let many = commit_of((0..10).map(|id| insert(id, "a")).collect());
    assert!(matches!(committer.commit(many).await, Err(CommitError::Storage(_))));
    committer.commit(commit_of(vec![generated(1, "a")])).await.unwrap();
    backend.heal();
    committer.commit(commit_of(vec![insert(2, "b")])).await.unwrap();
    backend.put(Keyspace::Rows, &row_key(&ana(), &PrimaryKey::from_i64(3)), b"rubbish", Durability::Sync).unwrap();
    let corrupt = committer.commit(commit_of(vec![insert(3, "c")])).await;
    assert!(matches!(corrupt, Err(CommitError::Storage(KvError::Corruption(_)))), "{corrupt:?}");
    assert_eq!(committer.is_poisoned(), None);
}

#[tokio::test]
async fn little_disk_space_refuses_writes_and_less_refuses_all() {
    let backend = memory();
    let free = Arc::new(AtomicU64::new(2_000));
    let measure: FreeSpace = {
        let free = free.clone();
        Arc::new(move || Ok(free.load(Ordering::Relaxed)))
    };
    let settings = CommitSettings { min_free_bytes: Some(1_000), ..settings(Durability::Sync) };
    let committer = Committer::start(backend.clone(), settings, Some(measure)).unwrap();
    committer.commit(commit_of(vec![insert(1, "a"), insert(2, "b")])).await.unwrap();
    let until_checked_again = Duration::from_millis(150);

    free.store(900, Ordering::Relaxed);
    tokio::time::sleep(until_checked_again).await;
    assert_eq!(committer.commit(commit_of(vec![insert(3, "c")])).await, Err(CommitError::DiskFull));
    assert_eq!(committer.commit(commit_of(vec![delete(1, 1), update(2, "B", 1)])).await, Err(CommitError::DiskFull));
    committer.commit(commit_of(vec![delete(1, 1)])).await.unwrap();
    committer.commit(PreparedCommit::default()).await.unwrap();

    free.store(400, Ordering::Relaxed);
    tokio::time::sleep(until_checked_again).await;
    assert_eq!(committer.commit(commit_of(vec![delete(2, 1)])).await, Err(CommitError::DiskFull));

    free.store(1_000, Ordering::Relaxed);
    tokio::time::sleep(until_checked_again).await;
    committer.commit(commit_of(vec![insert(3, "c")])).await.unwrap();
    assert_eq!(committer.is_poisoned(), None);
}

#[tokio::test]
async fn refuses_what_is_too_large() {
    let backend = memory();
    let settings = CommitSettings { max_commit_bytes: 10_000, max_queue_bytes: 1, ..settings(Durability::Sync) };
    let committer = Committer::start(backend.clone(), settings, None).unwrap();
    let large = commit_of(vec![insert(1, &"x".repeat(10_000))]);
    assert_eq!(committer.commit(large).await, Err(CommitError::TooLarge { limit: 10_000 }));
    // Larger than the whole queue, but allowed: it waits until it has the queue for itself.
    committer.commit(commit_of(vec![insert(1, &"x".repeat(9_000))])).await.unwrap();
}

#[tokio::test]
async fn goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5_u64 {
        let backend: Arc<dyn StorageBackend> =
            Arc::new(RocksBackend::open(folder.path().join("db"), &RocksSettings::default()).unwrap());
        let durability = if round % 2 == 0 { Durability::Sync } else { Durability::Async };
        let committer = Committer::start(backend.clone(), settings(durability), None).unwrap();
        assert_eq!(committer.last_commit_seq(), CommitSeq::new(round * 2));
        committer.commit(commit_of(vec![insert(round as i64, "a")])).await.unwrap();
        let changed = update(round as i64, "b", round * 2 + 1);
        assert_eq!(committer.commit(commit_of(vec![changed])).await.unwrap().commit_seq.get(), round * 2 + 2);
        assert_eq!(rows(&*backend, &ana()).len() as u64, round + 1);
        committer.stop();
        committer.stop();
        assert_eq!(committer.commit(commit_of(vec![])).await, Err(CommitError::Closed));
        assert_eq!(committer.wait_for(CommitSeq::new(1_000)).await, Err(CommitError::Closed));
        committer.wait_for(CommitSeq::new(round * 2 + 2)).await.unwrap();
    }
}

#[test]
fn refuses_a_position_of_unknown_form() {
    let backend = memory();
    backend.put(Keyspace::System, b"commit/last", b"\x02rest", Durability::Sync).unwrap();
    assert!(matches!(committed_seq(backend.snapshot().as_ref()), Err(KvError::Corruption(_))));
    assert!(Committer::start(backend, CommitSettings::default(), None).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stopping_answers_everybody() {
    let backend = memory();
    let settings = CommitSettings { queue_capacity: 4, ..settings(Durability::Sync) };
    let committer = Committer::start(backend.clone(), settings, None).unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|id| {
            let committer = committer.clone();
            tokio::spawn(async move { (id, committer.commit(commit_of(vec![insert(id, "x")])).await) })
        })
        .collect();
    tokio::task::spawn_blocking(move || committer.stop()).await.unwrap();
    let mut acknowledged = HashSet::new();
    for task in tasks {
        match task.await.unwrap() {
            (id, Ok(_)) => assert!(acknowledged.insert(id)),
            (_, Err(error)) => assert_eq!(error, CommitError::Closed),
        }
    }
    assert_eq!(rows(&*backend, &ana()).into_keys().collect::<HashSet<_>>(), acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_get_unique_gapless_sequences_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rocks: Arc<dyn StorageBackend> =
        Arc::new(RocksBackend::open(folder.path().join("db"), &RocksSettings::default()).unwrap());
    for (backend, durability) in [(memory(), Durability::Sync), (rocks, Durability::Async)] {
        let settings = CommitSettings { queue_capacity: 16, max_group_bytes: 2_000, ..settings(durability) };
        let committer = Committer::start(backend.clone(), settings, None).unwrap();
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        // A reader that checks, meanwhile, that what is visible is a whole number of commits.
        let reader = std::thread::spawn({
            let (backend, done) = (backend.clone(), done.clone());
            move || {
                while !done.load(Ordering::Acquire) {
                    let snapshot = backend.snapshot();
                    let seq = committed_seq(snapshot.as_ref()).unwrap();
                    let mut newest = 0;
                    let mut of_commit: HashMap<u64, usize> = HashMap::new();
                    let mut cursor =
                        snapshot.cursor(Keyspace::Rows, table_range(TableId::new(TABLE)), Direction::Forward).unwrap();
                    while let Some((_, value)) = cursor.item() {
                        let version = RowHeader::decode(value).unwrap().commit_seq.get();
                        newest = newest.max(version);
                        *of_commit.entry(version).or_default() += 1;
                        cursor.advance().unwrap();
                    }
                    assert!(newest <= seq.get());
                    assert!(of_commit.values().all(|rows| *rows == 3), "a torn commit is visible");
                }
            }
        });
        let writers: Vec<_> = (0..8_i64)
            .map(|writer| {
                let committer = committer.clone();
                let backend = backend.clone();
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    for round in 0..50 {
                        // Everybody wants the keys of the round; exactly one writer gets them.
                        let wanted = (0..3).map(|at| insert(round * 3 + at, &format!("{writer}")));
                        match committer.commit(commit_of(wanted.collect())).await {
                            Ok(committed) => {
                                // Visible to its writer at once.
                                let snapshot = backend.snapshot();
                                assert!(committed_seq(snapshot.as_ref()).unwrap() >= committed.commit_seq);
                                let key = row_key(&ana(), &PrimaryKey::from_i64(round * 3));
                                let row = snapshot.get(Keyspace::Rows, &key).unwrap().unwrap();
                                assert_eq!(RowHeader::decode(&row).unwrap().commit_seq, committed.commit_seq);
                                committer.wait_for(committed.commit_seq).await.unwrap();
                                mine.push((round, committed.commit_seq.get(), writer));
                            }
                            Err(error) => assert_eq!(error, CommitError::KeyExists { change: 0 }),
                        }
                    }
                    mine
                })
            })
            .collect();
        let mut won = BTreeMap::new();
        for writer in writers {
            for (round, seq, writer) in writer.await.unwrap() {
                assert!(won.insert(round, (seq, writer)).is_none(), "two writers inserted the same keys");
            }
        }
        done.store(true, Ordering::Release);
        reader.join().unwrap();
        assert_eq!(won.len(), 50);
        let seqs: HashSet<u64> = won.values().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=50).collect());
        let stored = rows(&*backend, &ana());
        for (round, (seq, writer)) in won {
            for at in 0..3 {
                assert_eq!(stored[&(round * 3 + at)], (seq, writer.to_string()));
            }
        }
        assert_eq!(log(&*backend, &ana()).len(), 50);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_increments_all_count() {
    // The loop of an UPDATE: read a snapshot, compute, commit with the version read, and retry when it changed.
    let backend = memory();
    let committer = start(&backend);
    committer.commit(commit_of(vec![insert(1, "0")])).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (committer, backend) = (committer.clone(), backend.clone());
            tokio::spawn(async move {
                for _ in 0..25 {
                    loop {
                        let (seq, text) = rows(&*backend, &ana())[&1].clone();
                        let next = text.parse::<u64>().unwrap() + 1;
                        match committer.commit(commit_of(vec![update(1, &next.to_string(), seq)])).await {
                            Ok(_) => break,
                            Err(error) => assert_eq!(error, CommitError::VersionChanged { change: 0 }),
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(rows(&*backend, &ana())[&1], (201, "200".to_owned()));
}

#[tokio::test]
async fn a_dropped_caller_leaves_all_or_nothing() {
    let backend = Arc::new(FaultyBackend::new(memory()));
    let committer = Committer::start(backend.clone(), settings(Durability::Sync), None).unwrap();
    backend.hold();
    {
        let mut abandoned = Box::pin(committer.commit(commit_of(vec![insert(1, "a"), insert(2, "b")])));
        assert!(futures_poll(abandoned.as_mut()).await.is_none());
    }
    backend.release();
    committer.commit(commit_of(vec![insert(3, "c")])).await.unwrap();
    assert_eq!(rows(&*backend, &ana()).into_keys().collect::<Vec<_>>(), vec![1, 2, 3]);
}

/// Rows of a backup: as they were, counted, and not told to anybody.
#[tokio::test]
async fn restored_rows_are_written_as_they_are() {
    let backend = memory();
    let committer = start(&backend);
    committer.commit(commit_of(vec![insert(1, "before")])).await.unwrap();
    let restored = partition(TABLE + 1, "ana");
    let row_of = |id: i64, seq: u64, text: &str| {
        let mut row = row(text);
        row.stamp(CommitSeq::new(seq), 77);
        RestoredRow { partition: restored.clone(), key: PrimaryKey::from_i64(id), row }
    };
    let some = vec![row_of(1, 500, "a"), row_of(2, 400, "b")];
    let committed = committer.commit(PreparedCommit { restored: some, ..commit_of(Vec::new()) }).await.unwrap();
    assert_eq!(committed.commit_seq, CommitSeq::new(2));
    assert_eq!(rows(&*backend, &restored), BTreeMap::from([has(1, 500, "a"), has(2, 400, "b")]));
    assert!(log(&*backend, &restored).is_empty());
    let stored = backend.get(Keyspace::Rows, &row_key(&restored, &PrimaryKey::from_i64(2))).unwrap().unwrap();
    assert_eq!(RowHeader::decode(&stored).unwrap().commit_time_us, 77);
    let count = backend.get(Keyspace::System, &hot_count_key(&restored)).unwrap().unwrap();
    let bytes: u64 = [1, 2]
        .map(|id| {
            let key = row_key(&restored, &PrimaryKey::from_i64(id));
            key.len() as u64 + backend.get(Keyspace::Rows, &key).unwrap().unwrap().len() as u64
        })
        .iter()
        .sum();
    assert_eq!(HotCount::decode(&count).unwrap(), HotCount { rows: 2, bytes });
    // They can be changed like any others, by the version that they have.
    let changed = |expected: u64| {
        let op = RowOp::Delete { expected: Expected::Hot(CommitSeq::new(expected)), old: b"old".to_vec() };
        commit_of(vec![change(&restored, 1, op)])
    };
    assert_eq!(committer.commit(changed(2)).await.unwrap_err(), CommitError::VersionChanged { change: 0 });
    committer.commit(changed(500)).await.unwrap();
    // A table that is dropped gets none.
    let dropped = PreparedCommit { fences: vec![(restored.table, Fence::Dropped)], ..commit_of(Vec::new()) };
    committer.commit(dropped).await.unwrap();
    let late = PreparedCommit { restored: vec![row_of(3, 1, "late")], ..commit_of(Vec::new()) };
    assert_eq!(committer.commit(late).await.unwrap_err(), CommitError::TableDropped { table: restored.table });
}

/// Who restores a backup of another database goes on from its commits.
#[tokio::test]
async fn a_commit_can_be_asked_to_come_after_another() {
    let backend = memory();
    let committer = start(&backend);
    committer.commit(commit_of(vec![insert(1, "a")])).await.unwrap();
    let after = |seq: u64| PreparedCommit { after: Some(CommitSeq::new(seq)), ..commit_of(Vec::new()) };
    assert_eq!(committer.commit(after(1_000)).await.unwrap().commit_seq, CommitSeq::new(1_001));
    assert_eq!(committer.last_commit_seq(), CommitSeq::new(1_001));
    committer.wait_for(CommitSeq::new(900)).await.unwrap();
    assert_eq!(committer.commit(after(5)).await.unwrap().commit_seq, CommitSeq::new(1_002), "never back");
    assert_eq!(committer.commit(commit_of(vec![update(1, "b", 1)])).await.unwrap().commit_seq, CommitSeq::new(1_003));
    assert_eq!(log(&*backend, &ana()).iter().map(|entry| entry.commit_seq.get()).collect::<Vec<_>>(), [1, 1_003]);
    committer.stop();
    assert_eq!(start(&backend).last_commit_seq(), CommitSeq::new(1_003));
}
