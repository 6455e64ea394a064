//! Tokens that expire, and are had again.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::OwnedMutexGuard;
use tonic::metadata::AsciiMetadataValue;

use super::{AccessToken, Secret, bearer};
use crate::{
    auth::SessionTokens,
    client::Client,
    error::{Error, ErrorKind, Result},
};

/// An error of code that is not this crate's.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// So much of a token's time is left, at least, when the next one is asked for: a fifth, and no more than a minute.
const RENEW_AT_PART: u32 = 5;
const RENEW_AT_MOST: Duration = Duration::from_secs(60);
/// How long a token that is still valid is used after the next one could not be had, before that is tried again.
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a server that has refused a name and password is not asked again: after the first refusal, and at most. Each
/// refusal doubles it. A client whose password was changed must not lock its user out.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// Tokens from a callback, or from the server's own `Login` and `Refresh`. Clones of a client share it: of many calls
/// at once, one renews, and the others use what is still valid or wait.
pub(crate) struct TokenSource {
    origin: Origin,
    held: Mutex<Held>,
    renewal: Arc<tokio::sync::Mutex<()>>,
}

enum Origin {
    Provider(Box<dyn Fn() -> BoxFuture<'static, Result<AccessToken, BoxError>> + Send + Sync>),
    Login { username: String, password: Secret },
}

/// What is known now.
#[derive(Default)]
struct Held {
    token: Option<HeldToken>,
    /// Renews the session of a login, once.
    refresh_token: Option<Secret>,
    /// Tokens so far.
    count: u64,
    /// The last attempt to have one, if it failed.
    failure: Option<Failure>,
    /// Attempts so far, those that failed included.
    attempts: u64,
    /// Logins in a row that the server has refused.
    refusals: u32,
}

/// A token could not be had.
struct Failure {
    error: Error,
    /// Until then nobody asks again.
    until: Option<Instant>,
}

/// A token, and until when it is used.
#[derive(Clone)]
pub(crate) struct HeldToken {
    /// The value of `authorization`.
    pub(crate) header: AsciiMetadataValue,
    /// Its place among the tokens of the source.
    number: u64,
    renew_at: Option<Instant>,
    expires_at: Option<Instant>,
}

impl Held {
    /// The error of an attempt after those `before`, or of one that must not be repeated yet.
    fn failure_for(&self, before: u64, now: Instant) -> Option<Error> {
        let failure = self.failure.as_ref()?;
        let holds = self.attempts > before || failure.until.is_some_and(|until| now < until);
        holds.then(|| failure.error.copy())
    }
}

impl HeldToken {
    fn is_valid(&self, now: Instant) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.is_valid(now) && self.renew_at.is_none_or(|end| now < end)
    }
}

impl TokenSource {
    pub(crate) fn provider<F, R>(provide: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<AccessToken, BoxError>> + Send + 'static,
    {
        TokenSource::new(Origin::Provider(Box::new(move || provide().boxed())))
    }

    pub(crate) fn login(username: String, password: Secret) -> Self {
        TokenSource::new(Origin::Login { username, password })
    }

    fn new(origin: Origin) -> Self {
        TokenSource { origin, held: Mutex::default(), renewal: Arc::default() }
    }

    /// The same for another server: a login there has tokens of its own.
    pub(crate) fn elsewhere(self: &Arc<Self>) -> Arc<Self> {
        match &self.origin {
            Origin::Provider(_) => Arc::clone(self),
            Origin::Login { username, password } => Arc::new(TokenSource::login(username.clone(), password.clone())),
        }
    }

    /// What to call the secret it needs.
    pub(crate) fn secret_name(&self) -> &'static str {
        match self.origin {
            Origin::Provider(_) => "a token",
            Origin::Login { .. } => "a password",
        }
    }

    /// A token that is valid now. `client` sends no credential of its own.
    pub(crate) async fn token(self: &Arc<Self>, client: impl FnOnce() -> Client) -> Result<HeldToken> {
        let now = Instant::now();
        let held = self.lock().token.clone();
        match held {
            Some(token) if token.is_fresh(now) => Ok(token),
            Some(token) if token.is_valid(now) => match Arc::clone(&self.renewal).try_lock_owned() {
                // Whoever could not renew it goes on with what is valid; so do all others meanwhile.
                Ok(turn) if self.is_latest(&token) => Ok(self.renew(client(), turn).await.unwrap_or(token)),
                Ok(_) => Ok(self.lock().token.clone().unwrap_or(token)),
                Err(_) => Ok(token),
            },
            stale => self.token_after(stale.as_ref(), client).await,
        }
    }

    /// A token other than `refused`, which the server did not accept, or which has expired.
    pub(crate) async fn token_after(
        self: &Arc<Self>,
        refused: Option<&HeldToken>,
        client: impl FnOnce() -> Client,
    ) -> Result<HeldToken> {
        let before = self.lock().attempts;
        let turn = Arc::clone(&self.renewal).lock_owned().await;
        let known = {
            let (held, now) = (self.lock(), Instant::now());
            let other =
                |token: &&HeldToken| refused.is_none_or(|old| old.number != token.number) && token.is_valid(now);
            match held.token.as_ref().filter(other) {
                // Somebody else has had one while this one waited for its turn.
                Some(token) => Some(Ok(token.clone())),
                None => held.failure_for(before, now).map(Err),
            }
        };
        match known {
            Some(outcome) => outcome,
            None => self.renew(client(), turn).await,
        }
    }

    fn is_latest(&self, token: &HeldToken) -> bool {
        self.lock().token.as_ref().is_some_and(|held| held.number == token.number)
    }

    /// In a task of its own: a refresh token can be used once, so that the answer must arrive even if the caller goes.
    async fn renew(self: &Arc<Self>, client: Client, turn: OwnedMutexGuard<()>) -> Result<HeldToken> {
        let source = Arc::clone(self);
        let renewal = tokio::spawn(async move {
            let renewed = source.fetch(client).await;
            let outcome = renewed.and_then(|(token, refresh_token)| source.hold(&token, refresh_token));
            if let Err(error) = &outcome {
                source.failed(error);
            }
            drop(turn);
            outcome
        });
        match renewal.await {
            Ok(outcome) => outcome,
            // The provider panicked, or the runtime ends.
            Err(error) => Err(Error::Credential { message: format!("the task that asks for a token ended: {error}") }),
        }
    }

    /// Not an `async fn`: it makes calls, which have this among their parts.
    fn fetch(&self, client: Client) -> BoxFuture<'static, Result<(AccessToken, Option<Secret>)>> {
        match &self.origin {
            Origin::Provider(provide) => {
                let provided = provide();
                let failed = |error: BoxError| Error::Credential { message: error.to_string() };
                async move { Ok((provided.await.map_err(failed)?, None)) }.boxed()
            }
            Origin::Login { username, password } => {
                let (username, password) = (username.clone(), password.clone());
                let refresh_token = self.lock().refresh_token.clone();
                let tokens = async move {
                    let tokens = session(&client, refresh_token, username, &password).await?;
                    let token = AccessToken { expires_in: tokens.expires_in(), token: tokens.access_token };
                    Ok((token, Some(tokens.refresh_token)))
                };
                tokens.boxed()
            }
        }
    }

    fn hold(&self, token: &AccessToken, refresh_token: Option<Secret>) -> Result<HeldToken> {
        let header = bearer(&token.token)?;
        let now = Instant::now();
        // A time too long to be added is for ever.
        let expires_at = token.expires_in.and_then(|time| now.checked_add(time));
        let renew_at = token.expires_in.and_then(|time| now.checked_add(time - margin(time)));
        let mut held = self.lock();
        held.count += 1;
        held.attempts += 1;
        (held.failure, held.refusals) = (None, 0);
        let token = HeldToken { header, number: held.count, renew_at, expires_at };
        held.token = Some(token.clone());
        held.refresh_token = refresh_token;
        Ok(token)
    }

    /// The next token could not be had: what is held is used a little longer before that is tried again, and those who
    /// waited for it need not try themselves.
    fn failed(&self, error: &Error) {
        let (mut held, now) = (self.lock(), Instant::now());
        held.attempts += 1;
        if let Some(token) = &mut held.token {
            token.renew_at = now.checked_add(RENEW_AGAIN_AFTER);
        }
        // It is good once: whether the server has seen it is not known.
        if !error.nothing_was_sent() {
            held.refresh_token = None;
        }
        let is_login = matches!(self.origin, Origin::Login { .. });
        let refused = is_login && (is_refusal(error) || error.reason() == Some("TOO_MANY_ATTEMPTS"));
        held.refusals = if refused { held.refusals.saturating_add(1) } else { 0 };
        let pause = 2u32.checked_pow(held.refusals.saturating_sub(1)).unwrap_or(u32::MAX);
        let pause = ASK_AGAIN_AFTER.saturating_mul(pause).min(ASK_AGAIN_AT_MOST);
        let until = if refused { now.checked_add(pause) } else { None };
        held.failure = Some(Failure { error: error.copy(), until });
    }

    /// The session has ended: the next call begins another.
    pub(crate) fn forget(&self) {
        let mut held = self.lock();
        (held.token, held.refresh_token, held.failure, held.refusals) = (None, None, None, 0);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session renewed, or a new one where that is refused.
async fn session(
    client: &Client,
    refresh_token: Option<Secret>,
    username: String,
    password: &Secret,
) -> Result<SessionTokens> {
    let auth = client.auth();
    if let Some(refresh_token) = refresh_token {
        match auth.refresh(refresh_token.expose()).await {
            Err(error) if is_refusal(&error) => {}
            outcome => return outcome,
        }
    }
    auth.login(username, password.expose()).await
}

/// Whether the server has looked at what it was given, and does not want it.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::PermissionDenied | ErrorKind::InvalidRequest)
}

fn margin(lifetime: Duration) -> Duration {
    (lifetime / RENEW_AT_PART).min(RENEW_AT_MOST)
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Provider(_) => f.write_str("Provider(…)"),
            Origin::Login { username, .. } => {
                f.debug_struct("Login").field("username", username).finish_non_exhaustive()
            }
        }
    }
}

#[cfg(test)]
mod tests;
