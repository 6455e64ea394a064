//! Aggregates over all rows of a SHARED table: all of them flushed, some of those updated, half of them hot.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use kalam_link::Client;

use super::{ColdServer, FLUSH_ROWS};
use crate::{
    data::{self, ROLE_COUNT},
    driver::Pool,
    error::{BenchError, Result},
    limits::datafusion::{DataFusionClient, IN_FILES, IN_MEMORY},
    progress::Progress,
    wire::{Expect, Requests, Traffic, statement},
    workloads::{
        Context, limit,
        scan::{Figures, aggregate, figures, server_figures},
    },
};

const CLIENTS: [usize; 1] = [1];
const DEFAULT_ROWS: u64 = 5_000_000;
const DEFAULT_MIXED_ROWS: u64 = 1_000_000;
const TABLE: &str = "scanned";
const USER: &str = "scanner";
pub(super) const LIMIT_FILES: &str = "DataFusion, same files";
const LIMIT_BOTH: &str = "DataFusion, files and memory";
/// Every so many rows is updated, the one with this remainder first.
const UPDATED_EVERY: u64 = 100;
const UPDATED_REMAINDER: u64 = 7;
/// What an update adds to a row's number of files changed.
const UPDATE_ADDS: i64 = 1_000;
/// The filter of the mixed scan lets through rows with fewer files changed.
const FILTER_BELOW: i64 = 500;

/// A table with only flushed rows, which several workloads scan.
pub(in crate::workloads) struct ScannedTable {
    cold: ColdServer,
    rows: u64,
    updated: bool,
}

impl ScannedTable {
    async fn fill(context: &Context, rows: u64) -> Result<Self> {
        eprintln!("filling and flushing {rows} rows");
        let cold = ColdServer::with_flushed(context, &[], TABLE, rows).await?;
        Ok(Self { cold, rows, updated: false })
    }

    /// Updates a part of the rows, which are hot from then on.
    async fn update(&mut self) -> Result<()> {
        let table = self.cold.qualified(TABLE);
        let mut progress = Progress::new("updating every hundredth row".to_owned(), "rows", self.rows);
        let failed = || BenchError::client("updating rows");
        for from in (0..self.rows).step_by(FLUSH_ROWS as usize) {
            let sql = format!(
                "UPDATE {table} SET files_changed = files_changed + {UPDATE_ADDS} \
                 WHERE id > {} AND id <= {} AND (id - 1) % {UPDATED_EVERY} = {UPDATED_REMAINDER}",
                data::id(from) - 1,
                data::id(from + FLUSH_ROWS) - 1,
            );
            self.cold.client().execute(sql, ()).await.map_err(failed())?;
            progress.add(FLUSH_ROWS.min(self.rows - from));
        }
        self.updated = true;
        self.cold.quiet().await
    }

    fn expected(&self) -> Vec<Figures> {
        expected(0..self.rows, |index| {
            let updated = self.updated && index % UPDATED_EVERY == UPDATED_REMAINDER;
            Some(i64::from(data::files_changed(index)) + if updated { UPDATE_ADDS } else { 0 })
        })
    }
}

/// Count, sum and average by role over flushed rows; DataFusion on the same files as the limit.
pub(in crate::workloads) async fn cold_scan(context: &mut Context) -> Result<()> {
    scan(context, "cold-scan", false).await
}

/// The same after an update of a part of the rows.
pub(in crate::workloads) async fn cold_scan_updated(context: &mut Context) -> Result<()> {
    scan(context, "cold-scan-updated", true).await
}

async fn scan(context: &mut Context, workload: &str, updated: bool) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let known = context.scanned.take().filter(|table| table.rows == rows && (updated || !table.updated));
    let mut table = match known {
        Some(table) => table,
        None => ScannedTable::fill(context, rows).await?,
    };
    let files = table.cold.files(TABLE).await?;
    let alone = DataFusionClient::on_files(&files, &aggregate(IN_FILES), ROLE_COUNT).await?;
    if !table.updated {
        check("DataFusion alone", &figures(&alone.run().await?)?, &table.expected())?;
    }
    if updated && !table.updated {
        table.update().await?;
    }
    let sql = aggregate(&table.cold.qualified(TABLE));
    contest(context, workload, &table.cold, rows, &sql, &table.expected(), (LIMIT_FILES, alone)).await?;
    tell_size(workload, &files)?;
    context.scanned = Some(table);
    Ok(())
}

/// A filter and the aggregate where the first half of the rows is flushed and the other one is not.
pub(in crate::workloads) async fn mixed_scan(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_MIXED_ROWS);
    let half = rows / 2;
    eprintln!("filling {rows} rows and flushing half of them");
    let cold = ColdServer::start(context, &[]).await?;
    cold.create(TABLE).await?;
    cold.insert(TABLE, rows, 0..half).await?;
    cold.flush(TABLE).await?;
    cold.quiet().await?;
    cold.insert(TABLE, rows, half..rows).await?;

    let files = cold.files(TABLE).await?;
    let columns = "SELECT role, files_changed FROM";
    let both = format!("({columns} {IN_FILES} UNION ALL {columns} {IN_MEMORY}) AS t");
    let filtered = |table: &str| aggregate(&format!("{table} WHERE files_changed < {FILTER_BELOW}"));
    let alone = DataFusionClient::with(Some((half..rows, rows)), &files, &filtered(&both), ROLE_COUNT).await?;
    let expected = expected(0..rows, |index| {
        Some(i64::from(data::files_changed(index))).filter(|files_changed| *files_changed < FILTER_BELOW)
    });
    check("DataFusion alone", &figures(&alone.run().await?)?, &expected)?;
    let sql = filtered(&cold.qualified(TABLE));
    contest(context, "mixed-scan", &cold, rows, &sql, &expected, (LIMIT_BOTH, alone)).await
}

/// Checks the server's answer, then measures it beside DataFusion's.
async fn contest(
    context: &mut Context,
    workload: &str,
    cold: &ColdServer,
    rows: u64,
    sql: &str,
    expected: &[Figures],
    (limit_name, alone): (&'static str, DataFusionClient),
) -> Result<()> {
    check("the server", &answer(cold.client(), sql).await?, expected)?;
    let requests = |_: usize| -> Requests {
        let sql = sql.to_owned();
        Box::new(move || statement(sql.clone(), Vec::new()))
    };
    for clients in context.args.clients(&CLIENTS) {
        let traffic = Traffic {
            clients,
            connections: context.args.connections(),
            user: &|_| USER.to_owned(),
            requests: &requests,
            expect: Expect::Rows(ROLE_COUNT),
        };
        let limits = vec![limit(limit_name, Pool::new(vec![alone.clone(); clients]))];
        context.measure(workload, rows, &cold.url(), &traffic, limits).await?;
    }
    Ok(())
}

/// The aggregate over the messages of a range, of which each counts with the number that it has here, or not at all.
fn expected(indexes: Range<u64>, files_changed: impl Fn(u64) -> Option<i64>) -> Vec<Figures> {
    let mut roles: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for index in indexes {
        if let Some(files_changed) = files_changed(index) {
            let (count, sum) = roles.entry(data::role(index)).or_default();
            *count += 1;
            *sum += files_changed;
        }
    }
    roles.into_iter().map(|(role, (count, sum))| (role.to_owned(), count, sum, sum as f64 / count as f64)).collect()
}

/// The aggregate over the messages of a range as they are generated.
pub(super) fn expected_of(indexes: Range<u64>) -> Vec<Figures> {
    expected(indexes, |index| Some(i64::from(data::files_changed(index))))
}

/// What the server answers to an aggregate.
pub(super) async fn answer(client: &Client, sql: &str) -> Result<Vec<Figures>> {
    let answer = client.execute(sql.to_owned(), ()).await.map_err(BenchError::client("an aggregate"))?;
    Ok(answer.rows().iter().map(server_figures).collect::<Option<Vec<_>>>().unwrap_or_default())
}

pub(super) fn check(who: &str, found: &[Figures], expected: &[Figures]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(BenchError::WrongAnswer(format!("an aggregate of {who} is {found:?} where {expected:?} is right")))
}

fn tell_size(workload: &str, files: &[PathBuf]) -> Result<()> {
    let mut bytes = 0;
    for file in files {
        bytes += std::fs::metadata(file).map_err(BenchError::io("a segment file"))?.len();
    }
    eprintln!("{workload}: {} segment files of {:.1} MB together", files.len(), bytes as f64 / 1e6);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_aggregate_counts_what_passes() {
        let figures = expected(0..8, |index| (index != 4).then_some(index as i64));
        let roles: Vec<&str> = figures.iter().map(|(role, ..)| role.as_str()).collect();
        assert_eq!(roles, ["assistant", "system", "tool", "user"]);
        assert_eq!(figures[0], ("assistant".to_owned(), 2, 6, 3.0));
        assert_eq!(figures[3], ("user".to_owned(), 1, 0, 0.0));
    }
}
