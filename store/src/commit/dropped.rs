//! The segments of a table that is dropped.

use super::CommitError;
use crate::codec::{GarbageFile, SegmentEntry, SegmentsKey, garbage_key, row_prefix, split_segments_key, table_range};
use crate::ids::{CommitSeq, TableId};
use crate::kv::{Direction, KeyRange, Keyspace, KvError, StorageBackend, WriteBatch};

/// Makes garbage of the files of a table's segments, and removes their entries and marks. No segment comes to the table
/// afterwards, since the commit that drops it fences it.
pub(super) fn drop_segments(
    backend: &dyn StorageBackend,
    table: TableId,
    seq: CommitSeq,
    batch: &mut WriteBatch,
) -> Result<(), CommitError> {
    let corrupt = |error: crate::codec::CodecError| CommitError::Storage(KvError::Corruption(error.to_string()));
    let snapshot = backend.snapshot();
    let range = table_range(table);
    let (from, to) = range.clone().half_open();
    let mut cursor = snapshot.cursor(Keyspace::Segments, range, Direction::Forward).map_err(CommitError::Storage)?;
    let mut found = false;
    while let Some((key, value)) = cursor.item() {
        found = true;
        let (partition, what) = split_segments_key(key).map_err(corrupt)?;
        match what {
            SegmentsKey::Entry(segment) => {
                let entry = SegmentEntry::decode(value).map_err(corrupt)?;
                let garbage = GarbageFile { removed_at: seq, storage: entry.storage, path: entry.path };
                batch.put(Keyspace::System, garbage_key(segment), garbage.encode());
                cursor.advance().map_err(CommitError::Storage)?;
            }
            // A partition's marks are its last keys, and there can be many.
            SegmentsKey::Mark(..) | SegmentsKey::MarkList(..) => {
                match KeyRange::prefix(&row_prefix(&partition)).half_open() {
                    (_, Some(next)) => cursor.seek(&next).map_err(CommitError::Storage)?,
                    (_, None) => break,
                }
            }
        }
    }
    if found {
        // No table has the greatest id, so there is a key behind all of a table's.
        batch.delete_range(Keyspace::Segments, from, to.unwrap_or_else(|| vec![u8::MAX; size_of::<TableId>() + 1]));
    }
    Ok(())
}
