//! Flushes, compactions and sweeps that fail at a step, and engines that end at one.
//!
//! An engine that ends is a copy of its data folder, made while a job stands at the step: what a SIGKILL at this moment
//! leaves behind.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use kalamdb_engine::{EngineSettings, JobHooks, JobStep, StorageSettings};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::harness::{Db, small};

const USERS: [&str; 3] = ["ana", "../ana", "émile"];
const SWEEP_LIMIT: Duration = Duration::from_secs(60);

fn settings(folder: &Path) -> EngineSettings {
    let mut settings = EngineSettings { storage: StorageSettings::Directory(folder.to_path_buf()), ..small() };
    settings.flush.retry_interval_ms = 5;
    settings.flush.segment_rows = 20;
    settings
}

/// What a crash at a step leaves behind.
struct Image {
    step: JobStep,
    folder: TempDir,
    /// The rows that were there.
    rows: Rows,
}

type Rows = Vec<Vec<Vec<String>>>;

/// Copies the data folder at each step that a job reaches while rows are known.
#[derive(Default)]
struct Images {
    folder: PathBuf,
    rows: Mutex<Option<Rows>>,
    taken: Mutex<Vec<Image>>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}

impl JobHooks for Images {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        if let Some(rows) = self.rows.lock().clone() {
            // Steps of several jobs at once are taken one after the other.
            let mut taken = self.taken.lock();
            let folder = tempfile::tempdir().unwrap();
            copy(&self.folder, folder.path());
            taken.push(Image { step, folder, rows });
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The rows of each user, and of all, with the commits that wrote them.
async fn rows(db: &Db) -> Rows {
    let mut rows = Vec::new();
    for user in USERS {
        rows.push(db.user(user).rows("SELECT *, _seq FROM t ORDER BY id").await);
    }
    rows.push(db.admin().rows("SELECT _user_id, id, body, _seq FROM app.all_users.t ORDER BY 1, 2").await);
    rows
}

async fn files_are_those_of_segments(db: &Db, folder: &Path) {
    let until = Instant::now() + SWEEP_LIMIT;
    loop {
        let known = db.admin().rows("SELECT path FROM system.segments ORDER BY path").await.concat();
        let mut files = Vec::new();
        files_below(&folder.join("storage"), "", &mut files);
        files.sort();
        if files == known {
            return;
        }
        assert!(Instant::now() < until, "files {files:?}\nsegments {known:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn files_below(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files_below(&entry.path(), &format!("{name}/"), found);
        } else {
            found.push(name);
        }
    }
}

async fn insert(db: &Db, keys: std::ops::Range<i64>) {
    let rows: Vec<String> = keys.map(|key| format!("({key}, 'row {key}')")).collect();
    for user in USERS {
        db.user(user).run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    }
}

/// Statements in between which nothing runs in the background, and jobs with nothing in between.
async fn scenario(db: &Db, folder: &Path, mut jobs_begin: impl AsyncFnMut(&Db), mut jobs_end: impl FnMut()) {
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    for round in 0..3 {
        insert(db, round * 50..round * 50 + 50).await;
        for user in USERS {
            db.user(user).run(format!("UPDATE t SET body = 'changed {round}' WHERE id % 10 = {round}")).await;
            db.user(user).run(format!("DELETE FROM t WHERE id % 10 = {}", round + 5)).await;
        }
        jobs_begin(db).await;
        db.admin().run("FLUSH TABLE t FORCE").await;
        if round == 1 {
            db.admin().run("COMPACT TABLE t").await;
        }
        files_are_those_of_segments(db, folder).await;
        jobs_end();
    }
    jobs_begin(db).await;
    db.admin().run("COMPACT TABLE t").await;
    files_are_those_of_segments(db, folder).await;
    jobs_end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_ends_at_any_step_has_every_row_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let images = Arc::new(Images { folder: dir.path().to_path_buf(), ..Images::default() });
    let db = Db::with_hooks(settings(dir.path()), Arc::clone(&images) as Arc<dyn JobHooks>).await;
    let known = async |db: &Db| *images.rows.lock() = Some(rows(db).await);
    scenario(&db, dir.path(), known, || *images.rows.lock() = None).await;
    drop(db);

    let taken = std::mem::take(&mut *images.taken.lock());
    for step in JobStep::ALL {
        assert!(taken.iter().any(|image| image.step == step), "no image at {step:?}");
    }
    println!("{} images of ended engines", taken.len());
    for (number, Image { step, folder, rows: expected }) in taken.into_iter().enumerate() {
        let db = Db::with(settings(folder.path())).await;
        assert_eq!(rows(&db).await, expected, "image {number}, {step:?}");
        db.admin().run("FLUSH TABLE t FORCE").await;
        assert_eq!(rows(&db).await, expected, "image {number}, {step:?}, flushed");
        files_are_those_of_segments(&db, folder.path()).await;
        db.admin().run("COMPACT TABLE t").await;
        files_are_those_of_segments(&db, folder.path()).await;
        assert_eq!(rows(&db).await, expected, "image {number}, {step:?}, compacted");
    }
}

/// Fails when a step is reached, a few times.
#[derive(Debug)]
struct Failing {
    step: JobStep,
    left: Mutex<usize>,
}

impl JobHooks for Failing {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        let mut left = self.left.lock();
        if step != self.step || *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err("as the test wants".to_owned())
    }
}

#[tokio::test]
async fn a_step_that_fails_loses_nothing() {
    for step in JobStep::ALL {
        let dir = tempfile::tempdir().unwrap();
        let failing = Arc::new(Failing { step, left: Mutex::new(0) });
        let db = Db::with_hooks(settings(dir.path()), Arc::clone(&failing) as Arc<dyn JobHooks>).await;
        db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
        insert(&db, 0..100).await;
        for round in 0..3 {
            for user in USERS {
                db.user(user).run(format!("UPDATE t SET body = 'changed {round}' WHERE id % 10 = {round}")).await;
                db.user(user).run(format!("DELETE FROM t WHERE id % 10 = {}", round + 5)).await;
            }
            let expected = rows(&db).await;
            *failing.left.lock() = 2;
            // A compaction is not tried again by itself; what it does when it fails is its affair, the rows are not.
            let flushed = db.admin().try_run("FLUSH TABLE t FORCE").await;
            assert!(flushed.is_ok(), "{step:?}: {flushed:?}");
            let _ = db.admin().try_run("COMPACT TABLE t").await;
            assert_eq!(rows(&db).await, expected, "{step:?}, round {round}");
            *failing.left.lock() = 0;
        }
        let expected = rows(&db).await;
        db.admin().run("FLUSH TABLE t FORCE; COMPACT TABLE t").await;
        assert_eq!(rows(&db).await, expected, "{step:?}");
        files_are_those_of_segments(&db, dir.path()).await;
    }
}
