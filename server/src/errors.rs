//! The one map from errors to gRPC statuses. No other file chooses a status code.

use std::{collections::HashMap, time::Duration};

use kalamdb_engine::{Error, ErrorKind, Reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{call::TraceId, limits::RETRY_AFTER_MS};

/// The domain of every `google.rpc.ErrorInfo`.
pub(crate) const DOMAIN: &str = "kalamdb";

/// Statuses travel as HTTP/2 headers, of which clients accept some 8 to 16 KiB: longer texts are cut.
const MAX_MESSAGE_BYTES: usize = 2_048;
const MAX_METADATA_BYTES: usize = 256;
const MAX_METADATA_ENTRIES: usize = 16;

/// The status that tells a caller of an error. What only the operator may know is logged under `trace`.
pub(crate) fn to_status(error: &Error, trace: TraceId) -> Status {
    let mut metadata: HashMap<String, String> = error
        .metadata()
        .iter()
        .take(MAX_METADATA_ENTRIES)
        .map(|(name, value)| ((*name).to_owned(), shortened(value, MAX_METADATA_BYTES)))
        .collect();
    if let Some(index) = error.statement_index() {
        metadata.insert("statement_index".to_owned(), index.to_string());
    }
    if let Some(position) = error.position() {
        metadata.insert("line".to_owned(), position.line.to_string());
        metadata.insert("column".to_owned(), position.column.to_string());
    }

    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::Internal | ErrorKind::Corruption => {
            metadata.insert("trace_id".to_owned(), trace.to_string());
            tracing::error!(trace_id = %trace, reason = error.reason().as_str(), detail, "{}", error.message());
        }
        _ if error.detail().is_some() => {
            tracing::warn!(trace_id = %trace, reason = error.reason().as_str(), detail, "{}", error.message());
        }
        _ => {}
    }
    status(code(error.kind()), error.reason(), error.message(), metadata)
}

/// A status for an error that arises before a call has a trace id, so that nothing of it is logged.
pub(crate) fn refusal(error: &Error) -> Status {
    let metadata = error
        .metadata()
        .iter()
        .map(|(name, value)| ((*name).to_owned(), shortened(value, MAX_METADATA_BYTES)))
        .collect();
    status(code(error.kind()), error.reason(), error.message(), metadata)
}

/// The status for a status that tonic made itself, before or after our services ran: those have no details, and
/// codes that would mean something else here. `limit`: the setting by which a message has `max_bytes` at most.
pub(crate) fn amend(status: &Status, max_bytes: usize, limit: &'static str) -> Status {
    let error = match status.code() {
        Code::OutOfRange => Error::new(
            Reason::StatementTooLarge,
            format!(
                "The request message is larger than {limit} allows, which is {max_bytes} bytes. Send less at once, or \
                 raise the limit."
            ),
        )
        .with("limit", limit),
        Code::Unimplemented => Error::new(
            Reason::NotSupported,
            format!("The server has no such method or encoding. {}", status.message()).trim().to_owned(),
        ),
        Code::Cancelled => Error::new(Reason::StatementCancelled, "The call was cancelled."),
        _ => Error::new(
            Reason::InvalidRequest,
            format!("The request is not a valid message of this method: {}", status.message()),
        ),
    };
    refusal(&error)
}

/// A defect that the server itself found, such as a panic.
pub(crate) fn defect(detail: &str, trace: TraceId) -> Status {
    to_status(&Error::internal(detail), trace)
}

fn status(code: Code, reason: Reason, message: &str, metadata: HashMap<String, String>) -> Status {
    let retry_after = metadata.get(RETRY_AFTER_MS).and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, metadata);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, shortened(message, MAX_MESSAGE_BYTES), details)
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidRequest => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::NotSupported => Code::Unimplemented,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::LimitExceeded => Code::ResourceExhausted,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Corruption => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

fn shortened(text: &str, most_bytes: usize) -> String {
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most_bytes)])
}

#[cfg(test)]
mod tests;
