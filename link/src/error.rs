//! What can go wrong with a call, and what to do about it.

use std::{collections::HashMap, error::Error as StdError, time::Duration};

use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt;

use crate::value::ConversionError;

/// The metadata of an error that ended a live query: its resume token.
const RESUME_TOKEN: &str = "resume_token";

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// [`Error::kind`] says what to do; [`Error::reason`] is the server's stable constant, such as `TABLE_NOT_FOUND`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client's own settings are not possible: a bad endpoint, a token that is not a header value.
    #[error("{message}")]
    Configuration {
        /// What is wrong and what is expected.
        message: String,
    },
    /// No token could be had: what [`ClientBuilder::token_provider`](crate::ClientBuilder::token_provider) was given
    /// failed. Nothing was sent.
    #[error("no token could be had: {message}")]
    Credential {
        /// What it said.
        message: String,
    },
    /// No connection could be made; nothing was sent.
    #[error("cannot connect to {endpoint}: {message}")]
    Connection {
        /// The server's URL.
        endpoint: String,
        /// The cause, such as `Connection refused`.
        message: String,
    },
    /// The connection broke during the call. Whether a write took effect is not known.
    #[error("the connection to {endpoint} was lost: {message}")]
    ConnectionLost {
        /// The server's URL.
        endpoint: String,
        /// The cause, such as `Connection reset by peer`.
        message: String,
    },
    /// The server answered with an error status.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// No answer came in time. Whether a write took effect is not known.
    #[error("no answer within {} ms", .after.as_millis())]
    Timeout {
        /// How long the client waited.
        after: Duration,
    },
    /// The request is larger than [`ClientBuilder::max_send_bytes`](crate::ClientBuilder::max_send_bytes); nothing was
    /// sent.
    #[error("the request has {bytes} bytes, the limit is {limit}")]
    RequestTooLarge {
        /// Size of the request.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The answer is not one that the API allows, for example one of a newer version.
    #[error("unexpected answer: {message}")]
    Protocol {
        /// What was found.
        message: String,
    },
    /// A value is not of the type asked for, or a result not of the shape asked for.
    #[error(transparent)]
    Conversion(#[from] ConversionError),
}

/// An error status, with the details that KalamDB adds.
#[derive(Clone, Debug)]
pub struct ServerError {
    code: Code,
    message: String,
    reason: Option<String>,
    metadata: HashMap<String, String>,
}

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The statement, a parameter or another part of the request is wrong: change it.
    InvalidRequest,
    /// Something named does not exist.
    NotFound,
    /// Something with this name or key exists already.
    AlreadyExists,
    /// The state of the database does not allow it, such as dropping a namespace that holds tables.
    FailedPrecondition,
    /// The feature is not supported.
    NotSupported,
    /// No valid credential.
    Unauthenticated,
    /// A valid credential without the right.
    PermissionDenied,
    /// A limit was reached; [`Error::metadata_value`] of `limit` names it.
    ResourceExhausted,
    /// The statement or the call took too long.
    Timeout,
    /// The call was cancelled.
    Cancelled,
    /// Other writers kept changing the same rows: run the statement again.
    Conflict,
    /// The server cannot answer now, or the connection to it broke: try again later.
    Unavailable,
    /// No connection could be made; nothing was sent.
    Connection,
    /// Stored bytes are damaged.
    DataLoss,
    /// A defect of the server.
    Internal,
    /// The client's settings are not possible.
    Configuration,
    /// The answer is not one that the API allows.
    Protocol,
    /// A value is not of the type asked for.
    Conversion,
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Configuration { .. } => ErrorKind::Configuration,
            Error::Credential { .. } => ErrorKind::Unauthenticated,
            Error::Connection { .. } => ErrorKind::Connection,
            Error::ConnectionLost { .. } => ErrorKind::Unavailable,
            Error::Timeout { .. } => ErrorKind::Timeout,
            Error::RequestTooLarge { .. } => ErrorKind::InvalidRequest,
            Error::Protocol { .. } => ErrorKind::Protocol,
            Error::Conversion(_) => ErrorKind::Conversion,
            Error::Server(error) => match error.code {
                Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidRequest,
                Code::NotFound => ErrorKind::NotFound,
                Code::AlreadyExists => ErrorKind::AlreadyExists,
                Code::FailedPrecondition => ErrorKind::FailedPrecondition,
                Code::Unimplemented => ErrorKind::NotSupported,
                Code::Unauthenticated => ErrorKind::Unauthenticated,
                Code::PermissionDenied => ErrorKind::PermissionDenied,
                Code::ResourceExhausted => ErrorKind::ResourceExhausted,
                Code::DeadlineExceeded => ErrorKind::Timeout,
                Code::Cancelled => ErrorKind::Cancelled,
                Code::Aborted => ErrorKind::Conflict,
                Code::Unavailable => ErrorKind::Unavailable,
                Code::DataLoss => ErrorKind::DataLoss,
                Code::Ok | Code::Unknown | Code::Internal => ErrorKind::Internal,
            },
        }
    }

    /// The server's stable reason, such as `PRIMARY_KEY_VIOLATION`. None when the server gave none.
    pub fn reason(&self) -> Option<&str> {
        self.server().and_then(|error| error.reason.as_deref())
    }

    /// The gRPC status code, when the error is a status.
    pub fn code(&self) -> Option<Code> {
        self.server().map(|error| error.code)
    }

    /// The names concerned, such as `namespace`, `table`, `column`, `limit`; empty when the server gave none.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.server().into_iter().flat_map(|error| &error.metadata).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One entry of [`Error::metadata`].
    pub fn metadata_value(&self, name: &str) -> Option<&str> {
        self.server().and_then(|error| error.metadata.get(name)).map(String::as_str)
    }

    /// Index, from 0, of the statement of the batch that failed. The statements before it took effect.
    pub fn statement_index(&self) -> Option<usize> {
        self.number("statement_index")
    }

    /// Where a live query that has ended can be resumed, with
    /// [`Subscribe::resume_token`](crate::Subscribe::resume_token). None for other errors, and where that is not
    /// possible. [`Subscription::token`](crate::Subscription::token) has the last token whatever the error is.
    pub fn resume_token(&self) -> Option<&str> {
        self.metadata_value(RESUME_TOKEN)
    }

    /// Line of the statement that the error points at, from 1.
    pub fn line(&self) -> Option<usize> {
        self.number("line")
    }

    /// Column, in characters, that the error points at, from 1.
    pub fn column(&self) -> Option<usize> {
        self.number("column")
    }

    /// The message without the details.
    pub fn message(&self) -> String {
        match self {
            Error::Server(error) => error.message.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the request cannot have reached the server, so that any call may be repeated.
    pub(crate) fn nothing_was_sent(&self) -> bool {
        matches!(self, Error::Connection { .. })
    }

    /// Whether repeating the call may help, if repeating it does no harm. A poisoned store stays so until the server
    /// is restarted.
    pub(crate) fn is_transient(&self) -> bool {
        self.nothing_was_sent() || (self.kind() == ErrorKind::Unavailable && self.reason() != Some("STORE_POISONED"))
    }

    /// Whether the server did not accept the credential, and may accept another one of the same user. Who is disabled, or
    /// whose credential was taken away while the call was under way, is told so.
    pub(crate) fn asks_for_another_token(&self) -> bool {
        const FINAL: [&str; 2] = ["CREDENTIAL_REVOKED", "USER_DISABLED"];
        self.code() == Some(Code::Unauthenticated) && self.reason().is_none_or(|reason| !FINAL.contains(&reason))
    }

    pub(crate) fn from_status(status: Status, endpoint: &str, waited: Option<Duration>) -> Error {
        let mut source = status.source();
        while let Some(cause) = source {
            if cause.is::<ConnectError>() {
                return Error::Connection { endpoint: endpoint.to_owned(), message: root_cause(cause) };
            }
            if cause.is::<TimeoutExpired>() {
                return Error::Timeout { after: waited.unwrap_or_default() };
            }
            source = cause.source();
        }
        // What a server sends has no cause; what the transport reports in its place has.
        if let Some(cause) = status.source() {
            return Error::ConnectionLost { endpoint: endpoint.to_owned(), message: root_cause(cause) };
        }
        let (reason, metadata) = match status.get_details_error_info() {
            Some(info) => (Some(info.reason), info.metadata),
            None => (None, HashMap::new()),
        };
        let message = if status.message().is_empty() {
            // The description of the code is all there is when a proxy or the transport gave no text.
            status.code().description().to_owned()
        } else {
            status.message().to_owned()
        };
        Error::Server(Box::new(ServerError { code: status.code(), message, reason, metadata }))
    }

    /// A live query has ended for this reason. The status of its call says the same, but comes only when all queries of
    /// the call have ended.
    pub(crate) fn ended(reason: String, message: String, token: Option<&str>) -> Error {
        let code = match reason.as_str() {
            "LIVE_QUERY_KILLED" | "STATEMENT_CANCELLED" => Code::Cancelled,
            "NAMESPACE_NOT_FOUND" | "TABLE_NOT_FOUND" => Code::NotFound,
            "COLUMN_NOT_FOUND" | "INVALID_RESUME_TOKEN" | "INVALID_STATEMENT" => Code::InvalidArgument,
            "CHANGES_EXPIRED" | "SCHEMA_CHANGED" => Code::FailedPrecondition,
            "SLOW_CONSUMER" | "TOO_MANY_LIVE_QUERIES" | "QUERY_MEMORY_EXCEEDED" => Code::ResourceExhausted,
            "PERMISSION_DENIED" => Code::PermissionDenied,
            "UNAUTHENTICATED" | "CREDENTIAL_REVOKED" | "CREDENTIAL_EXPIRED" | "USER_DISABLED" => Code::Unauthenticated,
            "SHUTTING_DOWN" | "STORE_POISONED" | "STORAGE_UNREACHABLE" => Code::Unavailable,
            "CORRUPTION" => Code::DataLoss,
            _ => Code::Unknown,
        };
        let metadata = token.map(|token| (RESUME_TOKEN.to_owned(), token.to_owned())).into_iter().collect();
        Error::Server(Box::new(ServerError { code, message, reason: Some(reason), metadata }))
    }

    /// The same for somebody else who waited for the same thing.
    pub(crate) fn copy(&self) -> Error {
        match self {
            Error::Configuration { message } => Error::Configuration { message: message.clone() },
            Error::Credential { message } => Error::Credential { message: message.clone() },
            Error::Connection { endpoint, message } => {
                Error::Connection { endpoint: endpoint.clone(), message: message.clone() }
            }
            Error::ConnectionLost { endpoint, message } => {
                Error::ConnectionLost { endpoint: endpoint.clone(), message: message.clone() }
            }
            Error::Server(error) => Error::Server(error.clone()),
            Error::Timeout { after } => Error::Timeout { after: *after },
            Error::RequestTooLarge { bytes, limit } => Error::RequestTooLarge { bytes: *bytes, limit: *limit },
            Error::Protocol { message } => Error::Protocol { message: message.clone() },
            Error::Conversion(error) => Error::Protocol { message: error.to_string() },
        }
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Error {
        Error::Protocol { message: message.into() }
    }

    pub(crate) fn configuration(message: impl Into<String>) -> Error {
        Error::Configuration { message: message.into() }
    }

    /// A secret is not sent where others can read it.
    pub(crate) fn unencrypted(secret: &str, endpoint: &str) -> Error {
        Error::configuration(format!(
            "{secret} would be sent to {endpoint} unencrypted, where others can read it: use https://, or allow it with \
             allow_plaintext_secrets when the network itself is encrypted"
        ))
    }

    fn server(&self) -> Option<&ServerError> {
        match self {
            Error::Server(error) => Some(error),
            _ => None,
        }
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.metadata_value(name)?.parse().ok()
    }
}

/// The last error of a chain of causes: what the operating system said.
pub(crate) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{} ({reason})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

#[cfg(test)]
mod tests;
