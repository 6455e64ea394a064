use std::time::Duration;

use super::*;
use crate::driver::Reply;

/// `ops_per_s` operations of `latency_us` each.
fn measured(ops_per_s: f64, latency_us: u64) -> Measurement {
    let mut measurement = Measurement::new();
    for _ in 0..100 {
        measurement.record(Duration::from_micros(latency_us), Reply { server_us: Some(10.0) });
    }
    measurement.finish_slice(ops_per_s);
    measurement
}

fn insert_contest() -> Contest {
    Contest {
        subject: measured(4_000.0, 1_000),
        limits: vec![("bare echo", measured(8_000.0, 500)), ("bare RocksDB", measured(20_000.0, 100))],
    }
}

#[test]
fn the_lowest_limit_is_the_one_compared_with() {
    let record = LoadRecord::new("insert", 64, 1, &insert_contest());
    assert_eq!(record.limit.as_deref(), Some("bare echo"));
    assert_eq!(record.ratio, Some(0.5));
    assert!((record.p50_ratio.expect("there is a limit") - 2.0).abs() < 0.01);
    assert_eq!(record.limits.len(), 2);
    assert_eq!(record.errors, 0);
}

#[test]
fn errors_of_a_limit_count_too() {
    let mut contest = insert_contest();
    contest.limits[1].1.fail("disk full".to_owned());
    let record = LoadRecord::new("insert", 64, 1, &contest);
    assert_eq!(record.errors, 1);
    assert_eq!(record.first_error.as_deref(), Some("disk full"));
}

#[test]
fn nothing_is_divided_by_zero() {
    let contest = Contest { subject: Measurement::new(), limits: vec![("bare echo", Measurement::new())] };
    let record = LoadRecord::new("insert", 1, 1, &contest);
    assert_eq!(record.ratio, None);
    assert!(serde_json::to_string(&record).is_ok());
}

#[test]
fn json_has_the_published_fields_one_object_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.json");
    let record = Record::Load(Box::new(LoadRecord::new("insert", 64, 1, &insert_contest())));
    append_json(&path, &record).unwrap();
    append_json(&path, &record).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    let value: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    for field in [
        "workload",
        "clients",
        "rows",
        "ops_per_s",
        "p50_us",
        "p95_us",
        "p99_us",
        "p999_us",
        "limit",
        "limit_ops_per_s",
        "limit_p50_us",
        "ratio",
        "server_p50_us",
        "server_p99_us",
    ] {
        assert!(value.get(field).is_some_and(|v| !v.is_null()), "{field} is missing in {value}");
    }
}

#[test]
fn the_table_shows_each_load() {
    let records = [Record::Load(Box::new(LoadRecord::new("insert", 64, 1, &insert_contest())))];
    let text = table(&records).unwrap();
    assert!(text.contains("insert") && text.contains("8,000") && text.contains("0.50"), "{text}");
    assert_eq!(table(&[]), None);
}

#[test]
fn numbers_are_grouped() {
    assert_eq!(number(0.0), "0");
    assert_eq!(number(7.25), "7.2");
    assert_eq!(number(999.6), "1,000");
    assert_eq!(number(1_234_567.0), "1,234,567");
    assert_eq!(number(-1_234.0), "-1,234");
}
