//! Segments dealt to the partitions of a plan.

use crate::exec::cold::manifest::LiveSegment;

/// Segments in groups that are read side by side; the segments of a group are read one after the other.
pub(super) struct Groups {
    pub(super) groups: Vec<Vec<LiveSegment>>,
    /// Whether the rows of each group come in key order.
    pub(super) in_key_order: bool,
}

impl Groups {
    /// Deals segments of one partition to at most `count` groups, in key order if no two of them overlap.
    pub(super) fn by_key(mut segments: Vec<LiveSegment>, count: usize) -> Self {
        segments.sort_by(|a, b| a.entry.min_key.cmp(&b.entry.min_key));
        let apart = segments.windows(2).all(|pair| match pair {
            [a, b] => a.entry.max_key < b.entry.min_key,
            _ => true,
        });
        if apart {
            return Self { groups: contiguous(segments, count), in_key_order: true };
        }
        Self::by_size(segments, count)
    }

    /// Deals segments to at most `count` groups of about the same size.
    pub(super) fn by_size(mut segments: Vec<LiveSegment>, count: usize) -> Self {
        segments.sort_by_key(|segment| std::cmp::Reverse(segment.entry.file_bytes));
        let count = count.clamp(1, segments.len().max(1));
        let mut groups: Vec<(u64, Vec<LiveSegment>)> = (0..count).map(|_| (0, Vec::new())).collect();
        for segment in segments {
            if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                *bytes += segment.entry.file_bytes;
                group.push(segment);
            }
        }
        Self { groups: groups.into_iter().map(|(_, group)| group).collect(), in_key_order: false }
    }
}

/// Cuts a list of segments into at most `count` stretches of about the same size.
fn contiguous(segments: Vec<LiveSegment>, count: usize) -> Vec<Vec<LiveSegment>> {
    let total: u64 = segments.iter().map(|segment| segment.entry.file_bytes).sum();
    let share = total.div_ceil(count.max(1) as u64).max(1);
    let mut groups: Vec<Vec<LiveSegment>> = Vec::new();
    let mut current = 0;
    let mut before = 0;
    for segment in segments {
        // The share in which the middle of the segment lies.
        let share = (before + segment.entry.file_bytes / 2) / share;
        before += segment.entry.file_bytes;
        match groups.last_mut() {
            Some(last) if share == current => last.push(segment),
            _ => groups.push(vec![segment]),
        }
        current = share;
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kalamdb_store::{
        codec::{PrimaryKey, SegmentEntry},
        ids::{CommitSeq, Owner, SchemaVersion, SegmentId, StorageId},
    };

    use super::*;

    fn segment(id: u64, keys: std::ops::RangeInclusive<i64>, file_bytes: u64) -> LiveSegment {
        let entry = SegmentEntry {
            id: SegmentId::new(id),
            storage: StorageId::new(0),
            path: format!("{id:016x}.parquet"),
            file_bytes,
            rows: 10,
            row_group_rows: 4,
            schema_version: SchemaVersion::new(1),
            min_key: PrimaryKey::from_i64(*keys.start()),
            max_key: PrimaryKey::from_i64(*keys.end()),
            min_seq: CommitSeq::new(1),
            max_seq: CommitSeq::new(1),
            created_at_us: 0,
        };
        LiveSegment { owner: Owner::Shared, entry, marks: Arc::default() }
    }

    fn ids(groups: &Groups) -> Vec<Vec<u64>> {
        groups.groups.iter().map(|group| group.iter().map(|s| s.entry.id.get()).collect()).collect()
    }

    #[test]
    fn segments_that_do_not_overlap_stay_in_key_order() {
        let segments =
            vec![segment(3, 20..=29, 10), segment(1, 0..=9, 10), segment(4, 30..=39, 10), segment(2, 10..=19, 10)];
        let groups = Groups::by_key(segments.clone(), 2);
        assert!(groups.in_key_order);
        assert_eq!(ids(&groups), [vec![1, 2], vec![3, 4]]);
        assert_eq!(ids(&Groups::by_key(segments.clone(), 1)), [vec![1, 2, 3, 4]]);
        assert_eq!(ids(&Groups::by_key(segments, 9)).len(), 4);
    }

    #[test]
    fn a_group_is_about_a_share() {
        let segments =
            vec![segment(1, 0..=9, 90), segment(2, 10..=19, 10), segment(3, 20..=29, 10), segment(4, 30..=39, 90)];
        assert_eq!(ids(&Groups::by_key(segments.clone(), 2)), [vec![1, 2], vec![3, 4]]);
        let all: usize = Groups::by_size(segments, 2).groups.iter().map(Vec::len).sum();
        assert_eq!(all, 4);
    }

    #[test]
    fn overlapping_segments_are_dealt_by_size() {
        let segments = vec![segment(1, 0..=9, 50), segment(2, 9..=19, 30), segment(3, 20..=29, 30)];
        let groups = Groups::by_key(segments, 2);
        assert!(!groups.in_key_order);
        assert_eq!(ids(&groups), [vec![1], vec![2, 3]]);
        assert_eq!(ids(&Groups::by_size(Vec::new(), 2)), [Vec::<u64>::new()]);
    }
}
