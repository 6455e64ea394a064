//! Runs sqllogictest files over gRPC.
//!
//! Each file gets a namespace and a user of its own, so files can run at the same time and against a server that is in
//! use. Files written for other databases run as they are; see [`rewrite`] for what is fitted to KalamDB and
//! [`mod@format`] for how values are shown. Conditions see the labels `kalamdb` and `postgresql`, whose SQL is closest.
//! Rows are hot, cold or either while a file runs; see [`Tier`].

pub mod format;
pub mod rewrite;
mod tier;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kalam_link::Client;
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Normalizer, QueryExpect, Record, Runner, default_validator, parse_file,
};

pub use self::tier::Tier;
use self::{
    rewrite::{Plan, Rewriter},
    tier::Mover,
};
use crate::client::unique_name;

/// The failures kept of each file; further ones are only counted.
const KEPT_FAILURES: usize = 20;

/// What running one file came to.
#[derive(Debug)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// Records that did what the file says.
    pub passed: usize,
    /// Records that did not.
    pub failed: usize,
    /// Records that were not run: conditions, shell commands, statements about indexes.
    pub skipped: usize,
    /// Flushes and compactions between the records.
    pub moves: usize,
    /// The first failures, each with its place and reason.
    pub failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, passed, failed, skipped, moves, .. } = self;
        write!(f, "{}: {passed} passed, {failed} failed, {skipped} skipped", path.display())?;
        if *moves > 0 { write!(f, ", {moves} flushes and compactions") } else { Ok(()) }
    }
}

/// The `.slt` and `.test` files below a folder, sorted; of a file that one, whatever its name ends in.
///
/// # Errors
/// When a folder cannot be read, or there is nothing at `path`.
pub fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else if path.extension().is_some_and(|extension| extension == "slt" || extension == "test") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Runs files against the server at `url`, `at_once` of them at a time, and tells of each as it ends.
pub async fn run_files(
    url: &str,
    files: Vec<PathBuf>,
    tier: Tier,
    at_once: usize,
    mut done: impl FnMut(&Report),
) -> Vec<Report> {
    let mut running = stream::iter(files).map(|file| run_file(url, file, tier)).buffer_unordered(at_once.max(1));
    let mut reports = Vec::new();
    while let Some(report) = running.next().await {
        done(&report);
        reports.push(report);
    }
    reports.sort_by(|a, b| a.path.cmp(&b.path));
    reports
}

/// Runs one file in a namespace of its own, which is gone afterwards.
pub async fn run_file(url: &str, path: PathBuf, tier: Tier) -> Report {
    let mut report = Report { path, passed: 0, failed: 0, skipped: 0, moves: 0, failures: Vec::new() };
    let records = match parse_file::<DefaultColumnType>(&report.path) {
        Ok(records) => records,
        Err(error) => return failed(report, format!("cannot be read: {error}")),
    };
    let namespace = unique_name("slt");
    let client = match Client::builder(url).user(&namespace).namespace(&namespace).connect().await {
        Ok(client) => client,
        Err(error) => return failed(report, format!("cannot connect to {url}: {error}")),
    };
    if let Err(error) = client.execute(format!("CREATE NAMESPACE {namespace}"), ()).await {
        return failed(report, format!("cannot create a namespace: {}", SltError::from(error)));
    }

    let state = Arc::new(Mutex::new(State::new(Mover::new(tier, &report.path))));
    let mut runner = {
        let (client, state) = (client.clone(), Arc::clone(&state));
        Runner::new(move || {
            let database = Database { client: client.clone(), state: Arc::clone(&state) };
            async move { Ok(database) }
        })
    };
    runner.with_validator(row_or_value_wise);
    runner.add_label("postgresql");
    for record in records {
        let columns = match &record {
            Record::Query { expected: QueryExpect::Results { types, .. }, .. } => Some(types.clone()),
            Record::Statement { .. } | Record::Query { .. } | Record::Let { .. } => None,
            Record::Halt { .. } => break,
            // A folder of SQL must not be able to run programs.
            Record::System { .. } => {
                report.skipped += 1;
                continue;
            }
            _ => {
                if let Err(error) = runner.run_async(record).await {
                    report = failed(report, error.to_string());
                }
                continue;
            }
        };
        lock(&state).begin(columns);
        match runner.run_async(record).await {
            Err(error) => report = failed(report, error.to_string()),
            Ok(_) if lock(&state).asked => report.passed += 1,
            Ok(_) => report.skipped += 1,
        }
    }
    clean_up(&client, &namespace).await;
    report.moves = lock(&state).moves;
    report
}

fn failed(mut report: Report, reason: String) -> Report {
    report.failed += 1;
    if report.failures.len() < KEPT_FAILURES {
        report.failures.push(format!("{}: {reason}", report.path.display()));
    }
    report
}

/// Drops what the file left. A failure here is nobody's: the namespace has a name that no one else uses.
async fn clean_up(client: &Client, namespace: &str) {
    let left = "SELECT table_name FROM information_schema.tables WHERE table_schema = $1";
    if let Ok(tables) = client.execute(left, (namespace,)).await {
        for table in tables.rows().iter().filter_map(|row| row.get::<&str>(0).ok()) {
            let _ = client.execute(format!("DROP TABLE \"{table}\""), ()).await;
        }
    }
    let _ = client.execute(format!("DROP NAMESPACE {namespace}"), ()).await;
}

/// sqlite's files give one value a line, others one row a line.
fn row_or_value_wise(normalizer: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    default_validator(normalizer, actual, expected) || {
        let values: Vec<Vec<String>> = actual.iter().flatten().map(|value| vec![value.clone()]).collect();
        default_validator(normalizer, &values, expected)
    }
}

/// What the connections of one file share.
#[derive(Debug)]
struct State {
    rewriter: Rewriter,
    mover: Mover,
    /// Flushes and compactions done.
    moves: usize,
    /// The column types that the query being run declares.
    columns: Option<Vec<DefaultColumnType>>,
    /// True once the record being run has reached the server.
    asked: bool,
}

impl State {
    fn new(mover: Mover) -> Self {
        Self { rewriter: Rewriter::default(), mover, moves: 0, columns: None, asked: false }
    }

    fn begin(&mut self, columns: Option<Vec<DefaultColumnType>>) {
        self.columns = columns;
        self.asked = false;
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The error of a statement, as files can expect it: `REASON: message`.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {message}")]
struct SltError {
    reason: String,
    message: String,
}

impl From<kalam_link::Error> for SltError {
    fn from(error: kalam_link::Error) -> Self {
        let reason = error.reason().map_or_else(|| format!("{:?}", error.kind()), str::to_owned);
        Self { reason, message: error.message() }
    }
}

struct Database {
    client: Client,
    state: Arc<Mutex<State>>,
}

#[async_trait]
impl AsyncDB for Database {
    type Error = SltError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SltError> {
        let plan = lock(&self.state).rewriter.plan(sql);
        let Plan::Run { sql, changes, writes } = plan else {
            return Ok(DBOutput::StatementComplete(0));
        };
        lock(&self.state).asked = true;
        let results = self.client.execute_batch(sql, ()).await?;
        let moves = {
            let mut state = lock(&self.state);
            state.rewriter.note(changes);
            state.mover.after(&writes)
        };
        for statement in &moves {
            match self.client.execute(statement.clone(), ()).await {
                // Rows of STREAM tables have one tier.
                Err(error) if error.message().contains("STREAM table") => {}
                moved => drop(moved?),
            }
        }
        let mut state = lock(&self.state);
        state.moves += moves.len();
        // Of several statements, the last one's result counts.
        let Some(result) = results.into_iter().next_back() else { return Ok(DBOutput::StatementComplete(0)) };
        if result.returns_rows() {
            let declared = state.columns.clone().unwrap_or_default();
            let types: Vec<DefaultColumnType> = (0..result.columns().len())
                .map(|index| declared.get(index).cloned().unwrap_or(DefaultColumnType::Any))
                .collect();
            let show = |row: &kalam_link::Row| {
                row.values().iter().zip(&types).map(|(value, column)| format::cell(value, column)).collect()
            };
            let rows = result.rows().iter().map(show).collect();
            return Ok(DBOutput::Rows { types, rows });
        }
        let count = result.row_count();
        if state.columns.is_some() {
            // A file written for DataFusion asks for the count of an INSERT as a query.
            let rows = vec![vec![count.to_string()]];
            return Ok(DBOutput::Rows { types: vec![DefaultColumnType::Integer], rows });
        }
        Ok(DBOutput::StatementComplete(count))
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "kalamdb"
    }

    async fn sleep(duration: std::time::Duration) {
        tokio::time::sleep(duration).await;
    }
}
