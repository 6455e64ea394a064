//! Tests of the rewriting.

use super::*;

/// A rewriter that knows `t (a, b)` and `u (b, c)` without keys of their own and `k (id, x)` with one.
fn rewriter() -> Rewriter {
    let mut rewriter = Rewriter::default();
    for sql in [
        "CREATE TABLE t(a INTEGER, b INTEGER)",
        "CREATE TABLE u(b INTEGER, c TEXT)",
        "CREATE TABLE k(id INTEGER PRIMARY KEY, x INTEGER)",
    ] {
        let Plan::Run { changes, .. } = rewriter.plan(sql) else { panic!("{sql} is run") };
        rewriter.note(changes);
    }
    rewriter
}

fn sql(sql: &str) -> String {
    match rewriter().plan(sql) {
        Plan::Run { sql, .. } => sql,
        Plan::Skip => "(skipped)".to_owned(),
    }
}

#[test]
fn a_table_without_a_key_gets_one() {
    let mut rewriter = Rewriter::default();
    let Plan::Run { sql, .. } = rewriter.plan("CREATE TABLE t1(a INTEGER, b VARCHAR(30))") else { panic!("run") };
    assert_eq!(
        sql,
        "CREATE USER TABLE t1 (a INTEGER, b VARCHAR(30), _slt_key1 BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID())"
    );
}

#[test]
fn an_integer_key_becomes_bigint_and_a_composite_key_is_replaced() {
    assert_eq!(
        sql("CREATE TABLE n(id INTEGER PRIMARY KEY, x REAL)"),
        "CREATE USER TABLE n (id BIGINT PRIMARY KEY, x REAL)"
    );
    assert_eq!(
        sql("CREATE TABLE n(p INTEGER, q INTEGER, PRIMARY KEY (p, q))"),
        "CREATE USER TABLE n (p INTEGER, q INTEGER, _slt_key3 BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID())"
    );
}

#[test]
fn the_key_stays_hidden_from_stars() {
    for (given, sent) in [
        ("SELECT * FROM t", "SELECT t.a, t.b FROM t"),
        ("SELECT * FROM t AS x, u", "SELECT x.a, x.b, u.b, u.c FROM t AS x, u"),
        ("SELECT t.*, 1 FROM t, k", "SELECT t.a, t.b, 1 FROM t, k"),
        ("SELECT * FROM t JOIN k ON a = id", "SELECT t.a, t.b, k.id, k.x FROM t JOIN k ON a = id"),
        ("SELECT * FROM t JOIN u USING (b)", "SELECT b, t.a, u.c FROM t JOIN u USING(b)"),
        ("SELECT * FROM t NATURAL JOIN u", "SELECT b, t.a, u.c FROM t JOIN u USING(b)"),
        ("SELECT * FROM (SELECT * FROM t) AS s", "SELECT * FROM (SELECT t.a, t.b FROM t) AS s"),
        ("SELECT 1 WHERE 2 IN (SELECT * FROM t)", "SELECT 1 WHERE 2 IN (SELECT t.a, t.b FROM t)"),
        ("SELECT * FROM t UNION SELECT * FROM u", "SELECT t.a, t.b FROM t UNION SELECT u.b, u.c FROM u"),
        ("SELECT * FROM t AS x(p, q)", "SELECT x.p, x.q FROM t AS x (p, q, _slt_key1)"),
        ("DELETE FROM t RETURNING *", "DELETE FROM t RETURNING a, b"),
    ] {
        assert_eq!(sql(given), sent);
    }
}

#[test]
fn inserts_name_their_columns() {
    assert_eq!(sql("INSERT INTO t VALUES (1, 2)"), "INSERT INTO t (a, b) VALUES (1, 2)");
    assert_eq!(sql("INSERT INTO t SELECT * FROM u"), "INSERT INTO t (a, b) SELECT u.b, u.c FROM u");
}

#[test]
fn what_needs_no_change_is_sent_as_written() {
    for text in [
        "SELECT  a FROM t  -- as it is",
        "SELECT count(*) FROM t",
        "SELECT * FROM k",
        "WITH t AS (SELECT 1 AS one) SELECT * FROM t",
        "INSERT INTO k VALUES (1, 2)",
        "CREATE USER TABLE own (id BIGINT PRIMARY KEY)",
    ] {
        assert_eq!(sql(text), text);
    }
}

#[test]
fn indexes_are_skipped_unless_unique() {
    assert_eq!(sql("CREATE INDEX i ON t(a)"), "(skipped)");
    assert_eq!(sql("CREATE UNIQUE INDEX i ON t(a)"), "CREATE UNIQUE INDEX i ON t(a)");
}

#[test]
fn alter_table_is_followed() {
    let mut rewriter = rewriter();
    for sql in
        ["ALTER TABLE t ADD COLUMN d INTEGER", "ALTER TABLE t RENAME COLUMN a TO z", "ALTER TABLE t DROP COLUMN b"]
    {
        let Plan::Run { changes, .. } = rewriter.plan(sql) else { panic!("{sql} is run") };
        rewriter.note(changes);
    }
    let Plan::Run { sql, .. } = rewriter.plan("SELECT * FROM t") else { panic!("run") };
    assert_eq!(sql, "SELECT t.z, t.d FROM t");
}

#[test]
fn the_tables_written_are_known() {
    for (sql, expected) in [
        ("INSERT INTO t VALUES (1, 2)", &["t"][..]),
        ("INSERT INTO \"T\" (a) SELECT b FROM u ON CONFLICT DO NOTHING", &["\"T\""]),
        ("UPDATE ns.t SET a = 1 WHERE a IN (SELECT b FROM u)", &["ns.t"]),
        ("DELETE FROM k; UPDATE t SET a = 2", &["k", "t"]),
        ("SELECT * FROM t", &[]),
        ("CREATE TABLE n(a INTEGER)", &[]),
        ("DROP TABLE t", &[]),
    ] {
        let Plan::Run { writes, .. } = rewriter().plan(sql) else { panic!("{sql} is run") };
        assert_eq!(writes, expected, "{sql}");
    }
}
