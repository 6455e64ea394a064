//! When users logged in and keys were used: noted in memory, written in batches in the background. A crash loses the last
//! interval of it, which nothing rests on.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use kalamdb_store::{
    codec::{api_key_used_key, user_last_login_key},
    commit::PreparedCommit,
    ids::UserId,
    kv::Keyspace,
};
use parking_lot::Mutex;

use super::{ApiKeyId, Change, Users};
use crate::{error::Result, exec::from_commit};

/// Entries that one batch has at most of each kind; more than that of one interval are not noted.
const MAX_NOTED: usize = 100_000;

/// Intervals between two looks for sessions that have ended.
const INTERVALS_PER_CLEANING: u64 = 600;

/// What was noted and is not written yet.
#[derive(Default)]
pub(super) struct Activity(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    logins: HashMap<UserId, i64>,
    key_uses: HashMap<ApiKeyId, i64>,
}

impl Activity {
    fn logged_in(&self, user: &UserId, at_us: i64) {
        note(&mut self.0.lock().logins, user, at_us);
    }

    pub(super) fn key_used(&self, key: &ApiKeyId, at_us: i64) {
        note(&mut self.0.lock().key_uses, key, at_us);
    }

    fn noted(&self) -> (HashMap<UserId, i64>, HashMap<ApiKeyId, i64>) {
        let noted = self.0.lock();
        (noted.logins.clone(), noted.key_uses.clone())
    }

    /// The login of a user that is not written yet.
    pub(super) fn login_of(&self, user: &UserId) -> Option<i64> {
        self.0.lock().logins.get(user).copied()
    }

    /// The use of a key that is not written yet.
    pub(super) fn use_of(&self, key: &ApiKeyId) -> Option<i64> {
        self.0.lock().key_uses.get(key).copied()
    }
}

fn note<K: Clone + std::hash::Hash + Eq>(into: &mut HashMap<K, i64>, key: &K, at_us: i64) {
    if let Some(noted) = into.get_mut(key) {
        *noted = at_us;
    } else if into.len() < MAX_NOTED {
        into.insert(key.clone(), at_us);
    }
}

impl Users {
    /// Notes that a user has logged in just now. It is written later, along with others.
    pub fn note_login(&self, id: &UserId) {
        self.activity.logged_in(id, self.env.now_us());
    }

    /// When a user logged in, if that is not written yet.
    pub(crate) fn unwritten_login(&self, id: &UserId) -> Option<i64> {
        self.activity.login_of(id)
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn write_activity(self: &Arc<Self>) -> Result<()> {
        // Users and keys that are removed meanwhile would leave their times behind.
        let turn = self.turn().await;
        let (logins, key_uses) = self.activity.noted();
        let change = self.draft_activity(&logins, &key_uses)?;
        self.commit(turn, change).await?;
        // Kept until here, so that whoever looked meanwhile saw them.
        let mut noted = self.activity.0.lock();
        noted.logins.retain(|user, at_us| logins.get(user) != Some(at_us));
        noted.key_uses.retain(|key, at_us| key_uses.get(key) != Some(at_us));
        Ok(())
    }

    /// The same when nothing else changes any more, and wherever it is waited for.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn write_activity_at_end(&self) -> Result<()> {
        let (logins, key_uses) = self.activity.noted();
        let batch = self.draft_activity(&logins, &key_uses)?.batch;
        if batch.is_empty() {
            return Ok(());
        }
        let commit_time_us = self.env.now_us();
        let prepared = PreparedCommit { commit_time_us, kv: batch, ..PreparedCommit::default() };
        self.committer.commit(prepared).await.map(drop).map_err(from_commit)
    }

    fn draft_activity(&self, logins: &HashMap<UserId, i64>, key_uses: &HashMap<ApiKeyId, i64>) -> Result<Change> {
        let mut change = Change::default();
        for (user, at_us) in logins {
            if self.find(user)?.is_some() {
                change.batch.put(Keyspace::System, user_last_login_key(user), at_us.to_le_bytes());
                change.forget.push(user.clone());
            }
        }
        for (key, at_us) in key_uses {
            if self.key_is_valid(key)? {
                change.batch.put(Keyspace::System, api_key_used_key(key.as_str()), at_us.to_le_bytes());
            }
        }
        Ok(change)
    }
}

/// Writes what users do, every interval; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ActivityWriter(tokio::task::JoinHandle<()>);

impl ActivityWriter {
    pub(crate) fn start(runtime: &tokio::runtime::Handle, users: Weak<Users>, interval: Duration) -> Self {
        Self(runtime.spawn(async move {
            let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for round in 1_u64.. {
                ticks.tick().await;
                let Some(users) = users.upgrade() else { return };
                if let Err(error) = users.write_activity().await {
                    tracing::warn!(%error, "last logins could not be written; trying again at the next interval");
                }
                if round % INTERVALS_PER_CLEANING == 1
                    && let Err(error) = users.remove_ended_sessions().await
                {
                    tracing::warn!(%error, "ended sessions could not be removed; trying again later");
                }
            }
        }))
    }
}

impl Drop for ActivityWriter {
    fn drop(&mut self) {
        self.0.abort();
    }
}
