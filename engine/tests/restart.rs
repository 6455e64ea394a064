//! What survives closing and opening.

use std::sync::Arc;

use kalamdb_engine::{Durability, Engine, EngineSettings, Reason, StorageSettings, SystemEnv};

use crate::harness::{Db, small, table};

#[tokio::test]
async fn catalog_and_rows_survive() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::on_disk(dir.path()).await;
    db.admin().run("ALTER NAMESPACE app SET OPTIONS (owner = 'ana')").await;
    db.admin()
        .run(
            "CREATE USER TABLE t (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), a TEXT NOT NULL, at TIMESTAMP DEFAULT NOW(), d DECIMAL(5, 2) DEFAULT 1.5);
             CREATE SHARED TABLE s (id TEXT PRIMARY KEY DEFAULT UUID_V7(), n INT) ACCESS public;
             CREATE STREAM TABLE e (id BIGINT PRIMARY KEY AUTO_INCREMENT, x BYTES) TTL '1 hour'",
        )
        .await;
    db.user("ana").run("INSERT INTO t (id, a) VALUES (1, 'before')").await;
    db.admin().run("ALTER TABLE t ADD COLUMN tags TEXT[]; ALTER TABLE t ADD COLUMN later TIMESTAMP DEFAULT NOW(); ALTER TABLE t RENAME COLUMN a TO body").await;
    db.env.advance_us(1_000_000);
    db.user("ana").run("INSERT INTO t (id, body, tags) VALUES (2, 'after', ['x', NULL])").await;
    db.user("bob").run("INSERT INTO t (id, body) VALUES (1, 'of bob')").await;
    db.user("bob").run("INSERT INTO s VALUES ('k', 5)").await;
    db.user("ana").run("INSERT INTO e (x) VALUES ('\\x00ff')").await;
    let queries = [
        "SELECT * FROM app.all_users.t ORDER BY _user_id, id",
        "SELECT * FROM s",
        "SELECT * FROM app.all_users.e",
        "SELECT * FROM system.namespaces",
        "SELECT * FROM system.tables",
        "SELECT * FROM system.columns",
        "SELECT * FROM system.table_schemas",
        "SELECT _seq, _updated FROM app.all_users.t ORDER BY _seq",
    ];
    let mut before = Vec::new();
    for query in queries {
        before.push(db.admin().rows(query).await);
    }
    assert_eq!(before[0].len(), 3);
    assert_eq!(before[0][0][1], "before");
    for _ in 0..3 {
        let seq = db.engine().last_commit_seq();
        db.reopen();
        assert_eq!(db.engine().last_commit_seq(), seq);
        for (query, before) in queries.iter().zip(&before) {
            assert_eq!(db.admin().rows(*query).await, *before, "{query}");
        }
    }
    db.user("ana").fails(Reason::PrimaryKeyViolation, "INSERT INTO t (id, body) VALUES (1, 'x')").await;
    db.user("ana").fails(Reason::NotNullViolation, "INSERT INTO t (id) VALUES (5)").await;
    let answer = db.user("ana").run("INSERT INTO t (body) VALUES ('new') RETURNING d, at").await;
    assert_eq!(answer.rows, table(&[["1.50", "2026-01-02T03:04:06.000006"]]));
    assert!(answer.commit_seq.unwrap().get() > before[7].last().unwrap()[0].parse().unwrap());
}

#[tokio::test]
async fn what_killed_queries_spilled_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::on_disk(dir.path()).await;
    let spill = dir.path().join("spill");
    for name in ["datafusion-x1", "theirs"] {
        std::fs::create_dir(spill.join(name)).unwrap();
        std::fs::write(spill.join(name).join("rows"), "spilled").unwrap();
    }
    db.reopen();
    assert!(!spill.join("datafusion-x1").exists());
    assert!(spill.join("theirs").join("rows").exists());
}

#[tokio::test]
async fn what_was_dropped_stays_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::on_disk(dir.path()).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, a TEXT); CREATE NAMESPACE gone").await;
    db.user("ana").run("INSERT INTO t VALUES (1, 'old'), (2, 'old')").await;
    db.user("ana").run("DELETE FROM t WHERE id = 2").await;
    db.reopen();
    assert_eq!(db.user("ana").rows("SELECT * FROM t").await, table(&[["1", "old"]]));
    db.admin().run("ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN a BIGINT; DROP NAMESPACE gone").await;
    db.reopen();
    assert_eq!(db.user("ana").rows("SELECT * FROM t").await, table(&[["1", "NULL"]]));
    db.admin().run("DROP TABLE t").await;
    db.reopen();
    db.user("ana").fails(Reason::TableNotFound, "SELECT * FROM t").await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, a TEXT)").await;
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t").await, "0");
    db.reopen();
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t").await, "0");
    assert_eq!(db.admin().value("SELECT count(*) FROM system.namespaces").await, "1");
}

#[tokio::test]
async fn asynchronous_writes_survive_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let storage = StorageSettings::Directory(dir.path().to_path_buf());
    let mut db = Db::with(EngineSettings { storage, durability: Durability::Async, ..small() }).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    for id in 0..200 {
        db.user("ana").run(format!("INSERT INTO t VALUES ({id})")).await;
    }
    db.reopen();
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t").await, "200");
}

#[tokio::test]
async fn a_closed_engine_refuses_statements() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    let ana = db.user("ana");
    db.engine().close();
    db.engine().close();
    for sql in [
        "INSERT INTO t VALUES (1)",
        "SELECT count(*) FROM t",
        "CREATE NAMESPACE x",
        "DELETE FROM t WHERE id = 1 RETURNING id + 1",
    ] {
        let outcome = db.admin().try_run(sql).await;
        match outcome {
            Err(error) => assert_eq!(error.reason(), Reason::ShuttingDown, "{sql}: {error}"),
            // Nothing to write, nothing refused.
            Ok(answer) => assert_eq!(answer.row_count, 0, "{sql}"),
        }
    }
    ana.fails(Reason::ShuttingDown, "INSERT INTO t VALUES (1)").await;
}

#[tokio::test]
async fn a_data_folder_has_one_engine() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::on_disk(dir.path()).await;
    let storage = StorageSettings::Directory(dir.path().to_path_buf());
    let again = Engine::open(EngineSettings { storage, ..small() }, Vec::new(), Arc::new(SystemEnv));
    let error = again.expect_err("two engines share a folder");
    assert_eq!(error.reason(), Reason::InvalidRequest, "{error}");
    assert_eq!(db.admin().value("SELECT 1").await, "1");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    for path in [file.clone(), file.join("below")] {
        let settings = EngineSettings { storage: StorageSettings::Directory(path), ..small() };
        let error = Engine::open(settings, Vec::new(), Arc::new(SystemEnv)).expect_err("a file is a data folder");
        assert_eq!(error.reason(), Reason::InvalidRequest, "{error}");
        assert!(error.message().contains("file"), "{error}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::on_disk(dir.path()).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    db.user("ana").run("INSERT INTO t VALUES (1)").await;
    db.set_min_free_disk_bytes(u64::MAX);
    db.reopen();
    db.user("ana").fails(Reason::DiskFull, "INSERT INTO t VALUES (2)").await;
    db.admin().fails(Reason::DiskFull, "CREATE NAMESPACE more").await;
    assert_eq!(db.user("ana").rows("SELECT * FROM t").await, table(&[["1"]]));
    db.set_min_free_disk_bytes(0);
    db.reopen();
    db.user("ana").run("INSERT INTO t VALUES (2)").await;
    db.admin().fails(Reason::NamespaceNotFound, "DROP NAMESPACE more").await;
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t").await, "2");
}
