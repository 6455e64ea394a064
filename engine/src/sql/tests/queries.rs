//! Queries, EXPLAIN, and what is refused.

use super::*;

#[test]
fn queries_of_datafusion_are_parsed() {
    for sql in [
        "SELECT FROM t",
        "VALUES (1, 'a'), (2, 'b')",
        "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 LIMIT 5 OFFSET 1",
        "FROM t SELECT a",
        "FROM t",
        "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
        "SELECT a, row_number() OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        "SELECT sum(a) OVER w FROM t WINDOW w AS (PARTITION BY b)",
        "SELECT first_value(a IGNORE NULLS) OVER (ORDER BY b) FROM t",
        "SELECT * FROM t QUALIFY row_number() OVER (ORDER BY a) = 1",
        "SELECT count(*) FILTER (WHERE a > 1) FROM t GROUP BY ROLLUP (b, c) HAVING count(*) > 1",
        "SELECT a FROM t GROUP BY GROUPING SETS ((a), ())",
        "SELECT a FROM t GROUP BY ALL",
        "SELECT [1, 2, 3][1], [1, 2, 3][1:2], a[b:c], {'a': 1, 'b': x}, MAP {'a': 1}, struct(1 AS a), STRUCT(1, 2)",
        "SELECT array_agg(a ORDER BY b), string_agg(DISTINCT a, ',') FROM t",
        "SELECT approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t",
        "SELECT a::BIGINT, CAST(a AS TEXT), TRY_CAST(a AS INT), a::TIMESTAMP WITH TIME ZONE",
        "SELECT a ILIKE 'x%', a ~ 'x', a !~* 'x', a SIMILAR TO 'x', a LIKE 'x' ESCAPE '\\'",
        "SELECT a AT TIME ZONE 'UTC', INTERVAL '1 day', INTERVAL '1' DAY, DATE '2026-01-01', interval FROM t",
        "SELECT EXTRACT(YEAR FROM a), date_part('year', a), substring(a FROM 1 FOR 2), position('a' IN b), trim(both 'x' from a)",
        "SELECT * EXCEPT (a), * EXCLUDE (b), * REPLACE (a + 1 AS a) FROM t",
        "SELECT * FROM a JOIN b USING (id) LEFT JOIN c ON c.x = b.x CROSS JOIN d NATURAL JOIN e",
        "SELECT * FROM a LEFT SEMI JOIN b ON a.x = b.x RIGHT ANTI JOIN c ON a.x = c.x FULL OUTER JOIN d ON TRUE",
        "SELECT * FROM a, LATERAL (SELECT * FROM b WHERE b.x = a.x) c, unnest([1, 2]) u(n), generate_series(1, 3) AS g(i)",
        "SELECT * FROM (VALUES (1, 2)) v(a, b), ((a JOIN b ON TRUE)) JOIN c ON TRUE",
        "SELECT a IN (1, 2), a IN (SELECT b FROM t), EXISTS (SELECT 1), a = ANY (ARRAY[1, 2]), (SELECT 1)",
        "SELECT CASE WHEN a THEN 1 ELSE 2 END, CASE a WHEN 1 THEN 'x' END, NULLIF(a, b), a IS NOT TRUE",
        "SELECT 'it''s', E'a\\n', X'ff', U&'\\0041', $$dollar$$, 1e5, .5, 0x1F",
        "SELECT a FROM t LIMIT 5, 10",
        "SELECT a FROM t |> WHERE a > 1 |> AGGREGATE count(*) GROUP BY a",
        "SELECT name, user, key, value, date, time, timestamp, text, type, role, data, position, floor FROM t",
        "SELECT f(a => 1, b := 2), t.a.b.c, (t).a, a[1].b",
        "EXPLAIN SELECT 1",
    ] {
        batch(sql);
    }
}

#[test]
fn operators_bind_as_in_postgresql() {
    for (sql, parsed) in [
        ("a OR b AND c", "a OR (b AND c)"),
        ("NOT a = b", "NOT (a = b)"),
        ("NOT a IS NULL", "NOT (a IS NULL)"),
        ("a IS DISTINCT FROM 1 AND b = 2", "(a IS DISTINCT FROM 1) AND (b = 2)"),
        ("a IS NOT DISTINCT FROM b + 1 OR c", "(a IS NOT DISTINCT FROM (b + 1)) OR c"),
        ("a IS DISTINCT FROM (b AND c)", "a IS DISTINCT FROM (b AND c)"),
        ("'a' || 1 + 2", "'a' || (1 + 2)"),
        ("-a::INT", "-(a::INT)"),
        ("a -> 'b' = 'c'", "(a -> 'b') = 'c'"),
        ("a + b * c - d", "(a + (b * c)) - d"),
        ("a BETWEEN 1 AND 2 AND b", "(a BETWEEN 1 AND 2) AND b"),
        ("a = b IS NULL", "(a = b) IS NULL"),
    ] {
        let unnest = |sql: &str| strip(filter(sql));
        assert_eq!(unnest(sql), unnest(parsed), "{sql}");
    }
    let Expr::BinaryOp { op, .. } = filter("a IS DISTINCT FROM 1 AND b") else { panic!() };
    assert_eq!(op, BinaryOperator::And);
}

/// The tree without parentheses and places.
fn strip(expression: Expr) -> String {
    let text = |expression: Expr| strip(expression);
    match expression {
        Expr::Nested(inner) => text(*inner),
        Expr::BinaryOp { left, op, right } => format!("[{} {op} {}]", text(*left), text(*right)),
        Expr::UnaryOp { op, expr } => format!("[{op} {}]", text(*expr)),
        Expr::IsNull(inner) => format!("[{} null]", text(*inner)),
        Expr::IsDistinctFrom(left, right) => format!("[{} distinct {}]", text(*left), text(*right)),
        Expr::IsNotDistinctFrom(left, right) => format!("[{} same {}]", text(*left), text(*right)),
        other => other.to_string(),
    }
}

#[test]
fn explain_takes_queries() {
    let Statement::Explain(explain) = one("EXPLAIN ANALYZE VERBOSE (SELECT 1)") else { panic!() };
    assert!(explain.analyze && explain.verbose);
    let Statement::Explain(explain) = one("EXPLAIN VERBOSE WITH a AS (SELECT 1) SELECT * FROM a WHERE b = $1") else {
        panic!()
    };
    assert!(!explain.analyze && explain.verbose);
    assert!(matches!(one("EXPLAIN ((SELECT 1))"), Statement::Explain(_)));
    refused("EXPLAIN DELETE FROM t", Reason::NotSupported, "EXPLAIN takes a query");
    refused("EXPLAIN INSERT INTO t VALUES (1)", Reason::NotSupported, "EXPLAIN takes a query");
    refused("EXPLAIN FORMAT JSON SELECT 1", Reason::NotSupported, "no other options");
    refused("EXPLAIN (ANALYZE) SELECT 1", Reason::NotSupported, "no other options");
    refused("EXPLAIN", Reason::SyntaxError, "the end of the statement");
    refused("EXPLAIN ANALYSE SELECT 1", Reason::SyntaxError, "Did you mean ANALYZE?");
}

#[test]
fn what_datafusion_would_ignore_is_refused() {
    for (sql, message) in [
        ("SELECT * FROM t FOR UPDATE", "one snapshot"),
        ("SELECT * FROM (SELECT * FROM t FOR SHARE) x", "one snapshot"),
        ("SELECT * INTO u FROM t", "INSERT INTO t SELECT"),
        ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"),
        ("SELECT * FROM (SELECT 1) x TABLESAMPLE (10)", "TABLESAMPLE"),
        ("SELECT * FROM t FETCH FIRST 5 ROWS ONLY", "LIMIT"),
        ("SELECT TOP 5 * FROM t", "LIMIT"),
        ("SELECT a FROM t GROUP BY a WITH ROLLUP", "GROUP BY ROLLUP"),
        ("SELECT a COLLATE \"C\" FROM t", "COLLATE"),
        ("SELECT * FROM t WHERE a = (SELECT b COLLATE x FROM u)", "COLLATE"),
        ("SELECT * FROM t CLUSTER BY a", "ORDER BY"),
        ("SELECT * FROM t PIVOT (sum(a) FOR b IN (1, 2))", "PIVOT"),
        ("SELECT * FROM t LATERAL VIEW explode(a) x", "unnest"),
        ("SELECT * FROM t WITH (NOLOCK)", "Hints"),
        ("SELECT * FROM unnest([1]) WITH ORDINALITY", "row_number"),
        ("UPDATE t SET a = (SELECT b FROM u FOR UPDATE)", "one snapshot"),
        ("INSERT INTO t SELECT * FROM u FOR UPDATE", "one snapshot"),
        ("TABLE t", "SELECT * FROM t"),
    ] {
        refused(sql, Reason::NotSupported, message);
    }
}

#[test]
fn other_statements_are_refused_by_name() {
    for (sql, message) in [
        ("BEGIN", "Transactions"),
        ("START TRANSACTION", "Transactions"),
        ("COMMIT", "Transactions"),
        ("ROLLBACK", "Transactions"),
        ("SAVEPOINT a", "Transactions"),
        ("TRUNCATE TABLE t", "DELETE FROM t"),
        ("MERGE INTO t USING u ON a = b WHEN MATCHED THEN DELETE", "ON CONFLICT"),
        ("COPY t TO 'x'", "INSERT"),
        ("GRANT SELECT ON t TO u", "ACCESS"),
        ("REVOKE ALL ON t FROM u", "ACCESS"),
        ("USE n", "default namespace"),
        ("SET a = 1", "system.settings"),
        ("UNSUBSCRIBE", "SUBSCRIBE TO"),
        ("LISTEN c", "SUBSCRIBE TO"),
        ("KILL 5", "KILL LIVE QUERY"),
        ("SUBSCRIBE TO (SELECT 1)", "without TO"),
        ("BACKUP TABLE n.t TO 'x'", "BACKUP DATABASE"),
        ("PREPARE a AS SELECT 1", "$1"),
        ("DECLARE c CURSOR FOR SELECT 1", "Cursors"),
        ("ANALYZE t", "EXPLAIN ANALYZE"),
        ("VACUUM", "Maintenance"),
        ("CREATE INDEX i ON t (a)", "PRIMARY KEY"),
        ("CREATE UNIQUE INDEX i ON t (a)", "PRIMARY KEY"),
        ("CREATE VIEW v AS SELECT 1", "WITH v AS"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "WITH v AS"),
        ("CREATE SEQUENCE s", "SNOWFLAKE_ID"),
        ("CREATE FUNCTION f() RETURNS INT AS 'x'", "Functions"),
        ("CREATE DATABASE d", "CREATE NAMESPACE"),
        ("CREATE SCHEMA IF NOT EXISTS d", "CREATE NAMESPACE"),
        ("CREATE TABLE t (a INT)", "CREATE USER TABLE"),
        ("CREATE TEMPORARY TABLE t (a INT)", "CREATE USER TABLE"),
        ("CREATE EXTERNAL TABLE t", "CREATE USER TABLE"),
        ("CREATE OR REPLACE TABLE t (a INT)", "IF NOT EXISTS"),
        ("CREATE ROLE r", "Roles are fixed"),
        ("DROP ROLE r", "Roles are fixed"),
        ("CREATE GROUP g", "Groups"),
        ("DROP API KEY 'x'", "REVOKE API KEY"),
        ("DROP USER a, b", "drops one user"),
        ("SHOW GRANTS", "system.users"),
        ("DROP VIEW v", "Views"),
        ("DROP DATABASE d", "DROP NAMESPACE"),
        ("ALTER USER TABLE t DROP COLUMN a", "Write ALTER TABLE"),
    ] {
        refused(sql, Reason::NotSupported, message);
        assert_eq!(fails(&format!("\n {sql}")).position().map(|position| position.line), Some(2), "{sql}");
    }
}
