//! Statements while flushes and compactions run, compared with a model.

use std::collections::BTreeMap;

use kalamdb_engine::{Env, FixedEnv, Reason};

use super::{no_orphans, settings, tiers};
use crate::harness::{Client, Db, int, text};

/// What a task does to the partition that is its own, and what must come of it.
struct Writer {
    client: Client,
    random: FixedEnv,
    model: BTreeMap<i64, String>,
}

impl Writer {
    async fn step(&mut self) {
        let key = (self.random.random_u64() % 400) as i64;
        let body = format!("{:x}", self.random.random_u64());
        let parameters = [int(key), text(&body)];
        match self.random.random_u64() % 10 {
            0..4 => match self.client.try_with("INSERT INTO t VALUES ($1, $2)", &parameters).await {
                Ok(_) => assert_eq!(self.model.insert(key, body), None, "{key} was inserted twice"),
                Err(error) => {
                    assert_eq!(error.reason(), Reason::PrimaryKeyViolation, "{error}");
                    assert!(self.model.contains_key(&key), "{key} is not there");
                }
            },
            4..6 => {
                let sql = "INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
                self.client.run_with(sql, &parameters).await;
                self.model.insert(key, body);
            }
            6..8 => {
                let changed = self.client.run_with("UPDATE t SET body = $2 WHERE id = $1", &parameters).await.row_count;
                assert_eq!(changed == 1, self.model.contains_key(&key), "UPDATE of {key}");
                self.model.entry(key).and_modify(|old| *old = body);
            }
            8 => {
                let deleted = self.client.run_with("DELETE FROM t WHERE id = $1", &parameters[..1]).await.row_count;
                assert_eq!(deleted == 1, self.model.remove(&key).is_some(), "DELETE of {key}");
            }
            _ => {
                let found = self.client.run_with("SELECT body FROM t WHERE id = $1", &parameters[..1]).await.rows;
                assert_eq!(found.concat(), self.model.get(&key).cloned().into_iter().collect::<Vec<_>>(), "{key}");
            }
        }
    }

    async fn check(&self, client: &Client) {
        let expected: Vec<Vec<String>> = self.model.iter().map(|(k, v)| vec![k.to_string(), v.clone()]).collect();
        assert_eq!(client.rows("SELECT id, body FROM t ORDER BY id").await, expected);
        let count = format!("{}", self.model.len());
        assert_eq!(client.value("SELECT count(*) FROM t").await, count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_jobs_at_the_same_time_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.flush.segment_rows = 150;
    settings.compaction.min_segments = 3;
    let mut db = Db::with(settings).await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    let writers: Vec<_> = (0..4)
        .map(|task| {
            let mut writer = Writer {
                client: db.user(&format!("user {task}")),
                random: FixedEnv::new(0, task),
                model: BTreeMap::new(),
            };
            tokio::spawn(async move {
                for step in 0..1_500 {
                    writer.step().await;
                    if step % 250 == 249 {
                        writer.check(&writer.client.clone()).await;
                    }
                }
                (writer.random, writer.model)
            })
        })
        .collect();
    let mut flushes = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        db.admin().run("FLUSH TABLE t FORCE").await;
        flushes += 1;
        if flushes % 4 == 0 {
            db.admin().run("COMPACT TABLE t").await;
        }
    }
    assert!(flushes > 3, "{flushes} flushes");
    let mut models = Vec::new();
    for writer in writers {
        models.push(writer.await.unwrap());
    }
    for _ in 0..2 {
        for (task, (_, model)) in models.iter().enumerate() {
            let client = db.user(&format!("user {task}"));
            Writer { client: client.clone(), random: FixedEnv::new(0, 0), model: model.clone() }.check(&client).await;
        }
        db.reopen();
    }
    db.admin().run("FLUSH TABLE t FORCE; COMPACT TABLE t").await;
    let live: usize = models.iter().map(|(_, model)| model.len()).sum();
    let [hot, cold, _] = tiers(&db, "t").await;
    assert_eq!((hot, cold), (0, live as u64));
    assert_eq!(db.admin().value("SELECT sum(deleted_rows) FROM system.segments").await, "0");
    for (task, (_, model)) in models.into_iter().enumerate() {
        let client = db.user(&format!("user {task}"));
        Writer { client: client.clone(), random: FixedEnv::new(0, 0), model }.check(&client).await;
    }
    no_orphans(&db, dir.path()).await;
}
