//! What can be wrong with a storage, told from what an object store answers.

use std::error::Error as StdError;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

/// Why a storage cannot be used. The texts are whole sentences for whoever defines storages, and say what to do; they
/// hold nothing of the credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The definition is wrong and stays wrong.
    #[error("{0}")]
    Invalid(String),
    /// The storage does not answer, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// The storage answers, and refuses.
    #[error("{0}")]
    Denied(String),
    /// The storage answers, and has no room left.
    #[error("{0}")]
    Full(String),
    /// The storage answers otherwise than it should.
    #[error("{0}")]
    Failed(String),
}

/// What an error of an object store means for whoever uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// There is no such object; of a request that names none, no such bucket or folder.
    Missing,
    /// No answer, or one that says to try again.
    Unreachable,
    /// The credentials are wrong, or do not allow it.
    Denied,
    /// No room is left.
    Full,
    /// The store cannot do this at all.
    Unsupported,
    /// The store speaks for another region or address.
    Elsewhere,
    /// Anything else.
    Other,
}

impl Trouble {
    /// The trouble that an error tells of.
    pub fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::NotFound { .. } => Trouble::Missing,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Trouble::Denied,
            E::NotSupported { .. } | E::NotImplemented { .. } => Trouble::Unsupported,
            other => Self::of_chain(other),
        }
    }

    /// Whether the same request can succeed later with nothing changed.
    pub fn is_transient(self) -> bool {
        matches!(self, Trouble::Unreachable | Trouble::Full)
    }

    fn of_chain(error: &object_store::Error) -> Self {
        if let Some(io) = find::<io::Error>(error)
            && let Some(trouble) = of_io(io.kind())
        {
            return trouble;
        }
        if let Some(answer) = Answer::find(error) {
            return match answer.status {
                // An expired or unknown key is, with some services, a bad request.
                400 if answer.code.as_deref().is_some_and(|code| code.contains("Token") || code.contains("Auth")) => {
                    Trouble::Denied
                }
                301 | 307 | 308 => Trouble::Elsewhere,
                401 | 403 => Trouble::Denied,
                404 => Trouble::Missing,
                408 | 425 | 429 | 500 | 502..=504 => Trouble::Unreachable,
                501 => Trouble::Unsupported,
                507 => Trouble::Full,
                _ => Trouble::Other,
            };
        }
        if find::<HttpError>(error).is_some() {
            return Trouble::Unreachable;
        }
        if error.to_string().contains(BARE_REDIRECT) { Trouble::Elsewhere } else { Trouble::Other }
    }
}

/// What an error says, in a few words and without an address, a path or a key.
pub fn summary(error: &object_store::Error) -> String {
    if let Some(answer) = Answer::find(error) {
        return match answer.code {
            Some(code) => format!("it answered {} {code}", answer.status),
            None => format!("it answered {}", answer.status),
        };
    }
    if let Some(http) = find::<HttpError>(error) {
        if http.kind() == HttpErrorKind::Timeout {
            return "it did not answer in time".to_owned();
        }
        return match innermost_io(http) {
            Some(io) => plain(&io.to_string()),
            None => "no connection could be made".to_owned(),
        };
    }
    if let Some(io) = innermost_io(error) {
        return io.kind().to_string();
    }
    match Trouble::of(error) {
        Trouble::Missing => "there is no such object",
        Trouble::Denied => "the credentials do not allow it",
        Trouble::Unsupported => "it does not support the operation",
        Trouble::Elsewhere => "it points to another region or address",
        Trouble::Full => "it is full",
        Trouble::Unreachable => "it cannot be reached",
        Trouble::Other => "the operation failed",
    }
    .to_owned()
}

/// How object_store says that a service redirects without saying where.
const BARE_REDIRECT: &str = "redirect without LOCATION";

/// A status that a service answered with, and its own name for the error.
struct Answer {
    status: u16,
    code: Option<String>,
}

impl Answer {
    /// Reads the text of the error, as object_store keeps the types of its clients' errors to itself.
    fn find(error: &object_store::Error) -> Option<Self> {
        let text = error.to_string();
        let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)).and_then(|s| s.parse().ok());
        let code = text
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once("</Code>"))
            .map(|(code, _)| code.to_owned())
            .filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
        // Some services answer 200 with an error in the body.
        let status = status.or_else(|| text.contains("Server returned error response").then_some(500))?;
        Some(Self { status, code })
    }
}

fn of_io(kind: io::ErrorKind) -> Option<Trouble> {
    use io::ErrorKind as K;
    match kind {
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Some(Trouble::Full),
        K::PermissionDenied | K::ReadOnlyFilesystem => Some(Trouble::Denied),
        K::NotFound => Some(Trouble::Missing),
        K::ConnectionRefused
        | K::ConnectionReset
        | K::ConnectionAborted
        | K::NotConnected
        | K::HostUnreachable
        | K::NetworkUnreachable
        | K::NetworkDown
        | K::StaleNetworkFileHandle
        | K::TimedOut
        | K::ResourceBusy
        | K::Interrupted => Some(Trouble::Unreachable),
        _ => None,
    }
}

/// The first error of type `T` among an error and its causes.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn innermost_io<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    causes(error).filter_map(|cause| cause.downcast_ref()).last()
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// The operating system's words without its number.
fn plain(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or(text);
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
