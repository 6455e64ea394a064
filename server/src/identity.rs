//! Who makes a call.
//!
//! ```text
//! headers ─▶ presented: a token, an API key, or nothing
//!              │ token: verified by `jwt`            │ nothing: the connection's certificate, or the localhost bypass
//!              │ key: looked up by the engine        │
//!              └──────────────▶ user, as of now ◀────┘  ─▶ acting for whom? ─▶ grant: the right to go on
//! ```
//!
//! A credential only says whose it is. That the user exists and is not disabled, that the key was not revoked, that the
//! session is open, is asked on every call, from memory. A wrong credential is refused even where none is needed.

mod acting;
mod attempts;
mod bypass;
mod certificate;
mod grant;
mod jwt;
mod presented;
mod watch;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::HeaderMap;
use kalamdb_engine::{ActsFor, Caller, Env, Error, ErrorKind, Reason, Role, User, UserId, Users};
use metrics::{counter, describe_counter};

use self::{
    attempts::Attempts,
    jwt::TokenFault,
    presented::{KEY_PREFIX, Presented},
};
pub(crate) use self::{
    bypass::{forwarding_header, is_local},
    certificate::CertificateName,
    grant::{Basis, Credential, Grant, Grants},
    jwt::{OwnTokens, Tokens, check_secret, read_key, read_key_set},
    watch::watch,
};
use crate::{
    config::{AuthSection, UnknownUsers},
    transport::Peer,
};

/// The user that Flight's handshake names with an API key for a password; none may be named, too.
const KEY_USER: &str = "token";

/// How callers are known.
pub(crate) struct Identity {
    /// The caller under the localhost bypass; `None`: there is none.
    dev_caller: Option<Caller>,
    bypass: Arc<Grant>,
    allowed_origins: Vec<String>,
    /// Whom those may act for that are users themselves.
    acts_for: ActsFor,
    users: Arc<Users>,
    tokens: Arc<Tokens>,
    attempts: Attempts,
    grants: Arc<Grants>,
    own_tokens: Arc<OwnTokens>,
    refresh_lifetime: Duration,
    env: Arc<dyn Env>,
}

/// What an [`Identity`] is made of.
pub(crate) struct IdentityParts {
    /// Makes every call without a credential from this machine, if given.
    pub(crate) dev_caller: Option<Caller>,
    /// Whose pages may call.
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) users: Arc<Users>,
    pub(crate) own_tokens: Arc<OwnTokens>,
    pub(crate) env: Arc<dyn Env>,
}

/// A caller, and its right to go on.
#[derive(Clone)]
pub(crate) struct Authenticated {
    pub(crate) caller: Caller,
    pub(crate) grant: Arc<Grant>,
}

/// A caller that proved who it is, before it is looked at for whom it acts.
struct Known {
    user: Arc<User>,
    credential: Credential,
    token_expires_at_us: Option<i64>,
}

/// What an attempt to authenticate was with, as metrics and logs name it.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Missing,
    Malformed,
    Token,
    ApiKey,
    Certificate,
    Password,
    RefreshToken,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Token => "token",
            Self::ApiKey => "api_key",
            Self::Certificate => "certificate",
            Self::Password => "password",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// The tokens of a session, and whose it is.
pub(crate) struct SessionTokens {
    pub(crate) user: Arc<User>,
    pub(crate) access_token: String,
    pub(crate) access_expires_at_us: i64,
    pub(crate) refresh_token: String,
    pub(crate) refresh_expires_at_us: i64,
}

impl Identity {
    /// # Errors
    /// A text for the operator, about keys.
    pub(crate) fn new(config: &AuthSection, parts: IdentityParts) -> Result<Self, String> {
        describe_counter!(
            "kalamdb_auth_failures_total",
            "Attempts to authenticate that failed, by credential and reason"
        );
        let IdentityParts { dev_caller, allowed_origins, users, own_tokens, env } = parts;
        let tokens = Tokens::new(config, Arc::clone(&own_tokens), Arc::clone(&env))?;
        Ok(Self {
            dev_caller,
            bypass: Grant::bypass(),
            allowed_origins,
            acts_for: ActsFor::Users { or_unknown: config.unknown_users == UnknownUsers::Accept },
            users,
            tokens: Arc::new(tokens),
            attempts: Attempts::new(config),
            grants: Grants::new(),
            own_tokens,
            refresh_lifetime: Duration::from_secs(config.refresh_lifetime_s),
            env,
        })
    }

    /// The tokens that are accepted, whose keys someone has to keep fresh.
    pub(crate) fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// The grants of calls under way, which someone has to watch.
    pub(crate) fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// The caller of a call with these headers.
    ///
    /// # Errors
    /// UNAUTHENTICATED and its like, TOO_MANY_ATTEMPTS, PERMISSION_DENIED, USER_NOT_FOUND or INVALID_USER_ID, with what to
    /// do.
    pub(crate) async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Authenticated, Error> {
        let presented =
            Presented::of(headers).inspect_err(|_| self.note_failure(peer, Kind::Malformed, "malformed", None))?;
        loop {
            // What changes while the credential is checked may have been missed by both: then it is checked again.
            let looks = self.grants.looks();
            let known = match presented {
                Presented::Nothing => match self.by_certificate(peer)? {
                    Some(known) => known,
                    None => return self.by_bypass(peer, headers),
                },
                Presented::Token(token) => self.by_token(peer, token).await?,
                Presented::Key(key) => self.by_key(peer, key).await?,
            };
            let Known { user, credential, token_expires_at_us } = known;
            let caller = Caller::new(user.user_id.clone(), user.role).acting_only_for(self.acts_for);
            let mut caller = caller.calling_from(peer.address().ip());
            let mut acting_as = None;
            if let Some(named) = acting::named_user(headers)? {
                if named != caller.user_id {
                    acting::may_name(&caller, &named)?;
                    let target = kalamdb_engine::may_act_for(&self.users, &caller, &named)?;
                    acting_as = target.map(|target| target.user_id.clone());
                }
                caller = caller.acting_as(named);
            }
            let basis = Basis { credential, user: Some(user), acting_as, token_expires_at_us };
            if let Some(grant) = self.grants.admit(looks, basis) {
                return Ok(Authenticated { caller, grant });
            }
        }
    }

    /// Whether a web page of this origin may call.
    pub(crate) fn allows_origin(&self, origin: &[u8]) -> bool {
        let Ok(origin) = std::str::from_utf8(origin) else { return false };
        self.allowed_origins.iter().any(|allowed| allowed == "*" || allowed == origin)
            || (self.dev_caller.is_some() && bypass::is_local_origin(origin))
    }

    /// A session for a password.
    ///
    /// # Errors
    /// UNAUTHENTICATED, USER_DISABLED, TOO_MANY_ATTEMPTS, and those of the store.
    pub(crate) async fn login(&self, peer: &Peer, username: &str, password: &str) -> Result<SessionTokens, Error> {
        let check = || self.attempts.check(peer.address().ip(), Some(username));
        check()?;
        let user = self.users.authenticate_password(username, password).await;
        let user = user.inspect_err(|error| self.note_error(peer, Kind::Password, error, Some(username)))?;
        // Many guesses at once were all let through above; the right one among them is to gain nothing by that.
        check()?;
        let session = self.users.open_session(&user.user_id, self.refresh_lifetime).await?;
        self.users.note_login(&user.user_id);
        self.tokens_of(user, session)
    }

    /// What Flight's handshake gives for a password, or for an API key in its place: the text of the header `authorization`
    /// for the calls that follow.
    ///
    /// Its clients cannot renew a token: it lasts as long as its session, which is asked for on each call.
    ///
    /// # Errors
    /// As of [`Identity::login`].
    pub(crate) async fn exchange(
        &self,
        peer: &Peer,
        username: &str,
        password: &str,
        lifetime: Duration,
    ) -> Result<String, Error> {
        if password.starts_with(KEY_PREFIX) && (username.is_empty() || username == KEY_USER) {
            // A key is good as it is, and whoever revokes it ends all that it was used for.
            self.by_key(peer, password).await?;
            return Ok(format!("Bearer {password}"));
        }
        let check = || self.attempts.check(peer.address().ip(), Some(username));
        check()?;
        let user = self.users.authenticate_password(username, password).await;
        let user = user.inspect_err(|error| self.note_error(peer, Kind::Password, error, Some(username)))?;
        check()?;
        let session = self.users.open_session(&user.user_id, lifetime).await?;
        self.users.note_login(&user.user_id);
        let issued = self.own_tokens.issue_for(&user.user_id, &session.session_id, self.env.now_us(), lifetime);
        let (token, _) = issued.map_err(Error::internal)?;
        Ok(format!("Bearer {token}"))
    }

    /// A session renewed.
    ///
    /// # Errors
    /// UNAUTHENTICATED, USER_DISABLED, TOO_MANY_ATTEMPTS, and those of the store.
    pub(crate) async fn refresh(&self, peer: &Peer, refresh_token: &str) -> Result<SessionTokens, Error> {
        self.attempts.check(peer.address().ip(), None)?;
        let renewed = self.users.renew_session(refresh_token).await;
        let (user, session) = renewed.inspect_err(|error| self.note_error(peer, Kind::RefreshToken, error, None))?;
        self.tokens_of(user, session)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn logout(&self, session: &str) -> Result<(), Error> {
        self.users.close_session(session).await.map(drop)
    }

    fn tokens_of(&self, user: Arc<User>, session: kalamdb_engine::NewSession) -> Result<SessionTokens, Error> {
        let issued = self.own_tokens.issue(&user.user_id, &session.session_id, self.env.now_us());
        let (access_token, access_expires_at_us) = issued.map_err(Error::internal)?;
        Ok(SessionTokens {
            user,
            access_token,
            // No longer than the session.
            access_expires_at_us: access_expires_at_us.min(session.expires_at_us),
            refresh_token: session.refresh_token,
            refresh_expires_at_us: session.expires_at_us,
        })
    }

    async fn by_token(&self, peer: &Peer, token: &str) -> Result<Known, Error> {
        let verified = match self.tokens.known(token) {
            Some(verified) => verified,
            None => {
                self.attempts.check(peer.address().ip(), None)?;
                let verified = self.tokens.verify(token).await;
                verified.map_err(|fault| {
                    self.note_failure(peer, Kind::Token, fault.as_str(), None);
                    refused(fault)
                })?
            }
        };
        let user = self.users.find(&verified.user)?.ok_or_else(|| {
            self.note_failure(peer, Kind::Token, "unknown_user", Some(verified.user.as_str()));
            unauthenticated("The user that the token names does not exist on this server.")
        })?;
        if user.disabled {
            self.note_failure(peer, Kind::Token, "disabled", Some(verified.user.as_str()));
            return Err(watch::disabled());
        }
        match &verified.session {
            Some(session) if self.users.session_is_open(session)? => Ok(Known {
                user,
                credential: Credential::Session(session.clone()),
                token_expires_at_us: Some(verified.expires_at_us),
            }),
            Some(_) => {
                self.note_failure(peer, Kind::Token, "session_ended", Some(verified.user.as_str()));
                let message = "The session of the token has ended. Log in again.";
                Err(Error::new(Reason::CredentialRevoked, message))
            }
            None => {
                let token_expires_at_us = Some(verified.expires_at_us);
                Ok(Known { user, credential: Credential::ExternalToken, token_expires_at_us })
            }
        }
    }

    async fn by_key(&self, peer: &Peer, key: &str) -> Result<Known, Error> {
        match self.users.authenticate_key(key).await {
            Ok((user, id)) => Ok(Known { user, credential: Credential::Key(id), token_expires_at_us: None }),
            Err(error) => {
                // Keys cannot be guessed. What is limited is the noise that trying makes.
                let limited = self.attempts.check(peer.address().ip(), None);
                self.note_error(peer, Kind::ApiKey, &error, None);
                limited.and(Err(error))
            }
        }
    }

    fn by_certificate(&self, peer: &Peer) -> Result<Option<Known>, Error> {
        let Some(name) = peer.certificate() else { return Ok(None) };
        let (user, shown) = match name {
            CertificateName::Username(name) => (self.users.find_by_name(name)?, name),
            CertificateName::UserId(id) => {
                let user = UserId::new(id).ok().map(|id| self.users.find(&id)).transpose()?.flatten();
                (user, id)
            }
        };
        let Some(user) = user else {
            self.note_failure(peer, Kind::Certificate, "unknown_user", Some(shown));
            return Err(unauthenticated(
                "The user that the connection's certificate names does not exist on this server.",
            ));
        };
        if user.disabled {
            self.note_failure(peer, Kind::Certificate, "disabled", Some(shown));
            return Err(watch::disabled());
        }
        Ok(Some(Known { user, credential: Credential::Certificate, token_expires_at_us: None }))
    }

    fn by_bypass(&self, peer: &Peer, headers: &HeaderMap) -> Result<Authenticated, Error> {
        let address: SocketAddr = peer.address();
        let caller = bypass::caller(self.dev_caller.as_ref(), address, headers, |origin| self.allows_origin(origin));
        let caller = caller.inspect_err(|_| self.note_failure(peer, Kind::Missing, "missing", None))?;
        let mut caller = caller.clone().calling_from(address.ip());
        if let Some(named) = acting::named_user(headers)? {
            acting::may_name(&caller, &named)?;
            caller = caller.acting_as(named);
        }
        Ok(Authenticated { caller, grant: Arc::clone(&self.bypass) })
    }

    fn note_error(&self, peer: &Peer, kind: Kind, error: &Error, account: Option<&str>) {
        // What is wrong with the server is no failed attempt.
        if error.kind() == ErrorKind::Unauthenticated {
            self.note_failure(peer, kind, error.reason().as_str(), account);
        }
    }

    fn note_failure(&self, peer: &Peer, kind: Kind, reason: &'static str, account: Option<&str>) {
        counter!("kalamdb_auth_failures_total", "credential" => kind.as_str(), "reason" => reason).increment(1);
        let address = peer.address();
        // Nothing was guessed.
        if matches!(kind, Kind::Missing) {
            tracing::debug!(peer = %address, "a call without a credential was refused");
            return;
        }
        let account = account.map(|account| account.chars().take(128).collect::<String>());
        let limited_by = account.as_deref().filter(|_| matches!(kind, Kind::Password));
        let was_limited = self.attempts.is_limited(address.ip(), limited_by);
        let is_last = self.attempts.failed(address.ip(), limited_by);
        // The log is not for the attacker to fill.
        if was_limited {
            return;
        }
        let credential = kind.as_str();
        tracing::warn!(peer = %address, credential, reason, account, "authentication failed");
        if is_last {
            tracing::warn!(peer = %address, account, "too many failed attempts: further ones are refused for a while");
        }
    }
}

fn refused(fault: TokenFault) -> Error {
    let reason = if fault == TokenFault::Expired { Reason::CredentialExpired } else { Reason::Unauthenticated };
    Error::new(reason, fault.to_string())
}

/// Whether a caller may read what operators read.
///
/// # Errors
/// PERMISSION_DENIED.
pub(crate) fn may_read_metrics(caller: &Caller) -> Result<(), Error> {
    if caller.role >= Role::Service {
        return Ok(());
    }
    Err(Error::new(Reason::PermissionDenied, "Metrics need role service, dba or system."))
}

fn unauthenticated(message: impl Into<String>) -> Error {
    Error::new(Reason::Unauthenticated, message)
}

#[cfg(test)]
mod tests;
