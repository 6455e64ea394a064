//! Writing results.

mod csv;
mod expanded;
mod json;
mod live;
mod table;

use std::io::{self, Write};

use kalam_link::{Columns, Rows, StatementEnd};

pub(crate) use self::{
    csv::Csv,
    json::Json,
    live::{LiveCsv, LiveJson, LiveRender, LiveTable, local_time},
    table::{Table, TableOptions},
};

/// Writes the result of one statement: `begin`, `rows` any number of times, `end`.
pub(crate) trait Render: Send {
    fn begin(&mut self, columns: &Columns, out: &mut dyn Write) -> io::Result<()>;

    fn rows(&mut self, rows: &Rows, out: &mut dyn Write) -> io::Result<()>;

    fn end(&mut self, end: &StatementEnd, out: &mut dyn Write) -> io::Result<()>;

    /// The result ends early, by a failure or Ctrl+C: what is held back must be written.
    fn abandon(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

#[cfg(test)]
mod tests;
