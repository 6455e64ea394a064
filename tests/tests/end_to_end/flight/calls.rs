//! Every call that arrow-flight's client for Flight SQL has.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int32Array, Int64Array, RecordBatch, StringArray},
    datatypes::DataType,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor,
    sql::{
        CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
        CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, CommandStatementIngest,
        CommandStatementUpdate, DoPutUpdateResult, EndTransaction, SqlInfo, TableDefinitionOptions, TableExistsOption,
        TableNotExistOption,
    },
};
use futures::{TryStreamExt, stream};
use kalamdb_tests::values::text;
use prost::Message;
use tonic::Code;

use super::{Flight, descriptor, fails, flight, parameters, put, query, read, rows, shown, ticket, with_rows};

#[tokio::test]
async fn execute_reads_rows() {
    let (_client, mut flight) = with_rows().await;
    let info = flight.execute("SELECT id, name FROM t ORDER BY id".to_owned(), None).await.unwrap();
    assert!(info.endpoint[0].expiration_time.is_some(), "it can be read again");
    assert_eq!(info.total_records, -1);
    let expected = ["1 | one", "2 | two", "3 | three", "4 | NULL", "5 | five"];
    assert_eq!(shown(&read(&mut flight, info.clone()).await.unwrap()), expected);
    assert_eq!(shown(&read(&mut flight, info).await.unwrap()), expected, "any number of times");
}

#[tokio::test]
async fn execute_update_answers_the_count() {
    let (client, mut flight) = with_rows().await;
    let count = flight.execute_update("UPDATE t SET n = n + 1 WHERE id > 2".to_owned(), None).await.unwrap();
    assert_eq!(count, 3);
    let count = flight.execute_update("INSERT INTO t VALUES (6, 'six', 60)".to_owned(), None).await.unwrap();
    assert_eq!(count, 1);
    assert_eq!(client.rows("SELECT sum(n) FROM t").await, ["213"]);
    // As raw messages, which is all that the call is.
    let update = CommandStatementUpdate { query: "DELETE FROM t WHERE id = 6".to_owned(), transaction_id: None };
    let message = FlightData::new().with_descriptor(descriptor(&update));
    let result = put(&mut flight, vec![message]).await.unwrap().unwrap();
    assert_eq!(DoPutUpdateResult::decode(result.app_metadata).unwrap().record_count, 1);
    assert_eq!(flight.execute_update("CREATE NAMESPACE IF NOT EXISTS flight_ddl".to_owned(), None).await.unwrap(), 0);
}

#[tokio::test]
async fn execute_ingest_puts_rows_in() {
    let (client, mut flight) = with_rows().await;
    let batch = |first: i64| {
        let id = Arc::new(Int64Array::from(vec![first, first + 1])) as _;
        let name = Arc::new(StringArray::from(vec![Some("a"), None])) as _;
        let n = Arc::new(Int32Array::from(vec![1, 2])) as _;
        RecordBatch::try_from_iter_with_nullable([("id", id, false), ("name", name, true), ("n", n, true)]).unwrap()
    };
    let command = CommandStatementIngest {
        table: "t".to_owned(),
        schema: Some(client.namespace_name().to_owned()),
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Fail.into(),
            if_exists: TableExistsOption::Append.into(),
        }),
        ..CommandStatementIngest::default()
    };
    let batches = stream::iter([Ok(batch(100)), Ok(batch(200))]);
    assert_eq!(flight.execute_ingest(command, batches).await.unwrap(), 4);
    assert_eq!(
        client.rows("SELECT * FROM t WHERE id >= 100 ORDER BY id").await,
        ["100 | a | 1", "101 | NULL | 2", "200 | a | 1", "201 | NULL | 2"]
    );
}

#[tokio::test]
async fn prepared_statements_take_parameters() {
    let (client, mut flight) = with_rows().await;
    let mut select = flight.prepare("SELECT name FROM t WHERE id = $1".to_owned(), None).await.unwrap();
    assert_eq!(select.dataset_schema().unwrap().field(0).name(), "name");
    assert_eq!(select.dataset_schema().unwrap().field(0).data_type(), &DataType::Utf8);
    assert_eq!(select.parameter_schema().unwrap().field(0).data_type(), &DataType::Int64);
    for (id, name) in [(1, "one"), (5, "five")] {
        select.set_parameters(parameters(vec![Arc::new(Int64Array::from(vec![id]))])).unwrap();
        let info = select.execute().await.unwrap();
        assert_eq!(shown(&read(&mut flight, info).await.unwrap()), [name]);
    }
    select.close().await.unwrap();

    let mut insert = flight.prepare("INSERT INTO t VALUES ($1, $2, 0)".to_owned(), None).await.unwrap();
    assert!(insert.dataset_schema().unwrap().fields().is_empty(), "it answers a count");
    let types: Vec<&DataType> = insert.parameter_schema().unwrap().fields().iter().map(|f| f.data_type()).collect();
    assert_eq!(types, [&DataType::Int64, &DataType::Utf8], "those of the columns");
    let ids = Arc::new(Int64Array::from(vec![10, 11, 12]));
    let names = Arc::new(StringArray::from(vec![Some("x"), None, Some("z")]));
    insert.set_parameters(parameters(vec![ids, names])).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 3, "one for each row");
    insert.close().await.unwrap();
    assert_eq!(client.rows("SELECT name FROM t WHERE id >= 10 ORDER BY id").await, ["x", "NULL", "z"]);

    let mut count = flight.prepare("SELECT count(*) FROM t".to_owned(), None).await.unwrap();
    assert!(count.parameter_schema().unwrap().fields().is_empty());
    let info = count.execute().await.unwrap();
    assert_eq!(shown(&read(&mut flight, info).await.unwrap()), ["8"]);
}

#[tokio::test]
async fn all_listings_are_answered() {
    let (client, mut flight) = with_rows().await;
    let namespace = Some(client.namespace_name().to_owned());
    let info = flight.get_catalogs().await.unwrap();
    assert_eq!(shown(&read(&mut flight, info).await.unwrap()), ["kalamdb"]);
    let command = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: namespace.clone() };
    let info = flight.get_db_schemas(command).await.unwrap();
    assert_eq!(shown(&read(&mut flight, info).await.unwrap()), [format!("kalamdb | {}", client.namespace_name())]);
    let command = CommandGetTables { db_schema_filter_pattern: namespace.clone(), ..CommandGetTables::default() };
    let info = flight.get_tables(command).await.unwrap();
    assert_eq!(
        shown(&read(&mut flight, info).await.unwrap()),
        [format!("kalamdb | {} | t | TABLE", client.namespace_name())]
    );
    let info = flight.get_table_types().await.unwrap();
    assert_eq!(shown(&read(&mut flight, info).await.unwrap()), ["SYSTEM TABLE", "TABLE"]);
    let command = CommandGetPrimaryKeys { catalog: None, db_schema: namespace.clone(), table: "t".to_owned() };
    let info = flight.get_primary_keys(command).await.unwrap();
    assert_eq!(
        shown(&read(&mut flight, info).await.unwrap()),
        [format!("kalamdb | {} | t | id | NULL | 1", client.namespace_name())]
    );
    let table = "t".to_owned();
    let command = CommandGetExportedKeys { catalog: None, db_schema: namespace.clone(), table: table.clone() };
    let info = flight.get_exported_keys(command).await.unwrap();
    assert!(read(&mut flight, info).await.unwrap().is_empty());
    let command = CommandGetImportedKeys { catalog: None, db_schema: namespace, table: table.clone() };
    let info = flight.get_imported_keys(command).await.unwrap();
    assert!(read(&mut flight, info).await.unwrap().is_empty());
    let command = CommandGetCrossReference { pk_table: table.clone(), fk_table: table, ..Default::default() };
    let info = flight.get_cross_reference(command).await.unwrap();
    assert!(read(&mut flight, info).await.unwrap().is_empty());
    let info = flight.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
    let batches = read(&mut flight, info).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let info = flight.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    let batches = read(&mut flight, info).await.unwrap();
    assert!(batches.iter().map(RecordBatch::num_rows).sum::<usize>() > 15);
}

#[tokio::test]
async fn transactions_are_refused_by_name() {
    let (_client, mut flight) = with_rows().await;
    let refused = |outcome| {
        let failure = fails::<()>(outcome, "NOT_SUPPORTED", Code::Unimplemented);
        assert!(failure.message.contains("Transactions and savepoints are not supported"), "{}", failure.message);
    };
    refused(flight.begin_transaction().await.map(drop));
    for end in [EndTransaction::Commit, EndTransaction::Rollback] {
        refused(flight.end_transaction("1".into(), end).await);
    }
    let id = Some("1".into());
    refused(flight.execute("SELECT 1".to_owned(), id.clone()).await.map(drop));
    refused(flight.execute_update("DELETE FROM t".to_owned(), id.clone()).await.map(drop));
    refused(flight.prepare("SELECT 1".to_owned(), id).await.map(drop));
    assert_eq!(rows(&mut flight, "SELECT count(*) FROM t").await, ["5"]);
}

#[tokio::test]
async fn the_calls_of_flight_itself_are_answered() {
    let (client, mut flight) = with_rows().await;
    let sql = "SELECT id, n FROM t ORDER BY id";
    let inner = |flight: &Flight| flight.inner().clone();
    let asked =
        || client.request(FlightDescriptor::new_cmd(format!("SELECT id, n FROM {}.t", client.namespace_name())));
    let schema = inner(&flight).get_schema(asked()).await.unwrap().into_inner();
    let schema = arrow::datatypes::Schema::try_from(schema).unwrap();
    let info = flight.execute(sql.to_owned(), None).await.unwrap();
    assert_eq!(schema.fields(), info.clone().try_decode_schema().unwrap().fields());

    let polled = inner(&flight).poll_flight_info(asked()).await.unwrap().into_inner();
    assert!(polled.flight_descriptor.is_none(), "there is nothing to wait for");
    assert_eq!(polled.progress, Some(1.0));
    assert_eq!(read(&mut flight, polled.info.unwrap()).await.unwrap()[0].num_rows(), 5);

    let criteria = arrow_flight::Criteria { expression: client.namespace_name().to_owned().into() };
    let mut listed = inner(&flight).list_flights(client.request(criteria)).await.unwrap().into_inner();
    let only = listed.message().await.unwrap().unwrap();
    assert_eq!(only.flight_descriptor.clone().unwrap().path, [client.namespace_name(), "t"]);
    assert_eq!(read(&mut flight, only).await.unwrap()[0].num_rows(), 5);
    assert!(listed.message().await.unwrap().is_none());

    let mut actions = inner(&flight).list_actions(client.request(arrow_flight::Empty {})).await.unwrap().into_inner();
    let mut names = Vec::new();
    while let Some(action) = actions.message().await.unwrap() {
        names.push(action.r#type);
    }
    for name in ["CreatePreparedStatement", "ClosePreparedStatement", "CancelFlightInfo", "SetSessionOptions"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    fails(flight.do_action(Action::new("Nothing", "")).await, "NOT_SUPPORTED", Code::Unimplemented);
    let exchanging = inner(&flight).do_exchange(client.request(stream::iter([FlightData::new()]))).await;
    assert_eq!(exchanging.unwrap_err().code(), Code::Unimplemented);
    flight.close().await.unwrap();
}

#[tokio::test]
async fn rows_come_in_messages_that_clients_take() {
    // tonic takes messages of no more than 4 MB unless it is told to.
    let (_client, mut flight) = with_rows().await;
    let batches = query(&mut flight, "SELECT value, repeat('x', 20000) AS body FROM generate_series(1, 2000)").await;
    assert_eq!(batches.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 2_000);
    let batches = query(&mut flight, "SELECT value FROM generate_series(1, 3000000)").await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3_000_000);
}

#[tokio::test]
async fn rows_that_share_one_large_value_come_few_by_few() {
    let (client, mut flight) = with_rows().await;
    client.run("CREATE USER TABLE large (id BIGINT PRIMARY KEY, body TEXT)").await;
    client.run("CREATE USER TABLE small (id BIGINT PRIMARY KEY, k BIGINT)").await;
    client.run_with("INSERT INTO large VALUES (1, $1)", vec![text("x".repeat(1_000_000))]).await;
    client.run("INSERT INTO small SELECT value, 1 FROM generate_series(1, 8192)").await;
    // Eight GB, of which the server has one MB.
    let sql = "SELECT large.body FROM small JOIN large ON small.k = large.id";
    let info = flight.execute(sql.to_owned(), None).await.unwrap();
    let mut batches = flight.do_get(ticket(&info)).await.unwrap();
    for _ in 0..20 {
        let batch = batches.try_next().await.unwrap().expect("rows");
        assert!((1..=2).contains(&batch.num_rows()), "{}", batch.num_rows());
        assert!(batch.column(0).as_string::<i32>().iter().all(|body| body.is_some_and(|body| body.len() == 1_000_000)));
    }
    drop(batches);
    assert_eq!(rows(&mut flight, "SELECT count(*) FROM small").await, ["8192"]);
}

#[tokio::test]
async fn another_user_sees_its_own_rows() {
    let (client, mut alice) = with_rows().await;
    let mut bob = flight(&client.user("bob"));
    assert_eq!(rows(&mut bob, "SELECT count(*) FROM t").await, ["0"]);
    bob.execute_update("INSERT INTO t VALUES (1, 'of bob', 0)".to_owned(), None).await.unwrap();
    assert_eq!(rows(&mut bob, "SELECT name FROM t").await, ["of bob"]);
    assert_eq!(rows(&mut alice, "SELECT name FROM t WHERE id = 1").await, ["one"]);
}
