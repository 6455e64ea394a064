//! Names of namespaces, tables, columns and storages, valid by construction.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Reason, Result},
    sql::Name,
};

/// The longest name, in characters.
pub(super) const MAX_NAME_LENGTH: usize = 63;

/// Names that no namespace and no table can have.
pub(super) const RESERVED_NAMES: [&str; 4] = ["all_users", "information_schema", "system", "user"];

/// Hidden columns that every table has, and the owner's column of `all_users`; no column of a user has their names.
pub(super) const SYSTEM_COLUMNS: [&str; 4] = [SEQ_COLUMN, UPDATED_COLUMN, DELETED_COLUMN, OWNER_COLUMN];

const NOTHING_RESERVED: [&str; 0] = [];

/// Commit sequence of the row's current version.
pub(crate) const SEQ_COLUMN: &str = "_seq";
/// Commit time of the row's current version.
pub(crate) const UPDATED_COLUMN: &str = "_updated";
/// Whether the row is deleted; false in every row that a SELECT returns.
pub(crate) const DELETED_COLUMN: &str = "_deleted";
/// The user whose partition a row is in, in `ns.all_users.t`.
pub(crate) const OWNER_COLUMN: &str = "_user_id";

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $reserved:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name as it stands in a statement.
            ///
            /// # Errors
            /// INVALID_NAME, with the rule it breaks.
            pub fn new(name: &str) -> Result<Self> {
                check(name, $what, &$reserved)?;
                Ok(Self(name.into()))
            }

            /// The same for a parsed name; the error points at it.
            ///
            /// # Errors
            /// INVALID_NAME, with the rule it breaks.
            pub fn from_sql(name: &Name) -> Result<Self> {
                Self::new(&name.text).map_err(|e| match name.position {
                    Some(position) => e.at(position),
                    None => e,
                })
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// The name of a namespace.
    NamespaceName, "namespace", RESERVED_NAMES
);
name_type!(
    /// The name of a table, without its namespace.
    TableLabel, "table", RESERVED_NAMES
);
name_type!(
    /// The name of a column.
    ColumnName, "column", SYSTEM_COLUMNS
);
name_type!(
    /// The name of a storage.
    StorageName, "storage", NOTHING_RESERVED
);

fn check(name: &str, what: &str, reserved: &[&str]) -> Result<()> {
    let fail = |why: String| {
        Err(Error::new(Reason::InvalidName, format!("{why} Names match [A-Za-z_][A-Za-z0-9_]{{0,62}}."))
            .with("name", name.chars().take(100).collect::<String>()))
    };
    if name.is_empty() {
        return fail(format!("A {what} name cannot be empty."));
    }
    let length = name.chars().count();
    if length > MAX_NAME_LENGTH {
        return fail(format!("The {what} name has {length} characters; the longest allowed is {MAX_NAME_LENGTH}."));
    }
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '_') {
        return fail(format!("The {what} name '{}' has the character {bad:?}.", name.escape_debug()));
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return fail(format!("The {what} name '{name}' begins with a digit."));
    }
    if reserved.iter().any(|r| r.eq_ignore_ascii_case(name)) {
        return fail(format!("The {what} name '{name}' is reserved; choose another."));
    }
    Ok(())
}

/// The candidate that `name` is probably a slip of, if any is near.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(lower.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// ` Did you mean 'x'?`, or nothing.
pub(crate) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|n| format!(" Did you mean '{n}'?")).unwrap_or_default()
}
