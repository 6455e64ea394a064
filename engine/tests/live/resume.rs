//! Resuming: exactly behind what was processed, or an explicit reset.

use std::sync::Arc;

use kalamdb_engine::{
    Caller, Engine, EngineSettings, FixedEnv, InitialRows, LiveOptions, LiveQueryRequest, Reason, Request, Role,
    StorageSettings,
};

use super::{Live, Seen, coalescing, db, request, with_table};
use crate::harness::{Db, NOW_US, int, small, table, user_id};

/// Settings under which [`forget`] forgets.
fn forgetful() -> EngineSettings {
    let mut settings = small();
    settings.live.log_retention_bytes = 20_000;
    settings
}

/// Writes so much that what was written before can no longer be resumed from.
async fn forget(db: &Db, after: u64) {
    let other = db.user("other");
    for round in 0.. {
        assert!(round < 200, "the log is never trimmed");
        let text = "x".repeat(5_000);
        other
            .run(format!("INSERT INTO t VALUES (1, {round}, '{text}') ON CONFLICT (id) DO UPDATE SET n = {round}"))
            .await;
        db.engine().apply_log_retention().unwrap();
        if db.engine().change_log_floor().get() > after {
            return;
        }
    }
}

#[tokio::test]
async fn it_goes_on_behind_every_token() {
    let db = db().await;
    let ana = db.user("ana");
    let sql = "SUBSCRIBE SELECT id, n FROM t WHERE n > 0";
    let mut live = Live::of(&ana, sql).ready().await;
    let mut tokens = vec![(live.token(), live.at)];
    let mut all = Vec::new();
    for statement in [
        "INSERT INTO t VALUES (1, 1, 'a'), (2, 0, 'b')",
        "UPDATE t SET n = n + 1",
        "UPDATE t SET n = 0 WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "INSERT INTO t VALUES (2, 9, 'b')",
    ] {
        ana.run(statement).await;
        all.push(live.commit().await);
        tokens.push((live.token(), live.at));
        // Of commits that do not concern it.
        db.user("bob").run(statement).await;
    }
    live.is_quiet(&db).await;
    tokens.push((live.token(), live.at));
    for (place, (token, at)) in tokens.iter().enumerate() {
        let mut live = Live::resumed(&ana, sql, token);
        let Seen::Ready { seq, row_count: 0, .. } = live.next().await else { panic!("ready was expected") };
        assert_eq!(seq, *at, "it goes on where the token says");
        for commit in all.iter().skip(place) {
            assert_eq!(live.commit().await, *commit, "after token {place}");
        }
        // And then with what comes, as every other.
        live.is_quiet(&db).await;
    }
    let options = LiveOptions { initial_rows: InitialRows::Last(1), ..coalescing() };
    // Other options are the same query.
    let asked = LiveQueryRequest { resume_token: Some(tokens[4].0.clone()), options, ..request(sql) };
    let mut live = Live::open(&ana, asked);
    assert!(live.rows().await.is_empty());
    assert_eq!(live.commit().await, ["+ 2 | 9"]);
    // An empty token is none.
    let mut live = Live::resumed(&ana, sql, "");
    assert_eq!(live.rows().await, table(&[["2", "9"]]));
    // So is another way to write the same text.
    let mut live = Live::resumed(&ana, "subscribe  select ID, n -- the same\n from T where n>0", &tokens[5].0);
    assert!(live.rows().await.is_empty());
}

#[tokio::test]
async fn tokens_of_something_else_are_refused() {
    let db = db().await;
    db.admin().run("CREATE USER TABLE u (id BIGINT PRIMARY KEY, n BIGINT, name TEXT)").await;
    let (ana, bob) = (db.user("ana"), db.user("bob"));
    let sql = "SUBSCRIBE TO t WHERE n > $1";
    let asked = |sql: &str, value: i64, token: &str| LiveQueryRequest {
        parameters: vec![int(value)],
        resume_token: Some(token.to_owned()),
        ..request(sql)
    };
    let token = Live::with_parameters(&ana, sql, &[int(1)]).ready().await.token();
    Live::open(&ana, asked(sql, 1, &token));
    Live::open(&db.acting(Role::Service, "ana"), asked(sql, 1, &token));
    let cases = [
        ("another user's", Live::try_open(&bob, asked(sql, 1, &token))),
        ("another query's", Live::try_open(&ana, asked("SUBSCRIBE TO t WHERE n >= $1", 1, &token))),
        ("other columns'", Live::try_open(&ana, asked("SUBSCRIBE SELECT id FROM t WHERE n > $1", 1, &token))),
        ("another table's", Live::try_open(&ana, asked("SUBSCRIBE TO u WHERE n > $1", 1, &token))),
        ("another value's", Live::try_open(&ana, asked(sql, 2, &token))),
        ("cut short", Live::try_open(&ana, asked(sql, 1, &token[..token.len() - 4]))),
        ("longer", Live::try_open(&ana, asked(sql, 1, &format!("{token}AAAA")))),
        ("no token", Live::try_open(&ana, asked(sql, 1, "x"))),
        ("no base64", Live::try_open(&ana, asked(sql, 1, "🙂 \0"))),
        ("huge", Live::try_open(&ana, asked(sql, 1, &"A".repeat(1_000_000)))),
    ];
    for (what, outcome) in cases {
        let error = outcome.err().unwrap_or_else(|| panic!("accepted: {what}"));
        assert_eq!(error.reason(), Reason::InvalidResumeToken, "{what}: {error}");
        assert!(error.message().contains("Subscribe"), "{what}: {error}");
    }
    // Another database's, whose table, query and place are the same.
    let elsewhere = Engine::open(EngineSettings::default(), Vec::new(), Arc::new(FixedEnv::new(NOW_US, 8))).unwrap();
    let system = elsewhere.session(Caller::new(user_id("operator"), Role::System));
    let mut setup = system.execute(Request::new(
        "CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, n BIGINT, name TEXT);
         CREATE USER TABLE app.u (id BIGINT PRIMARY KEY, n BIGINT, name TEXT); CREATE NAMESPACE other",
    ));
    while let Some(done) = setup.next().await {
        done.unwrap();
    }
    let there = elsewhere.session(Caller::new(user_id("ana"), Role::User));
    let error = there.subscribe(asked(sql, 1, &token)).expect_err("a token of another database");
    assert_eq!(error.reason(), Reason::InvalidResumeToken, "{error}");
    // A table of the same name, made anew.
    db.admin().run("DROP TABLE u").await;
    db.admin().run("CREATE USER TABLE u (id BIGINT PRIMARY KEY, n BIGINT, name TEXT)").await;
    let of_u = Live::of(&ana, "SUBSCRIBE TO u").ready().await.token();
    db.admin().run("DROP TABLE u").await;
    db.admin().run("CREATE USER TABLE u (id BIGINT PRIMARY KEY, n BIGINT, name TEXT)").await;
    let asked = LiveQueryRequest { resume_token: Some(of_u), ..request("SUBSCRIBE TO u") };
    assert_eq!(Live::try_open(&ana, asked).err().unwrap().reason(), Reason::InvalidResumeToken);
}

#[tokio::test]
async fn a_token_of_the_future_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let mut db = with_table(Db::on_disk(dir.path()).await).await;
    // The folder as it is now, to go back to.
    db.user("ana").run("INSERT INTO t VALUES (1, 1, 'a')").await;
    db.close();
    copy_folder(dir.path(), copy.path());
    db.reopen();
    let ana = db.user("ana");
    // More commits than opening may make.
    for id in 2..30 {
        ana.run(format!("INSERT INTO t VALUES ({id}, 2, 'b')")).await;
    }
    let token = Live::of(&ana, "SUBSCRIBE TO t").ready().await.token();
    drop(ana);
    let restored = Db::on_disk(copy.path()).await;
    let asked = LiveQueryRequest { resume_token: Some(token), ..request("SUBSCRIBE TO t") };
    let error = Live::try_open(&restored.user("ana"), asked).err().expect("a token of a later state");
    assert_eq!(error.reason(), Reason::InvalidResumeToken, "{error}");
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[tokio::test]
async fn tokens_outlive_the_engine_and_moves_of_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = with_table(Db::on_disk(dir.path()).await).await;
    let sql = "SUBSCRIBE TO t WHERE n > 5";
    let mut tokens = Vec::new();
    {
        let ana = db.user("ana");
        ana.run("INSERT INTO t VALUES (1, 1, 'a'), (2, 10, 'b')").await;
        let mut live = Live::of(&ana, sql).ready().await;
        tokens.push(live.token());
        ana.run("UPDATE t SET n = n + 5").await;
        assert_eq!(live.commit().await, ["+ 1 | 6 | a", "~ 2 | 10 | b -> 2 | 15 | b"]);
        tokens.push(live.token());
    }
    for _ in 0..2 {
        db.close();
        db.reopen();
        db.admin().run("FLUSH TABLE t FORCE").await;
        db.admin().run("COMPACT TABLE t").await;
    }
    let ana = db.user("ana");
    ana.run("DELETE FROM t WHERE id = 2").await;
    for (token, commits) in tokens.iter().zip([2, 1]) {
        let mut live = Live::resumed(&ana, sql, token);
        assert!(live.rows().await.is_empty());
        let all = [vec!["+ 1 | 6 | a", "~ 2 | 10 | b -> 2 | 15 | b"], vec!["- 2 | 15 | b"]];
        for expected in &all[all.len() - commits..] {
            assert_eq!(live.commit().await, *expected);
        }
        live.is_quiet(&db).await;
    }
}

#[tokio::test]
async fn a_token_that_is_too_old_begins_anew() {
    let db = with_table(Db::with(forgetful()).await).await;
    let ana = db.user("ana");
    let sql = "SUBSCRIBE SELECT id FROM t";
    ana.run("INSERT INTO t VALUES (1, 1, 'a')").await;
    let old = Live::of(&ana, sql).ready().await;
    let (token, at) = (old.token(), old.at);
    drop(old);
    ana.run("INSERT INTO t VALUES (2, 1, 'a')").await;
    ana.run("DELETE FROM t WHERE id = 1").await;
    forget(&db, at).await;
    let mut live = Live::resumed(&ana, sql, &token);
    // The first of all events, as nothing before it can be true.
    let first = live.next().await;
    assert!(matches!(first, Seen::Reset { reason: Reason::ChangesExpired }), "{first:?}");
    assert_eq!(live.rows().await, table(&[["2"]]));
    ana.run("INSERT INTO t VALUES (3, 1, 'a')").await;
    assert_eq!(live.commit().await, ["+ 3"]);
    // As `initial_rows` asks for them.
    for (initial_rows, count) in [(InitialRows::None, 0), (InitialRows::Last(1), 1), (InitialRows::All, 2)] {
        let options = LiveOptions { initial_rows, ..LiveOptions::default() };
        let asked = LiveQueryRequest { options, resume_token: Some(token.clone()), ..request(sql) };
        let mut live = Live::open(&ana, asked);
        assert!(matches!(live.next().await, Seen::Reset { reason: Reason::ChangesExpired }));
        assert_eq!(live.rows().await.len(), count);
    }
    // The floor itself is not too old.
    let floor = db.engine().change_log_floor().get();
    assert!(at < floor && db.engine().last_commit_seq().get() >= floor);
}

/// Live queries that follow do not lose what is given up meanwhile: they had it, or get it from the log or a reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_query_stays_fresh_while_the_log_is_trimmed() {
    let db = with_table(Db::with(forgetful()).await).await;
    let ana = db.user("ana");
    let mut live = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
    // It follows; whoever still reads the log itself would have to read what is given up.
    live.is_quiet(&db).await;
    let began = live.at;
    for _ in 0..3 {
        forget(&db, live.at).await;
        live.is_quiet(&db).await;
    }
    assert!(db.engine().change_log_floor().get() > began);
    let token = live.token();
    drop(live);
    ana.run("INSERT INTO t VALUES (1, 1, 'a')").await;
    let mut live = Live::resumed(&ana, "SUBSCRIBE TO t", &token);
    assert!(live.rows().await.is_empty());
    assert_eq!(live.commit().await, ["+ 1 | 1 | a"]);
}

#[tokio::test]
async fn changes_expire_by_age_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = EngineSettings { storage: StorageSettings::Directory(dir.path().to_path_buf()), ..small() };
    settings.live.log_retention_s = 3_600;
    let mut db = with_table(Db::with(settings).await).await;
    let (token, at) = {
        let ana = db.user("ana");
        ana.run("INSERT INTO t VALUES (1, 1, 'a')").await;
        let live = Live::of(&ana, "SUBSCRIBE TO t").ready().await;
        ana.run("INSERT INTO t VALUES (2, 2, 'b')").await;
        db.engine().apply_log_retention().unwrap();
        (live.token(), live.at)
    };
    // Not before their time, through a restart.
    db.env.advance_us(3_500 * 1_000_000);
    db.close();
    db.reopen();
    let ana = db.user("ana");
    db.engine().apply_log_retention().unwrap();
    let mut live = Live::resumed(&ana, "SUBSCRIBE TO t", &token);
    assert!(live.rows().await.is_empty());
    assert_eq!(live.commit().await, ["+ 2 | 2 | b"]);
    drop(live);
    db.env.advance_us(2 * 3_600 * 1_000_000);
    ana.run("INSERT INTO t VALUES (3, 3, 'c')").await;
    db.engine().apply_log_retention().unwrap();
    assert!(db.engine().change_log_floor().get() > at, "nothing expires");
    let mut live = Live::resumed(&ana, "SUBSCRIBE TO t", &token);
    assert!(matches!(live.next().await, Seen::Reset { reason: Reason::ChangesExpired }));
    assert_eq!(live.rows().await.len(), 3);
}
