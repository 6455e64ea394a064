use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use kalamdb_engine::{ActsFor, Caller, IngestTarget, Reason, Role, UserId};

use super::{append, batch, ingest, ints, notes, refused, texts};
use crate::harness::{Db, table};

/// Rows of users, in turn.
fn rows_of(users: &[&str], ids: std::ops::Range<i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.collect();
    let owners: Vec<&str> = ids.iter().map(|id| users[*id as usize % users.len()]).collect();
    batch(vec![("_user_id", texts(owners)), ("id", ints(ids))])
}

async fn db() -> Db {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, author TEXT DEFAULT CURRENT_USER(), body TEXT)").await;
    db
}

#[tokio::test]
async fn rows_go_to_the_partitions_of_the_users_that_they_name() {
    let db = db().await;
    let service = db.role(Role::Service);
    let users: Vec<String> = (0..1_000).map(|i| format!("user {i}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let batches = vec![rows_of(&users, 0..12_000), rows_of(&users, 12_000..30_000), rows_of(&["ana"], 30_000..30_010)];
    let outcome = ingest(&service, IngestTarget::append("app", "t"), batches).await.unwrap();
    // All of it is one commit.
    assert_eq!((outcome.rows, outcome.parts), (30_010, 1));
    assert_eq!(outcome.commit_seq, Some(db.engine().last_commit_seq()));
    for user in [0, 7, 999] {
        let own = db.user(users[user]);
        assert_eq!(own.value("SELECT count(*) FROM t").await, "30");
        assert_eq!(
            own.value(format!("SELECT count(*) FROM t WHERE id % 1000 = {user} AND author = CURRENT_USER()")).await,
            "30"
        );
    }
    assert_eq!(db.user("ana").value("SELECT min(id) FROM t").await, "30000");
    assert_eq!(db.user("nobody").value("SELECT count(*) FROM t").await, "0");
    let all = service.rows("SELECT _user_id, count(*) FROM app.all_users.t GROUP BY 1").await;
    let all: BTreeMap<String, String> = all.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!((all.len(), all["user 500"].as_str(), all["ana"].as_str()), (1_001, "30", "10"));
}

#[tokio::test]
async fn the_same_key_is_another_row_for_another_user() {
    let db = db().await;
    let service = db.role(Role::Service);
    let rows =
        |owners: &[&str], ids: &[i64]| batch(vec![("id", ints(ids.to_vec())), ("_user_id", texts(owners.to_vec()))]);
    append(&service, "t", rows(&["a", "b", "c"], &[1, 1, 1])).await;
    let error = refused(&service, "t", Reason::PrimaryKeyViolation, rows(&["d", "a", "d", "b"], &[2, 2, 3, 1])).await;
    assert_eq!((error.metadata()["row"].as_str(), error.metadata()["key"].as_str()), ("3", "1"));
    assert!(error.message().contains("'b'"), "{error}");
    let error = refused(&service, "t", Reason::PrimaryKeyViolation, rows(&["d", "e", "e", "d"], &[5, 6, 6, 5])).await;
    assert!(error.message().contains("Rows 1 and 2") && error.message().contains("'e'"), "{error}");
    assert_eq!(db.admin().value("SELECT count(*) FROM app.all_users.t").await, "3");
    // Their cold rows, too.
    db.admin().run("FLUSH TABLE t FORCE").await;
    let error = refused(&service, "t", Reason::PrimaryKeyViolation, rows(&["b", "c"], &[2, 1])).await;
    assert_eq!(error.metadata()["row"], "1");
    append(&service, "t", rows(&["b", "c"], &[2, 2])).await;
}

#[tokio::test]
async fn without_the_column_rows_are_those_of_the_user_acted_for() {
    let db = db().await;
    append(&db.user("ana"), "t", notes(0..10)).await;
    append(&db.acting(Role::Service, "bo"), "t", notes(0..5)).await;
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t WHERE author = 'ana'").await, "10");
    assert_eq!(db.user("bo").value("SELECT count(*) FROM t WHERE author = 'bo'").await, "5");
    // The column says more than the header.
    append(&db.acting(Role::Service, "bo"), "t", rows_of(&["cy"], 0..3)).await;
    assert_eq!(db.user("cy").rows("SELECT id, author FROM t WHERE id = 2").await, table(&[["2", "cy"]]));
}

#[tokio::test]
async fn who_may_not_name_users_is_refused_and_so_are_users_that_cannot_be() {
    let db = db().await;
    let error = refused(&db.user("ana"), "t", Reason::PermissionDenied, rows_of(&["ana"], 0..1)).await;
    assert_eq!(error.metadata()["column"], "_user_id");
    let service = db.role(Role::Service);
    let long = "x".repeat(257);
    for (owner, reason) in [
        (Some(""), Reason::InvalidUserId),
        (Some(long.as_str()), Reason::InvalidUserId),
        (None, Reason::NotNullViolation),
    ] {
        let rows = batch(vec![("id", ints([1, 2])), ("_user_id", texts([Some("ana"), owner]))]);
        let error = refused(&service, "t", reason, rows).await;
        assert_eq!(error.metadata()["row"], "1", "{error}");
    }
    let numbers = batch(vec![("id", ints([1])), ("_user_id", ints([7]))]);
    append(&service, "t", numbers).await;
    assert_eq!(db.user("7").value("SELECT count(*) FROM t").await, "1");
    db.admin().run("CREATE SHARED TABLE shared (id BIGINT PRIMARY KEY)").await;
    refused(&db.admin(), "shared", Reason::ColumnNotFound, rows_of(&["ana"], 0..1)).await;
    assert_eq!(db.admin().value("SELECT count(*) FROM app.all_users.t").await, "1");
}

#[tokio::test]
async fn rows_are_written_only_for_users_that_the_caller_may_act_for() {
    let db = db().await;
    db.admin().run("CREATE USER ana; CREATE USER boss ROLE dba; CREATE USER gone; ALTER USER gone DISABLE").await;
    let id = async |name: &str| {
        db.admin().value(format!("SELECT user_id FROM system.users WHERE username = '{name}'")).await
    };
    let (ana, boss, gone) = (id("ana").await, id("boss").await, id("gone").await);
    let only = |or_unknown| {
        let service = Caller::new(UserId::new("bot").unwrap(), Role::Service);
        db.caller(service.acting_only_for(ActsFor::Users { or_unknown }))
    };
    let strict = only(false);
    append(&strict, "t", rows_of(&[&ana, "bot"], 0..2)).await;
    for (other, reason) in [
        (boss.as_str(), Reason::PermissionDenied),
        (gone.as_str(), Reason::PermissionDenied),
        ("nobody", Reason::UserNotFound),
    ] {
        let error = refused(&strict, "t", reason, rows_of(&[&ana, other], 10..12)).await;
        assert_eq!((error.metadata()["row"].as_str(), error.metadata()["user_id"].as_str()), ("1", other), "{error}");
    }
    append(&only(true), "t", rows_of(&["nobody"], 20..21)).await;
    refused(&only(true), "t", Reason::PermissionDenied, rows_of(&[&boss], 30..31)).await;
    assert_eq!(db.admin().value("SELECT count(*) FROM app.all_users.t").await, "3");
}
