//! DDL: each change is checked against the current state and committed as one atomic step.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use kalamdb_store::{
    codec::{CatalogKey, catalog_key, catalog_keys, table_range},
    commit::{Committer, Fence, PreparedCommit},
    ids::{ColumnId, NamespaceId, SchemaVersion, TableId},
    kv::{Direction, Keyspace, Snapshot, WriteBatch},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    catalog::{
        CatalogState, ColumnName, ConstantEvaluator, Default, Namespace, NamespaceName, Table, TableLabel,
        table::{ColumnRecord, SchemaRecord, TableRecord},
    },
    env::Env,
    error::{Error, Reason, Result},
    exec::{from_commit, from_store},
    sql::{Access, AlterTable, AlterTableAction, ColumnDefinition, CreateTable, Name, TableKind},
    types::SqlType,
};

/// The most columns a table can have, dropped ones included.
const MAX_COLUMNS: usize = 1_600;
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
        self.finish(change).await
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

    /// Creates a table in `namespace`. False: it existed and IF NOT EXISTS was said.
    pub(crate) async fn create_table(&self, namespace: &str, statement: &CreateTable) -> Result<bool> {
        let name = TableLabel::from_sql(&statement.table.table)?;
        let mut change = self.begin().await;
        let namespace = change.state.namespace(namespace)?.name.clone();
        if change.state.tables.get(&namespace).is_some_and(|tables| tables.contains_key(&name)) {
            if statement.if_not_exists {
                return Ok(false);
            }
            return Err(Error::new(Reason::TableExists, format!("Table {namespace}.{name} exists already."))
                .with("namespace", namespace.as_str())
                .with("table", name.as_str()));
        }
        let columns = self.new_columns(statement)?;
        let now_us = self.inner.env.now_us();
        let record = TableRecord {
            id: TableId::new(change.state.next_table_id),
            namespace,
            name,
            kind: statement.kind,
            created_at_us: now_us,
            access: (statement.kind == TableKind::Shared).then(|| statement.access.unwrap_or(Access::Private)),
            ttl_us: statement.ttl_us,
            next_column_id: columns.len() as u16,
            versions: vec![SchemaRecord {
                version: SchemaVersion::new(1),
                created_at_us: now_us,
                change: "CREATE TABLE".to_owned(),
                columns,
            }],
        };
        change.state.next_table_id += 1;
        change.put(CatalogKey::NextTableId, &change.state.next_table_id.clone())?;
        self.put(&mut change, record)?;
        self.finish(change).await?;
        Ok(true)
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
        let Some(description) = self.apply(&table, &mut record, &statement.action)? else { return Ok(false) };
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

    /// Drops a table and its rows. False: it did not exist and `if_exists` was set.
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

    async fn begin(&self) -> Change {
        let lock = Arc::clone(&self.inner.ddl).lock_owned().await;
        let state = self.inner.state.load().as_ref().clone();
        Change { state, batch: WriteBatch::new(), fences: Vec::new(), _lock: lock }
    }

    /// Commits and publishes. Runs to its end even if the caller goes away, so that the store and the state in memory
    /// cannot part.
    async fn finish(&self, change: Change) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let committing = tokio::spawn(async move {
            let prepared = PreparedCommit {
                commit_time_us: inner.env.now_us(),
                changes: Vec::new(),
                kv: change.batch,
                fences: change.fences,
            };
            inner.committer.commit(prepared).await.map_err(from_commit)?;
            inner.state.store(Arc::new(change.state));
            Ok(())
        });
        committing.await.map_err(Error::internal)?
    }

    fn put(&self, change: &mut Change, record: TableRecord) -> Result<()> {
        change.put(CatalogKey::Table(record.id), &record)?;
        let table = Table::new(record, &self.inner.constants)?;
        put_table(&mut change.state, Arc::new(table));
        Ok(())
    }

    fn new_columns(&self, statement: &CreateTable) -> Result<Vec<ColumnRecord>> {
        let table = &statement.table.table.text;
        if statement.columns.len() > MAX_COLUMNS {
            return Err(invalid(format!(
                "Table {table} has {} columns; the most is {MAX_COLUMNS}.",
                statement.columns.len()
            )));
        }
        let key = match statement.primary_key.as_slice() {
            [key] => key,
            [] => {
                return Err(invalid(format!(
                    "Table {table} needs a PRIMARY KEY. Add a line such as: id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(),"
                )));
            }
            [_, second, ..] => {
                return Err(at(invalid(format!("The PRIMARY KEY of table {table} must be a single column.")), second));
            }
        };
        if statement.kind == TableKind::Stream && statement.ttl_us.is_none() {
            return Err(invalid(format!("STREAM table {table} needs a TTL. Add a clause such as: TTL '1 hour'")));
        }
        let mut columns: Vec<ColumnRecord> = Vec::with_capacity(statement.columns.len());
        for (i, definition) in statement.columns.iter().enumerate() {
            let mut column = self.new_column(ColumnId::new(i as u16), definition)?;
            if columns.iter().any(|c| c.name == column.name) {
                let error = Error::new(Reason::ColumnExists, format!("Column \"{}\" is defined twice.", column.name));
                return Err(at(error.with("column", column.name.as_str()), &definition.name));
            }
            if definition.name.text == key.text {
                if !matches!(column.sql_type, SqlType::BigInt | SqlType::Text) {
                    return Err(at(
                        invalid(format!(
                            "The PRIMARY KEY \"{}\" has type {}; a key is BIGINT or TEXT.",
                            column.name, column.sql_type
                        )),
                        &definition.name,
                    ));
                }
                column.primary_key = true;
                column.nullable = false;
            }
            columns.push(column);
        }
        let Some(key_column) = columns.iter().find(|c| c.primary_key) else {
            return Err(at(
                Error::new(
                    Reason::ColumnNotFound,
                    format!("The PRIMARY KEY names column \"{}\", which table {table} does not define.", key.text),
                )
                .with("column", key.text.as_str()),
                key,
            ));
        };
        if statement.kind == TableKind::Stream {
            let default = key_column
                .default
                .as_ref()
                .map(|text| self.inner.constants.compile_text(text, key_column.name.as_str(), &key_column.sql_type))
                .transpose()?;
            if !default.is_some_and(|d| d.is_generated_key()) {
                return Err(invalid(format!(
                    "STREAM table {table} needs a generated key. Write: {} {} PRIMARY KEY DEFAULT {}()",
                    key_column.name,
                    key_column.sql_type,
                    if key_column.sql_type == SqlType::BigInt { "SNOWFLAKE_ID" } else { "ULID" }
                )));
            }
        }
        Ok(columns)
    }

    fn new_column(&self, id: ColumnId, definition: &ColumnDefinition) -> Result<ColumnRecord> {
        let name = ColumnName::from_sql(&definition.name)?;
        let default = match (&definition.default, definition.auto_increment) {
            (Some(_), true) => {
                return Err(at(
                    invalid(format!("Column \"{name}\" has both AUTO_INCREMENT and DEFAULT; choose one.")),
                    &definition.name,
                ));
            }
            (Some(expr), false) => {
                self.inner
                    .constants
                    .compile(expr, name.as_str(), &definition.sql_type)
                    .map_err(|e| at(e, &definition.name))?;
                Some(expr.to_string())
            }
            (None, true) => Some(
                match definition.sql_type {
                    SqlType::BigInt => "SNOWFLAKE_ID()",
                    SqlType::Text => "UUID_V7()",
                    _ => {
                        return Err(at(
                            invalid(format!(
                                "AUTO_INCREMENT fits BIGINT and TEXT columns; \"{name}\" has type {}.",
                                definition.sql_type
                            )),
                            &definition.name,
                        ));
                    }
                }
                .to_owned(),
            ),
            (None, false) => None,
        };
        Ok(ColumnRecord {
            id,
            name,
            sql_type: definition.sql_type.clone(),
            nullable: !definition.not_null,
            default,
            fill: None,
            primary_key: false,
        })
    }

    /// Applies an action to the record, adding its schema version; `None`: nothing is to be done.
    fn apply(&self, table: &Table, record: &mut TableRecord, action: &AlterTableAction) -> Result<Option<String>> {
        let Some(current) = record.versions.last() else {
            return Err(Error::internal("a table without a schema version"));
        };
        let mut columns = current.columns.clone();
        let next = SchemaVersion::new(current.version.get() + 1);
        let description = match action {
            AlterTableAction::AddColumn { column, if_not_exists } => {
                let name = &column.name.text;
                if table.has_column(name) {
                    if *if_not_exists {
                        return Ok(None);
                    }
                    return Err(column_exists(table, &column.name));
                }
                if usize::from(record.next_column_id) >= MAX_COLUMNS {
                    return Err(invalid(format!(
                        "Table {} has had {MAX_COLUMNS} columns, the most there can be.",
                        table.full_name()
                    )));
                }
                let mut added = self.new_column(ColumnId::new(record.next_column_id), column)?;
                added.fill = self.fill_of(&added, column).map_err(|e| at(e, &column.name))?;
                record.next_column_id += 1;
                columns.push(added);
                format!("ADD COLUMN {name}")
            }
            AlterTableAction::DropColumn { column, if_exists } => {
                let index = match table.column_index(&column.text) {
                    Ok(index) => index,
                    Err(_) if *if_exists => return Ok(None),
                    Err(e) => return Err(at(e, column)),
                };
                if index == table.key_index() {
                    return Err(at(
                        invalid(format!("Column \"{}\" is the PRIMARY KEY and cannot be dropped.", column.text)),
                        column,
                    ));
                }
                columns.remove(index);
                format!("DROP COLUMN {}", column.text)
            }
            AlterTableAction::RenameColumn { from, to } => {
                let index = table.column_index(&from.text).map_err(|e| at(e, from))?;
                let name = ColumnName::from_sql(to)?;
                if table.has_column(name.as_str()) {
                    return Err(column_exists(table, to));
                }
                columns[index].name = name;
                format!("RENAME COLUMN {} TO {}", from.text, to.text)
            }
            AlterTableAction::SetAccess(access) => {
                if table.kind() != TableKind::Shared {
                    return Err(invalid(format!(
                        "ACCESS is of SHARED tables; {} is a {} table.",
                        table.full_name(),
                        table.kind().as_str()
                    )));
                }
                record.access = Some(*access);
                format!("SET ACCESS {}", access.as_str())
            }
            AlterTableAction::SetTtl(ttl_us) => {
                if table.kind() != TableKind::Stream {
                    return Err(invalid(format!(
                        "TTL is of STREAM tables; {} is a {} table.",
                        table.full_name(),
                        table.kind().as_str()
                    )));
                }
                record.ttl_us = Some(*ttl_us);
                format!("SET TTL {ttl_us} microseconds")
            }
        };
        record.versions.push(SchemaRecord {
            version: next,
            created_at_us: self.inner.env.now_us(),
            change: String::new(),
            columns,
        });
        Ok(Some(description))
    }

    /// The constant that rows older than a new column have in it, as PostgreSQL does: its default, evaluated once.
    fn fill_of(&self, column: &ColumnRecord, definition: &ColumnDefinition) -> Result<Option<String>> {
        let Some(text) = &column.default else {
            if definition.not_null {
                return Err(invalid(format!(
                    "Column \"{}\" is NOT NULL: rows that exist already need a value. Add a DEFAULT.",
                    column.name
                )));
            }
            return Ok(None);
        };
        match self.inner.constants.compile_text(text, column.name.as_str(), &column.sql_type)? {
            Default::Constant(value) if value.is_null() && definition.not_null => {
                Err(invalid(format!("Column \"{}\" is NOT NULL and its DEFAULT is NULL.", column.name)))
            }
            Default::Constant(_) => Ok(Some(text.clone())),
            Default::Now => Ok(Some(format!("to_timestamp_micros({})", self.inner.env.now_us()))),
            Default::CurrentUser | Default::SnowflakeId | Default::UuidV7 | Default::Ulid => Err(invalid(format!(
                "Rows that exist already would need a value each from DEFAULT {text}. Add column \"{}\" without it, and set \
                 the values with UPDATE.",
                column.name
            ))),
        }
    }
}

/// A change of the catalog under way.
struct Change {
    state: CatalogState,
    batch: WriteBatch,
    fences: Vec<(TableId, Fence)>,
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

fn column_exists(table: &Table, name: &Name) -> Error {
    let error = Error::new(
        Reason::ColumnExists,
        format!("Table {} has a column \"{}\" already.", table.full_name(), name.text),
    )
    .with("column", name.text.as_str());
    at(error, name)
}

fn invalid(message: String) -> Error {
    Error::new(Reason::InvalidTableDefinition, message)
}

fn at(error: Error, name: &Name) -> Error {
    match name.position {
        Some(position) => error.at(position),
        None => error,
    }
}
