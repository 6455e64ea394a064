//! The credential that a call carries in its headers.

use http::{HeaderMap, HeaderValue, header};
use kalamdb_engine::{Error, Reason};

const API_KEY: &str = "x-api-key";
/// What every API key begins with.
pub(super) const KEY_PREFIX: &str = "kdb_";

/// A credential, not yet checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    Nothing,
    Token(&'a str),
    Key(&'a str),
}

impl<'a> Presented<'a> {
    /// The credential of these headers.
    ///
    /// # Errors
    /// UNAUTHENTICATED for what is none, and for more than one.
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self, Error> {
        let authorization = single(headers, header::AUTHORIZATION.as_str())?;
        let key = single(headers, API_KEY)?;
        match (authorization, key) {
            (None, None) => Ok(Self::Nothing),
            (None, Some(key)) if !key.is_empty() => Ok(Self::Key(key)),
            (None, Some(_)) => Err(unauthenticated("The header x-api-key is empty.")),
            (Some(value), None) => bearer(value),
            (Some(_), Some(_)) => Err(unauthenticated(
                "The call has two credentials, in authorization and in x-api-key. Send one of them.",
            )),
        }
    }
}

fn bearer(value: &str) -> Result<Presented<'_>, Error> {
    let credential = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match credential.map(|(_, credential)| credential.trim()) {
        Some(key) if key.starts_with(KEY_PREFIX) => Ok(Presented::Key(key)),
        Some(token) if !token.is_empty() => Ok(Presented::Token(token)),
        _ => Err(unauthenticated(
            "The header authorization is not \"Bearer\" and a token or an API key. A password is exchanged for a token by \
             AuthService.Login, and by the handshake of Flight.",
        )),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unauthenticated(format!("The header {name} is given twice. Send one credential.")));
    }
    HeaderValue::to_str(value)
        .map(|text| Some(text.trim()))
        .map_err(|_| unauthenticated(format!("The header {name} has characters that no credential has.")))
}

fn unauthenticated(message: impl Into<String>) -> Error {
    Error::new(Reason::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(values: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in values {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    #[test]
    fn credentials_are_found_where_they_may_be() {
        for (values, expected) in [
            (&[][..], Presented::Nothing),
            (&[("authorization", &b"Bearer a.b.c"[..])][..], Presented::Token("a.b.c")),
            (&[("authorization", &b"bearer  a.b.c "[..])][..], Presented::Token("a.b.c")),
            (&[("authorization", &b"Bearer kdb_1_x"[..])][..], Presented::Key("kdb_1_x")),
            (&[("x-api-key", &b"kdb_1_x"[..])][..], Presented::Key("kdb_1_x")),
        ] {
            let map = headers(values);
            assert_eq!(Presented::of(&map).unwrap(), expected, "{values:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for values in [
            &[("authorization", &b""[..])][..],
            &[("authorization", &b"Bearer"[..])][..],
            &[("authorization", &b"Bearer "[..])][..],
            &[("authorization", &b"Basic YTpi"[..])][..],
            &[("authorization", &b"a.b.c"[..])][..],
            &[("authorization", &b"Bearer a\xff"[..])][..],
            &[("x-api-key", &b""[..])][..],
            &[("authorization", &b"Bearer a.b.c"[..]), ("x-api-key", &b"kdb_1_x"[..])][..],
            &[("authorization", &b"Bearer a.b.c"[..]), ("authorization", &b"Bearer a.b.c"[..])][..],
            &[("x-api-key", &b"kdb_1_x"[..]), ("x-api-key", &b"kdb_1_x"[..])][..],
        ] {
            let error = Presented::of(&headers(values)).unwrap_err();
            assert_eq!(error.reason(), Reason::Unauthenticated, "{values:?}");
        }
    }
}
