//! Where keys are in a segment.
//!
//! A key is looked up in four steps, each cheaper than the next: the key ranges of row groups and their bloom filters,
//! the key ranges of pages (all in memory), and at last the pages of the key column that can have it.

use std::cmp::Ordering;
use std::ops::Range;

use arrow::array::{Array, AsArray, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Int64Type};
use futures::stream::{StreamExt, TryStreamExt};
use parquet::basic::Type;
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::PageLocation;

use super::reader::PARALLEL_ROW_GROUPS;
use super::{SegmentError, SegmentReader};
use crate::codec::PrimaryKey;

impl SegmentReader {
    /// The row positions of the given keys, which must be ascending; `None` for those that the segment does not have.
    /// Marked rows are found, too.
    pub async fn locate(&self, keys: &[PrimaryKey]) -> Result<Vec<Option<u32>>, SegmentError> {
        debug_assert!(keys.is_sorted(), "keys to locate must be ascending");
        let key_type = self.metadata().file_metadata().schema_descr().column(self.key_leaf).physical_type();
        let probes = keys.iter().map(|key| Probe::new(key, key_type)).collect::<Result<Vec<_>, _>>()?;
        let mut searches = Vec::new();
        for group in 0..self.metadata().num_row_groups() {
            let search = GroupSearch::new(self, group, &probes)?;
            if !search.wanted.is_empty() {
                searches.push(search);
            }
        }
        let mut found = vec![None; keys.len()];
        let reads = searches.into_iter().map(|search| search.run(self));
        let reads: Vec<_> = reads.collect();
        let mut results = futures::stream::iter(reads).buffered(PARALLEL_ROW_GROUPS);
        while let Some(rows) = results.try_next().await? {
            for (at, row) in rows {
                if let Some(slot) = found.get_mut(at) {
                    *slot = Some(row);
                }
            }
        }
        Ok(found)
    }
}

/// The search in one row group, as far as memory tells.
struct GroupSearch<'a> {
    group: usize,
    /// The keys that the group may have, and their places among all keys.
    wanted: Vec<(usize, Probe<'a>)>,
    /// The rows of the group, in whole pages, among which they must be.
    rows: Vec<Range<usize>>,
}

impl<'a> GroupSearch<'a> {
    fn new(reader: &SegmentReader, group: usize, keys: &[Probe<'a>]) -> Result<Self, SegmentError> {
        let pages = KeyPages::of(reader.metadata(), group, reader.key_leaf)
            .ok_or_else(|| reader.damaged(&"it has no page index of the key"))?;
        let last_page = pages.locations.len() - 1;
        let first = keys.partition_point(|key| pages.min(0, *key) == Ordering::Greater);
        let end = keys.partition_point(|key| pages.max(last_page, *key) != Ordering::Less);
        let bloom_filter = reader.bloom_filters.get(group).and_then(Option::as_ref);
        let mut search = Self { group, wanted: Vec::new(), rows: Vec::new() };
        for (at, key) in keys.iter().enumerate().take(end).skip(first) {
            if bloom_filter.is_some_and(|filter| !key.check(filter)) {
                continue;
            }
            let rows = pages.candidates(*key);
            if rows.is_empty() {
                continue;
            }
            search.wanted.push((at, *key));
            match search.rows.last_mut() {
                Some(last) if rows.start <= last.end => last.end = last.end.max(rows.end),
                _ => search.rows.push(rows),
            }
        }
        Ok(search)
    }

    /// Reads the pages and finds the keys: pairs of their place among all keys and their row position.
    async fn run(self, reader: &SegmentReader) -> Result<Vec<(usize, u32)>, SegmentError> {
        let batches = reader.read_group(self.group, self.rows.clone(), &[reader.key_column()]).await?;
        let first_row = self.group as u64 * u64::from(reader.entry.row_group_rows);
        let mut positions = Positions { ranges: &self.rows, skipped: 0 };
        let mut wanted = self.wanted.into_iter().peekable();
        let mut found = Vec::new();
        let mut rows_before = 0;
        for batch in &batches {
            let keys = KeyColumn::of(batch).ok_or_else(|| reader.damaged(&"its key is of another type"))?;
            let mut from = 0;
            while let Some((at, key)) = wanted.peek() {
                from = keys.lower_bound(from, *key);
                if from == keys.len() {
                    break;
                }
                if keys.compare(from, *key) == Ordering::Equal
                    && let Some(row) = positions.row(rows_before + from)
                    && let Ok(row) = u32::try_from(first_row + row as u64)
                {
                    found.push((*at, row));
                }
                wanted.next();
            }
            rows_before += keys.len();
        }
        Ok(found)
    }
}

/// Counts through ranges of rows as if they followed each other without gaps.
struct Positions<'a> {
    ranges: &'a [Range<usize>],
    /// How many rows the ranges before these have.
    skipped: usize,
}

impl Positions<'_> {
    /// The `nth` row, counted from 0; must not be less than in the call before.
    fn row(&mut self, nth: usize) -> Option<usize> {
        while let Some((range, rest)) = self.ranges.split_first() {
            if nth < self.skipped + range.len() {
                return Some(range.start + (nth - self.skipped));
            }
            self.skipped += range.len();
            self.ranges = rest;
        }
        None
    }
}

/// A key as the file has it.
#[derive(Clone, Copy)]
enum Probe<'a> {
    Int(i64),
    Text(&'a [u8]),
}

impl<'a> Probe<'a> {
    fn new(key: &'a PrimaryKey, key_type: Type) -> Result<Self, SegmentError> {
        match key_type {
            Type::INT64 => Ok(Probe::Int(key.to_i64()?)),
            _ => Ok(Probe::Text(key.as_bytes())),
        }
    }

    fn check(self, filter: &Sbbf) -> bool {
        match self {
            Probe::Int(key) => filter.check(&key),
            Probe::Text(key) => filter.check(key),
        }
    }
}

/// The pages of the key column of a row group.
struct KeyPages<'a> {
    index: &'a ColumnIndexMetaData,
    locations: &'a [PageLocation],
    rows: usize,
}

impl<'a> KeyPages<'a> {
    fn of(metadata: &'a ParquetMetaData, group: usize, leaf: usize) -> Option<Self> {
        let index = metadata.column_index()?.get(group)?.get(leaf)?;
        let locations = metadata.offset_index()?.get(group)?.get(leaf)?.page_locations();
        let pages = match index {
            ColumnIndexMetaData::INT64(index) => index.num_pages(),
            ColumnIndexMetaData::BYTE_ARRAY(index) => index.num_pages(),
            _ => return None,
        };
        let rows = usize::try_from(metadata.row_groups().get(group)?.num_rows()).ok()?;
        (!locations.is_empty() && pages == locations.len() as u64).then_some(Self { index, locations, rows })
    }

    /// How the least key of a page, or something less, compares with `key`.
    fn min(&self, page: usize, key: Probe<'_>) -> Ordering {
        match (self.index, key) {
            (ColumnIndexMetaData::INT64(index), Probe::Int(key)) => index.min_value(page).cmp(&Some(&key)),
            (ColumnIndexMetaData::BYTE_ARRAY(index), Probe::Text(key)) => index.min_value(page).cmp(&Some(key)),
            _ => Ordering::Less,
        }
    }

    /// How the greatest key of a page, or something greater, compares with `key`.
    fn max(&self, page: usize, key: Probe<'_>) -> Ordering {
        match (self.index, key) {
            (ColumnIndexMetaData::INT64(index), Probe::Int(key)) => index.max_value(page).cmp(&Some(&key)),
            (ColumnIndexMetaData::BYTE_ARRAY(index), Probe::Text(key)) => index.max_value(page).cmp(&Some(key)),
            _ => Ordering::Greater,
        }
    }

    /// The rows of the pages that can have `key`. It is one page, or more if long keys begin alike: of those the index
    /// has only the beginning.
    fn candidates(&self, key: Probe<'_>) -> Range<usize> {
        let pages = self.locations.len();
        let first = partition_point(0..pages, |page| self.max(page, key) == Ordering::Less);
        let end = partition_point(first..pages, |page| self.min(page, key) != Ordering::Greater);
        if first == end { 0..0 } else { self.first_row(first)..self.first_row(end) }
    }

    fn first_row(&self, page: usize) -> usize {
        self.locations.get(page).map_or(self.rows, |page| page.first_row_index.max(0) as usize)
    }
}

/// Keys that were read.
enum KeyColumn<'a> {
    Int(&'a [i64]),
    Text(&'a StringViewArray),
}

impl<'a> KeyColumn<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let column = batch.columns().first()?;
        match column.data_type() {
            DataType::Int64 => Some(KeyColumn::Int(column.as_primitive::<Int64Type>().values())),
            DataType::Utf8View => Some(KeyColumn::Text(column.as_string_view())),
            _ => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            KeyColumn::Int(keys) => keys.len(),
            KeyColumn::Text(keys) => keys.len(),
        }
    }

    fn compare(&self, row: usize, key: Probe<'_>) -> Ordering {
        match (self, key) {
            (KeyColumn::Int(keys), Probe::Int(key)) => keys.get(row).cmp(&Some(&key)),
            (KeyColumn::Text(keys), Probe::Text(key)) => keys.value(row).as_bytes().cmp(key),
            _ => Ordering::Less,
        }
    }

    /// The first row from `from` on whose key is not less than `key`. Looks near `from` first: many keys are found in
    /// one walk over the rows, few by halving.
    fn lower_bound(&self, from: usize, key: Probe<'_>) -> usize {
        let less = |row: usize| self.compare(row, key) == Ordering::Less;
        let (mut low, mut step) = (from, 1);
        while low + step <= self.len() && less(low + step - 1) {
            low += step;
            step *= 2;
        }
        partition_point(low..(low + step).min(self.len()), less)
    }
}

/// The first number of `range` for which `before` is false, if it is true for some first of them and for no others.
fn partition_point(mut range: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    while range.start < range.end {
        let middle = range.start + range.len() / 2;
        if before(middle) {
            range.start = middle + 1;
        } else {
            range.end = middle;
        }
    }
    range.start
}
