//! Credentials at rest: AES-256-GCM under a key of the configuration.
//!
//! ```text
//! format u8 = 1 | nonce, 12 bytes | ciphertext | tag, 16 bytes
//! ```
//!
//! What the credentials are of is authenticated along with them: sealed ones cannot be moved to another storage.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;

/// A key of 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; KEY_BYTES]);

/// A text that is no [`SecretKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is 32 random bytes in base64; `head -c 32 /dev/urandom | base64` makes one")]
pub struct InvalidSecretKey;

/// Sealed bytes that this key does not open: they were sealed under another one, or changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes were sealed under another key, or were changed since")]
pub struct NotOpened;

impl SecretKey {
    /// Reads a key in base64.
    ///
    /// # Errors
    /// [`InvalidSecretKey`].
    pub fn from_base64(text: &str) -> Result<Self, InvalidSecretKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidSecretKey)?;
        let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| InvalidSecretKey)?;
        // What a placeholder decodes to.
        if key.iter().all(|byte| *byte == key[0]) { Err(InvalidSecretKey) } else { Ok(Self(key)) }
    }

    /// Seals a secret that belongs to `context`. No nonce may be used twice: give random bytes.
    ///
    /// # Errors
    /// When the secret is longer than AES-GCM allows, some 64 GiB.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], context: &[u8], secret: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let mut sealed = secret.to_vec();
        let key = self.cipher()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_| NotOpened)?;
        Ok([&[FORMAT][..], &nonce, &sealed].concat())
    }

    /// Opens what was sealed for the same `context`.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let Some((&FORMAT, rest)) = sealed.split_first() else { return Err(NotOpened) };
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened)?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let secret = self.cipher()?.open_in_place(nonce, Aad::from(context), &mut bytes).map_err(|_| NotOpened)?;
        Ok(secret.to_vec())
    }

    fn cipher(&self) -> Result<LessSafeKey, NotOpened> {
        UnboundKey::new(&AES_256_GCM, &self.0).map(LessSafeKey::new).map_err(|_| NotOpened)
    }
}

/// Shown without the key.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

#[cfg(test)]
mod tests;
