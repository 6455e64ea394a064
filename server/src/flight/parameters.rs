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
use kalamdb_engine::{Error, Parameter, Reason, SqlType, checked_parameters, value_bytes};
use uuid::Uuid;

use super::put::Rows;

/// The key under which Arrow has the names of extension types.
const EXTENSION_NAME: &str = "ARROW:extension:name";
/// Arrow's own type of UUIDs, 16 bytes each.
const ARROW_UUID: &str = "arrow.uuid";

/// Batches of parameters are converted in parts of so many rows, and so many bytes, at the most.
const ROWS_AT_ONCE: usize = 1_024;
const BYTES_AT_ONCE: usize = 16 * 1024 * 1024;

/// Rows that are kept may be so many times as large once each has its own values, which those of most clients have anyway.
const MAX_EXPANSION: usize = 16;

/// Rows as an Arrow IPC stream, to be kept in a handle.
///
/// # Errors
/// STATEMENT_TOO_LARGE, and those of the rows.
pub(super) async fn kept(rows: Rows, max_bytes: usize) -> Result<Bytes, Error> {
    let Rows { schema, mut batches } = rows;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(|error| unreadable(&error))?;
    let mut written_bytes = 0_usize;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        written_bytes = written_bytes.saturating_add(bytes_of(&batch));
        writer.write(&batch).map_err(|error| unreadable(&error))?;
        if writer.get_ref().len() > max_bytes || written_bytes > max_bytes.saturating_mul(MAX_EXPANSION) {
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

/// A batch in parts that can be converted at once, each with at least one row.
///
/// # Errors
/// STATEMENT_TOO_LARGE for a row that shows more than a message may have.
pub(super) fn parts(batch: RecordBatch, max_row_bytes: usize) -> impl Iterator<Item = Result<RecordBatch, Error>> {
    // The part that is next comes last.
    let mut rest = vec![batch];
    std::iter::from_fn(move || {
        while let Some(part) = rest.pop() {
            let (rows, bytes) = (part.num_rows(), bytes_of(&part));
            if rows > 1 && (rows > ROWS_AT_ONCE || bytes > BYTES_AT_ONCE.min(max_row_bytes)) {
                rest.push(part.slice(rows / 2, rows - rows / 2));
                rest.push(part.slice(0, rows / 2));
            } else if rows == 1 && bytes > max_row_bytes {
                let text = format!(
                    "A row of parameters has {bytes} bytes, more than flight.max_message_bytes, which is {max_row_bytes}. \
                     Send smaller values."
                );
                let error = Error::new(Reason::StatementTooLarge, text).with("limit", "flight.max_message_bytes");
                return Some(Err(error));
            } else if rows > 0 {
                return Some(Ok(part));
            }
        }
        None
    })
}

/// Bytes of the values of a batch when each row has its own.
fn bytes_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| value_bytes(column.as_ref())).fold(0, usize::saturating_add)
}

/// The values of each row. `first`: the number of rows before them, for errors.
///
/// # Errors
/// PARAMETER_TYPE_MISMATCH, INVALID_REQUEST, NOT_SUPPORTED.
pub(super) fn of_batch(batch: &RecordBatch, first: u64) -> Result<Vec<Vec<Parameter>>, Error> {
    let columns = batch
        .columns()
        .iter()
        .zip(batch.schema().fields())
        .enumerate()
        .map(|(index, (column, field))| {
            let (sql_type, values) = typed(column, field, index)?;
            let values = checked(&values, &sql_type, index, first)?;
            Ok((sql_type, values))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    (0..batch.num_rows())
        .map(|row| {
            columns
                .iter()
                .map(|(sql_type, values)| {
                    let value = ScalarValue::try_from_array(values, row).map_err(Error::internal)?;
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
    if shares_elements(field.data_type()) {
        let message = format!(
            "Parameter ${} is {}, which is not taken. Convert it before it is sent.",
            index + 1,
            field.data_type()
        );
        return Err(Error::new(Reason::NotSupported, message).with("parameter", format!("${}", index + 1)));
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

/// Whether rows of an Arrow type can show the same elements, so that few bytes say any number of them.
fn shares_elements(data_type: &DataType) -> bool {
    match data_type {
        DataType::ListView(_) | DataType::LargeListView(_) => true,
        DataType::Dictionary(_, values) => values.is_nested(),
        DataType::RunEndEncoded(_, values) => values.data_type().is_nested(),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            shares_elements(element.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| shares_elements(field.data_type())),
        _ => false,
    }
}

/// The values, if each of them is one of its type, which Arrow does not say. `first`: the number of rows before them.
fn checked(values: &ArrayRef, sql_type: &SqlType, index: usize, first: u64) -> Result<ArrayRef, Error> {
    checked_parameters(values, sql_type, index + 1).map_err(|_| {
        // Which one it is is looked for only now.
        let is_wrong = |row: &usize| checked_parameters(&values.slice(*row, 1), sql_type, index + 1).is_err();
        let row = first + (0..values.len()).find(is_wrong).unwrap_or_default() as u64;
        let message = format!("Parameter ${} of row {row} is no {sql_type}.", index + 1);
        Error::new(Reason::InvalidRequest, message).with("parameter", format!("${}", index + 1))
    })
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
