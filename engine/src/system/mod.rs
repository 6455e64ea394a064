//! System tables: `system.*` and `information_schema.*`, over one provider.

pub(crate) mod backups;
mod definition;
mod jobs;
mod live_queries;
mod provider;
pub(crate) mod rows;
mod segments;
pub(crate) mod users;

use std::sync::Arc;

pub(crate) use definition::{AUDIT_COLUMNS, INFORMATION_SCHEMA, SYSTEM, TABLES, TableDefinition, schema_of};
pub(crate) use provider::SystemRows;
pub use segments::SegmentInfo;
pub(crate) use segments::segments_of;

/// Whether a namespace is of the system.
pub(crate) fn is_system_namespace(name: &str) -> bool {
    name == SYSTEM || name == INFORMATION_SCHEMA
}

/// Names of the tables of a namespace of the system.
pub(crate) fn table_names(namespace: &str) -> impl Iterator<Item = &'static str> {
    TABLES.iter().filter(move |t| t.namespace == namespace).map(|t| t.name)
}

/// The system table with this name.
pub(crate) fn provider(namespace: &str, name: &str) -> Option<Arc<SystemRows>> {
    let definition = TABLES.iter().find(|t| t.namespace == namespace && t.name == name)?;
    Some(Arc::new(SystemRows::new(definition)))
}
