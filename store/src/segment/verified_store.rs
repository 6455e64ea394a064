//! An object store that returns what was written, or an error.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::SegmentError;
use super::checksums::{CHECKSUM_BLOCK, Checksums, FileChecksums};

const BLOCK: u64 = CHECKSUM_BLOCK as u64;

/// The segment files of a storage, for reading. What is read is widened to whole blocks, and each block is compared
/// with its checksum; a difference is an error that carries [`SegmentError::Corrupt`](super::SegmentError::Corrupt),
/// which [`SegmentError::find`](super::SegmentError::find) finds again.
///
/// Nothing but segment files can be read through it, and nothing written, listed or deleted.
#[derive(Debug)]
pub struct VerifiedStore {
    inner: Arc<dyn ObjectStore>,
    checksums: Arc<Checksums>,
}

impl VerifiedStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, checksums: Arc<Checksums>) -> Self {
        Self { inner, checksums }
    }

    /// The file's size, asked of the storage once.
    async fn size(&self, location: &Path, checksums: &FileChecksums) -> Result<u64> {
        if let Some(size) = checksums.size() {
            return Ok(size);
        }
        let size = self.inner.head(location).await.map_err(|e| SegmentError::from_store(&e, location.as_ref()))?.size;
        checksums.check_size(location, size)?;
        Ok(size)
    }

    /// A read that failed because the file does not have the size it must have is damage, whatever the storage says.
    async fn explain(&self, location: &Path, checksums: &FileChecksums, error: Error) -> Error {
        if let Error::Generic { .. } = error
            && let Ok(meta) = self.inner.head(location).await
            && let Err(damage) = checksums.check_size(location, meta.size)
        {
            return damage.into();
        }
        SegmentError::from_store(&error, location.as_ref()).into()
    }
}

#[async_trait]
impl ObjectStore for VerifiedStore {
    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        if options.head {
            return self.inner.get_opts(location, options).await;
        }
        let checksums = self.checksums.of(location)?;
        let wanted = options.range.take();
        options.range = wanted.as_ref().map(widen);
        let failed = |error: Error| -> Error { SegmentError::from_store(&error, location.as_ref()).into() };
        let result = self.inner.get_opts(location, options).await.map_err(failed)?;
        let (meta, attributes, read) = (result.meta.clone(), result.attributes.clone(), result.range.clone());
        checksums.check_size(location, meta.size)?;
        let bytes = result.bytes().await.map_err(failed)?;
        // What is read from the end of the file need not begin where a block does.
        let start = read.start.next_multiple_of(BLOCK).min(read.end);
        let bytes = part(&bytes, read.start, &(start..read.start + bytes.len() as u64))?;
        checksums.verify(location, (start / BLOCK) as usize, &bytes)?;
        let range = match wanted {
            None => 0..meta.size,
            Some(wanted) => wanted.as_range(meta.size).map_err(|error| generic(error.to_string()))?,
        };
        let wanted = part(&bytes, start, &range)?;
        let payload = GetResultPayload::Stream(futures::stream::once(async move { Ok(wanted) }).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let checksums = self.checksums.of(location)?;
        let size = self.size(location, &checksums).await?;
        let blocks = covering_blocks(ranges, size);
        let read = match self.inner.get_ranges(location, &blocks).await {
            Ok(read) => read,
            Err(error) => return Err(self.explain(location, &checksums, error).await),
        };
        for (range, bytes) in blocks.iter().zip(&read) {
            checksums.verify(location, (range.start / BLOCK) as usize, bytes)?;
        }
        let wanted = ranges.iter().map(|range| {
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            let at = blocks.partition_point(|blocks| blocks.start <= range.start).saturating_sub(1);
            match (blocks.get(at), read.get(at)) {
                (Some(blocks), Some(bytes)) => part(bytes, blocks.start, range),
                _ => Ok(Bytes::new()),
            }
        });
        wanted.collect()
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(refused())
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(refused())
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { Err(refused()) }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures::stream::once(async { Err(refused()) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(refused())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused())
    }
}

impl fmt::Display for VerifiedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({})", self.inner)
    }
}

/// The range as whole blocks, as far as that is possible without knowing the file's size.
fn widen(range: &GetRange) -> GetRange {
    match range {
        GetRange::Bounded(range) => GetRange::Bounded(floor(range.start)..ceil(range.end)),
        GetRange::Offset(start) => GetRange::Offset(floor(*start)),
        GetRange::Suffix(len) => GetRange::Suffix(len.saturating_add(BLOCK)),
    }
}

/// The blocks that contain all of `ranges`, ascending; those that touch are one.
fn covering_blocks(ranges: &[Range<u64>], size: u64) -> Vec<Range<u64>> {
    let whole = |range: &Range<u64>| floor(range.start)..ceil(range.end).min(size);
    let mut wanted: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).map(whole).collect();
    wanted.sort_unstable_by_key(|range| range.start);
    let mut blocks: Vec<Range<u64>> = Vec::with_capacity(wanted.len());
    for range in wanted {
        match blocks.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => blocks.push(range),
        }
    }
    blocks
}

/// The bytes of `range`, from `bytes`, which begin at `start`.
fn part(bytes: &Bytes, start: u64, range: &Range<u64>) -> Result<Bytes> {
    let len = bytes.len() as u64;
    match (range.start.checked_sub(start), range.end.checked_sub(start)) {
        (Some(from), Some(to)) if from <= to && to <= len => Ok(bytes.slice(from as usize..to as usize)),
        _ => Err(generic(format!("bytes {} to {} were asked for, which are not there", range.start, range.end))),
    }
}

fn floor(at: u64) -> u64 {
    at / BLOCK * BLOCK
}

fn ceil(at: u64) -> u64 {
    at.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

fn generic(message: String) -> Error {
    Error::Generic { store: "segments", source: message.into() }
}

fn refused() -> Error {
    Error::NotSupported { source: "segment files can only be read here".into() }
}
