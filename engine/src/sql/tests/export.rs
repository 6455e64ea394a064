//! EXPORT.

use super::*;

fn exported(sql: &str) -> Export {
    match one(sql) {
        Statement::Export(export) => *export,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn tables_and_queries_can_be_exported() {
    for (sql, query, uri, format) in [
        ("EXPORT FROM t TO 'a.csv'", "SELECT * FROM t", "a.csv", None),
        ("export from ns.user.t to '/x/it''s' format JSON;", "SELECT * FROM ns.user.t", "/x/it's", Some("json")),
        ("EXPORT FROM \"T\" TO 's3://b/a' FORMAT 'parquet'", "SELECT * FROM \"T\"", "s3://b/a", Some("parquet")),
        (
            "EXPORT FROM (WITH x AS (SELECT 1 AS a) SELECT a FROM x ORDER BY a LIMIT 3) TO 'x' FORMAT csv",
            "WITH x AS (SELECT 1 AS a) SELECT a FROM x ORDER BY a LIMIT 3",
            "x",
            Some("csv"),
        ),
    ] {
        let export = exported(sql);
        assert_eq!(export.query.to_string(), query);
        assert_eq!((export.uri.as_str(), export.format.map(ExportFormat::as_str)), (uri, format));
    }
    let table = exported("EXPORT FROM ns.all_users.t TO 'x'").table.unwrap();
    assert_eq!((table.scope, text(&table.table)), (TableScope::AllUsers, "t"));
    assert!(exported("EXPORT FROM (SELECT 1) TO 'x'").table.is_none());
    let [parsed] = <[_; 1]>::try_from(batch("EXPORT FROM (SELECT a FROM t WHERE a > $2) TO 'x'")).unwrap();
    assert_eq!(parsed.parameter_count, 2);
}

#[test]
fn what_is_no_export_is_refused() {
    refused("EXPORT FROM SELECT 1 TO 'x'", Reason::NotSupported, "parentheses");
    refused("EXPORT FROM (SELECT 1) TO 'x' FORMAT xml", Reason::InvalidStatement, "parquet, csv or json");
    refused("EXPORT FROM (DELETE FROM t) TO 'x'", Reason::NotSupported, "DELETE");
    refused("EXPORT FROM t AS a TO 'x'", Reason::SyntaxError, "TO");
    refused("EXPORT FROM t TO x", Reason::SyntaxError, "'messages.parquet'");
    refused("EXPORT FROM t TO 'x' FORMAT csv WITH HEADER", Reason::SyntaxError, "the end");
    refused("EXPORT t TO 'x'", Reason::SyntaxError, "FROM");
    refused("EXPORT FROM (SELECT * FROM t FOR UPDATE) TO 'x'", Reason::NotSupported, "FOR UPDATE");
    refused("EXPORT FROM a.b.c.d TO 'x'", Reason::InvalidName, "");
}

#[test]
fn the_name_of_a_file_tells_its_format() {
    for (name, format) in [
        ("a.parquet", Some(ExportFormat::Parquet)),
        ("a.b.CSV", Some(ExportFormat::Csv)),
        ("a.jsonl", Some(ExportFormat::Json)),
        ("a.ndjson", Some(ExportFormat::Json)),
        ("parquet", None),
        ("a.csv.gz", None),
        ("", None),
    ] {
        assert_eq!(ExportFormat::of_file_name(name), format, "{name}");
    }
}
