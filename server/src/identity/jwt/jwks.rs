//! A JSON Web Key Set: public keys that their issuer exchanges now and then, in a file or at an address.
//!
//! The keys that are there stay when new ones cannot be had: an issuer that cannot be reached for an hour does not lock
//! everybody out.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use metrics::{Counter, counter, describe_counter};
use reqwest::{Client, Url, redirect::Policy};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval},
};

use super::keys::{Key, KeySet, algorithm, read_file};
use crate::config::{AuthSection, JwtAlgorithm, is_local_url};

/// Keys that are taken from one set.
const MOST_KEYS: usize = 64;
/// A set is smaller.
const MOST_BYTES: usize = 256 * 1024;

/// A set, and where it is.
pub(super) struct Jwks {
    source: Source,
    algorithms: Vec<Algorithm>,
    keys: Arc<KeySet>,
    refresh: Duration,
    min_interval: Duration,
    state: Mutex<State>,
    fetched: Counter,
    failed: Counter,
}

enum Source {
    File(PathBuf),
    Address { client: Client, url: Url },
}

#[derive(Default)]
struct State {
    tried: Option<Instant>,
    /// What was read last: the same once more changes nothing.
    bytes: Vec<u8>,
    stamp: Option<Stamp>,
}

/// What changes with a file.
type Stamp = (SystemTime, u64);

impl Jwks {
    /// The set of the configuration. A file is read; an address is asked later.
    ///
    /// # Errors
    /// A text for the operator.
    pub(super) fn new(config: &AuthSection, keys: Arc<KeySet>) -> Result<Option<Self>, String> {
        let mut state = State::default();
        let algorithms: Vec<Algorithm> = config.jwks_algorithms.iter().copied().map(algorithm).collect();
        let source = if !config.jwks_file.is_empty() {
            let path = PathBuf::from(&config.jwks_file);
            state.stamp = stamp(&path);
            state.bytes = read_file(&path)?;
            keys.replace_set(parse(&state.bytes, &algorithms).map_err(|why| format!("{}: {why}", path.display()))?);
            Source::File(path)
        } else if !config.jwks_url.is_empty() {
            let url: Url = config.jwks_url.parse().map_err(|error| format!("{}: {error}", config.jwks_url))?;
            Source::Address { client: client(&url, Duration::from_millis(config.jwks_timeout_ms))?, url }
        } else {
            return Ok(None);
        };
        describe_counter!("kalamdb_auth_jwks_total", "Sets of keys fetched or read, by outcome");
        Ok(Some(Self {
            source,
            algorithms,
            keys,
            refresh: Duration::from_secs(config.jwks_refresh_s),
            min_interval: Duration::from_secs(config.jwks_min_interval_s),
            state: Mutex::new(state),
            fetched: counter!("kalamdb_auth_jwks_total", "outcome" => "ok"),
            failed: counter!("kalamdb_auth_jwks_total", "outcome" => "failed"),
        }))
    }

    /// Gets the set again, now and then, for ever.
    pub(super) async fn keep_fresh(&self, look_every: Duration) {
        let every = match self.source {
            Source::File(_) => look_every,
            Source::Address { .. } => self.refresh,
        };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.get(&mut *self.state.lock().await).await;
        }
    }

    /// Gets the set if its keys are still those of `generation`, and if that was not tried a moment ago. Those who ask at
    /// the same time share one answer.
    pub(super) async fn look_for_new_keys(&self, generation: u64) {
        let mut state = self.state.lock().await;
        let lately = state.tried.is_some_and(|tried| tried.elapsed() < self.min_interval);
        if self.keys.generation() == generation && !lately {
            self.get(&mut state).await;
        }
    }

    async fn get(&self, state: &mut State) {
        let bytes = match &self.source {
            Source::File(path) => {
                let now = stamp(path);
                if now == state.stamp {
                    return;
                }
                state.stamp = now;
                read_file(path)
            }
            Source::Address { client, url } => fetch(client, url).await,
        };
        state.tried = Some(Instant::now());
        let outcome = bytes.and_then(|bytes| {
            if bytes != state.bytes {
                let keys = parse(&bytes, &self.algorithms)?;
                tracing::info!(keys = keys.len(), "keys for tokens were read from the key set");
                self.keys.replace_set(keys);
                state.bytes = bytes;
            }
            Ok(())
        });
        match outcome {
            Ok(()) => self.fetched.increment(1),
            Err(why) => {
                self.failed.increment(1);
                tracing::error!("the key set cannot be read, and the keys stay as they are: {why}");
            }
        }
    }
}

fn client(url: &Url, timeout: Duration) -> Result<Client, String> {
    let local = is_local_url(url.as_str());
    let mut builder = Client::builder().timeout(timeout).connect_timeout(timeout).redirect(Policy::none());
    builder = if local { builder.no_proxy() } else { builder.https_only(true) };
    builder.build().map_err(|error| format!("no client for auth.jwks_url: {error}"))
}

async fn fetch(client: &Client, url: &Url) -> Result<Vec<u8>, String> {
    let failed = |error: reqwest::Error| format!("{url}: {error}");
    let mut response = client.get(url.clone()).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(format!("{url} answers {}", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MOST_BYTES {
            return Err(format!("{url} answers more than {MOST_BYTES} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Checks a file with a set.
///
/// # Errors
/// A text for the operator.
pub(crate) fn read_key_set(path: &str, algorithms: &[JwtAlgorithm]) -> Result<(), String> {
    let algorithms: Vec<Algorithm> = algorithms.iter().copied().map(algorithm).collect();
    parse(&read_file(Path::new(path))?, &algorithms).map(drop).map_err(|why| format!("{path}: {why}"))
}

/// The keys of a set that can verify signatures with one of `algorithms`. Others are left out: sets have keys for all
/// sorts of things.
fn parse(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
    if set.keys.len() > MOST_KEYS {
        return Err(format!("the set has {} keys; {MOST_KEYS} at most are read", set.keys.len()));
    }
    let keys: Vec<Key> = set.keys.into_iter().filter_map(|key| of_jwk(key, algorithms)).collect();
    if keys.is_empty() { Err("the set has no key for any of auth.jwks_algorithms".to_owned()) } else { Ok(keys) }
}

fn of_jwk(value: serde_json::Value, algorithms: &[Algorithm]) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let of_kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        // A secret has no place in a set that others publish.
        _ => return None,
    };
    let says_so = match jwk.common.key_algorithm {
        None => true,
        Some(KeyAlgorithm::RS256) => of_kind == Algorithm::RS256,
        Some(KeyAlgorithm::ES256) => of_kind == Algorithm::ES256,
        Some(KeyAlgorithm::EdDSA) => of_kind == Algorithm::EdDSA,
        Some(_) => false,
    };
    if !says_so || !algorithms.contains(&of_kind) {
        return None;
    }
    Key::new(jwk.common.key_id.clone(), of_kind, DecodingKey::from_jwk(&jwk).ok()?).ok()
}
