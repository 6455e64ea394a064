//! `system.*`, `information_schema.*`, SHOW and DESCRIBE.

use kalamdb_engine::Reason;

use crate::harness::{Db, table};

async fn db() -> Db {
    let db = Db::memory().await;
    db.admin()
        .run(
            "CREATE NAMESPACE chat WITH OPTIONS (owner = 'ana', level = 3);
             CREATE USER TABLE chat.messages (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), body TEXT NOT NULL, at TIMESTAMP DEFAULT NOW());
             CREATE SHARED TABLE chat.rooms (name TEXT PRIMARY KEY) ACCESS public;
             CREATE STREAM TABLE chat.typing (id TEXT PRIMARY KEY DEFAULT ULID(), room TEXT) TTL '30 seconds'",
        )
        .await;
    db
}

#[tokio::test]
async fn system_tables_list_the_catalog() {
    let db = db().await;
    let ana = db.user("ana");
    assert_eq!(
        ana.rows("SELECT name, table_count, options, created_at FROM system.namespaces ORDER BY name").await,
        table(&[
            ["app", "0", "{}", "2026-01-02T03:04:05.000006Z"],
            ["chat", "3", r#"{"level":"3","owner":"ana"}"#, "2026-01-02T03:04:05.000006Z"],
        ])
    );
    assert_eq!(
        ana.rows("SELECT namespace, table_name, table_type, current_schema_version, primary_key, access, ttl_seconds FROM system.tables ORDER BY 2").await,
        table(&[
            ["chat", "messages", "USER", "1", "id", "NULL", "NULL"],
            ["chat", "rooms", "SHARED", "1", "name", "public", "NULL"],
            ["chat", "typing", "STREAM", "1", "id", "NULL", "30.0"],
        ])
    );
    assert_eq!(
        ana.rows("SELECT column_name, ordinal_position, data_type, nullable, \"default\", primary_key FROM system.columns WHERE table_name = 'messages' ORDER BY 2").await,
        table(&[
            ["id", "1", "BIGINT", "false", "SNOWFLAKE_ID()", "true"],
            ["body", "2", "TEXT", "false", "NULL", "false"],
            ["at", "3", "TIMESTAMP", "true", "NOW()", "false"],
        ])
    );
}

#[tokio::test]
async fn table_schemas_keep_every_version() {
    let db = db().await;
    db.env.advance_us(1_000_000);
    db.admin().run("ALTER TABLE chat.messages ADD COLUMN n INT; ALTER TABLE chat.messages RENAME COLUMN body TO text; ALTER TABLE chat.messages DROP COLUMN n").await;
    let rows = db
        .user("ana")
        .rows("SELECT schema_version, change, created_at FROM system.table_schemas WHERE table_name = 'messages' ORDER BY 1")
        .await;
    let later = "2026-01-02T03:04:06.000006Z";
    assert_eq!(
        rows,
        table(&[
            ["1", "CREATE TABLE", "2026-01-02T03:04:05.000006Z"],
            ["2", "ADD COLUMN n", later],
            ["3", "RENAME COLUMN body TO text", later],
            ["4", "DROP COLUMN n", later],
        ])
    );
    let versions = db.user("ana").session.schema_versions("chat", "messages").unwrap();
    let names: Vec<Vec<&str>> = versions.iter().map(|v| v.columns.iter().map(|c| c.name.as_str()).collect()).collect();
    assert_eq!(
        names,
        [
            vec!["id", "body", "at"],
            vec!["id", "body", "at", "n"],
            vec!["id", "text", "at", "n"],
            vec!["id", "text", "at"]
        ]
    );
    let json = db.user("ana").rows("SELECT columns FROM system.table_schemas WHERE schema_version = 3").await;
    let columns: serde_json::Value = serde_json::from_str(&json[0][0]).unwrap();
    assert_eq!(columns.as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn information_schema_is_the_standards() {
    let db = db().await;
    let ana = db.user("ana");
    assert_eq!(
        ana.rows("SELECT schema_name FROM information_schema.schemata ORDER BY 1").await,
        table(&[["app"], ["chat"], ["information_schema"], ["system"]])
    );
    assert_eq!(
        ana.rows("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'chat' ORDER BY 1")
            .await,
        table(&[["messages", "USER"], ["rooms", "SHARED"], ["typing", "STREAM"]])
    );
    assert_eq!(
        ana.rows("SELECT column_name, is_nullable, data_type, column_default FROM information_schema.columns WHERE table_name = 'messages' ORDER BY ordinal_position").await,
        table(&[
            ["id", "NO", "BIGINT", "SNOWFLAKE_ID()"],
            ["body", "NO", "TEXT", "NULL"],
            ["at", "YES", "TIMESTAMP", "NOW()"],
        ])
    );
    let system = ana.rows("SELECT table_name FROM information_schema.tables WHERE table_type = 'SYSTEM' AND table_schema = 'system' ORDER BY 1").await;
    let tables = [
        "api_keys",
        "audit",
        "columns",
        "jobs",
        "live_queries",
        "namespaces",
        "segments",
        "settings",
        "storages",
        "table_schemas",
        "tables",
        "users",
    ];
    assert_eq!(system, tables.map(|name| vec![name.to_owned()]));
    let described =
        ana.value("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'information_schema'").await;
    assert_eq!(described, (2 + 4 + 8).to_string());
}

#[tokio::test]
async fn settings_are_for_operators() {
    let db = db().await;
    let sql = "SELECT name, value, source FROM system.settings";
    assert_eq!(db.admin().rows(sql).await, table(&[["limits.max_write_mb", "64", "default"]]));
    assert_eq!(db.admin().session.settings().unwrap().len(), 1);
    db.user("ana").fails(Reason::PermissionDenied, sql).await;
    db.user("ana").fails(Reason::PermissionDenied, "SELECT count(*) FROM system.settings").await;
}

#[tokio::test]
async fn show_and_describe() {
    let db = db().await;
    let ana = db.user("ana");
    let first = |rows: Vec<Vec<String>>, column: usize| rows.into_iter().map(|r| r[column].clone()).collect::<Vec<_>>();
    assert_eq!(first(ana.rows("SHOW NAMESPACES").await, 0), ["app", "chat"]);
    assert_eq!(first(ana.rows("SHOW TABLES IN chat").await, 1), ["messages", "rooms", "typing"]);
    assert!(ana.rows("SHOW TABLES").await.is_empty());
    assert_eq!(first(ana.in_namespace(Some("chat")).rows("SHOW TABLES").await, 1).len(), 3);
    assert_eq!(first(ana.in_namespace(None).rows("SHOW TABLES").await, 1).len(), 3);
    assert_eq!(ana.rows("SHOW TABLES IN system").await.len(), 12);
    ana.fails(Reason::NamespaceNotFound, "SHOW TABLES IN nowhere").await;
    for sql in ["DESCRIBE chat.messages", "DESCRIBE TABLE chat.messages", "DESC chat.messages"] {
        let rows = ana.rows(sql).await;
        assert_eq!(rows[0], ["id", "column", "BIGINT", "NO", "SNOWFLAKE_ID()", "PRIMARY KEY"]);
        assert_eq!(rows[1][3], "NO");
        let property = |name: &str| rows.iter().find(|r| r[0] == name && r[1] == "property").map(|r| r[2].clone());
        assert_eq!(property("table_type").as_deref(), Some("USER"));
        assert_eq!(property("current_schema_version").as_deref(), Some("1"));
        assert!(
            property("schema_history").or(property("history")).is_some_and(|h| h.contains("system.table_schemas"))
                || rows.iter().any(|r| r[2].contains("system.table_schemas"))
        );
    }
    let rows = ana.rows("DESCRIBE chat.typing").await;
    assert!(rows.iter().any(|r| r[0] == "ttl" && r[2] == "30 seconds"), "{rows:?}");
    let rows = ana.rows("DESCRIBE chat.rooms").await;
    assert!(rows.iter().any(|r| r[0] == "access" && r[2] == "public"), "{rows:?}");
    assert!(ana.rows("DESCRIBE system.tables").await.iter().any(|r| r[0] == "table_name"));
    ana.fails(Reason::TableNotFound, "DESCRIBE chat.message").await;
    ana.fails(Reason::TableNotFound, "DESCRIBE system.message").await;
}

#[tokio::test]
async fn system_tables_join_and_follow_changes() {
    let db = db().await;
    let sql = "SELECT t.table_name, count(*) FROM system.tables t JOIN system.columns c ON c.table_name = t.table_name GROUP BY 1 ORDER BY 1";
    let ana = db.user("ana");
    assert_eq!(ana.rows(sql).await, table(&[["messages", "3"], ["rooms", "1"], ["typing", "2"]]));
    db.admin().run("DROP TABLE chat.typing; ALTER TABLE chat.rooms ADD COLUMN n INT").await;
    assert_eq!(ana.rows(sql).await, table(&[["messages", "3"], ["rooms", "2"]]));
}

#[tokio::test]
async fn the_catalog_as_values() {
    let db = db().await;
    let session = &db.admin().session;
    let names: Vec<String> = session.namespaces().unwrap().into_iter().map(|n| n.name).collect();
    assert_eq!(names, ["app", "chat"]);
    let tables: Vec<String> = session.tables(Some("chat")).unwrap().into_iter().map(|t| t.name).collect();
    assert_eq!(tables, ["messages", "rooms", "typing"]);
    assert_eq!(session.tables(None).unwrap().len(), 3);
    assert_eq!(session.tables(Some("nowhere")).unwrap_err().reason(), Reason::NamespaceNotFound);
    let info = session.table("chat", "typing").unwrap();
    assert_eq!((info.kind.as_str(), info.properties["ttl_us"].as_str()), ("STREAM", "30000000"));
    assert!(info.columns[0].primary_key && !info.columns[0].nullable);
    assert_eq!(session.table("chat", "none").unwrap_err().reason(), Reason::TableNotFound);
    assert!(session.create_namespace("more", false, vec![("a".to_owned(), "b".to_owned())]).await.unwrap());
    assert!(!session.create_namespace("more", true, Vec::new()).await.unwrap());
    assert_eq!(
        session.create_namespace("more", false, Vec::new()).await.unwrap_err().reason(),
        Reason::NamespaceExists
    );
    session.alter_namespace("more", vec![("a".to_owned(), "c".to_owned())]).await.unwrap();
    let more = session.namespaces().unwrap().into_iter().find(|n| n.name == "more").unwrap();
    assert_eq!(more.options["a"], "c");
    assert!(session.drop_namespace("more", false).await.unwrap());
    assert!(!session.drop_namespace("more", true).await.unwrap());
    assert_eq!(session.drop_namespace("chat", false).await.unwrap_err().reason(), Reason::NamespaceNotEmpty);
    assert!(session.drop_table("chat", "rooms", false).await.unwrap());
    assert!(!session.drop_table("chat", "rooms", true).await.unwrap());
    assert_eq!(session.drop_table("chat", "rooms", false).await.unwrap_err().reason(), Reason::TableNotFound);
}
