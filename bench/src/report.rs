//! What a run found: a table for people, one JSON object a line for programs.

pub(crate) mod access;
pub(crate) mod bulk;
pub(crate) mod live;

use std::{fs::OpenOptions, io::Write, path::Path};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use self::{
    access::{RevocationRecord, RowRulesRecord, UsersRecord},
    bulk::{BackupRecord, FlightMemoryRecord},
    live::{LiveMemoryRecord, LiveResumeRecord, LiveSoakRecord},
};
use crate::{
    driver::{Contest, Measurement},
    error::{BenchError, Result},
};

/// One line of the report.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Record {
    Load(Box<LoadRecord>),
    Idle(IdleRecord),
    Shutdown(ShutdownRecord),
    LiveMemory(LiveMemoryRecord),
    LiveResume(LiveResumeRecord),
    LiveSoak(LiveSoakRecord),
    RowRules(RowRulesRecord),
    Users(UsersRecord),
    Revocation(RevocationRecord),
    Backup(BackupRecord),
    FlightMemory(FlightMemoryRecord),
}

/// A workload under load. Times are in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct LoadRecord {
    pub(crate) workload: String,
    pub(crate) clients: usize,
    /// Rows that one operation reads or writes.
    pub(crate) rows: u64,
    pub(crate) operations: u64,
    pub(crate) ops_per_s: f64,
    pub(crate) rows_per_s: f64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// The server's own time (`took_ms` of its results).
    pub(crate) server_p50_us: Option<f64>,
    pub(crate) server_p99_us: Option<f64>,
    /// The lowest of the limits by throughput, and its figures.
    pub(crate) limit: Option<String>,
    pub(crate) limit_ops_per_s: Option<f64>,
    pub(crate) limit_mean_us: Option<f64>,
    pub(crate) limit_p50_us: Option<f64>,
    pub(crate) limit_p99_us: Option<f64>,
    /// Throughput divided by the limit's: 1 is the best possible.
    pub(crate) ratio: Option<f64>,
    /// Median latency divided by the limit's: 1 is the best possible.
    pub(crate) p50_ratio: Option<f64>,
    /// 99th percentile of the latency divided by the limit's.
    pub(crate) p99_ratio: Option<f64>,
    /// Mean latency divided by the limit's.
    pub(crate) mean_ratio: Option<f64>,
    /// Every limit measured, when there were several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<LimitRecord>,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
}

/// One of several limits of a workload.
#[derive(Debug, Serialize)]
pub(crate) struct LimitRecord {
    pub(crate) name: String,
    pub(crate) ops_per_s: f64,
    pub(crate) p50_us: f64,
}

/// An empty server, beside an empty echo server.
#[derive(Debug, Serialize)]
pub(crate) struct IdleRecord {
    pub(crate) workload: &'static str,
    /// From starting the process to its first answer.
    pub(crate) start_ms: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) limit: &'static str,
    pub(crate) limit_start_ms: f64,
    pub(crate) limit_resident_bytes: u64,
}

/// The end of a server with rows that are not flushed, beside the end of one without.
#[derive(Debug, Serialize)]
pub(crate) struct ShutdownRecord {
    pub(crate) workload: &'static str,
    pub(crate) tables: u64,
    /// Rows of each table that were hot when the server was told to end.
    pub(crate) rows: u64,
    /// Rows of all tables that it flushed before it ended.
    pub(crate) flushed_rows: u64,
    /// From the signal to the end of the process.
    pub(crate) took_ms: f64,
    pub(crate) limit: &'static str,
    pub(crate) limit_took_ms: f64,
}

impl LoadRecord {
    /// Compares a subject with the lowest of its limits.
    pub(crate) fn new(workload: &str, clients: usize, rows: u64, contest: &Contest) -> Self {
        let subject = &contest.subject;
        let lowest = contest.limits.iter().min_by(|(_, a), (_, b)| a.ops_per_s().total_cmp(&b.ops_per_s()));
        let over =
            |value: fn(&Measurement) -> f64| lowest.and_then(|(_, limit)| quotient(value(subject), value(limit)));
        let limits = if contest.limits.len() > 1 {
            let record = |(name, m): &(&str, Measurement)| LimitRecord {
                name: (*name).to_owned(),
                ops_per_s: m.ops_per_s(),
                p50_us: m.latency_us(0.5),
            };
            contest.limits.iter().map(record).collect()
        } else {
            Vec::new()
        };
        // A limit that failed is no limit: its failures spoil the run as much as the server's.
        let failed = std::iter::once(subject).chain(contest.limits.iter().map(|(_, limit)| limit));
        Self {
            workload: workload.to_owned(),
            clients,
            rows,
            operations: subject.operations(),
            ops_per_s: subject.ops_per_s(),
            rows_per_s: subject.ops_per_s() * rows as f64,
            mean_us: subject.mean_us(),
            p50_us: subject.latency_us(0.5),
            p95_us: subject.latency_us(0.95),
            p99_us: subject.latency_us(0.99),
            p999_us: subject.latency_us(0.999),
            server_p50_us: subject.server_us(0.5),
            server_p99_us: subject.server_us(0.99),
            limit: lowest.map(|(name, _)| (*name).to_owned()),
            limit_ops_per_s: lowest.map(|(_, limit)| limit.ops_per_s()),
            limit_mean_us: lowest.map(|(_, limit)| limit.mean_us()),
            limit_p50_us: lowest.map(|(_, limit)| limit.latency_us(0.5)),
            limit_p99_us: lowest.map(|(_, limit)| limit.latency_us(0.99)),
            ratio: over(Measurement::ops_per_s),
            p50_ratio: over(|m| m.latency_us(0.5)),
            p99_ratio: over(|m| m.latency_us(0.99)),
            mean_ratio: over(Measurement::mean_us),
            limits,
            errors: failed.clone().map(Measurement::failures).sum(),
            first_error: failed.filter_map(Measurement::first_error).next().map(str::to_owned),
        }
    }
}

/// A quotient, unless the divisor is 0.
pub(crate) fn quotient(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor)
}

impl Record {
    /// Calls that failed under load.
    pub(crate) fn errors(&self) -> u64 {
        match self {
            Self::Load(load) => load.errors,
            Self::Idle(_)
            | Self::Shutdown(_)
            | Self::LiveMemory(_)
            | Self::LiveResume(_)
            | Self::LiveSoak(_)
            | Self::RowRules(_)
            | Self::Users(_)
            | Self::Revocation(_)
            | Self::Backup(_)
            | Self::FlightMemory(_) => 0,
        }
    }

    /// The record in a line, for following a long run.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Load(load) => {
                let mut line = format!(
                    "{}, {} {}: {} op/s, p50 {} µs, p99 {} µs",
                    load.workload,
                    load.clients,
                    if load.clients == 1 { "client" } else { "clients" },
                    number(load.ops_per_s),
                    number(load.p50_us),
                    number(load.p99_us)
                );
                if let (Some(limit), Some(ratio)) = (&load.limit, load.ratio) {
                    line.push_str(&format!("; {ratio:.2} of {limit}"));
                }
                if let Some(error) = &load.first_error {
                    line.push_str(&format!("; {} ERRORS, the first: {error}", load.errors));
                }
                line
            }
            Self::Idle(idle) => format!(
                "idle: serving after {:.0} ms, {:.1} MB resident; {}: {:.0} ms, {:.1} MB",
                idle.start_ms,
                megabytes(idle.resident_bytes),
                idle.limit,
                idle.limit_start_ms,
                megabytes(idle.limit_resident_bytes)
            ),
            Self::Shutdown(end) => format!(
                "shutdown: {} tables of {} hot rows, {} of them flushed in {:.0} ms; {}: {:.0} ms",
                end.tables,
                number(end.rows as f64),
                number(end.flushed_rows as f64),
                end.took_ms,
                end.limit,
                end.limit_took_ms
            ),
            Self::LiveMemory(memory) => memory.summary(),
            Self::LiveResume(resume) => resume.summary(),
            Self::LiveSoak(soak) => soak.summary(),
            Self::RowRules(added) => added.summary(),
            Self::Users(users) => users.summary(),
            Self::Revocation(revocation) => revocation.summary(),
            Self::Backup(backup) => backup.summary(),
            Self::FlightMemory(memory) => memory.summary(),
        }
    }
}

/// The records as a table; `None` without any load record.
pub(crate) fn table(records: &[Record]) -> Option<String> {
    const HEADER: [&str; 16] = [
        "workload",
        "clients",
        "rows/op",
        "op/s",
        "rows/s",
        "p50 µs",
        "p95 µs",
        "p99 µs",
        "p99.9 µs",
        "server p50",
        "server p99",
        "limit",
        "limit op/s",
        "op/s ÷ limit",
        "p50 ÷ limit",
        "p99 ÷ limit",
    ];
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(HEADER);
    for (index, name) in HEADER.iter().enumerate() {
        if *name != "workload"
            && *name != "limit"
            && let Some(column) = table.column_mut(index)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut empty = true;
    for record in records {
        let Record::Load(load) = record else { continue };
        empty = false;
        table.add_row([
            load.workload.clone(),
            load.clients.to_string(),
            number(load.rows as f64),
            number(load.ops_per_s),
            number(load.rows_per_s),
            number(load.p50_us),
            number(load.p95_us),
            number(load.p99_us),
            number(load.p999_us),
            load.server_p50_us.map(number).unwrap_or_default(),
            load.server_p99_us.map(number).unwrap_or_default(),
            load.limit.clone().unwrap_or_default(),
            load.limit_ops_per_s.map(number).unwrap_or_default(),
            load.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            load.p50_ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            load.p99_ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        ]);
    }
    (!empty).then(|| table.to_string())
}

/// Appends the record to a file of one JSON object a line.
pub(crate) fn append_json(path: &Path, record: &Record) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(BenchError::io(failed()))?;
    let mut line = serde_json::to_vec(record).map_err(|error| BenchError::io(failed())(error.into()))?;
    line.push(b'\n');
    file.write_all(&line).map_err(BenchError::io(failed()))
}

/// A number with thousands separated; below 100, with one decimal.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned);
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests;
