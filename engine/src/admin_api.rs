//! Storages, jobs, flushes and statistics, as callers see and change them.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use kalamdb_store::ids::{Owner, UserId};
use tokio::sync::broadcast;

use crate::{
    access::{self, StatementKind},
    audit::{Act, audited},
    catalog::Table,
    engine::{Engine, Shared},
    error::{Error, Reason, Result},
    exec::{self, TableStats},
    jobs::{FailedPartition, FlushOptions, JobEvent, JobId, JobRecord, JobTrigger, WatchedJob},
    session::Session,
    sql::{StorageKind, TableKind},
    storage::StorageInfo,
    system::{self, SegmentInfo},
};

/// A job that a caller asked for. Dropping it leaves the job alone.
pub struct JobHandle {
    shared: Arc<Shared>,
    id: JobId,
    events: broadcast::Receiver<JobEvent>,
    /// `None` once it has been told.
    ended: Option<Pin<Box<dyn Future<Output = JobRecord> + Send>>>,
}

/// What happens in a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobNews {
    /// The rows of a partition are in segments, durably.
    PartitionDone(PartitionDone),
    /// A partition could not be done.
    PartitionFailed(FailedPartition),
    /// The job has ended: the last news.
    Ended(Box<JobRecord>),
}

/// A partition whose rows are in segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDone {
    /// Whose it is; `None`: the partition of a SHARED table.
    pub user_id: Option<UserId>,
    /// Rows written.
    pub rows: u64,
    /// Size of the files written.
    pub bytes: u64,
    /// Files written.
    pub segments: u32,
    /// Name of the storage they are in.
    pub storage: String,
    /// The first of them, relative to the storage's root.
    pub path: String,
}

impl Session {
    /// Storages, by name.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba.
    pub fn storages(&self) -> Result<Vec<StorageInfo>> {
        access::sees_all_of(self.caller(), "storages", "Listing storages")?;
        let shared = self.shared();
        Ok(shared.storages.list(&shared.catalog.state()))
    }

    /// Creates a storage once it could be written to and read from; durable when it returns. False: it existed and
    /// `if_not_exists` was set.
    ///
    /// # Errors
    /// PERMISSION_DENIED, INVALID_NAME, STORAGE_EXISTS, INVALID_STORAGE, STORAGE_UNREACHABLE.
    pub async fn create_storage(
        &self,
        name: &str,
        kind: StorageKind,
        uri: &str,
        credentials: Option<String>,
        if_not_exists: bool,
    ) -> Result<bool> {
        let creating = exec::create_storage(self.shared(), self.caller(), name, kind, uri, credentials, if_not_exists);
        audited(self.shared(), self.caller(), Act::new(StatementKind::CreateStorage, name), creating).await
    }

    /// Changes where tables created from now on have their segments, or the credentials; what is `None` stays. Durable
    /// when it returns.
    ///
    /// # Errors
    /// PERMISSION_DENIED, STORAGE_NOT_FOUND, INVALID_STORAGE, STORAGE_UNREACHABLE.
    pub async fn alter_storage(&self, name: &str, uri: Option<String>, credentials: Option<String>) -> Result<()> {
        let altering = exec::alter_storage(self.shared(), self.caller(), name, uri, credentials);
        audited(self.shared(), self.caller(), Act::new(StatementKind::AlterStorage, name), altering).await
    }

    /// Drops a storage that no table uses; durable when it returns. False: it did not exist and `if_exists` was set.
    ///
    /// # Errors
    /// PERMISSION_DENIED, STORAGE_NOT_FOUND, STORAGE_IN_USE.
    pub async fn drop_storage(&self, name: &str, if_exists: bool) -> Result<bool> {
        let dropping = exec::drop_storage(self.shared(), self.caller(), name, if_exists);
        audited(self.shared(), self.caller(), Act::new(StatementKind::DropStorage, name), dropping).await
    }

    /// Jobs, the newest first.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba.
    pub fn jobs(&self) -> Result<Vec<JobRecord>> {
        access::sees_all_of(self.caller(), "jobs", "Listing jobs")?;
        Ok(self.shared().jobs.list())
    }

    /// One job.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba, JOB_NOT_FOUND.
    pub fn job(&self, id: &str) -> Result<JobRecord> {
        access::sees_all_of(self.caller(), "jobs", "Reading a job")?;
        let known = id.parse().ok().and_then(|id| self.shared().jobs.record(JobId::new(id)));
        known.ok_or_else(|| {
            let shown: String = id.chars().take(40).collect();
            let message =
                format!("Job '{shown}' does not exist. Jobs are in system.jobs; the oldest ones are forgotten.");
            Error::new(Reason::JobNotFound, message).with("job_id", shown)
        })
    }

    /// Asks for a flush of a table. With `force`, partitions too that have too few rows to be worth a file.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba, NAMESPACE_NOT_FOUND, TABLE_NOT_FOUND, TOO_MANY_REQUESTS, SHUTTING_DOWN.
    pub fn flush_table(&self, namespace: &str, table: &str, force: bool) -> Result<JobHandle> {
        let act = Act::new(StatementKind::FlushTable, format!("{namespace}.{table}"));
        self.shared().audit.tell(self.caller(), act, self.begin_flush(namespace, table, force))
    }

    fn begin_flush(&self, namespace: &str, table: &str, force: bool) -> Result<JobHandle> {
        StatementKind::FlushTable.rights().check(self.caller(), "Flushing a table")?;
        let table = self.defined_table(namespace, table)?;
        let job = self.shared().jobs.flush_table_watched(&table, FlushOptions { force }, JobTrigger::Manual)?;
        Ok(JobHandle::new(self.shared(), job))
    }

    /// The tables that can be flushed, of a namespace or of all: namespaces and names, in their order.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba, NAMESPACE_NOT_FOUND.
    pub fn flushable_tables(&self, namespace: Option<&str>) -> Result<Vec<(String, String)>> {
        StatementKind::FlushAll.rights().check(self.caller(), "Flushing tables")?;
        let state = self.shared().catalog.state();
        if let Some(namespace) = namespace {
            not_of_the_system(namespace)?;
            state.namespace(namespace)?;
        }
        Ok(state
            .all_tables()
            .filter(|table| namespace.is_none_or(|n| table.namespace().as_str() == n))
            .filter(|table| table.kind() != TableKind::Stream)
            .map(|table| (table.namespace().to_string(), table.name().to_string()))
            .collect())
    }

    /// Asks for a compaction of a table.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba, NAMESPACE_NOT_FOUND, TABLE_NOT_FOUND, TOO_MANY_REQUESTS, SHUTTING_DOWN.
    pub fn compact_table(&self, namespace: &str, table: &str) -> Result<JobHandle> {
        let act = Act::new(StatementKind::CompactTable, format!("{namespace}.{table}"));
        self.shared().audit.tell(self.caller(), act, self.begin_compaction(namespace, table))
    }

    fn begin_compaction(&self, namespace: &str, table: &str) -> Result<JobHandle> {
        StatementKind::CompactTable.rights().check(self.caller(), "Compacting a table")?;
        let table = self.defined_table(namespace, table)?;
        let job = self.shared().jobs.compact_table_watched(&table, JobTrigger::Manual)?;
        Ok(JobHandle::new(self.shared(), job))
    }

    /// How the rows of a table lie in the two tiers; for role user, those of its own partition alone.
    ///
    /// # Errors
    /// NAMESPACE_NOT_FOUND, TABLE_NOT_FOUND, PERMISSION_DENIED.
    pub async fn table_stats(&self, namespace: &str, table: &str) -> Result<TableStats> {
        not_of_the_system(namespace)?;
        let (table, visible) = self.seen_table(namespace, table)?;
        if visible.rule().is_some() {
            return Err(access::counts_hidden_rows(&table));
        }
        let owner = match table.kind() {
            TableKind::Shared => Some(Owner::Shared),
            TableKind::User | TableKind::Stream if self.caller().role.crosses_users() => None,
            TableKind::User | TableKind::Stream => Some(Owner::User(self.caller().effective_user().clone())),
        };
        let context = self.shared().context(self.caller().clone());
        let shared = Arc::clone(self.shared());
        let counting =
            self.shared().runtime.spawn(async move { exec::count_tiers(&shared, &context, &table, owner).await });
        Ok(TableStats::new(counting.outcome().await??))
    }

    /// The segments of a table, or of one user's partition of it; by user, then by id.
    ///
    /// # Errors
    /// PERMISSION_DENIED for roles below dba, NAMESPACE_NOT_FOUND, TABLE_NOT_FOUND.
    pub async fn segments(&self, namespace: &str, table: &str, user: Option<UserId>) -> Result<Vec<SegmentInfo>> {
        access::sees_all_of(self.caller(), "segments", "Listing segments")?;
        let table = self.defined_table(namespace, table)?;
        let shared = Arc::clone(self.shared());
        let listing = self.shared().runtime.spawn(async move {
            let snapshot = shared.backend.snapshot();
            system::segments_of(snapshot.as_ref(), &shared.storages, &table, user.map(Owner::User))
        });
        listing.outcome().await?
    }

    /// A table of the catalog; those of the system are none.
    fn defined_table(&self, namespace: &str, name: &str) -> Result<Arc<Table>> {
        not_of_the_system(namespace)?;
        self.shared().catalog.state().table(namespace, name, |_| true).map(Arc::clone)
    }
}

fn not_of_the_system(namespace: &str) -> Result<()> {
    if system::is_system_namespace(namespace) {
        let message = format!("Namespace '{namespace}' is of the system: its tables have no rows to write to files.");
        return Err(Error::new(Reason::InvalidStatement, message));
    }
    Ok(())
}

impl Engine {
    /// Flushes the tables before the engine is closed, for this long at most. What is not flushed by then stays in the
    /// hot tier: nothing is lost.
    pub async fn flush_before_close(&self, within: Duration) {
        self.shared().jobs.flush_all_for_shutdown(within).await;
    }
}

impl JobHandle {
    pub(crate) fn new(shared: &Arc<Shared>, job: WatchedJob) -> Self {
        let WatchedJob { id, watch } = job;
        let mut handle = Self { shared: Arc::clone(shared), id, events: watch.events, ended: None };
        handle.ended = Some(Box::pin(handle.ended()));
        handle
    }

    /// Its id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The job as it is now; `None` when its record was the oldest of too many.
    pub fn record(&self) -> Option<JobRecord> {
        self.shared.jobs.record(self.id)
    }

    /// The job when it has ended.
    pub fn ended(&self) -> impl Future<Output = JobRecord> + Send + 'static {
        let (jobs, id) = (Arc::clone(&self.shared.jobs), self.id);
        async move { jobs.wait(id).await }
    }

    /// What happens next; `None` after [`JobNews::Ended`]. One who asks too seldom misses the oldest news but the end.
    pub async fn next(&mut self) -> Option<JobNews> {
        let ended = self.ended.as_mut()?;
        loop {
            tokio::select! {
                // What happened before the end is told before it.
                biased;
                event = self.events.recv() => match event {
                    Ok(event) => return Some(self.shared.news(event)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                record = ended.as_mut() => {
                    self.ended = None;
                    return Some(JobNews::Ended(Box::new(record)));
                }
            }
        }
        let record = self.ended.take()?.await;
        Some(JobNews::Ended(Box::new(record)))
    }
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shared {
    fn news(&self, event: JobEvent) -> JobNews {
        match event {
            JobEvent::PartitionDone { user_id, rows, bytes, segments, storage, path } => {
                let storage = self.storages.name_of(storage);
                JobNews::PartitionDone(PartitionDone { user_id, rows, bytes, segments, storage, path })
            }
            JobEvent::PartitionFailed(failed) => JobNews::PartitionFailed(failed),
        }
    }
}
