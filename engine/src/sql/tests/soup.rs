//! Whatever the text: nothing panics, and the normal form is stable.

use super::*;

fn token_soup() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP",
        "BY",
        "ORDER",
        "HAVING",
        "LIMIT",
        "OFFSET",
        "INSERT",
        "INTO",
        "VALUES",
        "UPDATE",
        "SET",
        "DELETE",
        "CREATE",
        "ALTER",
        "DROP",
        "TABLE",
        "NAMESPACE",
        "USER",
        "SHARED",
        "STREAM",
        "IF",
        "NOT",
        "EXISTS",
        "NULL",
        "PRIMARY",
        "KEY",
        "DEFAULT",
        "ACCESS",
        "TTL",
        "STORAGE",
        "STORAGES",
        "TYPE",
        "S3",
        "URI",
        "CREDENTIALS",
        "LOCATION",
        "REFERENCE",
        "FLUSH",
        "POLICY",
        "ROWS",
        "FORCE",
        "COMPACT",
        "SUBSCRIBE",
        "TO",
        "KILL",
        "LIVE",
        "QUERY",
        "STATS",
        "NONE",
        "WITH",
        "OPTIONS",
        "AS",
        "JOIN",
        "ON",
        "USING",
        "UNION",
        "ALL",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "IN",
        "IS",
        "DISTINCT",
        "BETWEEN",
        "AND",
        "OR",
        "CAST",
        "INTERVAL",
        "ARRAY",
        "STRUCT",
        "MAP",
        "INT",
        "BIGINT",
        "TEXT",
        "RETURNING",
        "CONFLICT",
        "DO",
        "NOTHING",
        "ADD",
        "COLUMN",
        "RENAME",
        "TO",
        "SHOW",
        "TABLES",
        "NAMESPACES",
        "DESCRIBE",
        "EXPLAIN",
        "ANALYZE",
        "OVER",
        "LATERAL",
        "t",
        "a",
        "b",
        "ns",
        "\"Q\"",
        "1",
        "2.5",
        "'x'",
        "'5 s'",
        "$1",
        "$2",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        ">>",
        ",",
        ";",
        ".",
        "::",
        ":",
        "=",
        "+",
        "-",
        "*",
        "/",
        "||",
        "->",
        "|>",
        "'",
        "\"",
        "/*",
        "--",
        "\n",
        "é",
        "\u{0}",
        "?",
        "@",
        "#",
        "~",
        "!",
        "%",
        "^",
        "&",
        "\\",
        "E'",
        "$$",
        "X'f'",
        "`",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_tokens_panic(sql in token_soup()) {
        let _ = parse(&sql, &LIMITS);
        let _ = parse_expression(&sql);
    }

    #[test]
    fn no_text_panics(sql in any::<String>()) {
        let _ = parse(&sql, &LIMITS);
        let _ = parse(&format!("SELECT {sql}"), &LIMITS);
        let _ = parse(&format!("CREATE USER TABLE t ({sql}"), &LIMITS);
    }

    /// White space, comments and the case of keywords change neither the statement nor its normal form.
    #[test]
    fn the_normal_form_is_stable(
        words in prop::collection::vec(prop::sample::select(vec!["a", "b + 1", "'x''y'", "f(a)", "\"Q\"", "$1"]), 1..6),
        space in prop::sample::select(vec![" ", "  ", "\n", "\t", " /* c */ ", " -- c\n"]),
    ) {
        let plain = format!("SELECT {} FROM t WHERE a = 1", words.join(", "));
        let spaced = format!(
            "{space}select{space}{}{space}From{space}T{space}WHERE{space}A{space}={space}1{space};",
            words.join(&format!("{space},{space}"))
        );
        let normal = batch(&plain).remove(0).normalized;
        prop_assert_eq!(&normal, &batch(&spaced).remove(0).normalized);
        prop_assert_eq!(&normal, &batch(&normal).remove(0).normalized);
    }
}
