//! Statements about the cold tier: where tables are flushed to, when, and what is shown of it.

use kalamdb_engine::{CompactionSettings, EngineSettings, JobStatus, Reason, Role, StorageSettings};

use crate::harness::{Client, Db, small, table};

/// On disk, where FILESYSTEM storages may be anywhere below `folder`.
async fn db_below(folder: &std::path::Path) -> Db {
    let storage = StorageSettings::Directory(folder.join("data"));
    Db::with(EngineSettings { storage, storage_roots: vec![folder.join("cold")], ..small() }).await
}

/// In memory, without compactions: a segment of three rows of which one is deleted would soon be another.
async fn uncompacted() -> Db {
    let compaction = CompactionSettings { automatic: false, ..CompactionSettings::default() };
    Db::with(EngineSettings { compaction, ..EngineSettings::default() }).await
}

/// The properties that DESCRIBE shows of a table, of these names, in its order.
async fn properties(client: &Client, name: &str) -> Vec<[String; 2]> {
    let shown = ["storage", "location", "flush_policy"];
    let lines = client.rows(format!("DESCRIBE {name}")).await;
    let lines = lines.into_iter().filter(|line| line[1] == "property" && shown.contains(&line[0].as_str()));
    lines.map(|line| [line[0].clone(), line[2].clone()]).collect()
}

fn pairs(pairs: &[[&str; 2]]) -> Vec<[String; 2]> {
    pairs.iter().map(|pair| pair.map(str::to_owned)).collect()
}

/// Statistics of a table without the columns that tests cannot know.
async fn stats(client: &Client, name: &str) -> Vec<Vec<String>> {
    let rows = client.rows(format!("SHOW TABLE STATS {name}")).await;
    rows.into_iter().map(|row| [0, 1, 3, 4].map(|column| row[column].clone()).to_vec()).collect()
}

#[tokio::test]
async fn tables_show_where_and_when_they_are_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let db = db_below(dir.path()).await;
    let admin = db.admin();
    let cold = dir.path().join("cold/a");
    admin.run(format!("CREATE STORAGE cold TYPE FILESYSTEM URI 'file://{}'", cold.display())).await;
    admin
        .run(
            "CREATE USER TABLE plain (id BIGINT PRIMARY KEY);
             CREATE USER TABLE placed (id BIGINT PRIMARY KEY) FLUSH POLICY INTERVAL '5 minutes' ROWS 1000 STORAGE cold;
             CREATE SHARED TABLE shared (id BIGINT PRIMARY KEY) LOCATION '{storageLocation}/x/{tableName}' FLUSH POLICY ROWS 5;
             CREATE STREAM TABLE stream (id BIGINT PRIMARY KEY AUTO_INCREMENT) TTL '1 hour'",
        )
        .await;
    assert_eq!(properties(&admin, "plain").await, pairs(&[["storage", "local"], ["flush_policy", "none"]]));
    assert_eq!(
        properties(&admin, "placed").await,
        pairs(&[["storage", "cold"], ["flush_policy", "ROWS 1000 INTERVAL '300 seconds'"]])
    );
    assert_eq!(
        properties(&admin, "shared").await,
        pairs(&[["storage", "local"], ["location", "x/{tableName}"], ["flush_policy", "ROWS 5"]])
    );
    assert_eq!(properties(&admin, "stream").await, pairs(&[]));
    let listed = "SELECT table_name, storage, location, flush_policy FROM system.tables ORDER BY table_name";
    assert_eq!(
        admin.rows(listed).await,
        table(&[
            ["placed", "cold", "NULL", "ROWS 1000 INTERVAL '300 seconds'"],
            ["plain", "local", "NULL", "NULL"],
            ["shared", "local", "x/{tableName}", "ROWS 5"],
            ["stream", "NULL", "NULL", "NULL"],
        ])
    );
    let info = admin.session.table("app", "placed").unwrap();
    assert_eq!(info.properties.get("storage").map(String::as_str), Some("cold"));

    admin.run("ALTER TABLE placed SET FLUSH POLICY ROWS 7; ALTER TABLE shared SET FLUSH POLICY NONE").await;
    assert_eq!(properties(&admin, "placed").await, pairs(&[["storage", "cold"], ["flush_policy", "ROWS 7"]]));
    assert_eq!(properties(&admin, "shared").await[2], ["flush_policy", "none"].map(str::to_owned));
    admin.fails(Reason::InvalidTableDefinition, "ALTER TABLE stream SET FLUSH POLICY ROWS 7").await;
    let changes = "SELECT change FROM system.table_schemas WHERE schema_version = 2 ORDER BY table_name";
    assert_eq!(admin.rows(changes).await, table(&[["SET FLUSH POLICY ROWS 7"], ["SET FLUSH POLICY NONE"]]));
    db.user("ana").fails(Reason::PermissionDenied, "ALTER TABLE placed SET FLUSH POLICY NONE").await;
}

#[tokio::test]
async fn what_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = db_below(dir.path()).await;
    let cold = dir.path().join("cold");
    db.admin()
        .run(format!(
            "CREATE STORAGE cold TYPE FILESYSTEM URI 'file://{}';
             CREATE USER TABLE t (id BIGINT PRIMARY KEY) STORAGE cold FLUSH POLICY INTERVAL '1 day'",
            cold.display()
        ))
        .await;
    db.reopen();
    let expected = pairs(&[["storage", "cold"], ["flush_policy", "INTERVAL '86400 seconds'"]]);
    assert_eq!(properties(&db.admin(), "t").await, expected);
    db.admin().fails(Reason::StorageInUse, "DROP STORAGE cold").await;
    db.admin().run("DROP TABLE t; DROP STORAGE cold").await;
    db.admin().fails(Reason::StorageNotFound, "CREATE USER TABLE t (id BIGINT PRIMARY KEY) STORAGE cold").await;
}

#[tokio::test]
async fn places_that_cannot_be() {
    let db = Db::memory().await;
    let admin = db.admin();
    let error =
        admin.fails(Reason::StorageNotFound, "CREATE USER TABLE t (id BIGINT PRIMARY KEY) STORAGE locale").await;
    assert_eq!(error.metadata().get("nearest").map(String::as_str), Some("local"));
    assert_eq!(error.position().map(|at| at.column), Some(53));
    admin.run("CREATE USER TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY) LOCATION REFERENCE 'local'").await;
    admin.run("CREATE USER TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY) STORAGE nowhere").await;
    for (kind, template) in [
        ("USER", "{namespace}/{tableName}"),
        ("SHARED", "{namespace}/{userId}"),
        ("USER", "{userId}/{nothing}"),
        ("USER", "../{userId}"),
        ("USER", "{userId}{tableName}"),
        ("SHARED", ""),
    ] {
        let sql = format!("CREATE {kind} TABLE u (id BIGINT PRIMARY KEY) LOCATION '{template}'");
        let error = admin.fails(Reason::InvalidTableDefinition, sql).await;
        assert!(error.position().is_some(), "{template}: {error}");
    }
    for sql in [
        "CREATE STORAGE s TYPE FILESYSTEM URI 'file:///tmp/kalamdb-tests'",
        "ALTER STORAGE local SET URI 'file:///tmp/kalamdb-tests'",
        "DROP STORAGE local",
        "FLUSH TABLE t",
        "FLUSH ALL TABLES",
        "COMPACT TABLE t",
    ] {
        db.user("ana").fails(Reason::PermissionDenied, sql).await;
        db.role(Role::Service).fails(Reason::PermissionDenied, sql).await;
    }
}

#[tokio::test]
async fn what_cannot_be_flushed() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE STREAM TABLE stream (id BIGINT PRIMARY KEY AUTO_INCREMENT) TTL '1 hour'").await;
    admin.run("INSERT INTO stream DEFAULT VALUES; INSERT INTO stream DEFAULT VALUES").await;
    for statement in ["FLUSH TABLE stream", "FLUSH TABLE stream FORCE"] {
        let flushed = admin.run(statement).await;
        let expected = "FLUSH 0 rows, 0 segments; rows of STREAM tables expire, and are never flushed";
        assert_eq!((flushed.row_count, flushed.message.as_str()), (0, expected), "{statement}");
    }
    assert_eq!(admin.run("COMPACT TABLE stream").await.row_count, 0);
    let handle = admin.session.flush_table("app", "stream", true).unwrap();
    let ended = handle.ended().await;
    assert_eq!((ended.status, ended.progress.rows, ended.reason), (JobStatus::Completed, 0, None));
    assert!(ended.result.is_some_and(|result| result.contains("STREAM")));
    assert_eq!(admin.value("SELECT count(*) FROM stream").await, "2");
    for statement in ["FLUSH TABLE", "FLUSH TABLE", "COMPACT TABLE", "SHOW TABLE STATS"] {
        let error = admin.fails(Reason::TableNotFound, format!("{statement} steam")).await;
        assert_eq!(error.metadata().get("nearest").map(String::as_str), Some("stream"));
        admin.fails(Reason::NamespaceNotFound, format!("{statement} nowhere.t")).await;
        admin.fails(Reason::InvalidStatement, format!("{statement} system.tables")).await;
        admin.in_namespace(None).fails(Reason::NamespaceRequired, format!("{statement} t")).await;
    }
    admin.fails(Reason::NamespaceNotFound, "FLUSH ALL TABLES IN nowhere").await;
    admin.fails(Reason::InvalidStatement, "FLUSH ALL TABLES IN system").await;

    admin.run("CREATE USER TABLE empty (id BIGINT PRIMARY KEY)").await;
    for statement in
        ["FLUSH TABLE empty", "FLUSH TABLE empty FORCE", "FLUSH ALL TABLES", "FLUSH ALL TABLES IN app FORCE"]
    {
        let answer = admin.run(statement).await;
        assert_eq!((answer.row_count, answer.message.as_str()), (0, "FLUSH 0 rows, 0 segments"), "{statement}");
    }
    assert_eq!(admin.run("COMPACT TABLE empty").await.row_count, 0);
}

#[tokio::test]
async fn statistics_count_both_tiers_for_those_they_concern() {
    let db = uncompacted().await;
    let (admin, ana, bob) = (db.admin(), db.user("ana"), db.user("bob"));
    admin
        .run(
            "CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT);
             CREATE SHARED TABLE s (id TEXT PRIMARY KEY) ACCESS public;
             CREATE SHARED TABLE hidden (id TEXT PRIMARY KEY)",
        )
        .await;
    assert_eq!(stats(&admin, "t").await, table(&[["NULL", "0", "0", "0"]]));
    assert_eq!(stats(&ana, "t").await, table(&[["ana", "0", "0", "0"]]));
    assert_eq!(stats(&ana, "s").await, table(&[["NULL", "0", "0", "0"]]));
    ana.fails(Reason::PermissionDenied, "SHOW TABLE STATS hidden").await;

    ana.run("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
    bob.run("INSERT INTO t VALUES (1, 'd')").await;
    ana.run("INSERT INTO s VALUES ('x'), ('y')").await;
    assert_eq!(
        stats(&admin, "t").await,
        table(&[["NULL", "4", "0", "0"], ["ana", "3", "0", "0"], ["bob", "1", "0", "0"]])
    );
    assert_eq!(stats(&db.role(Role::Service), "t").await.len(), 3);
    assert_eq!(stats(&bob, "t").await, table(&[["bob", "1", "0", "0"]]));
    assert_eq!(stats(&bob, "s").await, table(&[["NULL", "2", "0", "0"]]));

    let answer = admin.run("FLUSH TABLE t").await;
    assert_eq!(answer.row_count, 0);
    assert!(answer.message.contains("2 partitions") && answer.message.contains("FORCE"), "{}", answer.message);
    let answer = admin.run("FLUSH TABLE t FORCE").await;
    assert_eq!((answer.row_count, answer.message.as_str()), (4, "FLUSH 4 rows, 2 segments"));
    assert_eq!(
        stats(&admin, "t").await,
        table(&[["NULL", "0", "4", "2"], ["ana", "0", "3", "1"], ["bob", "0", "1", "1"]])
    );

    ana.run("UPDATE t SET body = 'z' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (9, 'n')").await;
    assert_eq!(stats(&ana, "t").await, table(&[["ana", "2", "1", "1"]]));
    let row = &admin.rows("SHOW TABLE STATS t").await[0];
    let number = |column: usize| row[column].parse::<u64>().unwrap();
    assert!(number(2) > 0 && number(5) > 0 && number(6) == number(2) + number(5), "{row:?}");
    assert!(row[7].starts_with("2026-01-02T03:04:05"), "{row:?}");
    let whole = admin.session.table_stats("app", "t").await.unwrap();
    assert_eq!((whole.total.hot_rows, whole.total.cold_rows, whole.total.segments), (2, 2, 2));
    assert_eq!(whole.partitions.len(), 2);
}

#[tokio::test]
async fn segments_are_listed_for_those_they_concern() {
    let db = uncompacted().await;
    let (admin, ana, bob) = (db.admin(), db.user("ana"), db.user("bob"));
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT); CREATE SHARED TABLE s (id TEXT PRIMARY KEY) ACCESS public").await;
    ana.run("INSERT INTO t VALUES (-5, 'a'), (2, 'b'), (30, 'c')").await;
    bob.run("INSERT INTO t VALUES (1, 'd')").await;
    admin.run("INSERT INTO s VALUES ('x'), ('y')").await;
    assert!(admin.rows("SELECT * FROM system.segments").await.is_empty());
    admin.run("FLUSH ALL TABLES IN app FORCE").await;
    ana.run("DELETE FROM t WHERE id = 2").await;
    let shown = "SELECT table_name, user_id, storage, rows, deleted_rows, schema_version, min_key, max_key FROM system.segments ORDER BY 1, 2";
    assert_eq!(
        admin.rows(shown).await,
        table(&[
            ["s", "NULL", "local", "2", "0", "1", "x", "y"],
            ["t", "ana", "local", "3", "1", "1", "-5", "30"],
            ["t", "bob", "local", "1", "0", "1", "1", "1"],
        ])
    );
    assert_eq!(ana.rows(shown).await, table(&[["t", "ana", "local", "3", "1", "1", "-5", "30"]]));
    assert_eq!(ana.rows("SELECT DISTINCT path FROM system.segments").await, table(&[["NULL"]]));
    let of_bob = "SELECT segment_id, path, min_seq, max_seq, created_at FROM system.segments WHERE user_id = 'bob'";
    let row = admin.rows(of_bob).await.remove(0);
    assert_eq!((row[0].len(), row[1].as_str()), (16, format!("app/users/bob/t/{}.parquet", row[0]).as_str()));
    assert_eq!(row[2], row[3]);
    assert_eq!(row[4], "2026-01-02T03:04:05.000006Z");
    let infos = admin.session.segments("app", "t", None).await.unwrap();
    assert_eq!(infos.iter().map(|info| info.rows).collect::<Vec<_>>(), [3, 1]);

    admin.run("DROP TABLE t").await;
    assert_eq!(admin.rows("SELECT table_name FROM system.segments").await, table(&[["s"]]));
}

#[tokio::test]
async fn credentials_stay_out_of_everything() {
    const SECRET: &str = "s3cr3t-key";
    let db = Db::memory().await;
    let admin = db.admin();
    let credentials = format!("{{\"access_key_id\": \"id\", \"secret_access_key\": \"{SECRET}\"}}");
    for sql in [
        format!("CREATE STORAGE s TYPE S3 URI 's3://bucket' CREDENTIALS '{credentials}' '{SECRET}'"),
        format!("CREATE STORAGE s TYPE S3 URI 's3://bucket' CREDENTIALS '{SECRET}'"),
        format!("CREATE STORAGE s TYPE S3 URI 's3://bucket' CREDENTIALS '{credentials}'"),
        format!("ALTER STORAGE nowhere SET CREDENTIALS '{credentials}'"),
        format!(
            "INSERT INTO system.storages (name, type, uri, credentials) VALUES ('s', 'S3', 's3://b', '{credentials}')"
        ),
        format!("INSERT INTO system.storages (name, credentials) VALUES ('s', '{SECRET}'"),
        format!("UPDATE system.storages SET credentials = '{credentials}' WHERE name = 'nowhere' '{SECRET}'"),
    ] {
        let error = admin.try_run(sql.as_str()).await.expect_err("there is no key to encrypt credentials with");
        assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
    }
    for sql in ["SELECT * FROM system.storages", "SHOW STORAGES", "SELECT * FROM system.jobs"] {
        let shown = admin.rows(sql).await;
        assert!(!format!("{shown:?}").contains(SECRET), "{sql}: {shown:?}");
    }
}
