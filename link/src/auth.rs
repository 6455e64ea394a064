//! Sessions: a password for tokens, and who the caller is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kalamdb_proto::v1::{self, auth_service_client::AuthServiceClient};

use crate::{
    client::Client,
    convert,
    credential::Secret,
    error::{Error, Result},
    retry::Safety,
};

/// Typed calls of `kalamdb.v1.AuthService`, made by [`Client::auth`].
///
/// A client that is to log in by itself, and to stay so, needs none of them: see
/// [`ClientBuilder::login`](crate::ClientBuilder::login). These are for whoever hands tokens on, to a browser for
/// example.
///
/// ```no_run
/// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
/// let session = client.auth().login("alice", "correct horse battery staple").await?;
/// let alice = client.with_token(session.access_token())?;
/// assert_eq!(alice.auth().who_am_i().await?.caller.username, "alice");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Auth {
    client: Client,
}

/// The tokens of a session. They are not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTokens {
    pub(crate) access_token: Secret,
    access_token_expires_at_us: i64,
    pub(crate) refresh_token: Secret,
    refresh_token_expires_at_us: i64,
    user: UserIdentity,
}

/// A user, as a call knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserIdentity {
    /// Its id, which its rows are kept under.
    pub user_id: String,
    /// Its name. Empty where no user is behind the caller, as under `--dev`.
    pub username: String,
    /// `user`, `service`, `dba` or `system`.
    pub role: String,
}

/// Who the caller is, and for whom it acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhoAmI {
    /// Whose credential it is.
    pub caller: UserIdentity,
    /// Whose rows the statements mean, and `CURRENT_USER()`: the user that the client acts for, or the caller.
    pub effective_user_id: String,
    /// How the caller was known.
    pub credential: CredentialKind,
    /// When the credential is no longer valid, in microseconds since 1970-01-01T00:00:00Z. None if that is not known,
    /// or never.
    pub expires_at_us: Option<i64>,
}

/// How a caller was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CredentialKind {
    /// Not at all: the server runs with `--dev`, and the call comes from its own machine.
    LocalhostBypass,
    /// By an access token of [`Auth::login`] or [`Auth::refresh`].
    Session,
    /// By a token of an issuer whose key the server is configured with.
    ExternalToken,
    /// By an API key.
    ApiKey,
    /// By the client's certificate.
    Certificate,
    /// In a way that this version of the client does not know.
    Unknown,
}

impl Auth {
    pub(crate) fn new(client: Client) -> Self {
        Auth { client }
    }

    /// Exchanges a password for tokens.
    ///
    /// # Errors
    /// Those of the server: `UNAUTHENTICATED` for a wrong name or password alike, `TOO_MANY_ATTEMPTS`.
    /// [`Error::Configuration`] where the password would be sent unencrypted to another machine.
    pub async fn login(&self, username: impl Into<String>, password: impl Into<String>) -> Result<SessionTokens> {
        self.client.check_private("a password")?;
        let request = v1::LoginRequest { username: username.into(), password: password.into() };
        let answer = self.open_call(request, |mut client, request| async move { client.login(request).await }).await?;
        tokens(answer.tokens, answer.identity)
    }

    /// Exchanges a refresh token for new tokens. It is used up; using it twice ends the session.
    ///
    /// # Errors
    /// Those of the server: `UNAUTHENTICATED` or `CREDENTIAL_REVOKED` when the token is not valid, or not any more.
    /// [`Error::Configuration`] where it would be sent unencrypted to another machine.
    pub async fn refresh(&self, refresh_token: impl Into<String>) -> Result<SessionTokens> {
        self.client.check_private("a refresh token")?;
        let request = v1::RefreshRequest { refresh_token: refresh_token.into() };
        let answer =
            self.open_call(request, |mut client, request| async move { client.refresh(request).await }).await?;
        tokens(answer.tokens, answer.identity)
    }

    /// Ends the session that the client's access token is of, with all its tokens. A client made with
    /// [`ClientBuilder::login`](crate::ClientBuilder::login) begins another with its next call.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn logout(&self) -> Result<()> {
        let timeout = self.client.default_timeout();
        self.client
            .call(Safety::Repeatable, timeout, v1::LogoutRequest {}, |channel, limits, request| async move {
                limits.apply(AuthServiceClient::new(channel)).logout(request).await
            })
            .await?;
        self.client.forget_session();
        Ok(())
    }

    /// Who the caller is, and for whom it acts.
    ///
    /// # Errors
    /// Those of the server, such as `UNAUTHENTICATED`.
    pub async fn who_am_i(&self) -> Result<WhoAmI> {
        let timeout = self.client.default_timeout();
        let answer = self
            .client
            .call(Safety::Repeatable, timeout, v1::WhoAmIRequest {}, |channel, limits, request| async move {
                limits.apply(AuthServiceClient::new(channel)).who_am_i(request).await
            })
            .await?;
        Ok(WhoAmI {
            credential: credential_kind(answer.credential()),
            caller: identity(answer.identity)?,
            effective_user_id: answer.effective_user_id,
            expires_at_us: answer.expires_at.map(|time| convert::micros(Some((time.seconds, time.nanos)))),
        })
    }

    /// A call that needs no credential, and so carries none.
    async fn open_call<Q, R, F>(
        &self,
        request: Q,
        call: impl Fn(AuthServiceClient<tonic::transport::Channel>, tonic::Request<Q>) -> F,
    ) -> Result<R>
    where
        Q: Clone + prost::Message,
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        let anonymous = self.client.anonymous();
        anonymous
            .call(Safety::Once, self.client.default_timeout(), request, |channel, limits, request| {
                call(limits.apply(AuthServiceClient::new(channel)), request)
            })
            .await
    }
}

impl SessionTokens {
    /// Proves who the caller is, for minutes: for [`Client::with_token`], or as `authorization: Bearer …`.
    pub fn access_token(&self) -> &str {
        self.access_token.expose()
    }

    /// When the access token is no longer valid, in microseconds since 1970-01-01T00:00:00Z.
    pub fn access_token_expires_at_us(&self) -> i64 {
        self.access_token_expires_at_us
    }

    /// For [`Auth::refresh`], once. To be kept like a password.
    pub fn refresh_token(&self) -> &str {
        self.refresh_token.expose()
    }

    /// When the refresh token is no longer valid, in microseconds since 1970-01-01T00:00:00Z.
    pub fn refresh_token_expires_at_us(&self) -> i64 {
        self.refresh_token_expires_at_us
    }

    /// Whose session it is.
    pub fn user(&self) -> &UserIdentity {
        &self.user
    }

    /// How long the access token is valid, as this machine's clock has it. None when that cannot be right: then the
    /// clocks differ, and the token is good until the server says otherwise.
    pub(crate) fn expires_in(&self) -> Option<Duration> {
        let left_us = self.access_token_expires_at_us.checked_sub(now_us())?;
        u64::try_from(left_us).ok().filter(|left| *left > 0).map(Duration::from_micros)
    }
}

#[allow(clippy::disallowed_methods, reason = "the server says by the clock when a token expires")]
fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

fn tokens(tokens: Option<v1::Tokens>, user: Option<v1::UserIdentity>) -> Result<SessionTokens> {
    let tokens = tokens.ok_or_else(|| Error::protocol("the answer has no tokens"))?;
    let micros = |time: Option<_>| convert::micros(time);
    let access_expiry = tokens.access_token_expires_at.map(|time| (time.seconds, time.nanos));
    let refresh_expiry = tokens.refresh_token_expires_at.map(|time| (time.seconds, time.nanos));
    Ok(SessionTokens {
        access_token: tokens.access_token.into(),
        access_token_expires_at_us: micros(access_expiry),
        refresh_token: tokens.refresh_token.into(),
        refresh_token_expires_at_us: micros(refresh_expiry),
        user: identity(user)?,
    })
}

fn identity(identity: Option<v1::UserIdentity>) -> Result<UserIdentity> {
    let v1::UserIdentity { user_id, username, role } =
        identity.ok_or_else(|| Error::protocol("the answer has no identity"))?;
    Ok(UserIdentity { user_id, username, role })
}

fn credential_kind(kind: v1::CredentialKind) -> CredentialKind {
    match kind {
        v1::CredentialKind::LocalhostBypass => CredentialKind::LocalhostBypass,
        v1::CredentialKind::Session => CredentialKind::Session,
        v1::CredentialKind::ExternalToken => CredentialKind::ExternalToken,
        v1::CredentialKind::ApiKey => CredentialKind::ApiKey,
        v1::CredentialKind::Certificate => CredentialKind::Certificate,
        v1::CredentialKind::Unspecified => CredentialKind::Unknown,
    }
}
