//! Identifiers. Each is a type of its own, so that a table's number can never be passed where a commit's is meant.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Wraps a number that is already known to be such an id.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The number itself.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// A table. Never reused, not even after DROP TABLE.
    TableId(u32)
}
number_id! {
    /// A namespace. Never reused.
    NamespaceId(u32)
}
number_id! {
    /// A version of one table's schema, from 1. Every row names the version that it was written with.
    SchemaVersion(u32)
}
number_id! {
    /// A column of one table. Permanent: a renamed column keeps it, and a dropped column's is never given again.
    ColumnId(u16)
}
number_id! {
    /// The place of a commit in the order of all commits, from 1; 0 means "before the first commit".
    CommitSeq(u64)
}
number_id! {
    /// A segment: one Parquet file of one partition. Unique for ever, and the name of the file.
    SegmentId(u64)
}
number_id! {
    /// A storage: a place for segment files. 0 is the built-in storage `local`. Never reused.
    StorageId(u32)
}

/// The id of an end user: 1 to [`UserId::MAX_CHARS`] characters of any UTF-8, including NUL, `../` and emoji.
///
/// Nothing is normalised: two ids are equal when their bytes are.
///
/// ```
/// use kalamdb_store::ids::UserId;
///
/// assert_eq!(UserId::new("ana")?.as_str(), "ana");
/// assert!(UserId::new("").is_err());
/// # Ok::<(), kalamdb_store::ids::InvalidUserId>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

/// Why a text cannot be a [`UserId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUserId {
    /// The text is empty.
    #[error("a user id must not be empty")]
    Empty,
    /// The text has more than [`UserId::MAX_CHARS`] characters.
    #[error("a user id has at most {max} characters", max = UserId::MAX_CHARS)]
    TooLong,
}

impl UserId {
    /// The greatest length of a user id, in Unicode scalar values.
    pub const MAX_CHARS: usize = 256;

    /// Checks the length and takes the text as it is.
    pub fn new(id: &str) -> Result<Self, InvalidUserId> {
        if id.is_empty() {
            return Err(InvalidUserId::Empty);
        }
        // A character has at least one byte, so the first test spares most ids the count.
        if id.len() > Self::MAX_CHARS && id.chars().count() > Self::MAX_CHARS {
            return Err(InvalidUserId::TooLong);
        }
        Ok(Self(Arc::from(id)))
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({:?})", &self.0)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Whose rows they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Nobody's in particular: the single partition of a SHARED table.
    Shared,
    /// One user's.
    User(UserId),
}

/// The rows of one owner in one table: the unit of isolation. It is the beginning of every row's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The table.
    pub table: TableId,
    /// The owner of the rows.
    pub owner: Owner,
}

#[cfg(test)]
mod tests;
