//! Every SQL type: exact through a parameter, through SQL text, in the column's description, and as Arrow.

use kalamdb_proto::v1::{ResultFormat, TypeKind, Value, value::Kind};
use kalamdb_tests::{
    client::Options,
    values::{boolean, bytes, double, int, interval, kind_name, list, null, structure, text, value},
};
use tonic::Code;

use crate::support::client;

/// SQL type, kind of its description, and values that must come back as they are, with what to send for them when
/// that is not the value itself.
fn samples() -> Vec<(&'static str, TypeKind, Vec<Value>)> {
    let uint = |v| value(Kind::UintValue(v));
    let real = |v| value(Kind::FloatValue(v));
    let decimal = |v: &str| value(Kind::DecimalValue(v.to_owned()));
    let date = |v| value(Kind::DateValue(v));
    let time = |v| value(Kind::TimeValue(v));
    let timestamp = |v| value(Kind::TimestampValue(v));
    let timestamptz = |v| value(Kind::TimestamptzValue(v));
    let uuid = |v: &str| value(Kind::UuidValue(v.to_owned()));
    let json = |v: &str| value(Kind::JsonValue(v.to_owned()));
    vec![
        ("BOOLEAN", TypeKind::Boolean, vec![boolean(true), boolean(false)]),
        ("SMALLINT", TypeKind::Smallint, vec![int(i16::MIN.into()), int(0), int(i16::MAX.into())]),
        ("INT", TypeKind::Int, vec![int(i32::MIN.into()), int(i32::MAX.into())]),
        ("BIGINT", TypeKind::Bigint, vec![int(i64::MIN), int((1 << 53) + 1), int(i64::MAX)]),
        ("SMALLINT UNSIGNED", TypeKind::SmallintUnsigned, vec![uint(0), uint(u16::MAX.into())]),
        ("INT UNSIGNED", TypeKind::IntUnsigned, vec![uint(u32::MAX.into())]),
        ("BIGINT UNSIGNED", TypeKind::BigintUnsigned, vec![uint(u64::MAX)]),
        ("REAL", TypeKind::Real, vec![real(1.5), real(f32::MIN_POSITIVE), real(f32::NEG_INFINITY)]),
        (
            "DOUBLE",
            TypeKind::Double,
            vec![double(0.1), double(f64::MAX), double(f64::MIN_POSITIVE), double(f64::INFINITY)],
        ),
        ("DECIMAL(10, 2)", TypeKind::Decimal, vec![decimal("-12.50"), decimal("99999999.99"), decimal("0.01")]),
        (
            "DECIMAL(76, 10)",
            TypeKind::Decimal,
            vec![decimal("-123456789012345678901234567890123456789012345678901234567890.0123456789")],
        ),
        (
            "TEXT",
            TypeKind::Text,
            vec![text(""), text("naïve 日本語 🦀"), text("line\nbreak\ttab\0nul"), text("x".repeat(100_000))],
        ),
        ("BYTES", TypeKind::Bytes, vec![bytes([]), bytes([0, 1, 0xfe, 0xff]), bytes(vec![7; 100_000])]),
        ("DATE", TypeKind::Date, vec![date(0), date(-719_162), date(2_932_896)]),
        ("TIME", TypeKind::Time, vec![time(0), time(86_399_999_999)]),
        ("TIMESTAMP", TypeKind::Timestamp, vec![timestamp(0), timestamp(-1), timestamp(253_402_300_799_999_999)]),
        ("TIMESTAMP WITH TIME ZONE", TypeKind::Timestamptz, vec![timestamptz(0), timestamptz(1_700_000_000_123_456)]),
        ("INTERVAL", TypeKind::Interval, vec![interval(14, -3, 1_000_000_007), interval(0, 0, 0)]),
        ("UUID", TypeKind::Uuid, vec![uuid("01890a5d-ac96-774b-bcce-b302099a8057")]),
        (
            "JSON",
            TypeKind::Json,
            vec![json(r#"{"a":[1,2,{"b":null}],"c":"é"}"#), json("null"), json("12345678901234567890")],
        ),
        ("TEXT[]", TypeKind::List, vec![list([]), list([text("a"), null(), text("")])]),
        ("BIGINT[]", TypeKind::List, vec![list([int(i64::MIN), int(i64::MAX)])]),
        ("BIGINT[][]", TypeKind::List, vec![list([list([int(1)]), list([]), null()])]),
        (
            "STRUCT<a BIGINT, b TEXT>",
            TypeKind::Struct,
            vec![structure([int(7), text("x")]), structure([null(), null()])],
        ),
        (
            "STRUCT<p STRUCT<x DOUBLE, y DOUBLE>, tags TEXT[]>",
            TypeKind::Struct,
            vec![structure([structure([double(1.5), double(-2.5)]), list([text("t")])])],
        ),
    ]
}

#[tokio::test]
async fn every_type_comes_back_exactly() {
    let client = client().await;
    for (number, (sql_type, kind, values)) in samples().into_iter().enumerate() {
        let table = format!("t{number}");
        client.run(&format!("CREATE USER TABLE {table} (id BIGINT PRIMARY KEY, v {sql_type})")).await;
        client.run_with(&format!("INSERT INTO {table} VALUES ($1, $2)"), vec![int(-1), null()]).await;
        for (id, value) in values.iter().enumerate() {
            let parameters = vec![int(id as i64), value.clone()];
            client.run_with(&format!("INSERT INTO {table} VALUES ($1, $2)"), parameters).await;
        }
        let answer = client.run(&format!("SELECT v FROM {table} ORDER BY id")).await;
        let described = answer.columns()[0].r#type.clone().unwrap();
        assert_eq!(kind_name(described.kind), kind_name(kind as i32), "kind of {sql_type}");
        assert!(answer.columns()[0].nullable);
        let stored: Vec<Value> = answer.rows().rows.iter().map(|row| row.values[0].clone()).collect();
        assert_eq!(stored[0], null(), "NULL of {sql_type}");
        assert_eq!(stored[1..], values, "values of {sql_type}");

        // The point read and the update take other ways through the server.
        let point = client.run(&format!("SELECT v FROM {table} WHERE id = 0")).await;
        assert_eq!(*point.value(), values[0], "point read of {sql_type}");
        client.run_with(&format!("UPDATE {table} SET v = $1 WHERE id = -1"), vec![values[0].clone()]).await;
        let updated = client.run(&format!("SELECT v FROM {table} WHERE id = -1")).await;
        assert_eq!(*updated.value(), values[0], "update of {sql_type}");
    }
}

#[tokio::test]
async fn columns_say_their_types_with_parameters_and_nullability() {
    let client = client().await;
    client
        .run("CREATE USER TABLE c (id BIGINT PRIMARY KEY, d DECIMAL(12, 3) NOT NULL, l TEXT[], s STRUCT<a INT, b BYTES>)")
        .await;
    let answer = client.run("SELECT * FROM c").await;
    let columns = answer.columns();
    let types: Vec<_> = columns.iter().map(|column| column.r#type.clone().unwrap()).collect();
    assert_eq!(columns.iter().map(|column| column.nullable).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!((types[1].precision, types[1].scale), (12, 3));
    assert_eq!(types[2].element.as_ref().unwrap().kind(), TypeKind::Text);
    let fields: Vec<_> =
        types[3].fields.iter().map(|field| (field.name.as_str(), field.r#type.as_ref().unwrap().kind())).collect();
    assert_eq!(fields, [("a", TypeKind::Int), ("b", TypeKind::Bytes)]);
}

#[tokio::test]
async fn literals_mean_the_same_values() {
    let client = client().await;
    client
        .run(
            "CREATE USER TABLE l (id BIGINT PRIMARY KEY, d DECIMAL(10, 2), dt DATE, tm TIME, ts TIMESTAMP, \
             tz TIMESTAMP WITH TIME ZONE, iv INTERVAL, u UUID, j JSON, by BYTES, a INT[])",
        )
        .await;
    client
        .run(
            "INSERT INTO l VALUES (1, 12.5, '2024-02-29', '12:34:56.789', '2024-02-29 12:34:56', \
             '2024-02-29T12:34:56+02:00', '1 month 2 days', '01890A5D-AC96-774B-BCCE-B302099A8057', '{\"k\": 1}', \
             X'00ff', ARRAY[1, 2, NULL])",
        )
        .await;
    let answer = client.run("SELECT d, dt, tm, ts, tz, iv, u, j, by, a FROM l").await;
    assert_eq!(
        answer.shown(),
        ["12.50 | 19782 | 45296789000 | 1709210096000000 | 1709202896000000 | 1m2d0ns | \
         01890a5d-ac96-774b-bcce-b302099a8057 | {\"k\": 1} | 00ff | [1, 2, NULL]"]
    );
}

#[tokio::test]
async fn values_that_do_not_fit_are_refused() {
    let client = client().await;
    client
        .run(
            "CREATE USER TABLE v (id BIGINT PRIMARY KEY, s SMALLINT, i INT, u INT UNSIGNED, d DECIMAL(4, 2), dt DATE, \
             uu UUID, j JSON, b BOOLEAN)",
        )
        .await;
    for values in [
        "s) VALUES (1, 32768",
        "s) VALUES (1, -32769",
        "i) VALUES (1, 2147483648",
        "u) VALUES (1, -1",
        "d) VALUES (1, 100.00",
        "dt) VALUES (1, '2024-02-30'",
        "uu) VALUES (1, 'not-a-uuid'",
        "j) VALUES (1, '{oops'",
        "b) VALUES (1, 'perhaps'",
        "i) VALUES (1, 'seven'",
    ] {
        let sql = format!("INSERT INTO v (id, {values})");
        let failure = client.fails(&sql, "INVALID_VALUE", Code::InvalidArgument).await;
        let column = values.split(')').next().unwrap();
        assert_eq!(failure.meta("column"), column, "{sql}");
    }
    // Through an expression, where only the value shows that it does not fit.
    client.run("INSERT INTO v (id, i) VALUES (1, 2147483647)").await;
    client.fails("UPDATE v SET s = i", "INVALID_VALUE", Code::InvalidArgument).await;
    client.fails("UPDATE v SET i = id * 4294967296", "INVALID_VALUE", Code::InvalidArgument).await;
    assert_eq!(client.rows("SELECT id, s, i FROM v").await, ["1 | NULL | 2147483647"]);
}

#[tokio::test]
async fn types_that_cannot_be_stored_are_refused_by_name() {
    let client = client().await;
    for sql_type in ["GEOMETRY", "XML", "HSTORE", "ENUM('a', 'b')", "VARCHAR(10)[", "DECIMAL(100, 2)"] {
        let sql = format!("CREATE USER TABLE bad (id BIGINT PRIMARY KEY, x {sql_type})");
        let failure = client.try_run(&sql).await.expect_err(&sql);
        assert!([Code::InvalidArgument, Code::Unimplemented].contains(&failure.code), "{sql}: {failure:#?}");
        client.fails("SELECT * FROM bad", "TABLE_NOT_FOUND", Code::NotFound).await;
    }
}

#[tokio::test]
async fn rows_come_as_arrow_on_request() {
    let client = crate::support::client_with_rows().await;
    let options = Options { format: ResultFormat::ArrowIpc as i32, ..Options::default() };
    let answers = client.execute("SELECT id, name, n FROM t ORDER BY id", options).await.unwrap();
    let rows = answers[0].rows();
    assert!(rows.rows.is_empty() && rows.row_count == 5);
    assert_eq!(answers[0].names(), ["id", "name", "n"]);
    let reader = arrow::ipc::reader::StreamReader::try_new(rows.arrow_ipc.as_ref(), None).unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    let ids: Vec<i64> = batches
        .iter()
        .flat_map(|batch| {
            batch.column(0).as_any().downcast_ref::<arrow::array::Int64Array>().unwrap().values().to_vec()
        })
        .collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    assert_eq!(batches.iter().map(|batch| batch.column(1).null_count()).sum::<usize>(), 1);
}
