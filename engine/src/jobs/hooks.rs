//! Points of a job, and of a change of storages, at which a test can make it fail, wait, or end the process.

use std::{fmt::Debug, sync::Arc};

use kalamdb_store::segment::SegmentStores;
use object_store::ObjectStore;

/// A point of a flush, a compaction or a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobStep {
    /// Before files are noted as pending.
    BeforePending,
    /// Before a file is written; it is noted as pending.
    BeforeUpload,
    /// After a file is written; nothing refers to it yet.
    AfterUpload,
    /// Before segments are committed; all their files are written.
    BeforeCommit,
    /// After segments were committed.
    AfterCommit,
    /// Before files that nothing needs any more are deleted.
    BeforeDelete,
    /// After such files were deleted; they are still noted.
    AfterDelete,
}

impl JobStep {
    /// Every point there is.
    pub const ALL: [JobStep; 7] = [
        JobStep::BeforePending,
        JobStep::BeforeUpload,
        JobStep::AfterUpload,
        JobStep::BeforeCommit,
        JobStep::AfterCommit,
        JobStep::BeforeDelete,
        JobStep::AfterDelete,
    ];

    /// Its name, such as `before_upload`.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStep::BeforePending => "before_pending",
            JobStep::BeforeUpload => "before_upload",
            JobStep::AfterUpload => "after_upload",
            JobStep::BeforeCommit => "before_commit",
            JobStep::AfterCommit => "after_commit",
            JobStep::BeforeDelete => "before_delete",
            JobStep::AfterDelete => "after_delete",
        }
    }
}

/// A point of CREATE, ALTER or DROP STORAGE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageStep {
    /// Before the change is committed; the place was written to and read from.
    BeforeCommit,
    /// After the change was committed; no statement sees it yet.
    AfterCommit,
}

impl StorageStep {
    /// Every point there is.
    pub const ALL: [StorageStep; 2] = [StorageStep::BeforeCommit, StorageStep::AfterCommit];

    /// Its name, such as `before_storage_commit`.
    pub fn as_str(self) -> &'static str {
        match self {
            StorageStep::BeforeCommit => "before_storage_commit",
            StorageStep::AfterCommit => "after_storage_commit",
        }
    }
}

/// What is called at each [`JobStep`], on the thread of the job, and stands between the engine and its storages. By
/// default nothing happens.
pub trait JobHooks: Send + Sync + Debug + 'static {
    /// Called at a step. An error makes the step fail as a storage would that cannot be reached for a moment; its text
    /// becomes part of the job's trace.
    ///
    /// # Errors
    /// As the test wants.
    fn reached(&self, step: JobStep) -> Result<(), String> {
        let _ = step;
        Ok(())
    }

    /// Called at a step of a change of storages.
    fn storages_change(&self, step: StorageStep) {
        let _ = step;
    }

    /// Called once, with the storages that jobs write to and queries read from; what it answers takes their place.
    fn stores(&self, stores: Arc<dyn SegmentStores>) -> Arc<dyn SegmentStores> {
        stores
    }

    /// Called with the place that an export or a backup is written to or read from; what it answers takes its place.
    fn target(&self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        store
    }
}

/// No hooks.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl JobHooks for NoHooks {}
