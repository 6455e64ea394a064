//! The live rows of one segment, in the order of their keys, as columns of the table's current schema version.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Int64Type},
};
use kalamdb_store::{
    codec::{PackedKeys, PrimaryKey},
    segment::SegmentReader,
};

use crate::{
    error::Error,
    exec::cold::column_values,
    jobs::{
        fault::Fault,
        live::LiveJob,
        segment::{BATCH_ROWS, SegmentPlan},
    },
};

/// About how many bytes of rows all sources of a merge hold at a time.
const SOURCES_BYTES: u64 = 64 * 1024 * 1024;
/// The fewest rows read in one go: reading fewer would decompress each page many times.
const MIN_WINDOW_ROWS: u64 = 256;

const READ: &str = "read a segment";

/// A segment that is merged. Its rows are read window by window, and only when their turn comes.
pub(super) struct Source {
    reader: Arc<SegmentReader>,
    plan: Arc<SegmentPlan>,
    /// Positions of rows that are not live, ascending.
    marks: Vec<u32>,
    window_rows: u64,
    /// The first position that was not read.
    next_row: u64,
    /// No row that was not read has a smaller key.
    bound: PrimaryKey,
    rows: Option<Rows>,
}

/// Rows of a source that were read.
struct Rows {
    batch: RecordBatch,
    keys: PackedKeys,
    /// The first that was not taken.
    at: usize,
}

/// Rows that follow each other in a merge.
pub(super) struct Run {
    pub(super) batch: RecordBatch,
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Source {
    /// `count` is how many sources the merge has.
    pub(super) fn new(reader: Arc<SegmentReader>, plan: Arc<SegmentPlan>, marks: Vec<u32>, count: usize) -> Self {
        let bytes: u64 =
            reader.metadata().row_groups().iter().map(|group| group.total_byte_size().unsigned_abs()).sum();
        let row_bytes = (bytes / reader.entry().rows.max(1)).max(1);
        let window_rows = (SOURCES_BYTES / (count.max(1) as u64 * row_bytes)).clamp(MIN_WINDOW_ROWS, BATCH_ROWS as u64);
        let bound = reader.entry().min_key.clone();
        Self { reader, plan, marks, window_rows, next_row: 0, bound, rows: None }
    }

    /// Whether its next row was read, so that [`Source::next_key`] is that row's.
    pub(super) fn is_ready(&self) -> bool {
        self.rows.is_some()
    }

    /// The key of its next row, or one that is not greater; `None`: it has no more rows.
    pub(super) fn next_key(&self) -> Option<&[u8]> {
        match &self.rows {
            Some(rows) => Some(rows.keys.get(rows.at)),
            None => (self.next_row < self.reader.entry().rows).then(|| self.bound.as_bytes()),
        }
    }

    /// Takes the next rows, up to `limit` of them and to the first whose key is not less than `before`.
    pub(super) fn take(&mut self, before: Option<&[u8]>, limit: usize) -> Option<Run> {
        let rows = self.rows.as_mut()?;
        let start = rows.at;
        let most = (rows.keys.len() - start).min(limit);
        let len = match before {
            Some(before) => first_not_less(&rows.keys, start, start + most, before) - start,
            None => most,
        };
        rows.at += len;
        let run = Run { batch: rows.batch.clone(), start, len };
        if rows.at == rows.keys.len() {
            self.rows = None;
        }
        Some(run)
    }

    /// Reads the next window with live rows in it.
    pub(super) async fn read(&mut self, job: &LiveJob) -> Result<(), Fault> {
        let total = self.reader.entry().rows;
        while self.rows.is_none() && self.next_row < total {
            let end = (self.next_row / self.window_rows + 1).saturating_mul(self.window_rows).min(total);
            let live = live_rows(&self.marks, self.next_row, end);
            self.next_row = end;
            if !live.is_empty() {
                self.rows = Some(job.busy_in(self.read_rows(&live)).await?);
            }
        }
        if let Some(last) = self.rows.as_ref().and_then(|rows| rows.keys.last()) {
            self.bound = PrimaryKey::from_encoded(last);
        }
        Ok(())
    }

    /// About how many bytes it holds.
    pub(super) fn memory_bytes(&self) -> usize {
        self.rows.as_ref().map_or(0, |rows| rows.batch.get_array_memory_size() + rows.keys.byte_size())
    }

    async fn read_rows(&self, live: &[u32]) -> Result<Rows, Fault> {
        let table = &self.plan.table;
        let places: Vec<Option<usize>> =
            table.columns().iter().map(|column| self.reader.position_of(column.id)).collect();
        let hidden = self.reader.schema().fields().len().saturating_sub(2);
        let columns: Vec<usize> = places.iter().copied().flatten().chain([hidden, hidden + 1]).collect();
        let read = self.reader.read_rows(live, &columns).await.map_err(|error| Fault::storage(READ, &error))?;
        let mut read = read.columns().iter();
        let mut values: Vec<ArrayRef> = Vec::with_capacity(columns.len());
        for (column, place) in table.columns().iter().zip(&places) {
            let stored = place.and_then(|_| read.next());
            values.push(column_values(column, stored, live.len()).map_err(|error| Fault::engine(READ, &error))?);
        }
        values.extend(read.cloned());
        let batch = RecordBatch::try_new(Arc::clone(&self.plan.fields.schema), values)
            .map_err(|error| Fault::engine(READ, &Error::internal(error)))?;
        let keys = packed_keys(batch.column(table.key_index()));
        Ok(Rows { batch, keys, at: 0 })
    }
}

/// The positions from `start` to `end` that are not among the marks.
fn live_rows(marks: &[u32], start: u64, end: u64) -> Vec<u32> {
    let mut marks = marks[marks.partition_point(|mark| u64::from(*mark) < start)..].iter().peekable();
    // A segment has fewer rows than 32 bits can count: its writer sees to that.
    (start..end).map(|row| row as u32).filter(|row| marks.next_if_eq(&row).is_none()).collect()
}

fn packed_keys(column: &ArrayRef) -> PackedKeys {
    let mut keys = PackedKeys::with_capacity(column.len(), column.len() * size_of::<i64>());
    match column.data_type() {
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().values();
            values.iter().for_each(|value| keys.push(&PrimaryKey::from_i64(*value)));
        }
        _ => column.as_string_view().iter().for_each(|value| keys.push_encoded(value.unwrap_or_default().as_bytes())),
    }
    keys
}

/// The first of the keys from `start` to `end` that is not less than `key`; `end` if all are.
fn first_not_less(keys: &PackedKeys, start: usize, end: usize, key: &[u8]) -> usize {
    // Steps that double, then halves: runs are mostly short, or all there is.
    let mut step = 1;
    let mut low = start;
    while low + step <= end && keys.get(low + step - 1) < key {
        low += step;
        step *= 2;
    }
    let mut high = (low + step - 1).min(end);
    while low < high {
        let middle = low + (high - low) / 2;
        if keys.get(middle) < key { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_rows_are_left_out() {
        assert_eq!(live_rows(&[], 3, 6), [3, 4, 5]);
        assert_eq!(live_rows(&[0, 2, 3, 5, 9], 2, 8), [4, 6, 7]);
        assert_eq!(live_rows(&[2, 3], 2, 4), [0_u32; 0]);
    }

    #[test]
    fn the_first_key_that_is_not_less_is_found() {
        let keys: PackedKeys = (0..100).map(|i| PrimaryKey::from_i64(2 * i)).collect();
        for start in [0, 1, 50, 99, 100] {
            for end in [start, 100] {
                for key in -1..=200 {
                    let expected = (start..end).find(|i| 2 * *i as i64 >= key).unwrap_or(end);
                    assert_eq!(
                        first_not_less(&keys, start, end, PrimaryKey::from_i64(key).as_bytes()),
                        expected,
                        "{start} {end} {key}"
                    );
                }
            }
        }
    }
}
