use arrow::array::RecordBatch;
use kalamdb_engine::{Error, IngestTarget, Reason};

use super::{append, batch, ingest, ints, notes, refused, texts};
use crate::harness::{Client, Db, table};

async fn table_of_notes() -> (Db, Client) {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT)").await;
    (db, admin)
}

fn row_of(error: &Error) -> &str {
    &error.metadata()["row"]
}

#[tokio::test]
async fn a_key_that_is_null_is_told_by_its_row() {
    let (_db, admin) = table_of_notes().await;
    let rows = batch(vec![("id", ints([Some(1), Some(2), None])), ("body", texts(["a", "b", "c"]))]);
    let batches = vec![notes(10..15), rows];
    let error = ingest(&admin, IngestTarget::append("app", "notes"), batches).await.unwrap_err();
    assert_eq!((error.reason(), row_of(&error)), (Reason::NotNullViolation, "7"), "{error}");
    assert!(error.message().ends_with("Nothing was ingested."), "{error}");
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "0");
}

#[tokio::test]
async fn a_key_that_is_there_twice_in_the_data_is_told_by_both_rows() {
    let (_db, admin) = table_of_notes().await;
    let within = refused(&admin, "notes", Reason::PrimaryKeyViolation, notes([5, 3, 4, 3, 5])).await;
    assert_eq!((row_of(&within), within.metadata()["key"].as_str()), ("3", "3"));
    assert!(within.message().contains("Rows 1 and 3"), "{within}");
    // In lots that are encoded apart.
    let batches: Vec<RecordBatch> = vec![notes(0..20_000), notes(20_000..40_000), notes([40_000, 123])];
    let error = ingest(&admin, IngestTarget::append("app", "notes"), batches).await.unwrap_err();
    assert_eq!((row_of(&error), error.metadata()["key"].as_str()), ("40001", "123"));
    assert!(error.message().contains("Rows 123 and 40001"), "{error}");
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "0");
}

#[tokio::test]
async fn a_key_that_the_table_has_is_told_by_its_row() {
    let (_db, admin) = table_of_notes().await;
    admin.run("INSERT INTO notes VALUES (500, 'mine'), (70000, 'mine too')").await;
    // Many keys beside few rows, and few keys beside many rows: they are looked for in different ways.
    let error = refused(&admin, "notes", Reason::PrimaryKeyViolation, notes(0..1_000)).await;
    assert_eq!((row_of(&error), error.metadata()["key"].as_str()), ("500", "500"));
    assert!(error.message().contains("app.notes has already"), "{error}");
    append(&admin, "notes", notes((1_000..60_000).rev())).await;
    let error = refused(&admin, "notes", Reason::PrimaryKeyViolation, notes([80_000, 999, 59_999])).await;
    assert_eq!((row_of(&error), error.metadata()["key"].as_str()), ("2", "59999"));
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "59002");
    append(&admin, "notes", notes([80_000, 999])).await;
}

#[tokio::test]
async fn keys_of_the_cold_tier_are_found_and_those_beside_them_are_free() {
    let (_db, admin) = table_of_notes().await;
    append(&admin, "notes", notes((0..6_000).map(|id| id * 2))).await;
    admin.run("FLUSH TABLE notes").await;
    admin.run("DELETE FROM notes WHERE id = 4000").await;
    let error = refused(&admin, "notes", Reason::PrimaryKeyViolation, notes([1, 3, 5_998, 7])).await;
    assert_eq!((row_of(&error), error.metadata()["key"].as_str()), ("2", "5998"));
    // Between cold keys, one that was deleted, and hot again.
    append(&admin, "notes", notes([1, 4_000, 11_999, 100_000])).await;
    refused(&admin, "notes", Reason::PrimaryKeyViolation, notes([4_000])).await;
    assert_eq!(admin.value("SELECT count(*) FROM notes").await, "6003");
    assert_eq!(admin.rows("SELECT body FROM notes WHERE id = 4000").await, table(&[["note 4000"]]));
}

#[tokio::test]
async fn keys_that_are_texts() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE words (word TEXT PRIMARY KEY, n BIGINT)").await;
    let words: Vec<String> = (0..5_000).map(|i| format!("word {}", (i * 7_919) % 5_000)).collect();
    let of = |words: &[&str]| batch(vec![("word", texts(words.to_vec())), ("n", ints(0..words.len() as i64))]);
    let all: Vec<&str> = words.iter().map(String::as_str).chain(["", "a\0b", "\u{1f600}"]).collect();
    append(&admin, "words", of(&all)).await;
    assert_eq!(admin.value("SELECT count(DISTINCT word) FROM words").await, "5003");
    let error = refused(&admin, "words", Reason::PrimaryKeyViolation, of(&["new", "word 17"])).await;
    assert_eq!((row_of(&error), error.metadata()["key"].as_str()), ("1", "'word 17'"));
    refused(&admin, "words", Reason::PrimaryKeyViolation, of(&["new", ""])).await;
    refused(&admin, "words", Reason::PrimaryKeyViolation, of(&["new", "newer", "new"])).await;
    assert_eq!(
        admin.value("SELECT n FROM words WHERE word = 'word 17'").await,
        words.iter().position(|w| w == "word 17").unwrap().to_string()
    );
}

#[tokio::test]
async fn rows_of_a_stream_that_have_expired_give_their_keys_away() {
    let db = Db::memory().await;
    db.admin()
        .run("CREATE STREAM TABLE s (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), body TEXT) TTL '1 second'")
        .await;
    let ana = db.user("ana");
    append(&ana, "s", notes(0..100)).await;
    refused(&ana, "s", Reason::PrimaryKeyViolation, notes(50..60)).await;
    db.env.advance_us(2_000_000);
    assert_eq!(ana.value("SELECT count(*) FROM s").await, "0");
    append(&ana, "s", notes(50..60)).await;
    assert_eq!(ana.value("SELECT count(*) FROM s").await, "10");
    // Keys that are made need no search.
    append(&ana, "s", batch(vec![("body", texts(["x", "y"]))])).await;
    assert_eq!(ana.value("SELECT count(*) FROM s").await, "12");
}

#[tokio::test]
async fn nothing_is_no_commit() {
    let (db, admin) = table_of_notes().await;
    let before = db.engine().last_commit_seq();
    let outcome = append(&admin, "notes", notes([])).await;
    assert_eq!((outcome.rows, outcome.commit_seq, outcome.parts), (0, None, 0));
    let none = admin.session.ingest(IngestTarget::append("app", "notes"), notes([]).schema(), futures::stream::empty());
    assert_eq!(none.await.unwrap().rows, 0);
    assert_eq!(db.engine().last_commit_seq(), before);
    // A batch of other columns than the first one.
    let other = batch(vec![("id", ints([1]))]);
    let batches = vec![Ok(notes([1])), Ok(other)];
    let target = IngestTarget::append("app", "notes");
    let error = super::ingest_all(&admin, target, notes([]).schema(), batches).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
}
