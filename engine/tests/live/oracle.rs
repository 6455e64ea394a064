//! Everything at once: writers, subscribers that come and go and read at their own pace, flushes, compactions, trimming
//! of the log, restarts; and every single event compared with what the writers know they wrote.
//!
//! `KALAMDB_LIVE_SECONDS` sets how long each of the tests writes; 4 when unset. `KALAMDB_LIVE_SEED` sets the seed, which is
//! printed. What meets what is left to chance: a seed repeats the statements and the queries, not the run.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kalamdb_engine::{
    Engine, InitialRows, LiveEvent, LiveOptions, LiveQueryRequest, Reason, SlowConsumer, StorageSettings,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;

use super::{
    LIMIT,
    checker::{Base, Checker, Finding, History, Lens, Seen},
    number, request, seed, seen, with_table,
};
use crate::harness::{Answer, Client, Db, int, small, text};

const USERS: [&str; 3] = ["ana", "../ana", "émile\0"];
/// Two for each user, so that their writes meet.
const WRITERS: usize = 6;
const SUBSCRIBERS: usize = 18;
const KEYS: i64 = 24;
const NAMES: [&str; 5] = ["red", "blue", "black", "b_%", ""];
/// How long writers write before everything is compared.
const ROUND: Duration = Duration::from_millis(600);

/// What a run is about.
#[derive(Debug, Clone, Copy, Default)]
struct Plan {
    /// On disk, with a restart after each round.
    restarts: bool,
    /// Flushes and compactions beside the writers.
    moves: bool,
    /// So little is kept of the log that resuming often comes too late.
    forgets: bool,
}

/// The histories of the users' partitions.
type Histories = Arc<Mutex<HashMap<&'static str, History>>>;

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or("NULL".to_owned(), |value| value.to_string())
}

fn lenses() -> Vec<Lens> {
    let all: fn(&Base, bool) -> Vec<String> = |row, _| vec![row.id.to_string(), shown(row.n), shown(row.name.as_ref())];
    let with = |columns, filter, holds, shows| Lens { columns, filter, parameters: Vec::new(), holds, shows };
    vec![
        with("*", "", |_| true, all),
        with("id, n, name", "WHERE n > 50", |row| row.n.is_some_and(|n| n > 50), all),
        with("*", "WHERE name = 'red'", |row| row.name.as_deref() == Some("red"), all),
        with("id, n", "WHERE id = 7", |row| row.id == 7, |row, _| vec![row.id.to_string(), shown(row.n)]),
        with(
            "id",
            "WHERE 7 = id AND n > 20",
            |row| row.id == 7 && row.n.is_some_and(|n| n > 20),
            |row, _| vec![row.id.to_string()],
        ),
        with("*", "WHERE n IS NULL", |row| row.n.is_none(), all),
        with("*", "WHERE NOT (n > 50)", |row| row.n.is_some_and(|n| n <= 50), all),
        with(
            "id, upper(name) AS big, n IS NULL AS missing",
            "WHERE name LIKE 'bl%' OR n BETWEEN 10 AND 30",
            |row| {
                row.name.as_ref().is_some_and(|name| name.starts_with("bl"))
                    || row.n.is_some_and(|n| (10..=30).contains(&n))
            },
            |row, _| {
                vec![
                    row.id.to_string(),
                    shown(row.name.as_ref().map(|n| n.to_uppercase())),
                    row.n.is_none().to_string(),
                ]
            },
        ),
        with("*", "WHERE name LIKE 'b\\_\\%'", |row| row.name.as_deref() == Some("b_%"), all),
        with(
            "id, n * 2 AS twice",
            "WHERE id IN (1, 3, 5, 7, 9, 11)",
            |row| row.id <= 11 && row.id % 2 == 1,
            |row, _| vec![row.id.to_string(), shown(row.n.map(|n| n * 2))],
        ),
        with("*", "WHERE n NOT IN (1, 2, NULL)", |_| false, all),
        with(
            "id, CASE WHEN n > 10 THEN 'much' ELSE 'little' END AS size",
            "WHERE CASE WHEN name = 'red' THEN n > 10 ELSE n <= 10 END",
            |row| row.n.is_some_and(|n| if row.name.as_deref() == Some("red") { n > 10 } else { n <= 10 }),
            |row, _| vec![row.id.to_string(), if row.n.is_some_and(|n| n > 10) { "much" } else { "little" }.to_owned()],
        ),
        with("*", "WHERE upper(name) = 'BLUE'", |row| row.name.as_deref() == Some("blue"), all),
        with("*", "WHERE CAST(n AS TEXT) LIKE '1%'", |row| row.n.is_some_and(|n| n.to_string().starts_with('1')), all),
        with(
            "id, n % 7 AS rest",
            "WHERE n % 2 = 0",
            |row| row.n.is_some_and(|n| n % 2 == 0),
            |row, _| vec![row.id.to_string(), shown(row.n.map(|n| n % 7))],
        ),
        with("*", "WHERE coalesce(n, 0) < 5", |row| row.n.unwrap_or(0) < 5, all),
        with("*", "WHERE name IS DISTINCT FROM 'red'", |row| row.name.as_deref() != Some("red"), all),
        with(
            "id, _seq, _deleted",
            "WHERE n < 80",
            |row| row.n.is_some_and(|n| n < 80),
            |row, gone| vec![row.id.to_string(), row.seq.to_string(), gone.to_string()],
        ),
        with("id, n, _deleted", "", |_| true, |row, gone| vec![row.id.to_string(), shown(row.n), gone.to_string()]),
        with("*", "WHERE false", |_| false, all),
        Lens {
            parameters: vec![int(30), text("blue")],
            ..with(
                "*",
                "WHERE n >= $1 AND name <> $2",
                |row| row.n.is_some_and(|n| n >= 30) && row.name.as_ref().is_some_and(|name| name != "blue"),
                all,
            )
        },
        Lens {
            parameters: vec![int(5)],
            ..with("*", "WHERE id = $1 AND name IS NOT NULL", |row| row.id == 5 && row.name.is_some(), all)
        },
    ]
}

/// A statement, and what became of the rows it answers: `true`, they are gone.
fn statement(rng: &mut StdRng) -> (String, bool) {
    let n = |rng: &mut StdRng| match rng.random_range(0..6) {
        0 => "NULL".to_owned(),
        _ => rng.random_range(0..100).to_string(),
    };
    let name = |rng: &mut StdRng| match rng.random_range(0..6) {
        0 => "NULL".to_owned(),
        _ => format!("'{}'", NAMES[rng.random_range(0..NAMES.len())]),
    };
    let values = |rng: &mut StdRng| {
        let (first, count) = (rng.random_range(0..KEYS), rng.random_range(1..5));
        let rows: Vec<String> =
            (0..count).map(|i| format!("({}, {}, {})", (first + i * 5) % KEYS, n(rng), name(rng))).collect();
        rows.join(", ")
    };
    let key = rng.random_range(0..KEYS);
    let set = match rng.random_range(0..5) {
        0 => "n = n + 1".to_owned(),
        1 => format!("n = {}", n(rng)),
        2 => format!("name = {}", name(rng)),
        3 => format!("n = {}, name = {}", n(rng), name(rng)),
        // Written again as it is.
        _ => "n = n".to_owned(),
    };
    let condition = match rng.random_range(0..8) {
        0 => format!("n > {}", rng.random_range(0..100)),
        1 => format!("name = {}", name(rng)),
        2 => "n IS NULL".to_owned(),
        3 => format!("id IN ({key}, {}, {})", (key + 3) % KEYS, (key + 9) % KEYS),
        _ => format!("id = {key}"),
    };
    let returning = "RETURNING id, n, name";
    match rng.random_range(0..20) {
        0..=5 => (format!("INSERT INTO t VALUES {} ON CONFLICT DO NOTHING {returning}", values(rng)), false),
        6..=7 => (format!("INSERT INTO t VALUES {} {returning}", values(rng)), false),
        8..=10 => {
            let upsert = "ON CONFLICT (id) DO UPDATE SET n = excluded.n, name = t.name";
            (format!("INSERT INTO t VALUES {} {upsert} {returning}", values(rng)), false)
        }
        11..=15 => (format!("UPDATE t SET {set} WHERE {condition} {returning}"), false),
        _ => (format!("DELETE FROM t WHERE {condition} {returning}"), true),
    }
}

fn base(row: &[String], seq: u64) -> Base {
    let value = |text: &String| (text != "NULL").then(|| text.clone());
    Base { id: row[0].parse().unwrap(), n: value(&row[1]).map(|n| n.parse().unwrap()), name: value(&row[2]), seq }
}

/// Writes until it is told to stop.
async fn write(
    client: Client,
    user: &'static str,
    mut rng: StdRng,
    histories: Histories,
    stop: Arc<AtomicBool>,
) -> u64 {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let (sql, gone) = statement(&mut rng);
        let Answer { rows, commit_seq, .. } = match client.try_run(sql.as_str()).await {
            Ok(answer) => answer,
            // A key that is there; or other writers were faster, over and over.
            Err(error) if [Reason::PrimaryKeyViolation, Reason::WriteConflict].contains(&error.reason()) => continue,
            Err(error) => panic!("{sql}\n  failed: {error}"),
        };
        if !rows.is_empty() {
            let seq = commit_seq.unwrap_or_else(|| panic!("no commit sequence of {sql}")).get();
            let effects = rows.iter().map(|row| base(row, seq)).map(|row| (row.id, (!gone).then_some(row)));
            histories.lock().entry(user).or_default().commit(seq, effects.collect());
            written += 1;
        }
        if rng.random_range(0..3) == 0 {
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..3_000))).await;
        }
    }
    written
}

/// Flushes, compacts and trims until it is told to stop.
async fn disturb(admin: Client, engine: Arc<Engine>, mut rng: StdRng, plan: Plan, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..80))).await;
        if plan.moves {
            let sql = if rng.random_range(0..3) == 0 { "COMPACT TABLE t" } else { "FLUSH TABLE t FORCE" };
            admin.run(sql).await;
        }
        if plan.forgets {
            let engine = Arc::clone(&engine);
            tokio::task::spawn_blocking(move || engine.apply_log_retention().unwrap()).await.unwrap();
        }
    }
}

/// How a subscriber reads.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Fast,
    /// It pauses now and then.
    Uneven,
    /// It pauses so long that its queue overflows.
    Slow,
}

struct Subscriber {
    user: &'static str,
    lens: Lens,
    options: LiveOptions,
    pace: Pace,
    rng: StdRng,
    checker: Checker,
    /// Where it goes on: the token, and the commit it stands for.
    place: Option<(String, u64)>,
    /// What it saw in this round.
    seen: Vec<Seen>,
    connections: u64,
    resets: u64,
    merged: u64,
    overflows: u64,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// It has seen everything.
    Complete,
    /// It goes on with another one.
    Again,
    /// The engine stops.
    Stopped,
}

impl Subscriber {
    fn new(number: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ (number as u64 + 1) << 20);
        let lenses = lenses();
        let lens = lenses[(number + rng.random_range(0..lenses.len())) % lenses.len()].clone();
        let initial_rows = match rng.random_range(0..6) {
            0 => InitialRows::None,
            1 => InitialRows::Last(rng.random_range(0..12)),
            _ => InitialRows::All,
        };
        // Changes of a query that shows _deleted cannot be merged.
        let never_merged = lens.columns.contains("_deleted") || rng.random_range(0..2) == 0;
        let slow_consumer = if never_merged { SlowConsumer::Disconnect } else { SlowConsumer::Coalesce };
        let before_images = rng.random_range(0..3) > 0;
        let options = LiveOptions { initial_rows, before_images, slow_consumer, ..LiveOptions::default() };
        let pace = [Pace::Fast, Pace::Uneven, Pace::Slow][number % 3];
        Self {
            user: USERS[number / 3 % USERS.len()],
            checker: Checker::new(lens.clone(), initial_rows, before_images),
            lens,
            options,
            pace,
            rng,
            place: None,
            seen: Vec::new(),
            connections: 0,
            resets: 0,
            merged: 0,
            overflows: 0,
        }
    }

    /// Reads until it has seen everything up to `target`, once that is known, or goes away before.
    async fn read(mut self, client: Client, engine: Arc<Engine>, target: Arc<AtomicU64>) -> Self {
        loop {
            match self.connect(&client, &engine, &target).await {
                Over::Again => {}
                Over::Complete | Over::Stopped => return self,
            }
        }
    }

    async fn connect(&mut self, client: &Client, engine: &Engine, target: &AtomicU64) -> Over {
        self.connections += 1;
        let after = self.place.as_ref().map(|(_, at)| *at);
        let asked = LiveQueryRequest {
            parameters: self.lens.parameters.clone(),
            options: self.options.clone(),
            resume_token: self.place.as_ref().map(|(token, _)| token.clone()),
            ..request(&self.lens.subscribe_sql())
        };
        let mut query = match client.session.subscribe(asked) {
            Ok(query) => query,
            Err(error) if error.reason() == Reason::ShuttingDown => return Over::Stopped,
            Err(error) => panic!("{self:?}: {error}"),
        };
        self.seen.push(Seen::Connected { after });
        // Few events or many, until it goes away.
        let mut patience = if self.rng.random_range(0..3) == 0 { u32::MAX } else { self.rng.random_range(0..120) };
        loop {
            if patience == 0 {
                return Over::Again;
            }
            patience -= 1;
            self.rest(target.load(Ordering::SeqCst) > 0).await;
            let event = self.next(&mut query).await;
            let published = engine.last_commit_seq().get();
            let is_changes = matches!(event, LiveEvent::Changes(_));
            let mut all = seen(&event, published);
            // Whoever goes away may have taken only some of what was given.
            if is_changes && self.rng.random_range(0..40) == 0 {
                all.truncate(self.rng.random_range(0..all.len().max(1)));
                patience = 0;
            }
            for seen in all {
                if let Some(over) = self.note(seen) {
                    return over;
                }
            }
            let target = target.load(Ordering::SeqCst);
            if target > 0 && self.place.as_ref().is_some_and(|(_, at)| *at >= target) {
                return Over::Complete;
            }
        }
    }

    async fn rest(&mut self, at_the_end: bool) {
        let longest_ms = match self.pace {
            Pace::Fast => return,
            _ if at_the_end => return,
            Pace::Uneven if self.rng.random_range(0..8) == 0 => 20,
            Pace::Uneven => return,
            Pace::Slow if self.rng.random_range(0..3) == 0 => 250,
            Pace::Slow => 5,
        };
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..longest_ms))).await;
    }

    /// The next event; now and then, waiting is given up and begun again.
    async fn next(&mut self, query: &mut kalamdb_engine::LiveQuery) -> LiveEvent {
        let began = Instant::now();
        loop {
            let wait = if self.rng.random_range(0..4) == 0 {
                Duration::from_micros(self.rng.random_range(0..3_000))
            } else {
                LIMIT
            };
            match tokio::time::timeout(wait, query.next()).await {
                Ok(event) => return event.unwrap_or_else(|| panic!("{self:?}: nothing comes after the end")),
                Err(_) => assert!(began.elapsed() < LIMIT, "{self:?}: no event for {LIMIT:?}\n{}", self.last_seen()),
            }
        }
    }

    fn note(&mut self, seen: Seen) -> Option<Over> {
        let mut over = None;
        match &seen {
            Seen::Ready { seq, token, .. } | Seen::Progress { seq, token } => self.place = Some((token.clone(), *seq)),
            Seen::Commit { seq, token, merged, .. } => {
                self.merged += u64::from(*merged);
                self.place = Some((token.clone(), *seq));
            }
            Seen::Rows(_) => self.place = None,
            Seen::Reset { reason } => {
                assert_eq!(*reason, Reason::ChangesExpired, "{self:?}");
                self.resets += 1;
                self.place = None;
            }
            Seen::Ended { reason, token } => {
                assert_eq!(token.is_some(), self.place.is_some(), "{self:?}: ended with {reason:?}");
                // It stands for the same place as the last one.
                if let (Some(token), Some((last, _))) = (token, &mut self.place) {
                    last.clone_from(token);
                }
                over = Some(match reason {
                    Reason::SlowConsumer => {
                        self.overflows += 1;
                        Over::Again
                    }
                    Reason::ShuttingDown => Over::Stopped,
                    other => panic!("{self:?}: ended with {other:?}\n{}", self.last_seen()),
                });
            }
            Seen::Connected { .. } => {}
        }
        self.seen.push(seen);
        over
    }

    fn last_seen(&self) -> String {
        let mut text = String::new();
        for seen in self.seen.iter().rev().take(30).rev() {
            let _ = writeln!(text, "  {seen:?}");
        }
        text
    }

    fn check(&mut self, seed: u64, history: &History) {
        let seen = std::mem::take(&mut self.seen);
        let findings: Vec<Finding> = self.checker.check(&seen, history);
        if !findings.is_empty() {
            self.seen = seen;
            let shown: Vec<String> = findings.iter().take(5).map(|f| format!("{:?}: {}", f.fault, f.what)).collect();
            panic!("KALAMDB_LIVE_SEED={seed}: {self:?}\n{}\nlast seen:\n{}", shown.join("\n"), self.last_seen());
        }
        // A subscriber that was among its first rows has none of them when it comes back.
        assert!(self.place.is_none() || self.checker.at() == self.place.as_ref().map(|(_, at)| *at), "{self:?}");
    }
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, lens, options, pace, connections, place, .. } = self;
        let sql = lens.subscribe_sql();
        let at = place.as_ref().map(|(_, at)| at);
        write!(f, "{user:?} {sql} {options:?} {pace:?}, connection {connections}, at {at:?}")
    }
}

async fn run(test: &str, plan: Plan) {
    let seed = seed(test);
    let length = Duration::from_secs(number("KALAMDB_LIVE_SECONDS", 4));
    let folder = tempfile::tempdir().unwrap();
    let mut settings = small();
    if plan.restarts {
        settings.storage = StorageSettings::Directory(folder.path().to_path_buf());
    }
    if plan.forgets {
        settings.live.log_retention_bytes = 100_000;
    }
    settings.live.queue_bytes = 6_000;
    settings.flush.min_partition_rows = 4;
    settings.flush.segment_rows = 9;
    settings.compaction.min_segments = 3;
    let mut db = with_table(Db::with(settings).await).await;
    let mut rng = StdRng::seed_from_u64(seed);
    let histories: Histories = Arc::default();
    let mut subscribers: Vec<Subscriber> = (0..SUBSCRIBERS).map(|number| Subscriber::new(number, seed)).collect();
    let (mut written, mut rounds, began) = (0, 0_u64, Instant::now());
    while began.elapsed() < length || rounds < 3 {
        rounds += 1;
        let stop = Arc::new(AtomicBool::new(false));
        let target = Arc::new(AtomicU64::new(0));
        let reading: Vec<JoinHandle<Subscriber>> = subscribers
            .drain(..)
            .map(|subscriber| {
                let client = db.user(subscriber.user);
                tokio::spawn(subscriber.read(client, Arc::clone(db.engine()), Arc::clone(&target)))
            })
            .collect();
        let writing: Vec<JoinHandle<u64>> = (0..WRITERS)
            .map(|number| {
                let user = USERS[number % USERS.len()];
                let rng = StdRng::seed_from_u64(rng.random());
                tokio::spawn(write(db.user(user), user, rng, Arc::clone(&histories), Arc::clone(&stop)))
            })
            .collect();
        let disturbing = {
            let rng = StdRng::seed_from_u64(rng.random());
            tokio::spawn(disturb(db.admin(), Arc::clone(db.engine()), rng, plan, Arc::clone(&stop)))
        };
        tokio::time::sleep(ROUND).await;
        stop.store(true, Ordering::SeqCst);
        for writer in writing {
            written += writer.await.unwrap();
        }
        disturbing.await.unwrap();
        // Now and then the engine stops while some are still behind.
        let is_cut = plan.restarts && rng.random_range(0..2) == 0;
        if is_cut {
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..20))).await;
            db.engine().end_live_queries();
        }
        target.store(db.engine().last_commit_seq().get(), Ordering::SeqCst);
        for reader in reading {
            subscribers.push(reader.await.unwrap());
        }
        check(&db, seed, &histories, &mut subscribers, target.load(Ordering::SeqCst)).await;
        if plan.restarts {
            db.close();
            db.reopen();
        }
    }
    let sum = |of: fn(&Subscriber) -> u64| subscribers.iter().map(of).sum::<u64>();
    println!(
        "{test}: {written} commits in {rounds} rounds and {:.1} s; {} connections, {} resets, {} merged commits, {} overflows",
        began.elapsed().as_secs_f64(),
        sum(|s| s.connections),
        sum(|s| s.resets),
        sum(|s| s.merged),
        sum(|s| s.overflows),
    );
    assert!(written > 0);
}

/// Nothing is being written: compares what everybody has seen with the histories, and what they hold with SELECT.
async fn check(db: &Db, seed: u64, histories: &Histories, subscribers: &mut [Subscriber], target: u64) {
    let mut oldest: HashMap<&str, u64> = HashMap::new();
    for subscriber in subscribers.iter_mut() {
        let history = histories.lock().get(subscriber.user).cloned().unwrap_or_default();
        subscriber.check(seed, &history);
        let at = subscriber.checker.at();
        if let Some(at) = at {
            oldest.entry(subscriber.user).and_modify(|oldest| *oldest = at.min(*oldest)).or_insert(at);
        }
        if at.is_some_and(|at| at >= target) {
            let client = db.user(subscriber.user);
            let mut rows = client.run_with(subscriber.lens.select_sql(), &subscriber.lens.parameters).await.rows;
            rows.sort();
            assert_eq!(
                subscriber.checker.held(),
                rows,
                "KALAMDB_LIVE_SEED={seed}: {subscriber:?}: what SELECT answers"
            );
        }
    }
    for (user, history) in histories.lock().iter_mut() {
        let kept = oldest.get(user).copied().unwrap_or(target);
        history.forget_before(kept.min(target));
    }
    assert_eq!(db.engine().live_counters().active, 0, "everybody has gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_memory() {
    run("live oracle in memory", Plan::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn beside_flushes_and_compactions() {
    run("live oracle beside flushes", Plan { moves: true, ..Plan::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_log_that_forgets() {
    run("live oracle with a forgetful log", Plan { moves: true, forgets: true, ..Plan::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn through_restarts() {
    run("live oracle through restarts", Plan { restarts: true, moves: true, ..Plan::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn through_restarts_with_a_log_that_forgets() {
    run("live oracle through restarts, forgetful", Plan { restarts: true, moves: true, forgets: true }).await;
}
