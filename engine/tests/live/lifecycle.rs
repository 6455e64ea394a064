//! How live queries end, and how many there may be.

use std::time::{Duration, Instant};

use kalamdb_engine::{EngineSettings, LiveQueryId, Reason, Role};

use super::{Live, Seen, db, eventually, request, with_table};
use crate::harness::{Client, Db, table};

#[tokio::test]
async fn kill_ends_with_its_reason() {
    let db = db().await;
    let ana = db.user("ana");
    let statement =
        async |client: &Client, id: LiveQueryId| client.try_run(format!("KILL LIVE QUERY {id}")).await.map(drop);
    let quoted =
        async |client: &Client, id: LiveQueryId| client.try_run(format!("kill live query '{id}'")).await.map(drop);
    let call = async |client: &Client, id: LiveQueryId| client.session.kill_live_query(id);
    for (client, way) in
        [(ana.clone(), 0), (db.role(Role::Dba), 1), (db.admin(), 2), (db.acting(Role::Service, "ana"), 2)]
    {
        let mut live = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
        let mut other = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
        let id = live.query.id();
        let began = Instant::now();
        match way {
            0 => statement(&client, id).await.unwrap(),
            1 => quoted(&client, id).await.unwrap(),
            _ => call(&client, id).await.unwrap(),
        }
        let (reason, token) = live.end().await;
        assert_eq!(reason, Reason::LiveQueryKilled);
        assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
        assert_eq!(token, Some(live.token()), "it can be resumed");
        // Once is enough.
        for outcome in [statement(&client, id).await, quoted(&client, id).await, call(&client, id).await] {
            assert_eq!(outcome.unwrap_err().reason(), Reason::LiveQueryNotFound);
        }
        ana.run("INSERT INTO t VALUES (1, 1, 'a') ON CONFLICT (id) DO UPDATE SET n = t.n + 1").await;
        assert_eq!(other.commit().await.len(), 1, "others go on");
    }
}

#[tokio::test]
async fn nobody_kills_or_learns_of_another_users_queries() {
    let db = db().await;
    let (ana, bob) = (db.user("ana"), db.user("bob"));
    let mut live = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
    let (id, none) = (live.query.id(), LiveQueryId(12));
    let text = |id: LiveQueryId, error: &kalamdb_engine::Error| error.to_string().replace(&id.to_string(), "?");
    for client in [bob, db.acting(Role::Service, "bob")] {
        let of_ana = client.fails(Reason::LiveQueryNotFound, format!("KILL LIVE QUERY {id}")).await;
        let of_nobody = client.fails(Reason::LiveQueryNotFound, format!("KILL LIVE QUERY {none}")).await;
        assert_eq!(text(id, &of_ana), text(none, &of_nobody));
        assert_eq!(client.session.kill_live_query(id).unwrap_err().reason(), Reason::LiveQueryNotFound);
    }
    for sql in
        ["KILL LIVE QUERY", "KILL LIVE QUERY x", "KILL LIVE QUERY -1", "KILL LIVE QUERY 1.5", "KILL LIVE QUERY 1 2"]
    {
        db.admin().try_run(sql).await.expect_err(sql);
    }
    live.is_quiet(&db).await;
}

#[tokio::test]
async fn kill_ends_at_any_moment() {
    let db = db().await;
    let ana = db.user("ana");
    ana.run("INSERT INTO t SELECT value, value, 'x' FROM generate_series(1, 50000)").await;
    // Before anything, and among the rows: there is nothing to resume yet.
    for looks in [0, 1] {
        let mut live = Live::of(&ana, "SUBSCRIBE TO t");
        for _ in 0..looks {
            assert!(matches!(live.next().await, Seen::Rows(_)));
        }
        ana.session.kill_live_query(live.query.id()).unwrap();
        assert_eq!(live.end().await, (Reason::LiveQueryKilled, None));
    }
    // With changes that wait: they come again to whoever resumes.
    let mut live = Live::of(&ana, "SUBSCRIBE SELECT id FROM t WHERE id < 10").ready().await;
    ana.run("DELETE FROM t WHERE id = 1").await;
    assert_eq!(live.commit().await, ["- 1"]);
    ana.run("DELETE FROM t WHERE id = 2").await;
    eventually("the change waits", async || ana.session.live_queries().unwrap()[0].queued_commits == 1).await;
    ana.session.kill_live_query(live.query.id()).unwrap();
    let (_, token) = live.end().await;
    let mut live = Live::resumed(&ana, "SUBSCRIBE SELECT id FROM t WHERE id < 10", &token.unwrap());
    assert!(live.rows().await.is_empty());
    assert_eq!(live.commit().await, ["- 2"]);
    assert_eq!(db.engine().live_counters().active, 1);
}

#[tokio::test]
async fn shutdown_ends_with_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = with_table(Db::on_disk(dir.path()).await).await;
    let mut tokens = Vec::new();
    {
        let ana = db.user("ana");
        ana.run("INSERT INTO t VALUES (1, 1, 'a')").await;
        let mut following = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
        let mut beginning = Live::of(&ana, "SUBSCRIBE TO t");
        db.engine().end_live_queries();
        let (reason, token) = following.end().await;
        assert_eq!((reason, &token), (Reason::ShuttingDown, &Some(following.token())));
        tokens.push(token.unwrap());
        assert_eq!(beginning.end().await, (Reason::ShuttingDown, None));
        // Nobody else is let in, everything else goes on.
        let refused = Live::try_open(&ana, request("SUBSCRIBE TO t")).err().expect("it shuts down");
        assert_eq!(refused.reason(), Reason::ShuttingDown);
        ana.run("INSERT INTO t VALUES (2, 2, 'b')").await;
    }
    db.close();
    db.reopen();
    let ana = db.user("ana");
    let mut live = Live::resumed(&ana, "SUBSCRIBE TO t", &tokens[0]);
    assert!(live.rows().await.is_empty());
    assert_eq!(live.commit().await, ["+ 2 | 2 | b"]);
    // Closing at once says the same.
    let mut others = [Live::of(&ana, "SUBSCRIBE TO t"), Live::of(&ana, "SUBSCRIBE TO t").ready().await];
    db.engine().close();
    for live in others.iter_mut().chain([&mut live]) {
        assert_eq!(live.end().await.0, Reason::ShuttingDown);
    }
}

#[tokio::test]
async fn there_are_only_so_many() {
    let mut settings = EngineSettings::default();
    settings.live.max_queries = 5;
    settings.live.max_queries_per_user = 3;
    let db = with_table(Db::with(settings).await).await;
    let (ana, bob) = (db.user("ana"), db.user("bob"));
    let refused = |client: &Client| {
        let error = Live::try_open(client, request("SUBSCRIBE TO t")).err().expect("too many");
        assert_eq!(error.reason(), Reason::TooManyLiveQueries);
        error.metadata().get("limit").cloned().unwrap_or_default()
    };
    let of_ana: Vec<Live> = (0..3).map(|_| Live::of(&ana, "SUBSCRIBE TO t")).collect();
    assert_eq!(refused(&ana), "live.max_queries_per_user");
    assert_eq!(refused(&db.acting(Role::Service, "ana")), "live.max_queries_per_user");
    let mut of_bob: Vec<Live> = (0..2).map(|_| Live::of(&bob, "SUBSCRIBE TO t")).collect();
    assert_eq!(refused(&bob), "live.max_queries");
    assert_eq!(refused(&db.user("eve")), "live.max_queries");
    drop(of_ana);
    // One that has ended no longer counts, though it is still held.
    let live = &mut of_bob[0];
    bob.session.kill_live_query(live.query.id()).unwrap();
    assert_eq!(live.end().await.0, Reason::LiveQueryKilled);
    let _more: Vec<Live> = (0..2).map(|_| Live::of(&bob, "SUBSCRIBE TO t")).collect();
    assert_eq!(refused(&bob), "live.max_queries_per_user");
    assert_eq!(db.engine().live_counters().active, 3);
    assert_eq!(ana.session.live_queries().unwrap().len(), 0);
}

#[tokio::test]
async fn an_expression_that_fails_ends_only_its_own_query() {
    let db = db().await;
    let ana = db.user("ana");
    let mut divides = Live::of(&ana, "SUBSCRIBE SELECT id, 10 / n FROM t").ready().await;
    let mut filters = Live::of(&ana, "SUBSCRIBE SELECT id FROM t WHERE 10 / n > 1").ready().await;
    let mut overflows = Live::of(&ana, "SUBSCRIBE SELECT id, n + 9223372036854775807 FROM t WHERE n > 0").ready().await;
    let mut plain = Live::of(&ana, "SUBSCRIBE SELECT id FROM t").ready().await;
    ana.run("INSERT INTO t VALUES (1, -1, 'a')").await;
    assert_eq!(divides.commit().await, ["+ 1 | -10"]);
    ana.run("INSERT INTO t VALUES (2, 0, 'a')").await;
    for live in [&mut divides, &mut filters] {
        let (reason, token) = live.end().await;
        assert_ne!(reason, Reason::Internal);
        // Whoever resumed would meet the same change again.
        assert_eq!(token, None);
    }
    ana.run("INSERT INTO t VALUES (3, 5, 'a')").await;
    assert_ne!(overflows.end().await.0, Reason::Internal);
    assert_eq!(plain.commit().await, ["+ 1"]);
    assert_eq!(plain.commit().await, ["+ 2"]);
    assert_eq!(plain.commit().await, ["+ 3"]);
    // Among the first rows, too.
    let mut live = Live::of(&ana, "SUBSCRIBE SELECT 10 / n FROM t");
    assert_ne!(live.end().await.0, Reason::Internal);
    assert_eq!(db.engine().live_counters().active, 1);
}

/// The threads that deal out changes survive whatever is asked of them.
#[tokio::test]
async fn thousands_of_queries_come_and_go() {
    let db = db().await;
    let ana = db.user("ana");
    let mut kept = Vec::new();
    for i in 0..3_000 {
        let live = Live::of(&ana, &format!("SUBSCRIBE TO t WHERE id = {}", i % 500));
        if i % 10 == 0 {
            kept.push((live.ready().await, i % 500));
        }
    }
    ana.run("INSERT INTO t SELECT value, value, 'x' FROM generate_series(0, 499)").await;
    for (live, id) in &mut kept {
        assert_eq!(live.commit().await, [format!("+ {id} | {id} | x")]);
    }
    assert_eq!(db.engine().live_counters().active, 300);
    drop(kept);
    let counters = db.engine().live_counters();
    assert_eq!((counters.active, counters.partitions), (0, 0));
    assert_eq!(ana.rows("SELECT count(*) FROM t").await, table(&[["500"]]));
}
