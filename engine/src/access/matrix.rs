//! The role matrix: what each role may do, in tables. Whoever adds a statement adds its line here, or nothing compiles.
//!
//! A line says whether a role may do a thing at all, to everything or to what concerns it. *What* concerns a caller (its
//! partitions, the SHARED tables that are open to it, the rows that its rules show) is decided in `policy.rs` and
//! `rules/`, where the things are at hand. The calls of the API have the same table in `server/src/transport/methods.rs`.
//! `docs/architecture/access.md` shows all of them, and a test compares it with the code.

use crate::{
    access::{Caller, Role},
    error::{Error, Reason, Result},
    sql::Statement,
    system::{INFORMATION_SCHEMA, SYSTEM},
};

/// How much of a thing a role may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// Nothing: refused with PERMISSION_DENIED.
    No,
    /// To what concerns the caller, which can be nothing; the rest does not exist for it.
    Own,
    /// To everything.
    All,
}

impl Grant {
    /// The word of the documentation for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Grant::No => "no",
            Grant::Own => "own",
            Grant::All => "all",
        }
    }
}

/// What each role may do: a line of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    user: Grant,
    service: Grant,
    dba: Grant,
    system: Grant,
}

impl Rights {
    /// Everybody, to everything.
    pub const ANYBODY: Rights = Rights::new(Grant::All, Grant::All, Grant::All, Grant::All);
    /// A user to what concerns it, the others to everything.
    pub const OWN: Rights = Rights::new(Grant::Own, Grant::All, Grant::All, Grant::All);
    /// Those who run the server to everything, the others to what concerns them.
    pub const OPERATOR_OR_OWN: Rights = Rights::new(Grant::Own, Grant::Own, Grant::All, Grant::All);
    /// Those who run the server.
    pub const OPERATOR: Rights = Rights::new(Grant::No, Grant::No, Grant::All, Grant::All);
    /// Those who run the server; a dba only to those whose role is below its own.
    pub const BELOW: Rights = Rights::new(Grant::No, Grant::No, Grant::Own, Grant::All);
    /// The same, and everybody to itself.
    pub const BELOW_OR_SELF: Rights = Rights::new(Grant::Own, Grant::Own, Grant::Own, Grant::All);
    /// Nobody.
    pub const NOBODY: Rights = Rights::new(Grant::No, Grant::No, Grant::No, Grant::No);

    /// A line, by role from the least to the most.
    pub const fn new(user: Grant, service: Grant, dba: Grant, system: Grant) -> Self {
        Self { user, service, dba, system }
    }

    /// What a role may do.
    pub fn of(self, role: Role) -> Grant {
        match role {
            Role::User => self.user,
            Role::Service => self.service,
            Role::Dba => self.dba,
            Role::System => self.system,
        }
    }

    /// Checks that a caller may do the thing called `what` at all.
    ///
    /// # Errors
    /// PERMISSION_DENIED, with the roles that may.
    pub fn check(self, caller: &Caller, what: &str) -> Result<()> {
        self.check_at_least(caller, Grant::Own, what)
    }

    /// Checks that a caller may do the thing called `what` to everything.
    ///
    /// # Errors
    /// PERMISSION_DENIED, with the roles that may.
    pub fn check_all(self, caller: &Caller, what: &str) -> Result<()> {
        self.check_at_least(caller, Grant::All, what)
    }

    fn check_at_least(self, caller: &Caller, least: Grant, what: &str) -> Result<()> {
        if self.of(caller.role) >= least {
            return Ok(());
        }
        let able: Vec<&str> = Role::ALL.into_iter().filter(|role| self.of(*role) >= least).map(Role::as_str).collect();
        let message = match able.as_slice() {
            [] => format!("{what} is not possible for any role."),
            [one] => format!("{what} needs role {one}; the caller's role is {}.", caller.role),
            [first @ .., last] => {
                format!("{what} needs role {} or {last}; the caller's role is {}.", first.join(", "), caller.role)
            }
        };
        Err(Error::new(Reason::PermissionDenied, message))
    }
}

macro_rules! statements {
    ($($kind:ident $sql:literal $rights:ident $(, $audited:ident)?;)*) => {
        /// The kind of a statement.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is the kind of the variant of `Statement` with its name")]
        pub enum StatementKind { $($kind,)* }

        impl StatementKind {
            /// Every kind there is.
            pub const ALL: &'static [StatementKind] = &[$(StatementKind::$kind,)*];

            /// The kind of a statement.
            pub fn of(statement: &Statement) -> Self {
                match statement { $(Statement::$kind { .. } => Self::$kind,)* }
            }

            /// Its first words.
            pub fn as_sql(self) -> &'static str {
                match self { $(Self::$kind => $sql,)* }
            }

            /// Who may run it.
            pub fn rights(self) -> Rights {
                match self { $(Self::$kind => Rights::$rights,)* }
            }

            /// Whether `system.audit` has every attempt: it changes what the server is, not rows of a table.
            pub fn is_audited(self) -> bool {
                match self { $(Self::$kind => [$(stringify!($audited),)? "audited"].len() > 1,)* }
            }
        }
    };
}

statements! {
    Query "SELECT" OWN;
    Explain "EXPLAIN" OWN;
    Insert "INSERT" OWN;
    Update "UPDATE" OWN;
    Delete "DELETE" OWN;
    CreateNamespace "CREATE NAMESPACE" OPERATOR, audited;
    AlterNamespace "ALTER NAMESPACE" OPERATOR, audited;
    DropNamespace "DROP NAMESPACE" OPERATOR, audited;
    ShowNamespaces "SHOW NAMESPACES" OWN;
    CreateTable "CREATE TABLE" OPERATOR, audited;
    AlterTable "ALTER TABLE" OPERATOR, audited;
    DropTable "DROP TABLE" OPERATOR, audited;
    ShowTables "SHOW TABLES" OWN;
    DescribeTable "DESCRIBE TABLE" OWN;
    ShowTableStats "SHOW TABLE STATS" OWN;
    CreateStorage "CREATE STORAGE" OPERATOR, audited;
    AlterStorage "ALTER STORAGE" OPERATOR, audited;
    DropStorage "DROP STORAGE" OPERATOR, audited;
    ShowStorages "SHOW STORAGES" OPERATOR_OR_OWN;
    FlushTable "FLUSH TABLE" OPERATOR, audited;
    FlushAll "FLUSH ALL TABLES" OPERATOR, audited;
    CompactTable "COMPACT TABLE" OPERATOR, audited;
    Export "EXPORT" OWN;
    BackupDatabase "BACKUP DATABASE" OPERATOR, audited;
    RestoreDatabase "RESTORE DATABASE" OPERATOR, audited;
    ShowBackup "SHOW BACKUP" OPERATOR, audited;
    Subscribe "SUBSCRIBE" OWN;
    KillLiveQuery "KILL LIVE QUERY" OPERATOR_OR_OWN, audited;
    CreateUser "CREATE USER" BELOW, audited;
    AlterUser "ALTER USER" BELOW_OR_SELF, audited;
    DropUser "DROP USER" BELOW, audited;
    ShowUsers "SHOW USERS" OPERATOR_OR_OWN;
    CreateApiKey "CREATE API KEY" BELOW, audited;
    RevokeApiKey "REVOKE API KEY" BELOW_OR_SELF, audited;
    ShowApiKeys "SHOW API KEYS" OPERATOR_OR_OWN;
}

/// Who may do what with a system table.
#[derive(Debug, Clone, Copy)]
pub struct SystemTableRights {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name.
    pub table: &'static str,
    /// Who may read it.
    pub read: Rights,
    /// Who may INSERT, UPDATE and DELETE its rows.
    pub write: Rights,
}

const fn system_table(table: &'static str, read: Rights, write: Rights) -> SystemTableRights {
    SystemTableRights { namespace: SYSTEM, table, read, write }
}

const fn standard_table(table: &'static str) -> SystemTableRights {
    SystemTableRights { namespace: INFORMATION_SCHEMA, table, read: Rights::OWN, write: Rights::NOBODY }
}

/// Every system table. One without a line can be read by nobody.
pub const SYSTEM_TABLES: &[SystemTableRights] = &[
    system_table("namespaces", Rights::OWN, Rights::NOBODY),
    system_table("tables", Rights::OWN, Rights::NOBODY),
    system_table("columns", Rights::OWN, Rights::NOBODY),
    system_table("table_schemas", Rights::OWN, Rights::NOBODY),
    system_table("segments", Rights::OPERATOR_OR_OWN, Rights::NOBODY),
    system_table("storages", Rights::OPERATOR_OR_OWN, Rights::OPERATOR),
    system_table("jobs", Rights::OPERATOR_OR_OWN, Rights::NOBODY),
    system_table("live_queries", Rights::OPERATOR_OR_OWN, Rights::NOBODY),
    system_table("users", Rights::OPERATOR_OR_OWN, Rights::BELOW_OR_SELF),
    system_table("api_keys", Rights::OPERATOR_OR_OWN, Rights::NOBODY),
    system_table("settings", Rights::OPERATOR, Rights::NOBODY),
    system_table("audit", Rights::OPERATOR, Rights::NOBODY),
    standard_table("schemata"),
    standard_table("tables"),
    standard_table("columns"),
];

/// The line of a system table.
pub(crate) fn rights_on(namespace: &str, table: &str) -> SystemTableRights {
    let known = SYSTEM_TABLES.iter().find(|line| line.namespace == namespace && line.table == table);
    known.copied().unwrap_or(SystemTableRights {
        namespace: SYSTEM,
        table: "",
        read: Rights::NOBODY,
        write: Rights::NOBODY,
    })
}

/// Checks that a caller may run statements of a kind at all.
///
/// # Errors
/// PERMISSION_DENIED.
pub(crate) fn may_run(caller: &Caller, kind: StatementKind) -> Result<()> {
    kind.rights().check(caller, kind.as_sql())
}

/// Checks that a caller may read a system table.
///
/// # Errors
/// PERMISSION_DENIED.
pub(crate) fn may_read_system_table(caller: &Caller, namespace: &str, table: &str) -> Result<()> {
    rights_on(namespace, table).read.check(caller, &format!("Reading {namespace}.{table}"))
}

/// Checks that a caller may change rows of a table of the namespace `system`.
///
/// # Errors
/// PERMISSION_DENIED.
pub(crate) fn may_write_system_table(caller: &Caller, table: &str) -> Result<()> {
    rights_on(SYSTEM, table).write.check(caller, &format!("Changing {SYSTEM}.{table}"))
}

/// Checks that a caller sees all rows of a table of the namespace `system`; the thing it wants is called `what`.
///
/// # Errors
/// PERMISSION_DENIED.
pub(crate) fn sees_all_of(caller: &Caller, table: &str, what: &str) -> Result<()> {
    rights_on(SYSTEM, table).read.check_all(caller, what)
}

#[cfg(test)]
mod tests;
