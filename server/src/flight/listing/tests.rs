use arrow::{array::AsArray, datatypes::UInt32Type};
use kalamdb_engine::Reason;

use super::*;
use crate::{config::Config, flight::sql_info::sql_info};

fn numbers(asked: Vec<u32>) -> Vec<u32> {
    let data = sql_info(&Config::default()).unwrap();
    let batch = server_info(&data, asked).unwrap();
    assert_eq!(batch.schema(), data.schema());
    batch.column(0).as_primitive::<UInt32Type>().values().to_vec()
}

#[test]
fn numbers_that_are_asked_for_are_answered_once() {
    let name = SqlInfo::FlightSqlServerName as u32;
    let version = SqlInfo::FlightSqlServerVersion as u32;
    assert!(numbers(Vec::new()).len() > 80, "all of them");
    assert_eq!(numbers(vec![version, name]), [name, version]);
    assert_eq!(numbers(vec![name, u32::MAX, 9_999, name]), [name]);
    // An array for each of these would have many times their size.
    assert_eq!(numbers(vec![name; 1_000_000]), [name]);
    // None that is known is not all.
    assert!(numbers(vec![9_999]).is_empty());
    assert!(numbers((10_000..1_000_000).collect()).is_empty());
}

#[test]
fn types_of_tables_are_asked_for_once() {
    let known = |asked: &[&str]| known_types(asked.iter().map(|name| (*name).to_owned()).collect());
    assert!(known(&[]).is_empty(), "which means all");
    assert_eq!(known(&["TABLE", "VIEW", "SYSTEM TABLE", "TABLE"]), ["SYSTEM TABLE", "TABLE"]);
    assert_eq!(known(&["VIEW", "table"]), [""]);
    assert_eq!(known(&[""; 1_000]), [""]);
    let tables = |table_types: Vec<String>| {
        let command = CommandGetTables { table_types, ..CommandGetTables::default() };
        tables(command, None).unwrap()
    };
    assert_eq!(tables(vec!["VIEW".to_owned(); 1_000]).schema(), tables(Vec::new()).schema());
}

#[test]
fn patterns_are_bounded() {
    let of = |pattern: String| CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: Some(pattern) };
    schemas(of("x".repeat(MAX_PATTERN_BYTES - 1) + "%"), None).unwrap();
    let error = schemas(of("%".repeat(MAX_PATTERN_BYTES + 1)), None).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
    let long = Some("x".repeat(MAX_PATTERN_BYTES + 1));
    for command in [
        CommandGetTables { db_schema_filter_pattern: long.clone(), ..CommandGetTables::default() },
        CommandGetTables { table_name_filter_pattern: long.clone(), ..CommandGetTables::default() },
    ] {
        assert_eq!(tables(command, None).unwrap_err().reason(), Reason::InvalidRequest);
    }
}
