//! Files as objects, durable when they are acknowledged.
//!
//! object_store's own file system leaves it to the operating system when a written file reaches the disk. The rows that
//! a flush has put into a file leave the hot tier after it: so here a file and the folders that lead to it are synced
//! before its PUT is acknowledged, and a folder that lost a file before its DELETE is. A new file is written under its
//! own name at once. After a crash it can be there in part, but never beside it under another name: whoever asked for
//! it knows where to look.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;

use super::folders::sync_folder;

/// How many folders are remembered as durable before all are forgotten.
const MAX_REMEMBERED_FOLDERS: usize = 65_536;
/// How often a file is tried to be made whose folder an emptying delete keeps removing.
const MAX_ATTEMPTS: usize = 16;
/// How many files are deleted at a time.
const CONCURRENT_DELETES: usize = 4;

/// A folder of the file system as an object store. A folder that loses its last file is removed.
#[derive(Debug, Clone)]
pub struct DurableFileSystem {
    inner: LocalFileSystem,
    folders: Arc<Folders>,
}

impl DurableFileSystem {
    /// The folder `root`, which exists.
    ///
    /// # Errors
    /// When it does not.
    pub fn new(root: impl AsRef<FilePath>) -> Result<Self> {
        let inner = LocalFileSystem::new_with_prefix(&root)?;
        let root = fs::canonicalize(root).map_err(|source| failed(&Path::ROOT, source))?;
        Ok(Self { inner, folders: Arc::new(Folders { root, durable: Mutex::default() }) })
    }

    /// The file of an object.
    fn file(&self, location: &Path) -> Result<PathBuf> {
        self.inner.path_to_filesystem(location)
    }

    async fn on_disk(
        &self,
        location: &Path,
        work: impl FnOnce(&Folders, &FilePath) -> io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let (folders, file) = (Arc::clone(&self.folders), self.file(location)?);
        let done = tokio::task::spawn_blocking(move || work(&folders, &file)).await?;
        done.map_err(|source| failed(location, source))
    }

    /// Makes a file that was written by other means durable.
    async fn sync(&self, location: &Path) -> Result<()> {
        let generation = self.folders.generation();
        self.on_disk(location, move |folders, file| {
            File::open(file)?.sync_all()?;
            folders.sync(file, generation)
        })
        .await
    }
}

#[async_trait]
impl ObjectStore for DurableFileSystem {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if opts.mode != PutMode::Create || !opts.attributes.is_empty() {
            let answer = self.inner.put_opts(location, payload, opts).await?;
            self.sync(location).await?;
            return Ok(answer);
        }
        self.on_disk(location, move |folders, file| folders.create(file, &payload)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload { inner, store: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.on_disk(&location, |folders, file| folders.delete(file)).await?;
                    Ok(location)
                }
            })
            .buffered(CONCURRENT_DELETES)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.folders.forget(&self.file(from)?);
        self.inner.rename_opts(from, to, options).await?;
        self.sync(to).await?;
        self.on_disk(from, |folders, file| folders.sync_where_it_was(file)).await
    }
}

impl fmt::Display for DurableFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DurableFileSystem")
    }
}

/// An upload in parts whose file is durable when it is completed.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    store: DurableFileSystem,
    location: Path,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let answer = self.inner.complete().await?;
        self.store.sync(&self.location).await?;
        Ok(answer)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// The folders below a root, and what is known of them.
#[derive(Debug)]
struct Folders {
    root: PathBuf,
    durable: Mutex<Durable>,
}

/// Folders whose own entries, up to the root, are on disk.
#[derive(Debug, Default)]
struct Durable {
    folders: HashSet<PathBuf>,
    /// Goes up with each delete, which can remove folders: what was found out before is not noted after it.
    generation: u64,
}

impl Folders {
    fn generation(&self) -> u64 {
        self.durable.lock().generation
    }

    fn create(&self, file: &FilePath, payload: &PutPayload) -> io::Result<()> {
        let generation = self.generation();
        let mut new = self.create_empty(file)?;
        let written = payload.iter().try_for_each(|chunk| new.write_all(chunk)).and_then(|()| new.sync_all());
        written.and_then(|()| self.sync(file, generation)).inspect_err(|_| {
            // It is nobody's: nobody was told of it.
            let _ = fs::remove_file(file);
        })
    }

    fn create_empty(&self, file: &FilePath) -> io::Result<File> {
        for _ in 0..MAX_ATTEMPTS {
            match OpenOptions::new().write(true).create_new(true).open(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Never the root itself: where it is missing, its disk is not there.
                    sync_folder(&self.root)?;
                    match fs::create_dir_all(file.parent().unwrap_or(&self.root)) {
                        // An emptying delete removed one of them meanwhile.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        outcome => outcome?,
                    }
                }
                outcome => return outcome,
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Makes the entries durable that lead to a file.
    fn sync(&self, file: &FilePath, generation: u64) -> io::Result<()> {
        let mut new = Vec::new();
        for folder in self.above(file) {
            sync_folder(folder)?;
            if folder == self.root || self.durable.lock().folders.contains(folder) {
                break;
            }
            new.push(folder.to_owned());
        }
        if !new.is_empty() {
            let mut durable = self.durable.lock();
            if durable.generation == generation {
                if durable.folders.len() + new.len() > MAX_REMEMBERED_FOLDERS {
                    durable.folders.clear();
                }
                durable.folders.extend(new);
            }
        }
        Ok(())
    }

    /// Removes a file, and the folders that are empty then.
    fn delete(&self, file: &FilePath) -> io::Result<()> {
        self.forget(file);
        fs::remove_file(file)?;
        self.sync_where_it_was(file)
    }

    /// Before folders of a file can go: the next one of the same name is another, and not durable yet.
    fn forget(&self, file: &FilePath) {
        let mut durable = self.durable.lock();
        durable.generation += 1;
        for folder in self.above(file) {
            durable.folders.remove(folder);
        }
    }

    fn sync_where_it_was(&self, file: &FilePath) -> io::Result<()> {
        for folder in self.above(file) {
            if folder != self.root && fs::remove_dir(folder).is_ok() {
                continue;
            }
            match sync_folder(folder) {
                // Another delete removed it, and syncs the one above.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => return outcome,
            }
        }
        Ok(())
    }

    /// The folders of a file, from its own up to the root.
    fn above<'a>(&'a self, file: &'a FilePath) -> impl Iterator<Item = &'a FilePath> {
        file.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root))
    }
}

fn failed(location: &Path, source: io::Error) -> Error {
    let path = location.to_string();
    match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound { path, source: source.into() },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::PermissionDenied { path, source: source.into() }
        }
        _ => Error::Generic { store: "FILESYSTEM", source: source.into() },
    }
}

#[cfg(test)]
mod tests;
