//! Which folders of the server a FILESYSTEM storage can be in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::ObjectError;

/// The folders below which FILESYSTEM storages can be. Symbolic links are followed before anything is compared.
#[derive(Debug, Clone, Default)]
pub struct FolderRoots {
    roots: Vec<PathBuf>,
    /// The data directory, and the one folder in it that is for storages.
    own: Option<(PathBuf, PathBuf)>,
}

impl FolderRoots {
    /// Storages below `roots`.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots, own: None }
    }

    /// The same roots, with a data directory: of what is in it, storages can be below `folder` only.
    #[must_use]
    pub fn with_data_dir(mut self, data_dir: PathBuf, folder: PathBuf) -> Self {
        self.own = Some((data_dir, folder));
        self
    }

    /// The folder that `path` is, with symbolic links followed.
    pub(super) fn existing(&self, path: &Path) -> Result<PathBuf, ObjectError> {
        let real = fs::canonicalize(path).map_err(|error| unusable(&error))?;
        self.check(&real)?;
        if !real.is_dir() {
            return Err(ObjectError::Invalid("The path of the storage is not a folder.".to_owned()));
        }
        Ok(real)
    }

    /// Makes the folder `path` and those above it that are missing, durably. Nothing is made outside the roots.
    pub(super) fn make(&self, path: &Path) -> Result<PathBuf, ObjectError> {
        let there = deepest_existing(path);
        let real = fs::canonicalize(there).map_err(|error| unusable(&error))?;
        let missing = path.strip_prefix(there).unwrap_or(Path::new(""));
        self.check(&real.join(missing))?;
        let mut folder = real;
        for name in missing {
            let inside = folder.join(name);
            match fs::create_dir(&inside) {
                Ok(()) => sync_folder(&folder).map_err(|error| unusable(&error))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unusable(&error)),
            }
            folder = inside;
        }
        // Once more: a link can have been put in the way meanwhile.
        self.existing(path)
    }

    fn check(&self, real: &Path) -> Result<(), ObjectError> {
        let below = |root: &PathBuf| resolved(root).is_ok_and(|root| real.starts_with(root));
        let outside = || {
            ObjectError::Invalid(
                "The path is not below a folder that FILESYSTEM storages are allowed in. Choose one below storage.roots, or \
                 add its folder to that setting."
                    .to_owned(),
            )
        };
        if let Some((data_dir, folder)) = &self.own
            && below(data_dir)
            && !below(folder)
        {
            return Err(ObjectError::Invalid(
                "The path is in the server's data directory. Of that, only the folder 'storage' is for storages."
                    .to_owned(),
            ));
        }
        if self.roots.iter().any(below) { Ok(()) } else { Err(outside()) }
    }
}

/// Makes a folder's entries durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A path with symbolic links followed; what is missing of it is taken as it is.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let there = deepest_existing(path);
    Ok(fs::canonicalize(there)?.join(path.strip_prefix(there).unwrap_or(Path::new(""))))
}

/// The deepest of a path's folders that exists, or is a link that leads nowhere.
fn deepest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| fs::symlink_metadata(ancestor).is_ok()).unwrap_or(Path::new("/"))
}

fn unusable(error: &io::Error) -> ObjectError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ObjectError::Denied(format!("The folder of the storage cannot be used: {}.", error.kind()))
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ObjectError::Full("The disk of the storage is full.".to_owned())
        }
        io::ErrorKind::NotADirectory => ObjectError::Invalid("The path of the storage is not a folder.".to_owned()),
        kind => ObjectError::Unreachable(format!("The folder of the storage cannot be opened: {kind}.")),
    }
}

#[cfg(test)]
mod tests;
