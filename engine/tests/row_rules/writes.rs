//! What may be written.

use kalamdb_engine::{Error, Reason};

use super::{SECRET, TIERS, bring, db, notes, user};
use crate::harness::{Client, Db, table};

const OWN: &str = "app.notes.owner = CURRENT_USER()";

async fn denied(client: &Client, sql: &str) -> Error {
    let error = client.fails(Reason::PermissionDenied, sql).await;
    let shown = format!("{error:?} {error}");
    assert!(!shown.contains(SECRET) && !shown.contains("secret"), "{shown}");
    error
}

/// All rows as they are.
async fn all(db: &Db) -> Vec<Vec<String>> {
    db.admin().rows("SELECT id, owner, level, body FROM notes ORDER BY id").await
}

#[tokio::test]
async fn rows_that_could_not_be_read_back_are_not_written() {
    for tier in TIERS {
        let db = db().await;
        notes(&db).await;
        let ana = user(&db, "ana", &[OWN]).await;
        bring(&db, tier).await;
        let before = all(&db).await;
        for sql in [
            "INSERT INTO notes VALUES (9, 'bo', 1, 'x')",
            "INSERT INTO notes VALUES (9, 'ana', 1, 'x'), (10, 'bo', 1, 'x')",
            "INSERT INTO notes VALUES (9, NULL, 1, 'x')",
            "INSERT INTO notes SELECT id + 100, 'bo', level, body FROM notes",
            "INSERT INTO notes (id, owner) VALUES (9, 'bo') RETURNING *",
            "INSERT INTO notes VALUES (9, 'bo', 1, 'x') ON CONFLICT DO NOTHING",
            "INSERT INTO notes VALUES (1, 'ana', 1, 'x') ON CONFLICT (id) DO UPDATE SET owner = 'bo'",
            "UPDATE notes SET owner = 'bo'",
            "UPDATE notes SET owner = NULL WHERE id = 1",
            "UPDATE notes SET owner = (SELECT max(owner) || 'x' FROM notes) WHERE id = 1",
            "UPDATE notes SET owner = 'bo' WHERE id = 1 RETURNING *",
        ] {
            denied(&ana, sql).await;
            // The check comes before the key is looked for: it does not depend on it.
        }
        assert_eq!(all(&db).await, before, "{tier:?}");
        ana.run("INSERT INTO notes (id, level) VALUES (9, 1)").await;
        assert_eq!(ana.rows("SELECT owner FROM notes WHERE id = 9").await, [["ana"]]);
        ana.run("INSERT INTO notes SELECT id + 100, owner, level, body FROM notes").await;
        assert_eq!(ana.value("SELECT count(*) FROM notes").await, "8");
    }
}

#[tokio::test]
async fn rows_of_others_are_neither_changed_nor_removed() {
    for tier in TIERS {
        let db = db().await;
        notes(&db).await;
        let ana = user(&db, "ana", &[OWN]).await;
        bring(&db, tier).await;
        let of_bo = "SELECT * FROM notes WHERE owner = 'bo' ORDER BY id";
        let before = db.admin().rows(of_bo).await;
        for (sql, rows) in [
            ("UPDATE notes SET level = 7", 3),
            ("UPDATE notes SET level = 7 WHERE id = 2", 0),
            ("UPDATE notes SET level = 7 WHERE id IN (1, 2, 3, 4)", 2),
            ("UPDATE notes SET level = level + 1 WHERE owner = 'bo'", 0),
            ("UPDATE notes SET level = (SELECT max(id) FROM notes) WHERE id > 1", 2),
            ("DELETE FROM notes WHERE id = 4", 0),
            ("DELETE FROM notes WHERE id IN (2, 3, 4)", 1),
            ("DELETE FROM notes WHERE owner <> 'ana'", 0),
            ("DELETE FROM notes", 2),
        ] {
            assert_eq!(ana.run(sql).await.row_count, rows, "{tier:?}: {sql}");
        }
        assert_eq!(db.admin().rows(of_bo).await, before, "{tier:?}");
    }
}

#[tokio::test]
async fn returning_shows_what_may_be_seen() {
    let db = db().await;
    notes(&db).await;
    let ana = user(&db, "ana", &[OWN]).await;
    let ids = |sql: &str| {
        let rows = ana.rows(sql.to_owned());
        async move { rows.await.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>() }
    };
    assert_eq!(ids("UPDATE notes SET level = 0 RETURNING id").await, ["1", "3", "5"]);
    assert_eq!(ids("UPDATE notes SET level = 1 WHERE id IN (1, 2) RETURNING id").await, ["1"]);
    assert_eq!(ids("INSERT INTO notes (id) VALUES (8) RETURNING id").await, ["8"]);
    assert_eq!(
        ids("INSERT INTO notes (id) VALUES (8) ON CONFLICT (id) DO UPDATE SET level = 2 RETURNING level").await,
        ["2"]
    );
    assert_eq!(ids("DELETE FROM notes WHERE id IN (1, 2, 8) RETURNING id").await, ["1", "8"]);
    assert_eq!(ids("DELETE FROM notes RETURNING id").await, ["3", "5"]);
    assert_eq!(db.admin().rows("SELECT id FROM notes ORDER BY id").await, table(&[["2"], ["4"]]));
}

#[tokio::test]
async fn a_conflict_with_a_hidden_row_tells_its_key_and_nothing_else() {
    for tier in TIERS {
        let db = db().await;
        notes(&db).await;
        let ana = user(&db, "ana", &[OWN]).await;
        bring(&db, tier).await;
        let before = all(&db).await;
        let error = ana.fails(Reason::PrimaryKeyViolation, "INSERT INTO notes VALUES (2, 'ana', 1, 'x')").await;
        assert!(!format!("{error:?}").contains("secret"), "{error}");
        for sql in [
            "INSERT INTO notes VALUES (2, 'ana', 1, 'x') ON CONFLICT DO NOTHING",
            "INSERT INTO notes VALUES (7, 'ana', 1, 'x'), (2, 'ana', 1, 'x') ON CONFLICT (id) DO NOTHING",
            "INSERT INTO notes VALUES (2, 'ana', 1, 'x') ON CONFLICT (id) DO UPDATE SET level = 7",
            "INSERT INTO notes VALUES (2, 'ana', 1, 'x') ON CONFLICT (id) DO UPDATE SET body = notes.body || excluded.body",
            "INSERT INTO notes VALUES (2, 'ana', 1, 'x') ON CONFLICT (id) DO UPDATE SET level = 10 / (notes.level - 5)",
            "INSERT INTO notes VALUES (2, 'ana', 1, 'x') ON CONFLICT (id) DO UPDATE SET level = 7 WHERE CAST(notes.body AS BIGINT) > 0",
            "INSERT INTO notes VALUES (2, 'ana', 1, 'x') ON CONFLICT (id) DO UPDATE SET level = 7 WHERE false RETURNING body",
        ] {
            let error = denied(&ana, sql).await;
            assert_eq!(error.metadata().get("key").map(String::as_str), Some("2"), "{sql}");
        }
        assert_eq!(all(&db).await, before, "{tier:?}");
        // Rows that are seen are found as ever.
        ana.run("INSERT INTO notes VALUES (1, 'ana', 1, 'x'), (7, 'ana', 1, 'y') ON CONFLICT DO NOTHING").await;
        ana.run("INSERT INTO notes VALUES (3, 'ana', 8, 'z') ON CONFLICT (id) DO UPDATE SET level = excluded.level")
            .await;
        assert_eq!(
            ana.rows("SELECT id, level, body FROM notes ORDER BY id").await,
            table(&[["1", "1", "10"], ["3", "8", "30"], ["5", "9", "50"], ["7", "1", "y"]])
        );
    }
}

#[tokio::test]
async fn whoever_sees_all_rows_writes_all() {
    let db = db().await;
    notes(&db).await;
    let ana = user(&db, "ana", &["app.*"]).await;
    ana.run(
        "UPDATE notes SET owner = 'ana'; INSERT INTO notes VALUES (6, 'x', 1, 'x'); DELETE FROM notes WHERE id = 2",
    )
    .await;
    assert_eq!(ana.value("SELECT count(*) FROM notes").await, "5");
}

/// A row that leaves what somebody sees while it is being changed is not changed.
#[tokio::test]
async fn a_row_that_is_given_away_meanwhile_is_not_written() {
    let db = db().await;
    notes(&db).await;
    let ana = user(&db, "ana", &[OWN]).await;
    let admin = db.admin();
    let writer = {
        let ana = ana.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                ana.run("UPDATE notes SET level = level + 1 WHERE owner = 'ana'").await;
            }
        })
    };
    for _ in 0..50 {
        admin.run("UPDATE notes SET owner = 'bo', level = 0 WHERE id = 1").await;
        tokio::task::yield_now().await;
        assert_eq!(admin.rows("SELECT level FROM notes WHERE id = 1").await, [["0"]]);
        admin.run("UPDATE notes SET owner = 'ana' WHERE id = 1").await;
    }
    writer.await.unwrap();
}
