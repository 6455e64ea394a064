//! Parquet files of a backup that are no segments: the hot rows of a table, and lists of deletion marks.
//!
//! Their rows can be of many partitions, and nothing is looked up in them by key: no bloom filters, no order that a reader
//! relies on. They are read as a whole, and who reads them compares them with a checksum first.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::fields::read_field;
use super::reader::location;
use super::{SegmentError, SegmentFields, SegmentReader};
use crate::codec::SegmentEntry;

/// Rows in a row group.
const ROW_GROUP_ROWS: usize = 131_072;

/// Writes rows into one Parquet file in memory.
pub struct RowsFileWriter {
    parquet: ArrowWriter<Vec<u8>>,
    shape: Shape,
    rows: u64,
}

/// How batches become what the Parquet writer takes.
enum Shape {
    /// They are already.
    Plain,
    /// Rows of a table; `owner`: its name comes behind the columns of a segment.
    Rows { fields: SegmentFields, schema: SchemaRef, owner: bool },
}

impl RowsFileWriter {
    /// A file of plain columns, which Parquet has types for.
    ///
    /// # Errors
    /// When a column cannot be stored.
    pub fn plain(schema: &SchemaRef, metadata: Vec<(String, String)>) -> Result<Self, SegmentError> {
        Ok(Self { parquet: writer(schema, metadata)?, shape: Shape::Plain, rows: 0 })
    }

    /// A file of rows of a table: the columns of its segments and, if `owner` has a name, a text with the owner of each.
    ///
    /// # Errors
    /// When a column cannot be stored.
    pub fn rows(
        fields: SegmentFields,
        owner: Option<&str>,
        metadata: Vec<(String, String)>,
    ) -> Result<Self, SegmentError> {
        let mut file_fields: Vec<_> = fields.file_schema.fields().iter().cloned().collect();
        file_fields.extend(owner.map(|name| Arc::new(Field::new(name, DataType::Utf8View, false))));
        let schema: SchemaRef = Arc::new(Schema::new(file_fields));
        let parquet = writer(&schema, metadata)?;
        Ok(Self { parquet, shape: Shape::Rows { fields, schema, owner: owner.is_some() }, rows: 0 })
    }

    /// Appends rows. After an error the writer is of no more use.
    ///
    /// # Errors
    /// When they do not fit the file.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), SegmentError> {
        let unfit = |error: &dyn fmt::Display| SegmentError::Rows(format!("the rows do not fit the file: {error}"));
        let converted = match &self.shape {
            Shape::Plain => batch.clone(),
            Shape::Rows { fields, schema, owner } => {
                let own = batch.num_columns().saturating_sub(usize::from(*owner));
                let indexes: Vec<usize> = (0..own).collect();
                let rows = fields.to_file(&batch.project(&indexes).map_err(|error| unfit(&error))?)?;
                let owners = batch.columns().get(own).filter(|_| *owner).cloned();
                let columns: Vec<ArrayRef> = rows.columns().iter().cloned().chain(owners).collect();
                RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| unfit(&error))?
            }
        };
        self.parquet.write(&converted).map_err(|error| unfit(&error))?;
        self.rows += converted.num_rows() as u64;
        Ok(())
    }

    /// How many rows were written.
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// About how large the file would be if it were finished now.
    pub fn buffered_bytes(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.in_progress_size()
    }

    /// About how much memory the writer holds.
    pub fn memory_bytes(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.memory_size()
    }

    /// Finishes the file.
    ///
    /// # Errors
    /// When its metadata cannot be written.
    pub fn finish(self) -> Result<Bytes, SegmentError> {
        self.parquet
            .into_inner()
            .map(Bytes::from)
            .map_err(|error| SegmentError::Rows(format!("the rows cannot be written as Parquet: {error}")))
    }
}

impl fmt::Debug for RowsFileWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsFileWriter").field("rows", &self.rows).finish_non_exhaustive()
    }
}

fn writer(schema: &SchemaRef, metadata: Vec<(String, String)>) -> Result<ArrowWriter<Vec<u8>>, SegmentError> {
    let failed =
        |error: &dyn fmt::Display| SegmentError::Rows(format!("the rows cannot be written as Parquet: {error}"));
    let pairs = metadata.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect();
    let zstd = ZstdLevel::try_new(1).map_err(|error| failed(&error))?;
    let properties = WriterProperties::builder()
        .set_created_by(concat!("kalamdb version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_compression(Compression::ZSTD(zstd))
        .set_key_value_metadata(Some(pairs))
        .build();
    // As in segments: no Arrow schema, so that every reader sees plain strings and UTC.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(schema), options).map_err(|error| failed(&error))
}

/// The rows of a file that [`RowsFileWriter`] made, batch by batch. Columns are as a [`SegmentReader`] returns them.
pub struct RowsFileReader {
    name: String,
    reader: ParquetRecordBatchReader,
    rows: u64,
}

impl RowsFileReader {
    /// Opens a file; `name` is what errors call it.
    ///
    /// # Errors
    /// When it is no such file.
    pub fn open(name: &str, bytes: Bytes, batch_rows: usize) -> Result<Self, SegmentError> {
        let damaged = |error: &dyn fmt::Display| damaged(name, error);
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let inferred = ArrowReaderMetadata::load(&bytes, options).map_err(|error| damaged(&error))?;
        let fields: Fields = inferred.schema().fields().iter().map(read_field).collect();
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(inferred.metadata()), options);
        let metadata = metadata.map_err(|error| damaged(&error))?;
        let rows = metadata.metadata().file_metadata().num_rows().unsigned_abs();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
            .with_batch_size(batch_rows.max(1))
            .build()
            .map_err(|error| damaged(&error))?;
        Ok(Self { name: name.to_owned(), reader, rows })
    }

    /// How many rows the file has.
    pub fn row_count(&self) -> u64 {
        self.rows
    }
}

impl Iterator for RowsFileReader {
    type Item = Result<RecordBatch, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.reader.next().map(|batch| batch.map_err(|error| damaged(&self.name, &error)))
    }
}

impl fmt::Debug for RowsFileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsFileReader").field("name", &self.name).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Checks that bytes are a segment file that fits its entry: footer, page index, key, row groups and their rows.
///
/// # Errors
/// [`SegmentError::Corrupt`] with what does not fit.
pub async fn check_segment_file(entry: &SegmentEntry, bytes: Bytes) -> Result<(), SegmentError> {
    if bytes.len() as u64 != entry.file_bytes {
        return Err(damaged(&entry.path, &format!("it has {} bytes, not {}", bytes.len(), entry.file_bytes)));
    }
    let (store, path) = (InMemory::new(), location(&entry.path)?);
    store.put(&path, bytes.into()).await.map_err(|error| SegmentError::from_store(&error, &entry.path))?;
    SegmentReader::open(entry.clone(), Arc::new(store)).await.map(|_| ())
}

fn damaged(name: &str, reason: &dyn fmt::Display) -> SegmentError {
    SegmentError::Corrupt { file: name.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringViewArray, TimestampMicrosecondArray};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::ids::ColumnId;

    #[test]
    fn rows_come_back_with_their_owners() {
        let id = (ColumnId::new(0), Arc::new(Field::new("id", DataType::Int64, false)));
        let fields = SegmentFields::new([id], 0).unwrap();
        let mut schema: Vec<_> = fields.schema.fields().iter().cloned().collect();
        schema.push(Arc::new(Field::new("_user_id", DataType::Utf8View, true)));
        let time = TimestampMicrosecondArray::from(vec![5, 6, 7]).with_timezone("+00:00");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![3, 1, 2])),
            Arc::new(Int64Array::from(vec![10, 11, 12])),
            Arc::new(time),
            Arc::new(StringViewArray::from(vec!["bo", "ana", "ana"])),
        ];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(schema)), columns).unwrap();
        let mut writer = RowsFileWriter::rows(fields, Some("_user_id"), Vec::new()).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&batch.slice(1, 2)).unwrap();
        assert_eq!(writer.row_count(), 5);
        let bytes = writer.finish().unwrap();
        let reader = RowsFileReader::open("x", bytes.clone(), 4).unwrap();
        assert_eq!(reader.row_count(), 5);
        let read: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!(read.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [4, 1]);
        assert_eq!(read[0].column(0).as_primitive::<Int64Type>().values(), &[3, 1, 2, 1]);
        assert_eq!(
            read[0].column(3).as_string_view().iter().flatten().collect::<Vec<_>>(),
            ["bo", "ana", "ana", "ana"]
        );
        let cut = bytes.slice(..bytes.len() - 9);
        assert!(matches!(RowsFileReader::open("x", cut, 4), Err(SegmentError::Corrupt { .. })));
    }
}
