//! Encrypted connections.

use std::{path::Path, time::Duration};

use kalam_link::process::{ServerProcess, ServerProcessBuilder};
use kalamdb_proto::v1::{CredentialKind, WhoAmIRequest};
use kalamdb_tests::{
    client::Client,
    http,
    server::start,
    tls::{self, Authority, Signed, replace},
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::support::eventually;

/// A folder with a server's certificate, and the authority that signed it.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new("of servers") };
        files.serve(&files.authority.server());
        files
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn serve(&self, signed: &Signed) {
        replace(Path::new(&self.path("cert.pem")), &signed.certificate);
        replace(Path::new(&self.path("key.pem")), &signed.key);
    }

    /// A server with TLS, and more settings.
    fn builder(&self, settings: &[(&str, &str)]) -> ServerProcessBuilder {
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        let tls = [("tls.cert_file", cert.as_str()), ("tls.key_file", &key), ("tls.reload_interval_ms", "100")];
        super::guarded(&[&tls[..], settings].concat())
    }
}

async fn admin_over(files: &Files, server: &ServerProcess, own: Option<&Signed>) -> Client {
    let key = server.first_api_key().await.unwrap();
    tls::client(server.address(), &files.authority.pem(), own).await.unwrap().api_key(&key)
}

#[tokio::test]
async fn calls_are_encrypted_and_plain_connections_get_nothing() {
    let files = Files::new();
    let server = start(files.builder(&[])).await;
    let admin = admin_over(&files, &server, None).await;
    assert_eq!(admin.scalar("SELECT 1 + 1").await, "2");

    // HTTP/1.1, for curl and gRPC-web.
    let mut stream = tls::connect(server.address(), &files.authority.pem(), None, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "the better one of both");
    stream.shutdown().await.unwrap();
    let mut stream = tls::connect(server.address(), &files.authority.pem(), None, &["http/1.1"]).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"), "{answer:?}");

    // Nothing but TLS.
    let plain = http::request(&server.address().to_string(), "GET", "/healthz", &[], b"").await;
    assert!(plain.is_err(), "{plain:?}");
    let other = Authority::new("another");
    assert!(tls::connect(server.address(), &other.pem(), None, &["h2"]).await.is_err(), "the client checks it, too");
    admin.run("SELECT 1").await;
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_is_let_go() {
    let files = Files::new();
    let server = start(files.builder(&[("tls.handshake_timeout_ms", "200")])).await;
    let mut silent = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut byte)).await;
    assert!(matches!(read.expect("the server hangs up"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn certificates_are_exchanged_while_the_server_runs() {
    let files = Files::new();
    let server = start(files.builder(&[])).await;
    let before = admin_over(&files, &server, None).await;
    before.run("SELECT 1").await;

    // Another authority's: whoever knows only that one can connect once it is there.
    let next = Authority::new("of servers, the next year");
    files.serve(&next.server());
    let key = server.first_api_key().await.unwrap();
    let reloaded = || async { tls::client(server.address(), &next.pem(), None).await.is_ok() };
    eventually("the new certificate is served", Duration::from_secs(20), reloaded).await;
    let after = tls::client(server.address(), &next.pem(), None).await.unwrap().api_key(&key);
    after.run("SELECT 1").await;
    before.run("SELECT 1").await;

    // What is wrong is not taken.
    replace(Path::new(&files.path("cert.pem")), "not a certificate");
    let said = || async { server.stderr_tail().contains("the old ones stay") };
    eventually("the log says so", Duration::from_secs(20), said).await;
    tls::client(server.address(), &next.pem(), None).await.unwrap().api_key(&key).run("SELECT 1").await;
}

#[tokio::test]
async fn clients_have_to_show_a_certificate_where_that_is_required() {
    let files = Files::new();
    let clients = Authority::new("of clients");
    std::fs::write(files.path("clients.pem"), clients.pem()).unwrap();
    let ca = files.path("clients.pem");
    let server = start(files.builder(&[("tls.client_ca_file", ca.as_str()), ("tls.client_auth", "required")])).await;
    let known = clients.client("somebody", &[]);
    let admin = admin_over(&files, &server, Some(&known)).await;
    admin.run("SELECT 1").await;
    let key = server.first_api_key().await.unwrap();
    let stranger = Authority::new("of others").client("somebody", &[]);
    for own in [None, Some(&stranger)] {
        // With TLS 1.3 the client learns of it after its own part of the handshake.
        let outcome = match tls::client(server.address(), &files.authority.pem(), own).await {
            Ok(client) => client.api_key(&key).try_run("SELECT 1").await.map(drop).map_err(|failure| failure.message),
            Err(error) => Err(error),
        };
        assert!(outcome.is_err(), "{own:?} was let in");
    }
    // A certificate lets a connection in, and is no credential unless that is configured.
    let nobody = tls::client(server.address(), &files.authority.pem(), Some(&known)).await.unwrap();
    nobody.fails("SELECT 1", "UNAUTHENTICATED", Code::Unauthenticated).await;
}

#[tokio::test]
async fn certificates_name_users() {
    for (kind, ana, nobody) in [
        ("common_name", ("ana", &[][..]), ("nobody", &["kalamdb:user:u-17"][..])),
        ("uri", ("x", &["https://example.com", "kalamdb:user:u-17"][..]), ("ana", &["kalamdb:user:nobody"][..])),
    ] {
        let files = Files::new();
        let clients = Authority::new("of clients");
        std::fs::write(files.path("clients.pem"), clients.pem()).unwrap();
        let ca = files.path("clients.pem");
        let settings =
            [("tls.client_ca_file", ca.as_str()), ("tls.client_auth", "optional"), ("tls.client_identity", kind)];
        let server = start(files.builder(&settings)).await;
        let admin = admin_over(&files, &server, None).await;
        admin.run("CREATE USER ana ID 'u-17'").await;
        let over =
            async |own: Option<&Signed>| tls::client(server.address(), &files.authority.pem(), own).await.unwrap();
        let named = clients.client(ana.0, ana.1);
        let client = over(Some(&named)).await;
        assert_eq!(client.scalar("SELECT CURRENT_USER()").await, "u-17", "{kind}");
        let me = client.auth().who_am_i(client.request(WhoAmIRequest {})).await.unwrap().into_inner();
        assert_eq!(me.credential(), CredentialKind::Certificate);
        // A credential of the call comes before that of the connection, and a wrong one is wrong.
        let key = server.first_api_key().await.unwrap();
        assert_eq!(client.api_key(&key).scalar("SELECT CURRENT_USER()").await, "admin");
        client.api_key("kdb_0123456789abcdef_x").fails("SELECT 1", "UNAUTHENTICATED", Code::Unauthenticated).await;
        let unknown = clients.client(nobody.0, nobody.1);
        over(Some(&unknown)).await.fails("SELECT 1", "UNAUTHENTICATED", Code::Unauthenticated).await;
        over(None).await.fails("SELECT 1", "UNAUTHENTICATED", Code::Unauthenticated).await;
        admin.run("ALTER USER ana DISABLE").await;
        client.fails("SELECT 1", "USER_DISABLED", Code::Unauthenticated).await;
    }
}
