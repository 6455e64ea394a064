//! CREATE, ALTER and DROP TABLE; DEFAULTs.

use kalamdb_engine::Reason;

use crate::harness::{Db, table};

#[tokio::test]
async fn a_table_needs_one_fitting_key() {
    let db = Db::memory().await;
    let admin = db.admin();
    let error = admin.fails(Reason::InvalidTableDefinition, "CREATE USER TABLE t (a BIGINT)").await;
    assert!(error.message().contains("id BIGINT PRIMARY KEY"), "{error}");
    for sql in [
        "CREATE USER TABLE t (id INT PRIMARY KEY)",
        "CREATE USER TABLE t (id DOUBLE PRIMARY KEY)",
        "CREATE USER TABLE t (id UUID PRIMARY KEY)",
        "CREATE USER TABLE t (a BIGINT, b BIGINT, PRIMARY KEY (a, b))",
        "CREATE USER TABLE t (a BIGINT PRIMARY KEY, b BIGINT PRIMARY KEY)",
        "CREATE USER TABLE t (a BIGINT PRIMARY KEY, a TEXT)",
        "CREATE USER TABLE t (id INT AUTO_INCREMENT PRIMARY KEY)",
        "CREATE USER TABLE t (id BIGINT PRIMARY KEY, n INT NOT NULL NULL)",
        "CREATE USER TABLE t (id BIGINT PRIMARY KEY) ACCESS public",
        "CREATE USER TABLE t ()",
    ] {
        let error = admin.try_run(sql).await.expect_err(sql);
        assert!(matches!(error.reason(), Reason::InvalidTableDefinition | Reason::ColumnExists), "{sql}: {error}");
    }
    admin.fails(Reason::ColumnNotFound, "CREATE USER TABLE t (a BIGINT, PRIMARY KEY (b))").await;
    assert!(admin.rows("SHOW TABLES").await.is_empty());
    admin.run("CREATE USER TABLE t (a TEXT, b BIGINT, PRIMARY KEY (b))").await;
    db.user("ana").run("INSERT INTO t VALUES ('x', 2), ('y', 1)").await;
    assert_eq!(db.user("ana").rows("SELECT * FROM t ORDER BY b").await, table(&[["y", "1"], ["x", "2"]]));
}

#[tokio::test]
async fn existing_and_missing_tables() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, a TEXT)").await;
    admin.fails(Reason::TableExists, "CREATE SHARED TABLE t (id BIGINT PRIMARY KEY)").await;
    admin.run("CREATE USER TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY)").await;
    assert_eq!(admin.rows("DESCRIBE t").await[0][2], "BIGINT");
    admin.fails(Reason::TableNotFound, "DROP TABLE u").await;
    admin.run("DROP TABLE IF EXISTS u").await;
    admin.fails(Reason::NamespaceNotFound, "DROP TABLE IF EXISTS nowhere.u").await;
    admin.fails(Reason::NamespaceNotFound, "CREATE USER TABLE nowhere.t (id BIGINT PRIMARY KEY)").await;
    admin.fails(Reason::TableNotFound, "ALTER TABLE u ADD COLUMN x INT").await;
    admin.run("ALTER TABLE IF EXISTS u ADD COLUMN x INT").await;
    admin.run("ALTER TABLE t ADD COLUMN IF NOT EXISTS a INT").await;
    admin.run("ALTER TABLE t DROP COLUMN IF EXISTS zzz").await;
    assert_eq!(admin.value("SELECT current_schema_version FROM system.tables").await, "1");
    admin.fails(Reason::NamespaceExists, "CREATE NAMESPACE app").await;
    admin.run("CREATE NAMESPACE IF NOT EXISTS app; DROP NAMESPACE IF EXISTS zzz").await;
    admin.fails(Reason::NamespaceNotFound, "ALTER NAMESPACE zzz SET OPTIONS (a = 1)").await;
}

#[tokio::test]
async fn rows_of_every_schema_version_are_read() {
    let db = Db::memory().await;
    let (admin, ana) = (db.admin(), db.user("ana"));
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, a TEXT, b BIGINT)").await;
    ana.run("INSERT INTO t VALUES (1, 'a1', 10)").await;
    admin.run("ALTER TABLE t ADD COLUMN c INT DEFAULT 7").await;
    ana.run("INSERT INTO t VALUES (2, 'a2', 20, NULL)").await;
    admin.run("ALTER TABLE t DROP COLUMN a").await;
    ana.run("INSERT INTO t VALUES (3, 30, 3)").await;
    admin.run("ALTER TABLE t ADD COLUMN a TEXT NOT NULL DEFAULT 'filled'; ALTER TABLE t RENAME COLUMN b TO bb").await;
    ana.run("INSERT INTO t (id, a) VALUES (4, 'own')").await;
    let expected = table(&[
        ["1", "10", "7", "filled"],
        ["2", "20", "NULL", "filled"],
        ["3", "30", "3", "filled"],
        ["4", "NULL", "7", "own"],
    ]);
    assert_eq!(ana.rows("SELECT * FROM t ORDER BY id").await, expected);
    assert_eq!(ana.rows("SELECT id FROM t WHERE a = 'filled' AND c = 7").await, table(&[["1"]]));
    ana.run("UPDATE t SET bb = bb + 1 WHERE id = 1").await;
    assert_eq!(ana.rows("SELECT * FROM t WHERE id = 1").await, table(&[["1", "11", "7", "filled"]]));
    // A filled default stays what it was.
    admin.run("ALTER TABLE t DROP COLUMN c; ALTER TABLE t ADD COLUMN c INT DEFAULT 8").await;
    assert_eq!(ana.rows("SELECT DISTINCT c FROM t").await, table(&[["8"]]));
}

#[tokio::test]
async fn what_alter_refuses() {
    let db = Db::memory().await;
    let (admin, ana) = (db.admin(), db.user("ana"));
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, a TEXT)").await;
    ana.run("INSERT INTO t VALUES (1, 'x')").await;
    for (reason, action) in [
        (Reason::InvalidTableDefinition, "DROP COLUMN id"),
        (Reason::InvalidTableDefinition, "ADD COLUMN x INT NOT NULL"),
        (Reason::InvalidTableDefinition, "ADD COLUMN x INT NOT NULL DEFAULT NULL"),
        (Reason::InvalidTableDefinition, "ADD COLUMN x BIGINT DEFAULT SNOWFLAKE_ID()"),
        (Reason::InvalidTableDefinition, "ADD COLUMN x BIGINT PRIMARY KEY"),
        (Reason::ColumnExists, "ADD COLUMN a INT"),
        (Reason::ColumnExists, "RENAME COLUMN a TO id"),
        (Reason::ColumnNotFound, "DROP COLUMN b"),
        (Reason::ColumnNotFound, "RENAME COLUMN b TO c"),
        (Reason::InvalidTableDefinition, "SET ACCESS public"),
        (Reason::InvalidTableDefinition, "SET TTL '1 hour'"),
    ] {
        admin.fails(reason, format!("ALTER TABLE t {action}")).await;
    }
    assert_eq!(admin.value("SELECT current_schema_version FROM system.tables").await, "1");
    admin.run("ALTER TABLE t RENAME COLUMN id TO key").await;
    assert_eq!(ana.rows("SELECT key FROM t WHERE key = 1").await, table(&[["1"]]));
}

#[tokio::test]
async fn an_added_now_is_the_time_of_the_alter() {
    let db = Db::memory().await;
    let (admin, ana) = (db.admin(), db.user("ana"));
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    ana.run("INSERT INTO t VALUES (1)").await;
    db.env.advance_us(1_000_000);
    admin.run("ALTER TABLE t ADD COLUMN at TIMESTAMP DEFAULT NOW()").await;
    admin.run("ALTER TABLE t ADD COLUMN tz TIMESTAMP WITH TIME ZONE DEFAULT NOW()").await;
    admin.run("ALTER TABLE t ADD COLUMN d DATE DEFAULT NOW()").await;
    db.env.advance_us(1_000_000);
    ana.run("INSERT INTO t (id) VALUES (2)").await;
    assert_eq!(
        ana.rows("SELECT * FROM t ORDER BY id").await,
        table(&[
            ["1", "2026-01-02T03:04:06.000006", "2026-01-02T03:04:06.000006Z", "2026-01-02"],
            ["2", "2026-01-02T03:04:07.000006", "2026-01-02T03:04:07.000006Z", "2026-01-02"],
        ])
    );
}

#[tokio::test]
async fn defaults_fit_their_columns() {
    let db = Db::memory().await;
    let (admin, ana) = (db.admin(), db.user("ana"));
    for default in [
        "INT DEFAULT 'x'",
        "INT DEFAULT 3000000000",
        "INT DEFAULT NOW()",
        "BIGINT DEFAULT ULID()",
        "TEXT DEFAULT SNOWFLAKE_ID()",
        "BOOLEAN DEFAULT CURRENT_USER()",
        "DATE DEFAULT '2026-13-01'",
        "TEXT DEFAULT id",
        "DOUBLE DEFAULT random()",
        "INT DEFAULT (SELECT 1)",
        "INT DEFAULT sum(1)",
        "UUID DEFAULT 'x'",
    ] {
        let sql = format!("CREATE USER TABLE bad (id BIGINT PRIMARY KEY, x {default})");
        admin.fails(Reason::InvalidTableDefinition, sql).await;
    }
    admin
        .run(
            "CREATE USER TABLE t (id BIGINT PRIMARY KEY, a INT DEFAULT -1 + 2 * 3, b TEXT DEFAULT upper('x') || 'y', c DECIMAL(6, 3) DEFAULT 1.5, \
             d TIMESTAMP DEFAULT '2026-01-01', e BOOLEAN DEFAULT true, f TEXT DEFAULT CURRENT_USER(), g DATE DEFAULT NOW(), h BIGINT[] DEFAULT [1, 2], \
             i UUID DEFAULT UUID_V7(), j JSON DEFAULT '{}', k BYTES DEFAULT '\\x00', l INTERVAL DEFAULT INTERVAL '1 day', m INT DEFAULT NULL, \
             n TEXT DEFAULT COALESCE(NULL, 'c'), o DOUBLE DEFAULT 1, p TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
        )
        .await;
    ana.run("INSERT INTO t (id) VALUES (1)").await;
    ana.fails(Reason::NotNullViolation, "INSERT INTO t DEFAULT VALUES").await;
    assert_eq!(
        ana.rows("SELECT a, b, c, d, e, f, g, h, j, k, l, m, n, o, p FROM t").await,
        table(&[[
            "5",
            "Xy",
            "1.500",
            "2026-01-01T00:00:00",
            "true",
            "ana",
            "2026-01-02",
            "[1, 2]",
            "{}",
            "00",
            "1 days",
            "NULL",
            "c",
            "1.0",
            "2026-01-02T03:04:05.000006",
        ]])
    );
}

#[tokio::test]
async fn defaults_are_evaluated_for_each_row() {
    let db = Db::memory().await;
    let (admin, ana) = (db.admin(), db.user("ana"));
    admin
        .run("CREATE USER TABLE t (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), u UUID DEFAULT UUID_V7(), l TEXT DEFAULT ULID(), n INT DEFAULT 5, who TEXT DEFAULT CURRENT_USER())")
        .await;
    ana.run("INSERT INTO t (n) VALUES (1), (DEFAULT), (NULL)").await;
    ana.run("INSERT INTO t DEFAULT VALUES").await;
    ana.run("INSERT INTO t (n) SELECT value FROM generate_series(1, 10)").await;
    assert_eq!(
        ana.rows(
            "SELECT count(*), count(DISTINCT id), count(DISTINCT u), count(DISTINCT l), count(DISTINCT who) FROM t"
        )
        .await,
        table(&[["14", "14", "14", "14", "1"]])
    );
    assert_eq!(ana.rows("SELECT n FROM t ORDER BY id LIMIT 4").await, table(&[["1"], ["5"], ["NULL"], ["5"]]));
    ana.run("UPDATE t SET n = DEFAULT, who = DEFAULT").await;
    assert_eq!(ana.rows("SELECT DISTINCT n, who FROM t").await, table(&[["5", "ana"]]));
}

#[tokio::test]
async fn a_dropped_and_recreated_table_is_empty() {
    let db = Db::memory().await;
    let (admin, ana) = (db.admin(), db.user("ana"));
    for round in 0..5 {
        admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
        assert_eq!(ana.value("SELECT count(*) FROM t").await, "0");
        ana.run(format!("INSERT INTO t SELECT value, {round} FROM generate_series(1, 100)")).await;
        assert_eq!(ana.value("SELECT sum(n) FROM t").await, (100 * round).to_string());
        admin.run("DROP TABLE t").await;
    }
}

#[tokio::test]
async fn a_table_can_have_many_columns() {
    let db = Db::memory().await;
    let columns: Vec<String> = (0..500).map(|i| format!("c{i} BIGINT DEFAULT {i}")).collect();
    db.admin().run(format!("CREATE USER TABLE wide (id BIGINT PRIMARY KEY, {})", columns.join(", "))).await;
    let ana = db.user("ana");
    ana.run("INSERT INTO wide (id, c7) VALUES (1, NULL)").await;
    ana.run("UPDATE wide SET c499 = c498 + c0 WHERE id = 1").await;
    let row = ana.rows("SELECT * FROM wide").await.remove(0);
    assert_eq!((row.len(), row[8].as_str(), row[500].as_str(), row[400].as_str()), (501, "NULL", "498", "399"));
    let columns: Vec<String> = (0..1_601).map(|i| format!("c{i} BIGINT")).collect();
    db.admin()
        .fails(
            Reason::InvalidTableDefinition,
            format!("CREATE USER TABLE wider (id BIGINT PRIMARY KEY, {})", columns.join(", ")),
        )
        .await;
}
