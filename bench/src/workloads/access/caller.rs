//! A closed-loop client that proves who it is.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kalamdb_proto::v1::query_service_client::QueryServiceClient;
use ring::hmac;
use serde_json::json;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    driver::{Client, Pool, Reply},
    error::{BenchError, Result, status_text},
    wire::{Expect, Requests, Traffic},
};

/// How long a token is valid: longer than any run.
const TOKEN_SECONDS: u64 = 24 * 3_600;

/// What a client sends with each call.
pub(super) struct Proof {
    name: &'static str,
    value: MetadataValue<Ascii>,
}

impl Proof {
    /// Nothing but the user to act for, which a `--dev` server believes.
    pub(super) fn nothing(user: &str) -> Result<Self> {
        Self::new("x-user-id", user)
    }

    /// An API key.
    pub(super) fn api_key(key: &str) -> Result<Self> {
        Self::new("x-api-key", key)
    }

    /// A JWT, whoever made it.
    pub(super) fn token(token: &str) -> Result<Self> {
        Self::new("authorization", &format!("Bearer {token}"))
    }

    fn new(name: &'static str, value: &str) -> Result<Self> {
        let value = MetadataValue::try_from(value)
            .map_err(|_| BenchError::Input(format!("{name} cannot be sent as metadata")))?;
        Ok(Self { name, value })
    }
}

/// One closed-loop client that runs SQL with its proof.
pub(super) struct Caller {
    query: QueryServiceClient<Channel>,
    proof: Proof,
    requests: Requests,
    expect: Expect,
}

impl Client for Caller {
    async fn call(&mut self) -> Result<Reply, String> {
        let mut request = Request::new((self.requests)());
        request.metadata_mut().insert(self.proof.name, self.proof.value.clone());
        let response = self.query.execute(request).await.map_err(|status| status_text(&status))?;
        self.expect.check(response.get_ref())
    }
}

/// Connects the clients of some traffic, each with this proof in place of its user. All send one header, so that they
/// differ in what the server makes of it alone.
pub(super) async fn connect(traffic: &Traffic<'_>, url: &str, proof: &Proof) -> Result<Pool<Caller>> {
    let channels = traffic.channels(url).await?;
    let caller = |(index, channel): (usize, &Channel)| Caller {
        query: QueryServiceClient::new(channel.clone()),
        proof: Proof { name: proof.name, value: proof.value.clone() },
        requests: (traffic.requests)(index),
        expect: traffic.expect,
    };
    Ok(Pool::new(channels.iter().cycle().take(traffic.clients).enumerate().map(caller).collect()))
}

/// A token of a foreign issuer for a user, signed by HS256.
pub(super) fn foreign_token(secret: &str, user: &str) -> String {
    #[allow(clippy::disallowed_methods, reason = "a token says by the clock when it expires")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "HS256", "typ": "JWT"}));
    let claims = part(json!({"sub": user, "iat": now, "exp": now + TOKEN_SECONDS}));
    let signed = format!("{header}.{claims}");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_and_names_its_user() {
        let token = foreign_token("secret", "alice");
        let parts: Vec<_> = token.split('.').collect();
        let [header, claims, signature] = parts.as_slice() else { panic!("{token}") };
        assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), br#"{"alg":"HS256","typ":"JWT"}"#);
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims["sub"], "alice");
        assert_eq!(URL_SAFE_NO_PAD.decode(signature).unwrap().len(), 32);
    }
}
