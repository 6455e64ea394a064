//! BACKUP and RESTORE of a namespace, and whether what was restored is what was there.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use kalam_link::Client;
use tokio::time::Instant;

use super::table::BulkTable;
use crate::{
    data,
    error::{BenchError, Result},
    progress::Progress,
    report::{Record, bulk::BackupRecord, quotient},
    workloads::{Context, cold::number},
};

const LIMIT: &str = "copying the segment files";
/// Rows that are compared at a time.
const COMPARED_ROWS: u64 = 250_000;

pub(super) async fn backup(context: &mut Context) -> Result<()> {
    let table = BulkTable::take(context).await?;
    let (client, namespace) = (table.cold.client(), context.args.namespace.clone());
    let restored = format!("{namespace}_restored");
    let folder = table.path("backup")?;

    let files = table.files().await?;
    let (limit_bytes, limit_took) = copy(files, table.path("copies")?).await?;
    let full = timed(client, format!("BACKUP DATABASE {namespace} TO '{}'", folder.display())).await?;
    let bytes = bytes_below(&folder).map_err(BenchError::io("the backup"))?;
    let incremental =
        timed(client, format!("BACKUP DATABASE {namespace} TO '{}' MODE INCREMENTAL", folder.display())).await?;
    let incremental_bytes = bytes_below(&folder).map_err(BenchError::io("the backup"))?.saturating_sub(bytes);
    let restore =
        timed(client, format!("RESTORE DATABASE {namespace} FROM '{}' AS {restored}", folder.display())).await?;
    verify(client, &table, &format!("{restored}.{}", table.plain_name())).await?;
    let drop_table = format!("DROP TABLE {restored}.{}", table.plain_name());
    for sql in [drop_table, format!("DROP NAMESPACE {restored}")] {
        client.execute(sql.clone(), ()).await.map_err(BenchError::client(sql))?;
    }
    fs::remove_dir_all(&folder).map_err(BenchError::io("removing the backup"))?;

    let (mb_per_s, limit_mb_per_s) = (mb_per_s(bytes, full), mb_per_s(limit_bytes, limit_took));
    context.report(Record::Backup(BackupRecord {
        workload: "backup",
        rows: table.rows,
        bytes,
        backup_ms: milliseconds(full),
        mb_per_s,
        incremental_ms: milliseconds(incremental),
        incremental_bytes,
        restore_ms: milliseconds(restore),
        restore_mb_per_s: self::mb_per_s(bytes, restore),
        verified_rows: table.rows,
        limit: LIMIT,
        limit_mb_per_s,
        ratio: quotient(mb_per_s, limit_mb_per_s),
    }))?;
    table.keep(context);
    Ok(())
}

/// How long a statement takes.
async fn timed(client: &Client, sql: String) -> Result<Duration> {
    eprintln!("backup: {sql}");
    let begin = Instant::now();
    client.execute(sql.clone(), ()).await.map_err(BenchError::client(sql))?;
    Ok(begin.elapsed())
}

/// Every row of the table is in the other one, as it is, and that one has no more. Keys are unique in both.
async fn verify(client: &Client, table: &BulkTable, restored: &str) -> Result<()> {
    let count = number(client, &format!("SELECT count(*) FROM {restored}")).await?;
    if count != table.rows as i64 {
        return Err(BenchError::WrongAnswer(format!("{restored} has {count} rows of {}", table.rows)));
    }
    let mut progress = Progress::new("backup: comparing".to_owned(), "rows", table.rows);
    for from in (0..table.rows).step_by(COMPARED_ROWS as usize) {
        let to = table.rows.min(from + COMPARED_ROWS);
        let part = |table: &str| {
            let (columns, first, end) = (data::FILL_COLUMNS, data::id(from), data::id(to));
            format!("SELECT {columns} FROM {table} WHERE id >= {first} AND id < {end}")
        };
        let missing = format!("SELECT count(*) FROM ({} EXCEPT {}) AS missing", part(&table.name()), part(restored));
        let missing = number(client, &missing).await?;
        if missing != 0 {
            return Err(BenchError::WrongAnswer(format!(
                "{missing} of the rows with ids from {} are not in {restored} as they were",
                data::id(from)
            )));
        }
        progress.add(to - from);
    }
    Ok(())
}

/// Copies files to a new folder, which goes away again, each of them synced: the bytes, and the time.
async fn copy(files: Vec<PathBuf>, to: PathBuf) -> Result<(u64, Duration)> {
    let copied = tokio::task::spawn_blocking(move || copy_all(&files, &to)).await;
    copied
        .map_err(|error| BenchError::Process(format!("copying files ended: {error}")))?
        .map_err(BenchError::io("copying the segment files"))
}

fn copy_all(files: &[PathBuf], to: &Path) -> io::Result<(u64, Duration)> {
    fs::create_dir(to)?;
    let begin = Instant::now();
    let mut bytes = 0;
    for (number, file) in files.iter().enumerate() {
        let copy = to.join(number.to_string());
        bytes += fs::copy(file, &copy)?;
        File::open(&copy)?.sync_all()?;
    }
    let took = begin.elapsed();
    fs::remove_dir_all(to)?;
    Ok((bytes, took))
}

/// Bytes of all files below a folder.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    let (mut bytes, mut open) = (0, vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}

fn mb_per_s(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_copied_counted_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        let files = [folder.path().join("a"), folder.path().join("below/b")];
        fs::write(&files[0], [0; 10]).unwrap();
        fs::write(&files[1], [0; 20]).unwrap();
        assert_eq!(bytes_below(folder.path()).unwrap(), 30);
        let copies = folder.path().join("copies");
        assert_eq!(copy_all(&files, &copies).unwrap().0, 30);
        assert!(!copies.exists());
        assert!(bytes_below(&copies).is_err());
    }

    #[test]
    fn megabytes_are_millions() {
        assert_eq!(mb_per_s(5_000_000, Duration::from_millis(500)), 10.0);
    }
}
