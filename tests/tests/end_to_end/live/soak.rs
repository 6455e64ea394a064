//! Many at once, for longer: `KALAMDB_LIVE_SECONDS` sets how long, 5 when unset; `KALAMDB_LIVE_CHURN` how many subscribe and
//! go again, 2,000 when unset.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use kalam_link::{SlowConsumer, SubscriptionEvent};
use kalamdb_tests::server::server_with;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;

use super::{CLEANUP_LIMIT, LIMIT, all_gone, held::Held, live_count, number};
use crate::support::client_of;

const WRITERS: usize = 10;
const SUBSCRIBERS: usize = 20;

/// How much more memory the server may have at the end than after the first third.
const GROWTH_LIMIT: u64 = 256 << 20;

/// The bytes of memory of a process, where that is known.
fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

async fn follow(
    client: kalam_link::Client,
    filter: &'static str,
    policy: SlowConsumer,
    target: Arc<AtomicU64>,
) -> Result<Held, String> {
    let told = |error: kalam_link::Error| error.to_string();
    let sql = format!("SUBSCRIBE TO t {filter}");
    let mut events = client.subscribe(sql).slow_consumer(policy).report_reconnects(true).open().await.map_err(told)?;
    let mut held = Held::default();
    held.follow(&mut events, |held| {
        let target = target.load(Ordering::SeqCst);
        target > 0 && held.ready && held.at >= target
    })
    .await?;
    held.check(&client, &format!("SELECT * FROM t {filter} ORDER BY id")).await?;
    Ok(held)
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_subscribers() {
    let length = Duration::from_secs(number("KALAMDB_LIVE_SECONDS", 5));
    let seed = number("KALAMDB_LIVE_SEED", rand::random());
    println!("live soak: {length:?}, KALAMDB_LIVE_SEED={seed}");
    let server = server_with(&[]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n BIGINT, body TEXT)").await;
    let user = |number: usize| format!("user-{}", number % (WRITERS / 2));
    let connect = async |number: usize| {
        let builder = kalam_link::Client::builder(server.endpoint()).user(user(number));
        builder.namespace(client.namespace_name()).connect().await.unwrap()
    };
    let (stop, written, target) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut following: Vec<JoinHandle<Result<Held, String>>> = Vec::new();
    for number in 0..SUBSCRIBERS {
        let filter = ["", "WHERE n > 50", "WHERE id = 3", "WHERE n % 2 = 0 AND body IS NOT NULL"][number % 4];
        let policy = if number % 3 == 0 { SlowConsumer::Coalesce } else { SlowConsumer::Disconnect };
        following.push(tokio::spawn(follow(connect(number).await, filter, policy, Arc::clone(&target))));
    }
    let mut writing: Vec<JoinHandle<()>> = Vec::new();
    for number in 0..WRITERS {
        let (client, stop, written) = (connect(number).await, Arc::clone(&stop), Arc::clone(&written));
        let mut rng = StdRng::seed_from_u64(seed ^ number as u64);
        writing.push(tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let (id, n) = (rng.random_range(0..200), rng.random_range(0..100));
                let sql = match rng.random_range(0..6) {
                    0 => format!("DELETE FROM t WHERE id = {id}"),
                    1 => format!("UPDATE t SET n = {n} WHERE id BETWEEN {id} AND {}", id + 5),
                    _ => format!(
                        "INSERT INTO t VALUES ({id}, {n}, '{}') ON CONFLICT (id) DO UPDATE SET n = excluded.n, body = excluded.body",
                        "x".repeat(rng.random_range(0..300))
                    ),
                };
                match client.execute(sql.as_str(), ()).await {
                    Ok(_) => written.fetch_add(1, Ordering::SeqCst),
                    Err(error) if error.reason() == Some("WRITE_CONFLICT") => 0,
                    Err(error) => panic!("{sql}\nfailed: {error:?}"),
                };
            }
        }));
    }
    tokio::time::sleep(length / 3).await;
    let early = memory(server.pid());
    tokio::time::sleep(length * 2 / 3).await;
    let late = memory(server.pid());
    stop.store(true, Ordering::SeqCst);
    for writer in writing {
        writer.await.expect("a writer");
    }
    let info = client.admin().get_server_info(client.request(Default::default())).await.unwrap().into_inner();
    target.store(info.commit_seq, Ordering::SeqCst);
    let (mut commits, mut reconnects) = (0, 0);
    for (number, task) in following.into_iter().enumerate() {
        let held = match tokio::time::timeout(LIMIT * 2, task).await.expect("in time").expect("a subscriber") {
            Ok(held) => held,
            Err(wrong) => panic!("KALAMDB_LIVE_SEED={seed}, subscriber {number}: {wrong}"),
        };
        commits += held.commits;
        reconnects += held.reconnects;
    }
    println!(
        "live soak: {} statements, {commits} commits told to {SUBSCRIBERS} subscribers, {reconnects} reconnections; memory \
         {early:?} after a third, {late:?} at the end",
        written.load(Ordering::SeqCst)
    );
    if let (Some(early), Some(late)) = (early, late) {
        assert!(late < early + GROWTH_LIMIT, "memory grew from {early} to {late} bytes");
    }
    all_gone(&client, "the soak", CLEANUP_LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coming_and_going() {
    const LANES: u64 = 8;
    let times = number("KALAMDB_LIVE_CHURN", 2_000);
    let server = server_with(&[]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (client, stop) = (client.user("user-0"), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                client
                    .run(&format!("INSERT INTO t VALUES ({}, {n}) ON CONFLICT (id) DO UPDATE SET n = {n}", n % 50))
                    .await;
            }
        })
    };
    let began = Instant::now();
    let mut lanes = Vec::new();
    for lane in 0..LANES {
        let builder = kalam_link::Client::builder(server.endpoint()).user(format!("user-{}", lane % 3));
        let link = builder.namespace(client.namespace_name()).connect().await.unwrap();
        lanes.push(tokio::spawn(async move {
            for round in 0..times / LANES {
                let sql = format!("SUBSCRIBE TO t WHERE id = {}", round % 60);
                let mut events =
                    link.subscribe(sql).open().await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
                // Some look at it first, to different depths.
                for _ in 0..round % 4 {
                    match tokio::time::timeout(LIMIT, events.next()).await.expect("an event in time") {
                        Some(Ok(SubscriptionEvent::Progress { .. })) => break,
                        Some(Ok(_)) => {}
                        other => panic!("round {round}: {other:?}"),
                    }
                    if round % 4 == 3 && events.token().is_some() {
                        break;
                    }
                }
            }
        }));
    }
    for lane in lanes {
        lane.await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    writing.await.unwrap();
    println!("{times} live queries came and went in {:.1} s", began.elapsed().as_secs_f64());
    all_gone(&client, "all that came", CLEANUP_LIMIT).await;
    assert_eq!(live_count(&client).await, 0);
    client.run("DROP TABLE t").await;
}
