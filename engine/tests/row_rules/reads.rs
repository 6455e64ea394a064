//! What is seen.

use kalamdb_engine::{Parameter, Reason, Role};

use super::{SECRET, TIERS, bring, db, notes, set_rules, user};
use crate::harness::{Client, int, table, text};

const OWN: &str = "app.notes.owner = CURRENT_USER()";

#[tokio::test]
async fn rows_of_others_are_not_there() {
    for tier in TIERS {
        let db = db().await;
        notes(&db).await;
        let (ana, bo) = (user(&db, "ana", &[OWN]).await, user(&db, "bo", &[OWN]).await);
        bring(&db, tier).await;
        // Twice: planned, and from the cache of plans that both share.
        for _ in 0..2 {
            let ids = |client: &Client, sql: &str| {
                let rows = client.rows(sql.to_owned());
                async move { rows.await.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>().join(" ") }
            };
            for (sql, of_ana, of_bo) in [
                ("SELECT id FROM notes ORDER BY id", "1 3 5", "2 4"),
                ("SELECT id FROM notes ORDER BY id DESC", "5 3 1", "4 2"),
                ("SELECT id FROM notes ORDER BY id DESC LIMIT 1", "5", "4"),
                ("SELECT id FROM notes ORDER BY level LIMIT 1", "1", "4"),
                ("SELECT id FROM notes WHERE id = 2", "", "2"),
                ("SELECT id FROM notes WHERE id IN (1, 2, 3, 4)", "1 3", "2 4"),
                ("SELECT id FROM notes WHERE id > 1 AND id < 5 ORDER BY id", "3", "2 4"),
                ("SELECT id FROM notes WHERE level >= 3 ORDER BY id", "3 5", "2 4"),
                ("SELECT id FROM notes WHERE owner = 'bo' ORDER BY id", "", "2 4"),
                ("SELECT id FROM notes WHERE owner <> CURRENT_USER()", "", ""),
                ("SELECT id FROM notes WHERE body LIKE '%secret%'", "", "2"),
                ("SELECT count(*) FROM notes", "3", "2"),
                ("SELECT count(*) FROM (SELECT * FROM notes LIMIT 10)", "3", "2"),
                ("SELECT min(id) FROM notes", "1", "2"),
                ("SELECT max(id) FROM notes", "5", "4"),
                ("SELECT max(body) FROM notes", "50", SECRET),
                ("SELECT sum(level) FROM notes", "13", "9"),
                ("SELECT count(DISTINCT owner) FROM notes", "1", "1"),
                ("SELECT DISTINCT owner FROM notes", "ana", "bo"),
                ("SELECT a.id FROM notes a JOIN notes b ON a.id = b.id + 1 ORDER BY 1", "", ""),
                ("SELECT a.id FROM notes a CROSS JOIN notes b ORDER BY 1 LIMIT 4", "1 1 1 3", "2 2 4 4"),
                ("SELECT 1 WHERE EXISTS (SELECT 1 FROM notes WHERE id = 2)", "", "1"),
                ("SELECT (SELECT count(*) FROM notes)", "3", "2"),
                ("WITH n AS (SELECT * FROM notes) SELECT count(*) FROM n", "3", "2"),
                ("SELECT count(*) FROM (SELECT id FROM notes UNION SELECT id FROM notes)", "3", "2"),
                (
                    "SELECT v FROM (VALUES (1), (2), (3)) t(v) WHERE v NOT IN (SELECT id FROM notes) ORDER BY v",
                    "2",
                    "1 3",
                ),
                ("SELECT id FROM notes ORDER BY id LIMIT 1 OFFSET 1", "3", "4"),
                ("SELECT sum(level) OVER (ORDER BY id) FROM notes ORDER BY id", "1 4 13", "5 9"),
                ("SELECT count(*) FROM notes WHERE _deleted", "0", "0"),
            ] {
                assert_eq!(ids(&ana, sql).await, of_ana, "{tier:?}: {sql}");
                assert_eq!(ids(&bo, sql).await, of_bo, "{tier:?}: {sql}");
            }
            let by_parameters = async |sql: &str, parameters: &[Parameter], expected: &[[&str; 1]]| {
                assert_eq!(ana.run_with(sql.to_owned(), parameters).await.rows, table(expected), "{tier:?}: {sql}");
            };
            by_parameters("SELECT id FROM notes WHERE id = $1", &[int(2)], &[]).await;
            by_parameters("SELECT id FROM notes WHERE id IN ($1, $2)", &[int(2), int(3)], &[["3"]]).await;
            by_parameters("SELECT id FROM notes WHERE owner = $1", &[text("bo")], &[]).await;
        }
        let service = db.role(Role::Service);
        assert_eq!(service.value("SELECT count(*) FROM notes").await, "5");
        assert_eq!(db.acting(Role::Service, "ana").value("SELECT count(*) FROM notes").await, "5");
    }
}

#[tokio::test]
async fn without_a_rule_there_is_no_table() {
    let db = db().await;
    notes(&db).await;
    db.admin().run("CREATE SHARED TABLE hidden (id BIGINT PRIMARY KEY) ACCESS private").await;
    let nobody = user(&db, "nobody", &[]).await;
    // A rule opens no private table, and a caller without a record has no rules.
    let everything = user(&db, "everything", &["*"]).await;
    let unknown = db.user("unknown");
    for client in [&nobody, &unknown] {
        for sql in [
            "SELECT * FROM notes",
            "SELECT * FROM notes WHERE id = 1",
            "SELECT count(*) FROM notes",
            "EXPLAIN SELECT * FROM notes",
            "INSERT INTO notes (id) VALUES (9)",
            "INSERT INTO notes (id) VALUES (1) ON CONFLICT DO NOTHING",
            "UPDATE notes SET level = 0",
            "DELETE FROM notes",
            "DESCRIBE notes",
            "SHOW TABLE STATS notes",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM notes)",
        ] {
            client.fails(Reason::PermissionDenied, sql).await;
        }
        for sql in [
            "SHOW TABLES",
            "SELECT * FROM system.tables WHERE namespace = 'app'",
            "SELECT * FROM system.columns WHERE namespace = 'app'",
            "SELECT * FROM system.table_schemas WHERE namespace = 'app'",
            "SELECT * FROM system.segments WHERE namespace = 'app'",
            "SELECT * FROM information_schema.tables WHERE table_schema = 'app'",
            "SELECT * FROM information_schema.columns WHERE table_schema = 'app'",
        ] {
            assert!(client.rows(sql).await.is_empty(), "{sql}");
        }
        let error = client.fails(Reason::TableNotFound, "SELECT * FROM note").await;
        assert!(!error.message().contains("notes"), "{error}");
        assert!(client.session.table("app", "notes").is_err());
        assert!(client.session.tables(Some("app")).unwrap().is_empty());
    }
    assert_eq!(everything.value("SELECT count(*) FROM notes").await, "5");
    everything.fails(Reason::PermissionDenied, "SELECT * FROM hidden").await;
    assert_eq!(everything.rows("SELECT table_name FROM system.tables WHERE namespace = 'app'").await, [["notes"]]);
}

#[tokio::test]
async fn a_table_of_which_some_rows_are_seen_is_seen() {
    let db = db().await;
    notes(&db).await;
    let ana = user(&db, "ana", &[OWN]).await;
    db.admin().run("FLUSH TABLE notes FORCE").await;
    assert_eq!(
        ana.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'app'").await,
        [["notes"]]
    );
    assert_eq!(ana.rows("SELECT count(*) FROM system.columns WHERE table_name = 'notes'").await, [["4"]]);
    ana.run("DESCRIBE notes").await;
    // But not how many rows there are, and where.
    assert!(ana.rows("SELECT * FROM system.segments").await.is_empty());
    assert!(ana.rows("SELECT * FROM system.jobs").await.is_empty());
    ana.fails(Reason::PermissionDenied, "SHOW TABLE STATS notes").await;
    assert!(ana.session.table_stats("app", "notes").await.is_err());
    for sql in ["FLUSH TABLE notes", "FLUSH ALL TABLES", "COMPACT TABLE notes"] {
        ana.fails(Reason::PermissionDenied, sql).await;
    }
    // Whoever sees all rows may count them.
    let all = user(&db, "all", &["app.notes"]).await;
    all.run("SHOW TABLE STATS notes").await;
}

#[tokio::test]
async fn rules_combine_by_or() {
    let db = db().await;
    notes(&db).await;
    let ana = user(&db, "ana", &[]).await;
    let cases: [(&[&str], &str); 18] = [
        (&["app.notes.id = 2"], "2"),
        (&["app.notes.id = 2", "app.notes.id IN (4, 77)"], "2,4"),
        (&["app.notes.level < 4"], "1,3"),
        (&["app.notes.level <= 4", "app.notes.owner = 'nobody'"], "1,3,4"),
        (&["app.notes.level > 4", "app.notes.id = 1"], "1,2,5"),
        (&["app.notes.level >= 9"], "5"),
        (&["app.notes.level <> 5"], "1,3,4,5"),
        (&["app.notes.owner <> CURRENT_USER()"], "2,4"),
        (&["app.notes.owner IN ('bo', CURRENT_USER())"], "1,2,3,4,5"),
        (&["app.notes.owner NOT IN (CURRENT_USER(), 'x')"], "2,4"),
        (&["app.notes.owner IS NULL"], ""),
        (&["app.notes.owner IS NOT NULL"], "1,2,3,4,5"),
        (&["app.notes.body = '30'"], "3"),
        (&["APP.Notes.\"level\" = -3", "app.notes.level = +3"], "3"),
        (&["app.notes.owner = CURRENT_USER()", "app.*"], "1,2,3,4,5"),
        (&["app.*.*"], "1,2,3,4,5"),
        (&["app.notes.*"], "1,2,3,4,5"),
        (&["*"], "1,2,3,4,5"),
    ];
    for (rules, seen) in cases {
        set_rules(&db, "ana", rules).await;
        for sql in ["SELECT id FROM notes ORDER BY id", "SELECT id FROM notes WHERE id IN (1, 2, 3, 4, 5)"] {
            let ids: Vec<String> = ana.rows(sql).await.into_iter().map(|row| row[0].clone()).collect();
            assert_eq!(ids.join(","), seen, "{rules:?}");
        }
    }
}

#[tokio::test]
async fn nulls_are_seen_by_nobody_who_compares() {
    let db = db().await;
    notes(&db).await;
    db.admin().run("INSERT INTO notes VALUES (6, NULL, NULL, NULL)").await;
    let ana = user(&db, "ana", &[]).await;
    for (rule, sees) in [
        ("app.notes.owner <> 'bo'", false),
        ("app.notes.level NOT IN (1)", false),
        ("app.notes.level < 100", false),
        ("app.notes.level IS NULL", true),
        ("app.notes.id = 6", true),
    ] {
        set_rules(&db, "ana", &[rule]).await;
        assert_eq!(ana.rows("SELECT 1 FROM notes WHERE id = 6").await.len(), usize::from(sees), "{rule}");
        assert_eq!(ana.rows("SELECT 1 FROM notes WHERE level IS NULL").await.len(), usize::from(sees), "{rule}");
    }
}

#[tokio::test]
async fn a_change_of_rules_is_in_force_for_the_next_statement() {
    let db = db().await;
    notes(&db).await;
    let ana = user(&db, "ana", &[OWN]).await;
    let (all, by_key) = ("SELECT count(*) FROM notes", "SELECT count(*) FROM notes WHERE id = 2");
    let point = "SELECT body FROM notes WHERE id = 2";
    for _ in 0..2 {
        assert_eq!(ana.value(all).await, "3");
        assert_eq!(ana.value(by_key).await, "0");
        assert!(ana.rows(point).await.is_empty());
    }
    set_rules(&db, "ana", &["app.notes"]).await;
    assert_eq!(ana.value(all).await, "5");
    assert_eq!(ana.value(by_key).await, "1");
    assert_eq!(ana.rows(point).await, [[SECRET]]);
    set_rules(&db, "ana", &["app.notes.owner = 'nobody'"]).await;
    assert_eq!(ana.value(all).await, "0");
    assert!(ana.rows(point).await.is_empty());
    set_rules(&db, "ana", &[]).await;
    for sql in [all, by_key, point] {
        ana.fails(Reason::PermissionDenied, sql).await;
    }
    set_rules(&db, "ana", &[OWN]).await;
    assert_eq!(ana.value(all).await, "3");
    assert!(ana.rows(point).await.is_empty());
    db.admin().run("DROP USER ana CASCADE").await;
    ana.fails(Reason::PermissionDenied, all).await;
}

#[tokio::test]
async fn what_a_rule_named_and_is_gone_matches_nothing() {
    let db = db().await;
    let admin = db.admin();
    notes(&db).await;
    let ana = user(&db, "ana", &[OWN, "app.notes.level = 4"]).await;
    assert_eq!(ana.value("SELECT count(*) FROM notes").await, "4");
    admin.run("ALTER TABLE notes RENAME COLUMN owner TO author").await;
    assert_eq!(ana.rows("SELECT id FROM notes").await, [["4"]]);
    assert_eq!(ana.rows("SELECT id FROM notes WHERE id IN (1, 4)").await, [["4"]]);
    admin.run("ALTER TABLE notes DROP COLUMN level").await;
    ana.fails(Reason::PermissionDenied, "SELECT id FROM notes").await;
    // Another column of that name and type is what the rule is about; one of another type is not.
    admin.run("ALTER TABLE notes ADD COLUMN owner TEXT; UPDATE notes SET owner = 'ana' WHERE id = 2").await;
    assert_eq!(ana.rows("SELECT id FROM notes").await, [["2"]]);
    admin.run("ALTER TABLE notes ADD COLUMN level TEXT; UPDATE notes SET level = '4'").await;
    assert_eq!(ana.rows("SELECT id FROM notes").await, [["2"]]);
    admin.run("DROP TABLE notes").await;
    ana.fails(Reason::TableNotFound, "SELECT id FROM notes").await;
    admin.run("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, n BIGINT) ACCESS restricted").await;
    ana.fails(Reason::PermissionDenied, "SELECT id FROM notes").await;
}

#[tokio::test]
async fn public_tables_know_no_rules() {
    let db = db().await;
    db.admin().run("CREATE SHARED TABLE board (id BIGINT PRIMARY KEY, owner TEXT) ACCESS public").await;
    let ana = user(&db, "ana", &["app.board.owner = CURRENT_USER()"]).await;
    ana.run("INSERT INTO board VALUES (1, 'ana'), (2, 'bo')").await;
    assert_eq!(ana.value("SELECT count(*) FROM board").await, "2");
    db.user("unknown").run("UPDATE board SET owner = 'x'").await;
}

#[tokio::test]
async fn keys_may_be_users() {
    let db = db().await;
    db.admin().run("CREATE SHARED TABLE profiles (who TEXT PRIMARY KEY, name TEXT) ACCESS restricted").await;
    db.admin().run("INSERT INTO profiles VALUES ('ana', 'Ana'), ('bo', 'Bo')").await;
    let own = ["app.profiles.who = CURRENT_USER()"];
    let (ana, bo) = (user(&db, "ana", &own).await, user(&db, "bo", &own).await);
    for flushed in [false, true] {
        if flushed {
            db.admin().run("FLUSH TABLE profiles FORCE").await;
        }
        for (client, name) in [(&ana, "Ana"), (&bo, "Bo")] {
            assert_eq!(client.rows("SELECT name FROM profiles").await, [[name]]);
            assert_eq!(client.rows("SELECT name FROM profiles WHERE who IN ('ana', 'bo')").await, [[name]]);
            assert_eq!(client.rows("SELECT name FROM profiles WHERE who >= 'a' ORDER BY who DESC").await, [[name]]);
        }
    }
}
