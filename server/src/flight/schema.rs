//! The Arrow types that clients of Flight get.
//!
//! Many clients cannot read views, dictionaries, run-end encoding or the newest decimals, so that none is sent. Columns say
//! their SQL type beside: `kalamdb.type` tells UUID and JSON from TEXT, and `ARROW:FLIGHT:SQL:*` is what drivers for JDBC and
//! ODBC show.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::{IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use kalamdb_engine::{Error, SqlType};

/// The name of the one catalog.
pub(super) const CATALOG: &str = "kalamdb";

/// Keys of the metadata of columns, as Flight SQL has them.
const CATALOG_NAME: &str = "ARROW:FLIGHT:SQL:CATALOG_NAME";
const SCHEMA_NAME: &str = "ARROW:FLIGHT:SQL:SCHEMA_NAME";
const TABLE_NAME: &str = "ARROW:FLIGHT:SQL:TABLE_NAME";
const TYPE_NAME: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";
const PRECISION: &str = "ARROW:FLIGHT:SQL:PRECISION";
const SCALE: &str = "ARROW:FLIGHT:SQL:SCALE";
const IS_AUTO_INCREMENT: &str = "ARROW:FLIGHT:SQL:IS_AUTO_INCREMENT";
const IS_CASE_SENSITIVE: &str = "ARROW:FLIGHT:SQL:IS_CASE_SENSITIVE";
const IS_READ_ONLY: &str = "ARROW:FLIGHT:SQL:IS_READ_ONLY";
const IS_SEARCHABLE: &str = "ARROW:FLIGHT:SQL:IS_SEARCHABLE";

/// The schema of rows as they are sent, of the engine's.
pub(super) fn sent(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema
        .fields()
        .iter()
        .map(|field| {
            let sql_type = SqlType::from_field(field);
            let mut metadata = field.metadata().clone();
            metadata.extend(described(&sql_type));
            sent_field(field).with_metadata(metadata)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// What a column's metadata says of its type.
fn described(sql_type: &SqlType) -> Vec<(String, String)> {
    let mut metadata = vec![(TYPE_NAME.to_owned(), type_name(sql_type))];
    if let SqlType::Decimal { precision, scale } = sql_type {
        metadata.push((PRECISION.to_owned(), precision.to_string()));
        metadata.push((SCALE.to_owned(), scale.to_string()));
    }
    metadata
}

/// A type without its arguments, as drivers compare it with those that they know.
pub(super) fn type_name(sql_type: &SqlType) -> String {
    match sql_type {
        SqlType::Decimal { .. } => "DECIMAL".to_owned(),
        other => other.to_string(),
    }
}

/// Of which table a column is.
pub(super) struct ColumnPlace<'a> {
    pub(super) namespace: &'a str,
    pub(super) table: &'a str,
    pub(super) generated: bool,
    pub(super) read_only: bool,
}

/// A column of a table, as `GetTables` describes it.
pub(super) fn table_field(field: &Field, place: &ColumnPlace<'_>) -> Field {
    let sql_type = SqlType::from_field(field);
    let flag = |is: bool| if is { "1" } else { "0" }.to_owned();
    let is_text = matches!(sql_type, SqlType::Text | SqlType::Uuid | SqlType::Json);
    let mut metadata: HashMap<String, String> = field.metadata().clone();
    metadata.extend(described(&sql_type));
    metadata.extend([
        (CATALOG_NAME.to_owned(), CATALOG.to_owned()),
        (SCHEMA_NAME.to_owned(), place.namespace.to_owned()),
        (TABLE_NAME.to_owned(), place.table.to_owned()),
        (IS_AUTO_INCREMENT.to_owned(), flag(place.generated)),
        (IS_CASE_SENSITIVE.to_owned(), flag(is_text)),
        (IS_READ_ONLY.to_owned(), flag(place.read_only)),
        (IS_SEARCHABLE.to_owned(), flag(true)),
    ]);
    sent_field(field).with_metadata(metadata)
}

/// The schema of parameters: those whose type is not known are taken for texts.
pub(super) fn parameters(types: &[SqlType]) -> SchemaRef {
    let fields: Fields = types
        .iter()
        .enumerate()
        .map(|(index, sql_type)| {
            let sql_type = if *sql_type == SqlType::Null { &SqlType::Text } else { sql_type };
            let field = sql_type.to_field(&format!("${}", index + 1), true);
            let mut metadata = field.metadata().clone();
            metadata.extend(described(sql_type));
            sent_field(&field).with_metadata(metadata)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// A schema as an encapsulated IPC message; without columns, the one that has none.
///
/// # Errors
/// INTERNAL.
pub(super) fn encoded(schema: &Schema) -> Result<Bytes, Error> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options).try_into().map_err(Error::internal)?;
    Ok(bytes)
}

fn sent_field(field: &Field) -> Field {
    Field::new(field.name(), sent_type(field.data_type()), field.is_nullable()).with_metadata(field.metadata().clone())
}

fn sent_item(field: &FieldRef) -> FieldRef {
    Arc::new(sent_field(field))
}

/// The type that values of a type are sent as.
pub(super) fn sent_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => sent_type(value),
        DataType::RunEndEncoded(_, value) => sent_type(value.data_type()),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128((*precision).min(DECIMAL128_MAX_PRECISION), *scale)
        }
        DataType::List(item) | DataType::ListView(item) => DataType::List(sent_item(item)),
        // The encoder has no large lists; what a message can hold needs none.
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::List(sent_item(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(sent_item(item), *length),
        DataType::Map(entries, sorted) => DataType::Map(sent_item(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(sent_item).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
