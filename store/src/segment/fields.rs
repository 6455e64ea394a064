//! The columns of a segment file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::SegmentError;
use crate::ids::ColumnId;

/// The column of a segment that has the commit sequence of each row's version, a BIGINT.
pub const SEQ_COLUMN: &str = "_seq";

/// The column of a segment that has the commit time of each row's version, a TIMESTAMP WITH TIME ZONE.
pub const UPDATED_COLUMN: &str = "_updated";

const UTC: &str = "+00:00";

/// The columns of a segment file: those of the table, in creation order, then [`SEQ_COLUMN`] and [`UPDATED_COLUMN`].
#[derive(Debug, Clone)]
pub struct SegmentFields {
    /// The columns as a writer takes them and a reader returns them, but for intervals, which a reader returns as
    /// text. The metadata of a table's column are its Parquet field id and nothing else.
    pub schema: SchemaRef,
    /// Which column is the primary key.
    pub key_index: usize,
    /// The columns as the Parquet writer takes them.
    pub(super) file_schema: SchemaRef,
}

impl SegmentFields {
    /// The columns of a segment of a table with these columns, of which the one at `key_index` is the primary key.
    /// Fails if one cannot be stored.
    pub fn new(
        columns: impl IntoIterator<Item = (ColumnId, FieldRef)>,
        key_index: usize,
    ) -> Result<Self, SegmentError> {
        let mut fields: Vec<FieldRef> = Vec::new();
        for (id, field) in columns {
            let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), field_id(id))]);
            fields.push(Arc::new(field.as_ref().clone().with_metadata(metadata)));
        }
        let key = fields.get(key_index).ok_or_else(|| SegmentError::Rows("a segment has no key column".to_owned()))?;
        if key.is_nullable() || !matches!(key.data_type(), DataType::Int64 | DataType::Utf8View) {
            return Err(unsupported(key));
        }
        let updated = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
        fields.push(Arc::new(Field::new(SEQ_COLUMN, DataType::Int64, false)));
        fields.push(Arc::new(Field::new(UPDATED_COLUMN, updated, false)));
        let mut file_fields = Vec::with_capacity(fields.len());
        for field in &fields {
            let data_type = file_type(field.data_type()).ok_or_else(|| unsupported(field))?;
            file_fields.push(field.as_ref().clone().with_data_type(data_type));
        }
        let file_schema = Arc::new(Schema::new(file_fields));
        Ok(Self { schema: Arc::new(Schema::new(fields)), key_index, file_schema })
    }

    /// A batch of [`SegmentFields::schema`] as the Parquet writer takes it.
    pub(super) fn to_file(&self, batch: &RecordBatch) -> Result<RecordBatch, SegmentError> {
        let columns = batch.columns().iter().zip(self.file_schema.fields());
        let columns = columns.map(|(column, field)| convert(column, field.data_type())).collect::<Result<_, _>>();
        columns
            .and_then(|columns| RecordBatch::try_new(self.file_schema.clone(), columns))
            .map_err(|error| SegmentError::Rows(format!("the rows do not fit the segment: {error}")))
    }
}

/// The Parquet field id of a table's column, as text: the column's id plus one, because some readers take 0 for none.
fn field_id(column: ColumnId) -> String {
    (u32::from(column.get()) + 1).to_string()
}

/// The table's column that a field of a segment file holds; `None` for the columns that every segment has.
pub fn column_of_field(field: &Field) -> Option<ColumnId> {
    let id: u16 =
        field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse::<u32>().ok()?.checked_sub(1)?.try_into().ok()?;
    Some(ColumnId::new(id))
}

/// A column read from a segment, by whatever reader, as the type that the table's column has. Values stay exactly what
/// they were: texts and bytes become views, time zones `+00:00`, and the texts that stand for intervals intervals.
pub fn restore_column(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    convert(column, data_type)
}

pub(super) fn convert(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == data_type {
        return Ok(column.clone());
    }
    cast_with_options(column, data_type, &CastOptions { safe: false, ..CastOptions::default() })
}

/// The type that a file's column has for a stored type; `None` if it cannot be stored. Parquet's own interval has no
/// nanoseconds and no signs, so an interval is a text, in the form that Arrow's casts write and read.
pub(super) fn file_type(stored: &DataType) -> Option<DataType> {
    Some(match stored {
        DataType::Interval(_) => DataType::Utf8,
        DataType::List(element) => DataType::List(file_field(element)?),
        DataType::Struct(fields) if fields.is_empty() => return None,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(file_field).collect::<Option<Fields>>()?),
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) if *scale < 0 => return None,
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _)
        | DataType::Utf8View
        | DataType::BinaryView
        | DataType::Date32
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Microsecond, _) => stored.clone(),
        _ => return None,
    })
}

fn file_field(field: &FieldRef) -> Option<FieldRef> {
    // Metadata of nested fields (the SQL type, for the engine) have no place in a Parquet file.
    Some(Arc::new(Field::new(field.name(), file_type(field.data_type())?, field.is_nullable())))
}

/// The type that a reader returns for what the Parquet library infers from a file.
pub(super) fn read_type(inferred: &DataType) -> DataType {
    match inferred {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some(UTC.into())),
        DataType::List(element) => DataType::List(read_field(element)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(read_field).collect()),
        other => other.clone(),
    }
}

pub(super) fn read_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(read_type(field.data_type())))
}

fn unsupported(field: &Field) -> SegmentError {
    SegmentError::Unsupported { column: field.name().clone(), data_type: field.data_type().clone() }
}
