//! SIGKILL while rows are written, flushed and compacted all the time, and after each restart every acknowledged row
//! exactly as acknowledged, and no file that nothing refers to.
//!
//! The load is that of [`crate::crash`], with writers that read as well. `KALAMDB_CRASH_KILLS` sets the number of
//! kills; 10 when unset.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use kalam_link::process::ServerProcess;
use kalamdb_tests::{
    client::Client,
    server::{configured, start},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;

use crate::{
    crash::{Load, is_gone, parameters},
    support::{eventually, files_below},
};

/// How long files of a crash may stay.
const SWEEP_LIMIT: Duration = Duration::from_secs(60);

/// Runs a statement again and again until the server is gone; how often it succeeded.
async fn repeat(client: Client, statements: &'static [&'static str]) -> u64 {
    let mut done = 0;
    for statement in statements.iter().cycle() {
        match client.try_run(statement).await {
            Ok(_) => done += 1,
            Err(failure) if is_gone(&failure) => break,
            Err(failure) => panic!("{statement}\nfailed: {failure:#?}"),
        }
    }
    done
}

async fn spawn(url: &str, statements: &'static [&'static str]) -> JoinHandle<u64> {
    tokio::spawn(repeat(Client::connect(url).await, statements))
}

/// The files of segments that are on disk, and the paths of those that the manifest has.
async fn segments(client: &Client, data: &Path) -> (Vec<String>, Vec<String>) {
    let mut known = client.rows("SELECT path FROM system.segments").await;
    known.sort();
    let mut files = files_below(&data.join("storage"));
    files.sort();
    (files, known)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_during_flushes() {
    let (kills, seed) = parameters("crash test with flushes", 10);
    let mut rng = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    let mut server = start(configured(&[])).await;
    let mut load = Load::create(&Client::connect(&server.endpoint()).await, seed, true).await;
    let (mut flushes, mut compactions, mut orphans, mut again) = (0, 0, 0, 0);
    for kill in 1..=kills {
        let url = server.endpoint();
        let running = load.begin(&url).await;
        let flushing = spawn(&url, &["FLUSH ALL TABLES FORCE"]).await;
        let compacting = spawn(&url, &["COMPACT TABLE crash.items", "COMPACT TABLE crash.shared_items"]).await;
        running.reach(rng.random_range(1..400)).await;
        // The statements are acknowledged in bursts, at the end of a commit; the kill shall come at any moment.
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..50_000))).await;
        server.kill().expect("kill the server");
        load = running.end().await;
        flushes += flushing.await.expect("the flushes");
        compactions += compacting.await.expect("the compactions");

        let restart = async |server: &mut ServerProcess| {
            server.restart().await.unwrap_or_else(|error| panic!("kill {kill}, seed {seed}: no restart: {error}"));
        };
        restart(&mut server).await;
        // Now and then while it still cleans up after the kill before.
        if rng.random_range(0..4) == 0 {
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..100_000))).await;
            server.kill().expect("kill the server");
            again += 1;
            restart(&mut server).await;
        }
        let client = Client::connect(&server.endpoint()).await;
        let (files, known) = segments(&client, server.data_dir()).await;
        orphans += files.iter().filter(|file| !known.contains(file)).count();
        load.verify(&client, kill).await;
        let data = server.data_dir();
        eventually(
            &format!("kill {kill}, seed {seed}: the files are those of system.segments"),
            SWEEP_LIMIT,
            || async {
                let (files, known) = segments(&client, data).await;
                files == known
            },
        )
        .await;
    }
    let client = Client::connect(&server.endpoint()).await;
    let left = client.scalar("SELECT count(*) FROM system.segments").await;
    println!(
        "crash test with flushes: {kills} kills and {again} more during recovery in {:.1} s; {load}; {flushes} flushes \
         and {compactions} compactions completed; {orphans} orphaned files found, 0 of them left; {left} segments at the end",
        started.elapsed().as_secs_f64(),
    );
}
