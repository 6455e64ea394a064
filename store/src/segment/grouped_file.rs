//! Parquet files whose row groups are encoded apart from each other, and so on several threads at a time.
//!
//! ```text
//!  rows ─▶ GroupEncoder ─┐
//!  rows ─▶ GroupEncoder ─┼─▶ GroupedFile ─▶ bytes, taken as they come
//!  rows ─▶ GroupEncoder ─┘   in order
//! ```
//!
//! They are for others to read, not for KalamDB: an export. Columns are as in segments: texts, UUIDs and JSON strings,
//! intervals strings too, REQUIRED where there can be no NULL, and no Arrow schema embedded.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::SegmentError;
use super::fields::{convert, file_type};

/// A column whose dictionary would be larger in a row group is stored plainly.
const DICTIONARY_BYTES: usize = 64 * 1024;

/// A file in the making: what was encoded is appended, what was appended taken away.
pub struct GroupedFile {
    parquet: SerializedFileWriter<Vec<u8>>,
}

/// Encodes row groups of a file. It can be shared by threads.
pub struct GroupEncoder {
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
}

/// A row group in the making.
pub struct GroupWriter {
    columns: Vec<ArrowColumnWriter>,
    schema: SchemaRef,
}

/// An encoded row group.
pub struct EncodedGroup {
    columns: Vec<ArrowColumnChunk>,
}

impl GroupedFile {
    /// A file with these columns, of the types that columns of tables have, and what encodes its row groups.
    ///
    /// # Errors
    /// [`SegmentError::Unsupported`] when Parquet has no type for one.
    pub fn new(schema: &Schema) -> Result<(Self, GroupEncoder), SegmentError> {
        let mut fields = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let data_type = file_type(field.data_type()).ok_or_else(|| SegmentError::Unsupported {
                column: field.name().clone(),
                data_type: field.data_type().clone(),
            })?;
            fields.push(Field::new(field.name(), data_type, field.is_nullable()));
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let described = ArrowSchemaConverter::new().convert(&schema).map_err(|error| failed(&error))?;
        let properties = Arc::new(properties(&schema)?);
        let parquet = SerializedFileWriter::new(Vec::new(), described.root_schema_ptr(), properties)
            .map_err(|error| failed(&error))?;
        let factory = ArrowRowGroupWriterFactory::new(&parquet, Arc::clone(&schema));
        Ok((Self { parquet }, GroupEncoder { factory, schema }))
    }

    /// Appends a row group.
    ///
    /// # Errors
    /// When it is not of this file.
    pub fn append(&mut self, group: EncodedGroup) -> Result<(), SegmentError> {
        let mut writer = self.parquet.next_row_group().map_err(|error| failed(&error))?;
        for column in group.columns {
            column.append_to_row_group(&mut writer).map_err(|error| failed(&error))?;
        }
        writer.close().map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Takes what was written since the last time.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(self.parquet.inner_mut())
    }

    /// Finishes the file, and gives what was not taken yet.
    ///
    /// # Errors
    /// When its metadata cannot be written.
    pub fn finish(self) -> Result<Vec<u8>, SegmentError> {
        self.parquet.into_inner().map_err(|error| failed(&error))
    }
}

impl GroupEncoder {
    /// Begins a row group.
    ///
    /// # Errors
    /// When a column has no encoder.
    pub fn begin(&self) -> Result<GroupWriter, SegmentError> {
        let columns = self.factory.create_column_writers(0).map_err(|error| failed(&error))?;
        Ok(GroupWriter { columns, schema: Arc::clone(&self.schema) })
    }
}

impl GroupWriter {
    /// Adds rows.
    ///
    /// # Errors
    /// When they do not fit the file; then the group is of no more use.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), SegmentError> {
        let mut writers = self.columns.iter_mut();
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            let column = convert(column, field.data_type())
                .map_err(|error| SegmentError::Rows(format!("column {} does not fit: {error}", field.name())))?;
            if !field.is_nullable() && column.null_count() > 0 {
                let message = format!("column {} has a NULL that it should not have", field.name());
                return Err(SegmentError::Rows(message));
            }
            for leaf in compute_leaves(field, &column).map_err(|error| failed(&error))? {
                let writer = writers.next().ok_or_else(|| SegmentError::Rows("too many columns".to_owned()))?;
                writer.write(&leaf).map_err(|error| failed(&error))?;
            }
        }
        Ok(())
    }

    /// Finishes the group.
    ///
    /// # Errors
    /// When a column cannot be finished.
    pub fn finish(self) -> Result<EncodedGroup, SegmentError> {
        let columns = self.columns.into_iter().map(|column| column.close()).collect::<Result<_, _>>();
        Ok(EncodedGroup { columns: columns.map_err(|error| failed(&error))? })
    }
}

fn properties(schema: &Schema) -> Result<WriterProperties, SegmentError> {
    let zstd = ZstdLevel::try_new(1).map_err(|error| failed(&error))?;
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("kalamdb version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_compression(Compression::ZSTD(zstd))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for field in schema.fields() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        if field.data_type().is_integer() || field.data_type().is_temporal() {
            properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        } else if field.data_type().is_floating() {
            // Statistics leave NaN out, and who prunes by them would miss it.
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    Ok(properties.build())
}

fn failed(error: &ParquetError) -> SegmentError {
    SegmentError::Rows(format!("the rows cannot be written as Parquet: {error}"))
}

impl fmt::Debug for GroupedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupedFile").field("bytes", &self.parquet.bytes_written()).finish_non_exhaustive()
    }
}

impl fmt::Debug for GroupEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupEncoder").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl fmt::Debug for GroupWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupWriter").field("columns", &self.columns.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for EncodedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedGroup").field("columns", &self.columns.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray, StringViewArray};
    use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNano, IntervalUnit};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    #[test]
    fn groups_that_were_encoded_apart_make_one_file() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("text.dotted", DataType::Utf8View, true),
            Field::new("pause", DataType::Interval(IntervalUnit::MonthDayNano), true),
        ]);
        let rows = |ids: Vec<i64>| {
            let texts: Vec<Option<String>> = ids.iter().map(|id| (id % 3 > 0).then(|| format!("text {id}"))).collect();
            let pauses = ids.iter().map(|_| Some(IntervalMonthDayNano::new(1, 2, 500_000_000)));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(ids.clone())),
                Arc::new(StringViewArray::from_iter(texts)),
                Arc::new(IntervalMonthDayNanoArray::from_iter(pauses)),
            ];
            RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap()
        };
        let (mut file, encoder) = GroupedFile::new(&schema).unwrap();
        let encode = |batches: &[RecordBatch]| {
            let mut group = encoder.begin().unwrap();
            batches.iter().for_each(|batch| group.write(batch).unwrap());
            group.finish().unwrap()
        };
        let second = encode(&[rows((500..700).collect())]);
        let first = encode(&[rows((0..200).collect()), rows((200..500).collect())]);
        let mut bytes = Vec::new();
        file.append(first).unwrap();
        bytes.extend(file.take_bytes());
        file.append(second).unwrap();
        bytes.extend(file.take_bytes());
        bytes.extend(file.finish().unwrap());

        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        let ids: Vec<i64> =
            read.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(ids, (0..700).collect::<Vec<_>>());
        assert_eq!(read[0].column(1).as_string::<i32>().value(1), "text 1");
        assert!(read[0].column(1).is_null(0));
        assert_eq!(read[0].column(2).as_string::<i32>().value(0), "1 mons 2 days 0.500000000 secs");
    }

    #[test]
    fn a_file_can_have_no_rows() {
        let (file, _) = GroupedFile::new(&Schema::new(vec![Field::new("id", DataType::Int64, false)])).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.finish().unwrap())).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
        assert_eq!(reader.schema().field(0).name(), "id");
    }

    #[test]
    fn what_parquet_has_no_type_for_is_refused() {
        let schema = Schema::new(vec![Field::new("odd", DataType::Null, true)]);
        assert!(matches!(GroupedFile::new(&schema), Err(SegmentError::Unsupported { column, .. }) if column == "odd"));
    }
}
