//! Batches, limits, parameters and the normal form.

use super::*;

#[test]
fn a_batch_is_split_at_semicolons() {
    let parsed = batch(" ;; SELECT 1;\n  -- comment; not a statement\n SELECT ';' ; /* ; */");
    assert_eq!(parsed.len(), 2);
    assert_eq!(Some(parsed[0].position), place(1, 5));
    assert_eq!(Some(parsed[1].position), place(3, 2));
    assert!(batch("").is_empty());
    assert!(batch(" -- nothing\n;").is_empty());
}

#[test]
fn an_error_names_its_statement_and_its_place_in_the_batch() {
    let error = fails("SELECT 1;\nSELECT 2;\nSELECT FROM WHERE 3 4");
    assert_eq!(error.reason(), Reason::SyntaxError);
    assert_eq!(error.statement_index(), Some(2));
    assert_eq!(error.position().map(|position| position.line), Some(3));
    assert_eq!(fails("SELECT 1; TRUNCATE t").statement_index(), Some(1));
}

#[test]
fn the_text_and_the_number_of_statements_are_limited() {
    let limits = ParseLimits { max_statement_bytes: 20, max_nesting_depth: 10, max_statements: 2 };
    let long = parse("SELECT 'aaaaaaaaaaaaaaaaaaaaaaa'", &limits).expect_err("too long");
    assert_eq!(long.reason(), Reason::StatementTooLarge);
    assert!(long.message().contains("max_statement_bytes is 20"), "{long}");
    assert_eq!(parse("SELECT 1; SELECT 2;", &limits).map(|parsed| parsed.len()).ok(), Some(2));
    let many = parse("VALUES(1);;VALUES(2);VALUES(3)", &ParseLimits { max_statement_bytes: 99, ..limits });
    assert_eq!(many.expect_err("too many").reason(), Reason::StatementTooLarge);
}

#[test]
fn the_normal_form_tells_meanings_apart_and_nothing_else() {
    let normal = |sql: &str| batch(sql).remove(0).normalized;
    assert_eq!(normal("SELECT a , B FROM  ns . T"), "select a, b from ns.t");
    for same in ["select  a,b from t--x", "SELECT A, b\nFROM /* x */ T", "Select a,\tb From t ;"] {
        assert_eq!(normal(same), "select a, b from t", "{same}");
    }
    let texts = [
        "SELECT a FROM t",
        "SELECT \"A\" FROM t",
        "SELECT 'a' FROM t",
        "SELECT 'A' FROM t",
        "SELECT 'a'' b' FROM t",
        "SELECT 'a', b FROM t",
        "SELECT 'a'', b' FROM t",
        "SELECT a b FROM t",
        "SELECT E'a' FROM t",
        "SELECT $1 FROM t",
        "SELECT $2 FROM t",
        "SELECT 1 FROM t",
        "SELECT 1.0 FROM t",
    ];
    for (i, left) in texts.iter().enumerate() {
        for right in &texts[i + 1..] {
            assert_ne!(normal(left), normal(right));
        }
    }
}

#[test]
fn parameters_are_numbered() {
    assert_eq!(batch("SELECT 1")[0].parameter_count, 0);
    assert_eq!(batch("SELECT $2, $1 FROM t WHERE a = $7 LIMIT $3")[0].parameter_count, 7);
    assert_eq!(batch("INSERT INTO t VALUES ($1, '$9')")[0].parameter_count, 1);
    refused("SELECT ?", Reason::InvalidStatement, "write $1");
    refused("SELECT ?1", Reason::InvalidStatement, "write $1");
    refused("SELECT $name", Reason::InvalidStatement, "write $1");
    refused("SELECT :name", Reason::InvalidStatement, "write $1");
    refused("SELECT a FROM t WHERE b = :name LIMIT 1", Reason::InvalidStatement, "write $1");
    refused("SELECT $0", Reason::InvalidStatement, "the first one is $1");
    refused("SELECT $65536", Reason::InvalidStatement, "out of range");
    refused("SELECT $99999999999999999999999", Reason::InvalidStatement, "out of range");
    refused("CREATE USER TABLE t (a BIGINT DEFAULT $1)", Reason::InvalidStatement, "queries, INSERT");
    assert_eq!(fails("SELECT a,\n  $0").position(), place(2, 3));
}
