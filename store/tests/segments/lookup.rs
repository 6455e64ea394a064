//! Reads by key and by position against an oracle: the batch that was written.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::*;
use kalamdb_store::codec::PrimaryKey;
use kalamdb_store::segment::*;
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::counting::CountingStore;
use crate::files::*;

/// Ascending keys, no two alike: dense or sparse numbers, or texts that begin alike for longer than an index keeps.
fn some_keys(rng: &mut StdRng, count: usize, text: bool) -> Vec<PrimaryKey> {
    let sparse = rng.random_bool(0.5);
    let prefix = "long common beginning ".repeat(rng.random_range(0..6));
    let mut keys = BTreeSet::new();
    while keys.len() < count {
        let number = if sparse { rng.random::<i64>() } else { rng.random_range(-2 * count as i64..2 * count as i64) };
        keys.insert(match text {
            false => PrimaryKey::from_i64(number),
            true if rng.random_bool(0.01) => PrimaryKey::from_str(&"é".repeat(rng.random_range(0..100))),
            true => PrimaryKey::from_str(&format!("{prefix}{number}")),
        });
    }
    keys.into_iter().collect()
}

/// Some keys that are there and some that are not, ascending.
fn some_probes(rng: &mut StdRng, keys: &[PrimaryKey], text: bool) -> Vec<PrimaryKey> {
    let mut probes: BTreeSet<PrimaryKey> = BTreeSet::new();
    let count = *[0, 1, 2, 30, keys.len()].choose(rng).unwrap();
    for _ in 0..count {
        let key = keys.choose(rng).unwrap();
        probes.insert(match rng.random_range(0..4) {
            0 if text => PrimaryKey::from_str(&format!("{}!", key.to_str().unwrap())),
            0 => PrimaryKey::from_i64(key.to_i64().unwrap().wrapping_add(1)),
            1 if text => PrimaryKey::from_str(["", "\0", "z", "\u{10ffff}"].choose(rng).unwrap()),
            1 => PrimaryKey::from_i64(*[i64::MIN, 0, i64::MAX].choose(rng).unwrap()),
            _ => key.clone(),
        });
    }
    probes.into_iter().collect()
}

fn some_rows(rng: &mut StdRng, total: u32) -> Vec<u32> {
    let share = *[0.0, 0.001, 0.02, 0.5, 1.0].choose(rng).unwrap();
    let from = rng.random_range(0..total);
    let to = if rng.random_bool(0.5) { total } else { rng.random_range(from..total) };
    (from..to).filter(|_| rng.random_bool(share)).collect()
}

#[tokio::test]
async fn keys_and_rows_are_found_where_they_were_written() {
    for seed in 0..60 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let text = seed % 2 == 0;
        let count = *[1, 63, 64, 65, 999, 1_000, 1_001, 4_321].choose(rng).unwrap();
        let keys = some_keys(rng, count, text);
        let (fields, batch) = messages(&keys, text);
        let file = file_of(&fields, &batch, &small());
        assert_eq!(file.keys, keys.iter().cloned().collect());
        let world = World::in_memory();
        let entry = world.add(seed, &file).await;
        assert_eq!((&entry.min_key, &entry.max_key), (&keys[0], &keys[count - 1]));
        assert_eq!((entry.rows, entry.row_groups()), (count as u64, count.div_ceil(1_000)));
        assert_eq!((entry.min_seq.get(), entry.max_seq.get()), (1, 7 * (count as u64 - 1) + 1));
        let reader = world.segments.open(&entry).await.unwrap();
        for _ in 0..12 {
            let probes = some_probes(rng, &keys, text);
            let expected: Vec<_> =
                probes.iter().map(|probe| keys.binary_search(probe).ok().map(|row| row as u32)).collect();
            assert_eq!(reader.locate(&probes).await.unwrap(), expected, "seed {seed}");

            let rows = some_rows(rng, count as u32);
            let columns: &[usize] = [&[0, 1, 2, 3, 4][..], &[4, 1], &[2, 2], &[]].choose(rng).unwrap();
            let read = reader.read_rows(&rows, columns).await.unwrap();
            let expected = arrow::compute::take_record_batch(&batch, &UInt32Array::from(rows)).unwrap();
            let expected = expected.project(columns).unwrap();
            assert_eq!(read.columns(), expected.columns(), "seed {seed}");
            assert_eq!(read.num_rows(), expected.num_rows());
        }
    }
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let keys: Vec<_> = (0..10).map(PrimaryKey::from_i64).collect();
    let (fields, batch) = messages(&keys, false);
    let world = World::in_memory();
    let entry = world.add(1, &file_of(&fields, &batch, &small())).await;
    let reader = world.segments.open(&entry).await.unwrap();
    for (rows, columns) in [(&[10][..], &[0][..]), (&[1, 1], &[0]), (&[2, 1], &[0]), (&[1], &[5])] {
        let error = reader.read_rows(rows, columns).await.unwrap_err();
        assert!(matches!(error, SegmentError::Rows(_)), "{error}");
    }
    assert!(reader.locate(&[PrimaryKey::from_str("a text")]).await.is_err());
}

#[tokio::test]
async fn the_writer_wants_rows_in_the_order_of_their_keys() {
    let numbers = |keys: &[i64]| keys.iter().copied().map(PrimaryKey::from_i64).collect::<Vec<_>>();
    for keys in [numbers(&[1, 1]), numbers(&[2, 1]), numbers(&[1, -1])] {
        let (fields, batch) = messages(&keys, false);
        let mut writer = SegmentWriter::new(fields.clone(), &origin(), &small()).unwrap();
        assert!(matches!(writer.write(&batch), Err(SegmentError::Rows(_))));
        let mut writer = SegmentWriter::new(fields, &origin(), &small()).unwrap();
        writer.write(&batch.slice(0, 1)).unwrap();
        assert!(matches!(writer.write(&batch.slice(1, 1)), Err(SegmentError::Rows(_))));
    }
    let (fields, batch) = messages(&numbers(&[1]), false);
    let mut writer = SegmentWriter::new(fields.clone(), &origin(), &small()).unwrap();
    assert!(matches!(writer.write(&batch.project(&[0, 1]).unwrap()), Err(SegmentError::Rows(_))));
    let writer = SegmentWriter::new(fields, &origin(), &small()).unwrap();
    assert!(matches!(writer.finish(), Err(SegmentError::Rows(_))));
}

#[tokio::test]
async fn a_point_read_costs_few_requests() {
    let counting = Arc::new(CountingStore::over(Arc::new(InMemory::new())));
    let world = World::over(counting.clone());
    let keys: Vec<_> = (0..5_000).map(|key| PrimaryKey::from_i64(key * 2)).collect();
    let (fields, batch) = messages(&keys, false);
    let entry = world.add(1, &file_of(&fields, &batch, &small())).await;
    counting.take();

    let readers = futures::future::join_all((0..50).map(|_| world.segments.open(&entry))).await;
    let reader = readers.into_iter().next().unwrap().unwrap();
    assert_eq!(counting.take().requests, 1, "fifty callers open a file together");
    world.segments.open(&entry).await.unwrap();
    assert_eq!(counting.take().requests, 0, "an open file");

    assert_eq!(reader.locate(&[PrimaryKey::from_i64(4_000)]).await.unwrap(), [Some(2_000)]);
    let cost = counting.take();
    assert_eq!((cost.requests, cost.bytes <= 2 * CHECKSUM_BLOCK as u64), (1, true), "a key: {cost:?}");
    reader.read_rows(&[2_000], &[0, 1, 2, 3, 4]).await.unwrap();
    assert_eq!(counting.take().requests, 1, "a row");

    let absent: Vec<_> = (0..5_000).map(|key| PrimaryKey::from_i64(key * 2 + 1)).collect();
    let mut requests = 0;
    for key in &absent {
        assert_eq!(reader.locate(std::slice::from_ref(key)).await.unwrap(), [None]);
        requests += counting.take().requests;
    }
    assert!(requests < 150, "{requests} of 5,000 absent keys passed a filter that should pass one in a hundred");
}
