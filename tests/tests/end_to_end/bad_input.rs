//! Statements that are wrong: each a clear error with its reason and code, and nothing half done.

use kalamdb_tests::{
    client::Client,
    values::{boolean, bytes, int, list, null, text},
};
use tonic::Code;

use crate::support::{client, client_with_rows};

/// The rows of [`client_with_rows`], which no failing statement may have changed.
async fn assert_untouched(client: &Client) {
    let rows = client.rows("SELECT * FROM t ORDER BY id").await;
    assert_eq!(rows, ["1 | one | 10", "2 | two | 20", "3 | three | 30", "4 | NULL | 40", "5 | five | 50"]);
    let tables = format!("SELECT count(*) FROM system.tables WHERE namespace = '{}'", client.namespace_name());
    assert_eq!(client.scalar(&tables).await, "1");
}

#[tokio::test]
async fn syntax_errors_tell_the_place() {
    let client = client_with_rows().await;
    for (sql, line, column) in [
        ("SELEC 1", 1, 1),
        ("SELECT 1 FRM t", 1, 14),
        ("SELECT *\nFROM t\nWHRE id = 1", 3, 6),
        ("INSERT INTO t VALUES (1, 2", 1, 27),
        ("SELECT 'é', 'open", 1, 13),
        ("CREATE SHARED TABEL x (id BIGINT PRIMARY KEY)", 1, 8),
        ("DELETE t", 1, 8),
        ("SELECT (1", 1, 10),
        ("))", 1, 1),
    ] {
        let failure = client.fails(sql, "SYNTAX_ERROR", Code::InvalidArgument).await;
        let place = (failure.meta("line").parse(), failure.meta("column").parse());
        assert_eq!(place, (Ok(line), Ok(column)), "{sql}\n{failure:#?}");
    }
    assert_untouched(&client).await;
}

#[tokio::test]
async fn a_mistyped_keyword_gets_the_nearest_one() {
    let client = client_with_rows().await;
    for (sql, keyword) in [
        ("SELEC 1", "SELECT"),
        ("CREATE NAMESPAC x", "NAMESPACE"),
        ("UPDTE t SET n = 1", "UPDATE"),
        ("CREATE SHARED TABEL x (id INT)", "TABLE"),
    ] {
        let failure = client.fails(sql, "SYNTAX_ERROR", Code::InvalidArgument).await;
        assert!(failure.message.contains(keyword), "{sql}: {}", failure.message);
    }
}

#[tokio::test]
async fn unknown_names_get_the_nearest_one() {
    let client = client_with_rows().await;
    for (sql, reason, code, nearest) in [
        ("SELECT nme FROM t", "COLUMN_NOT_FOUND", Code::InvalidArgument, "name"),
        ("SELECT t.nam FROM t", "COLUMN_NOT_FOUND", Code::InvalidArgument, "name"),
        ("INSERT INTO t (id, naem) VALUES (9, 'x')", "COLUMN_NOT_FOUND", Code::InvalidArgument, "name"),
        ("UPDATE t SET nmae = 'x'", "COLUMN_NOT_FOUND", Code::InvalidArgument, "name"),
        ("DELETE FROM t WHERE idd = 1", "COLUMN_NOT_FOUND", Code::InvalidArgument, "id"),
        ("SELECT lenght(name) FROM t", "FUNCTION_NOT_FOUND", Code::InvalidArgument, "length"),
    ] {
        let failure = client.fails(sql, reason, code).await;
        assert_eq!(failure.meta("nearest"), nearest, "{sql}\n{failure:#?}");
        assert!(failure.message.contains(nearest), "{sql}: {}", failure.message);
    }
    client.run("CREATE SHARED TABLE messages (id BIGINT PRIMARY KEY)").await;
    let failure = client.fails("SELECT * FROM mesages", "TABLE_NOT_FOUND", Code::NotFound).await;
    assert!(failure.meta("nearest").ends_with("messages"), "{failure:#?}");
    assert_eq!((failure.meta("namespace"), failure.meta("table")), (client.namespace_name(), "mesages"));
    client.fails("SELECT * FROM no_such_namespace.t", "NAMESPACE_NOT_FOUND", Code::NotFound).await;
    client.run("DROP TABLE messages").await;
    assert_untouched(&client).await;
}

#[tokio::test]
async fn constraints_hold_before_anything_is_written() {
    let client = client_with_rows().await;
    client.run("CREATE USER TABLE strict (id TEXT PRIMARY KEY, must INT NOT NULL)").await;
    client.run("INSERT INTO strict VALUES ('a', 1)").await;
    let failure = client
        .fails("INSERT INTO strict VALUES ('b', 2), ('a', 3)", "PRIMARY_KEY_VIOLATION", Code::AlreadyExists)
        .await;
    assert_eq!((failure.meta("key"), failure.meta("table").ends_with("strict")), ("'a'", true), "{failure:#?}");
    for sql in [
        "INSERT INTO strict VALUES ('c', 1), ('d', NULL)",
        "INSERT INTO strict (id) VALUES ('c')",
        "UPDATE strict SET must = NULL",
        "INSERT INTO strict SELECT name, n FROM t UNION ALL SELECT 'z', NULL",
    ] {
        let failure = client.try_run(sql).await.expect_err(sql);
        assert_eq!((failure.reason.as_str(), failure.code), ("NOT_NULL_VIOLATION", Code::InvalidArgument), "{sql}");
    }
    let failure =
        client.fails("INSERT INTO strict VALUES (NULL, 1)", "NOT_NULL_VIOLATION", Code::InvalidArgument).await;
    assert_eq!(failure.meta("column"), "id");
    assert_eq!(client.rows("SELECT * FROM strict").await, ["a | 1"]);
}

#[tokio::test]
async fn statements_that_mean_nothing() {
    let client = client_with_rows().await;
    for sql in [
        "SELECT name, count(*) FROM t",
        "SELECT * FROM t WHERE sum(n) > 1",
        "INSERT INTO t (id, name) VALUES (9)",
        "INSERT INTO t (id, id) VALUES (9, 9)",
        "SELECT 1 UNION SELECT 1, 2",
        "UPDATE t SET n = 1, n = 2",
        "SELECT id FROM t ORDER BY 3",
        "SELECT abs('x', 'y')",
        "SELECT (SELECT id, n FROM t)",
        "SELECT a.id FROM t AS a, t AS a",
        "SELECT id FROM t a JOIN t b ON a.id = b.id",
    ] {
        let failure = client.try_run(sql).await.expect_err(sql);
        let accepted = ["INVALID_STATEMENT", "COLUMN_EXISTS", "COLUMN_NOT_FOUND"];
        assert!(accepted.contains(&failure.reason.as_str()), "{sql}\n{failure:#?}");
        assert_eq!(failure.code == Code::AlreadyExists, failure.reason == "COLUMN_EXISTS", "{sql}");
    }
    for sql in
        ["SELECT 1 / 0", "SELECT CAST('x' AS INT)", "SELECT 9223372036854775807 + 1", "SELECT n / (id - 1) FROM t"]
    {
        let failure = client.try_run(sql).await.expect_err(sql);
        assert_eq!(failure.code, Code::InvalidArgument, "{sql}\n{failure:#?}");
        assert!(["INVALID_VALUE", "INVALID_STATEMENT"].contains(&failure.reason.as_str()), "{sql}\n{failure:#?}");
    }
    assert_untouched(&client).await;
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let client = client_with_rows().await;
    for (sql, named) in [
        ("CREATE VIEW v AS SELECT 1", "VIEW"),
        ("CREATE INDEX i ON t (n)", "INDEX"),
        ("TRUNCATE TABLE t", "TRUNCATE"),
        ("COPY t TO '/tmp/stolen'", "FILES"),
        ("BEGIN", "TRANSACTIONS"),
        ("COMMIT", "TRANSACTIONS"),
        ("SET search_path = x", "SETTINGS"),
        ("GRANT ALL ON t TO bob", "RIGHTS"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "CREATE SHARED TABLE"),
        ("SUBSCRIBE TO t", "SUBSCRIBESERVICE.SUBSCRIBE"),
        ("CREATE USER TABLE x (id BIGINT PRIMARY KEY, y INT REFERENCES t (id))", "FOREIGN KEYS"),
        ("CREATE USER TABLE x (id BIGINT PRIMARY KEY, y INT CHECK (y > 0))", "CHECK"),
        ("CREATE USER TABLE x (id BIGINT PRIMARY KEY, y INT UNIQUE)", "UNIQUE"),
        ("SELECT * FROM '/etc/passwd'", ""),
    ] {
        let failure = client.try_run(sql).await.expect_err(sql);
        assert!(
            [Code::Unimplemented, Code::InvalidArgument, Code::NotFound].contains(&failure.code),
            "{sql}\n{failure:#?}"
        );
        assert!(failure.message.to_uppercase().contains(named), "{sql}: {}", failure.message);
    }
    assert_untouched(&client).await;
}

#[tokio::test]
async fn parameters_of_the_wrong_number_or_type() {
    let client = client_with_rows().await;
    let count = ("PARAMETER_COUNT_MISMATCH", Code::InvalidArgument);
    for (sql, parameters, expected) in [
        ("SELECT * FROM t WHERE id = $1", vec![], "1"),
        ("SELECT * FROM t WHERE id = $1", vec![int(1), int(2)], "1"),
        ("SELECT $3", vec![int(1)], "3"),
        ("SELECT 1", vec![int(1)], "0"),
        ("INSERT INTO t VALUES ($1, $2, 0)", vec![int(9)], "2"),
    ] {
        let given = parameters.len().to_string();
        let failure = client.fails_with(sql, parameters, count.0, count.1).await;
        assert_eq!((failure.meta("expected"), failure.meta("given")), (expected, given.as_str()), "{sql}");
    }

    let mismatch = ("PARAMETER_TYPE_MISMATCH", Code::InvalidArgument);
    for (sql, parameter) in [
        ("SELECT * FROM t WHERE id = $1", text("one")),
        ("SELECT * FROM t WHERE n > $1 + 1", boolean(true)),
        ("INSERT INTO t (id, n) VALUES (9, $1)", text("many")),
        ("INSERT INTO t (id, n) VALUES (9, $1)", boolean(true)),
        ("SELECT * FROM t WHERE id = $1", bytes([1])),
        ("UPDATE t SET name = $1", list([int(1)])),
    ] {
        let failure = client.fails_with(sql, vec![parameter], mismatch.0, mismatch.1).await;
        assert_eq!(failure.meta("parameter"), "$1", "{sql}");
        assert!(!failure.meta("expected").is_empty() && !failure.meta("given").is_empty(), "{sql}: {failure:#?}");
    }
    let zero = client.try_run_with("SELECT $0", vec![int(1)]).await.unwrap_err();
    assert_eq!(zero.code, Code::InvalidArgument, "{zero:#?}");
    let nothing = kalamdb_proto::v1::Value { kind: None };
    let failure = client.fails_with("SELECT $1", vec![nothing], "INVALID_REQUEST", Code::InvalidArgument).await;
    assert_eq!(failure.meta("parameter"), "$1");
    assert_eq!(client.run_with("SELECT id FROM t WHERE id = $1", vec![null()]).await.shown(), Vec::<String>::new());
    assert_untouched(&client).await;
}

#[tokio::test]
async fn names_that_may_not_be() {
    let client = client_with_rows().await;
    let invalid = ("INVALID_NAME", Code::InvalidArgument);
    let long = "n".repeat(64);
    for name in [
        "system",
        "information_schema",
        "\"user\"",
        "all_users",
        "\"\"",
        "\"1st\"",
        "\"a-b\"",
        "\"a.b\"",
        "\"ü\"",
        long.as_str(),
    ] {
        client.fails(&format!("CREATE NAMESPACE {name}"), invalid.0, invalid.1).await;
        client.fails(&format!("CREATE SHARED TABLE {name} (id BIGINT PRIMARY KEY)"), invalid.0, invalid.1).await;
    }
    for name in ["\"\"", "\"a b\"", "_seq", "_deleted", "_user_id", long.as_str()] {
        client.fails(&format!("CREATE SHARED TABLE x (id BIGINT PRIMARY KEY, {name} INT)"), invalid.0, invalid.1).await;
        client.fails(&format!("ALTER TABLE t RENAME COLUMN n TO {name}"), invalid.0, invalid.1).await;
        client.fails(&format!("ALTER TABLE t ADD COLUMN {name} INT"), invalid.0, invalid.1).await;
    }
    assert_untouched(&client).await;

    let longest = format!("e2e_{}", "x".repeat(59));
    client.run(&format!("CREATE SHARED TABLE {longest} (id BIGINT PRIMARY KEY)")).await;
    client.run(&format!("INSERT INTO {longest} VALUES (1)")).await;
    client.run(&format!("DROP TABLE {longest}")).await;
}

#[tokio::test]
async fn ten_thousand_nested_parentheses() {
    let client = client_with_rows().await;
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
    for sql in [
        format!("SELECT {}", deep("(", ")")),
        format!("SELECT {}", deep("abs(", ")")),
        format!("SELECT {}", deep("CASE WHEN true THEN ", " END")),
        format!("SELECT {}", deep("ARRAY[", "]")),
        format!("SELECT {}1", "NOT ".repeat(10_000)),
        format!("SELECT {}1", "- ".repeat(10_000)),
        format!("SELECT * FROM {} t {}", "(SELECT * FROM ".repeat(5_000), ") x".repeat(5_000)),
        format!("DELETE FROM t WHERE id = {}", deep("(", ")")),
        format!("SELECT {}", "(".repeat(10_000)),
    ] {
        let shown: String = sql.chars().take(40).collect();
        let failure = client.try_run(&sql).await.expect_err(&shown);
        assert_eq!(failure.code, Code::InvalidArgument, "{shown}\n{failure:#?}");
        assert!(["NESTING_TOO_DEEP", "SYNTAX_ERROR"].contains(&failure.reason.as_str()), "{shown}\n{failure:#?}");
    }
    client.fails(&format!("SELECT {}", deep("(", ")")), "NESTING_TOO_DEEP", Code::InvalidArgument).await;
    // Long is not deep.
    let sum = format!("SELECT {}", vec!["1"; 5_000].join(" + "));
    match client.try_run(&sum).await {
        Ok(answer) => assert_eq!(answer.scalar(), "5000"),
        Err(failure) => assert_eq!(failure.reason, "NESTING_TOO_DEEP", "{failure:#?}"),
    }
    let ids: Vec<String> = (0..20_000).map(|id| id.to_string()).collect();
    assert_eq!(client.scalar(&format!("SELECT count(*) FROM t WHERE id IN ({})", ids.join(","))).await, "5");
    assert_untouched(&client).await;
}

#[tokio::test]
async fn a_statement_of_a_megabyte() {
    let client = client_with_rows().await;
    // Just below the limit it works, just above it is refused before it is parsed.
    let fits = format!("SELECT length('{}')", "x".repeat((1 << 20) - 100));
    if !kalamdb_tests::server::shared_is_foreign() {
        assert_eq!(client.scalar(&fits).await, ((1 << 20) - 100).to_string());
    }
    let too_long = format!("INSERT INTO t VALUES (9, '{}', 1)", "x".repeat(1 << 20));
    if !kalamdb_tests::server::shared_is_foreign() {
        let failure = client.fails(&too_long, "STATEMENT_TOO_LARGE", Code::ResourceExhausted).await;
        assert_eq!(failure.meta("limit"), "limits.max_statement_bytes");
    }
    // As a parameter it is no part of the statement.
    client.run_with("INSERT INTO t VALUES (9, $1, 1)", vec![text("x".repeat(2 << 20))]).await;
    assert_eq!(client.scalar("SELECT length(name) FROM t WHERE id = 9").await, (2 << 20).to_string());
    client.run("DELETE FROM t WHERE id = 9").await;
    assert_untouched(&client).await;
}

#[tokio::test]
async fn no_statement_at_all() {
    let client = client().await;
    for sql in ["", ";", " ;;; ", "-- nothing", "/* nothing */"] {
        match client.execute(sql, Default::default()).await {
            Ok(answers) => assert!(answers.is_empty(), "{sql:?}"),
            Err(failure) => assert_eq!(failure.code, Code::InvalidArgument, "{sql:?}"),
        }
    }
}
