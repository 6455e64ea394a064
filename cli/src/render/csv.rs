//! CSV after RFC 4180, with a header. NULL is an empty field, an empty text is `""`.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use kalam_link::{Column, Columns, Rows, StatementEnd, Value};

use super::{Render, json};
use crate::escape;

pub(crate) struct Csv {
    /// At a terminal, control characters are shown; elsewhere the data is exact.
    for_terminal: bool,
}

impl Csv {
    pub(crate) fn new(for_terminal: bool) -> Self {
        Csv { for_terminal }
    }

    pub(super) fn line(&self, fields: impl Iterator<Item = String>, out: &mut dyn Write) -> io::Result<()> {
        for (index, field) in fields.enumerate() {
            if index > 0 {
                out.write_all(b",")?;
            }
            let shown = if self.for_terminal { escape::visible(&field) } else { Cow::Borrowed(field.as_str()) };
            out.write_all(shown.as_bytes())?;
        }
        out.write_all(b"\n")
    }
}

impl Render for Csv {
    fn begin(&mut self, columns: &Columns, out: &mut dyn Write) -> io::Result<()> {
        if columns.is_empty() {
            return Ok(());
        }
        self.line(columns.iter().map(|column| quoted(&column.name)), out)
    }

    fn rows(&mut self, rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
        for row in rows {
            self.line(row.values().iter().zip(rows.columns()).map(|(value, column)| field(value, column)), out)?;
        }
        Ok(())
    }

    fn end(&mut self, _: &StatementEnd, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn abandon(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn field(value: &Value, column: &Column) -> String {
    match value {
        Value::Null => String::new(),
        Value::List(_) | Value::Struct(_) => {
            let mut text = String::new();
            json::push_value(&mut text, value, &column.sql_type);
            quoted(&text)
        }
        other => quoted(&other.to_string()),
    }
}

pub(super) fn quoted(text: &str) -> String {
    let needs_quotes = text.is_empty()
        || text.contains([',', '"', '\n', '\r'])
        || text.starts_with(char::is_whitespace)
        || text.ends_with(char::is_whitespace);
    if needs_quotes { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
