//! Storages that do not do what they are asked, as a test wants it.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use kalamdb_engine::JobHooks;
use kalamdb_store::{
    ids::StorageId,
    segment::{SegmentError, SegmentStores},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// What a storage is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Put,
    Get,
    Delete,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    /// An error, and no effect.
    Before,
    /// The effect, and an error.
    After,
    /// Half of what was to be written, and an error.
    Half,
    /// No space is left.
    Full,
    /// It is not allowed.
    Denied,
    /// No answer until the test lets go.
    Hold,
    /// An error, and the effect when the test lets go.
    Late,
}

type Plan = Box<dyn FnMut(Call, &str) -> Fault + Send>;

/// What goes wrong with the storages of an engine, from now on.
pub(crate) struct Faults {
    plan: Mutex<Plan>,
    stores: Mutex<Option<Arc<dyn SegmentStores>>>,
    calls: AtomicUsize,
    held: AtomicUsize,
    gate: Semaphore,
}

impl Faults {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            plan: Mutex::new(Box::new(|_, _| Fault::Nothing)),
            stores: Mutex::new(None),
            calls: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        })
    }

    /// What the engine is opened with.
    pub(crate) fn hooks(self: &Arc<Self>) -> Arc<dyn JobHooks> {
        Arc::new(Hooks(Arc::clone(self)))
    }

    /// Decides about every call, by its kind and path.
    pub(crate) fn plan(&self, plan: impl FnMut(Call, &str) -> Fault + Send + 'static) {
        *self.plan.lock() = Box::new(plan);
    }

    /// This fault for all calls of a kind.
    pub(crate) fn all(&self, kind: Call, fault: Fault) {
        self.plan(move |call, _| if call == kind { fault } else { Fault::Nothing });
    }

    /// This fault for the first calls of a kind.
    pub(crate) fn first(&self, mut count: usize, kind: Call, fault: Fault) {
        self.plan(move |call, _| {
            if call != kind || count == 0 {
                return Fault::Nothing;
            }
            count -= 1;
            fault
        });
    }

    /// From now on nothing goes wrong.
    pub(crate) fn none(&self) {
        self.plan(|_, _| Fault::Nothing);
    }

    /// How many calls had a fault so far.
    pub(crate) fn count(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Waits until so many calls are held.
    pub(crate) async fn until_held(&self, count: usize) {
        while self.held.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets so many go that are held or late; what goes wrong with others stays.
    pub(crate) fn release(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// Lets all go that are held, and holds none any more.
    pub(crate) fn let_go(&self) {
        self.none();
        self.gate.add_permits(10_000);
    }

    /// The paths of the files that are in the built-in storage, whatever goes wrong; sorted.
    pub(crate) async fn files(&self) -> Vec<String> {
        let stores = self.stores.lock().clone().expect("the engine is open");
        let store = stores.store(StorageId::new(0)).unwrap();
        let listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
        let mut files: Vec<String> = listed.into_iter().map(|file| file.location.to_string()).collect();
        files.sort();
        files
    }

    fn decide(&self, call: Call, path: &str) -> Fault {
        let fault = (self.plan.lock())(call, path);
        if fault != Fault::Nothing {
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        fault
    }

    async fn wait(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.gate.acquire().await.unwrap().forget();
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Hooks(Arc<Faults>);

impl JobHooks for Hooks {
    fn stores(&self, stores: Arc<dyn SegmentStores>) -> Arc<dyn SegmentStores> {
        *self.0.stores.lock() = Some(Arc::clone(&stores));
        Arc::new(FaultyStores { inner: stores, faults: Arc::clone(&self.0) })
    }
}

#[derive(Debug)]
struct FaultyStores {
    inner: Arc<dyn SegmentStores>,
    faults: Arc<Faults>,
}

impl SegmentStores for FaultyStores {
    fn store(&self, id: StorageId) -> Result<Arc<dyn ObjectStore>, SegmentError> {
        Ok(Arc::new(FaultyStore { inner: self.inner.store(id)?, faults: Arc::clone(&self.faults) }))
    }
}

#[derive(Debug)]
struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
}

impl FaultyStore {
    /// The error of a fault that strikes before anything is done.
    async fn before(&self, fault: Fault, path: &Path) -> Result<()> {
        match fault {
            Fault::Nothing | Fault::After | Fault::Half => Ok(()),
            Fault::Before => Err(generic("the connection was refused")),
            Fault::Late => Ok(()),
            Fault::Full => {
                let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
                Err(Error::Generic { store: "faulty", source: Box::new(full) })
            }
            Fault::Denied => Err(Error::PermissionDenied { path: path.to_string(), source: "denied".into() }),
            Fault::Hold => {
                self.faults.wait().await;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = self.faults.decide(Call::Put, location.as_ref());
        self.before(fault, location).await?;
        match fault {
            Fault::Half => {
                let bytes: Bytes = payload.into();
                self.inner.put_opts(location, bytes.slice(..bytes.len() / 2).into(), options).await?;
                Err(generic("the connection was closed in the middle"))
            }
            Fault::After => {
                self.inner.put_opts(location, payload, options).await?;
                Err(generic("the connection was closed at the end"))
            }
            Fault::Late => {
                let (inner, faults, location) = (Arc::clone(&self.inner), Arc::clone(&self.faults), location.clone());
                tokio::spawn(async move {
                    faults.wait().await;
                    inner.put_opts(&location, payload, options).await.unwrap();
                });
                Err(generic("no answer in time"))
            }
            _ => self.inner.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.faults.decide(Call::Get, location.as_ref());
        self.before(fault, location).await?;
        let result = self.inner.get_opts(location, options).await?;
        if matches!(fault, Fault::After | Fault::Half) { Err(generic("no answer")) } else { Ok(result) }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let fault = self.faults.decide(Call::Get, location.as_ref());
        self.before(fault, location).await?;
        let result = self.inner.get_ranges(location, ranges).await?;
        if matches!(fault, Fault::After | Fault::Half) { Err(generic("no answer")) } else { Ok(result) }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = Self { inner: Arc::clone(&self.inner), faults: Arc::clone(&self.faults) };
        let deleted = locations.then(move |location| {
            let store = Self { inner: Arc::clone(&store.inner), faults: Arc::clone(&store.faults) };
            async move {
                let location = location?;
                let fault = store.faults.decide(Call::Delete, location.as_ref());
                store.before(fault, &location).await?;
                store.inner.delete(&location).await?;
                if matches!(fault, Fault::After | Fault::Half) { Err(generic("no answer")) } else { Ok(location) }
            }
        });
        deleted.boxed()
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

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

fn generic(what: &str) -> Error {
    Error::Generic { store: "faulty", source: what.into() }
}
