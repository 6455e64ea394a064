//! What a backup has.

use kalamdb_engine::{Reason, Role, SqlType};

use super::{Place, back_up, files, state};
use crate::{
    harness::{Db, table},
    types::TYPES,
};

const TABLES: [&str; 4] = ["events", "facts", "messages", "notes"];

/// Tables of every kind, with rows that are hot, cold, changed when they were cold, and deleted, of several schema versions.
async fn fill(db: &Db) {
    let admin = db.admin();
    admin
        .run(
            "ALTER NAMESPACE app SET OPTIONS (owner = 'the team', color = 'blue');
             CREATE USER TABLE messages (id BIGINT PRIMARY KEY, body TEXT NOT NULL, n INT) FLUSH POLICY ROWS 100000;
             CREATE SHARED TABLE facts (id TEXT PRIMARY KEY, v DOUBLE) ACCESS public;
             CREATE STREAM TABLE events (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), what TEXT) TTL '1 hour';
             CREATE USER TABLE notes (id BIGINT PRIMARY KEY, tags TEXT[])",
        )
        .await;
    for (n, user) in ["ana", "../ana", "émile", "a\u{0}b"].into_iter().enumerate() {
        let user = db.user(user);
        for from in [0, 60] {
            let rows: Vec<String> = (from..from + 60).map(|id| format!("({id}, 'row {id} of {n}', {id})")).collect();
            user.run(format!("INSERT INTO messages VALUES {}", rows.join(", "))).await;
        }
        user.run("INSERT INTO events (what) VALUES ('typing')").await;
        user.run("INSERT INTO notes VALUES (1, ['a', NULL]), (2, [])").await;
    }
    let facts: Vec<String> = (0..100).map(|id| format!("('fact {id:03}', {id}.5)")).collect();
    admin.run(format!("INSERT INTO facts VALUES {}", facts.join(", "))).await;
    admin.run("FLUSH ALL TABLES IN app FORCE").await;
    admin.run("ALTER TABLE messages ADD COLUMN mood TEXT DEFAULT 'it''s fine'").await;
    admin.run("ALTER TABLE messages RENAME COLUMN n TO number").await;
    let ana = db.user("ana");
    ana.run("UPDATE messages SET body = 'changed', mood = 'new' WHERE id % 7 = 0").await;
    ana.run("DELETE FROM messages WHERE id % 11 = 3").await;
    ana.run("INSERT INTO messages (id, body) VALUES (1000, 'between')").await;
    admin.run("FLUSH TABLE messages FORCE").await;
    admin.run("ALTER TABLE messages DROP COLUMN number").await;
    admin.run("DELETE FROM facts WHERE id < 'fact 020'; UPDATE facts SET v = -1 WHERE id > 'fact 090'").await;
    ana.run("INSERT INTO messages (id, body, mood) VALUES (2000, 'hot', NULL)").await;
    ana.run("DELETE FROM messages WHERE id = 1000").await;
    db.user("émile").run("UPDATE messages SET body = 'hot and changed' WHERE id BETWEEN 10 AND 20").await;
}

#[tokio::test]
async fn what_is_restored_is_what_was_there() {
    let place = Place::new();
    let mut db = place.open().await;
    fill(&db).await;
    let before = state(&db, "app", &TABLES).await;
    assert!(before[1].len() > 3, "the stream has rows");
    back_up(&db.admin(), "b", "").await;

    let admin = db.admin();
    let answer = admin.run("RESTORE DATABASE app FROM 'b' AS copy").await;
    assert!(answer.message.contains("into namespace copy: 4 table(s)"), "{}", answer.message);
    let mut expected = before.clone();
    // Rows of STREAM tables are in no backup.
    expected[1].clear();
    assert_eq!(state(&db, "copy", &TABLES).await, expected);
    let options = "SELECT options FROM system.namespaces WHERE name IN ('app', 'copy') ORDER BY name";
    let options = admin.rows(options).await;
    assert_eq!(options[0], options[1]);
    assert_eq!(state(&db, "app", &TABLES).await, before, "the original is as it was");

    // Both go on in the same way.
    for namespace in ["app", "copy"] {
        let ana = db.user("ana").in_namespace(Some(namespace));
        ana.run("UPDATE messages SET mood = 'later' WHERE id < 50").await;
        ana.run("DELETE FROM messages WHERE id % 5 = 0").await;
        ana.run("INSERT INTO messages (id, body) VALUES (3000, 'new') ON CONFLICT DO NOTHING").await;
        let error =
            ana.fails(Reason::PrimaryKeyViolation, "INSERT INTO messages (id, body) VALUES (51, 'again')").await;
        assert!(error.message().contains("51"), "{error}");
        admin.in_namespace(Some(namespace)).run("DELETE FROM facts WHERE v < 30").await;
    }
    let visible = async |db: &Db, namespace: &str| {
        let admin = db.admin().in_namespace(Some(namespace));
        let messages = format!("SELECT _user_id, id, body, mood FROM {namespace}.all_users.messages ORDER BY 1, 2");
        (admin.rows(messages).await, admin.rows("SELECT * FROM facts ORDER BY id").await)
    };
    let gone_on = visible(&db, "app").await;
    assert_eq!(visible(&db, "copy").await, gone_on);
    admin.run("FLUSH ALL TABLES FORCE; COMPACT TABLE copy.messages; COMPACT TABLE app.messages").await;
    assert_eq!(visible(&db, "copy").await, gone_on, "flushed and compacted");
    // It holds the store.
    drop(admin);
    db.reopen();
    assert_eq!(visible(&db, "copy").await, gone_on, "after a restart");
    assert_eq!(visible(&db, "app").await, gone_on);
}

#[tokio::test]
async fn another_database_goes_on_from_the_backups_commits() {
    let place = Place::new();
    let db = place.open().await;
    fill(&db).await;
    let before = state(&db, "app", &["facts", "messages"]).await;
    let last = db.engine().last_commit_seq();
    back_up(&db.admin(), "b", "").await;
    drop(db);

    let mut other = place.open_other().await;
    assert!(other.engine().last_commit_seq() < last);
    // The harness has made it.
    other.admin().run("DROP NAMESPACE app").await;
    other.admin().run("RESTORE DATABASE app FROM 'b'").await;
    assert!(other.engine().last_commit_seq() > last);
    assert_eq!(state(&other, "app", &["facts", "messages"]).await, before);
    let changed = other.user("ana").run("UPDATE messages SET body = 'x' WHERE id = 5").await;
    assert!(changed.commit_seq.is_some_and(|seq| seq > last));
    other.reopen();
    let read = other.user("ana").value("SELECT body FROM messages WHERE id = 5").await;
    assert_eq!(read, "x");
    // Counts of hot rows are right, or this would say otherwise.
    let stats = other.admin().rows("SHOW TABLE STATS facts").await;
    other.admin().run("FLUSH TABLE facts FORCE").await;
    let flushed = other.admin().rows("SHOW TABLE STATS facts").await;
    assert_ne!(stats[0][1], "0", "{stats:?}");
    assert_eq!(flushed[0][1], "0", "{flushed:?}");
}

#[tokio::test]
async fn every_type_comes_back_hot_and_cold() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    let mut tables = Vec::new();
    for (i, (sql_type, values)) in TYPES.iter().enumerate() {
        for tier in ["cold", "hot"] {
            let name = format!("t{i}_{tier}");
            admin.run(format!("CREATE SHARED TABLE {name} (id BIGINT PRIMARY KEY, v {sql_type}) ACCESS public")).await;
            for (id, (literal, _)) in values.iter().enumerate() {
                admin.run(format!("INSERT INTO {name} VALUES ({id}, {literal})")).await;
            }
            admin.run(format!("INSERT INTO {name} VALUES (1000, NULL)")).await;
            if tier == "cold" {
                admin.run(format!("FLUSH TABLE {name} FORCE")).await;
            }
            tables.push(name);
        }
    }
    back_up(&admin, "types", "").await;
    admin.run("RESTORE DATABASE app FROM 'types' AS copy").await;
    for (name, (sql_type, values)) in tables.iter().zip(TYPES.iter().flat_map(|of| [of, of])) {
        let read = admin.run(format!("SELECT v FROM copy.{name} ORDER BY id")).await;
        let shown: Vec<&str> = values.iter().map(|(_, shown)| *shown).chain(["NULL"]).collect();
        assert_eq!(read.rows.concat(), shown, "{name} {sql_type}");
        assert_eq!(read.columns[0].sql_type.to_string(), *sql_type);
    }
    assert_eq!(admin.run("SELECT id FROM copy.t0_hot").await.columns[0].sql_type, SqlType::BigInt);
}

#[tokio::test]
async fn an_incremental_backup_copies_what_is_new() {
    let place = Place::new();
    let db = place.open().await;
    fill(&db).await;
    let admin = db.admin();
    let first = back_up(&admin, "b", "").await;
    let at_first = state(&db, "app", &["facts", "messages", "notes"]).await;
    let before = files(&place.folder("b"));

    // Nothing changed: only hot rows are written anew.
    let second = back_up(&admin, "b", "MODE INCREMENTAL").await;
    let shown = admin.rows("SHOW BACKUP 'b'").await;
    assert_eq!(shown.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), [first.clone(), second.clone()]);
    assert_eq!(shown[1][3..5], ["incremental".to_owned(), first.clone()]);
    assert_eq!(shown[0][10..13], shown[1][10..13], "rows, files and bytes are the same");
    assert_eq!(shown[0][11], shown[0][13], "a full backup copies all");
    let new = files(&place.folder("b"));
    let new: Vec<&String> = new.iter().filter(|file| !before.contains(file) && file.starts_with("data/")).collect();
    assert!(new.iter().all(|file| file.contains("/hot-")), "{new:?}");
    assert_eq!(new.len().to_string(), shown[1][13]);

    db.user("ana").run("INSERT INTO messages (id, body) VALUES (5000, 'later'), (5001, 'later')").await;
    db.user("ana").run("DELETE FROM messages WHERE id = 1").await;
    admin.run("FLUSH TABLE messages FORCE; DROP TABLE notes").await;
    let third = back_up(&admin, "b", "MODE INCREMENTAL").await;
    let at_third = state(&db, "app", &["facts", "messages"]).await;
    let shown = admin.rows("SHOW BACKUP 'b'").await;
    assert_eq!(shown[2][4], second);
    let (files_of, new_of) = (shown[2][11].parse::<u64>().unwrap(), shown[2][13].parse::<u64>().unwrap());
    assert!(new_of > 0 && new_of < files_of, "{shown:?}");

    // Merged segments are new ones, and the old ones stay for the backups that have them.
    admin.run("COMPACT TABLE messages; COMPACT TABLE facts").await;
    let fourth = back_up(&admin, "b", "MODE INCREMENTAL").await;
    for (backup, expected) in [(&first, &at_first), (&second, &at_first), (&third, &at_third), (&fourth, &at_third)] {
        admin.run(format!("RESTORE DATABASE app FROM 'b' BACKUP '{backup}' AS copy")).await;
        let tables: &[&str] =
            if expected.len() == at_first.len() { &["facts", "messages", "notes"] } else { &["facts", "messages"] };
        assert_eq!(&state(&db, "copy", tables).await, expected, "backup {backup}");
        for table in tables {
            admin.run(format!("DROP TABLE copy.{table}")).await;
        }
        admin.run("DROP TABLE copy.events; DROP NAMESPACE copy").await;
        if backup == &first {
            assert_eq!(admin.value("SELECT count(*) FROM system.tables WHERE namespace = 'copy'").await, "0");
        }
    }
    // Without an id it is the newest.
    admin.run("RESTORE DATABASE app FROM 'b' AS copy").await;
    assert_eq!(state(&db, "copy", &["facts", "messages"]).await, at_third);
}

#[tokio::test]
async fn a_file_that_was_lost_is_copied_again() {
    let place = Place::new();
    let db = place.open().await;
    fill(&db).await;
    let admin = db.admin();
    back_up(&admin, "b", "").await;
    let lost = files(&place.folder("b")).into_iter().find(|file| file.contains("facts") && !file.contains("hot-"));
    std::fs::remove_file(place.folder("b").join(lost.unwrap())).unwrap();
    back_up(&admin, "b", "MODE INCREMENTAL").await;
    let before = state(&db, "app", &["facts", "messages"]).await;
    admin.run("RESTORE DATABASE app FROM 'b' AS copy").await;
    assert_eq!(state(&db, "copy", &["facts", "messages"]).await, before);
}

#[tokio::test]
async fn an_empty_namespace_and_empty_tables_come_back() {
    let place = Place::new();
    let db = place.open().await;
    let admin = db.admin();
    back_up(&admin, "nothing", "").await;
    admin.run("RESTORE DATABASE app FROM 'nothing' AS copy").await;
    assert_eq!(admin.rows("SHOW TABLES IN copy").await.len(), 0);
    admin.run("DROP NAMESPACE copy; CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    back_up(&admin, "empty", "").await;
    admin.run("RESTORE DATABASE app FROM 'empty' AS copy").await;
    assert_eq!(db.user("ana").rows("SELECT * FROM copy.t").await.len(), 0);
    db.user("ana").run("INSERT INTO copy.t VALUES (1)").await;
    assert_eq!(db.user("ana").rows("SELECT * FROM copy.t").await, table(&[["1"]]));
    // Ids of tables are not given twice, not even those of a dropped restore.
    admin.run("DROP TABLE copy.t; CREATE USER TABLE copy.t (id BIGINT PRIMARY KEY)").await;
    assert_eq!(db.user("ana").rows("SELECT * FROM copy.t").await.len(), 0);
}

#[tokio::test]
async fn rows_keep_their_owners() {
    let place = Place::new();
    let db = place.open().await;
    fill(&db).await;
    back_up(&db.admin(), "b", "").await;
    db.admin().run("RESTORE DATABASE app FROM 'b' AS copy").await;
    for user in ["ana", "../ana", "émile", "a\u{0}b", "nobody"] {
        let user = db.user(user);
        let read =
            async |namespace: &str| user.in_namespace(Some(namespace)).rows("SELECT * FROM messages ORDER BY id").await;
        assert_eq!(read("copy").await, read("app").await);
    }
    // What is open to whom is as it was.
    let refused = db.user("ana").try_run("SELECT * FROM copy.all_users.messages").await.unwrap_err();
    assert_eq!(refused.reason(), Reason::PermissionDenied);
    assert_eq!(db.user("ana").value("SELECT count(*) FROM copy.facts").await, "80");
    assert_eq!(db.acting(Role::Service, "ana").value("SELECT count(*) FROM copy.messages WHERE id = 2000").await, "1");
}
