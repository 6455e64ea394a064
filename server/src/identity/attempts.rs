//! Failed attempts to authenticate: counted, and refused unseen when there are too many.
//!
//! What is limited is guessing. Credentials that are known to be good, such as a token that was verified before and an API
//! key that exists, keep working from an address from which others fail: one client with an old token must not lock out
//! all who come through the same proxy. Passwords, which can be guessed, are not even looked at.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use kalamdb_engine::{Error, Reason};
use metrics::{Counter, counter, describe_counter};
use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::time::Instant;

use crate::{config::AuthSection, limits::RETRY_AFTER_MS};

/// Addresses, and accounts, with failures that are remembered.
const MOST_COUNTED: u64 = 100_000;

/// Counts failures.
pub(crate) struct Attempts {
    addresses: Limit<IpAddr>,
    accounts: Limit<String>,
    refused: Counter,
}

impl Attempts {
    pub(super) fn new(config: &AuthSection) -> Self {
        describe_counter!("kalamdb_auth_refused_unseen_total", "Attempts refused unseen, after too many failures");
        let window = Duration::from_secs(config.failure_window_s);
        Self {
            addresses: Limit::new(config.max_failures_per_address, window, "auth.max_failures_per_address"),
            accounts: Limit::new(config.max_failures_per_account, window, "auth.max_failures_per_account"),
            refused: counter!("kalamdb_auth_refused_unseen_total"),
        }
    }

    /// Whether something from this address, for this account if there is one, may be looked at.
    ///
    /// # Errors
    /// TOO_MANY_ATTEMPTS, with how long to wait.
    pub(super) fn check(&self, address: IpAddr, account: Option<&str>) -> Result<(), Error> {
        self.look(address, account).inspect_err(|_| self.refused.increment(1))
    }

    /// Whether nothing from this address, or for this account, is looked at.
    pub(super) fn is_limited(&self, address: IpAddr, account: Option<&str>) -> bool {
        self.look(address, account).is_err()
    }

    fn look(&self, address: IpAddr, account: Option<&str>) -> Result<(), Error> {
        self.addresses.check(&network(address))?;
        account.map_or(Ok(()), |account| self.accounts.check(&account_key(account)))
    }

    /// Something from this address, for this account if there is one, was wrong. True: it was the last before attempts are
    /// refused unseen.
    pub(super) fn failed(&self, address: IpAddr, account: Option<&str>) -> bool {
        let address = self.addresses.count(network(address));
        let account = account.is_some_and(|account| self.accounts.count(account_key(account)));
        address || account
    }
}

/// A network of IPv6 belongs to one party, who can use any address of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Nobody makes the server remember long names.
fn account_key(account: &str) -> String {
    account.chars().take(128).collect()
}

struct Limit<K> {
    /// 0: none.
    max: u32,
    window: Duration,
    setting: &'static str,
    counts: Cache<K, Arc<Count>>,
}

struct Count {
    since: Instant,
    failures: AtomicU32,
}

impl<K: Hash + Eq + Send + Sync + 'static> Limit<K> {
    fn new(max: u32, window: Duration, setting: &'static str) -> Self {
        // Not by how often they are asked for: a full cache would keep new ones out, and count nothing of them.
        let lru = EvictionPolicy::lru();
        let counts = Cache::builder().max_capacity(MOST_COUNTED).eviction_policy(lru).time_to_live(window).build();
        Self { max, window, setting, counts }
    }

    fn check(&self, key: &K) -> Result<(), Error> {
        if self.max == 0 {
            return Ok(());
        }
        let Some(count) = self.counts.get(key) else { return Ok(()) };
        if count.failures.load(Ordering::Relaxed) < self.max {
            return Ok(());
        }
        let wait = self.window.saturating_sub(count.since.elapsed()).max(Duration::from_millis(1));
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let message = format!("Too many failed attempts to authenticate. Try again in {seconds} s.");
        Err(Error::new(Reason::TooManyAttempts, message)
            .with("limit", self.setting)
            .with(RETRY_AFTER_MS, wait.as_millis().max(1).to_string()))
    }

    /// True for the last failure before the limit.
    fn count(&self, key: K) -> bool {
        if self.max == 0 {
            return false;
        }
        let new = || Arc::new(Count { since: Instant::now(), failures: AtomicU32::new(0) });
        let count = self.counts.get_with(key, new);
        count.failures.fetch_add(1, Ordering::Relaxed) + 1 == self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(address: u32, account: u32, window: u64) -> Attempts {
        Attempts::new(&AuthSection {
            max_failures_per_address: address,
            max_failures_per_account: account,
            failure_window_s: window,
            ..AuthSection::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_refused_after_their_failures_and_others_are_not() {
        let attempts = attempts(3, 0, 60);
        assert_eq!([1, 2, 3].map(|_| attempts.failed(ip("10.0.0.1"), None)), [false, false, true]);
        let error = attempts.check(ip("10.0.0.1"), None).unwrap_err();
        assert_eq!(error.reason(), Reason::TooManyAttempts);
        let wait: u64 = error.metadata()[RETRY_AFTER_MS].parse().unwrap();
        assert!((1..=60_000).contains(&wait), "{wait}");
        assert!(attempts.check(ip("::ffff:10.0.0.1"), None).is_err(), "the same in another form");
        attempts.check(ip("10.0.0.2"), None).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let attempts = attempts(1, 0, 60);
        attempts.failed(ip("2001:db8::1"), None);
        assert!(attempts.check(ip("2001:db8::2:3"), None).is_err());
        attempts.check(ip("2001:db8:0:1::1"), None).unwrap();
    }

    #[test]
    fn accounts_are_refused_from_everywhere() {
        let attempts = attempts(0, 2, 60);
        attempts.failed(ip("10.0.0.1"), Some("ana"));
        attempts.failed(ip("10.0.0.2"), Some("ana"));
        assert!(attempts.check(ip("10.0.0.3"), Some("ana")).is_err());
        attempts.check(ip("10.0.0.1"), Some("bob")).unwrap();
        attempts.check(ip("10.0.0.1"), None).unwrap();
    }
}
