//! Storages that fail: rows stay hot and readable, jobs say what failed, nothing is lost, no file is left over.

mod store;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kalamdb_engine::{EngineSettings, Reason, StorageSettings};

use self::store::{Call, Fault, Faults};
use crate::harness::{Client, Db, small, table};

/// How long files that nothing needs may stay: the sweep waits a while after a storage has failed.
const SWEEP_LIMIT: Duration = Duration::from_secs(60);

/// On disk, with jobs that do not wait long before they try again.
async fn faulty(folder: &Path) -> (Db, Arc<Faults>) {
    let faults = Faults::new();
    let mut settings = EngineSettings { storage: StorageSettings::Directory(folder.to_path_buf()), ..small() };
    settings.flush.retry_interval_ms = 5;
    settings.flush.max_retries = 3;
    (Db::with_hooks(settings, faults.hooks()).await, faults)
}

/// The files are those of the segments, soon.
async fn no_orphans(db: &Db, faults: &Faults) {
    let until = Instant::now() + SWEEP_LIMIT;
    loop {
        let known = db.admin().rows("SELECT path FROM system.segments ORDER BY path").await.concat();
        let files = faults.files().await;
        if files == known {
            return;
        }
        assert!(Instant::now() < until, "files {files:?}\nsegments {known:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Rows in the hot and in the cold tier.
async fn tiers(db: &Db, name: &str) -> [String; 2] {
    let rows = db.admin().rows(format!("SHOW TABLE STATS {name}")).await;
    [rows[0][1].clone(), rows[0][3].clone()]
}

/// What a statement fails with because of a fault.
fn reason_of(fault: Fault) -> Reason {
    match fault {
        Fault::Full => Reason::DiskFull,
        Fault::Denied => Reason::StorageDenied,
        _ => Reason::StorageUnreachable,
    }
}

async fn fill(client: &Client, keys: std::ops::Range<i64>) {
    let rows: Vec<String> = keys.map(|key| format!("({key}, 'row {key}')")).collect();
    client.run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
}

#[tokio::test]
async fn a_flush_goes_on_where_a_storage_failed_for_a_moment() {
    for fault in [Fault::Before, Fault::After, Fault::Half, Fault::Full] {
        for (call, count) in [(Call::Put, 1), (Call::Put, 3), (Call::Get, 2)] {
            let dir = tempfile::tempdir().unwrap();
            let (mut db, faults) = faulty(dir.path()).await;
            db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
            for user in ["ana", "bob", "../ana"] {
                fill(&db.user(user), 0..100).await;
            }
            faults.first(count, call, fault);
            let flushed = db.admin().run("FLUSH TABLE t FORCE").await;
            assert_eq!(flushed.row_count, 300, "{fault:?}, {call:?}");
            assert!(faults.count() > 0, "{fault:?}, {call:?}: it did fail");
            faults.none();
            assert_eq!(tiers(&db, "t").await, ["0", "300"], "{fault:?}");
            no_orphans(&db, &faults).await;
            for _ in 0..2 {
                for user in ["ana", "bob", "../ana"] {
                    let found = db.user(user).rows("SELECT count(*), count(DISTINCT body), sum(id) FROM t").await;
                    assert_eq!(found, table(&[["100", "100", "4950"]]), "{fault:?}");
                }
                db.reopen();
            }
        }
    }
}

#[tokio::test]
async fn rows_stay_hot_while_a_storage_is_away() {
    for fault in [Fault::Before, Fault::After, Fault::Half, Fault::Full, Fault::Denied] {
        let dir = tempfile::tempdir().unwrap();
        let (mut db, faults) = faulty(dir.path()).await;
        db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT) ACCESS public").await;
        let ana = db.user("ana");
        fill(&ana, 0..50).await;
        faults.all(Call::Put, fault);
        let reason = reason_of(fault);
        let error = db.admin().fails(reason, "FLUSH TABLE t FORCE").await;
        assert_eq!(db.admin().fails(reason, "FLUSH ALL TABLES FORCE").await.reason(), reason);
        let said = if fault == Fault::Full { "full" } else { "storage" };
        assert!(error.message().contains(said), "{fault:?}: {error}");
        assert_eq!(tiers(&db, "t").await, ["50", "0"], "{fault:?}");
        let jobs = db.admin().rows("SELECT status, result, trace FROM system.jobs WHERE type = 'flush'").await;
        assert_eq!(jobs.len(), 2, "{jobs:?}");
        for job in jobs {
            assert_eq!(job[0], "failed");
            assert!(job[1].contains(said) && job[2] != "NULL", "{job:?}");
        }

        // Life goes on.
        ana.run("UPDATE t SET body = 'changed' WHERE id < 10").await;
        ana.run("DELETE FROM t WHERE id >= 40").await;
        fill(&ana, 60..70).await;
        assert_eq!(ana.value("SELECT count(*) FROM t").await, "50");
        drop(ana);
        db.reopen();
        faults.none();
        db.admin().run("FLUSH TABLE t FORCE").await;
        assert_eq!(tiers(&db, "t").await, ["0", "50"], "{fault:?}");
        assert_eq!(db.user("ana").value("SELECT count(*) FROM t WHERE body = 'changed'").await, "10");
        no_orphans(&db, &faults).await;
    }
}

/// Of 1,000 partitions every third cannot be written.
#[tokio::test]
async fn one_partition_does_not_keep_another_from_being_flushed() {
    const USERS: usize = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let (db, faults) = faulty(dir.path()).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    for user in 0..USERS {
        fill(&db.user(&format!("user-{user:04}")), 0..3).await;
    }
    let fails = |path: &str| {
        let digits = path.split("user-").nth(1).map(|rest| rest[..4].parse::<usize>().unwrap());
        digits.is_some_and(|user| user % 3 == 0)
    };
    faults.plan(move |call, path| if call == Call::Put && fails(path) { Fault::Before } else { Fault::Nothing });
    let error = db.admin().fails(Reason::StorageUnreachable, "FLUSH TABLE t FORCE").await;
    assert!(error.message().contains("334") && error.message().contains("user-0000"), "{error}");
    let hot = USERS.div_ceil(3) * 3;
    assert_eq!(tiers(&db, "t").await, [hot.to_string(), (USERS * 3 - hot).to_string()]);
    for user in [0, 1, 2, 3, 500, 501, 998, 999] {
        let client = db.user(&format!("user-{user:04}"));
        assert_eq!(client.rows("SELECT sum(id), count(*) FROM t").await, table(&[["3", "3"]]), "user {user}");
    }
    faults.none();
    assert_eq!(db.admin().run("FLUSH TABLE t FORCE").await.row_count, hot as u64);
    assert_eq!(tiers(&db, "t").await, ["0".to_owned(), (USERS * 3).to_string()]);
    assert_eq!(db.admin().value("SELECT count(*) FROM app.all_users.t").await, (USERS * 3).to_string());
    no_orphans(&db, &faults).await;
}

/// While the file is being written, its rows are read and changed.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_slow_storage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut db, faults) = faulty(dir.path()).await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT) ACCESS public").await;
    let ana = db.user("ana");
    fill(&ana, 0..100).await;
    faults.all(Call::Put, Fault::Hold);
    let admin = db.admin();
    let flushing = tokio::spawn(async move { admin.run("FLUSH TABLE t FORCE").await });
    faults.until_held(1).await;

    assert_eq!(ana.value("SELECT count(*) FROM t").await, "100");
    ana.run("UPDATE t SET body = 'changed' WHERE id < 10").await;
    ana.run("DELETE FROM t WHERE id >= 90").await;
    ana.run("DELETE FROM t WHERE id = 50").await;
    ana.run("INSERT INTO t VALUES (50, 'again'), (200, 'new')").await;
    ana.run("INSERT INTO t VALUES (20, 'x') ON CONFLICT (id) DO UPDATE SET body = 'upserted'").await;
    ana.fails(Reason::PrimaryKeyViolation, "INSERT INTO t VALUES (30, 'x')").await;
    let changed = table(&[["again", "1"], ["changed", "10"], ["new", "1"], ["upserted", "1"]]);
    let count = "SELECT body, count(*) FROM t WHERE body NOT LIKE 'row%' GROUP BY body ORDER BY body";
    assert_eq!(ana.rows(count).await, changed);

    assert!(!flushing.is_finished());
    faults.let_go();
    flushing.await.unwrap();
    assert_eq!(ana.rows(count).await, changed);
    // What changed meanwhile stays hot: 10 updated, 2 written anew, 1 upserted.
    assert_eq!(tiers(&db, "t").await, ["13", "78"]);
    assert_eq!(ana.value("SELECT count(*) FROM t").await, "91");
    drop(ana);
    db.reopen();
    assert_eq!(db.user("ana").rows(count).await, changed);
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t").await, "91");
    db.admin().run("FLUSH TABLE t FORCE; COMPACT TABLE t").await;
    assert_eq!(tiers(&db, "t").await, ["0", "91"]);
    assert_eq!(db.user("ana").rows(count).await, changed);
    no_orphans(&db, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_while_it_is_flushed_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (db, faults) = faulty(dir.path()).await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    fill(&db.admin(), 0..100).await;
    faults.all(Call::Put, Fault::Hold);
    let admin = db.admin();
    let flushing = tokio::spawn(async move { admin.try_run("FLUSH TABLE t FORCE").await });
    faults.until_held(1).await;
    db.admin().run("DROP TABLE t; CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, other INT)").await;
    faults.let_go();
    let error = flushing.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::TableNotFound, "{error}");
    assert_eq!(db.admin().value("SELECT count(*) FROM t").await, "0");
    no_orphans(&db, &faults).await;
    assert_eq!(faults.files().await, Vec::<String>::new());
}

/// An error, never fewer rows; and nothing of it is remembered.
#[tokio::test]
async fn cold_rows_that_cannot_be_read_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (db, faults) = faulty(dir.path()).await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT) ACCESS public").await;
    let ana = db.user("ana");
    fill(&ana, 0..100).await;
    db.admin().run("FLUSH TABLE t FORCE").await;
    fill(&ana, 100..110).await;
    for fault in [Fault::Before, Fault::After, Fault::Denied] {
        faults.all(Call::Get, fault);
        for sql in [
            "SELECT * FROM t",
            "SELECT body, count(*) FROM t GROUP BY body",
            "SELECT * FROM t WHERE id = 7",
            "UPDATE t SET body = 'x' WHERE id > 50",
            "DELETE FROM t WHERE body = 'row 3'",
            "INSERT INTO t VALUES (8, 'x') ON CONFLICT (id) DO UPDATE SET body = concat(t.body, 'x')",
        ] {
            let error = ana.fails(reason_of(fault), sql).await;
            assert!(error.message().contains(".parquet"), "the file is named: {error}");
        }
        // Hot rows need no storage.
        assert_eq!(ana.value("SELECT body FROM t WHERE id = 105").await, "row 105");
        faults.none();
        assert_eq!(ana.rows("SELECT count(*), sum(id) FROM t").await, table(&[["110", "5995"]]));
        assert_eq!(ana.value("SELECT body FROM t WHERE id = 7").await, "row 7");
    }
}

#[tokio::test]
async fn files_that_cannot_be_deleted_are_deleted_later() {
    let dir = tempfile::tempdir().unwrap();
    let (mut db, faults) = faulty(dir.path()).await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    let mut deletes = 0;
    faults.plan(move |call, _| {
        deletes += usize::from(call == Call::Delete);
        match (call, deletes) {
            (Call::Delete, 1..=3) => Fault::Before,
            (Call::Delete, 4..=6) => Fault::After,
            _ => Fault::Nothing,
        }
    });
    for round in 0..5 {
        fill(&db.admin(), round * 10..round * 10 + 10).await;
        db.admin().run("FLUSH TABLE t FORCE").await;
    }
    db.admin().run("COMPACT TABLE t").await;
    assert_eq!(db.admin().value("SELECT count(*) FROM system.segments").await, "1");
    no_orphans(&db, &faults).await;
    assert!(faults.count() >= 4, "deletions failed");
    // Those left when the engine ends are deleted when it is opened again.
    faults.all(Call::Delete, Fault::Before);
    db.admin().run("DELETE FROM t WHERE id < 25; COMPACT TABLE t").await;
    faults.none();
    db.reopen();
    no_orphans(&db, &faults).await;
    assert_eq!(db.admin().value("SELECT sum(id) FROM t").await, "925");
}

/// The client gave up on a write, the file was deleted, and then the storage writes it after all.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_takes_effect_late_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let mut settings = EngineSettings { storage: StorageSettings::Directory(dir.path().to_path_buf()), ..small() };
    settings.flush.retry_interval_ms = 5;
    // A write can be late by twice as much.
    settings.storage_request_timeout_s = 2;
    settings.storage_max_retries = 0;
    let db = Db::with_hooks(settings, faults.hooks()).await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    fill(&db.admin(), 0..100).await;
    let deletions = Arc::new(AtomicUsize::new(0));
    let (mut is_first, counted) = (true, Arc::clone(&deletions));
    faults.plan(move |call, _| match call {
        Call::Put if std::mem::take(&mut is_first) => Fault::Late,
        Call::Delete => {
            counted.fetch_add(1, Ordering::Relaxed);
            Fault::Nothing
        }
        _ => Fault::Nothing,
    });
    assert_eq!(db.admin().run("FLUSH TABLE t FORCE").await.row_count, 100);
    let until = Instant::now() + SWEEP_LIMIT;
    let wait_for = async |what: &str, count: usize| {
        while deletions.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < until, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    wait_for("the file is deleted before it is there", 1).await;
    assert_eq!(faults.files().await.len(), 1);
    faults.release(1);
    while faults.files().await.len() < 2 {
        assert!(Instant::now() < until, "the late file is there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    wait_for("the file is deleted once more", 2).await;
    no_orphans(&db, &faults).await;
    assert_eq!(db.admin().value("SELECT count(*) FROM t").await, "100");
    // Once in the records, whatever was done again.
    assert_eq!(db.admin().value("SELECT count(*) FROM system.jobs WHERE type = 'sweep'").await, "1");
}

#[tokio::test]
async fn a_compaction_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (db, faults) = faulty(dir.path()).await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    for round in 0..4 {
        fill(&db.admin(), round * 10..round * 10 + 10).await;
        db.admin().run("FLUSH TABLE t FORCE").await;
    }
    db.admin().run("DELETE FROM t WHERE id % 4 = 0").await;
    for (call, fault) in [
        (Call::Put, Fault::Before),
        (Call::Put, Fault::After),
        (Call::Put, Fault::Half),
        (Call::Put, Fault::Full),
        (Call::Get, Fault::Before),
    ] {
        faults.all(call, fault);
        let outcome = db.admin().try_run("COMPACT TABLE t").await;
        faults.none();
        if let Err(error) = outcome {
            assert_eq!(error.reason(), reason_of(fault), "{call:?} {fault:?}: {error}");
        } else {
            assert_eq!(call, Call::Get, "{fault:?}: nothing was written");
        }
        assert_eq!(db.admin().rows("SELECT count(*), sum(id) FROM t").await, table(&[["30", "600"]]));
        no_orphans(&db, &faults).await;
    }
    db.admin().run("COMPACT TABLE t").await;
    assert_eq!(db.admin().value("SELECT count(*) FROM system.segments").await, "1");
    assert_eq!(db.admin().rows("SELECT count(*), sum(id) FROM t").await, table(&[["30", "600"]]));
    no_orphans(&db, &faults).await;
}
