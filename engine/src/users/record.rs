//! Users as stored and as used.

use std::{fmt, sync::Arc};

use kalamdb_store::ids::UserId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    access::{Role, RuleSet},
    error::{Error, Result},
    exec::corrupt,
};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id, which its rows are stored under. It never changes.
    pub user_id: UserId,
    /// The name that it logs in with.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// Its rules, as they were given.
    pub permissions: Vec<String>,
    /// The same, read.
    pub rules: Arc<RuleSet>,
    /// A JSON text that KalamDB gives no meaning.
    pub metadata: Option<String>,
    /// Whether its credentials are refused.
    pub disabled: bool,
    /// Whether it can log in with a password.
    pub has_password: bool,
    /// When it was created, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// When it was last changed.
    pub updated_at_us: i64,
    /// When it last logged in.
    pub last_login_us: Option<i64>,
    /// How its password is stored. Never shown.
    pub(super) password: Option<PasswordHash>,
}

/// A user as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UserRecord {
    pub(super) username: String,
    #[serde(serialize_with = "write_role", deserialize_with = "read_role")]
    pub(super) role: Role,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) permissions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<String>,
    #[serde(default)]
    pub(super) disabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<PasswordHash>,
    pub(super) created_at_us: i64,
    pub(super) updated_at_us: i64,
    /// It is being deleted along with its rows: nobody finds it any more.
    #[serde(default)]
    pub(super) leaving: bool,
    /// Its rows go with it.
    #[serde(default)]
    pub(super) cascade: bool,
}

/// The text that argon2 makes of a password, with its parameters and salt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct PasswordHash(pub(super) String);

impl User {
    pub(super) fn new(user_id: UserId, record: UserRecord, last_login_us: Option<i64>) -> Self {
        Self {
            user_id,
            username: record.username,
            role: record.role,
            rules: Arc::new(RuleSet::stored(&record.permissions)),
            permissions: record.permissions,
            metadata: record.metadata,
            disabled: record.disabled,
            has_password: record.password.is_some(),
            created_at_us: record.created_at_us,
            updated_at_us: record.updated_at_us,
            last_login_us,
            password: record.password,
        }
    }

    pub(super) fn byte_size(&self) -> usize {
        let permissions: usize = self.permissions.iter().map(|rule| size_of::<String>() + rule.len()).sum();
        let texts = self.user_id.as_str().len() + self.username.len() + self.metadata.as_ref().map_or(0, String::len);
        size_of::<Self>()
            + texts
            + permissions
            + self.rules.byte_size()
            + self.password.as_ref().map_or(0, |hash| hash.0.len())
    }
}

impl UserRecord {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| corrupt("the record of a user").with_detail(e))
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(Error::internal)
    }

    /// Whether it can administer everything.
    pub(super) fn is_administrator(&self) -> bool {
        self.role == Role::System && !self.disabled && !self.leaving
    }
}

fn write_role<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.as_str())
}

fn read_role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

/// Shown without the text.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(redacted)")
    }
}
