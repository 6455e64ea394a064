use kalamdb_engine::{Reason, Role};

use super::{append, batch, ints, notes, refused, texts};
use crate::harness::Db;

#[tokio::test]
async fn access_of_shared_tables_is_that_of_insert() {
    let db = Db::memory().await;
    db.admin()
        .run(
            "CREATE SHARED TABLE open (id BIGINT PRIMARY KEY, body TEXT) ACCESS public; \
             CREATE SHARED TABLE closed (id BIGINT PRIMARY KEY, body TEXT) ACCESS private",
        )
        .await;
    append(&db.user("ana"), "open", notes(0..3)).await;
    append(&db.role(Role::Service), "closed", notes(0..3)).await;
    // It says as little as of a table that is not there.
    let reason = db.user("ana").try_run("INSERT INTO closed VALUES (9, '')").await.unwrap_err().reason();
    refused(&db.user("ana"), "closed", reason, notes(9..10)).await;
    assert_eq!(db.admin().value("SELECT count(*) FROM closed").await, "3");
}

#[tokio::test]
async fn rows_that_the_rules_do_not_show_cannot_be_ingested() {
    let db = Db::memory().await;
    db.admin()
        .run(
            "CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, owner TEXT DEFAULT CURRENT_USER(), body TEXT) ACCESS restricted; \
             CREATE USER 'ana' PERMISSIONS ('app.notes.owner = CURRENT_USER()'); \
             INSERT INTO notes VALUES (100, 'bo', 'of another')",
        )
        .await;
    let ana = db.user("ana");
    append(&ana, "notes", notes(0..3)).await;
    let mixed = batch(vec![("id", ints([3, 4])), ("owner", texts(["ana", "bo"]))]);
    refused(&ana, "notes", Reason::PermissionDenied, mixed).await;
    // The rules come before what is said of keys.
    let taken = batch(vec![("id", ints([100])), ("owner", texts(["bo"]))]);
    refused(&ana, "notes", Reason::PermissionDenied, taken).await;
    assert_eq!(db.admin().value("SELECT count(*) FROM notes").await, "4");
    assert_eq!(ana.value("SELECT count(*) FROM notes").await, "3");
}

#[tokio::test]
async fn what_was_taken_away_meanwhile_is_not_written() {
    use futures::{StreamExt, stream};
    use kalamdb_engine::IngestTarget;

    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT) ACCESS public").await;
    for change in ["ALTER TABLE notes SET ACCESS private", "DROP TABLE notes"] {
        let changing = admin.clone();
        let rows = stream::iter([Ok(notes(0..5))]);
        let batches = rows.chain(stream::once(async move {
            changing.run(change).await;
            Ok(notes(5..10))
        }));
        let ana = db.user("ana");
        let target = IngestTarget::append("app", "notes");
        let error = ana.session.ingest(target, notes([]).schema(), batches).await.unwrap_err();
        assert!(matches!(error.reason(), Reason::PermissionDenied | Reason::TableNotFound), "{change}: {error}");
        if change.starts_with("ALTER") {
            assert_eq!(admin.value("SELECT count(*) FROM notes").await, "0");
            admin.run("ALTER TABLE notes SET ACCESS public").await;
        }
    }
}
