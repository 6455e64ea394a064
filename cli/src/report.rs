//! Errors, with the place in the statement that they are about.

use kalam_link::Error;
use unicode_width::UnicodeWidthStr;

use crate::{escape, style::Style};

/// The widest excerpt of a line.
const MAX_EXCERPT_WIDTH: usize = 100;
/// Characters shown before the place when a line is cut.
const BEFORE_PLACE: usize = 60;
const CUT: &str = "…";

/// Where a statement comes from.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The file, when it is one.
    pub(crate) file: Option<String>,
    /// The line of the file that the statement begins on, from 1.
    pub(crate) first_line: usize,
}

/// The message with the reason, and the line of the statement with a mark under the place.
pub(crate) fn describe(error: &Error, sql: &str, place: Option<&Place>, style: Style) -> String {
    let message = error.message();
    let mut text = format!("{} {}", style.error("error:"), escape::visible(&message));
    if let Some(reason) = error.reason() {
        text.push_str(&format!(" {}", style.faint(&format!("({})", escape::visible(reason)))));
    }
    if let Some(Place { file: Some(file), first_line }) = place {
        let line = first_line + error.line().unwrap_or(1).saturating_sub(1);
        text = format!("{}:{line}: {text}", escape::visible(file));
    }
    if let (Some(line), Some(column)) = (error.line(), error.column())
        && let Some(excerpt) = excerpt(sql, line, column, style)
    {
        text.push('\n');
        text.push_str(&excerpt);
    }
    text
}

/// The line of the statement and, below it, a mark under the column. None when the place is not in the statement.
fn excerpt(sql: &str, line: usize, column: usize, style: Style) -> Option<String> {
    let source = sql.lines().nth(line.checked_sub(1)?)?;
    let index = column.checked_sub(1)?;
    let characters: Vec<char> = source.chars().collect();
    // One past the last character is the end of the statement, which is a place, too.
    if index > characters.len() {
        return None;
    }
    let long = characters.len() > MAX_EXCERPT_WIDTH;
    let start = if long { index.saturating_sub(BEFORE_PLACE) } else { 0 };
    let end = if long { (start + MAX_EXCERPT_WIDTH).min(characters.len()) } else { characters.len() };
    let shown = |from: usize, to: usize| -> String {
        let part: String = characters.get(from..to).unwrap_or_default().iter().collect();
        escape::visible(&part.replace('\t', "    ")).into_owned()
    };
    let leading = if start > 0 { CUT } else { "" };
    let trailing = if end < characters.len() { CUT } else { "" };
    let before = format!("{leading}{}", shown(start, index));
    let number = format!("{line:>4} | ");
    Some(format!(
        "{}{before}{}{trailing}\n{}{}",
        style.faint(&number),
        shown(index, end),
        " ".repeat(number.width() + before.width()),
        style.error("^"),
    ))
}

#[cfg(test)]
mod tests;
