//! Rows of segments by key.
//!
//! A key is live in at most one segment. Which one is not known, but soon ruled out for most: by the range of their keys,
//! then by their bloom filters, both of which are in memory.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_empty_array},
    compute::{concat, take},
    datatypes::{DataType, Int64Type, TimestampMicrosecondType},
};
use futures::{StreamExt, TryStreamExt, stream};
use kalamdb_store::{
    codec::{PrimaryKey, SegmentEntry, mark_key},
    commit::ColdPlace,
    ids::{CommitSeq, Partition},
    kv::{Keyspace, Snapshot},
    segment::{SEQ_COLUMN, SegmentReader, UPDATED_COLUMN},
};

use crate::{
    catalog::Table,
    engine::Shared,
    error::{Error, Result},
    exec::{
        cold::{ColdTier, check_version, columns::column_values, from_segment, manifest::segments_of},
        from_datafusion, from_store,
        scan::{batch_of, corrupt},
    },
    types::SqlType,
};

/// Segments that are searched or read at the same time.
const PARALLEL_SEGMENTS: usize = 8;

/// A column of a row of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColdColumn {
    /// The table's column with this index.
    Of(usize),
    /// `_seq`.
    CommitSeq,
    /// `_updated`.
    CommitTime,
    /// `_deleted`.
    Deleted,
}

/// Rows of segments, in key order.
#[derive(Debug)]
pub(crate) struct ColdRows {
    /// The table's columns.
    pub(crate) batch: RecordBatch,
    pub(crate) keys: Vec<PrimaryKey>,
    pub(crate) places: Vec<ColdPlace>,
    /// The commits that wrote the rows.
    pub(crate) seqs: Vec<CommitSeq>,
    /// The times of those commits.
    pub(crate) times_us: Vec<i64>,
}

/// The rows of segments with these keys, which must be ascending.
pub(crate) async fn find_rows(
    shared: &Shared,
    snapshot: &Arc<dyn Snapshot>,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
) -> Result<ColdRows> {
    let mut wanted: Vec<ColdColumn> = (0..table.columns().len()).map(ColdColumn::Of).collect();
    wanted.extend([ColdColumn::CommitSeq, ColdColumn::CommitTime]);
    let mut found = find_columns(&shared.cold, snapshot, table, partition, keys, &wanted).await?;
    let (Some(times), Some(seqs)) = (found.columns.pop(), found.columns.pop()) else {
        return Err(Error::internal("rows of segments without their hidden columns"));
    };
    let batch = batch_of(table.schema(), found.columns, found.keys.len()).map_err(from_datafusion)?;
    let seqs = seqs.as_primitive::<Int64Type>().values().iter().map(|seq| CommitSeq::new(seq.cast_unsigned()));
    let times_us = times.as_primitive::<TimestampMicrosecondType>().values().to_vec();
    Ok(ColdRows { batch, keys: found.keys, places: found.places, seqs: seqs.collect(), times_us })
}

/// Those of these keys, which must be ascending, that segments have rows with; ascending.
pub(crate) async fn find_keys(
    shared: &Shared,
    snapshot: &Arc<dyn Snapshot>,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
) -> Result<Vec<PrimaryKey>> {
    let found = locate(&shared.cold, snapshot, table, partition, keys).await?;
    let mut keys: Vec<PrimaryKey> = found.into_iter().flat_map(|in_segment| in_segment.keys).collect();
    keys.sort_unstable();
    Ok(keys)
}

/// Some columns of rows of segments, in key order.
#[derive(Debug)]
pub(crate) struct FoundColumns {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) keys: Vec<PrimaryKey>,
    pub(crate) places: Vec<ColdPlace>,
}

/// Some columns of the rows of segments with these keys, which must be ascending.
pub(crate) async fn find_columns(
    cold: &ColdTier,
    snapshot: &Arc<dyn Snapshot>,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
    wanted: &[ColdColumn],
) -> Result<FoundColumns> {
    let found = locate(cold, snapshot, table, partition, keys).await?;
    let reads = found.iter().map(|in_segment| read(table, in_segment, wanted));
    let reads: Vec<_> = reads.collect();
    let read: Vec<Vec<ArrayRef>> = stream::iter(reads).buffered(PARALLEL_SEGMENTS).try_collect().await?;
    let segments = found.len();
    let mut keys = Vec::new();
    let mut places = Vec::new();
    for in_segment in found {
        let segment = in_segment.reader.entry().id;
        places.extend(in_segment.rows.into_iter().map(|row| ColdPlace { segment, row }));
        keys.extend(in_segment.keys);
    }
    let mut columns = Vec::with_capacity(wanted.len());
    for (at, column) in wanted.iter().enumerate() {
        let pieces: Vec<&dyn Array> =
            read.iter().filter_map(|of_segment| of_segment.get(at)).map(AsRef::as_ref).collect();
        columns.push(match pieces.as_slice() {
            [] => values(table, *column, None, 0)?,
            pieces => concat(pieces).map_err(Error::internal)?,
        });
    }
    let found = FoundColumns { columns, keys, places };
    if segments > 1 { found.in_key_order() } else { Ok(found) }
}

impl FoundColumns {
    fn in_key_order(self) -> Result<Self> {
        let mut order: Vec<u32> = (0..self.keys.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.keys[*a as usize].cmp(&self.keys[*b as usize]));
        let keys = order.iter().map(|i| self.keys[*i as usize].clone()).collect();
        let places = order.iter().map(|i| self.places[*i as usize]).collect();
        let order = UInt32Array::from(order);
        let columns = self.columns.iter().map(|column| take(column, &order, None).map_err(Error::internal));
        Ok(Self { columns: columns.collect::<Result<Vec<_>>>()?, keys, places })
    }
}

/// Rows found in one segment, ascending.
struct InSegment {
    reader: Arc<SegmentReader>,
    keys: Vec<PrimaryKey>,
    rows: Vec<u32>,
}

/// Where the keys are that segments have.
async fn locate(
    cold: &ColdTier,
    snapshot: &Arc<dyn Snapshot>,
    table: &Table,
    partition: &Partition,
    keys: &[PrimaryKey],
) -> Result<Vec<InSegment>> {
    let mut searches = Vec::new();
    for entry in segments_of(snapshot.as_ref(), partition)? {
        let first = keys.partition_point(|key| *key < entry.min_key);
        let end = keys.partition_point(|key| *key <= entry.max_key);
        if let Some(keys) = keys.get(first..end).filter(|keys| !keys.is_empty()) {
            check_version(table, entry.schema_version)?;
            searches.push(search(cold, snapshot, partition, entry, keys));
        }
    }
    let mut searches = stream::iter(searches).buffer_unordered(PARALLEL_SEGMENTS);
    let mut found = Vec::new();
    let mut missing = keys.len();
    while missing > 0
        && let Some(in_segment) = searches.try_next().await?
    {
        missing = missing.saturating_sub(in_segment.keys.len());
        if !in_segment.keys.is_empty() {
            found.push(in_segment);
        }
    }
    Ok(found)
}

async fn search(
    cold: &ColdTier,
    snapshot: &Arc<dyn Snapshot>,
    partition: &Partition,
    entry: SegmentEntry,
    keys: &[PrimaryKey],
) -> Result<InSegment> {
    let reader = cold.segments.open(&entry).await.map_err(|e| from_segment(&e))?;
    let located = reader.locate(keys).await.map_err(|e| from_segment(&e))?;
    let there = keys.iter().zip(located).filter_map(|(key, row)| Some((key, row?)));
    let (mut keys, mut rows): (Vec<PrimaryKey>, Vec<u32>) = there.map(|(key, row)| (key.clone(), row)).unzip();
    if !rows.is_empty() {
        let marks: Vec<Vec<u8>> = rows.iter().map(|row| mark_key(partition, entry.id, *row)).collect();
        let marks: Vec<&[u8]> = marks.iter().map(Vec::as_slice).collect();
        let marks = snapshot.multi_get(Keyspace::Segments, &marks).map_err(from_store)?;
        let live = |at: usize| marks.get(at).is_none_or(Option::is_none);
        keys = keys.into_iter().enumerate().filter(|(at, _)| live(*at)).map(|(_, key)| key).collect();
        rows = rows.into_iter().enumerate().filter(|(at, _)| live(*at)).map(|(_, row)| row).collect();
    }
    Ok(InSegment { reader, keys, rows })
}

/// The wanted columns of the rows found in a segment.
async fn read(table: &Table, found: &InSegment, wanted: &[ColdColumn]) -> Result<Vec<ArrayRef>> {
    let reader = &found.reader;
    let place = |column: &ColdColumn| match column {
        ColdColumn::Of(index) => Ok(table.columns().get(*index).and_then(|column| reader.position_of(column.id))),
        ColdColumn::CommitSeq => reader.schema().index_of(SEQ_COLUMN).map(Some).map_err(corrupt),
        ColdColumn::CommitTime => reader.schema().index_of(UPDATED_COLUMN).map(Some).map_err(corrupt),
        ColdColumn::Deleted => Ok(None),
    };
    let places = wanted.iter().map(place).collect::<Result<Vec<_>>>()?;
    let in_file: Vec<usize> = places.iter().flatten().copied().collect();
    let batch = reader.read_rows(&found.rows, &in_file).await.map_err(|e| from_segment(&e))?;
    let mut read = batch.columns().iter();
    let values = wanted.iter().zip(&places).map(|(column, place)| {
        let read = if place.is_some() { read.next() } else { None };
        values(table, *column, read, found.rows.len())
    });
    values.collect()
}

/// The values of a column in some rows; `read` is what the segment has of it. Segments have all hidden columns but one.
fn values(table: &Table, column: ColdColumn, read: Option<&ArrayRef>, rows: usize) -> Result<ArrayRef> {
    Ok(match (column, read) {
        (ColdColumn::Of(index), read) => {
            let column = table.columns().get(index).ok_or_else(|| Error::internal(format!("no column {index}")))?;
            column_values(column, read, rows)?
        }
        (ColdColumn::CommitSeq | ColdColumn::CommitTime, Some(read)) => Arc::clone(read),
        (ColdColumn::CommitSeq, None) => new_empty_array(&DataType::Int64),
        (ColdColumn::CommitTime, None) => new_empty_array(&SqlType::TimestampTz.to_arrow()),
        (ColdColumn::Deleted, _) => Arc::new(BooleanArray::from(vec![false; rows])),
    })
}
