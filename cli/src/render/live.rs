//! Writing what happens in a live query.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use chrono::{DateTime, Local, Utc};
use kalam_link::{Change, ChangeType, Columns, CommitChanges, Row, Rows, Value, datetime};

use super::{
    Csv, Render, Table, TableOptions,
    csv::{field, quoted},
    json,
};
use crate::{escape, style::Style};

/// Writes the events of a live query as they come.
pub(crate) trait LiveRender: Send {
    /// Whether people read it, so that remarks may stand between the events.
    fn takes_remarks(&self) -> bool {
        false
    }

    fn remark(&mut self, _: &str, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn started(&mut self, live_id: &str, columns: &Columns, out: &mut dyn Write) -> io::Result<()>;

    fn rows(&mut self, rows: &Rows, out: &mut dyn Write) -> io::Result<()>;

    fn ready(&mut self, commit_seq: u64, row_count: u64, out: &mut dyn Write) -> io::Result<()>;

    fn reset(&mut self, reason: &str, message: &str, out: &mut dyn Write) -> io::Result<()>;

    fn change(&mut self, commit: &CommitChanges, change: &Change, out: &mut dyn Write) -> io::Result<()>;

    /// What is held back must be written.
    fn abandon(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// For people: a table of the first rows, then a line for each change.
pub(crate) struct LiveTable {
    options: TableOptions,
    columns: Columns,
    names: Vec<String>,
    /// The first rows that are not written yet.
    table: Option<Table>,
    line: String,
}

/// JSON, an object with the member `event` for each row, change and other event.
#[derive(Default)]
pub(crate) struct LiveJson {
    keys: Vec<String>,
    line: String,
}

/// CSV: the event, its commit and its time stand before the columns.
pub(crate) struct LiveCsv {
    csv: Csv,
    columns: Option<Columns>,
}

impl LiveTable {
    pub(crate) fn new(options: TableOptions) -> Self {
        let columns = Columns::default();
        LiveTable { options, columns, names: Vec::new(), table: None, line: String::new() }
    }

    /// The columns of a row, those that have changed as `name=old → new`.
    fn push_row(&mut self, row: &Row, old: Option<&Row>) {
        let style = self.options.style;
        for (index, (name, value)) in self.names.iter().zip(row.values()).enumerate() {
            self.line.push_str(if index > 0 { ", " } else { " " });
            match old.and_then(|old| old.values().get(index)).filter(|old| *old != value) {
                None => push_assignment(&mut self.line, name, value, style),
                Some(old) => {
                    let mut text = String::new();
                    push_assignment(&mut text, name, old, Style::new(false));
                    text.push_str(" → ");
                    push_value(&mut text, value);
                    self.line.push_str(&style.changed(&text));
                }
            }
        }
    }
}

impl LiveRender for LiveTable {
    fn takes_remarks(&self) -> bool {
        true
    }

    fn remark(&mut self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        self.abandon(out)?;
        let text = escape::visible(text);
        writeln!(out, "{}", self.options.style.faint(&format!("-- {text} --")))
    }

    fn started(&mut self, _: &str, columns: &Columns, _: &mut dyn Write) -> io::Result<()> {
        self.columns = columns.clone();
        self.names = columns.iter().map(|column| escape::visible(&column.name).into_owned()).collect();
        Ok(())
    }

    fn rows(&mut self, rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
        let table = match &mut self.table {
            Some(table) => table,
            none => {
                let table = none.insert(Table::new(self.options));
                table.begin(&self.columns, out)?;
                table
            }
        };
        table.rows(rows, out)
    }

    fn ready(&mut self, commit_seq: u64, row_count: u64, out: &mut dyn Write) -> io::Result<()> {
        let rows = if row_count == 1 { "row" } else { "rows" };
        self.remark(&format!("ready: {row_count} {rows}, seq {commit_seq}"), out)
    }

    fn reset(&mut self, reason: &str, message: &str, out: &mut dyn Write) -> io::Result<()> {
        self.remark(&format!("reset ({reason}), the rows as of now follow: {message}"), out)
    }

    fn change(&mut self, commit: &CommitChanges, change: &Change, out: &mut dyn Write) -> io::Result<()> {
        let style = self.options.style;
        self.line.clear();
        push_local_time(&mut self.line, commit.commit_time_us);
        self.line.push(' ');
        match change {
            Change::Insert { row } => {
                self.line.push_str(&style.added("+ INSERT"));
                self.push_row(row, None);
            }
            Change::Update { old, row } => {
                self.line.push_str(&style.changed("~ UPDATE"));
                self.push_row(row, old.as_ref());
            }
            Change::Delete { row } => {
                self.line.push_str(&style.removed("- DELETE"));
                self.push_row(row, None);
            }
        }
        if commit.merged {
            self.line.push_str(" (merged)");
        }
        self.line.push('\n');
        out.write_all(self.line.as_bytes())
    }

    fn abandon(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.table.take().map_or(Ok(()), |mut table| table.abandon(out))
    }
}

fn push_assignment(line: &mut String, name: &str, value: &Value, style: Style) {
    if style.is_colored() {
        line.push_str(&style.faint(name));
        line.push_str(&style.faint("="));
    } else {
        line.push_str(name);
        line.push('=');
    }
    push_value(line, value);
}

/// As in SQL, so that one sees where a text ends.
fn push_value(line: &mut String, value: &Value) {
    match value {
        Value::Text(text) => {
            line.push('\'');
            line.push_str(&escape::visible(&text.replace('\'', "''")));
            line.push('\'');
        }
        other => line.push_str(&escape::visible(&other.to_string())),
    }
}

/// `HH:MM:SS.mmm` where the user is.
fn push_local_time(line: &mut String, micros: i64) {
    let time = DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(line, "{}", time.with_timezone(&Local).format("%H:%M:%S%.3f"));
}

/// The time now, for remarks.
pub(crate) fn local_time() -> String {
    Local::now().format("%H:%M:%S%.3f").to_string()
}

impl LiveJson {
    fn begin(&mut self, event: &str) {
        self.line.clear();
        self.line.push_str("{\"event\":");
        json::push_text(&mut self.line, event);
    }

    /// A member whose value is a text; integers of 64 bits are, too.
    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        json::push_text(&mut self.line, value);
    }

    fn row(&mut self, key: &str, row: Option<&Row>) {
        if let Some(row) = row {
            self.key(key);
            json::push_row(&mut self.line, row, &self.keys);
        }
    }

    fn key(&mut self, key: &str) {
        self.line.push(',');
        json::push_text(&mut self.line, key);
        self.line.push(':');
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.line.push_str("}\n");
        out.write_all(self.line.as_bytes())
    }
}

impl LiveRender for LiveJson {
    fn started(&mut self, live_id: &str, columns: &Columns, out: &mut dyn Write) -> io::Result<()> {
        self.keys = json::keys(columns.iter().map(|column| column.name.as_str()));
        self.begin("started");
        self.text("live_id", live_id);
        self.end(out)
    }

    fn rows(&mut self, rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
        for row in rows {
            self.begin("row");
            self.row("row", Some(row));
            self.end(out)?;
        }
        Ok(())
    }

    fn ready(&mut self, commit_seq: u64, row_count: u64, out: &mut dyn Write) -> io::Result<()> {
        self.begin("ready");
        self.text("commit_seq", &commit_seq.to_string());
        self.text("rows", &row_count.to_string());
        self.end(out)
    }

    fn reset(&mut self, reason: &str, message: &str, out: &mut dyn Write) -> io::Result<()> {
        self.begin("reset");
        self.text("reason", reason);
        self.text("message", message);
        self.end(out)
    }

    fn change(&mut self, commit: &CommitChanges, change: &Change, out: &mut dyn Write) -> io::Result<()> {
        self.begin(event_name(change));
        self.text("commit_seq", &commit.commit_seq.to_string());
        self.text("time", &format!("{}Z", datetime::timestamp(commit.commit_time_us, 'T')));
        if commit.merged {
            self.line.push_str(",\"merged\":true");
        }
        self.row("old", change.old_row());
        self.row("row", change.new_row());
        self.end(out)
    }
}

impl LiveCsv {
    pub(crate) fn new(for_terminal: bool) -> Self {
        LiveCsv { csv: Csv::new(for_terminal), columns: None }
    }

    /// An event that is no row's has empty columns.
    fn event(
        &self,
        event: &str,
        commit_seq: Option<u64>,
        time: Option<i64>,
        row: Option<&Row>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let commit_seq = commit_seq.map(|seq| seq.to_string()).unwrap_or_default();
        let time = time.map(|micros| Value::TimestampTz(micros).to_string()).unwrap_or_default();
        let fields = [event.to_owned(), commit_seq, time].into_iter();
        match row {
            Some(row) => {
                let values = row.values().iter().zip(row.columns());
                self.csv.line(fields.chain(values.map(|(value, column)| field(value, column))), out)
            }
            None => {
                let count = self.columns.as_ref().map_or(0, |columns| columns.len());
                self.csv.line(fields.chain(std::iter::repeat_n(String::new(), count)), out)
            }
        }
    }
}

impl LiveRender for LiveCsv {
    /// A header, unless the columns are those of the header before.
    fn started(&mut self, _: &str, columns: &Columns, out: &mut dyn Write) -> io::Result<()> {
        if self.columns.as_ref() == Some(columns) {
            return Ok(());
        }
        self.columns = Some(columns.clone());
        let own = ["event", "commit_seq", "time"].into_iter().map(str::to_owned);
        self.csv.line(own.chain(columns.iter().map(|column| quoted(&column.name))), out)
    }

    fn rows(&mut self, rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
        rows.iter().try_for_each(|row| self.event("row", None, None, Some(row), out))
    }

    fn ready(&mut self, commit_seq: u64, _: u64, out: &mut dyn Write) -> io::Result<()> {
        self.event("ready", Some(commit_seq), None, None, out)
    }

    fn reset(&mut self, _: &str, _: &str, out: &mut dyn Write) -> io::Result<()> {
        self.event("reset", None, None, None, out)
    }

    /// The row as it is now; of a DELETE, as it was.
    fn change(&mut self, commit: &CommitChanges, change: &Change, out: &mut dyn Write) -> io::Result<()> {
        let row = change.new_row().or(change.old_row());
        self.event(event_name(change), Some(commit.commit_seq), Some(commit.commit_time_us), row, out)
    }
}

fn event_name(change: &Change) -> &'static str {
    match change.change_type() {
        ChangeType::Insert => "insert",
        ChangeType::Update => "update",
        ChangeType::Delete => "delete",
    }
}

#[cfg(test)]
mod tests;
