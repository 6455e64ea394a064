//! DDL: each change is checked against the current state and committed as one atomic step.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use kalamdb_store::{
    codec::{CatalogKey, catalog_key, catalog_keys, table_range},
    commit::{BulkRows, Committer, Fence, PreparedCommit},
    ids::{CommitSeq, NamespaceId, SchemaVersion, StorageId, TableId},
    kv::{Direction, Keyspace, Snapshot, WriteBatch},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    catalog::{
        CatalogState, ConstantEvaluator, Namespace, NamespaceName, Table, TableLabel,
        alter::apply,
        columns::{at, invalid, new_columns},
        table::{SchemaRecord, TableRecord},
    },
    env::Env,
    error::{Error, Reason, Result},
    exec::{from_commit, from_store},
    sql::{Access, AlterTable, CreateTable, Name, TableKind},
};

/// The most schema versions a table can have.
const MAX_SCHEMA_VERSIONS: usize = 10_000;
/// The most options of a namespace, and the longest key or value in bytes.
const MAX_OPTIONS: usize = 100;
const MAX_OPTION_BYTES: usize = 4_096;

/// The catalog of an engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: ArcSwap<CatalogState>,
    /// Held from reading the state a change is based on until the changed state is published.
    ddl: Arc<Mutex<()>>,
    committer: Committer,
    constants: ConstantEvaluator,
    env: Arc<dyn Env>,
}

impl Catalog {
    /// Loads the catalog from the store.
    pub(crate) fn load(
        snapshot: &dyn Snapshot,
        committer: Committer,
        constants: ConstantEvaluator,
        env: Arc<dyn Env>,
    ) -> Result<Self> {
        let mut state = CatalogState::empty();
        let mut cursor = snapshot.cursor(Keyspace::Catalog, catalog_keys(), Direction::Forward).map_err(from_store)?;
        while cursor.valid() {
            match CatalogKey::decode(cursor.key()).map_err(Error::internal)? {
                CatalogKey::NextNamespaceId => state.next_namespace_id = decode(cursor.value())?,
                CatalogKey::NextTableId => state.next_table_id = decode(cursor.value())?,
                CatalogKey::Namespace(_) => {
                    let namespace: Namespace = decode(cursor.value())?;
                    state.namespaces.insert(namespace.name.clone(), Arc::new(namespace));
                }
                CatalogKey::Table(_) => {
                    let table = Table::new(decode(cursor.value())?, &constants)?;
                    put_table(&mut state, Arc::new(table));
                }
            }
            cursor.advance().map_err(from_store)?;
        }
        drop(cursor);
        let inner = Inner { state: ArcSwap::from_pointee(state), ddl: Arc::default(), committer, constants, env };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The current state.
    pub(crate) fn state(&self) -> Arc<CatalogState> {
        self.inner.state.load_full()
    }

    /// Whether `state` is still the current one.
    pub(crate) fn is_state(&self, state: &Arc<CatalogState>) -> bool {
        Arc::ptr_eq(&self.inner.state.load(), state)
    }

    /// Lets nobody change the catalog for as long as the answer lives, for what must agree with it.
    pub(crate) async fn hold(&self) -> Held {
        let lock = Arc::clone(&self.inner.ddl).lock_owned().await;
        Held { state: self.state(), _lock: lock }
    }

    /// Creates a namespace. False: it existed and `if_not_exists` was set.
    pub(crate) async fn create_namespace(
        &self,
        name: &Name,
        if_not_exists: bool,
        options: &[(String, String)],
    ) -> Result<bool> {
        let name = NamespaceName::from_sql(name)?;
        let options = checked_options(BTreeMap::new(), options)?;
        let mut change = self.begin().await;
        if change.state.namespaces.contains_key(&name) {
            if if_not_exists {
                return Ok(false);
            }
            return Err(Error::new(Reason::NamespaceExists, format!("Namespace '{name}' exists already."))
                .with("namespace", name.as_str()));
        }
        let id = NamespaceId::new(change.state.next_namespace_id);
        change.state.next_namespace_id += 1;
        let namespace = Namespace { id, name: name.clone(), created_at_us: self.inner.env.now_us(), options };
        change.put(CatalogKey::NextNamespaceId, &change.state.next_namespace_id.clone())?;
        change.put(CatalogKey::Namespace(id), &namespace)?;
        change.state.namespaces.insert(name, Arc::new(namespace));
        self.finish(change).await?;
        Ok(true)
    }

    /// Sets options of a namespace.
    pub(crate) async fn alter_namespace(&self, name: &Name, options: &[(String, String)]) -> Result<()> {
        let mut change = self.begin().await;
        let mut namespace = change.state.namespace(&name.text).map_err(|e| at(e, name))?.as_ref().clone();
        namespace.options = checked_options(namespace.options, options)?;
        change.put(CatalogKey::Namespace(namespace.id), &namespace)?;
        change.state.namespaces.insert(namespace.name.clone(), Arc::new(namespace));
        self.finish(change).await.map(|_| ())
    }

    /// Drops an empty namespace. False: it did not exist and `if_exists` was set.
    pub(crate) async fn drop_namespace(&self, name: &Name, if_exists: bool) -> Result<bool> {
        let mut change = self.begin().await;
        let namespace = match change.state.namespace(&name.text) {
            Ok(namespace) => Arc::clone(namespace),
            Err(_) if if_exists => return Ok(false),
            Err(e) => return Err(at(e, name)),
        };
        let tables: Vec<&str> = change.state.tables_of(&name.text).map(|t| t.name().as_str()).collect();
        if !tables.is_empty() {
            let shown = tables.iter().take(20).copied().collect::<Vec<_>>().join(", ");
            let more = if tables.len() > 20 { format!(" and {} more", tables.len() - 20) } else { String::new() };
            return Err(Error::new(
                Reason::NamespaceNotEmpty,
                format!("Namespace '{}' holds {} table(s): {shown}{more}. Drop them first.", name.text, tables.len()),
            )
            .with("namespace", name.text.as_str())
            .with("tables", shown));
        }
        change.batch.delete(Keyspace::Catalog, catalog_key(CatalogKey::Namespace(namespace.id)));
        change.state.namespaces.remove(&namespace.name);
        change.state.tables.remove(&namespace.name);
        self.finish(change).await?;
        Ok(true)
    }

    /// Creates a table in `namespace`. False: it existed and IF NOT EXISTS was said. `place` is asked where its segments
    /// go while nothing else changes the catalog.
    pub(crate) async fn create_table(
        &self,
        namespace: &str,
        statement: &CreateTable,
        place: impl FnOnce() -> Result<TablePlace>,
    ) -> Result<bool> {
        let mut change = self.begin().await;
        let name = statement.table.table.text.as_str();
        let exists = change.state.tables.get(namespace).is_some_and(|tables| tables.contains_key(name));
        if exists && statement.if_not_exists {
            return Ok(false);
        }
        self.add_table(&mut change, namespace, statement, place)?;
        self.finish(change).await?;
        Ok(true)
    }

    /// Creates a table in `namespace` and puts rows into it, in one step. `rows` were encoded for the table that
    /// [`Catalog::planned_table`] answers. Answers the id of the table, and the commit.
    pub(crate) async fn create_table_with_rows(
        &self,
        namespace: &str,
        statement: &CreateTable,
        place: impl FnOnce() -> Result<TablePlace>,
        rows: Option<BulkRows>,
        began_at: CommitSeq,
    ) -> Result<(TableId, CommitSeq)> {
        let mut change = self.begin().await;
        let id = self.add_table(&mut change, namespace, statement, place)?;
        if let Some(rows) = &rows {
            rows.set_table(id);
        }
        (change.rows, change.began_at) = (rows, Some(began_at));
        Ok((id, self.finish(change).await?))
    }

    /// The table that [`Catalog::create_table`] would make as things are, with an id that is none's.
    pub(crate) fn planned_table(&self, namespace: &str, statement: &CreateTable) -> Result<Table> {
        let state = self.state();
        let namespace = state.namespace(namespace)?.name.clone();
        let name = TableLabel::from_sql(&statement.table.table)?;
        let place = TablePlace { storage: StorageId::new(0), location: None };
        let record = self.new_record(TableId::new(u32::MAX), namespace, name, statement, place)?;
        Table::new(record, &self.inner.constants)
    }

    /// Adds a new table to a change. Answers its id.
    fn add_table(
        &self,
        change: &mut Change,
        namespace: &str,
        statement: &CreateTable,
        place: impl FnOnce() -> Result<TablePlace>,
    ) -> Result<TableId> {
        let name = TableLabel::from_sql(&statement.table.table)?;
        let namespace = change.state.namespace(namespace)?.name.clone();
        if change.state.tables.get(&namespace).is_some_and(|tables| tables.contains_key(&name)) {
            return Err(Error::new(Reason::TableExists, format!("Table {namespace}.{name} exists already."))
                .with("namespace", namespace.as_str())
                .with("table", name.as_str()));
        }
        let id = TableId::new(change.state.next_table_id);
        // The columns are checked before the place is looked for.
        new_columns(statement, &self.inner.constants)?;
        let record = self.new_record(id, namespace, name, statement, place()?)?;
        change.state.next_table_id += 1;
        change.put(CatalogKey::NextTableId, &change.state.next_table_id.clone())?;
        self.put(change, record)?;
        Ok(id)
    }

    fn new_record(
        &self,
        id: TableId,
        namespace: NamespaceName,
        name: TableLabel,
        statement: &CreateTable,
        place: TablePlace,
    ) -> Result<TableRecord> {
        let columns = new_columns(statement, &self.inner.constants)?;
        let now_us = self.inner.env.now_us();
        Ok(TableRecord {
            id,
            namespace,
            name,
            kind: statement.kind,
            created_at_us: now_us,
            access: (statement.kind == TableKind::Shared).then(|| statement.access.unwrap_or(Access::Private)),
            ttl_us: statement.ttl_us,
            storage: place.storage,
            location: place.location,
            flush_policy: statement.flush_policy,
            next_column_id: columns.len() as u16,
            versions: vec![SchemaRecord {
                version: SchemaVersion::new(1),
                created_at_us: now_us,
                change: "CREATE TABLE".to_owned(),
                columns,
            }],
        })
    }

    /// Changes a table, making a new schema version. False: nothing was to be done.
    pub(crate) async fn alter_table(&self, namespace: &str, statement: &AlterTable) -> Result<bool> {
        let mut change = self.begin().await;
        let table = match change.state.table(namespace, &statement.table.table.text, |_| true) {
            Ok(table) => Arc::clone(table),
            Err(e) if statement.if_exists && e.reason() == Reason::TableNotFound => return Ok(false),
            Err(e) => return Err(at(e, &statement.table.table)),
        };
        let mut record = table.record().clone();
        let (constants, now_us) = (&self.inner.constants, self.inner.env.now_us());
        let description = apply(&table, &mut record, &statement.action, constants, now_us)?;
        let Some(description) = description else { return Ok(false) };
        if record.versions.len() >= MAX_SCHEMA_VERSIONS {
            return Err(invalid(format!(
                "Table {} has {MAX_SCHEMA_VERSIONS} schema versions, the most there can be.",
                table.full_name()
            )));
        }
        if let Some(last) = record.versions.last_mut() {
            last.change = description;
        }
        self.put(&mut change, record)?;
        self.finish(change).await?;
        Ok(true)
    }

    /// Drops a table and its rows, hot and cold: the committer makes garbage of its segments' files in the same step.
    /// False: it did not exist and `if_exists` was set.
    pub(crate) async fn drop_table(&self, namespace: &str, name: &Name, if_exists: bool) -> Result<bool> {
        let mut change = self.begin().await;
        let table = match change.state.table(namespace, &name.text, |_| true) {
            Ok(table) => Arc::clone(table),
            Err(e) if if_exists && e.reason() == Reason::TableNotFound => return Ok(false),
            Err(e) => return Err(at(e, name)),
        };
        change.batch.delete(Keyspace::Catalog, catalog_key(CatalogKey::Table(table.id())));
        let (from, to) = table_rows(table.id());
        change.batch.delete_range(Keyspace::Rows, from.clone(), to.clone());
        change.batch.delete_range(Keyspace::Log, from, to);
        change.fences.push((table.id(), Fence::Dropped));
        if let Some(tables) = change.state.tables.get_mut(table.namespace()) {
            tables.remove(table.name());
        }
        self.finish(change).await?;
        Ok(true)
    }

    /// The table of a record that is not in the catalog, for what fills it before anybody sees it.
    ///
    /// # Errors
    /// When the record is none of a table.
    pub(crate) fn prepare_table(&self, record: TableRecord) -> Result<Table> {
        Table::new(record, &self.inner.constants)
    }

    /// Takes ids for tables that come later, or never: no others get them. `note` adds to the commit that takes them.
    pub(crate) async fn reserve_tables(
        &self,
        count: usize,
        note: impl FnOnce(&[TableId], &mut WriteBatch) -> Result<()>,
    ) -> Result<()> {
        let mut change = self.begin().await;
        let first = change.state.next_table_id;
        change.state.next_table_id = u32::try_from(count)
            .ok()
            .and_then(|count| first.checked_add(count))
            .ok_or_else(|| Error::internal(format!("no ids are left for {count} tables")))?;
        let ids: Vec<TableId> = (first..change.state.next_table_id).map(TableId::new).collect();
        change.put(CatalogKey::NextTableId, &change.state.next_table_id.clone())?;
        note(&ids, &mut change.batch)?;
        self.finish(change).await.map(|_| ())
    }

    /// Creates a namespace with tables whose ids were [reserved](Catalog::reserve_tables) and whose rows are there. All of
    /// it is visible from one commit on, which is after commit `after`. `batch` is added to it. False: the namespace
    /// exists. `check` is asked whether what the tables need is still there, while nothing else changes the catalog.
    pub(crate) async fn restore_namespace(
        &self,
        name: &NamespaceName,
        options: BTreeMap<String, String>,
        tables: Vec<TableRecord>,
        batch: WriteBatch,
        after: CommitSeq,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let mut change = self.begin().await;
        if change.state.namespaces.contains_key(name) {
            return Ok(false);
        }
        check()?;
        let id = NamespaceId::new(change.state.next_namespace_id);
        change.state.next_namespace_id += 1;
        let namespace = Namespace { id, name: name.clone(), created_at_us: self.inner.env.now_us(), options };
        change.put(CatalogKey::NextNamespaceId, &change.state.next_namespace_id.clone())?;
        change.put(CatalogKey::Namespace(id), &namespace)?;
        change.state.namespaces.insert(name.clone(), Arc::new(namespace));
        for record in tables {
            self.put(&mut change, record)?;
        }
        change.batch.append(&batch);
        change.after = Some(after);
        self.finish(change).await?;
        Ok(true)
    }

    async fn begin(&self) -> Change {
        let lock = Arc::clone(&self.inner.ddl).lock_owned().await;
        let state = self.inner.state.load().as_ref().clone();
        let (batch, fences) = (WriteBatch::new(), Vec::new());
        Change { state, batch, fences, after: None, rows: None, began_at: None, _lock: lock }
    }

    /// Commits and publishes. Runs to its end even if the caller goes away, so that the store and the state in memory
    /// cannot part.
    async fn finish(&self, change: Change) -> Result<CommitSeq> {
        let inner = Arc::clone(&self.inner);
        let committing = tokio::spawn(async move {
            let prepared = PreparedCommit {
                commit_time_us: inner.env.now_us(),
                changes: Vec::new(),
                kv: change.batch,
                fences: change.fences,
                after: change.after,
                bulk: change.rows,
                began_at: change.began_at,
                ..PreparedCommit::default()
            };
            let committed = inner.committer.commit(prepared).await.map_err(from_commit)?;
            inner.state.store(Arc::new(change.state));
            Ok(committed.commit_seq)
        });
        committing.await.map_err(Error::internal)?
    }

    fn put(&self, change: &mut Change, record: TableRecord) -> Result<()> {
        change.put(CatalogKey::Table(record.id), &record)?;
        let table = Table::new(record, &self.inner.constants)?;
        put_table(&mut change.state, Arc::new(table));
        Ok(())
    }
}

/// Where the segments of a new table go.
#[derive(Debug)]
pub(crate) struct TablePlace {
    pub(crate) storage: StorageId,
    /// A template relative to the storage's root; `None`: the default one.
    pub(crate) location: Option<String>,
}

/// The catalog as it is until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) state: Arc<CatalogState>,
    _lock: OwnedMutexGuard<()>,
}

/// A change of the catalog under way.
struct Change {
    state: CatalogState,
    batch: WriteBatch,
    fences: Vec<(TableId, Fence)>,
    /// The commit that the change's own comes after, wherever the last one is.
    after: Option<CommitSeq>,
    /// Rows of a table that the change makes.
    rows: Option<BulkRows>,
    /// The last commit before somebody began to make those rows.
    began_at: Option<CommitSeq>,
    _lock: OwnedMutexGuard<()>,
}

impl Change {
    fn put(&mut self, key: CatalogKey, value: &impl Serialize) -> Result<()> {
        let value = serde_json::to_vec(value).map_err(Error::internal)?;
        self.batch.put(Keyspace::Catalog, catalog_key(key), value);
        Ok(())
    }
}

/// First key of a table's rows and of its log, and the first key behind them.
fn table_rows(table: TableId) -> (Vec<u8>, Vec<u8>) {
    let (from, to) = table_range(table).half_open();
    (from, to.unwrap_or_else(|| vec![u8::MAX; size_of::<TableId>() + 1]))
}

fn put_table(state: &mut CatalogState, table: Arc<Table>) {
    state.tables.entry(table.namespace().clone()).or_default().insert(table.name().clone(), table);
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::new(Reason::Corruption, "A record of the catalog cannot be read.").with_detail(e))
}

fn checked_options(
    mut options: BTreeMap<String, String>,
    set: &[(String, String)],
) -> Result<BTreeMap<String, String>> {
    for (key, value) in set {
        if key.is_empty() || key.len() > MAX_OPTION_BYTES || value.len() > MAX_OPTION_BYTES {
            return Err(Error::new(
                Reason::InvalidRequest,
                format!("The key and the value of a namespace option have 1 to {MAX_OPTION_BYTES} bytes."),
            ));
        }
        options.insert(key.clone(), value.clone());
    }
    if options.len() > MAX_OPTIONS {
        return Err(Error::new(Reason::InvalidRequest, format!("A namespace has at most {MAX_OPTIONS} options.")));
    }
    Ok(options)
}
