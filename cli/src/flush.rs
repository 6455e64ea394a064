//! `\flush`: moving rows to Parquet files, with progress.

use std::{
    borrow::Cow,
    io::{self, Write, stdout},
    time::Duration,
};

use futures::StreamExt;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressFinish, ProgressStyle};
use kalam_link::{
    Column, Columns, Error, FlushEvent, FlushFinished, FlushStream, JobStatus, Rows, SqlType, StatementEnd, Value,
    sql::{TokenKind, tokens},
};

use crate::{
    escape,
    exit::{Failure, Status},
    session::{Flow, Session},
};

pub(crate) const USAGE: &str = "\\flush takes a table, or all, and then perhaps force";

/// How often the spinner turns while nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// What to flush.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order<'a> {
    target: Target<'a>,
    force: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Table { namespace: Cow<'a, str>, table: Cow<'a, str> },
    Namespace(&'a str),
    Everything,
}

impl<'a> Order<'a> {
    /// The words after `\flush`. None when they make no sense.
    pub(crate) fn parse(arguments: &[&'a str], namespace: &'a str) -> Option<Order<'a>> {
        let (arguments, force) = match arguments {
            [rest @ .., last] if last.eq_ignore_ascii_case("force") => (rest, true),
            all => (all, false),
        };
        let target = match arguments {
            [] if namespace.is_empty() => Target::Everything,
            [] => Target::Namespace(namespace),
            [all] if all.eq_ignore_ascii_case("all") => Target::Everything,
            [name] => table(name, namespace)?,
            _ => return None,
        };
        Some(Order { target, force })
    }
}

/// `ns.table`, or a table of the namespace.
fn table<'a>(name: &'a str, namespace: &'a str) -> Option<Target<'a>> {
    let parts: Vec<_> = tokens(name).collect();
    match parts.as_slice() {
        [table] => Some(Target::Table { namespace: namespace.into(), table: identifier(table)? }),
        [namespace, dot, table] if dot.text == "." => {
            Some(Target::Table { namespace: identifier(namespace)?, table: identifier(table)? })
        }
        _ => None,
    }
}

fn identifier<'a>(token: &kalam_link::sql::Token<'a>) -> Option<Cow<'a, str>> {
    match token.kind {
        TokenKind::Word => Some(token.text.to_lowercase().into()),
        TokenKind::QuotedName => Some(token.text.trim_matches('"').into()),
        _ => None,
    }
}

/// Flushes, shows progress at a terminal, and then a row for each table. The jobs go on when this is cancelled.
pub(crate) async fn run(session: &Session, order: Order<'_>) -> Result<Flow, Failure> {
    let tables = match flush(session, order).await {
        Ok(tables) => tables,
        Err(error) => return Ok(session.fail(&error, "", None)),
    };
    show(session, &tables)?;
    let mut flow = Flow::Continue;
    for finished in tables.iter().filter(|finished| finished.status != JobStatus::Completed) {
        complain(session, finished);
        flow = Flow::Failed(Status::StatementFailed);
    }
    Ok(flow)
}

/// Tells why a table, or some of its partitions, could not be flushed.
fn complain(session: &Session, finished: &FlushFinished) {
    let style = session.style_of_errors();
    let text = format!("{}.{}: {}", finished.namespace, finished.table, finished.message);
    eprintln!("{} {}", style.error("error:"), escape::visible(&text));
    for failed in &finished.failed_partitions {
        let owner = failed.user_id.as_ref().map(|user| format!("partition of {user}: ")).unwrap_or_default();
        eprintln!("  {}", escape::visible(&format!("{owner}{}", failed.message)));
    }
}

async fn flush(session: &Session, order: Order<'_>) -> Result<Vec<FlushFinished>, Error> {
    let client = &session.client;
    let events = match order.target {
        Target::Table { namespace, table } => client.flush_table(namespace, table).force(order.force).stream().await?,
        Target::Namespace(namespace) => client.flush_all().namespace(namespace).force(order.force).stream().await?,
        Target::Everything => client.flush_all().force(order.force).stream().await?,
    };
    follow(events).await
}

/// Follows the events to the end. Answers the tables in the order they were done.
async fn follow(mut events: FlushStream) -> Result<Vec<FlushFinished>, Error> {
    let progress = Progress::new();
    let mut tables = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            FlushEvent::Started(_) => progress.more_tables(),
            FlushEvent::PartitionFlushed(partition) => progress.flushed(partition.rows, partition.bytes),
            FlushEvent::Finished(finished) => {
                progress.table_done();
                tables.push(finished);
            }
            _ => {}
        }
    }
    Ok(tables)
}

/// One line on standard error that says how far it is; nothing when that is no terminal. It goes away at the end.
struct Progress {
    bar: ProgressBar,
    counts: std::cell::Cell<Counts>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    partitions: u64,
    rows: u64,
    bytes: u64,
}

impl Progress {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} {pos} of {len} tables{msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new(0).with_style(style).with_finish(ProgressFinish::AndClear);
        bar.enable_steady_tick(TICK);
        Progress { bar, counts: std::cell::Cell::default() }
    }

    fn more_tables(&self) {
        self.bar.inc_length(1);
    }

    fn table_done(&self) {
        self.bar.inc(1);
    }

    fn flushed(&self, rows: u64, bytes: u64) {
        let Counts { partitions, rows: rows_before, bytes: bytes_before } = self.counts.get();
        let now = Counts { partitions: partitions + 1, rows: rows_before + rows, bytes: bytes_before + bytes };
        self.counts.set(now);
        self.bar.set_message(format!(
            ", {} partitions, {} rows, {}",
            HumanCount(now.partitions),
            HumanCount(now.rows),
            HumanBytes(now.bytes)
        ));
    }
}

/// A row for each table, in the format that the user chose.
fn show(session: &Session, tables: &[FlushFinished]) -> Result<(), Failure> {
    const COLUMNS: [(&str, SqlType); 8] = [
        ("table", SqlType::Text),
        ("job_id", SqlType::Text),
        ("rows", SqlType::BigIntUnsigned),
        ("bytes", SqlType::BigIntUnsigned),
        ("segments", SqlType::BigIntUnsigned),
        ("partitions", SqlType::BigIntUnsigned),
        ("kept_hot", SqlType::BigIntUnsigned),
        ("failed", SqlType::BigIntUnsigned),
    ];
    let columns: Vec<Column> = COLUMNS
        .into_iter()
        .map(|(name, sql_type)| Column { name: name.to_owned(), sql_type, nullable: false })
        .collect();
    let rows = tables.iter().map(|table| {
        vec![
            Value::Text(format!("{}.{}", table.namespace, table.table)),
            Value::Text(table.job_id.clone()),
            Value::UInt(table.rows),
            Value::UInt(table.bytes),
            Value::UInt(table.segments),
            Value::UInt(table.partitions),
            Value::UInt(table.partitions_kept_hot),
            Value::UInt(table.partitions_failed),
        ]
    });
    let rows = Rows::from_values(Columns::from(columns), rows.collect())
        .map_err(|error| Failure::Output(io::Error::other(error)))?;
    let took_ms = tables.iter().map(|table| table.took_ms).fold(0.0, f64::max);
    let end = StatementEnd { row_count: rows.len() as u64, message: None, took_ms, commit_seq: 0 };
    let mut out = io::BufWriter::new(stdout());
    let mut renderer = session.renderer();
    renderer.begin(rows.columns(), &mut out)?;
    renderer.rows(&rows, &mut out)?;
    renderer.end(&end, &mut out)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::{Order, Target};

    fn target(arguments: &[&'static str], namespace: &'static str) -> Option<(Target<'static>, bool)> {
        Order::parse(arguments, namespace).map(|order| (order.target, order.force))
    }

    fn table(namespace: &'static str, table: &'static str) -> Target<'static> {
        Target::Table { namespace: namespace.into(), table: table.into() }
    }

    #[test]
    fn a_table_a_namespace_or_everything() {
        assert_eq!(target(&["Messages"], "chat"), Some((table("chat", "messages"), false)));
        assert_eq!(target(&["other.messages", "FORCE"], "chat"), Some((table("other", "messages"), true)));
        assert_eq!(target(&["other.\"Odd\""], ""), Some((table("other", "Odd"), false)));
        assert_eq!(target(&[], "chat"), Some((Target::Namespace("chat"), false)));
        assert_eq!(target(&["force"], ""), Some((Target::Everything, true)));
        assert_eq!(target(&["all"], "chat"), Some((Target::Everything, false)));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for arguments in [&["a.b.c"][..], &["a", "b"], &["'a'"], &["."], &["a."]] {
            assert_eq!(target(arguments, "chat"), None, "{arguments:?}");
        }
    }
}
