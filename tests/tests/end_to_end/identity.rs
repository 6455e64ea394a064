//! Who may call: the localhost bypass of `--dev`, and roles.

use kalam_link::process::ServerProcess;
use kalamdb_tests::{
    client::{Client, Failure},
    server::{server_with, start},
};
use tonic::Code;

use crate::support::client;

#[tokio::test]
async fn without_dev_every_call_is_refused() {
    let server = start(ServerProcess::builder().dev(false)).await;
    let client = Client::connect(&server.endpoint()).await;
    for client in [client.clone(), client.user("alice")] {
        let failure = client.fails("SELECT 1", "UNAUTHENTICATED", Code::Unauthenticated).await;
        assert!(failure.message.contains("--dev"), "says what to do: {}", failure.message);
    }
    let (events, failure) = client.stream("SELECT 1", Default::default()).await;
    assert!(events.is_empty() && failure.unwrap().reason == "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_forwarded_call_is_refused() {
    let client = client().await;
    for header in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
        let mut request = client.request(client.execute_request("SELECT 1", Default::default()));
        request.metadata_mut().insert(header, "127.0.0.1".parse().unwrap());
        let failure = Failure::from(client.query_service().execute(request).await.unwrap_err());
        assert_eq!((failure.reason.as_str(), failure.code), ("UNAUTHENTICATED", Code::Unauthenticated), "{header}");
    }
}

#[tokio::test]
async fn a_plain_user_acts_for_nobody_else_and_sees_only_what_concerns_it() {
    let data = tempfile::tempdir().unwrap();
    let as_role = |role: &'static str, user: &'static str| {
        let path = data.path().to_owned();
        async move {
            let settings = [format!("server.dev_role={role}"), format!("server.dev_user={user}")];
            let arguments = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]);
            start(ServerProcess::builder().data_dir(path).args(arguments)).await
        }
    };
    let mut server = as_role("system", "root").await;
    let root = Client::connect(&server.endpoint()).await.namespace("n");
    root.run("CREATE NAMESPACE n").await;
    root.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    root.run("CREATE SHARED TABLE hidden (id BIGINT PRIMARY KEY) ACCESS private").await;
    root.run("CREATE SHARED TABLE open (id BIGINT PRIMARY KEY) ACCESS public").await;
    root.user("alice").run("INSERT INTO t VALUES (1)").await;
    root.user("bob").run("INSERT INTO t VALUES (2)").await;
    server.terminate().await.unwrap();

    let server = as_role("user", "alice").await;
    let plain = Client::connect(&server.endpoint()).await.namespace("n");
    for alice in [plain.clone(), plain.user("alice")] {
        assert_eq!(alice.rows("SELECT id FROM t").await, ["1"]);
    }
    let denied = ("PERMISSION_DENIED", Code::PermissionDenied);
    plain.user("bob").fails("SELECT * FROM t", denied.0, denied.1).await;
    for sql in [
        "SELECT * FROM n.all_users.t",
        "CREATE NAMESPACE mine",
        "DROP TABLE t",
        "ALTER TABLE t ADD COLUMN x INT",
        "SELECT * FROM system.settings",
    ] {
        plain.fails(sql, denied.0, denied.1).await;
    }
    plain.run("INSERT INTO open VALUES (1)").await;
    let failure = plain.try_run("SELECT * FROM hidden").await.unwrap_err();
    assert!(["PERMISSION_DENIED", "TABLE_NOT_FOUND"].contains(&failure.reason.as_str()), "{failure:#?}");
    let tables = plain.rows("SELECT table_name FROM system.tables WHERE namespace = 'n' ORDER BY 1").await;
    assert_eq!(tables, ["open", "t"], "a table it may not use does not exist for it");
}

#[tokio::test]
async fn odd_user_ids_are_users_or_clear_errors() {
    let client = client().await;
    client.run("CREATE USER TABLE u (id BIGINT PRIMARY KEY, who TEXT DEFAULT CURRENT_USER())").await;
    let long = "u".repeat(256);
    for user in ["../../etc", "🦀🦀", "ü", "a b", "user:with:colons", "%2e%2e%2f", long.as_str()] {
        let client = client.user(user);
        client.run("INSERT INTO u (id) VALUES (1)").await;
        assert_eq!(client.rows("SELECT who FROM u").await, [user], "{user:?}");
    }
    for user in [&b""[..], "u".repeat(300).as_bytes(), &[0xff, 0xfe], &[b'a', 0xc3]] {
        let client = client.user(user);
        client.fails("SELECT * FROM u", "INVALID_USER_ID", Code::InvalidArgument).await;
        client.fails("INSERT INTO u (id) VALUES (9)", "INVALID_USER_ID", Code::InvalidArgument).await;
    }
    // No header can carry NUL, so gRPC's binary form does.
    let mut request =
        client.request(client.execute_request("INSERT INTO u (id) VALUES (1) RETURNING who", Default::default()));
    request.metadata_mut().remove("x-user-id");
    let nul = tonic::metadata::MetadataValue::from_bytes(b"nul\0inside");
    request.metadata_mut().insert_bin("x-user-id-bin", nul);
    let answer = client.query_service().execute(request).await.unwrap().into_inner();
    let shown = kalamdb_tests::client::Answer(answer.results[0].clone()).scalar();
    assert_eq!(shown, "nul\0inside");
    let everybody = format!("SELECT count(DISTINCT _user_id) FROM {}.all_users.u", client.namespace_name());
    assert_eq!(client.scalar(&everybody).await, "8");
}

#[tokio::test]
async fn the_user_of_dev_is_configurable() {
    let server = server_with(&[("server.dev_user", "operator")]).await;
    let client = Client::connect(&server.endpoint()).await;
    assert_eq!(client.scalar("SELECT CURRENT_USER()").await, "operator");
}
