//! A definition: its record in the store, and the open store that is made of it.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kalamdb_store::{
    ids::StorageId,
    object::{ObjectError, ReplaceableStore, SecretKey, StoreDefinition, StoreOpener},
};
use object_store::ObjectStore;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{LOCAL, LOCAL_NAME, store_kind};
use crate::{
    catalog::StorageName,
    error::{Error, Result},
    sql::StorageKind,
};

/// A definition as stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StorageRecord {
    pub(super) id: StorageId,
    pub(super) name: StorageName,
    pub(super) kind: StorageKind,
    pub(super) uri: String,
    /// Sealed, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) credentials: Option<String>,
    /// When the name was created; ALTER keeps it.
    pub(super) created_at_us: i64,
    /// The name has another definition, or none.
    #[serde(default)]
    pub(super) retired: bool,
}

/// A definition in use.
pub(super) struct Storage {
    pub(super) record: StorageRecord,
    /// Shared with the same definition once it is retired, so that there is one open store of it.
    made_of: Arc<MadeOf>,
}

enum MadeOf {
    /// What is always there.
    Local(Arc<dyn ObjectStore>),
    Definition {
        definition: StoreDefinition,
        /// The text of the credentials, to keep them when only the uri is changed.
        credentials: Option<String>,
        /// Opened when it is first needed: what is not reachable at start may be later.
        open: Mutex<Option<Arc<ReplaceableStore>>>,
    },
    /// The record is there, but cannot be used.
    Unusable(ObjectError),
}

impl Storage {
    /// The built-in storage.
    pub(super) fn local(uri: String, store: Arc<dyn ObjectStore>) -> Self {
        let name = StorageName::new(LOCAL_NAME).expect("a name within the rules");
        let kind = StorageKind::Filesystem;
        let record = StorageRecord { id: LOCAL, name, kind, uri, credentials: None, created_at_us: 0, retired: false };
        Self { record, made_of: Arc::new(MadeOf::Local(store)) }
    }

    /// A definition as it is loaded.
    pub(super) fn from_record(record: StorageRecord, key: Option<&SecretKey>) -> Self {
        let definition = unsealed(&record, key).and_then(|credentials| {
            let definition = StoreDefinition::parse(store_kind(record.kind), &record.uri, credentials.as_deref())?;
            Ok((definition, credentials))
        });
        let made_of = match definition {
            Ok((definition, credentials)) => MadeOf::Definition { definition, credentials, open: Mutex::new(None) },
            Err(error) => MadeOf::Unusable(error),
        };
        Self { record, made_of: Arc::new(made_of) }
    }

    /// A definition whose store is open.
    pub(super) fn opened(
        record: StorageRecord,
        definition: StoreDefinition,
        credentials: Option<String>,
        store: Arc<ReplaceableStore>,
    ) -> Self {
        let made_of = MadeOf::Definition { definition, credentials, open: Mutex::new(Some(store)) };
        Self { record, made_of: Arc::new(made_of) }
    }

    /// The same definition without its name.
    pub(super) fn retired(&self) -> Self {
        Self { record: StorageRecord { retired: true, ..self.record.clone() }, made_of: Arc::clone(&self.made_of) }
    }

    /// Its store, rooted at its uri.
    pub(super) fn open(&self, opener: &StoreOpener) -> Result<Arc<dyn ObjectStore>, ObjectError> {
        match self.made_of.as_ref() {
            MadeOf::Local(store) => Ok(Arc::clone(store)),
            MadeOf::Definition { definition, open, .. } => {
                let mut open = open.lock();
                if let Some(store) = open.as_ref() {
                    return Ok(Arc::clone(store) as Arc<dyn ObjectStore>);
                }
                let store = Arc::new(ReplaceableStore::new(opener.open(definition)?));
                Ok(Arc::clone(open.insert(store)) as Arc<dyn ObjectStore>)
            }
            MadeOf::Unusable(error) => Err(error.clone()),
        }
    }

    /// Its store, if it is open.
    pub(super) fn open_store(&self) -> Option<Arc<ReplaceableStore>> {
        match self.made_of.as_ref() {
            MadeOf::Definition { open, .. } => open.lock().clone(),
            MadeOf::Local(_) | MadeOf::Unusable(_) => None,
        }
    }

    /// Whether a definition is of the place where this one is.
    pub(super) fn is_at(&self, place: &StoreDefinition) -> bool {
        match self.made_of.as_ref() {
            MadeOf::Definition { definition, .. } => definition.same_place(place),
            // Unusable for its keys: the uri is what is known. An endpoint is not, so only the uri's own place counts.
            MadeOf::Unusable(_) => self.record.credentials.is_some() && self.record.uri == place.uri(),
            MadeOf::Local(_) => false,
        }
    }

    /// The text of its credentials.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn credentials(&self) -> Result<Option<&str>, ObjectError> {
        match self.made_of.as_ref() {
            MadeOf::Local(_) => Ok(None),
            MadeOf::Definition { credentials, .. } => Ok(credentials.as_deref()),
            MadeOf::Unusable(error) => Err(error.clone()),
        }
    }
}

impl StorageRecord {
    /// Puts credentials in, sealed for this record alone.
    ///
    /// # Errors
    /// A defect: callers have checked that there is a key.
    pub(super) fn seal(&mut self, credentials: Option<&str>, key: Option<&SecretKey>, nonce: [u8; 12]) -> Result<()> {
        self.credentials = match credentials {
            None => None,
            Some(secret) => {
                let key = key.ok_or_else(|| Error::internal("credentials without a key to seal them"))?;
                let sealed = key.seal(nonce, &context(self.id), secret.as_bytes()).map_err(Error::internal)?;
                Some(STANDARD.encode(sealed))
            }
        };
        Ok(())
    }
}

fn unsealed(record: &StorageRecord, key: Option<&SecretKey>) -> Result<Option<String>, ObjectError> {
    let Some(sealed) = &record.credentials else { return Ok(None) };
    let Some(key) = key else {
        return Err(ObjectError::Denied(format!(
            "The credentials of storage '{}' are encrypted, and storage.secret_key is not set. Set it to the key that they \
             were stored with.",
            record.name
        )));
    };
    let opened = STANDARD.decode(sealed).ok().and_then(|sealed| key.open(&context(record.id), &sealed).ok());
    opened.and_then(|bytes| String::from_utf8(bytes).ok()).map(Some).ok_or_else(|| {
        ObjectError::Denied(format!(
            "The credentials of storage '{0}' were stored with another storage.secret_key. Set that one, or give them again \
             with ALTER STORAGE {0} SET CREDENTIALS '…'.",
            record.name
        ))
    })
}

/// What credentials are sealed along with.
fn context(id: StorageId) -> Vec<u8> {
    format!("storage {id}").into_bytes()
}

/// Shown without the credentials.
impl fmt::Debug for StorageRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageRecord")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("uri", &self.uri)
            .field("retired", &self.retired)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}

#[cfg(test)]
mod tests;
