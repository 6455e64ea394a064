//! arrow's Parquet writer alone, with the properties of segment files, on rows that are in memory or in files.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    basic::{Compression, Encoding, ZstdLevel},
    errors::ParquetError,
    file::properties::{BloomFilterPosition, EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};
use tokio::time::Instant;

use super::datafusion::read_all;
use crate::error::{BenchError, Result};

/// As the server lays out segments.
const ROW_GROUP_ROWS: usize = 131_072;
const DATA_PAGE_ROWS: usize = 8_192;
const DATA_PAGE_BYTES: usize = 128 * 1024;
const DICTIONARY_BYTES: usize = 128 * 1024;
const WRITE_BATCH_ROWS: usize = 1_024;
const READ_BATCH_ROWS: usize = 8_192;
const KEY: &str = "id";
/// Columns of small differences, which the server encodes as such.
const DELTA_COLUMNS: [&str; 3] = [KEY, "_seq", "_updated"];

/// Writes the same rows again and again.
pub(crate) struct ParquetWriter {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl ParquetWriter {
    /// Takes the rows of segment files.
    pub(crate) async fn of_files(files: &[PathBuf]) -> Result<Self> {
        let batches = read_all(files).await?;
        let schema = batches
            .first()
            .map(RecordBatch::schema)
            .ok_or_else(|| BenchError::Process("there are no segment files".to_owned()))?;
        Ok(Self { schema, batches })
    }

    pub(crate) fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// Writes a file into memory; the time it took.
    pub(crate) async fn write(&self) -> Result<Duration> {
        let (schema, batches) = (self.schema.clone(), self.batches.clone());
        let begin = Instant::now();
        let written = tokio::task::spawn_blocking(move || write(schema, &batches)).await;
        let took = begin.elapsed();
        written
            .map_err(|error| BenchError::Process(format!("the Parquet writer ended: {error}")))?
            .map_err(|error| BenchError::Process(format!("the Parquet writer failed: {error}")))?;
        Ok(took)
    }
}

fn write(schema: SchemaRef, batches: &[RecordBatch]) -> Result<usize, ParquetError> {
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties()?))?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?.len())
}

/// Reads segment files, one after the other, and writes their rows into one in memory; the time it took, and the rows.
pub(crate) async fn rewrite(files: Vec<PathBuf>) -> Result<(Duration, u64)> {
    let begin = Instant::now();
    let rewritten = tokio::task::spawn_blocking(move || rewrite_all(&files)).await;
    let took = begin.elapsed();
    let rows = rewritten
        .map_err(|error| BenchError::Process(format!("rewriting Parquet files ended: {error}")))?
        .map_err(|error| BenchError::Process(format!("rewriting Parquet files failed: {error}")))?;
    Ok((took, rows))
}

fn rewrite_all(files: &[PathBuf]) -> Result<u64, ParquetError> {
    let (mut writer, mut rows) = (None, 0);
    for file in files {
        let file = File::open(file)?;
        // Texts as views, as DataFusion and the server read them: they are not copied one by one.
        let options = ArrowReaderOptions::new();
        let schema = with_views(ArrowReaderMetadata::load(&file, options.clone())?.schema());
        let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options.with_schema(schema))?
            .with_batch_size(READ_BATCH_ROWS);
        if writer.is_none() {
            writer = Some(ArrowWriter::try_new(Vec::new(), reader.schema().clone(), Some(properties()?))?);
        }
        let Some(writer) = &mut writer else { continue };
        for batch in reader.build()? {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            writer.write(&batch)?;
        }
    }
    if let Some(writer) = writer {
        writer.into_inner()?;
    }
    Ok(rows)
}

/// Rows of a Parquet file, as its footer says.
pub(crate) fn file_rows(path: &Path) -> Result<u64> {
    let file = File::open(path).map_err(BenchError::io(format!("cannot open {}", path.display())))?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
        .map_err(|error| BenchError::WrongAnswer(format!("{} is no Parquet file: {error}", path.display())))?;
    Ok(metadata.metadata().file_metadata().num_rows().unsigned_abs())
}

fn with_views(schema: &Schema) -> SchemaRef {
    let view = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8 => field.as_ref().clone().with_data_type(DataType::Utf8View),
        DataType::Binary => field.as_ref().clone().with_data_type(DataType::BinaryView),
        _ => field.as_ref().clone(),
    };
    let fields: Vec<Field> = schema.fields().iter().map(view).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn properties() -> Result<WriterProperties, ParquetError> {
    let path = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    let builder = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(DATA_PAGE_ROWS)
        .set_data_page_size_limit(DATA_PAGE_BYTES)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_column_bloom_filter_fpp(path(KEY), 0.01)
        .set_column_bloom_filter_max_ndv(path(KEY), ROW_GROUP_ROWS as u64);
    let builder = DELTA_COLUMNS.iter().fold(builder, |builder, name| {
        builder
            .set_column_dictionary_enabled(path(name), false)
            .set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED)
    });
    Ok(builder.build())
}
