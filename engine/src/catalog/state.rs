//! One state of the catalog, and names resolved in it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    catalog::{Namespace, NamespaceName, Table, TableLabel, did_you_mean, nearest},
    error::{Error, Reason, Result},
    system,
};

/// Everything the catalog knows at one moment.
#[derive(Debug, Clone)]
pub(crate) struct CatalogState {
    pub(crate) namespaces: BTreeMap<NamespaceName, Arc<Namespace>>,
    pub(crate) tables: BTreeMap<NamespaceName, BTreeMap<TableLabel, Arc<Table>>>,
    pub(crate) next_namespace_id: u32,
    pub(crate) next_table_id: u32,
}

impl CatalogState {
    pub(crate) fn empty() -> Self {
        Self { namespaces: BTreeMap::new(), tables: BTreeMap::new(), next_namespace_id: 1, next_table_id: 1 }
    }

    /// Tables of every namespace, ordered by namespace and name.
    pub(crate) fn all_tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values().flat_map(BTreeMap::values)
    }

    /// Tables of one namespace, ordered by name.
    pub(crate) fn tables_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// The namespace with this name.
    ///
    /// # Errors
    /// NAMESPACE_NOT_FOUND, with the nearest name.
    pub(crate) fn namespace(&self, name: &str) -> Result<&Arc<Namespace>> {
        self.namespaces.get(name).ok_or_else(|| {
            let near = nearest(name, self.namespaces.keys().map(NamespaceName::as_str));
            let message = format!(
                "Namespace '{name}' does not exist. Create it first with CREATE NAMESPACE.{}",
                did_you_mean(near)
            );
            let error = Error::new(Reason::NamespaceNotFound, message).with("namespace", name);
            match near {
                Some(near) => error.with("nearest", near),
                None => error,
            }
        })
    }

    /// The table with this name.
    ///
    /// # Errors
    /// NAMESPACE_NOT_FOUND or TABLE_NOT_FOUND, with the nearest name among those that `visible` lets through.
    pub(crate) fn table(&self, namespace: &str, name: &str, visible: impl Fn(&Table) -> bool) -> Result<&Arc<Table>> {
        if let Some(table) = self.tables.get(namespace).and_then(|tables| tables.get(name)) {
            return Ok(table);
        }
        if !system::is_system_namespace(namespace) {
            self.namespace(namespace)?;
        }
        let candidates: Vec<&str> = if system::is_system_namespace(namespace) {
            system::table_names(namespace).collect()
        } else {
            self.tables_of(namespace).filter(|t| visible(t)).map(|t| t.name().as_str()).collect()
        };
        let near = nearest(name, candidates);
        let error = Error::new(
            Reason::TableNotFound,
            format!("Table {namespace}.{name} does not exist.{}", did_you_mean(near)),
        )
        .with("namespace", namespace)
        .with("table", name);
        Err(match near {
            Some(near) => error.with("nearest", near),
            None => error,
        })
    }

    /// Whether `table` is still what its name means.
    pub(crate) fn is_current(&self, table: &Table) -> bool {
        self.tables
            .get(table.namespace())
            .and_then(|tables| tables.get(table.name()))
            .is_some_and(|now| std::ptr::eq(Arc::as_ptr(now), table))
    }
}
