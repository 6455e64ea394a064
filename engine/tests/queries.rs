//! Queries: their results and how they are run.

use kalamdb_engine::{Reason, SqlType};

use crate::harness::{Client, Db, int, table};

async fn sales() -> (Db, Client) {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE sales (id BIGINT PRIMARY KEY, who TEXT, n INT, at DATE)").await;
    let ana = db.user("ana");
    ana.run(
        "INSERT INTO sales VALUES (1, 'x', 10, '2026-01-01'), (2, 'y', 20, '2026-01-01'), (3, 'x', 30, '2026-01-02'), \
         (4, NULL, NULL, '2026-01-03'), (5, 'y', 5, NULL)",
    )
    .await;
    (db, ana)
}

/// The physical plan of a query.
async fn plan(client: &Client, sql: &str) -> String {
    let rows = client.rows(format!("EXPLAIN {sql}")).await;
    rows.into_iter().find(|r| r[0] == "physical_plan").map(|r| r[1].clone()).unwrap_or_default()
}

#[tokio::test]
async fn all_of_sql() {
    let (_db, ana) = sales().await;
    for (sql, rows) in [
        ("SELECT who, sum(n) FROM sales GROUP BY who HAVING sum(n) > 5 ORDER BY who", vec![["x", "40"], ["y", "25"]]),
        (
            "SELECT a.id, b.id FROM sales a JOIN sales b ON a.who = b.who AND a.id < b.id ORDER BY 1",
            vec![["1", "3"], ["2", "5"]],
        ),
        (
            "SELECT s.id, o.m FROM sales s LEFT JOIN (SELECT max(id) m FROM sales) o ON s.id = o.m WHERE s.id > 3 ORDER BY 1",
            vec![["4", "NULL"], ["5", "5"]],
        ),
        (
            "SELECT id, row_number() OVER (PARTITION BY who ORDER BY n DESC) FROM sales WHERE who = 'x' ORDER BY 1",
            vec![["1", "2"], ["3", "1"]],
        ),
        ("SELECT id, sum(n) OVER (ORDER BY id) FROM sales WHERE id < 3 ORDER BY id", vec![["1", "10"], ["2", "30"]]),
        (
            "WITH RECURSIVE r(i, f) AS (SELECT 1, 2 - 1 UNION ALL SELECT i + 1, f * (i + 1) FROM r WHERE i < 4) SELECT i, f FROM r WHERE i > 2 ORDER BY i",
            vec![["3", "6"], ["4", "24"]],
        ),
        ("SELECT id, who FROM sales WHERE n = (SELECT max(n) FROM sales)", vec![["3", "x"]]),
        (
            "SELECT id, n FROM sales s WHERE EXISTS (SELECT 1 FROM sales o WHERE o.who = s.who AND o.n > s.n) ORDER BY id",
            vec![["1", "10"], ["5", "5"]],
        ),
        (
            "SELECT who, n FROM sales WHERE id = 1 UNION ALL SELECT who, n FROM sales WHERE id = 2 ORDER BY who",
            vec![["x", "10"], ["y", "20"]],
        ),
        ("SELECT id, n FROM sales WHERE who = 'x' EXCEPT SELECT id, n FROM sales WHERE id = 1", vec![["3", "30"]]),
        ("SELECT count(*), count(n) FROM sales", vec![["5", "4"]]),
        ("SELECT count(*) FILTER (WHERE who = 'x'), avg(n) FROM sales", vec![["2", "16.25"]]),
        (
            "SELECT date_trunc('month', max(at)), extract(day FROM min(at)) FROM sales",
            vec![["2026-01-01T00:00:00", "1"]],
        ),
        (
            "SELECT id, CASE WHEN n IS NULL THEN 'none' ELSE 'some' END FROM sales WHERE id > 3 ORDER BY id",
            vec![["4", "none"], ["5", "some"]],
        ),
        (
            "SELECT DISTINCT ON (who) who, id FROM sales WHERE who IS NOT NULL ORDER BY who, id DESC",
            vec![["x", "3"], ["y", "5"]],
        ),
        ("VALUES (1, 'a'), (2, 'b')", vec![["1", "a"], ["2", "b"]]),
        ("SELECT unnest([1, 2]), 'z'", vec![["1", "z"], ["2", "z"]]),
    ] {
        assert_eq!(ana.rows(sql).await, table(&rows), "{sql}");
    }
}

#[tokio::test]
async fn aggregates_over_nothing() {
    let (_db, ana) = sales().await;
    assert_eq!(
        ana.rows("SELECT count(*), sum(n), max(who) FROM sales WHERE false").await,
        table(&[["0", "NULL", "NULL"]])
    );
    assert_eq!(
        ana.rows("SELECT who, count(*) FROM sales WHERE id > 100 GROUP BY who").await,
        Vec::<Vec<String>>::new()
    );
}

#[tokio::test]
async fn counting_needs_no_column() {
    let (_db, ana) = sales().await;
    assert_eq!(ana.value("SELECT count(*) FROM sales").await, "5");
    assert_eq!(ana.value("SELECT count(1) FROM sales WHERE id > 2").await, "3");
    assert_eq!(ana.value("SELECT count(*) FROM sales WHERE n > 5").await, "3");
    assert_eq!(ana.rows("SELECT 1 AS one FROM sales WHERE id = 2").await, table(&[["1"]]));
    assert_eq!(ana.rows("SELECT 1 AS one FROM sales").await.len(), 5);
    assert_eq!(ana.value("SELECT count(*) FROM sales a, sales b").await, "25");
}

#[tokio::test]
async fn an_order_by_key_is_the_scans_own() {
    let (_db, ana) = sales().await;
    let descending = "SELECT id, who FROM sales ORDER BY id DESC LIMIT 2";
    let physical = plan(&ana, descending).await;
    assert!(physical.contains("reverse=true") && !physical.contains("SortExec"), "{physical}");
    assert!(physical.contains("fetch=2"), "{physical}");
    assert_eq!(ana.rows(descending).await, table(&[["5", "y"], ["4", "NULL"]]));
    let ascending = "SELECT id FROM sales WHERE id >= 3 ORDER BY id LIMIT 2";
    let physical = plan(&ana, ascending).await;
    assert!(!physical.contains("SortExec") && !physical.contains("reverse"), "{physical}");
    assert_eq!(ana.rows(ascending).await, table(&[["3"], ["4"]]));
    let filtered = "SELECT id, n FROM sales WHERE who = 'x' ORDER BY id DESC LIMIT 1";
    let physical = plan(&ana, filtered).await;
    assert!(physical.contains("reverse=true") && !physical.contains("SortExec"), "{physical}");
    assert_eq!(ana.rows(filtered).await, table(&[["3", "30"]]));
    let page = "SELECT id FROM sales WHERE id < $1 ORDER BY id DESC LIMIT 2";
    assert_eq!(ana.run_with(page, &[int(4)]).await.rows, table(&[["3"], ["2"]]));
    // Orders that begin otherwise are sorted.
    assert!(plan(&ana, "SELECT * FROM sales ORDER BY n DESC, id LIMIT 1").await.contains("SortExec"));
    assert_eq!(
        ana.rows("SELECT id FROM sales ORDER BY id DESC NULLS LAST, n").await,
        table(&[["5"], ["4"], ["3"], ["2"], ["1"]])
    );
    assert_eq!(ana.rows("SELECT who FROM sales ORDER BY id DESC LIMIT 1 OFFSET 2").await, table(&[["x"]]));
}

#[tokio::test]
async fn a_limited_subquery_is_not_reversed() {
    let (_db, ana) = sales().await;
    let sql = "SELECT id FROM (SELECT id FROM sales LIMIT 2) s ORDER BY id DESC";
    assert_eq!(ana.rows(sql).await, table(&[["2"], ["1"]]));
    let sql = "SELECT id FROM (SELECT id FROM sales ORDER BY id LIMIT 3) s ORDER BY id DESC LIMIT 1";
    assert_eq!(ana.rows(sql).await, table(&[["3"]]));
}

#[tokio::test]
async fn conditions_on_the_key_become_ranges() {
    let (_db, ana) = sales().await;
    assert!(plan(&ana, "SELECT * FROM sales WHERE id > 1 AND id <= 3 AND n > 0").await.contains("key_range=true"));
    assert!(plan(&ana, "SELECT n + 1 FROM sales WHERE id IN (1, 3)").await.contains("keys=2"));
    for (condition, ids) in [
        ("id > 1 AND id <= 3", vec!["2", "3"]),
        ("id BETWEEN 2 AND 2", vec!["2"]),
        ("id IN (5, 1, 5) AND id < 5", vec!["1"]),
        ("3 <= id AND 4 >= id", vec!["3", "4"]),
        ("id = 2 OR id = 4", vec!["2", "4"]),
        ("NOT (id > 1)", vec!["1"]),
        ("id <> 1 AND id < 3", vec!["2"]),
        ("id > 2.5", vec!["3", "4", "5"]),
        ("id = NULL", vec![]),
        ("id > 3 AND id < 2", vec![]),
        ("id + 1 = 3", vec!["2"]),
        ("id NOT IN (1, 2, 3)", vec!["4", "5"]),
        ("id NOT BETWEEN 2 AND 4", vec!["1", "5"]),
        ("who = 'x' AND at IS NOT NULL", vec!["1", "3"]),
        ("who LIKE 'y%'", vec!["2", "5"]),
        ("n > 5 IS NOT TRUE", vec!["4", "5"]),
    ] {
        let rows = ana.rows(format!("SELECT id FROM sales WHERE {condition} ORDER BY id")).await;
        assert_eq!(rows, ids.iter().map(|id| vec![(*id).to_owned()]).collect::<Vec<_>>(), "{condition}");
    }
}

#[tokio::test]
async fn hidden_columns_are_seen_by_name_only() {
    let (db, ana) = sales().await;
    let names = |answer: &crate::harness::Answer| answer.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&ana.run("SELECT * FROM sales").await), ["id", "who", "n", "at"]);
    let seq = db.engine().last_commit_seq().to_string();
    let answer = ana.run("SELECT _seq, _updated, _deleted, id FROM sales WHERE id = 1").await;
    assert_eq!(answer.rows, table(&[[seq.as_str(), "2026-01-02T03:04:05.000006Z", "false", "1"]]));
    let types: Vec<SqlType> = answer.columns.iter().map(|c| c.sql_type.clone()).collect();
    assert_eq!(types, [SqlType::BigInt, SqlType::TimestampTz, SqlType::Boolean, SqlType::BigInt]);
    assert_eq!(names(&ana.run("SELECT *, _seq FROM sales").await), ["id", "who", "n", "at", "_seq"]);
    assert_eq!(names(&ana.run("SELECT s.*, s._deleted FROM sales s").await), ["id", "who", "n", "at", "_deleted"]);
    assert_eq!(names(&ana.run("SELECT * FROM sales WHERE _seq > 0").await), ["id", "who", "n", "at"]);
    db.env.advance_us(1_000_000);
    ana.run("UPDATE sales SET n = 11 WHERE id = 1").await;
    let newest = ana.rows("SELECT id, _updated FROM sales ORDER BY _seq DESC LIMIT 1").await;
    assert_eq!(newest, table(&[["1", "2026-01-02T03:04:06.000006Z"]]));
    assert_eq!(ana.value(format!("SELECT count(*) FROM sales WHERE _seq <= {seq}")).await, "4");
}

#[tokio::test]
async fn results_have_names_and_types() {
    let (_db, ana) = sales().await;
    let answer = ana.run("SELECT id AS key, n + 1, count(*) OVER () AS \"All\", NULL FROM sales LIMIT 1").await;
    let names: Vec<&str> = answer.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!((names[0], names[2]), ("key", "All"));
    assert_eq!(answer.columns[0].sql_type, SqlType::BigInt);
    assert!(!answer.columns[0].nullable);
    assert_eq!(answer.columns[3].sql_type, SqlType::Null);
}

#[tokio::test]
async fn a_scan_of_many_batches_is_whole() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE big (id BIGINT PRIMARY KEY, n BIGINT, s TEXT)").await;
    let ana = db.user("ana");
    ana.run("INSERT INTO big SELECT value, value % 97, 'row ' || value FROM generate_series(1, 50000)").await;
    assert_eq!(
        ana.rows("SELECT count(*), sum(id), count(DISTINCT n) FROM big").await,
        table(&[["50000", "1250025000", "97"]])
    );
    let ids = |rows: Vec<Vec<String>>| rows.into_iter().map(|r| r[0].parse::<i64>().unwrap()).collect::<Vec<_>>();
    assert!(ids(ana.rows("SELECT id FROM big ORDER BY id").await).into_iter().eq(1..=50_000));
    assert!(ids(ana.rows("SELECT id FROM big ORDER BY id DESC").await).into_iter().eq((1..=50_000).rev()));
    assert!(
        ids(ana.rows("SELECT id FROM big WHERE n = 5 ORDER BY id DESC LIMIT 600").await).is_sorted_by(|a, b| a > b)
    );
    assert_eq!(ana.value("SELECT s FROM big WHERE id = 49999").await, "row 49999");
    assert_eq!(ana.rows("SELECT id FROM big WHERE n = 96 LIMIT 3").await.len(), 3);
}

#[tokio::test]
async fn explain_shows_and_does_not_run() {
    let (_db, ana) = sales().await;
    let rows = ana.rows("EXPLAIN SELECT * FROM sales WHERE id = 1").await;
    assert!(rows.iter().any(|r| r[0] == "physical_plan" && r[1].contains("RowsScan: table=app.sales")), "{rows:?}");
    let rows = ana.rows("EXPLAIN ANALYZE SELECT sum(n) FROM sales").await;
    assert!(format!("{rows:?}").contains("output_rows"), "{rows:?}");
    assert!(ana.try_run("EXPLAIN DELETE FROM sales").await.is_err());
    assert_eq!(ana.value("SELECT count(*) FROM sales").await, "5");
}

#[tokio::test]
async fn ambiguous_and_aggregate_mistakes_are_explained() {
    let (_db, ana) = sales().await;
    ana.fails(Reason::InvalidStatement, "SELECT id FROM sales a, sales b").await;
    ana.fails(Reason::InvalidStatement, "SELECT who, n, count(*) FROM sales GROUP BY who").await;
    ana.fails(Reason::InvalidStatement, "SELECT * FROM sales WHERE sum(n) > 1").await;
    ana.fails(Reason::InvalidStatement, "SELECT * FROM sales WHERE who").await;
}

#[tokio::test]
async fn functions_of_the_dialect() {
    let (_db, ana) = sales().await;
    assert_eq!(ana.value("SELECT length(ulid())").await, "26");
    assert_eq!(ana.value("SELECT length(CAST(uuid_v7() AS TEXT))").await, "36");
    assert_eq!(ana.value("SELECT count(DISTINCT snowflake_id()) FROM sales").await, "5");
    assert_eq!(ana.value("SELECT count(DISTINCT s) FROM (SELECT snowflake_id() AS s FROM sales) x").await, "5");
    assert_eq!(ana.value("SELECT count(*) FROM sales WHERE at < current_date").await, "2");
    assert_eq!(ana.value("SELECT CURRENT_USER()").await, "ana");
    assert_eq!(ana.value("SELECT NOW() = CURRENT_TIMESTAMP").await, "true");
}

#[tokio::test]
async fn sums_of_integers_do_not_wrap_around() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, g INT, n BIGINT, u BIGINT UNSIGNED, i INT)").await;
    let ana = db.user("ana");
    ana.run(
        "INSERT INTO t VALUES (1, 1, 9223372036854775807, 18446744073709551615, 5), (2, 1, 1, 1, 6), (3, 2, 7, 2, NULL), \
         (4, 2, NULL, NULL, 7), (5, 2, 7, 2, NULL), (6, 3, NULL, NULL, NULL)",
    )
    .await;
    let too_large = [
        "SELECT sum(n) FROM t",
        "SELECT sum(u) FROM t",
        "SELECT g, sum(n) FROM t GROUP BY g",
        "SELECT sum(DISTINCT n) FROM t",
        "SELECT g, sum(DISTINCT u) FROM t GROUP BY g",
        "SELECT sum(n) OVER (ORDER BY id) FROM t",
        "SELECT sum(n) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        "SELECT sum(DISTINCT n) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        "SELECT sum(-n - 1) FROM t WHERE g = 1",
    ];
    for sql in too_large {
        let error = ana.fails(Reason::InvalidValue, sql).await;
        assert!(error.message().contains("is out of the range of BIGINT"), "{sql}: {error}");
    }
    // The sum counts, not what it is on the way there.
    ana.run("INSERT INTO t VALUES (7, 1, -1, 0, 1)").await;
    assert_eq!(ana.value("SELECT sum(n) FROM t WHERE g = 1").await, "9223372036854775807");
    assert_eq!(
        ana.rows("SELECT g, sum(n), sum(i), sum(DISTINCT n) FROM t WHERE id <> 1 GROUP BY g ORDER BY g").await,
        table(&[["1", "0", "7", "0"], ["2", "14", "7", "7"], ["3", "NULL", "NULL", "NULL"]])
    );
    assert_eq!(
        ana.rows("SELECT sum(n), sum(u), sum(i), sum(1.5), sum(2e0) FROM t WHERE g = 2").await,
        table(&[["14", "4", "7", "4.5", "6.0"]])
    );
    assert_eq!(ana.rows("SELECT sum(n) FROM t WHERE false").await, table(&[["NULL"]]));
    assert_eq!(
        ana.rows(
            "SELECT id, sum(n) OVER (ORDER BY id ROWS 1 PRECEDING), sum(DISTINCT u) OVER (ORDER BY id ROWS 1 PRECEDING) \
             FROM t WHERE g = 2 ORDER BY id"
        )
        .await,
        table(&[["3", "7", "2"], ["4", "7", "2"], ["5", "7", "2"]])
    );
    assert_eq!(ana.run("SELECT sum(i) FROM t").await.columns[0].sql_type, SqlType::BigInt);
    assert_eq!(ana.value("SELECT sum(value) FROM generate_series(1, 100000)").await, "5000050000");
    assert_eq!(
        ana.value(
            "SELECT sum(s) FROM (SELECT value % 1000 AS g, sum(value) AS s FROM generate_series(1, 100000) GROUP BY 1)"
        )
        .await,
        "5000050000"
    );
    assert_eq!(ana.value("SELECT sum(CAST(n AS DECIMAL(38, 0))) FROM t WHERE id < 4").await, "9223372036854775815");
}
