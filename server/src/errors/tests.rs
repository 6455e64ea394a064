use kalamdb_engine::Position;
use tonic_types::ErrorInfo;

use super::*;
use crate::call::TraceIds;

fn trace() -> TraceId {
    TraceIds::new(&kalamdb_engine::SystemEnv).of(&http::HeaderMap::new())
}

fn info(status: &Status) -> ErrorInfo {
    status.get_details_error_info().unwrap()
}

#[test]
fn every_reason_of_the_engine_is_published() {
    let published: Vec<String> = kalamdb_proto_reasons();
    for reason in Reason::ALL {
        assert!(published.contains(&format!("ERROR_REASON_{}", reason.as_str())), "{}", reason.as_str());
    }
    assert_eq!(published.len(), Reason::ALL.len() + 1, "and every published one exists, but for UNSPECIFIED");
}

fn kalamdb_proto_reasons() -> Vec<String> {
    (0..200)
        .filter_map(|number| kalamdb_proto::v1::ErrorReason::try_from(number).ok())
        .map(|reason| reason.as_str_name().to_owned())
        .collect()
}

#[test]
fn a_status_carries_reason_names_and_place() {
    let error = Error::new(Reason::SyntaxError, "Expected FROM.")
        .with("nearest", "FROM")
        .at(Position { line: 2, column: 7 })
        .in_statement(3);
    let status = to_status(&error, trace());
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "Expected FROM."));
    let info = info(&status);
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("SYNTAX_ERROR", "kalamdb"));
    let metadata: std::collections::BTreeMap<_, _> = info.metadata.into_iter().collect();
    let expected = [("column", "7"), ("line", "2"), ("nearest", "FROM"), ("statement_index", "3")];
    assert_eq!(metadata, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn a_defect_shows_a_trace_id_and_no_detail() {
    let trace = trace();
    let status = to_status(&Error::internal("/var/lib/secret"), trace);
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("secret"));
    let info = info(&status);
    assert_eq!(info.metadata.get("trace_id"), Some(&trace.to_string()));
    assert!(!info.metadata.values().any(|value| value.contains("secret")));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let error = Error::new(Reason::InvalidValue, "é".repeat(100_000)).with("column", "ü".repeat(10_000));
    let status = to_status(&error, trace());
    assert!(status.message().len() < 2_100 && status.message().ends_with('…'));
    assert!(info(&status).metadata["column"].len() < 300);
}

#[test]
fn statuses_of_tonic_get_a_reason() {
    for (status, code, reason) in [
        (Status::out_of_range("too large"), Code::ResourceExhausted, "STATEMENT_TOO_LARGE"),
        (Status::internal("failed to decode"), Code::InvalidArgument, "INVALID_REQUEST"),
        (Status::unimplemented(""), Code::Unimplemented, "NOT_SUPPORTED"),
    ] {
        let amended = amend(&status, 1_000, "limits.max_request_bytes");
        assert_eq!(amended.code(), code);
        assert_eq!(info(&amended).reason, reason);
        let limit = info(&amended).metadata.get("limit").cloned();
        assert_eq!(limit.is_some(), reason == "STATEMENT_TOO_LARGE", "{limit:?}");
    }
}
