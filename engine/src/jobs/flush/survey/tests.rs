use kalamdb_store::{
    codec::{PrimaryKey, row_key},
    ids::{CommitSeq, Partition, SchemaVersion, UserId},
    kv::{Durability, MemoryBackend, StorageBackend, WriteBatch},
};

use super::*;

const TABLE: TableId = TableId::new(3);

fn store(partitions: &[(&str, u64, i64)]) -> MemoryBackend {
    let backend = MemoryBackend::new();
    let mut batch = WriteBatch::new();
    for table in [2, 3, 4] {
        for (user, rows, written_us) in partitions {
            let owner = Owner::User(UserId::new(user).unwrap());
            let partition = Partition { table: TableId::new(table), owner };
            for row in 0..*rows {
                let header = RowHeader {
                    commit_seq: CommitSeq::new(1),
                    commit_time_us: *written_us,
                    schema_version: SchemaVersion::new(1),
                };
                let key = PrimaryKey::from_i64(row.cast_signed());
                batch.put(Keyspace::Rows, row_key(&partition, &key), header.encode());
            }
        }
    }
    backend.write(batch, Durability::Async).unwrap();
    backend
}

fn found(backend: &MemoryBackend, worth: Worth, limit: usize) -> (Vec<String>, u64) {
    let mut survey = Survey::new(TABLE, worth);
    let mut users = Vec::new();
    while !survey.is_done() {
        let owners = survey.step(backend.snapshot().as_ref(), limit).unwrap();
        assert!(owners.len() <= limit);
        users.extend(owners.into_iter().map(|owner| match owner {
            Owner::User(user) => user.as_str().to_owned(),
            Owner::Shared => String::new(),
        }));
    }
    (users, survey.kept_hot())
}

#[test]
fn partitions_with_enough_or_old_rows_are_found() {
    let backend =
        store(&[("a", 10, 100), ("b", 9, 100), ("b\0", 9, 50), ("c", 20_000, 100), ("d", 1, 100), ("e", 12, 100)]);
    let worth = Worth { min_rows: 10, old_us: 50 };
    for limit in [1, 2, 100] {
        let (users, kept_hot) = found(&backend, worth, limit);
        assert_eq!(users, ["a", "b\0", "c", "e"]);
        assert_eq!(kept_hot, 2);
    }
}

#[test]
fn every_partition_is_found_when_one_row_is_enough() {
    let backend = store(&[("a", 1, 100), ("b", 9, 100)]);
    assert_eq!(found(&backend, Worth { min_rows: 1, old_us: 0 }, 10), (vec!["a".to_owned(), "b".to_owned()], 0));
}

#[test]
fn a_partition_is_counted_across_steps() {
    let backend = store(&[("a", 3 * ROWS_PER_STEP as u64, 100), ("b", 2 * ROWS_PER_STEP as u64, 100)]);
    let worth = Worth { min_rows: 3 * ROWS_PER_STEP as u64, old_us: 0 };
    assert_eq!(found(&backend, worth, 10), (vec!["a".to_owned()], 1));
}

#[test]
fn an_empty_table_has_nothing() {
    assert_eq!(found(&MemoryBackend::new(), Worth { min_rows: 1, old_us: 0 }, 10), (Vec::new(), 0));
}
