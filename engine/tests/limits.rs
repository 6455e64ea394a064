//! Memory, time and cancellation.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kalamdb_engine::{Body, EngineSettings, Reason};

use crate::harness::{Client, Db};

const MIB: usize = 1024 * 1024;

/// Answers no row before about 10^13 steps.
const ENDLESS: &str =
    "SELECT count(*) FROM generate_series(1, 10000000) a(x), generate_series(1, 1000000) b(y) WHERE a.x % 7 = b.y % 11";

async fn rows(db: &Db, count: usize) -> Client {
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, s TEXT, n BIGINT)").await;
    let ana = db.user("ana");
    ana.run(format!(
        "INSERT INTO t SELECT value, md5(CAST(value AS TEXT)) || md5(CAST(-value AS TEXT)), (value * 7919) % 100003 FROM generate_series(1, {count})"
    ))
    .await;
    ana
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sort_beyond_its_memory_spills() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EngineSettings {
        query_memory_bytes: 12 * MIB,
        query_threads: 2,
        spill_dir: Some(dir.path().to_path_buf()),
        ..EngineSettings::default()
    };
    let db = Db::with(settings).await;
    let ana = rows(&db, 150_000).await;
    let sorted = ana.rows("SELECT s, n, id FROM t ORDER BY n, s").await;
    assert_eq!(sorted.len(), 150_000);
    let keys: Vec<(i64, &str)> = sorted.iter().map(|r| (r[1].parse().unwrap(), r[0].as_str())).collect();
    assert!(keys.is_sorted());
    let explain = ana.rows("EXPLAIN ANALYZE SELECT s, n, id FROM t ORDER BY n, s").await;
    let text = format!("{explain:?}");
    let spilled = text.split("spill_count=").skip(1).any(|rest| !rest.starts_with('0'));
    assert!(spilled, "nothing was spilled: {text}");
    assert_eq!(
        std::fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .map(|e| std::fs::read_dir(e.path()).map_or(0, Iterator::count))
            .sum::<usize>(),
        0
    );
    assert_eq!(db.engine().query_memory_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_beyond_its_memory_fails_and_frees_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EngineSettings {
        query_memory_bytes: 2 * MIB,
        query_threads: 2,
        spill_dir: Some(dir.path().to_path_buf()),
        max_spill_bytes: MIB as u64,
        ..EngineSettings::default()
    };
    let db = Db::with(settings).await;
    let ana = rows(&db, 100_000).await;
    for sql in [
        "SELECT s, count(*) FROM t GROUP BY s ORDER BY s LIMIT 3",
        "SELECT count(*) FROM t a JOIN t b ON a.s = b.s",
        "SELECT s, id FROM t ORDER BY s, n",
        "SELECT count(DISTINCT s) FROM t",
    ] {
        let error = ana.fails(Reason::QueryMemoryExceeded, sql).await;
        assert!(error.message().contains("query.memory_mb"), "{error}");
        assert_eq!(error.metadata()["limit"], "query.memory_mb");
    }
    assert_eq!(ana.value("SELECT count(*) FROM t").await, "100000");
    settled(&db).await;
}

/// Waits until no query holds memory.
async fn settled(db: &Db) {
    let free = async {
        while db.engine().query_memory_bytes() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.expect("queries that ended hold memory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_all_queries_together_is_bounded() {
    let settings = EngineSettings { total_query_memory_bytes: 2 * MIB, ..EngineSettings::default() };
    let db = Db::with(settings).await;
    let ana = rows(&db, 60_000).await;
    ana.fails(Reason::QueryMemoryExceeded, "SELECT count(*) FROM t a JOIN t b ON a.s = b.s").await;
    settled(&db).await;
    assert_eq!(ana.value("SELECT max(id) FROM t").await, "60000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_stops_a_query() {
    let db = Db::with(EngineSettings { query_threads: 1, ..EngineSettings::default() }).await;
    let ana = db.user("ana");
    let mut request = ana.request(ENDLESS, &[]);
    request.timeout = Some(Duration::from_millis(200));
    let began = Instant::now();
    let error = ana.try_request(request).await.unwrap_err();
    assert_eq!(error.reason(), Reason::StatementTimeout, "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // The one query thread is free again.
    runs_soon(&ana).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_bound_a_requests_time_out() {
    let db =
        Db::with(EngineSettings { statement_timeout_ms: 1_000, query_threads: 1, ..EngineSettings::default() }).await;
    let ana = db.user("ana");
    for timeout in [None, Some(Duration::from_secs(3600))] {
        let mut request = ana.request(ENDLESS, &[]);
        request.timeout = timeout;
        assert_eq!(ana.try_request(request).await.unwrap_err().reason(), Reason::StatementTimeout);
    }
    runs_soon(&ana).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_times_out_while_it_reads_changes_nothing() {
    let db = Db::with(EngineSettings { query_threads: 1, ..EngineSettings::default() }).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t VALUES (1, 0)").await;
    for sql in [
        format!("INSERT INTO t SELECT 2, x.c FROM ({ENDLESS}) x(c)"),
        format!("UPDATE t SET n = 1 WHERE n < ({ENDLESS})"),
        format!("DELETE FROM t WHERE n < ({ENDLESS})"),
    ] {
        let mut request = ana.request(sql.as_str(), &[]);
        request.timeout = Some(Duration::from_millis(150));
        let error = ana.try_request(request).await.expect_err(&sql);
        assert_eq!(error.reason(), Reason::StatementTimeout, "{sql}: {error}");
    }
    assert_eq!(ana.rows("SELECT * FROM t").await, [["1", "0"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_rows_stops_the_work() {
    let db = Db::with(EngineSettings { query_threads: 1, ..EngineSettings::default() }).await;
    let ana = db.user("ana");
    for _ in 0..3 {
        let mut execution = ana.session.execute(ana.request(ENDLESS, &[]));
        let output = execution.next().await.unwrap().unwrap();
        let Body::Rows(mut rows) = output.body else { panic!("no rows") };
        assert!(tokio::time::timeout(Duration::from_millis(100), rows.next()).await.is_err());
        drop(rows);
    }
    runs_soon(&ana).await;
    settled(&db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_while_the_query_runs_and_wait_for_their_reader() {
    let db = Db::memory().await;
    let ana = rows(&db, 50_000).await;
    let sql = "SELECT a.id, b.s FROM t a, t b";
    let mut execution = ana.session.execute(ana.request(sql, &[]));
    let Body::Rows(mut rows) = execution.next().await.unwrap().unwrap().body else { panic!("no rows") };
    let mut seen = 0;
    while seen < 100_000 {
        seen += rows.next().await.unwrap().unwrap().num_rows();
    }
    drop(rows);
    settled(&db).await;
}

/// A small query must be answered while the one query thread is not held by another.
async fn runs_soon(client: &Client) {
    let answer =
        tokio::time::timeout(Duration::from_secs(5), client.value("SELECT sum(value) FROM generate_series(1, 10)"));
    assert_eq!(answer.await.expect("the query thread is still busy"), "55");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_beyond_the_most_at_once_wait_for_their_turn() {
    let settings = EngineSettings { max_concurrent_queries: 2, query_threads: 2, ..EngineSettings::default() };
    let db = Db::with(settings).await;
    let ana = rows(&db, 1_000).await;
    let many: Vec<_> = (0..20)
        .map(|i| {
            let ana = ana.clone();
            tokio::spawn(async move { ana.value(format!("SELECT count(*) FROM t WHERE n <> {i}")).await })
        })
        .collect();
    for one in many {
        one.await.unwrap();
    }
}
