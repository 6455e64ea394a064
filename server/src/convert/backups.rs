//! Backups as protobuf.

use kalamdb_engine::{BackupInfo, BackupMode, BackupStatus, Error, JobProgress, JobRecord, Reason};
use kalamdb_proto::v1;

use super::to_timestamp;

/// The mode of a request.
///
/// # Errors
/// INVALID_REQUEST for a number that is none.
pub(crate) fn from_backup_mode(number: i32) -> Result<BackupMode, Error> {
    match v1::BackupMode::try_from(number) {
        Ok(v1::BackupMode::Unspecified | v1::BackupMode::Full) => Ok(BackupMode::Full),
        Ok(v1::BackupMode::Incremental) => Ok(BackupMode::Incremental),
        Err(_) => {
            Err(Error::new(Reason::InvalidRequest, format!("mode: there is no BackupMode {number}."))
                .with("field", "mode"))
        }
    }
}

/// A backup of a directory.
pub(crate) fn to_backup(info: BackupInfo) -> v1::Backup {
    let status = match info.status {
        BackupStatus::Complete => v1::BackupStatus::Complete,
        BackupStatus::Damaged => v1::BackupStatus::Damaged,
        BackupStatus::Newer => v1::BackupStatus::Newer,
    };
    let mut backup = v1::Backup {
        backup_id: info.backup_id,
        status: status.into(),
        problem: info.problem.unwrap_or_default(),
        ..v1::Backup::default()
    };
    if let Some(content) = info.content {
        let mode = match content.mode {
            BackupMode::Full => v1::BackupMode::Full,
            BackupMode::Incremental => v1::BackupMode::Incremental,
        };
        backup.namespace = content.namespace;
        backup.mode = mode.into();
        backup.based_on = content.based_on.unwrap_or_default();
        backup.created_at = Some(to_timestamp(content.created_at_us));
        backup.finished_at = Some(to_timestamp(content.finished_at_us));
        backup.commit_seq = content.commit_seq;
        backup.tables = content.tables;
        (backup.rows, backup.files, backup.bytes) = (content.rows, content.files, content.bytes);
        (backup.new_files, backup.new_bytes) = (content.new_files, content.new_bytes);
        backup.version = content.version;
    }
    backup
}

/// How far a backup or a restore is.
pub(crate) fn to_backup_progress(progress: &JobProgress) -> v1::BackupProgress {
    v1::BackupProgress { files: progress.segments, rows: progress.rows, bytes: progress.bytes }
}

/// The end of a backup or a restore that was made.
pub(crate) fn to_backup_finished(record: &JobRecord) -> v1::BackupFinished {
    let took_us = match (record.started_at_us, record.finished_at_us) {
        (Some(started), Some(finished)) => finished.saturating_sub(started).max(0),
        _ => 0,
    };
    let result = record.result.clone().unwrap_or_default();
    v1::BackupFinished {
        job_id: record.id.to_string(),
        progress: Some(to_backup_progress(&record.progress)),
        backup_id: record.backup_id().unwrap_or_default(),
        message: result,
        took_ms: took_us as f64 / 1_000.0,
    }
}
