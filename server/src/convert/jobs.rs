//! Jobs and flushes as protobuf.

use kalamdb_engine::{
    Error, FailedPartition, JobId, JobProgress, JobRecord, JobStatus, JobTrigger, JobType, PartitionDone, Reason,
    UserId,
};
use kalamdb_proto::v1;

use super::to_timestamp;

/// A job.
pub(crate) fn to_job(record: JobRecord) -> v1::Job {
    let (namespace, table) = names_of(&record);
    v1::Job {
        job_id: record.id.to_string(),
        r#type: to_job_type(record.job_type).into(),
        status: to_job_status(record.status).into(),
        namespace,
        table,
        parameters: record.parameters(),
        result: record.result.unwrap_or_default(),
        trace: record.trace.unwrap_or_default(),
        memory_used_bytes: record.memory_used_bytes,
        cpu_used_ms: record.cpu_used_us as f64 / 1_000.0,
        node: record.node.to_string(),
        created_at: Some(to_timestamp(record.created_at_us)),
        started_at: record.started_at_us.map(to_timestamp),
        finished_at: record.finished_at_us.map(to_timestamp),
        trigger: to_trigger(record.trigger).into(),
        resumes: record.resumes.map(|id| id.to_string()).unwrap_or_default(),
        attempt: record.attempt,
        progress: Some(to_progress(&record.progress)),
        failed_partitions: record.failed_partitions.into_iter().map(to_failed_partition).collect(),
    }
}

/// The summary of a flush that has ended.
pub(crate) fn to_flush_finished(record: JobRecord) -> v1::FlushFinished {
    let (namespace, table) = names_of(&record);
    let progress = record.progress;
    let took_us = match (record.started_at_us, record.finished_at_us) {
        (Some(started), Some(finished)) => finished.saturating_sub(started).max(0),
        _ => 0,
    };
    v1::FlushFinished {
        job_id: record.id.to_string(),
        namespace,
        table,
        status: to_job_status(record.status).into(),
        rows: progress.rows,
        bytes: progress.bytes,
        segments: progress.segments,
        partitions: progress.partitions,
        partitions_kept_hot: progress.partitions_kept_hot,
        partitions_failed: progress.partitions_failed,
        failed_partitions: record.failed_partitions.into_iter().map(to_failed_partition).collect(),
        message: record.result.unwrap_or_default(),
        took_ms: took_us as f64 / 1_000.0,
    }
}

/// A partition that the job with this id has flushed.
pub(crate) fn to_partition_flushed(job: JobId, partition: PartitionDone) -> v1::PartitionFlushed {
    v1::PartitionFlushed {
        job_id: job.to_string(),
        user_id: to_user_id(partition.user_id),
        rows: partition.rows,
        bytes: partition.bytes,
        segments: partition.segments,
        storage: partition.storage,
        path: partition.path,
    }
}

/// A partition that the job with this id could not flush.
pub(crate) fn to_partition_failed(job: JobId, partition: FailedPartition) -> v1::PartitionFailed {
    let FailedPartition { user_id, message } = partition;
    v1::PartitionFailed { job_id: job.to_string(), user_id: to_user_id(user_id), message }
}

/// Namespace and name of the table that a job works on; empty when it is none.
fn names_of(record: &JobRecord) -> (String, String) {
    record.table.as_ref().map(|table| (table.namespace.clone(), table.name.clone())).unwrap_or_default()
}

/// The type that a filter names; `None`: every one.
pub(crate) fn from_job_type(number: i32) -> Result<Option<JobType>, Error> {
    Ok(match v1::JobType::try_from(number).map_err(|_| unknown("type", "JobType", number))? {
        v1::JobType::Unspecified => None,
        v1::JobType::Flush => Some(JobType::Flush),
        v1::JobType::Compaction => Some(JobType::Compaction),
        v1::JobType::Sweep => Some(JobType::Sweep),
        v1::JobType::Export => Some(JobType::Export),
        v1::JobType::Backup => Some(JobType::Backup),
        v1::JobType::Restore => Some(JobType::Restore),
    })
}

/// The status that a filter names; `None`: every one.
pub(crate) fn from_job_status(number: i32) -> Result<Option<JobStatus>, Error> {
    Ok(match v1::JobStatus::try_from(number).map_err(|_| unknown("status", "JobStatus", number))? {
        v1::JobStatus::Unspecified => None,
        v1::JobStatus::Queued => Some(JobStatus::Queued),
        v1::JobStatus::Running => Some(JobStatus::Running),
        v1::JobStatus::Completed => Some(JobStatus::Completed),
        v1::JobStatus::Failed => Some(JobStatus::Failed),
        v1::JobStatus::Interrupted => Some(JobStatus::Interrupted),
        v1::JobStatus::Cancelled => Some(JobStatus::Cancelled),
    })
}

/// The error for a number that is not a member of an enumeration.
pub(super) fn unknown(field: &'static str, name: &str, number: i32) -> Error {
    Error::new(Reason::InvalidRequest, format!("{field} {number} is not a {name}.")).with("field", field)
}

fn to_job_type(job_type: JobType) -> v1::JobType {
    match job_type {
        JobType::Flush => v1::JobType::Flush,
        JobType::Compaction => v1::JobType::Compaction,
        JobType::Sweep => v1::JobType::Sweep,
        JobType::Export => v1::JobType::Export,
        JobType::Backup => v1::JobType::Backup,
        JobType::Restore => v1::JobType::Restore,
    }
}

fn to_job_status(status: JobStatus) -> v1::JobStatus {
    match status {
        JobStatus::Queued => v1::JobStatus::Queued,
        JobStatus::Running => v1::JobStatus::Running,
        JobStatus::Completed => v1::JobStatus::Completed,
        JobStatus::Failed => v1::JobStatus::Failed,
        JobStatus::Interrupted => v1::JobStatus::Interrupted,
        JobStatus::Cancelled => v1::JobStatus::Cancelled,
    }
}

fn to_trigger(trigger: JobTrigger) -> v1::JobTrigger {
    match trigger {
        JobTrigger::Manual => v1::JobTrigger::Manual,
        JobTrigger::Rows => v1::JobTrigger::Rows,
        JobTrigger::Interval => v1::JobTrigger::Interval,
        JobTrigger::Shutdown => v1::JobTrigger::Shutdown,
        JobTrigger::Recovery => v1::JobTrigger::Recovery,
        JobTrigger::Housekeeping => v1::JobTrigger::Housekeeping,
    }
}

fn to_progress(progress: &JobProgress) -> v1::JobProgress {
    v1::JobProgress {
        rows: progress.rows,
        bytes: progress.bytes,
        segments: progress.segments,
        partitions: progress.partitions,
        partitions_kept_hot: progress.partitions_kept_hot,
        partitions_failed: progress.partitions_failed,
    }
}

fn to_failed_partition(partition: FailedPartition) -> v1::FailedPartition {
    v1::FailedPartition { user_id: to_user_id(partition.user_id), message: partition.message }
}

fn to_user_id(user_id: Option<UserId>) -> String {
    user_id.map(|user| user.as_str().to_owned()).unwrap_or_default()
}
