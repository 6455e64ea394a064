//! A namespace as stored.

use std::collections::BTreeMap;

use kalamdb_store::ids::NamespaceId;
use serde::{Deserialize, Serialize};

use crate::catalog::NamespaceName;

/// A namespace; this is also its record in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Namespace {
    pub(crate) id: NamespaceId,
    pub(crate) name: NamespaceName,
    pub(crate) created_at_us: i64,
    pub(crate) options: BTreeMap<String, String>,
}
