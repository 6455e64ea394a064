//! Changes of users: drafted against what is stored, checked as a whole, committed as one.

use std::{collections::HashMap, sync::Arc};

use kalamdb_store::{
    codec::{
        administrator_key, administrator_range, split_administrator_key, user_key, user_last_login_key,
        user_leaving_key, user_name_key,
    },
    ids::UserId,
    kv::{Direction, Keyspace},
};

use super::{
    AccessChange, Change, User, Users,
    record::{PasswordHash, UserRecord},
    rights::{self, Administered, may_administer, no_such_user, user_exists},
    valid,
};
use crate::{
    access::{Caller, Role},
    error::{Error, Reason, Result},
    exec::{corrupt, from_store},
    sql::Password,
};

/// A user to be created.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name that it logs in with.
    pub username: String,
    /// Its id; `None`: its username.
    pub user_id: Option<UserId>,
    /// What it may do.
    pub role: Role,
    /// What it logs in with; `None`: it cannot log in with a password.
    pub password: Option<Password>,
    /// Its rules.
    pub permissions: Vec<String>,
    /// A JSON text.
    pub metadata: Option<String>,
    /// Whether its credentials are refused.
    pub disabled: bool,
}

/// What is to change of a user; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct UserPatch {
    /// The name that it logs in with.
    pub username: Option<String>,
    /// What it may do.
    pub role: Option<Role>,
    /// What it logs in with; `Some(None)`: it cannot log in with a password any more.
    pub password: Option<Option<Password>>,
    /// Its rules, all of them.
    pub permissions: Option<Vec<String>>,
    /// A JSON text; `Some(None)`: none.
    pub metadata: Option<Option<String>>,
    /// Whether its credentials are refused.
    pub disabled: Option<bool>,
}

impl NewUser {
    /// A user of role user that has nothing but a name.
    pub fn named(username: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            user_id: None,
            role: Role::User,
            password: None,
            permissions: Vec::new(),
            metadata: None,
            disabled: false,
        }
    }
}

impl UserPatch {
    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        let Self { username, role, password, permissions, metadata, disabled } = self;
        username.is_none()
            && role.is_none()
            && password.is_none()
            && permissions.is_none()
            && metadata.is_none()
            && disabled.is_none()
    }

    /// Whether it concerns nothing but the password, which users may change of themselves.
    fn is_password_alone(&self) -> bool {
        let Self { username, role, password, permissions, metadata, disabled } = self;
        let others = (username.as_ref(), role.as_ref(), permissions.as_ref(), metadata.as_ref(), disabled.as_ref());
        matches!(password, Some(Some(_))) && matches!(others, (None, None, None, None, None))
    }
}

impl Users {
    /// Creates all of several users or none; durable when it returns. Answers how many did not exist.
    ///
    /// # Errors
    /// PERMISSION_DENIED, USER_EXISTS but for those with `if_not_exists`, INVALID_USER, and what is wrong with permissions.
    pub(crate) async fn create_all(self: &Arc<Self>, caller: &Caller, wanted: Vec<(NewUser, bool)>) -> Result<usize> {
        let mut checked = Vec::with_capacity(wanted.len());
        for (new, if_not_exists) in wanted {
            valid::username(&new.username)?;
            let id = match &new.user_id {
                Some(id) => id.clone(),
                None => UserId::new(&new.username).map_err(|e| valid::invalid("user_id", e.to_string()))?,
            };
            may_administer(caller, &Administered::given(&id, Role::User, new.role), "Creating users")?;
            valid::metadata(new.metadata.as_deref())?;
            self.check_permissions(&new.permissions)?;
            if if_not_exists && (self.record(&id)?.is_some() || self.id_of_name(&new.username)?.is_some()) {
                continue;
            }
            let password = self.hashed(new.password.as_ref()).await?;
            checked.push((id, new, password, if_not_exists));
        }
        let turn = self.turn().await;
        let mut draft = Draft::new(self);
        let mut created = 0;
        for (id, new, password, if_not_exists) in checked {
            match draft.create(id, new, password) {
                Ok(()) => created += 1,
                Err(e) if if_not_exists && e.reason() == Reason::UserExists => {}
                Err(e) => return Err(e),
            }
        }
        let change = draft.finish()?;
        self.commit(turn, change).await?;
        Ok(created)
    }

    /// Changes all of several users or none; durable when it returns, and in force from then on.
    ///
    /// # Errors
    /// PERMISSION_DENIED, USER_NOT_FOUND, USER_EXISTS for a username that another has, INVALID_USER, what is wrong with permissions,
    /// LAST_ADMINISTRATOR.
    pub(crate) async fn alter_all(self: &Arc<Self>, caller: &Caller, wanted: Vec<(UserId, UserPatch)>) -> Result<()> {
        let mut checked = Vec::with_capacity(wanted.len());
        for (id, patch) in wanted {
            // Before a password is hashed, which costs; and again when nobody can change it any more.
            self.may_alter(caller, &id, &patch)?;
            if let Some(username) = &patch.username {
                valid::username(username)?;
            }
            valid::metadata(patch.metadata.as_ref().and_then(Option::as_deref))?;
            if let Some(permissions) = &patch.permissions {
                self.check_permissions(permissions)?;
            }
            let password = match &patch.password {
                Some(password) => Some(self.hashed(password.as_ref()).await?),
                None => None,
            };
            checked.push((id, patch, password));
        }
        let turn = self.turn().await;
        let mut draft = Draft::new(self);
        for (id, patch, password) in checked {
            self.may_alter(caller, &id, &patch)?;
            draft.alter(&id, patch, password)?;
        }
        let change = draft.finish()?;
        self.commit(turn, change).await
    }

    fn may_alter(&self, caller: &Caller, id: &UserId, patch: &UserPatch) -> Result<()> {
        let user = self.find(id)?.ok_or_else(|| no_such_user(id.as_str()))?;
        if caller.user_id == *id && patch.is_password_alone() {
            return Ok(());
        }
        may_administer(caller, &Administered::given(id, user.role, patch.role.unwrap_or(user.role)), "Altering users")
    }

    async fn hashed(&self, password: Option<&Password>) -> Result<Option<PasswordHash>> {
        match password {
            Some(password) => self.passwords.hash(password, self.env.as_ref()).await.map(Some),
            None => Ok(None),
        }
    }

    /// The user that a statement names: the one with this username, else the one with this id.
    ///
    /// # Errors
    /// USER_NOT_FOUND, also for one that the caller may not know of.
    pub(crate) fn named(&self, caller: &Caller, name: &str) -> Result<Arc<User>> {
        let mut found = self.find_by_name(name)?;
        if found.is_none()
            && let Ok(id) = UserId::new(name)
        {
            found = self.find(&id)?;
        }
        found.filter(|user| rights::may_see(caller, &user.user_id, user.role)).ok_or_else(|| no_such_user(name))
    }
}

/// Changes of users that are not committed yet. Each sees those before it.
pub(super) struct Draft<'a> {
    users: &'a Users,
    records: HashMap<UserId, Option<UserRecord>>,
    names: HashMap<String, Option<UserId>>,
    /// Whether each user that was touched was an administrator.
    were_administrators: HashMap<UserId, bool>,
    change: Change,
    now_us: i64,
}

impl<'a> Draft<'a> {
    pub(super) fn new(users: &'a Users) -> Self {
        let (records, names, were_administrators) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { users, records, names, were_administrators, change: Change::default(), now_us: users.env.now_us() }
    }

    fn record(&self, id: &UserId) -> Result<Option<UserRecord>> {
        match self.records.get(id) {
            Some(drafted) => Ok(drafted.clone()),
            None => self.users.record(id),
        }
    }

    pub(super) fn create(&mut self, id: UserId, new: NewUser, password: Option<PasswordHash>) -> Result<()> {
        if self.record(&id)?.is_some() {
            return Err(user_exists(&id));
        }
        self.take_name(&new.username, &id)?;
        let record = UserRecord {
            username: new.username,
            role: new.role,
            permissions: new.permissions,
            metadata: new.metadata,
            disabled: new.disabled,
            password,
            created_at_us: self.now_us,
            updated_at_us: self.now_us,
            leaving: false,
            cascade: false,
        };
        self.put(id, record)
    }

    pub(super) fn alter(
        &mut self,
        id: &UserId,
        patch: UserPatch,
        password: Option<Option<PasswordHash>>,
    ) -> Result<()> {
        let before = self.record(id)?.filter(|record| !record.leaving).ok_or_else(|| no_such_user(id.as_str()))?;
        let mut record = before.clone();
        if let Some(username) = patch.username
            && username != record.username
        {
            self.take_name(&username, id)?;
            self.free_name(&record.username);
            record.username = username;
        }
        record.role = patch.role.unwrap_or(record.role);
        record.permissions = patch.permissions.unwrap_or(record.permissions);
        record.metadata = patch.metadata.unwrap_or(record.metadata);
        record.disabled = patch.disabled.unwrap_or(record.disabled);
        if let Some(password) = password {
            record.password = password;
            // Whoever knew the one before is logged out.
            self.users.draft_logout(&mut self.change, id)?;
        }
        record.updated_at_us = self.now_us.max(record.updated_at_us.saturating_add(1));
        let matters = before.role != record.role
            || before.disabled != record.disabled
            || before.permissions != record.permissions
            || before.password != record.password;
        if matters {
            self.change.events.push(AccessChange::User(id.clone()));
        }
        self.put(id.clone(), record)
    }

    /// Lets nobody find a user any more; its record and its name are still taken.
    pub(super) fn leave(&mut self, id: &UserId, cascade: bool) -> Result<()> {
        let record = self.record(id)?.filter(|record| !record.leaving).ok_or_else(|| no_such_user(id.as_str()))?;
        self.change.events.push(AccessChange::User(id.clone()));
        self.change.leaving.push(id.clone());
        self.put(id.clone(), UserRecord { leaving: true, cascade, ..record })
    }

    /// Takes back what [`Draft::leave`] did.
    pub(super) fn stay(&mut self, id: &UserId) -> Result<()> {
        match self.record(id)? {
            Some(record) => self.put(id.clone(), UserRecord { leaving: false, cascade: false, ..record }),
            None => Ok(()),
        }
    }

    /// Removes a user that left, with its keys and sessions.
    pub(super) fn remove(&mut self, id: &UserId) -> Result<()> {
        let Some(record) = self.record(id)? else { return Ok(()) };
        self.free_name(&record.username);
        self.users.draft_revocation(&mut self.change, id)?;
        self.users.draft_logout(&mut self.change, id)?;
        let batch = &mut self.change.batch;
        for key in [user_key(id), user_last_login_key(id), administrator_key(id), user_leaving_key(id)] {
            batch.delete(Keyspace::System, key);
        }
        self.change.forget.push(id.clone());
        self.records.insert(id.clone(), None);
        Ok(())
    }

    /// What the draft writes.
    ///
    /// # Errors
    /// LAST_ADMINISTRATOR if it would leave none where there is one.
    pub(super) fn finish(self) -> Result<Change> {
        let left = self.were_administrators.iter().filter(|(id, was)| **was && !self.is_administrator(id)).count();
        if left > 0 && !self.leaves_an_administrator()? {
            return Err(Error::new(
                Reason::LastAdministrator,
                "No user with role system that is not disabled would be left. Give another user role system first.",
            ));
        }
        Ok(self.change)
    }

    fn is_administrator(&self, id: &UserId) -> bool {
        self.records.get(id).and_then(Option::as_ref).is_some_and(UserRecord::is_administrator)
    }

    fn leaves_an_administrator(&self) -> Result<bool> {
        if self.records.keys().any(|id| self.is_administrator(id)) {
            return Ok(true);
        }
        let snapshot = self.users.backend.snapshot();
        let range = administrator_range();
        let mut cursor = snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store)?;
        while cursor.valid() {
            let id = split_administrator_key(cursor.key()).map_err(corrupt)?;
            if !self.records.contains_key(&id) {
                return Ok(true);
            }
            cursor.advance().map_err(from_store)?;
        }
        Ok(false)
    }

    fn put(&mut self, id: UserId, record: UserRecord) -> Result<()> {
        if !self.were_administrators.contains_key(&id) {
            let before = self.users.record(&id)?;
            self.were_administrators.insert(id.clone(), before.is_some_and(|before| before.is_administrator()));
        }
        let batch = &mut self.change.batch;
        batch.put(Keyspace::System, user_key(&id), record.encode()?);
        for (key, applies) in
            [(administrator_key(&id), record.is_administrator()), (user_leaving_key(&id), record.leaving)]
        {
            if applies {
                batch.put(Keyspace::System, key, []);
            } else {
                batch.delete(Keyspace::System, key);
            }
        }
        self.change.forget.push(id.clone());
        self.records.insert(id, Some(record));
        Ok(())
    }

    fn take_name(&mut self, username: &str, id: &UserId) -> Result<()> {
        let taken = match self.names.get(username) {
            Some(drafted) => drafted.is_some(),
            None => self.users.id_of_name(username)?.is_some(),
        };
        if taken {
            let message = format!("User with username '{username}' already exists");
            return Err(Error::new(Reason::UserExists, message).with("username", username));
        }
        self.change.batch.put(Keyspace::System, user_name_key(username), id.as_str().as_bytes());
        self.names.insert(username.to_owned(), Some(id.clone()));
        Ok(())
    }

    fn free_name(&mut self, username: &str) {
        self.change.batch.delete(Keyspace::System, user_name_key(username));
        self.names.insert(username.to_owned(), None);
    }
}
