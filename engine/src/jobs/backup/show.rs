//! SHOW BACKUP: what is in a directory of backups.

use super::{
    format::{BackupId, Manifest},
    place::Place,
};
use crate::{
    error::{Error, Reason, Result},
    storage::TargetPlace,
};

/// A backup of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupInfo {
    /// Its id, 16 hexadecimal digits; later ones have greater ids.
    pub backup_id: String,
    /// Whether it can be restored, as far as its manifest tells.
    pub status: BackupStatus,
    /// What its manifest says; `None`: the manifest is damaged, or of a later version.
    pub content: Option<BackupContent>,
    /// Why there is no content.
    pub problem: Option<String>,
}

/// What a backup has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupContent {
    /// The namespace.
    pub namespace: String,
    /// Which files it has of its own.
    pub mode: super::BackupMode,
    /// The backup whose files an incremental one names beside its own.
    pub based_on: Option<String>,
    /// Of when it is, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// When it was finished.
    pub finished_at_us: i64,
    /// The last commit that it has.
    pub commit_seq: u64,
    /// The names of its tables.
    pub tables: Vec<String>,
    /// Rows that are there, of all tables.
    pub rows: u64,
    /// Files with rows, and their bytes.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that this backup copied.
    pub new_files: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// The version of KalamDB that made it.
    pub version: String,
}

/// Whether a backup can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackupStatus {
    /// Its manifest is what was written. The other files are looked at when it is restored.
    Complete,
    /// Its manifest is not what was written.
    Damaged,
    /// It was made by a later version of KalamDB.
    Newer,
}

impl BackupStatus {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            BackupStatus::Complete => "complete",
            BackupStatus::Damaged => "damaged",
            BackupStatus::Newer => "newer",
        }
    }
}

/// The backups of a directory, the oldest first. Unfinished ones are none.
///
/// # Errors
/// Those of the place; BACKUP_NOT_FOUND when it has no backup.
pub(crate) async fn describe(place: &TargetPlace) -> Result<Vec<BackupInfo>> {
    // Nothing is written.
    let place = Place::new(place.open_folder(false).await?, 0);
    let mut backups = Vec::new();
    for backup in place.begun().await? {
        let info = match place.manifest(backup).await {
            Ok(Some(manifest)) => BackupInfo::new(&manifest),
            Ok(None) => continue,
            Err(error) if error.reason() == Reason::BackupDamaged => {
                BackupInfo::unusable(backup, BackupStatus::Damaged, &error)
            }
            Err(error) if error.reason() == Reason::NotSupported => {
                BackupInfo::unusable(backup, BackupStatus::Newer, &error)
            }
            Err(error) => return Err(error),
        };
        backups.push(info);
    }
    if backups.is_empty() {
        let message = format!("There is no backup at '{}'.", place.uri());
        return Err(Error::new(Reason::BackupNotFound, message).with("uri", place.uri()));
    }
    Ok(backups)
}

impl BackupInfo {
    fn new(manifest: &Manifest) -> Self {
        let totals = manifest.totals;
        let content = BackupContent {
            namespace: manifest.namespace.clone(),
            mode: manifest.mode,
            based_on: manifest.based_on.map(|backup| backup.to_string()),
            created_at_us: manifest.created_at_us,
            finished_at_us: manifest.finished_at_us,
            commit_seq: manifest.commit_seq.get(),
            tables: manifest.tables.iter().map(|table| table.definition.name.to_string()).collect(),
            rows: totals.rows,
            files: totals.files,
            bytes: totals.bytes,
            new_files: totals.new_files,
            new_bytes: totals.new_bytes,
            version: manifest.kalamdb.clone(),
        };
        Self {
            backup_id: manifest.backup.to_string(),
            status: BackupStatus::Complete,
            content: Some(content),
            problem: None,
        }
    }

    fn unusable(backup: BackupId, status: BackupStatus, error: &Error) -> Self {
        Self { backup_id: backup.to_string(), status, content: None, problem: Some(error.message().to_owned()) }
    }
}
