//! Which folders of the server a FILESYSTEM storage, an export or a backup can be in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::ObjectError;

/// The folders below which something can be. Symbolic links are followed before anything is compared.
#[derive(Debug, Clone)]
pub struct FolderRoots {
    roots: Vec<PathBuf>,
    /// The data directory, and the one folder in it that can be used.
    own: Option<(PathBuf, Option<PathBuf>)>,
    words: Words,
}

/// What error messages call it.
#[derive(Debug, Clone, Copy)]
struct Words {
    /// What is in the folders, one and many.
    one: &'static str,
    many: &'static str,
    /// The key of the configuration that has the roots.
    setting: &'static str,
}

impl Default for FolderRoots {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl FolderRoots {
    /// Storages below `roots`.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        let words = Words { one: "storage", many: "FILESYSTEM storages", setting: "storage.roots" };
        Self { roots, own: None, words }
    }

    /// The same roots for something else: one of it, many of it, and the key of the configuration that has the roots.
    #[must_use]
    pub fn for_others(mut self, one: &'static str, many: &'static str, setting: &'static str) -> Self {
        self.words = Words { one, many, setting };
        self
    }

    /// The same roots, with a data directory: of what is in it, only `folder` can be used, or nothing.
    #[must_use]
    pub fn with_data_dir(mut self, data_dir: PathBuf, folder: Option<PathBuf>) -> Self {
        self.own = Some((data_dir, folder));
        self
    }

    /// Whether `path` is below `folder`, or it, with symbolic links followed; what is missing of either is taken as it
    /// is. Blocks.
    pub fn is_below(path: &Path, folder: &Path) -> bool {
        let (Ok(path), Ok(folder)) = (resolved(path), resolved(folder)) else { return false };
        path.starts_with(folder)
    }

    /// The folder that `path` is, with symbolic links followed. Blocks.
    ///
    /// # Errors
    /// When it is not below the roots, or cannot be used.
    pub fn existing(&self, path: &Path) -> Result<PathBuf, ObjectError> {
        let real = fs::canonicalize(path).map_err(|error| self.words.unusable(&error))?;
        self.check(&real)?;
        if !real.is_dir() {
            return Err(self.words.no_folder());
        }
        Ok(real)
    }

    /// Makes the folder `path` and those above it that are missing, durably. Nothing is made outside the roots. Answers
    /// what it is with symbolic links followed. Blocks.
    ///
    /// # Errors
    /// When it is not below the roots, or cannot be made.
    pub fn make(&self, path: &Path) -> Result<PathBuf, ObjectError> {
        let unusable = |error: &io::Error| self.words.unusable(error);
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
        if let Some((data_dir, folder)) = &self.own
            && below(data_dir)
            && !folder.as_ref().is_some_and(below)
        {
            let of_it = match folder {
                Some(_) => "Of that, only the folder 'storage' is for storages.",
                None => "Choose a folder outside it.",
            };
            return Err(ObjectError::Invalid(format!("The path is in the server's data directory. {of_it}")));
        }
        if self.roots.iter().any(below) {
            return Ok(());
        }
        let Words { many, setting, .. } = self.words;
        Err(ObjectError::Invalid(format!(
            "The path is not below a folder that {many} are allowed in. Choose one below {setting}, or add its folder to that \
             setting."
        )))
    }
}

impl Words {
    fn unusable(self, error: &io::Error) -> ObjectError {
        let one = self.one;
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ObjectError::Denied(format!("The folder of the {one} cannot be used: {}.", error.kind()))
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ObjectError::Full(format!("The disk of the {one} is full."))
            }
            io::ErrorKind::NotADirectory => self.no_folder(),
            kind => ObjectError::Unreachable(format!("The folder of the {one} cannot be opened: {kind}.")),
        }
    }

    fn no_folder(self) -> ObjectError {
        ObjectError::Invalid(format!("The path of the {} is not a folder.", self.one))
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

#[cfg(test)]
mod tests;
