//! Users as lists: some by their ids or names, those whose names begin in some way, or all.

use std::{collections::BTreeSet, sync::Arc};

use kalamdb_store::{
    codec::{
        split_user_key, split_user_name_key, user_key, user_last_login_key, user_last_login_range, user_name_key,
        user_name_range, user_range,
    },
    ids::UserId,
    kv::{Direction, Keyspace, Snapshot},
};

use super::{
    User, Users,
    name_start::{NameStart, Step},
    record::UserRecord,
    rights, time_of, user_id_of,
};
use crate::{
    access::{Caller, Role},
    error::Result,
    exec::{corrupt, from_store},
};

/// How many users are read at a time.
const CHUNK: usize = 512;

/// Which users are looked for. All of them may be answered besides: whoever asks filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those with these ids.
    Ids(BTreeSet<String>),
    /// Those with these usernames.
    Names(BTreeSet<String>),
    /// Those whose usernames begin so.
    NamesLike(NameStart),
    /// All.
    All,
}

/// A part of the list of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPage {
    /// The users, by username.
    pub users: Vec<Arc<User>>,
    /// The username that the next page comes after; `None`: this was the last one.
    pub next_after: Option<String>,
}

impl Users {
    /// The users that are wanted and that a caller may know of, in the order of their ids or usernames.
    ///
    /// # Errors
    /// Those of the store; what `take` answers.
    pub(crate) fn each(
        &self,
        snapshot: &dyn Snapshot,
        caller: &Caller,
        wanted: &Wanted,
        mut take_one: impl FnMut(User) -> Result<()>,
    ) -> Result<()> {
        // What concerns a plain user is itself, whatever it asks for.
        let own = (caller.role == Role::User).then(|| Wanted::Ids(BTreeSet::from([caller.user_id.to_string()])));
        let wanted = own.as_ref().unwrap_or(wanted);
        let mut take = |ids: &[UserId]| -> Result<()> {
            for user in self.load_all(snapshot, ids)? {
                if rights::may_see(caller, &user.user_id, user.role) {
                    take_one(user)?;
                }
            }
            Ok(())
        };
        match wanted {
            Wanted::Ids(ids) => {
                let ids: Vec<UserId> = ids.iter().filter_map(|id| UserId::new(id).ok()).collect();
                ids.chunks(CHUNK).try_for_each(take)
            }
            Wanted::Names(names) => {
                let keys: Vec<Vec<u8>> = names.iter().map(|name| user_name_key(name)).collect();
                for keys in keys.chunks(CHUNK) {
                    let found = multi_get(snapshot, keys)?;
                    let ids = found.iter().flatten().map(|id| user_id_of(id)).collect::<Result<Vec<_>>>()?;
                    take(&ids)?;
                }
                Ok(())
            }
            Wanted::NamesLike(start) => each_like(snapshot, start, take),
            Wanted::All => self.each_stored(snapshot, caller, take_one),
        }
    }

    /// A page of the users whose names begin with a prefix and that a caller may know of.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn page(&self, caller: &Caller, prefix: &str, after: Option<&str>, limit: usize) -> Result<UserPage> {
        let mut users: Vec<Arc<User>> = Vec::new();
        if caller.role == Role::User {
            let own = self.find(&caller.user_id)?.filter(|own| own.username.starts_with(prefix));
            users.extend(own.filter(|own| after.is_none_or(|after| own.username.as_str() > after)));
            return Ok(UserPage { users, next_after: None });
        }
        let snapshot = self.backend.snapshot();
        let snapshot = snapshot.as_ref();
        let range = user_name_range(prefix, after);
        let mut cursor = snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store)?;
        while cursor.valid() {
            let mut ids = Vec::new();
            while cursor.valid() && ids.len() < CHUNK.min(limit + 1) {
                ids.push(user_id_of(cursor.value())?);
                cursor.advance().map_err(from_store)?;
            }
            for user in self.load_all(snapshot, &ids)? {
                if !rights::may_see(caller, &user.user_id, user.role) {
                    continue;
                }
                if users.len() == limit {
                    let next_after = users.last().map(|last| last.username.clone());
                    return Ok(UserPage { users, next_after });
                }
                users.push(Arc::new(user));
            }
        }
        Ok(UserPage { users, next_after: None })
    }

    /// All users that a caller may know of, by id, in one pass.
    fn each_stored(
        &self,
        snapshot: &dyn Snapshot,
        caller: &Caller,
        mut take: impl FnMut(User) -> Result<()>,
    ) -> Result<()> {
        let scan = |range| snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store);
        // Both are in the order of the ids.
        let (mut users, mut logins) = (scan(user_range(None))?, scan(user_last_login_range())?);
        while let Some((key, value)) = users.item() {
            let id = split_user_key(key).map_err(corrupt)?;
            let record = UserRecord::decode(value)?;
            users.advance().map_err(from_store)?;
            if record.leaving || !rights::may_see(caller, &id, record.role) {
                continue;
            }
            let login_key = user_last_login_key(&id);
            while logins.valid() && logins.key() < login_key.as_slice() {
                logins.advance().map_err(from_store)?;
            }
            let login = logins.item().filter(|(key, _)| *key == login_key.as_slice()).map(|(_, login)| login);
            let last_login = self.activity.login_of(&id).or(time_of(login)?);
            take(User::new(id, record, last_login))?;
        }
        Ok(())
    }

    fn load_all(&self, snapshot: &dyn Snapshot, ids: &[UserId]) -> Result<Vec<User>> {
        let keys: Vec<Vec<u8>> = ids.iter().map(user_key).chain(ids.iter().map(user_last_login_key)).collect();
        let found = multi_get(snapshot, &keys)?;
        let (records, logins) = found.split_at(ids.len());
        let mut users = Vec::with_capacity(ids.len());
        for (id, (record, login)) in ids.iter().zip(records.iter().zip(logins)) {
            let Some(record) = record.as_deref().map(UserRecord::decode).transpose()?.filter(|r| !r.leaving) else {
                continue;
            };
            let last_login = self.activity.login_of(id).or(time_of(login.as_deref())?);
            users.push(User::new(id.clone(), record, last_login));
        }
        Ok(users)
    }
}

/// The users whose names begin so, by name, some at a time.
fn each_like(snapshot: &dyn Snapshot, start: &NameStart, mut take: impl FnMut(&[UserId]) -> Result<()>) -> Result<()> {
    let range = user_name_range(&start.fixed(), None);
    let mut cursor = snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store)?;
    let mut ids = Vec::with_capacity(CHUNK);
    while let Some((key, id)) = cursor.item() {
        match start.step(split_user_name_key(key).map_err(corrupt)?) {
            Step::Take => {
                ids.push(user_id_of(id)?);
                cursor.advance().map_err(from_store)?;
            }
            Step::SeekTo(name) => cursor.seek(&user_name_key(&name)).map_err(from_store)?,
            Step::End => break,
        }
        if ids.len() == CHUNK {
            take(&ids)?;
            ids.clear();
        }
    }
    take(&ids)
}

fn multi_get(snapshot: &dyn Snapshot, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    snapshot.multi_get(Keyspace::System, &keys).map_err(from_store)
}
