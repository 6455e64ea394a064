//! What one statement sees: its caller, time, catalog and snapshot.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use kalamdb_store::{
    ids::Owner,
    kv::{Snapshot, StorageBackend},
};

use crate::{
    access::Caller,
    catalog::{CatalogState, Table},
    settings::SettingInfo,
    sql::{TableKind, TableScope},
};

/// The one view of the database that a statement reads. DataFusion's providers find it in the session's extensions,
/// so that a cached plan holds nothing of a caller or a moment.
pub(crate) struct StatementContext {
    pub(crate) caller: Caller,
    /// NOW() of the statement.
    pub(crate) now_us: i64,
    pub(crate) catalog: Arc<CatalogState>,
    pub(crate) settings: Arc<[SettingInfo]>,
    backend: Arc<dyn StorageBackend>,
    /// Taken at the first read: most inserts and point reads need none.
    snapshot: OnceLock<Arc<dyn Snapshot>>,
}

impl StatementContext {
    pub(crate) fn new(
        caller: Caller,
        now_us: i64,
        catalog: Arc<CatalogState>,
        settings: Arc<[SettingInfo]>,
        backend: Arc<dyn StorageBackend>,
    ) -> Self {
        Self { caller, now_us, catalog, settings, backend, snapshot: OnceLock::new() }
    }

    /// The same statement with a snapshot to be taken anew, for another attempt after a conflict.
    pub(crate) fn renewed(&self) -> Self {
        Self {
            caller: self.caller.clone(),
            now_us: self.now_us,
            catalog: Arc::clone(&self.catalog),
            settings: Arc::clone(&self.settings),
            backend: Arc::clone(&self.backend),
            snapshot: OnceLock::new(),
        }
    }

    /// The snapshot that everything in this statement reads.
    pub(crate) fn snapshot(&self) -> &Arc<dyn Snapshot> {
        self.snapshot.get_or_init(|| self.backend.snapshot())
    }

    /// The store itself, for a statement whose only read is of one key.
    pub(crate) fn backend(&self) -> &Arc<dyn StorageBackend> {
        &self.backend
    }

    /// The one owner whose rows of `table` a name with this scope means; `None`: every owner's.
    pub(crate) fn owner(&self, table: &Table, scope: TableScope) -> Option<Owner> {
        match (table.kind(), scope) {
            (TableKind::Shared, _) => Some(Owner::Shared),
            (_, TableScope::AllUsers) => None,
            (_, TableScope::Caller | TableScope::ActingUser) => Some(Owner::User(self.caller.effective_user().clone())),
        }
    }

    /// Rows of `table` last written at or before this time are expired.
    pub(crate) fn expired_at_us(&self, table: &Table) -> Option<i64> {
        table.ttl_us().map(|ttl_us| self.now_us.saturating_sub(ttl_us))
    }
}

impl fmt::Debug for StatementContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementContext")
            .field("caller", &self.caller)
            .field("now_us", &self.now_us)
            .finish_non_exhaustive()
    }
}
