//! Rows to a segment file.

use std::fmt;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{BloomFilterPosition, EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::{SEQ_COLUMN, SegmentError, SegmentFields, UPDATED_COLUMN, block_checksums};
use crate::codec::{PackedKeys, PrimaryKey, SegmentEntry, encode_i64};
use crate::ids::{CommitSeq, Owner, SchemaVersion, SegmentId, StorageId};

/// How segment files are laid out.
#[derive(Debug, Clone)]
pub struct WriterSettings {
    /// Rows in a row group; the last of a file can have fewer.
    pub row_group_rows: u32,
    /// The most rows in a data page.
    pub data_page_rows: usize,
    /// About the most bytes in a data page, uncompressed. A read by key decompresses one page of each column.
    pub data_page_bytes: usize,
    /// A column whose dictionary would be larger in a row group is stored plainly. A read by key decompresses the
    /// dictionary too.
    pub dictionary_bytes: usize,
    /// The level of zstd, 1 to 22.
    pub zstd_level: i32,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            row_group_rows: 131_072,
            data_page_rows: 8_192,
            data_page_bytes: 64 * 1024,
            dictionary_bytes: 32 * 1024,
            zstd_level: 1,
        }
    }
}

/// Whose rows a segment has. It is written into the file's metadata, for people and other programs; KalamDB itself
/// reads it from the manifest.
#[derive(Debug, Clone)]
pub struct SegmentOrigin {
    /// The table's namespace.
    pub namespace: String,
    /// The table.
    pub table: String,
    /// The owner of the rows.
    pub owner: Owner,
    /// The schema version whose columns the segment has.
    pub schema_version: SchemaVersion,
}

/// Writes rows of one partition, in the order of their keys, into one file in memory.
pub struct SegmentWriter {
    fields: SegmentFields,
    parquet: ArrowWriter<Vec<u8>>,
    schema_version: SchemaVersion,
    row_group_rows: u32,
    data_page_rows: usize,
    keys: PackedKeys,
    /// The least and the greatest commit sequence so far.
    seqs: Option<(i64, i64)>,
}

/// A finished segment file.
#[derive(Debug, Clone)]
pub struct SegmentFile {
    /// The file.
    pub bytes: Bytes,
    /// How many rows it has.
    pub rows: u64,
    /// How many rows each of its row groups has, but the last.
    pub row_group_rows: u32,
    /// The schema version whose columns it has.
    pub schema_version: SchemaVersion,
    /// The least commit sequence of a row.
    pub min_seq: CommitSeq,
    /// The greatest commit sequence of a row.
    pub max_seq: CommitSeq,
    /// The checksums of its blocks.
    pub checksums: Vec<u32>,
    /// The primary keys, by row position.
    pub keys: PackedKeys,
}

impl SegmentFile {
    /// The manifest's entry for this file as the segment `id`, at `path` of `storage`.
    pub fn entry(&self, id: SegmentId, storage: StorageId, path: String, created_at_us: i64) -> SegmentEntry {
        let key = |bytes: Option<&[u8]>| PrimaryKey::from_encoded(bytes.unwrap_or_default());
        SegmentEntry {
            id,
            storage,
            path,
            file_bytes: self.bytes.len() as u64,
            rows: self.rows,
            row_group_rows: self.row_group_rows,
            schema_version: self.schema_version,
            min_key: key(self.keys.first()),
            max_key: key(self.keys.last()),
            min_seq: self.min_seq,
            max_seq: self.max_seq,
            created_at_us,
        }
    }
}

impl SegmentWriter {
    /// A file without rows.
    pub fn new(fields: SegmentFields, origin: &SegmentOrigin, settings: &WriterSettings) -> Result<Self, SegmentError> {
        let properties = properties(&fields, origin, settings)?;
        // No Arrow schema is embedded: it would make Arrow's own readers return views, and everybody else ask why.
        // Every type that is stored can be read exactly from the Parquet schema alone.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(Vec::new(), fields.file_schema.clone(), options)
            .map_err(|error| failed(&error))?;
        Ok(Self {
            fields,
            parquet,
            schema_version: origin.schema_version,
            row_group_rows: settings.row_group_rows.max(1),
            data_page_rows: settings.data_page_rows.max(1),
            keys: PackedKeys::new(),
            seqs: None,
        })
    }

    /// Appends rows: columns of [`SegmentFields::schema`], with keys greater than all before.
    ///
    /// After an error the writer is of no more use.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), SegmentError> {
        let batch = self.fields.to_file(batch)?;
        self.note_keys(batch.column(self.fields.key_index))?;
        self.note_seqs(&batch)?;
        // The library looks at the size of a page after each piece that it is given, so pieces end where pages should.
        let mut at = 0;
        while at < batch.num_rows() {
            let in_page = self.parquet.in_progress_rows() % self.data_page_rows;
            let rows = (self.data_page_rows - in_page).min(batch.num_rows() - at);
            self.parquet.write(&batch.slice(at, rows)).map_err(|error| failed(&error))?;
            at += rows;
        }
        Ok(())
    }

    /// How many rows were written.
    pub fn rows(&self) -> u64 {
        self.keys.len() as u64
    }

    /// About how large the file would be if it were finished now, without its metadata.
    pub fn buffered_bytes(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.in_progress_size()
    }

    /// About how much memory the writer holds.
    pub fn memory_bytes(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.memory_size() + self.keys.byte_size()
    }

    /// Finishes the file. Fails if it has no rows.
    pub fn finish(mut self) -> Result<SegmentFile, SegmentError> {
        let Some((min_seq, max_seq)) = self.seqs else {
            return Err(SegmentError::Rows("a segment needs at least one row".to_owned()));
        };
        for (name, seq) in [("kalamdb.min_seq", min_seq), ("kalamdb.max_seq", max_seq)] {
            self.parquet.append_key_value_metadata(KeyValue::new(name.to_owned(), seq.to_string()));
        }
        let bytes = self.parquet.into_inner().map_err(|error| failed(&error))?;
        Ok(SegmentFile {
            rows: self.keys.len() as u64,
            row_group_rows: self.row_group_rows,
            schema_version: self.schema_version,
            min_seq: CommitSeq::new(min_seq.cast_unsigned()),
            max_seq: CommitSeq::new(max_seq.cast_unsigned()),
            checksums: block_checksums(&bytes),
            keys: self.keys,
            bytes: bytes.into(),
        })
    }

    fn note_keys(&mut self, column: &dyn Array) -> Result<(), SegmentError> {
        let unsorted = || SegmentError::Rows("rows of a segment must be in the order of their keys".to_owned());
        if self.keys.len() + column.len() > u32::MAX as usize {
            return Err(SegmentError::Rows("a segment has too many rows".to_owned()));
        }
        let mut push = |key: &[u8]| {
            if self.keys.last().is_some_and(|last| last >= key) {
                return Err(unsorted());
            }
            self.keys.push_encoded(key);
            Ok(())
        };
        match column.data_type() {
            DataType::Int64 => {
                let mut keys = column.as_primitive::<Int64Type>().values().iter();
                keys.try_for_each(|key| push(&encode_i64(*key)))
            }
            _ => column.as_string_view().iter().try_for_each(|key| push(key.unwrap_or_default().as_bytes())),
        }
    }

    fn note_seqs(&mut self, batch: &RecordBatch) -> Result<(), SegmentError> {
        let seqs = batch.column(batch.num_columns() - 2).as_primitive::<Int64Type>();
        let (min, max) = (arrow::compute::min(seqs), arrow::compute::max(seqs));
        if let (Some(min), Some(max)) = (min, max) {
            if min < 0 {
                return Err(SegmentError::Rows("a commit sequence is negative".to_owned()));
            }
            let (least, greatest) = self.seqs.unwrap_or((min, max));
            self.seqs = Some((least.min(min), greatest.max(max)));
        }
        Ok(())
    }
}

impl fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentWriter").field("rows", &self.rows()).finish_non_exhaustive()
    }
}

fn properties(
    fields: &SegmentFields,
    origin: &SegmentOrigin,
    settings: &WriterSettings,
) -> Result<WriterProperties, SegmentError> {
    let columns = fields.file_schema.fields();
    let key_field = fields.file_schema.field(fields.key_index);
    let key = path(key_field);
    let leaves_before: usize = columns.iter().take(fields.key_index).map(|field| leaves(field.data_type())).sum();
    let sorting = SortingColumn { column_idx: leaves_before as i32, descending: false, nulls_first: false };
    let zstd = ZstdLevel::try_new(settings.zstd_level).map_err(|error| failed(&error))?;
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("kalamdb version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(settings.row_group_rows.max(1) as usize))
        .set_data_page_row_count_limit(settings.data_page_rows.max(1))
        .set_data_page_size_limit(settings.data_page_bytes)
        .set_dictionary_page_size_limit(settings.dictionary_bytes)
        .set_write_batch_size(settings.data_page_rows.clamp(1, 1024))
        .set_compression(Compression::ZSTD(zstd))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![sorting]))
        .set_key_value_metadata(Some(metadata(origin)))
        // Beside the page index and the footer, so that one read from the end of the file gets them all.
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_column_bloom_filter_fpp(key.clone(), 0.01)
        .set_column_bloom_filter_max_ndv(key.clone(), u64::from(settings.row_group_rows));
    // What has no dictionary, because it would be too large. Deltas take less time to decode than zstd would need for
    // the bytes that they spare.
    for field in columns.iter().filter(|field| is_integer(field.data_type())) {
        properties = properties.set_column_encoding(path(field), Encoding::DELTA_BINARY_PACKED);
    }
    // Statistics leave NaN out, and who prunes by them would miss it.
    for field in columns.iter().filter(|field| field.data_type().is_floating()) {
        properties = properties.set_column_statistics_enabled(path(field), EnabledStatistics::None);
    }
    // Sorted or nearly so, and with few repetitions: a dictionary would be a second copy, and zstd finds nothing.
    let own = columns.iter().filter(|field| matches!(field.name().as_str(), SEQ_COLUMN | UPDATED_COLUMN));
    let int_key = Some(key_field).filter(|field| is_integer(field.data_type()));
    for path in own.map(|field| path(field)).chain(int_key.map(path)) {
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_compression(path, Compression::UNCOMPRESSED);
    }
    if int_key.is_none() {
        properties = properties
            .set_column_dictionary_enabled(key.clone(), false)
            .set_column_encoding(key, Encoding::DELTA_BYTE_ARRAY);
    }
    Ok(properties.build())
}

fn path(field: &Field) -> ColumnPath {
    ColumnPath::new(vec![field.name().clone()])
}

fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_temporal()
}

fn metadata(origin: &SegmentOrigin) -> Vec<KeyValue> {
    let pair = |name: &str, value: String| KeyValue::new(name.to_owned(), value);
    let mut pairs = vec![
        pair("kalamdb.format", "1".to_owned()),
        pair("kalamdb.namespace", origin.namespace.clone()),
        pair("kalamdb.table", origin.table.clone()),
        pair("kalamdb.schema_version", origin.schema_version.to_string()),
    ];
    if let Owner::User(user) = &origin.owner {
        pairs.push(pair("kalamdb.owner", user.to_string()));
    }
    pairs
}

/// How many Parquet columns a column of this type becomes.
fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(element) => leaves(element.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        _ => 1,
    }
}

fn failed(error: &ParquetError) -> SegmentError {
    SegmentError::Rows(format!("the rows cannot be written as Parquet: {error}"))
}
