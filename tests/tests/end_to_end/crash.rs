//! SIGKILL under load, over and over, and after each restart every acknowledged row exactly as acknowledged.
//!
//! Each writer owns a range of keys and keeps a [`Ledger`] of what was acknowledged to it; two writers share each
//! user's partition, and some write to a SHARED table. `KALAMDB_CRASH_KILLS` sets the number of kills; 20 when unset.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use kalam_link::process::ServerProcess;
use kalamdb_proto::v1::value::Kind;
use kalamdb_tests::{
    client::{Answer, Client, Failure},
    oracle::{Fate, Ledger, Row, Rows, Statement},
    server::start,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{sync::Notify, task::JoinHandle};

const NAMESPACE: &str = "crash";
const WRITERS: usize = 24;
/// Keys of one writer.
const SPAN: i64 = 150;

/// The writers while nothing runs, and what became of their statements so far.
pub struct Load {
    seed: u64,
    writers: Vec<Writer>,
    fates: [u64; 3],
    acknowledged: u64,
}

/// The writers at work.
pub struct RunningLoad {
    load: Load,
    running: Vec<JoinHandle<Writer>>,
    acknowledged: Arc<AtomicU64>,
    progress: Arc<Notify>,
}

struct Writer {
    user: String,
    table: &'static str,
    first_key: i64,
    ledger: Ledger,
    rng: StdRng,
    /// The greatest commit sequence acknowledged.
    commit_seq: u64,
    /// Whether it reads between its writes.
    reads: bool,
}

impl Load {
    /// Makes the tables. Writers that read compare what they find with what was acknowledged, while others write.
    pub async fn create(client: &Client, seed: u64, reads: bool) -> Self {
        let client = client.namespace(NAMESPACE);
        client.run(&format!("CREATE NAMESPACE {NAMESPACE}")).await;
        let columns = "(id BIGINT PRIMARY KEY, version BIGINT NOT NULL, body TEXT)";
        client.run(&format!("CREATE USER TABLE items {columns}")).await;
        client.run(&format!("CREATE SHARED TABLE shared_items {columns} ACCESS public")).await;
        let writers = (0..WRITERS).map(|number| Writer::new(number, seed, reads)).collect();
        Self { seed, writers, fates: [0; 3], acknowledged: 0 }
    }

    /// Lets the writers write until the server is gone.
    pub async fn begin(mut self, url: &str) -> RunningLoad {
        let (acknowledged, progress) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let mut running = Vec::new();
        for writer in std::mem::take(&mut self.writers) {
            let client = Client::connect(url).await;
            running.push(tokio::spawn(writer.write(client, Arc::clone(&acknowledged), Arc::clone(&progress))));
        }
        RunningLoad { load: self, running, acknowledged, progress }
    }

    /// Compares what the server holds after its restart with what was acknowledged.
    pub async fn verify(&mut self, client: &Client, kill: usize) {
        let (client, seed) = (client.namespace(NAMESPACE), self.seed);
        let mut rows = 0;
        for writer in &mut self.writers {
            let stored = writer.stored(&client).await;
            match writer.ledger.settle(stored) {
                Ok(fate) => self.fates[fate as usize] += 1,
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
        let acknowledged = self.writers.iter().map(|writer| writer.commit_seq).max().unwrap_or_default();
        assert!(info.commit_seq >= acknowledged, "kill {kill}, seed {seed}: the commit sequence went back");
    }
}

impl RunningLoad {
    /// Waits until this many statements were acknowledged, or a writer has ended.
    pub async fn reach(&self, enough: u64) {
        while self.acknowledged.load(Ordering::Relaxed) < enough && !self.running.iter().any(|w| w.is_finished()) {
            self.progress.notified().await;
        }
    }

    /// Waits for the writers, which end when the server does.
    pub async fn end(self) -> Load {
        let mut load = self.load;
        for writer in self.running {
            load.writers.push(writer.await.expect("a writer"));
        }
        load.acknowledged += self.acknowledged.load(Ordering::Relaxed);
        load
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = |fate: Fate| self.fates[fate as usize];
        write!(
            f,
            "{} statements acknowledged, 0 lost or changed; in flight at a kill: {} found entirely applied, {} not at \
             all, {} without effect",
            self.acknowledged,
            fate(Fate::Applied),
            fate(Fate::Absent),
            fate(Fate::None),
        )
    }
}

impl Writer {
    fn new(number: usize, seed: u64, reads: bool) -> Self {
        // Writers 0 and 1 share user 0, and so on; every sixth pair writes to the SHARED table.
        let table = if (number / 2) % 6 == 5 { "shared_items" } else { "items" };
        Self {
            user: format!("user-{}", number / 2),
            table,
            first_key: number as i64 * 1_000,
            ledger: Ledger::default(),
            rng: StdRng::seed_from_u64(seed ^ (number as u64) << 32),
            commit_seq: 0,
            reads,
        }
    }

    /// Writes until the server is gone.
    async fn write(mut self, client: Client, acknowledged: Arc<AtomicU64>, progress: Arc<Notify>) -> Self {
        let client = client.user(&self.user).namespace(NAMESPACE);
        loop {
            let statement = Statement::random(&mut self.rng, self.ledger.rows(), self.first_key, SPAN);
            let sql = statement.sql(self.table);
            let affected = self.ledger.begin(statement);
            let answer = match client.try_run(&sql).await {
                Ok(answer) => answer,
                Err(failure) if is_gone(&failure) => return self,
                Err(failure) => panic!("{sql}\nfailed: {failure:#?}"),
            };
            assert_eq!(answer.affected().row_count, affected, "affected rows of {sql}");
            if affected > 0 {
                assert!(answer.0.commit_seq > self.commit_seq, "commit sequences of one writer grow");
                self.commit_seq = answer.0.commit_seq;
            }
            self.ledger.acknowledge();
            acknowledged.fetch_add(1, Ordering::Relaxed);
            progress.notify_one();
            if self.reads && self.rng.random_range(0..6) == 0 && !self.read(&client).await {
                return self;
            }
        }
    }

    /// Reads all of its rows, or one; false when the server is gone.
    async fn read(&mut self, client: &Client) -> bool {
        let (mut first, mut last) = (self.first_key, self.first_key + SPAN - 1);
        let all = self.rng.random_range(0..3) == 0;
        if !all {
            first += self.rng.random_range(0..SPAN);
            last = first;
        }
        let filter = if all { format!("id BETWEEN {first} AND {last}") } else { format!("id = {first}") };
        let sql = format!("SELECT id, version, body FROM {} WHERE {filter}", self.table);
        match client.try_run(&sql).await {
            Ok(answer) => {
                let right: Rows = self.ledger.rows().range(first..=last).map(|(id, row)| (*id, row.clone())).collect();
                assert_eq!(rows_of(&answer), right, "user {}: {sql}", self.user);
                true
            }
            Err(failure) if is_gone(&failure) => false,
            Err(failure) => panic!("{sql}\nfailed: {failure:#?}"),
        }
    }

    async fn stored(&self, client: &Client) -> Rows {
        let (first, last) = (self.first_key, self.first_key + SPAN);
        let sql = format!("SELECT id, version, body FROM {} WHERE id >= {first} AND id < {last}", self.table);
        rows_of(&client.user(&self.user).namespace(NAMESPACE).run(&sql).await)
    }
}

/// Without a reason of the database, the connection broke: the server was killed.
pub fn is_gone(failure: &Failure) -> bool {
    failure.reason.is_empty()
}

fn rows_of(answer: &Answer) -> Rows {
    let rows: Rows = answer
        .rows()
        .rows
        .iter()
        .map(|row| match row.values.iter().map(|value| value.kind.clone()).collect::<Vec<_>>().as_slice() {
            [Some(Kind::IntValue(id)), Some(Kind::IntValue(version)), Some(Kind::TextValue(body))] => {
                (*id, Row { version: *version, body: body.clone() })
            }
            other => panic!("a row of another shape: {other:?}"),
        })
        .collect();
    assert_eq!(rows.len(), answer.rows().rows.len(), "no key comes twice: {:?}", answer.shown());
    rows
}

/// Number of kills, and the seed, which is printed.
pub fn parameters(test: &str, default_kills: usize) -> (usize, u64) {
    let kills = match std::env::var("KALAMDB_CRASH_KILLS") {
        Ok(number) => number.parse().expect("KALAMDB_CRASH_KILLS is a number"),
        Err(_) => default_kills,
    };
    let seed =
        std::env::var("KALAMDB_CRASH_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("{test}: {kills} kills, KALAMDB_CRASH_SEED={seed}");
    (kills, seed)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_under_load() {
    let (kills, seed) = parameters("crash test", 20);
    let mut rng = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    let mut server = start(ServerProcess::builder()).await;
    let mut load = Load::create(&Client::connect(&server.endpoint()).await, seed, false).await;
    for kill in 1..=kills {
        let running = load.begin(&server.endpoint()).await;
        // From the very first statements to well into the load.
        running.reach(rng.random_range(1..800)).await;
        server.kill().expect("kill the server");
        load = running.end().await;
        server.restart().await.unwrap_or_else(|error| panic!("kill {kill}: no restart: {error}"));
        load.verify(&Client::connect(&server.endpoint()).await, kill).await;
    }
    println!("crash test: {kills} kills in {:.1} s; {load}", started.elapsed().as_secs_f64());
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
