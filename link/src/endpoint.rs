//! The server's address as a user writes it.

use http::Uri;

use crate::error::{Error, Result};

/// The port of a server when the address names none.
const DEFAULT_PORT: u16 = 2900;

/// Normalises an address to `http://host:port`. `host`, `host:port` and `http://host[:port][/]` are accepted.
pub(crate) fn normalise(endpoint: &str) -> Result<String> {
    let trimmed = endpoint.trim();
    let with_scheme = if trimmed.contains("://") { trimmed.to_owned() } else { format!("http://{trimmed}") };
    let wrong = |why: &str| {
        Error::configuration(format!("{endpoint:?} is not a server address: {why}. Write http://host:port."))
    };

    let uri: Uri = with_scheme.parse().map_err(|error| wrong(&format!("{error}")))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(wrong("TLS is not supported by this version of the client")),
        _ => return Err(wrong("the scheme must be http")),
    }
    let authority = uri.authority().ok_or_else(|| wrong("the host is missing"))?;
    if authority.host().is_empty() {
        return Err(wrong("the host is missing"));
    }
    if authority.as_str().contains('@') {
        return Err(wrong("a user belongs into the user setting, not into the address"));
    }
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
        return Err(wrong("it has a path"));
    }
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None if authority.as_str() == authority.host() => DEFAULT_PORT,
        None => return Err(wrong("the port must be 1 to 65535")),
    };
    Ok(format!("http://{}:{port}", authority.host()))
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn short_forms_are_completed() {
        for (given, expected) in [
            ("localhost", "http://localhost:2900"),
            ("localhost:1234", "http://localhost:1234"),
            (" http://10.0.0.1/ ", "http://10.0.0.1:2900"),
            ("http://[::1]:2900", "http://[::1]:2900"),
        ] {
            assert_eq!(normalise(given).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_text() {
        for given in ["", "https://h", "ftp://h", "http://", "http://h/x", "http://u@h", "http://h:99999", "h:", "a b"]
        {
            let error = normalise(given).unwrap_err().to_string();
            assert!(error.contains("is not a server address"), "{given}: {error}");
        }
    }
}
