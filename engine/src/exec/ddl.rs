//! Statements that change the catalog.

use kalamdb_store::ids::TableId;

use crate::{
    access::{self, Caller, StatementKind},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::output::Body,
    sql::{
        AlterStorage, AlterTable, CreateStorage, CreateTable, DropStorage, DropTable, Name, Statement, StorageKind,
        TableName, TableScope,
    },
    system,
};

/// Runs a DDL statement.
pub(crate) async fn run(
    shared: &Shared,
    caller: &Caller,
    namespace: Option<&str>,
    statement: &Statement,
) -> Result<Body> {
    let outcome = match statement {
        Statement::CreateNamespace(create) => {
            create_namespace(shared, caller, &create.name, create.if_not_exists, &create.options).await.map(|created| {
                let name = &create.name.text;
                if created { format!("Namespace {name} created") } else { format!("Namespace {name} exists already") }
            })
        }
        Statement::AlterNamespace(alter) => alter_namespace(shared, caller, &alter.name, &alter.options)
            .await
            .map(|()| format!("Namespace {} altered", alter.name.text)),
        Statement::DropNamespace(drop) => {
            drop_namespace(shared, caller, &drop.name, drop.if_exists).await.map(|dropped| {
                let name = &drop.name.text;
                if dropped { format!("Namespace {name} dropped") } else { format!("Namespace {name} does not exist") }
            })
        }
        Statement::CreateTable(create) => create_table(shared, caller, namespace, create).await,
        Statement::AlterTable(alter) => alter_table(shared, caller, namespace, alter).await,
        Statement::DropTable(drop) => drop_statement(shared, caller, namespace, drop).await,
        Statement::CreateStorage(create) => create_stated(shared, caller, create).await.map(|created| {
            let name = &create.name.text;
            if created { format!("Storage {name} created") } else { format!("Storage {name} exists already") }
        }),
        Statement::AlterStorage(alter) => {
            alter_stated(shared, caller, alter).await.map(|()| format!("Storage {} altered", alter.name.text))
        }
        Statement::DropStorage(drop) => drop_stated(shared, caller, drop).await.map(|dropped| {
            let name = &drop.name.text;
            if dropped { format!("Storage {name} dropped") } else { format!("Storage {name} does not exist") }
        }),
        other => Err(Error::internal(format!("not DDL: {other:?}"))),
    };
    outcome.map(|message| Body::Affected { row_count: 0, message })
}

/// Creates a namespace. False: it existed and `if_not_exists` was set.
pub(crate) async fn create_namespace(
    shared: &Shared,
    caller: &Caller,
    name: &Name,
    if_not_exists: bool,
    options: &[(String, String)],
) -> Result<bool> {
    access::may_run(caller, StatementKind::CreateNamespace)?;
    shared.catalog.create_namespace(name, if_not_exists, options).await
}

/// Sets options of a namespace.
pub(crate) async fn alter_namespace(
    shared: &Shared,
    caller: &Caller,
    name: &Name,
    options: &[(String, String)],
) -> Result<()> {
    access::may_run(caller, StatementKind::AlterNamespace)?;
    shared.catalog.alter_namespace(name, options).await
}

/// Drops an empty namespace. False: it did not exist and `if_exists` was set.
pub(crate) async fn drop_namespace(shared: &Shared, caller: &Caller, name: &Name, if_exists: bool) -> Result<bool> {
    access::may_run(caller, StatementKind::DropNamespace)?;
    shared.catalog.drop_namespace(name, if_exists).await
}

/// Drops a table. False: it did not exist and `if_exists` was set.
pub(crate) async fn drop_table(
    shared: &Shared,
    caller: &Caller,
    namespace: &str,
    name: &Name,
    if_exists: bool,
) -> Result<bool> {
    access::may_run(caller, StatementKind::DropTable)?;
    not_of_the_system(namespace)?;
    let table = shared.catalog.state().table(namespace, &name.text, |_| true).map(|table| table.id());
    if let Ok(table) = table {
        refuse_live_queries(shared, table, namespace, name)?;
    }
    let dropped = shared.catalog.drop_table(namespace, name, if_exists).await?;
    if dropped {
        // Of live queries that began meanwhile.
        table.into_iter().for_each(|table| shared.live.table_changed(table));
        shared.jobs.sweep_soon();
    }
    Ok(dropped)
}

/// # Errors
/// TABLE_HAS_LIVE_QUERIES.
fn refuse_live_queries(shared: &Shared, table: TableId, namespace: &str, name: &Name) -> Result<()> {
    let count = shared.live.count_of_table(table);
    if count == 0 {
        return Ok(());
    }
    let queries = if count == 1 { "live query is" } else { "live queries are" };
    let message = format!(
        "Table {namespace}.{} cannot be dropped: {count} {queries} active on it. End them with KILL LIVE QUERY; \
         system.live_queries lists them.",
        name.text
    );
    Err(Error::new(Reason::TableHasLiveQueries, message)
        .with("table", format!("{namespace}.{}", name.text))
        .with("live_queries", count.to_string()))
}

/// Creates a storage, once it was seen to be usable. False: it existed and `if_not_exists` was set.
pub(crate) async fn create_storage(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    kind: StorageKind,
    uri: &str,
    credentials: Option<String>,
    if_not_exists: bool,
) -> Result<bool> {
    let create = CreateStorage { name: plain(name), kind, uri: uri.to_owned(), credentials, if_not_exists };
    create_stated(shared, caller, &create).await
}

/// Changes where a storage is for tables to come, or its credentials, once that was seen to be usable; what is `None`
/// stays.
pub(crate) async fn alter_storage(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    uri: Option<String>,
    credentials: Option<String>,
) -> Result<()> {
    alter_stated(shared, caller, &AlterStorage { name: plain(name), uri, credentials }).await
}

/// Drops a storage that no table uses. False: it did not exist and `if_exists` was set.
pub(crate) async fn drop_storage(shared: &Shared, caller: &Caller, name: &str, if_exists: bool) -> Result<bool> {
    drop_stated(shared, caller, &DropStorage { name: plain(name), if_exists }).await
}

async fn create_stated(shared: &Shared, caller: &Caller, create: &CreateStorage) -> Result<bool> {
    access::may_run(caller, StatementKind::CreateStorage)?;
    shared.storages.create(create).await
}

async fn alter_stated(shared: &Shared, caller: &Caller, alter: &AlterStorage) -> Result<()> {
    access::may_run(caller, StatementKind::AlterStorage)?;
    shared.storages.alter(alter).await
}

async fn drop_stated(shared: &Shared, caller: &Caller, drop: &DropStorage) -> Result<bool> {
    access::may_run(caller, StatementKind::DropStorage)?;
    shared.storages.drop(drop).await
}

fn plain(name: &str) -> Name {
    Name { text: name.to_owned(), position: None }
}

async fn create_table(
    shared: &Shared,
    caller: &Caller,
    namespace: Option<&str>,
    create: &CreateTable,
) -> Result<String> {
    access::may_run(caller, StatementKind::CreateTable)?;
    let namespace = namespace_of(&create.table, namespace)?;
    let place = || shared.storages.place(create.place.as_ref(), create.kind);
    let created = shared.catalog.create_table(namespace, create, place).await?;
    let name = format!("{namespace}.{}", create.table.table.text);
    Ok(if created { format!("Table {name} created") } else { format!("Table {name} exists already") })
}

async fn alter_table(shared: &Shared, caller: &Caller, namespace: Option<&str>, alter: &AlterTable) -> Result<String> {
    access::may_run(caller, StatementKind::AlterTable)?;
    let namespace = namespace_of(&alter.table, namespace)?;
    let changed = shared.catalog.alter_table(namespace, alter).await?;
    if let Ok(table) = shared.catalog.state().table(namespace, &alter.table.table.text, |_| true) {
        shared.live.table_changed(table.id());
    }
    let name = format!("{namespace}.{}", alter.table.table.text);
    Ok(if changed { format!("Table {name} altered") } else { format!("Table {name} is unchanged") })
}

async fn drop_statement(shared: &Shared, caller: &Caller, namespace: Option<&str>, drop: &DropTable) -> Result<String> {
    let namespace = namespace_of(&drop.table, namespace)?;
    let dropped = drop_table(shared, caller, namespace, &drop.table.table, drop.if_exists).await?;
    let name = format!("{namespace}.{}", drop.table.table.text);
    Ok(if dropped { format!("Table {name} dropped") } else { format!("Table {name} does not exist") })
}

/// The namespace of a table that a DDL statement names.
pub(super) fn namespace_of<'a>(name: &'a TableName, default: Option<&'a str>) -> Result<&'a str> {
    if name.scope != TableScope::Caller {
        return Err(Error::new(
            Reason::InvalidStatement,
            format!("A table is defined for all its partitions at once; name it as namespace.{}.", name.table.text),
        ));
    }
    let namespace = name.namespace.as_ref().map(|n| n.text.as_str()).or(default).ok_or_else(|| {
        Error::new(
            Reason::NamespaceRequired,
            format!(
                "Table \"{0}\" has no namespace. Write namespace.{0}, or set the request's namespace.",
                name.table.text
            ),
        )
        .with("table", name.table.text.as_str())
    })?;
    not_of_the_system(namespace)?;
    Ok(namespace)
}

fn not_of_the_system(namespace: &str) -> Result<()> {
    if system::is_system_namespace(namespace) {
        return Err(Error::new(
            Reason::InvalidStatement,
            format!("Namespace '{namespace}' is of the system; its tables cannot be created, altered or dropped."),
        ));
    }
    Ok(())
}
