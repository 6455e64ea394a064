//! Options of sessions, which drivers set when they connect.

use std::collections::HashMap;

use arrow_flight::Action;
use kalamdb_tests::client::Client;
use prost::Message;
use tonic::Request;

use super::{Flight, act, fails, failure, flight, rows, stranger};
use crate::support::client_with_rows;

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

/// Of the kinds of values, those that drivers send.
#[derive(Clone, PartialEq, Message)]
struct SessionOptionValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(bool, optional, tag = "2")]
    truth: Option<bool>,
    #[prost(double, optional, tag = "4")]
    double: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, Message)]
struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

const INVALID_NAME: i32 = 1;
const INVALID_VALUE: i32 = 2;

fn text(value: &str) -> SessionOptionValue {
    SessionOptionValue { text: Some(value.to_owned()), ..SessionOptionValue::default() }
}

/// Sets options; answers the errors, and the cookie if there is one.
async fn set(flight: &mut Flight, options: &[(&str, SessionOptionValue)]) -> (HashMap<String, i32>, Option<String>) {
    let session_options = options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let body = SetSessionOptionsRequest { session_options }.encode_to_vec();
    let mut request = Request::new(Action::new("SetSessionOptions", body));
    copy_headers(flight, &mut request);
    let response = flight.inner_mut().do_action(request).await.unwrap();
    let cookie = response.metadata().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
    let message = response.into_inner().message().await.unwrap().unwrap();
    let result = SetSessionOptionsResult::decode(message.body).unwrap();
    (result.errors.into_iter().map(|(name, error)| (name, error.value)).collect(), cookie)
}

/// The client keeps its headers to itself, but for its token.
fn copy_headers<T>(flight: &Flight, request: &mut Request<T>) {
    if let Some(token) = flight.token() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
}

async fn get(flight: &mut Flight) -> HashMap<String, String> {
    let body = act(flight, "GetSessionOptions", Vec::new()).await.unwrap().unwrap();
    let options = GetSessionOptionsResult::decode(body.as_slice()).unwrap().session_options;
    options.into_iter().map(|(name, value)| (name, value.text.unwrap_or_default())).collect()
}

/// A connection without a namespace, that a token makes somebody.
async fn with_session() -> (kalam_link::process::ServerProcess, Client, Flight) {
    let (server, admin) = crate::auth::server(&[]).await;
    admin.run("CREATE NAMESPACE chat").await;
    admin.run("CREATE USER TABLE chat.notes (id BIGINT PRIMARY KEY)").await;
    admin.run("CREATE USER ana PASSWORD 'a good password'").await;
    let mut flight = stranger(&Client::connect(&server.endpoint()).await);
    flight.handshake("ana", "a good password").await.unwrap();
    (server, admin, flight)
}

#[tokio::test]
async fn the_schema_is_the_namespace_of_unqualified_names() {
    let (_server, _admin, mut flight) = with_session().await;
    let sql = "SELECT count(*) FROM notes";
    let failure = failure(flight.execute(sql.to_owned(), None).await.unwrap_err());
    assert_eq!(failure.reason, "NAMESPACE_REQUIRED");
    let (errors, cookie) = set(&mut flight, &[("schema", text("chat")), ("catalog", text("kalamdb"))]).await;
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(cookie, None, "the token finds them");
    assert_eq!(rows(&mut flight, sql).await, ["0"]);
    assert_eq!(get(&mut flight).await, HashMap::from([("schema", "chat"), ("catalog", "kalamdb")].map(owned)));
    // A statement keeps the namespace that it was prepared with.
    let mut prepared = flight.prepare(sql.to_owned(), None).await.unwrap();
    set(&mut flight, &[("schema", text(""))]).await;
    let info = prepared.execute().await.unwrap();
    assert_eq!(super::shown(&super::read(&mut flight, info).await.unwrap()), ["0"]);
    fails(flight.execute(sql.to_owned(), None).await, "NAMESPACE_REQUIRED", tonic::Code::InvalidArgument);
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn what_cannot_be_set_is_said_by_name() {
    let (_server, _admin, mut flight) = with_session().await;
    let truth = |truth| SessionOptionValue { truth: Some(truth), ..SessionOptionValue::default() };
    let double = SessionOptionValue { double: Some(1.5), ..SessionOptionValue::default() };
    let (errors, _) = set(
        &mut flight,
        &[
            ("schema", text("nothing")),
            ("catalog", text("other")),
            ("autocommit", truth(false)),
            ("kalamdb.ingest.atomic", truth(false)),
            ("kalamdb.ingest.access", text("everybody")),
            ("kalamdb.ingest.table_type", double),
        ],
    )
    .await;
    let expected = [
        ("schema", INVALID_VALUE),
        ("catalog", INVALID_VALUE),
        ("autocommit", INVALID_NAME),
        ("kalamdb.ingest.access", INVALID_VALUE),
        ("kalamdb.ingest.table_type", INVALID_VALUE),
    ];
    assert_eq!(errors, expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    assert_eq!(get(&mut flight).await.get("kalamdb.ingest.atomic").map(String::as_str), Some("false"));
}

#[tokio::test]
async fn the_schema_of_a_url_is_a_header() {
    // As the driver for JDBC sends what it does not know.
    let client = client_with_rows().await;
    let namespace = client.namespace_name().to_owned();
    let mut flight = flight(&client.namespace(""));
    let sql = "SELECT count(*) FROM t";
    fails(flight.execute(sql.to_owned(), None).await, "NAMESPACE_REQUIRED", tonic::Code::InvalidArgument);
    flight.set_header("schema", namespace);
    assert_eq!(rows(&mut flight, sql).await, ["5"]);
    // The header that has no other meaning is before it.
    flight.set_header("x-kalamdb-namespace", "nothing");
    fails(flight.execute(sql.to_owned(), None).await, "NAMESPACE_NOT_FOUND", tonic::Code::NotFound);
}

#[tokio::test]
async fn without_a_session_a_cookie_finds_them() {
    // Of the localhost bypass, and of keys, there are no sessions.
    let client = client_with_rows().await;
    let namespace = client.namespace_name().to_owned();
    let mut flight = flight(&client.namespace(""));
    let body = SetSessionOptionsRequest { session_options: HashMap::from([("schema".to_owned(), text(&namespace))]) };
    let request = client.request(Action::new("SetSessionOptions", body.encode_to_vec()));
    let response = flight.inner_mut().do_action(request).await.unwrap();
    let cookie = response.metadata().get("set-cookie").unwrap().to_str().unwrap().to_owned();
    let sql = "SELECT count(*) FROM t";
    fails(flight.execute(sql.to_owned(), None).await, "NAMESPACE_REQUIRED", tonic::Code::InvalidArgument);
    flight.set_header("cookie", cookie.clone());
    assert_eq!(rows(&mut flight, sql).await, ["5"]);
    act(&mut flight, "CloseSession", Vec::new()).await.unwrap();
    fails(flight.execute(sql.to_owned(), None).await, "NAMESPACE_REQUIRED", tonic::Code::InvalidArgument);
}
