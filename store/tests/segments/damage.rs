//! Bytes that are not what was written are an error that names the file, never other rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::TryStreamExt;
use kalamdb_store::codec::{PrimaryKey, SegmentEntry, checksums_key};
use kalamdb_store::ids::{SegmentId, StorageId};
use kalamdb_store::kv::{Durability, Keyspace, StorageBackend};
use kalamdb_store::object::DurableFileSystem;
use kalamdb_store::segment::*;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload};

use crate::files::*;

const ROWS: u32 = 20_000;

/// A file of some blocks, and what it holds.
async fn some_segment(world: &World) -> (SegmentEntry, Bytes, RecordBatch, Vec<PrimaryKey>) {
    let keys: Vec<_> = (0..i64::from(ROWS)).map(|key| PrimaryKey::from_i64(key * key)).collect();
    let (fields, batch) = messages(&keys, false);
    let file = file_of(&fields, &batch, &WriterSettings { dictionary_bytes: 1_000, ..small() });
    assert!(file.checksums.len() > 3, "{} bytes are too few for this test", file.bytes.len());
    (world.add(7, &file).await, file.bytes, batch, keys)
}

/// Everything that can be read of a segment.
async fn read_all(segments: &Segments, entry: &SegmentEntry, keys: &[PrimaryKey]) -> Result<RecordBatch, SegmentError> {
    let reader = segments.open(entry).await?;
    let rows = reader.locate(keys).await?.into_iter().flatten().collect::<Vec<_>>();
    reader.read_rows(&rows, &[0, 1, 2, 3, 4]).await
}

fn names_the_file(error: &SegmentError, entry: &SegmentEntry) -> bool {
    matches!(error, SegmentError::Corrupt { file, .. } if *file == entry.path)
        && error.to_string().contains(&segment_file_name(entry.id))
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_an_error_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::over(Arc::new(DurableFileSystem::new(folder.path()).unwrap()));
    let (entry, bytes, batch, keys) = some_segment(&world).await;
    assert_eq!(read_all(&world.restarted(), &entry, &keys).await.unwrap().columns(), batch.columns());

    let (file, mut errors, mut flips) = (folder.path().join(&entry.path), 0, 0);
    let offsets = (0..bytes.len()).step_by(4096).chain([bytes.len() - 9, bytes.len() - 1]);
    for at in offsets {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at / 4096 % 8);
        std::fs::write(&file, &damaged).unwrap();
        flips += 1;
        match read_all(&world.restarted(), &entry, &keys).await {
            Ok(read) => assert_eq!(read.columns(), batch.columns(), "byte {at}"),
            Err(error) => {
                assert!(names_the_file(&error, &entry), "byte {at}: {error}");
                errors += 1;
            }
        }
    }
    assert!(errors > flips * 9 / 10, "only {errors} of {flips} flips were noticed, but nearly all bytes were read");
}

#[tokio::test]
async fn a_cut_a_grown_an_exchanged_and_an_unknown_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for store in [
        Arc::new(object_store::memory::InMemory::new()) as Arc<dyn ObjectStore>,
        Arc::new(DurableFileSystem::new(folder.path()).unwrap()),
    ] {
        let world = World::over(store);
        let (entry, bytes, batch, keys) = some_segment(&world).await;
        let path = Path::from(entry.path.as_str());
        let exchanged: Vec<u8> = bytes.iter().rev().copied().collect();
        for content in [bytes.slice(..bytes.len() - 1), bytes.slice(..70_000), exchanged.into(), Bytes::new()] {
            world.store.put(&path, PutPayload::from_bytes(content.clone())).await.unwrap();
            let error = read_all(&world.restarted(), &entry, &keys).await.unwrap_err();
            assert!(names_the_file(&error, &entry), "{} bytes: {error}", content.len());
            let verified = world.restarted().verified_store(entry.storage).unwrap();
            let error = verified.get(&path).await.unwrap_err();
            assert!(names_the_file(SegmentError::find(&error).unwrap(), &entry), "{error}");
        }
        // Bytes behind those that were written hide nothing, but a copy of the file would have them.
        let grown = [&bytes[..], &[0]].concat();
        world.store.put(&path, PutPayload::from(grown)).await.unwrap();
        assert_eq!(read_all(&world.restarted(), &entry, &keys).await.unwrap().columns(), batch.columns());
        let error = world.segments.verified_store(entry.storage).unwrap().get(&path).await.unwrap_err();
        assert!(names_the_file(SegmentError::find(&error).unwrap(), &entry), "{error}");
        world.store.put(&path, PutPayload::from_bytes(bytes)).await.unwrap();
        read_all(&world.restarted(), &entry, &keys).await.unwrap();
        world.backend.delete(Keyspace::System, &checksums_key(entry.id), Durability::Async).unwrap();
        let error = read_all(&world.restarted(), &entry, &keys).await.unwrap_err();
        assert!(names_the_file(&error, &entry), "without checksums: {error}");
    }
}

#[tokio::test]
async fn a_missing_file_is_not_damage() {
    let world = World::in_memory();
    let (entry, _, _, keys) = some_segment(&world).await;
    let reader = world.segments.open(&entry).await.unwrap();
    world.store.delete(&Path::from(entry.path.as_str())).await.unwrap();
    let gone = SegmentError::NotFound { file: entry.path.clone() };
    assert_eq!(reader.locate(&keys).await, Err(gone.clone()));
    assert_eq!(read_all(&world.restarted(), &entry, &keys).await.unwrap_err(), gone);
}

#[tokio::test]
async fn the_verified_store_reads_what_any_store_would() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::over(Arc::new(DurableFileSystem::new(folder.path()).unwrap()));
    let (entry, bytes, ..) = some_segment(&world).await;
    let path = Path::from(entry.path.as_str());
    let len = bytes.len() as u64;
    let block = CHECKSUM_BLOCK as u64;
    for segments in [&world.segments, &world.restarted()] {
        let store = segments.verified_store(entry.storage).unwrap();
        assert_eq!(store.head(&path).await.unwrap().size, len);
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes);
        for (range, expected) in [
            (GetRange::Bounded(0..1), 0..1),
            (GetRange::Bounded(block - 1..block + 1), block - 1..block + 1),
            (GetRange::Bounded(len - 1..len + 100), len - 1..len),
            (GetRange::Offset(block), block..len),
            (GetRange::Offset(len - 1), len - 1..len),
            (GetRange::Suffix(10), len - 10..len),
            (GetRange::Suffix(block * 2), len - block * 2..len),
            (GetRange::Suffix(u64::MAX), 0..len),
        ] {
            let options = GetOptions::new().with_range(Some(range));
            let result = store.get_opts(&path, options).await.unwrap();
            assert_eq!(result.range, expected);
            let expected = expected.start as usize..expected.end as usize;
            assert_eq!(result.bytes().await.unwrap(), bytes.slice(expected));
        }
        let ranges = [block * 2..block * 2 + 5, 3..7, len - 3..len, 0..block * 3, 9..9];
        let read = store.get_ranges(&path, &ranges).await.unwrap();
        for (range, read) in ranges.iter().zip(read) {
            assert_eq!(read, bytes.slice(range.start as usize..range.end as usize));
        }
        for beyond in [len..len + 1, len - 1..len + 1, len + block..len + block + 1] {
            assert!(store.get_ranges(&path, std::slice::from_ref(&beyond)).await.is_err(), "{beyond:?}");
        }
    }
}

#[tokio::test]
async fn the_verified_store_does_nothing_but_read_segments() {
    let world = World::in_memory();
    let (entry, ..) = some_segment(&world).await;
    let path = Path::from(entry.path.as_str());
    let store = world.segments.verified_store(entry.storage).unwrap();
    assert!(store.put(&path, PutPayload::new()).await.is_err());
    assert!(store.put_multipart(&path).await.is_err());
    assert!(store.delete(&path).await.is_err());
    assert!(store.copy(&path, &Path::from("a")).await.is_err());
    assert!(store.rename(&path, &Path::from("a")).await.is_err());
    assert!(store.list(None).try_next().await.is_err());
    assert!(store.list_with_delimiter(None).await.is_err());
    world.store.put(&Path::from("secret"), "text".into()).await.unwrap();
    assert!(store.get(&Path::from("secret")).await.is_err());
    assert_eq!(world.store.get(&path).await.unwrap().meta.size, entry.file_bytes);
}

#[test]
fn names_of_files_and_segments_belong_together() {
    assert_eq!(segment_file_name(SegmentId::new(0x1a)), "000000000000001a.parquet");
    assert_eq!(segment_of_path("a/b/000000000000001a.parquet"), Some(SegmentId::new(0x1a)));
    assert_eq!(segment_of_path("ffffffffffffffff.parquet"), Some(SegmentId::new(u64::MAX)));
    for other in ["", "a", "1a.parquet", "000000000000001A.parquet", "+00000000000001a.parquet", "x/"] {
        assert_eq!(segment_of_path(other), None, "{other}");
    }
    assert_eq!(StorageId::new(0).get(), 0);
}
