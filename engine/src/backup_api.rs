//! Backups and restores, as callers of the API ask for them.

use crate::{
    access::StatementKind,
    admin_api::JobHandle,
    audit::{Act, audited},
    error::Result,
    exec::backup,
    jobs::{BackupInfo, BackupMode},
    session::Session,
    sql::Name,
};

impl Session {
    /// Asks for a backup of a namespace into the directory at `uri`. The job begins when no other backup or restore runs,
    /// and goes on when the handle is dropped.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba, NAMESPACE_NOT_FOUND, PATH_NOT_ALLOWED, STORAGE_NOT_FOUND, TOO_MANY_REQUESTS,
    /// SHUTTING_DOWN. What else fails is told by the job.
    pub fn back_up(&self, namespace: &str, uri: &str, mode: BackupMode) -> Result<JobHandle> {
        let begun = backup::begin_backup(self.shared(), self.caller(), &plain(namespace), uri, mode);
        let begun =
            self.shared().audit.tell(self.caller(), Act::new(StatementKind::BackupDatabase, namespace), begun)?;
        Ok(JobHandle::new(self.shared(), begun))
    }

    /// Asks for a restore from the directory at `uri`: of the newest backup, or the one with this id; as namespace `into`,
    /// or the one of the same name.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba, NAMESPACE_EXISTS, INVALID_NAME, PATH_NOT_ALLOWED, STORAGE_NOT_FOUND,
    /// TOO_MANY_REQUESTS, SHUTTING_DOWN. What else fails is told by the job.
    pub fn restore(&self, namespace: &str, uri: &str, backup: Option<&str>, into: Option<&str>) -> Result<JobHandle> {
        let (name, other) = (plain(namespace), into.map(plain));
        let begun = backup::begin_restore(self.shared(), self.caller(), &name, uri, backup, other.as_ref());
        let act = Act::new(StatementKind::RestoreDatabase, into.unwrap_or(namespace));
        let begun = self.shared().audit.tell(self.caller(), act, begun)?;
        Ok(JobHandle::new(self.shared(), begun))
    }

    /// The backups in the directory at `uri`, the oldest first.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba, BACKUP_NOT_FOUND, PATH_NOT_ALLOWED, STORAGE_NOT_FOUND, those of the place.
    pub async fn backups(&self, uri: &str) -> Result<Vec<BackupInfo>> {
        let showing = backup::show_backups(self.shared(), self.caller(), uri);
        audited(self.shared(), self.caller(), Act::new(StatementKind::ShowBackup, uri), showing).await
    }
}

fn plain(name: &str) -> Name {
    Name { text: name.to_owned(), position: None }
}
