//! SIGKILL under load, over and over, while subscribers follow through all of it: each resumes by its token, is told
//! every change once, and holds at the end what SELECT answers.
//!
//! `KALAMDB_LIVE_KILLS` sets the number of kills; 5 when unset.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kalam_link::{RetryPolicy, process::ServerProcess};
use kalamdb_tests::{client::Client, server::start};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;

use super::{LIMIT, held::Held, number};
use crate::crash::is_gone;

const NAMESPACE: &str = "live";
const USERS: [&str; 3] = ["alice", "bob", "eve"];
const KEYS: i64 = 60;

/// The end of a text of a SUBSCRIBE and of a SELECT, behind `FROM items`.
const FILTERS: [&str; 5] =
    ["", "WHERE id % 2 = 0", "WHERE version > 3", "WHERE id = 5", "WHERE body LIKE '%7%' OR version = 1"];

/// A subscriber at work.
type Following = JoinHandle<Result<Held, String>>;

/// Writes, through every restart, until it is told to stop. What became of a statement in flight when the server was killed,
/// nobody knows; it does not matter here.
async fn write(url: String, user: &'static str, mut rng: StdRng, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    while !stop.load(Ordering::SeqCst) {
        let Ok(client) = Client::try_connect(&url).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let client = client.user(user).namespace(NAMESPACE);
        while !stop.load(Ordering::SeqCst) {
            let (key, other) = (rng.random_range(0..KEYS), rng.random_range(0..KEYS));
            let body = rng.random_range(0..1_000_000);
            let sql = match rng.random_range(0..8) {
                0..=3 => format!(
                    "INSERT INTO items VALUES ({key}, 1, '{body}'), ({}, 1, '{body}') \
                     ON CONFLICT (id) DO UPDATE SET version = items.version + 1, body = excluded.body",
                    (key + 1 + other) % (2 * KEYS) + KEYS
                ),
                4 | 5 => {
                    format!("UPDATE items SET version = version + 1, body = '{body}' WHERE id IN ({key}, {other})")
                }
                6 => format!("DELETE FROM items WHERE id = {key}"),
                _ => format!("DELETE FROM items WHERE id > {key} AND version > 4"),
            };
            match client.try_run(&sql).await {
                Ok(_) => written.fetch_add(1, Ordering::SeqCst),
                Err(failure) if is_gone(&failure) || failure.reason == "SHUTTING_DOWN" => break,
                Err(failure) if failure.reason == "WRITE_CONFLICT" => 0,
                Err(failure) => panic!("{sql}\nfailed: {failure:#?}"),
            };
        }
    }
}

/// Follows until `target` is known and reached.
async fn follow(url: String, user: &'static str, filter: &'static str, target: Arc<AtomicU64>) -> Result<Held, String> {
    let reconnect = RetryPolicy {
        max_attempts: u32::MAX,
        base_delay: Duration::from_millis(20),
        max_delay: Duration::from_millis(300),
    };
    let told = |error: kalam_link::Error| error.to_string();
    let client = kalam_link::Client::builder(&url).user(user).namespace(NAMESPACE).connect().await.map_err(told)?;
    let sql = format!("SUBSCRIBE TO items {filter}");
    let mut events = client.subscribe(sql).reconnect(reconnect).report_reconnects(true).open().await.map_err(told)?;
    let mut held = Held::default();
    held.follow(&mut events, |held| {
        let target = target.load(Ordering::SeqCst);
        target > 0 && held.ready && held.at >= target
    })
    .await?;
    held.check(&client, &format!("SELECT * FROM items {filter} ORDER BY id")).await?;
    Ok(held)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_under_load() {
    let kills = number("KALAMDB_LIVE_KILLS", 5);
    let seed = number("KALAMDB_LIVE_SEED", rand::random());
    println!("live queries through kills: {kills} kills, KALAMDB_LIVE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    drop(taken);
    let mut server = start(ServerProcess::builder().listen(&address)).await;
    let url = server.endpoint();
    let root = Client::connect(&url).await;
    root.run(&format!("CREATE NAMESPACE {NAMESPACE}")).await;
    root.namespace(NAMESPACE)
        .run("CREATE USER TABLE items (id BIGINT PRIMARY KEY, version BIGINT NOT NULL, body TEXT)")
        .await;

    let (stop, written, target) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut following: Vec<(&str, &str, Following)> = Vec::new();
    for user in USERS {
        for filter in FILTERS {
            following.push((user, filter, tokio::spawn(follow(url.clone(), user, filter, Arc::clone(&target)))));
        }
    }
    let writing: Vec<JoinHandle<()>> = (0..2 * USERS.len())
        .map(|number| {
            let rng = StdRng::seed_from_u64(rng.random());
            let user = USERS[number % USERS.len()];
            tokio::spawn(write(url.clone(), user, rng, Arc::clone(&stop), Arc::clone(&written)))
        })
        .collect();
    let began = Instant::now();
    for kill in 1..=kills {
        let before = written.load(Ordering::SeqCst);
        let some = rng.random_range(1..600);
        let waiting = Instant::now();
        while written.load(Ordering::SeqCst) < before + some {
            assert!(waiting.elapsed() < LIMIT, "kill {kill}, seed {seed}: the writers do not write");
            tokio::time::sleep(Duration::from_micros(rng.random_range(100..5_000))).await;
        }
        // Now and then rows move meanwhile.
        if kill % 2 == 0 {
            let flushing = root.namespace(NAMESPACE);
            tokio::spawn(async move { flushing.try_run("FLUSH TABLE items FORCE").await });
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
        }
        for (user, filter, task) in &mut following {
            assert!(!task.is_finished(), "kill {kill}, seed {seed}, {user}, {filter}: {:?}", task.await);
        }
        server.kill().expect("kill the server");
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
        server.restart().await.unwrap_or_else(|error| panic!("kill {kill}, seed {seed}: no restart: {error}"));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::SeqCst);
    for writer in writing {
        writer.await.expect("a writer");
    }
    let root = Client::connect(&url).await;
    let info = root.admin().get_server_info(root.request(Default::default())).await.unwrap().into_inner();
    target.store(info.commit_seq, Ordering::SeqCst);
    let (mut commits, mut reconnects, mut resets, mut rows) = (0, 0, 0, 0);
    for (user, filter, task) in following {
        let held = match task.await.expect("a subscriber") {
            Ok(held) => held,
            Err(wrong) => panic!("seed {seed}, {user}, SUBSCRIBE TO items {filter}: {wrong}"),
        };
        commits += held.commits;
        reconnects += held.reconnects;
        resets += held.resets;
        rows += held.rows.len();
    }
    println!(
        "live queries through kills: {kills} kills in {:.1} s; {} statements acknowledged; {} subscribers were told of {commits} \
         commits over {reconnects} reconnections and {resets} interrupted beginnings, and hold {rows} rows, all of them right",
        began.elapsed().as_secs_f64(),
        written.load(Ordering::SeqCst),
        USERS.len() * FILTERS.len(),
    );
}
