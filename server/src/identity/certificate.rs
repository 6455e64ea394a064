//! The name in a client's certificate.

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::config::ClientIdentity;

/// What a URI that names a user begins with; the user's id follows.
const URI_PREFIX: &str = "kalamdb:user:";

/// Whom a verified certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateName {
    /// By the username: the common name.
    Username(String),
    /// By the user's id: from a URI.
    UserId(String),
}

impl CertificateName {
    /// The name in a certificate, if it has one of the configured kind. Two different ones are none.
    pub(crate) fn of(certificate: &CertificateDer<'_>, kind: ClientIdentity) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        match kind {
            ClientIdentity::None => None,
            ClientIdentity::Uri => {
                let mut names = certificate.valid_uri_names().filter_map(|uri| uri.strip_prefix(URI_PREFIX));
                let name = names.next().filter(|name| !name.is_empty())?;
                names.next().is_none().then(|| Self::UserId(name.to_owned()))
            }
            ClientIdentity::CommonName => common_name(certificate.subject()).map(Self::Username),
        }
    }
}

const SET: u8 = 0x31;
const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
/// 2.5.4.3
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The common name of a subject, of which there must be one:
/// `(SET OF (SEQUENCE OF (type OBJECT IDENTIFIER, value)))…`, as webpki gives it, without the outer sequence.
fn common_name(subject: &[u8]) -> Option<String> {
    let mut found = None;
    let mut sets = subject;
    while !sets.is_empty() {
        let mut attributes = take(&mut sets, SET)?;
        while !attributes.is_empty() {
            let mut attribute = take(&mut attributes, SEQUENCE)?;
            if take(&mut attribute, OBJECT_ID)? != COMMON_NAME {
                continue;
            }
            let tag = *attribute.first()?;
            if found.is_some() || !matches!(tag, UTF8_STRING | PRINTABLE_STRING) {
                return None;
            }
            let text = take(&mut attribute, tag)?;
            found = Some(std::str::from_utf8(text).ok().filter(|text| !text.is_empty())?.to_owned());
        }
    }
    found
}

/// Takes the content of the next value of DER, which must have this tag.
fn take<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 | 0x82 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    (found == tag).then_some(content)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn common_names_and_uris_are_found() {
        let named = certificate(|params| {
            params.distinguished_name.push(DnType::CommonName, "Zoë".to_owned());
            params.subject_alt_names = vec![uri("https://example.com"), uri("kalamdb:user:u-17")];
        });
        let of = |kind| CertificateName::of(&named, kind);
        assert_eq!(of(ClientIdentity::CommonName), Some(CertificateName::Username("Zoë".to_owned())));
        assert_eq!(of(ClientIdentity::Uri), Some(CertificateName::UserId("u-17".to_owned())));
        assert_eq!(of(ClientIdentity::None), None);
    }

    #[test]
    fn certificates_without_a_name_or_with_two_name_nobody() {
        let unnamed = certificate(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.subject_alt_names = vec![uri("kalamdb:user:")];
        });
        let twice = certificate(|params| {
            params.subject_alt_names = vec![uri("kalamdb:user:a"), uri("kalamdb:user:b")];
        });
        for (certificate, kind) in
            [(&unnamed, ClientIdentity::CommonName), (&unnamed, ClientIdentity::Uri), (&twice, ClientIdentity::Uri)]
        {
            assert_eq!(CertificateName::of(certificate, kind), None, "{kind}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for bytes in [&[][..], &[0x31], &[0x31, 0x82, 0xff], &[0x31, 0x84, 1, 1, 1, 1], &[0x31, 2, 0x30, 0]] {
            assert_eq!(common_name(bytes), None, "{bytes:?}");
        }
    }
}
