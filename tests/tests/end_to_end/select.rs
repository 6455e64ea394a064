//! SELECT: that all of DataFusion's SQL works over stored rows. The `.slt` files hold the breadth; this holds what they
//! cannot say.

use kalamdb_tests::{
    client::Options,
    values::{int, text},
};
use tonic::Code;

use crate::support::{client, client_with_rows};

#[tokio::test]
async fn joins_ctes_windows_and_subqueries() {
    let client = client_with_rows().await;
    client.run("CREATE SHARED TABLE s (k TEXT PRIMARY KEY, w DOUBLE)").await;
    client.run("INSERT INTO s VALUES ('one', 0.5), ('three', 1.5), ('none', 9)").await;
    for (sql, rows) in [
        ("SELECT t.id, s.w FROM t JOIN s ON t.name = s.k ORDER BY t.id", vec!["1 | 0.5", "3 | 1.5"]),
        ("SELECT s.k FROM s LEFT JOIN t ON t.name = s.k WHERE t.id IS NULL", vec!["none"]),
        ("WITH big AS (SELECT * FROM t WHERE n > 20) SELECT count(*), sum(n) FROM big", vec!["3 | 120"]),
        ("SELECT id, sum(n) OVER (ORDER BY id) FROM t ORDER BY id LIMIT 3", vec!["1 | 10", "2 | 30", "3 | 60"]),
        ("SELECT id FROM t WHERE n = (SELECT max(n) FROM t)", vec!["5"]),
        ("SELECT id FROM t WHERE EXISTS (SELECT 1 FROM s WHERE s.k = t.name) ORDER BY 1", vec!["1", "3"]),
        ("SELECT n / 20 AS g, count(*) FROM t GROUP BY g HAVING count(*) > 1 ORDER BY g", vec!["1 | 2", "2 | 2"]),
        ("SELECT id FROM t ORDER BY name NULLS FIRST, id LIMIT 2 OFFSET 1", vec!["5", "1"]),
        ("SELECT 1 UNION ALL SELECT 2 ORDER BY 1", vec!["1", "2"]),
        (
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 4) SELECT sum(x) FROM c",
            vec!["10"],
        ),
    ] {
        assert_eq!(client.rows(sql).await, rows, "{sql}");
    }
}

#[tokio::test]
async fn keys_are_found_by_every_form_of_condition() {
    let client = client_with_rows().await;
    for (condition, ids) in [
        ("id = 3", vec!["3"]),
        ("3 = id", vec!["3"]),
        ("id IN (5, 1, 1, 99)", vec!["1", "5"]),
        ("id = 3 AND n = 0", vec![]),
        ("id = 3 OR id = 4", vec!["3", "4"]),
        ("id BETWEEN 2 AND 3", vec!["2", "3"]),
        ("id > 1 AND id <= 3 AND name LIKE 't%'", vec!["2", "3"]),
        ("id = NULL", vec![]),
        ("id = 1 AND id = 2", vec![]),
        ("NOT id < 5", vec!["5"]),
    ] {
        let sql = format!("SELECT id FROM t WHERE {condition} ORDER BY id");
        assert_eq!(client.rows(&sql).await, ids, "{sql}");
    }
    let parameterised = "SELECT id FROM t WHERE id IN ($1, $2) AND n > $3 ORDER BY id DESC";
    assert_eq!(client.run_with(parameterised, vec![int(2), int(4), int(20)]).await.shown(), ["4"]);
}

#[tokio::test]
async fn text_keys_order_and_match_as_bytes() {
    let client = client().await;
    client.run("CREATE USER TABLE k (id TEXT PRIMARY KEY, n INT)").await;
    let keys = ["", "a", "a\u{0}", "a\u{0}b", "aa", "b", "B", "é", "🦀", "a b", "a/../b"];
    for (n, key) in keys.iter().enumerate() {
        client.run_with("INSERT INTO k VALUES ($1, $2)", vec![text(*key), int(n as i64)]).await;
    }
    for (n, key) in keys.iter().enumerate() {
        let found = client.run_with("SELECT n FROM k WHERE id = $1", vec![text(*key)]).await;
        assert_eq!(found.shown(), [n.to_string()], "{key:?}");
    }
    let mut sorted = keys.map(str::to_owned);
    sorted.sort();
    assert_eq!(client.rows("SELECT id FROM k ORDER BY id").await, sorted);
    let range = client.run_with("SELECT count(*) FROM k WHERE id >= $1 AND id < $2", vec![text("a"), text("b")]).await;
    assert_eq!(range.scalar(), "6");
}

#[tokio::test]
async fn explain_shows_a_plan_and_no_path_of_the_server() {
    let client = client_with_rows().await;
    for sql in ["EXPLAIN SELECT * FROM t WHERE n > 10", "EXPLAIN ANALYZE SELECT count(*) FROM t"] {
        let plan = client.rows(sql).await.join("\n");
        assert!(plan.contains("RowsScan"), "{plan}");
        assert!(!plan.contains("/tmp") && !plan.contains("rocksdb"), "{plan}");
    }
}

#[tokio::test]
async fn names_are_case_insensitive_unless_quoted() {
    let client = client_with_rows().await;
    assert_eq!(client.rows("select NAME from T where ID = 1").await, ["one"]);
    let qualified = format!("SELECT T.n FROM {}.t WHERE t.id = 2", client.namespace_name().to_uppercase());
    assert_eq!(client.rows(&qualified).await, ["20"]);
    client.fails("SELECT \"NAME\" FROM t", "COLUMN_NOT_FOUND", Code::InvalidArgument).await;
}

#[tokio::test]
async fn functions_of_the_database() {
    let client = client().await;
    assert_eq!(client.scalar("SELECT CURRENT_USER()").await, "alice");
    assert_eq!(client.scalar("SELECT NOW() = NOW()").await, "true", "one time for a whole statement");
    assert_eq!(client.scalar("SELECT length(UUID_V7())").await, "36");
    assert_eq!(client.scalar("SELECT length(ULID())").await, "26");
    assert_eq!(client.scalar("SELECT SNOWFLAKE_ID() < SNOWFLAKE_ID()").await, "true");
    let each_row = "SELECT count(DISTINCT SNOWFLAKE_ID()) FROM (VALUES (1), (2), (3)) AS v(x)";
    assert_eq!(client.scalar(each_row).await, "3");
}

#[tokio::test]
async fn the_same_statement_follows_a_change_of_schema() {
    let client = client_with_rows().await;
    // Asked twice, so that the second answer may come from a cached plan.
    for _ in 0..2 {
        assert_eq!(client.run("SELECT * FROM t WHERE n > 40").await.shown(), ["5 | five | 50"]);
    }
    client.run("ALTER TABLE t ADD COLUMN extra INT DEFAULT 1").await;
    assert_eq!(client.run("SELECT * FROM t WHERE n > 40").await.shown(), ["5 | five | 50 | 1"]);
    client.run("DROP TABLE t").await;
    client.fails("SELECT * FROM t WHERE n > 40", "TABLE_NOT_FOUND", Code::NotFound).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n TEXT)").await;
    client.run("INSERT INTO t VALUES (1, 'text now')").await;
    assert_eq!(client.run("SELECT * FROM t WHERE id = 1").await.shown(), ["1 | text now"]);
}

#[tokio::test]
async fn a_thousand_different_and_equal_statements_at_once() {
    let client = client_with_rows().await;
    let reads = (0..1_000).map(|i| {
        let client = client.clone();
        async move {
            let id = i % 5 + 1;
            let answer = if i % 2 == 0 {
                client.run(&format!("SELECT n, {i} FROM t WHERE n = {}", id * 10)).await
            } else {
                client.run_with("SELECT n FROM t WHERE n = $1", vec![int(id * 10)]).await
            };
            assert!(answer.shown()[0].starts_with(&(id * 10).to_string()));
        }
    });
    futures::future::join_all(reads).await;
    let empty = client.execute("", Options::default()).await;
    assert!(empty.is_ok_and(|answers| answers.is_empty()), "no statement, no result");
}
