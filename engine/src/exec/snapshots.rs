//! The snapshots that are being read, by the commit they end with; and in the same way, the changes still to be read.

use std::{collections::BTreeMap, sync::Arc};

use kalamdb_store::ids::CommitSeq;
use parking_lot::Mutex;

/// Tells which files of removed segments may still be read.
///
/// Whoever takes a snapshot registers the last commit *before* taking it: the snapshot then has that commit at least. So
/// a file that was removed at or before [`SnapshotRegistry::oldest`] is needed by none of the registered snapshots, and
/// one that is registered later was taken after the removal. Taking first and registering then would leave a gap.
#[derive(Debug, Clone, Default)]
pub(crate) struct SnapshotRegistry {
    active: Arc<Mutex<BTreeMap<CommitSeq, usize>>>,
}

/// Tells which changes may still be read, beside those since the registered snapshots: whoever registers a commit needs the
/// changes *after* it. The floor of the change log does not pass [`SnapshotRegistry::oldest`].
///
/// It may have passed the commit just before that was registered. So whoever registers one that is not the newest has to
/// be ready for [`LogError::Trimmed`](kalamdb_store::commit::LogError::Trimmed).
pub(crate) type LogPins = SnapshotRegistry;

/// A commit whose later changes are needed, until it is dropped.
pub(crate) type LogPin = SnapshotGuard;

/// A registered snapshot, until it is dropped.
#[derive(Debug)]
pub(crate) struct SnapshotGuard {
    active: Arc<Mutex<BTreeMap<CommitSeq, usize>>>,
    seq: CommitSeq,
}

impl SnapshotRegistry {
    /// Registers a snapshot that will have commit `seq`, and maybe later ones.
    pub(crate) fn register(&self, seq: CommitSeq) -> SnapshotGuard {
        *self.active.lock().entry(seq).or_default() += 1;
        SnapshotGuard { active: Arc::clone(&self.active), seq }
    }

    /// The least commit that a registered snapshot is only known to have.
    pub(crate) fn oldest(&self) -> Option<CommitSeq> {
        self.active.lock().first_key_value().map(|(seq, _)| *seq)
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        let mut active = self.active.lock();
        if let Some(count) = active.get_mut(&self.seq) {
            *count -= 1;
            if *count == 0 {
                active.remove(&self.seq);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_least_registered() {
        let registry = SnapshotRegistry::default();
        assert_eq!(registry.oldest(), None);
        let first = registry.register(CommitSeq::new(5));
        let second = registry.register(CommitSeq::new(5));
        let third = registry.register(CommitSeq::new(9));
        assert_eq!(registry.oldest(), Some(CommitSeq::new(5)));
        drop(first);
        assert_eq!(registry.oldest(), Some(CommitSeq::new(5)));
        drop(second);
        assert_eq!(registry.oldest(), Some(CommitSeq::new(9)));
        drop(third);
        assert_eq!(registry.oldest(), None);
    }
}
