//! Who makes a call.
//!
//! No credentials exist yet. A call is accepted only with `server.dev`, only from this machine, and only when
//! nothing suggests that somebody else's call is passed on: no forwarding header, and no web page of another site.

use std::net::SocketAddr;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, Uri, header};
use kalamdb_engine::{Caller, Error, Reason, Role, UserId};

/// The user that a call acts for.
const USER_ID: &str = "x-user-id";
/// The same, base64 as gRPC does for names ending in `-bin`: for ids that no header can carry, such as with NUL.
const USER_ID_BIN: &str = "x-user-id-bin";

/// Headers with which a proxy says that it passes on the call of somebody else.
const FORWARDING_HEADERS: [&str; 11] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
];

/// Both padded and unpadded base64 are in use for `-bin` headers.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How callers are known.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The caller under the localhost bypass; `None`: no call is accepted.
    dev_caller: Option<Caller>,
    allowed_origins: Vec<String>,
}

impl Identity {
    /// `dev_caller` makes every call from this machine, if given. Pages of `allowed_origins` may call.
    pub(crate) fn new(dev_caller: Option<Caller>, allowed_origins: Vec<String>) -> Self {
        Self { dev_caller, allowed_origins }
    }

    /// The caller of a call with these headers from `peer`.
    ///
    /// # Errors
    /// UNAUTHENTICATED, PERMISSION_DENIED or INVALID_USER_ID, with what to do.
    pub(crate) fn caller(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Caller, Error> {
        let Some(caller) = &self.dev_caller else {
            return Err(unauthenticated(
                "This server has no authentication configured and accepts no calls. For development, start it with \
                 --dev: it then accepts calls from its own machine.",
            ));
        };
        if !peer.ip().to_canonical().is_loopback() {
            return Err(unauthenticated("With --dev, the server accepts calls from its own machine only."));
        }
        if let Some(name) = FORWARDING_HEADERS.into_iter().find(|name| headers.contains_key(*name)) {
            return Err(unauthenticated(format!(
                "With --dev, the server accepts no forwarded calls, and this one has the header {name}. Call the \
                 server directly."
            )));
        }
        if let Some(origin) = headers.get(header::ORIGIN)
            && !self.allows_origin(origin.as_bytes())
        {
            return Err(unauthenticated(
                "The web page that makes this call is of another site. To let it call, add its origin to \
                 cors.allowed_origins.",
            ));
        }
        acting(caller, headers)
    }

    /// Whether a web page of this origin may call.
    pub(crate) fn allows_origin(&self, origin: &[u8]) -> bool {
        let Ok(origin) = std::str::from_utf8(origin) else { return false };
        self.allowed_origins.iter().any(|allowed| allowed == "*" || allowed == origin)
            || (self.dev_caller.is_some() && is_local_origin(origin))
    }
}

/// The caller, acting for the user that the headers name.
fn acting(caller: &Caller, headers: &HeaderMap) -> Result<Caller, Error> {
    let Some(user) = named_user(headers)? else { return Ok(caller.clone()) };
    if caller.role < Role::Service && user != caller.user_id {
        return Err(Error::new(
            Reason::PermissionDenied,
            "Only roles service, dba and system may act for another user; leave x-user-id out.",
        ));
    }
    Ok(caller.clone().acting_as(user))
}

fn named_user(headers: &HeaderMap) -> Result<Option<UserId>, Error> {
    let invalid = |reason: &str| Error::new(Reason::InvalidUserId, format!("x-user-id {reason}."));
    let mut named: Option<UserId> = None;
    // Header values may be any bytes: most clients send UTF-8 as it is, the rest use `-bin`.
    let plain = headers.get_all(USER_ID).iter().map(|value| Ok(value.as_bytes().to_vec()));
    let binary = headers
        .get_all(USER_ID_BIN)
        .iter()
        .map(|value| BASE64.decode(value.as_bytes()).map_err(|_| invalid("is not base64, as x-user-id-bin has to be")));
    for bytes in plain.chain(binary) {
        let bytes = bytes?;
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid("is not UTF-8"))?;
        let user =
            UserId::new(text).map_err(|error| Error::new(Reason::InvalidUserId, format!("x-user-id: {error}.")))?;
        if named.as_ref().is_some_and(|other| *other != user) {
            return Err(invalid("is given twice, with two different users"));
        }
        named = Some(user);
    }
    Ok(named)
}

fn is_local_origin(origin: &str) -> bool {
    let Some(host) = origin.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)) else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn unauthenticated(message: impl Into<String>) -> Error {
    Error::new(Reason::Unauthenticated, message)
}

#[cfg(test)]
mod tests;
