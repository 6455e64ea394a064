//! Backups in object stores, and what a directory has for other programs.

use std::fs;

use kalamdb_engine::{EngineSettings, Reason, SecretKey};

use super::{Place, back_up, files, state};
use crate::{fake_s3::FakeS3, harness::Db};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_keeps_backups() {
    let place = Place::new();
    let store = FakeS3::start("one");
    let key = SecretKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let settings = EngineSettings {
        storage_secret_key: Some(key),
        storage_request_timeout_s: 5,
        storage_max_retries: 0,
        ..place.settings()
    };
    let db = Db::with(settings).await;
    let admin = db.admin();
    let credentials = store.credentials("one", "secret");
    admin.run(format!("CREATE STORAGE far TYPE S3 URI 's3://bucket/kept' CREDENTIALS '{credentials}'")).await;
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    let rows: Vec<String> = (0..100).map(|id| format!("({id}, 'body {id}')")).collect();
    db.user("ana").run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    admin.run("FLUSH TABLE t FORCE").await;
    db.user("ana").run("DELETE FROM t WHERE id < 10; INSERT INTO t VALUES (1000, 'hot')").await;
    let before = state(&db, "app", &["t"]).await;

    let uri = "s3://bucket/kept/nightly/app";
    let first = back_up(&admin, uri, "").await;
    let objects = store.objects();
    assert!(objects.contains(&format!("kept/nightly/app/backups/{first}/backup.json")), "{objects:?}");
    assert!(objects.contains(&"kept/nightly/app/duckdb.sql".to_owned()), "{objects:?}");
    back_up(&admin, uri, "MODE INCREMENTAL").await;
    let shown = admin.rows(format!("SHOW BACKUP '{uri}'")).await;
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[1][13], "1", "only the hot rows are new: {shown:?}");
    admin.run(format!("RESTORE DATABASE app FROM '{uri}' AS copy")).await;
    assert_eq!(state(&db, "copy", &["t"]).await, before);
    admin.fails(Reason::StorageNotFound, "BACKUP DATABASE app TO 's3://elsewhere/b'").await;
    // The storage lets nobody in any more: the backup fails, and says so.
    store.allow("two");
    admin.fails(Reason::StorageDenied, format!("BACKUP DATABASE app TO '{uri}' MODE INCREMENTAL")).await;
    store.allow("one");
    admin.run(format!("RESTORE DATABASE app FROM '{uri}' AS again")).await;
    assert_eq!(state(&db, "again", &["t"]).await, before);
}

#[tokio::test]
async fn a_directory_can_be_moved() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY); INSERT INTO s VALUES (1), (2); FLUSH TABLE s").await;
    admin.run("INSERT INTO s VALUES (3)").await;
    back_up(&admin, "here/b", "").await;
    fs::create_dir(place.folder("there")).unwrap();
    fs::rename(place.folder("here/b"), place.folder("there/c")).unwrap();
    let path = place.folder("there/c").canonicalize().unwrap();
    for uri in
        ["there/c".to_owned(), "there/c/".to_owned(), path.display().to_string(), format!("file://{}", path.display())]
    {
        admin.run(format!("RESTORE DATABASE app FROM '{uri}' AS copy")).await;
        assert_eq!(admin.value("SELECT count(*) FROM copy.s").await, "3", "{uri}");
        admin.run("DROP TABLE copy.s; DROP NAMESPACE copy").await;
    }
}

#[tokio::test]
async fn files_are_named_as_documented() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, \"Body\" TEXT)").await;
    for user in ["ana", "../bo"] {
        db.user(user).run("INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    }
    admin.run("FLUSH TABLE t FORCE; ALTER TABLE t ADD COLUMN n INT DEFAULT 5").await;
    db.user("ana").run("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (3, 'three', 3)").await;
    let id = back_up(&admin, "b", "").await;
    let segments =
        admin.rows("SELECT segment_id FROM system.segments WHERE table_name = 't' ORDER BY 1").await.concat();
    let mut expected: Vec<String> = segments.iter().map(|segment| format!("data/t/{id}/{segment}.parquet")).collect();
    expected.push(format!("data/t/{id}/hot-0001.parquet"));
    for name in ["backup.json", "duckdb.sql", "files-0001.jsonl", "marks-0001.parquet"] {
        expected.push(format!("backups/{id}/{name}"));
    }
    expected.push("duckdb.sql".to_owned());
    expected.sort();
    assert_eq!(files(&place.folder("b")), expected);

    let read = |name: &str| fs::read_to_string(place.folder("b").join(name)).unwrap();
    let script = read("duckdb.sql");
    assert_eq!(script, read(&format!("backups/{id}/duckdb.sql")));
    assert!(script.contains("CREATE OR REPLACE VIEW \"app\".\"t\" AS"), "{script}");
    assert!(script.contains("CAST('5' AS INTEGER) AS \"n\""), "{script}");
    assert!(!script.contains("../bo"), "users are in the lists, not in names of files:\n{script}");
    let manifest: serde_json::Value = serde_json::from_str(&read(&format!("backups/{id}/backup.json"))).unwrap();
    assert_eq!(manifest["format"], 1);
    assert_eq!(manifest["namespace"], "app");
    assert_eq!(manifest["mode"], "full");
    assert_eq!(manifest["totals"]["rows"], 4);
    assert_eq!(manifest["tables"][0]["storage"], "local");
    assert_eq!(manifest["tables"][0]["definition"]["versions"].as_array().unwrap().len(), 2);
    let lines = read(&format!("backups/{id}/files-0001.jsonl"));
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["owner"], "../bo");
    assert_eq!(lines[1]["segment"]["marks"], 1);
    assert_eq!(lines[2]["rows"], 1);
}
