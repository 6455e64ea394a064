//! The segment files of a process.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::checksums::Checksums;
use super::reader::location;
use super::{SegmentError, SegmentFile, SegmentReader, VerifiedStore};
use crate::codec::SegmentEntry;
use crate::ids::{SegmentId, StorageId};
use crate::kv::StorageBackend;
use crate::object::Trouble;

/// The storages by their ids.
pub trait SegmentStores: Send + Sync + fmt::Debug {
    /// The object store whose root is the storage's.
    fn store(&self, id: StorageId) -> Result<Arc<dyn ObjectStore>, SegmentError>;
}

/// How much memory [`Segments`] may keep.
#[derive(Debug, Clone)]
pub struct SegmentSettings {
    /// The most bytes of open segments: their footers, page indexes and bloom filters.
    pub reader_cache_bytes: u64,
    /// The most bytes of checksums; a file of 64 MiB has 4 KiB of them.
    pub checksum_cache_bytes: u64,
}

impl Default for SegmentSettings {
    fn default() -> Self {
        Self { reader_cache_bytes: 64 << 20, checksum_cache_bytes: 8 << 20 }
    }
}

/// Access to segment files, with what is worth keeping in memory about them. One for a process.
pub struct Segments {
    stores: Arc<dyn SegmentStores>,
    checksums: Arc<Checksums>,
    readers: Cache<SegmentId, Arc<SegmentReader>>,
    /// The segments that are being opened, so that callers in a hurry do not read the same footer many times.
    opening: Mutex<HashMap<SegmentId, Arc<OnceCell<Arc<SegmentReader>>>>>,
}

impl Segments {
    /// The segments whose checksums are in `backend` and whose files are in `stores`.
    pub fn new(backend: Arc<dyn StorageBackend>, stores: Arc<dyn SegmentStores>, settings: SegmentSettings) -> Self {
        let weigh =
            |_: &SegmentId, reader: &Arc<SegmentReader>| u32::try_from(reader.memory_bytes()).unwrap_or(u32::MAX);
        Self {
            stores,
            checksums: Arc::new(Checksums::new(backend, settings.checksum_cache_bytes)),
            readers: Cache::builder().max_capacity(settings.reader_cache_bytes).weigher(weigh).build(),
            opening: Mutex::new(HashMap::new()),
        }
    }

    /// A reader of the segment. From the cache, or after one read of its file, mostly.
    pub async fn open(&self, entry: &SegmentEntry) -> Result<Arc<SegmentReader>, SegmentError> {
        if let Some(reader) = self.readers.get(&entry.id) {
            return Ok(reader);
        }
        let opening = Opening::of(self, entry.id);
        let read = async {
            let path = location(&entry.path)?;
            self.checksums.of(&path)?.check_size(&path, entry.file_bytes)?;
            let store = self.verified_store(entry.storage)?;
            let reader = Arc::new(SegmentReader::open(entry.clone(), store).await?);
            self.readers.insert(entry.id, reader.clone());
            Ok(reader)
        };
        opening.cell.get_or_try_init(|| read).await.cloned()
    }

    /// The files of a storage, for DataFusion: an object store that verifies what it reads.
    pub fn verified_store(&self, id: StorageId) -> Result<Arc<dyn ObjectStore>, SegmentError> {
        Ok(Arc::new(VerifiedStore::new(self.stores.store(id)?, self.checksums.clone())))
    }

    /// Writes a file that is not there yet. When it returns `Ok`, the storage has the whole file, and a
    /// [`DurableFileSystem`](crate::object::DurableFileSystem) has it on disk.
    ///
    /// It may be called again after an error: a file that is there already, with the same content, is good.
    pub async fn write(&self, storage: StorageId, path: &str, file: &SegmentFile) -> Result<(), SegmentError> {
        self.write_bytes(storage, path, file.bytes.clone()).await
    }

    /// The same as [`Segments::write`], of a file that was made before, such as one of a backup.
    pub async fn write_bytes(&self, storage: StorageId, path: &str, bytes: Bytes) -> Result<(), SegmentError> {
        let (store, location) = (self.stores.store(storage)?, location(path)?);
        let failed = |error: Error| SegmentError::from_store(&error, path);
        let create = PutOptions::from(PutMode::Create);
        match store.put_opts(&location, bytes.clone().into(), create).await {
            Ok(_) => {}
            // An earlier attempt may have had its effect without our hearing of it.
            Err(Error::AlreadyExists { .. }) => {
                let there = store.get(&location).await.map_err(failed)?.bytes().await.map_err(failed)?;
                if there != bytes {
                    return Err(SegmentError::Exists { file: path.to_owned() });
                }
            }
            // Some storages cannot refuse to replace a file. Names are never used twice, so it is only a precaution.
            Err(error) if Trouble::of(&error) == Trouble::Unsupported => {
                store.put(&location, bytes.clone().into()).await.map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let size = store.head(&location).await.map_err(failed)?.size;
        if size == bytes.len() as u64 {
            return Ok(());
        }
        let reason = format!("{size} of {} bytes arrived in its storage", bytes.len());
        Err(SegmentError::Corrupt { file: path.to_owned(), reason })
    }

    /// The whole file of a segment, verified.
    pub async fn read_file(&self, entry: &SegmentEntry) -> Result<Bytes, SegmentError> {
        let path = location(&entry.path)?;
        self.checksums.of(&path)?.check_size(&path, entry.file_bytes)?;
        let failed = |error: Error| SegmentError::from_store(&error, &entry.path);
        self.verified_store(entry.storage)?.get(&path).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    /// Deletes a file. That there is none is fine.
    pub async fn delete(&self, storage: StorageId, path: &str) -> Result<(), SegmentError> {
        if let Some(segment) = super::segment_of_path(path) {
            self.forget(segment);
        }
        match self.stores.store(storage)?.delete(&location(path)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(SegmentError::from_store(&error, path)),
        }
    }

    /// Drops what is cached about a segment.
    pub fn forget(&self, segment: SegmentId) {
        self.readers.invalidate(&segment);
        self.checksums.forget(segment);
    }
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments").field("open", &self.readers.entry_count()).finish_non_exhaustive()
    }
}

/// A caller's part in opening a segment. The last one to leave removes the common cell, however it leaves.
struct Opening<'a> {
    segments: &'a Segments,
    segment: SegmentId,
    cell: Arc<OnceCell<Arc<SegmentReader>>>,
}

impl<'a> Opening<'a> {
    fn of(segments: &'a Segments, segment: SegmentId) -> Self {
        let cell = segments.opening.lock().entry(segment).or_default().clone();
        Self { segments, segment, cell }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut opening = self.segments.opening.lock();
        // Clones are only made under this lock: two are the one in the map and this.
        if Arc::strong_count(&self.cell) <= 2 {
            opening.remove(&self.segment);
        }
    }
}
