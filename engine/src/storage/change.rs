//! CREATE, ALTER and DROP STORAGE: each is checked against the place itself and against the other storages, and committed
//! as one atomic step.

use std::{collections::HashSet, slice, sync::Arc, time::Duration};

use kalamdb_store::{
    codec::{next_storage_id_key, storage_key},
    commit::PreparedCommit,
    ids::StorageId,
    kv::{Keyspace, WriteBatch},
    object::{ReplaceableStore, StoreDefinition, check_access},
};

use super::{LOCAL, LOCAL_NAME, MAX_STORAGES, State, Storage, StorageRecord, Storages, at, from_object, store_kind};
use crate::{
    catalog::{Held, StorageName},
    error::{Error, Reason, Result},
    exec::from_commit,
    jobs::StorageStep,
    sql::{AlterStorage, CreateStorage, DropStorage, Name, StorageKind},
};

/// How many tables an error names.
const MAX_NAMED_TABLES: usize = 20;

/// A definition whose place was written to and read from.
struct Checked {
    definition: StoreDefinition,
    credentials: Option<String>,
    store: Arc<ReplaceableStore>,
}

impl Storages {
    /// Creates a storage, once it was seen to be usable. False: it existed and IF NOT EXISTS was said.
    ///
    /// # Errors
    /// STORAGE_EXISTS, INVALID_STORAGE, STORAGE_UNREACHABLE, STORAGE_DENIED, STORAGE_KEY_MISSING, INVALID_NAME.
    pub(crate) async fn create(self: &Arc<Self>, statement: &CreateStorage) -> Result<bool> {
        self.create_all(slice::from_ref(statement)).await.map(|created| created > 0)
    }

    /// Creates all of several storages or none. Answers how many did not exist.
    ///
    /// # Errors
    /// As [`Storages::create`].
    pub(crate) async fn create_all(self: &Arc<Self>, statements: &[CreateStorage]) -> Result<usize> {
        let mut wanted = Vec::with_capacity(statements.len());
        let mut names = HashSet::new();
        for statement in statements {
            let name = StorageName::from_sql(&statement.name)?;
            if self.state.load().find(name.as_str()).is_some() || !names.insert(name.clone()) {
                if statement.if_not_exists {
                    continue;
                }
                return Err(at(exists(&name), &statement.name));
            }
            wanted.push((name, statement));
        }
        let mut checked = Vec::with_capacity(wanted.len());
        for (name, statement) in wanted {
            let credentials = statement.credentials.as_deref();
            let place = self.check(name.as_str(), statement.kind, &statement.uri, credentials).await?;
            checked.push((name, statement, place));
        }
        let mut change = self.begin().await;
        let mut created = 0;
        for (name, statement, place) in checked {
            // Another statement can have been faster.
            if change.state.find(name.as_str()).is_some() {
                if statement.if_not_exists {
                    continue;
                }
                return Err(at(exists(&name), &statement.name));
            }
            let created_at_us = self.env.now_us();
            self.define(&mut change, name, statement.kind, created_at_us, place)?;
            created += 1;
        }
        self.finish(change).await?;
        Ok(created)
    }

    /// Gives a storage another uri or other credentials, once they were seen to be usable. Another place is for tables
    /// created from then on; other keys for the same place are for all.
    ///
    /// # Errors
    /// STORAGE_NOT_FOUND, and as [`Storages::create`].
    pub(crate) async fn alter(self: &Arc<Self>, statement: &AlterStorage) -> Result<()> {
        self.alter_all(slice::from_ref(statement)).await
    }

    /// Alters all of several storages or none.
    ///
    /// # Errors
    /// As [`Storages::alter`].
    pub(crate) async fn alter_all(self: &Arc<Self>, statements: &[AlterStorage]) -> Result<()> {
        let mut checked = Vec::with_capacity(statements.len());
        for statement in statements {
            let before = self.existing(&statement.name)?;
            let record = &before.record;
            let name = record.name.as_str();
            let uri = statement.uri.as_deref().unwrap_or(&record.uri);
            let credentials = match &statement.credentials {
                Some(given) => Some(given.clone()),
                None => before.credentials().map_err(|e| from_object(e, name))?.map(str::to_owned),
            };
            let place = self.check(name, record.kind, uri, credentials.as_deref()).await?;
            checked.push((before, statement, place));
        }
        let mut change = self.begin().await;
        for (before, statement, place) in checked {
            let record = &before.record;
            let now = change.state.current(record.name.as_str()).map_err(|e| at(e, &statement.name))?;
            if !Arc::ptr_eq(now, &before) {
                return Err(Error::new(
                    Reason::WriteConflict,
                    format!("Storage '{}' was altered meanwhile. Run the statement again.", record.name),
                ));
            }
            self.put_keys(&mut change, &record.name, &place)?;
            if !before.is_at(&place.definition) {
                let (name, kind, created_at_us) = (record.name.clone(), record.kind, record.created_at_us);
                change.put(before.retired())?;
                self.define(&mut change, name, kind, created_at_us, place)?;
            }
        }
        self.finish(change).await
    }

    /// Drops a storage that no table has. False: it did not exist and IF EXISTS was said.
    ///
    /// # Errors
    /// STORAGE_NOT_FOUND, STORAGE_IN_USE with the tables' names, INVALID_STORAGE for `local`.
    pub(crate) async fn drop(self: &Arc<Self>, statement: &DropStorage) -> Result<bool> {
        self.drop_all(slice::from_ref(statement)).await.map(|dropped| dropped > 0)
    }

    /// Drops all of several storages or none. Answers how many existed.
    ///
    /// # Errors
    /// As [`Storages::drop`].
    pub(crate) async fn drop_all(self: &Arc<Self>, statements: &[DropStorage]) -> Result<usize> {
        let mut change = self.begin().await;
        let mut dropped = 0;
        for statement in statements {
            let storage = match change.state.current(&statement.name.text) {
                Ok(storage) => Arc::clone(storage),
                Err(_) if statement.if_exists => continue,
                Err(e) => return Err(at(e, &statement.name)),
            };
            if storage.record.id == LOCAL {
                return Err(at(built_in("dropped"), &statement.name));
            }
            let name = &storage.record.name;
            let tables = change.state.tables_of(name, &change.held.state);
            if !tables.is_empty() {
                return Err(at(in_use(name, &tables), &statement.name));
            }
            // Files in it can still be waiting to be deleted: it is forgotten when none is.
            change.put(storage.retired())?;
            dropped += 1;
        }
        self.finish(change).await?;
        Ok(dropped)
    }

    /// The storage that a statement alters.
    fn existing(&self, name: &Name) -> Result<Arc<Storage>> {
        let state = self.state.load();
        let storage = state.current(&name.text).map_err(|e| at(e, name))?;
        if storage.record.id == LOCAL { Err(at(built_in("altered"), name)) } else { Ok(Arc::clone(storage)) }
    }

    /// Checks a definition, and that its place can be used. Takes no lock: the network may be slow.
    async fn check(
        self: &Arc<Self>,
        name: &str,
        kind: StorageKind,
        uri: &str,
        credentials: Option<&str>,
    ) -> Result<Checked> {
        let definition =
            StoreDefinition::parse(store_kind(kind), uri, credentials).map_err(|e| from_object(e, name))?;
        let credentials = credentials.filter(|_| definition.has_credentials()).map(str::to_owned);
        if credentials.is_some() && self.secret_key.is_none() {
            return Err(Error::new(
                Reason::StorageKeyMissing,
                "Credentials are stored encrypted, for which the server has no key. Set storage.secret_key to what \
                 `head -c 32 /dev/urandom | base64` prints, keep it safe, and restart the server.",
            )
            .with("setting", "storage.secret_key"));
        }
        let storages = Arc::clone(self);
        let wanted = definition.clone();
        // Folders are made and synced: not on a thread that serves calls.
        let store = tokio::task::spawn_blocking(move || storages.opener.create(&wanted)).await;
        let store = store.map_err(Error::internal)?.map_err(|e| from_object(e, name))?;
        let limit = self.opener.settings().request_timeout.max(Duration::from_secs(1));
        check_access(store.as_ref(), definition.kind(), self.env.random_u64(), limit)
            .await
            .map_err(|e| from_object(e, name))?;
        Ok(Checked { definition, credentials, store: Arc::new(ReplaceableStore::new(store)) })
    }

    async fn begin(&self) -> Change {
        let held = self.catalog.hold().await;
        Change { state: self.state.load().as_ref().clone(), batch: WriteBatch::new(), held, replaced: Vec::new() }
    }

    /// Adds a current definition of a name.
    fn define(
        &self,
        change: &mut Change,
        name: StorageName,
        kind: StorageKind,
        created_at_us: i64,
        checked: Checked,
    ) -> Result<()> {
        if change.state.by_id.len() >= MAX_STORAGES {
            return Err(Error::new(
                Reason::InvalidStorage,
                format!("There are {MAX_STORAGES} storages, the most there can be. Drop some."),
            ));
        }
        let id = StorageId::new(change.state.next_id);
        change.state.next_id += 1;
        change.batch.put(Keyspace::System, next_storage_id_key(), change.state.next_id.to_be_bytes());
        let Checked { definition, credentials, store } = checked;
        let uri = definition.uri();
        let mut record = StorageRecord { id, name, kind, uri, credentials: None, created_at_us, retired: false };
        record.seal(credentials.as_deref(), self.secret_key.as_ref(), self.nonce())?;
        change.put(Storage::opened(record, definition, credentials, store))
    }

    /// Gives the keys of a definition to all definitions of the name at the same place.
    fn put_keys(&self, change: &mut Change, name: &StorageName, checked: &Checked) -> Result<()> {
        let Checked { definition, credentials, store } = checked;
        let there = |storage: &&Arc<Storage>| storage.record.name == *name && storage.is_at(definition);
        let there: Vec<Arc<Storage>> = change.state.by_id.values().filter(there).cloned().collect();
        for storage in there {
            let mut record = storage.record.clone();
            record.seal(credentials.as_deref(), self.secret_key.as_ref(), self.nonce())?;
            let in_use = storage.open_store();
            let kept = in_use.clone().unwrap_or_else(|| Arc::clone(store));
            if let Some(in_use) = in_use {
                change.replaced.push((in_use, Arc::clone(store)));
            }
            change.put(Storage::opened(record, definition.clone(), credentials.clone(), kept))?;
        }
        Ok(())
    }

    /// Commits and publishes. Runs to its end even if the caller goes away, so that the store and the state in memory
    /// cannot part.
    async fn finish(self: &Arc<Self>, mut change: Change) -> Result<()> {
        if change.batch.is_empty() {
            return Ok(());
        }
        for id in change.state.unneeded.drain(..) {
            change.batch.delete(Keyspace::System, storage_key(id));
        }
        let storages = Arc::clone(self);
        let committing = tokio::spawn(async move {
            let Change { state, batch, held, replaced } = change;
            let now_us = storages.env.now_us();
            let prepared = PreparedCommit { commit_time_us: now_us, kv: batch, ..PreparedCommit::default() };
            storages.hooks.storages_change(StorageStep::BeforeCommit);
            storages.committer.commit(prepared).await.map_err(from_commit)?;
            storages.hooks.storages_change(StorageStep::AfterCommit);
            storages.state.store(Arc::new(state));
            for (in_use, store) in replaced {
                in_use.replace(store);
            }
            drop(held);
            Ok(())
        });
        committing.await.map_err(Error::internal)?
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        let random = [self.env.random_u64().to_be_bytes(), self.env.random_u64().to_be_bytes()].concat();
        nonce.copy_from_slice(&random[..12]);
        nonce
    }
}

/// A change of storages under way. Neither they nor the catalog change meanwhile.
struct Change {
    state: State,
    batch: WriteBatch,
    held: Held,
    /// Stores in use, and what takes their place once the change is durable.
    replaced: Vec<(Arc<ReplaceableStore>, Arc<ReplaceableStore>)>,
}

impl Change {
    fn put(&mut self, storage: Storage) -> Result<()> {
        let value = serde_json::to_vec(&storage.record).map_err(Error::internal)?;
        self.batch.put(Keyspace::System, storage_key(storage.record.id), value);
        self.state.put(storage);
        Ok(())
    }
}

fn exists(name: &StorageName) -> Error {
    Error::new(Reason::StorageExists, format!("Storage '{name}' exists already.")).with("storage", name.as_str())
}

fn built_in(what: &str) -> Error {
    Error::new(
        Reason::InvalidStorage,
        format!("Storage '{LOCAL_NAME}' is built in: it is in the data directory, and cannot be {what}."),
    )
    .with("storage", LOCAL_NAME)
}

fn in_use(name: &StorageName, tables: &[String]) -> Error {
    let shown = tables.iter().take(MAX_NAMED_TABLES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = tables.len().saturating_sub(MAX_NAMED_TABLES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Error::new(
        Reason::StorageInUse,
        format!("Storage '{name}' is used by {} table(s): {shown}{more}. Drop them first.", tables.len()),
    )
    .with("storage", name.as_str())
    .with("tables", shown)
}
