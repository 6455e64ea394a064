use std::{collections::HashMap, time::Duration};

use tonic::{Code, ConnectError, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Error, ErrorKind};

fn rich(code: Code, reason: &str, metadata: &[(&str, &str)]) -> Error {
    let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let details = ErrorDetails::with_error_info(reason, "kalamdb", metadata);
    Error::from_status(Status::with_error_details(code, "what and what to do", details), "http://h", None)
}

#[test]
fn a_rich_status_keeps_reason_metadata_and_place() {
    let error = rich(
        Code::InvalidArgument,
        "SYNTAX_ERROR",
        &[("line", "2"), ("column", "7"), ("statement_index", "1"), ("nearest", "SELECT")],
    );
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert_eq!(error.reason(), Some("SYNTAX_ERROR"));
    assert_eq!((error.line(), error.column(), error.statement_index()), (Some(2), Some(7), Some(1)));
    assert_eq!(error.metadata_value("nearest"), Some("SELECT"));
    assert_eq!(error.metadata().count(), 4);
    assert_eq!(error.message(), "what and what to do");
    assert_eq!(error.to_string(), "what and what to do (SYNTAX_ERROR)");
}

#[test]
fn a_bare_status_has_no_reason_but_a_message() {
    let error = Error::from_status(Status::new(Code::Unavailable, ""), "http://h", None);
    assert_eq!(error.reason(), None);
    assert_eq!(error.line(), None);
    assert!(!error.message().is_empty());
    assert!(error.is_transient());
    assert!(!error.nothing_was_sent());
}

#[test]
fn metadata_that_is_no_number_is_no_place() {
    assert_eq!(rich(Code::InvalidArgument, "SYNTAX_ERROR", &[("line", "-1"), ("column", "x")]).line(), None);
}

#[test]
fn a_failed_connection_is_told_from_an_unavailable_server() {
    let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
    let status = Status::from_error(Box::new(ConnectError(Box::new(refused))));
    let error = Error::from_status(status, "http://127.0.0.1:1", None);
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.nothing_was_sent() && error.is_transient());
    assert_eq!(error.to_string(), "cannot connect to http://127.0.0.1:1: refused");
}

#[test]
fn a_connection_that_breaks_is_told_from_an_answer() {
    let reset = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
    let error = Error::from_status(Status::from_error(Box::new(reset)), "http://h", None);
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error:?}");
    assert_eq!(error.to_string(), "the connection to http://h was lost: reset by peer");
    assert!(error.is_transient() && !error.nothing_was_sent());
}

#[test]
fn an_expired_deadline_is_a_timeout() {
    let status = Status::from_error(Box::new(tonic::TimeoutExpired(())));
    let error = Error::from_status(status, "http://h", Some(Duration::from_millis(20)));
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.to_string(), "no answer within 20 ms");
}

#[test]
fn a_poisoned_store_is_not_worth_a_retry() {
    assert!(!rich(Code::Unavailable, "STORE_POISONED", &[]).is_transient());
    assert!(rich(Code::Unavailable, "SHUTTING_DOWN", &[]).is_transient());
    assert!(!rich(Code::NotFound, "TABLE_NOT_FOUND", &[]).is_transient());
}
