//! An object store that counts, and one that misbehaves.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::*;

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) requests: usize,
    pub(crate) bytes: u64,
}

/// Counts what is read. Puts can be made to fail once.
#[derive(Debug)]
pub(crate) struct CountingStore {
    inner: Arc<dyn ObjectStore>,
    cost: Mutex<Cost>,
    put_fault: Mutex<Option<PutFault>>,
}

/// What happens to the next put.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PutFault {
    /// It works, but the answer is lost and the client's own retry finds the file there.
    AlreadyThere,
    /// The storage knows no condition on puts.
    NoConditions,
    /// Half of the file arrives, and the storage says that all is well.
    Half,
    /// The storage is full.
    Full,
}

impl CountingStore {
    pub(crate) fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, cost: Mutex::default(), put_fault: Mutex::default() }
    }

    /// What was read since the last call.
    pub(crate) fn take(&self) -> Cost {
        std::mem::take(&mut self.cost.lock().unwrap())
    }

    pub(crate) fn fail_next_put(&self, fault: PutFault) {
        *self.put_fault.lock().unwrap() = Some(fault);
    }

    fn count(&self, bytes: u64) {
        let mut cost = self.cost.lock().unwrap();
        cost.requests += 1;
        cost.bytes += bytes;
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counting({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = self.put_fault.lock().unwrap().take();
        let generic = |source: std::io::Error| Error::Generic { store: "test", source: Box::new(source) };
        match fault {
            None => self.inner.put_opts(at, payload, options).await,
            Some(PutFault::AlreadyThere) => {
                self.inner.put_opts(at, payload, options).await?;
                Err(Error::AlreadyExists { path: at.to_string(), source: "precondition failed".into() })
            }
            Some(PutFault::NoConditions) => {
                Err(Error::NotImplemented { operation: "put with a condition".into(), implementer: "test".into() })
            }
            Some(PutFault::Half) => {
                let whole: Bytes = payload.into();
                self.inner.put_opts(at, whole.slice(..whole.len() / 2).into(), options).await
            }
            Some(PutFault::Full) => Err(generic(std::io::ErrorKind::StorageFull.into())),
        }
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(at, options).await?;
        self.count(result.range.end - result.range.start);
        Ok(result)
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.count(ranges.iter().map(|range| range.end - range.start).sum());
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
