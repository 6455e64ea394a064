//! Dropping users, and with CASCADE all their rows.
//!
//! ```text
//! 1 one commit: the users leave           nobody finds them any more, their statements under way can write no more rows
//! 2 are there rows?  without CASCADE: they stay, and the statement is refused
//!                    with CASCADE: the rows are deleted, some hundred in each commit
//! 3 one commit: records, names, keys and sessions are gone; the names can be given again
//! ```
//!
//! From 1 on there is no user to whom half of the rows could show: whoever reads all users' partitions at once can see some
//! of them until 3. If the process ends between 1 and 3, or rows cannot be deleted just now, that is taken up again when
//! the database is opened, and every half minute; until 3 the ids and names stay taken, so that nobody comes to rows of
//! another. Rows that a statement of before 1 would write after 2 are refused by the committer, which knows at which
//! commit a user left.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use datafusion::{
    arrow::{
        array::{Array, AsArray},
        datatypes::{DataType, Int64Type},
    },
    common::ScalarValue,
};
use futures::{StreamExt, future::BoxFuture};
use kalamdb_store::{
    codec::{HotCount, hot_count_key, row_prefix, split_user_leaving_key, user_leaving_range},
    ids::{Owner, Partition, UserId},
    kv::{Direction, KeyRange, Keyspace},
};

use super::{
    Users,
    change::Draft,
    rights::{Administered, may_administer, no_such_user},
};
use crate::{
    access::Caller,
    catalog::Table,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{Body, Parameter, RowStream, corrupt, from_store},
    session::{Request, Session},
    sql::TableKind,
    types::SqlType,
};

/// Rows deleted by one commit.
const ROWS_PER_COMMIT: usize = 500;
/// How many tables an error names.
const MAX_NAMED_TABLES: usize = 20;
/// How often the removal of users that could not be finished is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Drops all of several users or none; durable when it returns. Answers how many there were.
///
/// # Errors
/// PERMISSION_DENIED, also for oneself; USER_NOT_FOUND without `if_exists`; USER_HAS_DATA without `cascade`;
/// LAST_ADMINISTRATOR.
pub(crate) fn drop_all<'a>(
    shared: &'a Arc<Shared>,
    caller: &'a Caller,
    ids: Vec<UserId>,
    cascade: bool,
    if_exists: bool,
) -> BoxFuture<'a, Result<usize>> {
    // Boxed, as it runs statements and is run by statements.
    Box::pin(async move { drop_users(shared, caller, ids, cascade, if_exists).await })
}

async fn drop_users(
    shared: &Arc<Shared>,
    caller: &Caller,
    ids: Vec<UserId>,
    cascade: bool,
    if_exists: bool,
) -> Result<usize> {
    let users = &shared.users;
    let mut leaving = Vec::with_capacity(ids.len());
    for id in ids {
        if users.find(&id)?.is_none() && if_exists {
            continue;
        }
        may_drop(shared, caller, &id)?;
        // Looked at first, so that a user with rows need not leave and come back.
        if !cascade {
            refuse_data(shared, &id).await?;
        }
        leaving.push(id);
    }
    if leaving.is_empty() {
        return Ok(0);
    }
    let turn = users.turn().await;
    let mut draft = Draft::new(users);
    for id in &leaving {
        // Another caller can have changed it meanwhile.
        may_drop(shared, caller, id)?;
        draft.leave(id, cascade)?;
    }
    let change = draft.finish()?;
    let count = leaving.len();
    // From here on it goes on even if nobody waits for it.
    let removing = {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            // Before anybody can see that they leave: the removal is this one's.
            let under_way = UnderWay::new(&shared.users, leaving);
            shared.users.commit(turn, change).await?;
            finish(&shared, &under_way.ids, cascade).await
        })
    };
    removing.await.map_err(Error::internal)??;
    Ok(count)
}

fn may_drop(shared: &Shared, caller: &Caller, id: &UserId) -> Result<()> {
    let user = shared.users.find(id)?.ok_or_else(|| no_such_user(id.as_str()))?;
    may_administer(caller, &Administered::existing(id, user.role), "Dropping users")?;
    if caller.user_id == *id {
        let message = "Nobody drops itself. Another administrator can drop this user.";
        return Err(Error::new(Reason::PermissionDenied, message).with("user_id", id.as_str()));
    }
    Ok(())
}

/// Steps 2 and 3 for users that left.
async fn finish(shared: &Arc<Shared>, leaving: &[UserId], cascade: bool) -> Result<()> {
    for id in leaving {
        let outcome = if cascade { delete_rows(shared, id).await } else { refuse_data(shared, id).await };
        match outcome {
            Ok(()) => {}
            // Rows came after the first look.
            Err(refused) if !cascade => {
                let turn = shared.users.turn().await;
                let mut draft = Draft::new(&shared.users);
                leaving.iter().try_for_each(|id| draft.stay(id))?;
                let change = draft.finish()?;
                shared.users.commit(turn, change).await?;
                return Err(refused);
            }
            Err(error) => {
                tracing::warn!(user_id = ?id, %error, "the rows of a dropped user could not be deleted; trying again later");
                let message = format!(
                    "User with user_id '{id}' is dropped and cannot be used any more, but not all of its rows could be \
                     deleted. That is tried again in the background: {}",
                    error.message()
                );
                return Err(Error::new(error.reason(), message).with("user_id", id.as_str()));
            }
        }
    }
    let turn = shared.users.turn().await;
    let mut draft = Draft::new(&shared.users);
    leaving.iter().try_for_each(|id| draft.remove(id))?;
    let change = draft.finish()?;
    shared.users.commit(turn, change).await
}

/// # Errors
/// USER_HAS_DATA, with the tables.
async fn refuse_data(shared: &Arc<Shared>, id: &UserId) -> Result<()> {
    let mut names = Vec::new();
    for table in tables_with_rows(shared, id)? {
        if has_visible_row(shared, id, &table).await? {
            names.push(table.full_name());
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let shown = names.iter().take(MAX_NAMED_TABLES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(MAX_NAMED_TABLES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!(
        "User with user_id '{id}' has rows in {} table(s): {shown}{more}. Delete them first, or drop the user with its rows: \
         DROP USER … CASCADE.",
        names.len()
    );
    Err(Error::new(Reason::UserHasData, message).with("user_id", id.as_str()).with("tables", shown))
}

async fn delete_rows(shared: &Arc<Shared>, id: &UserId) -> Result<()> {
    for table in tables_with_rows(shared, id)? {
        let outcome = delete_rows_of(shared, id, &table).await;
        match outcome {
            // Dropped meanwhile, rows and all.
            Err(e) if matches!(e.reason(), Reason::TableNotFound | Reason::NamespaceNotFound) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The tables in whose partition of a user something is kept, be it expired or deleted.
fn tables_with_rows(shared: &Shared, id: &UserId) -> Result<Vec<Arc<Table>>> {
    let snapshot = shared.backend.snapshot();
    let mut tables = Vec::new();
    for table in shared.catalog.state().all_tables().filter(|table| table.kind() != TableKind::Shared) {
        let partition = Partition { table: table.id(), owner: Owner::User(id.clone()) };
        let count = snapshot.get(Keyspace::System, &hot_count_key(&partition)).map_err(from_store)?;
        let count = count.map(|count| HotCount::decode(&count).map_err(corrupt)).transpose()?;
        let is_hot = count.is_some_and(|count| count.rows > 0);
        let in_segments = || -> Result<bool> {
            let range = KeyRange::prefix(&row_prefix(&partition));
            let cursor = snapshot.cursor(Keyspace::Segments, range, Direction::Forward).map_err(from_store)?;
            Ok(cursor.valid())
        };
        if is_hot || in_segments()? {
            tables.push(Arc::clone(table));
        }
    }
    Ok(tables)
}

async fn has_visible_row(shared: &Arc<Shared>, id: &UserId, table: &Table) -> Result<bool> {
    let key = quoted(table.key_column().name.as_str());
    let mut rows = query(shared, id, format!("SELECT {key} FROM {} LIMIT 1", partition_name(table))).await?;
    while let Some(batch) = rows.next().await {
        if batch?.num_rows() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes the rows of a user in one table, by their keys, which one statement reads.
async fn delete_rows_of(shared: &Arc<Shared>, id: &UserId, table: &Table) -> Result<()> {
    loop {
        let mut deleted = 0;
        match delete_some_of(shared, id, table, &mut deleted).await {
            // There are many: it goes on with those that are left.
            Err(e) if e.reason() == Reason::StatementTimeout && deleted > 0 => {}
            other => return other,
        }
    }
}

async fn delete_some_of(shared: &Arc<Shared>, id: &UserId, table: &Table, deleted: &mut usize) -> Result<()> {
    let key = quoted(table.key_column().name.as_str());
    let mut rows = query(shared, id, format!("SELECT {key} FROM {}", partition_name(table))).await?;
    while let Some(batch) = rows.next().await {
        let keys = keys_of(batch?.column(0))?;
        for keys in keys.chunks(ROWS_PER_COMMIT) {
            delete_keys(shared, id, table, keys).await?;
            *deleted += keys.len();
        }
    }
    Ok(())
}

/// Deletes rows by their keys; fewer at a time if they are too large for one commit.
async fn delete_keys(shared: &Arc<Shared>, id: &UserId, table: &Table, keys: &[Parameter]) -> Result<()> {
    let mut rest = keys;
    let mut at_a_time = keys.len();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(at_a_time.min(rest.len()));
        let places = (1..=now.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        let key = quoted(table.key_column().name.as_str());
        let sql = format!("DELETE FROM {} WHERE {key} IN ({places})", partition_name(table));
        let mut run = session(shared, id).execute(Request { sql, parameters: now.to_vec(), ..Request::default() });
        match run.next().await {
            Some(Err(e)) if e.reason() == Reason::WriteTooLarge && now.len() > 1 => at_a_time = now.len() / 2,
            Some(Err(e)) => return Err(e),
            Some(Ok(_)) | None => rest = later,
        }
    }
    Ok(())
}

/// The rows of a query in the name of a user.
async fn query(shared: &Arc<Shared>, id: &UserId, sql: String) -> Result<RowStream> {
    let mut run = session(shared, id).execute(Request::new(sql));
    match run.next().await {
        Some(output) => match output?.body {
            Body::Rows(rows) => Ok(rows),
            Body::Affected { .. } => Err(Error::internal("a query without rows")),
        },
        None => Err(Error::internal("a query without an answer")),
    }
}

/// KalamDB itself, acting for a user.
fn session(shared: &Arc<Shared>, id: &UserId) -> Session {
    Session::new(Arc::clone(shared), shared.internal_context().caller.acting_as(id.clone()))
}

fn partition_name(table: &Table) -> String {
    format!("{}.user.{}", quoted(table.namespace().as_str()), quoted(table.name().as_str()))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn keys_of(column: &dyn Array) -> Result<Vec<Parameter>> {
    match column.data_type() {
        DataType::Int64 => {
            let keys = column.as_primitive::<Int64Type>().values().iter();
            let parameter = |key: &i64| Parameter { value: ScalarValue::Int64(Some(*key)), sql_type: SqlType::BigInt };
            Ok(keys.map(parameter).collect())
        }
        DataType::Utf8View => {
            let keys = column.as_string_view().iter().flatten();
            let value = |key: &str| ScalarValue::Utf8View(Some(key.to_owned()));
            Ok(keys.map(|key| Parameter { value: value(key), sql_type: SqlType::Text }).collect())
        }
        other => Err(Error::internal(format!("a key column of type {other}"))),
    }
}

/// Takes up the removal of users where it ended; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Removal(tokio::task::JoinHandle<()>);

impl Removal {
    pub(crate) fn start(runtime: &tokio::runtime::Handle, shared: Weak<Shared>) -> Self {
        Self(runtime.spawn(async move {
            let mut ticks = tokio::time::interval(RETRY_INTERVAL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(shared) = shared.upgrade() else { return };
                if let Err(error) = finish_all(&shared).await {
                    tracing::warn!(%error, "dropped users could not be removed; trying again later");
                }
            }
        }))
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The users of one removal, which no other takes up meanwhile.
struct UnderWay {
    users: Arc<Users>,
    ids: Vec<UserId>,
}

impl UnderWay {
    /// Those of `ids` that nobody else removes.
    fn new(users: &Arc<Users>, mut ids: Vec<UserId>) -> Self {
        let mut under_way = users.under_removal.lock();
        ids.retain(|id| under_way.insert(id.clone()));
        Self { users: Arc::clone(users), ids }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.users.under_removal.lock();
        for id in &self.ids {
            under_way.remove(id);
        }
    }
}

/// Finishes the removal of users that left and are not being removed by anybody else.
async fn finish_all(shared: &Arc<Shared>) -> Result<()> {
    let mut left = Vec::new();
    {
        let snapshot = shared.backend.snapshot();
        let range = user_leaving_range();
        let mut cursor = snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store)?;
        while cursor.valid() {
            left.push(split_user_leaving_key(cursor.key()).map_err(corrupt)?);
            cursor.advance().map_err(from_store)?;
        }
    }
    for id in left {
        let under_way = UnderWay::new(&shared.users, vec![id]);
        for id in &under_way.ids {
            // It may have been finished since it was listed.
            let Some(record) = shared.users.record(id)?.filter(|record| record.leaving) else { continue };
            tracing::info!(user_id = ?id, "the removal of a dropped user is taken up again");
            match finish(shared, std::slice::from_ref(id), record.cascade).await {
                Err(e) if e.reason() == Reason::UserHasData => {
                    tracing::warn!(user_id = ?id, "a user was not dropped after all, as it has rows");
                }
                other => other?,
            }
        }
    }
    Ok(())
}
