//! The statements KalamDB knows, as typed structs. [`parse`](super::parse) makes them from text.

use datafusion::sql::sqlparser::ast;

use serde::{Deserialize, Serialize};

use crate::{error::Position, types::SqlType};

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
}

/// DROP TABLE [IF EXISTS] t.
#[derive(Debug, Clone)]
pub struct DropTable {
    /// The table.
    pub table: TableName,
    /// Do nothing if it does not exist.
    pub if_exists: bool,
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
