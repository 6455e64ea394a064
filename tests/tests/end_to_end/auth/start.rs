//! The first start, what needs a credential, and credentials that are none.

use std::time::Duration;

use kalam_link::process::ServerProcess;
use kalamdb_proto::v1::{CredentialKind, WhoAmIRequest};
use kalamdb_tests::{
    client::{Client, Failure},
    http,
    server::{server_with, start},
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{guarded, key_of, server};

#[tokio::test]
async fn the_first_start_makes_an_administrator_and_shows_its_key_once() {
    let (mut server, admin) = server(&[]).await;
    let key = server.first_api_key().await.unwrap();
    let said = server.stderr_tail();
    // What is kept of the server's output has keys crossed out.
    assert!(!said.contains(&key), "{said}");
    assert_eq!(said.matches("kdb_").count(), 1, "once, and in no line of the log: {said}");
    let me = admin.auth().who_am_i(admin.request(WhoAmIRequest {})).await.unwrap().into_inner();
    let identity = me.identity.clone().unwrap();
    assert_eq!((identity.username.as_str(), identity.role.as_str()), ("admin", "system"));
    assert_eq!(me.credential(), CredentialKind::ApiKey);
    assert_eq!(admin.rows("SELECT username, role FROM system.users").await, ["admin | system"]);

    server.restart().await.unwrap();
    assert!(!server.stderr_tail().contains("kdb_"), "{}", server.stderr_tail());
    let admin = Client::connect(&server.endpoint()).await.api_key(&key);
    assert_eq!(admin.scalar("SELECT count(*) FROM system.users").await, "1");
}

#[tokio::test]
async fn with_dev_there_is_no_first_administrator_and_credentials_count() {
    let server = server_with(&[]).await;
    let bypass = Client::connect(&server.endpoint()).await;
    assert_eq!(bypass.scalar("SELECT count(*) FROM system.users").await, "0");
    bypass.run("CREATE USER ana").await;
    let ana = bypass.api_key(&key_of(&bypass, "ana").await);
    assert_eq!(ana.scalar("SELECT CURRENT_USER()").await, "ana");
    ana.fails("CREATE NAMESPACE mine", "PERMISSION_DENIED", Code::PermissionDenied).await;
    let me = bypass.auth().who_am_i(bypass.request(WhoAmIRequest {})).await.unwrap().into_inner();
    assert_eq!(me.credential(), CredentialKind::LocalhostBypass);
    for wrong in [bypass.api_key("kdb_0123456789abcdef_x"), bypass.token("a.b.c")] {
        wrong.fails("SELECT 1", "UNAUTHENTICATED", Code::Unauthenticated).await;
    }
}

#[tokio::test]
async fn credentials_that_are_none_or_two_are_refused() {
    let (server, admin) = server(&[("auth.max_failures_per_address", "0")]).await;
    let key = server.first_api_key().await.unwrap();
    let client = Client::connect(&server.endpoint()).await;
    let bearer = format!("Bearer {key}");
    let refused = async |headers: &[(&'static str, &str)]| {
        let mut request = client.request(client.execute_request("SELECT 1", Default::default()));
        for (name, value) in headers {
            request.metadata_mut().append(*name, value.parse().unwrap());
        }
        let outcome = client.query_service().execute(request).await;
        outcome.err().map(|status| Failure::from(status).reason)
    };
    assert_eq!(refused(&[("authorization", &bearer)]).await, None);
    assert_eq!(refused(&[("x-api-key", &key)]).await, None);
    let other = format!("{}x", &key[..key.len() - 1]);
    for headers in [
        &[][..],
        &[("authorization", bearer.as_str()), ("x-api-key", key.as_str())][..],
        &[("x-api-key", key.as_str()), ("x-api-key", key.as_str())][..],
        &[("authorization", key.as_str())][..],
        &[("authorization", "Basic YWRtaW46YWRtaW4=")][..],
        &[("x-api-key", other.as_str())][..],
        &[("x-api-key", &key[..key.len() - 1])][..],
        &[("x-api-key", "kdb_")][..],
        &[("x-api-key", "admin")][..],
        // Nobody is let in for coming from this machine, or for saying so.
        &[("x-forwarded-for", "127.0.0.1")][..],
        &[("x-user-id", "admin")][..],
    ] {
        assert_eq!(refused(headers).await.as_deref(), Some("UNAUTHENTICATED"), "{headers:?}");
    }
    admin.fails("SELECT 1 FROM", "SYNTAX_ERROR", Code::InvalidArgument).await;
    for user in ["nobody", "../admin"] {
        admin.user(user).fails("SELECT 1", "USER_NOT_FOUND", Code::NotFound).await;
    }
}

#[tokio::test]
async fn health_is_open_and_metrics_are_for_whom_they_are_meant() {
    let (server, admin) = server(&[("server.metrics_access", "credential")]).await;
    let mut health = HealthClient::new(admin.channel());
    health.check(HealthCheckRequest { service: "kalamdb.v1.AuthService".to_owned() }).await.unwrap();
    admin.run("CREATE USER ana").await;
    admin.run("CREATE USER bot ROLE service").await;
    let address = server.address().to_string();
    let get = async |path: &str, headers: &[(&str, &str)]| {
        http::request(&address, "GET", path, headers, b"").await.unwrap().status
    };
    assert_eq!((get("/healthz", &[]).await, get("/readyz", &[]).await), (200, 200));
    assert_eq!(get("/metrics", &[]).await, 401);
    assert_eq!(get("/metrics", &[("x-api-key", "kdb_x")]).await, 401);
    let (ana, bot) = (key_of(&admin, "ana").await, key_of(&admin, "bot").await);
    assert_eq!(get("/metrics", &[("x-api-key", &ana)]).await, 403);
    assert_eq!(get("/metrics", &[("authorization", &format!("Bearer {bot}"))]).await, 200);

    let server = start(guarded(&[])).await;
    let address = server.address().to_string();
    let get =
        async |headers: &[(&str, &str)]| http::request(&address, "GET", "/metrics", headers, b"").await.unwrap().status;
    assert_eq!(get(&[]).await, 200, "from this machine");
    assert_eq!(get(&[("x-forwarded-for", "192.0.2.1")]).await, 401, "for another");
}

#[tokio::test]
async fn a_server_that_others_can_reach_needs_no_more_than_credentials() {
    let server = start(ServerProcess::builder().dev(false).listen("0.0.0.0:0")).await;
    // What it writes there is read beside the test.
    let warned = async {
        while !server.stderr_tail().contains("nothing is encrypted") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), warned).await.expect("a warning");
    let key = server.first_api_key().await.unwrap();
    let client = Client::connect(&format!("http://127.0.0.1:{}", server.address().port())).await;
    client.fails("SELECT 1", "UNAUTHENTICATED", Code::Unauthenticated).await;
    client.api_key(&key).run("SELECT 1").await;
}
