//! One port, every protocol: gRPC, gRPC-web, Connect's unary JSON, plain HTTP; and the order of a stop.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use kalamdb_engine::SystemEnv;
use kalamdb_proto::v1::{
    ExecuteRequest, GetServerInfoRequest, ListSettingsRequest, LiveQuery, SubscribeRequest,
    admin_service_client::AdminServiceClient, query_service_client::QueryServiceClient, subscribe_response,
    subscribe_service_client::SubscribeServiceClient,
};
use kalamdb_server::{
    Server,
    config::{Flag, LoadedConfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Request, transport::Channel};
use tonic_types::StatusExt;

async fn start(settings: &[(&str, &str)]) -> Server {
    let mut flags = vec![
        Flag::new("--listen", "server.listen", "127.0.0.1:0"),
        Flag::new("--set", "storage.backend", "memory"),
        Flag::new("--dev", "server.dev", "true"),
    ];
    flags.extend(settings.iter().map(|(key, value)| Flag::new("--set", *key, *value)));
    let loaded = LoadedConfig::load(None::<PathBuf>.as_deref(), [], &flags).unwrap();
    Server::start(&loaded, Arc::new(SystemEnv)).await.unwrap()
}

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(format!("http://{}", server.address())).unwrap().connect().await.unwrap()
}

/// Sends a request over HTTP/1.1 and reads until the server closes.
async fn http(address: SocketAddr, request: &str, headers: &[&str], body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

const JSON: &str = "content-type: application/json";

#[tokio::test(flavor = "multi_thread")]
async fn grpc_knows_the_caller_and_the_user_it_acts_for() {
    let server = start(&[]).await;
    let mut client = AdminServiceClient::new(channel(&server).await);
    let info = client.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.user_id.as_str(), info.role.as_str()), ("system", "system"));
    assert_eq!(info.version, kalamdb_server::VERSION);

    let mut request = Request::new(GetServerInfoRequest {});
    request.metadata_mut().insert_bin("x-user-id-bin", tonic::metadata::MetadataValue::from_bytes("a\0🦀".as_bytes()));
    assert_eq!(client.get_server_info(request).await.unwrap().into_inner().user_id, "a\0🦀");

    let mut request = Request::new(GetServerInfoRequest {});
    request.metadata_mut().insert("x-forwarded-for", "10.0.0.1".parse().unwrap());
    let status = client.get_server_info(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.get_details_error_info().unwrap().reason, "UNAUTHENTICATED");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_dev_calls_are_refused_and_health_is_not() {
    let server = start(&[("server.dev", "false")]).await;
    let channel = channel(&server).await;
    let status = AdminServiceClient::new(channel.clone()).get_server_info(GetServerInfoRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("--dev"), "{status}");

    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    for service in ["", "kalamdb.v1.QueryService", "kalamdb.v1.SubscribeService", "kalamdb.v1.AdminService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_settings_have_their_sources() {
    let server = start(&[("limits.max_result_rows", "77")]).await;
    let mut client = AdminServiceClient::new(channel(&server).await);
    let mut settings = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = client.list_settings(ListSettingsRequest { page_size: 7, page_token }).await.unwrap().into_inner();
        assert!(page.settings.len() <= 7);
        settings.extend(page.settings);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let rows = settings.iter().find(|setting| setting.name == "limits.max_result_rows").unwrap();
    assert_eq!((rows.value.as_str(), rows.source.as_str()), ("77", "flag"));
    assert!(settings.iter().any(|setting| setting.source == "default"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_and_connect_share_the_port() {
    let server = start(&[]).await;
    let address = server.address();
    assert!(http(address, "GET /healthz", &[], b"").await.starts_with("HTTP/1.1 200"));
    assert!(http(address, "GET /readyz", &[], b"").await.ends_with("ready\n"));
    assert!(http(address, "GET /other", &[], b"").await.starts_with("HTTP/1.1 404"));

    let info = http(address, "POST /kalamdb.v1.AdminService/GetServerInfo", &[JSON, "x-user-id: zoë"], b"{}").await;
    assert!(info.starts_with("HTTP/1.1 200") && info.contains("\"userId\":\"zoë\""), "{info}");
    let wrong = http(address, "POST /kalamdb.v1.AdminService/GetServerInfo", &[JSON], b"{\"x\":1}").await;
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("\"reason\":\"INVALID_REQUEST\""), "{wrong}");
    let unknown = http(address, "POST /kalamdb.v1.AdminService/Nothing", &[JSON], b"{}").await;
    assert!(unknown.starts_with("HTTP/1.1 501") && unknown.contains("\"code\":\"unimplemented\""), "{unknown}");
    let stream = http(address, "POST /kalamdb.v1.QueryService/ExecuteStream", &[JSON], b"{}").await;
    assert!(stream.contains("gRPC"), "{stream}");
    let media = http(address, "POST /kalamdb.v1.QueryService/Execute", &["content-type: text/plain"], b"{}").await;
    assert!(media.starts_with("HTTP/1.1 415"), "{media}");

    let metrics = http(address, "GET /metrics", &[], b"").await;
    let counted = "kalamdb_rpc_total{method=\"kalamdb.v1.AdminService/GetServerInfo\",code=\"OK\"}";
    assert!(metrics.contains(counted), "{metrics}");
    for name in ["kalamdb_rpc_seconds_bucket", "process_resident_memory_bytes", "kalamdb_uptime_seconds"] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_speak_grpc_web_if_their_page_may() {
    let server = start(&[("cors.allowed_origins", "https://app.example")]).await;
    let address = server.address();
    let path = "/kalamdb.v1.AdminService/GetServerInfo";
    let empty_message = [0u8; 5];
    let web = "content-type: application/grpc-web+proto";
    let answer = http(address, &format!("POST {path}"), &[web, "origin: https://app.example"], &empty_message).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("grpc-status:0"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://app.example"), "{answer}");

    let other = http(address, &format!("POST {path}"), &[web, "origin: https://evil.example"], &empty_message).await;
    assert!(other.contains("grpc-status: 16") && !other.contains("access-control-allow-origin"), "{other}");

    let asks = ["access-control-request-method: POST", "access-control-request-headers: content-type,x-grpc-web"];
    let preflight =
        http(address, &format!("OPTIONS {path}"), &["origin: http://localhost:3000", asks[0], asks[1]], b"").await;
    assert!(preflight.contains("access-control-allow-origin: http://localhost:3000"), "{preflight}");
    assert!(preflight.contains("access-control-allow-headers: content-type,x-grpc-web"), "{preflight}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_request_is_refused_with_a_reason() {
    let server = start(&[("limits.max_request_bytes", "2000")]).await;
    let mut client = QueryServiceClient::new(channel(&server).await);
    let status = client.execute(ExecuteRequest { sql: "x".repeat(3_000), ..Default::default() }).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.metadata["limit"].as_str()),
        ("STATEMENT_TOO_LARGE", "limits.max_request_bytes")
    );

    let status = client.execute(ExecuteRequest { format: 99, ..Default::default() }).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_REQUEST", "{status}");

    let path = "POST /kalamdb.v1.QueryService/Execute";
    let large =
        http(server.address(), path, &[JSON], format!("{{\"sql\":\"{}\"}}", "x".repeat(3_000)).as_bytes()).await;
    assert!(large.starts_with("HTTP/1.1 429") && large.contains("limits.max_request_bytes"), "{large}");
    // A message of three bytes that is no ExecuteRequest.
    let garbage = [0, 0, 0, 0, 3, 0xff, 0xff, 0xff];
    let answer = http(server.address(), path, &["content-type: application/grpc-web"], &garbage).await;
    assert!(answer.contains("grpc-status: 3"), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_idle_connections() {
    let server = start(&[("server.shutdown_grace_ms", "60000")]).await;
    let address = server.address();
    let channel = channel(&server).await;
    AdminServiceClient::new(channel.clone()).get_server_info(GetServerInfoRequest {}).await.unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"POST /kalamdb.v1.QueryService/Execute HTTP/1.1\r\ncontent-le").await.unwrap();
    sleep(Duration::from_millis(100)).await;

    let begun = Instant::now();
    timeout(Duration::from_secs(10), server.stop()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut rest = Vec::new();
    let closed = timeout(Duration::from_secs(1), silent.read_to_end(&mut rest)).await.unwrap();
    assert!(closed.is_err() || rest.is_empty());
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    drop(channel);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_queries_take_no_place_of_calls_and_end_with_the_server() {
    let server = start(&[("limits.max_concurrent_calls", "2"), ("server.shutdown_grace_ms", "60000")]).await;
    let mut client = QueryServiceClient::new(channel(&server).await);
    let sql = "CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY)".to_owned();
    client.execute(ExecuteRequest { sql, ..Default::default() }).await.unwrap();
    let request = || SubscribeRequest {
        queries: vec![LiveQuery { sql: "SUBSCRIBE TO app.t".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let mut subscriber = SubscribeServiceClient::new(channel(&server).await);
    let mut first = subscriber.subscribe(request()).await.unwrap().into_inner();
    let mut second = subscriber.subscribe(request()).await.unwrap().into_inner();
    let insert = ExecuteRequest { sql: "INSERT INTO app.t VALUES (1)".to_owned(), ..Default::default() };
    client.execute(insert).await.unwrap();
    for stream in [&mut first, &mut second] {
        loop {
            match stream.message().await.unwrap().unwrap().event.unwrap() {
                subscribe_response::Event::Changes(changes) => break assert_eq!(changes.commits.len(), 1),
                subscribe_response::Event::Rows(rows) => break assert_eq!(rows.row_count, 1),
                _ => {}
            }
        }
    }
    let path = "POST /kalamdb.v1.SubscribeService/Subscribe";
    let json = http(server.address(), path, &[JSON], b"{}").await;
    assert!(json.contains("gRPC"), "{json}");
    let empty = http(server.address(), path, &["content-type: application/grpc-web+proto"], &[0; 5]).await;
    assert!(empty.contains("grpc-status: 3"), "{empty}");

    let begun = Instant::now();
    let reading = tokio::spawn(async move {
        loop {
            match second.message().await {
                Ok(Some(_)) => {}
                other => break other.unwrap_err(),
            }
        }
    });
    // The other one is not read.
    timeout(Duration::from_secs(20), server.stop()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let status = reading.await.unwrap();
    assert_eq!(status.get_details_error_info().unwrap().reason, "SHUTTING_DOWN", "{status}");
    drop(first);
}
