//! Deep and wide statements.

use super::*;

#[test]
fn deep_statements_are_refused_on_a_small_stack() {
    let nested = |open: &str, close: &str| format!("SELECT {}1{}", open.repeat(10_000), close.repeat(10_000));
    let statements = [
        nested("(", ")"),
        nested("f(", ")"),
        nested("[", "]"),
        nested("{'a': ", "}"),
        nested("CASE WHEN ", " THEN 1 END"),
        nested("(SELECT ", ")"),
        nested("a IN (SELECT ", ")"),
        nested("CAST(", " AS INT)"),
        format!("SELECT {} a", "NOT ".repeat(100_000)),
        format!("SELECT {} a", "- ".repeat(100_000)),
        format!("SELECT {} a", "+ ".repeat(100_000)),
        format!("SELECT {} a", "~ ".repeat(100_000)),
        format!("SELECT {}a", "INTERVAL ".repeat(50_000)),
        format!("SELECT a{}", " AND a".repeat(100_000)),
        format!("SELECT a{}", " || a".repeat(100_000)),
        format!("SELECT a{}", " IS NULL".repeat(50_000)),
        format!("SELECT a{}", " IS DISTINCT FROM a".repeat(30_000)),
        format!("SELECT a{}", "::INT".repeat(100_000)),
        format!("SELECT a{}", "[1]".repeat(100_000)),
        format!("SELECT a{}", ".b".repeat(100_000)),
        format!("SELECT a::INT{}", "[]".repeat(100_000)),
        format!("SELECT a::{}INT{}", "ARRAY<".repeat(10_000), ">".repeat(10_000)),
        format!("SELECT 1{}", " + STRUCT<a INT, b INT>(1, 2)".repeat(20_000)),
        format!("SELECT a{}", " + where + select".repeat(30_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(10_000)),
        format!("SELECT * FROM a{}", " JOIN a ON TRUE".repeat(10_000)),
        format!("SELECT * FROM a{}", " |> WHERE a".repeat(10_000)),
        format!("SELECT * FROM {}a{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT * FROM {}a", "((SELECT * FROM ".repeat(40)),
        format!("SELECT 1 FROM {}a", "((SELECT 1 FROM ".repeat(40)),
        format!("CREATE USER TABLE t (a {}INT{})", "STRUCT(a ".repeat(10_000), ")".repeat(10_000)),
        format!("CREATE USER TABLE t (a INT DEFAULT {}1{})", "(".repeat(10_000), ")".repeat(10_000)),
        format!("INSERT INTO t VALUES ({}1{})", "(".repeat(10_000), ")".repeat(10_000)),
        format!("DELETE FROM t WHERE {}a", "NOT ".repeat(100_000)),
        format!("EXPLAIN {}SELECT 1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT * FROM {}", vec!["t"; 10_000].join(", ")),
    ];
    on_small_stack(move || {
        for sql in &statements {
            let error = fails(sql);
            assert_eq!(error.reason(), Reason::NestingTooDeep, "{}: {error}", &sql[..60]);
            assert_eq!(error.statement_index(), Some(0));
        }
        assert_eq!(parse_expression(&"(".repeat(10_000)).expect_err("deep").reason(), Reason::NestingTooDeep);
    });
}

#[test]
fn wide_statements_are_not_deep() {
    batch(&format!("SELECT {}", vec!["a + b * c"; 5_000].join(", ")));
    batch(&format!("SELECT * FROM t WHERE a IN ({})", vec!["1"; 20_000].join(", ")));
    batch(&format!("INSERT INTO t VALUES {}", vec!["(-1, 'x' || 'y', NOW())"; 10_000].join(", ")));
    batch(&format!("SELECT * FROM t WHERE {}", vec!["a = 1"; 300].join(" OR ")));
    batch(&format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(150)));
    batch(&format!("SELECT {}1{}", "(".repeat(99), ")".repeat(99)));
}

#[test]
fn the_deepest_statements_allowed_fit_a_small_stack() {
    let statements = [
        format!("SELECT {}1{}", "(".repeat(99), ")".repeat(99)),
        format!("SELECT a{}", " AND a".repeat(990)),
        format!("SELECT {} a", "NOT ".repeat(990)),
        format!("SELECT {}1{}", "(SELECT ".repeat(99), ")".repeat(99)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(199)),
        format!("SELECT a{}", " IS DISTINCT FROM a".repeat(900)),
    ];
    on_small_stack(move || {
        for sql in &statements {
            let parsed = batch(sql);
            let Statement::Query(query) = &parsed[0].statement else { panic!() };
            assert!(!query.to_string().is_empty());
        }
    });
}

#[test]
fn ambiguous_nesting_does_not_take_exponential_time() {
    for open in ["CAST(", "FLOOR(", "SUBSTR(", "CONVERT(", "INTERVAL (", "ARRAY[", "a IN ((SELECT "] {
        fails(&format!("SELECT {}", open.repeat(45)));
        fails(&format!("SELECT {} a b c {}", open.repeat(45), ")".repeat(45)));
    }
}

/// Runs on a quarter of the stack that threads have by default.
fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(test).expect("a thread");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
