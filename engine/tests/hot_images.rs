//! Images of hot rows: whatever is written meanwhile, a scan over one answers what a scan of the store does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use kalamdb_engine::{Body, EngineSettings, Env, FixedEnv, HotImageSettings, StorageSettings};

use crate::harness::{Client, Db, small, texts};

/// Images of few rows, in small chunks, which several threads scan.
fn tiny() -> EngineSettings {
    let mut settings = small();
    settings.query_threads = 3;
    settings.hot_image = HotImageSettings { min_rows: 1, chunk_rows: 16, ..HotImageSettings::default() };
    settings.flush.min_partition_rows = 1;
    settings
}

fn without_images() -> EngineSettings {
    let mut settings = small();
    settings.hot_image.bytes = 0;
    settings.flush.min_partition_rows = 1;
    settings
}

async fn plan(client: &Client, sql: &str) -> String {
    let rows = client.rows(format!("EXPLAIN {sql}")).await;
    rows.into_iter().find(|r| r[0] == "physical_plan").map(|r| r[1].clone()).unwrap_or_default()
}

async fn uses_image(client: &Client, sql: &str) -> bool {
    plan(client, sql).await.contains("HotImageScan")
}

/// Scans as often as it takes for an image to be made.
async fn warm(client: &Client, sql: &str) {
    for _ in 0..3 {
        client.rows(sql.to_owned()).await;
    }
    assert!(uses_image(client, sql).await, "{}", plan(client, sql).await);
}

const ALL: &str = "SELECT * FROM t";
const COLUMNS: &str = "body TEXT, n BIGINT, ok BOOLEAN, price DECIMAL(20, 4), at TIMESTAMP, day DATE, span INTERVAL, \
     raw BYTES, u UUID, tags TEXT[]";

const NAMES: &str = "(id, body, n, ok, price, at, day, span, raw, u, tags)";

/// The same statements on a database with images and on one without.
struct Both {
    with: Client,
    without: Client,
}

impl Both {
    async fn run(&self, sql: impl Into<String>) {
        let sql = sql.into();
        let (with, without) = (self.with.run(sql.clone()).await, self.without.run(sql.clone()).await);
        assert_eq!(with.row_count, without.row_count, "{sql}");
    }

    async fn compare(&self) {
        let ordered = [
            "SELECT id, body, n, ok, price, at, day, span, raw, u FROM t ORDER BY id",
            "SELECT n, id, _updated FROM t WHERE n % 3 = 1 ORDER BY id",
            "SELECT id FROM t WHERE ok ORDER BY id LIMIT 20",
            "SELECT id, n FROM t ORDER BY id DESC",
            "SELECT id, n FROM t ORDER BY id DESC LIMIT 5",
            "SELECT id, tags FROM t ORDER BY id",
            "SELECT count(*), sum(n), min(id), max(body) FROM t WHERE n > 10",
            "SELECT count(*) FROM t",
            "SELECT n % 5, count(*), sum(price) FROM t GROUP BY 1 ORDER BY 1",
            "SELECT body, _deleted FROM t WHERE body LIKE '%longer%' ORDER BY n, id",
            "SELECT a.id FROM t a JOIN t b ON a.n = b.n AND a.id < b.id ORDER BY a.id, b.id",
        ];
        for sql in ordered {
            assert_eq!(self.with.rows(sql).await, self.without.rows(sql).await, "{sql}");
        }
    }
}

/// A row's values but for the key.
fn values(random: u64) -> String {
    let body = match random % 4 {
        0 => "NULL".to_owned(),
        1 => format!("'short {}'", random % 9),
        _ => format!("'a text that is longer than a view has room for, {random:x}'"),
    };
    format!(
        "{body}, {}, {}, {}.{:04}, '2026-01-{:02} 10:00:00', '2026-02-{:02}', INTERVAL '{} days', X'{:016x}', \
         '6ba7b810-9dad-11d1-80b4-00c04fd4{:04x}', ['tag {}']",
        random % 50,
        if random.is_multiple_of(7) { "NULL".to_owned() } else { random.is_multiple_of(2).to_string() },
        random % 1000,
        random % 10_000,
        random % 28 + 1,
        random % 28 + 1,
        random % 12,
        random,
        random % 65_536,
        random % 5,
    )
}

async fn random_statements(key: &str, key_of: impl Fn(u64) -> String) {
    for seed in 0..3 {
        let (with, without) = (Db::with(tiny()).await, Db::with(without_images()).await);
        let (admins, random) = ([with.admin(), without.admin()], FixedEnv::new(0, seed));
        let both = Both { with: with.user("ana"), without: without.user("ana") };
        for admin in &admins {
            admin.run(format!("CREATE USER TABLE t (id {key} PRIMARY KEY, {COLUMNS})")).await;
        }
        let next = |below: u64| random.random_u64() % below;
        for step in 0..120 {
            match next(12) {
                0..=4 => {
                    let first = next(400);
                    let rows: Vec<String> = (first..first + 1 + next(40))
                        .map(|id| format!("({}, {})", key_of(id), values(random.random_u64() >> 8)))
                        .collect();
                    let set = "SET body = excluded.body, n = excluded.n, ok = excluded.ok, raw = excluded.raw";
                    both.run(format!(
                        "INSERT INTO t {NAMES} VALUES {} ON CONFLICT (id) DO UPDATE {set}",
                        rows.join(", ")
                    ))
                    .await;
                }
                5 => both.run(format!("UPDATE t SET n = n + 1, body = 'u' WHERE n % 7 = {}", next(7))).await,
                6 => both.run(format!("UPDATE t SET ok = NOT ok WHERE id = {}", key_of(next(400)))).await,
                7 => both.run(format!("DELETE FROM t WHERE n % 11 = {}", next(11))).await,
                8 => both.run(format!("DELETE FROM t WHERE id >= {0} AND id <= {0}", key_of(next(400)))).await,
                9 if next(3) == 0 => {
                    for admin in &admins {
                        admin.run("FLUSH TABLE t FORCE").await;
                    }
                }
                10 if next(3) == 0 => {
                    for admin in &admins {
                        admin.run("COMPACT TABLE t").await;
                    }
                }
                11 if next(6) == 0 => {
                    for admin in &admins {
                        admin.run(format!("ALTER TABLE t ADD COLUMN c{step} BIGINT DEFAULT {step}")).await;
                    }
                }
                11 if next(20) == 0 => {
                    for admin in &admins {
                        admin.run("DROP TABLE t").await;
                        admin.run(format!("CREATE USER TABLE t (id {key} PRIMARY KEY, {COLUMNS})")).await;
                    }
                }
                _ => {}
            }
            both.compare().await;
        }
        both.run("DELETE FROM t").await;
        both.compare().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_statements_over_images_answer_the_same() {
    random_statements("BIGINT", |key| (key as i64 - 200).to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_statements_over_images_with_texts_as_keys_answer_the_same() {
    random_statements("TEXT", |key| {
        format!("'{}{key}'", ["", "a", "é", "a longer beginning of a key "][key as usize % 4])
    })
    .await;
}

async fn fill(client: &Client, rows: i64) {
    let of = format!("SELECT value, value % 100, 'row ' || value FROM generate_series(0, {})", rows - 1);
    client.run(format!("INSERT INTO t {of}")).await;
}

async fn shared(settings: EngineSettings, rows: i64) -> (Db, Client) {
    let db = Db::with(settings).await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, n BIGINT, body TEXT) ACCESS PUBLIC").await;
    fill(&admin, rows).await;
    (db, admin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_made_kept_and_left_out_where_it_is_of_no_use() {
    let (_db, admin) = shared(tiny(), 500).await;
    let sql = "SELECT n, count(*) FROM t WHERE body <> 'x' GROUP BY n";
    assert!(!uses_image(&admin, sql).await);
    warm(&admin, sql).await;
    assert!(plan(&admin, sql).await.contains("partitions=3"), "{}", plan(&admin, sql).await);
    // With other columns and for another filter it is the same image.
    for covered in ["SELECT count(*) FROM t", "SELECT id FROM t", "SELECT body FROM t WHERE n = 3 AND id % 2 = 0"] {
        assert!(uses_image(&admin, covered).await, "{covered}");
    }
    for not in [
        "SELECT n FROM t WHERE id > 7",
        "SELECT n FROM t LIMIT 3",
        "SELECT n FROM t ORDER BY id DESC LIMIT 3",
        "SELECT n, _seq FROM t",
    ] {
        assert!(!uses_image(&admin, not).await, "{not}");
    }
    // Writes do not end it.
    for i in 0..30 {
        admin.run(format!("UPDATE t SET n = 1000 + {i} WHERE id % 50 = {i}")).await;
        admin.run(format!("INSERT INTO t VALUES ({}, 5, 'new')", 1_000 + i)).await;
        assert!(uses_image(&admin, sql).await);
        assert_eq!(admin.value(format!("SELECT count(*) FROM t WHERE n = 1000 + {i}")).await, "10");
        assert_eq!(admin.value("SELECT count(*) FROM t").await, (501 + i).to_string());
    }
    // A flush does; of what is hot then there is another.
    admin.run("FLUSH TABLE t FORCE").await;
    assert_eq!(admin.value("SELECT count(*) FROM t").await, "530");
    admin.run("INSERT INTO t SELECT value, 1, 'z' FROM generate_series(5000, 5099)").await;
    assert_eq!(admin.value("SELECT count(*) FROM t").await, "630");
    warm(&admin, sql).await;
    assert_eq!(admin.value("SELECT count(*) FROM t").await, "630");
    // So does another schema version.
    admin.run("ALTER TABLE t ADD COLUMN c BIGINT DEFAULT 8").await;
    assert!(!uses_image(&admin, sql).await);
    assert_eq!(admin.value("SELECT sum(c) FROM t").await, (630 * 8).to_string());
    warm(&admin, "SELECT sum(c), sum(n) FROM t").await;
    assert_eq!(admin.value("SELECT sum(c) FROM t").await, (630 * 8).to_string());
    admin.run("DROP TABLE t").await;
    admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, n BIGINT, body TEXT) ACCESS PUBLIC").await;
    assert_eq!(admin.value("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn each_user_has_an_image_of_its_own() {
    let db = Db::with(tiny()).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n BIGINT, body TEXT)").await;
    let (ana, bo) = (db.user("ana"), db.user("bo"));
    fill(&ana, 100).await;
    fill(&bo, 40).await;
    warm(&ana, ALL).await;
    assert!(!uses_image(&bo, ALL).await);
    warm(&bo, ALL).await;
    ana.run("DELETE FROM t WHERE n < 10").await;
    assert_eq!(ana.value("SELECT count(*) FROM t").await, "90");
    assert_eq!(bo.value("SELECT count(*) FROM t").await, "40");
    assert_eq!(db.admin().value("SELECT count(*) FROM app.all_users.t").await, "130");
}

#[tokio::test]
async fn what_is_too_large_or_too_small_gets_no_image() {
    let mut settings = tiny();
    settings.hot_image.bytes = 20_000;
    let (_db, admin) = shared(settings, 2_000).await;
    for _ in 0..4 {
        assert_eq!(admin.rows(ALL).await.len(), 2_000);
    }
    assert!(!uses_image(&admin, ALL).await);
    let mut settings = tiny();
    settings.hot_image.min_rows = 50;
    let (_db, admin) = shared(settings, 49).await;
    for _ in 0..4 {
        assert_eq!(admin.rows(ALL).await.len(), 49);
    }
    assert!(!uses_image(&admin, ALL).await);
    admin.run("INSERT INTO t VALUES (900, 1, 'x')").await;
    warm(&admin, ALL).await;
    // Streams have expired rows, which go without a trace.
    admin.run("CREATE STREAM TABLE s (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), n BIGINT) TTL '1 hour'").await;
    admin.run("INSERT INTO s (n) SELECT value FROM generate_series(1, 100)").await;
    for _ in 0..4 {
        assert_eq!(admin.rows("SELECT n FROM s").await.len(), 100);
    }
    assert!(!uses_image(&admin, "SELECT n FROM s").await);
}

#[tokio::test]
async fn an_image_that_is_far_behind_is_made_anew() {
    let (_db, admin) = shared(tiny(), 100).await;
    warm(&admin, ALL).await;
    admin.run("INSERT INTO t SELECT value, value % 100, 'late' FROM generate_series(1000, 9999)").await;
    for _ in 0..4 {
        assert_eq!(admin.value("SELECT count(*) FROM t WHERE body = 'late'").await, "9000");
    }
    warm(&admin, ALL).await;
    admin.run("DELETE FROM t WHERE id >= 500 AND id < 9500").await;
    for _ in 0..4 {
        assert_eq!(admin.value("SELECT count(*) FROM t").await, "600");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_the_rows_of_its_beginning() {
    let (_db, admin) = shared(tiny(), 20_000).await;
    warm(&admin, ALL).await;
    let before = admin.rows("SELECT id, n, body FROM t ORDER BY id").await;
    let mut running = admin.session.execute(admin.request("SELECT id, n, body FROM t", &[]));
    let Body::Rows(mut stream) = running.next().await.unwrap().unwrap().body else { panic!("no rows") };
    let mut seen = texts(&stream.next().await.unwrap().unwrap());
    for i in 0..10 {
        admin.run(format!("UPDATE t SET n = -1 WHERE id % 997 = {i}")).await;
        admin.run(format!("DELETE FROM t WHERE id % 991 = {i}")).await;
        admin.run(format!("INSERT INTO t VALUES ({}, 0, 'new')", 100_000 + i)).await;
        admin.value("SELECT count(*) FROM t").await;
    }
    admin.run("FLUSH TABLE t FORCE").await;
    while let Some(batch) = stream.next().await {
        seen.extend(texts(&batch.unwrap()));
    }
    seen.sort_by_key(|row| row[0].parse::<i64>().unwrap());
    assert_eq!(seen, before);
}

/// Units move between rows, and rows between the tiers; every scan must see all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_scan_sees_half_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let settings = EngineSettings { storage: StorageSettings::Directory(folder.path().to_path_buf()), ..tiny() };
    let db = Db::with(settings).await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, n BIGINT) ACCESS PUBLIC").await;
    admin.run("INSERT INTO t SELECT value, 100 FROM generate_series(0, 499)").await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for writer in 0..3 {
        let (client, ended, random) = (db.user("w"), Arc::clone(&ended), FixedEnv::new(0, writer));
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            while !ended.load(Ordering::Relaxed) {
                let [from, to] = [0, 1].map(|_| (random.random_u64() % 500) as i64);
                if from == to {
                    continue;
                }
                // Each statement leaves the sum and the number of rows as they are, whichever rows exist.
                let sql =
                    format!("UPDATE t SET n = n + CASE WHEN id = {from} THEN -7 ELSE 7 END WHERE id IN ({from}, {to})");
                client.run(sql).await;
                done += 1;
            }
            done
        }));
    }
    for reader in 0..2 {
        let (client, ended) = (db.user("r"), Arc::clone(&ended));
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            while !ended.load(Ordering::Relaxed) {
                let sql = if reader == 0 {
                    "SELECT sum(n), count(*), count(DISTINCT id) FROM t"
                } else {
                    "SELECT sum(n), sum(1), count(DISTINCT id) FROM t WHERE n > -1000000"
                };
                assert_eq!(client.rows(sql).await, [["50000", "500", "500"]]);
                done += 1;
            }
            done
        }));
    }
    let until = Instant::now() + Duration::from_secs(6);
    let mut used = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(400)).await;
        used += usize::from(uses_image(&admin, "SELECT sum(n) FROM t").await);
        admin.run(if used % 3 == 2 { "COMPACT TABLE t" } else { "FLUSH TABLE t FORCE" }).await;
    }
    ended.store(true, Ordering::Relaxed);
    for task in tasks {
        assert!(task.await.unwrap() > 10);
    }
    assert!(used > 0, "no image was made");
}

/// `cargo test --test engine -- --ignored --nocapture hot_images`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_long_scans_take() {
    for image in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = EngineSettings {
            storage: StorageSettings::Directory(folder.path().to_path_buf()),
            ..EngineSettings::default()
        };
        if !image {
            settings.hot_image.bytes = 0;
        }
        let db = Db::with(settings).await;
        let admin = db.admin();
        admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, n BIGINT, body TEXT) ACCESS PUBLIC").await;
        admin.run("CREATE USER TABLE c (id BIGINT PRIMARY KEY, conversation BIGINT, body TEXT)").await;
        for half in 0..2 {
            for first in (half * 500_000..(half + 1) * 500_000).step_by(100_000) {
                let to = first + 99_999;
                let of = format!("SELECT value, value % 100, 'row ' || value FROM generate_series({first}, {to})");
                admin.run(format!("INSERT INTO t {of}")).await;
            }
            if half == 0 {
                admin.run("FLUSH TABLE t FORCE").await;
            }
        }
        let of =
            "SELECT value, value % 200, 'a message of some length, number ' || value FROM generate_series(1, 10000)";
        admin.run(format!("INSERT INTO c {of}")).await;
        let queries = [
            "SELECT n, count(*), sum(id) FROM t WHERE n < 50 GROUP BY n",
            "SELECT count(*), sum(n) FROM t WHERE n > 10",
            "SELECT id, body FROM c WHERE conversation = 17",
        ];
        for sql in queries {
            for change in [false, true] {
                let mut times = Vec::new();
                for round in 0..8 {
                    if change {
                        let sql = if sql.contains("FROM c") {
                            format!("INSERT INTO c VALUES ({}, 3, 'x')", 20_000 + round)
                        } else {
                            format!("UPDATE t SET n = n WHERE id >= 500000 AND id % 50000 = {round}")
                        };
                        admin.run(sql).await;
                    }
                    let begun = Instant::now();
                    admin.rows(sql).await;
                    times.push(begun.elapsed());
                }
                let shown: Vec<String> = times.iter().map(|time| format!("{:.1}", time.as_secs_f64() * 1e3)).collect();
                println!("images {image}, writes between {change}: {sql}: {} ms", shown.join(" "));
            }
        }
    }
}
