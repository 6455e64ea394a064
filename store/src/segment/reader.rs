//! Rows from a segment file.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Fields, Schema, SchemaRef};
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::push_decoder::ParquetPushDecoderBuilder;
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder};

use super::fields::read_field;
use super::{CHECKSUM_BLOCK, SegmentError, column_of_field};
use crate::codec::SegmentEntry;
use crate::ids::ColumnId;

/// How many row groups are read at once.
pub(super) const PARALLEL_ROW_GROUPS: usize = 4;

/// The most rows in a batch on its way to the caller.
const BATCH_ROWS: usize = 32 * 1024;

/// A segment file with its footer, page index and bloom filters in memory.
pub struct SegmentReader {
    pub(super) entry: SegmentEntry,
    store: Arc<dyn ObjectStore>,
    path: Path,
    metadata: ArrowReaderMetadata,
    /// The place of the key among the file's columns.
    key_column: usize,
    /// The place of the key among the file's Parquet columns.
    pub(super) key_leaf: usize,
    /// The bloom filter of the key, for each row group.
    pub(super) bloom_filters: Vec<Option<Sbbf>>,
}

impl SegmentReader {
    /// Opens the file of `entry`: one read, mostly.
    pub(super) async fn open(entry: SegmentEntry, store: Arc<dyn ObjectStore>) -> Result<Self, SegmentError> {
        let file = File { store: &*store, path: &location(&entry.path)?, entry: &entry };
        let (tail_start, tail) = file.read_tail().await?;
        let metadata = Arc::new(file.read_metadata(tail_start, &tail).await?);
        file.check(&metadata)?;
        let (key_column, key_leaf) = file.find_key(&metadata)?;
        let bloom_filters = file.read_bloom_filters(&metadata, key_leaf, tail_start, &tail).await?;
        let metadata = as_stored(metadata).map_err(|error| file.damaged(&error))?;
        let path = file.path.clone();
        Ok(Self { entry, store, path, metadata, key_column, key_leaf, bloom_filters })
    }

    /// The segment's entry in the manifest.
    pub fn entry(&self) -> &SegmentEntry {
        &self.entry
    }

    /// The file's footer with its page index.
    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        self.metadata.metadata()
    }

    /// The file's columns as [`SegmentReader::read_rows`] returns them. Intervals are texts;
    /// [`restore_column`](super::restore_column) makes intervals of them.
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The place of a table's column in the file; `None` if the file is older than the column.
    pub fn position_of(&self, column: ColumnId) -> Option<usize> {
        self.schema().fields().iter().position(|field| column_of_field(field) == Some(column))
    }

    /// The place of the primary key in the file.
    pub fn key_column(&self) -> usize {
        self.key_column
    }

    /// About how much memory the reader takes.
    pub fn memory_bytes(&self) -> usize {
        let bloom_filters = self.bloom_filters.iter().flatten().map(|filter| filter.num_blocks() * 32).sum::<usize>();
        self.metadata().memory_size() + bloom_filters + self.entry.path.len() + size_of::<Self>()
    }

    /// The rows at the given positions, ascending and without repetition, with the columns at the given places of
    /// [`SegmentReader::schema`], in that order. Reads only the pages that are needed.
    pub async fn read_rows(&self, rows: &[u32], columns: &[usize]) -> Result<RecordBatch, SegmentError> {
        let schema = Arc::new(self.schema().project(columns).map_err(|error| SegmentError::Rows(error.to_string()))?);
        let in_file = rows.last().is_none_or(|last| u64::from(*last) < self.entry.rows);
        if !in_file || !rows.is_sorted_by(|a, b| a < b) {
            let reason = "rows of a segment must be asked for in ascending order, and be there";
            return Err(SegmentError::Rows(reason.to_owned()));
        }
        let mut ascending = columns.to_vec();
        ascending.sort_unstable();
        ascending.dedup();
        if ascending.is_empty() || rows.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let columns = schema.fields().iter().map(|field| arrow::array::new_empty_array(field.data_type()));
            return RecordBatch::try_new_with_options(schema.clone(), columns.collect(), &options)
                .map_err(|error| SegmentError::Rows(error.to_string()));
        }
        let group_rows = self.entry.row_group_rows;
        let reads = rows.chunk_by(|a, b| a / group_rows == b / group_rows).map(|rows| {
            let group = rows.first().map_or(0, |row| row / group_rows);
            let in_group = |row: &u32| (row % group_rows) as usize;
            let ranges: Vec<_> = rows.iter().map(|row| in_group(row)..in_group(row) + 1).collect();
            self.read_group(group as usize, ranges, &ascending)
        });
        let reads: Vec<_> = reads.collect();
        let batches: Vec<Vec<RecordBatch>> =
            futures::stream::iter(reads).buffered(PARALLEL_ROW_GROUPS).try_collect().await?;
        let order: Vec<usize> =
            columns.iter().map(|column| ascending.partition_point(|other| other < column)).collect();
        let batches = batches.iter().flatten().map(|batch| batch.project(&order)).collect::<Result<Vec<_>, _>>();
        let whole = batches.and_then(|batches| match batches.as_slice() {
            [batch] => batch.clone().with_schema(schema.clone()),
            batches => concat_batches(&schema, batches),
        });
        whole.map_err(|error| self.damaged(&error))
    }

    /// Reads ranges of rows of one row group, ascending, with the columns at the given places, ascending.
    pub(super) async fn read_group(
        &self,
        group: usize,
        ranges: Vec<Range<usize>>,
        columns: &[usize],
    ) -> Result<Vec<RecordBatch>, SegmentError> {
        let wanted: usize = ranges.iter().map(Range::len).sum();
        let total = self.metadata().row_group(group).num_rows() as usize;
        let projection = ProjectionMask::roots(self.metadata().file_metadata().schema_descr(), columns.iter().copied());
        let decoder = ParquetPushDecoderBuilder::new_with_metadata(self.metadata.clone())
            .with_row_groups(vec![group])
            .with_row_selection(RowSelection::from_consecutive_ranges(ranges.into_iter(), total))
            .with_projection(projection)
            .with_batch_size(wanted.clamp(1, BATCH_ROWS))
            .build();
        let mut decoder = decoder.map_err(|error| self.damaged(&error))?;
        let mut batches = Vec::new();
        loop {
            match decoder.try_decode().map_err(|error| self.damaged(&error))? {
                DecodeResult::NeedsData(ranges) => {
                    let data = self.store.get_ranges(&self.path, &ranges).await;
                    let data = data.map_err(|error| SegmentError::from_store(&error, &self.entry.path))?;
                    decoder.push_ranges(ranges, data).map_err(|error| self.damaged(&error))?;
                }
                DecodeResult::Data(batch) => batches.push(batch),
                DecodeResult::Finished => break,
            }
        }
        if batches.iter().map(RecordBatch::num_rows).sum::<usize>() != wanted {
            return Err(self.damaged(&"it has not the rows that its footer promises"));
        }
        Ok(batches)
    }

    pub(super) fn damaged(&self, reason: &dyn fmt::Display) -> SegmentError {
        SegmentError::Corrupt { file: self.entry.path.clone(), reason: reason.to_string() }
    }
}

impl fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentReader").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// A file that is being opened.
struct File<'a> {
    store: &'a dyn ObjectStore,
    path: &'a Path,
    entry: &'a SegmentEntry,
}

impl File<'_> {
    /// The last one to two blocks of the file, and where they begin. They have all metadata but those of large files.
    async fn read_tail(&self) -> Result<(u64, Bytes), SegmentError> {
        let block = CHECKSUM_BLOCK as u64;
        let start = self.entry.file_bytes.saturating_sub(block) / block * block;
        if start >= self.entry.file_bytes {
            return Err(self.damaged(&"it is empty"));
        }
        let range = start..self.entry.file_bytes;
        let tail = self.store.get_ranges(self.path, std::slice::from_ref(&range)).await;
        let tail = tail.map_err(|error| self.unreadable(&error))?.pop();
        Ok((start, tail.unwrap_or_default()))
    }

    async fn read_metadata(&self, tail_start: u64, tail: &Bytes) -> Result<ParquetMetaData, SegmentError> {
        let damaged = |error: ParquetError| self.damaged(&error);
        let mut decoder = ParquetMetaDataPushDecoder::try_new(self.entry.file_bytes)
            .map_err(damaged)?
            .with_page_index_policy(PageIndexPolicy::Required);
        decoder.push_range(tail_start..tail_start + tail.len() as u64, tail.clone()).map_err(damaged)?;
        loop {
            match decoder.try_decode().map_err(damaged)? {
                DecodeResult::NeedsData(ranges) => {
                    let data = self.store.get_ranges(self.path, &ranges).await;
                    decoder.push_ranges(ranges, data.map_err(|error| self.unreadable(&error))?).map_err(damaged)?;
                }
                DecodeResult::Data(metadata) => return Ok(metadata),
                DecodeResult::Finished => return Err(self.damaged(&"its footer cannot be read")),
            }
        }
    }

    /// Row positions are divided by the entry's number of rows in a row group, so that number must be true.
    fn check(&self, metadata: &ParquetMetaData) -> Result<(), SegmentError> {
        let group_rows = u64::from(self.entry.row_group_rows);
        let expected =
            |group: usize| (self.entry.rows - (group as u64 * group_rows).min(self.entry.rows)).min(group_rows);
        let groups = metadata.row_groups();
        let fits = groups.len() == self.entry.row_groups()
            && groups.iter().enumerate().all(|(at, group)| group.num_rows().cast_unsigned() == expected(at));
        if fits { Ok(()) } else { Err(self.damaged(&"it does not have the rows that were written")) }
    }

    /// The place of the key among the columns and among the Parquet columns: that by which the file is sorted.
    fn find_key(&self, metadata: &ParquetMetaData) -> Result<(usize, usize), SegmentError> {
        let sorting = metadata.row_groups().first().and_then(|group| group.sorting_columns()?.first());
        let leaf = sorting.and_then(|column| usize::try_from(column.column_idx).ok());
        let schema = metadata.file_metadata().schema_descr();
        match leaf.filter(|leaf| *leaf < schema.num_columns()) {
            Some(leaf) => Ok((schema.get_column_root_idx(leaf), leaf)),
            None => Err(self.damaged(&"its footer does not name the key")),
        }
    }

    async fn read_bloom_filters(
        &self,
        metadata: &ParquetMetaData,
        key_leaf: usize,
        tail_start: u64,
        tail: &Bytes,
    ) -> Result<Vec<Option<Sbbf>>, SegmentError> {
        let ranges = metadata.row_groups().iter().map(|group| {
            let column = group.column(key_leaf);
            let start = u64::try_from(column.bloom_filter_offset()?).ok()?;
            Some(start..start + u64::try_from(column.bloom_filter_length()?).ok()?)
        });
        let ranges: Vec<Option<Range<u64>>> = ranges.collect();
        let outside: Vec<_> = ranges.iter().flatten().filter(|range| range.start < tail_start).cloned().collect();
        let mut fetched = match outside.as_slice() {
            [] => Vec::new(),
            outside => {
                let fetched = self.store.get_ranges(self.path, outside).await;
                fetched.map_err(|error| self.unreadable(&error))?
            }
        }
        .into_iter();
        let mut filters = Vec::with_capacity(ranges.len());
        for range in ranges {
            let bytes = match range {
                None => None,
                Some(range) if range.start < tail_start => fetched.next(),
                Some(range) => {
                    let range = (range.start - tail_start) as usize..(range.end - tail_start) as usize;
                    Some(if range.end <= tail.len() { tail.slice(range) } else { Bytes::new() })
                }
            };
            let filter = bytes.map(|bytes| Sbbf::from_bytes(&bytes)).transpose();
            filters.push(filter.map_err(|error| self.damaged(&error))?);
        }
        Ok(filters)
    }

    fn unreadable(&self, error: &object_store::Error) -> SegmentError {
        SegmentError::from_store(error, &self.entry.path)
    }

    fn damaged(&self, reason: &dyn fmt::Display) -> SegmentError {
        SegmentError::Corrupt { file: self.entry.path.clone(), reason: reason.to_string() }
    }
}

/// A path within a storage. It is taken as it is: who makes paths encodes them.
pub(super) fn location(path: &str) -> Result<Path, SegmentError> {
    Path::parse(path).map_err(|error| SegmentError::Other { file: path.to_owned(), reason: error.to_string() })
}

/// The metadata with the types that a reader returns in place of those that the Parquet library infers.
fn as_stored(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let inferred = ArrowReaderMetadata::try_new(metadata.clone(), options)?;
    let fields: Fields = inferred.schema().fields().iter().map(read_field).collect();
    ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields))))
}
