//! The statements about users and API keys, as typed structs.

use std::fmt;

use super::statement::Name;
use crate::access::Role;

/// A password in plain text. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes a text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// CREATE USER [IF NOT EXISTS] u [WITH] property….
#[derive(Debug, Clone)]
pub struct CreateUser {
    /// Its username.
    pub name: Name,
    /// ID '…': its user id, unless that is its username.
    pub user_id: Option<String>,
    /// ROLE, PASSWORD and so on.
    pub properties: UserProperties,
    /// Do nothing if it exists.
    pub if_not_exists: bool,
}

/// ALTER USER u [SET] property….
#[derive(Debug, Clone)]
pub struct AlterUser {
    /// Its username, or its id.
    pub name: Name,
    /// RENAME TO: its new username.
    pub rename_to: Option<Name>,
    /// ROLE, PASSWORD and so on.
    pub properties: UserProperties,
}

/// What a statement says of a user; `None`: nothing.
#[derive(Debug, Clone, Default)]
pub struct UserProperties {
    /// ROLE.
    pub role: Option<Role>,
    /// PASSWORD '…', or NULL for none.
    pub password: Option<Option<Password>>,
    /// PERMISSIONS ('…', …): all of them.
    pub permissions: Option<Vec<String>>,
    /// METADATA '…', or NULL for none.
    pub metadata: Option<Option<String>>,
    /// ENABLE or DISABLE.
    pub disabled: Option<bool>,
}

/// DROP USER [IF EXISTS] u [CASCADE].
#[derive(Debug, Clone)]
pub struct DropUser {
    /// Its username, or its id.
    pub name: Name,
    /// Do nothing if it does not exist.
    pub if_exists: bool,
    /// Delete its rows too.
    pub cascade: bool,
}

/// CREATE API KEY FOR USER u [NAME '…'] [EXPIRES …].
#[derive(Debug, Clone)]
pub struct CreateApiKey {
    /// The username, or the id, of the user.
    pub user: Name,
    /// NAME: what it is called.
    pub name: Option<String>,
    /// EXPIRES: from when on it is refused.
    pub expires: Option<Expiry>,
}

/// When an API key expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expiry {
    /// EXPIRES '2030-01-01T00:00:00Z', in microseconds since 1970-01-01T00:00:00Z.
    At(i64),
    /// EXPIRES IN '30 days': so many microseconds from now.
    In(i64),
}

/// REVOKE API KEY 'id'.
#[derive(Debug, Clone)]
pub struct RevokeApiKey {
    /// Its id.
    pub key_id: String,
}
