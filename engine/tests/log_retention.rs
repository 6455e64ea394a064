//! How far back the change log goes: by age, by size, through restarts, and not past what is still needed.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use kalamdb_engine::{
    Caller, Engine, EngineSettings, FixedEnv, JobHooks, JobStep, LiveSettings, Request, Role, StorageSettings,
};
use parking_lot::Mutex;

use crate::harness::{Db, small, user_id};

const SECOND_US: i64 = 1_000_000;

fn keeps(log_retention_s: u64, log_retention_bytes: u64) -> EngineSettings {
    EngineSettings { live: LiveSettings { log_retention_s, log_retention_bytes, ..LiveSettings::default() }, ..small() }
}

/// Inserts rows of about a kilobyte, each with a commit of its own. Answers the first and the last commit.
async fn insert(db: &Db, keys: std::ops::Range<i64>) -> (u64, u64) {
    let (mut first, mut last) = (None, 0);
    for key in keys {
        let sql = format!("INSERT INTO t VALUES ({key}, '{}')", "x".repeat(1_000));
        last = db.user("ana").run(sql).await.commit_seq.unwrap().get();
        first.get_or_insert(last);
    }
    (first.unwrap(), last)
}

fn floor_after_a_round(db: &Db) -> u64 {
    db.engine().apply_log_retention().unwrap();
    db.engine().change_log_floor().get()
}

async fn with_table(settings: EngineSettings) -> Db {
    let db = Db::with(settings).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    db
}

#[tokio::test]
async fn changes_are_kept_for_their_time() {
    let db = with_table(keeps(3_600, u64::MAX)).await;
    let (_, old) = insert(&db, 0..10).await;
    db.env.advance_us(60 * SECOND_US);
    // They are known to have been made by now.
    assert_eq!(floor_after_a_round(&db), 0);
    db.env.advance_us(3_000 * SECOND_US);
    let (young, last) = insert(&db, 10..20).await;
    assert_eq!(floor_after_a_round(&db), 0);
    db.env.advance_us(599 * SECOND_US);
    assert_eq!(floor_after_a_round(&db), 0);
    db.env.advance_us(SECOND_US);
    let floor = floor_after_a_round(&db);
    assert!((old..young).contains(&floor), "{floor} is not in {old}..{young}");
    // The others follow when it is their time.
    db.env.advance_us(3_000 * SECOND_US - 1);
    assert!(floor_after_a_round(&db) < young);
    db.env.advance_us(1);
    assert!(floor_after_a_round(&db) >= last);
    // The rows are not concerned.
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t").await, "20");
}

#[tokio::test]
async fn changes_are_kept_up_to_their_size() {
    let db = with_table(keeps(86_400, 20_000)).await;
    for key in 0..100 {
        let (_, last) = insert(&db, key..key + 1).await;
        let floor = floor_after_a_round(&db);
        // An entry has somewhat more than a kilobyte, so at least 15 and at most 19 are kept.
        if key < 15 {
            assert_eq!(floor, 0, "all are kept while they are few");
        } else if key >= 20 {
            assert!((last - 20..=last - 15).contains(&floor), "{floor} of {last}");
        }
    }
}

#[tokio::test]
async fn age_counts_through_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        EngineSettings { storage: StorageSettings::Directory(dir.path().to_path_buf()), ..keeps(3_600, u64::MAX) };
    let mut db = with_table(settings).await;
    let (_, old) = insert(&db, 0..5).await;
    db.env.advance_us(60 * SECOND_US);
    assert_eq!(floor_after_a_round(&db), 0);
    for _ in 0..3 {
        db.reopen();
        db.env.advance_us(1_100 * SECOND_US);
        assert_eq!(floor_after_a_round(&db), 0);
    }
    let (young, _) = insert(&db, 5..10).await;
    db.env.advance_us(299 * SECOND_US);
    assert_eq!(floor_after_a_round(&db), 0);
    db.reopen();
    db.env.advance_us(SECOND_US);
    let floor = floor_after_a_round(&db);
    assert!((old..young).contains(&floor), "{floor} is not in {old}..{young}");
    // So does the floor itself.
    db.reopen();
    assert_eq!(db.engine().change_log_floor().get(), floor);
}

#[tokio::test]
async fn a_clock_that_is_set_back_gives_up_nothing_early() {
    let db = with_table(keeps(3_600, u64::MAX)).await;
    db.env.advance_us(1_000_000 * SECOND_US);
    insert(&db, 0..5).await;
    floor_after_a_round(&db);
    let floor = db.engine().change_log_floor();
    db.env.advance_us(-1_000_000 * SECOND_US);
    floor_after_a_round(&db);
    db.env.advance_us(3_599 * SECOND_US);
    assert_eq!(floor_after_a_round(&db), floor.get());
    db.env.advance_us(SECOND_US);
    assert!(floor_after_a_round(&db) > floor.get());
}

/// While a flush stands before its commit, makes everything before now so old that only the flush can hold it.
#[derive(Default)]
struct Trim {
    engine: OnceLock<Weak<Engine>>,
    env: OnceLock<Arc<FixedEnv>>,
    /// The last commit before, and the floor afterwards.
    seen: Mutex<Option<(u64, u64)>>,
}

impl fmt::Debug for Trim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trim").finish_non_exhaustive()
    }
}

impl Trim {
    fn trim(&self) {
        let (Some(engine), Some(env)) = (self.engine.get().and_then(Weak::upgrade), self.env.get()) else { return };
        let before = engine.last_commit_seq().get();
        // A change of a row that is in the segment, which the flush has to learn from the log.
        let session = engine.session(Caller::new(user_id("ana"), Role::User));
        let update =
            Request { namespace: Some("app".to_owned()), ..Request::new("UPDATE t SET body = 'new' WHERE id = 1") };
        // The hook is called on a thread of jobs, which must not wait for a future itself.
        std::thread::scope(|scope| {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { session.execute(update).next().await.unwrap().unwrap() });
            };
            scope.spawn(run).join().unwrap();
        });
        for _ in 0..3 {
            env.advance_us(4_000 * SECOND_US);
            engine.apply_log_retention().unwrap();
        }
        *self.seen.lock() = Some((before, engine.change_log_floor().get()));
    }
}

impl JobHooks for Trim {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        if step == JobStep::BeforeCommit && self.seen.lock().is_none() {
            self.trim();
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_keeps_the_changes_since_its_snapshot() {
    let hooks = Arc::new(Trim::default());
    let mut settings = keeps(3_600, u64::MAX);
    // A flush whose changes are gone would begin anew.
    settings.flush.max_retries = 0;
    let db = Db::with_hooks(settings, Arc::clone(&hooks) as Arc<dyn JobHooks>).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    insert(&db, 0..3).await;
    assert!(hooks.env.set(Arc::clone(&db.env)).is_ok());
    assert!(hooks.engine.set(Arc::downgrade(db.engine())).is_ok());
    db.admin().run("FLUSH TABLE t FORCE").await;
    let (before, floor) = hooks.seen.lock().take().unwrap();
    assert!(floor <= before, "the floor {floor} passed the flush's snapshot, which is of {before} at the latest");
    assert_eq!(db.user("ana").value("SELECT body FROM t WHERE id = 1").await, "new");
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t").await, "3");
    // Afterwards nothing holds them.
    for _ in 0..3 {
        db.env.advance_us(4_000 * SECOND_US);
        floor_after_a_round(&db);
    }
    assert!(db.engine().change_log_floor().get() > before);
}
