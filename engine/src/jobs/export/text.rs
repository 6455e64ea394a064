//! Rows as text: CSV after RFC 4180, and JSON with one object a line.
//!
//! Both are exact. JSON has integers of 64 bits and decimals as strings, since its numbers are doubles to most readers; so
//! are numbers that are none, as `"NaN"`. In CSV a NULL is an empty field, an empty text is `""`, and arrays and structs are
//! JSON.

use std::io::Write;

use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{
        DataType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, UInt16Type, UInt32Type, UInt64Type,
    },
    util::display::{ArrayFormatter, FormatOptions},
};
use serde::de::IgnoredAny;

use super::columns::Columns;
use crate::{
    error::{Error, Reason, Result},
    types::SqlType,
};

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    /// A field of CSV, without the quotes.
    Plain,
}

/// Appends the value of a row that is not NULL.
type Value<'a> = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<()> + 'a>;

/// The first line of a CSV file.
pub(super) fn csv_header(columns: &Columns) -> Vec<u8> {
    let mut line = Vec::new();
    for (index, field) in columns.schema.fields().iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        push_field(&mut line, field.name().as_bytes());
    }
    line.push(b'\n');
    line
}

/// The rows of a batch as lines of CSV.
pub(super) fn push_csv(columns: &Columns, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    let values = values(columns, batch, |sql_type| match sql_type {
        SqlType::List(_) | SqlType::Struct(_) => Form::Json,
        _ => Form::Plain,
    })?;
    let mut text = Vec::new();
    for row in 0..batch.num_rows() {
        for (index, (column, value)) in batch.columns().iter().zip(&values).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            if !column.is_null(row) {
                text.clear();
                value(row, &mut text)?;
                push_field(out, &text);
            }
        }
        out.push(b'\n');
    }
    Ok(())
}

/// The rows of a batch as lines of JSON.
pub(super) fn push_json(columns: &Columns, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    let values = values(columns, batch, |_| Form::Json)?;
    let mut keys = Vec::with_capacity(values.len());
    for field in columns.schema.fields() {
        let mut key = Vec::new();
        push_string(&mut key, field.name())?;
        keys.push(key);
    }
    for row in 0..batch.num_rows() {
        out.push(b'{');
        for (index, (column, (key, value))) in batch.columns().iter().zip(keys.iter().zip(&values)).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            out.push(b':');
            push_or_null(column.as_ref(), value, row, out)?;
        }
        out.extend_from_slice(b"}\n");
    }
    Ok(())
}

fn values<'a>(columns: &Columns, batch: &'a RecordBatch, form: impl Fn(&SqlType) -> Form) -> Result<Vec<Value<'a>>> {
    let columns = batch.columns().iter().zip(columns.types.iter());
    columns.map(|(column, sql_type)| value(column.as_ref(), sql_type, form(sql_type))).collect()
}

/// What writes the values of an array.
fn value<'a>(array: &'a dyn Array, sql_type: &SqlType, form: Form) -> Result<Value<'a>> {
    macro_rules! number {
        ($array_type:ty) => {{
            let values = array.as_primitive::<$array_type>().values();
            Box::new(move |row: usize, out: &mut Vec<u8>| write(out, format_args!("{}", values[row])))
        }};
    }
    macro_rules! float {
        ($array_type:ty) => {{
            let values = array.as_primitive::<$array_type>().values();
            Box::new(move |row: usize, out: &mut Vec<u8>| {
                let value = values[row];
                let name = match value {
                    _ if value.is_finite() => return serde_json::to_writer(out, &value).map_err(Error::internal),
                    _ if value.is_nan() => "NaN",
                    _ if value > 0.0 => "Infinity",
                    _ => "-Infinity",
                };
                match form {
                    Form::Json => write(out, format_args!("\"{name}\"")),
                    Form::Plain => write(out, format_args!("{name}")),
                }
            })
        }};
    }
    Ok(match (array.data_type(), sql_type) {
        (DataType::Boolean, _) => {
            let values = array.as_boolean();
            Box::new(move |row, out| write(out, format_args!("{}", values.value(row))))
        }
        (DataType::Int16, _) => number!(Int16Type),
        (DataType::Int32, _) => number!(Int32Type),
        (DataType::UInt16, _) => number!(UInt16Type),
        (DataType::UInt32, _) => number!(UInt32Type),
        (DataType::Int64, _) if form == Form::Plain => number!(Int64Type),
        (DataType::UInt64, _) if form == Form::Plain => number!(UInt64Type),
        (DataType::Float32, _) => float!(Float32Type),
        (DataType::Float64, _) => float!(Float64Type),
        (DataType::Utf8View, SqlType::Json) if form == Form::Json => {
            let texts = array.as_string_view();
            Box::new(move |row, out| push_document(out, texts.value(row)))
        }
        (DataType::Utf8View, _) => {
            let texts = array.as_string_view();
            match form {
                Form::Json => Box::new(move |row, out| push_string(out, texts.value(row))),
                Form::Plain => Box::new(move |row, out| {
                    out.extend_from_slice(texts.value(row).as_bytes());
                    Ok(())
                }),
            }
        }
        (DataType::BinaryView, _) => {
            let bytes = array.as_binary_view();
            Box::new(move |row, out| push_bytes(out, bytes.value(row), form))
        }
        (DataType::List(_), SqlType::List(element)) => {
            let list = array.as_list::<i32>();
            let items = list.values();
            let write_item = value(items.as_ref(), element, Form::Json)?;
            Box::new(move |row, out| {
                let offsets = list.value_offsets();
                let ends = (offsets.get(row).copied(), offsets.get(row + 1).copied());
                let (Some(start), Some(end)) = ends else { return Err(Error::internal("a list without an end")) };
                out.push(b'[');
                for item in start..end {
                    if item > start {
                        out.push(b',');
                    }
                    push_or_null(items.as_ref(), &write_item, item as usize, out)?;
                }
                out.push(b']');
                Ok(())
            })
        }
        (DataType::Struct(_), SqlType::Struct(fields)) => {
            let parts = array.as_struct();
            let mut writers = Vec::with_capacity(fields.len());
            for (part, field) in parts.columns().iter().zip(fields) {
                let mut key = Vec::new();
                push_string(&mut key, &field.name)?;
                writers.push((key, part.as_ref(), value(part.as_ref(), &field.sql_type, Form::Json)?));
            }
            Box::new(move |row, out| {
                out.push(b'{');
                for (index, (key, part, write_part)) in writers.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    out.push(b':');
                    push_or_null(*part, write_part, row, out)?;
                }
                out.push(b'}');
                Ok(())
            })
        }
        _ => formatted(array, form)?,
    })
}

/// Dates, times, intervals and decimals, and integers in quotes.
fn formatted<'a>(array: &'a dyn Array, form: Form) -> Result<Value<'a>> {
    let options = match form {
        Form::Json => FormatOptions::new()
            .with_display_error(false)
            .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"))
            .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ")),
        Form::Plain => FormatOptions::new()
            .with_display_error(false)
            .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
            .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f+00")),
    };
    let formatter = ArrayFormatter::try_new(array, &options).map_err(Error::internal)?;
    Ok(Box::new(move |row, out| {
        let text = formatter.value(row).try_to_string().map_err(|error| {
            let message = "A date or time is outside of what a text can say. Export it as parquet, or leave it out.";
            Error::new(Reason::InvalidValue, message).with_detail(error)
        })?;
        match form {
            Form::Json => push_string(out, &text),
            Form::Plain => {
                out.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
    }))
}

fn push_or_null(array: &dyn Array, value: &Value<'_>, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    value(row, out)
}

fn push_string(out: &mut Vec<u8>, text: &str) -> Result<()> {
    serde_json::to_writer(out, text).map_err(Error::internal)
}

/// A JSON document as it is, on one line.
fn push_document(out: &mut Vec<u8>, text: &str) -> Result<()> {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return push_string(out, text);
    }
    // Line breaks are only space between tokens; within strings JSON has them escaped.
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    Ok(())
}

/// Bytes in hexadecimal, as PostgreSQL writes them.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8], form: Form) -> Result<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(if form == Form::Json { b"\"\\\\x" } else { b"\\x" });
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
    if form == Form::Json {
        out.push(b'"');
    }
    Ok(())
}

/// A field of CSV, in quotes where it must be.
fn push_field(out: &mut Vec<u8>, text: &[u8]) {
    let is_space = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    let needs_quotes = text.is_empty()
        || text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'))
        || is_space(text.first())
        || is_space(text.last());
    if !needs_quotes {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) -> Result<()> {
    out.write_fmt(text).map_err(Error::internal)
}

#[cfg(test)]
mod tests;
