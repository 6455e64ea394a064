//! Aligned tables.

use std::io::{self, Write};

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, presets};
use kalam_link::{Columns, Rows, StatementEnd, Value};

use super::{Render, expanded};
use crate::{escape, style::Style};

/// Rows in one table: widths are found by looking at all of them, and memory is bounded.
const PAGE_ROWS: usize = 1_000;
/// A column is not wrapped to less than this many characters; a row that would need it is shown expanded.
const MIN_WRAPPED_WIDTH: u16 = 24;
/// Spaces and border that a column takes beside its content.
const COLUMN_OVERHEAD: u16 = 3;

/// How tables look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableOptions {
    /// Columns of the terminal; none for output that has no width.
    pub(crate) width: Option<u16>,
    /// Whether every row is expanded; otherwise only those that are too wide.
    pub(crate) expanded: bool,
    pub(crate) style: Style,
    /// Whether the summary says how long it took.
    pub(crate) timing: bool,
}

pub(crate) struct Table {
    options: TableOptions,
    header: Vec<String>,
    numeric: Vec<bool>,
    page: Vec<Vec<String>>,
    nulls: Vec<Vec<bool>>,
    written: u64,
}

impl Table {
    pub(crate) fn new(options: TableOptions) -> Self {
        Table { options, header: Vec::new(), numeric: Vec::new(), page: Vec::new(), nulls: Vec::new(), written: 0 }
    }

    fn write_page(&mut self, out: &mut dyn Write) -> io::Result<()> {
        // An empty result shows its header, once.
        if self.header.is_empty() || (self.page.is_empty() && self.written > 0) {
            return Ok(());
        }
        if self.options.expanded {
            expanded::write(&self.header, &self.page, self.written + 1, self.options.style, out)?;
        } else {
            let mut table = self.table();
            if self.fit(&mut table) {
                writeln!(out, "{table}")?;
            } else {
                expanded::write(&self.header, &self.page, self.written + 1, self.options.style, out)?;
            }
        }
        self.written += self.page.len() as u64;
        self.page.clear();
        self.nulls.clear();
        Ok(())
    }

    fn table(&self) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.force_no_tty().load_style(presets::UTF8_FULL_CONDENSED);
        if self.options.style.is_colored() {
            table.enforce_styling();
        }
        table.set_header(self.header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        for (row, nulls) in self.page.iter().zip(&self.nulls) {
            table.add_row(row.iter().zip(nulls).zip(&self.numeric).map(|((text, null), numeric)| {
                let cell = Cell::new(text);
                let cell = if *null { cell.add_attribute(Attribute::Dim) } else { cell };
                if *numeric { cell.set_alignment(CellAlignment::Right) } else { cell }
            }));
        }
        table
    }

    /// Makes the table fit the terminal, by wrapping long texts if need be. False when it cannot.
    fn fit(&self, table: &mut comfy_table::Table) -> bool {
        let Some(width) = self.options.width else { return true };
        let widths = table.column_max_content_widths();
        let total = |limit: u16| {
            widths.iter().fold(1u32, |sum, &content| sum + u32::from(content.min(limit)) + u32::from(COLUMN_OVERHEAD))
        };
        if total(u16::MAX) <= u32::from(width) {
            return true;
        }
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        total(MIN_WRAPPED_WIDTH) <= u32::from(width)
    }
}

impl Render for Table {
    fn begin(&mut self, columns: &Columns, _: &mut dyn Write) -> io::Result<()> {
        self.header = columns.iter().map(|column| escape::visible(&column.name).into_owned()).collect();
        self.numeric = columns.iter().map(|column| column.sql_type.is_numeric()).collect();
        self.written = 0;
        Ok(())
    }

    fn rows(&mut self, rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
        for row in rows {
            self.page.push(row.values().iter().map(|value| escape::visible(&value.to_string()).into_owned()).collect());
            self.nulls.push(row.values().iter().map(Value::is_null).collect());
            if self.page.len() == PAGE_ROWS {
                self.write_page(out)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, end: &StatementEnd, out: &mut dyn Write) -> io::Result<()> {
        self.write_page(out)?;
        let summary = match &end.message {
            Some(message) => escape::visible(message).into_owned(),
            None if end.row_count == 1 => "1 row".to_owned(),
            None => format!("{} rows", end.row_count),
        };
        let time = if self.options.timing { format!(" ({} ms)", milliseconds(end.took_ms)) } else { String::new() };
        writeln!(out, "{summary}{}", self.options.style.faint(&time))
    }

    fn abandon(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.page.is_empty() { Ok(()) } else { self.write_page(out) }
    }
}

/// Three significant places are enough for a person.
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.3}"),
        ms if ms < 100.0 => format!("{ms:.2}"),
        ms => format!("{ms:.0}"),
    }
}
