//! What others do while a backup or a restore is under way.

use std::{fs, sync::Arc};

use kalamdb_engine::{
    Caller, Engine, EngineSettings, FixedEnv, JobHooks, JobStep, Reason, Request, Role, StorageSettings,
};

use super::{Act, Place, Steps, back_up, files, until};
use crate::harness::{Db, NOW_US, user_id};

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_dropped_meanwhile_is_missed() {
    let place = Place::new();
    let cold = place.path().join("cold");
    fs::create_dir(&cold).unwrap();
    let steps = Arc::new(Steps::default());
    let settings = EngineSettings { storage_roots: vec![cold.clone()], ..place.settings() };
    let db = Db::with_hooks(settings, Arc::clone(&steps) as Arc<dyn JobHooks>).await;
    let admin = db.admin();
    let create = format!("CREATE STORAGE far TYPE FILESYSTEM URI '{}/far'", cold.display());
    admin.run(create.clone()).await;
    admin
        .run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY) STORAGE far; INSERT INTO s VALUES (1); FLUSH TABLE s")
        .await;
    back_up(&admin, "b", "").await;
    admin.run("DROP TABLE s").await;

    let restore = || {
        steps.set(JobStep::BeforeCommit, Act::Wait);
        let admin = db.admin();
        tokio::spawn(async move { admin.try_run("RESTORE DATABASE app FROM 'b' AS copy").await })
    };
    let restoring = restore();
    steps.until_standing(JobStep::BeforeCommit).await;
    admin.run("DROP STORAGE far").await;
    steps.pass(JobStep::BeforeCommit);
    let error = restoring.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::StorageNotFound, "{error}");
    assert!(error.message().contains("CREATE STORAGE"), "{error}");
    assert_eq!(admin.value("SELECT count(*) FROM system.namespaces WHERE name = 'copy'").await, "0");

    // One that has moved meanwhile is there: the tables keep what they were restored into.
    admin.run(create).await;
    let restoring = restore();
    steps.until_standing(JobStep::BeforeCommit).await;
    admin.run(format!("ALTER STORAGE far SET URI '{}/farther'", cold.display())).await;
    steps.pass(JobStep::BeforeCommit);
    restoring.await.unwrap().unwrap();
    assert_eq!(admin.value("SELECT count(*) FROM copy.s").await, "1");
    until("there is one file", 1, async || files(&cold.join("far/copy/s")).len()).await;
}

/// Two servers find a directory empty, and the one that is slower does not mix with the other.
#[tokio::test(flavor = "multi_thread")]
async fn another_database_can_be_faster() {
    let place = Place::new();
    let steps = Arc::new(Steps::default());
    let db = Db::with_hooks(place.settings(), Arc::clone(&steps) as Arc<dyn JobHooks>).await;
    // Two servers whose clocks stand at the same moment would make the same ids.
    db.env.advance_us(10_000_000);
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY); INSERT INTO s VALUES (1)").await;
    steps.set(JobStep::BeforeCommit, Act::Wait);
    let slow = tokio::spawn(async move { admin.try_run("BACKUP DATABASE app TO 'b'").await });
    steps.until_standing(JobStep::BeforeCommit).await;

    let storage = StorageSettings::Directory(place.path().join("other"));
    let env = Arc::new(FixedEnv::new(NOW_US, 99));
    let other = Engine::open(EngineSettings { storage, ..place.settings() }, Vec::new(), env).unwrap();
    let session = other.session(Caller::new(user_id("operator"), Role::System));
    let run = async |sql: &str| {
        let mut execution = session.execute(Request::new(sql));
        while let Some(outcome) = execution.next().await {
            outcome.unwrap();
        }
    };
    run("CREATE NAMESPACE app; BACKUP DATABASE app TO 'b'").await;

    steps.pass(JobStep::BeforeCommit);
    let error = slow.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::BackupMismatch, "{error}");
    assert!(error.message().contains("another database"), "{error}");
    // What the slower one had written is gone, and the other's is whole.
    let (left, backups) = (files(&place.folder("b")), session.backups("b").await.unwrap());
    assert_eq!(backups.len(), 1);
    let is_of_other = |file: &String| file.contains(&backups[0].backup_id) || file == "duckdb.sql";
    assert!(left.iter().all(is_of_other), "{left:?}");
    run("RESTORE DATABASE app FROM 'b' AS copy").await;
}
