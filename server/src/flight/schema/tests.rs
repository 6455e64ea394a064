use kalamdb_engine::{StructField, TYPE_METADATA_KEY};

use super::*;

fn has_odd_types(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView | DataType::Dictionary(..) | DataType::RunEndEncoded(..) => true,
        DataType::List(field) | DataType::FixedSizeList(field, _) | DataType::Map(field, _) => {
            has_odd_types(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| has_odd_types(field.data_type())),
        DataType::LargeList(_) | DataType::ListView(_) | DataType::LargeListView(_) => true,
        _ => false,
    }
}

#[test]
fn no_type_is_sent_that_clients_cannot_read() {
    let text = || Arc::new(Field::new("item", DataType::Utf8View, true));
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8View));
    let entries = Fields::from(vec![
        Field::new("keys", DataType::Utf8View, false),
        Field::new("values", dictionary.clone(), true),
    ]);
    for data_type in [
        DataType::Utf8View,
        DataType::BinaryView,
        dictionary.clone(),
        DataType::RunEndEncoded(Arc::new(Field::new("run_ends", DataType::Int32, false)), text()),
        DataType::ListView(text()),
        DataType::LargeList(text()),
        DataType::FixedSizeList(text(), 2),
        DataType::List(Arc::new(Field::new("item", DataType::Struct(entries.clone()), true))),
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false),
    ] {
        assert!(!has_odd_types(&sent_type(&data_type)), "{data_type}");
    }
    assert_eq!(sent_type(&DataType::Decimal64(18, 2)), DataType::Decimal128(18, 2));
    assert_eq!(sent_type(&dictionary), DataType::Utf8);
}

#[test]
fn columns_keep_their_names_and_say_their_types() {
    let types = [
        SqlType::Uuid,
        SqlType::Json,
        SqlType::Decimal { precision: 20, scale: 4 },
        SqlType::List(Box::new(SqlType::Text)),
        SqlType::Struct(vec![StructField { name: "id".to_owned(), sql_type: SqlType::Uuid }]),
        SqlType::Interval,
    ];
    let fields: Vec<Field> = types.iter().map(|sql_type| sql_type.to_field("c", true)).collect();
    let sent = sent(&Schema::new(fields));
    let name = |index: usize| sent.field(index).metadata().get(TYPE_NAME).cloned().unwrap_or_default();
    assert_eq!(
        (0..6).map(name).collect::<Vec<_>>(),
        ["UUID", "JSON", "DECIMAL", "TEXT[]", "STRUCT<id UUID>", "INTERVAL"]
    );
    assert_eq!(sent.field(0).metadata().get(TYPE_METADATA_KEY).map(String::as_str), Some("uuid"));
    assert_eq!(sent.field(2).metadata().get(PRECISION).map(String::as_str), Some("20"));
    // Read back, they are what they were.
    for (field, sql_type) in sent.fields().iter().zip(&types) {
        assert_eq!(SqlType::from_field(field), *sql_type);
    }
}

#[test]
fn unknown_parameters_are_texts() {
    let schema = parameters(&[SqlType::Null, SqlType::BigInt]);
    assert_eq!(schema.field(0).name(), "$1");
    assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
    assert_eq!(schema.field(1).data_type(), &DataType::Int64);
}
