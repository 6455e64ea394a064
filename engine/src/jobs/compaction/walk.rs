//! A walk over the manifest of a table, partition by partition.

use std::ops::Bound;

use kalamdb_store::{
    codec::{SegmentEntry, SegmentsKey, mark_range, row_prefix, split_segments_key, table_range},
    ids::{Partition, SegmentId, TableId},
    kv::{Direction, KeyRange, Keyspace, Snapshot},
};

use super::pick::{Candidate, Rules};
use crate::{
    error::Result,
    exec::{corrupt, from_store},
};

/// Keys looked at before others get their turn.
const KEYS_PER_STEP: usize = 8_192;

/// The segments of one partition after the other, with the number of their marks.
#[derive(Debug)]
pub(super) struct ManifestWalk {
    rules: Rules,
    rest: Option<KeyRange>,
    /// The partition that the last step ended in.
    begun: Option<(Partition, Vec<Candidate>)>,
}

impl ManifestWalk {
    pub(super) fn table(table: TableId, rules: Rules) -> Self {
        Self { rules, rest: Some(table_range(table)), begun: None }
    }

    pub(super) fn partition(partition: &Partition, rules: Rules) -> Self {
        Self { rules, rest: Some(KeyRange::prefix(&row_prefix(partition))), begun: None }
    }

    /// Whether everything was looked at.
    pub(super) fn is_done(&self) -> bool {
        self.rest.is_none()
    }

    /// Looks at some more keys; a partition, if one was looked at entirely.
    pub(super) fn step(&mut self, snapshot: &dyn Snapshot) -> Result<Option<(Partition, Vec<Candidate>)>> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let mut cursor = snapshot.cursor(Keyspace::Segments, range.clone(), Direction::Forward).map_err(from_store)?;
        let mut finished = None;
        for _ in 0..KEYS_PER_STEP {
            let Some((key, value)) = cursor.item() else { break };
            let (partition, what) = split_segments_key(key).map_err(corrupt)?;
            if self.begun.as_ref().is_some_and(|(begun, _)| *begun != partition) {
                finished = self.begun.take();
                break;
            }
            let (partition, segments) = self.begun.get_or_insert_with(|| (partition, Vec::new()));
            match what {
                SegmentsKey::Entry(_) => {
                    let entry = SegmentEntry::decode(value).map_err(corrupt)?;
                    segments.push(Candidate { entry, marks: 0 });
                    cursor.advance().map_err(from_store)?;
                }
                SegmentsKey::Mark(segment, _) => {
                    let is_enough = count_mark(segments, segment, &self.rules);
                    match mark_range(partition, segment).end {
                        Bound::Excluded(behind) if is_enough => cursor.seek(&behind).map_err(from_store)?,
                        _ => cursor.advance().map_err(from_store)?,
                    }
                }
                // The same marks once more, the last keys of the partition.
                SegmentsKey::MarkList(..) => match KeyRange::prefix(&row_prefix(partition)).end {
                    Bound::Excluded(next) => cursor.seek(&next).map_err(from_store)?,
                    Bound::Included(_) | Bound::Unbounded => cursor.advance().map_err(from_store)?,
                },
            }
        }
        self.rest = cursor.item().map(|(key, _)| KeyRange::new(Bound::Included(key.to_vec()), range.end));
        if self.rest.is_none() && finished.is_none() {
            finished = self.begun.take();
        }
        Ok(finished)
    }
}

/// Counts a mark; says whether further ones of its segment would change nothing.
fn count_mark(segments: &mut [Candidate], segment: SegmentId, rules: &Rules) -> bool {
    // Entries come in the order of their ids.
    let Ok(at) = segments.binary_search_by_key(&segment, |candidate| candidate.entry.id) else { return true };
    let Some(candidate) = segments.get_mut(at) else { return true };
    candidate.marks += 1;
    rules.is_worn(candidate.marks, candidate.entry.rows)
}
