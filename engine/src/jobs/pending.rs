//! Files that are being made.
//!
//! A file is noted in the store, durably, before it is created; the note goes in the commit that brings its segment. So a
//! file that is noted belongs to nobody yet, and if this process does not know it as its own work, it never will: the
//! sweep deletes it.

use std::{collections::HashSet, sync::Arc};

use kalamdb_store::{
    codec::{LAST_SEGMENT_KEY, PendingFile, pending_key},
    commit::{CommitError, PreparedCommit},
    ids::{SegmentId, StorageId},
    kv::{Durability, Keyspace, WriteBatch},
    segment::segment_file_name,
};
use parking_lot::Mutex;

use crate::engine::Shared;

/// The files that this process is making.
#[derive(Debug, Default)]
pub(super) struct PendingFiles {
    own: Mutex<HashSet<SegmentId>>,
}

/// A file that is noted as pending.
///
/// When it is dropped, or its outcome is not known because a commit failed half-way, it stays this process's own until
/// the process ends: a file that may belong to a segment is never deleted.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: SegmentId,
    pub(super) storage: StorageId,
    /// Relative to the storage's root.
    pub(super) path: String,
    files: Arc<PendingFiles>,
}

impl PendingFiles {
    /// Whether this process is making the file of a segment, or may have made it.
    pub(super) fn is_own(&self, segment: SegmentId) -> bool {
        self.own.lock().contains(&segment)
    }

    /// Notes a new file in each of these folders of a storage. When this returns, the notes are durable.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        storage: StorageId,
        folders: impl IntoIterator<Item = String>,
    ) -> Result<Vec<Pending>, CommitError> {
        let mut kv = WriteBatch::new();
        let mut reserved = Vec::new();
        for folder in folders {
            let id = SegmentId::new(shared.ids.snowflake().cast_unsigned());
            let path = format!("{folder}/{}", segment_file_name(id));
            kv.put(Keyspace::System, pending_key(id), PendingFile { storage, path: path.clone() }.encode());
            self.own.lock().insert(id);
            reserved.push(Pending { id, storage, path, files: Arc::clone(self) });
        }
        if let Some(last) = reserved.last() {
            kv.put(Keyspace::System, LAST_SEGMENT_KEY, last.id.get().to_be_bytes());
        }
        let commit = PreparedCommit { commit_time_us: shared.env.now_us(), kv, ..PreparedCommit::default() };
        shared.committer.commit(commit).await?;
        sync(shared).await?;
        Ok(reserved)
    }

    /// Takes the notes of files that were never created away again.
    pub(super) async fn release(&self, shared: &Arc<Shared>, unused: Vec<Pending>) -> Result<(), CommitError> {
        if unused.is_empty() {
            return Ok(());
        }
        let mut kv = WriteBatch::new();
        for pending in &unused {
            pending.forget_in(&mut kv);
        }
        let commit = PreparedCommit { commit_time_us: shared.env.now_us(), kv, ..PreparedCommit::default() };
        shared.committer.commit(commit).await?;
        for pending in unused {
            pending.settled();
        }
        Ok(())
    }
}

impl Pending {
    /// Adds to the commit that brings the file's segment: the note goes.
    pub(super) fn forget_in(&self, kv: &mut WriteBatch) {
        kv.delete(Keyspace::System, pending_key(self.id));
    }

    /// The note is gone: the file belongs to a segment, or was never created.
    pub(super) fn settled(self) {
        self.files.own.lock().remove(&self.id);
    }

    /// Gives the file up, which certainly belongs to no segment: the sweep will delete it, and then the note.
    pub(super) fn abandon(self) {
        self.files.own.lock().remove(&self.id);
    }
}

/// Makes everything that was committed survive a failure of the machine, where commits alone do not.
pub(super) async fn sync(shared: &Arc<Shared>) -> Result<(), CommitError> {
    if shared.settings.durability == Durability::Sync {
        return Ok(());
    }
    let backend = Arc::clone(&shared.backend);
    match tokio::task::spawn_blocking(move || backend.sync()).await {
        Ok(synced) => synced.map_err(CommitError::Storage),
        // The runtime ends.
        Err(_) => Err(CommitError::Closed),
    }
}
