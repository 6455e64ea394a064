//! Tokens: JSON Web Tokens of others whose keys are configured, and KalamDB's own access tokens.
//!
//! ```text
//! token ─▶ length ─▶ verified before? ─▶ header: algorithm, key id ─▶ a key of just that algorithm ─▶ signature ─▶ claims
//!                         │                                                                                        │
//!                         └──────────────────────────────▶ who it names ◀──────────────────────────────────────────┘
//! ```
//!
//! The algorithm is the key's, never the token's: a token that says another one finds no key. What a token says about
//! where its key is (`jku`, `jwk`, `x5u`) is not looked at. Whether the user exists and may call is not decided here.

mod claims;
mod crypto;
mod jwks;
mod keys;
mod own;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jsonwebtoken::{Header, decode, decode_header};
use kalamdb_engine::{Env, UserId};
use moka::sync::Cache;
use ring::digest::{SHA256, digest};

use self::{
    claims::{Claims, Rules},
    jwks::Jwks,
    keys::{Key, KeySet, KeysNow},
};
pub(crate) use self::{
    jwks::read_key_set,
    keys::{check_secret, read_key},
    own::OwnTokens,
};
use crate::config::AuthSection;

/// Keys that one token is tried with.
const MOST_TRIED: usize = 16;

/// Why a token is refused. The texts are for its sender, and the names for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenFault {
    #[error("The token is longer than auth.max_token_bytes allows.")]
    TooLong,
    #[error("The token is not a JSON Web Token.")]
    Malformed,
    #[error("The token is signed with an algorithm that no key of this server is for.")]
    Algorithm,
    #[error("The token names a key that this server does not know.")]
    UnknownKey,
    #[error("The signature of the token is not valid.")]
    Signature,
    #[error("The token has expired. Get a new one.")]
    Expired,
    #[error("The token is not valid yet. Compare the clocks of its issuer and of the server.")]
    NotYet,
    #[error("The token says when it expires (claim exp) nowhere, or not as a number.")]
    NoExpiry,
    #[error("The token is not of an issuer that this server accepts (claim iss).")]
    Issuer,
    #[error("The token is not meant for this server (claim aud).")]
    Audience,
    #[error("The token names no user: claim user_id, or else sub, has to be the user's id.")]
    NoUser,
    #[error("A claim of the token has not the type that it must have.")]
    BadClaim,
}

impl TokenFault {
    /// The name for metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not_yet_valid",
            Self::NoExpiry => "no_expiry",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::NoUser => "no_user",
            Self::BadClaim => "bad_claim",
        }
    }
}

/// What a token says, once it is known to say the truth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) user: UserId,
    /// The session, of KalamDB's own tokens.
    pub(crate) session: Option<String>,
    /// When it ceases to be valid, leeway included.
    pub(crate) expires_at_us: i64,
    /// The keys that it was verified with: others may not verify it.
    generation: u64,
}

/// Verifies tokens.
pub(crate) struct Tokens {
    own: Arc<OwnTokens>,
    keys: Arc<KeySet>,
    jwks: Option<Arc<Jwks>>,
    rules: Rules,
    max_bytes: usize,
    cache: Cache<[u8; 32], Arc<Verified>>,
    env: Arc<dyn Env>,
}

impl Tokens {
    /// Reads the configured keys; those of an address are fetched later, by [`Tokens::keep_keys_fresh`].
    ///
    /// # Errors
    /// A text for the operator.
    pub(crate) fn new(config: &AuthSection, own: Arc<OwnTokens>, env: Arc<dyn Env>) -> Result<Self, String> {
        crypto::install();
        let keys = Arc::new(KeySet::new(keys::configured(config)?));
        let jwks = Jwks::new(config, Arc::clone(&keys))?.map(Arc::new);
        Ok(Self {
            own,
            keys,
            jwks,
            rules: Rules::new(config),
            max_bytes: config.max_token_bytes,
            cache: Cache::builder().max_capacity(config.token_cache_entries).build(),
            env,
        })
    }

    /// Fetches and reads sets of keys again, now and then, for ever.
    pub(crate) async fn keep_keys_fresh(self: Arc<Self>, look_every: std::time::Duration) {
        if let Some(jwks) = &self.jwks {
            jwks.keep_fresh(look_every).await;
        }
    }

    /// Who a token names, if it was verified before and nothing has changed since. Takes about a microsecond.
    pub(crate) fn known(&self, token: &str) -> Option<Arc<Verified>> {
        if token.len() > self.max_bytes {
            return None;
        }
        let verified = self.cache.get(&hash(token))?;
        let is_current = verified.session.is_some() || verified.generation == self.keys.generation();
        (is_current && self.env.now_us() < verified.expires_at_us).then_some(verified)
    }

    /// Who a token names.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<Verified>, TokenFault> {
        if token.len() > self.max_bytes {
            return Err(TokenFault::TooLong);
        }
        let header = header(token)?;
        let verified = if self.own.made(&header) {
            self.own.verify(token, self.env.now_us())?
        } else {
            self.verify_external(token, &header).await?
        };
        let verified = Arc::new(verified);
        self.cache.insert(hash(token), Arc::clone(&verified));
        Ok(verified)
    }

    async fn verify_external(&self, token: &str, header: &Header) -> Result<Verified, TokenFault> {
        let keys = self.keys.get();
        let outcome = self.try_keys(token, header, &keys);
        let Some(jwks) = &self.jwks else { return outcome };
        if outcome.is_ok() || keys.knows_id(header) {
            return outcome;
        }
        // The issuer may have new keys since.
        jwks.look_for_new_keys(keys.generation).await;
        self.try_keys(token, header, &self.keys.get())
    }

    fn try_keys(&self, token: &str, header: &Header, keys: &KeysNow) -> Result<Verified, TokenFault> {
        let of_algorithm: Vec<&Arc<Key>> = keys.keys.iter().filter(|key| key.is_for(header.alg)).collect();
        let mut fault = if of_algorithm.is_empty() { TokenFault::Algorithm } else { TokenFault::UnknownKey };
        for key in of_algorithm.into_iter().filter(|key| key.has_id(header)).take(MOST_TRIED) {
            match decode::<Claims>(token, key.decoding(), key.validation()) {
                Ok(data) => {
                    let (user, expires_at_us) = self.rules.check(&data.claims, self.env.now_us())?;
                    return Ok(Verified { user, session: None, expires_at_us, generation: keys.generation });
                }
                Err(error) => fault = fault_of(&error),
            }
        }
        Err(fault)
    }
}

fn header(token: &str) -> Result<Header, TokenFault> {
    let header = decode_header(token).map_err(|error| fault_of(&error))?;
    // An extension that must be understood is one that is not.
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(TokenFault::Malformed);
    }
    Ok(header)
}

fn hash(token: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

fn fault_of(error: &jsonwebtoken::errors::Error) -> TokenFault {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenFault::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::InvalidKeyFormat => {
            TokenFault::Algorithm
        }
        _ => TokenFault::Malformed,
    }
}
