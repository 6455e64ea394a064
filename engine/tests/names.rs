//! What the columns of results are called.

use kalamdb_engine::Reason;

use crate::harness::{Client, Db, int, table};

/// The names of the columns that a query answers.
async fn names(client: &Client, sql: &str) -> Vec<String> {
    client.run(sql).await.columns.into_iter().map(|column| column.name).collect()
}

async fn things() -> (Db, Client) {
    let db = Db::memory().await;
    db.admin()
        .run(
            "CREATE USER TABLE t (id BIGINT PRIMARY KEY, a INT, \"B\" TEXT, l BIGINT[]);
             CREATE USER TABLE u (id BIGINT PRIMARY KEY, a INT)",
        )
        .await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t VALUES (1, 10, 'x', [1]), (2, 20, 'y', [2, 3]), (3, 20, 'z', NULL)").await;
    ana.run("INSERT INTO u VALUES (1, 7), (2, 5)").await;
    (db, ana)
}

#[tokio::test]
async fn an_expression_is_called_by_its_text() {
    let (_db, ana) = things().await;
    for (items, expected) in [
        ("1", "1"),
        ("1.50", "1.50"),
        ("1e3", "1e3"),
        ("-5", "-5"),
        ("'it''s'", "'it''s'"),
        ("'Text'", "'Text'"),
        ("NULL", "null"),
        ("TRUE", "true"),
        ("a+1", "a + 1"),
        ("(A + 1)", "(a + 1)"),
        ("COUNT(*)", "count(*)"),
        ("Sum( a )", "sum(a)"),
        ("count(DISTINCT T.a)", "count(distinct t.a)"),
        ("max(\"B\")", "max(\"B\")"),
        ("\"B\" || 'C'", "\"B\" || 'C'"),
        ("CAST(a AS TEXT)", "cast(a as text)"),
        ("CASE WHEN a = 1 THEN 'One' END", "case when a = 1 then 'One' end"),
        ("row_number() OVER (ORDER BY id)", "row_number() over (order by id)"),
        ("CURRENT_DATE", "current_date"),
        ("(SELECT max(id) FROM u)", "(select max(id) from u)"),
        ("l[1]", "l[1]"),
        ("upper(E'\\'A')", "upper(e'\\'A')"),
    ] {
        assert_eq!(names(&ana, &format!("SELECT {items} FROM t")).await, [expected], "{items}");
    }
    assert_eq!(ana.run_with("SELECT $1", &[int(1)]).await.columns[0].name, "$1");
    // Columns are called by their names.
    assert_eq!(names(&ana, "SELECT ID, t.a, \"B\", app.t.l FROM t").await, ["id", "a", "B", "l"]);
    assert_eq!(names(&ana, "SELECT id AS Key, a + 1 AS \"Next\" FROM t").await, ["key", "Next"]);
    // Whoever writes it first.
    assert_eq!(names(&ana, "SELECT A + 2 FROM t").await, ["a + 2"]);
    assert_eq!(names(&ana, "select a + 2 from t").await, ["a + 2"]);
    assert_eq!(names(&ana, "SELECT 1 UNION ALL SELECT 2 AS x").await, ["1"]);
    assert_eq!(names(&ana, "WITH w AS (SELECT id AS n FROM t) (SELECT n * 2 FROM w)").await, ["n * 2"]);
    assert_eq!(
        names(&ana, "UPDATE t SET a = a RETURNING ID, A+1, Upper(t.\"B\")").await,
        ["id", "a + 1", "upper(t.\"B\")"]
    );
}

#[tokio::test]
async fn names_may_come_twice() {
    let (_db, ana) = things().await;
    let both = ana.run("SELECT 1, 1").await;
    assert_eq!(both.rows, table(&[["1", "1"]]));
    assert_eq!(both.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["1", "1"]);
    for (sql, expected) in [
        ("SELECT a, a, t.a, a + 1, a + 1 FROM t", vec!["a", "a", "a", "a + 1", "a + 1"]),
        ("SELECT a + 1, (t.a + 1) FROM t", vec!["a + 1", "(t.a + 1)"]),
        ("SELECT DISTINCT 1, 1, 1 FROM t", vec!["1", "1", "1"]),
        ("SELECT 1 AS x, 2 AS x, id AS X FROM t", vec!["x", "x", "x"]),
        ("SELECT *, id, id FROM t", vec!["id", "a", "B", "l", "id", "id"]),
        ("SELECT t.*, t.a + 1 FROM t", vec!["id", "a", "B", "l", "t.a + 1"]),
        ("SELECT t.id, u.id FROM t JOIN u ON t.id = u.id", vec!["id", "id"]),
        ("SELECT t.*, u.id FROM t JOIN u ON t.id = u.id", vec!["id", "a", "B", "l", "id"]),
        ("SELECT id, id FROM t WHERE id = 1", vec!["id", "id"]),
        ("SELECT 1, 1 UNION SELECT 2, 2 UNION SELECT 3, 3", vec!["1", "1"]),
        ("SELECT count(*), count(*) FROM t", vec!["count(*)", "count(*)"]),
        ("SELECT id, id FROM t WHERE false", vec!["id", "id"]),
    ] {
        assert_eq!(names(&ana, sql).await, expected, "{sql}");
    }
    assert_eq!(ana.rows("SELECT id, a, id FROM t WHERE id = 2").await, table(&[["2", "20", "2"]]));
    assert_eq!(ana.run("INSERT INTO u SELECT 9, 9").await.row_count, 1);
    assert_eq!(ana.rows("SELECT *, a FROM u WHERE id = 9").await, table(&[["9", "9", "9"]]));
    assert!(!ana.rows("EXPLAIN SELECT 1, 1").await.is_empty());
    ana.fails(Reason::ColumnNotFound, "SELECT nothing, nothing FROM t").await;
}

#[tokio::test]
async fn order_and_groups_mean_what_they_did() {
    let (_db, ana) = things().await;
    let one = |values: &[&str]| values.iter().map(|v| vec![(*v).to_owned()]).collect::<Vec<_>>();
    for (sql, expected) in [
        ("SELECT -id FROM t ORDER BY -id", one(&["-3", "-2", "-1"])),
        ("SELECT -id FROM t ORDER BY 1", one(&["-3", "-2", "-1"])),
        ("SELECT -id FROM t ORDER BY id", one(&["-1", "-2", "-3"])),
        ("SELECT DISTINCT a + 1 FROM t ORDER BY a + 1 DESC", one(&["21", "11"])),
        ("SELECT DISTINCT a + 1 FROM t ORDER BY 1", one(&["11", "21"])),
        ("SELECT count(*) FROM t GROUP BY a ORDER BY count(*)", one(&["1", "2"])),
        ("SELECT count(*) FROM t GROUP BY a ORDER BY a DESC", one(&["2", "1"])),
        ("SELECT count(*) FROM t GROUP BY a ORDER BY \"count(*)\"", one(&["1", "2"])),
        ("SELECT a + 1 FROM t GROUP BY a + 1 HAVING count(*) > 1", one(&["21"])),
        ("SELECT a + 1 FROM t GROUP BY 1 ORDER BY 1", one(&["11", "21"])),
        ("SELECT sum(a) OVER (ORDER BY id) FROM t ORDER BY id", one(&["10", "30", "50"])),
        ("SELECT unnest(l) FROM t ORDER BY 1", one(&["1", "2", "3"])),
        ("SELECT unnest(l) + 1 FROM t ORDER BY 1", one(&["2", "3", "4"])),
        ("SELECT id % 2 FROM t UNION SELECT 7 ORDER BY 1", one(&["0", "1", "7"])),
        ("(SELECT a + 1 FROM t ORDER BY id LIMIT 1) UNION ALL SELECT 0", one(&["11", "0"])),
        ("SELECT DISTINCT ON (a) a - 1 FROM t ORDER BY a", one(&["9", "19"])),
    ] {
        let mut rows = ana.rows(sql).await;
        if !sql.contains("ORDER BY") || sql.contains("UNION ALL") {
            rows.sort();
            rows.reverse();
        }
        assert_eq!(rows, expected, "{sql}");
    }
    for (sql, expected) in [
        ("SELECT DISTINCT a, a FROM t ORDER BY a", table(&[["10", "10"], ["20", "20"]])),
        ("SELECT DISTINCT t.a, t.a FROM t ORDER BY t.a DESC", table(&[["20", "20"], ["10", "10"]])),
        ("SELECT a, a FROM t GROUP BY a ORDER BY a", table(&[["10", "10"], ["20", "20"]])),
        ("SELECT id, id FROM t ORDER BY id LIMIT 1", table(&[["1", "1"]])),
        ("SELECT id, id FROM t ORDER BY 2 DESC LIMIT 1", table(&[["3", "3"]])),
        ("SELECT DISTINCT a, 1 FROM t ORDER BY 1 DESC", table(&[["20", "1"], ["10", "1"]])),
        ("SELECT DISTINCT a + 1, a + 1 FROM t ORDER BY A+1 DESC", table(&[["21", "21"], ["11", "11"]])),
        ("SELECT DISTINCT a, count(*) FROM t GROUP BY a ORDER BY count(*), a", table(&[["10", "1"], ["20", "2"]])),
        ("SELECT DISTINCT ON (a) a, id + 1 FROM t ORDER BY a, id + 1 DESC", table(&[["10", "2"], ["20", "4"]])),
        ("SELECT DISTINCT ON (a + 1) a + 1, id FROM t ORDER BY a + 1, id", table(&[["11", "1"], ["21", "2"]])),
    ] {
        assert_eq!(ana.rows(sql).await, expected, "{sql}");
    }
    for order in ["t.a", "t.a DESC, u.id", "t.\"B\", u.id", "\"B\" DESC"] {
        let sql = format!("SELECT DISTINCT u.*, t.a, t.\"B\" FROM u JOIN t ON t.id = u.id ORDER BY {order}");
        assert_eq!(ana.rows(&sql).await.len(), 2, "{sql}");
    }
    let joined = "SELECT u.*, t.a FROM u JOIN t ON t.id = u.id ORDER BY t.a DESC";
    assert_eq!(ana.rows(joined).await, table(&[["2", "5", "20"], ["1", "7", "10"]]));
}
