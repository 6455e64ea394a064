//! What an ingest is asked to do, and what it answers.

use kalamdb_store::ids::CommitSeq;

use crate::{
    error::{Error, Reason, Result},
    sql::{Access, TableKind},
};

/// Where the rows of an ingest go.
///
/// ```
/// use kalamdb_engine::{IfExists, IfMissing, IngestTarget};
///
/// let target = IngestTarget::append("chat", "messages");
/// assert_eq!((target.if_missing, target.if_exists), (IfMissing::Fail, IfExists::Append));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestTarget {
    /// The table's namespace.
    pub namespace: String,
    /// The table, by its name as it is: nothing is folded to lower case.
    pub table: String,
    /// What happens if there is no such table.
    pub if_missing: IfMissing,
    /// What happens if there is one.
    pub if_exists: IfExists,
    /// How it is done.
    pub options: IngestOptions,
}

impl IngestTarget {
    /// Rows are added to a table that exists.
    pub fn append(namespace: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            table: table.into(),
            if_missing: IfMissing::Fail,
            if_exists: IfExists::Append,
            options: IngestOptions::default(),
        }
    }

    /// A table is made for the rows; there must be none.
    pub fn create(namespace: impl Into<String>, table: impl Into<String>) -> Self {
        let append = Self::append(namespace, table);
        Self { if_missing: IfMissing::Create, if_exists: IfExists::Fail, ..append }
    }
}

/// What an ingest does about a table that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IfMissing {
    /// It fails with TABLE_NOT_FOUND.
    Fail,
    /// It makes the table, with the columns of the data, in the commit that brings the first rows.
    Create,
}

/// What an ingest does about a table that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IfExists {
    /// It fails with TABLE_EXISTS.
    Fail,
    /// It adds the rows.
    Append,
}

/// How rows are ingested, and how a table is made for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOptions {
    /// All rows or none, in one commit; or else in several commits of bounded size, in order, of which those before an
    /// error stay. Default: true.
    pub atomic: bool,
    /// Of a new table: the column that is its primary key. Default: `id` if the data has such a column of a fitting type,
    /// else a column `id` that is added, `BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID()`.
    pub primary_key: Option<String>,
    /// Of a new table: its type. Default: SHARED.
    pub table_type: TableKind,
    /// Of a new SHARED table: who may use it. Default: private.
    pub access: Option<Access>,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self { atomic: true, primary_key: None, table_type: TableKind::Shared, access: None }
    }
}

/// What the names of options begin with.
const PREFIX: &str = "kalamdb.ingest.";

impl IngestOptions {
    /// The names of the options, as [`IngestOptions::set`] takes them.
    pub const NAMES: [&'static str; 4] =
        ["kalamdb.ingest.atomic", "kalamdb.ingest.primary_key", "kalamdb.ingest.table_type", "kalamdb.ingest.access"];

    /// Sets an option by its name, as clients of Flight SQL give it.
    ///
    /// # Errors
    /// INVALID_REQUEST for another name, which lists the names there are, and for a value that is not one of the option's.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = |values: &str| {
            let message = format!("The option {name} is {values}; '{}' is neither.", value.escape_debug());
            Err(Error::new(Reason::InvalidRequest, message).with("option", name))
        };
        match name.strip_prefix(PREFIX) {
            Some("atomic") => match value.to_ascii_lowercase().as_str() {
                "true" | "1" => self.atomic = true,
                "false" | "0" => self.atomic = false,
                _ => return wrong("true or false"),
            },
            Some("primary_key") => self.primary_key = Some(value.to_owned()).filter(|column| !column.is_empty()),
            Some("table_type") => match value.to_ascii_lowercase().as_str() {
                "shared" => self.table_type = TableKind::Shared,
                "user" => self.table_type = TableKind::User,
                _ => return wrong("shared or user"),
            },
            Some("access") => match value.to_ascii_lowercase().as_str() {
                "private" => self.access = Some(Access::Private),
                "public" => self.access = Some(Access::Public),
                "restricted" => self.access = Some(Access::Restricted),
                _ => return wrong("private, public or restricted"),
            },
            _ => {
                let message = format!(
                    "There is no option '{}' of an ingest. The options are {}.",
                    name.escape_debug(),
                    Self::NAMES.join(", ")
                );
                return Err(Error::new(Reason::InvalidRequest, message).with("option", name));
            }
        }
        Ok(())
    }
}

/// What an ingest has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IngestOutcome {
    /// Rows that are in.
    pub rows: u64,
    /// The last commit that brought some; `None`: there were none, and no table was made.
    pub commit_seq: Option<CommitSeq>,
    /// Commits that brought rows: 1 for an atomic ingest that had any.
    pub parts: u64,
    /// Whether the table was made.
    pub created: bool,
}
