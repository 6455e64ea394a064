//! What the workloads of rows in bulk find, where it is not throughput of calls.

use serde::Serialize;

use super::{megabytes, number};

/// A backup of a namespace and its restoration. Megabytes are millions of bytes of the backup's files.
#[derive(Debug, Serialize)]
pub(crate) struct BackupRecord {
    pub(crate) workload: &'static str,
    pub(crate) rows: u64,
    /// Of the backup's files.
    pub(crate) bytes: u64,
    pub(crate) backup_ms: f64,
    pub(crate) mb_per_s: f64,
    /// Of another backup, to the same place, of what has not changed.
    pub(crate) incremental_ms: f64,
    pub(crate) incremental_bytes: u64,
    pub(crate) restore_ms: f64,
    pub(crate) restore_mb_per_s: f64,
    /// Restored rows that were compared with those that were backed up, and are equal.
    pub(crate) verified_rows: u64,
    pub(crate) limit: &'static str,
    pub(crate) limit_mb_per_s: f64,
    /// Megabytes a second divided by the limit's: 1 is the best possible.
    pub(crate) ratio: Option<f64>,
}

impl BackupRecord {
    pub(super) fn summary(&self) -> String {
        format!(
            "backup: {} rows, {:.1} MB in {:.0} ms ({} MB/s); again in {:.0} ms, {:.1} MB more; restored in {:.0} ms \
             ({} MB/s), {} rows equal; {}: {} MB/s",
            number(self.rows as f64),
            megabytes(self.bytes),
            self.backup_ms,
            number(self.mb_per_s),
            self.incremental_ms,
            megabytes(self.incremental_bytes),
            self.restore_ms,
            number(self.restore_mb_per_s),
            number(self.verified_rows as f64),
            self.limit,
            number(self.limit_mb_per_s)
        )
    }
}

/// What clients that read everything at the same time take of a server's memory.
#[derive(Debug, Serialize)]
pub(crate) struct FlightMemoryRecord {
    pub(crate) workload: &'static str,
    pub(crate) clients: usize,
    /// That each of them reads.
    pub(crate) rows: u64,
    /// Resident memory before, at most, and some time after.
    pub(crate) idle_bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) above_idle_bytes: u64,
    pub(crate) rest_bytes: u64,
    pub(crate) took_ms: f64,
    pub(crate) rows_per_s: f64,
    pub(crate) limit: &'static str,
    pub(crate) limit_above_idle_bytes: u64,
    pub(crate) limit_rows_per_s: f64,
}

impl FlightMemoryRecord {
    pub(super) fn summary(&self) -> String {
        format!(
            "flight-memory: {} clients of {} rows, {} rows/s: {:.1} MB at most above the {:.1} MB before, {:.1} MB after; \
             {}: {:.1} MB, {} rows/s",
            self.clients,
            number(self.rows as f64),
            number(self.rows_per_s),
            megabytes(self.above_idle_bytes),
            megabytes(self.idle_bytes),
            megabytes(self.rest_bytes),
            self.limit,
            megabytes(self.limit_above_idle_bytes),
            number(self.limit_rows_per_s)
        )
    }
}
