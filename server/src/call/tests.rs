use http::HeaderValue;

use super::*;

fn headers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
}

#[test]
fn timeouts_of_both_protocols() {
    for (name, value, expected) in [
        ("grpc-timeout", "5S", Some(Duration::from_secs(5))),
        ("grpc-timeout", "99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
        ("grpc-timeout", "250m", Some(Duration::from_millis(250))),
        ("grpc-timeout", "0n", Some(Duration::ZERO)),
        ("grpc-timeout", "999999999S", None),
        ("grpc-timeout", "5", None),
        ("grpc-timeout", "S", None),
        ("grpc-timeout", "-5S", None),
        ("grpc-timeout", "", None),
        ("connect-timeout-ms", "1500", Some(Duration::from_millis(1_500))),
        ("connect-timeout-ms", "1.5", None),
    ] {
        let result = client_timeout(&headers(name, value));
        match expected {
            Some(expected) => assert_eq!(result.unwrap(), Some(expected), "{name}: {value}"),
            None => assert_eq!(result.unwrap_err().reason(), Reason::InvalidRequest, "{name}: {value}"),
        }
    }
    assert_eq!(client_timeout(&HeaderMap::new()).unwrap(), None);
}

#[test]
fn trace_ids_are_the_callers_or_new() {
    let ids = TraceIds::new(&kalamdb_engine::SystemEnv);
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(ids.of(&headers("traceparent", given)).to_string(), "0af7651916cd43dd8448eb211c80319c");
    let first = ids.of(&HeaderMap::new());
    assert_ne!(first, ids.of(&headers("traceparent", "00-nonsense-01")));
    assert_eq!(first.to_string().len(), 32);
}
