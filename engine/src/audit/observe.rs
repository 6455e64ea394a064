//! The one place through which administration passes, of SQL and of the API alike.

use std::borrow::Cow;

use super::{Act, Audit, Outcome};
use crate::{
    access::{Caller, StatementKind},
    engine::Shared,
    error::{Error, ErrorKind, Result},
    exec::CachedStatement,
    sql::{Statement, TableName},
    system::SYSTEM,
};

/// Does an act of administration and records what became of it before anybody is told.
///
/// # Errors
/// Those of the act.
pub(crate) async fn audited<T>(
    shared: &Shared,
    caller: &Caller,
    act: Act,
    doing: impl Future<Output = Result<T>>,
) -> Result<T> {
    let observed = Observed { audit: &shared.audit, caller, act: Some(act) };
    let outcome = doing.await;
    observed.ended(outcome.as_ref().err()).await;
    outcome
}

/// An act under way. If nobody waits for its end, that is recorded.
struct Observed<'a> {
    audit: &'a Audit,
    caller: &'a Caller,
    act: Option<Act>,
}

impl Observed<'_> {
    async fn ended(mut self, error: Option<&Error>) {
        let Some(act) = self.act.take() else { return };
        match error {
            None => self.audit.record(self.caller, act, Outcome::Done, None).await,
            Some(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.audit.note_refusal(self.caller, act, error);
            }
            Some(error) => self.audit.record(self.caller, act, Outcome::Failed, Some(error)).await,
        }
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        if let Some(act) = self.act.take() {
            self.audit.record_soon(self.caller, act, Outcome::Abandoned, None);
        }
    }
}

/// What a statement does, if that is administration: by its kind, or because it changes a system table.
pub(crate) fn statement_act(statement: &CachedStatement, namespace: Option<&str>) -> Option<Act> {
    let parsed = &statement.parsed.statement;
    let kind = StatementKind::of(parsed);
    if !kind.is_audited() && !changes_system_table(parsed, namespace) {
        return None;
    }
    let act = Act::named(kind.as_sql(), object_of(parsed, namespace).map(Cow::into_owned));
    Some(if parsed.has_secrets() { act } else { act.said(&statement.normalized) })
}

fn changes_system_table(statement: &Statement, namespace: Option<&str>) -> bool {
    target(statement).is_some_and(|table| namespace_of(table, namespace) == Some(SYSTEM))
}

/// The table whose rows a statement changes.
fn target(statement: &Statement) -> Option<&TableName> {
    match statement {
        Statement::Insert(insert) => Some(&insert.table),
        Statement::Update(update) => Some(&update.table),
        Statement::Delete(delete) => Some(&delete.table),
        _ => None,
    }
}

fn namespace_of<'a>(table: &'a TableName, default: Option<&'a str>) -> Option<&'a str> {
    table.namespace.as_ref().map(|namespace| namespace.text.as_str()).or(default)
}

/// What a statement of administration is about.
fn object_of<'a>(statement: &'a Statement, namespace: Option<&'a str>) -> Option<Cow<'a, str>> {
    let table = |table: &'a TableName| -> Option<Cow<'a, str>> {
        let name = table.table.text.as_str();
        Some(match namespace_of(table, namespace) {
            Some(namespace) => format!("{namespace}.{name}").into(),
            None => name.into(),
        })
    };
    match statement {
        Statement::Query(_)
        | Statement::Explain(_)
        | Statement::ShowNamespaces
        | Statement::ShowTables { .. }
        | Statement::ShowStorages
        | Statement::ShowUsers
        | Statement::Export(_)
        | Statement::Subscribe(_) => None,
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => target(statement).and_then(table),
        Statement::CreateNamespace(create) => Some(create.name.text.as_str().into()),
        Statement::AlterNamespace(alter) => Some(alter.name.text.as_str().into()),
        Statement::DropNamespace(drop) => Some(drop.name.text.as_str().into()),
        Statement::CreateTable(create) => table(&create.table),
        Statement::AlterTable(alter) => table(&alter.table),
        Statement::DropTable(drop) => table(&drop.table),
        Statement::DescribeTable { table: described } => table(described),
        Statement::ShowTableStats(stats) => table(&stats.table),
        Statement::CreateStorage(create) => Some(create.name.text.as_str().into()),
        Statement::AlterStorage(alter) => Some(alter.name.text.as_str().into()),
        Statement::DropStorage(drop) => Some(drop.name.text.as_str().into()),
        Statement::FlushTable(flush) => table(&flush.table),
        Statement::FlushAll(flush) => flush.namespace.as_ref().map(|namespace| namespace.text.as_str().into()),
        Statement::CompactTable(compact) => table(&compact.table),
        Statement::BackupDatabase(backup) => Some(backup.namespace.text.as_str().into()),
        Statement::RestoreDatabase(restore) => {
            Some(restore.into.as_ref().unwrap_or(&restore.namespace).text.as_str().into())
        }
        Statement::ShowBackup(show) => Some(show.uri.text.as_str().into()),
        Statement::KillLiveQuery(kill) => Some(kill.id.to_string().into()),
        Statement::CreateUser(create) => Some(create.name.text.as_str().into()),
        Statement::AlterUser(alter) => Some(alter.name.text.as_str().into()),
        Statement::DropUser(drop) => Some(drop.name.text.as_str().into()),
        Statement::CreateApiKey(create) => Some(create.user.text.as_str().into()),
        Statement::RevokeApiKey(revoke) => Some(id_of_key(&revoke.key_id).into()),
        Statement::ShowApiKeys { user } => user.as_ref().map(|user| user.text.as_str().into()),
    }
}

/// The id of an API key, of which somebody may have written the whole: `kdb_<id>_<secret>`.
pub(crate) fn id_of_key(text: &str) -> &str {
    match text.strip_prefix("kdb_") {
        Some(rest) => rest.split('_').next().unwrap_or_default(),
        None => text,
    }
}
