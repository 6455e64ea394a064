//! What one statement sees: its caller, time, catalog and snapshot.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use kalamdb_store::{
    commit::{ChangeLog, Committer},
    ids::{CommitSeq, Owner},
    kv::{Snapshot, StorageBackend},
};

use crate::{
    access::{Caller, Viewer},
    catalog::{CatalogState, Table},
    exec::{
        cold::ColdTier,
        hot_image::HotImages,
        snapshots::{SnapshotGuard, SnapshotRegistry},
    },
    jobs::Jobs,
    live::LiveHub,
    settings::SettingInfo,
    sql::{TableKind, TableScope},
    storage::Storages,
    users::Users,
};

/// The one view of the database that a statement reads. DataFusion's providers find it in the session's extensions,
/// so that a cached plan holds nothing of a caller or a moment.
pub(crate) struct StatementContext {
    pub(crate) caller: Caller,
    /// The caller with its rules.
    pub(crate) viewer: Viewer,
    /// NOW() of the statement.
    pub(crate) now_us: i64,
    pub(crate) catalog: Arc<CatalogState>,
    pub(crate) settings: Arc<[SettingInfo]>,
    pub(crate) storages: Arc<Storages>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) live: Arc<LiveHub>,
    pub(crate) users: Arc<Users>,
    /// The last commit before the statement began.
    pub(crate) began_at: CommitSeq,
    store: SnapshotSource,
    /// Taken at the first read: most inserts and point reads need none.
    snapshot: OnceLock<RegisteredSnapshot>,
}

/// Where a statement's snapshot comes from, and the segments that it names.
#[derive(Clone)]
pub(crate) struct SnapshotSource {
    pub(crate) cold: Arc<ColdTier>,
    pub(crate) hot_images: Arc<HotImages>,
    pub(crate) backend: Arc<dyn StorageBackend>,
    pub(crate) committer: Committer,
    pub(crate) registry: SnapshotRegistry,
    pub(crate) change_log: ChangeLog,
}

/// What there is beside tables, as system tables show it.
pub(crate) struct Services {
    pub(crate) storages: Arc<Storages>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) live: Arc<LiveHub>,
    pub(crate) users: Arc<Users>,
}

/// A snapshot, and the registration that keeps the segment files it names.
struct RegisteredSnapshot {
    snapshot: Arc<dyn Snapshot>,
    _guard: SnapshotGuard,
}

impl SnapshotSource {
    fn take(&self) -> RegisteredSnapshot {
        // In this order, so that there is no moment in which a file it needs could be deleted.
        let guard = self.registry.register(self.committer.last_commit_seq());
        RegisteredSnapshot { snapshot: self.backend.snapshot(), _guard: guard }
    }
}

impl StatementContext {
    pub(crate) fn new(
        viewer: Viewer,
        now_us: i64,
        catalog: Arc<CatalogState>,
        settings: Arc<[SettingInfo]>,
        services: Services,
        store: SnapshotSource,
    ) -> Self {
        let caller = viewer.caller().clone();
        let Services { storages, jobs, live, users } = services;
        let began_at = store.committer.last_commit_seq();
        Self {
            caller,
            viewer,
            now_us,
            catalog,
            settings,
            storages,
            jobs,
            live,
            users,
            began_at,
            store,
            snapshot: OnceLock::new(),
        }
    }

    /// The same statement with a snapshot to be taken anew, for another attempt after a conflict.
    pub(crate) fn renewed(&self) -> Self {
        Self {
            caller: self.caller.clone(),
            viewer: self.viewer.clone(),
            now_us: self.now_us,
            catalog: Arc::clone(&self.catalog),
            settings: Arc::clone(&self.settings),
            storages: Arc::clone(&self.storages),
            jobs: Arc::clone(&self.jobs),
            live: Arc::clone(&self.live),
            users: Arc::clone(&self.users),
            // Still: what it does is as old as it is.
            began_at: self.began_at,
            store: self.store.clone(),
            snapshot: OnceLock::new(),
        }
    }

    /// The snapshot that everything in this statement reads.
    pub(crate) fn snapshot(&self) -> &Arc<dyn Snapshot> {
        &self.snapshot.get_or_init(|| self.store.take()).snapshot
    }

    /// The store itself, for a statement whose only read is of one key.
    pub(crate) fn backend(&self) -> &Arc<dyn StorageBackend> {
        &self.store.backend
    }

    /// The cold tier.
    pub(crate) fn cold(&self) -> &ColdTier {
        &self.store.cold
    }

    /// Images of busy partitions.
    pub(crate) fn hot_images(&self) -> &Arc<HotImages> {
        &self.store.hot_images
    }

    /// The change log.
    pub(crate) fn change_log(&self) -> &ChangeLog {
        &self.store.change_log
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
