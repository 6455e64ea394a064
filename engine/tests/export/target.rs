//! A place of exports that fails, or waits, as a test wants it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, stream::BoxStream};
use kalamdb_engine::{JobHooks, JobStep};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart, path::Path,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Look,
    Begin,
    Part,
    Complete,
    Rename,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Full,
    Denied,
    /// No answer until the test lets go.
    Hold,
}

/// What is called at a step of a job.
type AtStep = Box<dyn Fn(JobStep) -> Result<(), String> + Send + Sync>;

/// Decides what goes wrong.
pub(crate) struct Faults {
    at: Mutex<Option<(Step, Fault)>>,
    held: AtomicUsize,
    gate: Semaphore,
    at_step: Mutex<Option<AtStep>>,
}

impl Faults {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            at: Mutex::new(None),
            held: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            at_step: Mutex::new(None),
        })
    }

    pub(crate) fn set(&self, step: Step, fault: Fault) {
        *self.at.lock() = Some((step, fault));
    }

    pub(crate) fn none(&self) {
        *self.at.lock() = None;
        self.gate.add_permits(1_000);
    }

    pub(crate) fn at_step(&self, act: impl Fn(JobStep) -> Result<(), String> + Send + Sync + 'static) {
        *self.at_step.lock() = Some(Box::new(act));
    }

    /// Waits until so many steps are held.
    pub(crate) async fn until_held(&self, count: usize) {
        let holding = async {
            while self.held.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), holding).await.expect("a step is held");
    }

    async fn meet(&self, step: Step) -> Result<()> {
        let fault = self.at.lock().filter(|(at, _)| *at == step).map(|(_, fault)| fault);
        let failed =
            |kind: std::io::ErrorKind| Error::Generic { store: "test", source: std::io::Error::from(kind).into() };
        match fault {
            None => Ok(()),
            Some(Fault::Full) => Err(failed(std::io::ErrorKind::StorageFull)),
            Some(Fault::Denied) => {
                let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied).into();
                Err(Error::PermissionDenied { path: "somewhere".to_owned(), source })
            }
            Some(Fault::Hold) => {
                self.held.fetch_add(1, Ordering::Relaxed);
                self.gate.acquire().await.expect("the gate stays").forget();
                Ok(())
            }
        }
    }
}

/// What the engine is opened with.
#[derive(Clone)]
pub(crate) struct Hooks(pub(crate) Arc<Faults>);

impl JobHooks for Hooks {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        self.0.at_step.lock().as_ref().map_or(Ok(()), |act| act(step))
    }

    fn target(&self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Faulty { inner: store, faults: Arc::clone(&self.0) })
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.faults.meet(Step::Part).await?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.faults.meet(Step::Begin).await?;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(FaultyUpload { inner, faults: Arc::clone(&self.faults) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.faults.meet(Step::Look).await?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
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

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.faults.meet(Step::Rename).await?;
        self.inner.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Arc<Faults>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (faults, part) = (Arc::clone(&self.faults), self.inner.put_part(data));
        async move {
            faults.meet(Step::Part).await?;
            part.await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.faults.meet(Step::Complete).await?;
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
