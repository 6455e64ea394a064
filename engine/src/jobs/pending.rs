//! Files that are being made.
//!
//! A file is noted in the store, durably, before it is created; the note goes in the commit that brings its segment. So a
//! file that is noted belongs to nobody yet, and if this process does not know it as its own work, it never will: the
//! sweep deletes it.
//!
//! A storage can carry out a write that was given up long after it was asked, and after the file was deleted. So the
//! note of such a file stays for some time; then the sweep deletes the file once more, and with it the note.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use kalamdb_store::{
    codec::{LAST_SEGMENT_KEY, PendingFile, pending_key},
    commit::{CommitError, PreparedCommit},
    ids::{SegmentId, StorageId},
    kv::{Durability, Keyspace, WriteBatch},
    segment::segment_file_name,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::engine::Shared;

/// The files that this process is making, and those that were given up.
#[derive(Debug)]
pub(super) struct PendingFiles {
    own: Mutex<HashSet<SegmentId>>,
    given_up: Mutex<HashMap<SegmentId, GivenUp>>,
    /// How long a write that was given up may still take effect.
    grace: Duration,
    /// Those who began to make the other files had given them up by then.
    started: Instant,
}

/// A file that this process gave up, or found given up.
#[derive(Debug, Clone, Copy)]
struct GivenUp {
    at: Instant,
    is_deleted: bool,
}

/// What is to be done about a file that is noted as pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing now.
    Nothing,
    /// It is to be deleted, and stays noted.
    Deletion,
    /// It is to be deleted, and then nobody needs the note.
    LastDeletion {
        /// Whether it was deleted before.
        is_again: bool,
    },
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
    /// A write that was given up may still take effect for `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self { own: Mutex::default(), given_up: Mutex::default(), grace, started: Instant::now() }
    }

    /// What is to be done about the file of a segment. Nothing while this process is making it, or may have made it.
    pub(super) fn due(&self, segment: SegmentId) -> Due {
        if self.own.lock().contains(&segment) {
            return Due::Nothing;
        }
        let given_up = self.given_up.lock().get(&segment).copied();
        let GivenUp { at, is_deleted } = given_up.unwrap_or(GivenUp { at: self.started, is_deleted: false });
        if at.elapsed() >= self.grace {
            Due::LastDeletion { is_again: is_deleted }
        } else if is_deleted {
            Due::Nothing
        } else {
            Due::Deletion
        }
    }

    /// Remembers that a file was deleted which stays noted.
    pub(super) fn deleted(&self, segment: SegmentId) {
        let found = GivenUp { at: self.started, is_deleted: true };
        self.given_up.lock().entry(segment).or_insert(found).is_deleted = true;
    }

    /// Forgets a file whose note is gone.
    pub(super) fn forget(&self, segment: SegmentId) {
        self.given_up.lock().remove(&segment);
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

    /// Gives the file up, which certainly belongs to no segment: the sweep will delete it, and later the note.
    pub(super) fn abandon(self) {
        let given_up = GivenUp { at: Instant::now(), is_deleted: false };
        self.files.given_up.lock().insert(self.id, given_up);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_given_up_is_deleted_at_once_and_once_more_when_no_write_can_come() {
        let segment = SegmentId::new(7);
        let own = |files: &Arc<PendingFiles>| {
            files.own.lock().insert(segment);
            Pending { id: segment, storage: StorageId::new(0), path: "a".to_owned(), files: Arc::clone(files) }
        };
        let files = Arc::new(PendingFiles::new(Duration::from_secs(3_600)));
        let pending = own(&files);
        assert_eq!(files.due(segment), Due::Nothing);
        pending.abandon();
        assert_eq!(files.due(segment), Due::Deletion);
        files.deleted(segment);
        assert_eq!(files.due(segment), Due::Nothing);
        // Of a process before this one.
        assert_eq!(files.due(SegmentId::new(8)), Due::Deletion);
        files.deleted(SegmentId::new(8));
        assert_eq!(files.due(SegmentId::new(8)), Due::Nothing);

        let files = Arc::new(PendingFiles::new(Duration::ZERO));
        own(&files).abandon();
        assert_eq!(files.due(segment), Due::LastDeletion { is_again: false });
        files.deleted(segment);
        assert_eq!(files.due(segment), Due::LastDeletion { is_again: true });
        files.forget(segment);
        assert!(files.given_up.lock().is_empty());
    }
}
