//! What a job reads: a table and a snapshot that fit together.

use std::sync::Arc;

use kalamdb_store::{
    commit::committed_seq,
    ids::{CommitSeq, TableId},
    kv::Snapshot,
};

use crate::{
    catalog::Table,
    engine::Shared,
    error::Result,
    exec::{SnapshotGuard, from_store},
};

/// A table as of a snapshot. While it lives, no file of a segment in the snapshot is deleted.
pub(super) struct View {
    pub(super) table: Arc<Table>,
    pub(super) snapshot: Arc<dyn Snapshot>,
    /// The last commit in the snapshot.
    pub(super) seq: CommitSeq,
    _guard: SnapshotGuard,
}

impl View {
    /// The table as it is now; `None`: it was dropped.
    pub(super) fn now(shared: &Arc<Shared>, table: TableId) -> Result<Option<Self>> {
        loop {
            let state = shared.catalog.state();
            let Some(found) = state.all_tables().find(|t| t.id() == table) else { return Ok(None) };
            let guard = shared.snapshots.register(shared.committer.last_commit_seq());
            let snapshot = shared.backend.snapshot();
            // A row of a new schema version is written only after the state that has it was published: if the state is
            // still the same, the snapshot has none.
            if shared.catalog.is_state(&state) {
                let seq = committed_seq(snapshot.as_ref()).map_err(from_store)?;
                return Ok(Some(Self { table: Arc::clone(found), snapshot, seq, _guard: guard }));
            }
        }
    }
}
