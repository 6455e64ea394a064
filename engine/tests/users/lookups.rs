//! Many users: found by the index, in pages, and never as they were before a change.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use kalamdb_engine::{NewUser, Reason, Role, UserPatch};

use super::{caller, db};
use crate::harness::{Db, table, user_id};

async fn with_many(db: &Db, count: usize) {
    let names: Vec<String> = (0..count).map(|n| format!("('u{n:05}', 'name-{n:05}')")).collect();
    for names in names.chunks(1_000) {
        db.admin().run(format!("INSERT INTO system.users (user_id, username) VALUES {}", names.join(", "))).await;
    }
}

#[tokio::test]
async fn conditions_find_what_they_would_find_in_all() {
    let db = db().await;
    with_many(&db, 2_000).await;
    let admin = db.admin();
    for (condition, count) in [
        ("username LIKE 'name-001%'", "100"),
        ("username LIKE 'name-0010_'", "10"),
        ("username LIKE 'name_001%'", "100"),
        ("username LIKE 'name-_1_5_'", "100"),
        ("username LIKE 'name\\_001%'", "0"),
        ("username LIKE '%99'", "20"),
        ("username LIKE 'NAME%'", "0"),
        ("username ILIKE 'NAME-0019%'", "10"),
        ("starts_with(username, 'name-0000')", "10"),
        ("user_id = 'u00007'", "1"),
        ("user_id = 'u99999'", "0"),
        ("user_id IN ('u00001', 'u00002', 'nope')", "2"),
        ("username = 'name-00003' OR username = 'name-00004'", "2"),
        ("username = 'name-00003' OR user_id = 'u00004'", "2"),
        ("user_id = 'u00001' AND username = 'name-00002'", "0"),
        ("user_id <> 'u00001'", "1999"),
        ("user_id = username", "0"),
        ("NOT (username LIKE 'name-0%')", "0"),
        ("user_id IS NULL", "0"),
        ("TRUE", "2000"),
    ] {
        assert_eq!(
            admin.value(format!("SELECT count(*) FROM system.users WHERE {condition}")).await,
            count,
            "{condition}"
        );
    }
    assert_eq!(admin.run("DELETE FROM system.users WHERE username LIKE 'name-01%'").await.row_count, 1_000);
    assert_eq!(admin.value("SELECT count(*) FROM system.users").await, "1000");
}

#[tokio::test]
async fn calls_list_in_pages() {
    let db = db().await;
    with_many(&db, 250).await;
    db.admin().run("CREATE USER root ROLE system; CREATE USER other").await;
    let admin = db.admin().session;
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = admin.users("name-", after.as_deref(), 100).unwrap();
        names.extend(page.users.iter().map(|user| user.username.clone()));
        match page.next_after {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(names, (0..250).map(|n| format!("name-{n:05}")).collect::<Vec<_>>());
    assert_eq!(admin.users("", None, 10_000).unwrap().users.len(), 252);
    assert_eq!(admin.users("name-", Some("other"), 10).unwrap().users.len(), 0);
    // A service does not see those whom it may not act for, and its pages are whole all the same.
    let bot = caller(&db, "bot", Role::Service).session;
    assert_eq!(bot.users("", None, 10_000).unwrap().users.len(), 251);
    let user = caller(&db, "u00003", Role::User).session;
    let own: Vec<_> = user.users("", None, 10).unwrap().users.iter().map(|user| user.username.clone()).collect();
    assert_eq!(own, ["name-00003"]);
    assert_eq!(user.user("other").unwrap_err().reason(), Reason::UserNotFound);
    assert_eq!(user.user("u00003").unwrap().username, "name-00003");
}

#[tokio::test]
async fn calls_do_what_statements_do() {
    let db = db().await;
    let admin = db.admin().session;
    assert!(admin.create_user(NewUser::named("ana"), false).await.unwrap());
    assert!(!admin.create_user(NewUser::named("ana"), true).await.unwrap());
    let error = admin.create_user(NewUser::named("ana"), false).await.unwrap_err();
    assert_eq!(error.message(), "User with user_id 'ana' already exists");
    let patch = UserPatch { role: Some(Role::Service), metadata: Some(Some("[]".to_owned())), ..UserPatch::default() };
    admin.alter_user("ana", patch).await.unwrap();
    assert_eq!(admin.user("ana").unwrap().role, Role::Service);
    let key = admin.create_api_key("ana", Some("ci".to_owned()), None).await.unwrap();
    assert!(!format!("{key:?}").contains(&key.key));
    assert_eq!(admin.api_keys(None).unwrap(), vec![key.info.clone()]);
    admin.revoke_api_key(&key.info.key_id).await.unwrap();
    assert!(admin.drop_user("ana", false, false).await.unwrap());
    assert!(!admin.drop_user("ana", true, false).await.unwrap());
    assert_eq!(admin.drop_user("ana", false, false).await.unwrap_err().reason(), Reason::UserNotFound);
    let ana = db.user("ana").session;
    assert_eq!(ana.create_user(NewUser::named("x"), false).await.unwrap_err().reason(), Reason::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_look_up_after_a_change_sees_it() {
    let db = db().await;
    db.admin().run("CREATE USER ana").await;
    let users = Arc::clone(db.engine().users());
    let done = Arc::new(AtomicBool::new(false));
    // Readers fill the cache all the time.
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (users, done) = (Arc::clone(&users), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    users.find(&user_id("ana")).unwrap();
                    users.find(&user_id("nobody")).unwrap();
                }
            })
        })
        .collect();
    for round in 0..300 {
        let disabled = round % 2 == 0;
        let statement = if disabled { "ALTER USER ana DISABLE" } else { "ALTER USER ana ENABLE" };
        db.admin().run(statement).await;
        assert_eq!(users.find(&user_id("ana")).unwrap().unwrap().disabled, disabled, "round {round}");
        if disabled {
            db.admin().run("CREATE USER nobody").await;
            assert!(users.find(&user_id("nobody")).unwrap().is_some(), "round {round}");
        } else {
            db.admin().run("DROP USER nobody").await;
            assert!(users.find(&user_id("nobody")).unwrap().is_none(), "round {round}");
        }
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert_eq!(db.admin().rows("SELECT username FROM system.users").await, table(&[["ana"]]));
}
