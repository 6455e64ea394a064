//! Looks whether those who are calling may go on, when something has changed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use kalamdb_engine::{AccessChange, ApiKeyId, Env, Error, Reason, User, UserId, Users};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError, error::TryRecvError},
    time::{MissedTickBehavior, interval, sleep},
};

use super::grant::{Credential, Grant, Grants};

/// How long calls but live queries may go on after their right to has gone: long enough for the answer of the very call that
/// changed it, such as `Logout`, and for that of any other short one.
const GRACE: Duration = Duration::from_millis(40);
/// How often it is looked for credentials that have expired.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// All that calls rest on is looked at again after so many of these looks, for what nothing announces: the expiry of API
/// keys and sessions.
const LOOKS_PER_WHOLE_LOOK: u32 = 15;

/// Ends calls whose right to go on is gone, for ever.
pub(crate) async fn watch(users: Arc<Users>, grants: Arc<Grants>, env: Arc<dyn Env>) {
    let watch = Watch { changes: users.changes(), users, grants, env };
    watch.run().await;
}

struct Watch {
    changes: Receiver<AccessChange>,
    users: Arc<Users>,
    grants: Arc<Grants>,
    env: Arc<dyn Env>,
}

/// What has changed.
#[derive(Default)]
struct Changed {
    everything: bool,
    users: HashSet<UserId>,
    keys: HashSet<ApiKeyId>,
    sessions: HashSet<String>,
}

impl Watch {
    async fn run(mut self) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        loop {
            let ended = tokio::select! {
                change = self.changes.recv() => {
                    let mut changed = Changed::default();
                    match change {
                        Ok(change) => changed.add(change),
                        Err(RecvError::Lagged(_)) => changed.everything = true,
                        Err(RecvError::Closed) => return,
                    }
                    self.gather(&mut changed);
                    self.look(&changed)
                }
                _ = ticks.tick() => {
                    looks = looks.wrapping_add(1);
                    if looks.is_multiple_of(LOOKS_PER_WHOLE_LOOK) {
                        self.look(&Changed { everything: true, ..Changed::default() })
                    } else {
                        self.look_for_expired()
                    }
                }
            };
            if !ended.is_empty() {
                tracing::info!(calls = ended.len(), "calls end: what they were allowed by is gone");
                tokio::spawn(async move {
                    sleep(GRACE).await;
                    ended.iter().filter_map(std::sync::Weak::upgrade).for_each(|grant| grant.cut());
                });
            }
        }
    }

    /// Adds what else has changed meanwhile, so that many changes need one look.
    fn gather(&mut self, changed: &mut Changed) {
        loop {
            match self.changes.try_recv() {
                Ok(change) => changed.add(change),
                Err(TryRecvError::Lagged(_)) => changed.everything = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Ends the grants that a change has made void; answers them.
    fn look(&self, changed: &Changed) -> Vec<std::sync::Weak<Grant>> {
        let now_us = self.env.now_us();
        let concerned = self.grants.look().into_iter().filter(|grant| changed.concerns(grant));
        concerned.filter_map(|grant| self.end_unless_good(&grant, now_us)).collect()
    }

    fn look_for_expired(&self) -> Vec<std::sync::Weak<Grant>> {
        let now_us = self.env.now_us();
        let expired = self.grants.all().into_iter();
        let expired = expired.filter(|grant| grant.basis.has_expired(now_us));
        expired.filter_map(|grant| self.end_unless_good(&grant, now_us)).collect()
    }

    fn end_unless_good(&self, grant: &Arc<Grant>, now_us: i64) -> Option<std::sync::Weak<Grant>> {
        if grant.ended().is_some() {
            return None;
        }
        let why = match void(&self.users, grant, now_us) {
            Ok(None) => return None,
            Ok(Some(why)) => why,
            // What cannot be checked is not allowed.
            Err(error) => {
                tracing::error!("whether a call may go on cannot be checked, and it ends: {error}");
                revoked("Whether the call may go on cannot be checked.")
            }
        };
        grant.end(&why);
        Some(Arc::downgrade(grant))
    }
}

impl Changed {
    fn add(&mut self, change: AccessChange) {
        match change {
            AccessChange::User(id) => {
                self.users.insert(id);
            }
            AccessChange::Key(id) => {
                self.keys.insert(id);
            }
            AccessChange::Session(id) => {
                self.sessions.insert(id);
            }
        }
    }

    fn concerns(&self, grant: &Grant) -> bool {
        let basis = &grant.basis;
        self.everything
            || basis.user.as_ref().is_some_and(|user| self.users.contains(&user.user_id))
            || basis.acting_as.as_ref().is_some_and(|user| self.users.contains(user))
            || match &basis.credential {
                Credential::Key(id) => self.keys.contains(id),
                Credential::Session(id) => self.sessions.contains(id),
                Credential::Bypass | Credential::ExternalToken | Credential::Certificate => false,
            }
    }
}

/// Why a grant is good no more, if it is not.
fn void(users: &Users, grant: &Grant, now_us: i64) -> Result<Option<Error>, Error> {
    let basis = &grant.basis;
    let Some(user) = &basis.user else { return Ok(None) };
    if basis.has_expired(now_us) {
        let message = "The token has expired. Call again with a new one.";
        return Ok(Some(Error::new(Reason::CredentialExpired, message)));
    }
    let is_valid = match &basis.credential {
        Credential::Key(id) => users.key_is_valid(id)?,
        Credential::Session(id) => users.session_is_open(id)?,
        Credential::Bypass | Credential::ExternalToken | Credential::Certificate => true,
    };
    let Some(now) = users.find(&user.user_id)? else {
        return Ok(Some(revoked("The user does not exist any more.")));
    };
    if now.disabled {
        return Ok(Some(disabled()));
    }
    if !is_valid {
        return Ok(Some(revoked("The credential was revoked, or its session ended.")));
    }
    if !Arc::ptr_eq(user, &now) && !same_rights(user, &now) {
        return Ok(Some(revoked("The role or the permissions of the user changed. Call again.")));
    }
    let Some(acting_as) = &basis.acting_as else { return Ok(None) };
    Ok(match users.find(acting_as)? {
        Some(target) if !target.disabled && target.role <= now.role => None,
        _ => Some(revoked("The user that is acted for cannot be acted for any more.")),
    })
}

fn same_rights(a: &User, b: &User) -> bool {
    a.role == b.role && a.permissions == b.permissions
}

fn revoked(message: &str) -> Error {
    Error::new(Reason::CredentialRevoked, message)
}

pub(super) fn disabled() -> Error {
    Error::new(Reason::UserDisabled, "The user is disabled.")
}
