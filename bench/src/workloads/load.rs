//! Loads a Parquet file of messages into a USER table, each row as its user, and compares what comes back.

mod file;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kalam_link::Client;
use kalamdb_proto::v1::{
    Affected, ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, Row, StatementResult, Value,
    execute_stream_response::Event, query_service_client::QueryServiceClient, statement_result,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use self::file::{COLUMNS, MessageFile};
use super::{Context, write_limits};
use crate::{
    driver::{Contest, Measurement, Reply, Window},
    error::{BenchError, Result},
    limits::rocks::Writes,
    report::{LoadRecord, Record},
    servers::Durability,
    wire::{self, Expect, Requests, Traffic, statement},
};

const CLIENTS: usize = 32;
/// Differences that are described; further ones are only counted.
const DESCRIBED_DIFFERENCES: usize = 10;

/// One statement of the load: rows `from..to` of the file's order, all of one user.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    from: usize,
    to: usize,
}

/// What the workers share.
struct Load {
    file: MessageFile,
    chunks: Vec<Chunk>,
    /// INSERT statements by their number of rows.
    inserts: Vec<String>,
    select: String,
    next: AtomicUsize,
}

/// A file whose rows were written into a table, and connections to read them back.
pub(super) struct Loaded {
    load: Arc<Load>,
    clients: usize,
    channels: Vec<Channel>,
    /// A client that acts for nobody in particular.
    pub(super) client: Client,
    namespace: String,
}

/// The table that a file is written into.
pub(super) const TABLE: &str = "import";

/// Loads the file, reports the load beside its limits, and fails when a row that is read back differs.
pub(super) async fn load_parquet(context: &mut Context, path: &Path) -> Result<()> {
    load(context, path, "load-parquet").await?.compare("load-parquet").await.map(drop)
}

/// Loads the file and reports the load beside its limits.
pub(super) async fn load(context: &mut Context, path: &Path, workload: &str) -> Result<Loaded> {
    let file = MessageFile::read(path).await?;
    let (rows, users) = (file.rows(), file.users().len());
    eprintln!("{workload}: {rows} rows of {users} users in {}", path.display());
    let batch_rows = usize::from(context.args.batch_rows);
    let table = format!("{}.{TABLE}", context.args.namespace);
    let server = context.servers.with_durability(Durability::Sync).await?;
    let (url, client) = (server.url().to_owned(), server.client().clone());
    client.execute_batch(create_table(&table), ()).await.map_err(BenchError::client("making the table"))?;

    let load = Arc::new(Load::new(file, batch_rows, &table));
    let clients = context.args.clients(&[CLIENTS]).first().copied().unwrap_or(CLIENTS);
    let typical = load.typical_chunk();
    let chunk_rows = (typical.to - typical.from) as u64;
    let response = inserted(chunk_rows);
    let shared = Arc::clone(&load);
    let requests = move |_: usize| -> Requests {
        let load = Arc::clone(&shared);
        Box::new(move || load.insert(typical))
    };
    let traffic = Traffic {
        clients,
        connections: context.args.connections(),
        user: &|client| format!("writer-{client}"),
        requests: &requests,
        expect: Expect::Affected(chunk_rows),
    };
    let writes = Writes { rows: chunk_rows, value_bytes: load.file.mean_row_bytes(), sync: true };
    let (_echo, mut limits) = write_limits(context, &traffic, &response, writes).await?;

    // The load runs once, so its limits run half before and half after it.
    let whole = context.args.window();
    let half = Window { warmup: whole.warmup / 2, measure: whole.measure / 2 };
    let mut found = Contest { subject: Measurement::new(), limits: Vec::new() };
    for limit in &mut limits {
        found.limits.push((limit.name, limit.contestant.slice(half).await));
    }
    let mut channels = Vec::new();
    for _ in 0..context.args.connections().min(clients) {
        channels.push(wire::connect(&url).await?);
    }
    let (measured, took) = write_all(&load, clients, &channels).await?;
    found.subject = measured;
    for (limit, (_, measured)) in limits.iter_mut().zip(&mut found.limits) {
        measured.merge(limit.contestant.slice(half).await);
    }
    let record = LoadRecord::new("load-parquet", clients, chunk_rows, &found);
    let rows_per_s = rows as f64 / took.as_secs_f64();
    // Chunks have different numbers of rows, so the exact figure is not the statements' rate times the typical size.
    context.report(Record::Load(Box::new(LoadRecord { rows_per_s, ..record })))?;
    eprintln!("{workload}: {rows} rows written in {:.2} s: {rows_per_s:.0} rows/s", took.as_secs_f64());
    Ok(Loaded { load, clients, channels, client, namespace: context.args.namespace.clone() })
}

impl Loaded {
    /// Reads every user's rows back, and fails when one differs from the file's.
    pub(super) async fn compare(&self, workload: &str) -> Result<Measurement> {
        let (rows, users) = (self.load.file.rows(), self.load.file.users().len());
        let (measured, took) = compare_all(&self.load, self.clients, &self.channels).await?;
        let stored = count(&self.client, &format!("{}.all_users.{TABLE}", self.namespace)).await?;
        if stored != rows as i64 {
            return Err(BenchError::WrongAnswer(format!(
                "the table holds {stored} rows of all users, the file {rows}"
            )));
        }
        eprintln!(
            "{workload}: {rows} rows of {users} users read back in {:.2} s ({:.0} rows/s), all as in the file",
            took.as_secs_f64(),
            rows as f64 / took.as_secs_f64()
        );
        Ok(measured)
    }

    /// How many rows each user has.
    pub(super) fn rows_by_user(&self) -> impl Iterator<Item = usize> {
        self.load.file.users().iter().map(ExactSizeIterator::len)
    }

    pub(super) fn clients(&self) -> usize {
        self.clients
    }
}

fn create_table(table: &str) -> String {
    format!(
        "DROP TABLE IF EXISTS {table}; \
         CREATE USER TABLE {table} (\
           id BIGINT PRIMARY KEY, conversation_id TEXT, user_id TEXT NOT NULL, role TEXT, content TEXT, \
           created_at TIMESTAMP WITH TIME ZONE, files_changed INT)"
    )
}

impl Load {
    fn new(file: MessageFile, batch_rows: usize, table: &str) -> Self {
        let chunks = file
            .users()
            .iter()
            .flat_map(|user| {
                user.clone()
                    .step_by(batch_rows)
                    .map(move |from| Chunk { from, to: user.end.min(from.saturating_add(batch_rows)) })
            })
            .collect();
        let columns = COLUMNS.join(", ");
        let insert = |rows: usize| {
            format!("INSERT INTO {table} ({columns}) VALUES {}", wire::values_clause(rows, COLUMNS.len()))
        };
        Self {
            file,
            chunks,
            inserts: (0..=batch_rows).map(insert).collect(),
            select: format!("SELECT {columns} FROM {table} ORDER BY id"),
            next: AtomicUsize::new(0),
        }
    }

    /// The chunk whose number of rows is nearest to the mean.
    fn typical_chunk(&self) -> Chunk {
        let mean = self.file.rows() / self.chunks.len().max(1);
        let distance = |chunk: &&Chunk| (chunk.to - chunk.from).abs_diff(mean);
        self.chunks.iter().min_by_key(distance).copied().unwrap_or(Chunk { from: 0, to: 0 })
    }

    fn insert(&self, chunk: Chunk) -> ExecuteRequest {
        let sql = self.inserts.get(chunk.to - chunk.from).cloned().unwrap_or_default();
        statement(sql, (chunk.from..chunk.to).flat_map(|row| self.file.values(row)).collect())
    }

    /// The next piece of work that nobody has taken.
    fn take<'a, T>(&self, work: &'a [T]) -> Option<&'a T> {
        work.get(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// What the server answers to an INSERT of so many rows, for the echo.
fn inserted(rows: u64) -> ExecuteResponse {
    let affected = Affected { row_count: rows, message: format!("INSERT 0 {rows}") };
    let result = Some(statement_result::Result::Affected(affected));
    ExecuteResponse { results: vec![StatementResult { result, took_ms: 1.234, commit_seq: 100_000 }] }
}

/// Writes every chunk; the first failure ends the load.
async fn write_all(load: &Arc<Load>, clients: usize, channels: &[Channel]) -> Result<(Measurement, Duration)> {
    load.next.store(0, Ordering::Relaxed);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for channel in channels.iter().cycle().take(clients) {
        let (load, mut query) = (Arc::clone(load), QueryServiceClient::new(channel.clone()));
        tasks.spawn(async move {
            let mut measured = Measurement::new();
            while let Some(chunk) = load.take(&load.chunks) {
                let user = load.file.user(chunk.from);
                let request = wire::as_user(load.insert(*chunk), &wire::user_metadata(user)?);
                let at = Instant::now();
                let response = query
                    .execute(request)
                    .await
                    .map_err(BenchError::call(format!("an INSERT of {} rows of user {user}", chunk.to - chunk.from)))?;
                let reply = Expect::Affected((chunk.to - chunk.from) as u64)
                    .check(response.get_ref())
                    .map_err(BenchError::WrongAnswer)?;
                measured.record(at.elapsed(), reply);
            }
            Ok::<_, BenchError>(measured)
        });
    }
    let mut total = Measurement::new();
    while let Some(done) = tasks.join_next().await {
        total.merge(done.map_err(ended)??);
    }
    let took = start.elapsed();
    total.finish_slice(total.operations() as f64 / took.as_secs_f64());
    Ok((total, took))
}

/// Reads every user's rows and compares them with the file's.
async fn compare_all(load: &Arc<Load>, clients: usize, channels: &[Channel]) -> Result<(Measurement, Duration)> {
    load.next.store(0, Ordering::Relaxed);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for channel in channels.iter().cycle().take(clients) {
        let (load, mut query) = (Arc::clone(load), QueryServiceClient::new(channel.clone()));
        tasks.spawn(async move {
            let (mut measured, mut differences) = (Measurement::new(), Vec::new());
            while let Some(rows) = load.take(load.file.users()) {
                let user = load.file.user(rows.start);
                let at = Instant::now();
                let found = read_user(&mut query, user, &load.select).await?;
                measured.record(at.elapsed(), Reply::default());
                differences.extend(compare(&load.file, rows.start, rows.end, &found));
            }
            Ok::<_, BenchError>((measured, differences))
        });
    }
    let (mut total, mut differences) = (Measurement::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (measured, different) = done.map_err(ended)??;
        total.merge(measured);
        differences.extend(different);
    }
    if differences.is_empty() {
        let took = start.elapsed();
        total.finish_slice(total.operations() as f64 / took.as_secs_f64());
        return Ok((total, took));
    }
    let described = differences.iter().take(DESCRIBED_DIFFERENCES).cloned().collect::<Vec<_>>().join("\n  ");
    Err(BenchError::WrongAnswer(format!("{} differences from the file:\n  {described}", differences.len())))
}

fn ended(error: tokio::task::JoinError) -> BenchError {
    BenchError::Process(format!("a client task ended: {error}"))
}

async fn read_user(query: &mut QueryServiceClient<Channel>, user: &str, select: &str) -> Result<Vec<Row>> {
    let failed = || BenchError::call(format!("reading the rows of user {user}"));
    let message = ExecuteStreamRequest { sql: select.to_owned(), ..ExecuteStreamRequest::default() };
    let request = wire::as_user(message, &wire::user_metadata(user)?);
    let mut stream = query.execute_stream(request).await.map_err(failed())?.into_inner();
    let mut rows = Vec::new();
    let mut finished = false;
    while let Some(message) = stream.message().await.map_err(failed())? {
        match message.event {
            Some(Event::Rows(batch)) => rows.extend(batch.rows),
            Some(Event::Finished(_)) => finished = true,
            Some(Event::Started(_)) | None => {}
        }
    }
    if finished { Ok(rows) } else { Err(failed()(tonic::Status::data_loss("the stream ended before its statement"))) }
}

/// Describes how the rows read differ from rows `from..to` of the file.
fn compare(file: &MessageFile, from: usize, to: usize, found: &[Row]) -> Vec<String> {
    let user = file.user(from);
    let mut differences = Vec::new();
    if found.len() != to - from {
        differences.push(format!("user {user}: {} rows instead of {}", found.len(), to - from));
    }
    for (row, found) in (from..to).zip(found) {
        let expected = file.values(row);
        if found.values == expected {
            continue;
        }
        let column = expected.iter().zip(&found.values).position(|(a, b)| a != b);
        let show = |value: Option<&Value>| format!("{:?}", value.and_then(|value| value.kind.as_ref()));
        differences.push(match column {
            Some(column) => format!(
                "user {user}, row {}, {}: {} instead of {}",
                show(expected.first()),
                COLUMNS.get(column).copied().unwrap_or_default(),
                show(found.values.get(column)),
                show(expected.get(column))
            ),
            None => format!("user {user}: {} columns instead of {}", found.values.len(), expected.len()),
        });
    }
    differences
}

async fn count(client: &Client, table: &str) -> Result<i64> {
    let failed = || BenchError::client(format!("counting the rows of {table}"));
    let result = client.execute(format!("SELECT COUNT(*) FROM {table}"), ()).await.map_err(failed())?;
    result.value(0).map_err(|error| failed()(error.into()))
}

#[cfg(test)]
mod tests;
