//! One port for gRPC, gRPC-web, Connect's unary JSON and plain HTTP.

use kalamdb_proto::v1::ExecuteResponse;
use kalamdb_tests::{
    client::{Answer, Client, Options},
    http::{grpc_frame, grpc_frames, request},
    server::shared_url,
};
use prost::Message;
use serde_json::json;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::client_with_rows;

const EXECUTE: &str = "/kalamdb.v1.QueryService/Execute";

fn address() -> &'static str {
    shared_url().trim_start_matches("http://")
}

/// Headers that every call of a suite's user carries.
fn as_alice(content_type: &str) -> Vec<(&str, &str)> {
    vec![("content-type", content_type), ("x-user-id", "alice")]
}

#[tokio::test]
async fn grpc_web_over_http1() {
    let client = client_with_rows().await;
    let message = client.execute_request("SELECT name FROM t WHERE id = 2", Options::default()).encode_to_vec();
    let mut headers = as_alice("application/grpc-web+proto");
    headers.push(("x-grpc-web", "1"));
    let response = request(address(), "POST", EXECUTE, &headers, &grpc_frame(&message)).await.unwrap();
    assert_eq!(response.status, 200);
    assert!(response.header("content-type").starts_with("application/grpc-web"), "{response:?}");
    let frames = grpc_frames(&response.body);
    let answer = ExecuteResponse::decode(frames[0].1.as_slice()).unwrap();
    assert_eq!(Answer(answer.results[0].clone()).shown(), ["two"]);
    let (flags, trailers) = frames.last().unwrap();
    assert_eq!(flags & 0x80, 0x80, "the last frame holds the trailers");
    assert!(String::from_utf8_lossy(trailers).replace(' ', "").contains("grpc-status:0"), "{trailers:?}");
}

#[tokio::test]
async fn grpc_web_errors_carry_details() {
    let client = client_with_rows().await;
    let message = client.execute_request("SELECT * FROM missing", Options::default()).encode_to_vec();
    let headers = as_alice("application/grpc-web+proto");
    let response = request(address(), "POST", EXECUTE, &headers, &grpc_frame(&message)).await.unwrap();
    let trailers = match grpc_frames(&response.body).last() {
        Some((_, trailers)) => String::from_utf8_lossy(trailers).into_owned(),
        // A refusal without a message may come in the headers.
        None => format!("{:?}", response.headers),
    };
    for expected in ["grpc-status", "5", "grpc-status-details-bin"] {
        assert!(trailers.contains(expected), "{expected} in {trailers}");
    }
}

#[tokio::test]
async fn grpc_web_text_for_old_browsers() {
    let client = client_with_rows().await;
    let message = client.execute_request("SELECT 1", Options::default()).encode_to_vec();
    let body = base64(&grpc_frame(&message));
    let mut headers = as_alice("application/grpc-web-text");
    headers.push(("accept", "application/grpc-web-text"));
    let response = request(address(), "POST", EXECUTE, &headers, body.as_bytes()).await.unwrap();
    assert_eq!(response.status, 200);
    assert!(response.header("content-type").starts_with("application/grpc-web-text"), "{response:?}");
    assert!(!response.body.is_empty() && response.body.is_ascii());
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let word = chunk.iter().chain([0, 0].iter()).take(3).fold(0u32, |word, byte| word << 8 | u32::from(*byte));
            let digit = move |i: usize| ALPHABET[(word >> (18 - 6 * i)) as usize & 63] as char;
            (0..4).map(move |i| if i <= chunk.len() { digit(i) } else { '=' })
        })
        .collect()
}

#[tokio::test]
async fn a_browsers_preflight_is_answered() {
    let preflight = |origin: &'static str| async move {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-grpc-web,x-user-id"),
        ];
        request(address(), "OPTIONS", EXECUTE, &headers, b"").await.unwrap()
    };
    let local = preflight("http://localhost:5173").await;
    assert_eq!(local.status, 200, "{local:?}");
    assert_eq!(local.header("access-control-allow-origin"), "http://localhost:5173");
    assert!(local.header("access-control-allow-headers").contains("x-grpc-web"), "{local:?}");
    let foreign = preflight("https://evil.example").await;
    assert_eq!(foreign.header("access-control-allow-origin"), "", "{foreign:?}");
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_even_without_preflight() {
    let mut headers = as_alice("application/json");
    headers.push(("origin", "https://evil.example"));
    let response = request(address(), "POST", EXECUTE, &headers, br#"{"sql":"SELECT 1"}"#).await.unwrap();
    assert_eq!(response.status, 401, "{response:?}");
}

#[tokio::test]
async fn connect_json_over_http1() {
    let client = client_with_rows().await;
    let body = json!({
        "sql": "SELECT id, name, n FROM t WHERE id >= $1 ORDER BY id LIMIT 1; UPDATE t SET n = 21 WHERE id = 2",
        "namespace": client.namespace_name(),
        "parameters": [{"intValue": "2"}],
    });
    let headers = as_alice("application/json");
    let response = request(address(), "POST", EXECUTE, &headers, body.to_string().as_bytes()).await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.header("content-type").starts_with("application/json"));
    let answer = response.json();
    let values = &answer["results"][0]["rows"]["rows"][0]["values"];
    assert_eq!(
        values,
        &json!([{"intValue": "2"}, {"textValue": "two"}, {"intValue": "20"}]),
        "64-bit integers are strings"
    );
    assert_eq!(answer["results"][1]["affected"]["rowCount"], "1");

    let body = json!({"sql": "SELECT 9223372036854775807 AS big, NULL AS nothing"});
    let response = request(address(), "POST", EXECUTE, &headers, body.to_string().as_bytes()).await.unwrap();
    let values = &response.json()["results"][0]["rows"]["rows"][0]["values"];
    assert_eq!(values[0]["intValue"], "9223372036854775807");
}

#[tokio::test]
async fn connect_errors_are_json() {
    let headers = as_alice("application/json");
    let send = |body: &'static [u8]| {
        let headers = headers.clone();
        async move { request(address(), "POST", EXECUTE, &headers, body).await.unwrap() }
    };
    let missing = send(br#"{"sql":"SELECT * FROM nowhere.t"}"#).await;
    assert_eq!((missing.status, missing.json()["code"].as_str()), (404, Some("not_found")), "{}", missing.text());
    let details = missing.json()["details"].to_string();
    assert!(details.contains("google.rpc.ErrorInfo"), "{details}");
    for bad in [&b"{"[..], b"[1,2]", br#"{"sql":7}"#, br#"{"no_such_field":1}"#, b"\xff\xfe"] {
        let response = send(bad).await;
        assert_eq!(
            (response.status, response.json()["code"].as_str()),
            (400, Some("invalid_argument")),
            "{}",
            response.text()
        );
    }
    let admin = "/kalamdb.v1.AdminService/GetServerInfo";
    let info = request(address(), "POST", admin, &headers, b"{}").await.unwrap();
    assert_eq!((info.status, info.json()["userId"].as_str()), (200, Some("alice")), "{}", info.text());
    let nothing = request(address(), "POST", "/kalamdb.v1.QueryService/Nothing", &headers, b"{}").await.unwrap();
    assert_eq!(nothing.json()["code"], "unimplemented");
    let other = request(address(), "POST", EXECUTE, &[("content-type", "text/html")], b"x").await.unwrap();
    assert_eq!(other.status, 415);
}

#[tokio::test]
async fn metrics_and_probes_answer_plain_http() {
    let client = client_with_rows().await;
    client.fails("SELECT * FROM missing", "TABLE_NOT_FOUND", tonic::Code::NotFound).await;
    for probe in ["/healthz", "/readyz"] {
        let response = request(address(), "GET", probe, &[], b"").await.unwrap();
        assert_eq!(response.status, 200, "{probe}: {}", response.text());
    }
    let metrics = request(address(), "GET", "/metrics", &[], b"").await.unwrap();
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("text/plain"), "{:?}", metrics.headers);
    let text = metrics.text();
    for name in ["kalamdb_commits_total", "kalamdb_commit_seconds"] {
        assert!(text.contains(name), "{name} in the metrics");
    }
    assert!(text.lines().any(|line| line.contains("Execute") && line.contains("method")), "calls by method\n{text}");
    assert!(!text.contains("alice"), "no user in a metric");
    let nothing = request(address(), "GET", "/nothing", &[], b"").await.unwrap();
    assert_eq!(nothing.status, 404);
}

#[tokio::test]
async fn health_and_reflection_are_standard() {
    let client = Client::connect(shared_url()).await;
    let mut health = HealthClient::new(client.channel());
    for service in ["", "kalamdb.v1.QueryService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }

    let mut reflection = ServerReflectionClient::new(client.channel());
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection.server_reflection_info(futures::stream::iter([list])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else { panic!("{answer:?}") };
    let names: Vec<String> = services.service.into_iter().map(|service| service.name).collect();
    for name in ["kalamdb.v1.QueryService", "kalamdb.v1.AdminService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|served| served == name), "{name} in {names:?}");
    }
}
