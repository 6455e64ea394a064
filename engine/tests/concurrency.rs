//! Statements at the same time.

use std::{sync::Arc, time::Duration};

use kalamdb_engine::Reason;

use crate::harness::{Client, Db, int};

async fn at_once(clients: impl IntoIterator<Item = Client>, work: impl AsyncWork) -> Vec<u64> {
    let work = Arc::new(work);
    let running: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(i, client)| {
            let work = Arc::clone(&work);
            tokio::spawn(async move { work.run(client, i as i64).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in running {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// What each task does.
trait AsyncWork: Send + Sync + 'static {
    fn run(&self, client: Client, task: i64) -> impl Future<Output = u64> + Send;
}

struct Increments {
    sql: &'static str,
    times: u64,
}

impl AsyncWork for Increments {
    async fn run(&self, client: Client, _: i64) -> u64 {
        let mut count = 0;
        for _ in 0..self.times {
            count += client.run(self.sql).await.row_count;
        }
        count
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_increment_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for db in [Db::memory().await, Db::on_disk(dir.path()).await] {
        db.admin().run("CREATE SHARED TABLE c (id BIGINT PRIMARY KEY, n BIGINT) ACCESS PUBLIC").await;
        db.admin().run("INSERT INTO c VALUES (1, 0), (2, 0)").await;
        let clients = (0..32).map(|i| db.user(&format!("u{i}")));
        let work = Increments { sql: "UPDATE c SET n = n + 1 WHERE id = 1", times: 50 };
        assert_eq!(at_once(clients, work).await.iter().sum::<u64>(), 1600);
        assert_eq!(db.admin().value("SELECT n FROM c WHERE id = 1").await, "1600");
        // By a condition that is not on the key, so by a plan.
        let clients = (0..8).map(|i| db.user(&format!("u{i}")));
        at_once(clients, Increments { sql: "UPDATE c SET n = n + 1 WHERE n < 1000", times: 20 }).await;
        assert_eq!(db.admin().value("SELECT n FROM c WHERE id = 2").await, "160");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_upsert_is_lost() {
    let db = Db::memory().await;
    db.admin().run("CREATE SHARED TABLE c (id BIGINT PRIMARY KEY, n BIGINT) ACCESS PUBLIC").await;
    let clients = (0..16).map(|i| db.user(&format!("u{i}")));
    let sql = "INSERT INTO c VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = c.n + excluded.n";
    at_once(clients, Increments { sql, times: 25 }).await;
    assert_eq!(db.admin().value("SELECT n FROM c").await, "400");
}

struct SameKeys;

impl AsyncWork for SameKeys {
    async fn run(&self, client: Client, task: i64) -> u64 {
        let mut won = 0;
        for key in 0..50 {
            match client.try_with("INSERT INTO c VALUES ($1, $2)", &[int(key), int(task)]).await {
                Ok(answer) => won += answer.row_count,
                Err(error) => assert_eq!(error.reason(), Reason::PrimaryKeyViolation, "{error}"),
            }
        }
        won
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_insert_of_a_key_wins() {
    let dir = tempfile::tempdir().unwrap();
    for db in [Db::memory().await, Db::on_disk(dir.path()).await] {
        db.admin().run("CREATE SHARED TABLE c (id BIGINT PRIMARY KEY, n BIGINT) ACCESS PUBLIC").await;
        let clients = (0..16).map(|i| db.user(&format!("u{i}")));
        assert_eq!(at_once(clients, SameKeys).await.iter().sum::<u64>(), 50);
        assert_eq!(db.admin().value("SELECT count(*) FROM c").await, "50");
    }
}

/// Moves units between two rows; every reader must see their sum unchanged.
struct Transfers;

impl AsyncWork for Transfers {
    async fn run(&self, client: Client, task: i64) -> u64 {
        for i in 0..40 {
            if task % 2 == 0 {
                let to_first = if i % 2 == 0 { 1 } else { -1 };
                client
                    .run(format!("UPDATE c SET n = n + CASE WHEN id = 1 THEN {to_first} ELSE {} END", -to_first))
                    .await;
            } else {
                assert_eq!(client.value("SELECT sum(n) FROM c").await, "200");
                let rows = client.rows("SELECT n FROM c WHERE id IN (1, 2)").await;
                let sum: i64 = rows.iter().map(|r| r[0].parse::<i64>().unwrap()).sum();
                assert_eq!(sum, 200);
            }
        }
        0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_never_see_half_a_statement() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::on_disk(dir.path()).await;
    db.admin().run("CREATE SHARED TABLE c (id BIGINT PRIMARY KEY, n BIGINT) ACCESS PUBLIC").await;
    db.admin().run("INSERT INTO c VALUES (1, 100), (2, 100)").await;
    at_once((0..8).map(|_| db.user("u")), Transfers).await;
    assert_eq!(db.admin().rows("SELECT n FROM c ORDER BY id").await, [["100"], ["100"]]);
}

struct ReadsItsWrites;

impl AsyncWork for ReadsItsWrites {
    async fn run(&self, client: Client, task: i64) -> u64 {
        for i in 0..50 {
            let id = task * 1000 + i;
            client.run_with("INSERT INTO t VALUES ($1, 0)", &[int(id)]).await;
            assert_eq!(client.run_with("SELECT n FROM t WHERE id = $1", &[int(id)]).await.rows, [["0"]]);
            client.run_with("UPDATE t SET n = id WHERE id = $1", &[int(id)]).await;
            assert_eq!(client.run_with("SELECT count(*) FROM t WHERE n = $1", &[int(id)]).await.rows.len(), 1);
            if i % 3 == 0 {
                client.run_with("DELETE FROM t WHERE id = $1", &[int(id)]).await;
                assert!(client.run_with("SELECT n FROM t WHERE id = $1", &[int(id)]).await.rows.is_empty());
            }
        }
        0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_sees_its_acknowledged_writes() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    at_once((0..8).map(|i| db.user(&format!("u{}", i % 3))), ReadsItsWrites).await;
    assert_eq!(db.admin().value("SELECT count(*) FROM app.all_users.t").await, (8 * 33).to_string());
}

struct Definitions;

impl AsyncWork for Definitions {
    async fn run(&self, client: Client, task: i64) -> u64 {
        let mut done = 0;
        for i in 0..30 {
            let sql = match (task + i) % 5 {
                0 => "CREATE SHARED TABLE d (id BIGINT PRIMARY KEY, n BIGINT) ACCESS PUBLIC",
                1 => "DROP TABLE d",
                2 => "ALTER TABLE d ADD COLUMN x BIGINT DEFAULT 4",
                3 => "ALTER TABLE d DROP COLUMN x",
                _ => "INSERT INTO d (id) VALUES (SNOWFLAKE_ID())",
            };
            match client.try_run(sql).await {
                Ok(_) => done += 1,
                Err(error) => assert!(
                    matches!(
                        error.reason(),
                        Reason::TableExists | Reason::TableNotFound | Reason::ColumnExists | Reason::ColumnNotFound
                    ),
                    "{sql}: {error}"
                ),
            }
            match client.try_run("SELECT * FROM d").await {
                Ok(_) => {}
                Err(error) => assert_eq!(error.reason(), Reason::TableNotFound, "{error}"),
            }
        }
        done
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn definitions_and_writes_at_once_leave_a_sound_catalog() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::on_disk(dir.path()).await;
    let done: u64 = at_once((0..8).map(|_| db.admin()), Definitions).await.iter().sum();
    assert!(done > 0);
    db.admin().run("DROP TABLE IF EXISTS d").await;
    db.admin().run("CREATE SHARED TABLE d (id BIGINT PRIMARY KEY) ACCESS PUBLIC").await;
    assert_eq!(db.admin().value("SELECT count(*) FROM d").await, "0", "rows of a dropped table are back");
    db.reopen();
    assert_eq!(db.admin().value("SELECT count(*) FROM d").await, "0");
    assert_eq!(db.admin().rows("SELECT table_name FROM system.tables").await, [["d"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_waits_for_the_commit_it_must_see() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    let ana = db.user("ana");
    let mut request = ana.request("SELECT count(*) FROM t", &[]);
    request.min_commit_seq = db.engine().last_commit_seq().get() + 2;
    let waiting = tokio::spawn({
        let (ana, request) = (ana.clone(), request.clone());
        async move { ana.try_request(request).await.unwrap().rows }
    });
    ana.run("INSERT INTO t VALUES (1)").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    ana.run("INSERT INTO t VALUES (2)").await;
    assert_eq!(waiting.await.unwrap(), [["2"]]);
    request.min_commit_seq += 1000;
    request.timeout = Some(Duration::from_millis(50));
    assert_eq!(ana.try_request(request).await.unwrap_err().reason(), Reason::StatementTimeout);
}
