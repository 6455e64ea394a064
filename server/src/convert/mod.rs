//! Conversions between protobuf messages and the engine's values; protobuf types go no deeper than this and
//! [`crate::services`].

mod backups;
mod ipc;
mod jobs;
mod live;
mod parameters;
mod pieces;
mod rows;
mod storages;
mod types;
mod users;

#[cfg(test)]
mod tests;

pub(crate) use backups::{from_backup_mode, to_backup, to_backup_finished, to_backup_progress};
pub(crate) use ipc::{IpcStream, to_ipc, to_plain, without_views};
pub(crate) use jobs::{
    from_job_status, from_job_type, to_flush_finished, to_job, to_partition_failed, to_partition_flushed,
};
pub(crate) use live::{to_encoded_commit, to_live_query_id, to_live_query_info, to_live_request};
pub(crate) use parameters::to_parameters;
pub(crate) use pieces::Pieces;
pub(crate) use rows::to_rows;
pub(crate) use storages::{from_storage_type, to_partition_stats, to_segment, to_storage, to_tier_stats};
pub(crate) use types::{from_timestamp, to_column, to_columns, to_timestamp};
pub(crate) use users::{from_role, to_api_key, to_user, to_user_patch};
