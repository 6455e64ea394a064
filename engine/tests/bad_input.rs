//! Wrong statements: each with its reason, its place, and its remedy.

use kalamdb_engine::{EngineSettings, Reason};

use crate::harness::{Db, table};

async fn db() -> Db {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE messages (id BIGINT PRIMARY KEY, body TEXT NOT NULL, n INT)").await;
    db.user("ana").run("INSERT INTO messages VALUES (1, 'hello', 7)").await;
    db
}

#[tokio::test]
async fn syntax_errors_have_a_position_and_the_nearest_word() {
    let db = db().await;
    let ana = db.user("ana");
    let error = ana.fails(Reason::SyntaxError, "SELECT *\n  FORM messages").await;
    let position = error.position().unwrap();
    assert_eq!((position.line, position.column), (2, 3), "{error}");
    assert!(error.message().contains("FROM"), "{error}");
    for sql in [
        "SELEC 1",
        "SELECT * FROM",
        "INSERT messages",
        "",
        ";;",
        "SELECT 'open",
        "SELECT \"open",
        "\u{1f600}",
        "SELECT 1 1",
        "CREATE TABLE",
    ] {
        if let Err(error) = ana.try_run(sql).await {
            assert!(matches!(error.reason(), Reason::SyntaxError | Reason::NotSupported), "{sql:?}: {error}");
        } else {
            assert!(sql.trim_matches(';').is_empty(), "{sql:?} was accepted");
        }
    }
}

#[tokio::test]
async fn unknown_names_suggest_the_nearest() {
    let db = db().await;
    let ana = db.user("ana");
    for (reason, sql, near) in [
        (Reason::TableNotFound, "SELECT * FROM mesages", "messages"),
        (Reason::TableNotFound, "INSERT INTO message VALUES (1)", "messages"),
        (Reason::TableNotFound, "DELETE FROM app.messagess", "messages"),
        (Reason::NamespaceNotFound, "SELECT * FROM apps.messages", "app"),
        (Reason::ColumnNotFound, "SELECT boddy FROM messages", "body"),
        (Reason::ColumnNotFound, "SELECT m.boddy FROM messages m", "body"),
        (Reason::ColumnNotFound, "UPDATE messages SET boddy = 1", "body"),
        (Reason::ColumnNotFound, "UPDATE messages SET body = boddy", "body"),
        (Reason::ColumnNotFound, "DELETE FROM messages WHERE boddy = 'x'", "body"),
        (Reason::ColumnNotFound, "INSERT INTO messages (id, boddy) VALUES (1, '')", "body"),
        (Reason::FunctionNotFound, "SELECT uper(body) FROM messages", "upper"),
        (Reason::TableNotFound, "SELECT * FROM system.table", "tables"),
        (Reason::TableNotFound, "SELECT * FROM information_schema.column", "columns"),
    ] {
        let error = ana.fails(reason, sql).await;
        assert!(error.message().contains(near), "{sql}: {error}");
    }
    let error = ana.fails(Reason::NamespaceNotFound, "SELECT * FROM zzz.messages").await;
    assert_eq!(error.message(), "Namespace 'zzz' does not exist. Create it first with CREATE NAMESPACE.");
    let error = ana.fails(Reason::TableNotFound, "SELECT 1\nFROM messages, app.zzz").await;
    assert_eq!(error.message(), "Table app.zzz does not exist.");
}

#[tokio::test]
async fn duplicate_keys_and_nulls_are_named() {
    let db = db().await;
    let ana = db.user("ana");
    let error = ana.fails(Reason::PrimaryKeyViolation, "INSERT INTO messages VALUES (1, '', 1)").await;
    assert!(error.message().contains("app.messages") && error.message().contains("id = 1"), "{error}");
    assert_eq!(error.metadata()["key"], "1");
    for sql in [
        "INSERT INTO messages VALUES (2, NULL, 1)",
        "INSERT INTO messages (id) VALUES (2)",
        "UPDATE messages SET body = NULL",
    ] {
        let error = ana.fails(Reason::NotNullViolation, sql).await;
        assert!(error.message().contains("\"body\""), "{error}");
        assert_eq!(error.metadata()["column"], "body");
    }
    assert_eq!(ana.rows("SELECT * FROM messages").await, table(&[["1", "hello", "7"]]));
}

#[tokio::test]
async fn wrong_values_name_the_column_and_its_type() {
    let db = Db::memory().await;
    db.admin()
        .run(
            "CREATE USER TABLE v (id BIGINT PRIMARY KEY, i INT, s SMALLINT, u INT UNSIGNED, d DECIMAL(5, 2), f REAL, b BOOLEAN, \
             t TIMESTAMP, da DATE, uu UUID, j JSON, l BIGINT[], x BYTES)",
        )
        .await;
    let ana = db.user("ana");
    for (column, value) in [
        ("id", "'one'"),
        ("i", "2147483648"),
        ("i", "'abc'"),
        ("i", "true"),
        ("s", "40000"),
        ("u", "-1"),
        ("d", "1000"),
        ("f", "1e300"),
        ("b", "'maybe'"),
        ("b", "2"),
        ("t", "'yesterday'"),
        ("t", "5"),
        ("da", "'2026-02-30'"),
        ("uu", "'not-a-uuid'"),
        ("j", "'{\"a\":'"),
        ("l", "5"),
        ("l", "['a']"),
        ("x", "'\\xf'"),
    ] {
        let sql = match column {
            "id" => format!("INSERT INTO v (id) VALUES ({value})"),
            _ => format!("INSERT INTO v (id, {column}) VALUES (1, {value})"),
        };
        let error = ana.fails(Reason::InvalidValue, sql.as_str()).await;
        assert!(error.message().contains(&format!("\"{column}\"")), "{sql}: {error}");
    }
    assert_eq!(ana.value("SELECT count(*) FROM v").await, "0");
    // Digits that a column has no place for are rounded, as by PostgreSQL.
    ana.run("INSERT INTO v (id, i, d) VALUES (1.6, 2.4, 1.235)").await;
    assert_eq!(ana.rows("SELECT id, i, d FROM v").await, table(&[["2", "2", "1.24"]]));
}

#[tokio::test]
async fn arithmetic_errors_are_the_statements() {
    let db = db().await;
    let ana = db.user("ana");
    ana.fails(Reason::InvalidValue, "SELECT 1 / (n - 7) FROM messages").await;
    ana.fails(Reason::InvalidValue, "SELECT n % (n - 7) FROM messages").await;
    ana.fails(Reason::InvalidValue, "SELECT 9223372036854775807 + n FROM messages").await;
    ana.fails(Reason::InvalidValue, "SELECT CAST(body AS BIGINT) FROM messages").await;
    ana.fails(Reason::InvalidValue, "UPDATE messages SET n = CAST(body AS INT)").await;
}

#[tokio::test]
async fn names_follow_the_rule() {
    let db = db().await;
    let admin = db.admin();
    let long = "x".repeat(64);
    for name in [
        "system",
        "information_schema",
        "user",
        "all_users",
        "\"SYSTEM\"",
        "\"\"",
        "\"a b\"",
        "\"ä\"",
        "\"1a\"",
        "\"a.b\"",
        long.as_str(),
    ] {
        for sql in [format!("CREATE NAMESPACE {name}"), format!("CREATE USER TABLE app.{name} (id BIGINT PRIMARY KEY)")]
        {
            let error = admin.try_run(sql.as_str()).await.expect_err(&sql);
            assert!(matches!(error.reason(), Reason::InvalidName | Reason::SyntaxError), "{sql}: {error}");
        }
    }
    for name in ["_seq", "_updated", "_deleted", "_user_id", "\"_SEQ\"", "\"\"", "\"a-b\"", long.as_str()] {
        let sql = format!("CREATE USER TABLE t (id BIGINT PRIMARY KEY, {name} BIGINT)");
        admin.fails(Reason::InvalidName, sql).await;
        admin.fails(Reason::InvalidName, format!("ALTER TABLE messages ADD COLUMN {name} BIGINT")).await;
        admin.fails(Reason::InvalidName, format!("ALTER TABLE messages RENAME COLUMN body TO {name}")).await;
    }
    let longest = "x".repeat(63);
    admin.run(format!("CREATE NAMESPACE {longest}")).await;
    admin.run(format!("CREATE USER TABLE {longest}.{longest} ({longest} BIGINT PRIMARY KEY)")).await;
    admin.run("CREATE USER TABLE \"Table\" (\"Order\" BIGINT PRIMARY KEY, \"select\" TEXT)").await;
    db.user("ana").run("INSERT INTO \"Table\" (\"Order\", \"select\") VALUES (1, 'x')").await;
    assert_eq!(db.user("ana").value("SELECT \"select\" FROM \"Table\" WHERE \"Order\" = 1").await, "x");
    db.user("ana").fails(Reason::TableNotFound, "SELECT * FROM table1").await;
    assert!(admin.session.create_namespace("", false, Vec::new()).await.is_err());
    assert!(admin.session.create_namespace("a/b", false, Vec::new()).await.is_err());
}

#[tokio::test]
async fn a_namespace_with_tables_stays() {
    let db = db().await;
    let error = db.admin().fails(Reason::NamespaceNotEmpty, "DROP NAMESPACE app").await;
    assert!(error.message().contains("messages"), "{error}");
    assert_eq!(db.user("ana").value("SELECT count(*) FROM messages").await, "1");
    db.admin().run("DROP TABLE messages; DROP NAMESPACE app").await;
    db.admin().fails(Reason::NamespaceNotFound, "CREATE USER TABLE app.t (id BIGINT PRIMARY KEY)").await;
}

#[tokio::test]
async fn ten_thousand_parentheses_are_refused() {
    let db = db().await;
    let ana = db.user("ana");
    for depth in [3_000, 10_000, 100_000] {
        let sql = format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
        ana.fails(Reason::NestingTooDeep, sql).await;
        ana.fails(Reason::NestingTooDeep, format!("SELECT {}1", "(".repeat(depth))).await;
        ana.fails(Reason::NestingTooDeep, format!("SELECT {}true", "NOT ".repeat(depth))).await;
        ana.fails(
            Reason::NestingTooDeep,
            format!("UPDATE messages SET n = {}1{}", "(".repeat(depth), ")".repeat(depth)),
        )
        .await;
    }
    let nested = format!("SELECT {}1{}", "(".repeat(100), ")".repeat(100));
    assert_eq!(ana.value(nested).await, "1");
    ana.fails(Reason::NestingTooDeep, format!("SELECT {}", ["1"; 100_000].join(" + "))).await;
    let sum = ana.value(format!("SELECT {}", ["1"; 500].join(" + "))).await;
    assert_eq!(sum, "500");
    let subqueries = format!("SELECT * FROM {}messages{}", "(SELECT * FROM ".repeat(40), ")".repeat(40));
    assert_eq!(ana.rows(subqueries).await.len(), 1);
}

#[tokio::test]
async fn a_large_statement_is_refused_and_one_below_the_limit_runs() {
    let db = db().await;
    let ana = db.user("ana");
    let padded = |bytes: usize| format!("SELECT length('{}')", "x".repeat(bytes));
    ana.fails(Reason::StatementTooLarge, padded(1024 * 1024)).await;
    assert_eq!(ana.value(padded(1_000_000)).await, "1000000");
    let values: Vec<String> = (10..10_010).map(|id| format!("({id}, 'row {id}', {id})")).collect();
    let answer = ana.run(format!("INSERT INTO messages VALUES {}", values.join(", "))).await;
    assert_eq!(answer.row_count, 10_000);
    let list: Vec<String> = (0..20_000).map(|i| i.to_string()).collect();
    let count = ana.value(format!("SELECT count(*) FROM messages WHERE id IN ({})", list.join(", "))).await;
    assert_eq!(count, "10001");
    let many = "SELECT 1;".repeat(1_001);
    assert!(ana.try_run(many).await.is_err());
}

#[tokio::test]
async fn a_write_over_the_limit_changes_nothing() {
    let settings = EngineSettings { max_write_bytes: 100_000, ..EngineSettings::default() };
    let db = Db::with(settings).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, s TEXT)").await;
    let ana = db.user("ana");
    let fill = |rows: usize| format!("INSERT INTO t SELECT value, repeat('x', 100) FROM generate_series(1, {rows})");
    ana.fails(Reason::WriteTooLarge, fill(2_000)).await;
    assert_eq!(ana.value("SELECT count(*) FROM t").await, "0");
    ana.run(fill(500)).await;
    ana.fails(Reason::WriteTooLarge, "UPDATE t SET s = repeat(s, 10)").await;
    assert_eq!(ana.value("SELECT max(length(s)) FROM t").await, "100");
}

#[tokio::test]
async fn multiplying_common_table_expressions_are_refused() {
    let db = db().await;
    let mut sql = "WITH c0 AS (SELECT 1 AS n)".to_owned();
    for i in 1..=30 {
        sql.push_str(&format!(", c{i} AS (SELECT a.n FROM c{0} a, c{0} b)", i - 1));
    }
    db.user("ana").fails(Reason::NestingTooDeep, sql + " SELECT count(*) FROM c30").await;
    let chain: Vec<String> = (1..=30).map(|i| format!("c{i} AS (SELECT n + 1 AS n FROM c{})", i - 1)).collect();
    let sql = format!("WITH c0 AS (SELECT 1 AS n), {} SELECT n FROM c30", chain.join(", "));
    assert_eq!(db.user("ana").value(sql).await, "31");
}

#[tokio::test]
async fn what_is_not_supported_says_what_to_do() {
    let db = db().await;
    for sql in [
        "BEGIN",
        "TRUNCATE TABLE messages",
        "GRANT SELECT ON messages TO ana",
        "USE app",
        "COPY messages TO 'file'",
        "CREATE INDEX i ON messages (n)",
        "CREATE VIEW v AS SELECT 1",
        "ALTER TABLE messages RENAME TO others",
        "ALTER TABLE messages ALTER COLUMN n TYPE BIGINT",
        "SUBSCRIBE TO messages",
        "SELECT * FROM messages FOR UPDATE",
        "SET x = 1",
    ] {
        let error = db.admin().try_run(sql).await.expect_err(sql);
        assert!(
            matches!(error.reason(), Reason::NotSupported | Reason::InvalidStatement | Reason::SyntaxError),
            "{sql}: {error}"
        );
        assert!(error.message().len() > 20, "{sql}: {error}");
    }
}

#[tokio::test]
async fn nothing_reaches_files_of_the_server() {
    let db = db().await;
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "CREATE EXTERNAL TABLE e STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "INSERT INTO 'file:///tmp/x.parquet' VALUES (1)",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT input_file_name() FROM messages",
    ] {
        assert!(db.admin().try_run(sql).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn system_tables_cannot_be_written() {
    let db = db().await;
    for sql in [
        "INSERT INTO system.tables (namespace) VALUES ('x')",
        "DELETE FROM system.namespaces",
        "UPDATE information_schema.tables SET table_name = 'x'",
        "DROP TABLE system.tables",
        "ALTER TABLE system.tables ADD COLUMN x INT",
        "CREATE USER TABLE system.x (id BIGINT PRIMARY KEY)",
        "CREATE USER TABLE information_schema.x (id BIGINT PRIMARY KEY)",
    ] {
        db.admin().fails(Reason::InvalidStatement, sql).await;
    }
}
