//! The statements KalamDB knows, as typed structs. [`parse`](super::parse) makes them from text.

use std::fmt;

use datafusion::sql::sqlparser::ast;
use serde::{Deserialize, Serialize};

use super::user_statement::{AlterUser, CreateApiKey, CreateUser, DropUser, RevokeApiKey};
use crate::{error::Position, live::LiveQueryId, types::SqlType};

/// One parsed statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// SELECT, VALUES, WITH, and set operations.
    Query(Box<ast::Query>),
    /// EXPLAIN [ANALYZE] [VERBOSE] query.
    Explain(Explain),
    /// INSERT.
    Insert(Box<Insert>),
    /// UPDATE.
    Update(Box<Update>),
    /// DELETE.
    Delete(Box<Delete>),
    /// CREATE NAMESPACE.
    CreateNamespace(CreateNamespace),
    /// ALTER NAMESPACE … SET OPTIONS.
    AlterNamespace(AlterNamespace),
    /// DROP NAMESPACE.
    DropNamespace(DropNamespace),
    /// SHOW NAMESPACES.
    ShowNamespaces,
    /// CREATE { USER | SHARED | STREAM } TABLE.
    CreateTable(Box<CreateTable>),
    /// ALTER TABLE.
    AlterTable(AlterTable),
    /// DROP TABLE.
    DropTable(DropTable),
    /// SHOW TABLES [IN ns].
    ShowTables {
        /// The namespace named; `None`: the session's, or all without one.
        namespace: Option<Name>,
    },
    /// DESCRIBE [TABLE] t.
    DescribeTable {
        /// The table.
        table: TableName,
    },
    /// SHOW TABLE STATS t.
    ShowTableStats(ShowTableStats),
    /// CREATE STORAGE.
    CreateStorage(CreateStorage),
    /// ALTER STORAGE.
    AlterStorage(AlterStorage),
    /// DROP STORAGE.
    DropStorage(DropStorage),
    /// SHOW STORAGES.
    ShowStorages,
    /// FLUSH TABLE.
    FlushTable(FlushTable),
    /// FLUSH ALL TABLES.
    FlushAll(FlushAll),
    /// COMPACT TABLE.
    CompactTable(CompactTable),
    /// EXPORT.
    Export(Box<Export>),
    /// BACKUP DATABASE.
    BackupDatabase(BackupDatabase),
    /// RESTORE DATABASE.
    RestoreDatabase(RestoreDatabase),
    /// SHOW BACKUP.
    ShowBackup(ShowBackup),
    /// SUBSCRIBE.
    Subscribe(Subscribe),
    /// KILL LIVE QUERY.
    KillLiveQuery(KillLiveQuery),
    /// CREATE USER.
    CreateUser(Box<CreateUser>),
    /// ALTER USER.
    AlterUser(Box<AlterUser>),
    /// DROP USER.
    DropUser(DropUser),
    /// SHOW USERS.
    ShowUsers,
    /// CREATE API KEY.
    CreateApiKey(CreateApiKey),
    /// REVOKE API KEY.
    RevokeApiKey(RevokeApiKey),
    /// SHOW API KEYS [FOR USER u].
    ShowApiKeys {
        /// Whose; `None`: all that the caller may know of.
        user: Option<Name>,
    },
}

/// EXPORT FROM { table | (query) } TO 'uri' [FORMAT format].
#[derive(Debug, Clone)]
pub struct Export {
    /// The rows; of a table it is `SELECT * FROM table`.
    pub query: Box<ast::Query>,
    /// The table, if it is one.
    pub table: Option<TableName>,
    /// Where the file is made, as written.
    pub uri: String,
    /// Where that stands.
    pub uri_position: Option<Position>,
    /// FORMAT; `None`: what the end of the file's name says.
    pub format: Option<ExportFormat>,
}

/// What the file of an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExportFormat {
    /// Apache Parquet.
    Parquet,
    /// CSV with a header.
    Csv,
    /// JSON, one object a line.
    Json,
}

/// A place outside the database, as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    /// As written.
    pub text: String,
    /// Where it stands.
    pub position: Option<Position>,
}

/// BACKUP DATABASE ns TO 'uri' [MODE { FULL | INCREMENTAL }].
#[derive(Debug, Clone)]
pub struct BackupDatabase {
    /// The namespace.
    pub namespace: Name,
    /// The directory of backups.
    pub uri: Uri,
    /// MODE INCREMENTAL: files of the backup before are not copied again.
    pub incremental: bool,
}

/// RESTORE DATABASE ns FROM 'uri' [BACKUP 'id'] [AS other].
#[derive(Debug, Clone)]
pub struct RestoreDatabase {
    /// The namespace that the backup is of.
    pub namespace: Name,
    /// The directory of backups.
    pub uri: Uri,
    /// BACKUP: the one that is meant; `None`: the newest.
    pub backup: Option<String>,
    /// AS: the namespace that it becomes; `None`: that of the same name.
    pub into: Option<Name>,
}

/// SHOW BACKUP 'uri'.
#[derive(Debug, Clone)]
pub struct ShowBackup {
    /// The directory of backups.
    pub uri: Uri,
}

/// SUBSCRIBE TO table [WHERE …], or SUBSCRIBE SELECT ….
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// The query; of `SUBSCRIBE TO t WHERE c` it is `SELECT * FROM t WHERE c`.
    pub query: Box<ast::Query>,
}

/// KILL LIVE QUERY.
#[derive(Debug, Clone)]
pub struct KillLiveQuery {
    /// The one to end.
    pub id: LiveQueryId,
}

/// An identifier as resolved by SQL's rules: unquoted ones folded to lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The folded text. Not validated: the catalog's newtypes do that when a name is created.
    pub text: String,
    /// Where it stands.
    pub position: Option<Position>,
}

/// Which partitions of a USER or STREAM table a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableScope {
    /// `t` or `ns.t`: the caller's partition.
    Caller,
    /// `ns.user.t`: the partition of the user acted for, said explicitly.
    ActingUser,
    /// `ns.all_users.t`: every partition.
    AllUsers,
}

/// A table as named in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The namespace, unless the session's is meant.
    pub namespace: Option<Name>,
    /// Which partitions are meant.
    pub scope: TableScope,
    /// The table's own name.
    pub table: Name,
}

/// EXPLAIN.
#[derive(Debug, Clone)]
pub struct Explain {
    /// Run the query and show what it did.
    pub analyze: bool,
    /// Show every step of planning.
    pub verbose: bool,
    /// The query explained.
    pub query: Box<ast::Query>,
}

/// INSERT INTO table (columns) source ON CONFLICT … RETURNING ….
#[derive(Debug, Clone)]
pub struct Insert {
    /// The table.
    pub table: TableName,
    /// The columns given; empty: all, in creation order.
    pub columns: Vec<Name>,
    /// Where the rows come from.
    pub source: InsertSource,
    /// What happens to rows whose key exists.
    pub on_conflict: Option<OnConflict>,
    /// The rows to answer with.
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// The rows of an INSERT.
#[derive(Debug, Clone)]
pub enum InsertSource {
    /// VALUES (…), (…). `None` stands for the keyword DEFAULT.
    Values(Vec<Vec<Option<ast::Expr>>>),
    /// A query.
    Query(Box<ast::Query>),
    /// DEFAULT VALUES: one row of defaults.
    DefaultValues,
}

/// ON CONFLICT [(columns)] action.
#[derive(Debug, Clone)]
pub struct OnConflict {
    /// The columns named; empty: none were.
    pub target: Vec<Name>,
    /// What to do.
    pub action: ConflictAction,
}

/// What ON CONFLICT does.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a statement has at most one")]
pub enum ConflictAction {
    /// DO NOTHING.
    DoNothing,
    /// DO UPDATE SET … [WHERE …]. Expressions may name `excluded`.
    DoUpdate {
        /// The assignments.
        assignments: Vec<Assignment>,
        /// Rows for which this is not true stay as they are.
        filter: Option<ast::Expr>,
    },
}

/// `column = value`.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The column set.
    pub column: Name,
    /// Its value; `None` stands for the keyword DEFAULT.
    pub value: Option<ast::Expr>,
}

/// UPDATE table SET … WHERE … RETURNING ….
#[derive(Debug, Clone)]
pub struct Update {
    /// The table.
    pub table: TableName,
    /// The name the statement's expressions use for it.
    pub alias: Option<Name>,
    /// The assignments, at least one.
    pub assignments: Vec<Assignment>,
    /// The rows concerned; `None`: all.
    pub filter: Option<ast::Expr>,
    /// The rows to answer with.
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// DELETE FROM table WHERE … RETURNING ….
#[derive(Debug, Clone)]
pub struct Delete {
    /// The table.
    pub table: TableName,
    /// The name the statement's expressions use for it.
    pub alias: Option<Name>,
    /// The rows concerned; `None`: all.
    pub filter: Option<ast::Expr>,
    /// The rows to answer with.
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// CREATE NAMESPACE [IF NOT EXISTS] n [WITH OPTIONS (…)].
#[derive(Debug, Clone)]
pub struct CreateNamespace {
    /// Its name.
    pub name: Name,
    /// Do nothing if it exists.
    pub if_not_exists: bool,
    /// Options, in the order written.
    pub options: Vec<(String, String)>,
}

/// ALTER NAMESPACE n SET OPTIONS (…).
#[derive(Debug, Clone)]
pub struct AlterNamespace {
    /// Its name.
    pub name: Name,
    /// Options, in the order written.
    pub options: Vec<(String, String)>,
}

/// DROP NAMESPACE [IF EXISTS] n.
#[derive(Debug, Clone)]
pub struct DropNamespace {
    /// Its name.
    pub name: Name,
    /// Do nothing if it does not exist.
    pub if_exists: bool,
}

/// The type of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// One isolated partition for each user.
    User,
    /// One partition for all.
    Shared,
    /// Per-user rows that expire.
    Stream,
}

/// Who may use a SHARED table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Any authenticated user reads and writes.
    Public,
    /// A user needs a matching permission.
    Restricted,
    /// Only service, dba and system.
    Private,
}

/// CREATE { USER | SHARED | STREAM } TABLE.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// Its type.
    pub kind: TableKind,
    /// Its name; the scope is always [`TableScope::Caller`].
    pub table: TableName,
    /// Do nothing if it exists.
    pub if_not_exists: bool,
    /// Its columns, at least one.
    pub columns: Vec<ColumnDefinition>,
    /// The columns of the PRIMARY KEY, by column or table constraint.
    pub primary_key: Vec<Name>,
    /// ACCESS.
    pub access: Option<Access>,
    /// TTL, in microseconds, more than 0.
    pub ttl_us: Option<i64>,
    /// STORAGE or LOCATION.
    pub place: Option<Place>,
    /// FLUSH POLICY.
    pub flush_policy: Option<FlushPolicy>,
}

/// Where the flushed rows of a table go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// STORAGE name, or LOCATION REFERENCE 'name': the folder that is the default in this storage.
    Storage(Name),
    /// LOCATION 'uri template'.
    Location {
        /// The template, as written.
        template: String,
        /// Where it stands.
        position: Option<Position>,
    },
}

/// When the rows of a table are flushed: at whichever of the two comes first, and at least one of them is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FlushPolicy {
    /// ROWS n: when this many rows of the table are hot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// INTERVAL '…', in seconds: when this long has passed since the last flush.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u64>,
}

/// A column of CREATE TABLE or ALTER TABLE … ADD COLUMN.
#[derive(Debug, Clone)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub sql_type: SqlType,
    /// NOT NULL.
    pub not_null: bool,
    /// DEFAULT, as an expression.
    pub default: Option<ast::Expr>,
    /// AUTO_INCREMENT: the catalog turns it into a generated default.
    pub auto_increment: bool,
}

/// ALTER TABLE t action.
#[derive(Debug, Clone)]
pub struct AlterTable {
    /// The table.
    pub table: TableName,
    /// Do nothing if it does not exist.
    pub if_exists: bool,
    /// What to change.
    pub action: AlterTableAction,
}

/// One change of a table.
#[derive(Debug, Clone)]
pub enum AlterTableAction {
    /// ADD [COLUMN] [IF NOT EXISTS] definition.
    AddColumn {
        /// The column.
        column: Box<ColumnDefinition>,
        /// Do nothing if it exists.
        if_not_exists: bool,
    },
    /// DROP [COLUMN] [IF EXISTS] name.
    DropColumn {
        /// The column.
        column: Name,
        /// Do nothing if it does not exist.
        if_exists: bool,
    },
    /// RENAME [COLUMN] a TO b.
    RenameColumn {
        /// Its name.
        from: Name,
        /// Its new name.
        to: Name,
    },
    /// SET ACCESS a (SHARED tables).
    SetAccess(Access),
    /// SET TTL '…' (STREAM tables), in microseconds.
    SetTtl(i64),
    /// SET FLUSH POLICY …; `None`: SET FLUSH POLICY NONE.
    SetFlushPolicy(Option<FlushPolicy>),
}

/// DROP TABLE [IF EXISTS] t.
#[derive(Debug, Clone)]
pub struct DropTable {
    /// The table.
    pub table: TableName,
    /// Do nothing if it does not exist.
    pub if_exists: bool,
}

/// SHOW TABLE STATS t.
#[derive(Debug, Clone)]
pub struct ShowTableStats {
    /// The table.
    pub table: TableName,
}

/// What a storage is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageKind {
    /// A folder that the server can write to.
    Filesystem,
    /// A bucket of S3, or of anything that speaks its protocol.
    S3,
    /// A bucket of Google Cloud Storage.
    Gcs,
    /// A container of Azure Blob Storage.
    Azure,
}

/// CREATE STORAGE [IF NOT EXISTS] s TYPE kind URI '…' [CREDENTIALS '…'].
#[derive(Clone)]
pub struct CreateStorage {
    /// Its name.
    pub name: Name,
    /// TYPE.
    pub kind: StorageKind,
    /// URI, as written.
    pub uri: String,
    /// CREDENTIALS: the text of a JSON object. Secret.
    pub credentials: Option<String>,
    /// Do nothing if it exists.
    pub if_not_exists: bool,
}

/// ALTER STORAGE s SET [URI '…'] [CREDENTIALS '…'], at least one of them.
#[derive(Clone)]
pub struct AlterStorage {
    /// Its name.
    pub name: Name,
    /// URI, as written.
    pub uri: Option<String>,
    /// CREDENTIALS: the text of a JSON object. Secret.
    pub credentials: Option<String>,
}

/// DROP STORAGE [IF EXISTS] s.
#[derive(Debug, Clone)]
pub struct DropStorage {
    /// Its name.
    pub name: Name,
    /// Do nothing if it does not exist.
    pub if_exists: bool,
}

/// FLUSH TABLE t [FORCE].
#[derive(Debug, Clone)]
pub struct FlushTable {
    /// The table.
    pub table: TableName,
    /// Flush partitions of a few rows too.
    pub force: bool,
}

/// FLUSH ALL TABLES [IN ns] [FORCE].
#[derive(Debug, Clone)]
pub struct FlushAll {
    /// The namespace; `None`: all of them, whatever the session's is.
    pub namespace: Option<Name>,
    /// Flush partitions of a few rows too.
    pub force: bool,
}

/// COMPACT TABLE t.
#[derive(Debug, Clone)]
pub struct CompactTable {
    /// The table.
    pub table: TableName,
}

impl Statement {
    /// Whether its text has secrets, so that it must not be kept or logged.
    pub fn has_secrets(&self) -> bool {
        match self {
            Statement::CreateStorage(create) => create.credentials.is_some(),
            Statement::AlterStorage(alter) => alter.credentials.is_some(),
            Statement::CreateUser(create) => create.properties.password.is_some(),
            Statement::AlterUser(alter) => alter.properties.password.is_some(),
            // Its text may have the whole key.
            Statement::RevokeApiKey(_) => true,
            Statement::Insert(insert) => {
                let names = |secret: &str| insert.columns.iter().any(|column| column.text == secret);
                secret_column(&insert.table).is_some_and(|secret| is_of_system(&insert.table) || names(secret))
            }
            Statement::Update(update) => {
                let assigned = |secret: &str| update.assignments.iter().any(|a| a.column.text == secret);
                secret_column(&update.table).is_some_and(|secret| is_of_system(&update.table) || assigned(secret))
            }
            _ => false,
        }
    }
}

/// Whether a name says that a table is of the system. Then all that is given to it may be a secret, as the names of columns
/// may be misspelt.
fn is_of_system(table: &TableName) -> bool {
    table.namespace.as_ref().is_some_and(|namespace| namespace.text == "system")
}

/// The column of system.storages with secrets.
pub const CREDENTIALS_COLUMN: &str = "credentials";

/// The column of system.users with secrets.
pub const PASSWORD_COLUMN: &str = "password";

/// The column with secrets of what a name can mean: the namespace may be the session's.
fn secret_column(table: &TableName) -> Option<&'static str> {
    let secret = match table.table.text.as_str() {
        "storages" => CREDENTIALS_COLUMN,
        "users" => PASSWORD_COLUMN,
        _ => return None,
    };
    table.namespace.as_ref().is_none_or(|namespace| namespace.text == "system").then_some(secret)
}

/// Shown without the credentials.
impl fmt::Debug for CreateStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateStorage")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("uri", &self.uri)
            .field("if_not_exists", &self.if_not_exists)
            .finish_non_exhaustive()
    }
}

/// Shown without the credentials.
impl fmt::Debug for AlterStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlterStorage").field("name", &self.name).field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// The clause as SQL, without the words FLUSH POLICY.
impl fmt::Display for FlushPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rows) = self.rows {
            write!(f, "ROWS {rows}")?;
        }
        if let Some(interval_s) = self.interval_s {
            let separator = if self.rows.is_some() { " " } else { "" };
            write!(f, "{separator}INTERVAL '{interval_s} seconds'")?;
        }
        Ok(())
    }
}

impl StorageKind {
    /// Every kind there is.
    pub const ALL: [StorageKind; 4] = [StorageKind::Filesystem, StorageKind::S3, StorageKind::Gcs, StorageKind::Azure];

    /// The word of SQL for it.
    pub fn as_str(self) -> &'static str {
        match self {
            StorageKind::Filesystem => "FILESYSTEM",
            StorageKind::S3 => "S3",
            StorageKind::Gcs => "GCS",
            StorageKind::Azure => "AZURE",
        }
    }
}

impl ExportFormat {
    /// Every format there is.
    pub const ALL: [ExportFormat; 3] = [ExportFormat::Parquet, ExportFormat::Csv, ExportFormat::Json];

    /// The word of SQL for it.
    pub fn as_str(self) -> &'static str {
        match self {
            ExportFormat::Parquet => "parquet",
            ExportFormat::Csv => "csv",
            ExportFormat::Json => "json",
        }
    }

    /// The format that a file has, by the end of its name.
    pub fn of_file_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(ExportFormat::Parquet),
            "csv" => Some(ExportFormat::Csv),
            "json" | "jsonl" | "ndjson" => Some(ExportFormat::Json),
            _ => None,
        }
    }
}

impl TableKind {
    /// The word of SQL for it.
    pub fn as_str(self) -> &'static str {
        match self {
            TableKind::User => "USER",
            TableKind::Shared => "SHARED",
            TableKind::Stream => "STREAM",
        }
    }
}

impl Access {
    /// The word of SQL for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Access::Public => "public",
            Access::Restricted => "restricted",
            Access::Private => "private",
        }
    }
}
