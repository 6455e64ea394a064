//! KalamDB's own access tokens: what `AuthService.Login` gives for a password.
//!
//! Signed with HMAC-SHA-256 under a random key that never leaves this server, since nobody else has to verify them. The key
//! is in the file `token.key` of the data folder, which only its owner can read:
//!
//! ```text
//! kalamdb token key 1
//! 32 random bytes in base64
//! ```
//!
//! Without the file a new one is made: access tokens of before are void, which their sessions' refresh tokens are not.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, decode, encode};
use kalamdb_engine::{Env, UserId};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::{
    TokenFault, Verified,
    claims::{Claims, expiry},
    crypto, fault_of,
    keys::Key,
};

/// The issuer of KalamDB's own tokens. Tokens of others that say so are refused.
pub(super) const OWN_ISSUER: &str = "kalamdb";

const KEY_FILE: &str = "token.key";
const KEY_FILE_NEW: &str = "token.key.new";
const FIRST_LINE: &str = "kalamdb token key 1";
const KEY_BYTES: usize = 32;
const US_PER_S: i64 = 1_000_000;

/// Makes and verifies access tokens.
pub(crate) struct OwnTokens {
    id: String,
    signing: EncodingKey,
    key: Key,
    lifetime: Duration,
}

#[derive(Serialize)]
struct OwnClaims<'a> {
    iss: &'static str,
    sub: &'a str,
    sid: &'a str,
    iat: i64,
    exp: i64,
}

impl OwnTokens {
    /// With the key of this data folder, which is made if it is not there; `None`: with a key of the moment.
    ///
    /// # Errors
    /// A text for the operator.
    pub(crate) fn open(data_dir: Option<&Path>, lifetime: Duration, env: &dyn Env) -> Result<Self, String> {
        let secret = match data_dir {
            None => random_key(env),
            Some(folder) => key_of(folder, env)
                .map_err(|error| format!("the key for access tokens, {}: {error}", folder.join(KEY_FILE).display()))?,
        };
        crypto::install();
        // Tells the keys of two servers apart, and says nothing about the key itself.
        let id = digest(&SHA256, &secret).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        let id = format!("{OWN_ISSUER}-{id}");
        Ok(Self {
            key: Key::new(Some(id.clone()), Algorithm::HS256, DecodingKey::from_secret(&secret))?,
            id,
            signing: EncodingKey::from_secret(&secret),
            lifetime,
        })
    }

    /// A token for a session, and when it expires.
    ///
    /// # Errors
    /// A text for the log.
    pub(crate) fn issue(&self, user: &UserId, session: &str, now_us: i64) -> Result<(String, i64), String> {
        self.issue_for(user, session, now_us, self.lifetime)
    }

    /// The same, valid for `lifetime`.
    ///
    /// # Errors
    /// A text for the log.
    pub(crate) fn issue_for(
        &self,
        user: &UserId,
        session: &str,
        now_us: i64,
        lifetime: Duration,
    ) -> Result<(String, i64), String> {
        let iat = now_us.div_euclid(US_PER_S);
        let exp = iat.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
        let claims = OwnClaims { iss: OWN_ISSUER, sub: user.as_str(), sid: session, iat, exp };
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims, &self.signing).map_err(|error| format!("a token: {error}"))?;
        Ok((token, exp.saturating_mul(US_PER_S)))
    }

    /// Whether a token with this header says that it is of this server.
    pub(super) fn made(&self, header: &Header) -> bool {
        header.kid.as_deref() == Some(&self.id)
    }

    /// Who a token names.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn verify(&self, token: &str, now_us: i64) -> Result<Verified, TokenFault> {
        let data = decode::<Claims>(token, self.key.decoding(), self.key.validation()).map_err(|e| fault_of(&e))?;
        let claims = data.claims;
        // No leeway: there is one clock. One that was set back makes no token invalid.
        let expires_at_us = expiry(&claims, now_us, 0)?;
        if claims.iss.as_deref() != Some(OWN_ISSUER) {
            return Err(TokenFault::Issuer);
        }
        let user = claims.sub.ok_or(TokenFault::NoUser)?;
        Ok(Verified {
            user: UserId::new(&user).map_err(|_| TokenFault::NoUser)?,
            session: Some(claims.sid.ok_or(TokenFault::BadClaim)?),
            expires_at_us,
            generation: 0,
        })
    }
}

fn random_key(env: &dyn Env) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    for chunk in key.chunks_exact_mut(size_of::<u64>()) {
        chunk.copy_from_slice(&env.random_u64().to_le_bytes());
    }
    key
}

/// The key in a folder. The data folder is locked: nobody else makes one at the same time.
fn key_of(folder: &Path, env: &dyn Env) -> io::Result<[u8; KEY_BYTES]> {
    let path = folder.join(KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            warn_if_open(&path)?;
            parse(&text).ok_or_else(|| {
                io::Error::other(
                    "is damaged; remove it, and a new one is made, with which access tokens of before are void",
                )
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = random_key(env);
            write(folder, &format!("{FIRST_LINE}\n{}\n", BASE64_STANDARD.encode(key)))?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Option<[u8; KEY_BYTES]> {
    let key = text.strip_prefix(FIRST_LINE)?.trim();
    BASE64_STANDARD.decode(key).ok()?.try_into().ok()
}

/// Writes the file so that it is there as a whole or not at all, whatever happens.
fn write(folder: &Path, text: &str) -> io::Result<()> {
    let new = folder.join(KEY_FILE_NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, folder.join(KEY_FILE))?;
    File::open(folder)?.sync_all()
}

#[cfg(unix)]
fn warn_if_open(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        tracing::warn!("{} can be read by others: chmod 600 it", path.display());
    }
    Ok(())
}

#[cfg(not(unix))]
fn warn_if_open(_: &Path) -> io::Result<()> {
    Ok(())
}
