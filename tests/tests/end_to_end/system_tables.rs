//! The catalog as tables.

use kalamdb_tests::values::text;
use tonic::Code;

use crate::support::client_with_rows;

#[tokio::test]
async fn the_catalog_is_queried_like_any_table() {
    let client = client_with_rows().await;
    client.run("CREATE SHARED TABLE board (id TEXT PRIMARY KEY, n INT NOT NULL DEFAULT 3) ACCESS restricted").await;
    let namespace = || vec![text(client.namespace_name())];
    for (sql, rows) in [
        ("SELECT table_count FROM system.namespaces WHERE name = $1", vec!["2"]),
        (
            "SELECT table_name, table_type, primary_key, access FROM system.tables WHERE namespace = $1 ORDER BY 1",
            vec!["board | SHARED | id | restricted", "t | USER | id | NULL"],
        ),
        (
            "SELECT column_name, ordinal_position, data_type, nullable, \"default\", primary_key FROM system.columns \
             WHERE namespace = $1 AND table_name = 'board' ORDER BY ordinal_position",
            vec!["id | 1 | TEXT | false | NULL | true", "n | 2 | INT | false | 3 | false"],
        ),
        (
            "SELECT t.table_name, count(*) FROM system.tables t JOIN system.columns c ON c.namespace = t.namespace AND \
             c.table_name = t.table_name WHERE t.namespace = $1 GROUP BY 1 ORDER BY 1",
            vec!["board | 2", "t | 3"],
        ),
        (
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = $1 ORDER BY 1",
            vec!["board | SHARED", "t | USER"],
        ),
        (
            "SELECT column_name, is_nullable, data_type FROM information_schema.columns WHERE table_schema = $1 AND \
             table_name = 't' ORDER BY ordinal_position",
            vec!["id | NO | BIGINT", "name | YES | TEXT", "n | YES | INT"],
        ),
        ("SELECT count(*) FROM information_schema.schemata WHERE schema_name = $1", vec!["1"]),
    ] {
        assert_eq!(client.run_with(sql, namespace()).await.shown(), rows, "{sql}");
    }
}

#[tokio::test]
async fn settings_show_value_and_source() {
    let client = client_with_rows().await;
    let row = client.rows("SELECT value, source FROM system.settings WHERE name = 'limits.max_result_rows'").await;
    assert_eq!(row.len(), 1);
    let settings =
        client.admin().list_settings(client.request(Default::default())).await.unwrap().into_inner().settings;
    assert!(settings.iter().all(|setting| !setting.description.is_empty()));
    let dev = settings.iter().find(|setting| setting.name == "server.dev").expect("server.dev is listed");
    assert_eq!(dev.value, "true");
}

#[tokio::test]
async fn system_tables_are_read_only_and_their_names_reserved() {
    let client = client_with_rows().await;
    for sql in [
        "INSERT INTO system.namespaces (name) VALUES ('x')",
        "UPDATE system.tables SET table_name = 'x'",
        "DELETE FROM system.settings",
        "DROP TABLE system.tables",
        "CREATE SHARED TABLE system.mine (id BIGINT PRIMARY KEY)",
        "ALTER TABLE system.tables ADD COLUMN x INT",
    ] {
        let failure = client.try_run(sql).await.expect_err(sql);
        assert!(failure.code != Code::Internal && !failure.reason.is_empty(), "{sql}: {failure:#?}");
    }
    let failure = client.fails("SELECT * FROM system.tabels", "TABLE_NOT_FOUND", Code::NotFound).await;
    assert!(failure.meta("nearest").contains("tables"), "{failure:#?}");
}
