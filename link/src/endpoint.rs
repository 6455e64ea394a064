//! The server's address as a user writes it.

use std::net::IpAddr;

use http::{Uri, uri::Scheme};

use crate::error::{Error, Result};

/// The port of a server when the address names none.
const DEFAULT_PORT: u16 = 2900;

/// A server's address, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// `http://host:port` or `https://host:port`.
    pub(crate) url: String,
    /// The host without the brackets of an IPv6 address.
    pub(crate) host: String,
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
}

impl Address {
    /// Completes `host`, `host:port`, `http://host[:port][/]` and `https://host[:port][/]`. Without a scheme it is
    /// `https` when there are settings for TLS.
    ///
    /// # Errors
    /// When the text is no address, or contradicts the settings for TLS.
    pub(crate) fn parse(text: &str, tls_wanted: bool) -> Result<Address> {
        let trimmed = text.trim();
        let scheme = if tls_wanted { "https" } else { "http" };
        let with_scheme = if trimmed.contains("://") { trimmed.to_owned() } else { format!("{scheme}://{trimmed}") };
        let wrong = |why: &str| {
            Error::configuration(format!(
                "{text:?} is not a server address: {why}. Write http://host:port or https://host:port."
            ))
        };

        let uri: Uri = with_scheme.parse().map_err(|error| wrong(&format!("{error}")))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong("the scheme must be http or https")),
        };
        if tls_wanted && !tls {
            return Err(wrong("there are settings for TLS, and http:// is without it"));
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
        let scheme = if tls { "https" } else { "http" };
        let host = authority.host();
        Ok(Address {
            url: format!("{scheme}://{host}:{port}"),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            tls,
        })
    }

    /// Whether nobody else can read what is sent: it is encrypted, or does not leave the machine.
    pub(crate) fn is_private(&self) -> bool {
        self.tls || is_loopback(&self.host)
    }
}

/// Whether a host is this machine: a loopback address, or a name that is reserved for it.
fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    fn url(text: &str, tls: bool) -> String {
        Address::parse(text, tls).unwrap().url
    }

    #[test]
    fn short_forms_are_completed() {
        for (given, expected) in [
            ("localhost", "http://localhost:2900"),
            ("localhost:1234", "http://localhost:1234"),
            (" http://10.0.0.1/ ", "http://10.0.0.1:2900"),
            ("http://[::1]:2900", "http://[::1]:2900"),
            ("https://db.example", "https://db.example:2900"),
            ("HTTPS://db.example:1", "https://db.example:1"),
        ] {
            assert_eq!(url(given, false), expected);
        }
        assert_eq!(url("db.example", true), "https://db.example:2900");
        assert_eq!(Address::parse("https://[::1]:1", true).unwrap().host, "::1");
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_text() {
        for given in ["", "ftp://h", "http://", "http://h/x", "http://u@h", "http://h:99999", "h:", "a b", "https://"] {
            let error = Address::parse(given, false).unwrap_err().to_string();
            assert!(error.contains("is not a server address"), "{given}: {error}");
        }
        let error = Address::parse("http://h", true).unwrap_err().to_string();
        assert!(error.contains("settings for TLS"), "{error}");
    }

    #[test]
    fn only_encryption_and_this_machine_are_private() {
        for private in ["https://db.example", "localhost", "a.localhost.", "127.8.0.1", "http://[::1]:1", "LOCALHOST:1"]
        {
            assert!(Address::parse(private, false).unwrap().is_private(), "{private}");
        }
        for open in ["http://db.example", "10.0.0.1", "localhost.example", "0.0.0.0", "http://[::]:1", "notlocalhost"] {
            assert!(!Address::parse(open, false).unwrap().is_private(), "{open}");
        }
    }
}
