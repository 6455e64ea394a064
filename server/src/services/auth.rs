//! `AuthService`.

use std::sync::Arc;

use kalamdb_engine::{Error, Reason};
use kalamdb_proto::v1::{
    CredentialKind, LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, RefreshRequest, RefreshResponse,
    Tokens, UserIdentity, WhoAmIRequest, WhoAmIResponse, auth_service_server::AuthService,
};
use tonic::{Request, Response, Status};

use super::split;
use crate::{
    call::OpenCall,
    convert, errors,
    identity::{Credential, Identity, SessionTokens},
};

/// Passwords for tokens, and who calls.
pub(crate) struct AuthApi {
    identity: Arc<Identity>,
}

impl AuthApi {
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
    }
}

#[tonic::async_trait]
impl AuthService for AuthApi {
    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        let (call, LoginRequest { username, password }) = open(request)?;
        let opened = self.identity.login(&call.peer, &username, &password).await;
        let opened = opened.map_err(|error| errors::to_status(&error, call.trace))?;
        let identity = Some(identity_of(&opened));
        Ok(Response::new(LoginResponse { tokens: Some(tokens(opened)), identity }))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        let (call, RefreshRequest { refresh_token }) = open(request)?;
        let renewed = self.identity.refresh(&call.peer, &refresh_token).await;
        let renewed = renewed.map_err(|error| errors::to_status(&error, call.trace))?;
        let identity = Some(identity_of(&renewed));
        Ok(Response::new(RefreshResponse { tokens: Some(tokens(renewed)), identity }))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        let (context, LogoutRequest {}) = split(request)?;
        let Credential::Session(session) = &context.grant.basis.credential else {
            let error = Error::new(
                Reason::InvalidRequest,
                "The call's credential is of no session: there is nothing to log out of. API keys are revoked with REVOKE \
                 API KEY, and tokens of others by their issuer.",
            );
            return Err(errors::to_status(&error, context.trace));
        };
        let ended = self.identity.logout(session).await;
        ended.map_err(|error| errors::to_status(&error, context.trace))?;
        Ok(Response::new(LogoutResponse {}))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let (context, WhoAmIRequest {}) = split(request)?;
        let caller = &context.caller;
        let basis = &context.grant.basis;
        let credential = match basis.credential {
            Credential::Bypass => CredentialKind::LocalhostBypass,
            Credential::Session(_) => CredentialKind::Session,
            Credential::ExternalToken => CredentialKind::ExternalToken,
            Credential::Key(_) => CredentialKind::ApiKey,
            Credential::Certificate => CredentialKind::Certificate,
        };
        let identity = UserIdentity {
            user_id: caller.user_id.as_str().to_owned(),
            username: basis.user.as_ref().map(|user| user.username.clone()).unwrap_or_default(),
            role: caller.role.as_str().to_owned(),
        };
        Ok(Response::new(WhoAmIResponse {
            identity: Some(identity),
            effective_user_id: caller.effective_user().as_str().to_owned(),
            credential: credential.into(),
            expires_at: basis.token_expires_at_us.map(convert::to_timestamp),
        }))
    }
}

/// Takes a request apart that needs no credential.
fn open<T>(mut request: Request<T>) -> Result<(OpenCall, T), Status> {
    let call = request.extensions_mut().remove::<OpenCall>();
    match call {
        Some(call) => Ok((call, request.into_inner())),
        None => Err(errors::refusal(&Error::internal("an open call reached its service without where it comes from"))),
    }
}

fn identity_of(session: &SessionTokens) -> UserIdentity {
    UserIdentity {
        user_id: session.user.user_id.as_str().to_owned(),
        username: session.user.username.clone(),
        role: session.user.role.as_str().to_owned(),
    }
}

fn tokens(session: SessionTokens) -> Tokens {
    Tokens {
        access_token: session.access_token,
        access_token_expires_at: Some(convert::to_timestamp(session.access_expires_at_us)),
        refresh_token: session.refresh_token,
        refresh_token_expires_at: Some(convert::to_timestamp(session.refresh_expires_at_us)),
    }
}
