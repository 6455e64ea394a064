//! Jobs: work in the background.

use kalamdb_proto::v1::{self, admin_service_client::AdminServiceClient};

use super::{Admin, PAGE_SIZE, present};
use crate::{convert, error::Result, retry::Safety};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobType {
    /// Moves rows of a table to segments.
    Flush,
    /// Merges segments of a table.
    Compaction,
    /// Deletes files that nobody needs any more.
    Sweep,
    /// Writes the rows of a query to a file.
    Export,
    /// Copies a namespace to a folder.
    Backup,
    /// Makes a namespace of a backup.
    Restore,
    /// A type that this version of the client does not know.
    Unknown,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobStatus {
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running,
    /// It ended, and did all of its work.
    Completed,
    /// It ended, and some or all of its work could not be done.
    Failed,
    /// The server ended while it ran.
    Interrupted,
    /// It was stopped, for example because its table was dropped.
    Cancelled,
    /// A status that this version of the client does not know.
    Unknown,
}

/// Why a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobTrigger {
    /// Somebody asked for it.
    Manual,
    /// The table's flush policy: so many rows were written.
    Rows,
    /// The table's flush policy: so much time has passed.
    Interval,
    /// The server was about to end.
    Shutdown,
    /// The server had ended while a job ran, and this one does the rest of its work.
    Recovery,
    /// A flush left segments that are worth merging, or there are files to delete.
    Housekeeping,
    /// A reason that this version of the client does not know.
    Unknown,
}

impl JobStatus {
    /// Whether the job is neither waiting nor running.
    pub fn has_ended(self) -> bool {
        !matches!(self, JobStatus::Queued | JobStatus::Running)
    }
}

/// Work in the background, as in `system.jobs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its id.
    pub job_id: String,
    /// What it does.
    pub job_type: JobType,
    /// How far it is.
    pub status: JobStatus,
    /// Namespace of the table it works on; none when it concerns no single table.
    pub namespace: Option<String>,
    /// The table it works on; none when it concerns no single table.
    pub table: Option<String>,
    /// What it was told, each as `name=value`.
    pub parameters: Vec<String>,
    /// What came of it, for a person; none until it has ended.
    pub result: Option<String>,
    /// Of a failed job: what an operator needs to find the cause.
    pub trace: Option<String>,
    /// The most memory it held at a time, in bytes.
    pub memory_used_bytes: u64,
    /// Processor time it took, in milliseconds.
    pub cpu_used_ms: f64,
    /// The node it runs on.
    pub node: String,
    /// When it was asked for, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// When it began; none while it is queued.
    pub started_at_us: Option<i64>,
    /// When it ended; none before.
    pub finished_at_us: Option<i64>,
    /// Why it runs.
    pub trigger: JobTrigger,
    /// Id of the interrupted job whose work it does; none: it is the first to try.
    pub resumes: Option<String>,
    /// How many interrupted jobs came before it, each doing the work of the one before.
    pub attempt: u32,
    /// What it has done so far, or in all when it has ended.
    pub progress: JobProgress,
    /// The first 100 partitions that it could not do.
    pub failed_partitions: Vec<FailedPartition>,
}

/// What a job has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Rows written to segments.
    pub rows: u64,
    /// Size of the files written.
    pub bytes: u64,
    /// Files written; of a sweep, deleted.
    pub segments: u64,
    /// Partitions that are done.
    pub partitions: u64,
    /// Partitions that a flush left in the hot tier because they have too few rows to be worth a file.
    pub partitions_kept_hot: u64,
    /// Partitions that could not be done.
    pub partitions_failed: u64,
}

/// A partition that a job could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedPartition {
    /// The user whose partition it is; none for a SHARED table.
    pub user_id: Option<String>,
    /// Why, and what to do about it.
    pub message: String,
}

/// Which jobs [`Admin::list_jobs`] answers. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs of this type.
    pub job_type: Option<JobType>,
    /// Only jobs with this status.
    pub status: Option<JobStatus>,
    /// Only jobs on tables of this namespace.
    pub namespace: Option<String>,
    /// Only jobs on this table of the namespace.
    pub table: Option<String>,
}

impl Admin {
    /// Jobs, the newest first.
    ///
    /// ```no_run
    /// use kalam_link::{JobFilter, JobStatus};
    ///
    /// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
    /// let failed = JobFilter { status: Some(JobStatus::Failed), ..JobFilter::default() };
    /// for job in client.admin().list_jobs(&failed).await? {
    ///     println!("{}: {}", job.job_id, job.result.unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the server, such as `PERMISSION_DENIED`.
    pub async fn list_jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        self.pages(async |page_token| {
            let request = v1::ListJobsRequest {
                r#type: filter.job_type.map(to_type).unwrap_or_default().into(),
                status: filter.status.map(to_status).unwrap_or_default().into(),
                namespace: filter.namespace.clone().unwrap_or_default(),
                table: filter.table.clone().unwrap_or_default(),
                page_size: PAGE_SIZE,
                page_token,
            };
            let page = self.read(request, |mut client, request| async move { client.list_jobs(request).await });
            let page = page.await?;
            Ok((page.jobs.into_iter().map(job).collect(), page.next_page_token))
        })
        .await
    }

    /// One job.
    ///
    /// # Errors
    /// Those of the server, such as `JOB_NOT_FOUND`.
    pub async fn get_job(&self, job_id: impl Into<String>) -> Result<Job> {
        let request = v1::GetJobRequest { job_id: job_id.into() };
        let answer = self.read(request, |mut client, request| async move { client.get_job(request).await });
        present(answer.await?.job, "job").map(job)
    }

    /// Merges small segments of a table and drops rows that were deleted or superseded. Answers with the job when it
    /// has ended; it goes on when the answer is not waited for. The client's time-out does not apply.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`. A job that failed is no error: see [`Job::status`].
    pub async fn compact_table(&self, namespace: impl Into<String>, table: impl Into<String>) -> Result<Job> {
        self.compact(namespace.into(), table.into(), true).await
    }

    /// As [`Admin::compact_table`], but answers as soon as there is a job.
    ///
    /// # Errors
    /// As [`Admin::compact_table`].
    pub async fn start_compaction(&self, namespace: impl Into<String>, table: impl Into<String>) -> Result<Job> {
        self.compact(namespace.into(), table.into(), false).await
    }

    async fn compact(&self, namespace: String, table: String, wait: bool) -> Result<Job> {
        let request = v1::CompactTableRequest { namespace, table, wait: Some(wait) };
        let timeout = if wait { None } else { self.client.default_timeout() };
        // Compacting twice leaves what compacting once does.
        let answer = self.client.call(Safety::Repeatable, timeout, request, |channel, limits, request| async move {
            limits.apply(AdminServiceClient::new(channel)).compact_table(request).await
        });
        present(answer.await?.job, "job").map(job)
    }
}

fn to_type(job_type: JobType) -> v1::JobType {
    match job_type {
        JobType::Flush => v1::JobType::Flush,
        JobType::Compaction => v1::JobType::Compaction,
        JobType::Sweep => v1::JobType::Sweep,
        JobType::Export => v1::JobType::Export,
        JobType::Backup => v1::JobType::Backup,
        JobType::Restore => v1::JobType::Restore,
        JobType::Unknown => v1::JobType::Unspecified,
    }
}

fn to_status(status: JobStatus) -> v1::JobStatus {
    match status {
        JobStatus::Queued => v1::JobStatus::Queued,
        JobStatus::Running => v1::JobStatus::Running,
        JobStatus::Completed => v1::JobStatus::Completed,
        JobStatus::Failed => v1::JobStatus::Failed,
        JobStatus::Interrupted => v1::JobStatus::Interrupted,
        JobStatus::Cancelled => v1::JobStatus::Cancelled,
        JobStatus::Unknown => v1::JobStatus::Unspecified,
    }
}

pub(crate) fn job_status(status: v1::JobStatus) -> JobStatus {
    match status {
        v1::JobStatus::Queued => JobStatus::Queued,
        v1::JobStatus::Running => JobStatus::Running,
        v1::JobStatus::Completed => JobStatus::Completed,
        v1::JobStatus::Failed => JobStatus::Failed,
        v1::JobStatus::Interrupted => JobStatus::Interrupted,
        v1::JobStatus::Cancelled => JobStatus::Cancelled,
        v1::JobStatus::Unspecified => JobStatus::Unknown,
    }
}

fn trigger(trigger: v1::JobTrigger) -> JobTrigger {
    match trigger {
        v1::JobTrigger::Manual => JobTrigger::Manual,
        v1::JobTrigger::Rows => JobTrigger::Rows,
        v1::JobTrigger::Interval => JobTrigger::Interval,
        v1::JobTrigger::Shutdown => JobTrigger::Shutdown,
        v1::JobTrigger::Recovery => JobTrigger::Recovery,
        v1::JobTrigger::Housekeeping => JobTrigger::Housekeeping,
        v1::JobTrigger::Unspecified => JobTrigger::Unknown,
    }
}

fn progress(progress: v1::JobProgress) -> JobProgress {
    let v1::JobProgress { rows, bytes, segments, partitions, partitions_kept_hot, partitions_failed } = progress;
    JobProgress { rows, bytes, segments, partitions, partitions_kept_hot, partitions_failed }
}

pub(crate) fn failed_partition(partition: v1::FailedPartition) -> FailedPartition {
    FailedPartition { user_id: filled(partition.user_id), message: partition.message }
}

fn job(job: v1::Job) -> Job {
    let job_type = match job.r#type() {
        v1::JobType::Flush => JobType::Flush,
        v1::JobType::Compaction => JobType::Compaction,
        v1::JobType::Sweep => JobType::Sweep,
        v1::JobType::Export => JobType::Export,
        v1::JobType::Backup => JobType::Backup,
        v1::JobType::Restore => JobType::Restore,
        v1::JobType::Unspecified => JobType::Unknown,
    };
    Job {
        job_type,
        status: job_status(job.status()),
        trigger: trigger(job.trigger()),
        created_at_us: convert::micros(job.created_at.map(|time| (time.seconds, time.nanos))),
        started_at_us: job.started_at.map(|time| convert::micros(Some((time.seconds, time.nanos)))),
        finished_at_us: job.finished_at.map(|time| convert::micros(Some((time.seconds, time.nanos)))),
        namespace: filled(job.namespace),
        table: filled(job.table),
        result: filled(job.result),
        trace: filled(job.trace),
        job_id: job.job_id,
        parameters: job.parameters,
        memory_used_bytes: job.memory_used_bytes,
        cpu_used_ms: job.cpu_used_ms,
        node: job.node,
        resumes: filled(job.resumes),
        attempt: job.attempt,
        progress: job.progress.map(progress).unwrap_or_default(),
        failed_partitions: job.failed_partitions.into_iter().map(failed_partition).collect(),
    }
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
