//! Backups of namespaces, and restores.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt};
use kalamdb_proto::v1::{
    self, admin_service_client::AdminServiceClient, backup_database_response::Event as BackedUp,
    restore_database_response::Event as Restored,
};
use tonic::Status;

use super::Admin;
use crate::{
    client::Client,
    convert,
    error::{Error, Result},
    retry::Safety,
};

/// Which files a backup has of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackupMode {
    /// All that it needs.
    #[default]
    Full,
    /// Those that the backup before it in the same directory has not.
    Incremental,
}

/// Whether a backup can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackupStatus {
    /// Its manifest is what was written. The other files are looked at when it is restored.
    Complete,
    /// Its manifest is not what was written.
    Damaged,
    /// It was made by a later version of KalamDB.
    Newer,
    /// A status that this version of the client does not know.
    Unknown,
}

/// A backup in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its id; later ones have greater ids.
    pub backup_id: String,
    /// Whether it can be restored.
    pub status: BackupStatus,
    /// Why it cannot; the fields below are empty then.
    pub problem: Option<String>,
    /// The namespace that it is of.
    pub namespace: String,
    /// Which files it has of its own.
    pub mode: BackupMode,
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
    /// Files with rows.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that this backup copied itself.
    pub new_files: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// The version of KalamDB that made it.
    pub version: String,
}

/// What a restore is to make of which backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restore {
    /// The namespace that the backup is of.
    pub namespace: String,
    /// The directory of backups.
    pub uri: String,
    /// The backup; `None`: the newest.
    pub backup_id: Option<String>,
    /// The namespace that it becomes, which must not exist; `None`: one of the same name.
    pub into: Option<String>,
}

/// What happens in a backup or a restore, as it happens. After an error the stream ends. Dropping it does not stop the job
/// on the server.
pub struct BackupStream {
    inner: Pin<Box<dyn Stream<Item = Result<BackupEvent, Status>> + Send>>,
    endpoint: Arc<str>,
    done: bool,
}

/// One step of a [`BackupStream`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum BackupEvent {
    /// The job exists, with this id in `system.jobs`.
    Started(String),
    /// How far it is.
    Progress(BackupProgress),
    /// It is done.
    Finished(BackupFinished),
}

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    /// Files that are done.
    pub files: u64,
    /// Their rows, those that are deleted among them.
    pub rows: u64,
    /// Their bytes. An incremental backup counts those that it need not copy, too.
    pub bytes: u64,
}

/// A backup or a restore was made.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupFinished {
    /// The job that did it.
    pub job_id: String,
    /// The backup that was made or restored.
    pub backup_id: String,
    /// What was done.
    pub progress: BackupProgress,
    /// The job's result, for a person.
    pub message: String,
    /// Time from the beginning of the job to its end, in milliseconds.
    pub took_ms: f64,
}

impl Admin {
    /// Copies a namespace, as of one commit, into a directory of backups; answers when it is complete. The time-out of the
    /// client's settings does not apply.
    ///
    /// ```no_run
    /// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
    /// use kalam_link::BackupMode;
    ///
    /// let made = client.admin().backup_database("chat", "nightly/chat", BackupMode::Full).await?;
    /// println!("{}: {} bytes", made.backup_id, made.progress.bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the server, such as `NAMESPACE_NOT_FOUND` and `PATH_NOT_ALLOWED`, and what made the job fail.
    pub async fn backup_database(
        &self,
        namespace: impl Into<String>,
        uri: impl Into<String>,
        mode: BackupMode,
    ) -> Result<BackupFinished> {
        self.backup_database_stream(namespace, uri, mode).await?.finished().await
    }

    /// The same as [`Admin::backup_database`], with what happens on the way.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn backup_database_stream(
        &self,
        namespace: impl Into<String>,
        uri: impl Into<String>,
        mode: BackupMode,
    ) -> Result<BackupStream> {
        let mode = match mode {
            BackupMode::Full => v1::BackupMode::Full,
            BackupMode::Incremental => v1::BackupMode::Incremental,
        };
        let request = v1::BackupDatabaseRequest {
            namespace: namespace.into(),
            uri: uri.into(),
            mode: mode.into(),
            wait: Some(true),
        };
        let events = self.client.call(Safety::Once, None, request, |channel, limits, request| async move {
            limits.apply(AdminServiceClient::new(channel)).backup_database(request).await
        });
        let events = events.await?.map(|event| event.map(|event| event.event.map(backed_up)));
        Ok(BackupStream::new(&self.client, events))
    }

    /// Makes a namespace of a backup; answers when it is there. The time-out of the client's settings does not apply.
    ///
    /// # Errors
    /// Those of the server, such as `NAMESPACE_EXISTS`, and what made the job fail, such as `BACKUP_DAMAGED`.
    pub async fn restore_database(&self, restore: Restore) -> Result<BackupFinished> {
        self.restore_database_stream(restore).await?.finished().await
    }

    /// The same as [`Admin::restore_database`], with what happens on the way.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn restore_database_stream(&self, restore: Restore) -> Result<BackupStream> {
        let Restore { namespace, uri, backup_id, into } = restore;
        let request = v1::RestoreDatabaseRequest {
            namespace,
            uri,
            backup_id: backup_id.unwrap_or_default(),
            into: into.unwrap_or_default(),
            wait: Some(true),
        };
        let events = self.client.call(Safety::Once, None, request, |channel, limits, request| async move {
            limits.apply(AdminServiceClient::new(channel)).restore_database(request).await
        });
        let events = events.await?.map(|event| event.map(|event| event.event.map(restored)));
        Ok(BackupStream::new(&self.client, events))
    }

    /// The backups in a directory, the oldest first.
    ///
    /// # Errors
    /// Those of the server, such as `BACKUP_NOT_FOUND`.
    pub async fn describe_backup(&self, uri: impl Into<String>) -> Result<Vec<Backup>> {
        let request = v1::DescribeBackupRequest { uri: uri.into() };
        let answer = self.read(request, |mut client, request| async move { client.describe_backup(request).await });
        Ok(answer.await?.backups.into_iter().map(backup).collect())
    }
}

impl BackupStream {
    fn new(client: &Client, events: impl Stream<Item = Result<Option<BackupEvent>, Status>> + Send + 'static) -> Self {
        // Kinds of events that this client does not know are left out.
        let known = events.filter_map(async |event| event.transpose());
        BackupStream { inner: Box::pin(known), endpoint: client.endpoint_shared(), done: false }
    }

    /// Waits for the end.
    async fn finished(mut self) -> Result<BackupFinished> {
        while let Some(event) = self.next().await {
            if let BackupEvent::Finished(finished) = event? {
                return Ok(finished);
            }
        }
        Err(Error::protocol("a backup or restore ended without a summary"))
    }
}

impl Stream for BackupStream {
    type Item = Result<BackupEvent>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let event = ready!(this.inner.poll_next_unpin(context));
        let outcome = event.map(|event| event.map_err(|status| Error::from_status(status, &this.endpoint, None)));
        this.done = !matches!(outcome, Some(Ok(_)));
        Poll::Ready(outcome)
    }
}

impl std::fmt::Debug for BackupStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupStream").field("done", &self.done).finish_non_exhaustive()
    }
}

fn backed_up(event: BackedUp) -> BackupEvent {
    match event {
        BackedUp::Started(started) => BackupEvent::Started(started.job_id),
        BackedUp::Progress(so_far) => BackupEvent::Progress(progress(so_far)),
        BackedUp::Finished(done) => BackupEvent::Finished(finished(done)),
    }
}

fn restored(event: Restored) -> BackupEvent {
    match event {
        Restored::Started(started) => BackupEvent::Started(started.job_id),
        Restored::Progress(so_far) => BackupEvent::Progress(progress(so_far)),
        Restored::Finished(done) => BackupEvent::Finished(finished(done)),
    }
}

fn progress(progress: v1::BackupProgress) -> BackupProgress {
    let v1::BackupProgress { files, rows, bytes } = progress;
    BackupProgress { files, rows, bytes }
}

fn finished(finished: v1::BackupFinished) -> BackupFinished {
    let v1::BackupFinished { job_id, progress: done, message, took_ms, backup_id } = finished;
    BackupFinished { job_id, backup_id, progress: done.map(progress).unwrap_or_default(), message, took_ms }
}

fn backup(backup: v1::Backup) -> Backup {
    let status = match backup.status() {
        v1::BackupStatus::Complete => BackupStatus::Complete,
        v1::BackupStatus::Damaged => BackupStatus::Damaged,
        v1::BackupStatus::Newer => BackupStatus::Newer,
        v1::BackupStatus::Unspecified => BackupStatus::Unknown,
    };
    let mode = match backup.mode() {
        v1::BackupMode::Incremental => BackupMode::Incremental,
        v1::BackupMode::Full | v1::BackupMode::Unspecified => BackupMode::Full,
    };
    let text = |text: String| (!text.is_empty()).then_some(text);
    Backup {
        status,
        mode,
        backup_id: backup.backup_id,
        problem: text(backup.problem),
        namespace: backup.namespace,
        based_on: text(backup.based_on),
        created_at_us: convert::micros(backup.created_at.map(|time| (time.seconds, time.nanos))),
        finished_at_us: convert::micros(backup.finished_at.map(|time| (time.seconds, time.nanos))),
        commit_seq: backup.commit_seq,
        tables: backup.tables,
        rows: backup.rows,
        files: backup.files,
        bytes: backup.bytes,
        new_files: backup.new_files,
        new_bytes: backup.new_bytes,
        version: backup.version,
    }
}
