//! Users and their API keys.

use std::fmt;

use kalamdb_proto::v1;

use super::{Admin, PAGE_SIZE, present};
use crate::{
    convert,
    credential::Secret,
    error::{Error, Result},
};

/// What a user may do, from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Its own partitions, and SHARED tables as their access and its permissions allow.
    #[default]
    User,
    /// Acts for users and reads across users.
    Service,
    /// All DDL, storages, users of the roles above, jobs.
    Dba,
    /// Everything.
    System,
    /// A role that this version of the client does not know.
    Unknown,
}

/// A user. Its password is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id, which its rows are kept under. It never changes.
    pub user_id: String,
    /// The name that it logs in with.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// Its rules: which rows of restricted SHARED tables it sees.
    pub permissions: Vec<String>,
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
    /// When it last logged in; none if it never did.
    pub last_login_us: Option<i64>,
}

/// A user to be, for [`Admin::create_user`]. The password is not printed.
///
/// ```
/// use kalam_link::{NewUser, Role};
///
/// let user = NewUser::new("alice").role(Role::User).password("correct horse battery staple");
/// ```
#[derive(Clone, Default)]
#[must_use = "nothing happens before `Admin::create_user`"]
pub struct NewUser {
    username: String,
    user_id: String,
    role: Role,
    password: Option<Secret>,
    permissions: Vec<String>,
    metadata: Option<String>,
    disabled: bool,
    if_not_exists: bool,
}

/// What is to change of a user, for [`Admin::alter_user`]; what is not said stays. The password is not printed.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing happens before `Admin::alter_user`"]
pub struct UserChanges {
    username: Option<String>,
    role: Option<Role>,
    password: Option<Option<Secret>>,
    permissions: Option<Vec<String>>,
    metadata: Option<String>,
    disabled: Option<bool>,
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, which is no secret.
    pub key_id: String,
    /// Whose it is.
    pub user_id: String,
    /// What it is called.
    pub name: Option<String>,
    /// When it was created, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// From when on it is refused; none: never.
    pub expires_at_us: Option<i64>,
    /// When it was last used, to about a minute; none if it never was.
    pub last_used_us: Option<i64>,
}

/// An API key that was just made, with its secret, which is told this once. It is not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiKey {
    /// What may be known of it.
    pub info: ApiKey,
    key: Secret,
}

impl NewUser {
    /// A user of role user that has nothing but a name. Its id is the same, unless [`NewUser::user_id`] says otherwise.
    pub fn new(username: impl Into<String>) -> Self {
        NewUser { username: username.into(), ..NewUser::default() }
    }

    /// The id that its rows are kept under.
    pub fn user_id(mut self, id: impl Into<String>) -> Self {
        self.user_id = id.into();
        self
    }

    /// What it may do. Default: [`Role::User`].
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// What it logs in with. Default: it cannot log in with a password.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into().into());
        self
    }

    /// Its rules, such as `shop.orders.owner = CURRENT_USER()`.
    pub fn permissions(mut self, rules: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.permissions = rules.into_iter().map(Into::into).collect();
        self
    }

    /// A JSON text that KalamDB gives no meaning.
    pub fn metadata(mut self, json: impl Into<String>) -> Self {
        self.metadata = Some(json.into());
        self
    }

    /// Whether its credentials are refused at first.
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = disabled;
        self
    }

    /// Whether a user of this name or id that exists already is no error, and stays as it is.
    pub fn if_not_exists(mut self, accepted: bool) -> Self {
        self.if_not_exists = accepted;
        self
    }
}

impl UserChanges {
    /// Nothing yet.
    pub fn new() -> Self {
        UserChanges::default()
    }

    /// The name that it logs in with.
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// What it may do.
    pub fn role(mut self, role: Role) -> Self {
        self.role = Some(role);
        self
    }

    /// What it logs in with. Its sessions end.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Some(password.into().into()));
        self
    }

    /// It cannot log in with a password any more. Its sessions end.
    pub fn no_password(mut self) -> Self {
        self.password = Some(None);
        self
    }

    /// Its rules, all of them.
    pub fn permissions(mut self, rules: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.permissions = Some(rules.into_iter().map(Into::into).collect());
        self
    }

    /// A JSON text that KalamDB gives no meaning; empty: none.
    pub fn metadata(mut self, json: impl Into<String>) -> Self {
        self.metadata = Some(json.into());
        self
    }

    /// Whether its credentials are refused. When they are, its calls under way end at once.
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = Some(disabled);
        self
    }
}

impl NewApiKey {
    /// The key, for [`ClientBuilder::api_key`](crate::ClientBuilder::api_key): it cannot be asked for again.
    pub fn key(&self) -> &str {
        self.key.expose()
    }
}

impl fmt::Debug for NewUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUser")
            .field("username", &self.username)
            .field("user_id", &self.user_id)
            .field("role", &self.role)
            .field("password", &self.password)
            .finish_non_exhaustive()
    }
}

impl Role {
    /// `user`, `service`, `dba` or `system`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Service => "service",
            Role::Dba => "dba",
            Role::System => "system",
            Role::Unknown => "unknown",
        }
    }

    fn to_proto(self) -> Result<v1::UserRole> {
        match self {
            Role::User => Ok(v1::UserRole::User),
            Role::Service => Ok(v1::UserRole::Service),
            Role::Dba => Ok(v1::UserRole::Dba),
            Role::System => Ok(v1::UserRole::System),
            Role::Unknown => Err(Error::configuration("a user needs a role that this version of the client knows")),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Admin {
    /// The users whose names begin with a text, by username; with an empty one, all that the caller may know of.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn list_users(&self, username_prefix: &str) -> Result<Vec<User>> {
        self.pages(async |page_token| {
            let username_prefix = username_prefix.to_owned();
            let request = v1::ListUsersRequest { username_prefix, page_size: PAGE_SIZE, page_token };
            let page = self.read(request, |mut client, request| async move { client.list_users(request).await });
            let page = page.await?;
            Ok((page.users.into_iter().map(user).collect(), page.next_page_token))
        })
        .await
    }

    /// A user, by its username or id.
    ///
    /// # Errors
    /// Those of the server, such as `USER_NOT_FOUND`.
    pub async fn get_user(&self, name: impl Into<String>) -> Result<User> {
        let request = v1::GetUserRequest { user: name.into() };
        let answer = self.read(request, |mut client, request| async move { client.get_user(request).await });
        present(answer.await?.user, "user").map(user)
    }

    /// Creates a user. Answers it as it is now, and whether it was created: false when it existed and
    /// [`NewUser::if_not_exists`] is set.
    ///
    /// # Errors
    /// Those of the server, such as `USER_EXISTS`. [`Error::Configuration`](crate::Error::Configuration) where the
    /// password would be sent unencrypted to another machine.
    pub async fn create_user(&self, new: NewUser) -> Result<(User, bool)> {
        if new.password.is_some() {
            self.client.check_private("a password")?;
        }
        let request = v1::CreateUserRequest {
            username: new.username,
            user_id: new.user_id,
            role: new.role.to_proto()?.into(),
            password: new.password.map_or_else(String::new, |password| password.expose().to_owned()),
            permissions: new.permissions,
            metadata: new.metadata,
            disabled: new.disabled,
            if_not_exists: new.if_not_exists,
        };
        let answer = self.write(request, |mut client, request| async move { client.create_user(request).await });
        let answer = answer.await?;
        Ok((present(answer.user, "user").map(user)?, answer.created))
    }

    /// Changes a user, named by its username or id. It is in force when it is answered, for calls under way, too.
    ///
    /// # Errors
    /// Those of the server, such as `USER_NOT_FOUND` or `LAST_ADMINISTRATOR`.
    /// [`Error::Configuration`](crate::Error::Configuration) where the password would be sent unencrypted to another
    /// machine.
    pub async fn alter_user(&self, name: impl Into<String>, changes: UserChanges) -> Result<User> {
        if matches!(changes.password, Some(Some(_))) {
            self.client.check_private("a password")?;
        }
        let text =
            |password: Option<Secret>| password.map_or_else(String::new, |password| password.expose().to_owned());
        let request = v1::AlterUserRequest {
            user: name.into(),
            username: changes.username,
            role: changes.role.map(Role::to_proto).transpose()?.unwrap_or_default().into(),
            password: changes.password.map(text),
            permissions: changes.permissions.map(|rules| v1::UserPermissions { rules }),
            metadata: changes.metadata,
            disabled: changes.disabled,
        };
        let answer = self.write(request, |mut client, request| async move { client.alter_user(request).await });
        present(answer.await?.user, "user").map(user)
    }

    /// Drops a user, named by its username or id; with `cascade`, with its rows. Answers whether it was dropped: false
    /// when it did not exist and `if_exists` is set.
    ///
    /// # Errors
    /// Those of the server, such as `USER_HAS_DATA` or `LAST_ADMINISTRATOR`.
    pub async fn drop_user(&self, name: impl Into<String>, if_exists: bool, cascade: bool) -> Result<bool> {
        let request = v1::DropUserRequest { user: name.into(), if_exists, cascade };
        let answer = self.write(request, |mut client, request| async move { client.drop_user(request).await });
        Ok(answer.await?.dropped)
    }

    /// The API keys of a user, named by its username or id, or of all that the caller may know of; by key id.
    ///
    /// # Errors
    /// Those of the server, such as `USER_NOT_FOUND`.
    pub async fn list_api_keys(&self, user: Option<&str>) -> Result<Vec<ApiKey>> {
        let user = user.unwrap_or_default();
        self.pages(async |page_token| {
            let request = v1::ListApiKeysRequest { user: user.to_owned(), page_size: PAGE_SIZE, page_token };
            let page = self.read(request, |mut client, request| async move { client.list_api_keys(request).await });
            let page = page.await?;
            Ok((page.api_keys.into_iter().map(api_key).collect(), page.next_page_token))
        })
        .await
    }

    /// Makes an API key for a user, named by its username or id. `name` is what it is called; after `expires_at_us`, in
    /// microseconds since 1970-01-01T00:00:00Z, it is refused.
    ///
    /// # Errors
    /// Those of the server, such as `USER_NOT_FOUND`. [`Error::Configuration`](crate::Error::Configuration) where the
    /// key would come unencrypted from another machine.
    pub async fn create_api_key(
        &self,
        user: impl Into<String>,
        name: Option<&str>,
        expires_at_us: Option<i64>,
    ) -> Result<NewApiKey> {
        self.client.check_private("an API key")?;
        let name = name.unwrap_or_default().to_owned();
        let expires_at = expires_at_us.map(timestamp);
        let request = v1::CreateApiKeyRequest { user: user.into(), name, expires_at };
        let answer = self.write(request, |mut client, request| async move { client.create_api_key(request).await });
        let v1::CreateApiKeyResponse { api_key: info, key } = answer.await?;
        Ok(NewApiKey { info: present(info, "API key").map(api_key)?, key: key.into() })
    }

    /// Takes an API key back: it is refused from now on, and calls under way with it end.
    ///
    /// # Errors
    /// Those of the server, such as `API_KEY_NOT_FOUND`.
    pub async fn revoke_api_key(&self, key_id: impl Into<String>) -> Result<()> {
        let request = v1::RevokeApiKeyRequest { key_id: key_id.into() };
        let answer = self.write(request, |mut client, request| async move { client.revoke_api_key(request).await });
        answer.await.map(|_| ())
    }
}

fn user(user: v1::User) -> User {
    let role = match user.role() {
        v1::UserRole::User => Role::User,
        v1::UserRole::Service => Role::Service,
        v1::UserRole::Dba => Role::Dba,
        v1::UserRole::System => Role::System,
        v1::UserRole::Unspecified => Role::Unknown,
    };
    User {
        role,
        user_id: user.user_id,
        username: user.username,
        permissions: user.permissions,
        metadata: user.metadata,
        disabled: user.disabled,
        has_password: user.has_password,
        created_at_us: optional_micros(user.created_at).unwrap_or_default(),
        updated_at_us: optional_micros(user.updated_at).unwrap_or_default(),
        last_login_us: optional_micros(user.last_login_at),
    }
}

fn api_key(key: v1::ApiKey) -> ApiKey {
    ApiKey {
        key_id: key.key_id,
        user_id: key.user_id,
        name: Some(key.name).filter(|name| !name.is_empty()),
        created_at_us: optional_micros(key.created_at).unwrap_or_default(),
        expires_at_us: optional_micros(key.expires_at),
        last_used_us: optional_micros(key.last_used_at),
    }
}

fn optional_micros(time: Option<pbjson_types::Timestamp>) -> Option<i64> {
    time.map(|time| convert::micros(Some((time.seconds, time.nanos))))
}

fn timestamp(micros: i64) -> pbjson_types::Timestamp {
    const MICROS: i64 = 1_000_000;
    // Below a second, so that it fits.
    let nanos = i32::try_from(micros.rem_euclid(MICROS) * 1_000).unwrap_or_default();
    pbjson_types::Timestamp { seconds: micros.div_euclid(MICROS), nanos }
}

#[cfg(test)]
mod tests {
    use super::{ApiKey, NewApiKey, NewUser, UserChanges, optional_micros, timestamp};

    #[test]
    fn secrets_are_not_printed() {
        let new = NewUser::new("alice").password("s3cret");
        let changes = UserChanges::new().password("s3cret");
        let info = ApiKey {
            key_id: "k1".into(),
            user_id: "alice".into(),
            name: None,
            created_at_us: 0,
            expires_at_us: None,
            last_used_us: None,
        };
        let key = NewApiKey { info, key: "s3cret".into() };
        assert_eq!(key.key(), "s3cret");
        let printed = format!("{new:?} {changes:?} {key:?}");
        assert!(printed.contains("alice") && !printed.contains("s3cret"), "{printed}");
    }

    #[test]
    fn times_go_and_come() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -5_000_001] {
            assert_eq!(optional_micros(Some(timestamp(micros))), Some(micros));
        }
        assert_eq!(timestamp(-1).nanos, 999_999_000);
    }
}
