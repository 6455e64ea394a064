//! The change log: who is told of commits and when, what can be read, and what is given up.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod faulty;

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use faulty::FaultyBackend;
use kalamdb_store::codec::*;
use kalamdb_store::commit::*;
use kalamdb_store::ids::*;
use kalamdb_store::kv::*;
use parking_lot::Mutex;

fn partition(owner: &str) -> Partition {
    Partition { table: TableId::new(7), owner: Owner::User(UserId::new(owner).unwrap()) }
}

fn insert(partition: &Partition, key: i64) -> RowChange {
    let layout = RowLayout::new(vec![LayoutColumn { id: ColumnId::new(1), data_type: DataType::Int64 }]).unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![key]));
    let row = encode_rows(&layout, SchemaVersion::new(1), &[column], 1).unwrap().remove(0);
    let op = RowOp::Insert { row, unique: Unique::Generated };
    RowChange { partition: partition.clone(), key: PrimaryKey::from_i64(key), op }
}

fn commit_of(changes: Vec<RowChange>) -> PreparedCommit {
    PreparedCommit { commit_time_us: 1_000, changes, ..PreparedCommit::default() }
}

/// A commit of something other than rows.
fn other() -> PreparedCommit {
    let mut commit = PreparedCommit::default();
    commit.kv.put(Keyspace::Catalog, b"key", b"value");
    commit
}

fn start(backend: &Arc<dyn StorageBackend>) -> Committer {
    Committer::start(backend.clone(), CommitSettings::default(), None).unwrap()
}

fn seq(seq: u64) -> CommitSeq {
    CommitSeq::new(seq)
}

fn backends() -> Vec<(Arc<dyn StorageBackend>, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let rocks = RocksBackend::open(dir.path(), &RocksSettings::default()).unwrap();
    vec![(Arc::new(MemoryBackend::new()), None), (Arc::new(rocks), Some(dir))]
}

fn reclaim(backend: &dyn StorageBackend) {
    let mut from = Some(Vec::new());
    while let Some(key) = from {
        from = backend.reclaim_log(&key).unwrap();
    }
}

/// The commits whose entries are physically there.
fn stored(backend: &dyn StorageBackend, partition: &Partition) -> Vec<u64> {
    let snapshot = backend.snapshot();
    let range = log_range(partition, Bound::Unbounded, Bound::Unbounded);
    let mut cursor = snapshot.cursor(Keyspace::Log, range, Direction::Forward).unwrap();
    let mut found = Vec::new();
    while cursor.valid() {
        found.push(split_log_key(cursor.key()).unwrap().1.get());
        cursor.advance().unwrap();
    }
    found
}

fn seqs(page: &LogPage) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.commit_seq.get()).collect()
}

/// Notes what it is told, and checks at once that it can be read.
struct Listener {
    backend: Arc<dyn StorageBackend>,
    wants: AtomicBool,
    told: Mutex<Vec<(Vec<Partition>, CommitSeq)>>,
    last: AtomicU64,
    unreadable: AtomicU64,
    /// Changes that came with their entry.
    entries: AtomicU64,
}

impl Listener {
    fn new(backend: &Arc<dyn StorageBackend>, wants: bool) -> Arc<Self> {
        Arc::new(Self {
            backend: backend.clone(),
            wants: AtomicBool::new(wants),
            told: Mutex::default(),
            last: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            entries: AtomicU64::new(0),
        })
    }

    fn told(&self) -> Vec<(Vec<Partition>, CommitSeq)> {
        std::mem::take(&mut self.told.lock())
    }
}

impl CommitListener for Listener {
    fn wants_changes(&self) -> bool {
        self.wants.load(Ordering::SeqCst)
    }

    fn committed(&self, changes: &[Changed], after: CommitSeq, last_seq: CommitSeq) {
        let snapshot = self.backend.snapshot();
        let before = self.last.load(Ordering::SeqCst);
        let mut readable = committed_seq(snapshot.as_ref()).unwrap() == last_seq && last_seq.get() > before;
        readable &= before == 0 || before == after.get();
        for Changed { partition, commit_seq, entry } in changes {
            readable &= (after..=last_seq).contains(commit_seq) && *commit_seq > after;
            let new = log_range(partition, Bound::Included(*commit_seq), Bound::Included(*commit_seq));
            let cursor = snapshot.cursor(Keyspace::Log, new, Direction::Forward).unwrap();
            readable &= cursor.item().is_some_and(|(_, value)| entry.as_ref().is_none_or(|entry| **entry == *value));
            self.entries.fetch_add(u64::from(entry.is_some()), Ordering::SeqCst);
        }
        let partitions: Vec<Partition> = changes.iter().map(|change| change.partition.clone()).collect();
        // A panic here would only end the committer.
        self.unreadable.fetch_add(u64::from(!readable), Ordering::SeqCst);
        self.told.lock().push((partitions, last_seq));
        self.last.store(last_seq.get(), Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tells_of_every_commit_in_order_before_it_answers() {
    const WRITERS: i64 = 8;
    const COMMITS: i64 = 200;
    for (backend, _dir) in backends() {
        let committer = start(&backend);
        let listener = Listener::new(&backend, true);
        committer.listen(listener.clone());
        let writers = (0..WRITERS).map(|writer| {
            let (committer, listener) = (committer.clone(), listener.clone());
            tokio::spawn(async move {
                let (own, common) = (partition(&format!("user {writer}")), partition("everybody's"));
                let mut made = Vec::new();
                for n in 0..COMMITS {
                    let key = writer * COMMITS + n;
                    let mut changes = vec![insert(&own, key)];
                    if n % 3 == 0 {
                        changes.push(insert(&common, key));
                    }
                    let partitions: Vec<Partition> = changes.iter().map(|change| change.partition.clone()).collect();
                    let committed = committer.commit(commit_of(changes)).await.unwrap().commit_seq;
                    assert!(listener.last.load(Ordering::SeqCst) >= committed.get(), "told before answered");
                    made.push((committed, partitions));
                }
                made
            })
        });
        let mut made = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            made.extend(writer.await.unwrap());
        }
        let told = listener.told();
        assert_eq!(listener.unreadable.load(Ordering::SeqCst), 0);
        assert!(told.is_sorted_by(|(_, a), (_, b)| a < b));
        assert_eq!(told.last().unwrap().1, seq((WRITERS * COMMITS) as u64));
        // Each commit's partitions are named by its own group.
        for (committed, partitions) in made {
            let group = told.partition_point(|(_, last)| *last < committed);
            assert!(partitions.iter().all(|partition| told[group].0.contains(partition)), "commit {committed}");
        }
        let named: usize = told.iter().map(|(partitions, _)| partitions.len()).sum();
        assert_eq!(listener.entries.load(Ordering::SeqCst), named as u64, "small entries come with the news");
    }
}

#[tokio::test]
async fn names_partitions_only_to_who_wants_them() {
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    let committer = start(&backend);
    let listener = Listener::new(&backend, false);
    committer.listen(listener.clone());
    let ana = partition("ana");
    committer.commit(commit_of(vec![insert(&ana, 1)])).await.unwrap();
    assert_eq!(listener.told(), [(Vec::new(), seq(1))]);
    listener.wants.store(true, Ordering::SeqCst);
    committer.commit(commit_of(vec![insert(&ana, 2), insert(&ana, 3)])).await.unwrap();
    assert_eq!(listener.told(), [(vec![ana], seq(2))]);
    committer.commit(other()).await.unwrap();
    assert_eq!(listener.told(), [(Vec::new(), seq(3))]);
}

/// Somebody who begins to listen while a commit is on its way to the disk does not find it in the snapshot, so it must be
/// told.
#[tokio::test]
async fn who_begins_to_listen_during_a_write_is_told_of_it() {
    let faulty = Arc::new(FaultyBackend::new(Arc::new(MemoryBackend::new())));
    let backend: Arc<dyn StorageBackend> = faulty.clone();
    let committer = start(&backend);
    let listener = Listener::new(&backend, false);
    committer.listen(listener.clone());
    faulty.hold();
    let ana = partition("ana");
    let committing = tokio::spawn({
        let (committer, ana) = (committer.clone(), ana.clone());
        async move { committer.commit(commit_of(vec![insert(&ana, 1)])).await }
    });
    faulty.wait_until_held().await;
    listener.wants.store(true, Ordering::SeqCst);
    assert_eq!(committer.last_commit_seq(), seq(0));
    assert!(listener.told().is_empty(), "nothing is told before it is written");
    faulty.release();
    committing.await.unwrap().unwrap();
    assert_eq!(listener.told(), [(vec![ana], seq(1))]);
}

#[tokio::test]
async fn a_commit_that_failed_is_not_told() {
    let faulty = Arc::new(FaultyBackend::new(Arc::new(MemoryBackend::new())));
    let backend: Arc<dyn StorageBackend> = faulty.clone();
    let committer = start(&backend);
    let listener = Listener::new(&backend, true);
    committer.listen(listener.clone());
    let ana = partition("ana");
    committer.commit(commit_of(vec![insert(&ana, 1)])).await.unwrap();
    let bytes = committer.log_bytes();
    // Refused by the validation, alone in its group.
    let mut again = insert(&ana, 1);
    if let RowOp::Insert { unique, .. } = &mut again.op {
        *unique = Unique::Check;
    }
    committer.commit(commit_of(vec![again])).await.unwrap_err();
    faulty.fail_writes();
    committer.commit(commit_of(vec![insert(&ana, 2)])).await.unwrap_err();
    assert_eq!(listener.told(), [(vec![ana], seq(1))]);
    assert_eq!(committer.log_bytes(), bytes);
}

#[tokio::test]
async fn counts_the_bytes_of_the_log() {
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    let committer = start(&backend);
    let (ana, bob) = (partition("ana"), partition("bob"));
    for key in 0..20 {
        committer.commit(commit_of(vec![insert(&ana, key), insert(&bob, key), insert(&ana, -1 - key)])).await.unwrap();
        committer.commit(other()).await.unwrap();
    }
    assert_eq!(committer.log_bytes(), backend.size(Keyspace::Log).unwrap().memory_bytes);
    committer.stop();
    assert_eq!(start(&backend).log_bytes(), 0, "since the start");
}

/// Commits 1, 3, 5 … are of one partition, the others of another.
async fn filled(backend: &Arc<dyn StorageBackend>, commits: u64) -> (Committer, Partition) {
    let committer = start(backend);
    let (ana, bob) = (partition("ana"), partition("bob"));
    for n in 1..=commits {
        let partition = if n % 2 == 1 { &ana } else { &bob };
        let committed = committer.commit(commit_of(vec![insert(partition, n as i64)])).await.unwrap();
        assert_eq!(committed.commit_seq, seq(n));
    }
    (committer, ana)
}

#[tokio::test]
async fn reads_in_pages() {
    for (backend, _dir) in backends() {
        let (_committer, ana) = filled(&backend, 20).await;
        let log = ChangeLog::new(backend.clone()).unwrap();
        assert_eq!(log.floor(), seq(0));
        let read = |after, upto, max_bytes| log.read(&ana, seq(after), seq(upto), max_bytes).unwrap();
        let all = read(0, 20, usize::MAX);
        assert_eq!(seqs(&all), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
        assert_eq!((all.read_to, all.complete), (seq(20), true));
        assert_eq!(all.entries[4].changes[0].key, PrimaryKey::from_i64(9));
        // Bounds: after is excluded, upto included; both need not be commits of the partition.
        assert_eq!(seqs(&read(3, 7, usize::MAX)), [5, 7]);
        assert_eq!(seqs(&read(4, 8, usize::MAX)), [5, 7]);
        assert_eq!(read(4, 8, usize::MAX).read_to, seq(8));
        for (after, upto) in [(19, 20), (20, 20), (5, 5), (9, 3)] {
            let nothing = read(after, upto, usize::MAX);
            assert_eq!((seqs(&nothing), nothing.read_to, nothing.complete), (Vec::new(), seq(upto), true));
        }
        // By bytes: at least one entry, and page after page everything.
        let entry_bytes = all.entries[0].encode().len();
        for (max_bytes, at_once) in [(0, 1), (1, 1), (entry_bytes, 1), (2 * entry_bytes, 2), (3 * entry_bytes + 1, 3)] {
            let (mut after, mut found) = (0, Vec::new());
            loop {
                let page = read(after, 20, max_bytes);
                found.extend(seqs(&page));
                if page.complete {
                    assert_eq!(page.read_to, seq(20));
                    break;
                }
                assert_eq!(page.entries.len(), at_once);
                assert_eq!(page.read_to, page.entries.last().unwrap().commit_seq);
                after = page.read_to.get();
            }
            assert_eq!(found, seqs(&all), "{max_bytes}");
        }
        let nobody = log.read(&partition("an"), seq(0), seq(20), usize::MAX).unwrap();
        assert!(nobody.entries.is_empty() && nobody.complete);
        // A page up to a commit that is still to come would hide it.
        assert!(matches!(log.read(&ana, seq(0), seq(21), usize::MAX), Err(LogError::Storage(_))));
    }
}

#[tokio::test]
async fn damaged_entries_are_an_error() {
    let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    let (_committer, ana) = filled(&backend, 6).await;
    backend.put(Keyspace::Log, &log_key(&ana, seq(3)), b"\x01nonsense", Durability::Async).unwrap();
    let log = ChangeLog::new(backend).unwrap();
    let read = log.read(&ana, seq(0), seq(6), usize::MAX);
    assert!(matches!(read, Err(LogError::Storage(KvError::Corruption(_)))), "{read:?}");
}

#[tokio::test]
async fn what_is_below_the_floor_is_not_read() {
    for (backend, _dir) in backends() {
        let (_committer, ana) = filled(&backend, 20).await;
        let log = ChangeLog::new(backend.clone()).unwrap();
        log.raise_floor(seq(6)).unwrap();
        log.raise_floor(seq(2)).unwrap();
        assert_eq!(log.clone().floor(), seq(6));
        let read = |after| log.read(&ana, seq(after), seq(20), usize::MAX);
        // It is an error even where the entries are still there, or where the partition never had any.
        for after in [0, 4, 5] {
            assert_eq!(read(after).unwrap_err(), LogError::Trimmed { floor: seq(6) });
            assert!(log.read(&partition("nobody"), seq(after), seq(20), 1).is_err());
        }
        assert_eq!(seqs(&read(6).unwrap()), [7, 9, 11, 13, 15, 17, 19]);
        assert_eq!(seqs(&read(8).unwrap()), [9, 11, 13, 15, 17, 19]);
        reclaim(backend.as_ref());
        assert_eq!(stored(backend.as_ref(), &ana), [7, 9, 11, 13, 15, 17, 19]);
        assert_eq!(stored(backend.as_ref(), &partition("bob")), [8, 10, 12, 14, 16, 18, 20]);
        assert_eq!(backend.log_removed().entries, 6);
        assert_eq!(seqs(&read(6).unwrap()), [7, 9, 11, 13, 15, 17, 19]);
    }
}

#[tokio::test]
async fn the_floor_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || -> Arc<dyn StorageBackend> { Arc::new(RocksBackend::open(dir.path(), &RocksSettings::default()).unwrap()) };
    let ana = {
        let backend = open();
        let (committer, ana) = filled(&backend, 10).await;
        ChangeLog::new(backend.clone()).unwrap().raise_floor(seq(4)).unwrap();
        committer.stop();
        ana
    };
    let backend = open();
    let log = ChangeLog::new(backend.clone()).unwrap();
    assert_eq!(log.floor(), seq(4));
    assert!(log.read(&ana, seq(3), seq(10), usize::MAX).is_err());
    // The store goes on where it was in removing entries.
    reclaim(backend.as_ref());
    assert_eq!(stored(backend.as_ref(), &ana), [5, 7, 9]);
    log.raise_floor(seq(5)).unwrap();
    drop((log, backend));
    let log = ChangeLog::new(open()).unwrap();
    assert_eq!(log.floor(), seq(5));
    assert_eq!(seqs(&log.read(&ana, seq(5), seq(10), usize::MAX).unwrap()), [7, 9]);
}

#[tokio::test]
async fn nothing_goes_before_the_floor_is_on_disk() {
    let faulty = Arc::new(FaultyBackend::new(Arc::new(MemoryBackend::new())));
    let backend: Arc<dyn StorageBackend> = faulty.clone();
    let (_committer, ana) = filled(&backend, 10).await;
    let log = ChangeLog::new(backend.clone()).unwrap();
    faulty.fail_writes();
    log.raise_floor(seq(6)).unwrap_err();
    assert_eq!(log.floor(), seq(0));
    reclaim(backend.as_ref());
    assert_eq!(stored(backend.as_ref(), &ana), [1, 3, 5, 7, 9]);
    assert_eq!(ChangeLog::new(backend.clone()).unwrap().floor(), seq(0));
    faulty.heal();
    log.raise_floor(seq(6)).unwrap();
    assert_eq!(ChangeLog::new(backend).unwrap().floor(), seq(6));
}

/// Readers that page through the log while it is trimmed from behind get every entry, or hear that it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trimming_never_makes_a_silent_gap() {
    const COMMITS: u64 = 3_000;
    for (backend, _dir) in backends() {
        let (committer, log) = (start(&backend), ChangeLog::new(backend.clone()).unwrap());
        let ana = partition("ana");
        let done = Arc::new(AtomicBool::new(false));
        let trimmer = std::thread::spawn({
            let (committer, log, backend, done) = (committer.clone(), log.clone(), backend.clone(), done.clone());
            move || {
                while !done.load(Ordering::SeqCst) {
                    log.raise_floor(seq(committer.last_commit_seq().get().saturating_sub(50))).unwrap();
                    reclaim(backend.as_ref());
                }
            }
        });
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (committer, log, ana, done) = (committer.clone(), log.clone(), ana.clone(), done.clone());
                std::thread::spawn(move || {
                    let (mut after, mut pages) = (0, HashMap::from([("read", 0), ("trimmed", 0)]));
                    while !done.load(Ordering::SeqCst) || after < committer.last_commit_seq().get() {
                        match log.read(&ana, seq(after), committer.last_commit_seq(), 2_000) {
                            Ok(page) => {
                                // Every commit is of this partition: what is missing shows.
                                let expected: Vec<u64> = (after + 1..=page.read_to.get()).collect();
                                assert_eq!(seqs(&page), expected);
                                after = page.read_to.get();
                                *pages.get_mut("read").unwrap() += 1;
                                if pages["read"] % 7 == 0 {
                                    // Falls behind.
                                    after = after.saturating_sub(60);
                                }
                            }
                            Err(LogError::Trimmed { floor }) => {
                                assert!(floor > seq(after));
                                after = floor.get();
                                *pages.get_mut("trimmed").unwrap() += 1;
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                    pages
                })
            })
            .collect();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (committer, ana) = (committer.clone(), ana.clone());
                tokio::spawn(async move {
                    for n in 0..COMMITS / 4 {
                        let key = (writer * COMMITS + n) as i64;
                        committer.commit(commit_of(vec![insert(&ana, key)])).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
        trimmer.join().unwrap();
        for reader in readers {
            assert!(reader.join().unwrap()["read"] > 0);
        }
        log.raise_floor(seq(COMMITS - 1)).unwrap();
        reclaim(backend.as_ref());
        assert_eq!(stored(backend.as_ref(), &ana), [COMMITS]);
    }
}
