//! Segments and deletion marks, as of a snapshot.

use std::{collections::BTreeSet, sync::Arc};

use kalamdb_store::{
    codec::{SegmentEntry, SegmentsKey, mark_range, row_prefix, segment_range, split_segments_key, table_range},
    ids::{Owner, Partition, SegmentId, TableId},
    kv::{Cursor, Direction, KeyRange, Keyspace, Snapshot},
};

use crate::{
    error::Result,
    exec::{
        cold::marks::{MarkCache, MarkReader},
        corrupt, from_store,
    },
};

/// A segment as a snapshot has it.
#[derive(Debug, Clone)]
pub(crate) struct LiveSegment {
    pub(crate) owner: Owner,
    pub(crate) entry: SegmentEntry,
    /// The positions of the rows that are gone, ascending.
    pub(super) marks: Arc<[u32]>,
}

impl LiveSegment {
    /// How many rows are left.
    pub(crate) fn live_rows(&self) -> u64 {
        self.entry.rows.saturating_sub(self.marks.len() as u64)
    }
}

/// The segments of a partition, in the order of their ids.
pub(super) fn segments_of(snapshot: &dyn Snapshot, partition: &Partition) -> Result<Vec<SegmentEntry>> {
    let mut cursor = open(snapshot, segment_range(partition))?;
    let mut entries = Vec::new();
    while let Some((_, value)) = cursor.item() {
        entries.push(SegmentEntry::decode(value).map_err(corrupt)?);
        cursor.advance().map_err(from_store)?;
    }
    Ok(entries)
}

/// The positions of a segment's rows that are gone, ascending.
pub(crate) fn marks_of(snapshot: &dyn Snapshot, partition: &Partition, segment: SegmentId) -> Result<Vec<u32>> {
    let mut cursor = open(snapshot, mark_range(partition, segment))?;
    let mut rows = Vec::new();
    while let Some((key, _)) = cursor.item() {
        if let (_, SegmentsKey::Mark(_, row)) = split_segments_key(key).map_err(corrupt)? {
            rows.push(row);
        }
        cursor.advance().map_err(from_store)?;
    }
    Ok(rows)
}

/// The segments of a partition that `wanted` lets through, with their marks; by id.
pub(crate) fn live_segments(
    snapshot: &dyn Snapshot,
    marks: &MarkCache,
    partition: &Partition,
    wanted: impl Fn(&SegmentEntry) -> bool,
) -> Result<Vec<LiveSegment>> {
    live_segments_in(snapshot, marks, KeyRange::prefix(&row_prefix(partition)), wanted)
}

/// The segments of every partition of a table that `wanted` lets through, with their marks; by owner and id.
pub(crate) fn live_segments_of_table(
    snapshot: &dyn Snapshot,
    marks: &MarkCache,
    table: TableId,
    wanted: impl Fn(&SegmentEntry) -> bool,
) -> Result<Vec<LiveSegment>> {
    live_segments_in(snapshot, marks, table_range(table), wanted)
}

fn live_segments_in(
    snapshot: &dyn Snapshot,
    marks: &MarkCache,
    range: KeyRange,
    wanted: impl Fn(&SegmentEntry) -> bool,
) -> Result<Vec<LiveSegment>> {
    let mut marks = MarkReader::new(snapshot, marks);
    let mut cursor = open(snapshot, range)?;
    let mut segments: Vec<LiveSegment> = Vec::new();
    // Where the current partition begins: marks are of its segments alone.
    let mut first = 0;
    while let Some((key, value)) = cursor.item() {
        let (partition, what) = split_segments_key(key).map_err(corrupt)?;
        if let SegmentsKey::Entry(_) = what {
            let entry = SegmentEntry::decode(value).map_err(corrupt)?;
            if segments.last().is_some_and(|last| last.owner != partition.owner) {
                first = segments.len();
            }
            if wanted(&entry) {
                segments.push(LiveSegment { owner: partition.owner, entry, marks: Arc::default() });
            }
            cursor.advance().map_err(from_store)?;
            continue;
        }
        // Behind its entries a partition has nothing but marks, and there may be millions of them.
        let of_partition = segments.get_mut(first..).unwrap_or_default();
        if of_partition.first().is_some_and(|segment| segment.owner == partition.owner) {
            marks.read(cursor.as_mut(), &partition, of_partition)?;
        }
        let (_, Some(next)) = KeyRange::prefix(&row_prefix(&partition)).half_open() else { break };
        if cursor.valid() && cursor.key() < next.as_slice() {
            cursor.seek(&next).map_err(from_store)?;
        }
    }
    Ok(segments)
}

/// The partitions' owners, each once.
pub(super) fn owners(segments: &[LiveSegment]) -> BTreeSet<&Owner> {
    segments.iter().map(|segment| &segment.owner).collect()
}

fn open(snapshot: &dyn Snapshot, range: KeyRange) -> Result<Box<dyn Cursor + '_>> {
    snapshot.cursor(Keyspace::Segments, range, Direction::Forward).map_err(from_store)
}
