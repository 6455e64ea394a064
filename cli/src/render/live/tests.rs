use kalam_link::{Change, Column, Columns, CommitChanges, Row, Rows, SqlType, Value};

use super::{LiveCsv, LiveJson, LiveRender, LiveTable};
use crate::{render::TableOptions, style::Style};

fn columns() -> Columns {
    let column = |name: &str, sql_type| Column { name: name.to_owned(), sql_type, nullable: true };
    vec![column("id", SqlType::BigInt), column("body", SqlType::Text), column("mood", SqlType::Text)].into()
}

fn row(id: i64, body: &str, mood: Option<&str>) -> Row {
    let values = vec![Value::Int(id), body.into(), mood.map_or(Value::Null, Value::from)];
    Rows::from_values(columns(), vec![values]).unwrap()[0].clone()
}

fn rows(rows: &[Row]) -> Rows {
    Rows::from_values(columns(), rows.iter().map(|row| row.values().to_vec()).collect()).unwrap()
}

fn table(style: Style) -> LiveTable {
    LiveTable::new(TableOptions { width: Some(80), expanded: false, style, timing: true })
}

/// A stream with an event of each kind.
fn render(mut live: impl LiveRender) -> String {
    let mut out = Vec::new();
    let (old, new) = (row(1, "it's\nlate", None), row(1, "it's\nlate", Some("calm")));
    live.started("7", &columns(), &mut out).unwrap();
    live.rows(&rows(std::slice::from_ref(&old)), &mut out).unwrap();
    live.ready(20, 1, &mut out).unwrap();
    let changes = vec![
        Change::Insert { row: row(2, "hi", None) },
        Change::Update { old: Some(old), row: new.clone() },
        Change::Update { old: None, row: new.clone() },
        Change::Delete { row: new },
    ];
    let commit_time_us = 1_700_000_000_123_456;
    let commit = CommitChanges { commit_seq: 21, commit_time_us, changes, token: "t".to_owned(), merged: false };
    for change in &commit.changes {
        live.change(&commit, change, &mut out).unwrap();
    }
    let merged = CommitChanges { commit_seq: 22, merged: true, ..commit.clone() };
    live.change(&merged, &commit.changes[0], &mut out).unwrap();
    live.reset("CHANGES_EXPIRED", "Too old.", &mut out).unwrap();
    live.abandon(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn people_get_a_table_and_then_lines() {
    let shown = render(table(Style::PLAIN));
    let (first_rows, changes) = shown.split_once("-- ready: 1 row, seq 20 --\n").unwrap();
    assert!(first_rows.contains("it's\\nlate") && first_rows.contains("mood"), "{first_rows}");
    let lines: Vec<_> = changes.lines().collect();
    // Where the test runs, nobody knows.
    let time = &lines[0][..12];
    assert!(time.ends_with(".123") && time.as_bytes()[2] == b':', "{time}");
    assert_eq!(
        lines[..5].iter().map(|line| &line[13..]).collect::<Vec<_>>(),
        [
            "+ INSERT id=2, body='hi', mood=NULL",
            "~ UPDATE id=1, body='it''s\\nlate', mood=NULL → 'calm'",
            "~ UPDATE id=1, body='it''s\\nlate', mood='calm'",
            "- DELETE id=1, body='it''s\\nlate', mood='calm'",
            "+ INSERT id=2, body='hi', mood=NULL (merged)",
        ]
    );
    assert_eq!(lines[5..], ["-- reset (CHANGES_EXPIRED), the rows as of now follow: Too old. --"]);
}

#[test]
fn marks_are_coloured_when_wanted() {
    let shown = render(table(Style::new(true)));
    for (color, text) in [("32", "+ INSERT"), ("33", "~ UPDATE"), ("33", "mood=NULL → 'calm'"), ("31", "- DELETE")] {
        assert!(shown.contains(&format!("\x1b[1;{color}m{text}\x1b[0m")), "{text}: {shown:?}");
    }
    assert!(!render(table(Style::PLAIN)).contains('\x1b'));
}

#[test]
fn json_is_a_line_for_each_event() {
    let shown = render(LiveJson::default());
    let time = "\"time\":\"2023-11-14T22:13:20.123456Z\"";
    let (old, new) = (
        "{\"id\":\"1\",\"body\":\"it's\\nlate\",\"mood\":null}",
        "{\"id\":\"1\",\"body\":\"it's\\nlate\",\"mood\":\"calm\"}",
    );
    let hi = "{\"id\":\"2\",\"body\":\"hi\",\"mood\":null}";
    let expected = [
        "{\"event\":\"started\",\"live_id\":\"7\"}".to_owned(),
        format!("{{\"event\":\"row\",\"row\":{old}}}"),
        "{\"event\":\"ready\",\"commit_seq\":\"20\",\"rows\":\"1\"}".to_owned(),
        format!("{{\"event\":\"insert\",\"commit_seq\":\"21\",{time},\"row\":{hi}}}"),
        format!("{{\"event\":\"update\",\"commit_seq\":\"21\",{time},\"old\":{old},\"row\":{new}}}"),
        format!("{{\"event\":\"update\",\"commit_seq\":\"21\",{time},\"row\":{new}}}"),
        format!("{{\"event\":\"delete\",\"commit_seq\":\"21\",{time},\"old\":{new}}}"),
        format!("{{\"event\":\"insert\",\"commit_seq\":\"22\",{time},\"merged\":true,\"row\":{hi}}}"),
        "{\"event\":\"reset\",\"reason\":\"CHANGES_EXPIRED\",\"message\":\"Too old.\"}".to_owned(),
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    assert!(shown.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn csv_has_the_event_before_the_columns() {
    let shown = render(LiveCsv::new(false));
    let time = "2023-11-14 22:13:20.123456+00";
    let expected = format!(
        "event,commit_seq,time,id,body,mood\n\
         row,,,1,\"it's\nlate\",\n\
         ready,20,,,,\n\
         insert,21,{time},2,hi,\n\
         update,21,{time},1,\"it's\nlate\",calm\n\
         update,21,{time},1,\"it's\nlate\",calm\n\
         delete,21,{time},1,\"it's\nlate\",calm\n\
         insert,22,{time},2,hi,\n\
         reset,,,,,\n"
    );
    assert_eq!(shown, expected);

    let mut live = LiveCsv::new(false);
    let mut out = Vec::new();
    live.started("7", &columns(), &mut out).unwrap();
    live.started("8", &columns(), &mut out).unwrap();
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1, "one header for the same columns");
    live.started("9", &columns()[..1].to_vec().into(), &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().ends_with("event,commit_seq,time,id\n"));
}
