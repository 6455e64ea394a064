//! Subscribers that do not read in time.

use kalamdb_engine::{EngineSettings, LiveOptions, Reason};

use super::{Live, Seen, coalescing, shown, with_table};
use crate::harness::{Client, Db};

const QUEUE_BYTES: usize = 10_000;

async fn small_queues() -> Db {
    let mut settings = EngineSettings::default();
    settings.live.queue_bytes = QUEUE_BYTES;
    with_table(Db::with(settings).await).await
}

/// A live query that follows the feed, so that its queue is used: what it begins with comes from the log, in its own time.
async fn following(ana: &Client, sql: &str, options: LiveOptions) -> Live {
    let mut live = Live::with(ana, sql, options).ready().await;
    ana.run("INSERT INTO t VALUES (0, 0, 'first')").await;
    assert_eq!(live.commit().await.len(), 1);
    ana.run("DELETE FROM t WHERE id = 0").await;
    assert_eq!(live.commit().await.len(), 1);
    live
}

/// Everything up to the last commit was dealt out to everybody.
async fn dealt(db: &Db, ana: &Client) {
    let mut other = Live::of(ana, "SUBSCRIBE SELECT id FROM t WHERE id = -1").ready().await;
    ana.run("INSERT INTO t VALUES (-1, 0, '')").await;
    assert_eq!(other.commit().await, ["+ -1"]);
    ana.run("DELETE FROM t WHERE id = -1").await;
    assert_eq!(other.commit().await, ["- -1"]);
    // Its own feed is that of all others; two turns later nothing of before can be under way.
    other.is_quiet(db).await;
}

#[tokio::test]
async fn who_reads_too_slowly_is_told_and_goes_on_exactly() {
    let db = small_queues().await;
    let ana = db.user("ana");
    let sql = "SUBSCRIBE SELECT id, n FROM t WHERE id > 0";
    let slow = Live::with(&ana, "SUBSCRIBE SELECT id, n FROM t WHERE id >= 0", LiveOptions::default());
    let mut slow = slow.ready().await;
    ana.run("INSERT INTO t VALUES (1, 0, 'a')").await;
    assert_eq!(slow.commit().await, ["+ 1 | 0"]);
    let mut fast = Live::of(&ana, sql).ready().await;
    for n in 1..=300 {
        ana.run(format!("UPDATE t SET n = {n} WHERE id = 1")).await;
        // Others are not held up.
        assert_eq!(fast.commit().await, [format!("~ 1 | {} -> 1 | {n}", n - 1)]);
        assert!(db.engine().live_counters().queued_bytes <= 2 * QUEUE_BYTES as u64);
    }
    dealt(&db, &ana).await;
    let given = slow.token();
    let (reason, token) = slow.end().await;
    assert_eq!((reason, &token), (Reason::SlowConsumer, &Some(given)));
    assert_eq!(db.engine().live_counters().active, 1, "the fast one");
    let mut slow = Live::resumed(&ana, "SUBSCRIBE SELECT id, n FROM t WHERE id >= 0", &token.unwrap());
    assert!(slow.rows().await.is_empty());
    for n in 1..=300 {
        assert_eq!(slow.commit().await, [format!("~ 1 | {} -> 1 | {n}", n - 1)]);
    }
    slow.is_quiet(&db).await;
}

#[tokio::test]
async fn one_commit_of_any_size_finds_a_place() {
    let db = small_queues().await;
    let ana = db.user("ana");
    for options in [LiveOptions::default(), coalescing()] {
        let mut live = following(&ana, "SUBSCRIBE SELECT id FROM t WHERE id >= 0", options).await;
        ana.run("INSERT INTO t SELECT value, value, 'some text' FROM generate_series(1, 2000)").await;
        dealt(&db, &ana).await;
        assert_eq!(live.commit().await.len(), 2_000);
        ana.run("DELETE FROM t WHERE id > 0").await;
        assert_eq!(live.commit().await.len(), 2_000);
    }
}

/// The next commits, until there are no more: what they come to in all, and whether any was merged.
async fn drain(live: &mut Live, db: &Db) -> (Vec<Vec<String>>, bool) {
    let last = db.engine().last_commit_seq().get();
    let (mut commits, mut any_merged) = (Vec::new(), false);
    loop {
        match live.next().await {
            Seen::Commit { changes, merged, .. } => {
                any_merged |= merged;
                commits.push(changes.iter().map(shown).collect());
            }
            Seen::Progress { seq, .. } if seq >= last => return (commits, any_merged),
            Seen::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn merged_changes_are_the_net_effect() {
    let db = small_queues().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t VALUES (1, 0, 'a'), (2, 0, 'b'), (3, 0, 'c'), (4, 0, 'd')").await;
    let sql = "SUBSCRIBE SELECT id, n FROM t WHERE n < 1000";
    let mut live = following(&ana, sql, coalescing()).await;
    for n in 1..=300 {
        ana.run(format!("UPDATE t SET n = {n} WHERE id = 1")).await;
    }
    // Gone at last; gone and there again; came; came and went; came, went and came again; left and came back.
    ana.run("UPDATE t SET n = 5 WHERE id = 2; DELETE FROM t WHERE id = 2").await;
    ana.run("DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (3, 33, 'c')").await;
    ana.run("INSERT INTO t VALUES (5, 5, 'e'), (6, 6, 'f'), (7, 7, 'g'); UPDATE t SET n = 55 WHERE id = 5").await;
    ana.run("DELETE FROM t WHERE id IN (6, 7); INSERT INTO t VALUES (7, 77, 'g')").await;
    ana.run("UPDATE t SET n = 2000 WHERE id = 4; UPDATE t SET n = 44 WHERE id = 4").await;
    for n in 301..=600 {
        ana.run(format!("UPDATE t SET n = {n} WHERE id = 1")).await;
    }
    dealt(&db, &ana).await;
    assert!(db.engine().live_counters().queued_bytes <= 2 * QUEUE_BYTES as u64);
    let (commits, merged) = drain(&mut live, &db).await;
    assert!(merged && commits.len() < 150, "{} commits", commits.len());
    // The rows as they were are those of the result, not of the table.
    let mut net = commits.concat();
    net.retain(|change| !change.starts_with("+ -1") && !change.starts_with("- -1"));
    let first: Vec<&String> = net.iter().filter(|change| !change.contains(" 1 | ")).collect();
    for expected in ["- 2 | 0", "~ 3 | 0 -> 3 | 33", "+ 5 | 55", "+ 7 | 77", "~ 4 | 0 -> 4 | 44"] {
        assert!(first.iter().any(|change| *change == expected), "{expected} among {first:?}");
    }
    assert_eq!(first.len(), 5, "{first:?}");
    assert!(net.iter().any(|change| change.ends_with("-> 1 | 600")), "{net:?}");
    // What is read in time is not merged.
    ana.run("UPDATE t SET n = 0 WHERE id = 1").await;
    assert_eq!(live.commit().await, ["~ 1 | 600 -> 1 | 0"]);
}

#[tokio::test]
async fn merged_changes_without_the_rows_as_they_were() {
    let db = small_queues().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t VALUES (1, 0, 'a'), (2, 0, 'b')").await;
    let options = LiveOptions { before_images: false, ..coalescing() };
    let mut live = following(&ana, "SUBSCRIBE SELECT id, n FROM t WHERE n < 1000", options).await;
    ana.run("DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 5, 'b')").await;
    for n in 1..=300 {
        ana.run(format!("UPDATE t SET n = {n} WHERE id = 1")).await;
    }
    ana.run("DELETE FROM t WHERE id = 1").await;
    dealt(&db, &ana).await;
    let (commits, merged) = drain(&mut live, &db).await;
    assert!(merged);
    let net = commits.concat();
    assert!(net.contains(&"~ -> 2 | 5".to_owned()), "an UPDATE carries no old row: {net:?}");
    assert!(net.iter().any(|change| change.starts_with("- 1 | ")), "a DELETE always does: {net:?}");
}

#[tokio::test]
async fn rows_that_cannot_be_merged_end_it() {
    let db = small_queues().await;
    let ana = db.user("ana");
    let mut live = following(&ana, "SUBSCRIBE SELECT id, name FROM t WHERE id >= 0", coalescing()).await;
    let token = live.token();
    for id in 1..=400 {
        ana.run(format!("INSERT INTO t VALUES ({id}, 0, 'quite some text, which is never the same: {id}')")).await;
    }
    dealt(&db, &ana).await;
    assert_eq!(live.end().await, (Reason::SlowConsumer, Some(token.clone())));
    let mut live = Live::resumed(&ana, "SUBSCRIBE SELECT id, name FROM t WHERE id >= 0", &token);
    assert!(live.rows().await.is_empty());
    for id in 1..=400 {
        assert_eq!(live.commit().await, [format!("+ {id} | quite some text, which is never the same: {id}")]);
    }
}

/// What the expressions of a query make of small rows counts as what it is.
#[tokio::test]
async fn queues_are_bounded_by_what_they_hold() {
    let db = small_queues().await;
    let ana = db.user("ana");
    let sql = "SUBSCRIBE SELECT id, repeat(name, 20000) FROM t WHERE id >= 0";
    let mut live = following(&ana, sql, LiveOptions::default()).await;
    for id in 1..=30 {
        ana.run(format!("INSERT INTO t VALUES ({id}, 0, 'x')")).await;
    }
    dealt(&db, &ana).await;
    // Thirty rows of 20 kB each do not wait in 10 kB.
    assert_eq!(live.end().await.0, Reason::SlowConsumer);
}
