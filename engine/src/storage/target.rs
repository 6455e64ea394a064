//! Places that statements name: the file of an export, the folder of a backup.
//!
//! ```text
//!  'daily/m.parquet'              below the first of the configured roots
//!  '/srv/out/m.parquet'           below any of them, or below a FILESYSTEM storage
//!  's3://bucket/out/m.parquet'    below the uri of a storage, opened with its credentials
//! ```
//!
//! Whoever acts for one user alone, as role user does and a service with `x-user-id`, writes below `users/<user>` of a
//! root and nowhere else; storages are for role dba and system. Symbolic links are followed before folders are compared,
//! and nothing is made outside of what is allowed.
//!
//! A place is [found](Storages::target) by its text alone, and [opened](TargetPlace::open_file) once the statement is known
//! to be right.

use std::{
    fmt, fs, io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use kalamdb_store::{
    ids::StorageId,
    object::{DurableFileSystem, FolderRoots, ObjectError, StoreKind, Trouble, canonical_uri, encode, summary},
};
use object_store::{
    ObjectStore, ObjectStoreExt,
    path::{Path, PathPart},
};
use serde::{Deserialize, Serialize};

use super::{LOCAL, LOCAL_NAME, Storages, from_object, store_kind};
use crate::{
    access::{Caller, Role},
    error::{Error, Reason, Result},
};

/// The folder of a root that has a folder for each user.
const USERS_FOLDER: &str = "users";
const MAX_PATH_BYTES: usize = 1_024;
const MAX_NAME_BYTES: usize = 200;

/// What a place is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetUse {
    /// EXPORT: a file that does not exist yet.
    Export,
    /// BACKUP, RESTORE and SHOW BACKUP: a folder.
    Backup,
}

/// The folders of the server that places can be in.
#[derive(Debug, Clone, Default)]
pub(crate) struct TargetRoots {
    pub(crate) export: Vec<PathBuf>,
    pub(crate) backup: Vec<PathBuf>,
}

/// A place that a caller may use. Nothing was opened or made yet.
pub(crate) struct TargetPlace {
    used_for: TargetUse,
    uri: String,
    at: At,
    storages: Arc<Storages>,
}

enum At {
    /// A path of the server, without `.` and `..`; the folders that it may be below, which must exist; and what of them
    /// such a caller may use.
    Folder { path: PathBuf, roots: Vec<PathBuf>, allowed: FolderRoots },
    /// An object of a storage that is no folder, and its path from the storage's uri.
    Storage { name: String, path: Path },
}

/// A place, opened.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// What it is in.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The file, or the folder, in it. A folder's can be empty.
    pub(crate) path: Path,
    /// What the store is made of.
    pub(crate) kind: StoreKind,
    /// The folder of the server that the store is, if it is one.
    pub(crate) folder: Option<PathBuf>,
    /// The folder that it must be below.
    root: Option<PathBuf>,
    uri: String,
}

/// A folder of the server that a place was opened as, so that it is found again whatever is configured by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenedFolder {
    /// With symbolic links followed.
    path: PathBuf,
    /// The folder that it had to be below. Where that is missing, its disk is not there.
    root: PathBuf,
}

impl Storages {
    /// The place that a statement of `caller` names, by its text.
    ///
    /// # Errors
    /// PATH_NOT_ALLOWED, STORAGE_NOT_FOUND, INVALID_STORAGE.
    pub(crate) fn target(self: &Arc<Self>, caller: &Caller, used_for: TargetUse, uri: &str) -> Result<TargetPlace> {
        if uri.len() > MAX_PATH_BYTES {
            return Err(used_for.not_allowed(format!("The path has more than {MAX_PATH_BYTES} bytes.")));
        }
        let of_user = used_for.is_for_one_user(caller).then(|| caller.effective_user().as_str());
        let (at, uri) = match uri.split_once("://") {
            None if !uri.starts_with('/') => (self.relative(used_for, of_user, uri)?, uri.to_owned()),
            None | Some(("file", _)) => self.absolute(caller, used_for, of_user, uri)?,
            Some(_) => self.in_bucket(caller, used_for, of_user, uri)?,
        };
        Ok(TargetPlace { used_for, uri, at, storages: Arc::clone(self) })
    }

    fn relative(&self, used_for: TargetUse, of_user: Option<&str>, text: &str) -> Result<At> {
        let Some(first) = self.target_roots.of(used_for).first() else {
            return Err(used_for.no_roots());
        };
        let text = text.strip_suffix('/').filter(|_| used_for == TargetUse::Backup).unwrap_or(text);
        text.split('/').try_for_each(check_name).map_err(|said| used_for.not_allowed(said))?;
        let path = users_folder(first, of_user).join(text);
        Ok(self.below_roots(used_for, of_user, path))
    }

    /// A path of the server: below a root or, for operators, below a FILESYSTEM storage.
    fn absolute(
        &self,
        caller: &Caller,
        used_for: TargetUse,
        of_user: Option<&str>,
        text: &str,
    ) -> Result<(At, String)> {
        let is_folder = text.ends_with('/');
        if is_folder && used_for == TargetUse::Export {
            return Err(used_for.names_no_file());
        }
        let uri = canonical_uri(text).map_err(|e| used_for.not_allowed(e.to_string()))?;
        let path = PathBuf::from(uri.strip_prefix("file://").unwrap_or(&uri));
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            check_name(name).map_err(|said| used_for.not_allowed(said))?;
        }
        let roots = self.target_roots.of(used_for);
        let is_below = |root: &PathBuf| path.starts_with(root);
        if !roots.iter().any(is_below)
            && may_use_storages(caller, of_user)
            && let Some((name, StoreKind::FileSystem, _)) = self.storage_of(&uri)?
        {
            let folder = self.state.load().find(&name).map(|storage| storage.record.uri.clone()).unwrap_or_default();
            let folder = PathBuf::from(folder.strip_prefix("file://").unwrap_or(&folder));
            let allowed = self.outside_data_dir(used_for, vec![folder.clone()]);
            return Ok((At::Folder { path, roots: vec![folder], allowed }, uri));
        }
        if roots.is_empty() {
            return Err(used_for.no_roots());
        }
        Ok((self.below_roots(used_for, of_user, path), uri))
    }

    /// A path below the configured folders, as far as such a caller may use them.
    fn below_roots(&self, used_for: TargetUse, of_user: Option<&str>, path: PathBuf) -> At {
        let roots = self.target_roots.of(used_for).to_vec();
        At::Folder { path, roots, allowed: self.allowed(used_for, of_user) }
    }

    fn in_bucket(
        &self,
        caller: &Caller,
        used_for: TargetUse,
        of_user: Option<&str>,
        text: &str,
    ) -> Result<(At, String)> {
        if text.ends_with('/') && used_for == TargetUse::Export {
            return Err(used_for.names_no_file());
        }
        let uri = canonical_uri(text).map_err(|e| used_for.not_allowed(e.to_string()))?;
        if !may_use_storages(caller, of_user) {
            let said = "Places in a storage are for roles dba and system, and not when acting for a user.";
            return Err(used_for.not_allowed(format!("{said} Name a path of the server.")));
        }
        let Some((name, _, behind)) = self.storage_of(&uri)? else {
            let scheme_end = uri.find("://").map_or(0, |at| at + 3);
            let bucket = uri[scheme_end..].find('/').map_or(uri.as_str(), |slash| &uri[..scheme_end + slash]);
            return Err(Error::new(
                Reason::StorageNotFound,
                format!(
                    "No storage has a uri that '{uri}' begins with. Create one first with CREATE STORAGE … URI '{bucket}' and \
                     its CREDENTIALS."
                ),
            )
            .with("uri", uri));
        };
        if behind.is_empty() && used_for == TargetUse::Export {
            return Err(used_for.names_no_file());
        }
        let path = Path::parse(&behind).map_err(|_| used_for.not_allowed("The path is not valid.".to_owned()))?;
        Ok((At::Storage { name, path }, uri))
    }

    /// The storage whose uri a uri begins with, and what comes behind it; of several the one with the longest.
    fn storage_of(&self, uri: &str) -> Result<Option<(String, StoreKind, String)>> {
        let state = self.state.load();
        let below = |of: &str| {
            let behind = uri.strip_prefix(of.strip_suffix('/').unwrap_or(of))?;
            (behind.is_empty() || behind.starts_with('/')).then(|| behind.trim_matches('/').to_owned())
        };
        let found = state
            .all_current()
            .filter_map(|storage| Some((storage, below(&storage.record.uri)?)))
            .max_by_key(|(storage, _)| (storage.record.uri.len(), storage.record.id));
        match found {
            Some((storage, _)) if storage.record.id == LOCAL => Err(Error::new(
                Reason::PathNotAllowed,
                format!(
                    "Storage '{LOCAL_NAME}' is in the data directory, with which everything in it would be lost. Choose a \
                     place outside it."
                ),
            )),
            Some((storage, behind)) => {
                let record = &storage.record;
                Ok(Some((record.name.to_string(), store_kind(record.kind), behind)))
            }
            None => Ok(None),
        }
    }

    /// The folders that such a caller may use.
    fn allowed(&self, used_for: TargetUse, of_user: Option<&str>) -> FolderRoots {
        let roots = self.target_roots.of(used_for);
        self.outside_data_dir(used_for, roots.iter().map(|root| users_folder(root, of_user)).collect())
    }

    fn outside_data_dir(&self, used_for: TargetUse, roots: Vec<PathBuf>) -> FolderRoots {
        let (one, many) = match used_for {
            TargetUse::Export => ("export", "exports"),
            TargetUse::Backup => ("backup", "backups"),
        };
        let roots = FolderRoots::new(roots).for_others(one, many, used_for.setting());
        match &self.data_dir {
            Some(data_dir) => roots.with_data_dir(data_dir.clone(), None),
            None => roots,
        }
    }

    /// Whether backups may still be written below what a folder had to be below. The configuration may have changed, or the
    /// database is a copy that is elsewhere.
    pub(crate) fn may_reopen(&self, opened: &OpenedFolder) -> bool {
        let uri = format!("file://{}", opened.root.display());
        let is_of_storage = || self.state.load().by_id.values().any(|storage| storage.record.uri == uri);
        self.target_roots.of(TargetUse::Backup).contains(&opened.root) || is_of_storage()
    }

    /// Opens a folder once more; nothing is made. `None`: it is gone.
    ///
    /// # Errors
    /// STORAGE_UNREACHABLE when its disk is not there, STORAGE_DENIED.
    pub(crate) async fn reopen(&self, uri: &str, opened: &OpenedFolder) -> Result<Option<Target>> {
        let OpenedFolder { path, root } = opened.clone();
        let found = tokio::task::spawn_blocking(move || {
            if !root.is_dir() {
                return Err(missing_root(&root));
            }
            let real = match fs::canonicalize(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                found => found.map_err(|error| not_opened(&error.kind()))?,
            };
            if real != path {
                return Err(not_opened(&"its path leads elsewhere now"));
            }
            let store = DurableFileSystem::new(&real).map_err(|error| not_opened(&summary(&error)))?;
            Ok(Some((store, real, root)))
        })
        .await;
        let found = found.map_err(Error::internal)?.map_err(|error| TargetUse::Backup.folder_error(error))?;
        Ok(found.map(|(store, folder, root)| {
            let store = self.hooks.target(Arc::new(store));
            Target::of_folder(store, Path::ROOT, folder, root, uri.to_owned())
        }))
    }

    /// The folder of the server that the files of a definition are in, if it is one.
    pub(crate) fn folder_of(&self, id: StorageId) -> Option<PathBuf> {
        let state = self.state.load();
        let uri = &state.by_id.get(&id)?.record.uri;
        uri.strip_prefix("file://").map(PathBuf::from)
    }

    /// The store of the current definition of a name, and what it is made of.
    fn open_named(&self, name: &str) -> Result<(Arc<dyn ObjectStore>, StoreKind)> {
        let state = self.state.load();
        let storage = state.current(name)?;
        let store = storage.open(&self.opener).map_err(|e| from_object(e, name))?;
        Ok((store, store_kind(storage.record.kind)))
    }
}

impl TargetPlace {
    /// The place as it is shown: a relative path as it was written, a uri always written in the same way.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// The last part of the path, such as `messages.parquet`.
    pub(crate) fn file_name(&self) -> &str {
        self.uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    /// Opens the place of a file; makes the folder that it is in.
    ///
    /// # Errors
    /// PATH_NOT_ALLOWED, STORAGE_UNREACHABLE, STORAGE_DENIED, DISK_FULL.
    pub(crate) async fn open_file(&self) -> Result<Target> {
        let Some((folder, name)) = self.folder_and_name() else { return self.open_storage().await };
        let path = Path::parse(name).map_err(Error::internal)?;
        self.open_path(folder, path, true).await
    }

    /// Opens the place of a folder; makes it where it is missing, if `make`.
    ///
    /// # Errors
    /// As [`TargetPlace::open_file`].
    pub(crate) async fn open_folder(&self, make: bool) -> Result<Target> {
        let At::Folder { path, .. } = &self.at else { return self.open_storage().await };
        self.open_path(path.clone(), Path::ROOT, make).await
    }

    fn folder_and_name(&self) -> Option<(PathBuf, String)> {
        let At::Folder { path, .. } = &self.at else { return None };
        let name = path.file_name()?.to_str()?.to_owned();
        Some((path.parent().unwrap_or(FilePath::new("/")).to_owned(), name))
    }

    async fn open_storage(&self) -> Result<Target> {
        let At::Storage { name, path } = &self.at else {
            return Err(self.used_for.names_no_file());
        };
        let (storages, named) = (Arc::clone(&self.storages), name.clone());
        let opened = tokio::task::spawn_blocking(move || storages.open_named(&named)).await;
        let (store, kind) = opened.map_err(Error::internal)??;
        let store = self.storages.hooks.target(store);
        Ok(Target { store, path: path.clone(), kind, folder: None, root: None, uri: self.uri.clone() })
    }

    /// A folder of the server as a store that is rooted at it, and `path` in it. Folders are made and synced: not on a
    /// thread that serves calls.
    async fn open_path(&self, folder: PathBuf, path: Path, make: bool) -> Result<Target> {
        let At::Folder { allowed, roots, .. } = &self.at else {
            return Err(Error::internal("a folder in a place that is none"));
        };
        let (allowed, roots) = (allowed.clone(), roots.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let is_above = |root: &&PathBuf| folder.starts_with(root) || FolderRoots::is_below(&folder, root);
            // A root that is missing is not made: its disk is not there.
            if let Some(root) = roots.iter().filter(is_above).find(|root| !root.is_dir()) {
                return Err(missing_root(root));
            }
            let root = roots.iter().find(is_above).unwrap_or(&folder).clone();
            let folder = if make { allowed.make(&folder)? } else { allowed.existing(&folder)? };
            let store = DurableFileSystem::new(&folder).map_err(|error| not_opened(&summary(&error)))?;
            Ok((store, folder, root))
        })
        .await;
        let opened = opened.map_err(Error::internal)?;
        let (store, folder, root) = opened.map_err(|error| self.used_for.folder_error(error))?;
        let store = self.storages.hooks.target(Arc::new(store));
        Ok(Target::of_folder(store, path, folder, root, self.uri.clone()))
    }
}

impl Target {
    fn of_folder(store: Arc<dyn ObjectStore>, path: Path, folder: PathBuf, root: PathBuf, uri: String) -> Self {
        Self { store, path, kind: StoreKind::FileSystem, folder: Some(folder), root: Some(root), uri }
    }

    /// The place as it is shown.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// The folder of the server that the store is, for [`Storages::reopen`].
    pub(crate) fn opened(&self) -> Option<OpenedFolder> {
        let (path, root) = self.folder.clone().zip(self.root.clone())?;
        Some(OpenedFolder { path, root })
    }

    /// Whether there is an object at `path` of its store.
    ///
    /// # Errors
    /// As [`Target::failed`].
    pub(crate) async fn exists(&self, path: &Path) -> Result<bool> {
        match self.store.head(path).await {
            Ok(_) => Ok(true),
            Err(error) if Trouble::of(&error) == Trouble::Missing => Ok(false),
            Err(error) => Err(self.failed("look for a file", &error)),
        }
    }

    /// Says what is wrong with the place, from what its store answered while it was asked to do `what`, such as
    /// `write a file`.
    pub(crate) fn failed(&self, what: &str, error: &object_store::Error) -> Error {
        let (reason, remedy) = match Trouble::of(error) {
            Trouble::Denied => (Reason::StorageDenied, "Check the rights and credentials of the server."),
            Trouble::Full => (Reason::DiskFull, "Free some room and try again."),
            Trouble::Unreachable => (Reason::StorageUnreachable, "Try again later."),
            Trouble::Missing | Trouble::Unsupported | Trouble::Elsewhere | Trouble::Other => {
                (Reason::StorageUnreachable, "Check the place, and try again.")
            }
        };
        let message = format!("Cannot {what} at '{}': {}. {remedy}", self.uri, summary(error));
        Error::new(reason, message).with("uri", &self.uri).with_detail(error)
    }
}

impl TargetRoots {
    fn of(&self, used_for: TargetUse) -> &[PathBuf] {
        match used_for {
            TargetUse::Export => &self.export,
            TargetUse::Backup => &self.backup,
        }
    }
}

impl TargetUse {
    /// The key of the configuration that has its roots.
    fn setting(self) -> &'static str {
        match self {
            TargetUse::Export => "paths.export_roots",
            TargetUse::Backup => "paths.backup_roots",
        }
    }

    /// Whether a caller keeps to the folder of one user. Backups are of namespaces, whoever is acted for.
    fn is_for_one_user(self, caller: &Caller) -> bool {
        self == TargetUse::Export && (caller.role < Role::Service || caller.acting_as.is_some())
    }

    fn no_roots(self) -> Error {
        let setting = self.setting();
        self.not_allowed(format!(
            "The server has no folder for this: set {setting} to a list of folders, such as [\"/srv/kalamdb\"], and restart it."
        ))
    }

    fn names_no_file(self) -> Error {
        self.not_allowed("The path names a folder. Add the name of a file, such as messages.parquet.".to_owned())
    }

    fn not_allowed(self, message: String) -> Error {
        Error::new(Reason::PathNotAllowed, message).with("setting", self.setting())
    }

    fn folder_error(self, error: ObjectError) -> Error {
        let reason = match &error {
            ObjectError::Invalid(_) => Reason::PathNotAllowed,
            ObjectError::Denied(_) => Reason::StorageDenied,
            ObjectError::Full(_) => Reason::DiskFull,
            ObjectError::Unreachable(_) | ObjectError::Failed(_) => Reason::StorageUnreachable,
        };
        Error::new(reason, error.to_string()).with("setting", self.setting())
    }
}

fn may_use_storages(caller: &Caller, of_user: Option<&str>) -> bool {
    caller.role >= Role::Dba && of_user.is_none()
}

fn users_folder(root: &FilePath, of_user: Option<&str>) -> PathBuf {
    match of_user {
        Some(user) => root.join(USERS_FOLDER).join(encode(user)),
        None => root.to_owned(),
    }
}

fn missing_root(root: &FilePath) -> ObjectError {
    tracing::warn!(folder = %root.display(), "a folder of the configuration, or of a storage, is missing");
    let said = "The folder of the server that it is below does not exist. The operator has to create or mount it.";
    ObjectError::Unreachable(said.to_owned())
}

fn not_opened(why: &dyn fmt::Display) -> ObjectError {
    ObjectError::Unreachable(format!("The folder cannot be opened: {why}."))
}

/// Whether a part of a path can be a name in every file system and object store. A leading dot is for files that are
/// being made.
fn check_name(name: &str) -> Result<(), String> {
    let plain = !name.is_empty() && PathPart::from(name).as_ref() == name && !name.contains(':');
    if plain && !name.starts_with('.') && name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(format!(
        "The path has an empty part, one that begins with '.', one of more than {MAX_NAME_BYTES} bytes, or a character that \
         object stores advise against. Use letters, digits, '-', '_' and '.' between slashes."
    ))
}

/// Shown without what could tell of the server's folders.
impl fmt::Debug for TargetPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetPlace").field("used_for", &self.used_for).field("uri", &self.uri).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
