//! Dropping users who have rows.

use kalamdb_engine::{AccessChange, Reason, Role};

use super::db;
use crate::harness::{Db, table, user_id};

/// A table of each kind, with rows of two users.
async fn with_rows(db: &Db) {
    let admin = db.admin();
    admin.run("CREATE USER ana; CREATE USER bob").await;
    admin.run("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, body TEXT)").await;
    admin.run("CREATE USER TABLE words (word TEXT PRIMARY KEY)").await;
    admin.run("CREATE STREAM TABLE typing (id BIGINT PRIMARY KEY AUTO_INCREMENT, place TEXT) TTL '1 hour'").await;
    admin.run("CREATE SHARED TABLE board (id BIGINT PRIMARY KEY, body TEXT) ACCESS public").await;
    for user in ["ana", "bob"] {
        let user = db.user(user);
        user.run("INSERT INTO notes SELECT value, 'note ' || value FROM generate_series(1, 1200) AS s(value)").await;
        user.run("INSERT INTO words VALUES ('a'), ('it''s'), ('ü')").await;
        user.run("INSERT INTO typing (place) VALUES ('room 1')").await;
    }
    db.user("ana").run("INSERT INTO board VALUES (1, 'hello')").await;
}

async fn counts(db: &Db, user: &str) -> Vec<String> {
    let user = db.acting(Role::System, user);
    let mut counts = Vec::new();
    for name in ["notes", "words", "typing"] {
        counts.push(user.value(format!("SELECT count(*) FROM {name}")).await);
    }
    counts
}

#[tokio::test]
async fn one_with_rows_stays_unless_cascade_is_said() {
    let db = db().await;
    with_rows(&db).await;
    let admin = db.admin();
    let mut changes = db.engine().users().changes();
    let error = admin.fails(Reason::UserHasData, "DROP USER ana").await;
    assert!(error.message().contains("app.notes, app.typing, app.words"), "{error}");
    assert!(error.message().contains("CASCADE"), "{error}");
    admin.fails(Reason::UserHasData, "DROP USER ana RESTRICT").await;
    admin.fails(Reason::UserHasData, "DELETE FROM system.users WHERE user_id = 'ana'").await;
    // Of several none goes.
    admin.run("CREATE USER empty").await;
    admin.fails(Reason::UserHasData, "DELETE FROM system.users").await;
    assert_eq!(admin.value("SELECT count(*) FROM system.users").await, "3");
    assert!(changes.try_recv().is_err(), "nobody was told to go");
    assert_eq!(counts(&db, "ana").await, ["1200", "3", "1"]);

    admin.run("DROP USER ana CASCADE").await;
    assert_eq!(changes.try_recv().unwrap(), AccessChange::User(user_id("ana")));
    assert_eq!(counts(&db, "ana").await, ["0", "0", "0"]);
    assert_eq!(counts(&db, "bob").await, ["1200", "3", "1"]);
    assert_eq!(admin.rows("SELECT DISTINCT _user_id FROM app.all_users.notes").await, table(&[["bob"]]));
    // Rows of SHARED tables are nobody's in particular.
    assert_eq!(admin.value("SELECT count(*) FROM board").await, "1");
    assert!(db.engine().users().find(&user_id("ana")).unwrap().is_none());
    // Who takes the id has none of the rows.
    admin.run("CREATE USER ana").await;
    assert_eq!(counts(&db, "ana").await, ["0", "0", "0"]);
}

#[tokio::test]
async fn rows_in_segments_count_and_go_too() {
    let db = db().await;
    with_rows(&db).await;
    let admin = db.admin();
    admin.run("FLUSH TABLE app.notes FORCE").await;
    db.user("ana")
        .run("DELETE FROM words; DELETE FROM typing; UPDATE notes SET body = 'hot again' WHERE id <= 10")
        .await;
    let error = admin.fails(Reason::UserHasData, "DROP USER ana").await;
    assert!(error.message().contains("1 table(s): app.notes"), "{error}");
    admin.run("DROP USER ana CASCADE").await;
    assert_eq!(counts(&db, "ana").await, ["0", "0", "0"]);
    assert_eq!(counts(&db, "bob").await, ["1200", "3", "1"]);
}

#[tokio::test]
async fn rows_that_were_deleted_or_have_expired_do_not_count() {
    let db = db().await;
    with_rows(&db).await;
    db.admin().run("FLUSH TABLE app.notes FORCE").await;
    db.user("ana").run("DELETE FROM notes; DELETE FROM words").await;
    db.env.advance_us(3_600_000_001);
    db.admin().run("DROP USER ana").await;
}

#[tokio::test]
async fn what_is_under_way_writes_no_row_of_one_who_left() {
    let db = db().await;
    with_rows(&db).await;
    // Statements that write again and again while their user is dropped.
    let writers: Vec<_> = (0..4)
        .map(|n| {
            let user = db.user("ana");
            tokio::spawn(async move {
                for i in 0..200 {
                    let key = 10_000 + n * 1_000 + i;
                    if user.try_run(format!("INSERT INTO notes VALUES ({key}, 'late')")).await.is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    db.admin().run("DROP USER ana CASCADE").await;
    for writer in writers {
        writer.await.unwrap();
    }
    // The engine does not refuse callers that are gone: what began afterwards may be there, what was there is not.
    assert!(db.acting(Role::System, "ana").rows("SELECT id FROM notes WHERE body LIKE 'note%'").await.is_empty());
}

// On several threads: what was begun goes on while the store is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_cut_off_is_finished() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = super::cheap();
    settings.storage = kalamdb_engine::StorageSettings::Directory(temp.path().join("data"));
    let mut db = Db::with(settings).await;
    with_rows(&db).await;
    // The statement is given up as soon as it has begun; at the latest after the restart its work is done.
    let admin = db.admin();
    let cut_off =
        tokio::time::timeout(std::time::Duration::from_millis(3), admin.try_run("DROP USER ana CASCADE")).await;
    drop(cut_off);
    let began = db.engine().users().find(&user_id("ana")).unwrap().is_none();
    drop(admin);
    db.reopen();
    if !began {
        db.admin().run("DROP USER IF EXISTS ana CASCADE").await;
    }
    let taken = std::time::Instant::now();
    while db.admin().try_run("CREATE USER ana").await.is_err() {
        assert!(taken.elapsed() < std::time::Duration::from_secs(30), "the removal is not taken up");
        tokio::task::yield_now().await;
    }
    assert_eq!(counts(&db, "ana").await, ["0", "0", "0"]);
    assert_eq!(counts(&db, "bob").await, ["1200", "3", "1"]);
}
