//! Compactions.

use kalamdb_engine::{JobStatus, JobTrigger, JobType};

use super::{jobs, no_orphans, settings, tiers, until, until_tiers};
use crate::harness::{Db, table};

#[tokio::test(flavor = "multi_thread")]
async fn small_segments_are_merged_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::with(settings(dir.path())).await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT) ACCESS public").await;
    for i in 0..8 {
        // Keys of all segments alternate.
        let rows: Vec<String> = (0..500).map(|k| format!("({}, 'row {i}')", k * 8 + i)).collect();
        db.user("ana").run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
        db.admin().run("FLUSH TABLE t").await;
    }
    until_tiers(&db, "t", [0, 4_000, 1]).await;
    let job = until("the job", async || jobs(&db, JobType::Compaction).pop().filter(|j| j.status.is_final())).await;
    assert_eq!((job.trigger, job.status), (JobTrigger::Housekeeping, JobStatus::Completed), "{job:?}");
    assert_eq!((job.progress.rows, job.progress.segments), (4_000, 1));
    let found = db.user("ana").rows("SELECT count(*), count(DISTINCT id), sum(id), count(DISTINCT body) FROM t").await;
    assert_eq!(found, table(&[["4000", "4000", "7998000", "8"]]));
    no_orphans(&db, dir.path()).await;
    // The files are gone a moment before the job that removed them says so.
    until("the sweep", async || jobs(&db, JobType::Sweep).pop().filter(|job| job.status == JobStatus::Completed)).await;
}

#[tokio::test]
async fn a_compaction_unites_schema_versions_and_drops_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.compaction.automatic = false;
    let mut db = Db::with(settings).await;
    let (admin, ana) = (db.admin(), db.user("ana"));
    admin.run("CREATE USER TABLE t (id TEXT PRIMARY KEY, body TEXT, gone INTERVAL, n INT NOT NULL)").await;
    ana.run("INSERT INTO t VALUES ('a', 'one', INTERVAL '1 day', 1), ('b', 'two', NULL, 2), ('', NULL, NULL, 3)").await;
    admin.run("FLUSH TABLE t FORCE").await;
    admin.run("ALTER TABLE t DROP COLUMN gone; ALTER TABLE t ADD COLUMN tags TEXT[]; ALTER TABLE t ADD COLUMN m INT NOT NULL DEFAULT 7; ALTER TABLE t RENAME COLUMN body TO text").await;
    ana.run("INSERT INTO t (id, text, n, tags) VALUES ('c', 'three', 4, ['x', NULL]), ('aa', 'four', 5, [])").await;
    admin.run("FLUSH TABLE t FORCE").await;
    ana.run("DELETE FROM t WHERE id = 'b'").await;
    ana.run("UPDATE t SET text = 'changed' WHERE id = 'c'").await;
    admin.run("ALTER TABLE t ADD COLUMN gone INTERVAL DEFAULT INTERVAL '2 months'").await;
    let query = "SELECT *, _seq, _updated FROM t ORDER BY id";
    let before = ana.rows(query).await;
    assert_eq!(before.len(), 4);
    assert_eq!(before[2][..2], ["aa", "four"]);
    admin.run("COMPACT TABLE t").await;
    assert_eq!(ana.rows(query).await, before);
    let segments = "SELECT rows, deleted_rows, schema_version FROM system.segments";
    assert_eq!(admin.rows(segments).await, table(&[["3", "0", "6"]]));
    assert_eq!(tiers(&db, "t").await, [1, 3, 1]);
    // Everything of a segment can go.
    ana.run("DELETE FROM t WHERE id <> 'c'").await;
    admin.run("COMPACT TABLE t").await;
    assert_eq!(tiers(&db, "t").await, [1, 0, 0]);
    no_orphans(&db, dir.path()).await;
    drop((admin, ana));
    db.reopen();
    assert_eq!(db.user("ana").rows(query).await, before[3..]);
}
