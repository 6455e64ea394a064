//! Checksums of segment files.
//!
//! A file has a CRC-32 for each 64 KiB, kept beside the manifest, not in the file: so every byte of it is covered, its
//! metadata included, and a file that was exchanged for another is noticed too.

use std::fmt;
use std::sync::{Arc, OnceLock};

use moka::sync::Cache;
use object_store::path::Path;

use super::{SegmentError, segment_of_path};
use crate::codec::{checksums_key, decode_checksums};
use crate::ids::SegmentId;
use crate::kv::{Keyspace, StorageBackend};

/// How many bytes of a file share a checksum. Part of the data format.
pub const CHECKSUM_BLOCK: usize = 64 * 1024;

/// The checksums of a file's blocks.
pub fn block_checksums(file: &[u8]) -> Vec<u32> {
    file.chunks(CHECKSUM_BLOCK).map(crc32fast::hash).collect()
}

/// What is known about the content of one file.
pub(super) struct FileChecksums {
    blocks: Vec<u32>,
    /// The file's size: only that of the last block does not follow from `blocks`.
    size: OnceLock<u64>,
}

impl FileChecksums {
    /// The file's size, if somebody has told it.
    pub(super) fn size(&self) -> Option<u64> {
        self.size.get().copied()
    }

    /// Takes note of the file's size, or fails if it is not the one that it must be.
    pub(super) fn check_size(&self, path: &Path, size: u64) -> Result<(), SegmentError> {
        let fits = size.div_ceil(CHECKSUM_BLOCK as u64) == self.blocks.len() as u64;
        if fits && *self.size.get_or_init(|| size) == size {
            return Ok(());
        }
        Err(corrupt(path, format!("it has {size} bytes, which is not the size that was written")))
    }

    /// Compares bytes of the file that begin at a block and end at one, or at the file's end.
    pub(super) fn verify(&self, path: &Path, first_block: usize, bytes: &[u8]) -> Result<(), SegmentError> {
        for (block, content) in bytes.chunks(CHECKSUM_BLOCK).enumerate() {
            let block = first_block + block;
            if self.blocks.get(block) != Some(&crc32fast::hash(content)) {
                let from = block as u64 * CHECKSUM_BLOCK as u64;
                let to = from + content.len() as u64;
                return Err(corrupt(
                    path,
                    format!("bytes {from} to {to} do not have the checksum they were written with"),
                ));
            }
        }
        Ok(())
    }
}

fn corrupt(path: &Path, reason: String) -> SegmentError {
    SegmentError::Corrupt { file: path.to_string(), reason }
}

/// The checksums of all files, cached.
pub(super) struct Checksums {
    backend: Arc<dyn StorageBackend>,
    cache: Cache<SegmentId, Arc<FileChecksums>>,
}

impl Checksums {
    pub(super) fn new(backend: Arc<dyn StorageBackend>, cache_bytes: u64) -> Self {
        let weigh = |_: &SegmentId, checksums: &Arc<FileChecksums>| {
            u32::try_from(checksums.blocks.len() * size_of::<u32>() + size_of::<FileChecksums>()).unwrap_or(u32::MAX)
        };
        Self { backend, cache: Cache::builder().max_capacity(cache_bytes).weigher(weigh).build() }
    }

    /// The checksums of the file at `path`.
    pub(super) fn of(&self, path: &Path) -> Result<Arc<FileChecksums>, SegmentError> {
        let segment =
            segment_of_path(path.as_ref()).ok_or_else(|| corrupt(path, "its name is not a segment's".to_owned()))?;
        if let Some(cached) = self.cache.get(&segment) {
            return Ok(cached);
        }
        let stored = self.backend.get(Keyspace::System, &checksums_key(segment))?;
        let stored = stored.ok_or_else(|| corrupt(path, "its checksums are not known".to_owned()))?;
        let checksums = Arc::new(FileChecksums { blocks: decode_checksums(&stored)?, size: OnceLock::new() });
        self.cache.insert(segment, checksums.clone());
        Ok(checksums)
    }

    /// Drops what is cached about a file.
    pub(super) fn forget(&self, segment: SegmentId) {
        self.cache.invalidate(&segment);
    }
}

impl fmt::Debug for Checksums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checksums").field("files", &self.cache.entry_count()).finish_non_exhaustive()
    }
}
