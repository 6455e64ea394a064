//! INSERT against SUBSCRIBE: a row that is committed while a query begins comes exactly once, as a row or as a change.
//!
//! `KALAMDB_LIVE_RACES` sets the number of races; 2,000 when unset.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use kalamdb_engine::{EngineSettings, LiveEvent, LiveQuery, LiveQueryRequest, StorageSettings};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::Barrier;

use super::{LIMIT, change, number, request, seed, with_table};
use crate::harness::{Client, Db, small, texts};

const LANES: u64 = 4;
/// Users of one lane; some have a subscriber at all times, so that their feed is there already.
const USERS: usize = 12;

/// Up to this long, one of the two waits for the other.
const LONGEST_US: u64 = 400;

fn pause(rng: &mut StdRng) -> Duration {
    // Mostly none: the moments that matter are short.
    match rng.random_range(0..3) {
        0 => Duration::ZERO,
        _ => Duration::from_micros(rng.random_range(0..LONGEST_US)),
    }
}

/// Exactly as long, without giving up the thread.
fn spin(pause: Duration) {
    let began = Instant::now();
    while began.elapsed() < pause {
        std::hint::spin_loop();
    }
}

/// How often each row came, up to and with `marker`.
async fn seen_until(query: &mut LiveQuery, marker: i64) -> BTreeMap<i64, u32> {
    let mut times: BTreeMap<i64, u32> = BTreeMap::new();
    let mut at = 0;
    loop {
        let event = tokio::time::timeout(LIMIT, query.next()).await.expect("an event in time").unwrap();
        let ids: Vec<String> = match event {
            LiveEvent::Rows(batch) => texts(&batch).into_iter().map(|mut row| row.remove(0)).collect(),
            LiveEvent::Changes(commits) => {
                for commit in &commits {
                    assert!(commit.commit_seq.get() > at, "commit {} came at {at}", commit.commit_seq);
                    at = commit.commit_seq.get();
                }
                let changes = commits.iter().flat_map(|commit| &commit.changes);
                changes.filter_map(|c| change(c).new).map(|mut row| row.remove(0)).collect()
            }
            LiveEvent::Ready { commit_seq, .. } => {
                at = commit_seq.get();
                Vec::new()
            }
            LiveEvent::Progress { commit_seq, .. } => {
                assert!(commit_seq.get() >= at);
                at = commit_seq.get();
                Vec::new()
            }
            other => panic!("{other:?}"),
        };
        for id in ids {
            *times.entry(id.parse().unwrap()).or_default() += 1;
        }
        if times.contains_key(&marker) {
            return times;
        }
    }
}

/// Races of one lane, with users of its own.
async fn lane(db: Arc<Db>, lane: u64, races: u64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ lane);
    let users: Vec<Client> = (0..USERS).map(|user| db.user(&format!("lane-{lane}-{user}"))).collect();
    let mut standing: Vec<LiveQuery> = Vec::new();
    for client in users.iter().take(USERS / 3) {
        let mut query = client.session.subscribe(request("SUBSCRIBE SELECT id FROM t WHERE id = -1")).unwrap();
        assert!(matches!(query.next().await, Some(LiveEvent::Ready { .. })));
        standing.push(query);
    }
    for race in 0..races {
        let client = &users[rng.random_range(0..users.len())];
        let (id, marker) = (race as i64 * 2 + 1, race as i64 * 2 + 2);
        let (pause_insert, pause_subscribe) = (pause(&mut rng), pause(&mut rng));
        let rows = 1 + race % 3;
        let barrier = Arc::new(Barrier::new(2));
        let inserting = {
            let (client, barrier) = (client.clone(), Arc::clone(&barrier));
            let values: Vec<String> = (0..rows).map(|i| format!("({}, 1, 'a')", id + i as i64 * 10_000_000)).collect();
            tokio::spawn(async move {
                barrier.wait().await;
                spin(pause_insert);
                client.run(format!("INSERT INTO t VALUES {}", values.join(", "))).await.commit_seq.unwrap()
            })
        };
        barrier.wait().await;
        spin(pause_subscribe);
        let mut query = client.session.subscribe(request("SUBSCRIBE SELECT id FROM t WHERE n = 1")).unwrap();
        // The snapshot is taken at the first look.
        let first = query.next().await.unwrap();
        let written = inserting.await.unwrap();
        client.run(format!("INSERT INTO t VALUES ({marker}, 1, 'marker')")).await;
        let mut times = BTreeMap::new();
        if let LiveEvent::Rows(batch) = &first {
            for row in texts(batch) {
                *times.entry(row[0].parse::<i64>().unwrap()).or_default() += 1;
            }
        }
        for (id, count) in seen_until(&mut query, marker).await {
            *times.entry(id).or_default() += count;
        }
        let expected: BTreeMap<i64, u32> =
            (0..rows).map(|i| (id + i as i64 * 10_000_000, 1)).chain([(marker, 1)]).collect();
        assert_eq!(
            times, expected,
            "KALAMDB_LIVE_SEED={seed}, lane {lane}, race {race}: commit {written}, pauses {pause_insert:?} and {pause_subscribe:?}"
        );
        drop(query);
        // Not the rows of the races before.
        client.run("DELETE FROM t").await;
        if race % 7 == 0 && !standing.is_empty() {
            // What stands reads along, and sees nothing.
            for query in &mut standing {
                let looked = tokio::time::timeout(Duration::ZERO, query.next()).await;
                assert!(matches!(looked, Err(_) | Ok(Some(LiveEvent::Progress { .. }))), "{looked:?}");
            }
        }
    }
}

async fn races(db: Db, races: u64, test: &str) {
    let seed = seed(test);
    let db = Arc::new(db);
    let began = Instant::now();
    let lanes: Vec<_> =
        (0..LANES).map(|number| tokio::spawn(lane(Arc::clone(&db), number, races / LANES, seed))).collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    println!("{test}: {races} races in {:.1} s", began.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn inserts_meet_subscriptions_in_memory() {
    let db = with_table(Db::with(EngineSettings::default()).await).await;
    races(db, number("KALAMDB_LIVE_RACES", 2_000), "races in memory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn inserts_meet_subscriptions_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EngineSettings { storage: StorageSettings::Directory(dir.path().to_path_buf()), ..small() };
    let db = with_table(Db::with(settings).await).await;
    races(db, number("KALAMDB_LIVE_RACES", 2_000) / 4, "races on disk").await;
}

/// The same for those who resume: a commit beside the resumption comes exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inserts_meet_resumptions() {
    let seed = seed("races with resumptions");
    let mut rng = StdRng::seed_from_u64(seed);
    let db = with_table(Db::with(EngineSettings::default()).await).await;
    let ana = db.user("ana");
    let sql = "SUBSCRIBE SELECT id FROM t WHERE n = 1";
    let mut query = ana.session.subscribe(request(sql)).unwrap();
    let Some(LiveEvent::Ready { token: mut last, .. }) = query.next().await else { panic!("nothing was written yet") };
    drop(query);
    let total = Arc::new(AtomicI64::new(0));
    let writer = {
        let (ana, total) = (ana.clone(), Arc::clone(&total));
        tokio::spawn(async move {
            let began = Instant::now();
            let mut id = 0;
            while began.elapsed() < Duration::from_secs(number("KALAMDB_LIVE_SECONDS", 3)) {
                id += 1;
                ana.run(format!("INSERT INTO t VALUES ({id}, 1, 'a')")).await;
            }
            total.store(id, Ordering::SeqCst);
        })
    };
    let (mut received, mut connections) = (0_i64, 0_u64);
    while received == 0 || received != total.load(Ordering::SeqCst) {
        connections += 1;
        let mut query =
            ana.session.subscribe(LiveQueryRequest { resume_token: Some(last.clone()), ..request(sql) }).unwrap();
        for _ in 0..rng.random_range(1..8) {
            match tokio::time::timeout(LIMIT, query.next()).await.expect("an event in time").unwrap() {
                LiveEvent::Ready { token, row_count: 0, .. } | LiveEvent::Progress { token, .. } => last = token,
                LiveEvent::Changes(commits) => {
                    // It may take only some of what it was given.
                    let taken = rng.random_range(1..=commits.len());
                    for commit in &commits[..taken] {
                        for c in &commit.changes {
                            received += 1;
                            let id: i64 = change(c).new.unwrap()[0].parse().unwrap();
                            assert_eq!(id, received, "KALAMDB_LIVE_SEED={seed}: each row once, in their order");
                        }
                        last.clone_from(&commit.token);
                    }
                    if taken < commits.len() {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    writer.await.unwrap();
    println!("{received} rows over {connections} connections");
}
