//! Flushing the partitions of many users, and reading each of them.

use std::path::Path;

use super::number;
use crate::{
    driver::Contest,
    error::{BenchError, Result},
    report::{LoadRecord, Record},
    workloads::{
        Context,
        load::{self, TABLE},
    },
};

/// The setting that says how many rows of a partition are worth a file.
const THRESHOLD: &str = "flush.min_partition_rows";
const LIMIT: &str = "the same rows hot";

/// Loads a file of messages, flushes, and fails when a user's rows differ or there are too many files.
pub(in crate::workloads) async fn flush_users(context: &mut Context, path: &Path) -> Result<()> {
    let loaded = load::load(context, path, "flush-users").await?;
    let client = &loaded.client;
    let namespace = context.args.namespace.clone();
    let hot = loaded.compare("flush-users, hot").await?;

    let failed = || BenchError::client("FLUSH ALL TABLES");
    let flushed = client.flush_all().namespace(namespace.as_str()).wait().await.map_err(failed())?;
    if flushed.tables_failed > 0 {
        return Err(BenchError::Process(format!("{} tables could not be flushed", flushed.tables_failed)));
    }
    let threshold =
        number(client, &format!("SELECT CAST(value AS BIGINT) FROM system.settings WHERE name = '{THRESHOLD}'"))
            .await?;
    let segments = format!("FROM system.segments WHERE namespace = '{namespace}' AND table_name = '{TABLE}'");
    let files = number(client, &format!("SELECT count(*) {segments}")).await?;
    let users = loaded.rows_by_user().filter(|rows| *rows as i64 >= threshold).count();
    eprintln!(
        "flush-users: {} rows flushed into {files} files; {users} users have the {threshold} rows that are worth one",
        flushed.rows
    );
    if files > users as i64 {
        return Err(BenchError::WrongAnswer(format!("{files} files for {users} users with enough rows")));
    }
    loaded.compare("flush-users, some cold").await?;

    let failed = || BenchError::client("FLUSH TABLE FORCE");
    let flushed = client.flush_table(namespace.as_str(), TABLE).force(true).wait().await.map_err(failed())?;
    eprintln!("flush-users: {} more rows flushed by force in {:.2} s", flushed.rows, flushed.took_ms / 1_000.0);
    let cold = loaded.compare("flush-users, all cold").await?;
    let rows = loaded.rows_by_user().sum::<usize>() / loaded.rows_by_user().count().max(1);
    let found = Contest { subject: cold, limits: vec![(LIMIT, hot)] };
    let record = LoadRecord::new("flush-users", loaded.clients(), rows as u64, &found);
    context.report(Record::Load(Box::new(record)))
}
