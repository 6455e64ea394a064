//! A walk over what a snapshot says of the segments of a table.

use std::ops::Bound;

use kalamdb_store::{
    codec::{Mark, SegmentEntry, SegmentsKey, mark_key, mark_range, row_prefix, split_segments_key, table_range},
    ids::{Partition, SegmentId, TableId},
    kv::{Direction, KeyRange, Keyspace, Snapshot},
};

use crate::{
    error::Result,
    exec::{corrupt, from_store},
};

/// Marks read before others get their turn.
const MARKS_PER_STEP: usize = 8_192;

/// The partitions of a table that have segments, one after the other.
#[derive(Debug)]
pub(super) struct PartitionWalk {
    rest: Option<KeyRange>,
}

impl PartitionWalk {
    pub(super) fn new(table: TableId) -> Self {
        Self { rest: Some(table_range(table)) }
    }

    /// The next partition with its segments, by their ids.
    pub(super) fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<(Partition, Vec<SegmentEntry>)>> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let mut cursor = snapshot.cursor(Keyspace::Segments, range.clone(), Direction::Forward).map_err(from_store)?;
        let mut found: Option<(Partition, Vec<SegmentEntry>)> = None;
        while let Some((key, value)) = cursor.item() {
            let (partition, what) = split_segments_key(key).map_err(corrupt)?;
            let (current, entries) = found.get_or_insert_with(|| (partition.clone(), Vec::new()));
            match what {
                SegmentsKey::Entry(_) if partition == *current => {
                    entries.push(SegmentEntry::decode(value).map_err(corrupt)?);
                }
                // Marks come behind the entries of their partition.
                _ => break,
            }
            cursor.advance().map_err(from_store)?;
        }
        if let Some((partition, _)) = &found
            && let Bound::Excluded(next) = KeyRange::prefix(&row_prefix(partition)).end
        {
            self.rest = Some(KeyRange::new(Bound::Included(next), range.end));
        }
        Ok(found)
    }
}

/// The deletion marks of a segment, some at a time.
#[derive(Debug)]
pub(super) struct MarkWalk {
    partition: Partition,
    segment: SegmentId,
    rest: Option<KeyRange>,
}

impl MarkWalk {
    pub(super) fn new(partition: &Partition, segment: SegmentId) -> Self {
        Self { partition: partition.clone(), segment, rest: Some(mark_range(partition, segment)) }
    }

    /// The next marks with their rows, ascending; none when there are no more.
    pub(super) fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Vec<(u32, Mark)>> {
        let mut marks = Vec::new();
        let Some(range) = self.rest.take() else { return Ok(marks) };
        let mut cursor = snapshot.cursor(Keyspace::Segments, range.clone(), Direction::Forward).map_err(from_store)?;
        while let Some((key, value)) = cursor.item() {
            if let (_, SegmentsKey::Mark(_, row)) = split_segments_key(key).map_err(corrupt)? {
                marks.push((row, Mark::decode(value).map_err(corrupt)?));
            }
            if marks.len() == MARKS_PER_STEP {
                let last = marks.last().map_or(0, |(row, _)| *row);
                let behind = Bound::Excluded(mark_key(&self.partition, self.segment, last));
                self.rest = Some(KeyRange::new(behind, range.end));
                break;
            }
            cursor.advance().map_err(from_store)?;
        }
        Ok(marks)
    }
}
