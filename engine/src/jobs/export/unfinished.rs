//! Files of exports that a process that ended has left behind.
//!
//! A temporary file is noted in the store, durably, before it is made, and the note goes when it is gone. So what is noted
//! when the engine is opened is nobody's: it is deleted. No folder is listed to find out.
//!
//! ```text
//! keyspace system
//! "export/" | job id u64 BE  -> folder and temporary name, JSON
//! ```

use std::{fs, io, path::PathBuf, sync::Arc};

use kalamdb_store::{
    commit::{CommitError, PreparedCommit},
    kv::{Direction, KeyRange, Keyspace, StorageBackend, WriteBatch},
};
use serde::{Deserialize, Serialize};

use crate::{
    engine::Shared,
    error::Result,
    exec::from_store,
    jobs::{pending, record::JobId},
};

const NOTES: &[u8] = b"export/";

/// A file that may be there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Unfinished {
    pub(super) folder: PathBuf,
    pub(super) name: String,
}

/// Notes the file of a job. When this returns, the note is durable.
pub(super) async fn note(shared: &Arc<Shared>, id: JobId, file: &Unfinished) -> Result<(), CommitError> {
    let mut kv = WriteBatch::new();
    match serde_json::to_vec(file) {
        Ok(value) => kv.put(Keyspace::System, key(id), value),
        // A folder whose name is no text: such ones are not configured.
        Err(error) => {
            tracing::warn!(%error, "the file of an export cannot be noted; it stays if the server ends meanwhile");
            return Ok(());
        }
    }
    commit(shared, kv).await?;
    pending::sync(shared).await
}

/// Takes the note of a job away.
pub(super) async fn forget(shared: &Shared, id: JobId) {
    let mut kv = WriteBatch::new();
    kv.delete(Keyspace::System, key(id));
    if let Err(error) = commit(shared, kv).await {
        // It names a file that is not there any more.
        tracing::warn!(job = %id, %error, "what is noted of the file of an export could not be removed");
    }
}

/// What is noted.
///
/// # Errors
/// Those of the store.
pub(crate) fn left_behind(backend: &dyn StorageBackend) -> Result<Vec<LeftBehind>> {
    let snapshot = backend.snapshot();
    let mut cursor =
        snapshot.cursor(Keyspace::System, KeyRange::prefix(NOTES), Direction::Forward).map_err(from_store)?;
    let mut found = Vec::new();
    while let Some((key, value)) = cursor.item() {
        match serde_json::from_slice(value) {
            Ok(file) => found.push(LeftBehind { key: key.to_vec(), file }),
            Err(error) => tracing::warn!(%error, "what is noted of the file of an export cannot be read"),
        }
        cursor.advance().map_err(from_store)?;
    }
    Ok(found)
}

/// A file that another process was making.
#[derive(Debug)]
pub(crate) struct LeftBehind {
    key: Vec<u8>,
    file: Unfinished,
}

/// Deletes what was left behind, and the notes of it. What cannot be deleted stays noted.
pub(crate) async fn sweep(shared: Arc<Shared>, found: Vec<LeftBehind>) {
    let deleting = tokio::task::spawn_blocking(move || {
        let mut gone = Vec::new();
        for LeftBehind { key, file } in found {
            match delete(&file) {
                Ok(()) => gone.push(key),
                Err(error) => {
                    let folder = file.folder.display();
                    tracing::warn!(%folder, file = file.name, %error, "the file of an export that did not end cannot be deleted");
                }
            }
        }
        gone
    });
    let Ok(gone) = deleting.await else { return };
    let mut kv = WriteBatch::new();
    gone.into_iter().for_each(|key| kv.delete(Keyspace::System, key));
    if !kv.is_empty()
        && let Err(error) = commit(&shared, kv).await
    {
        tracing::warn!(%error, "what is noted of files of exports could not be removed");
    }
}

fn delete(file: &Unfinished) -> io::Result<()> {
    // While parts are written the object store's file has this ending.
    for name in [file.name.clone(), format!("{}#1", file.name)] {
        match fs::remove_file(file.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

async fn commit(shared: &Shared, kv: WriteBatch) -> Result<(), CommitError> {
    let commit = PreparedCommit { commit_time_us: shared.env.now_us(), kv, ..PreparedCommit::default() };
    shared.committer.commit(commit).await.map(|_| ())
}

fn key(id: JobId) -> Vec<u8> {
    [NOTES, &id.get().cast_unsigned().to_be_bytes()].concat()
}
