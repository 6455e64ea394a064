//! Storages: the places of the cold tier's files, by name and by id.
//!
//! A storage is a name for a definition: a kind, a uri and credentials. Tables hold the *id* of the definition that was
//! the name's when they were created. ALTER STORAGE that changes the place makes a new definition under the same name,
//! which new tables get; the one it replaces stays for the tables that have it, retired. A change of the keys alone is
//! for every definition of the name at that place, so that expired keys can be replaced.
//!
//! ```text
//! name ──▶ current definition (id 7)        tables created now
//!          retired definition (id 3)        tables created before the ALTER, files not deleted yet
//! ```
//!
//! Definitions are in the key-value store. Credentials are sealed there, and neither logged nor answered.

mod change;
pub(crate) mod dml;
mod info;
mod place;
mod record;
mod target;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use arc_swap::ArcSwap;
use kalamdb_store::{
    codec::{
        GarbageFile, PendingFile, garbage_range, next_storage_id_key, pending_range, split_storage_key, storage_range,
    },
    commit::Committer,
    ids::StorageId,
    kv::{Direction, Keyspace, Snapshot},
    object::{DurableFileSystem, FolderRoots, ObjectError, SecretKey, StoreOpener, StoreSettings},
    segment::{SegmentError, SegmentStores},
};
use object_store::{ObjectStore, memory::InMemory};

use crate::{
    catalog::{Catalog, CatalogState, StorageName, did_you_mean, nearest},
    env::Env,
    error::{Error, Reason, Result},
    exec::{corrupt, from_store},
    jobs::JobHooks,
    sql::{Name, StorageKind, TableKind},
};

pub use info::StorageInfo;
use record::{Storage, StorageRecord};
pub(crate) use target::{OpenedFolder, Target, TargetPlace, TargetRoots, TargetUse};

/// The id of the built-in storage.
pub(crate) const LOCAL: StorageId = StorageId::new(0);
/// The name of the built-in storage.
pub(crate) const LOCAL_NAME: &str = "local";
/// The most definitions, retired ones among them.
const MAX_STORAGES: usize = 10_000;

/// The storages of an engine.
#[derive(Debug)]
pub(crate) struct Storages {
    state: ArcSwap<State>,
    opener: StoreOpener,
    secret_key: Option<SecretKey>,
    target_roots: TargetRoots,
    data_dir: Option<PathBuf>,
    catalog: Catalog,
    committer: Committer,
    env: Arc<dyn Env>,
    hooks: Arc<dyn JobHooks>,
}

/// What storages are made with.
pub(crate) struct StorageParts {
    /// The folder of the storage `local`; `None`: in memory.
    pub(crate) local: Option<PathBuf>,
    /// The data directory, of which other storages keep out.
    pub(crate) data_dir: Option<PathBuf>,
    /// Folders below which FILESYSTEM storages may be; empty: below `local` only.
    pub(crate) roots: Vec<PathBuf>,
    /// Folders below which exports and backups may be.
    pub(crate) target_roots: TargetRoots,
    pub(crate) settings: StoreSettings,
    pub(crate) secret_key: Option<SecretKey>,
    pub(crate) catalog: Catalog,
    pub(crate) committer: Committer,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) hooks: Arc<dyn JobHooks>,
}

/// Everything known at one moment.
#[derive(Debug, Clone)]
struct State {
    by_id: BTreeMap<StorageId, Arc<Storage>>,
    next_id: u32,
    /// Retired definitions that nothing needs any more: the next change removes their records.
    unneeded: Vec<StorageId>,
}

impl Storages {
    /// Loads the definitions. Opens none but `local`, whose folder it makes.
    ///
    /// # Errors
    /// INVALID_REQUEST with a text for the operator when the folder of `local` cannot be used; CORRUPTION.
    pub(crate) fn load(snapshot: &dyn Snapshot, parts: StorageParts) -> Result<Arc<Self>> {
        let StorageParts {
            local,
            data_dir,
            mut roots,
            target_roots,
            settings,
            secret_key,
            catalog,
            committer,
            env,
            hooks,
        } = parts;
        let (local_store, local_uri) = open_local(local.as_ref())?;
        if roots.is_empty() {
            roots.extend(local.clone());
        }
        let roots = FolderRoots::new(roots);
        let roots = match (data_dir.clone(), local) {
            (Some(data_dir), Some(local)) => roots.with_data_dir(data_dir, Some(local)),
            _ => roots,
        };
        let mut state = State { by_id: BTreeMap::new(), next_id: LOCAL.get() + 1, unneeded: Vec::new() };
        state.put(Storage::local(local_uri, local_store));
        let needed = needed_definitions(snapshot, &catalog.state())?;
        let mut cursor = snapshot.cursor(Keyspace::System, storage_range(), Direction::Forward).map_err(from_store)?;
        while cursor.valid() {
            let id = split_storage_key(cursor.key()).map_err(corrupt)?;
            let record: StorageRecord = serde_json::from_slice(cursor.value()).map_err(|e| {
                Error::new(Reason::Corruption, "The record of a storage cannot be read.").with_detail(e)
            })?;
            if record.retired && !needed.contains(&id) {
                state.unneeded.push(id);
            } else {
                state.put(Storage::from_record(record, secret_key.as_ref()));
            }
            cursor.advance().map_err(from_store)?;
        }
        drop(cursor);
        if let Some(next) = snapshot.get(Keyspace::System, &next_storage_id_key()).map_err(from_store)? {
            let next = next
                .as_slice()
                .try_into()
                .map_err(|_| Error::new(Reason::Corruption, "The record of the next storage's id cannot be read."))?;
            state.next_id = u32::from_be_bytes(next);
        }
        let opener = StoreOpener::new(roots, settings);
        let state = ArcSwap::from_pointee(state);
        Ok(Arc::new(Self { state, opener, secret_key, target_roots, data_dir, catalog, committer, env, hooks }))
    }

    /// The name of a definition's storage, for showing it.
    pub(crate) fn name_of(&self, id: StorageId) -> String {
        self.state.load().by_id.get(&id).map_or_else(|| format!("storage {id}"), |s| s.record.name.to_string())
    }

    /// The current definition of a name.
    ///
    /// # Errors
    /// STORAGE_NOT_FOUND, with the nearest name.
    pub(crate) fn resolve(&self, name: &Name) -> Result<StorageId> {
        let state = self.state.load();
        state.current(&name.text).map(|storage| storage.record.id).map_err(|e| at(e, name))
    }

    /// Checks that the storage of a definition was not dropped since it was [resolved](Storages::resolve). That it was
    /// altered matters to nobody who has the definition.
    ///
    /// # Errors
    /// STORAGE_NOT_FOUND.
    pub(crate) fn check_there(&self, id: StorageId) -> Result<()> {
        let state = self.state.load();
        let is_there = |storage: &Arc<Storage>| state.find(storage.record.name.as_str()).is_some();
        if state.by_id.get(&id).is_some_and(is_there) {
            return Ok(());
        }
        let name = self.name_of(id);
        let message = format!("Storage '{name}' was dropped meanwhile. Create it with CREATE STORAGE, and try again.");
        Err(Error::new(Reason::StorageNotFound, message).with("storage", name))
    }
}

impl SegmentStores for Storages {
    fn store(&self, id: StorageId) -> Result<Arc<dyn ObjectStore>, SegmentError> {
        let state = self.state.load();
        let storage = state.by_id.get(&id).ok_or(SegmentError::UnknownStorage(id))?;
        storage.open(&self.opener).map_err(|error| {
            let file = format!("storage {}", storage.record.name);
            let reason = error.to_string();
            match error {
                ObjectError::Invalid(_) | ObjectError::Denied(_) => SegmentError::Denied { file, reason },
                ObjectError::Full(_) => SegmentError::Full { file, reason },
                ObjectError::Unreachable(_) | ObjectError::Failed(_) => SegmentError::Unreachable { file, reason },
            }
        })
    }
}

impl State {
    fn put(&mut self, storage: Storage) {
        self.by_id.insert(storage.record.id, Arc::new(storage));
    }

    /// The current definition of each name.
    fn all_current(&self) -> impl Iterator<Item = &Arc<Storage>> {
        self.by_id.values().filter(|storage| !storage.record.retired)
    }

    /// The current definition of a name.
    fn find(&self, name: &str) -> Option<&Arc<Storage>> {
        self.all_current().find(|storage| storage.record.name.as_str() == name)
    }

    fn current(&self, name: &str) -> Result<&Arc<Storage>> {
        self.find(name).ok_or_else(|| {
            let near = nearest(name, self.all_current().map(|storage| storage.record.name.as_str()));
            let message =
                format!("Storage '{name}' does not exist. Create it first with CREATE STORAGE.{}", did_you_mean(near));
            let error = Error::new(Reason::StorageNotFound, message).with("storage", name);
            match near {
                Some(near) => error.with("nearest", near),
                None => error,
            }
        })
    }

    /// The tables, as `namespace.table`, that have a definition of this name, a retired one or the current.
    fn tables_of(&self, name: &StorageName, catalog: &CatalogState) -> Vec<String> {
        let of_name = |id| self.by_id.get(&id).is_some_and(|storage| storage.record.name == *name);
        catalog
            .all_tables()
            .filter(|table| table.kind() != TableKind::Stream && of_name(table.storage()))
            .map(|table| table.full_name())
            .collect()
    }
}

/// The definitions that a table has, or that a file is in which is still to be deleted.
fn needed_definitions(snapshot: &dyn Snapshot, catalog: &CatalogState) -> Result<HashSet<StorageId>> {
    let mut needed: HashSet<StorageId> = catalog.all_tables().map(|table| table.storage()).collect();
    let mut cursor = snapshot.cursor(Keyspace::System, pending_range(), Direction::Forward).map_err(from_store)?;
    while cursor.valid() {
        needed.insert(PendingFile::decode(cursor.value()).map_err(corrupt)?.storage);
        cursor.advance().map_err(from_store)?;
    }
    drop(cursor);
    let mut cursor = snapshot.cursor(Keyspace::System, garbage_range(), Direction::Forward).map_err(from_store)?;
    while cursor.valid() {
        needed.insert(GarbageFile::decode(cursor.value()).map_err(corrupt)?.storage);
        cursor.advance().map_err(from_store)?;
    }
    Ok(needed)
}

fn open_local(folder: Option<&PathBuf>) -> Result<(Arc<dyn ObjectStore>, String)> {
    let Some(folder) = folder else { return Ok((Arc::new(InMemory::new()), "memory:".to_owned())) };
    let unusable = |error: &dyn std::fmt::Display| {
        Error::new(Reason::InvalidRequest, format!("The folder {} cannot be used: {error}.", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(|e| unusable(&e))?;
    let uri = folder.canonicalize().map_err(|e| unusable(&e))?;
    let store = DurableFileSystem::new(folder).map_err(|e| unusable(&e))?;
    Ok((Arc::new(store), format!("file://{}", uri.display())))
}

/// Says what is wrong with a storage in the engine's terms.
fn from_object(error: ObjectError, name: &str) -> Error {
    let reason = match &error {
        ObjectError::Invalid(_) => Reason::InvalidStorage,
        ObjectError::Denied(_) => Reason::StorageDenied,
        ObjectError::Full(_) => Reason::DiskFull,
        ObjectError::Unreachable(_) | ObjectError::Failed(_) => Reason::StorageUnreachable,
    };
    Error::new(reason, error.to_string()).with("storage", name)
}

fn store_kind(kind: StorageKind) -> kalamdb_store::object::StoreKind {
    use kalamdb_store::object::StoreKind;
    match kind {
        StorageKind::Filesystem => StoreKind::FileSystem,
        StorageKind::S3 => StoreKind::S3,
        StorageKind::Gcs => StoreKind::Gcs,
        StorageKind::Azure => StoreKind::Azure,
    }
}

fn at(error: Error, name: &Name) -> Error {
    match name.position {
        Some(position) => error.at(position),
        None => error,
    }
}
