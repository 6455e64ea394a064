//! One line for each value: for rows that are too wide for a table.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::style::Style;

/// Width of the line between rows.
const RULE_WIDTH: usize = 40;

/// Writes rows of cells, the first with number `first` (from 1).
pub(super) fn write(
    header: &[String],
    rows: &[Vec<String>],
    first: u64,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let width = header.iter().map(|name| name.width()).max().unwrap_or_default();
    for (number, row) in (first..).zip(rows) {
        let title = format!("-[ row {number} ]");
        writeln!(out, "{}", style.faint(&format!("{title}{}", "-".repeat(RULE_WIDTH.saturating_sub(title.len())))))?;
        for (name, cell) in header.iter().zip(row) {
            let padding = " ".repeat(width - name.width().min(width));
            writeln!(out, "{}{padding} | {cell}", style.strong(name))?;
        }
    }
    Ok(())
}
