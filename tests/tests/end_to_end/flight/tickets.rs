//! Tickets and prepared statements in the wrong hands, at the wrong time, and made up; and their cancellation.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::{
    CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightEndpoint, FlightInfo,
    RenewFlightEndpointRequest, Ticket,
    decode::FlightRecordBatchStream,
    error::FlightError,
    sql::{
        ActionCancelQueryRequest, ActionCancelQueryResult, ActionCreatePreparedStatementRequest,
        ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery, CommandPreparedStatementUpdate,
        ProstMessageExt, TicketStatementQuery,
    },
};
use bytes::Bytes;
use futures::TryStreamExt;
use kalamdb_tests::{access::Secured, server::server_with};
use prost::Message;
use tonic::Code;

use super::{Flight, act, descriptor, fails, failure, flight, put, read, rows, shown, ticket, unpacked, with_rows};
use crate::support::{client_of, eventually};

/// Of no end for all that a test waits for.
const LONG: &str = "SELECT value FROM generate_series(1, 100000000000)";

async fn handle(flight: &mut Flight, sql: &str) -> Bytes {
    let request = ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
    let body = act(flight, "CreatePreparedStatement", request.as_any().encode_to_vec()).await.unwrap().unwrap();
    unpacked::<ActionCreatePreparedStatementResult>(&body).prepared_statement_handle
}

/// Uses a handle in every way there is; answers the reasons of the errors.
async fn use_handle(flight: &mut Flight, client: &kalamdb_tests::client::Client, handle: &Bytes) -> Vec<String> {
    let query = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    let update = CommandPreparedStatementUpdate { prepared_statement_handle: handle.clone() };
    let status = flight.inner_mut().get_flight_info(client.request(descriptor(&query))).await.unwrap_err();
    let mut reasons = vec![kalamdb_tests::client::Failure::from(status).reason];
    for bytes in [descriptor(&query), descriptor(&update)] {
        let message = arrow_flight::FlightData::new().with_descriptor(bytes);
        reasons.push(failure(put(flight, vec![message]).await.unwrap_err()).reason);
    }
    reasons
}

async fn renew(flight: &mut Flight, info: &FlightInfo) -> Result<FlightInfo, FlightError> {
    let request = RenewFlightEndpointRequest::new(info.endpoint[0].clone()).encode_to_vec();
    let body = act(flight, "RenewFlightEndpoint", request).await?.expect("a message");
    let renewed = FlightEndpoint::decode(body.as_slice()).unwrap();
    Ok(FlightInfo { endpoint: vec![renewed], ..info.clone() })
}

async fn cancel(flight: &mut Flight, info: &FlightInfo) -> CancelStatus {
    let request = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
    let body = act(flight, "CancelFlightInfo", request).await.unwrap().unwrap();
    CancelFlightInfoResult::decode(body.as_slice()).unwrap().status()
}

/// What comes behind the last rows.
async fn end_of(mut rows: FlightRecordBatchStream) -> Result<Option<RecordBatch>, FlightError> {
    let end = async {
        loop {
            match rows.try_next().await {
                Ok(Some(_)) => {}
                end => return end,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), end).await.expect("an end")
}

#[tokio::test]
async fn those_of_another_user_are_refused() {
    let secured =
        Secured::start(&[], &[("ana", "ROLE user"), ("bob", "ROLE user"), ("bot", "ROLE service")], async |root| {
            root.run("CREATE NAMESPACE n").await;
            root.run("CREATE USER TABLE n.t (id BIGINT PRIMARY KEY)").await;
        })
        .await;
    let ana = secured.client("ana").await.namespace("n");
    ana.run("INSERT INTO t VALUES (1), (2)").await;
    let mut of_ana = flight(&ana);
    let info = of_ana.execute("SELECT * FROM t".to_owned(), None).await.unwrap();
    let prepared = handle(&mut of_ana, "DELETE FROM t").await;
    let ana_id = ana.scalar("SELECT CURRENT_USER()").await;
    let others = [
        secured.client("bob").await,
        secured.client("bot").await,
        secured.client("root").await,
        // Whoever acts for ana is not ana.
        secured.client("bot").await.user(&ana_id),
    ];
    for other in others {
        let mut thief = flight(&other);
        let failure = fails(thief.do_get(ticket(&info)).await.map(drop), "PERMISSION_DENIED", Code::PermissionDenied);
        assert!(!failure.message.contains("ana") && !failure.message.contains("SELECT"), "{}", failure.message);
        for reason in use_handle(&mut thief, &other, &prepared).await {
            assert_eq!(reason, "PERMISSION_DENIED");
        }
        let cancel = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
        fails(act(&mut thief, "CancelFlightInfo", cancel).await, "PERMISSION_DENIED", Code::PermissionDenied);
        let renew = RenewFlightEndpointRequest::new(info.endpoint[0].clone()).encode_to_vec();
        fails(act(&mut thief, "RenewFlightEndpoint", renew).await, "PERMISSION_DENIED", Code::PermissionDenied);
    }
    assert_eq!(shown(&read(&mut of_ana, info).await.unwrap()).len(), 2, "it is as good as it was");
}

#[tokio::test]
async fn old_ones_expire() {
    let server = server_with(&[("flight.ticket_lifetime_s", "1")]).await;
    let client = client_of(&server.endpoint()).await;
    let mut flight = flight(&client);
    let info = flight.execute("SELECT 1".to_owned(), None).await.unwrap();
    let prepared = handle(&mut flight, "SELECT 1").await;
    eventually("the ticket expires", Duration::from_secs(30), || {
        let (mut flight, info) = (flight.clone(), info.clone());
        async move { flight.do_get(ticket(&info)).await.is_err() }
    })
    .await;
    fails(flight.do_get(ticket(&info)).await.map(drop), "TICKET_EXPIRED", Code::FailedPrecondition);
    let reasons = use_handle(&mut flight, &client, &prepared).await;
    assert!(reasons.iter().all(|reason| reason == "TICKET_EXPIRED"), "{reasons:?}");
    assert_eq!(rows(&mut flight, "SELECT 1").await, ["1"]);
}

#[tokio::test]
async fn renewed_ones_last_longer() {
    let (_client, mut flight) = with_rows().await;
    let info = flight.execute("SELECT count(*) FROM t".to_owned(), None).await.unwrap();
    let before = info.endpoint[0].expiration_time.unwrap();
    let renewed = renew(&mut flight, &info).await.unwrap();
    let after = renewed.endpoint[0].expiration_time.unwrap();
    assert!((after.seconds, after.nanos) > (before.seconds, before.nanos));
    for info in [info, renewed] {
        assert_eq!(shown(&read(&mut flight, info).await.unwrap()), ["5"]);
    }
}

#[tokio::test]
async fn those_of_a_server_of_before_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let begin = || kalamdb_tests::server::start(kalamdb_tests::server::configured(&[]).data_dir(&data));
    let mut server = begin().await;
    let client = client_of(&server.endpoint()).await;
    let mut before = flight(&client);
    let info = before.execute("SELECT 1".to_owned(), None).await.unwrap();
    server.terminate().await.unwrap();
    let server = begin().await;
    let mut after = flight(&kalamdb_tests::client::Client::connect(&server.endpoint()).await.user("alice"));
    let failure = fails(after.do_get(ticket(&info)).await.map(drop), "TICKET_INVALID", Code::InvalidArgument);
    assert!(failure.message.contains("again"), "{}", failure.message);
}

#[tokio::test]
async fn forged_ones_are_refused() {
    let (client, mut flight) = with_rows().await;
    let real = flight.execute("SELECT * FROM t".to_owned(), None).await.unwrap();
    let real: TicketStatementQuery = unpacked(&ticket(&real).ticket);
    let real = real.statement_handle;
    let of = |handle: Vec<u8>| {
        let message = TicketStatementQuery { statement_handle: handle.into() };
        Ticket::new(message.as_any().encode_to_vec())
    };
    let mut forged = vec![Vec::new(), vec![0; 8], vec![1; 200], b"SELECT * FROM t".to_vec(), real[1..].to_vec()];
    // Each byte changed, and cut at some.
    for place in (0..real.len()).step_by(7) {
        let mut changed = real.to_vec();
        changed[place] ^= 0x10;
        forged.push(changed);
        forged.push(real[..place].to_vec());
    }
    for bytes in &forged {
        let refused = flight.do_get(of(bytes.clone())).await.map(drop);
        fails(refused, "TICKET_INVALID", Code::InvalidArgument);
        let reasons = use_handle(&mut flight, &client, &bytes.clone().into()).await;
        assert!(reasons.iter().all(|reason| reason == "TICKET_INVALID"), "{reasons:?}");
    }
    // A ticket is no handle, nor the other way round.
    let reasons = use_handle(&mut flight, &client, &real).await;
    assert!(reasons.iter().all(|reason| reason == "TICKET_INVALID"), "{reasons:?}");
    let prepared = handle(&mut flight, "SELECT * FROM t").await;
    fails(flight.do_get(of(prepared.to_vec())).await.map(drop), "TICKET_INVALID", Code::InvalidArgument);
    // What is no message at all, or another one.
    for bytes in [&b""[..], b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f"] {
        let refused = flight.do_get(Ticket::new(Bytes::copy_from_slice(bytes))).await.map(drop);
        fails(refused, "INVALID_REQUEST", Code::InvalidArgument);
    }
    let other = Any { type_url: "type.googleapis.com/a.B".to_owned(), value: Bytes::new() }.encode_to_vec();
    fails(flight.do_get(Ticket::new(other)).await.map(drop), "NOT_SUPPORTED", Code::Unimplemented);
    assert_eq!(rows(&mut flight, "SELECT count(*) FROM t").await, ["5"]);
}

#[tokio::test]
async fn a_query_is_cancelled_before_it_is_read() {
    let (_client, mut flight) = with_rows().await;
    let info = flight.execute("SELECT * FROM t".to_owned(), None).await.unwrap();
    assert_eq!(cancel(&mut flight, &info).await, CancelStatus::Cancelled);
    fails(flight.do_get(ticket(&info)).await.map(drop), "STATEMENT_CANCELLED", Code::Cancelled);
    // What was run when it was executed is over.
    let info = flight.execute("DELETE FROM t WHERE id = 1".to_owned(), None).await.unwrap();
    assert_eq!(cancel(&mut flight, &info).await, CancelStatus::NotCancellable);
}

#[tokio::test]
async fn a_query_is_cancelled_while_it_is_read() {
    let (_client, mut flight) = with_rows().await;
    for by_flight in [true, false] {
        let info = flight.execute(LONG.to_owned(), None).await.unwrap();
        let mut rows = flight.do_get(ticket(&info)).await.unwrap();
        rows.try_next().await.unwrap().expect("rows");
        if by_flight {
            assert_eq!(cancel(&mut flight, &info).await, CancelStatus::Cancelled);
        } else {
            let cancel = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
            let body = act(&mut flight, "CancelQuery", cancel.as_any().encode_to_vec()).await.unwrap().unwrap();
            assert_eq!(unpacked::<ActionCancelQueryResult>(&body).result, CancelStatus::Cancelled as i32);
        }
        fails(end_of(rows).await, "STATEMENT_CANCELLED", Code::Cancelled);
    }
}

#[tokio::test]
async fn those_that_renew_one_another_are_cancelled_together() {
    let (_client, mut flight) = with_rows().await;
    for which in 0..3 {
        let first = flight.execute(LONG.to_owned(), None).await.unwrap();
        let second = renew(&mut flight, &first).await.unwrap();
        let third = renew(&mut flight, &second).await.unwrap();
        let all = [first, second, third];
        let mut rows = flight.do_get(ticket(&all[1])).await.unwrap();
        rows.try_next().await.unwrap().expect("rows");
        assert_eq!(cancel(&mut flight, &all[which]).await, CancelStatus::Cancelled);
        fails(end_of(rows).await, "STATEMENT_CANCELLED", Code::Cancelled);
        for info in &all {
            fails(flight.do_get(ticket(info)).await.map(drop), "STATEMENT_CANCELLED", Code::Cancelled);
            fails(renew(&mut flight, info).await, "STATEMENT_CANCELLED", Code::Cancelled);
        }
    }
    // Another run of one prepared statement is none of them.
    let mut prepared = flight.prepare("SELECT count(*) FROM t".to_owned(), None).await.unwrap();
    let (first, second) = (prepared.execute().await.unwrap(), prepared.execute().await.unwrap());
    cancel(&mut flight, &first).await;
    assert_eq!(shown(&read(&mut flight, second).await.unwrap()), ["5"]);
}

#[tokio::test]
async fn what_is_read_of_an_old_ticket_is_cancelled() {
    let server = server_with(&[("flight.ticket_lifetime_s", "1")]).await;
    let client = client_of(&server.endpoint()).await;
    let mut flight = flight(&client);
    let info = flight.execute(LONG.to_owned(), None).await.unwrap();
    let mut rows = flight.do_get(ticket(&info)).await.unwrap();
    rows.try_next().await.unwrap().expect("rows");
    let later = flight.execute("SELECT 1".to_owned(), None).await.unwrap();
    eventually("the tickets expire", Duration::from_secs(30), || {
        let (mut flight, later) = (flight.clone(), later.clone());
        async move { flight.do_get(ticket(&later)).await.is_err() }
    })
    .await;
    fails(renew(&mut flight, &info).await, "TICKET_EXPIRED", Code::FailedPrecondition);
    assert_eq!(cancel(&mut flight, &info).await, CancelStatus::Cancelled);
    fails(end_of(rows).await, "STATEMENT_CANCELLED", Code::Cancelled);
}
