//! Background work of an engine.
//!
//! ```text
//!  rows written, time passed ─▶ triggers ─┐
//!  FLUSH TABLE, COMPACT TABLE, shutdown ──┼─▶ queue ─▶ flush, compaction      on threads of their own
//!  segments worth merging ◀── house ──────┘                  │
//!                                    files of removed segments, failed uploads ─▶ sweep
//! ```
//!
//! | module | what is there |
//! | --- | --- |
//! | [`expiry`] | expired rows of STREAM tables |
//! | [`log_retention`] | how far back the change log goes |
//! | [`record`], [`book`], [`live`] | what is known of jobs, kept and shown |
//! | [`triggers`], [`queue`], [`scheduler`] | what runs when |
//! | [`flush`] | rows to segments |
//! | [`compaction`], [`house`] | segments to fewer segments, and where that is worth it |
//! | [`export`] | rows of a query to a file |
//! | [`pending`], [`sweep`] | files that belong to no segment |
//! | [`backup`] | namespaces to directories, and back |
//! | [`id_mark`] | ids that are ahead of the clock do not come twice |

mod backup;
mod book;
mod compaction;
mod core;
mod expiry;
mod export;
mod fault;
mod flush;
mod hooks;
mod house;
mod id_mark;
mod live;
mod log_retention;
mod metrics;
mod pending;
mod queue;
mod record;
mod scheduler;
mod segment;
mod sweep;
mod system;
mod threads;
mod triggers;
mod view;

pub use backup::{BackupContent, BackupInfo, BackupMode, BackupStatus};
pub(crate) use backup::{BackupId, BackupRequest, RestoreRequest, describe as describe_backups};
pub(crate) use expiry::{Expiry, expire_partition};
pub use export::Exported;
pub(crate) use export::{ExportJob, ExportOrder};
pub use hooks::{JobHooks, JobStep, NoHooks, StorageStep};
pub(crate) use log_retention::{LogRetention, LogRetentionParts};
pub(crate) use record::JobEvent;
pub use record::{FailedPartition, JobId, JobProgress, JobRecord, JobStatus, JobTable, JobTrigger, JobType};
pub(crate) use system::{FlushOptions, JobParts, Jobs, WatchedJob};
