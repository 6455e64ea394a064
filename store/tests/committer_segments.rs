//! The committer and the cold tier: whatever changes while segments are written, each key has one live copy, and it is
//! the newest.
//!
//! Segments are made as a flush and a compaction make them, but without files: the committer looks at none.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use kalamdb_store::codec::*;
use kalamdb_store::commit::*;
use kalamdb_store::ids::*;
use kalamdb_store::kv::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn partition(owner: &str) -> Partition {
    Partition { table: TableId::new(7), owner: Owner::User(UserId::new(owner).unwrap()) }
}

fn row() -> EncodedRow {
    let layout = RowLayout::new(vec![LayoutColumn { id: ColumnId::new(1), data_type: DataType::Int64 }]).unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    encode_rows(&layout, SchemaVersion::new(1), &[column], 1).unwrap().remove(0)
}

/// One live copy of a row: where it is, and the commit that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copy {
    version: Expected,
    seq: CommitSeq,
}

/// A store, and for each segment the rows that its file would have.
struct World {
    backend: Arc<dyn StorageBackend>,
    committer: Committer,
    partition: Partition,
    files: BTreeMap<SegmentId, Vec<(i64, CommitSeq)>>,
    next_segment: u64,
}

impl World {
    fn new(backend: Arc<dyn StorageBackend>) -> Self {
        let committer = Committer::start(backend.clone(), CommitSettings::default(), None).unwrap();
        Self { backend, committer, partition: partition("ana"), files: BTreeMap::new(), next_segment: 1 }
    }

    /// Every live copy of every key in a snapshot.
    fn copies(&self, snapshot: &dyn Snapshot) -> BTreeMap<i64, Vec<Copy>> {
        let mut copies: BTreeMap<i64, Vec<Copy>> = BTreeMap::new();
        for (key, seq) in self.hot(snapshot) {
            copies.entry(key).or_default().push(Copy { version: Expected::Hot(seq), seq });
        }
        for segment in self.segments(snapshot) {
            for (place, key, seq) in self.live(snapshot, segment.id) {
                copies.entry(key).or_default().push(Copy { version: Expected::Cold(place), seq });
            }
        }
        copies
    }

    fn hot(&self, snapshot: &dyn Snapshot) -> Vec<(i64, CommitSeq)> {
        let range = KeyRange::prefix(&row_prefix(&self.partition));
        let mut cursor = snapshot.cursor(Keyspace::Rows, range, Direction::Forward).unwrap();
        let mut rows = Vec::new();
        while let Some((key, value)) = cursor.item() {
            let (_, _, key) = split_row_key(key).unwrap();
            rows.push((PrimaryKey::from_encoded(key).to_i64().unwrap(), RowHeader::decode(value).unwrap().commit_seq));
            cursor.advance().unwrap();
        }
        rows
    }

    fn segments(&self, snapshot: &dyn Snapshot) -> Vec<SegmentEntry> {
        let range = segment_range(&self.partition);
        let mut cursor = snapshot.cursor(Keyspace::Segments, range, Direction::Forward).unwrap();
        let mut entries = Vec::new();
        while let Some((_, value)) = cursor.item() {
            entries.push(SegmentEntry::decode(value).unwrap());
            cursor.advance().unwrap();
        }
        entries
    }

    /// The bytes of a hot row's key and value.
    fn row_bytes(&self) -> u64 {
        (row_key(&self.partition, &PrimaryKey::from_i64(0)).len() + row().as_bytes().len()) as u64
    }

    /// The rows of a segment that its lists of marks name.
    fn listed(&self, snapshot: &dyn Snapshot, segment: SegmentId) -> Vec<u32> {
        let lists = mark_list_range(&self.partition, segment);
        let mut cursor = snapshot.cursor(Keyspace::Segments, lists, Direction::Forward).unwrap();
        let mut rows = Vec::new();
        while let Some((_, list)) = cursor.item() {
            rows.extend(decode_mark_list(list).unwrap());
            cursor.advance().unwrap();
        }
        rows
    }

    fn live(&self, snapshot: &dyn Snapshot, segment: SegmentId) -> Vec<(ColdPlace, i64, CommitSeq)> {
        let rows = self.files[&segment].iter().enumerate();
        rows.map(|(row, (key, seq))| (ColdPlace { segment, row: row as u32 }, *key, *seq))
            .filter(|(place, ..)| {
                let mark = mark_key(&self.partition, segment, place.row);
                snapshot.get(Keyspace::Segments, &mark).unwrap().is_none()
            })
            .collect()
    }

    fn segment(&mut self, rows: Vec<(i64, CommitSeq)>) -> NewSegment {
        let id = SegmentId::new(self.next_segment);
        self.next_segment += 1;
        let mut keys = PackedKeys::new();
        rows.iter().for_each(|(key, _)| keys.push(&PrimaryKey::from_i64(*key)));
        let entry = SegmentEntry {
            id,
            storage: StorageId::new(0),
            path: format!("{id}.parquet"),
            file_bytes: 1,
            rows: rows.len() as u64,
            row_group_rows: 131_072,
            schema_version: SchemaVersion::new(1),
            min_key: PrimaryKey::from_i64(rows.first().unwrap().0),
            max_key: PrimaryKey::from_i64(rows.last().unwrap().0),
            min_seq: rows.iter().map(|(_, seq)| *seq).min().unwrap(),
            max_seq: rows.iter().map(|(_, seq)| *seq).max().unwrap(),
            created_at_us: 0,
        };
        let hot_bytes = rows.len() as u64 * self.row_bytes();
        self.files.insert(id, rows);
        NewSegment { entry, checksums: vec![id.get() as u32], keys, hot_bytes }
    }

    async fn change(
        &self,
        add: Vec<NewSegment>,
        remove: Vec<SegmentEntry>,
        based_on: CommitSeq,
    ) -> Result<Committed, CommitError> {
        let partition = self.partition.clone();
        let takes_hot_rows = remove.is_empty();
        let change = SegmentChange { partition, based_on, add, remove, takes_hot_rows };
        self.committer.commit(PreparedCommit { segments: vec![change], ..PreparedCommit::default() }).await
    }

    async fn write(&self, key: i64, op: RowOp) -> Result<Committed, CommitError> {
        let change = RowChange { partition: self.partition.clone(), key: PrimaryKey::from_i64(key), op };
        let cold_checked_at = Some(self.committer.last_commit_seq());
        self.committer
            .commit(PreparedCommit { changes: vec![change], cold_checked_at, ..PreparedCommit::default() })
            .await
    }

    /// A random write of a random key, as a statement would make it from the current state.
    async fn write_something(&self, random: &mut StdRng, model: &mut BTreeMap<i64, CommitSeq>, keys: i64) {
        let key = random.random_range(0..keys);
        let snapshot = self.backend.snapshot();
        let current = self.copies(snapshot.as_ref()).get(&key).map(|copies| copies[0]);
        let old = row().as_bytes().to_vec();
        match current {
            None => {
                let written = self.write(key, RowOp::Insert { row: row(), unique: Unique::Check }).await.unwrap();
                model.insert(key, written.commit_seq);
            }
            Some(copy) if random.random_bool(0.5) => {
                let written = self.write(key, RowOp::Update { row: row(), expected: copy.version, old }).await.unwrap();
                model.insert(key, written.commit_seq);
            }
            Some(copy) => {
                self.write(key, RowOp::Delete { expected: copy.version, old }).await.unwrap();
                model.remove(&key);
            }
        }
    }

    fn check(&self, model: &BTreeMap<i64, CommitSeq>, what: &str) {
        let snapshot = self.backend.snapshot();
        let copies = self.copies(snapshot.as_ref());
        for (key, copies) in &copies {
            assert_eq!(copies.len(), 1, "{what}: key {key} is live in {copies:?}");
        }
        let found: BTreeMap<i64, CommitSeq> = copies.into_iter().map(|(key, copies)| (key, copies[0].seq)).collect();
        assert_eq!(&found, model, "{what}");
        for (segment, rows) in &self.files {
            let mark =
                |row: &u32| snapshot.get(Keyspace::Segments, &mark_key(&self.partition, *segment, *row)).unwrap();
            let marked: Vec<u32> = (0..rows.len() as u32).filter(|row| mark(row).is_some()).collect();
            let mut listed = self.listed(snapshot.as_ref(), *segment);
            listed.sort_unstable();
            assert_eq!(listed, marked, "{what}: segment {segment}");
        }
        let hot = self.hot(snapshot.as_ref()).len() as u64;
        let count = snapshot.get(Keyspace::System, &hot_count_key(&self.partition)).unwrap();
        let expected = HotCount { rows: hot, bytes: hot * self.row_bytes() };
        assert_eq!(count.map_or(HotCount::default(), |count| HotCount::decode(&count).unwrap()), expected, "{what}");
    }
}

fn backends() -> Vec<(Arc<dyn StorageBackend>, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let rocks = RocksBackend::open(dir.path(), &RocksSettings::default()).unwrap();
    vec![(Arc::new(MemoryBackend::new()), None), (Arc::new(rocks), Some(dir))]
}

#[tokio::test]
async fn random_writes_around_flushes_and_compactions() {
    for (backend, _dir) in backends() {
        // Few keys: rows leave the hot tier one by one; many: by their range.
        for (seed, keys, start) in [(1, 60, 40), (2, 1_500, 1_300)] {
            backend.write(everything(), Durability::Async).unwrap();
            let mut random = StdRng::seed_from_u64(seed);
            let mut world = World::new(backend.clone());
            let mut model = BTreeMap::new();
            for key in 0..start {
                let written = world.write(key, RowOp::Insert { row: row(), unique: Unique::Check }).await.unwrap();
                model.insert(key, written.commit_seq);
            }
            for round in 0..30 {
                let what = format!("seed {seed}, round {round}");
                let snapshot = backend.snapshot();
                let based_on = committed_seq(snapshot.as_ref()).unwrap();
                let hot = world.hot(snapshot.as_ref());
                let segments = world.segments(snapshot.as_ref());
                if round % 3 == 2 && segments.len() > 1 {
                    let mut live: Vec<(i64, CommitSeq)> = Vec::new();
                    for segment in &segments {
                        live.extend(world.live(snapshot.as_ref(), segment.id).into_iter().map(|(_, k, s)| (k, s)));
                    }
                    live.sort_unstable();
                    let add = if live.is_empty() { Vec::new() } else { vec![world.segment(live)] };
                    for _ in 0..random.random_range(0..8) {
                        world.write_something(&mut random, &mut model, keys).await;
                    }
                    world.change(add, segments, based_on).await.unwrap();
                } else if !hot.is_empty() {
                    let cut = random.random_range(1..=hot.len());
                    let add = vec![world.segment(hot[..cut].to_vec())];
                    for _ in 0..random.random_range(0..8) {
                        world.write_something(&mut random, &mut model, keys).await;
                    }
                    world.change(add, Vec::new(), based_on).await.unwrap();
                }
                world.check(&model, &what);
                for _ in 0..random.random_range(0..12) {
                    world.write_something(&mut random, &mut model, keys).await;
                }
                world.check(&model, &what);
            }
            world.committer.stop();
        }
    }
}

fn everything() -> WriteBatch {
    let mut batch = WriteBatch::new();
    for keyspace in [Keyspace::Rows, Keyspace::Log, Keyspace::Segments, Keyspace::System] {
        batch.delete_range(keyspace, [0], [255]);
    }
    batch
}

async fn flushed(world: &mut World, keys: std::ops::Range<i64>) -> SegmentEntry {
    for key in keys {
        world.write(key, RowOp::Insert { row: row(), unique: Unique::Check }).await.unwrap();
    }
    let snapshot = world.backend.snapshot();
    let new = world.segment(world.hot(snapshot.as_ref()));
    let entry = new.entry.clone();
    world.change(vec![new], Vec::new(), committed_seq(snapshot.as_ref()).unwrap()).await.unwrap();
    entry
}

fn cold(segment: &SegmentEntry, row: u32) -> Expected {
    Expected::Cold(ColdPlace { segment: segment.id, row })
}

#[tokio::test]
async fn a_row_of_a_segment_is_changed_once() {
    let mut world = World::new(Arc::new(MemoryBackend::new()));
    let segment = flushed(&mut world, 0..3).await;
    let old = Vec::new();
    world.write(1, RowOp::Delete { expected: cold(&segment, 1), old: old.clone() }).await.unwrap();
    let again = world.write(1, RowOp::Update { row: row(), expected: cold(&segment, 1), old: old.clone() }).await;
    assert_eq!(again.unwrap_err(), CommitError::VersionChanged { change: 0 });
    // Twice in one commit, the second time in vain: nothing of the commit may stay.
    let twice = [0, 0].map(|key| RowChange {
        partition: world.partition.clone(),
        key: PrimaryKey::from_i64(key),
        op: RowOp::Delete { expected: cold(&segment, 0), old: old.clone() },
    });
    let both = PreparedCommit { changes: twice.to_vec(), ..PreparedCommit::default() };
    assert_eq!(world.committer.commit(both).await.unwrap_err(), CommitError::VersionChanged { change: 1 });
    world.write(0, RowOp::Delete { expected: cold(&segment, 0), old: old.clone() }).await.unwrap();
    let gone = ColdPlace { segment: SegmentId::new(99), row: 0 };
    let of_nothing = world.write(2, RowOp::Delete { expected: Expected::Cold(gone), old }).await;
    assert_eq!(of_nothing.unwrap_err(), CommitError::VersionChanged { change: 0 });
}

#[tokio::test]
async fn an_insert_knows_of_segments_that_came_after_its_look() {
    let mut world = World::new(Arc::new(MemoryBackend::new()));
    let looked_at = world.committer.last_commit_seq();
    flushed(&mut world, 0..3).await;
    let insert = RowChange {
        partition: world.partition.clone(),
        key: PrimaryKey::from_i64(1),
        op: RowOp::Insert { row: row(), unique: Unique::Check },
    };
    let stale = PreparedCommit { changes: vec![insert], cold_checked_at: Some(looked_at), ..PreparedCommit::default() };
    let refused = world.committer.commit(stale.clone()).await;
    assert_eq!(refused.unwrap_err(), CommitError::SegmentsChanged { table: TableId::new(7) });
    // Another partition's segments do not matter.
    let mut other = stale;
    other.changes[0].partition = partition("bob");
    world.committer.commit(other).await.unwrap();
}

#[tokio::test]
async fn removed_segments_leave_garbage_and_no_marks() {
    let mut world = World::new(Arc::new(MemoryBackend::new()));
    let first = flushed(&mut world, 0..3).await;
    world.write(1, RowOp::Delete { expected: cold(&first, 1), old: Vec::new() }).await.unwrap();
    let snapshot = world.backend.snapshot();
    let based_on = committed_seq(snapshot.as_ref()).unwrap();
    let live = world.live(snapshot.as_ref(), first.id).into_iter().map(|(_, key, seq)| (key, seq)).collect();
    let new = world.segment(live);
    let second = new.entry.clone();
    let committed = world.change(vec![new], vec![first.clone()], based_on).await.unwrap();
    let snapshot = world.backend.snapshot();
    assert_eq!(world.segments(snapshot.as_ref()), std::slice::from_ref(&second));
    let marks =
        snapshot.cursor(Keyspace::Segments, mark_range(&world.partition, first.id), Direction::Forward).unwrap();
    assert!(marks.item().is_none());
    assert!(world.listed(snapshot.as_ref(), first.id).is_empty());
    let garbage = snapshot.get(Keyspace::System, &garbage_key(first.id)).unwrap().unwrap();
    let garbage = GarbageFile::decode(&garbage).unwrap();
    assert_eq!((garbage.removed_at, garbage.path), (committed.commit_seq, first.path.clone()));
    let checksums = snapshot.get(Keyspace::System, &checksums_key(second.id)).unwrap().unwrap();
    assert_eq!(decode_checksums(&checksums).unwrap(), [second.id.get() as u32]);
    // Who compacts what is no longer there is told.
    let again = world.change(Vec::new(), vec![first], committed.commit_seq).await;
    assert_eq!(again.unwrap_err(), CommitError::SegmentsChanged { table: TableId::new(7) });
}

#[tokio::test]
async fn a_dropped_table_takes_no_segments() {
    let mut world = World::new(Arc::new(MemoryBackend::new()));
    flushed(&mut world, 0..3).await;
    let table = world.partition.table;
    let drop = PreparedCommit { fences: vec![(table, Fence::Dropped)], ..PreparedCommit::default() };
    world.committer.commit(drop).await.unwrap();
    let new = world.segment(vec![(9, CommitSeq::new(1))]);
    let late = world.change(vec![new], Vec::new(), CommitSeq::new(1)).await;
    assert_eq!(late.unwrap_err(), CommitError::TableDropped { table });
}

#[tokio::test]
async fn a_segment_is_refused_when_the_changes_since_its_snapshot_are_not_known() {
    for (backend, _dir) in backends() {
        let mut world = World::new(backend.clone());
        let mut model = BTreeMap::new();
        for key in 0..3 {
            let written = world.write(key, RowOp::Insert { row: row(), unique: Unique::Check }).await.unwrap();
            model.insert(key, written.commit_seq);
        }
        let snapshot = backend.snapshot();
        let based_on = committed_seq(snapshot.as_ref()).unwrap();
        let rows = world.hot(snapshot.as_ref());
        let new = world.segment(rows);
        // A row of the segment changes, and the log forgets that it did.
        let (expected, old) = (Expected::Hot(model[&1]), row().as_bytes().to_vec());
        let written = world.write(1, RowOp::Update { row: row(), expected, old }).await.unwrap();
        model.insert(1, written.commit_seq);
        let log = ChangeLog::new(backend.clone()).unwrap();
        log.raise_floor(written.commit_seq).unwrap();
        let refused = world.change(vec![new.clone()], Vec::new(), based_on).await;
        assert_eq!(refused.unwrap_err(), CommitError::LogTrimmed { table: TableId::new(7) });
        world.check(&model, "refused");
        // One that is made from the floor on is as good as any.
        let snapshot = backend.snapshot();
        let rows = world.hot(snapshot.as_ref());
        let new = world.segment(rows);
        world.change(vec![new], Vec::new(), written.commit_seq).await.unwrap();
        world.check(&model, "accepted");
        assert!(world.hot(backend.snapshot().as_ref()).is_empty());
    }
}
