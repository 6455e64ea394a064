//! What every storage backend must do, run against each of them.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use kalamdb_store::codec::{PrimaryKey, log_key, row_key, row_prefix, row_range, table_prefix, table_range};
use kalamdb_store::ids::{CommitSeq, Owner, Partition, TableId, UserId};
use kalamdb_store::kv::*;
use proptest::prelude::*;

/// A backend, with the folder it lives in.
struct Fresh {
    backend: Arc<dyn StorageBackend>,
    _folder: Option<tempfile::TempDir>,
}

fn memory() -> Fresh {
    Fresh { backend: Arc::new(MemoryBackend::new()), _folder: None }
}

fn rocks() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let backend = RocksBackend::open(folder.path().join("db"), &small()).unwrap();
    Fresh { backend: Arc::new(backend), _folder: Some(folder) }
}

fn small() -> RocksSettings {
    RocksSettings { write_buffer_bytes: 1 << 20, block_cache_bytes: 1 << 20, ..RocksSettings::default() }
}

macro_rules! for_each_backend {
    ($($test:ident),* $(,)?) => {
        mod on_memory { $(#[test] fn $test() { super::$test(&super::memory().backend); })* }
        mod on_rocks { $(#[test] fn $test() { super::$test(&super::rocks().backend); })* }
    };
}

for_each_backend!(
    reads_what_was_written,
    keeps_keyspaces_apart,
    applies_a_batch_in_order,
    deletes_ranges,
    holds_snapshots_still,
    looks_up_many_keys,
    walks_ranges_both_ways,
    seeks_within_the_range_only,
    walks_within_and_across_partitions,
    takes_odd_keys_and_large_values,
    keeps_a_snapshot_beyond_its_backend_handle,
    reports_sizes,
    shows_batches_whole_to_concurrent_readers,
    removes_log_entries_that_were_given_up,
    reclaims_in_steps,
    gives_up_nothing_unless_told,
);

const A: Durability = Durability::Async;

#[test]
fn rocks_bounds_the_memory_of_all_keyspaces_together() {
    const LIMIT: usize = 4 << 20;
    let folder = tempfile::tempdir().unwrap();
    let settings = RocksSettings { write_buffer_bytes: LIMIT, ..small() };
    let backend = RocksBackend::open(folder.path().join("db"), &settings).unwrap();
    // Less than the limit in each keyspace, but more in both.
    for keyspace in [Keyspace::Rows, Keyspace::Log] {
        for n in 0..(LIMIT * 3 / 4 / 4096) as u64 {
            let mut batch = WriteBatch::new();
            batch.put(keyspace, n.to_be_bytes(), vec![7; 4096]);
            backend.write(batch, A).unwrap();
        }
    }
    // The tables that are empty take a little, too.
    const ROOM: usize = 64 << 10;
    let memory = || Keyspace::ALL.iter().map(|keyspace| backend.size(*keyspace).unwrap().memory_bytes).sum::<u64>();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while memory() > (LIMIT + ROOM) as u64 {
        assert!(std::time::Instant::now() < deadline, "{} bytes stay in memory", memory());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn entries(snapshot: &dyn Snapshot, range: KeyRange, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = snapshot.cursor(Keyspace::Rows, range, direction).unwrap();
    let mut found = Vec::new();
    while let Some((key, value)) = cursor.item() {
        assert!(cursor.valid());
        assert_eq!((key, value), (cursor.key(), cursor.value()));
        found.push((key.to_vec(), value.to_vec()));
        cursor.advance().unwrap();
    }
    assert!(!cursor.valid());
    assert!(cursor.key().is_empty() && cursor.value().is_empty());
    cursor.advance().unwrap();
    assert!(!cursor.valid());
    found
}

fn keys(snapshot: &dyn Snapshot, range: KeyRange, direction: Direction) -> Vec<Vec<u8>> {
    entries(snapshot, range, direction).into_iter().map(|(key, _)| key).collect()
}

fn reads_what_was_written(backend: &Arc<dyn StorageBackend>) {
    for durability in [Durability::Sync, Durability::Async] {
        assert_eq!(backend.get(Keyspace::Catalog, b"k").unwrap(), None);
        backend.put(Keyspace::Catalog, b"k", b"1", durability).unwrap();
        assert_eq!(backend.get(Keyspace::Catalog, b"k").unwrap().as_deref(), Some(&b"1"[..]));
        backend.put(Keyspace::Catalog, b"k", b"", durability).unwrap();
        assert_eq!(backend.get(Keyspace::Catalog, b"k").unwrap().as_deref(), Some(&b""[..]));
        backend.delete(Keyspace::Catalog, b"k", durability).unwrap();
        backend.delete(Keyspace::Catalog, b"k", durability).unwrap();
    }
    backend.sync().unwrap();
    backend.flush().unwrap();
    assert_eq!(backend.get(Keyspace::Catalog, b"k").unwrap(), None);
}

fn keeps_keyspaces_apart(backend: &Arc<dyn StorageBackend>) {
    let mut batch = WriteBatch::new();
    for keyspace in Keyspace::ALL {
        batch.put(keyspace, b"same key", keyspace.name());
    }
    backend.write(batch, A).unwrap();
    backend.delete(Keyspace::Log, b"same key", A).unwrap();
    let snapshot = backend.snapshot();
    for keyspace in Keyspace::ALL {
        let expected = (keyspace != Keyspace::Log).then(|| keyspace.name().as_bytes().to_vec());
        assert_eq!(backend.get(keyspace, b"same key").unwrap(), expected);
        assert_eq!(snapshot.get(keyspace, b"same key").unwrap(), expected);
    }
}

fn applies_a_batch_in_order(backend: &Arc<dyn StorageBackend>) {
    let mut batch = WriteBatch::new();
    assert!(batch.is_empty());
    batch.put(Keyspace::Rows, b"a", b"1");
    batch.put(Keyspace::Rows, b"a", b"2");
    batch.put(Keyspace::Rows, b"b", b"1");
    batch.delete(Keyspace::Rows, b"b");
    batch.delete(Keyspace::Rows, b"c");
    batch.put(Keyspace::Rows, b"c", b"3");
    batch.put(Keyspace::Rows, b"d", b"gone");
    batch.delete_range(Keyspace::Rows, b"d", b"e");
    batch.delete_range(Keyspace::Rows, b"e", b"f");
    batch.put(Keyspace::Rows, b"e", b"4");
    let mut more = WriteBatch::new();
    more.put(Keyspace::Rows, b"f", b"5");
    batch.append(&more);
    assert_eq!(batch.len(), 11);
    assert!(batch.byte_size() >= 20);
    backend.write(batch, A).unwrap();
    let found = entries(backend.snapshot().as_ref(), KeyRange::all(), Direction::Forward);
    let expected: Vec<(Vec<u8>, Vec<u8>)> = [("a", "2"), ("c", "3"), ("e", "4"), ("f", "5")]
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .to_vec();
    assert_eq!(found, expected);
}

fn deletes_ranges(backend: &Arc<dyn StorageBackend>) {
    for table in 1..=3 {
        for id in 0..10 {
            backend
                .put(Keyspace::Rows, &row_key(&partition(table, "ana"), &PrimaryKey::from_i64(id)), b"v", A)
                .unwrap();
        }
    }
    backend.flush().unwrap();
    let mut batch = WriteBatch::new();
    batch.delete_range(Keyspace::Rows, table_prefix(TableId::new(2)), table_prefix(TableId::new(3)));
    batch.delete_range(Keyspace::Rows, b"z", b"a");
    backend.write(batch, A).unwrap();
    let snapshot = backend.snapshot();
    let count = |table| keys(snapshot.as_ref(), table_range(TableId::new(table)), Direction::Forward).len();
    assert_eq!([count(1), count(2), count(3)], [10, 0, 10]);
    assert_eq!(snapshot.get(Keyspace::Rows, &row_key(&partition(2, "ana"), &PrimaryKey::from_i64(5))).unwrap(), None);
}

fn holds_snapshots_still(backend: &Arc<dyn StorageBackend>) {
    backend.put(Keyspace::Rows, b"changed", b"old", A).unwrap();
    backend.put(Keyspace::Rows, b"deleted", b"old", A).unwrap();
    backend.put(Keyspace::System, b"other", b"old", A).unwrap();
    let before = backend.snapshot();
    let mut batch = WriteBatch::new();
    batch.put(Keyspace::Rows, b"changed", b"new");
    batch.delete(Keyspace::Rows, b"deleted");
    batch.put(Keyspace::Rows, b"inserted", b"new");
    batch.put(Keyspace::System, b"other", b"new");
    backend.write(batch, A).unwrap();
    let after = backend.snapshot();
    backend.delete(Keyspace::Rows, b"changed", A).unwrap();
    backend.flush().unwrap();

    let old: Vec<Vec<u8>> = vec![b"changed".to_vec(), b"deleted".to_vec()];
    assert_eq!(keys(before.as_ref(), KeyRange::all(), Direction::Forward), old);
    assert_eq!(before.get(Keyspace::Rows, b"changed").unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!(before.get(Keyspace::System, b"other").unwrap().as_deref(), Some(&b"old"[..]));
    drop(before);
    let new: Vec<Vec<u8>> = vec![b"changed".to_vec(), b"inserted".to_vec()];
    assert_eq!(keys(after.as_ref(), KeyRange::all(), Direction::Forward), new);
    assert_eq!(after.get(Keyspace::Rows, b"changed").unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(after.get(Keyspace::System, b"other").unwrap().as_deref(), Some(&b"new"[..]));
    drop(after);
    assert_eq!(keys(backend.snapshot().as_ref(), KeyRange::all(), Direction::Forward), vec![b"inserted".to_vec()]);
}

fn looks_up_many_keys(backend: &Arc<dyn StorageBackend>) {
    for id in (0..100).step_by(2) {
        backend.put(Keyspace::Rows, &key(1, "ana", id), &id.to_le_bytes(), A).unwrap();
        if id == 50 {
            backend.flush().unwrap();
        }
    }
    let snapshot = backend.snapshot();
    backend.put(Keyspace::Rows, &key(1, "ana", 1), b"later", A).unwrap();
    let wanted: Vec<Vec<u8>> = [98, 1, 0, 51, 50, 50].map(|id| key(1, "ana", id)).to_vec();
    let wanted: Vec<&[u8]> = wanted.iter().map(Vec::as_slice).collect();
    let found = snapshot.multi_get(Keyspace::Rows, &wanted).unwrap();
    let value = |id: i64| Some(id.to_le_bytes().to_vec());
    assert_eq!(found, vec![value(98), None, value(0), None, value(50), value(50)]);
    assert!(snapshot.multi_get(Keyspace::Rows, &[]).unwrap().is_empty());
}

fn walks_ranges_both_ways(backend: &Arc<dyn StorageBackend>) {
    let all: Vec<Vec<u8>> = ["a", "b", "ba", "c", "d"].map(|key| key.as_bytes().to_vec()).to_vec();
    for key in &all {
        backend.put(Keyspace::Rows, key, b"v", A).unwrap();
    }
    let snapshot = backend.snapshot();
    let edges = ["", "a", "aa", "b", "ba", "c", "d", "e"].map(|edge| edge.as_bytes().to_vec());
    let bounds = || {
        edges
            .iter()
            .flat_map(|edge| [Bound::Included(edge.clone()), Bound::Excluded(edge.clone())])
            .chain([Bound::Unbounded])
    };
    for start in bounds() {
        for end in bounds() {
            let range = KeyRange::new(start.clone(), end);
            let mut expected: Vec<Vec<u8>> = all.iter().filter(|key| range.contains(key)).cloned().collect();
            assert_eq!(keys(snapshot.as_ref(), range.clone(), Direction::Forward), expected, "{range:?}");
            expected.reverse();
            assert_eq!(keys(snapshot.as_ref(), range.clone(), Direction::Reverse), expected, "{range:?}");
        }
    }
    assert_eq!(keys(snapshot.as_ref(), KeyRange::prefix(b"b"), Direction::Forward), all[1..3]);
    assert_eq!(keys(snapshot.as_ref(), KeyRange::prefix(b""), Direction::Forward), all);
}

fn seeks_within_the_range_only(backend: &Arc<dyn StorageBackend>) {
    let ana = partition(1, "ana");
    for owner in ["amy", "ana", "anna"] {
        for id in (0..1000).step_by(10) {
            backend.put(Keyspace::Rows, &key(1, owner, id), b"v", A).unwrap();
        }
    }
    let snapshot = backend.snapshot();
    let range = row_range(&ana, Bound::Included(PrimaryKey::from_i64(100)), Bound::Excluded(PrimaryKey::from_i64(900)));
    let mut forward = snapshot.cursor(Keyspace::Rows, range.clone(), Direction::Forward).unwrap();
    let mut reverse = snapshot.cursor(Keyspace::Rows, range, Direction::Reverse).unwrap();
    assert_eq!(forward.key(), key(1, "ana", 100));
    assert_eq!(reverse.key(), key(1, "ana", 890));
    let found = |cursor: &dyn Cursor| cursor.valid().then(|| cursor.key().to_vec());
    let ana_key = |id| Some(key(1, "ana", id));
    // (target, going forward, in reverse); targets go back as well as ahead.
    let cases = [
        (key(1, "ana", 500), ana_key(500), ana_key(500)),
        (key(1, "ana", 305), ana_key(310), ana_key(300)),
        (key(1, "ana", 891), None, ana_key(890)),
        (key(1, "ana", 100), ana_key(100), ana_key(100)),
        (key(1, "ana", 900), None, ana_key(890)),
        (key(1, "ana", -5), ana_key(100), None),
        (key(1, "anna", 500), None, ana_key(890)),
        (key(1, "amy", 500), ana_key(100), None),
        (key(2, "ana", 0), None, ana_key(890)),
        (Vec::new(), ana_key(100), None),
        (key(1, "ana", 700), ana_key(700), ana_key(700)),
    ];
    for (target, ahead, back) in cases {
        forward.seek(&target).unwrap();
        reverse.seek(&target).unwrap();
        assert_eq!((found(forward.as_ref()), found(reverse.as_ref())), (ahead, back), "{target:?}");
    }
    forward.advance().unwrap();
    reverse.advance().unwrap();
    assert_eq!((found(forward.as_ref()), found(reverse.as_ref())), (ana_key(710), ana_key(690)));
}

fn walks_within_and_across_partitions(backend: &Arc<dyn StorageBackend>) {
    let owners = ["", "a", "a\0", "a\0b", "a\u{1}", "aa", "b", "ÿ", "🦀"];
    let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for round in 0..3 {
        for table in [1, 2, 255, 256] {
            for owner in owners {
                for id in [-1, 0, 7 + round] {
                    let key = key(table, owner, id);
                    backend.put(Keyspace::Rows, &key, &[round as u8], A).unwrap();
                    expected.insert(key, vec![round as u8]);
                }
            }
        }
        // Some of it in table files, some in memory.
        if round < 2 {
            backend.flush().unwrap();
        }
    }
    let snapshot = backend.snapshot();
    let mut ranges = vec![KeyRange::all(), table_range(TableId::new(1)), table_range(TableId::new(3))];
    for owner in owners {
        ranges.push(KeyRange::prefix(&row_prefix(&partition(2, owner))));
        ranges.push(row_range(&partition(255, owner), Bound::Excluded(PrimaryKey::from_i64(0)), Bound::Unbounded));
        ranges.push(row_range(&partition(255, owner), Bound::Unbounded, Bound::Included(PrimaryKey::from_i64(0))));
        ranges.push(KeyRange::prefix(&row_prefix(&partition(4, owner))));
    }
    for range in ranges {
        let inside = |(key, _): &(&Vec<u8>, &Vec<u8>)| range.contains(key);
        let mut wanted: Vec<_> =
            expected.iter().filter(inside).map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(entries(snapshot.as_ref(), range.clone(), Direction::Forward), wanted, "{range:?}");
        wanted.reverse();
        assert_eq!(entries(snapshot.as_ref(), range.clone(), Direction::Reverse), wanted, "{range:?}");
    }
}

fn takes_odd_keys_and_large_values(backend: &Arc<dyn StorageBackend>) {
    let large = vec![7_u8; 300_000];
    let odd: [&[u8]; 7] =
        [b"", b"\0", b"\xff\xff\xff\xff", b"\0\0\0\x01", b"\0\0\0\x01a", b"\0\0\0\x01a\0", &[0xFF; 2000]];
    for keyspace in Keyspace::ALL {
        for key in odd {
            backend.put(keyspace, key, &large, A).unwrap();
            assert_eq!(backend.get(keyspace, key).unwrap().unwrap(), large);
        }
    }
    let found = keys(backend.snapshot().as_ref(), KeyRange::all(), Direction::Reverse);
    let mut sorted = odd.to_vec();
    sorted.sort();
    sorted.reverse();
    assert_eq!(found, sorted);
}

fn keeps_a_snapshot_beyond_its_backend_handle(backend: &Arc<dyn StorageBackend>) {
    backend.put(Keyspace::Rows, b"a", b"1", A).unwrap();
    backend.put(Keyspace::Rows, b"b", b"2", A).unwrap();
    let mut cursor = {
        let backend = backend.clone();
        OwnedCursor::open(backend.snapshot(), Keyspace::Rows, KeyRange::all(), Direction::Forward).unwrap()
    };
    let read = std::thread::spawn(move || {
        cursor.with(|cursor| {
            cursor.advance().unwrap();
            cursor.value().to_vec()
        })
    });
    assert_eq!(read.join().unwrap(), b"2");
}

fn reports_sizes(backend: &Arc<dyn StorageBackend>) {
    for id in 0..2000 {
        backend.put(Keyspace::Rows, &key(1, "ana", id), &[3; 200], A).unwrap();
    }
    let total = |size: KeyspaceSize| size.disk_bytes + size.memory_bytes;
    let before = backend.size(Keyspace::Rows).unwrap();
    assert!(total(before) > 100_000 && (1000..=4000).contains(&before.estimated_keys), "{before:?}");
    backend.flush().unwrap();
    let after = backend.size(Keyspace::Rows).unwrap();
    assert!(total(after) > 1000 && (1000..=4000).contains(&after.estimated_keys), "{after:?}");
    assert_eq!(backend.size(Keyspace::Segments).unwrap().estimated_keys, 0);
}

fn shows_batches_whole_to_concurrent_readers(backend: &Arc<dyn StorageBackend>) {
    let write = |round: u32| {
        let mut batch = WriteBatch::new();
        for keyspace in Keyspace::ALL {
            batch.put(keyspace, b"first", round.to_le_bytes());
            batch.put(keyspace, b"last", round.to_le_bytes());
        }
        backend.write(batch, A).unwrap();
    };
    write(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last_seen = Vec::new();
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    let snapshot = backend.snapshot();
                    let first = snapshot.get(Keyspace::Catalog, b"first").unwrap().unwrap();
                    for keyspace in Keyspace::ALL {
                        assert_eq!(snapshot.get(keyspace, b"first").unwrap().unwrap(), first);
                        let mut cursor = snapshot.cursor(keyspace, KeyRange::all(), Direction::Reverse).unwrap();
                        assert_eq!((cursor.key(), cursor.value()), (&b"last"[..], &first[..]));
                        cursor.advance().unwrap();
                        assert_eq!((cursor.key(), cursor.value()), (&b"first"[..], &first[..]));
                    }
                    assert!(last_seen.is_empty() || number(&last_seen) <= number(&first));
                    last_seen = first;
                }
            });
        }
        (1..500).for_each(write);
        done.store(true, std::sync::atomic::Ordering::Release);
    });
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

fn partition(table: u32, owner: &str) -> Partition {
    let owner = if owner.is_empty() { Owner::Shared } else { Owner::User(UserId::new(owner).unwrap()) };
    Partition { table: TableId::new(table), owner }
}

fn key(table: u32, owner: &str, id: i64) -> Vec<u8> {
    row_key(&partition(table, owner), &PrimaryKey::from_i64(id))
}

#[test]
fn rocks_keeps_everything_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    for round in 0..4_u8 {
        let backend = RocksBackend::open(&path, &small()).unwrap();
        for before in 0..round {
            for keyspace in Keyspace::ALL {
                assert_eq!(backend.get(keyspace, &[before]).unwrap().as_deref(), Some(&[before][..]));
            }
        }
        let mut batch = WriteBatch::new();
        for keyspace in Keyspace::ALL {
            batch.put(keyspace, [round], [round]);
        }
        backend.write(batch, if round % 2 == 0 { Durability::Sync } else { Durability::Async }).unwrap();
        if round == 1 {
            backend.flush().unwrap();
        }
    }
}

#[test]
fn rocks_refuses_a_damaged_table_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let backend = RocksBackend::open(&path, &small()).unwrap();
    for id in 0..1000 {
        backend.put(Keyspace::Rows, &key(1, "ana", id), &[9; 100], A).unwrap();
    }
    backend.flush().unwrap();
    drop(backend);
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&file).unwrap();
            bytes.iter_mut().take(400).for_each(|byte| *byte ^= 0xA5);
            std::fs::write(&file, bytes).unwrap();
        }
    }
    let opened = RocksBackend::open(&path, &small());
    let read = opened.and_then(|backend| backend.get(Keyspace::Rows, &key(1, "ana", 0)));
    assert!(matches!(read, Err(KvError::Corruption(_))), "{read:?}");
}

#[test]
fn memory_forgets_versions_that_nobody_sees() {
    let backend = MemoryBackend::new();
    for round in 0..100_u64 {
        let snapshot = backend.snapshot();
        for key in 0..10_u8 {
            backend.put(Keyspace::Rows, &[key], &round.to_le_bytes(), A).unwrap();
        }
        assert_eq!(snapshot.get(Keyspace::Rows, &[0]).unwrap().is_some(), round > 0);
    }
    assert_eq!(backend.size(Keyspace::Rows).unwrap().memory_bytes, 10 * 9);
    let snapshot = backend.snapshot();
    (0..10_u8).for_each(|key| backend.delete(Keyspace::Rows, &[key], A).unwrap());
    assert_eq!(keys(snapshot.as_ref(), KeyRange::all(), Direction::Forward).len(), 10);
    drop(snapshot);
    assert_eq!(backend.size(Keyspace::Rows).unwrap(), KeyspaceSize::default());
}

/// A step of a random history.
/// Removes all that was given up; answers in how many steps.
fn reclaim(backend: &dyn StorageBackend) -> usize {
    let mut from = Vec::new();
    for steps in 1..10_000 {
        match backend.reclaim_log(&from).unwrap() {
            Some(next) => {
                assert!(next > from, "a step goes on");
                from = next;
            }
            None => return steps,
        }
    }
    panic!("reclaiming does not end");
}

fn log_keys(snapshot: &dyn Snapshot) -> Vec<Vec<u8>> {
    let mut cursor = snapshot.cursor(Keyspace::Log, KeyRange::all(), Direction::Forward).unwrap();
    let mut keys = Vec::new();
    while cursor.valid() {
        keys.push(cursor.key().to_vec());
        cursor.advance().unwrap();
    }
    keys
}

fn removes_log_entries_that_were_given_up(backend: &Arc<dyn StorageBackend>) {
    let owners = ["ana", "a\0b", "z"];
    let entry = |owner, seq| log_key(&partition(7, owner), CommitSeq::new(seq));
    let prefix = row_prefix(&partition(7, "ana"));
    let damaged = [b"x".to_vec(), [prefix.as_slice(), &[0; 7]].concat(), [prefix.as_slice(), &[0; 9]].concat()];
    // In several files, and a part in memory.
    for part in 0..4 {
        let mut batch = WriteBatch::new();
        for seq in 1..=400 {
            if seq % 4 == part {
                owners.iter().for_each(|owner| batch.put(Keyspace::Log, entry(owner, seq), [7; 100]));
            }
        }
        for keyspace in Keyspace::ALL {
            // The same bytes mean something else elsewhere.
            batch.put(keyspace, entry("ana", 3), b"kept elsewhere");
        }
        damaged.iter().for_each(|key| batch.put(Keyspace::Log, key, b"damaged"));
        backend.write(batch, A).unwrap();
        if part < 3 {
            backend.flush().unwrap();
        }
    }
    let before = backend.snapshot();
    backend.discard_log(CommitSeq::new(300));
    backend.discard_log(CommitSeq::new(1));
    reclaim(backend.as_ref());
    let mut expected: Vec<Vec<u8>> = damaged.to_vec();
    owners.iter().for_each(|owner| expected.extend((301..=400).map(|seq| entry(owner, seq))));
    expected.sort();
    assert_eq!(log_keys(backend.snapshot().as_ref()), expected);
    for keyspace in Keyspace::ALL {
        let there = backend.get(keyspace, &entry("ana", 3)).unwrap().is_some();
        assert_eq!(there, keyspace != Keyspace::Log, "{keyspace:?}");
    }
    let removed = backend.log_removed();
    assert_eq!(removed.entries, 900);
    assert!((900 * 110..900 * 125).contains(&removed.bytes), "{removed:?}");
    // What was not given up is in every snapshot.
    let seen = log_keys(before.as_ref());
    assert!(expected.iter().all(|key| seen.contains(key)));
    // Once is enough, and what comes later is subject to it, too.
    backend.put(Keyspace::Log, &entry("ana", 300), b"late", A).unwrap();
    backend.put(Keyspace::Log, &entry("ana", 401), b"new", A).unwrap();
    expected.push(entry("ana", 401));
    expected.sort();
    reclaim(backend.as_ref());
    assert_eq!(log_keys(backend.snapshot().as_ref()), expected);
    assert_eq!(backend.get(Keyspace::Log, &entry("ana", 401)).unwrap().as_deref(), Some(&b"new"[..]));
}

fn reclaims_in_steps(backend: &Arc<dyn StorageBackend>) {
    let mut batch = WriteBatch::new();
    for seq in 1..=5_000 {
        batch.put(Keyspace::Log, log_key(&partition(1, "ana"), CommitSeq::new(seq)), b"entry");
    }
    backend.write(batch, A).unwrap();
    backend.discard_log(CommitSeq::new(4_999));
    // Somebody writes on meanwhile.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 5_001..=6_000 {
                let key = log_key(&partition(1, "ana"), CommitSeq::new(seq));
                backend.put(Keyspace::Log, &key, b"entry", A).unwrap();
            }
        });
        reclaim(backend.as_ref());
    });
    let left = log_keys(backend.snapshot().as_ref());
    assert_eq!(left.len(), 1_001);
    assert_eq!(left[0], log_key(&partition(1, "ana"), CommitSeq::new(5_000)));
    assert_eq!(backend.log_removed().entries, 4_999);
}

fn gives_up_nothing_unless_told(backend: &Arc<dyn StorageBackend>) {
    for seq in 1..=100 {
        backend.put(Keyspace::Log, &log_key(&partition(1, "ana"), CommitSeq::new(seq)), b"entry", A).unwrap();
    }
    reclaim(backend.as_ref());
    backend.discard_log(CommitSeq::new(0));
    reclaim(backend.as_ref());
    assert_eq!(log_keys(backend.snapshot().as_ref()).len(), 100);
    assert_eq!(backend.log_removed(), LogRemoved::default());
}

#[test]
fn rocks_forgets_what_was_given_up_when_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let open = || RocksBackend::open(folder.path().join("db"), &small()).unwrap();
    let backend = open();
    for seq in 1..=10 {
        backend.put(Keyspace::Log, &log_key(&partition(1, "ana"), CommitSeq::new(seq)), b"entry", A).unwrap();
    }
    backend.discard_log(CommitSeq::new(5));
    drop(backend);
    let backend = open();
    reclaim(&backend);
    assert_eq!(log_keys(backend.snapshot().as_ref()).len(), 10);
    backend.discard_log(CommitSeq::new(4));
    reclaim(&backend);
    assert_eq!(log_keys(backend.snapshot().as_ref()).len(), 6);
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(u8, u8, Option<u8>)>),
    DeleteRange(u8, u8),
    TakeSnapshot,
    DropSnapshot(usize),
    Flush,
    Check { from: u8, to: u8, reverse: bool, seek: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0..4_u8, 0..12_u8, prop::option::of(any::<u8>())), 1..6).prop_map(Step::Write),
        1 => (0..12_u8, 0..12_u8).prop_map(|(from, to)| Step::DeleteRange(from, to)),
        2 => Just(Step::TakeSnapshot),
        1 => any::<usize>().prop_map(Step::DropSnapshot),
        1 => Just(Step::Flush),
        4 => (0..12_u8, 0..14_u8, any::<bool>(), 0..14_u8)
            .prop_map(|(from, to, reverse, seek)| Step::Check { from, to, reverse, seek }),
    ]
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn run(backend: &Arc<dyn StorageBackend>, steps: &[Step]) {
    let owners = ["", "a", "a\0", "b"];
    let mut now = Model::new();
    let mut snapshots: Vec<(Arc<dyn Snapshot>, Model)> = Vec::new();
    for step in steps {
        match step {
            Step::Write(ops) => {
                let mut batch = WriteBatch::new();
                for (owner, id, value) in ops {
                    let key = key(1, owners[usize::from(*owner)], i64::from(*id));
                    match value {
                        Some(value) => {
                            batch.put(Keyspace::Rows, &key, [*value]);
                            now.insert(key, vec![*value]);
                        }
                        None => {
                            batch.delete(Keyspace::Rows, &key);
                            now.remove(&key);
                        }
                    }
                }
                backend.write(batch, A).unwrap();
            }
            Step::DeleteRange(from, to) => {
                let (from, to) = (key(1, "a", i64::from(*from)), key(1, "a", i64::from(*to)));
                let mut batch = WriteBatch::new();
                batch.delete_range(Keyspace::Rows, &from, &to);
                backend.write(batch, A).unwrap();
                now.retain(|key, _| *key < from || *key >= to);
            }
            Step::TakeSnapshot => snapshots.push((backend.snapshot(), now.clone())),
            Step::DropSnapshot(index) if !snapshots.is_empty() => {
                snapshots.swap_remove(index % snapshots.len());
            }
            Step::DropSnapshot(_) => {}
            Step::Flush => backend.flush().unwrap(),
            Step::Check { from, to, reverse, seek } => {
                let direction = if *reverse { Direction::Reverse } else { Direction::Forward };
                let current = (backend.snapshot(), now.clone());
                for (snapshot, model) in snapshots.iter().chain([&current]) {
                    for range in [
                        KeyRange::all(),
                        KeyRange::prefix(&row_prefix(&partition(1, "a"))),
                        KeyRange::new(
                            Bound::Included(key(1, "a", i64::from(*from))),
                            Bound::Excluded(key(1, "a", i64::from(*to))),
                        ),
                        KeyRange::new(
                            Bound::Excluded(key(1, "", i64::from(*from))),
                            Bound::Included(key(1, "a\0", i64::from(*to))),
                        ),
                    ] {
                        let mut expected: Vec<_> = model
                            .iter()
                            .filter(|(key, _)| range.contains(key))
                            .map(|(key, value)| (key.clone(), value.clone()))
                            .collect();
                        if *reverse {
                            expected.reverse();
                        }
                        assert_eq!(entries(snapshot.as_ref(), range.clone(), direction), expected);
                        let target = key(1, "a", i64::from(*seek));
                        let at =
                            expected.iter().find(|(key, _)| if *reverse { *key <= target } else { *key >= target });
                        let mut cursor = snapshot.cursor(Keyspace::Rows, range, direction).unwrap();
                        cursor.seek(&target).unwrap();
                        assert_eq!(cursor.item(), at.map(|(key, value)| (key.as_slice(), value.as_slice())));
                    }
                    for (key, value) in model {
                        assert_eq!(snapshot.get(Keyspace::Rows, key).unwrap().as_ref(), Some(value));
                    }
                }
                for id in 0..12 {
                    let key = key(1, "b", id);
                    assert_eq!(backend.get(Keyspace::Rows, &key).unwrap().as_ref(), now.get(&key));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_behaves_as_a_map(steps in prop::collection::vec(step(), 1..60)) {
        run(&memory().backend, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rocks_behaves_as_a_map(steps in prop::collection::vec(step(), 1..80)) {
        run(&rocks().backend, &steps);
    }
}
