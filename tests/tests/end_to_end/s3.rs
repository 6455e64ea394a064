//! Tables whose flushed rows are in S3: a real server of its protocol, and what happens when it is not there.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use kalamdb_tests::{
    client::{Client, Failure},
    s3::S3Server,
    server::server_with,
};
use tonic::Code;

use crate::support::{client_of, eventually};

const BUCKET: &str = "kalamdb-tests";
/// No text of the server may show it.
const SECRET: &str = "secret-of-the-tests";
/// A key to encrypt credentials with, 32 bytes in base64; and little patience.
const SETTINGS: [(&str, &str); 2] =
    [("storage.secret_key", "a2FsYW1kYi10ZXN0cy1zZWNyZXQta2V5LTMyLWJ5dGU="), ("flush.max_retries", "1")];
/// How long a storage that is not there may hold up a statement.
const GIVE_UP: Duration = Duration::from_secs(30);
/// How long the objects of a table that is gone may stay.
const SWEEP_LIMIT: Duration = Duration::from_secs(60);

fn create_storage(name: &str, endpoint: &str, bucket: &str) -> String {
    let credentials = format!(
        r#"{{"access_key_id": "tests", "secret_access_key": "{SECRET}", "region": "us-east-1", "endpoint": "{endpoint}", "allow_http": true}}"#
    );
    format!("CREATE STORAGE {name} TYPE S3 URI 's3://{bucket}/some/folder' CREDENTIALS '{credentials}'")
}

/// An endpoint that nobody listens on.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// The storage must be refused, soon, without showing the secret.
async fn refused(client: &Client, sql: &str) -> Failure {
    let started = Instant::now();
    let failure = client.try_run(sql).await.expect_err("the storage is refused");
    assert!(started.elapsed() < GIVE_UP, "refused after {:?}", started.elapsed());
    assert!(!failure.message.contains(SECRET) && !failure.message.is_empty(), "{failure:#?}");
    failure
}

/// The paths of the segments in a storage, as keys of the bucket.
async fn segment_keys(client: &Client, storage: &str) -> Vec<String> {
    let sql = format!("SELECT path FROM system.segments WHERE storage = '{storage}' ORDER BY path");
    client.rows(&sql).await.iter().map(|path| format!("some/folder/{path}")).collect()
}

#[tokio::test]
async fn flushed_rows_are_read_back_after_a_restart() {
    let s3 = S3Server::start();
    s3.create_bucket(BUCKET).await;
    let mut server = server_with(&SETTINGS).await;
    let client = client_of(&server.endpoint()).await;
    let namespace = client.namespace_name().to_owned();
    let create = create_storage("far", &s3.endpoint(), BUCKET);
    client.run(&create).await;
    assert_eq!(s3.keys(BUCKET).await, Vec::<String>::new(), "the check of the storage leaves nothing");
    let again = refused(&client, &create).await;
    assert_eq!((again.reason.as_str(), again.code), ("STORAGE_EXISTS", Code::AlreadyExists), "{again:#?}");
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT) STORAGE far").await;

    let users = ["alice", "../bob", "ünal 🙂", "a/b"];
    for (number, user) in users.iter().enumerate() {
        let rows: Vec<String> = (0..200).map(|id| format!("({id}, 'row {id} of {number}')")).collect();
        client.user(user).run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    }
    assert_eq!(client.run("FLUSH TABLE t FORCE").await.affected().row_count, 800);
    let keys = s3.keys(BUCKET).await;
    assert_eq!(keys.len(), users.len(), "{keys:?}");

    for round in 0..2 {
        let client = Client::connect(&server.endpoint()).await.user("alice").namespace(&namespace);
        for (number, user) in users.iter().enumerate() {
            let client = client.user(user);
            assert_eq!(client.scalar("SELECT count(*) FROM t").await, "200", "{user}, round {round}");
            let body = client.scalar("SELECT body FROM t WHERE id = 123").await;
            assert_eq!(body, format!("row 123 of {number}"));
            assert_eq!(client.scalar("SELECT sum(id) FROM t WHERE id < 100").await, "4950");
        }
        server.restart().await.unwrap();
    }

    let client = Client::connect(&server.endpoint()).await.user("alice").namespace(&namespace);
    client.fails("INSERT INTO t VALUES (7, 'again')", "PRIMARY_KEY_VIOLATION", Code::AlreadyExists).await;
    assert_eq!(client.run("UPDATE t SET body = 'changed' WHERE id < 10").await.affected().row_count, 10);
    assert_eq!(client.run("DELETE FROM t WHERE id >= 150").await.affected().row_count, 50);
    client.run("FLUSH TABLE t FORCE").await;
    client.run("COMPACT TABLE t").await;
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "150");
    assert_eq!(client.scalar("SELECT count(*) FROM t WHERE body = 'changed'").await, "10");
    eventually("the objects are those of the segments", SWEEP_LIMIT, || async {
        s3.keys(BUCKET).await == segment_keys(&client, "far").await
    })
    .await;

    // Nothing shows the secret.
    for sql in ["SELECT * FROM system.storages", "DESCRIBE t", "SELECT * FROM system.jobs", "SHOW STORAGES"] {
        let shown = client.rows(sql).await.join("\n");
        assert!(!shown.contains(SECRET), "{sql}: {shown}");
    }

    let in_use = client.fails("DROP STORAGE far", "STORAGE_IN_USE", Code::FailedPrecondition).await;
    assert!(in_use.message.contains(&format!("{namespace}.t")), "the table is named: {in_use:#?}");
    client.run("DROP TABLE t").await;
    eventually("the objects of a dropped table go away", SWEEP_LIMIT, || async { s3.keys(BUCKET).await.is_empty() })
        .await;
    client.run("DROP STORAGE far").await;
    client.fails("DROP STORAGE far", "STORAGE_NOT_FOUND", Code::NotFound).await;
}

#[tokio::test]
async fn a_storage_that_cannot_be_used_is_refused() {
    let s3 = S3Server::start();
    let server = server_with(&SETTINGS).await;
    let client = client_of(&server.endpoint()).await;
    let missing_bucket = refused(&client, &create_storage("far", &s3.endpoint(), "no-such-bucket")).await;
    assert_eq!(missing_bucket.reason, "INVALID_STORAGE", "{missing_bucket:#?}");
    let unreachable = refused(&client, &create_storage("far", &nobody(), BUCKET)).await;
    assert_eq!(unreachable.reason, "STORAGE_UNREACHABLE", "{unreachable:#?}");
    for (uri, credentials) in [
        ("s3://", "{}"),
        ("https://bucket", "{}"),
        ("not a uri", "{}"),
        ("file:///etc", "{}"),
        ("s3://bucket", &format!(r#"{{"secret_access_key": "{SECRET}""#)),
        ("s3://bucket", &format!(r#"{{"no_such_option": "{SECRET}"}}"#)),
        ("s3://bucket", &format!(r#"["{SECRET}"]"#)),
        ("s3://bucket", &format!(r#"{{"secret_access_key": ["{SECRET}"]}}"#)),
    ] {
        let sql = format!("CREATE STORAGE far TYPE S3 URI '{uri}' CREDENTIALS '{credentials}'");
        let failure = refused(&client, &sql).await;
        assert_eq!(failure.code, Code::InvalidArgument, "{uri} {credentials}: {failure:#?}");
    }
    let without_key = server_with(&[]).await;
    let failure =
        refused(&client_of(&without_key.endpoint()).await, &create_storage("far", &s3.endpoint(), BUCKET)).await;
    assert_eq!(failure.reason, "STORAGE_KEY_MISSING", "{failure:#?}");
    client.fails("DROP STORAGE far", "STORAGE_NOT_FOUND", Code::NotFound).await;
    let unknown = "CREATE USER TABLE t (id BIGINT PRIMARY KEY) STORAGE far";
    client.fails(unknown, "STORAGE_NOT_FOUND", Code::NotFound).await;
    assert_eq!(client.scalar("SELECT count(*) FROM system.storages WHERE name = 'far'").await, "0");
}

#[tokio::test]
async fn rows_stay_hot_while_the_storage_is_away() {
    let s3 = S3Server::start();
    s3.create_bucket(BUCKET).await;
    let server = server_with(&SETTINGS).await;
    let client = client_of(&server.endpoint()).await;
    client.run(&create_storage("far", &s3.endpoint(), BUCKET)).await;
    client.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT) STORAGE far").await;
    client.run("INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    let port = s3.port();
    drop(s3);

    let started = Instant::now();
    let failure = client.try_run("FLUSH TABLE t FORCE").await.expect_err("the storage is away");
    assert!(started.elapsed() < 2 * GIVE_UP, "failed after {:?}", started.elapsed());
    assert_eq!(failure.reason, "STORAGE_UNREACHABLE", "{failure:#?}");
    assert!(!failure.message.contains(SECRET), "{failure:#?}");
    assert_eq!(client.rows("SELECT * FROM t ORDER BY id").await, ["1 | one", "2 | two"]);
    client.run("UPDATE t SET body = 'zwei' WHERE id = 2").await;
    let jobs = client.rows("SELECT status, result FROM system.jobs WHERE type = 'flush' AND \"table\" = 't'").await;
    assert!(jobs.iter().any(|job| job.starts_with("failed")), "{jobs:?}");

    let s3 = S3Server::start_on(port);
    s3.create_bucket(BUCKET).await;
    client.run("FLUSH TABLE t FORCE").await;
    assert_eq!(s3.keys(BUCKET).await.len(), 1);
    assert_eq!(client.rows("SELECT * FROM t ORDER BY id").await, ["1 | one", "2 | zwei"]);

    // Now the only copy is away: an error, soon, and never other rows.
    drop(s3);
    for sql in ["SELECT sum(length(body)) FROM t", "SELECT * FROM t WHERE id = 1", "DELETE FROM t WHERE id = 1"] {
        let started = Instant::now();
        match client.try_run(sql).await {
            Err(failure) => assert_eq!(failure.reason, "STORAGE_UNREACHABLE", "{sql}: {failure:#?}"),
            // What was read before may be in memory, such as the end of the file.
            Ok(answer) if sql.starts_with("DELETE") => assert_eq!(answer.affected().row_count, 1),
            Ok(answer) => panic!("{sql} answered {answer:?}"),
        }
        assert!(started.elapsed() < 2 * GIVE_UP, "{sql}: after {:?}", started.elapsed());
    }
}
