//! The handshake: a name and a password, or an API key, for what authorises the calls that follow.

use std::{pin::Pin, time::Duration};

use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use kalamdb_engine::{Error, Reason};
use prost::Message;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{AsciiMetadataValue, MetadataMap},
};

use super::FlightApi;
use crate::{call::OpenCall, errors};

/// How long a client may take to say who it is, since nobody knows it yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// As clients write it: some leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A name and a password.
struct Password {
    username: String,
    password: String,
}

impl FlightApi {
    /// Answers `authorization: Bearer …`, as a header and, without the first word, as the only message.
    pub(super) async fn shake_hands(
        &self,
        mut request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<HandshakeResponse>, Status> {
        let Some(call) = request.extensions_mut().remove::<OpenCall>() else {
            let error = Error::internal("an open call reached its service without where it comes from");
            return Err(errors::refusal(&error));
        };
        let outcome = self.exchange(&call, request).await;
        outcome.map_err(|error| errors::to_status(&error, call.trace))
    }

    async fn exchange(
        &self,
        call: &OpenCall,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<HandshakeResponse>, Error> {
        let (headers, _, messages) = request.into_parts();
        let Password { username, password } = match of_headers(&headers)? {
            Some(given) => given,
            None => of_message(messages).await?,
        };
        let authorization = self.identity.exchange(&call.peer, &username, &password, self.session_lifetime).await?;
        let token = authorization.strip_prefix("Bearer ").unwrap_or(&authorization);
        let payload = Bytes::copy_from_slice(token.as_bytes());
        let mut value = AsciiMetadataValue::try_from(authorization).map_err(Error::internal)?;
        value.set_sensitive(true);
        let mut response = Response::new(HandshakeResponse { protocol_version: 0, payload });
        response.metadata_mut().insert("authorization", value);
        Ok(response)
    }
}

/// What `authorization: Basic …` says, if it is there.
fn of_headers(headers: &MetadataMap) -> Result<Option<Password>, Error> {
    let Some(value) = headers.get("authorization") else { return Ok(None) };
    let decoded = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| BASE64.decode(encoded.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((username, password)) => {
            Ok(Some(Password { username: username.to_owned(), password: password.to_owned() }))
        }
        None => Err(unauthenticated(
            "The header authorization of the handshake is not \"Basic\" and the base64 of a username, a colon and a password. \
             A token or an API key needs no handshake: send it as \"Bearer\" with each call.",
        )),
    }
}

/// What the first message says, as older clients do.
async fn of_message(messages: Streaming<HandshakeRequest>) -> Result<Password, Error> {
    let mut messages: Pin<Box<dyn Stream<Item = Result<HandshakeRequest, Status>> + Send>> = Box::pin(messages);
    let missing = || {
        unauthenticated(
            "The handshake has no credential. Send authorization: Basic with a username and a password, or with an API key \
             as the password of the user \"token\".",
        )
    };
    let first = tokio::time::timeout(PATIENCE, messages.next()).await.map_err(|_| missing())?;
    let Some(Ok(first)) = first else { return Err(missing()) };
    match BasicAuth::decode(first.payload) {
        Ok(BasicAuth { username, password }) if !(username.is_empty() && password.is_empty()) => {
            Ok(Password { username, password })
        }
        _ => Err(missing()),
    }
}

fn unauthenticated(message: &str) -> Error {
    Error::new(Reason::Unauthenticated, message)
}
