//! Changes of the same row made one.

use std::{collections::HashMap, sync::Arc};

use datafusion::arrow::{array::UInt32Array, compute::take_record_batch};

use super::{
    event::{ChangeKind, CommitChanges, LiveChange, RowImage},
    matcher::compacted,
};
use crate::exec::batch_of;

/// The net effect of some commits, as if one had made it, at the place of the last. `None` if there is none.
///
/// The rows keep the order in which they were changed last.
pub(super) fn coalesce<'c>(
    commits: impl Iterator<Item = &'c Arc<CommitChanges>> + Clone,
    before_images: bool,
) -> Option<Arc<CommitChanges>> {
    let last = commits.clone().last()?;
    let mut net: HashMap<&[u8], (usize, Option<LiveChange>)> = HashMap::new();
    for (place, change) in commits.flat_map(|commit| &commit.changes).enumerate() {
        let entry = net.entry(change.key.as_bytes()).or_insert((place, None));
        *entry = (place, merge(entry.1.take(), change, before_images));
    }
    let mut changes: Vec<(usize, LiveChange)> =
        net.into_values().filter_map(|(place, change)| change.map(|change| (place, change))).collect();
    changes.sort_unstable_by_key(|(place, _)| *place);
    let changes: Vec<LiveChange> = changes.into_iter().map(|(_, change)| alone(change)).collect();
    let bytes = changes.iter().map(LiveChange::byte_size).sum();
    Some(Arc::new(CommitChanges::new(last.commit_seq, last.commit_time_us, changes, last.token.clone(), true, bytes)))
}

/// What two changes of a row come to, one after the other; `None`: nothing.
fn merge(first: Option<LiveChange>, then: &LiveChange, before_images: bool) -> Option<LiveChange> {
    use ChangeKind::{Delete, Insert, Update};
    let Some(first) = first else { return Some(then.clone()) };
    let kind = match (first.kind, then.kind) {
        // The row was not there before.
        (Insert, Insert | Update) => Insert,
        (Insert, Delete) => return None,
        // It was.
        (Update | Delete, Insert | Update) => Update,
        (Update | Delete, Delete) => Delete,
    };
    // The row as it was is of the first change. An update without it is one whose subscriber does not want it, but
    // a DELETE has to have one: the last that is known.
    let old = match kind {
        Insert => None,
        Update => first.old.filter(|_| before_images),
        Delete => first.old.or_else(|| then.old.clone()),
    };
    Some(LiveChange { kind, key: then.key.clone(), new: then.new.clone(), old })
}

/// The same change with rows of its own: it can stay for long, and must not keep the rows beside its own in memory.
fn alone(mut change: LiveChange) -> LiveChange {
    for image in [&mut change.new, &mut change.old].into_iter().flatten() {
        let index = UInt32Array::from(vec![image.row as u32]);
        let Ok(row) = take_record_batch(&image.batch, &index) else { continue };
        let columns = row.columns().iter().cloned().map(compacted).collect();
        let Ok(row) = batch_of(&row.schema(), columns, 1) else { continue };
        *image = RowImage { batch: Arc::new(row), row: 0 };
    }
    change
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{Int64Array, RecordBatch},
        datatypes::{DataType, Field, Schema},
    };
    use kalamdb_store::{codec::PrimaryKey, ids::CommitSeq};

    use super::*;
    fn image(value: i64) -> RowImage {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![value]))]).unwrap();
        RowImage { batch: Arc::new(batch), row: 0 }
    }

    fn value(image: Option<&RowImage>) -> Option<i64> {
        let column = image?.batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        Some(column.value(image?.row))
    }

    /// A change of row `key` from `old` to `new`.
    fn change(key: u8, old: Option<i64>, new: Option<i64>) -> LiveChange {
        let kind = match (old, new) {
            (None, _) => ChangeKind::Insert,
            (_, None) => ChangeKind::Delete,
            _ => ChangeKind::Update,
        };
        LiveChange { kind, key: PrimaryKey::from_encoded([key]), new: new.map(image), old: old.map(image) }
    }

    fn commit(seq: u64, changes: Vec<LiveChange>) -> Arc<CommitChanges> {
        Arc::new(CommitChanges::new(CommitSeq::new(seq), 0, changes, format!("token {seq}"), false, 1))
    }

    fn net(changes: Vec<LiveChange>) -> Vec<(u8, ChangeKind, Option<i64>, Option<i64>)> {
        let commits: Vec<_> = (1..).zip(changes).map(|(seq, change)| commit(seq, vec![change])).collect();
        let merged = coalesce(commits.iter(), true).unwrap();
        assert!(merged.merged);
        assert_eq!(merged.commit_seq, CommitSeq::new(commits.len() as u64));
        assert_eq!(merged.token, format!("token {}", commits.len()));
        let net = |c: &LiveChange| (c.key.as_bytes()[0], c.kind, value(c.old.as_ref()), value(c.new.as_ref()));
        merged.changes.iter().map(net).collect()
    }

    #[test]
    fn the_net_effect_of_two_changes() {
        use ChangeKind::{Delete, Insert, Update};
        let cases = [
            ((None, Some(1)), (Some(1), Some(2)), vec![(7, Insert, None, Some(2))]),
            ((None, Some(1)), (Some(1), None), vec![]),
            ((Some(0), Some(1)), (Some(1), Some(2)), vec![(7, Update, Some(0), Some(2))]),
            ((Some(0), Some(1)), (Some(1), None), vec![(7, Delete, Some(0), None)]),
            ((Some(0), None), (None, Some(1)), vec![(7, Update, Some(0), Some(1))]),
        ];
        for (first, then, expected) in cases {
            assert_eq!(net(vec![change(7, first.0, first.1), change(7, then.0, then.1)]), expected);
        }
    }

    #[test]
    fn rows_that_came_and_went_and_came_again() {
        use ChangeKind::Insert;
        let changes = vec![change(7, None, Some(1)), change(7, Some(1), None), change(7, None, Some(3))];
        assert_eq!(net(changes), [(7, Insert, None, Some(3))]);
    }

    #[test]
    fn other_rows_stay_as_they_are() {
        use ChangeKind::{Delete, Insert, Update};
        let changes = vec![
            change(1, None, Some(1)),
            change(2, Some(5), Some(6)),
            change(3, Some(9), None),
            change(2, Some(6), Some(7)),
        ];
        let expected = [(1, Insert, None, Some(1)), (3, Delete, Some(9), None), (2, Update, Some(5), Some(7))];
        assert_eq!(net(changes), expected);
    }
}
