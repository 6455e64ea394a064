//! Jobs as they are recorded: what was asked for, how far it is, and what came of it.

use std::fmt;

use kalamdb_store::ids::{StorageId, TableId, UserId};
use serde::{Deserialize, Serialize};

use crate::error::Reason;

/// What the result of a restore begins with; the backup's id follows.
pub(super) const RESTORED: &str = "Restored backup ";

/// The id of a job: a snowflake id, so that later jobs have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(i64);

impl JobId {
    /// Wraps a number that is a job's id.
    pub const fn new(id: i64) -> Self {
        Self(id)
    }

    /// The number itself.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// The word for it, as in `system.jobs`.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a job does.
    JobType {
        /// Moves rows of a table to segments.
        Flush = "flush",
        /// Merges segments of a table.
        Compaction = "compaction",
        /// Deletes files that nothing needs any more.
        Sweep = "sweep",
        /// Writes the rows of a query to a file.
        Export = "export",
        /// Copies a namespace to a folder.
        Backup = "backup",
        /// Makes a namespace of a backup.
        Restore = "restore",
    }
}

words! {
    /// How far a job is.
    JobStatus {
        /// It waits for its turn.
        Queued = "queued",
        /// It runs.
        Running = "running",
        /// It ended, and did all of its work.
        Completed = "completed",
        /// It ended, and some or all of its work could not be done.
        Failed = "failed",
        /// It was stopped, for example because its table was dropped.
        Cancelled = "cancelled",
        /// The server ended while it ran.
        Interrupted = "interrupted",
    }
}

impl JobStatus {
    /// Whether nothing more comes of it.
    pub fn is_final(self) -> bool {
        !matches!(self, JobStatus::Queued | JobStatus::Running)
    }
}

words! {
    /// Why a job runs.
    JobTrigger {
        /// Somebody asked for it.
        Manual = "manual",
        /// The table's policy: so many rows were written.
        Rows = "rows",
        /// The table's policy: so much time has passed.
        Interval = "interval",
        /// The server is about to end.
        Shutdown = "shutdown",
        /// The server ended while a job ran, and this one does its work again.
        Recovery = "recovery",
        /// A flush left segments that are worth merging, or there are files to delete.
        Housekeeping = "housekeeping",
    }
}

/// The table that a job works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTable {
    /// Its id.
    pub id: TableId,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a job has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobProgress {
    /// Rows written to segments, or to the file of an export.
    pub rows: u64,
    /// Size of the files written; of a sweep, of nothing.
    pub bytes: u64,
    /// Partitions that are done.
    pub partitions: u64,
    /// Files written; of a sweep, deleted.
    pub segments: u64,
    /// Partitions that a flush left in the hot tier because they have too few rows to be worth a file.
    pub partitions_kept_hot: u64,
    /// Partitions that could not be done.
    pub partitions_failed: u64,
}

/// A partition that a job could not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedPartition {
    /// Whose it is; `None`: the partition of a SHARED table.
    pub user_id: Option<UserId>,
    /// Why.
    pub message: String,
}

/// What happened to one partition while a job ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobEvent {
    /// Its rows are in the segments named here, durably.
    PartitionDone {
        /// Whose it is; `None`: the partition of a SHARED table.
        user_id: Option<UserId>,
        /// Rows written.
        rows: u64,
        /// Size of the files written.
        bytes: u64,
        /// Files written.
        segments: u32,
        /// The storage they are in.
        storage: StorageId,
        /// The first of them, relative to the storage's root.
        path: String,
    },
    /// It could not be done.
    PartitionFailed(FailedPartition),
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub job_type: JobType,
    /// How far it is.
    pub status: JobStatus,
    /// Why it runs.
    pub trigger: JobTrigger,
    /// The table it works on, if it is one.
    pub table: Option<JobTable>,
    /// Of a flush: whether it takes partitions of few rows too.
    pub force: bool,
    /// What else it was told, each as `name=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// The interrupted job whose work it does again.
    pub resumes: Option<JobId>,
    /// How many interrupted jobs came before it, each doing the work of the one before.
    pub attempt: u32,
    /// What came of it, for a person.
    pub result: Option<String>,
    /// What an operator needs to find the cause of a failure: its causes, one a line, without paths and secrets.
    pub trace: Option<String>,
    /// Of a job that failed: the reason of the error that a statement gets which waits for it.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// The most memory that it buffered at a time.
    pub memory_used_bytes: u64,
    /// Time in which it kept a thread busy, in microseconds: waiting for storages and for the committer is not in it.
    pub cpu_used_us: u64,
    /// The node it runs on.
    pub node: u16,
    /// When it was asked for, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// When it began.
    pub started_at_us: Option<i64>,
    /// When it ended.
    pub finished_at_us: Option<i64>,
    /// What it has done.
    pub progress: JobProgress,
    /// The first [`JobRecord::MAX_FAILED_PARTITIONS`] partitions that it could not do.
    #[serde(default)]
    pub failed_partitions: Vec<FailedPartition>,
}

impl JobRecord {
    /// The most failed partitions that are named; all are counted.
    pub const MAX_FAILED_PARTITIONS: usize = 100;

    /// The backup that a job made, or restored.
    pub fn backup_id(&self) -> Option<String> {
        match self.job_type {
            JobType::Backup => Some(format!("{:016x}", self.id.get())),
            // Its result names it.
            JobType::Restore => {
                let rest = self.result.as_deref()?.strip_prefix(RESTORED)?;
                rest.split(' ').next().map(str::to_owned)
            }
            _ => None,
        }
    }

    /// What the job was told, each as `name=value`.
    pub fn parameters(&self) -> Vec<String> {
        let mut parameters = vec![format!("trigger={}", self.trigger)];
        if self.job_type == JobType::Flush {
            parameters.push(format!("force={}", self.force));
        }
        if let Some(resumes) = self.resumes {
            parameters.push(format!("resumes={resumes}"));
        }
        parameters.extend(self.details.iter().cloned());
        parameters
    }
}
