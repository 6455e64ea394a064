use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int16Array, Int32Array,
        ListArray, ListBuilder, ListViewArray, NullArray, RecordBatch, StringBuilder, StructArray,
        Time64MicrosecondArray, TimestampNanosecondArray, UInt8Array, new_null_array,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Int32Type, Schema},
};
use kalamdb_engine::{Reason, TYPE_METADATA_KEY};

use super::{append, batch, ints, refused, texts};
use crate::harness::{Db, table};

#[tokio::test]
async fn columns_are_matched_by_name_and_missing_ones_get_their_defaults() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin
        .run(
            "CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, a TEXT, b INT NOT NULL DEFAULT 7, at TIMESTAMP DEFAULT NOW(), \
             who TEXT DEFAULT CURRENT_USER(), c DOUBLE)",
        )
        .await;
    let outcome =
        append(&admin, "t", batch(vec![("c", Arc::new(Float64Array::from(vec![1.5, 2.5]))), ("id", ints([2, 1]))]))
            .await;
    assert_eq!((outcome.rows, outcome.parts, outcome.created), (2, 1, false));
    assert_eq!(outcome.commit_seq, Some(db.engine().last_commit_seq()));
    assert_eq!(
        admin.rows("SELECT id, a, b, who, c, at = NOW() FROM t ORDER BY id").await,
        table(&[["1", "NULL", "7", "operator", "2.5", "true"], ["2", "NULL", "7", "operator", "1.5", "true"]])
    );
}

#[tokio::test]
async fn generated_keys_ascend_as_the_rows_do() {
    let db = Db::memory().await;
    let admin = db.admin();
    for (name, key) in [
        ("s", "BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID()"),
        ("u", "TEXT PRIMARY KEY DEFAULT ULID()"),
        ("v", "TEXT PRIMARY KEY DEFAULT UUID_V7()"),
    ] {
        admin.run(format!("CREATE SHARED TABLE {name} (id {key}, n BIGINT)")).await;
        append(&admin, name, batch(vec![("n", ints(0..30_000))])).await;
        let wrong = format!(
            "SELECT count(*) FROM (SELECT n, row_number() OVER (ORDER BY id) - 1 AS place FROM {name}) WHERE n <> place"
        );
        assert_eq!(admin.value(wrong).await, "0", "{name}");
        assert_eq!(admin.value(format!("SELECT count(*) FROM {name}")).await, "30000");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_columns_is_said_before_anything_is_ingested() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, body TEXT, n INT NOT NULL)").await;
    let n: ArrayRef = Arc::new(Int32Array::from(vec![1]));

    let extra = batch(vec![("id", ints([1])), ("n", Arc::clone(&n)), ("bodi", texts(["x"]))]);
    let error = refused(&admin, "t", Reason::ColumnNotFound, extra).await;
    assert!(error.message().contains("\"bodi\"") && error.message().contains("Did you mean 'body'?"), "{error}");

    let missing = batch(vec![("id", ints([1])), ("body", texts(["x"]))]);
    let error = refused(&admin, "t", Reason::NotNullViolation, missing).await;
    assert_eq!(error.metadata()["column"], "n");
    assert!(error.message().contains("no DEFAULT"), "{error}");

    let no_key = batch(vec![("n", Arc::clone(&n))]);
    assert_eq!(refused(&admin, "t", Reason::NotNullViolation, no_key).await.metadata()["column"], "id");

    let twice = batch(vec![("id", ints([1])), ("n", Arc::clone(&n)), ("id", ints([1]))]);
    assert_eq!(refused(&admin, "t", Reason::InvalidRequest, twice).await.metadata()["column"], "id");

    let mistyped = batch(vec![("id", texts(["1"])), ("n", Arc::clone(&n))]);
    let error = refused(&admin, "t", Reason::InvalidValue, mistyped).await;
    assert!(error.message().contains("BIGINT") && error.message().contains("TEXT"), "{error}");
    assert_eq!((error.metadata()["expected"].as_str(), error.metadata()["given"].as_str()), ("BIGINT", "TEXT"));

    let hidden = batch(vec![("id", ints([1])), ("n", n), ("_seq", ints([1]))]);
    refused(&admin, "t", Reason::ColumnNotFound, hidden).await;

    assert_eq!(admin.value("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn values_are_converted_where_insert_would() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin
        .run(
            "CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, small SMALLINT, real REAL, price DECIMAL(10, 2), at TIMESTAMP, \
             uuid UUID, doc JSON, day DATE, raw BYTES, ok BOOLEAN, name TEXT, tags TEXT[])",
        )
        .await;
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.values().append_value("a");
    tags.append(true);
    tags.append(false);
    let names: DictionaryArray<Int32Type> = vec![Some("Ana"), None].into_iter().collect();
    let rows = batch(vec![
        ("id", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
        ("small", ints([Some(7), None])),
        ("real", Arc::new(Float64Array::from(vec![Some(0.5), None]))),
        (
            "price",
            Arc::new(Decimal128Array::from(vec![Some(1_234_500), None]).with_precision_and_scale(20, 5).unwrap()),
        ),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![Some(1_500_000_000), None]))),
        ("uuid", texts([Some("67E55044-10B1-426F-9247-BB680E5FE0C8"), None])),
        ("doc", texts([Some("{\"a\": 1}"), None])),
        ("day", texts([Some("2026-01-02"), None])),
        ("raw", Arc::new(BinaryArray::from(vec![Some(&b"\x01\xff"[..]), None]))),
        ("ok", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("name", Arc::new(names)),
        ("tags", Arc::new(tags.finish())),
    ]);
    append(&admin, "t", rows).await;
    let rows = admin.rows("SELECT * FROM t ORDER BY id").await;
    assert_eq!(
        rows[0],
        [
            "1",
            "7",
            "0.5",
            "12.35",
            "1970-01-01T00:00:01.500",
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
            "{\"a\": 1}",
            "2026-01-02",
            "01ff",
            "true",
            "Ana",
            "[a]"
        ]
    );
    assert!(rows[1][1..].iter().all(|value| value == "NULL"), "{rows:?}");
}

#[tokio::test]
async fn a_value_that_does_not_fit_refuses_all_and_is_named() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, small SMALLINT, n INT NOT NULL, u UUID)").await;
    let n: ArrayRef = Arc::new(Int16Array::from(vec![1, 2]));
    let large = batch(vec![("id", ints([1, 2])), ("n", Arc::clone(&n)), ("small", ints([1, 40_000]))]);
    let error = refused(&admin, "t", Reason::InvalidValue, large).await;
    assert!(error.message().contains("40000") && error.message().contains("rows 0 to 1"), "{error}");
    let no_uuid = batch(vec![("id", ints([1, 2])), ("n", Arc::clone(&n)), ("u", texts([None, Some("no uuid")]))]);
    refused(&admin, "t", Reason::InvalidValue, no_uuid).await;
    let null = batch(vec![("id", ints([1, 2])), ("n", Arc::new(Int32Array::from(vec![Some(1), None])))]);
    let error = refused(&admin, "t", Reason::NotNullViolation, null).await;
    assert_eq!((error.metadata()["column"].as_str(), error.metadata()["row"].as_str()), ("n", "1"));
    // A column of nothing is NULL in each row, which is more than to be missing.
    let nothing = batch(vec![("id", ints([1, 2])), ("n", Arc::new(NullArray::new(2)))]);
    refused(&admin, "t", Reason::NotNullViolation, nothing).await;
    assert_eq!(admin.value("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn structs_and_every_type_of_null_are_stored() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, place STRUCT<x INT, name TEXT>, b BIGINT UNSIGNED)").await;
    let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, true));
    // In another order than the table has them, and of a narrower type.
    let place = StructArray::from(vec![
        (field("name", DataType::Utf8), texts(["here", "there"])),
        (field("x", DataType::Int16), Arc::new(Int16Array::from(vec![1, 2])) as ArrayRef),
    ]);
    let rows = batch(vec![
        ("id", ints([1, 2])),
        ("place", Arc::new(place) as ArrayRef),
        ("b", Arc::new(UInt8Array::from(vec![Some(255), None]))),
    ]);
    append(&admin, "t", rows).await;
    let empty = batch(vec![
        ("id", ints([3])),
        ("place", new_null_array(&DataType::Null, 1)),
        ("b", Arc::new(NullArray::new(1))),
    ]);
    append(&admin, "t", empty).await;
    assert_eq!(
        admin.rows("SELECT id, place['x'], place['name'], b FROM t ORDER BY id").await,
        table(&[["1", "1", "here", "255"], ["2", "2", "there", "NULL"], ["3", "NULL", "NULL", "NULL"]])
    );
}

/// A row with the key 1, and a column whose field says by its metadata what its values are.
fn marked(name: &str, values: ArrayRef, mark: &str) -> RecordBatch {
    let metadata = [(TYPE_METADATA_KEY.to_owned(), mark.to_owned())].into();
    let field = Field::new(name, values.data_type().clone(), true).with_metadata(metadata);
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), field]);
    RecordBatch::try_new(Arc::new(schema), vec![ints([1]), values]).unwrap()
}

#[tokio::test]
async fn values_are_what_they_are_said_to_be() {
    const CANONICAL: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let db = Db::memory().await;
    let admin = db.admin();
    admin
        .run(
            "CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, u UUID, doc JSON, price DECIMAL(10, 2), at TIME, docs JSON[], \
             pair STRUCT<u UUID, n INT>)",
        )
        .await;
    for (name, text, mark) in [("doc", "not json", "json"), ("u", "ABC", "uuid")] {
        let error = refused(&admin, "t", Reason::InvalidValue, marked(name, texts([text]), mark)).await;
        assert_eq!(error.metadata()["column"], name);
        assert!(error.message().contains("rows 0 to 0"), "{error}");
    }
    let item = |mark: &str| {
        let metadata = [(TYPE_METADATA_KEY.to_owned(), mark.to_owned())].into();
        Field::new("item", DataType::Utf8, true).with_metadata(metadata)
    };
    let docs = |text: &str| -> ArrayRef {
        Arc::new(ListArray::new(Arc::new(item("json")), OffsetBuffer::from_lengths([1]), texts([text]), None))
    };
    let pair = |text: &str| -> ArrayRef {
        let uuid = Arc::new(item("uuid").with_name("u"));
        let number: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        Arc::new(StructArray::from(vec![
            (uuid, texts([text])),
            (Arc::new(Field::new("n", DataType::Int32, true)), number),
        ]))
    };
    let price = |unscaled: i128| -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![unscaled]).with_precision_and_scale(10, 2).unwrap())
    };
    let at = |time: i64| -> ArrayRef { Arc::new(Time64MicrosecondArray::from(vec![time])) };
    for (name, values) in [
        ("docs", docs("not json")),
        ("pair", pair("ABC")),
        ("price", price(10_i128.pow(30))),
        ("at", at(-1)),
        ("at", at(90_000_000_000)),
    ] {
        let error = refused(&admin, "t", Reason::InvalidValue, batch(vec![("id", ints([1])), (name, values)])).await;
        assert_eq!(error.metadata()["column"], name);
    }
    assert_eq!(admin.value("SELECT count(*) FROM t").await, "0");

    let upper = CANONICAL.to_uppercase();
    append(&admin, "t", marked("u", texts([upper.as_str()]), "uuid")).await;
    let nested = vec![
        ("id", ints([2])),
        ("docs", docs("[1]")),
        ("pair", pair(&upper)),
        ("price", price(9_999_999_999)),
        ("at", at(0)),
    ];
    append(&admin, "t", batch(nested)).await;
    assert_eq!(
        admin.rows(format!("SELECT id FROM t WHERE u = '{CANONICAL}' OR pair['u'] = '{CANONICAL}' ORDER BY id")).await,
        table(&[["1"], ["2"]])
    );
    assert_eq!(admin.rows("SELECT price, docs FROM t WHERE id = 2").await, table(&[["99999999.99", "[[1]]"]]));
}

#[tokio::test]
async fn types_that_show_parts_again_and_again_are_refused_by_name() {
    let db = Db::memory().await;
    let admin = db.admin();
    admin.run("CREATE SHARED TABLE t (id BIGINT PRIMARY KEY, n INT[])").await;
    let views = ListViewArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    let error =
        refused(&admin, "t", Reason::NotSupported, batch(vec![("id", ints([1])), ("n", Arc::new(views))])).await;
    assert_eq!(error.metadata()["column"], "n");
    assert!(error.message().contains("ListView") && error.message().contains("Convert it"), "{error}");
    // A list of NULLs takes no bytes for each.
    let nulls = |count: usize| -> ArrayRef {
        let item = Arc::new(Field::new("item", DataType::Null, true));
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([count]), Arc::new(NullArray::new(count)), None))
    };
    append(&admin, "t", batch(vec![("id", ints([1])), ("n", nulls(3))])).await;
    assert_eq!(admin.value("SELECT n FROM t").await, "[NULL, NULL, NULL]");
    refused(&admin, "t", Reason::WriteTooLarge, batch(vec![("id", ints([2])), ("n", nulls(1 << 30))])).await;
}
