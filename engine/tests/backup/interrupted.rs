//! Backups and restores that fail at a step, and engines that end at one: nothing is left behind, and nothing is lost.
//!
//! An engine that ends is a copy of its data folder and of the backups, made while a job stands at the step: what a SIGKILL
//! at this moment leaves behind.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kalamdb_engine::{JobHooks, JobStep};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{Act, Place, Steps, back_up, files, settings_in, state, until};
use crate::harness::Db;

/// What a crash at a step leaves behind.
struct Image {
    step: JobStep,
    folder: TempDir,
}

/// Copies everything at each step, while it is told to.
#[derive(Default)]
struct Images {
    folder: PathBuf,
    taking: Mutex<bool>,
    taken: Mutex<Vec<Image>>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}

impl JobHooks for Images {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        if *self.taking.lock() {
            // Steps of several files at once are taken one after the other.
            let mut taken = self.taken.lock();
            let folder = tempfile::tempdir().unwrap();
            copy(&self.folder, folder.path());
            taken.push(Image { step, folder });
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let Ok(entry) = entry else { continue };
        let to = to.join(entry.file_name());
        // Other files may come and go meanwhile.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy(&entry.path(), &to);
        } else {
            let _ = fs::copy(entry.path(), to);
        }
    }
}

async fn fill(db: &Db) {
    let admin = db.admin();
    admin
        .run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT); CREATE SHARED TABLE s (id BIGINT PRIMARY KEY)")
        .await;
    for user in ["ana", "../ana"] {
        let rows: Vec<String> = (0..50).map(|id| format!("({id}, 'row {id}')")).collect();
        db.user(user).run(format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    }
    admin.run("INSERT INTO s VALUES (1), (2); FLUSH ALL TABLES IN app FORCE").await;
    db.user("ana").run("DELETE FROM t WHERE id < 5; INSERT INTO t VALUES (100, 'hot')").await;
}

/// The files of the storage are those of segments, once the sweep has been there.
async fn storage_is_clean(db: &Db, folder: &Path, what: &str) {
    let known = db.admin().rows("SELECT path FROM system.segments ORDER BY path").await.concat();
    until(what, known, async || files(&folder.join("data/storage"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_interrupted_leaves_nothing() {
    let place = Place::new();
    let images = Arc::new(Images { folder: place.path().to_owned(), ..Images::default() });
    let db = Db::with_hooks(place.settings(), Arc::clone(&images) as Arc<dyn JobHooks>).await;
    fill(&db).await;
    let expected = state(&db, "app", &["s", "t"]).await;
    let first = back_up(&db.admin(), "b", "").await;
    let of_first = files(&place.folder("b"));
    storage_is_clean(&db, place.path(), "before").await;
    *images.taking.lock() = true;
    let second = back_up(&db.admin(), "b", "MODE INCREMENTAL").await;
    let third = back_up(&db.admin(), "b", "").await;
    *images.taking.lock() = false;
    drop(db);

    let taken = std::mem::take(&mut *images.taken.lock());
    for step in [
        JobStep::BeforePending,
        JobStep::BeforeUpload,
        JobStep::AfterUpload,
        JobStep::BeforeCommit,
        JobStep::AfterCommit,
    ] {
        assert!(taken.iter().any(|image| image.step == step), "no image at {step:?}");
    }
    println!("{} images of ended engines", taken.len());
    for (number, Image { step, folder }) in taken.into_iter().enumerate() {
        let what = format!("image {number}, {step:?}");
        let complete = |id: &str| folder.path().join(format!("backups/b/backups/{id}/backup.json")).is_file();
        let (has_second, has_third) = (complete(&second), complete(&third));
        let db = Db::with(settings_in(folder.path())).await;
        // What is there of unfinished ones goes; of a finished one nothing does.
        let is_of = |file: &String, id: &str| file.contains(id);
        until(&what, Vec::<String>::new(), async || {
            let mut left = files(&folder.path().join("backups/b"));
            left.retain(|file| {
                let unfinished = (is_of(file, &second) && !has_second) || (is_of(file, &third) && !has_third);
                unfinished || file.ends_with("/new")
            });
            left
        })
        .await;
        for file in &of_first {
            assert!(folder.path().join("backups/b").join(file).is_file(), "{what}: {file} is gone");
        }
        assert_eq!(state(&db, "app", &["s", "t"]).await, expected, "{what}");
        let shown = db.admin().rows("SHOW BACKUP 'b'").await;
        assert_eq!(shown.len(), 1 + usize::from(has_second) + usize::from(has_third), "{what}");
        assert_eq!(shown[0][0], first, "{what}");
        // The views are those of a backup that is there.
        let newest = &shown[shown.len() - 1][0];
        let root = folder.path().join("backups/b/duckdb.sql");
        until(&format!("{what}: views"), true, async || fs::read_to_string(&root).unwrap().contains(newest.as_str()))
            .await;
        back_up(&db.admin(), "b", "MODE INCREMENTAL").await;
        db.admin().run("RESTORE DATABASE app FROM 'b' AS copy").await;
        assert_eq!(state(&db, "copy", &["s", "t"]).await, expected, "{what}, restored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_interrupted_leaves_nothing() {
    let place = Place::new();
    let images = Arc::new(Images { folder: place.path().to_owned(), ..Images::default() });
    let db = Db::with_hooks(place.settings(), Arc::clone(&images) as Arc<dyn JobHooks>).await;
    fill(&db).await;
    let expected = state(&db, "app", &["s", "t"]).await;
    back_up(&db.admin(), "b", "").await;
    storage_is_clean(&db, place.path(), "before").await;
    *images.taking.lock() = true;
    db.admin().run("RESTORE DATABASE app FROM 'b' AS copy").await;
    *images.taking.lock() = false;
    assert_eq!(state(&db, "copy", &["s", "t"]).await, expected);
    let segments = db.admin().value("SELECT count(*) FROM system.segments").await;
    drop(db);

    let taken = std::mem::take(&mut *images.taken.lock());
    for step in [
        JobStep::BeforePending,
        JobStep::BeforeUpload,
        JobStep::AfterUpload,
        JobStep::BeforeCommit,
        JobStep::AfterCommit,
    ] {
        assert!(taken.iter().any(|image| image.step == step), "no image at {step:?}");
    }
    println!("{} images of ended engines", taken.len());
    for (number, Image { step, folder }) in taken.into_iter().enumerate() {
        let what = format!("image {number}, {step:?}");
        let db = Db::with(settings_in(folder.path())).await;
        let restored = db.admin().value("SELECT count(*) FROM system.namespaces WHERE name = 'copy'").await == "1";
        assert_eq!(restored, step == JobStep::AfterCommit, "{what}");
        storage_is_clean(&db, folder.path(), &what).await;
        assert_eq!(state(&db, "app", &["s", "t"]).await, expected, "{what}");
        if restored {
            assert_eq!(state(&db, "copy", &["s", "t"]).await, expected, "{what}");
            assert_eq!(db.admin().value("SELECT count(*) FROM system.segments").await, segments, "{what}");
            continue;
        }
        // What the one before wrote does not show up in the next one, whose tables have other ids.
        db.admin().run("RESTORE DATABASE app FROM 'b' AS copy").await;
        assert_eq!(state(&db, "copy", &["s", "t"]).await, expected, "{what}, restored");
        assert_eq!(db.admin().value("SELECT count(*) FROM system.segments").await, segments, "{what}");
        storage_is_clean(&db, folder.path(), &what).await;
    }
}

/// Fails when a step is reached, a few times.
#[derive(Debug)]
struct Failing {
    step: JobStep,
    /// How often it is reached before it fails; `None`: it does not.
    after: Mutex<Option<usize>>,
}

impl JobHooks for Failing {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        let mut after = self.after.lock();
        match after.as_mut() {
            Some(0) if step == self.step => {
                *after = None;
                Err("as the test wants".to_owned())
            }
            Some(left) if step == self.step => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing() {
    for step in [JobStep::BeforePending, JobStep::BeforeUpload, JobStep::AfterUpload, JobStep::BeforeCommit] {
        for after in [0, 2] {
            if after > 0 && matches!(step, JobStep::BeforePending | JobStep::BeforeCommit) {
                continue;
            }
            let what = format!("{step:?} after {after}");
            let place = Place::new();
            let failing = Arc::new(Failing { step, after: Mutex::new(None) });
            let db = Db::with_hooks(place.settings(), Arc::clone(&failing) as Arc<dyn JobHooks>).await;
            fill(&db).await;
            storage_is_clean(&db, place.path(), &what).await;
            let expected = state(&db, "app", &["s", "t"]).await;
            *failing.after.lock() = Some(after);
            let failed = db.admin().try_run("BACKUP DATABASE app TO 'b'").await;
            assert!(failed.is_err(), "{what}: {failed:?}");
            assert!(failing.after.lock().is_none(), "{what} was not reached");
            assert_eq!(files(&place.folder("b")), Vec::<String>::new(), "{what}");
            back_up(&db.admin(), "b", "").await;
            *failing.after.lock() = Some(after);
            let failed = db.admin().try_run("RESTORE DATABASE app FROM 'b' AS copy").await;
            assert!(failed.is_err(), "{what}: {failed:?}");
            assert_eq!(db.admin().value("SELECT count(*) FROM system.namespaces WHERE name = 'copy'").await, "0");
            storage_is_clean(&db, place.path(), &what).await;
            db.admin().run("RESTORE DATABASE app FROM 'b' AS copy").await;
            assert_eq!(state(&db, "copy", &["s", "t"]).await, expected, "{what}");
            assert_eq!(state(&db, "app", &["s", "t"]).await, expected, "{what}");
        }
    }
}

/// What could not be removed at once is removed later.
#[tokio::test]
async fn what_cannot_be_removed_is_removed_later() {
    let place = Place::new();
    let failing = Arc::new(Failing { step: JobStep::BeforeDelete, after: Mutex::new(None) });
    let stopping = Arc::new(Two {
        first: Arc::clone(&failing),
        second: Failing { step: JobStep::BeforeCommit, after: Mutex::new(None) },
    });
    let db = Db::with_hooks(place.settings(), Arc::clone(&stopping) as Arc<dyn JobHooks>).await;
    fill(&db).await;
    storage_is_clean(&db, place.path(), "before").await;
    *stopping.second.after.lock() = Some(0);
    *failing.after.lock() = Some(0);
    let failed = db.admin().try_run("BACKUP DATABASE app TO 'b'").await;
    assert!(failed.is_err(), "{failed:?}");
    until("the backup is removed", Vec::<String>::new(), async || files(&place.folder("b"))).await;
    assert_eq!(
        db.admin().try_run("SHOW BACKUP 'b'").await.unwrap_err().reason(),
        kalamdb_engine::Reason::BackupNotFound
    );
}

/// Two hooks, one after the other.
#[derive(Debug)]
struct Two {
    first: Arc<Failing>,
    second: Failing,
}

impl JobHooks for Two {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        self.first.reached(step).and_then(|()| self.second.reached(step))
    }
}

/// A restore that was under way when the removal of something else began, and is whole when its own turn comes.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_well_meanwhile_is_not_removed() {
    let place = Place::new();
    let steps = Arc::new(Steps::default());
    let db = Db::with_hooks(place.settings(), Arc::clone(&steps) as Arc<dyn JobHooks>).await;
    let admin = db.admin();
    fill(&db).await;
    let expected = state(&db, "app", &["s", "t"]).await;
    back_up(&admin, "b", "").await;
    storage_is_clean(&db, place.path(), "before").await;
    // A backup that fails, and is not removed for a while.
    let fail = async |place: &str| {
        steps.set(JobStep::BeforeCommit, Act::Fail);
        steps.set(JobStep::BeforeDelete, Act::Fail);
        let failed = admin.try_run(format!("BACKUP DATABASE app TO '{place}'")).await;
        assert!(failed.is_err(), "{failed:?}");
        steps.pass(JobStep::BeforeCommit);
    };
    fail("first").await;
    steps.set(JobStep::BeforeUpload, Act::Wait);
    let restoring = tokio::spawn({
        let admin = admin.clone();
        async move { admin.try_run("RESTORE DATABASE app FROM 'b' AS copy").await }
    });
    steps.until_standing(JobStep::BeforeUpload).await;
    steps.set(JobStep::BeforeDelete, Act::Wait);
    steps.until_standing(JobStep::BeforeDelete).await;
    // Both are noted now, and the removal of the backup stands still.
    steps.pass(JobStep::BeforeUpload);
    restoring.await.unwrap().unwrap();
    steps.pass(JobStep::BeforeDelete);
    until("the first is removed", Vec::<String>::new(), async || files(&place.folder("first"))).await;
    // Whoever removes another one is through with all that was noted before.
    fail("second").await;
    steps.pass(JobStep::BeforeDelete);
    until("the second is removed", Vec::<String>::new(), async || files(&place.folder("second"))).await;
    assert_eq!(state(&db, "copy", &["s", "t"]).await, expected);
    admin.run("INSERT INTO copy.s VALUES (3)").await;
    storage_is_clean(&db, place.path(), "at the end").await;
}

/// Backups may be elsewhere when the server is started again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_found_wherever_backups_may_be_now() {
    let place = Place::new();
    let steps = Arc::new(Steps::default());
    let mut db = Db::with_hooks(place.settings(), Arc::clone(&steps) as Arc<dyn JobHooks>).await;
    fill(&db).await;
    for name in ["gone", "b"] {
        steps.set(JobStep::BeforeCommit, Act::Fail);
        steps.set(JobStep::BeforeDelete, Act::Fail);
        let failed = db.admin().try_run(format!("BACKUP DATABASE app TO '{name}'")).await;
        assert!(failed.is_err(), "{failed:?}");
        assert!(!files(&place.folder(name)).is_empty());
    }
    db.close();
    fs::remove_dir_all(place.folder("gone")).unwrap();
    let other = place.path().join("elsewhere");
    fs::create_dir(&other).unwrap();
    let before = place.settings().backup_roots;
    db.set_backup_roots([vec![other.clone()], before].concat());
    steps.pass(JobStep::BeforeCommit);
    steps.pass(JobStep::BeforeDelete);
    db.reopen();
    until("what was left is removed", Vec::<String>::new(), async || files(&place.folder("b"))).await;
    // The one before it was dealt with, and no folder was made for it, here or there.
    assert!(!place.folder("gone").exists());
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    back_up(&db.admin(), "b", "").await;
    assert!(!files(&other.join("b")).is_empty());
}
