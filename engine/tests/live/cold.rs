//! Live queries of rows that were flushed: where a row lies makes no difference.

use kalamdb_engine::{InitialRows, LiveOptions};

use super::{Live, db};
use crate::harness::table;

#[tokio::test]
async fn flushed_rows_change_as_others_do() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    let first = ana.run("INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, NULL), (4, 4, 'd')").await;
    let seq = first.commit_seq.unwrap();
    let mut live = Live::of(&ana, "SUBSCRIBE TO t WHERE n > 1").ready().await;
    let mut seqs = Live::of(&ana, "SUBSCRIBE SELECT id, _seq FROM t WHERE id = 2").ready().await;
    admin.run("FLUSH TABLE t FORCE").await;
    let mut late = Live::of(&ana, "SUBSCRIBE TO t WHERE n > 1");
    let mut rows = late.rows().await;
    rows.sort();
    assert_eq!(rows, table(&[["2", "2", "b"], ["3", "3", "NULL"], ["4", "4", "d"]]));
    let expected = [
        ("UPDATE t SET name = 'B' WHERE id = 2", "~ 2 | 2 | b -> 2 | 2 | B"),
        ("UPDATE t SET n = 11 WHERE name = 'a'", "+ 1 | 11 | a"),
        ("UPDATE t SET n = 0 WHERE id = 3", "- 3 | 3 | NULL"),
        ("DELETE FROM t WHERE id = 4", "- 4 | 4 | d"),
        ("INSERT INTO t VALUES (4, 40, 'again')", "+ 4 | 40 | again"),
        ("INSERT INTO t VALUES (3, 9, 'x') ON CONFLICT (id) DO UPDATE SET n = t.n + 9", "+ 3 | 9 | NULL"),
    ];
    for (sql, change) in expected {
        let written = ana.run(sql).await.commit_seq.unwrap();
        for live in [&mut live, &mut late] {
            assert_eq!(live.commit().await, [change], "{sql}");
        }
        if sql.contains("id = 2") {
            assert_eq!(seqs.commit().await, [format!("~ 2 | {seq} -> 2 | {written}")]);
        }
    }
    // All at once, of both tiers, and what was written twice.
    admin.run("FLUSH TABLE t FORCE").await;
    ana.run("UPDATE t SET name = 'hot' WHERE id = 1").await;
    for live in [&mut live, &mut late] {
        assert_eq!(live.commit().await, ["~ 1 | 11 | a -> 1 | 11 | hot"]);
    }
    ana.run("DELETE FROM t").await;
    for live in [&mut live, &mut late] {
        let mut commit = live.commit().await;
        commit.sort();
        assert_eq!(commit, ["- 1 | 11 | hot", "- 2 | 2 | B", "- 3 | 9 | NULL", "- 4 | 40 | again"]);
    }
}

#[tokio::test]
async fn moving_rows_is_no_change() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    let mut live = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
    for round in 0..4 {
        ana.run(format!("INSERT INTO t VALUES ({round}, 1, 'a'), ({}, 1, 'b')", round + 100)).await;
        assert_eq!(live.commit().await.len(), 2);
        ana.run(format!("DELETE FROM t WHERE id = {}", round + 100)).await;
        assert_eq!(live.commit().await.len(), 1);
        admin.run("FLUSH TABLE t FORCE").await;
    }
    admin.run("COMPACT TABLE t").await;
    admin.run("FLUSH ALL TABLES FORCE").await;
    live.is_quiet(&db).await;
    // They moved the position on, and it can be resumed from there.
    let token = live.token();
    drop(live);
    ana.run("UPDATE t SET n = 2 WHERE id = 3").await;
    let mut live = Live::resumed(&ana, "SUBSCRIBE TO t", &token);
    assert!(live.rows().await.is_empty());
    assert_eq!(live.commit().await, ["~ 3 | 1 | a -> 3 | 2 | a"]);
}

#[tokio::test]
async fn the_last_rows_are_of_both_tiers() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    for id in [5, 4, 3] {
        ana.run(format!("INSERT INTO t VALUES ({id}, 1, 'cold')")).await;
    }
    admin.run("FLUSH TABLE t FORCE").await;
    ana.run("INSERT INTO t VALUES (2, 1, 'hot')").await;
    ana.run("UPDATE t SET name = 'again' WHERE id = 4").await;
    let options = LiveOptions { initial_rows: InitialRows::Last(4), ..LiveOptions::default() };
    let mut live = Live::with(&ana, "SUBSCRIBE SELECT id, name FROM t", options);
    assert_eq!(live.rows().await, table(&[["5", "cold"], ["3", "cold"], ["2", "hot"], ["4", "again"]]));
}

/// The log knows the rows as they were, also when they have moved since.
#[tokio::test]
async fn changes_are_resumed_over_a_flush_and_a_compaction() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    ana.run("INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b')").await;
    admin.run("FLUSH TABLE t FORCE").await;
    let token = Live::of(&ana, "SUBSCRIBE TO t").ready().await.token();
    ana.run("UPDATE t SET n = 10 WHERE id = 1").await;
    admin.run("FLUSH TABLE t FORCE").await;
    ana.run("UPDATE t SET n = 100 WHERE id = 1").await;
    ana.run("DELETE FROM t WHERE id = 2").await;
    admin.run("FLUSH TABLE t FORCE").await;
    admin.run("COMPACT TABLE t").await;
    let mut live = Live::resumed(&ana, "SUBSCRIBE TO t", &token);
    assert!(live.rows().await.is_empty());
    assert_eq!(live.commit().await, ["~ 1 | 1 | a -> 1 | 10 | a"]);
    assert_eq!(live.commit().await, ["~ 1 | 10 | a -> 1 | 100 | a"]);
    assert_eq!(live.commit().await, ["- 2 | 2 | b"]);
}
