//! `\export`: the rows of a query or a table to a file of this machine, read in bulk.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write, stdout},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressFinish, ProgressStyle};
use kalam_link::{
    BulkRows, Columns, Error, ParquetFile, Rows,
    sql::{TokenKind, tokens},
};

use crate::{
    escape,
    exit::{Failure, Status},
    render::{Csv, Json, Render},
    session::{Flow, Session},
};

const USAGE: &str = "\\export takes a table or a query in parentheses, a file, and then perhaps parquet, csv or json: \
                     \\export (SELECT 1 AS one) one.csv";

/// How often the spinner turns while nothing happens.
const TICK: Duration = Duration::from_millis(100);
/// How long counting the rows of a table may take; without their number the bar has no end.
const COUNT_LIMIT: Duration = Duration::from_secs(2);
const BUFFER_BYTES: usize = 1 << 20;

/// What to export.
#[derive(Debug, PartialEq, Eq)]
struct Order<'a> {
    source: Source<'a>,
    file: Cow<'a, str>,
    format: Format,
}

#[derive(Debug, PartialEq, Eq)]
enum Source<'a> {
    Table(&'a str),
    Query(&'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv,
    Json,
}

impl Format {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(Format::Parquet),
            "csv" => Some(Format::Csv),
            "json" | "jsonl" | "ndjson" => Some(Format::Json),
            _ => None,
        }
    }
}

impl<'a> Order<'a> {
    /// What follows `\export`. An error is what to tell the user.
    fn parse(text: &'a str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches(';').trim_end();
        let (source, rest) = match text.strip_prefix('(') {
            Some(inside) => {
                let end = closing(inside).ok_or_else(|| "\\export: a ) is missing".to_owned())?;
                (Source::Query(inside[..end].trim()), &inside[end + 1..])
            }
            None => {
                let end = text.find(char::is_whitespace).ok_or(USAGE)?;
                (Source::Table(&text[..end]), &text[end..])
            }
        };
        let (file, rest) = file_name(rest.trim_start()).ok_or(USAGE)?;
        let format = match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => file.rsplit_once('.').and_then(|(_, end)| Format::named(end)).ok_or_else(|| {
                "\\export: the name of the file does not end in .parquet, .csv or .json; say which after it".to_owned()
            })?,
            [name] => Format::named(name).ok_or_else(|| format!("\\export: {name} is not parquet, csv or json"))?,
            _ => return Err(USAGE.to_owned()),
        };
        if matches!(source, Source::Query("") | Source::Table("")) || file.is_empty() {
            return Err(USAGE.to_owned());
        }
        Ok(Order { source, file, format })
    }

    fn sql(&self) -> String {
        match self.source {
            Source::Table(table) => format!("SELECT * FROM {table}"),
            Source::Query(query) => query.to_owned(),
        }
    }
}

/// Where the parenthesis closes that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    for token in tokens(text) {
        match (token.kind, token.text) {
            (TokenKind::Text | TokenKind::QuotedName | TokenKind::Comment, _) => {}
            (_, "(") => open += 1,
            (_, ")") => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(token.end() - 1);
        }
    }
    None
}

/// The name of a file, plain or in single quotes, and what follows it.
fn file_name(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(inside) = text.strip_prefix('\'') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Some((text[..end].into(), &text[end..]));
    };
    let token = tokens(text).next().filter(|token| token.text.len() > 1 && token.text.ends_with('\''))?;
    let name = &inside[..token.text.len() - 2];
    let name = if name.contains("''") { name.replace("''", "'").into() } else { name.into() };
    Some((name, &text[token.end()..]))
}

/// Exports, with a bar at a terminal. Ctrl+C cancels it, and leaves nothing.
pub(crate) async fn run(session: &Session, text: &str) -> Result<Flow, Failure> {
    let order = match Order::parse(text) {
        Ok(order) => order,
        Err(message) => return tell(session, &message),
    };
    let started = Instant::now();
    match export(session, &order).await {
        Ok((rows, bytes)) => {
            if session.interactive || session.timing {
                let rate = rows as f64 / started.elapsed().as_secs_f64().max(0.001);
                let (rows, rate) = (HumanCount(rows), HumanCount(rate as u64));
                writeln!(stdout(), "{rows} rows, {} ({rate} rows/s)", HumanBytes(bytes))?;
            }
            Ok(Flow::Continue)
        }
        Err(Trouble::Server(error)) => Ok(session.fail(&error, &order.sql(), None)),
        Err(Trouble::File(message)) => tell(session, &format!("\\export: {message}")),
    }
}

/// What can go wrong.
enum Trouble {
    Server(Error),
    File(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Server(error)
    }
}

async fn export(session: &Session, order: &Order<'_>) -> Result<(u64, u64), Trouble> {
    let target = Unfinished::create(Path::new(order.file.as_ref()))?;
    let count = count(session, order);
    let reading = session.client.bulk_read(order.sql(), ());
    // Both at once: neither needs the other.
    let (count, reading) = tokio::join!(count, reading);
    let mut rows = reading?;
    let progress = Progress::new(count);
    let mut file = Writer::new(order.format, target.file()?, &rows).map_err(|error| target.failed(&error))?;
    let mut written = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        written += batch.num_rows() as u64;
        let bytes = file.write(&batch).map_err(|error| target.failed(&error))?;
        progress.at(written, bytes);
    }
    let bytes = file.finish().map_err(|error| target.failed(&error))?;
    target.finish()?;
    Ok((written, bytes))
}

/// How many rows a table has, if that is known soon.
async fn count(session: &Session, order: &Order<'_>) -> Option<u64> {
    let Source::Table(table) = order.source else { return None };
    let counting = session.client.query(format!("SELECT count(*) FROM {table}")).timeout(COUNT_LIMIT).execute();
    let counted = counting.await.ok()?;
    let count = counted.rows().first()?.get::<i64>(0).ok()?;
    u64::try_from(count).ok()
}

/// What writes the file.
enum Writer {
    Parquet(Box<ParquetFile<Counted>>),
    Text { renderer: Box<dyn Render>, columns: Arc<Columns>, out: Counted },
}

impl Writer {
    fn new(format: Format, file: File, rows: &BulkRows) -> Result<Self, String> {
        let mut out = Counted { out: BufWriter::with_capacity(BUFFER_BYTES, file), bytes: 0 };
        let mut renderer: Box<dyn Render> = match format {
            Format::Parquet => {
                let file = ParquetFile::new(out, rows.schema()).map_err(|error| error.to_string())?;
                return Ok(Writer::Parquet(Box::new(file)));
            }
            Format::Csv => Box::new(Csv::new(false)),
            Format::Json => Box::new(Json::default()),
        };
        let columns = Arc::new(Columns::from_arrow(rows.schema()));
        renderer.begin(&columns, &mut out).map_err(|error| error.to_string())?;
        Ok(Writer::Text { renderer, columns, out })
    }

    /// Writes rows; how many bytes the file has then, about.
    fn write(&mut self, batch: &kalam_link::RecordBatch) -> Result<u64, String> {
        match self {
            Writer::Parquet(file) => {
                file.write(batch).map_err(|error| error.to_string())?;
                Ok(file.bytes_written() as u64)
            }
            Writer::Text { renderer, columns, out } => {
                let rows = Rows::from_arrow(columns, batch).map_err(|error| error.to_string())?;
                renderer.rows(&rows, out).map_err(|error| error.to_string())?;
                Ok(out.bytes)
            }
        }
    }

    /// Writes what is left, durably; how many bytes the file has.
    fn finish(self) -> Result<u64, String> {
        let out = match self {
            Writer::Parquet(file) => file.finish().map_err(|error| error.to_string())?,
            Writer::Text { out, .. } => out,
        };
        let Counted { out, bytes } = out;
        let file = out.into_inner().map_err(|error| error.to_string())?;
        file.sync_all().map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// Counts what is written.
struct Counted {
    out: BufWriter<File>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file under another name until it is whole. Dropped before, it is removed.
struct Unfinished {
    target: PathBuf,
    temporary: PathBuf,
    is_done: bool,
}

impl Unfinished {
    fn create(target: &Path) -> Result<Self, Trouble> {
        let Some(name) = target.file_name() else {
            return Err(Trouble::File(format!("{} is not the name of a file", target.display())));
        };
        if target.symlink_metadata().is_ok() {
            return Err(exists(target));
        }
        let temporary = target.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        Ok(Unfinished { target: target.to_owned(), temporary, is_done: false })
    }

    fn file(&self) -> Result<File, Trouble> {
        let file = OpenOptions::new().write(true).create_new(true).open(&self.temporary);
        file.map_err(|error| self.failed(&error.to_string()))
    }

    fn failed(&self, error: &str) -> Trouble {
        Trouble::File(format!("cannot write {}: {error}", self.target.display()))
    }

    fn finish(mut self) -> Result<(), Trouble> {
        // A link, unlike a new name, is never made over another file.
        match fs::hard_link(&self.temporary, &self.target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(&self.target)),
            // Where there are no links.
            Err(_) => {
                fs::rename(&self.temporary, &self.target).map_err(|error| self.failed(&error.to_string()))?;
                self.is_done = true;
            }
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_done {
            // It may not have been made.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn exists(target: &Path) -> Trouble {
    Trouble::File(format!("{} exists already; choose another name", target.display()))
}

/// One line on standard error that says how far it is; nothing when that is no terminal. It goes away at the end.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(rows: Option<u64>) -> Self {
        let (bar, template) = match rows.filter(|rows| *rows > 0) {
            Some(rows) => (ProgressBar::new(rows), "{bar:30} {percent}% {msg}, {per_sec}, {eta} left"),
            None => (ProgressBar::no_length(), "{spinner} {msg}, {per_sec}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = bar.with_style(style).with_finish(ProgressFinish::AndClear);
        bar.enable_steady_tick(TICK);
        Progress { bar }
    }

    fn at(&self, rows: u64, bytes: u64) {
        // There can be more by now than were counted.
        if self.bar.length().is_some_and(|length| length < rows) {
            self.bar.set_length(rows);
        }
        self.bar.set_position(rows);
        self.bar.set_message(format!("{} rows, {}", HumanCount(rows), HumanBytes(bytes)));
    }
}

fn tell(session: &Session, text: &str) -> Result<Flow, Failure> {
    eprintln!("{} {}", session.style_of_errors().error("error:"), escape::visible(text));
    Ok(Flow::Failed(Status::StatementFailed))
}

#[cfg(test)]
mod tests {
    use super::{Format, Order, Source};

    #[test]
    fn orders_are_understood() {
        for (text, source, file, format) in [
            ("chat.messages m.parquet", Source::Table("chat.messages"), "m.parquet", Format::Parquet),
            ("t /tmp/x JSON;", Source::Table("t"), "/tmp/x", Format::Json),
            (
                "(SELECT f(a, ')') FROM t -- )\n) out.csv",
                Source::Query("SELECT f(a, ')') FROM t -- )"),
                "out.csv",
                Format::Csv,
            ),
            ("(SELECT 1)'it''s here.csv' parquet", Source::Query("SELECT 1"), "it's here.csv", Format::Parquet),
        ] {
            let order = Order::parse(text).unwrap();
            assert_eq!((order.source, order.file.as_ref(), order.format), (source, file, format), "{text}");
        }
    }

    #[test]
    fn what_is_no_order_is_refused() {
        for text in
            ["", "t", "t x", "t x.txt", "t x xml", "(SELECT 1 x.csv", "() x.csv", "t x.csv csv more", "t 'x.csv"]
        {
            assert!(Order::parse(text).is_err(), "{text}");
        }
    }
}
