//! Jobs: their order, their records, and what becomes of them when an engine ends.

use std::{fs, path::Path, sync::Arc};

use kalamdb_engine::{JobHooks, JobStatus, JobStep, JobTrigger, JobType, Role};
use parking_lot::{Condvar, Mutex};

use super::{fill, jobs, no_orphans, settings, tiers, until, until_tiers};
use crate::harness::{Db, table};

/// Holds jobs up at a step.
#[derive(Debug, Default)]
struct Gate {
    closed_at: Mutex<Option<JobStep>>,
    waiting: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    fn close(&self, step: JobStep) {
        *self.closed_at.lock() = Some(step);
    }

    fn open(&self) {
        *self.closed_at.lock() = None;
        self.opened.notify_all();
    }

    async fn until_reached(&self) {
        until("a job at the gate", async || (*self.waiting.lock() > 0).then_some(())).await;
    }
}

impl JobHooks for Gate {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        let mut closed_at = self.closed_at.lock();
        while *closed_at == Some(step) {
            *self.waiting.lock() += 1;
            self.opened.wait(&mut closed_at);
            *self.waiting.lock() -= 1;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flush_of_a_table_runs_and_equal_ones_that_wait_are_one() {
    let gate = Arc::new(Gate::default());
    let dir = tempfile::tempdir().unwrap();
    let db = Db::with_hooks(settings(dir.path()), Arc::clone(&gate) as Arc<dyn JobHooks>).await;
    db.admin().run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT) ACCESS public").await;
    fill(&db.user("ana"), 0..10).await;
    gate.close(JobStep::BeforeCommit);
    let session = db.admin().session;
    let first = session.flush_table("app", "t", false).unwrap();
    gate.until_reached().await;
    let second = session.flush_table("app", "t", false).unwrap();
    let third = session.flush_table("app", "t", false).unwrap();
    let forced = session.flush_table("app", "t", true).unwrap();
    assert_ne!(first.id(), second.id());
    assert_eq!(second.id(), third.id());
    assert_ne!(second.id(), forced.id());
    assert_eq!(first.record().unwrap().status, JobStatus::Running);
    assert_eq!(second.record().unwrap().status, JobStatus::Queued);
    fill(&db.user("ana"), 10..20).await;
    gate.open();
    let ended = [first.ended().await, second.ended().await, third.ended().await, forced.ended().await];
    let rows = ended.map(|job| (job.status, job.progress.rows));
    let completed = |rows| (JobStatus::Completed, rows);
    assert_eq!(rows, [completed(10), completed(10), completed(10), completed(0)]);
    assert_eq!(tiers(&db, "t").await, [0, 20, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_was_interrupted_is_taken_up_again() {
    let gate = Arc::new(Gate::default());
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = Db::with_hooks(settings(dir.path()), Arc::clone(&gate) as Arc<dyn JobHooks>).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    fill(&db.user("ana"), 0..10).await;
    gate.close(JobStep::AfterUpload);
    let flush = db.admin().session.flush_table("app", "t", true).unwrap();
    gate.until_reached().await;
    copy_folder(dir.path(), copy.path());
    gate.open();
    let id = flush.id();
    assert_eq!(flush.ended().await.status, JobStatus::Completed);
    drop(db);

    let db = Db::with(settings(copy.path())).await;
    until_tiers(&db, "t", [0, 10, 1]).await;
    let again =
        until("the new job", async || jobs(&db, JobType::Flush).into_iter().find(|j| j.status == JobStatus::Completed))
            .await;
    assert_eq!((again.resumes, again.trigger, again.force, again.attempt), (Some(id), JobTrigger::Recovery, true, 1));
    let interrupted = db.admin().session.job(&id.to_string()).unwrap();
    assert_eq!(interrupted.status, JobStatus::Interrupted);
    assert!(interrupted.finished_at_us.is_some() && interrupted.result.is_some());
    no_orphans(&db, copy.path()).await;
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t").await, "10");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn jobs_are_recorded_completely() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::with(settings(dir.path())).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    fill(&db.user("ana"), 0..2_000).await;
    db.env.advance_us(1_000_000);
    db.admin().run("FLUSH TABLE t").await;
    let columns = "\"type\", status, namespace, \"table\", parameters, result, trace, node, created_at, started_at, finished_at, rows, segments, partitions";
    let recorded = format!("SELECT {columns} FROM system.jobs WHERE \"type\" = 'flush'");
    let at = "2026-01-02T03:04:06.000006Z";
    for _ in 0..2 {
        let rows = db.admin().rows(recorded.as_str()).await;
        assert_eq!(rows.len(), 1);
        let bytes: u64 = db.admin().value("SELECT bytes FROM system.jobs").await.parse().unwrap();
        let result = format!("Flushed 2000 row(s) of 1 partition(s) to 1 segment(s) of {bytes} bytes.");
        let expected = [
            "flush",
            "completed",
            "app",
            "t",
            "[trigger=manual, force=false]",
            &result,
            "NULL",
            "0",
            at,
            at,
            at,
            "2000",
            "1",
            "1",
        ];
        assert_eq!(rows[0], expected);
        let used = db.admin().rows("SELECT memory_used > 10000, cpu_used > 0, job_id <> '' FROM system.jobs").await;
        assert_eq!(used, table(&[["true", "true", "true"]]));
        db.reopen();
    }
    assert_eq!(db.role(Role::Dba).value("SELECT count(*) FROM system.jobs").await, "1");
    for role in [Role::User, Role::Service] {
        assert_eq!(db.role(role).value("SELECT count(*) FROM system.jobs").await, "0", "{role}");
    }
}
