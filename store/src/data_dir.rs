//! The data directory: where it is, whose it is, and which format it has.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The format of data directories that this version writes, and the newest that it reads.
pub const DATA_FORMAT: u32 = 1;

const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const ROCKS_FOLDER: &str = "rocksdb";
const FORMAT_PREFIX: &str = "kalamdb data format ";

/// An open data directory. No other process can open it for as long as this value lives.
///
/// ```text
/// FORMAT     the text "kalamdb data format 1"
/// LOCK       locked while a process has the directory open; its content means nothing
/// rocksdb/   the key-value store
/// spill/     what queries write when their memory is full; nothing in it outlives the process
/// storage/   Parquet segments of tables that name no other place
/// token.key  the key of the server's access tokens
/// ```
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock is the operating system's and ends with the process, however that ends.
    _lock: File,
}

/// Why a data directory could not be opened. The texts are for the operator and name the path.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it open.
    #[error("the data directory {} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// It was written by a later version.
    #[error(
        "the data directory {} has format {found}, but this version reads formats up to {supported}: \
         start the version that wrote it, or a later one",
        path.display()
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that can be read.
        supported: u32,
    },
    /// It has files, but not those of a data directory.
    #[error("{} is not empty and is not a data directory: choose an empty or a new directory", path.display())]
    NotADataDir {
        /// The directory.
        path: PathBuf,
    },
    /// The file that names the format is damaged.
    #[error("{} does not name a format: restore it from a backup of the data directory", path.display())]
    BadFormatFile {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written to.
    #[error("the data directory {} cannot be written to: {source}", path.display())]
    Unwritable {
        /// The directory or file that could not be written.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Another operation on it failed.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    Io {
        /// The directory or file concerned.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl DataDir {
    /// Opens the data directory `path`, or makes one if there is none or it is empty, and locks it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataDirError> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(|error| failed(path, error))?;
        // A foreign directory is refused before anything, even the lock file, is written to it.
        if read_format(path)?.is_none() && has_foreign_files(path)? {
            return Err(DataDirError::NotADataDir { path: path.to_owned() });
        }
        let lock = lock(path)?;
        // Read again under the lock: another process can have made the directory meanwhile.
        match read_format(path)? {
            Some(DATA_FORMAT) => {}
            Some(found) => {
                return Err(DataDirError::NewerFormat { path: path.to_owned(), found, supported: DATA_FORMAT });
            }
            None => write_format(path)?,
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the key-value store.
    pub fn rocks_path(&self) -> PathBuf {
        self.path.join(ROCKS_FOLDER)
    }

    /// Bytes of all files in the directory. Files that vanish meanwhile are left out.
    pub fn size_bytes(&self) -> io::Result<u64> {
        folder_size_bytes(&self.path)
    }
}

fn folder_size_bytes(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let size = entry
            .metadata()
            .and_then(|metadata| if metadata.is_dir() { folder_size_bytes(&entry.path()) } else { Ok(metadata.len()) });
        match size {
            Ok(size) => total += size,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let file = path.join(LOCK_FILE);
    let lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&file);
    let lock = lock.map_err(|error| failed(&file, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DataDirError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(DataDirError::Io { path: file, source }),
    }
}

fn has_foreign_files(path: &Path) -> Result<bool, DataDirError> {
    let io = |source| DataDirError::Io { path: path.to_owned(), source };
    for entry in fs::read_dir(path).map_err(io)? {
        // The lock and the unfinished format file are what an interrupted first start leaves behind; a file system's
        // own folder is on many fresh volumes.
        let name = entry.map_err(io)?.file_name();
        if name != LOCK_FILE && name != unfinished_name().as_str() && name != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read_format(path: &Path) -> Result<Option<u32>, DataDirError> {
    let file = path.join(FORMAT_FILE);
    match fs::read_to_string(&file) {
        Ok(text) => {
            let number = text.trim_end().strip_prefix(FORMAT_PREFIX).and_then(|number| number.parse().ok());
            match number {
                Some(number) if number > 0 => Ok(Some(number)),
                _ => Err(DataDirError::BadFormatFile { path: file }),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(DataDirError::BadFormatFile { path: file }),
        Err(error) => Err(failed(&file, error)),
    }
}

/// Writes the format file so that after a crash it is there completely or not at all.
fn write_format(path: &Path) -> Result<(), DataDirError> {
    let unfinished = path.join(unfinished_name());
    let write = || -> io::Result<()> {
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{FORMAT_PREFIX}{DATA_FORMAT}")?;
        file.sync_all()?;
        fs::rename(&unfinished, path.join(FORMAT_FILE))?;
        File::open(path)?.sync_all()
    };
    write().map_err(|error| failed(path, error))
}

fn unfinished_name() -> String {
    format!("{FORMAT_FILE}.new")
}

fn failed(path: &Path, source: io::Error) -> DataDirError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull => {
            DataDirError::Unwritable { path, source }
        }
        _ => DataDirError::Io { path, source },
    }
}

#[cfg(test)]
mod tests;

/// Bytes that an unprivileged process can still write to the file system of `path`.
///
/// # Errors
/// When the file system does not say.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
