//! Syntax errors.

use super::*;

#[test]
fn syntax_errors_point_at_the_place() {
    for (sql, at, expected, suggestion) in [
        ("SELCT 1", place(1, 1), "found SELCT", Some("SELECT")),
        ("SELECT a FORM t", place(1, 15), "found t", Some("FROM")),
        ("SELECT * FORM t", place(1, 10), "found FORM", Some("FROM")),
        ("SELECT *\nFROM t\nWEHRE a = 1", place(3, 7), "found a", Some("WHERE")),
        ("CREATE USR TABLE t (a INT)", place(1, 8), "SHARED TABLE", Some("USER")),
        // Read as CREATE USER.
        ("CREATE USER TBALE t (a INT)", place(1, 19), "found t", Some("TABLE")),
        ("CREATE NAMESPCE n", place(1, 8), "found NAMESPCE", Some("NAMESPACE")),
        ("INSERT INTO t VALEUS (1)", place(1, 15), "found VALEUS", Some("VALUES")),
        ("UPDATE t STE a = 1", place(1, 14), "SET", Some("SET")),
        ("SELECT (1", place(1, 10), "the end of the statement", None),
        ("SELECT 1 +", place(1, 11), "an expression", None),
        ("SELECT 'abc", place(1, 8), "Unterminated", None),
        ("SELECT \"abc", place(1, 8), "", None),
        ("SELECT 1 2", place(1, 10), "the end of the statement", None),
        ("SELECT \u{0}", place(1, 8), "an expression", None),
        ("'text'", place(1, 1), "begins with SELECT", None),
    ] {
        let error = fails(sql);
        assert_eq!(error.reason(), Reason::SyntaxError, "{sql}: {error}");
        assert_eq!(error.position(), at, "{sql}: {error}");
        assert!(error.message().contains(expected), "{sql}: {error}");
        assert_eq!(error.metadata().get("suggestion").map(String::as_str), suggestion, "{sql}: {error}");
        if let Some(suggestion) = suggestion {
            assert!(error.message().ends_with(&format!("Did you mean {suggestion}?")), "{sql}: {error}");
        }
    }
}

#[test]
fn an_error_never_repeats_a_long_text() {
    let long = "x".repeat(100_000);
    for sql in [
        format!("SELECT 1 '{long}' '{long}'"),
        long.clone(),
        format!("CREATE USER TABLE t (a {long})"),
        format!("DELETE FROM a.{long}.b.c"),
        format!("SELECT ${long}"),
        format!("CREATE STREAM TABLE t (a INT) TTL '{long}'"),
        format!("INSERT INTO t ({long}, {long}) VALUES (1)"),
    ] {
        let error = fails(&sql);
        assert!(error.message().len() < 500, "{} bytes: {}", error.message().len(), &sql[..40]);
    }
}
