//! Keys of the catalog's records.
//!
//! ```text
//! kind:u8 | id:u32 big-endian        kinds: 0 counters (id 0 namespaces, 1 tables), 1 namespaces, 2 tables
//! ```

use crate::{
    codec::CodecError,
    ids::{NamespaceId, TableId},
    kv::KeyRange,
};

const COUNTERS: u8 = 0;
const NAMESPACES: u8 = 1;
const TABLES: u8 = 2;

/// What a record of the catalog is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogKey {
    /// The id that the next namespace gets.
    NextNamespaceId,
    /// The id that the next table gets. Ids are never used again.
    NextTableId,
    /// A namespace.
    Namespace(NamespaceId),
    /// A table with all its schema versions.
    Table(TableId),
}

impl CatalogKey {
    /// Reads a key of [`catalog_key`].
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(key: &[u8]) -> Result<Self, CodecError> {
        let damaged = || CodecError::Corrupt("a key of the catalog");
        let (kind, id) = key.split_first().ok_or_else(damaged)?;
        let id = u32::from_be_bytes(id.try_into().map_err(|_| damaged())?);
        match (*kind, id) {
            (COUNTERS, 0) => Ok(CatalogKey::NextNamespaceId),
            (COUNTERS, 1) => Ok(CatalogKey::NextTableId),
            (NAMESPACES, id) => Ok(CatalogKey::Namespace(NamespaceId::new(id))),
            (TABLES, id) => Ok(CatalogKey::Table(TableId::new(id))),
            _ => Err(damaged()),
        }
    }
}

/// The key of a record in [`Keyspace::Catalog`](crate::kv::Keyspace::Catalog).
pub fn catalog_key(key: CatalogKey) -> Vec<u8> {
    let (kind, id) = match key {
        CatalogKey::NextNamespaceId => (COUNTERS, 0),
        CatalogKey::NextTableId => (COUNTERS, 1),
        CatalogKey::Namespace(id) => (NAMESPACES, id.get()),
        CatalogKey::Table(id) => (TABLES, id.get()),
    };
    let mut bytes = vec![kind];
    bytes.extend(id.to_be_bytes());
    bytes
}

/// Every record of the catalog.
pub fn catalog_keys() -> KeyRange {
    KeyRange::all()
}
