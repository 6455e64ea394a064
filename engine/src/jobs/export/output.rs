//! The file of an export in the making.
//!
//! ```text
//!  a folder         .messages.parquet.<job>.part, synced, then linked as messages.parquet: never over another file
//!  an object store  an upload in parts, which is an object when it is completed, and nothing before
//! ```
//!
//! What is given up leaves nothing: the temporary file is deleted, the upload aborted.

use std::{fmt, io};

use bytes::Bytes;
use kalamdb_store::{
    data_dir::free_bytes,
    object::{StoreKind, Trouble},
};
use object_store::{
    MultipartUpload, ObjectStoreExt, PutMode, PutOptions, PutPayload, RenameOptions, RenameTargetMode, path::Path,
};
use tokio::task::JoinSet;

use crate::{
    error::{Error, Reason, Result},
    jobs::record::JobId,
    storage::Target,
};

/// Bytes of a part of a file; small, since each is in memory until it is written.
const FILE_PART_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a part of an upload: each is a request.
const UPLOAD_PART_BYTES: usize = 16 * 1024 * 1024;
/// The most parts that services take.
const MAX_PARTS: usize = 10_000;
/// Parts on their way.
const PARTS_AT_ONCE: usize = 2;
/// How many times what is to be kept free on a disk exports leave free: with just that the store would refuse everybody's
/// next write.
const KEPT_FREE_TIMES: u64 = 2;

/// A file that nobody sees yet.
pub(super) struct Output {
    target: Target,
    /// Of a folder: the name until the file is whole.
    temporary: Option<Path>,
    part_bytes: usize,
    /// Bytes of the next part.
    buffer: Vec<u8>,
    upload: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
    part_count: usize,
    bytes: u64,
    min_free_bytes: u64,
}

/// The name that a file has while job `id` makes it.
pub(super) fn temporary_name(file_name: &str, id: JobId) -> String {
    format!(".{file_name}.{id}.part")
}

impl Output {
    /// A file of job `id` at a place where there is none. In a folder of a disk with less than twice `min_free_bytes`
    /// nothing is written.
    ///
    /// # Errors
    /// FILE_EXISTS, DISK_FULL, and those of the place.
    pub(super) async fn new(target: Target, id: JobId, min_free_bytes: u64) -> Result<Self> {
        if target.exists(&target.path).await? {
            return Err(exists(&target));
        }
        let is_folder = target.kind == StoreKind::FileSystem;
        let temporary = match target.path.filename().filter(|_| is_folder) {
            Some(name) => Some(Path::parse(temporary_name(name, id)).map_err(Error::internal)?),
            None => None,
        };
        let part_bytes = if is_folder { FILE_PART_BYTES } else { UPLOAD_PART_BYTES };
        let output = Self {
            target,
            temporary,
            part_bytes,
            buffer: Vec::new(),
            upload: None,
            parts: JoinSet::new(),
            part_count: 0,
            bytes: 0,
            min_free_bytes,
        };
        output.check_room()?;
        Ok(output)
    }

    /// Bytes written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// About how much memory it holds.
    pub(super) fn memory_bytes(&self) -> usize {
        self.buffer.capacity() + self.parts.len() * self.part_bytes
    }

    /// Appends bytes; waits while too many are on their way.
    ///
    /// # Errors
    /// Those of the place. Then the file must be [given up](Output::abandon).
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        while self.buffer.len() + bytes.len() >= self.part_bytes {
            // Parts are all of one size, but for the last: some services want it so.
            let (now, later) = bytes.split_at(self.part_bytes - self.buffer.len());
            self.buffer.extend_from_slice(now);
            bytes = later;
            self.send_part().await?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes the file whole, durable and visible.
    ///
    /// # Errors
    /// FILE_EXISTS when there is one meanwhile, and those of the place. Then the file must be [given up](Output::abandon).
    pub(super) async fn finish(&mut self) -> Result<()> {
        if self.temporary.is_none() && self.upload.is_none() {
            return self.put_whole().await;
        }
        if !self.buffer.is_empty() || self.upload.is_none() {
            self.send_part().await?;
        }
        self.wait_for_parts(0).await?;
        if self.temporary.is_none() && self.target.exists(&self.target.path).await? {
            return Err(exists(&self.target));
        }
        if let Some(upload) = self.upload.as_mut() {
            upload.complete().await.map_err(|error| self.target.failed("finish a file", &error))?;
        }
        self.upload = None;
        let Some(temporary) = &self.temporary else { return Ok(()) };
        let create = RenameOptions::new().with_target_mode(RenameTargetMode::Create);
        match self.target.store.rename_opts(temporary, &self.target.path, create).await {
            Err(object_store::Error::AlreadyExists { .. }) => Err(exists(&self.target)),
            outcome => outcome.map_err(|error| self.target.failed("name a file", &error)),
        }
    }

    /// Gives the file up: what there is of it is removed. It may be that it was not begun, or is there already whole, which
    /// then stays.
    pub(super) async fn abandon(&mut self) {
        self.parts.shutdown().await;
        self.buffer = Vec::new();
        if let Some(mut upload) = self.upload.take()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(%error, "an upload could not be aborted; its parts stay until the bucket's rules remove them");
        }
        if let Some(temporary) = &self.temporary {
            match self.target.store.delete(temporary).await {
                Ok(()) => {}
                Err(error) if Trouble::of(&error) == Trouble::Missing => {}
                Err(error) => tracing::warn!(%error, "the file of an export that was given up could not be deleted"),
            }
        }
    }

    /// An object that fits in one part: the store itself sees to it that there is none yet, if it can.
    async fn put_whole(&mut self) -> Result<()> {
        let payload = PutPayload::from(Bytes::from(std::mem::take(&mut self.buffer)));
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let path = &self.target.path;
        let put = match self.target.store.put_opts(path, payload.clone(), create).await {
            Err(error) if Trouble::of(&error) == Trouble::Unsupported => {
                if self.target.exists(path).await? {
                    return Err(exists(&self.target));
                }
                self.target.store.put(path, payload).await
            }
            outcome => outcome,
        };
        match put {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Err(exists(&self.target))
            }
            Err(error) => Err(self.target.failed("write a file", &error)),
        }
    }

    async fn send_part(&mut self) -> Result<()> {
        self.check_room()?;
        if self.part_count == MAX_PARTS && self.temporary.is_none() {
            let most = (MAX_PARTS * UPLOAD_PART_BYTES) >> 30;
            let message =
                format!("The file would have more than {most} GiB, the most for one object. Export less at once.");
            return Err(Error::new(Reason::WriteTooLarge, message).with("limit", "the size of an object"));
        }
        if self.upload.is_none() {
            let path = self.temporary.as_ref().unwrap_or(&self.target.path);
            let begun = self.target.store.put_multipart(path).await;
            self.upload = Some(begun.map_err(|error| self.target.failed("begin a file", &error))?);
        }
        self.wait_for_parts(PARTS_AT_ONCE - 1).await?;
        let part = std::mem::replace(&mut self.buffer, Vec::with_capacity(self.part_bytes));
        if let Some(upload) = self.upload.as_mut() {
            self.parts.spawn(upload.put_part(PutPayload::from(Bytes::from(part))));
            self.part_count += 1;
        }
        Ok(())
    }

    /// Waits until at most `left` parts are on their way.
    async fn wait_for_parts(&mut self, left: usize) -> Result<()> {
        while self.parts.len() > left
            && let Some(written) = self.parts.join_next().await
        {
            let written = written.map_err(Error::internal)?;
            written.map_err(|error| self.target.failed("write a file", &error))?;
        }
        Ok(())
    }

    /// What exports leave free, the store's own writes can need: the folder may be on the same disk.
    fn check_room(&self) -> Result<()> {
        let Some(folder) = &self.target.folder else { return Ok(()) };
        match free_bytes(folder) {
            Ok(free) if free < needed_bytes(self.min_free_bytes, self.parts.len(), self.part_bytes) => {
                let message = "The disk is nearly full, and nothing more is exported to it. Free some room and try again; \
                               storage.min_free_disk_mb says how much is kept free.";
                Err(Error::new(Reason::DiskFull, message).with("limit", "storage.min_free_disk_mb"))
            }
            // Where that cannot be asked, writing will tell.
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::new(Reason::StorageUnreachable, "The folder of the export is gone. Try again."))
            }
            Err(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("target", &self.target).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// What must be free before a part is begun. Those on their way may be on the disk already, or not.
fn needed_bytes(min_free_bytes: u64, parts_under_way: usize, part_bytes: usize) -> u64 {
    let parts = (parts_under_way as u64 + 1).saturating_mul(part_bytes as u64);
    min_free_bytes.saturating_mul(KEPT_FREE_TIMES).saturating_add(parts)
}

fn exists(target: &Target) -> Error {
    let message = format!("There is a file at '{}' already. Choose another name, or remove it first.", target.uri());
    Error::new(Reason::FileExists, message).with("uri", target.uri())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_own_writes_have_room_beside_an_export() {
        let kept = 64 << 20;
        assert_eq!(needed_bytes(kept, 0, FILE_PART_BYTES), 2 * kept + FILE_PART_BYTES as u64);
        assert_eq!(needed_bytes(kept, PARTS_AT_ONCE, FILE_PART_BYTES), 2 * kept + 3 * FILE_PART_BYTES as u64);
        assert_eq!(needed_bytes(u64::MAX, 1, FILE_PART_BYTES), u64::MAX);
    }
}
