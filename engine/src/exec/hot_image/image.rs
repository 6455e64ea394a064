//! An image: the hot rows of a partition as of a commit, in columns.

use std::{cmp::Ordering, ops::Range, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, StringViewArray},
        compute::interleave,
        datatypes::{DataType, Int64Type},
    },
    common::{Result as DataFusionResult, internal_err},
};
use kalamdb_store::{
    codec::PrimaryKey,
    ids::{CommitSeq, SchemaVersion, SegmentId},
};

use crate::{
    catalog::Table,
    error::Result,
    exec::{
        corrupt, from_datafusion,
        hot_image::{ImageColumn, cache::Room},
    },
};

/// More buffers than this of an array of texts are put together.
const MAX_BUFFERS: usize = 8;

/// The hot rows of a partition as of a commit, by key. Immutable.
#[derive(Debug)]
pub(crate) struct HotImage {
    as_of: CommitSeq,
    schema_version: SchemaVersion,
    /// The segments of the partition at that commit, ascending.
    segments: Vec<SegmentId>,
    /// What each array of a chunk is. Ascending.
    columns: Arc<[ImageColumn]>,
    /// Which of the arrays has the keys.
    key: usize,
    /// None is empty.
    chunks: Vec<Arc<Chunk>>,
    rows: usize,
    bytes: usize,
}

/// Neighbouring rows of an image.
#[derive(Debug)]
pub(super) struct Chunk {
    columns: Vec<ArrayRef>,
    rows: usize,
    bytes: usize,
}

/// The rows of some keys, as a snapshot has them.
#[derive(Debug)]
pub(super) struct Changes {
    /// The commit that the snapshot ends with.
    pub(super) as_of: CommitSeq,
    /// Ascending, each once.
    pub(super) keys: Vec<PrimaryKey>,
    /// Where the row of each key is among `rows`; `None`: there is none.
    pub(super) places: Vec<Option<usize>>,
    /// In the columns of the image.
    pub(super) rows: Vec<ArrayRef>,
}

impl Chunk {
    pub(super) fn new(columns: Vec<ArrayRef>, rows: usize) -> Self {
        let bytes = columns.iter().map(|column| column.get_array_memory_size()).sum();
        Self { columns, rows, bytes }
    }

    /// Some of the rows. The memory is shared with the others.
    pub(super) fn slice(&self, at: usize, len: usize) -> Self {
        let columns = self.columns.iter().map(|column| column.slice(at, len)).collect();
        Self { columns, rows: len, bytes: self.bytes.div_ceil(self.rows.max(1)) * len }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The arrays at these places.
    pub(super) fn at(&self, places: &[usize]) -> Vec<ArrayRef> {
        places.iter().filter_map(|place| self.columns.get(*place).map(Arc::clone)).collect()
    }
}

impl HotImage {
    pub(super) fn new(
        table: &Table,
        as_of: CommitSeq,
        segments: Vec<SegmentId>,
        columns: Vec<ImageColumn>,
        chunks: Vec<Arc<Chunk>>,
    ) -> Self {
        let key = columns.iter().position(|column| *column == table.key_index()).unwrap_or_default();
        Self::from_parts(as_of, table.schema_version(), segments, columns.into(), key, chunks)
    }

    fn from_parts(
        as_of: CommitSeq,
        schema_version: SchemaVersion,
        segments: Vec<SegmentId>,
        columns: Arc<[ImageColumn]>,
        key: usize,
        chunks: Vec<Arc<Chunk>>,
    ) -> Self {
        let rows = chunks.iter().map(|chunk| chunk.rows).sum();
        let bytes = size_of::<Self>() + chunks.iter().map(|chunk| size_of::<Chunk>() + chunk.bytes).sum::<usize>();
        Self { as_of, schema_version, segments, columns, key, chunks, rows, bytes }
    }

    pub(super) fn as_of(&self) -> CommitSeq {
        self.as_of
    }

    pub(super) fn schema_version(&self) -> SchemaVersion {
        self.schema_version
    }

    pub(super) fn segments(&self) -> &[SegmentId] {
        &self.segments
    }

    pub(super) fn columns(&self) -> &[ImageColumn] {
        &self.columns
    }

    pub(super) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has all these columns.
    pub(super) fn has(&self, columns: &[ImageColumn]) -> bool {
        columns.iter().all(|column| self.columns.contains(column))
    }

    /// Where these columns are among the arrays of a chunk; `None` if one is not there.
    pub(super) fn places(&self, columns: &[ImageColumn]) -> Option<Vec<usize>> {
        columns.iter().map(|column| self.columns.binary_search(column).ok()).collect()
    }

    /// Whether both have the same columns of the same schema version and the same segments.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.schema_version == other.schema_version && self.columns == other.columns && self.segments == other.segments
    }

    /// The same image as of a later commit until which nothing in the partition changed.
    pub(super) fn unchanged_until(&self, as_of: CommitSeq) -> Self {
        let (segments, columns) = (self.segments.clone(), Arc::clone(&self.columns));
        Self::from_parts(as_of, self.schema_version, segments, columns, self.key, self.chunks.clone())
    }

    /// The image with changes: only chunks in which a key changed are made anew. `None` when there is no room.
    pub(super) fn with(&self, changes: &Changes, chunk_rows: usize, room: &mut Room) -> Result<Option<Self>> {
        let mut chunks = Vec::with_capacity(self.chunks.len() + 1);
        let mut from = 0;
        for (at, chunk) in self.chunks.iter().enumerate() {
            // A chunk has what is before the first key of the next one; the first and the last have the rest.
            let to = match self.chunks.get(at + 1) {
                Some(next) => {
                    let first = Keys::of(next, self.key)?;
                    partition_point(from..changes.keys.len(), |index| {
                        let key = changes.keys.get(index);
                        key.map_or(Ok(false), |key| Ok(first.compare(0, key)? == Ordering::Greater))
                    })?
                }
                None => changes.keys.len(),
            };
            if from == to {
                chunks.push(Arc::clone(chunk));
            } else {
                let pieces = self.chunk_with(chunk, changes, from..to)?;
                if !make(&mut chunks, &pieces, &chunk.columns, &changes.rows, chunk_rows, room)? {
                    return Ok(None);
                }
            }
            from = to;
        }
        if self.chunks.is_empty() {
            // `rows` has them by key.
            let pieces: Vec<(usize, usize)> = changes.places.iter().flatten().map(|place| (1, *place)).collect();
            if !make(&mut chunks, &pieces, &changes.rows, &changes.rows, chunk_rows, room)? {
                return Ok(None);
            }
        }
        let (segments, columns) = (self.segments.clone(), Arc::clone(&self.columns));
        Ok(Some(Self::from_parts(changes.as_of, self.schema_version, segments, columns, self.key, chunks)))
    }

    /// Where the rows of a chunk with some of the changes come from: (0, a row of the chunk) or (1, a changed row).
    fn chunk_with(&self, chunk: &Chunk, changes: &Changes, range: Range<usize>) -> Result<Vec<(usize, usize)>> {
        let keys = Keys::of(chunk, self.key)?;
        let mut pieces = Vec::with_capacity(chunk.rows + range.len());
        let mut at = 0;
        for (key, place) in changes.keys.iter().zip(&changes.places).take(range.end).skip(range.start) {
            let next = partition_point(at..chunk.rows, |row| Ok(keys.compare(row, key)? == Ordering::Less))?;
            pieces.extend((at..next).map(|row| (0, row)));
            let replaced = next < chunk.rows && keys.compare(next, key)? == Ordering::Equal;
            pieces.extend(place.map(|place| (1, place)));
            at = next + usize::from(replaced);
        }
        pieces.extend((at..chunk.rows).map(|row| (0, row)));
        Ok(pieces)
    }
}

/// Makes chunks of rows of two sources. False when there is no room.
fn make(
    into: &mut Vec<Arc<Chunk>>,
    pieces: &[(usize, usize)],
    before: &[ArrayRef],
    changed: &[ArrayRef],
    chunk_rows: usize,
    room: &mut Room,
) -> Result<bool> {
    if pieces.is_empty() {
        return Ok(true);
    }
    // One a little too large stays whole, so that many of few rows do not come about.
    let count = if pieces.len() <= chunk_rows + chunk_rows / 2 { 1 } else { pieces.len().div_ceil(chunk_rows.max(1)) };
    for rows in pieces.chunks(pieces.len().div_ceil(count)) {
        let columns = before.iter().zip(changed).map(|(before, changed)| {
            let column = interleave(&[before.as_ref(), changed.as_ref()], rows)?;
            compact(column)
        });
        let columns = columns.collect::<DataFusionResult<Vec<_>>>().map_err(from_datafusion)?;
        let chunk = Chunk::new(columns, rows.len());
        if !room.grow(chunk.bytes) {
            return Ok(false);
        }
        into.push(Arc::new(chunk));
    }
    Ok(true)
}

/// Texts and bytes refer to the buffers of both sources. They are copied into one before these become too many, or hold
/// mostly what is gone.
fn compact(column: ArrayRef) -> DataFusionResult<ArrayRef> {
    macro_rules! compacted {
        ($array:expr) => {{
            let array = $array;
            let held: usize = array.data_buffers().iter().map(|buffer| buffer.capacity()).sum();
            if array.data_buffers().len() > MAX_BUFFERS || held > 2 * array.total_buffer_bytes_used() {
                return Ok(Arc::new(array.gc()));
            }
        }};
    }
    match column.data_type() {
        DataType::Utf8View => compacted!(column.as_string_view()),
        DataType::BinaryView => compacted!(column.as_binary_view()),
        data_type if data_type.is_nested() => return internal_err!("a nested column in an image"),
        _ => {}
    }
    Ok(column)
}

/// The keys of a chunk.
enum Keys<'a> {
    Int(&'a [i64]),
    Text(&'a StringViewArray),
}

impl<'a> Keys<'a> {
    fn of(chunk: &'a Chunk, place: usize) -> Result<Self> {
        let keys = chunk.columns.get(place);
        if let Some(keys) = keys.and_then(|keys| keys.as_primitive_opt::<Int64Type>()) {
            return Ok(Keys::Int(keys.values()));
        }
        match keys.and_then(|keys| keys.as_string_view_opt()) {
            Some(keys) => Ok(Keys::Text(keys)),
            None => Err(crate::error::Error::internal("an image without keys")),
        }
    }

    /// How the key of a row compares with another. The order of keys is that of their values.
    fn compare(&self, row: usize, key: &PrimaryKey) -> Result<Ordering> {
        match self {
            Keys::Int(keys) => Ok(keys.get(row).copied().cmp(&Some(key.to_i64().map_err(corrupt)?))),
            Keys::Text(keys) => Ok(keys.value(row).as_bytes().cmp(key.as_bytes())),
        }
    }
}

/// The first index of a range for which `before` no longer holds.
fn partition_point(range: Range<usize>, before: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let Range { mut start, mut end } = range;
    while start < end {
        let middle = start + (end - start) / 2;
        if before(middle)? {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    Ok(start)
}
