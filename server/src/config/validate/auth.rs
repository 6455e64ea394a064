//! `[auth]`.

use reqwest::Url;

use crate::{
    config::{AuthSection, JwtAlgorithm},
    identity::{check_secret, read_key, read_key_set},
};

/// Checks the section, and that its keys can be read.
pub(super) fn validate(auth: &AuthSection, failed: &mut impl FnMut(&str, String)) {
    let secret = auth.jwt_secret.expose();
    if !secret.is_empty()
        && let Err(reason) = check_secret(secret)
    {
        failed("auth.jwt_secret", reason);
    }
    for key in &auth.jwt_keys {
        if let Err(reason) = read_key(key) {
            failed("auth.jwt_keys", reason);
        }
    }
    if auth.jwks_algorithms.contains(&JwtAlgorithm::Hs256) {
        failed("auth.jwks_algorithms", "HS256 is of secrets, which have no place in a set of public keys".to_owned());
    }
    if !auth.jwks_file.is_empty()
        && let Err(reason) = read_key_set(&auth.jwks_file, &auth.jwks_algorithms)
    {
        failed("auth.jwks_file", reason);
    }
    if !auth.jwks_url.is_empty() {
        if !auth.jwks_file.is_empty() {
            failed("auth.jwks_url", "there is auth.jwks_file already; give one of them".to_owned());
        }
        match auth.jwks_url.parse::<Url>() {
            Ok(url) if url.scheme() == "https" || is_local_url(url.as_str()) => {}
            Ok(_) => failed(
                "auth.jwks_url",
                format!(
                    "\"{}\" is neither https nor http on this machine: anybody on the way could change the keys",
                    auth.jwks_url
                ),
            ),
            Err(error) => failed("auth.jwks_url", format!("\"{}\" is not an address: {error}", auth.jwks_url)),
        }
    }
    for (key, values) in [("auth.issuers", &auth.issuers), ("auth.audiences", &auth.audiences)] {
        if values.iter().any(String::is_empty) {
            failed(key, "has an empty text".to_owned());
        }
    }
}

/// Whether an address is plain http on this machine, which nobody is in between of.
pub(crate) fn is_local_url(text: &str) -> bool {
    let Ok(url) = text.parse::<Url>() else { return false };
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "http" && local
}
