//! Segments and deletion marks, as of a snapshot.

use std::collections::BTreeSet;

use kalamdb_store::{
    codec::{
        SegmentEntry, SegmentsKey, mark_key, mark_range, row_prefix, segment_range, split_segments_key, table_range,
    },
    ids::{Owner, Partition, SegmentId, TableId},
    kv::{Cursor, Direction, KeyRange, Keyspace, Snapshot},
};

use crate::{
    error::Result,
    exec::{corrupt, from_store},
};

/// A segment as a snapshot has it.
#[derive(Debug, Clone)]
pub(super) struct LiveSegment {
    pub(super) owner: Owner,
    pub(super) entry: SegmentEntry,
    /// The positions of the rows that are gone, ascending.
    pub(super) marks: Vec<u32>,
}

impl LiveSegment {
    /// How many rows are left.
    pub(super) fn live_rows(&self) -> u64 {
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

/// The segments of a partition that `wanted` lets through, with their marks.
pub(super) fn live_segments(
    snapshot: &dyn Snapshot,
    partition: &Partition,
    wanted: impl Fn(&SegmentEntry) -> bool,
) -> Result<Vec<LiveSegment>> {
    let mut segments: Vec<LiveSegment> = segments_of(snapshot, partition)?
        .into_iter()
        .filter(wanted)
        .map(|entry| LiveSegment { owner: partition.owner.clone(), entry, marks: Vec::new() })
        .collect();
    // One cursor over all marks of the partition: most segments have none, and each cursor costs as much as many marks.
    let mut cursor: Option<Box<dyn Cursor + '_>> = None;
    for segment in &mut segments {
        let first = mark_key(partition, segment.entry.id, 0);
        let cursor = match &mut cursor {
            Some(cursor) => cursor,
            None => {
                let (_, end) = KeyRange::prefix(&row_prefix(partition)).half_open();
                let end = end.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
                cursor.insert(open(snapshot, KeyRange::new(std::ops::Bound::Included(first.clone()), end))?)
            }
        };
        if cursor.valid() && cursor.key() < first.as_slice() {
            cursor.seek(&first).map_err(from_store)?;
        }
        while cursor.valid() {
            match split_segments_key(cursor.key()).map_err(corrupt)?.1 {
                SegmentsKey::Mark(id, row) if id == segment.entry.id => segment.marks.push(row),
                _ => break,
            }
            cursor.advance().map_err(from_store)?;
        }
    }
    Ok(segments)
}

/// The segments of every partition of a table that `wanted` lets through, with their marks; by owner and id.
pub(super) fn live_segments_of_table(
    snapshot: &dyn Snapshot,
    table: TableId,
    wanted: impl Fn(&SegmentEntry) -> bool,
) -> Result<Vec<LiveSegment>> {
    let mut cursor = open(snapshot, table_range(table))?;
    let mut segments: Vec<LiveSegment> = Vec::new();
    // Where the current partition begins: marks are of its segments alone.
    let mut first = 0;
    while let Some((key, value)) = cursor.item() {
        let (partition, what) = split_segments_key(key).map_err(corrupt)?;
        match what {
            SegmentsKey::Entry(_) => {
                let entry = SegmentEntry::decode(value).map_err(corrupt)?;
                if segments.last().is_some_and(|last| last.owner != partition.owner) {
                    first = segments.len();
                }
                if wanted(&entry) {
                    segments.push(LiveSegment { owner: partition.owner, entry, marks: Vec::new() });
                }
            }
            SegmentsKey::Mark(id, row) => {
                let of_partition = segments.get_mut(first..).unwrap_or_default();
                if let Ok(at) = of_partition.binary_search_by_key(&id, |segment| segment.entry.id)
                    && let Some(segment) = of_partition.get_mut(at).filter(|s| s.owner == partition.owner)
                {
                    segment.marks.push(row);
                }
            }
        }
        cursor.advance().map_err(from_store)?;
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
