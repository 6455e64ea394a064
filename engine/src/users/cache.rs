//! A bounded cache in front of the store that is never behind what was acknowledged.

use std::{hash::Hash, sync::Arc};

use moka::sync::Cache;
use parking_lot::RwLock;

use crate::error::Result;

/// Bytes that an entry takes beside its value.
const ENTRY_BYTES: usize = 128;

/// Values as loaded from the store, and that there is none. A value is loaded and entered under a shared lock, and what
/// has changed is forgotten under an exclusive one, after the change can be read: so no old value comes in after that.
pub(super) struct Loaded<K, V> {
    entries: Cache<K, Option<Arc<V>>>,
    filling: RwLock<()>,
}

impl<K, V> Loaded<K, V>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// A cache of about so many bytes.
    pub(super) fn new(max_bytes: u64, byte_size: fn(&V) -> usize) -> Self {
        let weigh = move |_: &K, value: &Option<Arc<V>>| {
            let bytes = ENTRY_BYTES + value.as_deref().map_or(0, byte_size);
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self { entries: Cache::builder().max_capacity(max_bytes).weigher(weigh).build(), filling: RwLock::new(()) }
    }

    /// The value of a key, loaded with `load` if it is not there.
    pub(super) fn get(&self, key: &K, load: impl FnOnce() -> Result<Option<V>>) -> Result<Option<Arc<V>>> {
        if let Some(found) = self.entries.get(key) {
            return Ok(found);
        }
        let _filling = self.filling.read();
        let loaded = load()?.map(Arc::new);
        self.entries.insert(key.clone(), loaded.clone());
        Ok(loaded)
    }

    /// Lets go of what changed. To be called when the change can be read and before it is acknowledged.
    pub(super) fn forget<'a>(&self, keys: impl IntoIterator<Item = &'a K>)
    where
        K: 'a,
    {
        let _alone = self.filling.write();
        for key in keys {
            self.entries.invalidate(key);
        }
    }
}
