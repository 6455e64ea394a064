//! SIGKILL under load, over and over, and after each restart every acknowledged row exactly as acknowledged.
//!
//! Each writer owns a range of keys and keeps a [`Ledger`] of what was acknowledged to it; two writers share each
//! user's partition, and some write to a SHARED table. `KALAMDB_CRASH_KILLS` sets the number of kills; 20 when unset.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use kalam_link::process::ServerProcess;
use kalamdb_proto::v1::value::Kind;
use kalamdb_tests::{
    client::Client,
    oracle::{Fate, Ledger, Row, Rows, Statement},
    server::start,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::Notify;

const NAMESPACE: &str = "crash";
const WRITERS: usize = 24;
/// Keys of one writer.
const SPAN: i64 = 150;

struct Writer {
    user: String,
    table: &'static str,
    first_key: i64,
    ledger: Ledger,
    rng: StdRng,
    /// The greatest commit sequence acknowledged.
    commit_seq: u64,
}

impl Writer {
    fn new(number: usize, seed: u64) -> Self {
        // Writers 0 and 1 share user 0, and so on; every sixth pair writes to the SHARED table.
        let table = if (number / 2) % 6 == 5 { "shared_items" } else { "items" };
        Self {
            user: format!("user-{}", number / 2),
            table,
            first_key: number as i64 * 1_000,
            ledger: Ledger::default(),
            rng: StdRng::seed_from_u64(seed ^ (number as u64) << 32),
            commit_seq: 0,
        }
    }

    /// Writes until the server is gone.
    async fn write(mut self, client: Client, acknowledged: Arc<AtomicU64>, progress: Arc<Notify>) -> Self {
        let client = client.user(&self.user).namespace(NAMESPACE);
        loop {
            let statement = Statement::random(&mut self.rng, self.ledger.rows(), self.first_key, SPAN);
            let sql = statement.sql(self.table);
            let affected = self.ledger.begin(statement);
            match client.try_run(&sql).await {
                Ok(answer) => {
                    assert_eq!(answer.affected().row_count, affected, "affected rows of {sql}");
                    if affected > 0 {
                        assert!(answer.0.commit_seq > self.commit_seq, "commit sequences of one writer grow");
                        self.commit_seq = answer.0.commit_seq;
                    }
                    self.ledger.acknowledge();
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    progress.notify_one();
                }
                // Without a reason of the database, the connection broke: the server was killed.
                Err(failure) if failure.reason.is_empty() => return self,
                Err(failure) => panic!("{sql}\nfailed: {failure:#?}"),
            }
        }
    }

    async fn stored(&self, client: &Client) -> Rows {
        let (first, last) = (self.first_key, self.first_key + SPAN);
        let sql = format!("SELECT id, version, body FROM {} WHERE id >= {first} AND id < {last}", self.table);
        let answer = client.user(&self.user).namespace(NAMESPACE).run(&sql).await;
        answer
            .rows()
            .rows
            .iter()
            .map(|row| match row.values.iter().map(|value| value.kind.clone()).collect::<Vec<_>>().as_slice() {
                [Some(Kind::IntValue(id)), Some(Kind::IntValue(version)), Some(Kind::TextValue(body))] => {
                    (*id, Row { version: *version, body: body.clone() })
                }
                other => panic!("a row of another shape: {other:?}"),
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_under_load() {
    let kills: usize = match std::env::var("KALAMDB_CRASH_KILLS") {
        Ok(number) => number.parse().expect("KALAMDB_CRASH_KILLS is a number"),
        Err(_) => 20,
    };
    let seed =
        std::env::var("KALAMDB_CRASH_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("crash test: {kills} kills, KALAMDB_CRASH_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let started = Instant::now();

    let mut server = start(ServerProcess::builder()).await;
    let client = Client::connect(&server.endpoint()).await.namespace(NAMESPACE);
    client.run(&format!("CREATE NAMESPACE {NAMESPACE}")).await;
    let columns = "(id BIGINT PRIMARY KEY, version BIGINT NOT NULL, body TEXT)";
    client.run(&format!("CREATE USER TABLE items {columns}")).await;
    client.run(&format!("CREATE SHARED TABLE shared_items {columns} ACCESS public")).await;

    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::new(number, seed)).collect();
    let mut fates = [0u64; 3];
    let mut total = 0;
    for kill in 1..=kills {
        let (acknowledged, progress) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let mut running = Vec::new();
        for writer in writers {
            let client = Client::connect(&server.endpoint()).await;
            running.push(tokio::spawn(writer.write(client, Arc::clone(&acknowledged), Arc::clone(&progress))));
        }
        // From the very first statements to well into the load.
        let enough = rng.random_range(1..800);
        while acknowledged.load(Ordering::Relaxed) < enough && !running.iter().any(|writer| writer.is_finished()) {
            progress.notified().await;
        }
        server.kill().expect("kill the server");

        writers = Vec::new();
        for writer in running {
            writers.push(writer.await.expect("a writer"));
        }
        total += acknowledged.load(Ordering::Relaxed);
        server.restart().await.unwrap_or_else(|error| panic!("kill {kill}: no restart: {error}"));
        let client = Client::connect(&server.endpoint()).await.namespace(NAMESPACE);
        verify(&client, &mut writers, &mut fates, kill, seed).await;
    }
    println!(
        "crash test: {kills} kills in {:.1} s; {total} statements acknowledged, 0 lost or changed; in flight at a \
         kill: {} found entirely applied, {} not at all, {} without effect",
        started.elapsed().as_secs_f64(),
        fates[Fate::Applied as usize],
        fates[Fate::Absent as usize],
        fates[Fate::None as usize],
    );
}

async fn verify(client: &Client, writers: &mut [Writer], fates: &mut [u64; 3], kill: usize, seed: u64) {
    let mut rows = 0;
    for writer in writers.iter_mut() {
        let stored = writer.stored(client).await;
        match writer.ledger.settle(stored) {
            Ok(fate) => fates[fate as usize] += 1,
            Err(wrong) => panic!(
                "kill {kill}, seed {seed}, user {}, table {}: acknowledged rows are not as acknowledged: {wrong}",
                writer.user, writer.table
            ),
        }
        rows += writer.ledger.rows().len();
    }
    // Nothing lies outside the ranges of the writers either.
    let counts =
        format!("SELECT (SELECT count(*) FROM {NAMESPACE}.all_users.items) + (SELECT count(*) FROM shared_items)");
    assert_eq!(client.scalar(&counts).await, rows.to_string(), "kill {kill}, seed {seed}: rows from nowhere");
    let info = client.admin().get_server_info(client.request(Default::default())).await.unwrap().into_inner();
    let acknowledged = writers.iter().map(|writer| writer.commit_seq).max().unwrap_or_default();
    assert!(info.commit_seq >= acknowledged, "kill {kill}, seed {seed}: the commit sequence went back");
}

/// A kill right after a change of the catalog was acknowledged.
#[tokio::test]
async fn acknowledged_ddl_survives_a_kill() {
    let mut server = start(ServerProcess::builder()).await;
    for round in 0..5 {
        let client = Client::connect(&server.endpoint()).await.user("alice").namespace("d");
        client.run("CREATE NAMESPACE IF NOT EXISTS d").await;
        client.run(&format!("CREATE USER TABLE t{round} (id BIGINT PRIMARY KEY, a INT)")).await;
        client.run(&format!("INSERT INTO t{round} VALUES (1, 1)")).await;
        client.run(&format!("ALTER TABLE t{round} ADD COLUMN b TEXT DEFAULT 'b'")).await;
        if round > 0 {
            client.run(&format!("DROP TABLE t{}", round - 1)).await;
        }
        server.kill().unwrap();
        server.restart().await.unwrap();
        let client = Client::connect(&server.endpoint()).await.user("alice").namespace("d");
        assert_eq!(client.rows("SELECT table_name FROM system.tables").await, [format!("t{round}")]);
        assert_eq!(client.rows(&format!("SELECT * FROM t{round}")).await, ["1 | 1 | b"]);
    }
}
