//! How a client proves who it is.

mod source;

use std::{fmt, sync::Arc, time::Duration};

use tonic::metadata::AsciiMetadataValue;

pub(crate) use self::source::{BoxError, TokenSource};
use crate::error::{Error, Result};

/// What is sent with each call.
#[derive(Clone, Debug, Default)]
pub(crate) enum Credential {
    /// Nothing: what a `--dev` server accepts from its own machine, and a server that knows the client's certificate.
    #[default]
    None,
    /// A JWT.
    Token(Secret),
    /// An API key.
    ApiKey(Secret),
    /// Tokens that are had when they are needed, and again before they expire.
    Renewed(Arc<TokenSource>),
}

impl Credential {
    /// What to call it in a message; none when there is none.
    pub(crate) fn name(&self) -> Option<&'static str> {
        match self {
            Credential::None => None,
            Credential::Token(_) => Some("a token"),
            Credential::ApiKey(_) => Some("an API key"),
            Credential::Renewed(source) => Some(source.secret_name()),
        }
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    /// The text. Whoever asks for it keeps it out of messages and logs.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Secret(Arc::from(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A token that [`ClientBuilder::token_provider`](crate::ClientBuilder::token_provider) has got. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    token: Secret,
    expires_in: Option<Duration>,
}

impl AccessToken {
    /// A token (JWT) that is used until the server refuses it.
    pub fn new(token: impl Into<String>) -> Self {
        AccessToken { token: Secret::from(token), expires_in: None }
    }

    /// How long it is valid from now on. The next one is asked for before it has expired.
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }
}

impl<T: Into<String>> From<T> for AccessToken {
    fn from(token: T) -> Self {
        AccessToken::new(token)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("token", &self.token).field("expires_in", &self.expires_in).finish()
    }
}

/// The value of `authorization` for a token.
pub(crate) fn bearer(token: &Secret) -> Result<AsciiMetadataValue> {
    header(&format!("Bearer {}", token.expose()), "token")
}

/// The value of a header that is a secret.
pub(crate) fn header(text: &str, what: &str) -> Result<AsciiMetadataValue> {
    // The text is not part of the message: errors end up in logs.
    let mut value = AsciiMetadataValue::try_from(text)
        .map_err(|_| Error::configuration(format!("the {what} has a character that cannot be sent")))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{AccessToken, Credential, Secret, bearer};

    #[test]
    fn secrets_are_not_printed() {
        let token = AccessToken::new("s3cret").expires_in(Duration::from_secs(1));
        let credentials = [Credential::Token(Secret::from("s3cret")), Credential::ApiKey(Secret::from("s3cret"))];
        for text in [format!("{token:?}"), format!("{credentials:#?}"), format!("{:?}", bearer(&token.token).unwrap())]
        {
            assert!(!text.contains("s3cret"), "{text}");
        }
        assert!(!bearer(&Secret::from("s3cret\n")).unwrap_err().to_string().contains("s3cret"));
    }
}
