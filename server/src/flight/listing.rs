//! What there is: catalogs, schemas, tables, keys, types, and what the server can do.
//!
//! A namespace is a schema of the one catalog. Arrow-flight's own builders make the arrays where it has any, since drivers
//! take them for exactly what Flight SQL prescribes.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use arrow_flight::{
    error::FlightError,
    sql::{
        Command, CommandGetCatalogs, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTableTypes,
        CommandGetTables, ProstMessageExt as _, SqlInfo, TicketStatementQuery, metadata::SqlInfoData,
    },
};
use bytes::Bytes;
use kalamdb_engine::{Error, Session, TableInfo};
use prost::Message;

use super::{
    Call, FlightApi,
    command::{invalid, not_supported},
    schema::{CATALOG, ColumnPlace, table_field},
};

/// Types of tables, by the names that tools look for.
const TABLE: &str = "TABLE";
const SYSTEM_TABLE: &str = "SYSTEM TABLE";

/// Patterns of names are no longer. As regular expressions, which they are made, they have a hundred times the size.
const MAX_PATTERN_BYTES: usize = 1_024;

/// Key of a table's schema: whether it is a USER, SHARED or STREAM table.
const TABLE_TYPE_KEY: &str = "kalamdb.table_type";

/// Whether a command asks what there is.
pub(super) fn is_listing(command: &Command) -> bool {
    matches!(
        command,
        Command::CommandGetCatalogs(_)
            | Command::CommandGetDbSchemas(_)
            | Command::CommandGetTables(_)
            | Command::CommandGetTableTypes(_)
            | Command::CommandGetSqlInfo(_)
            | Command::CommandGetXdbcTypeInfo(_)
            | Command::CommandGetPrimaryKeys(_)
            | Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_)
    )
}

impl FlightApi {
    /// What a command asks for, as far as it concerns the caller; `filled`: with its rows.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) fn listing(&self, call: &Call, command: Command, filled: bool) -> Result<RecordBatch, Error> {
        let session = self.session(call);
        let session = filled.then_some(&session);
        match command {
            Command::CommandGetCatalogs(command) => catalogs(command),
            Command::CommandGetDbSchemas(command) => schemas(command, session),
            Command::CommandGetTables(command) => tables(command, session),
            Command::CommandGetTableTypes(command) => table_types(command),
            Command::CommandGetSqlInfo(command) => server_info(&self.sql_info, command.info),
            Command::CommandGetXdbcTypeInfo(command) => command.into_builder(&self.xdbc_types).build().map_err(unbuilt),
            Command::CommandGetPrimaryKeys(command) => primary_keys(&command, session),
            // There are no foreign keys.
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(foreign_key_schema())),
            other => Err(not_supported(format!("{} lists nothing.", other.type_url()))),
        }
    }
}

fn catalogs(command: CommandGetCatalogs) -> Result<RecordBatch, Error> {
    let mut builder = command.into_builder();
    builder.append(CATALOG);
    builder.build().map_err(unbuilt)
}

fn schemas(command: CommandGetDbSchemas, session: Option<&Session>) -> Result<RecordBatch, Error> {
    check_pattern(command.db_schema_filter_pattern.as_deref())?;
    let mut builder = command.into_builder();
    if let Some(session) = session {
        for namespace in session.namespaces()? {
            builder.append(CATALOG, namespace.name);
        }
        let mut of_system: Vec<&str> = session.system_tables().iter().map(|table| table.namespace).collect();
        of_system.dedup();
        for namespace in of_system {
            builder.append(CATALOG, namespace);
        }
    }
    builder.build().map_err(unbuilt)
}

fn tables(mut command: CommandGetTables, session: Option<&Session>) -> Result<RecordBatch, Error> {
    check_pattern(command.db_schema_filter_pattern.as_deref())?;
    check_pattern(command.table_name_filter_pattern.as_deref())?;
    let with_columns = command.include_schema;
    command.table_types = known_types(command.table_types);
    let mut builder = command.into_builder();
    if let Some(session) = session {
        let nothing = Schema::empty();
        for table in session.tables(None)? {
            let schema = if with_columns { described(&table) } else { nothing.clone() };
            builder.append(CATALOG, &table.namespace, &table.name, TABLE, &schema).map_err(unbuilt)?;
        }
        for table in session.system_tables() {
            let place =
                ColumnPlace { namespace: table.namespace, table: table.name, generated: false, read_only: true };
            let fields: Vec<Field> = table.columns.fields().iter().map(|field| table_field(field, &place)).collect();
            builder
                .append(CATALOG, table.namespace, table.name, SYSTEM_TABLE, &Schema::new(fields))
                .map_err(unbuilt)?;
        }
    }
    builder.build().map_err(unbuilt)
}

fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch, Error> {
    let mut builder = command.into_builder();
    for name in [TABLE, SYSTEM_TABLE] {
        builder.append(name);
    }
    builder.build().map_err(unbuilt)
}

/// The types of tables that are asked for and that there are, each once: the builder makes an array of each that it is
/// given, and takes none for all. In place of nothing but others there is one that no table has.
fn known_types(mut asked: Vec<String>) -> Vec<String> {
    if asked.is_empty() {
        return asked;
    }
    asked.retain(|name| [TABLE, SYSTEM_TABLE].contains(&name.as_str()));
    asked.sort_unstable();
    asked.dedup();
    if asked.is_empty() {
        asked.push(String::new());
    }
    asked
}

/// # Errors
/// INVALID_REQUEST for a pattern that no name needs.
fn check_pattern(pattern: Option<&str>) -> Result<(), Error> {
    match pattern.map_or(0, str::len) {
        0..=MAX_PATTERN_BYTES => Ok(()),
        bytes => Err(invalid(format!(
            "The pattern has {bytes} bytes; it can have {MAX_PATTERN_BYTES}. Send a shorter one: names have no more than \
             63 characters."
        ))),
    }
}

/// What the server says of itself by these numbers; all of it, if there are none.
fn server_info(data: &SqlInfoData, mut numbers: Vec<u32>) -> Result<RecordBatch, Error> {
    let is_all = numbers.is_empty();
    // For each number it is given, known or not and however often, `data` makes an array.
    numbers.retain(|number| i32::try_from(*number).is_ok_and(|number| SqlInfo::try_from(number).is_ok()));
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() && !is_all {
        return Ok(RecordBatch::new_empty(data.schema()));
    }
    data.record_batch(numbers).map_err(unbuilt)
}

/// The columns of a table, as the engine's queries answer them.
pub(super) fn schema_of(table: &TableInfo) -> Schema {
    let fields: Vec<Field> =
        table.columns.iter().map(|column| column.sql_type.to_field(&column.name, column.nullable)).collect();
    Schema::new(fields)
}

/// The columns of a table with all that Flight SQL says of them.
fn described(table: &TableInfo) -> Schema {
    let fields: Vec<Field> = table
        .columns
        .iter()
        .map(|column| {
            let place = ColumnPlace {
                namespace: &table.namespace,
                table: &table.name,
                generated: column.primary_key && column.default.is_some(),
                read_only: false,
            };
            table_field(&column.sql_type.to_field(&column.name, column.nullable), &place)
        })
        .collect();
    let metadata = [(TABLE_TYPE_KEY.to_owned(), table.kind.as_str().to_owned())];
    Schema::new(fields).with_metadata(metadata.into())
}

/// The primary key of a table; of several in different namespaces, if no namespace is named.
fn primary_keys(command: &CommandGetPrimaryKeys, session: Option<&Session>) -> Result<RecordBatch, Error> {
    let text = |name: &str, nullable: bool| Field::new(name, DataType::Utf8, nullable);
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ]));
    let is_ours = command.catalog.as_deref().is_none_or(|catalog| catalog == CATALOG);
    let is_meant = |table: &TableInfo| {
        table.name == command.table && command.db_schema.as_ref().is_none_or(|schema| *schema == table.namespace)
    };
    let mut keys: Vec<(String, String, String)> = Vec::new();
    if let Some(session) = session.filter(|_| is_ours) {
        for table in session.tables(None)?.into_iter().filter(is_meant) {
            let key = table.columns.iter().find(|column| column.primary_key).map(|column| column.name.clone());
            keys.extend(key.map(|key| (table.namespace, table.name, key)));
        }
    }
    let catalog: ArrayRef = Arc::new(StringArray::from(vec![CATALOG; keys.len()]));
    let namespace: ArrayRef = Arc::new(keys.iter().map(|key| Some(key.0.as_str())).collect::<StringArray>());
    let table: ArrayRef = Arc::new(keys.iter().map(|key| Some(key.1.as_str())).collect::<StringArray>());
    let column: ArrayRef = Arc::new(keys.iter().map(|key| Some(key.2.as_str())).collect::<StringArray>());
    // Keys have no names of their own.
    let name: ArrayRef = Arc::new(StringArray::new_null(keys.len()));
    let sequence: ArrayRef = Arc::new(Int32Array::from(vec![1; keys.len()]));
    RecordBatch::try_new(schema, vec![catalog, namespace, table, column, name, sequence]).map_err(Error::internal)
}

fn foreign_key_schema() -> SchemaRef {
    let text = |name: &str, nullable: bool| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

/// The ticket for something sealed.
pub(super) fn ticket(handle: Bytes) -> Bytes {
    TicketStatementQuery { statement_handle: handle }.as_any().encode_to_vec().into()
}

fn unbuilt(error: FlightError) -> Error {
    match error {
        // A pattern that a client gave.
        FlightError::Arrow(error) => invalid(format!("The pattern cannot be used: {error}.")),
        other => Error::internal(other),
    }
}

#[cfg(test)]
mod tests;
