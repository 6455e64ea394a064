//! What there is: filters, and who sees what.

use arrow::array::{Array, AsArray, RecordBatch, UnionArray};
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTables, SqlInfo};
use kalamdb_tests::{access::Secured, client::unique_name};
use tonic::Code;

use super::{Flight, descriptor, fails, flight, read, shown, with_rows};

async fn tables(flight: &mut Flight, command: CommandGetTables) -> Vec<String> {
    let info = flight.get_tables(command).await.unwrap();
    shown(&read(flight, info).await.unwrap())
}

async fn schemas(flight: &mut Flight, catalog: Option<&str>, pattern: Option<&str>) -> Vec<String> {
    let command = CommandGetDbSchemas {
        catalog: catalog.map(str::to_owned),
        db_schema_filter_pattern: pattern.map(str::to_owned),
    };
    let info = flight.get_db_schemas(command).await.unwrap();
    shown(&read(flight, info).await.unwrap())
}

#[tokio::test]
async fn filters_are_patterns() {
    let (client, mut flight) = with_rows().await;
    client.run("CREATE SHARED TABLE t_two (id BIGINT PRIMARY KEY)").await;
    client.run("CREATE SHARED TABLE txtwo (id BIGINT PRIMARY KEY)").await;
    let namespace = client.namespace_name();
    let named = |pattern: &str| CommandGetTables {
        db_schema_filter_pattern: Some(namespace.to_owned()),
        table_name_filter_pattern: Some(pattern.to_owned()),
        ..CommandGetTables::default()
    };
    for (pattern, expected) in [
        ("%", &["t", "t_two", "txtwo"][..]),
        ("t", &["t"]),
        ("t_two", &["t_two", "txtwo"]),
        ("t\\_two", &["t_two"]),
        ("%w%", &["t_two", "txtwo"]),
        ("T", &[]),
        ("", &[]),
    ] {
        let found = tables(&mut flight, named(pattern)).await;
        let expected: Vec<String> = expected.iter().map(|t| format!("kalamdb | {namespace} | {t} | TABLE")).collect();
        assert_eq!(found, expected, "{pattern}");
    }
    for (catalog, count) in [(None, 1), (Some("kalamdb"), 1), (Some("other"), 0), (Some(""), 0)] {
        assert_eq!(schemas(&mut flight, catalog, Some(namespace)).await.len(), count, "{catalog:?}");
        let command = CommandGetTables { catalog: catalog.map(str::to_owned), ..named("t") };
        assert_eq!(tables(&mut flight, command).await.len(), count, "{catalog:?}");
    }
    let of_type = |table_type: &str| CommandGetTables { table_types: vec![table_type.to_owned()], ..named("%") };
    assert_eq!(tables(&mut flight, of_type("TABLE")).await.len(), 3);
    assert_eq!(tables(&mut flight, of_type("VIEW")).await.len(), 0);
    // However many are asked for.
    let many = |names: &[&str]| CommandGetTables {
        table_types: names.iter().map(|name| (*name).to_owned()).cycle().take(100_000).collect(),
        ..named("%")
    };
    assert_eq!(tables(&mut flight, many(&["VIEW"])).await.len(), 0);
    assert_eq!(tables(&mut flight, many(&["VIEW", "TABLE"])).await.len(), 3);
    let failure = fails(flight.get_tables(named(&"%".repeat(2_000))).await, "INVALID_REQUEST", Code::InvalidArgument);
    assert!(failure.message.contains("shorter"), "{}", failure.message);
    let of_system = CommandGetTables {
        db_schema_filter_pattern: Some("system".to_owned()),
        table_types: vec!["SYSTEM TABLE".to_owned()],
        ..CommandGetTables::default()
    };
    let found = tables(&mut flight, of_system).await;
    assert!(found.contains(&"kalamdb | system | jobs | SYSTEM TABLE".to_owned()), "{found:?}");
}

#[tokio::test]
async fn a_user_is_told_of_what_concerns_it() {
    let name = unique_name("flight");
    let secured = Secured::start(&[], &[("ana", "ROLE user")], async |root| {
        root.run(&format!("CREATE NAMESPACE {name}")).await;
        let root = root.namespace(&name);
        root.run("CREATE USER TABLE own (id BIGINT PRIMARY KEY)").await;
        root.run("CREATE SHARED TABLE open (id BIGINT PRIMARY KEY) ACCESS public").await;
        root.run("CREATE SHARED TABLE closed (id BIGINT PRIMARY KEY) ACCESS private").await;
    })
    .await;
    let of = |pattern: &str| CommandGetTables {
        db_schema_filter_pattern: Some(pattern.to_owned()),
        ..CommandGetTables::default()
    };
    let mut ana = flight(&secured.client("ana").await);
    let mut root = flight(&secured.client("root").await);
    assert_eq!(tables(&mut ana, of(&name)).await.len(), 2);
    assert_eq!(tables(&mut root, of(&name)).await.len(), 3);
    let system = tables(&mut ana, of("system")).await;
    assert!(!system.iter().any(|line| line.contains("settings")), "{system:?}");
    let system = tables(&mut root, of("system")).await;
    assert!(system.iter().any(|line| line.contains("settings")), "{system:?}");
    assert!(schemas(&mut ana, None, Some("information_schema")).await.len() == 1);
}

#[tokio::test]
async fn the_server_says_all_that_it_can_do() {
    let (_client, mut flight) = with_rows().await;
    let info = flight.get_sql_info(Vec::new()).await.unwrap();
    let batches = read(&mut flight, info).await.unwrap();
    let batch = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    let names: Vec<u32> = batch.column(0).as_primitive::<arrow::datatypes::UInt32Type>().values().to_vec();
    // All that there are names for, but for the versions of Substrait.
    let expected: Vec<u32> = (0..=5).chain(8..=11).chain(100..=101).chain(500..=576).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(value(&batch, &names, SqlInfo::FlightSqlServerName), "KalamDB");
    assert_eq!(value(&batch, &names, SqlInfo::FlightSqlServerTransaction), "0");
    assert_eq!(value(&batch, &names, SqlInfo::FlightSqlServerBulkIngestion), "true");
    assert_eq!(value(&batch, &names, SqlInfo::FlightSqlServerCancel), "true");
    assert_eq!(value(&batch, &names, SqlInfo::SqlTransactionsSupported), "false");
    assert_eq!(value(&batch, &names, SqlInfo::SqlIdentifierQuoteChar), "\"");
}

#[tokio::test]
async fn numbers_are_answered_once_however_often_they_are_asked_for() {
    let (client, mut flight) = with_rows().await;
    let info = flight.get_sql_info(vec![SqlInfo::FlightSqlServerName; 1_000_000]).await.unwrap();
    let batches = read(&mut flight, info).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let unknown = client.request(descriptor(&CommandGetSqlInfo { info: vec![9_999; 1_000] }));
    let info = flight.inner_mut().get_flight_info(unknown).await.unwrap().into_inner();
    assert!(read(&mut flight, info).await.unwrap().is_empty(), "nothing, which is not all");
}

fn value(batch: &RecordBatch, names: &[u32], name: SqlInfo) -> String {
    let row = names.iter().position(|known| *known == name as u32).expect("the name");
    let values = batch.column(1).as_any().downcast_ref::<UnionArray>().expect("a union");
    let one = values.value(row);
    arrow::util::display::array_value_to_string(&one, 0).unwrap()
}
