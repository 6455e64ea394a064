//! The right of a call to go on: what it rests on, and its end when that is gone.
//!
//! ```text
//! authenticated ─▶ Grant, in the registry ──────────▶ the call ends, and with it the grant
//!                     ▲                        │
//! Users::changes ─▶ watch: is it still good? ──┘ no: live queries end at once with their tokens, then the call itself
//! ```

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use kalamdb_engine::{ApiKeyId, Error, LiveQueryHandle, User, UserId};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Locks of the registry: calls begin and end on all cores at once.
const SHARDS: usize = 32;

/// How a caller was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// Not at all: the localhost bypass.
    Bypass,
    /// By an access token of this session.
    Session(String),
    /// By a token of somebody else's.
    ExternalToken,
    /// By an API key.
    Key(ApiKeyId),
    /// By the certificate of the connection.
    Certificate,
}

/// What a grant rests on.
#[derive(Debug, Clone)]
pub(crate) struct Basis {
    pub(crate) credential: Credential,
    /// The caller, as it was when the call began; `None` for the bypass.
    pub(crate) user: Option<Arc<User>>,
    /// The user it acts for, if that is another and is known here.
    pub(crate) acting_as: Option<UserId>,
    /// When the token expires, if it was one.
    pub(crate) token_expires_at_us: Option<i64>,
}

impl Basis {
    /// Whether the right to go on has ended with the token. A session outlives its tokens, and is watched: what it began
    /// may go on as long.
    pub(crate) fn has_expired(&self, now_us: i64) -> bool {
        !matches!(self.credential, Credential::Session(_))
            && self.token_expires_at_us.is_some_and(|at_us| at_us <= now_us)
    }
}

/// A call's right to go on. Dropped with the call.
pub(crate) struct Grant {
    pub(crate) basis: Basis,
    place: Option<(Arc<Grants>, u64)>,
    ended: OnceLock<Error>,
    cut: AtomicBool,
    wake: Notify,
    live: Mutex<Vec<LiveQueryHandle>>,
}

impl Grant {
    /// The right of whoever needs none.
    pub(crate) fn bypass() -> Arc<Self> {
        let basis = Basis { credential: Credential::Bypass, user: None, acting_as: None, token_expires_at_us: None };
        Arc::new(Self::new(basis, None))
    }

    /// A right that nothing ends.
    #[cfg(test)]
    pub(crate) fn of(basis: Basis) -> Arc<Self> {
        Arc::new(Self::new(basis, None))
    }

    fn new(basis: Basis, place: Option<(Arc<Grants>, u64)>) -> Self {
        Self {
            basis,
            place,
            ended: OnceLock::new(),
            cut: AtomicBool::new(false),
            wake: Notify::new(),
            live: Mutex::new(Vec::new()),
        }
    }

    /// Has live queries end with the grant.
    pub(crate) fn hold(&self, queries: impl IntoIterator<Item = LiveQueryHandle>) {
        // The bypass, which many calls share, never ends.
        if self.place.is_none() {
            return;
        }
        let mut live = self.live.lock();
        live.extend(queries);
        if let Some(why) = self.ended.get() {
            live.drain(..).for_each(|query| query.end(why.clone()));
        }
    }

    /// Whether it can end before its call does.
    pub(crate) fn can_end(&self) -> bool {
        self.place.is_some()
    }

    /// Why it has ended, if it has.
    pub(crate) fn ended(&self) -> Option<&Error> {
        self.ended.get()
    }

    /// Ends it: its live queries at once, the call itself by [`Grant::cut`]. The first reason stands.
    pub(super) fn end(&self, why: &Error) {
        let mut live = self.live.lock();
        let why = self.ended.get_or_init(|| why.clone());
        live.drain(..).for_each(|query| query.end(why.clone()));
    }

    /// Ends the call, if it still goes on.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.wake.notify_waiters();
    }

    /// Waits until the call has to end, and says why.
    pub(crate) async fn withdrawn(&self) -> Error {
        if self.place.is_none() {
            return std::future::pending().await;
        }
        loop {
            let woken = self.wake.notified();
            if self.cut.load(Ordering::Acquire)
                && let Some(why) = self.ended.get()
            {
                return why.clone();
            }
            woken.await;
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some((grants, id)) = &self.place {
            grants.shard(*id).lock().remove(id);
        }
    }
}

/// The grants of all calls under way, but for those of the bypass.
pub(crate) struct Grants {
    shards: [Mutex<HashMap<u64, Weak<Grant>>>; SHARDS],
    next: AtomicU64,
    /// Counts the looks at all of them. A grant that was made while one went on is made again.
    looks: AtomicU64,
}

impl Grants {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        })
    }

    /// To be asked before a credential is checked, and given to [`Grants::admit`].
    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }

    /// A grant. `None`: there was a look at all grants since `looks`, which cannot have seen this one; check again.
    pub(super) fn admit(self: &Arc<Self>, looks: u64, basis: Basis) -> Option<Arc<Grant>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let grant = Arc::new(Grant::new(basis, Some((Arc::clone(self), id))));
        self.shard(id).lock().insert(id, Arc::downgrade(&grant));
        (self.looks() == looks).then_some(grant)
    }

    /// Every grant, for a look at it.
    pub(super) fn look(&self) -> Vec<Arc<Grant>> {
        // Before the first is collected: whoever misses this look by being late sees the count.
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.all()
    }

    /// Every grant.
    pub(super) fn all(&self) -> Vec<Arc<Grant>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().values().filter_map(Weak::upgrade).collect::<Vec<_>>())
            .collect()
    }

    /// Number of grants.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, Weak<Grant>>> {
        &self.shards[id as usize % SHARDS]
    }
}
