//! Parameters of prepared statements: rows of Arrow, each the values `$1`, `$2`, … of one run, by place.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, FieldRef, SchemaRef},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::StreamExt;
use kalamdb_engine::{Error, Parameter, Reason, SqlType};
use uuid::Uuid;

use super::put::Rows;

/// The key under which Arrow has the names of extension types.
const EXTENSION_NAME: &str = "ARROW:extension:name";
/// Arrow's own type of UUIDs, 16 bytes each.
const ARROW_UUID: &str = "arrow.uuid";

/// Batches of parameters are converted in slices of so many rows.
pub(super) const ROWS_AT_ONCE: usize = 1_024;

/// Rows as an Arrow IPC stream, to be kept in a handle.
///
/// # Errors
/// STATEMENT_TOO_LARGE, and those of the rows.
pub(super) async fn kept(rows: Rows, max_bytes: usize) -> Result<Bytes, Error> {
    let Rows { schema, mut batches } = rows;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(|error| unreadable(&error))?;
    while let Some(batch) = batches.next().await {
        writer.write(&batch?).map_err(|error| unreadable(&error))?;
        if writer.get_ref().len() > max_bytes {
            let text = format!(
                "The parameters have more bytes than flight.max_handle_bytes, which is {max_bytes}. Send fewer rows at once, \
                 or put them in with a bulk ingest."
            );
            return Err(Error::new(Reason::StatementTooLarge, text).with("limit", "flight.max_handle_bytes"));
        }
    }
    writer.into_inner().map(Bytes::from).map_err(Error::internal)
}

/// The rows of a handle, as they were sent.
///
/// # Errors
/// INTERNAL: they were read before.
pub(super) fn read_kept(bytes: &Bytes) -> Result<Vec<RecordBatch>, Error> {
    let reader = StreamReader::try_new(bytes.as_ref(), None).map_err(Error::internal)?;
    reader.collect::<Result<_, _>>().map_err(Error::internal)
}

/// The values of each row. `first`: the number of rows before them, for errors.
///
/// # Errors
/// PARAMETER_TYPE_MISMATCH, INVALID_REQUEST.
pub(super) fn of_batch(batch: &RecordBatch, first: u64) -> Result<Vec<Vec<Parameter>>, Error> {
    let columns = batch
        .columns()
        .iter()
        .zip(batch.schema().fields())
        .enumerate()
        .map(|(index, (column, field))| typed(column, field, index))
        .collect::<Result<Vec<_>, _>>()?;
    (0..batch.num_rows())
        .map(|row| {
            columns
                .iter()
                .enumerate()
                .map(|(index, (sql_type, values))| {
                    let value = ScalarValue::try_from_array(values, row).map_err(Error::internal)?;
                    check_text(&value, sql_type, index, first + row as u64)?;
                    Ok(Parameter { value, sql_type: sql_type.clone() })
                })
                .collect()
        })
        .collect()
}

/// A column as values of a SQL type.
fn typed(column: &ArrayRef, field: &FieldRef, index: usize) -> Result<(SqlType, ArrayRef), Error> {
    if field.metadata().get(EXTENSION_NAME).is_some_and(|name| name == ARROW_UUID)
        && let Some(bytes) = column.as_fixed_size_binary_opt()
    {
        let texts: StringArray = bytes.iter().map(|bytes| Some(Uuid::from_slice(bytes?).ok()?.to_string())).collect();
        return Ok((SqlType::Uuid, to_type(&(Arc::new(texts) as ArrayRef), &SqlType::Uuid.to_arrow(), index)?));
    }
    let sql_type = SqlType::from_field(&widened(field));
    if sql_type == SqlType::Null {
        return Ok((SqlType::Null, new_null_array(&DataType::Null, column.len())));
    }
    let values = to_type(column, &sql_type.to_arrow(), index)?;
    Ok((sql_type, values))
}

/// The field with dictionaries and run ends taken off, which keep metadata from the values.
fn widened(field: &Field) -> Field {
    match field.data_type() {
        DataType::Dictionary(_, value) => Field::clone(field).with_data_type(value.as_ref().clone()),
        DataType::RunEndEncoded(_, value) => Field::clone(field).with_data_type(value.data_type().clone()),
        _ => field.clone(),
    }
}

fn to_type(column: &ArrayRef, data_type: &DataType, index: usize) -> Result<ArrayRef, Error> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let plain = match column.data_type() {
        same if same == data_type => return Ok(Arc::clone(column)),
        // Arrow casts these to nothing but plain bytes.
        DataType::FixedSizeBinary(_) => {
            cast_with_options(column, &DataType::Binary, &options).map_err(|error| mismatched(&error, column, index))?
        }
        _ => Arc::clone(column),
    };
    cast_with_options(&plain, data_type, &options).map_err(|error| mismatched(&error, column, index))
}

/// Checks the texts whose type says more than that they are texts.
fn check_text(value: &ScalarValue, sql_type: &SqlType, index: usize, row: u64) -> Result<(), Error> {
    let (ScalarValue::Utf8View(Some(text)), SqlType::Uuid | SqlType::Json) = (value, sql_type) else { return Ok(()) };
    let is_valid = match sql_type {
        SqlType::Uuid => Uuid::try_parse(text).is_ok(),
        _ => serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
    };
    if is_valid {
        return Ok(());
    }
    let message = format!("Parameter ${} of row {row} is no {sql_type}.", index + 1);
    Err(Error::new(Reason::InvalidRequest, message).with("parameter", format!("${}", index + 1)))
}

fn mismatched(error: &arrow::error::ArrowError, column: &ArrayRef, index: usize) -> Error {
    let message = format!("Parameter ${} of type {} cannot be taken: {error}.", index + 1, column.data_type());
    Error::new(Reason::ParameterTypeMismatch, message).with("parameter", format!("${}", index + 1))
}

fn unreadable(error: &arrow::error::ArrowError) -> Error {
    Error::new(Reason::InvalidRequest, format!("The parameters cannot be read: {error}."))
}

/// Whether a schema has columns, so that its rows are parameters: some clients send rows of nothing for a statement that
/// has none.
pub(super) fn has_values(schema: &SchemaRef) -> bool {
    !schema.fields().is_empty()
}

#[cfg(test)]
mod tests;
