//! Which statements run, when and how often.

use arrow_flight::{FlightDescriptor, FlightInfo, Ticket, flight_descriptor::DescriptorType};
use futures::TryStreamExt;
use tonic::Code;

use super::{fails, failure, read, rows, shown, ticket, with_rows};

#[tokio::test]
async fn what_answers_a_count_is_run_when_it_is_executed() {
    let (client, mut flight) = with_rows().await;
    let info = flight.execute("INSERT INTO t VALUES (6, 'six', 60), (7, 'seven', 70)".to_owned(), None).await.unwrap();
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "7", "nobody has to come for the rows");
    assert_eq!(info.total_records, 2, "drivers show it as the count");
    assert!(info.clone().try_decode_schema().unwrap().fields().is_empty());
    for _ in 0..2 {
        assert!(read(&mut flight, info.clone()).await.unwrap().is_empty());
    }
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "7", "it was run once");
    flight.execute("CREATE USER TABLE u (id BIGINT PRIMARY KEY)".to_owned(), None).await.unwrap();
    flight.execute("DROP TABLE u".to_owned(), None).await.unwrap();
}

#[tokio::test]
async fn what_changes_rows_and_answers_them_runs_once() {
    let (client, mut flight) = with_rows().await;
    let sql = "INSERT INTO t VALUES (6, 'six', 60) RETURNING id, name";
    let info = flight.execute(sql.to_owned(), None).await.unwrap();
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "5", "its rows are asked for first");
    assert!(info.endpoint[0].expiration_time.is_none(), "which says that it cannot be read again");
    assert_eq!(shown(&read(&mut flight, info.clone()).await.unwrap()), ["6 | six"]);
    fails(read(&mut flight, info).await, "TICKET_INVALID", Code::InvalidArgument);
    let count = flight.execute_update("DELETE FROM t WHERE id > 4 RETURNING id".to_owned(), None).await.unwrap();
    assert_eq!(count, 2, "as an update it answers the count");
}

#[tokio::test]
async fn describing_runs_nothing() {
    let (client, mut flight) = with_rows().await;
    for sql in ["DELETE FROM t", "DELETE FROM t RETURNING id", "DROP TABLE t", "CREATE USER prepared_only"] {
        let prepared = flight.prepare(sql.to_owned(), None).await.unwrap();
        let has_rows = sql.contains("RETURNING");
        assert_eq!(prepared.dataset_schema().unwrap().fields().is_empty(), !has_rows, "{sql}");
        let asked = client.request(FlightDescriptor::new_cmd(format!("{sql}  ")));
        // It has no namespace, so that some of them are refused.
        let _ = flight.inner().clone().get_schema(asked).await;
    }
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "5");
    assert_eq!(client.scalar("SELECT count(*) FROM system.users WHERE username = 'prepared_only'").await, "0");
}

#[tokio::test]
async fn statements_that_show_something_are_queries() {
    let (client, mut flight) = with_rows().await;
    for sql in [
        "SHOW NAMESPACES",
        "SHOW TABLES",
        "SHOW STORAGES",
        "SHOW USERS",
        "SHOW API KEYS",
        "SHOW TABLE STATS t",
        "DESCRIBE t",
        "EXPLAIN SELECT * FROM t",
        "SELECT * FROM system.tables",
    ] {
        let prepared = flight.prepare(sql.to_owned(), None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let info = flight.execute(sql.to_owned(), None).await.unwrap();
        let announced = info.clone().try_decode_schema().unwrap();
        assert_eq!(prepared.dataset_schema().unwrap(), &announced, "{sql}");
        read(&mut flight, info).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    // Whether there is such a folder is found out when it is read.
    let backups = "SHOW BACKUP 'none'";
    let prepared = flight.prepare(backups.to_owned(), None).await.unwrap();
    let info = flight.execute(backups.to_owned(), None).await.unwrap();
    assert_eq!(prepared.dataset_schema().unwrap(), &info.clone().try_decode_schema().unwrap());
    assert!(info.endpoint[0].expiration_time.is_some(), "it can be read again");
    fails(flight.execute_update(backups.to_owned(), None).await, "INVALID_STATEMENT", Code::InvalidArgument);
    // What they answer is not lost to whoever runs them as updates.
    fails(flight.execute_update("SHOW TABLES".to_owned(), None).await, "INVALID_STATEMENT", Code::InvalidArgument);
    fails(flight.execute_update("SELECT 1".to_owned(), None).await, "INVALID_STATEMENT", Code::InvalidArgument);
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "5");
}

#[tokio::test]
async fn plain_texts_and_paths_are_tickets() {
    let (client, mut flight) = with_rows().await;
    let sql = "SELECT count(*) FROM t";
    let plain: Vec<_> = flight.do_get(Ticket::new(sql)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(shown(&plain), ["5"]);
    let by_command = client.request(FlightDescriptor::new_cmd("SELECT 1 AS one"));
    let info: FlightInfo = flight.inner().clone().get_flight_info(by_command).await.unwrap().into_inner();
    assert_eq!(info.flight_descriptor.as_ref().unwrap().r#type(), DescriptorType::Cmd);
    assert_eq!(shown(&read(&mut flight, info).await.unwrap()), ["1"]);
    let namespace = client.namespace_name().to_owned();
    let by_path = client.request(FlightDescriptor::new_path(vec![namespace, "t".to_owned()]));
    let info = flight.inner().clone().get_flight_info(by_path).await.unwrap().into_inner();
    assert_eq!(read(&mut flight, info).await.unwrap()[0].num_rows(), 5);
    // Who sends a ticket again does not mean to write again.
    for sql in ["DELETE FROM t", "INSERT INTO t VALUES (9, 'x', 1) RETURNING id", "DROP TABLE t"] {
        let refused = flight.do_get(Ticket::new(sql)).await;
        fails(refused.map(drop), "INVALID_STATEMENT", Code::InvalidArgument);
    }
    assert_eq!(client.scalar(sql).await, "5");
}

#[tokio::test]
async fn one_statement_at_a_time() {
    let (client, mut flight) = with_rows().await;
    for sql in ["SELECT 1; SELECT 2", "DELETE FROM t; SELECT 1", ";", "-- nothing"] {
        fails(flight.execute(sql.to_owned(), None).await, "INVALID_STATEMENT", Code::InvalidArgument);
        fails(flight.execute_update(sql.to_owned(), None).await, "INVALID_STATEMENT", Code::InvalidArgument);
        fails(flight.prepare(sql.to_owned(), None).await.map(drop), "INVALID_STATEMENT", Code::InvalidArgument);
    }
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "5");
}

#[tokio::test]
async fn errors_are_those_of_the_other_api() {
    let (client, mut flight) = with_rows().await;
    for sql in [
        "SELEC 1",
        "SELECT * FROM nothing.t",
        "SELECT * FROM nothing",
        "SELECT missing FROM t",
        "SUBSCRIBE TO t",
        "INSERT INTO t VALUES (1, 'again', 0)",
        "SELECT 1 / 0",
    ] {
        let expected = client.try_run(sql).await.unwrap_err();
        let got = match flight.execute(sql.to_owned(), None).await {
            Err(error) => failure(error),
            Ok(info) => failure(read(&mut flight, info).await.unwrap_err()),
        };
        assert_eq!((got.code, &got.reason), (expected.code, &expected.reason), "{sql}: {}", got.message);
        assert_eq!(got.meta("line"), expected.meta("line"), "{sql}");
    }
}

#[tokio::test]
async fn parameters_are_counted_and_bounded() {
    let (_client, mut flight) = with_rows().await;
    let sql = "SELECT name FROM t WHERE id = $1".to_owned();
    fails(flight.execute(sql.clone(), None).await, "PARAMETER_COUNT_MISMATCH", Code::InvalidArgument);
    let mut prepared = flight.prepare(sql, None).await.unwrap();
    fails(prepared.execute().await, "PARAMETER_COUNT_MISMATCH", Code::InvalidArgument);
    let ids =
        |count: i64| super::parameters(vec![std::sync::Arc::new(arrow::array::Int64Array::from_iter_values(0..count))]);
    prepared.set_parameters(ids(2)).unwrap();
    let failure = fails(prepared.execute().await, "INVALID_REQUEST", Code::InvalidArgument);
    assert!(failure.message.contains("one row"), "{}", failure.message);
    prepared.set_parameters(ids(1_000_000)).unwrap();
    let failure = fails(prepared.execute().await, "STATEMENT_TOO_LARGE", Code::ResourceExhausted);
    assert_eq!(failure.meta("limit"), "flight.max_handle_bytes");
    let text = super::parameters(vec![std::sync::Arc::new(arrow::array::StringArray::from(vec!["x"]))]);
    prepared.set_parameters(text).unwrap();
    fails(prepared.execute().await, "PARAMETER_TYPE_MISMATCH", Code::InvalidArgument);
    assert_eq!(rows(&mut flight, "SELECT count(*) FROM t").await, ["5"]);
}

#[tokio::test]
async fn a_ticket_reads_what_is_there_when_it_is_read() {
    let (client, mut flight) = with_rows().await;
    let info = flight.execute("SELECT count(*) FROM t".to_owned(), None).await.unwrap();
    client.run("INSERT INTO t VALUES (6, 'six', 60)").await;
    assert_eq!(shown(&read(&mut flight, info.clone()).await.unwrap()), ["6"]);
    client.run("DROP TABLE t").await;
    let gone = flight.do_get(ticket(&info)).await.map(drop);
    fails(gone, "TABLE_NOT_FOUND", Code::NotFound);
}
