use base64::{Engine as _, engine::general_purpose::STANDARD};
use kalamdb_store::object::{FolderRoots, StoreSettings};

use super::*;

const CREDENTIALS: &str = r#"{"access_key_id": "me", "secret_access_key": "hush"}"#;

fn key(seed: u8) -> SecretKey {
    let bytes: Vec<u8> = (0..32).map(|i: u8| i.wrapping_mul(3).wrapping_add(seed)).collect();
    SecretKey::from_base64(&STANDARD.encode(bytes)).unwrap()
}

fn record(id: u32) -> StorageRecord {
    StorageRecord {
        id: StorageId::new(id),
        name: StorageName::new("cold").unwrap(),
        kind: StorageKind::S3,
        uri: "s3://bucket/cold".to_owned(),
        credentials: None,
        created_at_us: 7,
        retired: false,
    }
}

#[test]
fn credentials_are_stored_sealed_and_come_back_under_the_same_key() {
    let mut sealed = record(3);
    sealed.seal(Some(CREDENTIALS), Some(&key(1)), [5; 12]).unwrap();
    let stored = serde_json::to_string(&sealed).unwrap();
    assert!(!stored.contains("hush") && !stored.contains("access_key_id"), "{stored}");
    let loaded: StorageRecord = serde_json::from_str(&stored).unwrap();
    let storage = Storage::from_record(loaded.clone(), Some(&key(1)));
    assert_eq!(storage.credentials(), Ok(Some(CREDENTIALS)));
    assert!(!format!("{storage:?} {loaded:?}").contains("hush"));

    // Another key, none, another storage's record: said, not guessed.
    let opener = StoreOpener::new(FolderRoots::default(), StoreSettings::default());
    let moved = StorageRecord { id: StorageId::new(4), ..loaded.clone() };
    for (record, key, said) in [
        (loaded.clone(), Some(key(2)), "another storage.secret_key"),
        (loaded, None, "is not set"),
        (moved, Some(key(1)), "another storage.secret_key"),
    ] {
        let storage = Storage::from_record(record, key.as_ref());
        let error = storage.open(&opener).unwrap_err();
        assert!(matches!(&error, ObjectError::Denied(text) if text.contains(said)), "{error}");
        assert_eq!(storage.credentials(), Err(error));
    }
}

#[test]
fn a_retired_definition_keeps_its_store() {
    let opener = StoreOpener::new(FolderRoots::default(), StoreSettings::default());
    let storage = Storage::from_record(record(3), None);
    storage.open(&opener).unwrap();
    let retired = storage.retired();
    assert!(retired.record.retired && !storage.record.retired);
    assert!(Arc::ptr_eq(&storage.open_store().unwrap(), &retired.open_store().unwrap()));
}

#[test]
fn records_of_before_have_defaults() {
    let stored = r#"{"id": 2, "name": "cold", "kind": "s3", "uri": "s3://b", "created_at_us": 1}"#;
    let record: StorageRecord = serde_json::from_str(stored).unwrap();
    assert!(record.credentials.is_none() && !record.retired);
}
