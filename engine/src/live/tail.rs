//! The newest log entries of a partition, as the committer wrote them.
//!
//! ```text
//!        position of the feed
//!              │
//!   log  … 5 6 7 8 9 10          what the committer told: all after 6
//!              └───────┘ tail    so the feed need not read the log
//! ```
//!
//! A feed that keeps up would read each entry from the log a moment after it was written, which costs more than all else
//! that it does. The tail is a bounded cache before the log and nothing else: where it does not reach back to the feed's
//! position, the log is read.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use kalamdb_store::{commit::Changed, ids::CommitSeq};

/// Bytes of entries in the tail of one partition.
const MAX_BYTES: usize = 256 * 1024;
/// Bytes of entries in all tails of an engine.
const MAX_TOTAL_BYTES: usize = 32 * 1024 * 1024;

/// The tail of one partition.
#[derive(Debug)]
pub(super) struct Tail {
    /// All entries after this commit, up to what was told last, are here; `None`: nothing was told yet.
    after: Option<CommitSeq>,
    entries: VecDeque<(CommitSeq, Arc<[u8]>)>,
    bytes: usize,
    /// Of all tails.
    total: Arc<AtomicUsize>,
}

impl Tail {
    /// An empty tail; `total` counts the bytes of all.
    pub(super) fn new(total: Arc<AtomicUsize>) -> Self {
        Self { after: None, entries: VecDeque::new(), bytes: 0, total }
    }

    /// Takes what a commit changed in the partition, from a group of commits after `group_after`.
    pub(super) fn push(&mut self, group_after: CommitSeq, changed: &Changed) {
        let bytes = changed.entry.as_ref().map_or(0, |entry| entry.len());
        let has_room = self.bytes + bytes <= MAX_BYTES && self.total.load(Ordering::Relaxed) + bytes <= MAX_TOTAL_BYTES;
        match &changed.entry {
            Some(entry) if has_room => {
                self.after.get_or_insert(group_after);
                self.entries.push_back((changed.commit_seq, Arc::clone(entry)));
                self.bytes += bytes;
                self.total.fetch_add(bytes, Ordering::Relaxed);
            }
            _ => {
                self.clear();
                self.after = Some(changed.commit_seq);
            }
        }
    }

    /// Takes out the entries after `position` up to `told`, to where the committer has told everything; `None`: some are
    /// not here.
    pub(super) fn take(&mut self, position: CommitSeq, told: CommitSeq) -> Option<Vec<Arc<[u8]>>> {
        let reaches_back = self.after.is_some_and(|after| after <= position);
        let mut taken = Vec::new();
        while let Some((seq, entry)) =
            self.entries.pop_front_if(|(seq, _)| *seq <= position || (reaches_back && *seq <= told))
        {
            self.bytes -= entry.len();
            self.total.fetch_sub(entry.len(), Ordering::Relaxed);
            self.after = self.after.max(Some(seq));
            if seq > position {
                taken.push(entry);
            }
        }
        reaches_back.then_some(taken)
    }

    fn clear(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.entries = VecDeque::new();
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_store::ids::{Owner, Partition, TableId};

    use super::*;

    fn seq(seq: u64) -> CommitSeq {
        CommitSeq::new(seq)
    }

    fn changed(commit: u64, bytes: Option<usize>) -> Changed {
        let partition = Partition { table: TableId::new(1), owner: Owner::Shared };
        Changed { partition, commit_seq: seq(commit), entry: bytes.map(|bytes| vec![commit as u8; bytes].into()) }
    }

    fn firsts(taken: Option<Vec<Arc<[u8]>>>) -> Option<Vec<u8>> {
        taken.map(|entries| entries.iter().map(|entry| entry[0]).collect())
    }

    #[test]
    fn what_was_told_is_taken_once_and_in_order() {
        let mut tail = Tail::new(Arc::default());
        assert_eq!(tail.take(seq(4), seq(9)), None, "nothing is known of what came before");
        tail.push(seq(5), &changed(7, Some(3)));
        tail.push(seq(5), &changed(8, Some(3)));
        assert_eq!(tail.take(seq(4), seq(9)), None, "commit 5 is not here");
        assert_eq!(firsts(tail.take(seq(5), seq(7))), Some(vec![7]));
        tail.push(seq(9), &changed(11, Some(3)));
        assert_eq!(firsts(tail.take(seq(7), seq(11))), Some(vec![8, 11]));
        assert_eq!(firsts(tail.take(seq(11), seq(20))), Some(vec![]));
        assert_eq!((tail.bytes, tail.total.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn what_was_read_from_the_log_is_forgotten() {
        let mut tail = Tail::new(Arc::default());
        tail.push(seq(5), &changed(7, Some(3)));
        tail.push(seq(5), &changed(8, Some(3)));
        assert_eq!(tail.take(seq(4), seq(8)), None);
        // The feed has read the log up to here meanwhile.
        assert_eq!(firsts(tail.take(seq(7), seq(8))), Some(vec![8]));
    }

    #[test]
    fn a_tail_that_has_lost_an_entry_begins_behind_it() {
        let total = Arc::new(AtomicUsize::new(0));
        let mut tail = Tail::new(Arc::clone(&total));
        tail.push(seq(5), &changed(6, Some(3)));
        tail.push(seq(5), &changed(7, None));
        tail.push(seq(5), &changed(8, Some(3)));
        assert_eq!(tail.take(seq(5), seq(8)), None);
        assert_eq!(firsts(tail.take(seq(7), seq(8))), Some(vec![8]));
        tail.push(seq(8), &changed(9, Some(MAX_BYTES)));
        tail.push(seq(9), &changed(10, Some(1)));
        assert_eq!(tail.take(seq(8), seq(10)), None);
        assert_eq!(tail.take(seq(9), seq(10)), None);
        assert_eq!(firsts(tail.take(seq(10), seq(10))), Some(vec![]));
        total.store(MAX_TOTAL_BYTES, Ordering::Relaxed);
        tail.push(seq(10), &changed(11, Some(1)));
        assert_eq!(tail.take(seq(10), seq(11)), None, "there is no room for it among all");
    }
}
