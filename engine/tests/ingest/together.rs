use std::time::Duration;

use futures::future::join_all;
use kalamdb_engine::{ChangeKind, IngestTarget, LiveEvent, LiveQueryRequest, Reason, Role};

use super::{append, batch, ingest, ints, notes, texts};
use crate::harness::Db;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn live_queries_see_the_rows_as_inserts_of_one_commit() {
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    let request = |sql: &str| LiveQueryRequest {
        sql: sql.to_owned(),
        namespace: Some("app".to_owned()),
        ..LiveQueryRequest::default()
    };
    let mut live = db.user("ana").session.subscribe(request("SUBSCRIBE TO t WHERE id >= 100")).unwrap();
    while !matches!(tokio::time::timeout(LIMIT, live.next()).await.unwrap(), Some(LiveEvent::Ready { .. })) {}
    let rows = batch(vec![
        ("id", ints((0..20_000).chain(0..50))),
        ("_user_id", texts(std::iter::repeat_n("ana", 20_000).chain(std::iter::repeat_n("bo", 50)))),
    ]);
    let outcome = append(&db.role(Role::Service), "t", rows).await;
    let mut seen = Vec::new();
    while seen.len() < 19_900 {
        match tokio::time::timeout(LIMIT, live.next()).await.unwrap() {
            Some(LiveEvent::Changes(commits)) => {
                for commit in commits {
                    assert_eq!(commit.commit_seq, outcome.commit_seq.unwrap());
                    for change in &commit.changes {
                        assert_eq!(change.kind, ChangeKind::Insert);
                        assert!(change.old.is_none());
                        let new = change.new.as_ref().unwrap();
                        seen.extend(crate::harness::texts(&new.batch.slice(new.row, 1)));
                    }
                }
            }
            Some(_) => {}
            None => panic!("the live query ended"),
        }
    }
    let ids: Vec<i64> = seen.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(ids, (100..20_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_of_several_that_bring_the_same_keys_wins_and_brings_all_of_its_rows() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT)").await;
    for round in 0..5 {
        let from = round * 100_000;
        let ingests = (0..4).map(|i| {
            let admin = admin.clone();
            // Each shares its first and its last rows with others.
            let rows = vec![notes(from + i * 900..from + i * 900 + 1_000)];
            async move { ingest(&admin, IngestTarget::append("app", "notes"), rows).await }
        });
        let insert = admin.try_run(format!("INSERT INTO notes VALUES ({}, 'mine')", from + 950));
        let (outcomes, inserted) = tokio::join!(join_all(ingests), insert);
        let mut expected = u64::from(inserted.is_ok());
        for outcome in outcomes {
            match outcome {
                Ok(outcome) => expected += outcome.rows,
                Err(error) => assert_eq!(error.reason(), Reason::PrimaryKeyViolation, "{error}"),
            }
        }
        assert!(expected >= 1_000);
        let count = format!("SELECT count(*) FROM notes WHERE id >= {from}");
        assert_eq!(admin.value(count).await, expected.to_string());
    }
}

#[tokio::test]
async fn flushes_and_ingests_side_by_side_lose_nothing() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT)").await;
    let flushing = admin.clone();
    let flushes = async move {
        for _ in 0..10 {
            flushing.run("FLUSH TABLE notes").await;
        }
    };
    let writing = admin.clone();
    let ingests = async move {
        for round in 0..20 {
            // In another order than that of the keys.
            let rows = notes((round * 1_000..(round + 1) * 1_000).rev());
            append(&writing, "notes", rows).await;
        }
    };
    tokio::join!(flushes, ingests);
    assert_eq!(admin.value("SELECT count(DISTINCT id) FROM notes").await, "20000");
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "20000");
    for taken in [0, 9_999, 19_999] {
        super::refused(&admin, "notes", Reason::PrimaryKeyViolation, notes([taken])).await;
    }
}

#[tokio::test]
async fn a_user_who_leaves_meanwhile_gets_no_rows() {
    use futures::{StreamExt, stream};

    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT); CREATE USER 'ana'").await;
    let rows = |owner: &'static str| batch(vec![("id", ints([1])), ("_user_id", texts([owner]))]);
    let leaving = admin.clone();
    let batches = stream::iter([Ok(rows("bo"))]).chain(stream::once(async move {
        leaving.run("DROP USER 'ana'").await;
        Ok(rows("ana"))
    }));
    let ingesting = admin.session.ingest(IngestTarget::append("app", "t"), rows("bo").schema(), batches);
    assert_eq!(ingesting.await.unwrap_err().reason(), Reason::UserNotFound);
    assert_eq!(admin.value("SELECT count(*) FROM app.all_users.t").await, "0");
}
