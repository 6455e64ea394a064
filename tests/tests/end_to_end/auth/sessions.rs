//! Passwords, the tokens that they are exchanged for, and guessing.

use std::time::{Duration, Instant};

use kalamdb_proto::v1::{
    CredentialKind, LoginRequest, LoginResponse, LogoutRequest, RefreshRequest, RefreshResponse, WhoAmIRequest,
    WhoAmIResponse,
};
use kalamdb_tests::{
    client::{Client, Failure},
    http,
};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{key_of, server};
use crate::support::eventually;

const PASSWORD: &str = "correct horse battery staple";

async fn try_login(client: &Client, username: &str, password: &str) -> Result<LoginResponse, Status> {
    let request = LoginRequest { username: username.to_owned(), password: password.to_owned() };
    client.auth().login(request).await.map(tonic::Response::into_inner)
}

async fn login(client: &Client, username: &str) -> (String, String) {
    let answer = try_login(client, username, PASSWORD).await.unwrap();
    let tokens = answer.tokens.unwrap();
    (tokens.access_token, tokens.refresh_token)
}

async fn refresh(client: &Client, token: &str) -> Result<RefreshResponse, Failure> {
    let request = RefreshRequest { refresh_token: token.to_owned() };
    Ok(client.auth().refresh(request).await?.into_inner())
}

async fn who_am_i(client: &Client) -> Result<WhoAmIResponse, Failure> {
    Ok(client.auth().who_am_i(client.request(WhoAmIRequest {})).await?.into_inner())
}

async fn reason(client: &Client, token: &str) -> String {
    client.token(token).try_run("SELECT 1").await.err().map(|failure| failure.reason).unwrap_or_default()
}

#[tokio::test]
async fn a_password_becomes_tokens_that_are_renewed_and_end() {
    let (mut server, admin) = server(&[]).await;
    admin.run(&format!("CREATE USER ana PASSWORD '{PASSWORD}' ID 'u-17'")).await;
    let client = Client::connect(&server.endpoint()).await;
    let answer = try_login(&client, "ana", PASSWORD).await.unwrap();
    let identity = answer.identity.unwrap();
    assert_eq!(
        (identity.user_id.as_str(), identity.username.as_str(), identity.role.as_str()),
        ("u-17", "ana", "user")
    );
    let tokens = answer.tokens.unwrap();
    let (access, first) = (tokens.access_token, tokens.refresh_token);
    let ana = client.token(&access);
    assert_eq!(ana.scalar("SELECT CURRENT_USER()").await, "u-17");
    let me = who_am_i(&ana).await.unwrap();
    assert_eq!((me.effective_user_id.as_str(), me.credential()), ("u-17", CredentialKind::Session));

    // Sessions and their tokens outlive the server.
    server.restart().await.unwrap();
    let client = Client::connect(&server.endpoint()).await;
    assert_eq!(client.token(&access).scalar("SELECT CURRENT_USER()").await, "u-17");
    let renewed = refresh(&client, &first).await.unwrap().tokens.unwrap();
    assert_eq!(client.token(&renewed.access_token).scalar("SELECT CURRENT_USER()").await, "u-17");

    let logout = client.token(&renewed.access_token);
    client.auth().logout(logout.request(LogoutRequest {})).await.unwrap();
    for token in [&access, &renewed.access_token] {
        assert_eq!(reason(&client, token).await, "CREDENTIAL_REVOKED");
    }
    assert_eq!(refresh(&client, &renewed.refresh_token).await.unwrap_err().reason, "UNAUTHENTICATED");

    // Without a session there is nothing to log out of.
    let admin = Client::connect(&server.endpoint()).await.api_key(&server_key(&admin));
    let failure = Failure::from(client.auth().logout(admin.request(LogoutRequest {})).await.unwrap_err());
    assert_eq!((failure.reason.as_str(), failure.code), ("INVALID_REQUEST", Code::InvalidArgument));
}

fn server_key(client: &Client) -> String {
    let request = client.request(());
    request.metadata().get("x-api-key").unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_refresh_token_that_comes_twice_ends_its_session() {
    let (server, admin) = server(&[]).await;
    admin.run(&format!("CREATE USER ana PASSWORD '{PASSWORD}'")).await;
    let client = Client::connect(&server.endpoint()).await;
    let (access, first) = login(&client, "ana").await;
    let renewed = refresh(&client, &first).await.unwrap().tokens.unwrap();
    assert_eq!(refresh(&client, &first).await.unwrap_err().reason, "UNAUTHENTICATED");
    for token in [&access, &renewed.access_token] {
        assert_eq!(reason(&client, token).await, "CREDENTIAL_REVOKED");
    }
    assert_eq!(refresh(&client, &renewed.refresh_token).await.unwrap_err().reason, "UNAUTHENTICATED");
}

#[tokio::test]
async fn access_tokens_expire_and_a_new_password_ends_sessions() {
    let (server, admin) = server(&[("auth.token_lifetime_s", "1")]).await;
    admin.run(&format!("CREATE USER ana PASSWORD '{PASSWORD}'")).await;
    let client = Client::connect(&server.endpoint()).await;
    let (access, token) = login(&client, "ana").await;
    let expired = || async { reason(&client, &access).await == "CREDENTIAL_EXPIRED" };
    eventually("the token expires", Duration::from_secs(10), expired).await;
    let renewed = refresh(&client, &token).await.unwrap().tokens.unwrap();
    admin.run("ALTER USER ana PASSWORD 'another horse, another staple'").await;
    assert_eq!(refresh(&client, &renewed.refresh_token).await.unwrap_err().reason, "UNAUTHENTICATED");
    assert_eq!(try_login(&client, "ana", PASSWORD).await.unwrap_err().code(), Code::Unauthenticated);
    try_login(&client, "ana", "another horse, another staple").await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_login_is_not_said() {
    let (server, admin) = server(&[("auth.max_failures_per_address", "0")]).await;
    admin.run(&format!("CREATE USER ana PASSWORD '{PASSWORD}'")).await;
    admin.run("CREATE USER keyed").await;
    let client = Client::connect(&server.endpoint()).await;
    let mut messages = Vec::new();
    for (username, password) in [("ana", "wrong"), ("nobody", PASSWORD), ("keyed", ""), ("", ""), ("ana", "")] {
        let status = try_login(&client, username, password).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{username}");
        messages.push(status.message().to_owned());
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    admin.run("ALTER USER ana DISABLE").await;
    let failure = Failure::from(try_login(&client, "ana", PASSWORD).await.unwrap_err());
    assert_eq!(failure.reason, "USER_DISABLED", "the password was right");
    for token in ["", "kdr_", "kdr_0123456789abcdef_x", "x"] {
        assert_eq!(refresh(&client, token).await.unwrap_err().code, Code::Unauthenticated, "{token}");
    }
}

#[tokio::test]
async fn json_clients_log_in_too() {
    let (server, admin) = server(&[]).await;
    admin.run(&format!("CREATE USER ana PASSWORD '{PASSWORD}'")).await;
    let address = server.address().to_string();
    let post = async |method: &str, headers: &[(&str, &str)], body: serde_json::Value| {
        let path = format!("/kalamdb.v1.{method}");
        let headers: Vec<_> = headers.iter().copied().chain([("content-type", "application/json")]).collect();
        http::request(&address, "POST", &path, &headers, body.to_string().as_bytes()).await.unwrap()
    };
    let answer = post("AuthService/Login", &[], json!({ "username": "ana", "password": PASSWORD })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tokens = answer.json()["tokens"].clone();
    let bearer = format!("Bearer {}", tokens["accessToken"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let answer = post("AuthService/WhoAmI", &headers, json!({})).await;
    assert_eq!(answer.json()["identity"]["userId"], "ana", "{}", answer.text());
    let answer = post("QueryService/Execute", &headers, json!({ "sql": "SELECT CURRENT_USER()" })).await;
    assert!(answer.text().contains("ana"), "{}", answer.text());
    let answer = post("AuthService/Refresh", &[], json!({ "refreshToken": tokens["refreshToken"] })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = post("AuthService/Login", &[], json!({ "username": "ana", "password": "wrong" })).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("unauthenticated")));
    assert!(!answer.text().contains("wrong\""));
}

#[tokio::test]
async fn guessing_is_stopped_for_the_account_and_for_the_address() {
    let settings = [
        ("auth.max_failures_per_account", "5"),
        ("auth.max_failures_per_address", "12"),
        ("auth.failure_window_s", "10"),
    ];
    let (server, admin) = server(&settings).await;
    for user in ["ana", "bob"] {
        admin.run(&format!("CREATE USER {user} PASSWORD '{PASSWORD}'")).await;
    }
    let good = key_of(&admin, "bob").await;
    let client = Client::connect(&server.endpoint()).await;
    let (token, _) = login(&client, "bob").await;
    client.token(&token).run("SELECT 1").await;
    let first = Instant::now();
    for _ in 0..5 {
        assert_eq!(try_login(&client, "ana", "guess").await.unwrap_err().code(), Code::Unauthenticated);
    }
    let status = try_login(&client, "ana", PASSWORD).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "the right password, too late");
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("when to try again");
    assert!(delay <= Duration::from_secs(10), "{delay:?}");
    let failure = Failure::from(status);
    assert_eq!(
        (failure.reason.as_str(), failure.meta("limit")),
        ("TOO_MANY_ATTEMPTS", "auth.max_failures_per_account")
    );
    try_login(&client, "bob", PASSWORD).await.expect("another account");

    for _ in 0..7 {
        let failure = client.api_key("kdb_0123456789abcdef_x").try_run("SELECT 1").await.unwrap_err();
        assert_eq!(failure.code, Code::Unauthenticated);
    }
    for stranger in [client.api_key("kdb_0123456789abcdef_x"), client.token("a.b.c")] {
        let failure = stranger.try_run("SELECT 1").await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.code), ("TOO_MANY_ATTEMPTS", Code::ResourceExhausted));
        assert_eq!(failure.meta("limit"), "auth.max_failures_per_address");
    }
    assert_eq!(try_login(&client, "bob", PASSWORD).await.unwrap_err().code(), Code::ResourceExhausted);
    // What is known to be good goes on: others at the same address may be somebody else.
    client.api_key(&good).run("SELECT 1").await;
    client.token(&token).run("SELECT 1").await;

    let answer = http::request(&server.address().to_string(), "GET", "/metrics", &[], b"").await.unwrap();
    for name in ["kalamdb_auth_failures_total{credential=\"password\"", "kalamdb_auth_refused_unseen_total"] {
        assert!(answer.text().contains(name), "{name}");
    }
    let again = || async { try_login(&client, "ana", PASSWORD).await.is_ok() };
    eventually("it passes", Duration::from_secs(40), again).await;
    assert!(first.elapsed() >= Duration::from_secs(8), "after {:?}", first.elapsed());
}
