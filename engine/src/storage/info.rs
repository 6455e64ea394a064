//! Storages as shown to callers.

use crate::{catalog::CatalogState, sql::StorageKind, storage::Storages};

/// A storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageInfo {
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub kind: StorageKind,
    /// Where it is.
    pub uri: String,
    /// Whether it has credentials, which are never shown.
    pub has_credentials: bool,
    /// When it was created, in microseconds since 1970-01-01T00:00:00Z; 0 for `local`.
    pub created_at_us: i64,
    /// The tables whose segments are in it, as `namespace.table`, by name. Those created before it was altered are among
    /// them, though theirs are where it was.
    pub tables: Vec<String>,
}

impl Storages {
    /// Every storage, by name.
    pub(crate) fn list(&self, catalog: &CatalogState) -> Vec<StorageInfo> {
        let state = self.state.load();
        let mut infos: Vec<StorageInfo> = state
            .all_current()
            .map(|storage| {
                let record = &storage.record;
                StorageInfo {
                    name: record.name.to_string(),
                    kind: record.kind,
                    uri: record.uri.clone(),
                    has_credentials: record.credentials.is_some(),
                    created_at_us: record.created_at_us,
                    tables: state.tables_of(&record.name, catalog),
                }
            })
            .collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    }
}
