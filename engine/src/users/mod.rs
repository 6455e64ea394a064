//! Users, their passwords, API keys and sessions.
//!
//! ```text
//! Users ──▶ cache of decoded records ──▶ key-value store
//!   │         forgotten before the change is acknowledged
//!   └─ changes: one at a time, each one commit ──▶ AccessChange to whoever listens
//! ```
//!
//! A change of users holds a lock, is checked against what is stored, and is one commit. Only when the commit is durable
//! and the cache has forgotten what it had is the change acknowledged: a look-up that begins afterwards sees it. That
//! holds within one process, which is all that may have a data directory open.
//!
//! Secrets are stored as what cannot be turned back: passwords by argon2id, the random secrets of API keys and sessions by
//! SHA-256.

mod activity;
mod admin;
mod api_key;
mod authenticate;
mod cache;
mod change;
pub(crate) mod dml;
mod list;
mod name_start;
mod password;
mod record;
mod removal;
mod rights;
mod secret;
mod session;
pub(crate) mod statement;
mod valid;
mod wanted;

use std::{collections::HashSet, sync::Arc};

use kalamdb_store::{
    codec::{user_key, user_last_login_key, user_name_key, user_range},
    commit::{Committer, PreparedCommit},
    ids::UserId,
    kv::{Direction, Keyspace, Snapshot, StorageBackend, WriteBatch},
};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast};

use crate::{
    catalog::Catalog,
    env::Env,
    error::{Error, Result},
    exec::{corrupt, from_commit, from_store},
    settings::UserSettings,
};

pub(crate) use activity::ActivityWriter;
pub use api_key::{ApiKeyId, ApiKeyInfo, NewApiKey};
pub use change::{NewUser, UserPatch};
pub use list::UserPage;
pub(crate) use list::Wanted;
pub use record::User;
pub(crate) use removal::Removal;
pub use session::NewSession;

use activity::Activity;
use api_key::ApiKey;
use cache::Loaded;
use password::Passwords;
use record::UserRecord;
use session::Session;

/// How many changes a slow listener can be behind before it is told that it missed some.
const CHANGES_KEPT: usize = 4_096;

/// Something that a credential's use rests on has changed: look again at who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessChange {
    /// A user was disabled or deleted, or its role, password or permissions changed.
    User(UserId),
    /// An API key was revoked.
    Key(ApiKeyId),
    /// A session was closed, by its id.
    Session(String),
}

/// The users of an engine, with their credentials.
pub struct Users {
    backend: Arc<dyn StorageBackend>,
    committer: Committer,
    catalog: Catalog,
    env: Arc<dyn Env>,
    settings: UserSettings,
    passwords: Passwords,
    records: Loaded<UserId, User>,
    keys: Loaded<ApiKeyId, ApiKey>,
    sessions: Loaded<Arc<str>, Session>,
    activity: Activity,
    /// Held while anything of this is changed.
    changing: Arc<Mutex<()>>,
    changes: broadcast::Sender<AccessChange>,
    /// Users that left and that somebody is removing.
    under_removal: parking_lot::Mutex<HashSet<UserId>>,
}

/// The turn of one change; the next one waits until it is dropped.
type Turn = OwnedMutexGuard<()>;

/// What a change writes, and who is to be told.
#[derive(Default)]
struct Change {
    batch: WriteBatch,
    events: Vec<AccessChange>,
    /// Users whose cached records change, beside those of `events`.
    forget: Vec<UserId>,
    /// The same of API keys.
    forget_keys: Vec<ApiKeyId>,
    /// The same of sessions.
    forget_sessions: Vec<Arc<str>>,
    /// Users whose statements under way may write no more rows.
    leaving: Vec<UserId>,
}

impl Users {
    pub(crate) fn new(
        backend: Arc<dyn StorageBackend>,
        committer: Committer,
        catalog: Catalog,
        env: Arc<dyn Env>,
        settings: UserSettings,
    ) -> Result<Arc<Self>> {
        let passwords = Passwords::new(&settings, env.as_ref())?;
        let third = settings.cache_bytes / 3;
        Ok(Arc::new(Self {
            backend,
            committer,
            catalog,
            env,
            passwords,
            records: Loaded::new(third, User::byte_size),
            keys: Loaded::new(third, ApiKey::byte_size),
            sessions: Loaded::new(third, Session::byte_size),
            settings,
            activity: Activity::default(),
            changing: Arc::default(),
            changes: broadcast::channel(CHANGES_KEPT).0,
            under_removal: parking_lot::Mutex::default(),
        }))
    }

    /// The user with this id. Takes about a microsecond if it was asked for lately, else a read of the store.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(&self, id: &UserId) -> Result<Option<Arc<User>>> {
        self.records.get(id, || self.load(id))
    }

    /// The user with this username.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find_by_name(&self, username: &str) -> Result<Option<Arc<User>>> {
        match self.id_of_name(username)? {
            Some(id) => Ok(self.find(&id)?.filter(|user| user.username == username)),
            None => Ok(None),
        }
    }

    /// Whether there are no users at all, as on the first start.
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_empty(&self) -> Result<bool> {
        let snapshot = self.backend.snapshot();
        let cursor = snapshot.cursor(Keyspace::System, user_range(None), Direction::Forward).map_err(from_store)?;
        Ok(!cursor.valid())
    }

    /// What changes from now on about who may do what. A receiver that is [`Lagged`] has missed some: it has to look at
    /// everyone again.
    ///
    /// [`Lagged`]: broadcast::error::RecvError::Lagged
    pub fn changes(&self) -> broadcast::Receiver<AccessChange> {
        self.changes.subscribe()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.backend.get(Keyspace::System, key).map_err(from_store)
    }

    /// The stored record of a user, also of one that is being deleted.
    fn record(&self, id: &UserId) -> Result<Option<UserRecord>> {
        self.get(&user_key(id))?.map(|bytes| UserRecord::decode(&bytes)).transpose()
    }

    fn id_of_name(&self, username: &str) -> Result<Option<UserId>> {
        self.get(&user_name_key(username))?.map(|id| user_id_of(&id)).transpose()
    }

    fn load(&self, id: &UserId) -> Result<Option<User>> {
        let Some(record) = self.record(id)?.filter(|record| !record.leaving) else { return Ok(None) };
        let last_login = self.get(&user_last_login_key(id))?;
        Ok(Some(User::new(id.clone(), record, time_of(last_login.as_deref())?)))
    }

    /// The turn to change users.
    async fn turn(&self) -> Turn {
        Arc::clone(&self.changing).lock_owned().await
    }

    /// Commits a change, then lets the cache forget, tells the listeners, and ends the turn. Runs to its end even if the
    /// caller goes away, so that the store and the cache cannot part.
    async fn commit(self: &Arc<Self>, turn: Turn, change: Change) -> Result<()> {
        if change.batch.is_empty() {
            return Ok(());
        }
        let users = Arc::clone(self);
        let committing = tokio::spawn(async move {
            let Change { batch, events, mut forget, mut forget_keys, mut forget_sessions, leaving } = change;
            for event in &events {
                match event {
                    AccessChange::User(id) => forget.push(id.clone()),
                    AccessChange::Key(id) => forget_keys.push(id.clone()),
                    AccessChange::Session(id) => forget_sessions.push(id.as_str().into()),
                }
            }
            let commit_time_us = users.env.now_us();
            let prepared = PreparedCommit { commit_time_us, kv: batch, leaving, ..PreparedCommit::default() };
            let outcome = users.committer.commit(prepared).await;
            // Also after a failure, of which it is not known whether the store has the change.
            users.records.forget(&forget);
            users.keys.forget(&forget_keys);
            users.sessions.forget(&forget_sessions);
            outcome.map_err(from_commit)?;
            users.tell(events);
            drop(turn);
            Ok(())
        });
        committing.await.map_err(Error::internal)?
    }

    fn tell(&self, events: Vec<AccessChange>) {
        for event in events {
            // Without listeners there is nobody to tell.
            let _ = self.changes.send(event);
        }
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}

fn user_id_of(bytes: &[u8]) -> Result<UserId> {
    let text = std::str::from_utf8(bytes).map_err(|_| corrupt("a username has no user id"))?;
    UserId::new(text).map_err(corrupt)
}

/// A time as stored in microseconds.
fn time_of(bytes: Option<&[u8]>) -> Result<Option<i64>> {
    let time = |bytes: &[u8]| bytes.try_into().map(i64::from_le_bytes).map_err(|_| corrupt("a time"));
    bytes.map(time).transpose()
}

fn stored(snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<Vec<u8>>> {
    snapshot.get(Keyspace::System, key).map_err(from_store)
}
