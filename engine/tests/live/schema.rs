//! ALTER TABLE and DROP TABLE while live queries are there.

use kalamdb_engine::{LiveQueryRequest, Reason};

use super::{LIMIT, Live, Seen, db, eventually, request};
use crate::harness::{Client, table};

#[tokio::test]
async fn named_columns_go_on() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    ana.run("INSERT INTO t VALUES (1, 1, 'a')").await;
    let mut live = Live::of(&ana, "SUBSCRIBE SELECT id, n FROM t WHERE n > 0").ready().await;
    admin.run("ALTER TABLE t ADD COLUMN later TEXT DEFAULT 'x'").await;
    ana.run("INSERT INTO t VALUES (2, 2, 'b', 'y')").await;
    assert_eq!(live.commit().await, ["+ 2 | 2"]);
    admin.run("ALTER TABLE t DROP COLUMN name").await;
    ana.run("UPDATE t SET n = n + 1").await;
    assert_eq!(live.commit().await, ["~ 1 | 1 -> 1 | 2", "~ 2 | 2 -> 2 | 3"]);
    admin.run("ALTER TABLE t RENAME COLUMN later TO name").await;
    ana.run("DELETE FROM t WHERE id = 1").await;
    assert_eq!(live.commit().await, ["- 1 | 2"]);
    let token = live.token();
    drop(live);
    // And over a gap with old and new rows in the log.
    ana.run("INSERT INTO t VALUES (3, 3, 'c')").await;
    admin.run("ALTER TABLE t ADD COLUMN again INT").await;
    ana.run("UPDATE t SET again = 7").await;
    let mut live = Live::resumed(&ana, "SUBSCRIBE SELECT id, n FROM t WHERE n > 0", &token);
    assert!(live.rows().await.is_empty());
    assert_eq!(live.commit().await, ["+ 3 | 3"]);
    assert_eq!(live.commit().await, ["~ 2 | 3 -> 2 | 3", "~ 3 | 3 -> 3 | 3"]);
    live.is_quiet(&db).await;
}

#[tokio::test]
async fn all_columns_end_with_new_ones() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    let sql = "SUBSCRIBE TO t";
    ana.run("INSERT INTO t VALUES (1, 1, 'a')").await;
    let expected = [
        ("ALTER TABLE t ADD COLUMN later TEXT DEFAULT 'x'", table(&[["1", "1", "a", "x"]])),
        ("ALTER TABLE t RENAME COLUMN n TO m", table(&[["1", "1", "a", "x"]])),
        ("ALTER TABLE t DROP COLUMN later", table(&[["1", "1", "a"]])),
    ];
    let mut live = Live::of(&ana, sql).ready().await;
    for (alter, rows) in expected {
        admin.run(alter).await;
        // Without waiting for a change.
        let (reason, token) = live.end().await;
        assert_eq!(reason, Reason::SchemaChanged, "{alter}");
        let token = token.expect("a token to resume with");
        assert_eq!(token, live.token(), "that of its last event");
        live = Live::resumed(&ana, sql, &token);
        let first = live.next().await;
        assert!(matches!(first, Seen::Reset { reason: Reason::SchemaChanged }), "{alter}: {first:?}");
        assert_eq!(live.query.columns().len(), rows[0].len());
        assert_eq!(live.rows().await, rows);
    }
    ana.run("UPDATE t SET m = 2").await;
    assert_eq!(live.commit().await, ["~ 1 | 1 | a -> 1 | 2 | a"]);
}

#[tokio::test]
async fn a_column_that_goes_ends_queries_that_name_it() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    let mut shows = Live::of(&ana, "SUBSCRIBE SELECT id, name FROM t").ready().await;
    let mut asks = Live::of(&ana, "SUBSCRIBE SELECT id FROM t WHERE name = 'a'").ready().await;
    let mut neither = Live::of(&ana, "SUBSCRIBE SELECT id FROM t WHERE n > 0").ready().await;
    admin.run("ALTER TABLE t RENAME COLUMN name TO title").await;
    for live in [&mut shows, &mut asks] {
        let (reason, _) = live.end().await;
        assert!([Reason::ColumnNotFound, Reason::SchemaChanged].contains(&reason), "{reason:?}");
    }
    ana.run("INSERT INTO t VALUES (1, 1, 'a')").await;
    assert_eq!(neither.commit().await, ["+ 1"]);
    eventually("those that ended are gone", async || db.engine().live_counters().active == 1).await;
}

/// The same name and type can be another column: what a subscriber has of the old one is void.
#[tokio::test]
async fn another_column_of_the_same_name_is_no_resumption() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    ana.run("INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b')").await;
    let shows = "SUBSCRIBE SELECT id, n FROM t";
    let asks = "SUBSCRIBE SELECT id FROM t WHERE n > 5";
    let all = "SUBSCRIBE TO t";
    let resumed = async |client: &Client, sql: &str, token: &str| {
        let asked = LiveQueryRequest { resume_token: Some(token.to_owned()), ..request(sql) };
        let mut live = Live::open(client, asked);
        let first = live.next().await;
        assert!(matches!(first, Seen::Reset { reason: Reason::SchemaChanged }), "{sql}: {first:?}");
        let mut rows = live.rows().await;
        rows.sort();
        let mut right = client.rows(sql.replace("SUBSCRIBE TO", "SELECT * FROM").replace("SUBSCRIBE ", "")).await;
        right.sort();
        assert_eq!(rows, right, "{sql}");
    };
    for alter in [
        "ALTER TABLE t DROP COLUMN n; ALTER TABLE t ADD COLUMN n BIGINT",
        "ALTER TABLE t ADD COLUMN m BIGINT DEFAULT 7; ALTER TABLE t DROP COLUMN n; ALTER TABLE t RENAME COLUMN m TO n",
    ] {
        let mut tokens = Vec::new();
        for sql in [shows, asks, all] {
            tokens.push((sql, Live::of(&ana, sql).ready().await.token()));
        }
        admin.run(alter).await;
        for (sql, token) in tokens {
            resumed(&ana, sql, &token).await;
        }
    }
}

/// The same while subscribed, when both changes may be seen as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_column_of_the_same_name_ends_those_who_follow() {
    for _ in 0..10 {
        let db = db().await;
        let ana = db.user("ana");
        ana.run("INSERT INTO t VALUES (1, 10, 'a')").await;
        let mut live = Live::of(&ana, "SUBSCRIBE SELECT id, n FROM t").ready().await;
        db.admin().run("ALTER TABLE t DROP COLUMN n; ALTER TABLE t ADD COLUMN n BIGINT").await;
        let (reason, _) = live.end().await;
        assert!([Reason::ColumnNotFound, Reason::SchemaChanged].contains(&reason), "{reason:?}");
    }
}

/// Between `subscribe` and the first look at it.
#[tokio::test]
async fn a_table_that_changes_before_the_rows_are_read() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    ana.run("INSERT INTO t VALUES (1, 1, 'a')").await;
    let mut named = Live::of(&ana, "SUBSCRIBE SELECT id FROM t");
    let mut all = Live::of(&ana, "SUBSCRIBE TO t");
    admin.run("ALTER TABLE t ADD COLUMN later TEXT").await;
    ana.run("INSERT INTO t VALUES (2, 2, 'b', 'x')").await;
    let mut rows = named.rows().await;
    rows.sort();
    assert_eq!(rows, table(&[["1"], ["2"]]));
    ana.run("INSERT INTO t VALUES (3, 3, 'c', 'x')").await;
    assert_eq!(named.commit().await, ["+ 3"]);
    // It may give the rows with the columns it began with, or end at once; but it ends, and never gives others.
    loop {
        match all.next().await {
            Seen::Rows(rows) => assert!(rows.iter().all(|row| row.len() == 3), "{rows:?}"),
            Seen::Ready { .. } | Seen::Progress { .. } => {}
            Seen::Ended { reason, .. } => break assert_eq!(reason, Reason::SchemaChanged),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_table_with_live_queries_is_not_dropped() {
    let db = db().await;
    let (ana, admin) = (db.user("ana"), db.admin());
    let first = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
    // One that is not looked at yet counts too.
    let second = Live::of(&db.user("bob"), "SUBSCRIBE SELECT id FROM t");
    for sql in ["DROP TABLE t", "DROP TABLE IF EXISTS t", "DROP TABLE app.t"] {
        let error = admin.fails(Reason::TableHasLiveQueries, sql).await;
        assert!(error.message().contains('2'), "{error}");
    }
    drop(second);
    let error = admin.fails(Reason::TableHasLiveQueries, "DROP TABLE t").await;
    assert!(error.message().contains('1'), "{error}");
    drop(first);
    admin.run("DROP TABLE t").await;
    // The same name again is another table.
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    let mut live = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
    ana.run("INSERT INTO t VALUES (1)").await;
    assert_eq!(live.commit().await, ["+ 1"]);
}

/// Dropping against subscribing: whoever comes too late is told, and nothing hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropping_races_with_subscribing() {
    let db = db().await;
    for round in 0..100 {
        db.admin().run("CREATE USER TABLE gone (id BIGINT PRIMARY KEY)").await;
        let ana = db.user("ana");
        ana.run("INSERT INTO gone VALUES (1)").await;
        let admin = db.admin();
        let dropping = tokio::spawn(async move { admin.try_run("DROP TABLE gone").await });
        if round % 3 == 0 {
            tokio::task::yield_now().await;
        }
        let opened = Live::try_open(&ana, request("SUBSCRIBE TO gone"));
        let dropped = dropping.await.unwrap();
        match (opened, &dropped) {
            (Err(error), Ok(_)) => assert_eq!(error.reason(), Reason::TableNotFound, "{error}"),
            (Err(error), Err(_)) => panic!("neither: {error}"),
            (Ok(mut live), Err(error)) => {
                assert_eq!(error.reason(), Reason::TableHasLiveQueries, "{error}");
                assert_eq!(live.rows().await, table(&[["1"]]));
            }
            // It was let in when the table was already going: then it ends.
            (Ok(mut live), Ok(_)) => {
                let ended = async {
                    loop {
                        if let Seen::Ended { reason, .. } = live.next().await {
                            break reason;
                        }
                    }
                };
                assert_eq!(tokio::time::timeout(LIMIT, ended).await.unwrap(), Reason::TableNotFound);
            }
        }
        if dropped.is_err() {
            db.admin().run("DROP TABLE gone").await;
        }
    }
}
