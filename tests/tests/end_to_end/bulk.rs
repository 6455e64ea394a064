//! Bulk reads and writes of `kalam-link`, over Arrow Flight SQL.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray},
    compute::concat_batches,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
    util::pretty::pretty_format_batches,
};
use futures::{StreamExt, TryStreamExt, stream};
use kalam_link::{BulkTarget, Client, Error, ErrorKind, params};
use kalamdb_tests::{
    client::unique_name,
    server::{server_with, shared_url},
};

/// A client in a new namespace.
async fn client_of(url: &str) -> Client {
    let namespace = unique_name("bulk");
    let client = Client::builder(url).user("alice").namespace(&namespace).connect().await.unwrap();
    client.execute(format!("CREATE NAMESPACE {namespace}"), ()).await.unwrap();
    client
}

async fn with_table() -> Client {
    let client = client_of(shared_url()).await;
    client.execute("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT)", ()).await.unwrap();
    client
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("body", DataType::Utf8, true)]))
}

fn notes(ids: std::ops::Range<i64>) -> RecordBatch {
    let bodies: ArrayRef = Arc::new(ids.clone().map(|id| Some(format!("note {id}"))).collect::<StringArray>());
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(ids)), bodies]).unwrap()
}

async fn write(client: &Client, target: BulkTarget, batches: Vec<RecordBatch>) -> kalam_link::Result<u64> {
    let schema = batches.first().map_or_else(schema, RecordBatch::schema);
    client.bulk_write(target, schema, stream::iter(batches.into_iter().map(Ok))).await
}

async fn count(client: &Client, table: &str) -> i64 {
    client.execute(format!("SELECT count(*) FROM {table}"), ()).await.unwrap().value(0).unwrap()
}

async fn read(client: &Client, sql: &str, params: impl kalam_link::IntoParams) -> RecordBatch {
    let rows = client.bulk_read(sql, params).await.unwrap();
    let schema = Arc::clone(rows.schema());
    let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
    concat_batches(&schema, &batches).unwrap()
}

#[tokio::test]
async fn what_is_written_in_bulk_is_read_in_bulk() {
    let client = with_table().await;
    let batches = (0..20).map(|i| notes(i * 5_000..(i + 1) * 5_000)).collect();
    assert_eq!(write(&client, BulkTarget::append("notes"), batches).await.unwrap(), 100_000);
    let all = read(&client, "SELECT * FROM notes ORDER BY id", ()).await;
    assert_eq!((all.num_rows(), all.num_columns()), (100_000, 2));
    assert_eq!(all.column(0).as_primitive::<Int64Type>().value(99_999), 99_999);
    assert_eq!(all.column(1).as_string::<i32>().value(4_321), "note 4321");
    // With parameters, and from another namespace than the client's.
    let some = read(
        &client.in_namespace(""),
        &format!("SELECT id FROM {}.notes WHERE id > $1 AND body <> $2", client.namespace()),
        params![99_995, "note 99998"],
    )
    .await;
    let mut ids = some.column(0).as_primitive::<Int64Type>().values().to_vec();
    ids.sort_unstable();
    assert_eq!(ids, [99_996, 99_997, 99_999]);
    let none = client.bulk_read("SELECT id FROM notes WHERE false", ()).await.unwrap();
    assert_eq!(none.schema().field(0).name(), "id");
    assert_eq!(none.try_collect::<Vec<_>>().await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    // What is read is written as it is.
    let copied = all.schema();
    let target = BulkTarget::create("copies").access("public");
    assert_eq!(client.bulk_write(target, copied, stream::iter([Ok(all.clone())])).await.unwrap(), 100_000);
    let copies = read(&client, "SELECT * FROM copies ORDER BY id", ()).await;
    assert_eq!(
        pretty_format_batches(&[copies.slice(5, 3)]).unwrap().to_string(),
        pretty_format_batches(&[all.slice(5, 3)]).unwrap().to_string()
    );
}

#[tokio::test]
async fn errors_are_those_of_any_call() {
    let client = with_table().await;
    write(&client, BulkTarget::append("notes"), vec![notes(0..10)]).await.unwrap();
    let taken = write(&client, BulkTarget::append("notes"), vec![notes(20..30), notes(9..12)]).await.unwrap_err();
    assert_eq!((taken.reason(), taken.kind()), (Some("PRIMARY_KEY_VIOLATION"), ErrorKind::AlreadyExists));
    assert_eq!((taken.metadata_value("row"), taken.metadata_value("key")), (Some("10"), Some("9")));
    let missing = write(&client, BulkTarget::append("nowhere"), vec![notes(0..1)]).await.unwrap_err();
    assert_eq!(missing.reason(), Some("TABLE_NOT_FOUND"));
    let exists = write(&client, BulkTarget::create("notes"), vec![notes(20..21)]).await.unwrap_err();
    assert_eq!(exists.reason(), Some("TABLE_EXISTS"));
    let option = BulkTarget::append("notes").option("kalamdb.ingest.speed", "high");
    let unknown = write(&client, option, vec![notes(20..21)]).await.unwrap_err();
    assert_eq!(unknown.reason(), Some("INVALID_REQUEST"));
    let no_namespace = write(&client.in_namespace(""), BulkTarget::append("notes"), vec![notes(20..21)]).await;
    assert_eq!(no_namespace.unwrap_err().reason(), Some("NAMESPACE_REQUIRED"));
    assert_eq!(count(&client, "notes").await, 10);
    let syntax = client.bulk_read("SELECT * FORM notes", ()).await.unwrap_err();
    assert_eq!(syntax.kind(), ErrorKind::InvalidRequest, "{syntax:?}");
    // Found while rows are read: in the stream, if not before it.
    let late = match client.bulk_read("SELECT 1 / (id - 5) FROM notes", ()).await {
        Ok(rows) => rows.try_collect::<Vec<_>>().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(late.reason(), Some("INVALID_VALUE"), "{late:?}");
}

#[tokio::test]
async fn a_stream_that_fails_writes_nothing_and_its_error_comes_back() {
    let client = with_table().await;
    let broken = || Error::Configuration { message: "the file cannot be read".to_owned() };
    for before in [0, 1, 30] {
        let batches = (0..before).map(|i| Ok(notes(i * 5_000..(i + 1) * 5_000))).chain([Err(broken())]);
        let batches: Vec<_> = batches.collect();
        let outcome = client.bulk_write(BulkTarget::append("notes"), schema(), stream::iter(batches)).await;
        assert_eq!(outcome.unwrap_err().to_string(), "the file cannot be read");
    }
    // A writer that goes away in the middle.
    let (reached, middle) = tokio::sync::oneshot::channel();
    let mut reached = Some(reached);
    let batches =
        stream::iter((0..30).map(|i| Ok(notes(i * 5_000..(i + 1) * 5_000)))).chain(stream::poll_fn(move |_| {
            if let Some(reached) = reached.take() {
                let _ = reached.send(());
            }
            std::task::Poll::Pending
        }));
    let writer = client.clone();
    let writing = tokio::spawn(async move { writer.bulk_write(BulkTarget::append("notes"), schema(), batches).await });
    middle.await.unwrap();
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    // What comes after it finds nothing of it.
    assert_eq!(write(&client, BulkTarget::append("notes"), vec![notes(0..10)]).await.unwrap(), 10);
    assert_eq!(count(&client, "notes").await, 10);
}

#[tokio::test]
async fn rows_of_many_users_go_where_they_belong() {
    let client = client_of(shared_url()).await;
    client.execute("CREATE USER TABLE own (id BIGINT PRIMARY KEY, body TEXT)", ()).await.unwrap();
    let owners: ArrayRef = Arc::new((0..3_000).map(|i| Some(format!("user {}", i % 300))).collect::<StringArray>());
    let mut columns = notes(0..3_000).columns().to_vec();
    columns.push(owners);
    let mut fields: Vec<Arc<Field>> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("_user_id", DataType::Utf8, true)));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    assert_eq!(write(&client, BulkTarget::append("own"), vec![rows]).await.unwrap(), 3_000);
    assert_eq!(count(&client.for_user("user 7"), "own").await, 10);
    let own = read(&client.for_user("user 299"), "SELECT id FROM own ORDER BY id LIMIT 1", ()).await;
    assert_eq!(own.column(0).as_primitive::<Int64Type>().value(0), 299);
    assert_eq!(
        write(&client.for_user("user 7"), BulkTarget::append("own"), vec![notes(10_000..10_005)]).await.unwrap(),
        5
    );
    assert_eq!(count(&client.for_user("user 7"), "own").await, 15);
    assert_eq!(count(&client.for_user("alice"), "own").await, 0);
}

#[tokio::test]
async fn more_than_fits_at_once_is_written_in_parts() {
    let server = server_with(&[("ingest.max_bytes", "1048576")]).await;
    let client = client_of(&server.endpoint()).await;
    client.execute("CREATE SHARED TABLE notes (id BIGINT PRIMARY KEY, body TEXT)", ()).await.unwrap();
    let batches = || (0..20).map(|i| notes(i * 5_000..(i + 1) * 5_000)).collect::<Vec<_>>();
    let large = write(&client, BulkTarget::append("notes"), batches()).await.unwrap_err();
    assert_eq!((large.reason(), large.metadata_value("limit")), (Some("WRITE_TOO_LARGE"), Some("ingest.max_bytes")));
    assert_eq!(count(&client, "notes").await, 0);
    let target = || BulkTarget::append("notes").atomic(false);
    assert_eq!(write(&client, target(), batches()).await.unwrap(), 100_000);
    let error = write(&client, target(), vec![notes(100_000..160_000), notes(500..501)]).await.unwrap_err();
    assert_eq!((error.reason(), error.metadata_value("row")), (Some("PRIMARY_KEY_VIOLATION"), Some("60000")));
    let ingested: i64 = error.metadata_value("rows_ingested").unwrap().parse().unwrap();
    assert!(ingested > 0 && ingested < 60_001);
    assert_eq!(count(&client, "notes").await, 100_000 + ingested);
}
