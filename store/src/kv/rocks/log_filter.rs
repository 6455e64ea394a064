//! Drops log entries that were given up, when RocksDB rewrites the files they are in.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::CompactionDecision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

use crate::codec::log_key_seq;
use crate::ids::CommitSeq;
use crate::kv::LogRemoved;

/// What compactions need to know, and what they tell.
#[derive(Debug, Default)]
pub(super) struct LogTrim {
    /// Entries up to this commit are dropped. No commit has the sequence 0.
    floor: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl LogTrim {
    pub(super) fn raise_floor(&self, floor: CommitSeq) {
        self.floor.fetch_max(floor.get(), Ordering::SeqCst);
    }

    pub(super) fn removed(&self) -> LogRemoved {
        LogRemoved { entries: self.entries.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Makes a filter for each compaction.
pub(super) struct LogFilterFactory(pub(super) Arc<LogTrim>);

impl CompactionFilterFactory for LogFilterFactory {
    type Filter = LogFilter;

    fn create(&mut self, _: CompactionFilterContext) -> LogFilter {
        LogFilter::new(self.0.clone())
    }

    fn name(&self) -> &CStr {
        c"kalamdb.log"
    }
}

/// The filter of one compaction, with the floor as it was when it began.
pub(super) struct LogFilter {
    trim: Arc<LogTrim>,
    floor: CommitSeq,
    removed: LogRemoved,
}

impl LogFilter {
    fn new(trim: Arc<LogTrim>) -> Self {
        let floor = CommitSeq::new(trim.floor.load(Ordering::SeqCst));
        Self { trim, floor, removed: LogRemoved::default() }
    }
}

impl CompactionFilter for LogFilter {
    fn filter(&mut self, _: u32, key: &[u8], value: &[u8]) -> CompactionDecision {
        match log_key_seq(key) {
            Some(seq) if seq <= self.floor => {
                self.removed.entries += 1;
                self.removed.bytes += (key.len() + value.len()) as u64;
                CompactionDecision::Remove
            }
            // What is damaged is kept for whoever looks into it.
            _ => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        c"kalamdb.log"
    }
}

impl Drop for LogFilter {
    fn drop(&mut self) {
        self.trim.entries.fetch_add(self.removed.entries, Ordering::Relaxed);
        self.trim.bytes.fetch_add(self.removed.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
