//! The handshake: a password, or a key in its place, for a bearer token.

use arrow_flight::{BasicAuth, HandshakeRequest};
use futures::stream;
use kalam_link::process::ServerProcess;
use kalamdb_tests::client::{Client, Failure};
use prost::Message;
use tonic::{Code, Request};

use super::{Flight, act, fails, rows, stranger};
use crate::auth;

const PASSWORD: &str = "correct horse battery: staple";

/// A server with a user `ana` that has a password, its administrator, and a connection of nobody.
async fn with_ana(settings: &[(&str, &str)]) -> (ServerProcess, Client, Client) {
    let (server, admin) = auth::server(settings).await;
    admin.run(&format!("CREATE USER ana PASSWORD '{PASSWORD}'")).await;
    let nobody = Client::connect(&server.endpoint()).await;
    (server, admin, nobody)
}

/// The error of a handshake that arrow-flight's client makes a text of.
async fn refused(nobody: &Client, username: &str, password: &str) -> String {
    stranger(nobody).handshake(username, password).await.unwrap_err().to_string()
}

async fn who(flight: &mut Flight) -> String {
    rows(flight, "SELECT CURRENT_USER()").await.concat()
}

#[tokio::test]
async fn a_password_becomes_a_token() {
    let (_server, admin, nobody) = with_ana(&[]).await;
    let ana_id = admin.scalar("SELECT user_id FROM system.users WHERE username = 'ana'").await;
    let mut flight = stranger(&nobody);
    fails(flight.execute("SELECT 1".to_owned(), None).await, "UNAUTHENTICATED", Code::Unauthenticated);
    let payload = flight.handshake("ana", PASSWORD).await.unwrap();
    assert_eq!(flight.token().map(String::as_bytes), Some(payload.as_ref()), "the header and the message say the same");
    assert_eq!(who(&mut flight).await, ana_id);
    // It is a token like any other.
    assert_eq!(nobody.token(flight.token().unwrap()).scalar("SELECT CURRENT_USER()").await, ana_id);
    for (username, password) in [("ana", "wrong"), ("nobody", PASSWORD), ("ana", ""), ("", PASSWORD)] {
        let error = refused(&nobody, username, password).await;
        assert!(error.contains("Unauthenticated") || error.contains("credential"), "{error}");
    }
}

#[tokio::test]
async fn a_key_stands_for_a_password() {
    let (_server, admin, nobody) = with_ana(&[]).await;
    let key = auth::key_of(&admin, "ana").await;
    for username in ["token", ""] {
        let mut flight = stranger(&nobody);
        flight.handshake(username, &key).await.unwrap();
        assert_eq!(flight.token(), Some(&key), "a key is good as it is");
        assert_eq!(rows(&mut flight, "SELECT 1").await, ["1"]);
    }
    // Another name is that of a user, whose password the key is not.
    refused(&nobody, "ana", &key).await;
    refused(&nobody, "token", "kdb_0000000000_forged").await;
    let id = key.split('_').nth(1).unwrap();
    admin.run(&format!("REVOKE API KEY '{id}'")).await;
    refused(&nobody, "token", &key).await;
}

#[tokio::test]
async fn older_clients_send_a_message() {
    let (_server, _admin, nobody) = with_ana(&[]).await;
    let shake = |payload: Vec<u8>| {
        let mut client = stranger(&nobody).into_inner();
        async move {
            let request = HandshakeRequest { protocol_version: 0, payload: payload.into() };
            let mut answers = client.handshake(Request::new(stream::iter([request]))).await?.into_inner();
            answers.message().await
        }
    };
    let auth = BasicAuth { username: "ana".to_owned(), password: PASSWORD.to_owned() };
    let answer = shake(auth.encode_to_vec()).await.unwrap().unwrap();
    let mut flight = stranger(&nobody);
    flight.set_token(String::from_utf8(answer.payload.to_vec()).unwrap());
    assert_eq!(rows(&mut flight, "SELECT 1").await, ["1"]);
    for payload in [Vec::new(), b"\xff\xff".to_vec(), vec![b'x'; 100_000]] {
        let failure: Failure = shake(payload).await.unwrap_err().into();
        assert_eq!(failure.code, Code::Unauthenticated, "{failure:?}");
    }
}

#[tokio::test]
async fn headers_that_are_no_password_are_refused() {
    let (_server, _admin, nobody) = with_ana(&[]).await;
    for value in ["Basic", "Basic !", "Basic YW5h", "Bearer abc", "ana:secret"] {
        let mut request = Request::new(stream::iter(Vec::<HandshakeRequest>::new()));
        request.metadata_mut().insert("authorization", value.parse().unwrap());
        let mut client = stranger(&nobody).into_inner();
        let failure: Failure = client.handshake(request).await.map(drop).unwrap_err().into();
        assert_eq!((failure.code, failure.reason.as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"), "{value}");
        assert!(!failure.message.contains("abc") && !failure.message.contains("secret"), "{}", failure.message);
    }
}

#[tokio::test]
async fn guessing_is_limited() {
    let (_server, _admin, nobody) = with_ana(&[("auth.max_failures_per_account", "3")]).await;
    for _ in 0..5 {
        refused(&nobody, "ana", "wrong").await;
    }
    let error = refused(&nobody, "ana", PASSWORD).await;
    assert!(error.contains("attempts") || error.contains("TooMany") || error.contains("exhausted"), "{error}");
}

#[tokio::test]
async fn closing_the_session_ends_the_token() {
    let (_server, admin, nobody) = with_ana(&[]).await;
    let mut first = stranger(&nobody);
    first.handshake("ana", PASSWORD).await.unwrap();
    let mut second = stranger(&nobody);
    second.handshake("ana", PASSWORD).await.unwrap();
    act(&mut first, "CloseSession", Vec::new()).await.unwrap();
    fails(first.execute("SELECT 1".to_owned(), None).await, "CREDENTIAL_REVOKED", Code::Unauthenticated);
    assert_eq!(rows(&mut second, "SELECT 1").await, ["1"], "another session goes on");
    // So does that of a token of Login.
    let login = kalamdb_proto::v1::LoginRequest { username: "ana".to_owned(), password: PASSWORD.to_owned() };
    let tokens = nobody.auth().login(login).await.unwrap().into_inner().tokens.unwrap();
    let mut by_login = stranger(&nobody);
    by_login.set_token(tokens.access_token);
    assert_eq!(rows(&mut by_login, "SELECT 1").await, ["1"]);
    act(&mut by_login, "CloseSession", Vec::new()).await.unwrap();
    fails(by_login.execute("SELECT 1".to_owned(), None).await, "CREDENTIAL_REVOKED", Code::Unauthenticated);
    // A key is of no session, and stays.
    let key = auth::key_of(&admin, "ana").await;
    let mut by_key = stranger(&nobody);
    by_key.set_token(key);
    act(&mut by_key, "CloseSession", Vec::new()).await.unwrap();
    assert_eq!(rows(&mut by_key, "SELECT 1").await, ["1"]);
}

#[tokio::test]
async fn the_token_lasts_as_long_as_its_session() {
    let settings = [("auth.token_lifetime_s", "1"), ("flight.session_lifetime_s", "3600")];
    let (_server, _admin, nobody) = with_ana(&settings).await;
    let mut flight = stranger(&nobody);
    flight.handshake("ana", PASSWORD).await.unwrap();
    // One that AuthService.Login gives lasts a second: once it has expired, so would this one have.
    let login = kalamdb_proto::v1::LoginRequest { username: "ana".to_owned(), password: PASSWORD.to_owned() };
    let tokens = nobody.auth().login(login).await.unwrap().into_inner().tokens.unwrap();
    let short = nobody.token(&tokens.access_token);
    crate::support::eventually("the token of Login expires", std::time::Duration::from_secs(30), || async {
        short.try_run("SELECT 1").await.is_err()
    })
    .await;
    assert_eq!(rows(&mut flight, "SELECT 1").await, ["1"]);
}
