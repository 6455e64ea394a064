//! The calls of the JDBC driver, in its order: it prepares every statement, runs what has columns as a query and all else as
//! an update, and sends rows of nothing for a statement without parameters.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray},
    datatypes::{DataType, Schema},
};
use arrow_flight::{
    FlightData, IpcMessage,
    error::FlightError,
    sql::{
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
        CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
        CommandPreparedStatementQuery, CommandPreparedStatementUpdate, DoPutPreparedStatementResult, DoPutUpdateResult,
        ProstMessageExt, SqlInfo,
    },
    utils::batches_to_flight_data,
};
use bytes::Bytes;
use kalamdb_tests::client::Client;
use prost::Message;
use tonic::Code;

use super::{Flight, act, descriptor, fails, failure, parameters, put, read, shown, unpacked, with_rows};

/// A connection of the driver.
struct Driver {
    client: Client,
    flight: Flight,
}

/// A prepared statement, as the driver keeps it.
struct Prepared {
    handle: Bytes,
    columns: Schema,
    parameters: Schema,
}

fn schema_of(bytes: Bytes) -> Schema {
    Schema::try_from(IpcMessage(bytes)).unwrap()
}

/// Rows as messages, the first of which says what they are for.
fn messages(command: &impl ProstMessageExt, rows: RecordBatch) -> Vec<FlightData> {
    let mut messages = batches_to_flight_data(&rows.schema(), vec![rows]).unwrap();
    messages[0].flight_descriptor = Some(descriptor(command));
    messages
}

/// No rows of no columns, as `VectorSchemaRoot.of()` is.
fn nothing() -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(0));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).unwrap()
}

impl Driver {
    async fn connect() -> Self {
        let (client, flight) = with_rows().await;
        Self { client, flight }
    }

    async fn prepare(&mut self, sql: &str) -> Result<Prepared, FlightError> {
        let request = ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
        let body = act(&mut self.flight, "CreatePreparedStatement", request.as_any().encode_to_vec()).await?;
        let result: ActionCreatePreparedStatementResult = unpacked(&body.expect("a message"));
        Ok(Prepared {
            handle: result.prepared_statement_handle,
            columns: schema_of(result.dataset_schema),
            parameters: schema_of(result.parameter_schema),
        })
    }

    async fn close(&mut self, prepared: Prepared) {
        let request = ActionClosePreparedStatementRequest { prepared_statement_handle: prepared.handle };
        let closed = act(&mut self.flight, "ClosePreparedStatement", request.as_any().encode_to_vec()).await;
        assert_eq!(closed.unwrap(), None);
    }

    async fn update(&mut self, handle: &Bytes, rows: RecordBatch) -> Result<i64, FlightError> {
        let command = CommandPreparedStatementUpdate { prepared_statement_handle: handle.clone() };
        let result = put(&mut self.flight, messages(&command, rows)).await?.expect("a result");
        Ok(DoPutUpdateResult::decode(result.app_metadata).unwrap().record_count)
    }

    /// The handle with parameters.
    async fn bind(&mut self, handle: &Bytes, rows: RecordBatch) -> Result<Bytes, FlightError> {
        let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
        let result = put(&mut self.flight, messages(&command, rows)).await?.expect("a result");
        let result = DoPutPreparedStatementResult::decode(result.app_metadata).unwrap();
        Ok(result.prepared_statement_handle.expect("another handle"))
    }

    async fn rows_of(&mut self, handle: &Bytes) -> Result<Vec<String>, FlightError> {
        let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
        let request = self.client.request(descriptor(&command));
        let info = self.flight.inner_mut().get_flight_info(request).await?.into_inner();
        read(&mut self.flight, info).await.map(|batches| shown(&batches))
    }

    /// `Statement.execute`: the count, or else the rows.
    async fn execute(&mut self, sql: &str) -> Result<i64, Vec<String>> {
        let prepared = self.prepare(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let outcome = if prepared.columns.fields().is_empty() {
            Ok(self.update(&prepared.handle, nothing()).await.unwrap_or_else(|error| panic!("{sql}: {error}")))
        } else {
            Err(self.rows_of(&prepared.handle).await.unwrap_or_else(|error| panic!("{sql}: {error}")))
        };
        self.close(prepared).await;
        outcome
    }
}

#[tokio::test]
async fn every_statement_is_prepared() {
    let mut driver = Driver::connect().await;
    let namespace = driver.client.namespace_name().to_owned();
    let create =
        format!("CREATE USER TABLE {namespace}.orders (id BIGINT PRIMARY KEY, what TEXT, price DECIMAL(10, 2))");
    assert_eq!(driver.execute(&create).await, Ok(0));
    assert_eq!(driver.execute("INSERT INTO orders VALUES (1, 'tea', 2.50), (2, 'milk', 1.20)").await, Ok(2));
    assert_eq!(
        driver.execute("SELECT what, price FROM orders ORDER BY id").await,
        Err(vec!["tea | 2.50".to_owned(), "milk | 1.20".to_owned()])
    );
    assert_eq!(driver.execute("UPDATE orders SET price = 3 WHERE id = 1").await, Ok(1));
    assert_eq!(driver.execute("DELETE FROM orders WHERE id = 2 RETURNING what").await, Err(vec!["milk".to_owned()]));
    assert_eq!(driver.execute("DELETE FROM orders").await, Ok(1));
    assert_eq!(driver.execute("SELECT * FROM orders").await, Err(Vec::new()));
    assert_eq!(driver.execute("DROP TABLE orders").await, Ok(0));
}

#[tokio::test]
async fn parameters_are_bound_again_and_again() {
    let mut driver = Driver::connect().await;
    let prepared = driver.prepare("SELECT name FROM t WHERE id >= $1 AND n < $2 ORDER BY id").await.unwrap();
    let types: Vec<&DataType> = prepared.parameters.fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types, [&DataType::Int64, &DataType::Int32]);
    for (least, below, names) in [(1, 30, vec!["one", "two"]), (5, 100, vec!["five"]), (9, 9, vec![])] {
        let row = parameters(vec![Arc::new(Int64Array::from(vec![least])), Arc::new(Int64Array::from(vec![below]))]);
        let bound = driver.bind(&prepared.handle, row).await.unwrap();
        assert_ne!(bound, prepared.handle);
        assert_eq!(driver.rows_of(&bound).await.unwrap(), names);
        assert_eq!(driver.rows_of(&bound).await.unwrap(), names, "without being bound again");
    }
    // A handle that was bound is bound to others like any.
    driver.close(prepared).await;
}

#[tokio::test]
async fn batches_of_parameters_run_one_by_one() {
    let mut driver = Driver::connect().await;
    let insert = driver.prepare("INSERT INTO t VALUES ($1, $2, 0)").await.unwrap();
    let rows = |ids: Vec<i64>| {
        let names: StringArray = ids.iter().map(|id| Some(format!("name {id}"))).collect();
        parameters(vec![Arc::new(Int64Array::from(ids)), Arc::new(names)])
    };
    let many = driver.update(&insert.handle, rows((100..2_600).collect())).await.unwrap();
    assert_eq!(many, 2_500);
    assert_eq!(driver.update(&insert.handle, rows(Vec::new())).await.unwrap(), 0, "no rows, no runs");
    // The first row that fails ends it; those before it stay.
    let outcome = driver.update(&insert.handle, rows(vec![3_000, 3_001, 100, 3_002])).await;
    let double = fails(outcome, "PRIMARY_KEY_VIOLATION", Code::AlreadyExists);
    assert_eq!(double.meta("row"), "2");
    assert_eq!(driver.client.scalar("SELECT count(*) FROM t WHERE id >= 3000").await, "2");
    // Types that do not fit are refused by the parameter's name.
    let wrong = parameters(vec![Arc::new(StringArray::from(vec!["x"])), Arc::new(StringArray::from(vec!["y"]))]);
    let refused = failure(driver.update(&insert.handle, wrong).await.unwrap_err());
    assert_eq!(refused.code, Code::InvalidArgument, "{}", refused.message);
    assert!(refused.message.contains("$1") || refused.message.contains("id"), "{}", refused.message);
    fails(driver.update(&insert.handle, nothing()).await, "PARAMETER_COUNT_MISMATCH", Code::InvalidArgument);
}

#[tokio::test]
async fn what_cannot_be_typed_is_text() {
    let mut driver = Driver::connect().await;
    let prepared = driver.prepare("SELECT $1 || $2 AS joined").await.unwrap();
    let types: Vec<&DataType> = prepared.parameters.fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types, [&DataType::Utf8, &DataType::Utf8]);
    let row = parameters(vec![Arc::new(StringArray::from(vec!["a"])), Arc::new(StringArray::from(vec!["b"]))]);
    let bound = driver.bind(&prepared.handle, row).await.unwrap();
    assert_eq!(driver.rows_of(&bound).await.unwrap(), ["ab"]);
}

#[tokio::test]
async fn metadata_is_asked_for_with_patterns() {
    let Driver { client, mut flight } = Driver::connect().await;
    let namespace = client.namespace_name().to_owned();
    // What the driver looks up when it connects, and DatabaseMetaData.
    let info = flight
        .get_sql_info(vec![
            SqlInfo::FlightSqlServerName,
            SqlInfo::FlightSqlServerVersion,
            SqlInfo::FlightSqlServerReadOnly,
            SqlInfo::SqlIdentifierQuoteChar,
            SqlInfo::SqlTransactionsSupported,
            SqlInfo::SqlSupportsConvert,
            SqlInfo::SqlKeywords,
            SqlInfo::SqlMaxTableNameLength,
        ])
        .await
        .unwrap();
    assert_eq!(read(&mut flight, info).await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 8);
    let command = CommandGetDbSchemas {
        catalog: Some("kalamdb".to_owned()),
        db_schema_filter_pattern: Some(format!("{}%", &namespace[..namespace.len() - 1])),
    };
    let info = flight.get_db_schemas(command).await.unwrap();
    let schemas = shown(&read(&mut flight, info).await.unwrap());
    assert!(schemas.contains(&format!("kalamdb | {namespace}")), "{schemas:?}");
    let command = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some(namespace.clone()),
        table_name_filter_pattern: Some("%".to_owned()),
        table_types: vec!["TABLE".to_owned()],
        include_schema: true,
    };
    let info = flight.get_tables(command).await.unwrap();
    let batches = read(&mut flight, info).await.unwrap();
    let columns = schema_of(Bytes::copy_from_slice(batches[0].column(4).as_binary::<i32>().value(0)));
    let shown: Vec<(&str, &str)> = columns
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), field.metadata()["ARROW:FLIGHT:SQL:TYPE_NAME"].as_str()))
        .collect();
    assert_eq!(shown, [("id", "BIGINT"), ("name", "TEXT"), ("n", "INT")]);
    assert_eq!(columns.field(0).metadata()["ARROW:FLIGHT:SQL:TABLE_NAME"], "t");
    assert!(!columns.field(0).is_nullable());
    assert_eq!(columns.metadata()["kalamdb.table_type"], "USER");
    let command = CommandGetPrimaryKeys { catalog: None, db_schema: Some(namespace), table: "t".to_owned() };
    let info = flight.get_primary_keys(command).await.unwrap();
    assert_eq!(read(&mut flight, info).await.unwrap()[0].column(3).as_string::<i32>().value(0), "id");
    // java.sql.Types.BIGINT.
    let info = flight.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(-5) }).await.unwrap();
    let batches = read(&mut flight, info).await.unwrap();
    let names: Vec<&str> =
        batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten()).collect();
    assert_eq!(names, ["BIGINT", "BIGINT UNSIGNED"]);
}
