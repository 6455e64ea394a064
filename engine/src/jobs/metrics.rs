//! Metrics of jobs.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::jobs::record::{JobStatus, JobType};

/// Registered when the engine opens, so a recorder must be installed before.
pub(super) struct Metrics {
    flushes: OfType,
    compactions: OfType,
    sweeps: OfType,
    exports: OfType,
    backups: OfType,
    restores: OfType,
    flushed_rows: Counter,
    flushed_bytes: Counter,
    compacted_rows: Counter,
    compacted_bytes: Counter,
    swept_files: Counter,
    waiting: Gauge,
}

/// Jobs of one type.
struct OfType {
    ended: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Metrics {
    pub(super) fn register() -> Self {
        describe_counter!("kalamdb_jobs_total", "Jobs that ended.");
        describe_counter!("kalamdb_jobs_failed_total", "Jobs that ended and could not do all of their work.");
        describe_histogram!("kalamdb_job_seconds", "Time from the beginning of a job to its end.");
        describe_counter!("kalamdb_flushed_rows_total", "Rows written to segments by flushes.");
        describe_counter!("kalamdb_flushed_bytes_total", "Size of the segment files written by flushes.");
        describe_counter!("kalamdb_compacted_rows_total", "Rows written to segments by compactions.");
        describe_counter!("kalamdb_compacted_bytes_total", "Size of the segment files written by compactions.");
        describe_counter!("kalamdb_swept_files_total", "Files deleted because nothing needs them any more.");
        describe_gauge!("kalamdb_jobs_waiting", "Jobs that wait for their turn.");
        let of = |job_type: JobType| {
            let job_type = job_type.as_str();
            OfType {
                ended: counter!("kalamdb_jobs_total", "type" => job_type),
                failed: counter!("kalamdb_jobs_failed_total", "type" => job_type),
                seconds: histogram!("kalamdb_job_seconds", "type" => job_type),
            }
        };
        Self {
            flushes: of(JobType::Flush),
            compactions: of(JobType::Compaction),
            sweeps: of(JobType::Sweep),
            exports: of(JobType::Export),
            backups: of(JobType::Backup),
            restores: of(JobType::Restore),
            flushed_rows: counter!("kalamdb_flushed_rows_total"),
            flushed_bytes: counter!("kalamdb_flushed_bytes_total"),
            compacted_rows: counter!("kalamdb_compacted_rows_total"),
            compacted_bytes: counter!("kalamdb_compacted_bytes_total"),
            swept_files: counter!("kalamdb_swept_files_total"),
            waiting: gauge!("kalamdb_jobs_waiting"),
        }
    }

    pub(super) fn ended(&self, job_type: JobType, status: JobStatus, took: Duration) {
        let of_type = match job_type {
            JobType::Flush => &self.flushes,
            JobType::Compaction => &self.compactions,
            JobType::Sweep => &self.sweeps,
            JobType::Export => &self.exports,
            JobType::Backup => &self.backups,
            JobType::Restore => &self.restores,
        };
        of_type.ended.increment(1);
        of_type.seconds.record(took);
        if status == JobStatus::Failed {
            of_type.failed.increment(1);
        }
    }

    pub(super) fn flushed(&self, rows: u64, bytes: u64) {
        self.flushed_rows.increment(rows);
        self.flushed_bytes.increment(bytes);
    }

    pub(super) fn compacted(&self, rows: u64, bytes: u64) {
        self.compacted_rows.increment(rows);
        self.compacted_bytes.increment(bytes);
    }

    pub(super) fn swept(&self, files: u64) {
        self.swept_files.increment(files);
    }

    pub(super) fn waiting(&self, jobs: usize) {
        self.waiting.set(jobs as f64);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
