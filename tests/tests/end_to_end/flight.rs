//! Arrow Flight SQL, by arrow-flight's own client and by the messages that other clients send.
//!
//! | module | what it shows |
//! | --- | --- |
//! | `calls` | every call that arrow-flight's client has |
//! | `statements` | what runs when, and how often; plain tickets and paths; what is refused |
//! | `jdbc` | the sequence of calls of the JDBC driver, and rows of parameters |
//! | `listings` | catalogs, schemas, tables and keys, with patterns; what the server says of itself |
//! | `types` | every type of column, as it arrives |
//! | `handshake` | passwords and keys, and the sessions that they open |
//! | `options` | options of sessions |
//! | `tickets` | tickets of others, old ones, forged ones; cancellation |
//! | `rights` | row rules; what ends with a credential; clients that vanish |
//! | `hostile` | messages that say more than they have, and values that are not what they are said to be |

mod calls;
mod handshake;
mod hostile;
mod jdbc;
mod listings;
mod options;
mod rights;
mod statements;
mod tickets;
mod types;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    util::display::{ArrayFormatter, FormatOptions},
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightInfo, PutResult, Ticket,
    error::FlightError,
    flight_service_client::FlightServiceClient,
    sql::{Any, ProstMessageExt, client::FlightSqlServiceClient},
};
use futures::{TryStreamExt, stream};
use kalamdb_tests::client::{Client, Failure};
use prost::Message;
use tonic::{Code, transport::Channel};

use crate::support;

/// Arrow-flight's client.
pub type Flight = FlightSqlServiceClient<Channel>;

/// A client of the same connection, user and key as one of the other API. Names have the namespace of that one.
pub fn flight(client: &Client) -> Flight {
    let mut flight = stranger(client);
    let request = client.request(());
    for name in ["x-user-id", "x-api-key", "authorization"] {
        if let Some(value) = request.metadata().get(name) {
            flight.set_header(name, value.to_str().expect("a text"));
        }
    }
    let user = request.metadata().get_bin("x-user-id-bin").and_then(|value| value.to_bytes().ok());
    if let Some(user) = user {
        flight.set_header("x-user-id", std::str::from_utf8(&user).expect("a text"));
    }
    if !client.namespace_name().is_empty() {
        flight.set_header("x-kalamdb-namespace", client.namespace_name());
    }
    flight
}

/// A client of the same connection that says nothing of itself.
pub fn stranger(client: &Client) -> Flight {
    FlightSqlServiceClient::new_from_inner(FlightServiceClient::new(client.channel()))
}

/// A USER table `t (id BIGINT PRIMARY KEY, name TEXT, n INT)` with five rows, and a client of Flight.
pub async fn with_rows() -> (Client, Flight) {
    let client = support::client_with_rows().await;
    let flight = flight(&client);
    (client, flight)
}

/// The error of the server.
pub fn failure(error: FlightError) -> Failure {
    match error {
        FlightError::Tonic(status) => (*status).into(),
        other => panic!("an error of the server expected, got {other}"),
    }
}

/// Checks that something failed, and why.
#[track_caller]
pub fn fails<T: std::fmt::Debug>(outcome: Result<T, FlightError>, reason: &str, code: Code) -> Failure {
    let failure = failure(outcome.expect_err(reason));
    assert_eq!((failure.reason.as_str(), failure.code), (reason, code), "{}", failure.message);
    failure
}

/// The ticket of the one endpoint, which has no location.
pub fn ticket(info: &FlightInfo) -> Ticket {
    let [endpoint] = info.endpoint.as_slice() else { panic!("one endpoint expected: {:?}", info.endpoint) };
    assert!(endpoint.location.is_empty(), "{endpoint:?}");
    endpoint.ticket.clone().expect("a ticket")
}

/// The rows of a flight, which are of the schema that was announced.
pub async fn read(flight: &mut Flight, info: FlightInfo) -> Result<Vec<RecordBatch>, FlightError> {
    let ticket = ticket(&info);
    let announced = info.try_decode_schema().expect("a schema");
    let mut rows = flight.do_get(ticket).await?;
    let mut batches = Vec::new();
    while let Some(batch) = rows.try_next().await? {
        assert_eq!(batch.schema().as_ref(), &announced);
        batches.push(batch);
    }
    assert_eq!(rows.schema().map(Arc::as_ref), Some(&announced), "a schema, even without rows");
    Ok(batches)
}

/// Runs a statement as a query.
pub async fn query(flight: &mut Flight, sql: &str) -> Result<Vec<RecordBatch>, FlightError> {
    let info = flight.execute(sql.to_owned(), None).await?;
    read(flight, info).await
}

/// The rows of a query as short texts, such as `1 | one`.
pub async fn rows(flight: &mut Flight, sql: &str) -> Vec<String> {
    shown(&query(flight, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")))
}

/// Rows as short texts.
pub fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | "));
        }
    }
    rows
}

/// One row of parameters.
pub fn parameters(columns: Vec<ArrayRef>) -> RecordBatch {
    let named = columns.into_iter().enumerate().map(|(index, column)| (format!("${}", index + 1), column, true));
    RecordBatch::try_from_iter_with_nullable(named).unwrap()
}

/// Does an action, and answers its only message.
pub async fn act(flight: &mut Flight, name: &str, body: Vec<u8>) -> Result<Option<Vec<u8>>, FlightError> {
    let mut results = flight.do_action(Action::new(name, body)).await?;
    let first = results.message().await?;
    Ok(first.map(|result| result.body.to_vec()))
}

/// A descriptor of a command.
pub fn descriptor(command: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

/// The message that an action answered.
pub fn unpacked<M: ProstMessageExt>(body: &[u8]) -> M {
    Any::decode(body).expect("an Any").unpack().expect("a message").expect("the message expected")
}

/// Sends messages by `DoPut`, and answers the only result.
pub async fn put(flight: &mut Flight, messages: Vec<FlightData>) -> Result<Option<PutResult>, FlightError> {
    let mut results = flight.do_put(stream::iter(messages)).await?;
    Ok(results.message().await?)
}
