use std::sync::Arc;

use kalam_link::{Column, Columns, Interval, Rows, SqlType, StatementEnd, Value};

use super::{Csv, Json, Render, Table, TableOptions};
use crate::style::Style;

fn column(name: &str, sql_type: SqlType) -> Column {
    Column { name: name.into(), sql_type, nullable: true }
}

fn rows(columns: Vec<Column>, data: Vec<Vec<Value>>) -> Rows {
    Rows::from_values(Arc::new(Columns::from(columns)), data).unwrap()
}

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

fn render(mut renderer: impl Render, rows: &Rows) -> String {
    let mut out = Vec::new();
    let end = StatementEnd { row_count: rows.len() as u64, message: None, took_ms: 1.234, commit_seq: 0 };
    renderer.begin(rows.columns(), &mut out).unwrap();
    renderer.rows(rows, &mut out).unwrap();
    renderer.end(&end, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn table(width: Option<u16>, expanded: bool, timing: bool) -> Table {
    Table::new(TableOptions { width, expanded, style: Style::PLAIN, timing })
}

fn messages() -> Rows {
    rows(
        vec![column("id", SqlType::BigInt), column("content", SqlType::Text)],
        vec![vec![Value::Int(1), text("hi")], vec![Value::Int(-20), Value::Null]],
    )
}

#[test]
fn tables_are_aligned_with_numbers_to_the_right() {
    let shown = render(table(None, false, true), &messages());
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[1].contains("id") && lines[1].contains("content"), "{shown}");
    assert!(lines[3].contains("   1 ") && lines[3].contains(" hi "), "{shown}");
    assert!(lines[4].contains(" -20 ") && lines[4].contains(" NULL "), "{shown}");
    assert_eq!(lines.last().unwrap(), &"2 rows (1.23 ms)");
    assert!(render(table(None, false, false), &messages()).ends_with("\n2 rows\n"));
}

#[test]
fn an_empty_result_shows_its_columns() {
    let shown = render(table(Some(80), false, false), &rows(vec![column("id", SqlType::BigInt)], vec![]));
    assert!(shown.contains("id") && shown.ends_with("0 rows\n"), "{shown}");
}

#[test]
fn a_statement_without_rows_shows_its_message() {
    let mut out = Vec::new();
    let mut renderer = table(None, false, true);
    let end = StatementEnd { row_count: 3, message: Some("INSERT 0 3".into()), took_ms: 0.5, commit_seq: 7 };
    renderer.begin(&Columns::default(), &mut out).unwrap();
    renderer.end(&end, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "INSERT 0 3 (0.500 ms)\n");
}

#[test]
fn long_texts_are_wrapped_and_what_cannot_be_is_expanded() {
    let long = rows(vec![column("content", SqlType::Text)], vec![vec![text(&"word ".repeat(40))]]);
    let shown = render(table(Some(40), false, false), &long);
    assert!(shown.lines().count() > 6 && shown.lines().all(|line| line.chars().count() <= 40), "{shown}");

    let columns: Vec<_> = (0..20).map(|index| column(&format!("column_{index}"), SqlType::Text)).collect();
    let wide = rows(columns, vec![vec![text("value of some length"); 20]]);
    let shown = render(table(Some(80), false, false), &wide);
    assert!(shown.starts_with("-[ row 1 ]"), "{shown}");
    assert!(shown.contains("\ncolumn_0  | value of some length\n"), "{shown}");
}

#[test]
fn expanded_rows_are_numbered_across_pages() {
    let many = rows(vec![column("n", SqlType::Int)], (0..1_500).map(|n| vec![Value::Int(n)]).collect());
    let shown = render(table(None, true, false), &many);
    assert!(shown.contains("-[ row 1500 ]") && shown.contains("\nn | 1499\n"));
    let shown = render(table(None, false, false), &many);
    assert_eq!(shown.lines().filter(|line| line.contains(" n ")).count(), 2, "one header for each page");
    assert!(shown.ends_with("1500 rows\n"));
}

#[test]
fn data_cannot_drive_the_terminal() {
    let nasty = rows(vec![column("\x1b[2J", SqlType::Text)], vec![vec![text("\x1b]0;title\x07\nnext")]]);
    for shown in [
        render(table(None, false, false), &nasty),
        render(table(None, true, false), &nasty),
        render(Csv::new(true), &nasty),
        render(Json::default(), &nasty),
    ] {
        assert!(!shown.contains(['\x1b', '\x07']), "{shown:?}");
    }
    // Where no terminal reads it, CSV is exact.
    assert!(render(Csv::new(false), &nasty).contains("\x1b]0;title\x07\nnext"));
}

#[test]
fn csv_quotes_what_needs_it_and_tells_null_from_empty() {
    let columns = vec![column("a,b", SqlType::Text), column("c", SqlType::Text), column("d", SqlType::Text)];
    let data = vec![
        vec![text("say \"hi\""), text(""), Value::Null],
        vec![text("two\nlines"), text(" padded "), Value::Int(7)],
        vec![Value::list([1, 2]), Value::Bytes(vec![255]), Value::Bool(true)],
    ];
    assert_eq!(
        render(Csv::new(false), &rows(columns, data)),
        "\"a,b\",c,d\n\"say \"\"hi\"\"\",\"\",\n\"two\nlines\",\" padded \",7\n\"[\"\"1\"\",\"\"2\"\"]\",\\xff,true\n"
    );
}

#[test]
fn json_is_exact() {
    let point = SqlType::Struct(vec![column("x", SqlType::Int), column("y", SqlType::Double)]);
    let columns = vec![
        column("big", SqlType::BigInt),
        column("small", SqlType::Int),
        column("price", SqlType::Decimal { precision: 10, scale: 2 }),
        column("ratio", SqlType::Double),
        column("at", SqlType::TimestampTz),
        column("doc", SqlType::Json),
        column("tags", SqlType::List(Box::new(SqlType::Text))),
        column("point", point),
        column("pause", SqlType::Interval),
    ];
    let data = vec![
        vec![
            Value::Int(i64::MAX),
            Value::Int(7),
            Value::Decimal("1.50".into()),
            Value::Double(0.1),
            Value::TimestampTz(1_500_000),
            Value::Json("{\"n\":\n12345678901234567890}".into()),
            Value::list([Some("a\"b"), None]),
            Value::Struct(vec![Value::Int(1), Value::Double(f64::NAN)]),
            Value::Interval(Interval { months: 1, ..Interval::default() }),
        ],
        vec![Value::Null; 9],
    ];
    let shown = render(Json::default(), &rows(columns, data));
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines[0],
        "{\"big\":\"9223372036854775807\",\"small\":7,\"price\":\"1.50\",\"ratio\":0.1,\
         \"at\":\"1970-01-01T00:00:01.5Z\",\"doc\":{\"n\": 12345678901234567890},\"tags\":[\"a\\\"b\",null],\
         \"point\":{\"x\":1,\"y\":\"NaN\"},\"pause\":\"1 mon\"}"
    );
    assert_eq!(lines[1].matches("null").count(), 9);
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn json_keeps_columns_of_the_same_name() {
    let columns = vec![column("a", SqlType::Int), column("a", SqlType::Int), column("a_2", SqlType::Int)];
    let shown = render(Json::default(), &rows(columns, vec![vec![Value::Int(1), Value::Int(2), Value::Int(3)]]));
    assert_eq!(shown, "{\"a\":1,\"a_2\":2,\"a_2_2\":3}\n");
}
