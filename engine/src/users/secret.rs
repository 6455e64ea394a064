//! Random secrets of API keys and sessions: made, written, hashed, compared.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::ConstantTimeEq;

use crate::env::Env;

/// Bytes of a secret.
pub(super) const SECRET_BYTES: usize = 32;
/// Characters of a secret as it is written.
pub(super) const SECRET_CHARS: usize = 43;

/// A random secret, as long as its owner has not been told. Only its hash is stored.
pub(super) struct Secret([u8; SECRET_BYTES]);

/// What is stored of a secret. As secrets are random and long, a plain hash cannot be turned back.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SecretHash([u8; SECRET_BYTES]);

impl Secret {
    pub(super) fn new(env: &dyn Env) -> Self {
        let mut bytes = [0; SECRET_BYTES];
        for chunk in bytes.chunks_exact_mut(size_of::<u64>()) {
            chunk.copy_from_slice(&env.random_u64().to_le_bytes());
        }
        Self(bytes)
    }

    /// Reads a secret as [`Secret::text`] writes it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() != SECRET_CHARS {
            return None;
        }
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn hash(&self) -> SecretHash {
        let mut bytes = [0; SECRET_BYTES];
        bytes.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        SecretHash(bytes)
    }
}

impl SecretHash {
    /// Whether it is the hash of `secret`; takes as long when it is not.
    pub(super) fn is_of(&self, secret: &Secret) -> bool {
        self.0.ct_eq(&secret.hash().0).into()
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("a hash that is none"))
    }
}

/// Shown without the bytes.
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(redacted)")
    }
}

/// A random id of 16 hexadecimal digits.
pub(super) fn random_id(env: &dyn Env) -> String {
    format!("{:016x}", env.random_u64())
}

/// Whether a text can be a [`random_id`].
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
