//! arrow's Parquet writer alone, with the properties of segment files, on rows that are in memory.

use std::{path::PathBuf, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::parquet::{
    arrow::ArrowWriter,
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
