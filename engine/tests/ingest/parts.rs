use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use futures::{StreamExt, stream};
use kalamdb_engine::{EngineSettings, Error, IngestSettings, IngestTarget, Reason};

use super::{batch, ingest, ingest_all, ints, notes, texts};
use crate::harness::{Client, Db, small};

const MIB: usize = 1024 * 1024;

async fn db(ingest: IngestSettings) -> (Db, Client) {
    let db = Db::with(EngineSettings { ingest, ..EngineSettings::default() }).await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT)").await;
    (db, admin)
}

/// Rows of about a KiB each.
fn wide(ids: std::ops::Range<i64>) -> RecordBatch {
    let body = "x".repeat(1_000);
    let bodies: Vec<&str> = ids.clone().map(|_| body.as_str()).collect();
    batch(vec![("id", ints(ids)), ("body", texts(bodies))])
}

fn in_parts() -> IngestTarget {
    let mut target = IngestTarget::append("app", "notes");
    target.options.atomic = false;
    target
}

#[tokio::test]
async fn an_atomic_ingest_has_a_bound_and_parts_have_none() {
    let bounds = IngestSettings { max_bytes: MIB, ..IngestSettings::default() };
    let (db, admin) = db(bounds).await;
    let batches: Vec<RecordBatch> = (0..30).map(|i| wide(i * 100..(i + 1) * 100)).collect();
    let error = ingest(&admin, IngestTarget::append("app", "notes"), batches.clone()).await.unwrap_err();
    assert_eq!((error.reason(), error.metadata()["limit"].as_str()), (Reason::WriteTooLarge, "ingest.max_bytes"));
    assert!(error.message().contains("kalamdb.ingest.atomic"), "{error}");
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "0");
    // Lots have 8,192 rows at least: these are cut by their number of batches only when there are more.
    let many: Vec<RecordBatch> = (0..4).map(|i| wide(i * 9_000..(i + 1) * 9_000)).collect();
    let outcome = ingest(&admin, in_parts(), many).await.unwrap();
    assert_eq!(outcome.rows, 36_000);
    assert!(outcome.parts > 1, "{outcome:?}");
    assert_eq!(outcome.commit_seq, Some(db.engine().last_commit_seq()));
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "36000");
}

#[tokio::test]
async fn the_parts_before_an_error_stay_and_are_counted() {
    let (_db, admin) = db(IngestSettings { max_bytes: MIB, ..IngestSettings::default() }).await;
    let mut batches: Vec<RecordBatch> = (0..3).map(|i| wide(i * 9_000..(i + 1) * 9_000)).collect();
    batches.push(wide(26_999..36_000));
    batches.push(wide(40_000..50_000));
    let error = ingest(&admin, in_parts(), batches).await.unwrap_err();
    assert_eq!((error.reason(), error.metadata()["row"].as_str()), (Reason::PrimaryKeyViolation, "27000"), "{error}");
    // Of the part that the row is in, none.
    let ingested = error.metadata()["rows_ingested"].clone();
    assert!((1..=27_000).contains(&ingested.parse::<u64>().unwrap()), "{ingested}");
    assert!(error.message().contains(&format!("The first {ingested} rows are ingested")), "{error}");
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, ingested);
}

#[tokio::test]
async fn a_stream_that_fails_leaves_nothing() {
    let (_db, admin) = db(IngestSettings::default()).await;
    let gone = || Error::new(Reason::StatementCancelled, "The client went away.");
    let schema = notes([]).schema();
    for before in [0, 1, 20] {
        let mut batches: Vec<Result<RecordBatch, Error>> =
            (0..before).map(|i| Ok(notes(i * 10_000..(i + 1) * 10_000))).collect();
        batches.push(Err(gone()));
        let target = IngestTarget::append("app", "notes");
        let error = ingest_all(&admin, target, Arc::clone(&schema), batches).await.unwrap_err();
        assert_eq!(error.reason(), Reason::StatementCancelled);
        assert!(error.message().ends_with("Nothing was ingested."), "{error}");
        assert_eq!(admin.value("SELECT count(*) FROM notes").await, "0");
    }
}

#[tokio::test]
async fn an_ingest_that_nobody_waits_for_leaves_nothing() {
    let (_db, admin) = db(IngestSettings::default()).await;
    let (sent, waited) = tokio::sync::oneshot::channel();
    let mut sent = Some(sent);
    // All rows, and then neither an end nor more.
    let rows = stream::iter([Ok(notes(0..50_000))]);
    let batches = rows.chain(stream::poll_fn(move |_| {
        if let Some(sent) = sent.take() {
            sent.send(()).unwrap();
        }
        std::task::Poll::Pending
    }));
    let session = admin.session.clone();
    let schema = notes([]).schema();
    let ingesting =
        tokio::spawn(async move { session.ingest(IngestTarget::append("app", "notes"), schema, batches).await });
    waited.await.unwrap();
    ingesting.abort();
    assert!(ingesting.await.unwrap_err().is_cancelled());
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "0");
    super::append(&admin, "notes", notes(0..10)).await;
}

#[tokio::test]
async fn a_stream_that_stands_still_is_given_up() {
    let db = Db::with(EngineSettings { statement_timeout_ms: 50, ..EngineSettings::default() }).await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT)").await;
    let batches = stream::iter([Ok(notes(0..5))]).chain(stream::pending());
    let ingesting = admin.session.ingest(IngestTarget::append("app", "notes"), notes([]).schema(), batches);
    let error = tokio::time::timeout(Duration::from_secs(30), ingesting).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::StatementTimeout);
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "0");
}

#[tokio::test]
async fn all_ingests_together_are_bounded_and_give_back_what_they_held() {
    let bounds = IngestSettings { max_total_bytes: 4 * MIB, ..IngestSettings::default() };
    let (_db, admin) = db(bounds).await;
    let error = ingest(&admin, IngestTarget::append("app", "notes"), vec![wide(0..10_000)]).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["limit"].as_str()),
        (Reason::TooManyRequests, "ingest.max_total_bytes")
    );
    for round in 0..5 {
        let outcome =
            ingest(&admin, IngestTarget::append("app", "notes"), vec![wide(round * 1_000..(round + 1) * 1_000)]);
        assert_eq!(outcome.await.unwrap().rows, 1_000);
    }
}

#[tokio::test]
async fn what_was_ingested_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Db::on_disk(dir.path()).await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT); CREATE USER TABLE own (id BIGINT PRIMARY KEY, body TEXT)").await;
    assert!(small().write_buffer_bytes < 8 * MIB);
    let batches: Vec<RecordBatch> = (0..3).map(|i| wide(i * 9_000..(i + 1) * 9_000)).collect();
    ingest(&admin, IngestTarget::append("app", "notes"), batches).await.unwrap();
    super::append(&db.user("ana"), "own", notes(0..1_000)).await;
    drop(admin);
    db.reopen();
    let admin = db.admin();
    assert_eq!(admin.value("SELECT count(*) FROM notes WHERE length(body) = 1000").await, "27000");
    assert_eq!(db.user("ana").value("SELECT count(*) FROM own").await, "1000");
    let error = super::refused(&admin, "notes", Reason::PrimaryKeyViolation, notes([30_000, 26_999])).await;
    assert_eq!(error.metadata()["row"], "1");
    // Rows that were ingested are rows as any others.
    admin.run("UPDATE notes SET body = 'short' WHERE id = 5; DELETE FROM notes WHERE id > 5").await;
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "6");
}

#[tokio::test]
async fn a_table_is_made_with_its_first_part_and_gets_the_others() {
    let db = Db::with(EngineSettings {
        ingest: IngestSettings { max_bytes: MIB, ..IngestSettings::default() },
        ..EngineSettings::default()
    })
    .await;
    let admin = db.admin();
    let mut target = IngestTarget::create("app", "made");
    target.options.atomic = false;
    let outcome = ingest(&admin, target, (0..4).map(|i| wide(i * 9_000..(i + 1) * 9_000)).collect()).await.unwrap();
    assert!(outcome.created && outcome.parts > 1, "{outcome:?}");
    assert_eq!(outcome.rows, 36_000);
    assert_eq!(admin.value("SELECT count(DISTINCT id) FROM made").await, "36000");
    admin.run("DROP TABLE made").await;
    admin.run("CREATE SHARED TABLE made (id BIGINT PRIMARY KEY, body TEXT)").await;
    assert_eq!(admin.value("SELECT count(*) FROM made").await, "0");
}

#[tokio::test]
async fn a_row_that_no_statement_could_change_again_is_refused() {
    let db = Db::with(EngineSettings { max_write_bytes: 2 * MIB, ..EngineSettings::default() }).await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT)").await;
    let (small, large) = ("x".repeat(MIB), "x".repeat(2 * MIB + 1));
    let rows = |body: &str| batch(vec![("id", ints([1, 2])), ("body", texts(["short", body]))]);
    let error = ingest(&admin, IngestTarget::append("app", "notes"), vec![rows(&large)]).await.unwrap_err();
    assert_eq!((error.reason(), error.metadata()["row"].as_str()), (Reason::WriteTooLarge, "1"), "{error}");
    assert_eq!(error.metadata()["limit"], "limits.max_write_bytes");
    ingest(&admin, IngestTarget::append("app", "notes"), vec![rows(&small)]).await.unwrap();
    admin.run("DELETE FROM notes").await;
}
