//! Python without any package of KalamDB: ADBC's driver for Flight SQL, pandas, Polars and DuckDB, each by its own
//! functions. The scripts are in `tests/python/`; what fails is printed by them.

use kalamdb_tests::{
    access::Secured,
    python::{in_repository, run_script},
    server::{server_with, shared_url},
};

#[tokio::test]
async fn the_database_api() {
    run_script("dbapi.py", shared_url(), &[], &[]).await;
}

#[tokio::test]
async fn ingest() {
    run_script("ingest.py", shared_url(), &[], &[]).await;
}

#[tokio::test]
async fn metadata() {
    run_script("metadata.py", shared_url(), &[], &[]).await;
}

#[tokio::test]
async fn frames_of_pandas_polars_and_duckdb() {
    run_script("frames.py", shared_url(), &[], &[]).await;
}

#[tokio::test]
async fn every_type_is_exact() {
    run_script("exact_types.py", shared_url(), &[], &[]).await;
}

#[tokio::test]
async fn who_calls() {
    const PASSWORD: &str = "a password of the tests";
    let users =
        [("alice", "ROLE user PASSWORD 'a password of the tests'"), ("robot", "ROLE service"), ("bob", "ROLE user")];
    let secured = Secured::start(&[], &users, async |root| {
        root.run("CREATE NAMESPACE app").await;
        root.run("CREATE USER TABLE app.notes (id BIGINT PRIMARY KEY, body TEXT)").await;
    })
    .await;
    let variables = [
        ("KALAMDB_KEY_ALICE", secured.key("alice")),
        ("KALAMDB_KEY_ROBOT", secured.key("robot")),
        ("KALAMDB_PASSWORD_ALICE", PASSWORD),
    ];
    run_script("identity.py", &secured.address(), &[], &variables).await;
    let log = secured.log();
    assert!(!log.contains(PASSWORD) && !log.contains(secured.key("alice")), "the log shows a secret:\n{log}");
}

/// Every example of the page runs and prints what it says, on a server that nobody else uses.
#[tokio::test]
async fn the_page_for_python() {
    let server = server_with(&[]).await;
    let page = in_repository("docs/quickstart/python.md");
    run_script("snippets.py", &server.endpoint(), &[&page.to_string_lossy()], &[]).await;
}
