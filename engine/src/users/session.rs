//! Sessions: what a password, once checked, is exchanged for.
//!
//! A session has a refresh token, `kdr_<session id>_<family secret><token secret>`, which is good for one renewal and
//! answers its successor. The family secret is that of all tokens of a session. So a token with the right family and
//! another token secret was issued once and used already: somebody has a copy, and the session is closed. Whoever knows
//! only the id of a session can close none.

use std::{fmt, sync::Arc, time::Duration};

use kalamdb_store::{
    codec::{
        session_key, session_of_range, session_of_user_key, session_range, split_session_key, split_session_of_user_key,
    },
    ids::UserId,
    kv::{Direction, Keyspace},
};
use serde::{Deserialize, Serialize};

use super::{
    AccessChange, Change, User, Users, rights,
    secret::{SECRET_CHARS, Secret, SecretHash, is_id, random_id},
};
use crate::{
    error::{Error, Reason, Result},
    exec::{corrupt, from_store},
};

/// What every refresh token begins with.
const PREFIX: &str = "kdr_";

/// A session as its owner is told.
#[derive(Clone, PartialEq, Eq)]
pub struct NewSession {
    /// Its id, which is no secret.
    pub session_id: String,
    /// What it is renewed with, once. It is not stored and cannot be shown again.
    pub refresh_token: String,
    /// Until when it can be renewed, in microseconds since 1970-01-01T00:00:00Z.
    pub expires_at_us: i64,
}

/// A session as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Session {
    user_id: UserId,
    family_sha256: SecretHash,
    token_sha256: SecretHash,
    opened_at_us: i64,
    expires_at_us: i64,
    /// How long it lasts after each renewal.
    lifetime_us: i64,
}

impl Users {
    /// Opens a session of a user that proved who it is; durable when it returns. It ends `lifetime` after it was opened or
    /// last renewed. If the user has more sessions than the settings allow, the one that would end first is closed.
    ///
    /// # Errors
    /// USER_NOT_FOUND, USER_DISABLED, and those of the store.
    pub async fn open_session(self: &Arc<Self>, user: &UserId, lifetime: Duration) -> Result<NewSession> {
        let turn = self.turn().await;
        let owner = self.find(user)?.ok_or_else(|| rights::no_such_user(user.as_str()))?;
        if owner.disabled {
            return Err(rights::disabled(&owner));
        }
        let now_us = self.env.now_us();
        let lifetime_us = i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX);
        let mut change = Change::default();
        self.make_room(&mut change, user, now_us)?;
        let mut id = random_id(self.env.as_ref());
        while self.get(&session_key(&id))?.is_some() {
            id = random_id(self.env.as_ref());
        }
        let (family, token) = (Secret::new(self.env.as_ref()), Secret::new(self.env.as_ref()));
        let session = Session {
            user_id: user.clone(),
            family_sha256: family.hash(),
            token_sha256: token.hash(),
            opened_at_us: now_us,
            expires_at_us: now_us.saturating_add(lifetime_us),
            lifetime_us,
        };
        change.batch.put(Keyspace::System, session_key(&id), session.encode()?);
        change.batch.put(Keyspace::System, session_of_user_key(user, &id), []);
        change.forget_sessions.push(id.as_str().into());
        let expires_at_us = session.expires_at_us;
        self.commit(turn, change).await?;
        Ok(NewSession { refresh_token: token_text(&id, &family, &token), session_id: id, expires_at_us })
    }

    /// Exchanges a refresh token for its successor. One that was exchanged before closes the session: it, or its
    /// successor, is in wrong hands.
    ///
    /// # Errors
    /// UNAUTHENTICATED if it is none or the session has ended; USER_DISABLED; those of the store.
    pub async fn renew_session(self: &Arc<Self>, refresh_token: &str) -> Result<(Arc<User>, NewSession)> {
        let (id, family, token) = split(refresh_token).ok_or_else(refused)?;
        let turn = self.turn().await;
        let now_us = self.env.now_us();
        let known = self.session(id)?.filter(|session| session.family_sha256.is_of(&family)).ok_or_else(refused)?;
        let mut change = Change::default();
        if !known.token_sha256.is_of(&token) {
            draft_closing(&mut change, &known.user_id, id);
            self.commit(turn, change).await?;
            tracing::warn!(user_id = ?known.user_id, session_id = id, "a refresh token was used again; its session is closed");
            let message = "The refresh token was used before, so its session was closed. Log in again.";
            return Err(Error::new(Reason::Unauthenticated, message));
        }
        if known.expires_at_us <= now_us {
            return Err(Error::new(Reason::Unauthenticated, "The session has expired. Log in again."));
        }
        let user = self.find(&known.user_id)?.ok_or_else(refused)?;
        if user.disabled {
            return Err(rights::disabled(&user));
        }
        let next = Secret::new(self.env.as_ref());
        let session = Session {
            token_sha256: next.hash(),
            expires_at_us: now_us.saturating_add(known.lifetime_us),
            ..known.as_ref().clone()
        };
        change.batch.put(Keyspace::System, session_key(id), session.encode()?);
        change.forget_sessions.push(id.into());
        self.commit(turn, change).await?;
        let refresh_token = token_text(id, &family, &next);
        Ok((user, NewSession { session_id: id.to_owned(), refresh_token, expires_at_us: session.expires_at_us }))
    }

    /// Closes a session; durable when it returns. False: there was none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn close_session(self: &Arc<Self>, session_id: &str) -> Result<bool> {
        if !is_id(session_id) {
            return Ok(false);
        }
        let turn = self.turn().await;
        let Some(known) = self.session(session_id)? else { return Ok(false) };
        let mut change = Change::default();
        draft_closing(&mut change, &known.user_id, session_id);
        self.commit(turn, change).await?;
        Ok(true)
    }

    /// Whether a session is open. Takes about a microsecond if it was asked for lately.
    ///
    /// # Errors
    /// Those of the store.
    pub fn session_is_open(&self, session_id: &str) -> Result<bool> {
        if !is_id(session_id) {
            return Ok(false);
        }
        let now_us = self.env.now_us();
        Ok(self.session(session_id)?.is_some_and(|session| session.expires_at_us > now_us))
    }

    /// Adds the end of all sessions of a user to a change.
    pub(super) fn draft_logout(&self, change: &mut Change, user: &UserId) -> Result<()> {
        for id in self.session_ids_of(user)? {
            draft_closing(change, user, &id);
        }
        Ok(())
    }

    /// Removes the records of sessions that have ended, some at a time. Answers how many it removed.
    pub(super) async fn remove_ended_sessions(self: &Arc<Self>) -> Result<usize> {
        const AT_A_TIME: usize = 1_000;
        let turn = self.turn().await;
        let now_us = self.env.now_us();
        let mut change = Change::default();
        let mut removed = 0;
        {
            let snapshot = self.backend.snapshot();
            let mut cursor =
                snapshot.cursor(Keyspace::System, session_range(), Direction::Forward).map_err(from_store)?;
            while let Some((key, value)) = cursor.item() {
                let session = Session::decode(value)?;
                if session.expires_at_us <= now_us && removed < AT_A_TIME {
                    removed += 1;
                    draft_closing(&mut change, &session.user_id, split_session_key(key).map_err(corrupt)?);
                }
                cursor.advance().map_err(from_store)?;
            }
        }
        self.commit(turn, change).await?;
        Ok(removed)
    }

    /// Closes sessions of a user until there is room for one more: ended ones, then the one that would end first.
    fn make_room(&self, change: &mut Change, user: &UserId, now_us: i64) -> Result<()> {
        let mut open = Vec::new();
        for id in self.session_ids_of(user)? {
            match self.session(&id)? {
                Some(session) if session.expires_at_us > now_us => open.push((session.expires_at_us, id)),
                _ => draft_closing(change, user, &id),
            }
        }
        open.sort();
        let too_many = (open.len() + 1).saturating_sub(self.settings.max_sessions_per_user.max(1));
        for (_, id) in open.iter().take(too_many) {
            draft_closing(change, user, id);
        }
        Ok(())
    }

    fn session_ids_of(&self, user: &UserId) -> Result<Vec<String>> {
        let snapshot = self.backend.snapshot();
        let range = session_of_range(user);
        let mut cursor = snapshot.cursor(Keyspace::System, range, Direction::Forward).map_err(from_store)?;
        let mut ids = Vec::new();
        while cursor.valid() {
            ids.push(split_session_of_user_key(user, cursor.key()).map_err(corrupt)?.to_owned());
            cursor.advance().map_err(from_store)?;
        }
        Ok(ids)
    }

    fn session(&self, id: &str) -> Result<Option<Arc<Session>>> {
        self.sessions
            .get(&Arc::from(id), || self.get(&session_key(id))?.map(|bytes| Session::decode(&bytes)).transpose())
    }
}

impl Session {
    pub(super) fn byte_size(&self) -> usize {
        size_of::<Self>() + self.user_id.as_str().len()
    }

    fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(Error::internal)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| corrupt("the record of a session").with_detail(e))
    }
}

fn draft_closing(change: &mut Change, user: &UserId, id: &str) {
    change.batch.delete(Keyspace::System, session_key(id));
    change.batch.delete(Keyspace::System, session_of_user_key(user, id));
    change.events.push(AccessChange::Session(id.to_owned()));
}

fn token_text(id: &str, family: &Secret, token: &Secret) -> String {
    format!("{PREFIX}{id}_{}{}", family.text(), token.text())
}

fn split(text: &str) -> Option<(&str, Secret, Secret)> {
    let (id, secrets) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let (family, token) = secrets.split_at_checked(SECRET_CHARS)?;
    Some((id, Secret::parse(family)?, Secret::parse(token)?)).filter(|(id, ..)| is_id(id))
}

/// The same for all tokens that are none.
fn refused() -> Error {
    Error::new(Reason::Unauthenticated, "The refresh token is not valid, or its session was closed. Log in again.")
}

/// Shown without the token.
impl fmt::Debug for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSession")
            .field("session_id", &self.session_id)
            .field("expires_at_us", &self.expires_at_us)
            .finish_non_exhaustive()
    }
}
