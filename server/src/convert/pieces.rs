//! Batches in pieces of bounded size.
//!
//! What counts is what rows show, not what their arrays hold: a slice has the buffers of the whole, and views show the
//! same bytes any number of times. A join makes thousands of rows of one large value without a copy of it.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, GenericByteViewArray, GenericListViewArray, OffsetSizeTrait, RecordBatch, RunArray,
    },
    buffer::OffsetBuffer,
    datatypes::{ByteViewType, DataType, Int16Type, Int32Type, Int64Type, RunEndIndexType},
};
use kalamdb_engine::{Error, Reason};

type Result<T> = std::result::Result<T, Error>;

/// A row that shows more is not sent: it would be converted as a whole.
const MAX_ROW_BYTES: usize = 512 * 1024 * 1024;

/// What a value of variable length takes beside its bytes.
const OFFSET_BYTES: usize = size_of::<i32>();

/// The rows of batches, in pieces that are small enough to be converted at once, unless a single row is larger.
///
/// Pieces are slices, which own no memory: however much a batch shows, only what is converted of it takes room.
#[derive(Debug)]
pub(crate) struct Pieces {
    max_rows: usize,
    max_bytes: usize,
    rest: Option<Rest>,
}

/// What is left of a batch, which is at least one row.
#[derive(Debug)]
struct Rest {
    batch: RecordBatch,
    /// What each row of the batch shows.
    row_bytes: Vec<usize>,
    /// The first row that is left.
    from: usize,
}

impl Pieces {
    /// Pieces of so many rows, and so many bytes, at most.
    pub(crate) fn new(max_rows: usize, max_bytes: usize) -> Self {
        Self { max_rows, max_bytes, rest: None }
    }

    /// Takes a batch apart, once that before has been. An empty one has no pieces.
    pub(crate) fn begin(&mut self, batch: RecordBatch) {
        let row_bytes = shown_bytes(&batch);
        self.rest = (!row_bytes.is_empty()).then_some(Rest { batch, row_bytes, from: 0 });
    }

    /// Drops what is left.
    pub(crate) fn clear(&mut self) {
        self.rest = None;
    }
}

/// The error of a row that is too large, RESULT_TOO_LARGE, is the last item of its batch.
impl Iterator for Pieces {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let Rest { batch, row_bytes, from } = self.rest.take()?;
        if row_bytes.get(from).is_some_and(|bytes| *bytes > MAX_ROW_BYTES) {
            return Some(Err(row_too_large()));
        }
        let mut bytes = 0_usize;
        let fits = |row: &&usize| {
            bytes = bytes.saturating_add(**row);
            bytes <= self.max_bytes
        };
        let rows = row_bytes.iter().skip(from).take(self.max_rows).take_while(fits).count().max(1);
        // Most batches are one piece.
        if rows == row_bytes.len() {
            return Some(Ok(batch));
        }
        let piece = batch.slice(from, rows);
        let from = from + rows;
        if from < row_bytes.len() {
            self.rest = Some(Rest { batch, row_bytes, from });
        }
        Some(Ok(piece))
    }
}

fn row_too_large() -> Error {
    Error::new(
        Reason::ResultTooLarge,
        format!(
            "A row of the result has more than {MAX_ROW_BYTES} bytes, the most that is sent of one. Select fewer \
             columns, or parts of their values."
        ),
    )
}

/// The bytes that each row shows.
fn shown_bytes(batch: &RecordBatch) -> Vec<usize> {
    let mut rows = vec![0; batch.num_rows()];
    for column in batch.columns() {
        add_shown(column, &mut rows);
    }
    rows
}

/// Adds what each row shows of a column, as about what it takes without views and without encodings.
fn add_shown(array: &dyn Array, rows: &mut [usize]) {
    match array.data_type() {
        DataType::Utf8View => add_values(rows, lengths(array.as_string_view())),
        DataType::BinaryView => add_values(rows, lengths(array.as_binary_view())),
        DataType::Utf8 => add_values(rows, array.as_string::<i32>().offsets().lengths()),
        DataType::LargeUtf8 => add_values(rows, array.as_string::<i64>().offsets().lengths()),
        DataType::Binary => add_values(rows, array.as_binary::<i32>().offsets().lengths()),
        DataType::LargeBinary => add_values(rows, array.as_binary::<i64>().offsets().lengths()),
        DataType::Struct(_) => {
            for column in array.as_struct().columns() {
                add_shown(column, rows);
            }
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            add_lists(rows, list.offsets(), list.values());
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            add_lists(rows, list.offsets(), list.values());
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            add_lists(rows, map.offsets(), map.entries());
        }
        DataType::FixedSizeList(_, length) => {
            let mut elements = each(array.as_fixed_size_list().values()).into_iter();
            let length = usize::try_from(*length).unwrap_or_default();
            add(rows, std::iter::repeat_with(|| elements.by_ref().take(length).sum::<usize>()));
        }
        DataType::ListView(_) => add_list_views(rows, array.as_list_view::<i32>()),
        DataType::LargeListView(_) => add_list_views(rows, array.as_list_view::<i64>()),
        DataType::Dictionary(_, _) => {
            // One without values has nothing but NULLs.
            if let Some(dictionary) = array.as_any_dictionary_opt().filter(|array| !array.values().is_empty()) {
                let values = each(dictionary.values());
                let keys = dictionary.normalized_keys().into_iter();
                add(rows, keys.map(|key| values.get(key).copied().unwrap_or_default()));
            }
        }
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => add_runs(rows, array.as_run::<Int16Type>()),
            DataType::Int32 => add_runs(rows, array.as_run::<Int32Type>()),
            _ => add_runs(rows, array.as_run::<Int64Type>()),
        },
        other => {
            // Truth values and others that have no width of their own: on average.
            let average = || {
                let bytes = array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size());
                bytes.div_ceil(array.len().max(1))
            };
            add(rows, std::iter::repeat(other.primitive_width().unwrap_or_else(average)));
        }
    }
}

/// What each element of an array shows.
fn each(array: &dyn Array) -> Vec<usize> {
    let mut elements = vec![0; array.len()];
    add_shown(array, &mut elements);
    elements
}

fn add(rows: &mut [usize], bytes: impl Iterator<Item = usize>) {
    for (row, bytes) in rows.iter_mut().zip(bytes) {
        *row = row.saturating_add(bytes);
    }
}

/// Adds values of variable length.
fn add_values(rows: &mut [usize], lengths: impl Iterator<Item = usize>) {
    add(rows, lengths.map(|length| length + OFFSET_BYTES));
}

fn add_lists<O: OffsetSizeTrait>(rows: &mut [usize], offsets: &OffsetBuffer<O>, elements: &dyn Array) {
    // Many small numbers are not counted one by one.
    if let Some(width) = elements.data_type().primitive_width() {
        add_values(rows, offsets.lengths().map(|length| length.saturating_mul(width)));
        return;
    }
    let mut elements = each(&shown_elements(offsets, elements)).into_iter();
    add_values(rows, offsets.lengths().map(|length| elements.by_ref().take(length).sum::<usize>()));
}

fn add_list_views<O: OffsetSizeTrait>(rows: &mut [usize], list: &GenericListViewArray<O>) {
    let elements = each(list.values());
    let lists = list.offsets().iter().zip(list.sizes().iter());
    let shown = lists.map(|(from, size)| elements.iter().skip(from.as_usize()).take(size.as_usize()).sum::<usize>());
    add_values(rows, shown);
}

fn add_runs<R: RunEndIndexType>(rows: &mut [usize], runs: &RunArray<R>) {
    let values = each(runs.values());
    let runs = (0..runs.len()).map(|row| runs.get_physical_index(row));
    add(rows, runs.map(|run| values.get(run).copied().unwrap_or_default()));
}

/// The length of each value. What the view of a NULL says is left from elsewhere.
pub(super) fn lengths<T: ByteViewType>(views: &GenericByteViewArray<T>) -> impl Iterator<Item = usize> {
    views.lengths().enumerate().map(move |(row, length)| if views.is_null(row) { 0 } else { length as usize })
}

/// The elements of lists that these offsets show.
pub(super) fn shown_elements<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, elements: &dyn Array) -> ArrayRef {
    let from = offsets.first().map_or(0, |offset| offset.as_usize());
    let to = offsets.last().map_or(from, |offset| offset.as_usize());
    elements.slice(from, to - from)
}

#[cfg(test)]
mod tests;
