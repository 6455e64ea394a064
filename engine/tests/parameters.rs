//! `$1…$n`, the plan cache, and what is bound to each run of a plan.

use datafusion::common::ScalarValue;
use kalamdb_engine::{Parameter, Reason, SqlType};

use crate::harness::{Db, boolean, double, int, null, table, text};

async fn numbers() -> Db {
    let db = Db::memory().await;
    db.admin()
        .run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n INT, d DECIMAL(10, 2), s TEXT, at TIMESTAMP, b BOOLEAN)")
        .await;
    db
}

#[tokio::test]
async fn each_type_of_parameter_reaches_its_column() {
    let db = numbers().await;
    let ana = db.user("ana");
    let insert = "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6)";
    ana.run_with(insert, &[int(1), int(7), text("12.30"), text("x"), text("2026-01-02 03:04:05"), boolean(true)]).await;
    ana.run_with(insert, &[int(2), int(8), double(0.5), text(""), null(), null()]).await;
    let at =
        Parameter { value: ScalarValue::TimestampMicrosecond(Some(1_000_000), None), sql_type: SqlType::Timestamp };
    ana.run_with(insert, &[int(3), null(), int(4), null(), at, boolean(false)]).await;
    assert_eq!(
        ana.rows("SELECT * FROM t ORDER BY id").await,
        table(&[
            ["1", "7", "12.30", "x", "2026-01-02T03:04:05", "true"],
            ["2", "8", "0.50", "", "NULL", "NULL"],
            ["3", "NULL", "4.00", "NULL", "1970-01-01T00:00:01", "false"],
        ])
    );
}

#[tokio::test]
async fn parameters_stand_in_every_part_of_a_query() {
    let db = numbers().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t (id, n, s) VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c')").await;
    let rows = |sql: &'static str, p: Vec<Parameter>| {
        let ana = ana.clone();
        async move { ana.run_with(sql, &p).await.rows }
    };
    assert_eq!(rows("SELECT s FROM t WHERE id = $1", vec![int(2)]).await, table(&[["b"]]));
    assert_eq!(
        rows("SELECT s FROM t WHERE id IN ($1, $2) ORDER BY id", vec![int(3), int(1)]).await,
        table(&[["a"], ["c"]])
    );
    assert_eq!(rows("SELECT s FROM t WHERE n > $1 ORDER BY id LIMIT $2", vec![int(5), int(1)]).await, table(&[["a"]]));
    assert_eq!(rows("SELECT n + $1 FROM t WHERE id = 1", vec![int(5)]).await, table(&[["15"]]));
    assert_eq!(rows("SELECT $1 || $2", vec![text("a"), text("b")]).await, table(&[["ab"]]));
    assert_eq!(rows("SELECT $1 + $2", vec![int(1), int(2)]).await, table(&[["3"]]));
    assert_eq!(rows("SELECT $1", vec![text("x")]).await, table(&[["x"]]));
    assert_eq!(rows("SELECT $1", vec![null()]).await, table(&[["NULL"]]));
    assert_eq!(rows("SELECT s FROM t WHERE id = $1", vec![null()]).await, Vec::<Vec<String>>::new());
    assert_eq!(rows("SELECT count(*) FROM t WHERE s = $1 OR s = $1", vec![text("a")]).await, table(&[["1"]]));
    assert_eq!(rows("SELECT id FROM t WHERE n = $1", vec![double(20.0)]).await, table(&[["2"]]));
    assert_eq!(rows("SELECT id FROM t WHERE id = $1", vec![double(1.5)]).await, Vec::<Vec<String>>::new());
    assert_eq!(
        rows("WITH c AS (SELECT id FROM t WHERE n >= $1) SELECT sum(id) FROM c", vec![int(20)]).await,
        table(&[["5"]])
    );
}

#[tokio::test]
async fn lists_that_meet_hold_parameters_and_columns() {
    let db = numbers().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t (id, n) VALUES (1, 1), (2, 1), (18, 18), (20, 5)").await;
    for (condition, ids) in [
        ("id IN ($1, 5, 20, 7) AND id IN (18, 1, 30, 40)", vec!["18"]),
        ("id IN ($1, 5, 20, 7) AND id NOT IN (18, 1, 30, 40)", vec!["20"]),
        ("id IN (18, 20, 1, 2) AND id NOT IN ($1, 5, 6, 7)", vec!["1", "2", "20"]),
        ("id NOT IN ($1, 1, 2, 3) OR id NOT IN (18, 20, 2, 3)", vec!["1", "20"]),
        ("id IN (n, 100, 200, 300) AND id IN (1, 18, 20, 2)", vec!["1", "18"]),
    ] {
        let sql = format!("SELECT id FROM t WHERE ({condition}) AND $1 > 0 ORDER BY id");
        let rows = ana.run_with(sql, &[int(18)]).await.rows;
        assert_eq!(rows, ids.iter().map(|id| vec![(*id).to_owned()]).collect::<Vec<_>>(), "{condition}");
    }
    let sql = "UPDATE t SET d = CASE WHEN id IN (n, 100, 200, 300) AND id IN (1, 18, 20, 2) THEN 1 ELSE 0 END";
    ana.run(sql).await;
    assert_eq!(ana.value("SELECT sum(d) FROM t").await, "2.00");
    let many: Vec<String> = (1..=2_000).map(|i| format!("${i}")).collect();
    let values: Vec<Parameter> = (1..=2_000).map(int).collect();
    let list = many.join(", ");
    let sql = format!("SELECT count(*) FROM t WHERE id IN ({list}) AND n IN ({list})");
    assert_eq!(ana.run_with(sql, &values).await.rows, table(&[["4"]]));
}

#[tokio::test]
async fn lists_are_parameters() {
    let db = numbers().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t (id) VALUES (1), (2), (3)").await;
    let sql_type = SqlType::List(Box::new(SqlType::BigInt));
    let list = ScalarValue::List(ScalarValue::new_list_nullable(
        &[ScalarValue::Int64(Some(1)), ScalarValue::Int64(Some(3))],
        &arrow::datatypes::DataType::Int64,
    ));
    let answer =
        ana.run_with("SELECT id FROM t WHERE id = ANY($1) ORDER BY id", &[Parameter { value: list, sql_type }]).await;
    assert_eq!(answer.rows, table(&[["1"], ["3"]]));
}

#[tokio::test]
async fn wrong_counts_are_refused_with_both_numbers() {
    let db = numbers().await;
    let ana = db.user("ana");
    for (sql, given, expected) in [
        ("SELECT * FROM t WHERE id = $1", vec![], 1),
        ("SELECT * FROM t WHERE id = $1", vec![int(1), int(2)], 1),
        ("SELECT * FROM t WHERE id = $2", vec![int(1)], 2),
        ("SELECT * FROM t", vec![int(1)], 0),
        ("INSERT INTO t (id) VALUES ($1)", vec![], 1),
        ("UPDATE t SET n = $1 WHERE id = $2", vec![int(1)], 2),
        ("DELETE FROM t WHERE id = $1", vec![], 1),
    ] {
        let error = ana.fails_with(Reason::ParameterCountMismatch, sql, &given).await;
        assert_eq!(error.metadata()["expected"], expected.to_string(), "{sql}");
        assert_eq!(error.metadata()["given"], given.len().to_string(), "{sql}");
    }
}

#[tokio::test]
async fn wrong_types_name_the_parameter_and_both_types() {
    let db = numbers().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t (id, n, s) VALUES (1, 10, 'a')").await;
    for (sql, given, number, expected, was) in [
        ("SELECT * FROM t WHERE id = $1", vec![text("1")], "$1", "BIGINT", "TEXT"),
        ("SELECT * FROM t WHERE id = $1", vec![boolean(true)], "$1", "BIGINT", "BOOLEAN"),
        ("SELECT * FROM t WHERE s = $1", vec![int(1)], "$1", "TEXT", "BIGINT"),
        ("INSERT INTO t (id, n) VALUES ($1, $2)", vec![int(5), text("7")], "$2", "INT", "TEXT"),
        ("INSERT INTO t (id, b) VALUES ($1, $2)", vec![int(5), int(1)], "$2", "BOOLEAN", "BIGINT"),
        ("UPDATE t SET n = $1 WHERE id = $2", vec![text("x"), int(1)], "$1", "INT", "TEXT"),
        ("DELETE FROM t WHERE id = $1", vec![text("x")], "$1", "BIGINT", "TEXT"),
    ] {
        let error = ana.fails_with(Reason::ParameterTypeMismatch, sql, &given).await;
        assert_eq!(error.metadata().get("parameter").map(String::as_str), Some(number), "{sql}: {error}");
        assert!(error.message().contains(expected) && error.message().contains(was), "{sql}: {error}");
    }
    assert_eq!(ana.value("SELECT count(*) FROM t").await, "1");
}

#[tokio::test]
async fn the_same_text_is_right_before_and_after_ddl() {
    let db = Db::memory().await;
    let (admin, ana) = (db.admin(), db.user("ana"));
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, a TEXT)").await;
    ana.run("INSERT INTO t VALUES (1, 'one')").await;
    let point = || ana.rows("SELECT * FROM t WHERE id = 1");
    let scan = || ana.rows("SELECT * FROM t WHERE a = 'one'");
    for _ in 0..2 {
        assert_eq!(point().await, table(&[["1", "one"]]));
        assert_eq!(scan().await, table(&[["1", "one"]]));
    }
    admin.run("ALTER TABLE t ADD COLUMN b BIGINT DEFAULT 5").await;
    for _ in 0..2 {
        assert_eq!(point().await, table(&[["1", "one", "5"]]));
        assert_eq!(scan().await, table(&[["1", "one", "5"]]));
    }
    ana.fails(Reason::InvalidStatement, "INSERT INTO t VALUES (2, 'two')").await;
    admin.run("ALTER TABLE t DROP COLUMN a").await;
    assert_eq!(point().await, table(&[["1", "5"]]));
    ana.fails(Reason::ColumnNotFound, "SELECT * FROM t WHERE a = 'one'").await;
    admin.run("ALTER TABLE t ADD COLUMN a BIGINT").await;
    assert_eq!(point().await, table(&[["1", "5", "NULL"]]));
    admin.run("ALTER TABLE t RENAME COLUMN id TO key").await;
    ana.fails(Reason::ColumnNotFound, "SELECT * FROM t WHERE id = 1").await;
    admin.run("DROP TABLE t").await;
    ana.fails(Reason::TableNotFound, "SELECT * FROM t WHERE id = 1").await;
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, x BIGINT)").await;
    assert_eq!(point().await, Vec::<Vec<String>>::new());
    ana.run("INSERT INTO t VALUES (1, 77)").await;
    assert_eq!(point().await, table(&[["1", "77"]]));
}

#[tokio::test]
async fn cached_writes_follow_ddl() {
    let db = Db::memory().await;
    let (admin, ana) = (db.admin(), db.user("ana"));
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, a BIGINT)").await;
    let insert = |id| ana.run_with("INSERT INTO t (id, a) VALUES ($1, $1)", &[int(id)]);
    let update = |id| ana.run_with("UPDATE t SET a = a + 1 WHERE id = $1", &[int(id)]);
    insert(1).await;
    update(1).await;
    admin.run("ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'new'").await;
    insert(2).await;
    update(1).await;
    update(2).await;
    assert_eq!(ana.rows("SELECT * FROM t ORDER BY id").await, table(&[["1", "3", "new"], ["2", "3", "new"]]));
    admin.run("ALTER TABLE t RENAME COLUMN a TO c").await;
    ana.fails_with(Reason::ColumnNotFound, "UPDATE t SET a = a + 1 WHERE id = $1", &[int(1)]).await;
    admin.run("ALTER TABLE t RENAME COLUMN c TO a").await;
    update(1).await;
    assert_eq!(ana.value("SELECT a FROM t WHERE id = 1").await, "4");
}

#[tokio::test]
async fn a_plan_belongs_to_its_namespace() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE NAMESPACE b; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY); CREATE USER TABLE b.t (id TEXT PRIMARY KEY)").await;
    let ana = db.user("ana");
    ana.run("INSERT INTO app.t VALUES (1); INSERT INTO b.t VALUES ('one')").await;
    for _ in 0..2 {
        assert_eq!(ana.value("SELECT id FROM t").await, "1");
        assert_eq!(ana.in_namespace(Some("b")).value("SELECT id FROM t").await, "one");
    }
}

#[tokio::test]
async fn statements_that_look_alike_are_not_confused() {
    let db = Db::memory().await;
    let ana = db.user("ana");
    assert_eq!(ana.value("SELECT 'a'").await, "a");
    assert_eq!(ana.value("SELECT 'A'").await, "A");
    assert_eq!(ana.value("SELECT  'a  b'").await, "a  b");
    assert_eq!(ana.value("SELECT 'a b'").await, "a b");
    assert_eq!(ana.value("SELECT 1 -- a comment").await, "1");
    assert_eq!(ana.value("SELECT /* 2 */ 2").await, "2");
    assert_eq!(ana.run("SELECT 1 AS \"Ab\"").await.columns[0].name, "Ab");
    assert_eq!(ana.run("SELECT 1 AS \"ab\"").await.columns[0].name, "ab");
    assert_eq!(ana.run_with("SELECT $1", &[int(1)]).await.columns[0].sql_type, SqlType::BigInt);
    assert_eq!(ana.run_with("SELECT $1", &[text("x")]).await.columns[0].sql_type, SqlType::Text);
    assert_eq!(ana.run_with("SELECT $1", &[double(0.5)]).await.rows, table(&[["0.5"]]));
}

#[tokio::test]
async fn now_and_current_user_belong_to_each_run() {
    let db = Db::memory().await;
    db.admin()
        .run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, at TIMESTAMP DEFAULT NOW(), who TEXT DEFAULT CURRENT_USER())")
        .await;
    let sql = "SELECT NOW(), CURRENT_USER(), CURRENT_DATE";
    assert_eq!(db.user("ana").rows(sql).await, table(&[["2026-01-02T03:04:05.000006", "ana", "2026-01-02"]]));
    db.user("ana").run("INSERT INTO t (id) VALUES (1)").await;
    db.env.advance_us(86_400_000_000);
    assert_eq!(db.user("bob").rows(sql).await, table(&[["2026-01-03T03:04:05.000006", "bob", "2026-01-03"]]));
    db.user("bob").run("INSERT INTO t (id) VALUES (1)").await;
    db.user("bob").run("INSERT INTO t (id, at, who) VALUES (2, NOW() - INTERVAL '1 day', upper(CURRENT_USER()))").await;
    assert_eq!(
        db.admin().rows("SELECT id, at, who FROM app.all_users.t ORDER BY at, id, who").await,
        table(&[
            ["1", "2026-01-02T03:04:05.000006", "ana"],
            ["2", "2026-01-02T03:04:05.000006", "BOB"],
            ["1", "2026-01-03T03:04:05.000006", "bob"],
        ])
    );
    let recent = "SELECT count(*) FROM t WHERE at > NOW() - INTERVAL '1 hour'";
    assert_eq!(db.user("bob").value(recent).await, "1");
    db.env.advance_us(7_200_000_000);
    assert_eq!(db.user("bob").value(recent).await, "0");
    let own = "UPDATE t SET who = CURRENT_USER() || '!' WHERE who = CURRENT_USER() RETURNING who";
    assert_eq!(db.user("ana").rows(own).await, table(&[["ana!"]]));
    assert_eq!(db.user("bob").rows(own).await, table(&[["bob!"]]));
}
