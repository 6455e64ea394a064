//! API keys: `kdb_<key id>_<secret>`, of which the id is public and the secret is shown once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use kalamdb_store::{
    codec::{
        api_key_key, api_key_of_range, api_key_of_user_key, api_key_range, api_key_used_key, split_api_key_key,
        split_api_key_of_user_key,
    },
    ids::UserId,
    kv::{Direction, Keyspace, Snapshot},
};
use serde::{Deserialize, Serialize};

use super::{
    AccessChange, Change, Users,
    rights::{self, Administered},
    secret::{Secret, SecretHash, is_id, random_id},
    stored, time_of,
};
use crate::{
    access::{Caller, Role},
    error::{Error, Reason, Result},
    exec::{corrupt, from_store},
    users::User,
};

/// What every API key begins with.
const PREFIX: &str = "kdb_";
/// API keys that one user can have.
const MAX_KEYS_PER_USER: usize = 1_000;
/// Characters of a key's name.
const MAX_NAME_CHARS: usize = 256;

/// The public part of an API key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ApiKeyId(Arc<str>);

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyInfo {
    /// Its id, the part of it that is no secret.
    pub key_id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// What it is called.
    pub name: Option<String>,
    /// When it was created, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// From when on it is refused; `None`: never.
    pub expires_at_us: Option<i64>,
    /// When it was last used, to about a minute.
    pub last_used_us: Option<i64>,
}

/// An API key that was just created.
#[derive(Clone, PartialEq, Eq)]
pub struct NewApiKey {
    /// What can be known of it later.
    pub info: ApiKeyInfo,
    /// The key itself. It is not stored and cannot be shown again.
    pub key: String,
}

/// A key as it is checked.
pub(super) struct ApiKey {
    record: ApiKeyRecord,
    /// When its use was last noted.
    noted_at_us: AtomicI64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ApiKeyRecord {
    user_id: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    secret_sha256: SecretHash,
    created_at_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_us: Option<i64>,
}

impl ApiKeyId {
    /// The id of a text that can be one: 16 hexadecimal digits.
    pub fn new(text: &str) -> Option<Self> {
        is_id(text).then(|| Self(text.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Users {
    /// Whose an API key is. The key is looked up in memory if it was used lately; then this takes some microseconds.
    ///
    /// # Errors
    /// UNAUTHENTICATED if it is none, was revoked or has expired, or its user is gone; USER_DISABLED; those of the store.
    #[expect(clippy::unused_async, reason = "the store may come to be remote")]
    pub async fn authenticate_key(&self, key: &str) -> Result<(Arc<User>, ApiKeyId)> {
        let (id, secret) = split(key).ok_or_else(refused)?;
        let known = self.key(&id)?.filter(|known| known.record.secret_sha256.is_of(&secret)).ok_or_else(refused)?;
        let now_us = self.env.now_us();
        if known.record.is_expired(now_us) {
            return Err(Error::new(Reason::Unauthenticated, "The API key has expired. Create another one."));
        }
        let user = self.find(&known.record.user_id)?.ok_or_else(refused)?;
        if user.disabled {
            return Err(rights::disabled(&user));
        }
        let noted = known.noted_at_us.load(Ordering::Relaxed);
        if now_us.saturating_sub(noted) >= self.settings.key_use_resolution_us()
            && known.noted_at_us.compare_exchange(noted, now_us, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.activity.key_used(&id, now_us);
        }
        Ok((user, id))
    }

    /// Whether an API key can still be used: it was neither revoked nor has it expired.
    ///
    /// # Errors
    /// Those of the store.
    pub fn key_is_valid(&self, id: &ApiKeyId) -> Result<bool> {
        let now_us = self.env.now_us();
        Ok(self.key(id)?.is_some_and(|known| !known.record.is_expired(now_us)))
    }

    /// Creates an API key of a user; durable when it returns. The key itself is in the answer and nowhere else.
    ///
    /// # Errors
    /// PERMISSION_DENIED, USER_NOT_FOUND, INVALID_USER for an expiry in the past or too many keys.
    pub(crate) async fn create_key(
        self: &Arc<Self>,
        caller: &Caller,
        user: &UserId,
        name: Option<String>,
        expires_at_us: Option<i64>,
    ) -> Result<NewApiKey> {
        let turn = self.turn().await;
        let owner = self.find(user)?.ok_or_else(|| rights::no_such_user(user.as_str()))?;
        let may_for_itself = caller.role >= Role::Dba && caller.user_id == *user;
        if !may_for_itself {
            rights::may_administer(caller, &Administered::existing(user, owner.role), "Creating API keys")?;
        }
        if let Some(name) = &name
            && (name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control))
        {
            let message =
                format!("The name of an API key has at most {MAX_NAME_CHARS} characters, none a control character.");
            return Err(Error::new(Reason::InvalidUser, message));
        }
        if expires_at_us.is_some_and(|at_us| at_us <= self.env.now_us()) {
            return Err(Error::new(Reason::InvalidUser, "The API key would have expired already. Give a later time."));
        }
        if self.key_ids_of(self.backend.snapshot().as_ref(), user)?.len() >= MAX_KEYS_PER_USER {
            let message = format!(
                "User '{}' has {MAX_KEYS_PER_USER} API keys, the most there can be. Revoke some with REVOKE API KEY.",
                owner.username
            );
            return Err(Error::new(Reason::InvalidUser, message));
        }
        let mut change = Change::default();
        let new = self.draft_key(&mut change, user, name, expires_at_us)?;
        self.commit(turn, change).await?;
        Ok(new)
    }

    /// Adds a new key to a change.
    pub(super) fn draft_key(
        &self,
        change: &mut Change,
        user: &UserId,
        name: Option<String>,
        expires_at_us: Option<i64>,
    ) -> Result<NewApiKey> {
        let mut key_id = random_id(self.env.as_ref());
        while self.get(&api_key_key(&key_id))?.is_some() {
            key_id = random_id(self.env.as_ref());
        }
        let secret = Secret::new(self.env.as_ref());
        let record = ApiKeyRecord {
            user_id: user.clone(),
            name,
            secret_sha256: secret.hash(),
            created_at_us: self.env.now_us(),
            expires_at_us,
        };
        let value = serde_json::to_vec(&record).map_err(Error::internal)?;
        change.batch.put(Keyspace::System, api_key_key(&key_id), value);
        change.batch.put(Keyspace::System, api_key_of_user_key(user, &key_id), []);
        // That there was none may be remembered.
        change.forget_keys.extend(ApiKeyId::new(&key_id));
        let key = format!("{PREFIX}{key_id}_{}", secret.text());
        Ok(NewApiKey { info: record.info(key_id, None), key })
    }

    /// Revokes an API key: durable when it returns, and refused from then on.
    ///
    /// # Errors
    /// API_KEY_NOT_FOUND, also for a key that the caller may not know of; PERMISSION_DENIED.
    pub(crate) async fn revoke_key(self: &Arc<Self>, caller: &Caller, key_id: &str) -> Result<()> {
        let unknown = || {
            let shown: String = key_id.chars().take(40).collect();
            let message =
                format!("API key '{shown}' does not exist. SELECT * FROM system.api_keys shows those there are.");
            Error::new(Reason::ApiKeyNotFound, message).with("key_id", shown)
        };
        let turn = self.turn().await;
        let id = ApiKeyId::new(key_id).ok_or_else(unknown)?;
        let known = self.key(&id)?.ok_or_else(unknown)?;
        let user = &known.record.user_id;
        if caller.user_id != *user {
            if caller.role < Role::Dba {
                return Err(unknown());
            }
            let role = self.record(user)?.map_or(Role::User, |record| record.role);
            rights::may_administer(caller, &Administered::existing(user, role), "Revoking API keys")?;
        }
        let mut change = Change::default();
        draft_removal(&mut change, user, &id);
        self.commit(turn, change).await
    }

    /// Adds the end of all keys of a user to a change.
    pub(super) fn draft_revocation(&self, change: &mut Change, user: &UserId) -> Result<()> {
        for id in self.key_ids_of(self.backend.snapshot().as_ref(), user)? {
            draft_removal(change, user, &id);
        }
        Ok(())
    }

    /// API keys, by id: of one user, or of all. With `concerns`, only of those users of whom that is true.
    fn keys(&self, user: Option<&UserId>, concerns: impl Fn(&UserId) -> bool) -> Result<Vec<ApiKeyInfo>> {
        let snapshot = self.backend.snapshot();
        let snapshot = snapshot.as_ref();
        let mut infos = Vec::new();
        if let Some(user) = user {
            if concerns(user) {
                for id in self.key_ids_of(snapshot, user)? {
                    let Some(record) = stored(snapshot, &api_key_key(id.as_str()))? else { continue };
                    infos.push(self.info(snapshot, &id, decode(&record)?)?);
                }
            }
            return Ok(infos);
        }
        let mut cursor =
            snapshot.cursor(Keyspace::System, api_key_range(None), Direction::Forward).map_err(from_store)?;
        while let Some((key, value)) = cursor.item() {
            let record = decode(value)?;
            if concerns(&record.user_id) {
                let id = ApiKeyId::new(split_api_key_key(key).map_err(corrupt)?);
                let id = id.ok_or_else(|| corrupt("the id of an API key"))?;
                infos.push(self.info(snapshot, &id, record)?);
            }
            cursor.advance().map_err(from_store)?;
        }
        Ok(infos)
    }

    /// The keys, of one user or of all, that a caller may know of: its own, and those of whom it may administer.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn keys_seen_by(&self, caller: &Caller, user: Option<&UserId>) -> Result<Vec<ApiKeyInfo>> {
        let user = if caller.role < Role::Dba { Some(user.unwrap_or(&caller.user_id)) } else { user };
        self.keys(user, |owner| caller.role >= Role::Dba || *owner == caller.user_id)
    }

    fn info(&self, snapshot: &dyn Snapshot, id: &ApiKeyId, record: ApiKeyRecord) -> Result<ApiKeyInfo> {
        let stored_us = time_of(stored(snapshot, &api_key_used_key(id.as_str()))?.as_deref())?;
        Ok(record.info(id.to_string(), self.activity.use_of(id).or(stored_us)))
    }

    fn key_ids_of(&self, snapshot: &dyn Snapshot, user: &UserId) -> Result<Vec<ApiKeyId>> {
        let mut ids = Vec::new();
        let range = api_key_of_range(user);
        let mut cursor = snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store)?;
        while cursor.valid() {
            let id = ApiKeyId::new(split_api_key_of_user_key(user, cursor.key()).map_err(corrupt)?);
            ids.push(id.ok_or_else(|| corrupt("the id of an API key"))?);
            cursor.advance().map_err(from_store)?;
        }
        Ok(ids)
    }

    fn key(&self, id: &ApiKeyId) -> Result<Option<Arc<ApiKey>>> {
        self.keys.get(id, || {
            let Some(bytes) = self.get(&api_key_key(id.as_str()))? else { return Ok(None) };
            let used = time_of(self.get(&api_key_used_key(id.as_str()))?.as_deref())?;
            Ok(Some(ApiKey { record: decode(&bytes)?, noted_at_us: AtomicI64::new(used.unwrap_or(i64::MIN)) }))
        })
    }
}

impl ApiKey {
    pub(super) fn byte_size(&self) -> usize {
        let record = &self.record;
        size_of::<Self>() + record.user_id.as_str().len() + record.name.as_ref().map_or(0, String::len)
    }
}

impl ApiKeyRecord {
    fn is_expired(&self, now_us: i64) -> bool {
        self.expires_at_us.is_some_and(|at_us| at_us <= now_us)
    }

    fn info(self, key_id: String, last_used_us: Option<i64>) -> ApiKeyInfo {
        let Self { user_id, name, created_at_us, expires_at_us, .. } = self;
        ApiKeyInfo { key_id, user_id, name, created_at_us, expires_at_us, last_used_us }
    }
}

fn draft_removal(change: &mut Change, user: &UserId, id: &ApiKeyId) {
    change.batch.delete(Keyspace::System, api_key_key(id.as_str()));
    change.batch.delete(Keyspace::System, api_key_of_user_key(user, id.as_str()));
    change.batch.delete(Keyspace::System, api_key_used_key(id.as_str()));
    change.events.push(AccessChange::Key(id.clone()));
}

fn decode(bytes: &[u8]) -> Result<ApiKeyRecord> {
    serde_json::from_slice(bytes).map_err(|e| corrupt("the record of an API key").with_detail(e))
}

fn split(key: &str) -> Option<(ApiKeyId, Secret)> {
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    Some((ApiKeyId::new(id)?, Secret::parse(secret)?))
}

/// The same for all keys that are none, so that nothing is learned by guessing.
fn refused() -> Error {
    Error::new(Reason::Unauthenticated, "The API key is not valid: it does not exist, or was revoked.")
}

/// Shown without the key.
impl fmt::Debug for NewApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewApiKey").field("info", &self.info).finish_non_exhaustive()
    }
}
