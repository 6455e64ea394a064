use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, Decimal128Array, Float64Array, Int32Array, ListArray, NullArray, StructArray,
        TimestampMicrosecondArray, UInt64Array,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field},
};
use kalamdb_engine::{IfExists, IfMissing, IngestOptions, IngestTarget, Reason, Role, TableKind};

use super::{append, batch, ingest, ints, notes, texts};
use crate::harness::{Db, table};

fn with(target: IngestTarget, options: &[(&str, &str)]) -> IngestTarget {
    let mut target = target;
    for (name, value) in options {
        target.options.set(&format!("kalamdb.ingest.{name}"), value).unwrap();
    }
    target
}

fn create(name: &str) -> IngestTarget {
    IngestTarget::create("app", name)
}

#[tokio::test]
async fn a_table_is_made_of_the_columns_of_the_data() {
    let db = Db::memory().await;
    let admin = db.admin();
    let frame = batch(vec![
        ("name", texts(["a", "b"])),
        ("n", Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("+00:00"))),
        ("nothing", Arc::new(NullArray::new(2))),
    ]);
    let outcome = ingest(&admin, create("frame"), vec![frame]).await.unwrap();
    assert_eq!((outcome.rows, outcome.created, outcome.parts), (2, true, 1));
    let columns = "SELECT column_name, data_type, primary_key FROM system.columns WHERE table_name = 'frame'";
    let mut columns = admin.rows(columns).await;
    columns.sort();
    assert_eq!(
        columns,
        table(&[
            ["at", "TIMESTAMP WITH TIME ZONE", "false"],
            ["id", "BIGINT", "true"],
            ["n", "INT", "false"],
            ["name", "TEXT", "false"],
            ["nothing", "TEXT", "false"],
        ])
    );
    assert_eq!(admin.rows("SELECT name, n FROM frame ORDER BY id").await, table(&[["a", "1"], ["b", "NULL"]]));
    // Its key is made for rows that come later, too.
    append(&admin, "frame", batch(vec![("name", texts(["c"]))])).await;
    assert_eq!(admin.value("SELECT count(DISTINCT id) FROM frame").await, "3");
    // Tables that are made so are private.
    db.user("ana").fails(Reason::PermissionDenied, "SELECT * FROM frame").await;
}

#[tokio::test]
async fn the_key_is_the_column_asked_for_or_id() {
    let db = Db::memory().await;
    let admin = db.admin();
    ingest(&admin, create("a"), vec![notes(0..3)]).await.unwrap();
    assert_eq!(admin.rows("SELECT body FROM a WHERE id = 2").await, table(&[["note 2"]]));
    let narrow = batch(vec![("id", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef)]);
    ingest(&admin, create("b"), vec![narrow]).await.unwrap();
    let by_name = with(create("c"), &[("primary_key", "body"), ("table_type", "shared"), ("access", "public")]);
    ingest(&admin, by_name, vec![notes(0..3)]).await.unwrap();
    assert_eq!(db.user("ana").rows("SELECT id FROM c WHERE body = 'note 1'").await, table(&[["1"]]));

    for (target, columns, named) in [
        (create("d"), ("id", Arc::new(Float64Array::from(vec![1.0])) as ArrayRef), "primary_key"),
        (create("d"), ("id", Arc::new(UInt64Array::from(vec![1])) as ArrayRef), "primary_key"),
        (
            with(create("d"), &[("primary_key", "x")]),
            ("x", Arc::new(Float64Array::from(vec![1.0])) as ArrayRef),
            "\"x\"",
        ),
        (with(create("d"), &[("primary_key", "y")]), ("x", ints([1])), "\"y\""),
    ] {
        let error = ingest(&admin, target, vec![batch(vec![columns])]).await.unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidRequest, "{error}");
        assert!(error.message().contains(named), "{error}");
    }
    let error = ingest(&admin, create("d"), vec![batch(vec![("a b", ints([1]))])]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidName, "{error}");
}

#[tokio::test]
async fn no_table_is_left_when_its_rows_are_refused() {
    let db = Db::memory().await;
    let admin = db.admin();
    let error = ingest(&admin, create("t"), vec![notes([1, 2, 1])]).await.unwrap_err();
    assert_eq!((error.reason(), error.metadata()["row"].as_str()), (Reason::PrimaryKeyViolation, "2"));
    let null = batch(vec![("id", ints([Some(1), None]))]);
    assert_eq!(ingest(&admin, create("t"), vec![null]).await.unwrap_err().reason(), Reason::NotNullViolation);
    admin.fails(Reason::TableNotFound, "SELECT * FROM t").await;
    // Of no rows, the columns are there all the same.
    let outcome = ingest(&admin, create("t"), vec![notes([])]).await.unwrap();
    assert_eq!((outcome.rows, outcome.created, outcome.parts), (0, true, 0));
    assert_eq!(admin.value("SELECT count(body) FROM t").await, "0");
}

#[tokio::test]
async fn what_is_done_about_a_table_that_is_there_or_is_not() {
    let db = Db::memory().await;
    let admin = db.admin();
    let missing = ingest(&admin, IngestTarget::append("app", "t"), vec![notes(0..1)]).await.unwrap_err();
    assert_eq!(missing.reason(), Reason::TableNotFound);
    let no_namespace = ingest(&admin, IngestTarget::create("nowhere", "t"), vec![notes(0..1)]).await.unwrap_err();
    assert_eq!(no_namespace.reason(), Reason::NamespaceNotFound);
    let either = IngestTarget { if_missing: IfMissing::Create, if_exists: IfExists::Append, ..create("t") };
    assert!(ingest(&admin, either.clone(), vec![notes(0..1)]).await.unwrap().created);
    assert!(!ingest(&admin, either, vec![notes(1..2)]).await.unwrap().created);
    let exists = ingest(&admin, create("t"), vec![notes(5..6)]).await.unwrap_err();
    assert_eq!(exists.reason(), Reason::TableExists);
    let neither = IngestTarget { if_missing: IfMissing::Fail, ..create("t") };
    assert_eq!(ingest(&admin, neither, vec![notes(5..6)]).await.unwrap_err().reason(), Reason::TableExists);
    let system = ingest(&admin, IngestTarget::append("system", "users"), vec![notes(0..1)]).await.unwrap_err();
    assert_eq!(system.reason(), Reason::InvalidStatement);
    assert_eq!(admin.value("SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn a_table_of_users_and_its_rows_in_one_step() {
    let db = Db::memory().await;
    let rows = batch(vec![("id", ints([1, 1, 2])), ("_user_id", texts(["ana", "bo", "ana"]))]);
    let target = with(create("t"), &[("table_type", "user")]);
    let outcome = ingest(&db.role(Role::Dba), target.clone(), vec![rows.clone()]).await.unwrap();
    assert!(outcome.created);
    assert_eq!(db.user("ana").value("SELECT count(*) FROM t").await, "2");
    assert_eq!(db.user("bo").value("SELECT count(*) FROM t").await, "1");
    for refused in [db.user("ana"), db.role(Role::Service)] {
        let target = IngestTarget { table: "other".to_owned(), ..target.clone() };
        let error = ingest(&refused, target, vec![rows.clone()]).await.unwrap_err();
        assert_eq!(error.reason(), Reason::PermissionDenied);
    }
    // What was refused is noted in the background.
    let audit = "SELECT outcome FROM system.audit WHERE action = 'CREATE TABLE' ORDER BY outcome";
    let noted = async {
        while db.admin().rows(audit).await != table(&[["done"], ["refused"], ["refused"]]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), noted).await.expect("refusals are noted");
}

#[test]
fn options_are_checked() {
    let mut options = IngestOptions::default();
    for name in IngestOptions::NAMES {
        let value = match name.rsplit('.').next().unwrap() {
            "atomic" => "FALSE",
            "primary_key" => "a",
            "table_type" => "User",
            _ => "Restricted",
        };
        options.set(name, value).unwrap();
    }
    assert_eq!((options.atomic, options.table_type), (false, TableKind::User));
    assert_eq!(options.primary_key.as_deref(), Some("a"));
    for (name, value) in [
        ("kalamdb.ingest.atomic", "perhaps"),
        ("kalamdb.ingest.table_type", "stream"),
        ("kalamdb.ingest.access", "none"),
        ("kalamdb.ingest.atomik", "true"),
        ("atomic", "true"),
    ] {
        let error = options.set(name, value).unwrap_err();
        assert_eq!((error.reason(), error.metadata()["option"].as_str()), (Reason::InvalidRequest, name));
    }
}

#[tokio::test]
async fn types_that_no_segment_can_have_are_refused() {
    let db = Db::memory().await;
    let admin = db.admin();
    let decimals = |precision, scale| {
        let values = Decimal128Array::from(vec![1]).with_precision_and_scale(precision, scale).unwrap();
        Arc::new(values) as ArrayRef
    };
    let empty_struct = Arc::new(StructArray::new_empty_fields(1, None)) as ArrayRef;
    let nulls = Arc::new(Field::new_list_field(DataType::Null, true));
    let of_nulls = ListArray::new(nulls, OffsetBuffer::from_lengths([0]), Arc::new(NullArray::new(0)), None);
    for (values, said) in [
        (decimals(10, -2), "DECIMAL(10, -2)"),
        (empty_struct, "without fields"),
        (Arc::new(of_nulls) as ArrayRef, "type cannot be told"),
    ] {
        let rows = batch(vec![("id", ints([1])), ("x", values)]);
        let error = ingest(&admin, create("t"), vec![rows]).await.unwrap_err();
        assert_eq!((error.reason(), error.metadata()["column"].as_str()), (Reason::NotSupported, "x"), "{error}");
        assert!(error.message().contains(said), "{error}");
    }
    ingest(&admin, create("t"), vec![batch(vec![("id", ints([1])), ("x", decimals(10, 10))])]).await.unwrap();
    admin.run("FLUSH TABLE t FORCE").await;
    assert_eq!(admin.value("SELECT x FROM t").await, "0.0000000001");
}

#[tokio::test]
async fn several_clients_can_begin_with_one_table_together() {
    let db = Db::memory().await;
    let admin = db.admin();
    let either = |ids: std::ops::Range<i64>| {
        let target = IngestTarget { if_missing: IfMissing::Create, if_exists: IfExists::Append, ..create("t") };
        ingest(&admin, target, vec![notes(ids)])
    };
    let all = futures::future::join_all((0..8).map(|i| either(i * 100..(i + 1) * 100))).await;
    let made = all.iter().filter(|outcome| outcome.as_ref().unwrap().created).count();
    assert_eq!(made, 1);
    assert_eq!(admin.value("SELECT count(DISTINCT id) FROM t").await, "800");
}
