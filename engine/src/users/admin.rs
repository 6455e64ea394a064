//! Users and API keys, as callers of the API see and change them.

use std::sync::Arc;

use kalamdb_store::ids::UserId;

use super::{
    ApiKeyInfo, NewApiKey, NewUser, User, UserPage, UserPatch, removal,
    rights::{may_see, no_such_user},
};
use crate::{
    access::StatementKind,
    audit::{Act, audited, id_of_key},
    error::Result,
    session::Session,
};

/// Users on one page at most.
const MAX_PAGE: usize = 10_000;

impl Session {
    /// The users that the caller may know of whose names begin with `prefix`, by username, some at a time: those after
    /// `after`, `limit` at most (10,000 if more).
    ///
    /// # Errors
    /// Those of the store.
    pub fn users(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<UserPage> {
        self.shared().users.page(self.caller(), prefix, after, limit.clamp(1, MAX_PAGE))
    }

    /// The user with this username, or else with this id.
    ///
    /// # Errors
    /// USER_NOT_FOUND, also for one that the caller may not know of.
    pub fn user(&self, name: &str) -> Result<Arc<User>> {
        let user = self.shared().users.named(self.caller(), name)?;
        let Some(at_us) = self.shared().users.unwritten_login(&user.user_id) else { return Ok(user) };
        Ok(Arc::new(User { last_login_us: Some(at_us), ..user.as_ref().clone() }))
    }

    /// The user with this id.
    ///
    /// # Errors
    /// USER_NOT_FOUND, also for one that the caller may not know of.
    pub fn user_by_id(&self, id: &UserId) -> Result<Arc<User>> {
        let user = self.shared().users.find(id)?;
        let user = user.filter(|user| may_see(self.caller(), &user.user_id, user.role));
        user.ok_or_else(|| no_such_user(id.as_str()))
    }

    /// Creates a user; durable when it returns. False: it existed and `if_not_exists` was set.
    ///
    /// # Errors
    /// PERMISSION_DENIED, USER_EXISTS, INVALID_USER, and what is wrong with a rule.
    pub async fn create_user(&self, new: NewUser, if_not_exists: bool) -> Result<bool> {
        let act = Act::new(StatementKind::CreateUser, new.username.as_str());
        let creating = async {
            StatementKind::CreateUser.rights().check(self.caller(), "Creating users")?;
            self.shared().users.create_all(self.caller(), vec![(new, if_not_exists)]).await.map(|created| created > 0)
        };
        audited(self.shared(), self.caller(), act, creating).await
    }

    /// Changes a user, named by its username or id; durable and in force when it returns.
    ///
    /// # Errors
    /// PERMISSION_DENIED, USER_NOT_FOUND, USER_EXISTS, INVALID_USER, LAST_ADMINISTRATOR, and what is wrong with a rule.
    pub async fn alter_user(&self, name: &str, patch: UserPatch) -> Result<()> {
        let act = Act::new(StatementKind::AlterUser, name);
        let altering = async {
            let user = self.shared().users.named(self.caller(), name)?;
            self.shared().users.alter_all(self.caller(), vec![(user.user_id.clone(), patch)]).await
        };
        audited(self.shared(), self.caller(), act, altering).await
    }

    /// Drops a user, named by its username or id; with `cascade`, its rows too. Durable when it returns. False: it did not
    /// exist and `if_exists` was set.
    ///
    /// # Errors
    /// PERMISSION_DENIED, USER_NOT_FOUND, USER_HAS_DATA, LAST_ADMINISTRATOR.
    pub async fn drop_user(&self, name: &str, if_exists: bool, cascade: bool) -> Result<bool> {
        let act = Act::new(StatementKind::DropUser, name);
        let dropping = async {
            StatementKind::DropUser.rights().check(self.caller(), "Dropping users")?;
            let user = match self.shared().users.named(self.caller(), name) {
                Err(e) if if_exists && e.reason() == crate::error::Reason::UserNotFound => return Ok(false),
                found => found?,
            };
            let ids = vec![user.user_id.clone()];
            removal::drop_all(self.shared(), self.caller(), ids, cascade, if_exists).await.map(|dropped| dropped > 0)
        };
        audited(self.shared(), self.caller(), act, dropping).await
    }

    /// Creates an API key of a user, named by its username or id; durable when it returns. The answer has the key, which is
    /// not stored and cannot be shown again.
    ///
    /// # Errors
    /// PERMISSION_DENIED, USER_NOT_FOUND, INVALID_USER for an expiry in the past.
    pub async fn create_api_key(
        &self,
        user: &str,
        name: Option<String>,
        expires_at_us: Option<i64>,
    ) -> Result<NewApiKey> {
        let act = Act::new(StatementKind::CreateApiKey, user);
        let creating = async {
            StatementKind::CreateApiKey.rights().check(self.caller(), "Creating API keys")?;
            let owner = self.shared().users.named(self.caller(), user)?;
            self.shared().users.create_key(self.caller(), &owner.user_id, name, expires_at_us).await
        };
        audited(self.shared(), self.caller(), act, creating).await
    }

    /// API keys that the caller may know of, by their ids: of the user with this username or id, or of all.
    ///
    /// # Errors
    /// USER_NOT_FOUND.
    pub fn api_keys(&self, user: Option<&str>) -> Result<Vec<ApiKeyInfo>> {
        let owner: Option<UserId> = match user {
            Some(name) => Some(self.shared().users.named(self.caller(), name)?.user_id.clone()),
            None => None,
        };
        self.shared().users.keys_seen_by(self.caller(), owner.as_ref())
    }

    /// Revokes an API key; durable when it returns, and the key is refused from then on.
    ///
    /// # Errors
    /// API_KEY_NOT_FOUND, PERMISSION_DENIED.
    pub async fn revoke_api_key(&self, key_id: &str) -> Result<()> {
        let key_id = id_of_key(key_id);
        let act = Act::new(StatementKind::RevokeApiKey, key_id);
        audited(self.shared(), self.caller(), act, self.shared().users.revoke_key(self.caller(), key_id)).await
    }
}
