//! Files on their way into a storage and out of it.

use std::io;
use std::sync::Arc;

use kalamdb_store::codec::PrimaryKey;
use kalamdb_store::ids::{SegmentId, StorageId};
use kalamdb_store::object::DurableFileSystem;
use kalamdb_store::segment::*;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};

use crate::counting::{CountingStore, PutFault};
use crate::files::*;

const LOCAL: StorageId = StorageId::new(0);

fn some_file(rows: i64) -> SegmentFile {
    let keys: Vec<_> = (0..rows).map(PrimaryKey::from_i64).collect();
    let (fields, batch) = messages(&keys, false);
    file_of(&fields, &batch, &small())
}

fn some_path() -> String {
    format!("chat/x/{}", segment_file_name(SegmentId::new(1)))
}

#[tokio::test]
async fn a_file_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    for store in
        [Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, Arc::new(DurableFileSystem::new(folder.path()).unwrap())]
    {
        let world = World::over(store);
        let (file, other, path) = (some_file(10), some_file(11), some_path());
        world.segments.write(LOCAL, &path, &file).await.unwrap();
        world.segments.write(LOCAL, &path, &file).await.unwrap();
        let exists = SegmentError::Exists { file: path.clone() };
        assert_eq!(world.segments.write(LOCAL, &path, &other).await, Err(exists));
        let there = world.store.get(&Path::from(path.as_str())).await.unwrap().bytes().await.unwrap();
        assert_eq!(there, file.bytes);
        world.segments.delete(LOCAL, &path).await.unwrap();
        world.segments.delete(LOCAL, &path).await.unwrap();
        assert!(world.store.head(&Path::from(path.as_str())).await.is_err());
        assert!(world.segments.write(LOCAL, "a//b", &file).await.is_err());
    }
}

#[tokio::test]
async fn odd_storages_end_with_the_file_or_an_error() {
    let (file, path) = (some_file(10), some_path());
    for (fault, expected) in [
        (PutFault::AlreadyThere, Ok(())),
        (PutFault::NoConditions, Ok(())),
        (PutFault::Half, Err("damaged")),
        (PutFault::Full, Err("full")),
    ] {
        let store = Arc::new(CountingStore::over(Arc::new(InMemory::new())));
        store.fail_next_put(fault);
        let world = World::over(store);
        let written = world.segments.write(LOCAL, &path, &file).await;
        match (written, expected) {
            (Ok(()), Ok(())) => {
                let there = world.store.get(&Path::from(path.as_str())).await.unwrap().bytes().await.unwrap();
                assert_eq!(there, file.bytes);
            }
            (Err(error), Err(word)) => {
                assert!(error.to_string().contains(word) && error.to_string().contains(&path), "{fault:?}: {error}");
                assert_eq!(error.is_transient(), fault == PutFault::Full);
            }
            (written, _) => panic!("{fault:?}: {written:?}"),
        }
    }
}

#[test]
fn errors_of_storages_are_told_apart() {
    let generic = |kind: io::ErrorKind| Error::Generic { store: "test", source: Box::new(io::Error::from(kind)) };
    let source = || "because".into();
    let file = || "f".to_owned();
    let cases = [
        (generic(io::ErrorKind::StorageFull), "Full", true),
        (generic(io::ErrorKind::QuotaExceeded), "Full", true),
        (generic(io::ErrorKind::ReadOnlyFilesystem), "Denied", false),
        (generic(io::ErrorKind::ConnectionRefused), "Unreachable", true),
        (Error::Generic { store: "S3", source: "status code: 507 Insufficient Storage".into() }, "Full", true),
        (Error::Generic { store: "S3", source: "status code: 503 Slow Down".into() }, "Unreachable", true),
        (Error::Generic { store: "S3", source: source() }, "Other", true),
        (Error::NotFound { path: file(), source: source() }, "NotFound", false),
        (Error::PermissionDenied { path: file(), source: source() }, "Denied", false),
        (Error::Unauthenticated { path: file(), source: source() }, "Denied", false),
        (Error::AlreadyExists { path: file(), source: source() }, "Exists", false),
        (Error::NotSupported { source: source() }, "Other", true),
    ];
    for (error, name, transient) in cases {
        let seen = SegmentError::from_store(&error, "f");
        assert!(format!("{seen:?}").starts_with(name), "{error:?}: {seen:?}");
        assert_eq!(seen.is_transient(), transient, "{seen:?}");
    }
    let corrupt = SegmentError::Corrupt { file: file(), reason: "bits".to_owned() };
    assert_eq!(SegmentError::from_store(&corrupt.clone().into(), "g"), corrupt);
    let wrapped = parquet::errors::ParquetError::External(Box::new(Error::from(corrupt.clone())));
    let wrapped = arrow::error::ArrowError::ExternalError(Box::new(wrapped));
    assert_eq!(SegmentError::find(&wrapped), Some(&corrupt));
    assert_eq!(SegmentError::find(&io::Error::other("else")), None);
}
