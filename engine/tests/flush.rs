//! Flushes, compactions and sweeps: what moves when, and that no answer changes.

mod compaction;
mod records;
mod triggers;
mod writers;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use kalamdb_engine::{EngineSettings, JobRecord, JobStatus, JobTrigger, JobType, StorageSettings};

use crate::harness::{Client, Db, small, table};

/// How long something may take that is waited for; reached only when it never happens.
const LIMIT: Duration = Duration::from_secs(60);

const DAY_US: i64 = 86_400_000_000;

fn settings(folder: &Path) -> EngineSettings {
    let mut settings = EngineSettings { storage: StorageSettings::Directory(folder.to_path_buf()), ..small() };
    settings.flush.retry_interval_ms = 5;
    settings
}

/// Rows in the hot tier, rows in the cold one, and segments.
async fn tiers(db: &Db, name: &str) -> [u64; 3] {
    let rows = db.admin().rows(format!("SHOW TABLE STATS {name}")).await;
    [1, 3, 4].map(|column| rows[0][column].parse().unwrap())
}

async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_tiers(db: &Db, name: &str, expected: [u64; 3]) {
    let mut last = [0; 3];
    until(&format!("{name} with {expected:?}"), async || {
        last = tiers(db, name).await;
        (last == expected).then_some(())
    })
    .await;
}

fn jobs(db: &Db, job_type: JobType) -> Vec<JobRecord> {
    let jobs = db.admin().session.jobs().unwrap();
    jobs.into_iter().filter(|job| job.job_type == job_type).collect()
}

async fn fill(client: &Client, keys: std::ops::Range<i64>) {
    let rows: Vec<String> = keys.map(|key| format!("({key}, 'row {key}')")).collect();
    client.run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files_below(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

/// Soon every file is one of a segment.
async fn no_orphans(db: &Db, folder: &Path) {
    until("no orphans", async || {
        let known: usize = db.admin().value("SELECT count(*) FROM system.segments").await.parse().unwrap();
        (files_below(&folder.join("storage")).len() == known).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_flush_moves_rows_and_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::with(settings(dir.path())).await;
    db.admin()
        .run(
            "CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT);
             CREATE SHARED TABLE s (name TEXT PRIMARY KEY, n BIGINT, at TIMESTAMP DEFAULT NOW()) ACCESS public;
             CREATE STREAM TABLE e (id BIGINT PRIMARY KEY AUTO_INCREMENT) TTL '1 hour'",
        )
        .await;
    for user in ["ana", "bob", "../ana", "\0", "ünï"] {
        fill(&db.user(user), 0..2_000).await;
    }
    db.user("ana").run("INSERT INTO s (name, n) VALUES ('a', 1), ('', 2), ('ä/..', NULL)").await;
    let queries = [
        "SELECT *, _seq, _updated FROM t ORDER BY id",
        "SELECT *, _seq, _updated FROM s ORDER BY name",
        "SELECT count(*), min(id), max(id), sum(_seq) FROM t WHERE id % 7 = 3",
    ];
    let mut before = Vec::new();
    for query in queries {
        before.push(db.user("../ana").rows(query).await);
    }
    let flushed = db.admin().run("FLUSH ALL TABLES").await;
    assert_eq!(flushed.row_count, 10_003);
    assert_eq!(tiers(&db, "t").await, [0, 10_000, 5]);
    assert_eq!(tiers(&db, "s").await, [0, 3, 1]);
    assert_eq!(db.admin().run("FLUSH ALL TABLES").await.row_count, 0);
    for _ in 0..2 {
        for (query, before) in queries.iter().zip(&before) {
            assert_eq!(db.user("../ana").rows(*query).await, *before, "{query}");
        }
        db.reopen();
    }
    no_orphans(&db, dir.path()).await;
}

#[tokio::test]
async fn partitions_of_few_rows_stay_hot_until_they_are_old() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::with(settings(dir.path())).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    fill(&db.user("ana"), 0..999).await;
    fill(&db.user("bob"), 0..1_000).await;
    db.env.advance_us(DAY_US / 2);
    fill(&db.user("eve"), 0..10).await;
    db.admin().run("FLUSH TABLE t").await;
    assert_eq!(tiers(&db, "t").await, [1_009, 1_000, 1]);
    let job = jobs(&db, JobType::Flush).remove(0);
    assert_eq!((job.progress.partitions, job.progress.partitions_kept_hot, job.progress.rows), (1, 2, 1_000));
    db.env.advance_us(DAY_US / 2 - 1);
    db.admin().run("FLUSH TABLE t").await;
    assert_eq!(tiers(&db, "t").await, [1_009, 1_000, 1]);
    db.env.advance_us(1);
    db.admin().run("FLUSH TABLE t").await;
    assert_eq!(tiers(&db, "t").await, [10, 1_999, 2]);
    db.admin().run("FLUSH TABLE t FORCE").await;
    assert_eq!(tiers(&db, "t").await, [0, 2_009, 3]);
    for (user, count) in [("ana", "999"), ("bob", "1000"), ("eve", "10")] {
        assert_eq!(db.user(user).value("SELECT count(*) FROM t").await, count);
    }
}

#[tokio::test]
async fn a_large_partition_has_several_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.flush.segment_rows = 300;
    settings.compaction.automatic = false;
    let db = Db::with(settings).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    fill(&db.user("ana"), 0..1_000).await;
    fill(&db.user("bob"), 0..300).await;
    db.admin().run("FLUSH TABLE t FORCE").await;
    assert_eq!(tiers(&db, "t").await, [0, 1_300, 5]);
    let segments = db
        .admin()
        .rows("SELECT rows, min_key, max_key FROM system.segments WHERE user_id = 'ana' ORDER BY segment_id")
        .await;
    assert_eq!(
        segments,
        table(&[["300", "0", "299"], ["300", "300", "599"], ["300", "600", "899"], ["100", "900", "999"]])
    );
    assert_eq!(db.user("ana").rows("SELECT count(*), sum(id) FROM t").await, table(&[["1000", "499500"]]));
    // They do not overlap and are full: there is nothing to merge but the last two.
    db.admin().run("COMPACT TABLE t").await;
    assert_eq!(db.user("ana").rows("SELECT count(*), sum(id) FROM t").await, table(&[["1000", "499500"]]));
    no_orphans(&db, dir.path()).await;
}

#[tokio::test]
async fn closing_flushes_what_is_worth_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::with(settings(dir.path())).await;
    db.admin()
        .run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT); CREATE SHARED TABLE none (id BIGINT PRIMARY KEY)")
        .await;
    fill(&db.user("ana"), 0..1_000).await;
    fill(&db.user("bob"), 0..5).await;
    db.engine().flush_before_close(Duration::from_secs(30)).await;
    db.reopen();
    assert_eq!(tiers(&db, "t").await, [5, 1_000, 1]);
    let flushed = jobs(&db, JobType::Flush);
    assert_eq!(flushed.len(), 1);
    assert_eq!((flushed[0].trigger, flushed[0].status), (JobTrigger::Shutdown, JobStatus::Completed));
}

#[tokio::test]
async fn flushes_in_memory_too() {
    let db = Db::memory().await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT) ACCESS public").await;
    fill(&db.user("ana"), 0..100).await;
    assert_eq!(db.admin().run("FLUSH TABLE t").await.row_count, 100);
    assert_eq!(tiers(&db, "t").await, [0, 100, 1]);
    assert_eq!(db.user("ana").value("SELECT sum(id) FROM t").await, "4950");
}
