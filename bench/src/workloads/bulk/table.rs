//! The table of flushed rows that several workloads read, and folders for what a server writes.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::{
    error::{BenchError, Result},
    workloads::{Context, cold::ColdServer},
};

const DEFAULT_ROWS: u64 = 5_000_000;
const TABLE: &str = "bulk";

/// A server with a SHARED table whose rows are all flushed.
pub(in crate::workloads) struct BulkTable {
    // The server before the folder: it must be gone when that is removed.
    pub(super) cold: ColdServer,
    pub(super) rows: u64,
    folder: TempDir,
}

impl BulkTable {
    /// The table of the workload before, if it is as large as asked for, or a new one.
    pub(super) async fn take(context: &mut Context) -> Result<Self> {
        let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
        if let Some(table) = context.bulk.take().filter(|table| table.rows == rows) {
            return Ok(table);
        }
        let parent = context.folder();
        let failed = || BenchError::io(format!("cannot make a folder in {}", parent.display()));
        let folder = tempfile::Builder::new().prefix("kalam-bench-files-").tempdir_in(&parent).map_err(failed())?;
        let root = folder.path().canonicalize().map_err(failed())?.display().to_string();
        let settings = [("paths.export_roots", root.as_str()), ("paths.backup_roots", root.as_str())];
        eprintln!("filling and flushing {rows} rows");
        let cold = ColdServer::with_flushed(context, &settings, TABLE, rows).await?;
        Ok(Self { cold, rows, folder })
    }

    /// Leaves it for the next workload.
    pub(super) fn keep(self, context: &mut Context) {
        context.bulk = Some(self);
    }

    /// The table in SQL.
    pub(super) fn name(&self) -> String {
        self.cold.qualified(TABLE)
    }

    /// The table's segment files.
    pub(super) async fn files(&self) -> Result<Vec<PathBuf>> {
        self.cold.files(TABLE).await
    }

    /// A path in the folder that the server may write to.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().canonicalize().map_err(BenchError::io("the folder of exports"))?;
        Ok(folder.join(name))
    }

    /// The table's name in its namespace.
    pub(super) fn plain_name(&self) -> &'static str {
        TABLE
    }
}
