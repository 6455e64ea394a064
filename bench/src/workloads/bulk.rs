//! Workloads of rows in bulk: reads and writes by Arrow Flight SQL beside a bare arrow-flight server, EXPORT, BACKUP and
//! RESTORE, and what many reads at once take of the server's memory. Each starts a server of its own; those that read use
//! the same one, whose table has only flushed rows.

mod backup;
mod export;
mod flight;
mod ingest;
mod memory;
mod read;
pub(super) mod table;

use super::Context;
use crate::error::Result;

/// The limit of reads and writes.
const BARE: &str = "bare arrow-flight server";

/// One of these workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BulkWorkload {
    Read,
    Ingest,
    Export,
    Backup,
    Memory,
}

/// Runs one of the workloads.
pub(super) async fn run(context: &mut Context, workload: BulkWorkload) -> Result<()> {
    match workload {
        BulkWorkload::Read => read::flight_read(context).await,
        BulkWorkload::Ingest => ingest::flight_ingest(context).await,
        BulkWorkload::Export => export::export(context).await,
        BulkWorkload::Backup => backup::backup(context).await,
        BulkWorkload::Memory => memory::flight_memory(context).await,
    }
}
