//! The localhost bypass of `--dev`: calls without a credential are accepted only from this machine, and only when nothing
//! suggests that somebody else's call is passed on: no forwarding header, and no web page of another site.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Uri, header};
use kalamdb_engine::{Caller, Error};

use super::unauthenticated;

/// Headers with which a proxy says that it passes on the call of somebody else.
pub(super) const FORWARDING_HEADERS: [&str; 11] = [
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

/// The caller under the bypass.
///
/// # Errors
/// UNAUTHENTICATED, with what to do.
pub(super) fn caller<'a>(
    dev_caller: Option<&'a Caller>,
    peer: SocketAddr,
    headers: &HeaderMap,
    allows_origin: impl Fn(&[u8]) -> bool,
) -> Result<&'a Caller, Error> {
    let Some(caller) = dev_caller else {
        return Err(unauthenticated(
            "The call has no credential. Send authorization: Bearer with a token or an API key, or x-api-key. For \
             development, start the server with --dev: it then accepts calls from its own machine without one.",
        ));
    };
    if !is_local(peer) {
        return Err(unauthenticated(
            "With --dev, the server accepts calls without a credential from its own machine only.",
        ));
    }
    if let Some(name) = forwarding_header(headers) {
        return Err(unauthenticated(format!(
            "With --dev, the server accepts no forwarded calls without a credential, and this one has the header {name}. \
             Call the server directly."
        )));
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && !allows_origin(origin.as_bytes())
    {
        return Err(unauthenticated(
            "The web page that makes this call is of another site. To let it call, add its origin to \
             cors.allowed_origins.",
        ));
    }
    Ok(caller)
}

/// Whether a connection comes from this machine.
pub(crate) fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// The first header that says that a call was passed on.
pub(crate) fn forwarding_header(headers: &HeaderMap) -> Option<&'static str> {
    FORWARDING_HEADERS.into_iter().find(|name| headers.contains_key(*name))
}

/// Whether a web page comes from this machine.
pub(super) fn is_local_origin(origin: &str) -> bool {
    let Some(host) = origin.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)) else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
