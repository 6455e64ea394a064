//! Which tables have segments.

use std::collections::HashSet;

use arc_swap::ArcSwap;
use kalamdb_store::{
    codec::{split_segments_key, table_range},
    ids::TableId,
    kv::{Direction, KeyRange, Keyspace, Snapshot},
};

use crate::{
    error::Result,
    exec::{corrupt, from_store},
};

/// The tables that have, or once had, a segment. Reading it costs next to nothing, so that a table that was never flushed
/// is read as if there were no cold tier.
#[derive(Debug, Default)]
pub(crate) struct ColdTables(ArcSwap<HashSet<TableId>>);

impl ColdTables {
    /// The tables that have segments in a snapshot. Looks at one key of each table.
    pub(crate) fn load(snapshot: &dyn Snapshot) -> Result<Self> {
        let mut tables = HashSet::new();
        let mut cursor =
            snapshot.cursor(Keyspace::Segments, KeyRange::all(), Direction::Forward).map_err(from_store)?;
        while cursor.valid() {
            let (partition, _) = split_segments_key(cursor.key()).map_err(corrupt)?;
            tables.insert(partition.table);
            let (_, Some(next)) = table_range(partition.table).half_open() else { break };
            cursor.seek(&next).map_err(from_store)?;
        }
        Ok(Self(ArcSwap::from_pointee(tables)))
    }

    /// Notes that a table is about to get a segment. It must be noted before the commit that adds the segment, so that
    /// no snapshot has a segment that [`ColdTables::contains`] does not know of.
    pub(crate) fn insert(&self, table: TableId) {
        if self.contains(table) {
            return;
        }
        self.0.rcu(|tables| {
            let mut tables = HashSet::clone(tables);
            tables.insert(table);
            tables
        });
    }

    /// Whether a table may have segments.
    pub(crate) fn contains(&self, table: TableId) -> bool {
        self.0.load().contains(&table)
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_store::{
        codec::{mark_key, segment_key},
        ids::{Owner, Partition, SegmentId, UserId},
        kv::{Durability, MemoryBackend, StorageBackend},
    };

    use super::*;

    #[test]
    fn every_table_with_a_segment_is_found() {
        let store = MemoryBackend::new();
        for table in [1, 7, 255, u32::MAX] {
            for user in ["ana", "bo"] {
                let owner = Owner::User(UserId::new(user).unwrap());
                let partition = Partition { table: TableId::new(table), owner };
                for segment in [SegmentId::new(1), SegmentId::new(u64::MAX)] {
                    for key in [segment_key(&partition, segment), mark_key(&partition, segment, 3)] {
                        store.put(Keyspace::Segments, &key, b"", Durability::Async).unwrap();
                    }
                }
            }
        }
        let tables = ColdTables::load(store.snapshot().as_ref()).unwrap();
        assert!([1, 7, 255, u32::MAX].into_iter().all(|table| tables.contains(TableId::new(table))));
        assert!([0, 2, 6, 8, 256].into_iter().all(|table| !tables.contains(TableId::new(table))));
        tables.insert(TableId::new(2));
        assert!(tables.contains(TableId::new(2)));
    }
}
