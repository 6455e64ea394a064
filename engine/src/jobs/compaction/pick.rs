//! Which segments of a partition are worth merging.

use std::{cmp::Reverse, collections::BinaryHeap};

use kalamdb_store::{codec::SegmentEntry, ids::SegmentId};

/// A segment, and how many of its rows are marked as deleted (at least: counting ends where it is enough).
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) entry: SegmentEntry,
    pub(super) marks: u64,
}

/// What is worth merging, and how much at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// So many small segments are, and so many whose key ranges have a key in common.
    pub(super) min_segments: usize,
    /// A segment with a smaller file is small …
    pub(super) small_bytes: u64,
    /// … if it also has fewer rows.
    pub(super) small_rows: u64,
    /// A segment with more marked rows is worth rewriting, in percent of its rows.
    pub(super) max_deleted_percent: u64,
    /// Bounds of what is merged at once: the keys of these rows are held in memory until the commit.
    pub(super) max_rows: u64,
    pub(super) max_bytes: u64,
    pub(super) max_segments: usize,
}

impl Rules {
    /// Whether so many marks make a segment worth rewriting.
    pub(super) fn is_worn(&self, marks: u64, rows: u64) -> bool {
        marks.saturating_mul(100) > rows.saturating_mul(self.max_deleted_percent)
    }

    fn is_small(&self, entry: &SegmentEntry) -> bool {
        entry.file_bytes < self.small_bytes && entry.rows < self.small_rows
    }
}

/// The segments to merge next; none when nothing is worth it.
///
/// Merging small ones leaves fewer, merging overlapping ones leaves fewer that overlap, and a rewritten one has no marks:
/// so who merges again and again comes to an end.
pub(super) fn pick(segments: &[Candidate], rules: &Rules) -> Vec<SegmentId> {
    let mut small: Vec<&Candidate> = segments.iter().filter(|segment| rules.is_small(&segment.entry)).collect();
    if small.len() >= rules.min_segments.max(2) {
        // Neighbours first, so that what they become does not overlap.
        small.sort_by(|a, b| a.entry.min_key.cmp(&b.entry.min_key));
        let picked = bounded(&small, rules);
        if picked.len() > 1 {
            return picked;
        }
    }
    let mut overlapping = most_overlapping(segments);
    if overlapping.len() >= rules.min_segments.max(2) {
        overlapping.sort_by_key(|segment| segment.entry.rows);
        let picked = bounded(&overlapping, rules);
        if picked.len() > 1 {
            return picked;
        }
    }
    let mut worn: Vec<&Candidate> =
        segments.iter().filter(|segment| rules.is_worn(segment.marks, segment.entry.rows)).collect();
    worn.sort_by(|a, b| a.entry.min_key.cmp(&b.entry.min_key));
    bounded(&worn, rules)
}

/// The first of some segments, as many as may be merged at once but at least one.
fn bounded(segments: &[&Candidate], rules: &Rules) -> Vec<SegmentId> {
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    let mut picked = Vec::new();
    for segment in segments {
        rows = rows.saturating_add(segment.entry.rows);
        bytes = bytes.saturating_add(segment.entry.file_bytes);
        let fits = rows <= rules.max_rows && bytes <= rules.max_bytes && picked.len() < rules.max_segments;
        if !picked.is_empty() && !fits {
            break;
        }
        picked.push(segment.entry.id);
    }
    picked
}

/// The segments whose key ranges have a key in common, where that are the most.
fn most_overlapping(segments: &[Candidate]) -> Vec<&Candidate> {
    let mut by_start: Vec<&Candidate> = segments.iter().collect();
    by_start.sort_by(|a, b| a.entry.min_key.cmp(&b.entry.min_key));
    let mut open = BinaryHeap::new();
    let (mut most, mut at) = (0, None);
    for segment in &by_start {
        while open.peek().is_some_and(|Reverse(end)| *end < &segment.entry.min_key) {
            open.pop();
        }
        open.push(Reverse(&segment.entry.max_key));
        if open.len() > most {
            (most, at) = (open.len(), Some(&segment.entry.min_key));
        }
    }
    let Some(at) = at else { return Vec::new() };
    by_start.retain(|segment| &segment.entry.min_key <= at && at <= &segment.entry.max_key);
    by_start
}

#[cfg(test)]
mod tests;
