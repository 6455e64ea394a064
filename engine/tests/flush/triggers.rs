//! When tables are flushed without being asked to.

use std::time::Duration;

use kalamdb_engine::{JobStatus, JobTrigger, JobType};

use super::{fill, jobs, settings, tiers, until, until_tiers};
use crate::harness::{Db, table};

#[tokio::test(flavor = "multi_thread")]
async fn written_rows_trigger_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::with(settings(dir.path())).await;
    db.admin()
        .run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT) ACCESS public FLUSH POLICY ROWS 1000")
        .await;
    let ana = db.user("ana");
    fill(&ana, 0..999).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(tiers(&db, "t").await, [999, 0, 0]);
    fill(&ana, 999..1_000).await;
    until_tiers(&db, "t", [0, 1_000, 1]).await;
    let job =
        until("the end of the job", async || jobs(&db, JobType::Flush).pop().filter(|j| j.status.is_final())).await;
    assert_eq!((job.trigger, job.status, job.progress.rows), (JobTrigger::Rows, JobStatus::Completed, 1_000));
    // What was written before a restart counts after it; so does a change of the policy.
    fill(&ana, 1_000..1_600).await;
    drop(ana);
    db.reopen();
    fill(&db.user("ana"), 1_600..2_000).await;
    until_tiers(&db, "t", [0, 2_000, 2]).await;
    db.admin().run("ALTER TABLE t SET FLUSH POLICY ROWS 10").await;
    fill(&db.user("ana"), 2_000..2_010).await;
    until_tiers(&db, "t", [0, 2_010, 3]).await;
    assert_eq!(db.user("ana").rows("SELECT count(*), sum(id) FROM t").await, table(&[["2010", "2019045"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_triggers_a_flush_even_if_it_passed_while_nothing_ran() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::with(settings(dir.path())).await;
    db.admin()
        .run(
            "CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT) ACCESS public FLUSH POLICY INTERVAL '10 minutes';
             CREATE SHARED TABLE quiet (id BIGINT PRIMARY KEY) FLUSH POLICY INTERVAL '1 second'",
        )
        .await;
    const MINUTE_US: i64 = 60_000_000;
    fill(&db.user("ana"), 0..10).await;
    db.env.advance_us(9 * MINUTE_US);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(tiers(&db, "t").await, [10, 0, 0]);
    db.env.advance_us(MINUTE_US);
    until_tiers(&db, "t", [0, 10, 1]).await;
    until("the end of the job", async || jobs(&db, JobType::Flush).pop().filter(|j| j.status.is_final())).await;

    fill(&db.user("ana"), 10..20).await;
    db.env.advance_us(5 * MINUTE_US);
    db.reopen();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(tiers(&db, "t").await, [10, 10, 1]);
    db.env.advance_us(5 * MINUTE_US);
    db.reopen();
    until_tiers(&db, "t", [0, 20, 2]).await;
    let flushed: Vec<_> =
        jobs(&db, JobType::Flush).into_iter().map(|job| (job.trigger, job.table.unwrap().name)).collect();
    assert_eq!(flushed, vec![(JobTrigger::Interval, "t".to_owned()); 2], "a table without rows needs no jobs");
}
