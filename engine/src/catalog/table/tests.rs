//! Records of tables as earlier versions wrote them.

use kalamdb_store::ids::StorageId;

use super::TableRecord;
use crate::sql::FlushPolicy;

/// As data format 1 began: no storages, no flush policies.
const FIRST: &str = r#"{
  "id": 7, "namespace": "chat", "name": "messages", "kind": "user", "created_at_us": 1767323045000006,
  "access": null, "ttl_us": null, "next_column_id": 2,
  "versions": [{
    "version": 1, "created_at_us": 1767323045000006, "change": "CREATE TABLE",
    "columns": [
      {"id": 0, "name": "id", "sql_type": "big_int", "nullable": false, "default": "SNOWFLAKE_ID()", "fill": null,
       "primary_key": true},
      {"id": 1, "name": "body", "sql_type": "text", "nullable": true, "default": null, "fill": null,
       "primary_key": false}
    ]
  }]
}"#;

/// With where and when rows are flushed.
const WITH_STORAGE: &str = r#"{
  "id": 8, "namespace": "chat", "name": "rooms", "kind": "shared", "created_at_us": 0, "access": "public",
  "ttl_us": null, "storage": 3, "location": "{namespace}/x/{tableName}", "flush_policy": {"rows": 1000},
  "next_column_id": 1,
  "versions": [{
    "version": 1, "created_at_us": 0, "change": "CREATE TABLE",
    "columns": [
      {"id": 0, "name": "id", "sql_type": "text", "nullable": false, "default": null, "fill": null, "primary_key": true}
    ]
  }]
}"#;

#[test]
fn a_record_without_storage_is_of_the_built_in_one() {
    let record: TableRecord = serde_json::from_str(FIRST).expect("an old record");
    assert_eq!((record.storage, record.location, record.flush_policy), (StorageId::new(0), None, None));
}

#[test]
fn a_record_keeps_where_and_when_rows_are_flushed() {
    let record: TableRecord = serde_json::from_str(WITH_STORAGE).expect("a record");
    let policy = FlushPolicy { rows: Some(1_000), interval_s: None };
    assert_eq!((record.storage, record.flush_policy), (StorageId::new(3), Some(policy)));
    assert_eq!(record.location.as_deref(), Some("{namespace}/x/{tableName}"));
    let written = serde_json::to_string(&record).expect("JSON");
    assert_eq!(serde_json::from_str::<TableRecord>(&written).map(|again| again.flush_policy).ok(), Some(Some(policy)));
}
