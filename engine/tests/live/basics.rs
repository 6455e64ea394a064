//! What arrives: rows, then changes.

use std::time::{Duration, Instant};

use kalamdb_engine::{InitialRows, LiveEvent, LiveOptions, LiveQueryRequest, Role};

use super::{LIMIT, Live, Seen, db, eventually, request, seen};
use crate::harness::{NOW_US, int, table, text};

#[tokio::test]
async fn rows_and_then_changes() {
    let db = db().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b')").await;
    let mut live = Live::of(&ana, "SUBSCRIBE TO t");
    let names: Vec<String> = live.query.columns().iter().map(|c| c.name.to_string()).collect();
    assert_eq!(names, ["id", "n", "name"]);
    assert_eq!(live.query.schema().fields().len(), 3);
    let mut rows = live.rows().await;
    rows.sort();
    assert_eq!(rows, table(&[["1", "10", "a"], ["2", "20", "b"]]));
    ana.run("INSERT INTO t VALUES (3, NULL, 'c')").await;
    assert_eq!(live.commit().await, ["+ 3 | NULL | c"]);
    ana.run("UPDATE t SET name = 'A' WHERE id = 1").await;
    assert_eq!(live.commit().await, ["~ 1 | 10 | a -> 1 | 10 | A"]);
    ana.run("DELETE FROM t WHERE id = 2").await;
    assert_eq!(live.commit().await, ["- 2 | 20 | b"]);
    ana.run("INSERT INTO t VALUES (3, 5, 'd') ON CONFLICT (id) DO UPDATE SET n = excluded.n").await;
    assert_eq!(live.commit().await, ["~ 3 | NULL | c -> 3 | 5 | c"]);
    // Written again just as it was: a change all the same.
    ana.run("UPDATE t SET n = 5 WHERE id = 3").await;
    assert_eq!(live.commit().await, ["~ 3 | 5 | c -> 3 | 5 | c"]);
    // Without effect: none.
    ana.run("INSERT INTO t VALUES (3, 6, 'd') ON CONFLICT DO NOTHING").await;
    ana.run("UPDATE t SET n = 0 WHERE id = 99").await;
    live.is_quiet(&db).await;
}

#[tokio::test]
async fn rows_come_and_go_as_they_match() {
    let db = db().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t VALUES (1, 5, 'a'), (2, 15, 'b')").await;
    let mut live = Live::of(&ana, "SUBSCRIBE SELECT id, n FROM t WHERE n > 10");
    assert_eq!(live.rows().await, table(&[["2", "15"]]));
    ana.run("UPDATE t SET n = 11 WHERE id = 1").await;
    assert_eq!(live.commit().await, ["+ 1 | 11"]);
    ana.run("UPDATE t SET n = 12 WHERE id = 1").await;
    assert_eq!(live.commit().await, ["~ 1 | 11 -> 1 | 12"]);
    ana.run("UPDATE t SET n = NULL WHERE id = 1").await;
    assert_eq!(live.commit().await, ["- 1 | 12"]);
    ana.run("UPDATE t SET n = 3 WHERE id = 1").await;
    ana.run("DELETE FROM t WHERE id = 1").await;
    ana.run("INSERT INTO t VALUES (3, 10, 'c')").await;
    // What is not shown has changed, but the row was written.
    ana.run("UPDATE t SET name = 'B' WHERE id = 2").await;
    assert_eq!(live.commit().await, ["~ 2 | 15 -> 2 | 15"]);
    ana.run("DELETE FROM t").await;
    assert_eq!(live.commit().await, ["- 2 | 15"]);
    live.is_quiet(&db).await;
}

#[tokio::test]
async fn equalities_are_told_of_rows_that_come_and_go() {
    let db = db().await;
    let ana = db.user("ana");
    let mut red = Live::of(&ana, "SUBSCRIBE SELECT id FROM t WHERE name = 'red'").ready().await;
    let mut blue = Live::of(&ana, "SUBSCRIBE SELECT id FROM t WHERE name = 'blue'").ready().await;
    let mut one = Live::of(&ana, "SUBSCRIBE SELECT name FROM t WHERE id = 1").ready().await;
    let mut both = Live::of(&ana, "SUBSCRIBE SELECT id FROM t WHERE name = 'red' AND n > 5").ready().await;
    ana.run("INSERT INTO t VALUES (1, 1, 'red'), (2, 9, 'red'), (3, 9, NULL)").await;
    assert_eq!(red.commit().await, ["+ 1", "+ 2"]);
    assert_eq!(both.commit().await, ["+ 2"]);
    assert_eq!(one.commit().await, ["+ red"]);
    ana.run("UPDATE t SET name = 'blue' WHERE id < 3").await;
    assert_eq!(red.commit().await, ["- 1", "- 2"]);
    assert_eq!(blue.commit().await, ["+ 1", "+ 2"]);
    assert_eq!(both.commit().await, ["- 2"]);
    assert_eq!(one.commit().await, ["~ red -> blue"]);
    ana.run("UPDATE t SET name = NULL").await;
    assert_eq!(blue.commit().await, ["- 1", "- 2"]);
    assert_eq!(one.commit().await, ["~ blue -> NULL"]);
    for live in [&mut red, &mut blue, &mut one, &mut both] {
        live.is_quiet(&db).await;
    }
}

#[tokio::test]
async fn which_rows_come_first() {
    let db = db().await;
    let ana = db.user("ana");
    for (id, n) in [(5, 1), (3, 2), (9, 3), (1, 4)] {
        ana.run(format!("INSERT INTO t VALUES ({id}, {n}, 'a')")).await;
    }
    ana.run("UPDATE t SET n = 7 WHERE id = 3").await;
    let begin = async |initial_rows| {
        let options = LiveOptions { initial_rows, ..LiveOptions::default() };
        Live::with(&ana, "SUBSCRIBE SELECT id, n FROM t WHERE n < 100", options).rows().await
    };
    let by_time = table(&[["5", "1"], ["9", "3"], ["1", "4"], ["3", "7"]]);
    for last in [0, 1, 2, 3, 4, 5, 1_000, u64::from(u32::MAX), u64::MAX] {
        let from = 4_usize.saturating_sub(usize::try_from(last).unwrap_or(usize::MAX));
        assert_eq!(begin(InitialRows::Last(last)).await, by_time[from..], "the last {last}");
    }
    assert!(begin(InitialRows::None).await.is_empty());
    let mut all = begin(InitialRows::All).await;
    all.sort();
    assert_eq!(all, table(&[["1", "4"], ["3", "7"], ["5", "1"], ["9", "3"]]));
    // Hidden columns that the order needs are not among those of `*`.
    let options = LiveOptions { initial_rows: InitialRows::Last(1), ..LiveOptions::default() };
    let mut live = Live::with(&ana, "SUBSCRIBE TO t", options);
    assert_eq!(live.query.columns().len(), 3);
    assert_eq!(live.rows().await, table(&[["3", "7", "a"]]));
    // A row that was not among the first can change.
    ana.run("UPDATE t SET n = 8 WHERE id = 5").await;
    assert_eq!(live.commit().await, ["~ 5 | 1 | a -> 5 | 8 | a"]);
}

#[tokio::test]
async fn many_first_rows_come_in_parts() {
    let db = db().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t SELECT value, value, 'row ' || value FROM generate_series(1, 30000)").await;
    let mut live = Live::of(&ana, "SUBSCRIBE TO t");
    let mut parts = 0;
    let mut ids = Vec::new();
    loop {
        match live.next().await {
            Seen::Rows(rows) => {
                parts += 1;
                ids.extend(rows.into_iter().map(|row| row[0].parse::<i64>().unwrap()));
            }
            Seen::Ready { row_count, .. } => {
                assert_eq!(row_count, 30_000);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(parts > 1);
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(1..=30_000));
}

#[tokio::test]
async fn what_a_query_shows() {
    let db = db().await;
    let ana = db.user("ana");
    let sql = "SUBSCRIBE SELECT upper(name) AS big, n * 2 AS twice, CASE WHEN n > 5 THEN 'much' ELSE 'little' END, \
               x.id, x.n IS NULL FROM app.t AS x WHERE x.id > 0";
    let mut live = Live::of(&ana, sql).ready().await;
    let names: Vec<String> = live.query.columns().iter().take(2).map(|c| c.name.to_string()).collect();
    assert_eq!(names, ["big", "twice"]);
    ana.run("INSERT INTO t VALUES (1, 3, 'a')").await;
    assert_eq!(live.commit().await, ["+ A | 6 | little | 1 | false"]);
    ana.run("UPDATE t SET n = NULL, name = NULL").await;
    assert_eq!(live.commit().await, ["~ A | 6 | little | 1 | false -> NULL | NULL | little | 1 | true"]);
    ana.run("UPDATE t SET n = 50").await;
    assert_eq!(live.commit().await, ["~ NULL | NULL | little | 1 | true -> NULL | 100 | much | 1 | false"]);
    // The names of a SELECT.
    let of_select = ana.run("SELECT n + 1, upper(name), count(*) OVER () FROM t").await.columns;
    let live = Live::of(&ana, "SUBSCRIBE SELECT n + 1, upper(name) FROM t");
    let names = |columns: &[kalamdb_engine::ResultColumn]| {
        columns.iter().take(2).map(|c| c.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(live.query.columns()), names(&of_select));
}

#[tokio::test]
async fn hidden_columns() {
    let db = db().await;
    let ana = db.user("ana");
    let first = ana.run("INSERT INTO t VALUES (1, 1, 'a')").await.commit_seq.unwrap();
    let mut live = Live::of(&ana, "SUBSCRIBE SELECT id, _seq, _updated, _deleted FROM t WHERE NOT _deleted");
    let at = |us: i64| format!("2026-01-02T03:04:05.{:06}Z", us + 6);
    assert_eq!(live.rows().await, [[String::from("1"), first.to_string(), at(0), String::from("false")]]);
    db.env.advance_us(10);
    let second = ana.run("UPDATE t SET n = 2").await.commit_seq.unwrap();
    let (was, is) = (format!("1 | {first} | {}", at(0)), format!("1 | {second} | {}", at(10)));
    assert_eq!(live.commit().await, [format!("~ {was} | false -> {is} | false")]);
    db.env.advance_us(10);
    ana.run("DELETE FROM t").await;
    // The row as it was, but that it is gone.
    assert_eq!(live.commit().await, [format!("- {is} | true")]);
    // One that no longer matches is gone from the result, not from the table; a DELETE says the same of both.
    let mut few = Live::of(&ana, "SUBSCRIBE SELECT id, _deleted FROM t WHERE n < 5").ready().await;
    ana.run("INSERT INTO t VALUES (2, 1, 'a')").await;
    assert_eq!(few.commit().await, ["+ 2 | false"]);
    ana.run("UPDATE t SET n = 9").await;
    assert_eq!(few.commit().await, ["- 2 | true"]);
    // They are not among those of `*`.
    assert_eq!(Live::of(&ana, "SUBSCRIBE SELECT *, _seq FROM t").query.columns().len(), 4);
}

#[tokio::test]
async fn without_the_rows_as_they_were() {
    let db = db().await;
    let ana = db.user("ana");
    let options = LiveOptions { before_images: false, ..LiveOptions::default() };
    let mut live = Live::with(&ana, "SUBSCRIBE SELECT id, n FROM t WHERE n > 0", options).ready().await;
    ana.run("INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b')").await;
    assert_eq!(live.commit().await, ["+ 1 | 1", "+ 2 | 2"]);
    ana.run("UPDATE t SET n = n + 1 WHERE id = 1").await;
    assert_eq!(live.commit().await, ["~ -> 1 | 2"]);
    ana.run("UPDATE t SET n = 0 WHERE id = 1").await;
    assert_eq!(live.commit().await, ["- 1 | 2"]);
    ana.run("DELETE FROM t WHERE id = 2").await;
    assert_eq!(live.commit().await, ["- 2 | 2"]);
}

#[tokio::test]
async fn a_commit_arrives_as_one() {
    let db = db().await;
    let ana = db.user("ana");
    let mut live = Live::of(&ana, "SUBSCRIBE SELECT id FROM t").ready().await;
    ana.run("INSERT INTO t SELECT value, value, 'x' FROM generate_series(1, 3000)").await;
    let commit = live.commit().await;
    assert_eq!(commit.len(), 3_000);
    assert_eq!(ana.run("UPDATE t SET n = 0 WHERE id <= 700").await.row_count, 700);
    assert_eq!(live.commit().await.len(), 700);
    // Two statements are two commits, in their order.
    ana.run("DELETE FROM t WHERE id = 1; DELETE FROM t WHERE id = 2").await;
    assert_eq!(live.commit().await, ["- 1"]);
    let first = live.at;
    assert_eq!(live.commit().await, ["- 2"]);
    assert!(live.at > first);
}

#[tokio::test]
async fn what_a_commit_says_of_itself() {
    let db = db().await;
    let ana = db.user("ana");
    let mut live = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
    db.env.advance_us(77);
    let written = ana.run("INSERT INTO t VALUES (42, 1, 'a')").await.commit_seq.unwrap();
    let Some(LiveEvent::Changes(commits)) = live.query.next().await else { panic!("changes were expected") };
    assert_eq!(commits.len(), 1);
    let commit = &commits[0];
    assert_eq!((commit.commit_seq, commit.commit_time_us, commit.merged), (written, NOW_US + 77, false));
    assert_eq!(commit.changes[0].key.to_i64().unwrap(), 42);
    // What it becomes on the wire is made once.
    let first = commit.encoded(|_| bytes::Bytes::from_static(b"once"));
    assert_eq!(first, commit.encoded(|_| panic!("made again")));
}

#[tokio::test]
async fn parameters_have_their_values() {
    let db = db().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t VALUES (1, 5, 'a'), (2, 6, 'b')").await;
    let sql = "SUBSCRIBE SELECT id, name || $2 FROM t WHERE n >= $1";
    let mut live = Live::with_parameters(&ana, sql, &[int(6), text("!")]);
    assert_eq!(live.rows().await, table(&[["2", "b!"]]));
    ana.run("UPDATE t SET n = n + 1").await;
    assert_eq!(live.commit().await, ["+ 1 | a!", "~ 2 | b! -> 2 | b!"]);
    // The same text with other values is another query.
    let mut other = Live::with_parameters(&ana, sql, &[int(7), text("?")]);
    assert_eq!(other.rows().await, table(&[["2", "b?"]]));
    ana.run("UPDATE t SET n = 100 WHERE id = 1").await;
    assert_eq!(live.commit().await, ["~ 1 | a! -> 1 | a!"]);
    assert_eq!(other.commit().await, ["+ 1 | a?"]);
}

#[tokio::test]
async fn subscribers_share_and_do_not_disturb_each_other() {
    let db = db().await;
    let ana = db.user("ana");
    let mut lives = Vec::new();
    for i in 0..40 {
        let sql = ["SUBSCRIBE TO t WHERE n > 1", "SUBSCRIBE SELECT * FROM t WHERE n > 1", "SUBSCRIBE TO t"][i % 3];
        let options = LiveOptions { before_images: i % 2 == 0, ..LiveOptions::default() };
        lives.push((Live::with(&ana, sql, options).ready().await, i));
    }
    assert_eq!(db.engine().live_counters().active, 40);
    ana.run("INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b')").await;
    for (live, i) in &mut lives {
        let expected: &[&str] = if *i % 3 == 2 { &["+ 1 | 1 | a", "+ 2 | 2 | b"] } else { &["+ 2 | 2 | b"] };
        assert_eq!(live.commit().await, expected);
    }
    // Half of them go; the others stay.
    lives.retain(|(_, i)| i % 4 < 2);
    assert_eq!(db.engine().live_counters().active, 20);
    ana.run("UPDATE t SET name = 'c' WHERE id = 2").await;
    for (live, i) in &mut lives {
        let expected = if *i % 2 == 0 { "~ 2 | 2 | b -> 2 | 2 | c" } else { "~ -> 2 | 2 | c" };
        assert_eq!(live.commit().await, [expected]);
    }
    drop(lives);
    let counters = db.engine().live_counters();
    assert_eq!((counters.active, counters.partitions, counters.queued_bytes), (0, 0, 0));
    // The next one begins again.
    let mut live = Live::of(&ana, "SUBSCRIBE TO t WHERE n > 1").ready().await;
    ana.run("DELETE FROM t").await;
    assert_eq!(live.commit().await, ["- 2 | 2 | c"]);
}

#[tokio::test]
async fn a_user_sees_no_other_users_changes() {
    let db = db().await;
    let names = ["ana", "../ana", "an", "émile\0"];
    let mut lives = Vec::new();
    for name in names {
        db.user(name).run(format!("INSERT INTO t VALUES (1, 0, '{}')", name.replace('\0', "0"))).await;
        lives.push(Live::of(&db.user(name), "SUBSCRIBE SELECT id, n, current_user() = 'ana' FROM t"));
    }
    let bool_of = |name: &str| (name == "ana").to_string();
    for (live, name) in lives.iter_mut().zip(names) {
        assert_eq!(live.rows().await, [[String::from("1"), String::from("0"), bool_of(name)]]);
    }
    for (n, name) in (1..).zip(names) {
        db.user(name).run(format!("UPDATE t SET n = {n}")).await;
    }
    for (n, (live, name)) in (1..).zip(lives.iter_mut().zip(names)) {
        let is_ana = bool_of(name);
        assert_eq!(live.commit().await, [format!("~ 1 | 0 | {is_ana} -> 1 | {n} | {is_ana}")]);
        live.is_quiet(&db).await;
    }
}

#[tokio::test]
async fn who_acts_for_a_user_sees_that_users_rows() {
    let db = db().await;
    let (ana, service) = (db.user("ana"), db.acting(Role::Service, "ana"));
    let mut plain = Live::of(&service, "SUBSCRIBE TO t").ready().await;
    let mut explicit = Live::of(&service, "SUBSCRIBE SELECT id FROM app.user.t WHERE id > 0").ready().await;
    db.user("operator").run("INSERT INTO t VALUES (9, 9, 'not of ana')").await;
    ana.run("INSERT INTO t VALUES (1, 1, 'a')").await;
    assert_eq!(plain.commit().await, ["+ 1 | 1 | a"]);
    assert_eq!(explicit.commit().await, ["+ 1"]);
    let infos = service.session.live_queries().unwrap();
    assert!(infos.iter().all(|info| info.user_id.as_str() == "ana"), "{infos:?}");
    assert_eq!(ana.session.live_queries().unwrap().len(), 2);
}

#[tokio::test]
async fn progress_comes_every_second() {
    let db = db().await;
    let ana = db.user("ana");
    let mut live = Live::of(&ana, "SUBSCRIBE TO t WHERE n = 1").ready().await;
    let mut at = live.at;
    // Other users and rows that do not concern it move it on all the same.
    for round in 0..3 {
        db.user("bob").run(format!("INSERT INTO t VALUES ({round}, 1, 'b')")).await;
        let last = ana.run(format!("INSERT INTO t VALUES ({round}, 2, 'a')")).await.commit_seq.unwrap().get();
        let began = Instant::now();
        while live.at < last {
            let began = Instant::now();
            let Seen::Progress { seq, .. } = live.next().await else { panic!("progress was expected") };
            assert!(began.elapsed() < Duration::from_millis(2_500), "progress took {:?}", began.elapsed());
            assert!(seq >= at);
            at = seq;
            assert!(began.elapsed() < LIMIT);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "the token is not kept fresh");
    }
    // Its token goes on from there.
    let token = live.token();
    drop(live);
    ana.run("INSERT INTO t VALUES (9, 1, 'a')").await;
    let mut live = Live::resumed(&ana, "SUBSCRIBE TO t WHERE n = 1", &token);
    assert!(live.rows().await.is_empty());
    assert_eq!(live.commit().await, ["+ 9 | 1 | a"]);
}

/// Under changes of the partition that do not concern it, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_comes_in_a_busy_partition() {
    let db = db().await;
    let ana = db.user("ana");
    let mut live = Live::of(&ana, "SUBSCRIBE TO t WHERE n = -1").ready().await;
    let busy = {
        let ana = ana.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            for n in 0.. {
                ana.run(format!("INSERT INTO t VALUES (1, {n}, 'a') ON CONFLICT (id) DO UPDATE SET n = excluded.n"))
                    .await;
                if began.elapsed() > Duration::from_secs(4) {
                    return;
                }
            }
        })
    };
    let began = live.at;
    let mut seen = Vec::new();
    while !busy.is_finished() {
        let waited = Instant::now();
        let Seen::Progress { seq, .. } = live.next().await else { panic!("progress was expected") };
        assert!(waited.elapsed() < Duration::from_millis(2_500), "progress took {:?}", waited.elapsed());
        seen.push(seq);
    }
    busy.await.unwrap();
    assert!(seen.last().is_some_and(|last| *last > began), "tokens grow old in a busy partition: {began} {seen:?}");
}

/// A future that is dropped takes no event with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_can_be_given_up() {
    let db = db().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t SELECT value, value, 'x' FROM generate_series(1, 20000)").await;
    let writer = {
        let ana = ana.clone();
        tokio::spawn(async move {
            for id in 0..300 {
                ana.run(format!("INSERT INTO t VALUES ({}, 1, 'y')", 100_000 + id)).await;
            }
        })
    };
    let mut live = ana.session.subscribe(request("SUBSCRIBE SELECT id FROM t")).unwrap();
    let mut ids = Vec::new();
    let began = Instant::now();
    while ids.len() < 20_300 {
        let Ok(event) = tokio::time::timeout(Duration::from_micros(300), live.next()).await else {
            assert!(began.elapsed() < LIMIT, "{} rows came", ids.len());
            continue;
        };
        for seen in seen(&event.unwrap(), u64::MAX) {
            match seen {
                Seen::Rows(rows) => ids.extend(rows),
                Seen::Commit { changes, .. } => ids.extend(changes.into_iter().map(|change| change.new.unwrap())),
                _ => {}
            }
        }
    }
    writer.await.unwrap();
    let mut ids: Vec<i64> = ids.into_iter().map(|row| row[0].parse().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq((1..=20_000).chain(100_000..100_300)));
}

#[tokio::test]
async fn dropping_frees_at_any_moment() {
    let db = db().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t SELECT value, value, 'x' FROM generate_series(1, 20000)").await;
    // Never looked at; among the rows; ready; following.
    drop(Live::of(&ana, "SUBSCRIBE TO t"));
    let mut live = Live::of(&ana, "SUBSCRIBE TO t");
    assert!(matches!(live.next().await, Seen::Rows(_)));
    drop(live);
    drop(Live::of(&ana, "SUBSCRIBE TO t").ready().await);
    let mut live = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
    ana.run("DELETE FROM t WHERE id = 1").await;
    assert_eq!(live.commit().await, ["- 1 | 1 | x"]);
    ana.run("DELETE FROM t WHERE id = 2").await;
    drop(live);
    eventually("everything is freed", async || {
        let counters = db.engine().live_counters();
        (counters.active, counters.partitions, counters.queued_bytes) == (0, 0, 0)
    })
    .await;
    assert!(ana.session.live_queries().unwrap().is_empty());
    db.admin().run("DROP TABLE t").await;
}

#[tokio::test]
async fn what_is_known_of_a_live_query() {
    let db = db().await;
    let ana = db.user("ana");
    let options = LiveOptions { initial_rows: InitialRows::Last(3), max_batch_delay_ms: 5, ..LiveOptions::default() };
    let asked = LiveQueryRequest { parameters: vec![int(0)], options, ..request("SUBSCRIBE  to T\n where N > $1") };
    let mut live = Live::open(&ana, asked).ready().await;
    ana.run("INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b')").await;
    live.commit().await;
    live.query.note_sent(1_000);
    let infos = ana.session.live_queries().unwrap();
    let [info] = infos.as_slice() else { panic!("{infos:?}") };
    assert_eq!((info.id, info.user_id.as_str()), (live.query.id(), "ana"));
    assert_eq!((info.namespace.as_str(), info.table.as_str()), ("app", "t"));
    assert!(info.query.contains("$1"), "{}", info.query);
    assert_eq!((info.changes, info.bytes_sent, info.created_at_us), (2, 1_000, NOW_US));
    assert!(info.bytes_per_second > 0.0);
    assert_eq!(info.position.get(), live.at);
    assert_eq!((info.queued_commits, info.queued_bytes), (0, 0));
    for part in ["last_rows", "3", "max_batch_delay_ms", "5", "disconnect"] {
        assert!(info.options.contains(part), "{part} in {}", info.options);
    }
    // Others do not see it, operators do.
    assert!(db.user("bob").session.live_queries().unwrap().is_empty());
    for role in [Role::Dba, Role::System] {
        assert_eq!(db.role(role).session.live_queries().unwrap().len(), 1);
    }
}
