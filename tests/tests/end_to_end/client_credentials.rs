//! `kalam-cli` and `kalam-link` against a server that asks who they are: the first key, passwords, sessions that are
//! renewed, TLS, and what becomes of a live query whose user may call no more.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use futures::StreamExt;
use kalam_link::{
    Client, CredentialKind, Error, ErrorKind, Subscription, SubscriptionEvent, Tls, process::ServerProcess,
};
use kalamdb_tests::server::{binary, start};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery staple";

/// A server without `--dev`, and the key that its first start has made.
async fn guarded(settings: &[(&str, &str)]) -> (ServerProcess, String) {
    let builder = settings.iter().fold(ServerProcess::builder().dev(false), |builder, (key, value)| {
        builder.args(["--set".to_owned(), format!("{key}={value}")])
    });
    let server = start(builder).await;
    let key = server.first_api_key().await.expect("a first start makes a key");
    (server, key)
}

async fn administrator(server: &ServerProcess, key: &str) -> Client {
    Client::builder(server.endpoint()).api_key(key).connect().await.unwrap()
}

/// `kalam-cli` with a home folder of its own.
struct Cli {
    home: TempDir,
    host: String,
}

impl Cli {
    fn new(host: String) -> Self {
        Self { home: tempfile::tempdir().unwrap(), host }
    }

    fn run(&self, environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(binary("kalam-cli"));
        command.env("HOME", self.home.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        for name in ["KALAM_TOKEN", "KALAM_APIKEY", "KALAM_PASSWORD"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).args(["-h", &self.host]).args(arguments);
        let output = command.output().expect("run kalam-cli");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8 output");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[tokio::test]
async fn the_terminal_client_proves_who_it_is() {
    let (server, key) = guarded(&[]).await;
    let cli = Cli::new(server.endpoint());
    let (status, _, err) = cli.run(&[], &["-c", "SELECT 1"]);
    assert_eq!(status, Some(3), "{err}");
    assert!(err.contains("UNAUTHENTICATED") && err.contains("--apikey") && err.contains("--password"), "{err}");

    let with_key = [("KALAM_APIKEY", key.as_str())];
    let (status, out, err) = cli.run(&with_key, &["-c", "\\connect"]);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("as admin (role system)"), "{out}");
    let create = format!("CREATE USER alice ROLE user PASSWORD '{PASSWORD}'");
    assert_eq!(cli.run(&[], &["--apikey", &key, "-c", &create]).0, Some(0));

    let with_password = [("KALAM_PASSWORD", PASSWORD)];
    let (status, out, err) = cli.run(&with_password, &["-u", "alice", "--password", "-c", "\\connect"]);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("as alice (role user)"), "{out}");
    let wrong = cli.run(&[("KALAM_PASSWORD", "wrong horse")], &["--login", "alice", "-c", "SELECT 1"]);
    assert_eq!(wrong.0, Some(3), "{}", wrong.2);
    assert!(!wrong.2.contains("wrong horse"), "{}", wrong.2);
    let (status, out, err) = cli.run(&with_key, &["-u", "alice", "--csv", "-c", "SELECT CURRENT_USER() AS me"]);
    assert_eq!((status, out.as_str()), (Some(0), "me\nalice\n"), "{err}");
    // The administrator may; alice may act for nobody else.
    let (status, _, err) = cli.run(&with_password, &["--login", "alice", "-u", "admin", "-c", "SELECT 1"]);
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("PERMISSION_DENIED"), "{err}");

    // From the configuration, for its host alone.
    let folder = cli.home.path().join(".kalam");
    fs::create_dir_all(&folder).unwrap();
    let config = format!("[connection]\nhost = \"{}\"\napikey = \"{key}\"\n", cli.host);
    fs::write(folder.join("config.toml"), config).unwrap();
    fs::set_permissions(folder.join("config.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    let (status, _, err) = cli.run(&[], &["-c", "SELECT 1"]);
    assert_eq!(status, Some(0), "{err}");
    assert!(err.contains("chmod 600") && !err.contains(&key), "{err}");
    let elsewhere = Cli { home: cli.home, host: server.endpoint().replace("127.0.0.1", "localhost") };
    let (status, _, err) = elsewhere.run(&[], &["-c", "SELECT 1"]);
    assert_eq!(status, Some(3), "{err}");
    assert!(err.contains("another host"), "{err}");

    let disable = administrator(&server, &key).await.execute("ALTER USER alice DISABLE", ()).await;
    disable.unwrap();
    let (status, _, err) = elsewhere.run(&with_password, &["-u", "alice", "--password", "-c", "SELECT 1"]);
    assert_eq!(status, Some(3), "{err}");
}

#[tokio::test]
async fn a_secret_is_not_sent_in_the_clear_to_another_machine() {
    // 192.0.2.0/24 is for documentation: nobody is there, and nobody is asked.
    let cli = Cli::new("http://192.0.2.1:2900".to_owned());
    let (status, _, err) = cli.run(&[], &["--apikey", "kdb_1_x", "-c", "SELECT 1"]);
    assert_eq!(status, Some(2), "{err}");
    assert!(err.contains("unencrypted") && err.contains("https://"), "{err}");
}

#[tokio::test]
async fn a_session_is_renewed_while_it_is_used() {
    let (server, key) = guarded(&[("auth.token_lifetime_s", "1"), ("auth.leeway_s", "0")]).await;
    let admin = administrator(&server, &key).await;
    admin.execute(format!("CREATE USER alice PASSWORD '{PASSWORD}'"), ()).await.unwrap();
    let alice = Client::builder(server.endpoint()).login("alice", PASSWORD).connect().await.unwrap();
    let first = alice.auth().who_am_i().await.unwrap();
    assert_eq!((first.caller.username.as_str(), first.credential), ("alice", CredentialKind::Session));
    let begin = first.expires_at_us.expect("a session's token expires");
    // Every call succeeds, until the token has been another one twice.
    let renewed = async {
        let (mut last, mut tokens) = (begin, 1);
        while tokens < 3 {
            let expires = alice.auth().who_am_i().await.unwrap().expires_at_us.unwrap();
            if expires != last {
                (last, tokens) = (expires, tokens + 1);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), renewed).await.expect("it is renewed");

    alice.auth().logout().await.unwrap();
    assert_eq!(alice.auth().who_am_i().await.unwrap().caller.username, "alice", "another session has begun");
    admin.execute("ALTER USER alice PASSWORD 'another horse battery'", ()).await.unwrap();
    let error = alice.auth().who_am_i().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}

/// Reads until the live query ends.
async fn until_its_end(mut events: Subscription) -> Error {
    let end = async {
        loop {
            match events.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("it ended without saying why"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("it ends")
}

#[tokio::test]
async fn a_live_query_ends_with_the_right_to_it_and_outlives_a_token() {
    let (server, key) = guarded(&[("auth.token_lifetime_s", "1"), ("auth.leeway_s", "0")]).await;
    let admin = administrator(&server, &key).await;
    admin.execute_batch("CREATE NAMESPACE n; CREATE USER TABLE n.t (id BIGINT PRIMARY KEY)", ()).await.unwrap();
    for user in ["alice", "bob"] {
        admin.execute(format!("CREATE USER {user} PASSWORD '{PASSWORD}'"), ()).await.unwrap();
    }
    let bobs = admin.execute("CREATE API KEY FOR USER bob", ()).await.unwrap();
    let bobs: String = bobs.one().unwrap().get("key").unwrap();
    let connect = |builder: kalam_link::ClientBuilder| async { builder.connect().await.unwrap() };
    let alice = connect(Client::builder(server.endpoint()).login("alice", PASSWORD)).await;
    let bob = connect(Client::builder(server.endpoint()).api_key(&bobs)).await;

    // Longer than two tokens live, changes come, each once.
    let mut events = alice.subscribe("SUBSCRIBE TO n.t").open().await.unwrap();
    let of_alice = admin.for_user("alice");
    let mut seen = Vec::new();
    for id in 0..25 {
        of_alice.execute("INSERT INTO n.t VALUES ($1)", (id,)).await.unwrap();
        while seen.len() <= usize::try_from(id).unwrap() {
            let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("an event in time");
            if let SubscriptionEvent::Changes(commit) = event.expect("no end").unwrap() {
                let ids = commit.changes.iter().map(|change| change.new_row().unwrap().get::<i64>("id").unwrap());
                seen.extend(ids);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(seen, (0..25).collect::<Vec<i64>>());

    let query = bob.subscribe("SUBSCRIBE TO n.t").open().await.unwrap();
    admin.execute(format!("REVOKE API KEY '{}'", bobs.split('_').nth(1).unwrap()), ()).await.unwrap();
    assert_eq!(until_its_end(query).await.reason(), Some("CREDENTIAL_REVOKED"));
    admin.execute("ALTER USER alice DISABLE", ()).await.unwrap();
    assert_eq!(until_its_end(events).await.reason(), Some("USER_DISABLED"));
}

/// A folder with an authority's certificate, a server's for `localhost`, and a client's of common name `alice`.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", authority.self_signed(&authority_key).unwrap().pem());
        let issuer = Issuer::new(authority, authority_key);
        for name in ["localhost", "alice"] {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            write(&format!("{name}.pem"), params.signed_by(&key, &issuer).unwrap().pem());
            write(&format!("{name}-key.pem"), key.serialize_pem());
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn connections_are_encrypted_and_a_certificate_is_a_credential() {
    let certificates = Certificates::new();
    let text = |name| certificates.text(name);
    let (server, key) = guarded(&[
        ("tls.cert_file", &text("localhost.pem")),
        ("tls.key_file", &text("localhost-key.pem")),
        ("tls.client_ca_file", &text("ca.pem")),
        ("tls.client_auth", "optional"),
        ("tls.client_identity", "common_name"),
    ])
    .await;
    let host = format!("https://localhost:{}", server.address().port());
    let cli = Cli::new(host.clone());
    let with_key = [("KALAM_APIKEY", key.as_str())];
    let (status, _, err) = cli.run(&with_key, &["--tls-ca", &text("ca.pem"), "-c", "CREATE USER alice"]);
    assert_eq!(status, Some(0), "{err}");
    let (status, _, err) = cli.run(&with_key, &["-c", "SELECT 1"]);
    assert_ne!(status, Some(0), "the system does not trust the authority of this test: {err}");

    let arguments =
        ["--tls-ca", &text("ca.pem"), "--tls-cert", &text("alice.pem"), "--tls-key", &text("alice-key.pem")];
    let (status, out, err) = cli.run(&[], &[&arguments[..], &["-c", "\\connect"]].concat());
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("as alice (role user)"), "{out}");

    let tls = Tls::new().ca_file(certificates.path("ca.pem")).server_name("localhost");
    let by_address = format!("https://127.0.0.1:{}", server.address().port());
    let client = Client::builder(by_address).tls(tls).api_key(&key).connect().await.unwrap();
    assert_eq!(client.auth().who_am_i().await.unwrap().credential, CredentialKind::ApiKey);
    // Who speaks in the clear is not answered.
    let plain = Client::builder(server.endpoint()).api_key(&key).connect_lazy().unwrap();
    assert!(plain.execute("SELECT 1", ()).await.is_err());
}
