//! What the workloads of flushed rows have in common: servers of their own, SHARED tables of generated messages, their
//! segment files.

pub(super) mod compaction;
pub(super) mod flush;
pub(super) mod interference;
pub(super) mod partitions;
pub(super) mod point;
pub(super) mod scan;
pub(super) mod shutdown;
pub(super) mod users;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use kalam_link::{Client, FlushFinished, JobStatus};
use tokio::time::{Instant, sleep};

use super::Context;
use crate::{
    data::{self, Indexes},
    error::{BenchError, Result},
    progress::Progress,
    servers::{Durability, Server},
};

/// Segments are left as they were flushed, so that there are as many as a workload says.
const NO_COMPACTION: [(&str, &str); 1] = [("compaction.automatic", "false")];
/// How long background work may take until the server is quiet.
const QUIET_LIMIT: Duration = Duration::from_secs(600);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Rows that are flushed at a time while a table is filled.
const FLUSH_ROWS: u64 = 500_000;

/// A server of a workload's own.
pub(super) struct ColdServer {
    server: Server,
    namespace: String,
}

impl ColdServer {
    pub(super) async fn start(context: &Context, settings: &[(&str, &str)]) -> Result<Self> {
        let server = Server::start_with(Durability::Sync, &context.folder(), settings).await?;
        Ok(Self { server, namespace: context.args.namespace.clone() })
    }

    /// A server with a table of so many rows, all of them flushed.
    pub(super) async fn with_flushed(
        context: &Context,
        settings: &[(&str, &str)],
        table: &str,
        rows: u64,
    ) -> Result<Self> {
        let cold = Self::start(context, settings).await?;
        cold.create(table).await?;
        let mut progress = Progress::new("filling and flushing".to_owned(), "rows", rows);
        for from in (0..rows).step_by(FLUSH_ROWS as usize) {
            let to = rows.min(from + FLUSH_ROWS);
            cold.insert(table, rows, from..to).await?;
            cold.flush(table).await?;
            progress.add(to - from);
        }
        cold.quiet().await?;
        Ok(cold)
    }

    pub(super) fn url(&self) -> String {
        self.server.url().to_owned()
    }

    pub(super) fn client(&self) -> &Client {
        self.server.client()
    }

    pub(super) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The table in SQL.
    pub(super) fn qualified(&self, table: &str) -> String {
        format!("{}.{table}", self.namespace)
    }

    /// Makes a table anew.
    pub(super) async fn create(&self, table: &str) -> Result<()> {
        let batch = data::create_shared(&self.namespace, table);
        self.client().execute_batch(batch, ()).await.map_err(BenchError::client("making a table")).map(drop)
    }

    /// Makes a USER table of messages anew; its name is [`USER_TABLE`].
    pub(super) async fn create_user_table(&self) -> Result<()> {
        let batch = data::create_messages(&self.namespace);
        self.client().execute_batch(batch, ()).await.map_err(BenchError::client("making a table")).map(drop)
    }

    /// Writes the messages with these indexes, of a set of `rows`.
    pub(super) async fn insert(&self, table: &str, rows: u64, indexes: impl Into<Indexes>) -> Result<()> {
        data::insert(self.client(), &self.qualified(table), rows, indexes).await
    }

    /// Flushes all rows of a table.
    pub(super) async fn flush(&self, table: &str) -> Result<FlushFinished> {
        let failed = || BenchError::client(format!("flushing {table}"));
        let finished =
            self.client().flush_table(self.namespace.as_str(), table).force(true).wait().await.map_err(failed())?;
        if finished.status == JobStatus::Completed {
            Ok(finished)
        } else {
            Err(BenchError::Process(format!("flushing {table}: {}", finished.message)))
        }
    }

    /// Waits until nothing is flushed or compacted.
    pub(super) async fn quiet(&self) -> Result<()> {
        let until = Instant::now() + QUIET_LIMIT;
        // What a flush leaves to be compacted becomes a job a moment later.
        sleep(10 * POLL_INTERVAL).await;
        let mut waiting = Progress::endless("waiting for background work");
        let busy = "SELECT count(*) FROM system.jobs WHERE status IN ('queued', 'running')";
        while self.number(busy).await? > 0 {
            if Instant::now() > until {
                return Err(BenchError::Process(format!("background work goes on for {} s", QUIET_LIMIT.as_secs())));
            }
            sleep(POLL_INTERVAL).await;
            waiting.tell();
        }
        Ok(())
    }

    /// The files of a table's segments.
    pub(super) async fn files(&self, table: &str) -> Result<Vec<PathBuf>> {
        Ok(self.files_by_user(table).await?.into_values().flatten().collect())
    }

    /// The files of a table's segments, in the order of their keys, by the user whose rows they have; those of a SHARED
    /// table under no name.
    async fn files_by_user(&self, table: &str) -> Result<BTreeMap<String, Vec<PathBuf>>> {
        let failed = || BenchError::client(format!("asking for the segments of {table}"));
        let sql = "SELECT COALESCE(user_id, ''), path FROM system.segments WHERE namespace = $1 AND table_name = $2 \
                   ORDER BY CAST(min_key AS BIGINT), path";
        let result = self.client().execute(sql, (self.namespace.as_str(), table)).await.map_err(failed())?;
        let root = self.server.data_dir().map(|folder| folder.join(STORAGE_FOLDER)).unwrap_or_default();
        let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for row in result.rows().iter() {
            let user = row.get::<String>(0).map_err(|error| failed()(error.into()))?;
            let path = row.get::<String>(1).map_err(|error| failed()(error.into()))?;
            files.entry(user).or_default().push(root.join(path));
        }
        Ok(files)
    }

    /// The one number that a query answers.
    pub(super) async fn number(&self, sql: &str) -> Result<i64> {
        number(self.client(), sql).await
    }
}

/// The USER table of messages.
const USER_TABLE: &str = "messages";
/// Where the built-in storage is, in the data folder.
const STORAGE_FOLDER: &str = "storage";

/// The one number that a query answers.
pub(super) async fn number(client: &Client, sql: &str) -> Result<i64> {
    let failed = || BenchError::client(sql.to_owned());
    let result = client.execute(sql.to_owned(), ()).await.map_err(failed())?;
    result.value(0).map_err(|error| failed()(error.into()))
}
