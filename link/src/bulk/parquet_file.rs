//! Record batches to a Parquet file on the client's side.

use std::{fmt, io::Write, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use crate::error::{Error, Result};

/// Rows in a row group.
const ROW_GROUP_ROWS: usize = 131_072;

/// A Parquet file in the making, of the batches that [`Client::bulk_read`](crate::Client::bulk_read) delivers. It has the
/// form of the files that the server's EXPORT makes: compressed with zstd; UUIDs, JSON and intervals are strings.
///
/// ```no_run
/// use futures::TryStreamExt;
/// use kalam_link::ParquetFile;
///
/// # async fn example(client: kalam_link::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut rows = client.bulk_read("SELECT * FROM chat.messages", ()).await?;
/// let mut file = ParquetFile::new(std::fs::File::create("messages.parquet")?, rows.schema())?;
/// while let Some(batch) = rows.try_next().await? {
///     file.write(&batch)?;
/// }
/// file.finish()?;
/// # Ok(())
/// # }
/// ```
pub struct ParquetFile<W: Write + Send> {
    parquet: ArrowWriter<W>,
    schema: SchemaRef,
}

impl<W: Write + Send> ParquetFile<W> {
    /// A file for batches of this schema.
    ///
    /// # Errors
    /// When Parquet has no type for a column.
    pub fn new(out: W, schema: &Schema) -> Result<Self> {
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|field| Field::new(field.name(), stored(field.data_type()), field.is_nullable()))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let zstd = ZstdLevel::try_new(1).map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(zstd))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        // Without Arrow's own schema, so that every reader sees plain strings and UTC.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(out, Arc::clone(&schema), options).map_err(failed)?;
        Ok(ParquetFile { parquet, schema })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When they do not fit the schema, or cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>();
        let batch = columns.and_then(|columns| RecordBatch::try_new(Arc::clone(&self.schema), columns));
        let batch = batch.map_err(|error| failed(error.into()))?;
        self.parquet.write(&batch).map_err(failed)
    }

    /// Bytes written so far; rows of the last group come at its end.
    pub fn bytes_written(&self) -> usize {
        self.parquet.bytes_written()
    }

    /// Finishes the file, and answers what it was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<W> {
        self.parquet.into_inner().map_err(failed)
    }
}

impl<W: Write + Send> fmt::Debug for ParquetFile<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetFile").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// The type that stands for one that Parquet cannot hold exactly.
fn stored(data_type: &DataType) -> DataType {
    let nested = |field: &Field| Arc::new(Field::new(field.name(), stored(field.data_type()), field.is_nullable()));
    match data_type {
        DataType::Interval(_) | DataType::Null => DataType::Utf8,
        DataType::List(element) => DataType::List(nested(element)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| nested(field)).collect()),
        other => other.clone(),
    }
}

fn failed(error: ParquetError) -> Error {
    Error::protocol(format!("the Parquet file cannot be written: {error}"))
}
