//! Passwords: hashed and checked by argon2id, away from the threads that serve calls, a few at a time.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{Output, PasswordHash as Parsed, PasswordHasher, PasswordVerifier, SaltString},
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{record::PasswordHash, secret::Secret};
use crate::{
    env::Env,
    error::{Error, Reason, Result},
    settings::UserSettings,
    sql::Password,
};

/// Longer texts are not hashed: they are no passwords.
const MAX_PASSWORD_BYTES: usize = 1_024;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Hashes passwords and checks them.
pub(super) struct Passwords {
    argon2: Argon2<'static>,
    min_chars: usize,
    /// A place for each that may be hashed at a time: it takes as much memory as the settings say.
    places: Arc<Semaphore>,
    /// Those that have a place or wait for one.
    max_waiting: usize,
    waiting: Arc<Mutex<usize>>,
    /// A hash of no password, to spend the same time on users who do not exist.
    decoy: PasswordHash,
}

impl Passwords {
    pub(super) fn new(settings: &UserSettings, env: &dyn Env) -> Result<Self> {
        let params = Params::new(
            settings.password_memory_kib,
            settings.password_iterations,
            settings.password_parallelism,
            Some(HASH_BYTES),
        )
        .map_err(|e| Error::new(Reason::InvalidRequest, format!("The parameters of argon2id cannot be used: {e}.")))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let concurrency = match settings.password_concurrency {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
            given => given,
        };
        let decoy = decoy(&argon2, env)?;
        Ok(Self {
            argon2,
            min_chars: settings.min_password_chars,
            places: Arc::new(Semaphore::new(concurrency)),
            max_waiting: settings.max_waiting_passwords.max(concurrency),
            waiting: Arc::default(),
            decoy,
        })
    }

    /// Checks that a text can be a user's password.
    ///
    /// # Errors
    /// INVALID_USER.
    pub(super) fn check(&self, password: &Password) -> Result<()> {
        let text = password.as_str();
        let problem = if text.chars().count() < self.min_chars {
            format!("has fewer than {} characters", self.min_chars)
        } else if text.len() > MAX_PASSWORD_BYTES {
            format!("has more than {MAX_PASSWORD_BYTES} bytes")
        } else {
            return Ok(());
        };
        let message = format!("The password {problem}. Choose another one.");
        Err(Error::new(Reason::InvalidUser, message).with("column", "password"))
    }

    /// What to store of a password.
    ///
    /// # Errors
    /// INVALID_USER; TOO_MANY_REQUESTS.
    pub(super) async fn hash(&self, password: &Password, env: &dyn Env) -> Result<PasswordHash> {
        self.check(password)?;
        let place = self.place().await?;
        let salt = salt(env)?;
        let (argon2, password) = (self.argon2.clone(), password.clone());
        let hashing = tokio::task::spawn_blocking(move || {
            let hash = argon2.hash_password(password.as_str().as_bytes(), &salt).map(|hash| hash.to_string());
            drop(place);
            hash
        });
        hashing.await.map_err(Error::internal)?.map(PasswordHash).map_err(Error::internal)
    }

    /// Whether a password is the one of a hash. Without a hash it is not, which takes as long to say.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when too many passwords are being checked.
    pub(super) async fn verify(&self, password: &Password, hash: Option<&PasswordHash>) -> Result<bool> {
        let place = self.place().await?;
        let is_decoy = hash.is_none();
        let (argon2, password) = (self.argon2.clone(), password.clone());
        let hash = hash.unwrap_or(&self.decoy).clone();
        let checking = tokio::task::spawn_blocking(move || {
            let text = password.as_str().as_bytes();
            // What is too long to be a password costs what one of the greatest length does.
            let text = text.get(..MAX_PASSWORD_BYTES + 1).unwrap_or(text);
            let parsed = Parsed::new(&hash.0).map_err(Error::internal)?;
            let outcome = argon2.verify_password(text, &parsed);
            drop(place);
            match outcome {
                Ok(()) => Ok(true),
                Err(argon2::password_hash::Error::Password) => Ok(false),
                Err(other) => Err(Error::internal(other)),
            }
        });
        let matches = checking.await.map_err(Error::internal)??;
        Ok(matches && !is_decoy)
    }

    async fn place(&self) -> Result<Place> {
        let waiting = {
            let mut waiting = self.waiting.lock();
            if *waiting >= self.max_waiting {
                let message = "Too many passwords are being checked. Try again in a moment.";
                return Err(Error::new(Reason::TooManyRequests, message).with("limit", "auth.password_concurrency"));
            }
            *waiting += 1;
            Waiting(Arc::clone(&self.waiting))
        };
        let permit = Arc::clone(&self.places).acquire_owned().await.map_err(Error::internal)?;
        Ok(Place { _permit: permit, _waiting: waiting })
    }
}

/// The right to hash one password.
struct Place {
    _permit: OwnedSemaphorePermit,
    _waiting: Waiting,
}

struct Waiting(Arc<Mutex<usize>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        *waiting = waiting.saturating_sub(1);
    }
}

fn salt(env: &dyn Env) -> Result<SaltString> {
    let mut bytes = [0; SALT_BYTES];
    for chunk in bytes.chunks_exact_mut(size_of::<u64>()) {
        chunk.copy_from_slice(&env.random_u64().to_le_bytes());
    }
    SaltString::encode_b64(&bytes).map_err(Error::internal)
}

/// Random bytes in the form of a hash with these parameters. To check a password with it costs what any costs.
fn decoy(argon2: &Argon2<'_>, env: &dyn Env) -> Result<PasswordHash> {
    let salt = salt(env)?;
    let output = Output::new(Secret::new(env).bytes()).map_err(Error::internal)?;
    let params = argon2::password_hash::ParamsString::try_from(argon2.params()).map_err(Error::internal)?;
    let hash = Parsed {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params,
        salt: Some(salt.as_salt()),
        hash: Some(output),
    };
    Ok(PasswordHash(hash.to_string()))
}

#[cfg(test)]
mod tests;
