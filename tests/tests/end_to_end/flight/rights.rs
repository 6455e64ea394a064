//! Row rules hold; what a credential began ends with it; and clients that vanish leave nothing behind.

use std::{sync::Arc, time::Duration};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow_flight::{
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    sql::{CommandStatementIngest, CommandStatementUpdate},
};
use futures::{StreamExt, TryStreamExt, stream};
use kalamdb_tests::{access::Secured, server::server_with};
use tonic::Code;

use super::{Flight, descriptor, fails, failure, flight, query, rows, shown, ticket};
use crate::support::{client_of, eventually};

const LONG: &str = "SELECT value FROM generate_series(1, 100000000000)";
const PATIENCE: Duration = Duration::from_secs(30);

async fn secured() -> Secured {
    let rules = "ROLE user PERMISSIONS ('n.board.owner = CURRENT_USER()')";
    Secured::start(&[], &[("ana", rules), ("bob", rules), ("eve", "ROLE user")], async |root| {
        let root = root.namespace("n");
        root.run("CREATE NAMESPACE n").await;
        root.run("CREATE SHARED TABLE board (id BIGINT PRIMARY KEY, owner TEXT) ACCESS restricted").await;
        root.run("CREATE SHARED TABLE closed (id BIGINT PRIMARY KEY) ACCESS private").await;
        root.run("CREATE USER TABLE own (id BIGINT PRIMARY KEY)").await;
    })
    .await
}

#[tokio::test]
async fn row_rules_hold() {
    let secured = secured().await;
    let clients = [secured.client("ana").await.namespace("n"), secured.client("bob").await.namespace("n")];
    for (index, client) in clients.iter().enumerate() {
        let owner = client.scalar("SELECT CURRENT_USER()").await;
        client.run(&format!("INSERT INTO board VALUES ({index}, '{owner}')")).await;
    }
    let mut ana = flight(&clients[0]);
    assert_eq!(rows(&mut ana, "SELECT id FROM board").await, ["0"]);
    assert_eq!(ana.execute_update("DELETE FROM board WHERE id = 1".to_owned(), None).await.unwrap(), 0);
    let foreign = "INSERT INTO board VALUES (7, 'somebody else')".to_owned();
    fails(ana.execute_update(foreign.clone(), None).await, "PERMISSION_DENIED", Code::PermissionDenied);
    fails(ana.execute(foreign, None).await, "PERMISSION_DENIED", Code::PermissionDenied);
    // A prepared statement has the rules of whoever runs it, as they are then.
    let mut select = ana.prepare("SELECT id FROM board".to_owned(), None).await.unwrap();
    let info = select.execute().await.unwrap();
    let root = secured.client("root").await;
    root.run("ALTER USER ana SET PERMISSIONS ('n.board.id >= 0')").await;
    let batches: Vec<RecordBatch> = ana.do_get(ticket(&info)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(shown(&batches).len(), 2);
    root.run("CREATE NAMESPACE elsewhere").await;
    root.run("ALTER USER ana SET PERMISSIONS ('elsewhere.*')").await;
    let refused = match ana.do_get(ticket(&info)).await {
        Ok(rows) => rows.try_collect::<Vec<_>>().await.map(drop),
        Err(error) => Err(error),
    };
    let reason = failure(refused.unwrap_err()).reason;
    assert!(["PERMISSION_DENIED", "TABLE_NOT_FOUND"].contains(&reason.as_str()), "{reason}");
}

#[tokio::test]
async fn what_a_role_may_not_do_is_not_described_either() {
    let secured = secured().await;
    let mut eve = flight(&secured.client("eve").await.namespace("n"));
    for sql in [
        "CREATE NAMESPACE mine",
        "DROP TABLE own",
        "FLUSH ALL TABLES",
        "CREATE USER x",
        "SELECT * FROM system.settings",
    ] {
        let prepared = eve.prepare(sql.to_owned(), None).await.map(drop);
        let executed = query(&mut eve, sql).await.map(drop);
        let refused = prepared.err().or(executed.err()).unwrap_or_else(|| panic!("{sql} was allowed"));
        assert_eq!(failure(refused).reason, "PERMISSION_DENIED", "{sql}");
    }
    for sql in ["SELECT * FROM closed", "SELECT * FROM board", "INSERT INTO closed VALUES (1)"] {
        fails(eve.prepare(sql.to_owned(), None).await.map(drop), "PERMISSION_DENIED", Code::PermissionDenied);
    }
}

#[tokio::test]
async fn a_revoked_key_ends_what_it_reads() {
    let secured = secured().await;
    let mut ana = flight(&secured.client("ana").await);
    let info = ana.execute(LONG.to_owned(), None).await.unwrap();
    let mut rows = ana.do_get(ticket(&info)).await.unwrap();
    rows.try_next().await.unwrap().expect("rows");
    let id = secured.key("ana").split('_').nth(1).unwrap();
    secured.client("root").await.run(&format!("REVOKE API KEY '{id}'")).await;
    let ended = async {
        loop {
            match rows.try_next().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("an end");
    fails(ended, "CREDENTIAL_REVOKED", Code::Unauthenticated);
    fails(ana.do_get(ticket(&info)).await.map(drop), "UNAUTHENTICATED", Code::Unauthenticated);
}

#[tokio::test]
async fn a_revoked_key_ends_what_it_writes() {
    let secured = secured().await;
    let mut ana = flight(&secured.client("ana").await);
    let writing = {
        let mut ana = ana.clone();
        tokio::spawn(async move { unending_ingest(&mut ana, "n", "own").await })
    };
    let id = secured.key("ana").split('_').nth(1).unwrap();
    secured.client("root").await.run(&format!("REVOKE API KEY '{id}'")).await;
    let ended = tokio::time::timeout(PATIENCE, writing).await.expect("an end").unwrap();
    let reason = failure(ended.unwrap_err()).reason;
    assert_eq!(reason, "CREDENTIAL_REVOKED");
    let left = secured.client("root").await.scalar("SELECT count(*) FROM n.all_users.own").await;
    assert_eq!(left, "0", "nothing of an ingest that was not whole");
    fails(ana.execute("SELECT 1".to_owned(), None).await, "UNAUTHENTICATED", Code::Unauthenticated);
}

fn ids(first: i64) -> RecordBatch {
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from_iter_values(first..first + 100)) as _)]).unwrap()
}

/// An ingest that sends one batch, and then nothing more.
async fn unending_ingest(flight: &mut Flight, namespace: &str, table: &str) -> Result<(), FlightError> {
    let command = CommandStatementIngest {
        table: table.to_owned(),
        schema: Some(namespace.to_owned()),
        ..CommandStatementIngest::default()
    };
    let batches = stream::iter([Ok(ids(0))]).chain(stream::pending());
    let messages = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor(&command))).build(batches);
    let messages = messages.map(|message| message.expect("a message"));
    let mut results = flight.do_put(messages).await?;
    results.message().await?;
    Ok(())
}

#[tokio::test]
async fn readers_that_vanish_free_their_places() {
    let server = server_with(&[("query.max_concurrent", "2"), ("limits.max_concurrent_calls", "8")]).await;
    let client = client_of(&server.endpoint()).await;
    for _ in 0..20 {
        let mut flight = flight(&client);
        let info = flight.execute(LONG.to_owned(), None).await.unwrap();
        let mut rows = flight.do_get(ticket(&info)).await.unwrap();
        rows.try_next().await.unwrap().expect("rows");
        // Dropped in the middle: a place for the next is free soon.
    }
    let mut flight = flight(&client);
    let batches = query(&mut flight, "SELECT sum(value) FROM generate_series(1, 1000)").await.unwrap();
    assert_eq!(shown(&batches), ["500500"]);
}

#[tokio::test]
async fn writers_that_vanish_leave_nothing() {
    let server = server_with(&[]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE own (id BIGINT PRIMARY KEY)").await;
    let namespace = client.namespace_name();
    for _ in 0..5 {
        let mut flight = flight(&client);
        let writing = unending_ingest(&mut flight, namespace, "own");
        // As long as it takes the server to have what was sent, and then some.
        let gave_up = tokio::time::timeout(Duration::from_millis(200), writing).await;
        assert!(gave_up.is_err(), "{gave_up:?}");
    }
    eventually("no call is under way", PATIENCE, || async { client.scalar("SELECT count(*) FROM own").await == "0" })
        .await;
    let whole = CommandStatementIngest {
        table: "own".to_owned(),
        schema: Some(namespace.to_owned()),
        ..CommandStatementIngest::default()
    };
    let mut flight = flight(&client);
    assert_eq!(flight.execute_ingest(whole, stream::iter([Ok(ids(0)), Ok(ids(100))])).await.unwrap(), 200);
    assert_eq!(client.scalar("SELECT count(*) FROM own").await, "200");
}

#[tokio::test]
async fn messages_that_are_none_are_refused() {
    let server = server_with(&[("flight.max_message_bytes", "65536")]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE own (id BIGINT PRIMARY KEY, body TEXT)").await;
    let mut flight = flight(&client);
    let none = super::put(&mut flight, Vec::new()).await;
    fails(none.map(drop), "INVALID_REQUEST", Code::InvalidArgument);
    let undescribed = super::put(&mut flight, vec![arrow_flight::FlightData::new()]).await;
    fails(undescribed.map(drop), "INVALID_REQUEST", Code::InvalidArgument);
    let command = CommandStatementIngest {
        table: "own".to_owned(),
        schema: Some(client.namespace_name().to_owned()),
        ..CommandStatementIngest::default()
    };
    for header in [&b"\xff\xff\xff\xff"[..], b"not Arrow", &[0; 64]] {
        let message = arrow_flight::FlightData::new()
            .with_descriptor(descriptor(&command))
            .with_data_header(bytes::Bytes::copy_from_slice(header));
        let refused = super::put(&mut flight, vec![message]).await;
        fails(refused.map(drop), "INVALID_REQUEST", Code::InvalidArgument);
    }
    // Larger than allowed; the limit is named.
    let body = Arc::new(StringArray::from(vec!["x".repeat(100_000)])) as _;
    let id = Arc::new(Int64Array::from(vec![1])) as _;
    let large = RecordBatch::try_from_iter([("id", id), ("body", body)]).unwrap();
    let refused = flight.execute_ingest(command, stream::iter([Ok(large)])).await;
    let refused = fails(refused, "STATEMENT_TOO_LARGE", Code::ResourceExhausted);
    assert_eq!(refused.meta("limit"), "flight.max_message_bytes");
    // A statement for DoPut is to come as a command.
    let plain =
        arrow_flight::FlightData::new().with_descriptor(arrow_flight::FlightDescriptor::new_cmd("DELETE FROM own"));
    fails(super::put(&mut flight, vec![plain]).await.map(drop), "INVALID_REQUEST", Code::InvalidArgument);
    let select = CommandStatementUpdate { query: "SELECT 1".to_owned(), transaction_id: None };
    let message = arrow_flight::FlightData::new().with_descriptor(descriptor(&select));
    fails(super::put(&mut flight, vec![message]).await.map(drop), "INVALID_STATEMENT", Code::InvalidArgument);
    assert_eq!(client.scalar("SELECT count(*) FROM own").await, "0");
}
