//! Backups and restores that are refused, and why.

use std::{fs, sync::Arc};

use kalamdb_engine::{Caller, Engine, EngineSettings, FixedEnv, Reason, Request, Role, StorageSettings};

use super::{Place, back_up, files};
use crate::harness::{Db, NOW_US, table, user_id};

#[tokio::test]
async fn an_existing_namespace_is_not_restored_over() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY); INSERT INTO s VALUES (1)").await;
    back_up(&admin, "b", "").await;
    let error = admin.fails(Reason::NamespaceExists, "RESTORE DATABASE app FROM 'b'").await;
    assert!(error.message().contains("AS"), "{error}");
    admin.run("CREATE NAMESPACE other").await;
    admin.fails(Reason::NamespaceExists, "RESTORE DATABASE app FROM 'b' AS other").await;
    admin.fails(Reason::InvalidName, "RESTORE DATABASE app FROM 'b' AS system").await;
    admin.fails(Reason::InvalidName, "RESTORE DATABASE app FROM 'b' AS \"a b\"").await;
    assert_eq!(admin.value("SELECT count(*) FROM app.s").await, "1");
    admin.run("DROP TABLE s; DROP NAMESPACE app; RESTORE DATABASE app FROM 'b'").await;
    assert_eq!(admin.value("SELECT count(*) FROM app.s").await, "1");
}

#[tokio::test]
async fn names_and_places_must_fit() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY); CREATE NAMESPACE other").await;
    admin.fails(Reason::NamespaceNotFound, "BACKUP DATABASE nothing TO 'b'").await;
    admin.fails(Reason::InvalidStatement, "BACKUP DATABASE system TO 'b'").await;
    admin.fails(Reason::BackupNotFound, "BACKUP DATABASE app TO 'b' MODE INCREMENTAL").await;
    admin.fails(Reason::BackupNotFound, "RESTORE DATABASE app FROM 'b' AS copy").await;
    admin.fails(Reason::BackupNotFound, "SHOW BACKUP 'b'").await;
    back_up(&admin, "b", "").await;
    let error = admin.fails(Reason::BackupMismatch, "BACKUP DATABASE other TO 'b'").await;
    assert!(error.message().contains("namespace 'app'"), "{error}");
    let error = admin.fails(Reason::BackupMismatch, "RESTORE DATABASE other FROM 'b' AS copy").await;
    assert!(error.message().contains("RESTORE DATABASE app FROM 'b' AS copy"), "{error}");
    admin.fails(Reason::InvalidRequest, "RESTORE DATABASE app FROM 'b' BACKUP 'x' AS copy").await;
    admin.fails(Reason::BackupNotFound, "RESTORE DATABASE app FROM 'b' BACKUP '0000000000000001' AS copy").await;
    // A folder with something else in it is left alone.
    fs::create_dir(place.folder("mine")).unwrap();
    fs::write(place.folder("mine").join("duckdb.sql"), "SELECT 1").unwrap();
    admin.fails(Reason::BackupMismatch, "BACKUP DATABASE app TO 'mine'").await;
    assert_eq!(files(&place.folder("mine")), ["duckdb.sql"]);
    for outside in ["/etc/kalamdb", "../b", "a/../../b", ""] {
        let error = admin.try_run(format!("BACKUP DATABASE app TO '{outside}'")).await.unwrap_err();
        assert_eq!(error.reason(), Reason::PathNotAllowed, "{outside}: {error}");
    }
    for wrong in [
        "BACKUP DATABASE app",
        "BACKUP app TO 'b'",
        "BACKUP DATABASE app TO b",
        "BACKUP DATABASE app TO 'b' MODE",
        "BACKUP DATABASE app TO 'b' MODE QUICK",
        "RESTORE DATABASE app",
        "RESTORE DATABASE app FROM 'b' AS",
        "RESTORE DATABASE app FROM 'b' AS x y",
        "SHOW BACKUP",
    ] {
        let error = admin.try_run(wrong).await.unwrap_err();
        assert_eq!(error.reason(), Reason::SyntaxError, "{wrong}: {error}");
    }
}

#[tokio::test]
async fn backups_are_for_operators() {
    let place = Place::new();
    let db = place.open().await;
    back_up(&db.role(Role::Dba), "b", "").await;
    for client in [db.user("ana"), db.role(Role::Service), db.acting(Role::Service, "ana")] {
        for statement in ["BACKUP DATABASE app TO 'b'", "RESTORE DATABASE app FROM 'b' AS copy", "SHOW BACKUP 'b'"] {
            client.fails(Reason::PermissionDenied, statement).await;
        }
    }
    db.role(Role::Dba).run("RESTORE DATABASE app FROM 'b' AS copy; SHOW BACKUP 'b'").await;
    let audited = "SELECT action, object, outcome FROM system.audit WHERE action LIKE '%DATABASE' AND outcome = 'done' \
                   ORDER BY at, action";
    let audited = db.admin().rows(audited).await;
    assert_eq!(audited.len(), 2, "{audited:?}");
    // As a statement or as a call.
    let dba = db.role(Role::Dba);
    assert_eq!(dba.session.backups("b").await.unwrap().len(), 1);
    assert_eq!(dba.session.backups("nothing").await.unwrap_err().reason(), Reason::StorageUnreachable);
    let shown = "SELECT role, object, outcome FROM system.audit WHERE action = 'SHOW BACKUP' AND role = 'dba' \
                 ORDER BY audit_id";
    let expected = [["dba", "b", "done"], ["dba", "b", "done"], ["dba", "nothing", "failed"]];
    assert_eq!(db.admin().rows(shown).await, table(&expected));
}

#[tokio::test]
async fn a_disk_without_room_is_not_restored_to() {
    let place = Place::new();
    let cold = place.path().join("cold");
    fs::create_dir(&cold).unwrap();
    let settings =
        EngineSettings { storage: StorageSettings::Memory, storage_roots: vec![cold.clone()], ..place.settings() };
    let create = format!("CREATE STORAGE far TYPE FILESYSTEM URI '{}/far'", cold.display());
    let db = Db::with(settings.clone()).await;
    let admin = db.admin();
    admin.run(create.clone()).await;
    admin
        .run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY) STORAGE far; INSERT INTO s VALUES (1), (2); FLUSH TABLE s")
        .await;
    back_up(&admin, "b", "").await;
    // One that is in memory has no disk that its own writes could need.
    let full = Db::with(EngineSettings { min_free_disk_bytes: u64::MAX, ..settings.clone() }).await;
    full.admin().run(create.clone()).await;
    let error = full.admin().fails(Reason::DiskFull, "RESTORE DATABASE app FROM 'b' AS copy").await;
    assert!(error.message().contains("storage.min_free_disk_mb"), "{error}");
    assert_eq!(full.admin().value("SELECT count(*) FROM system.namespaces WHERE name = 'copy'").await, "0");
    assert_eq!(files(&cold.join("far/copy")), Vec::<String>::new());
    admin.run("RESTORE DATABASE app FROM 'b' AS copy").await;
    assert_eq!(admin.value("SELECT count(*) FROM copy.s").await, "2");
}

#[tokio::test]
async fn a_directory_is_of_one_database() {
    let place = Place::new();
    let db = place.open().await;
    back_up(&db.admin(), "b", "").await;
    drop(db);
    // The random numbers of tests are the same in every engine, but for this one's.
    let env = Arc::new(FixedEnv::new(NOW_US, 99));
    let storage = StorageSettings::Directory(place.path().join("other"));
    let engine = Engine::open(EngineSettings { storage, ..place.settings() }, Vec::new(), env).unwrap();
    let session = engine.session(Caller::new(user_id("operator"), Role::System));
    let mut run = session.execute(Request::new("CREATE NAMESPACE app; BACKUP DATABASE app TO 'b'"));
    run.next().await.unwrap().unwrap();
    let error = run.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::BackupMismatch, "{error}");
    assert!(error.message().contains("another database"), "{error}");
}

#[tokio::test]
async fn without_roots_there_are_no_backups_in_folders() {
    let db = Db::memory().await;
    let error = db.admin().fails(Reason::PathNotAllowed, "BACKUP DATABASE app TO 'b'").await;
    assert!(error.message().contains("paths.backup_roots"), "{error}");
    db.admin().fails(Reason::PathNotAllowed, "SHOW BACKUP '/tmp/b'").await;
}

#[tokio::test]
async fn the_storages_of_tables_must_be_there() {
    let place = Place::new();
    let cold = place.path().join("cold");
    fs::create_dir(&cold).unwrap();
    let db = Db::with(EngineSettings { storage_roots: vec![cold.clone()], ..place.settings() }).await;
    let admin = db.admin();
    admin.run(format!("CREATE STORAGE far TYPE FILESYSTEM URI '{}/far'", cold.display())).await;
    admin
        .run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY) STORAGE far; INSERT INTO s VALUES (1); FLUSH TABLE s")
        .await;
    back_up(&admin, "b", "").await;
    admin.run("RESTORE DATABASE app FROM 'b' AS copy").await;
    assert_eq!(files(&cold.join("far/copy/s")).len(), 1, "restored into the same storage");
    admin.run("DROP TABLE s; DROP TABLE copy.s; DROP STORAGE far").await;
    let error = admin.fails(Reason::StorageNotFound, "RESTORE DATABASE app FROM 'b' AS again").await;
    assert!(error.message().contains("CREATE STORAGE"), "{error}");
}
