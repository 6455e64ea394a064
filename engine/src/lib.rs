//! The engine of KalamDB: SQL, catalog, access, and the execution of statements, as a library.
//!
//! [`Engine::open`] opens a database; [`Engine::session`] gives a caller's [`Session`], whose
//! [`execute`](Session::execute) runs statements. The engine knows no network and no RocksDB type.
//!
//! | module | what is there |
//! | --- | --- |
//! | [`sql`] | the dialect: text to typed statements |
//! | `catalog` | namespaces, tables, schema versions |
//! | `access` | identity, roles, rules |
//! | `audit` | who did what |
//! | `exec` | queries, DML, DDL, plan cache |
//! | `functions`, `ids`, `values` | SQL functions, generated ids, casts of column values |
//! | `storage` | storages: where the files of the cold tier are |
//! | `system` | system tables |
//! | `jobs` | background work |
//! | `users` | users, their credentials and sessions |
//! | `live` | live queries |

mod access;
mod admin_api;
mod audit;
mod backup_api;
mod catalog;
mod engine;
pub mod env;
mod error;
mod exec;
mod export_api;
mod functions;
mod ids;
mod jobs;
mod live;
mod session;
mod settings;
mod sizes;
pub mod sql;
mod storage;
mod system;
mod types;
mod users;
mod values;

pub use access::{
    ActsFor, Caller, Grant, Rights, Role, RuleSet, SYSTEM_TABLES, StatementKind, SystemTableRights, UnknownRole,
    may_act_for,
};
pub use admin_api::{JobHandle, JobNews, PartitionDone};
pub use catalog::{
    ColumnInfo, ColumnName, NamespaceInfo, NamespaceName, SchemaVersionInfo, StorageName, TableInfo, TableLabel,
};
pub use engine::Engine;
pub use env::{Env, FixedEnv, SystemEnv};
pub use error::{Error, ErrorKind, Position, Reason, Result};
pub use exec::{
    Body, IfExists, IfMissing, IngestOptions, IngestOutcome, IngestTarget, Parameter, PartitionStats, ResultColumn,
    RowStream, StatementDescription, StatementOutput, TableStats, TierStats, value_bytes,
};
pub use export_api::{ExportHandle, ExportRequest};
pub use ids::{IdSource, MAX_NODE_ID};
pub use jobs::{
    BackupContent, BackupInfo, BackupMode, BackupStatus, Exported, FailedPartition, JobHooks, JobId, JobProgress,
    JobRecord, JobStatus, JobStep, JobTable, JobTrigger, JobType, NoHooks, StorageStep,
};
pub use kalamdb_store::{
    ids::{CommitSeq, InvalidUserId, UserId},
    kv::Durability,
    object::{InvalidSecretKey, SecretKey},
};
pub use live::{
    ChangeKind, CommitChanges, IdleProgress, InitialRows, LiveChange, LiveCounters, LiveEnd, LiveEvent, LiveOptions,
    LiveQuery, LiveQueryHandle, LiveQueryId, LiveQueryInfo, LiveQueryRequest, ResumeToken, RowImage, SlowConsumer,
};
pub use session::{Execution, Request, Session, SystemTableInfo};
pub use settings::{
    AuditSettings, CompactionSettings, EngineSettings, FlushSettings, HotImageSettings, IngestSettings, LiveSettings,
    SettingInfo, StorageSettings, UserSettings,
};
pub use sizes::{KeyspaceSize, StorageSize};
pub use sql::{ExportFormat, Password, StorageKind, TableKind};
pub use storage::StorageInfo;
pub use system::SegmentInfo;
pub use types::{SqlType, StructField, TYPE_METADATA_KEY, UTC};
pub use users::{AccessChange, ApiKeyId, ApiKeyInfo, NewApiKey, NewSession, NewUser, User, UserPage, UserPatch, Users};
pub use values::checked_parameters;
