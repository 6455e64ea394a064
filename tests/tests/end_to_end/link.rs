//! `kalam-link` against the real server: that a program which uses it survives what happens to servers.

use kalam_link::{Client, ErrorKind, params};
use kalamdb_tests::{
    client::unique_name,
    server::{server_with, shared_url},
};

#[tokio::test]
async fn a_client_outlives_its_server() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    drop(taken);
    let mut server = kalamdb_tests::server::start(kalam_link::process::ServerProcess::builder().listen(&address)).await;
    let client = Client::builder(server.endpoint()).user("alice").namespace("n").connect().await.unwrap();
    client.execute("CREATE NAMESPACE n", ()).await.unwrap();
    client.execute("CREATE USER TABLE t (id BIGINT PRIMARY KEY, name TEXT)", ()).await.unwrap();
    let written = client.execute("INSERT INTO t VALUES ($1, $2)", params![1, "one"]).await.unwrap();
    assert_eq!((written.row_count(), written.message()), (1, Some("INSERT 0 1")));

    // The same client goes on with the server that came back, by its own retries.
    server.restart().await.unwrap();
    let read = client.execute("SELECT name FROM t WHERE id = $1", params![1]).await.unwrap();
    assert_eq!(read.value::<&str>("name"), Ok("one"));

    server.kill().unwrap();
    let gone = client.execute("SELECT 1", ()).await.unwrap_err();
    assert!(matches!(gone.kind(), ErrorKind::Connection | ErrorKind::Unavailable), "{gone:?}");
}

#[tokio::test]
async fn typed_rows_streams_and_admin() {
    let namespace = unique_name("link");
    let client = Client::builder(shared_url()).user("alice").namespace(&namespace).connect().await.unwrap();
    client.execute(format!("CREATE NAMESPACE {namespace}"), ()).await.unwrap();
    client.execute("CREATE USER TABLE t (id BIGINT PRIMARY KEY, name TEXT, score DOUBLE)", ()).await.unwrap();
    let written = client.execute("INSERT INTO t VALUES (1, 'one', 0.5), (2, NULL, NULL)", ()).await.unwrap();
    let read =
        client.query("SELECT * FROM t ORDER BY id").min_commit_seq(written.commit_seq()).execute().await.unwrap();
    let rows: Vec<(i64, Option<&str>, Option<f64>)> =
        read.rows().iter().map(|row| (row.get(0).unwrap(), row.get("name").unwrap(), row.get(2).unwrap())).collect();
    assert_eq!(rows, [(1, Some("one"), Some(0.5)), (2, None, None)]);

    let table = client.admin().get_table(&namespace, "t").await.unwrap();
    assert_eq!(table.columns.len(), 3);
    let failure = client.execute("SELECT nme FROM t", ()).await.unwrap_err();
    assert_eq!((failure.reason(), failure.metadata_value("nearest")), (Some("COLUMN_NOT_FOUND"), Some("name")));
    let syntax = client.execute("SELECT\n  FRM t", ()).await.unwrap_err();
    assert_eq!(syntax.line(), Some(2), "{syntax:?}");
}

#[tokio::test]
async fn fifty_clients_connect_at_once() {
    let server = server_with(&[]).await;
    let clients = (0..50).map(|_| Client::connect(server.endpoint()));
    for client in futures::future::join_all(clients).await {
        assert_eq!(client.unwrap().execute("SELECT 1 AS one", ()).await.unwrap().value::<i64>("one"), Ok(1));
    }
}
