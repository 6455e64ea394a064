use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutPayload,
    PutResult, Result,
};

use super::*;

/// A store in memory with one fault.
#[derive(Debug)]
struct Faulty {
    inner: Arc<InMemory>,
    fault: Fault,
    created: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NoConditionalPut,
    Denied,
    Forgetful,
    Hidden,
    Garbled,
    Silent,
}

fn denied(path: &Path) -> Error {
    Error::PermissionDenied { path: path.to_string(), source: "no".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if opts.mode == PutMode::Create {
            self.created.store(true, Ordering::SeqCst);
            if self.fault == Fault::NoConditionalPut {
                return Err(Error::NotImplemented { operation: "create".into(), implementer: "this".into() });
            }
        }
        match self.fault {
            Fault::Denied => Err(denied(location)),
            Fault::Forgetful => Ok(PutResult { e_tag: None, version: None }),
            Fault::Garbled => self.inner.put(location, Bytes::from_static(b"something else altogether").into()).await,
            Fault::Silent => std::future::pending().await,
            _ => self.inner.put_opts(location, payload, opts).await,
        }
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(denied(location))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.fault == Fault::Hidden {
            return Box::pin(futures::stream::empty());
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(denied(from))
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

async fn check(fault: Fault) -> (std::result::Result<(), ObjectError>, usize, bool) {
    let inner = Arc::new(InMemory::new());
    let store = Faulty { inner: Arc::clone(&inner), fault, created: AtomicBool::new(false) };
    let outcome = check_access(&store, StoreKind::S3, 7, Duration::from_millis(500)).await;
    let left: Vec<_> = inner.list(None).try_collect().await.unwrap();
    (outcome, left.len(), store.created.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_sound_store_passes_and_keeps_nothing() {
    assert_eq!(check(Fault::None).await, (Ok(()), 0, true));
    assert_eq!(check(Fault::NoConditionalPut).await, (Ok(()), 0, true));
}

#[tokio::test]
async fn a_fault_is_named_and_nothing_stays() {
    for (fault, said) in [
        (Fault::Denied, "refuses: an object could not be written"),
        (Fault::Forgetful, "could not be read"),
        (Fault::Hidden, "could not be listed"),
        (Fault::Garbled, "does not answer with what was written"),
        (Fault::Silent, "did not answer within"),
    ] {
        let (outcome, left, _) = check(fault).await;
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(said), "{fault:?}: {error}");
        assert_eq!(left, 0, "{fault:?}");
    }
}
