//! The directory of backups: its files, written and read.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kalamdb_store::object::{StoreKind, Trouble};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};

use super::{
    format::{
        BACKUPS, BackupId, DATA, DUCKDB, ListFile, MAX_MANIFEST_BYTES, Manifest, Unusable, is_plain_path, sha256,
        unseal,
    },
    room::{Claim, Claims, full, has_room},
};
use crate::{
    error::{Error, Reason, Result},
    storage::{OpenedFolder, Target},
};

/// Files deleted at a time.
const PARALLEL_DELETES: usize = 8;

/// A directory of backups, opened.
#[derive(Debug, Clone)]
pub(super) struct Place {
    target: Arc<Target>,
    /// Of a folder: what must be free on its disk for anything to be written, and what is being written to it.
    min_free_bytes: u64,
    claims: Arc<Claims>,
}

impl Place {
    pub(super) fn new(target: Target, min_free_bytes: u64) -> Self {
        Self { target: Arc::new(target), min_free_bytes, claims: Arc::default() }
    }

    /// The directory as it is shown.
    pub(super) fn uri(&self) -> &str {
        self.target.uri()
    }

    /// The folder of the server that it is, if it is one.
    pub(super) fn opened(&self) -> Option<OpenedFolder> {
        self.target.opened()
    }

    /// The backups that were begun here, the oldest first. Not all of them need be there whole.
    pub(super) async fn begun(&self) -> Result<Vec<BackupId>> {
        let folders = self.folders(BACKUPS).await?;
        let mut begun: Vec<BackupId> = folders.iter().filter_map(|name| BackupId::parse(name)).collect();
        begun.sort_unstable();
        Ok(begun)
    }

    /// Whether there is something that a backup would write over or mix with.
    pub(super) async fn is_foreign(&self) -> Result<bool> {
        Ok(self.size(DUCKDB).await?.is_some() || !self.folders(DATA).await?.is_empty())
    }

    /// The manifest of a backup; `None`: the backup was not finished.
    ///
    /// # Errors
    /// BACKUP_DAMAGED, NOT_SUPPORTED for a later format, those of the place.
    pub(super) async fn manifest(&self, backup: BackupId) -> Result<Option<Manifest>> {
        let path = backup.manifest();
        let Some(bytes) = self.read(&path, MAX_MANIFEST_BYTES).await? else { return Ok(None) };
        let manifest = unseal(&bytes).map_err(|unusable| match unusable {
            Unusable::Damaged(why) => self.damaged(&path, &why),
            Unusable::Newer(format) => Error::new(
                Reason::NotSupported,
                format!(
                    "Backup {backup} at '{}' has format {format}; this version of KalamDB reads formats up to {}. Use a later \
                     version.",
                    self.uri(),
                    super::format::FORMAT
                ),
            ),
        })?;
        if manifest.backup != backup {
            return Err(self.damaged(&path, &"it is the manifest of another backup"));
        }
        Ok(Some(manifest))
    }

    /// The newest backup that was finished.
    ///
    /// # Errors
    /// As [`Place::manifest`]: one that is damaged is not passed over.
    pub(super) async fn newest(&self) -> Result<Option<Manifest>> {
        for backup in self.begun().await?.into_iter().rev() {
            if let Some(manifest) = self.manifest(backup).await? {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// Writes a file that is not there yet. When it returns, the place has the whole file.
    pub(super) async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        let _claim = self.claim(bytes.len() as u64)?;
        let location = self.location(path)?;
        // What is below a backup's own name nobody else writes; only a file system needs to be told, to write it at once.
        let mode = if self.is_folder() { PutMode::Create } else { PutMode::Overwrite };
        let put = self.store().put_opts(&location, bytes.into(), PutOptions::from(mode)).await;
        put.map(|_| ()).map_err(|error| self.target.failed("write a file", &error))
    }

    /// Writes a file that is there whole or not at all, whatever happens; one of the same name is replaced. `backup` is
    /// whose folder lends its name to the unfinished file.
    pub(super) async fn write_whole(&self, backup: BackupId, path: &str, bytes: Bytes) -> Result<()> {
        if !self.is_folder() {
            // An object store shows no object before it has all of it.
            return self.write(path, bytes).await;
        }
        let unfinished = format!("{}/new", backup.folder());
        self.delete(&unfinished).await?;
        self.write(&unfinished, bytes).await?;
        let (from, to) = (self.location(&unfinished)?, self.location(path)?);
        self.store().rename(&from, &to).await.map_err(|error| self.target.failed("write a file", &error))
    }

    /// A file; `None`: there is none.
    ///
    /// # Errors
    /// BACKUP_DAMAGED when it has more than `most` bytes: there may not be so much memory.
    pub(super) async fn read(&self, path: &str, most: u64) -> Result<Option<Bytes>> {
        let failed = |error: &object_store::Error| self.target.failed("read a file", error);
        match self.store().get(&self.location(path)?).await {
            Ok(found) if found.meta.size > most => {
                Err(self.damaged(path, &format_args!("it has {} bytes, more than {most}", found.meta.size)))
            }
            Ok(found) => found.bytes().await.map(Some).map_err(|error| failed(&error)),
            Err(error) if Trouble::of(&error) == Trouble::Missing => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// A file that must have these bytes.
    ///
    /// # Errors
    /// BACKUP_DAMAGED when it is missing or has others.
    pub(super) async fn read_verified(&self, path: &str, len: u64, expected: &str) -> Result<Bytes> {
        if !is_plain_path(path) {
            return Err(self.damaged(path, &"its path leads out of the directory"));
        }
        let bytes = self.read(path, len).await?.ok_or_else(|| self.damaged(path, &"it is missing"))?;
        if bytes.len() as u64 != len {
            return Err(self.damaged(path, &format_args!("it has {} bytes, not {len}", bytes.len())));
        }
        if sha256(&bytes) != expected {
            return Err(self.damaged(path, &"its SHA-256 is not the one that it was written with"));
        }
        Ok(bytes)
    }

    /// A list of a manifest.
    pub(super) async fn read_list(&self, list: &ListFile) -> Result<Bytes> {
        self.read_verified(&list.path, list.bytes, &list.sha256).await
    }

    /// The size of a file; `None`: there is none.
    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>> {
        match self.store().head(&self.location(path)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(error) if Trouble::of(&error) == Trouble::Missing => Ok(None),
            Err(error) => Err(self.target.failed("look for a file", &error)),
        }
    }

    /// Deletes all files that a backup has made, its manifest first.
    pub(super) async fn delete_backup(&self, backup: BackupId) -> Result<()> {
        self.delete(&backup.manifest()).await?;
        self.delete_below(&backup.folder()).await?;
        for table in self.folders(DATA).await? {
            self.delete_below(&backup.data_folder(&table)).await?;
        }
        Ok(())
    }

    /// The error of a backup whose file is not as it was written.
    pub(super) fn damaged(&self, path: &str, why: &dyn std::fmt::Display) -> Error {
        Error::new(
            Reason::BackupDamaged,
            format!(
                "The backup at '{}' is damaged: {path}: {why}. Use another backup, or another copy of this one.",
                self.uri()
            ),
        )
        .with("uri", self.uri())
        .with("file", path)
    }

    /// Room for a file of so many bytes, until it is written; `None`: it is no folder.
    fn claim(&self, bytes: u64) -> Result<Option<Claim>> {
        let Some(folder) = &self.target.folder else { return Ok(None) };
        let claim = self.claims.claim(bytes, |claimed| has_room(folder, self.min_free_bytes, claimed));
        claim.map(Some).ok_or_else(|| full("no backup is written to it"))
    }

    fn is_folder(&self) -> bool {
        self.target.kind == StoreKind::FileSystem
    }

    fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.target.store
    }

    fn location(&self, path: &str) -> Result<Path> {
        let parsed = Path::parse(path).map_err(|error| self.damaged(path, &error))?;
        Ok(self.target.path.parts().chain(parsed.parts()).collect())
    }

    /// The names of the folders in one.
    async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let listed = match self.store().list_with_delimiter(Some(&self.location(folder)?)).await {
            Ok(listed) => listed,
            Err(error) if Trouble::of(&error) == Trouble::Missing => return Ok(Vec::new()),
            Err(error) => return Err(self.target.failed("list the files", &error)),
        };
        let name = |path: &Path| path.parts().next_back().map(|part| part.as_ref().to_owned());
        Ok(listed.common_prefixes.iter().filter_map(name).collect())
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self.store().delete(&self.location(path)?).await {
            Ok(()) => Ok(()),
            Err(error) if Trouble::of(&error) == Trouble::Missing => Ok(()),
            Err(error) => Err(self.target.failed("delete a file", &error)),
        }
    }

    async fn delete_below(&self, folder: &str) -> Result<()> {
        let folder = self.location(folder)?;
        let found = self.store().list(Some(&folder)).map_ok(|meta| meta.location).try_collect::<Vec<Path>>().await;
        let found = match found {
            Ok(found) => found,
            Err(error) if Trouble::of(&error) == Trouble::Missing => return Ok(()),
            Err(error) => return Err(self.target.failed("list the files", &error)),
        };
        let mut deletions = futures::stream::iter(found)
            .map(|path| async move { self.store().delete(&path).await })
            .buffer_unordered(PARALLEL_DELETES);
        while let Some(deleted) = deletions.next().await {
            match deleted {
                Err(error) if Trouble::of(&error) != Trouble::Missing => {
                    return Err(self.target.failed("delete a file", &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
