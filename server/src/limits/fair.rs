//! Fair shares: how much of the server one user, and one address, may have.
//!
//! An address is asked first, before anybody knows who calls; a user when it is known. What is counted of either is
//! calls in a second (a bucket that fills steadily and holds a burst), unary calls under way, streams, and connections.
//! The book has a bounded number of entries. An entry goes when nothing of it is under way and its bucket is full again,
//! so that forgetting it changes nothing; when there is no room, whoever is not in the book shares one entry.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use kalamdb_engine::{Caller, Error, Reason, Role, UserId};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use parking_lot::Mutex;

use crate::config::LimitsSection;

/// How often the book is looked through for entries to forget, when it is full.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The shares of all users and addresses.
#[derive(Debug)]
pub(crate) struct FairShares {
    /// `None`: users are not limited.
    users: Option<Book<UserId>>,
    /// `None`: addresses are not limited.
    addresses: Option<Book<IpAddr>>,
    exempt_loopback: bool,
}

/// Something under way that counts; its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    entry: Arc<Entry>,
    thing: Thing,
}

/// What a share is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Call,
    Stream,
    Connection,
}

/// What one user, or one address, has.
#[derive(Debug)]
struct Entry {
    /// `None`: calls in a second are not limited.
    calls: Option<DefaultDirectRateLimiter>,
    under_way: [AtomicUsize; 3],
}

/// The limits of users, or of addresses. 0: none.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// `user` or `address`, as in the keys of the configuration.
    whose: &'static str,
    calls_per_s: u32,
    burst: u32,
    /// By [`Thing`].
    under_way: [usize; 3],
}

/// Who has what.
#[derive(Debug)]
struct Book<K> {
    bounds: Bounds,
    max_entries: usize,
    pages: Mutex<Pages<K>>,
    /// Of those for whom there is no room.
    others: Arc<Entry>,
}

#[derive(Debug)]
struct Pages<K> {
    entries: HashMap<K, Arc<Entry>>,
    swept_at: Option<Instant>,
}

impl FairShares {
    pub(crate) fn new(limits: &LimitsSection) -> Self {
        describe_counter!("kalamdb_limited_total", "What was refused by the limits of users and addresses, by limit");
        describe_gauge!("kalamdb_limits_tracked", "Users and addresses whose calls are counted one by one");
        let users = Bounds {
            whose: "user",
            calls_per_s: limits.user_calls_per_s,
            burst: limits.user_call_burst,
            under_way: [limits.user_concurrent_calls, limits.user_streams, 0],
        };
        let addresses = Bounds {
            whose: "address",
            calls_per_s: limits.address_calls_per_s,
            burst: limits.address_call_burst,
            under_way: [limits.address_concurrent_calls, limits.address_streams, limits.address_connections],
        };
        Self {
            users: users.limit_anything().then(|| Book::new(users, limits.max_tracked)),
            addresses: addresses.limit_anything().then(|| Book::new(addresses, limits.max_tracked)),
            exempt_loopback: limits.exempt_loopback,
        }
    }

    /// Lets an address open a connection. `None`: it is not limited.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS.
    pub(crate) fn connection(&self, address: IpAddr) -> Result<Option<Share>, Error> {
        let Some(book) = self.addresses.as_ref().filter(|_| self.limits(address)) else { return Ok(None) };
        book.take(&network(address), Thing::Connection, false).map(Some)
    }

    /// Lets an address begin a call, whoever makes it. `None`: it is not limited.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS, with the limit, and when to try again.
    pub(crate) fn call_from(&self, address: IpAddr, streams: bool) -> Result<Option<Share>, Error> {
        let Some(book) = self.addresses.as_ref().filter(|_| self.limits(address)) else { return Ok(None) };
        book.take(&network(address), thing(streams), true).map(Some)
    }

    /// Lets a user begin a call. `None`: it is not limited; services and operators never are.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS, with the limit, and when to try again.
    pub(crate) fn call_of(&self, caller: &Caller, address: IpAddr, streams: bool) -> Result<Option<Share>, Error> {
        let limited = caller.role == Role::User && self.limits(address);
        let Some(book) = self.users.as_ref().filter(|_| limited) else { return Ok(None) };
        book.take(&caller.user_id, thing(streams), true).map(Some)
    }

    /// Tells metrics how many there are.
    pub(crate) fn publish(&self) {
        if let Some(users) = &self.users {
            gauge!("kalamdb_limits_tracked", "whose" => "user").set(users.len() as f64);
        }
        if let Some(addresses) = &self.addresses {
            gauge!("kalamdb_limits_tracked", "whose" => "address").set(addresses.len() as f64);
        }
    }

    fn limits(&self, address: IpAddr) -> bool {
        !(self.exempt_loopback && address.to_canonical().is_loopback())
    }
}

fn thing(streams: bool) -> Thing {
    if streams { Thing::Stream } else { Thing::Call }
}

/// What counts as one address: of IPv6 the network, since whoever has an address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.entry.count(self.thing).fetch_sub(1, Ordering::AcqRel);
    }
}

impl Entry {
    fn new(bounds: &Bounds) -> Self {
        let quota = bounds.quota();
        Self { calls: quota.map(RateLimiter::direct), under_way: Default::default() }
    }

    fn count(&self, thing: Thing) -> &AtomicUsize {
        match (thing, &self.under_way) {
            (Thing::Call, [calls, _, _]) => calls,
            (Thing::Stream, [_, streams, _]) => streams,
            (Thing::Connection, [_, _, connections]) => connections,
        }
    }

    /// Whether it is as good as new: nothing under way, and all of the burst there. Spends the burst, so it is for
    /// entries that nobody else has.
    fn is_as_new(&self, bounds: &Bounds) -> bool {
        let idle = self.under_way.iter().all(|count| count.load(Ordering::Acquire) == 0);
        let full = || match (&self.calls, NonZeroU32::new(bounds.burst)) {
            (Some(calls), Some(burst)) => calls.check_n(burst).is_ok_and(|outcome| outcome.is_ok()),
            _ => true,
        };
        idle && full()
    }
}

impl Bounds {
    fn limit_anything(&self) -> bool {
        self.calls_per_s > 0 || self.under_way.iter().any(|most| *most > 0)
    }

    fn quota(&self) -> Option<Quota> {
        let burst = NonZeroU32::new(self.burst.max(1))?;
        NonZeroU32::new(self.calls_per_s).map(|rate| Quota::per_second(rate).allow_burst(burst))
    }

    fn most(&self, thing: Thing) -> usize {
        let [calls, streams, connections] = self.under_way;
        match thing {
            Thing::Call => calls,
            Thing::Stream => streams,
            Thing::Connection => connections,
        }
    }

    /// The key of the configuration.
    fn limit(&self, thing: Thing) -> String {
        let what = match thing {
            Thing::Call => "concurrent_calls",
            Thing::Stream => "streams",
            Thing::Connection => "connections",
        };
        format!("limits.{}_{what}", self.whose)
    }
}

impl<K: Hash + Eq + Clone> Book<K> {
    fn new(bounds: Bounds, max_entries: usize) -> Self {
        let pages = Mutex::new(Pages { entries: HashMap::new(), swept_at: None });
        Self { bounds, max_entries, pages, others: Arc::new(Entry::new(&bounds)) }
    }

    fn len(&self) -> usize {
        self.pages.lock().entries.len()
    }

    fn entry(&self, key: &K) -> Arc<Entry> {
        let mut pages = self.pages.lock();
        if let Some(entry) = pages.entries.get(key) {
            return Arc::clone(entry);
        }
        if pages.entries.len() >= self.max_entries && !pages.sweep(&self.bounds) {
            return Arc::clone(&self.others);
        }
        let entry = Arc::new(Entry::new(&self.bounds));
        pages.entries.insert(key.clone(), Arc::clone(&entry));
        entry
    }

    /// Takes a place for something, and one of the calls of this second if `counts`.
    fn take(&self, key: &K, thing: Thing, counts: bool) -> Result<Share, Error> {
        let bounds = &self.bounds;
        let entry = self.entry(key);
        if counts && let Some(Err(later)) = entry.calls.as_ref().map(|calls| calls.check()) {
            let wait = later.wait_time_from(DefaultClock::default().now());
            let (limit, most) = (format!("limits.{}_calls_per_s", bounds.whose), bounds.calls_per_s);
            let message = format!(
                "The {} makes more than {most} calls in a second, which is {limit}. Try again in {} ms.",
                bounds.whose,
                wait.as_millis().max(1)
            );
            return Err(refused(message, limit, wait));
        }
        let most = bounds.most(thing);
        // The share exists before the check, so that a refusal gives the place back by being dropped.
        let before = entry.count(thing).fetch_add(1, Ordering::AcqRel);
        let share = Share { entry, thing };
        if most == 0 || before < most {
            return Ok(share);
        }
        let limit = bounds.limit(thing);
        let what = match thing {
            Thing::Call => "calls under way",
            Thing::Stream => "streams under way",
            Thing::Connection => "connections",
        };
        let message =
            format!("The {} has {most} {what}, which is {limit}. Try again when one has ended.", bounds.whose);
        Err(refused(message, limit, Duration::from_millis(100)))
    }
}

impl<K> Pages<K> {
    /// Forgets who is idle, once in a while; answers whether there is room now.
    fn sweep(&mut self, bounds: &Bounds) -> bool {
        let now = Instant::now();
        if self.swept_at.is_some_and(|at| now.duration_since(at) < SWEEP_INTERVAL) {
            return false;
        }
        self.swept_at = Some(now);
        let before = self.entries.len();
        // Nobody can come to have an entry while the book is locked.
        self.entries.retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.is_as_new(bounds));
        self.entries.len() < before
    }
}

fn refused(message: String, limit: String, wait: Duration) -> Error {
    counter!("kalamdb_limited_total", "limit" => limit.clone()).increment(1);
    Error::new(Reason::TooManyRequests, message)
        .with("limit", limit)
        .with(RETRY_AFTER_MS, wait.as_millis().max(1).to_string())
}

/// Metadata of an error that says when to try again; the status has it as `google.rpc.RetryInfo`, too.
pub(crate) const RETRY_AFTER_MS: &str = "retry_after_ms";

#[cfg(test)]
mod tests;
