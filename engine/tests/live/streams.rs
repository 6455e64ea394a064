//! Live queries of STREAM tables, whose rows expire.

use std::collections::BTreeMap;

use kalamdb_engine::EngineSettings;

use super::{Live, Row, Seen};
use crate::harness::{Db, small, table};

const SECOND: i64 = 1_000_000;

async fn typing(stream_expiry_interval_ms: u64) -> Db {
    let db = Db::with(EngineSettings { stream_expiry_interval_ms, ..small() }).await;
    db.admin().run("CREATE STREAM TABLE typing (id TEXT PRIMARY KEY DEFAULT ULID(), who TEXT) TTL '10 seconds'").await;
    db
}

/// At most the sweep at the start.
const NEVER: u64 = 3_600_000;

#[tokio::test]
async fn expired_rows_arrive_as_deletes() {
    let db = typing(20).await;
    let ana = db.user("ana");
    ana.run("INSERT INTO typing VALUES ('a', 'ana')").await;
    let mut live = Live::of(&ana, "SUBSCRIBE TO typing");
    let mut few = Live::of(&ana, "SUBSCRIBE SELECT who, _deleted FROM typing WHERE who = 'bob'").ready().await;
    assert_eq!(live.rows().await, table(&[["a", "ana"]]));
    db.env.advance_us(6 * SECOND);
    ana.run("INSERT INTO typing VALUES ('b', 'bob')").await;
    assert_eq!(live.commit().await, ["+ b | bob"]);
    assert_eq!(few.commit().await, ["+ bob | false"]);
    db.env.advance_us(4 * SECOND);
    assert_eq!(live.commit().await, ["- a | ana"]);
    // Writing it again gives it its time again.
    ana.run("UPDATE typing SET who = 'still bob' WHERE id = 'b'").await;
    assert_eq!(live.commit().await, ["~ b | bob -> b | still bob"]);
    assert_eq!(few.commit().await, ["- bob | true"]);
    db.env.advance_us(9 * SECOND);
    live.is_quiet(&db).await;
    db.env.advance_us(SECOND);
    assert_eq!(live.commit().await, ["- b | still bob"]);
    few.is_quiet(&db).await;
}

#[tokio::test]
async fn rows_that_had_expired_before_do_not_expire_again() {
    let db = typing(NEVER).await;
    let ana = db.user("ana");
    ana.run("INSERT INTO typing VALUES ('a', 'ana'), ('b', 'ana')").await;
    db.user("bob").run("INSERT INTO typing VALUES ('a', 'bob')").await;
    db.env.advance_us(11 * SECOND);
    ana.run("INSERT INTO typing VALUES ('c', 'ana')").await;
    let mut live = Live::of(&ana, "SUBSCRIBE SELECT id FROM typing");
    assert_eq!(live.rows().await, table(&[["c"]]));
    // The sweep would tell of them only now.
    live.is_quiet(&db).await;
    ana.run("INSERT INTO typing VALUES ('a', 'ana')").await;
    assert_eq!(live.commit().await, ["+ a"]);
}

/// Rows that are hidden and not yet removed when somebody writes their key again.
#[tokio::test]
async fn a_key_that_is_used_again_is_one_row() {
    let db = typing(NEVER).await;
    let ana = db.user("ana");
    ana.run("INSERT INTO typing VALUES ('a', 'first'), ('b', 'first')").await;
    let mut live = Live::of(&ana, "SUBSCRIBE TO typing");
    let mut held: BTreeMap<String, Row> = live.rows().await.into_iter().map(|row| (row[0].clone(), row)).collect();
    db.env.advance_us(11 * SECOND);
    ana.run("INSERT INTO typing VALUES ('a', 'second')").await;
    ana.run("INSERT INTO typing VALUES ('b', 'second') ON CONFLICT (id) DO UPDATE SET who = 'not this'").await;
    let last = db.engine().last_commit_seq().get();
    while live.at < last {
        let Seen::Commit { changes, .. } = live.next().await else { continue };
        for change in changes {
            // Whether it is told as one row that changed or as one that went and one that came.
            match (change.old, change.new) {
                (Some(old), new) => {
                    assert_eq!(held.remove(&old[0]), Some(old));
                    held.extend(new.map(|new| (new[0].clone(), new)));
                }
                (None, Some(new)) => assert_eq!(held.insert(new[0].clone(), new), None, "it came twice"),
                (None, None) => panic!("a change of nothing"),
            }
        }
    }
    let mut rows: Vec<Row> = held.into_values().collect();
    rows.sort();
    assert_eq!(rows, ana.rows("SELECT * FROM typing ORDER BY id").await);
    assert_eq!(rows, table(&[["a", "second"], ["b", "second"]]));
}

/// Subscribing while the sweep and writers are at work: the rows and the changes still meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscribing_beside_the_sweep() {
    let db = typing(10).await;
    let ana = db.user("ana");
    for round in 0..40 {
        ana.run(format!("INSERT INTO typing SELECT 'x' || value, '{round}' FROM generate_series(1, 30)")).await;
        db.env.advance_us(5 * SECOND);
        ana.run(format!("INSERT INTO typing SELECT 'y' || value, '{round}' FROM generate_series(1, 30)")).await;
        // The first have expired; some are written again while the query begins.
        db.env.advance_us(5 * SECOND);
        let writing = {
            let ana = ana.clone();
            tokio::spawn(async move {
                for key in 1..=10 {
                    let insert = format!("INSERT INTO typing VALUES ('x{key}', 'again')");
                    ana.run(format!("{insert} ON CONFLICT (id) DO UPDATE SET who = 'again'")).await;
                }
            })
        };
        let mut live = Live::of(&ana, "SUBSCRIBE TO typing");
        let mut held: BTreeMap<String, Row> = live.rows().await.into_iter().map(|row| (row[0].clone(), row)).collect();
        writing.await.unwrap();
        db.env.advance_us(10 * SECOND);
        // Until everything has expired.
        while !held.is_empty() {
            let Seen::Commit { changes, .. } = live.next().await else { continue };
            for change in changes {
                let known = change.old.as_ref().map(|old| held.remove(&old[0]));
                assert_eq!(known.clone().flatten(), change.old, "round {round}: {change:?} of a row that is not held");
                if let Some(new) = change.new {
                    assert_eq!(held.insert(new[0].clone(), new), None, "round {round}: it came twice");
                }
            }
        }
        if round % 10 == 0 {
            live.is_quiet(&db).await;
        }
        assert_eq!(ana.value("SELECT count(*) FROM typing").await, "0");
    }
}
