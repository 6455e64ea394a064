//! Namespaces, tables and their schema versions.
//!
//! The catalog is one immutable [`CatalogState`] that readers take with one atomic load. DDL makes the next state
//! under a lock, commits its records through the committer, which orders them among the commits of rows, and only
//! then publishes it; so a statement sees a change of the catalog entirely or not at all.

mod alter;
mod columns;
mod ddl;
mod default;
mod info;
mod names;
mod namespace;
mod state;
mod table;

pub use info::{ColumnInfo, NamespaceInfo, SchemaVersionInfo, TableInfo};
pub use names::{ColumnName, NamespaceName, StorageName, TableLabel};
pub(crate) use names::{DELETED_COLUMN, OWNER_COLUMN, SEQ_COLUMN, UPDATED_COLUMN, did_you_mean, nearest};

pub(crate) use ddl::{Catalog, Held, TablePlace};
pub(crate) use default::{ConstantEvaluator, Default};
pub(crate) use namespace::Namespace;
pub(crate) use state::CatalogState;
pub(crate) use table::{Column, Table, TableRecord};
