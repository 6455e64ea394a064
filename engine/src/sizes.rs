//! How large the data is, for those who watch the server.

use std::{collections::BTreeMap, ops::Bound};

use kalamdb_store::{
    codec::{SegmentEntry, SegmentsKey, row_prefix, split_segments_key},
    ids::StorageId,
    kv::{Direction, KeyRange, Keyspace, Snapshot},
};

use crate::{
    engine::Engine,
    error::Result,
    exec::{corrupt, from_store},
};

/// The size of a keyspace of the store, approximately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyspaceSize {
    /// Its name: `rows` (the hot tier), `log`, `segments` (the manifest), `catalog` or `system`.
    pub name: &'static str,
    /// Bytes of its files on disk.
    pub disk_bytes: u64,
    /// Bytes in memory that are not in such a file yet.
    pub memory_bytes: u64,
    /// Number of its entries.
    pub entries: u64,
}

/// What a storage holds, files that are about to be deleted aside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageSize {
    /// Its name.
    pub name: String,
    /// Number of segments.
    pub segments: u64,
    /// Rows in their files, those deleted or superseded since among them.
    pub rows: u64,
    /// Size of their files.
    pub bytes: u64,
}

impl Engine {
    /// The sizes of the keyspaces. Cheap: the store keeps count.
    ///
    /// # Errors
    /// Those of the store.
    pub fn keyspace_sizes(&self) -> Result<Vec<KeyspaceSize>> {
        let backend = &self.shared().backend;
        Keyspace::ALL
            .into_iter()
            .map(|keyspace| {
                let size = backend.size(keyspace).map_err(from_store)?;
                Ok(KeyspaceSize {
                    name: keyspace.name(),
                    disk_bytes: size.disk_bytes,
                    memory_bytes: size.memory_bytes,
                    entries: size.estimated_keys,
                })
            })
            .collect()
    }

    /// What each storage holds, by name. Blocks while the manifest is read: about a second for a million segments.
    ///
    /// # Errors
    /// Those of the store.
    pub fn storage_sizes(&self) -> Result<Vec<StorageSize>> {
        let shared = self.shared();
        // An altered storage has several ids and one name.
        let known = shared.storages.list(&shared.catalog.state()).into_iter();
        let mut sizes: BTreeMap<String, StorageSize> =
            known.map(|info| (info.name.clone(), StorageSize { name: info.name, ..StorageSize::default() })).collect();
        for (id, found) in sum(shared.backend.snapshot().as_ref())? {
            let name = shared.storages.name_of(id);
            let empty = |name: &String| StorageSize { name: name.clone(), ..StorageSize::default() };
            let size = sizes.entry(name).or_insert_with_key(empty);
            size.segments += found.segments;
            size.rows += found.rows;
            size.bytes += found.bytes;
        }
        Ok(sizes.into_values().collect())
    }
}

fn sum(snapshot: &dyn Snapshot) -> Result<BTreeMap<StorageId, StorageSize>> {
    let mut sizes: BTreeMap<StorageId, StorageSize> = BTreeMap::new();
    let mut cursor = snapshot.cursor(Keyspace::Segments, KeyRange::all(), Direction::Forward).map_err(from_store)?;
    while let Some((key, value)) = cursor.item() {
        let (partition, what) = split_segments_key(key).map_err(corrupt)?;
        match what {
            SegmentsKey::Entry(_) => {
                let entry = SegmentEntry::decode(value).map_err(corrupt)?;
                let size = sizes.entry(entry.storage).or_default();
                size.segments += 1;
                size.rows += entry.rows;
                size.bytes += entry.file_bytes;
                cursor.advance().map_err(from_store)?;
            }
            // Nothing but marks follows in this partition, and there may be millions of them.
            SegmentsKey::Mark(..) | SegmentsKey::MarkList(..) => match KeyRange::prefix(&row_prefix(&partition)).end {
                Bound::Excluded(next) => cursor.seek(&next).map_err(from_store)?,
                Bound::Included(_) | Bound::Unbounded => break,
            },
        }
    }
    Ok(sizes)
}
