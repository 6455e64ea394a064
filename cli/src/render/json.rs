//! JSON, one object for each row and line. Exact: integers of 64 bits and decimals are strings, since JSON's numbers
//! are doubles to most readers.

use std::{
    collections::HashSet,
    fmt::Write as _,
    io::{self, Write},
};

use kalam_link::{Columns, Row, Rows, SqlType, StatementEnd, Value, datetime};
use serde::de::IgnoredAny;

use super::Render;
use crate::escape;

#[derive(Default)]
pub(crate) struct Json {
    /// The columns' names as JSON strings, each different.
    keys: Vec<String>,
    line: String,
}

impl Render for Json {
    fn begin(&mut self, columns: &Columns, _: &mut dyn Write) -> io::Result<()> {
        self.keys = keys(columns.iter().map(|column| column.name.as_str()));
        Ok(())
    }

    fn rows(&mut self, rows: &Rows, out: &mut dyn Write) -> io::Result<()> {
        for row in rows {
            self.line.clear();
            push_row(&mut self.line, row, &self.keys);
            self.line.push('\n');
            out.write_all(self.line.as_bytes())?;
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

/// Appends a row as an object with these keys.
pub(super) fn push_row(line: &mut String, row: &Row, keys: &[String]) {
    line.push('{');
    for (index, ((value, column), key)) in row.values().iter().zip(row.columns()).zip(keys).enumerate() {
        if index > 0 {
            line.push(',');
        }
        line.push_str(key);
        line.push(':');
        push_value(line, value, &column.sql_type);
    }
    line.push('}');
}

/// Names as JSON strings; a repeated name gets a number, so that no value is lost.
pub(super) fn keys<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut used = HashSet::new();
    names
        .map(|name| {
            let mut key = name.to_owned();
            let mut number = 2;
            while !used.insert(key.clone()) {
                key = format!("{name}_{number}");
                number += 1;
            }
            let mut text = String::new();
            push_text(&mut text, &key);
            text
        })
        .collect()
}

/// Appends a value as JSON.
pub(crate) fn push_value(line: &mut String, value: &Value, sql_type: &SqlType) {
    match value {
        Value::Null => line.push_str("null"),
        Value::Bool(true) => line.push_str("true"),
        Value::Bool(false) => line.push_str("false"),
        Value::Int(_) | Value::UInt(_) if has_few_bits(sql_type) => line.push_str(&value.to_string()),
        Value::Float(number) if number.is_finite() => push_number(line, serde_json::to_string(number)),
        Value::Double(number) if number.is_finite() => push_number(line, serde_json::to_string(number)),
        Value::Timestamp(micros) => push_text(line, &datetime::timestamp(*micros, 'T')),
        Value::TimestampTz(micros) => push_text(line, &format!("{}Z", datetime::timestamp(*micros, 'T'))),
        Value::Json(text) => push_json(line, text),
        Value::List(values) => {
            let element = match sql_type {
                SqlType::List(element) => element,
                _ => &SqlType::Unknown,
            };
            line.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    line.push(',');
                }
                push_value(line, value, element);
            }
            line.push(']');
        }
        Value::Struct(values) => push_struct(line, values, sql_type),
        other => push_text(line, &other.to_string()),
    }
}

fn push_struct(line: &mut String, values: &[Value], sql_type: &SqlType) {
    let fields = match sql_type {
        SqlType::Struct(fields) => fields.as_slice(),
        _ => &[],
    };
    let keys = keys(values.iter().enumerate().map(|(index, _)| fields.get(index).map_or("field", |field| &field.name)));
    line.push('{');
    for (index, (value, key)) in values.iter().zip(keys).enumerate() {
        if index > 0 {
            line.push(',');
        }
        line.push_str(&key);
        line.push(':');
        push_value(line, value, fields.get(index).map_or(&SqlType::Unknown, |field| &field.sql_type));
    }
    line.push('}');
}

fn has_few_bits(sql_type: &SqlType) -> bool {
    matches!(sql_type, SqlType::SmallInt | SqlType::Int | SqlType::SmallIntUnsigned | SqlType::IntUnsigned)
}

fn push_number(line: &mut String, number: serde_json::Result<String>) {
    line.push_str(number.as_deref().unwrap_or("null"));
}

/// A JSON document as it is, on one line. A text that is none, which the server does not store, becomes a string.
fn push_json(line: &mut String, text: &str) {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return push_text(line, text);
    }
    for character in text.chars() {
        match character {
            // Line breaks are only space between tokens; within strings JSON has them escaped.
            '\n' | '\r' => line.push(' '),
            other => push_character(line, other),
        }
    }
}

pub(super) fn push_text(line: &mut String, text: &str) {
    match serde_json::to_string(text) {
        Ok(quoted) => quoted.chars().for_each(|character| push_character(line, character)),
        Err(_) => line.push_str("null"),
    }
}

/// What JSON would allow but a terminal would obey is escaped, too.
fn push_character(line: &mut String, character: char) {
    if escape::is_hidden(character) && character != '\t' {
        // All hidden characters are in the basic plane. Writing to a String cannot fail.
        let _ = write!(line, "\\u{:04x}", u32::from(character));
    } else {
        line.push(character);
    }
}
