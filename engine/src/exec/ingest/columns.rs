//! The columns of the data: which column of the table each one is, and its values as the table stores them.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, RecordBatch, new_empty_array},
    datatypes::{DataType, Field, Schema},
};
use kalamdb_store::ids::UserId;

use crate::{
    access::Caller,
    catalog::{Column, Default, OWNER_COLUMN, Table},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{StatementContext, assignment::default_column, scan::batch_of},
    sql::TableKind,
    types::SqlType,
    values::cast_untrusted,
};

/// Where the values of a table's columns come from.
#[derive(Debug)]
pub(super) struct Columns {
    table: Arc<Table>,
    /// For each column of the table, the one of the data; `None`: its default.
    sources: Vec<Option<Source>>,
    /// The column of the data that says whose rows they are.
    owners: Option<Source>,
}

/// A column of the data.
#[derive(Debug, Clone)]
struct Source {
    index: usize,
    sql_type: SqlType,
}

/// Rows as the table has them.
#[derive(Debug)]
pub(super) struct Converted {
    /// The table's columns, in order.
    pub(super) batch: RecordBatch,
    /// Whose rows they are, as TEXT; `None`: those of whoever the ingest acts for.
    pub(super) owners: Option<ArrayRef>,
}

impl Columns {
    /// Matches the columns of data with those of a table, by name.
    ///
    /// # Errors
    /// COLUMN_NOT_FOUND with the nearest name, INVALID_REQUEST for a column that is there twice, INVALID_VALUE with both
    /// types for one of another type, NOT_SUPPORTED for an Arrow type that is not taken, NOT_NULL_VIOLATION for one that is
    /// missing and has no default; PERMISSION_DENIED for rows of several users by who may write its own only.
    pub(super) fn plan(table: &Arc<Table>, schema: &Schema, caller: &Caller) -> Result<Self> {
        let mut sources: Vec<Option<Source>> = vec![None; table.columns().len()];
        let mut owners = None;
        for (index, field) in schema.fields().iter().enumerate() {
            check_encoding(field)?;
            let source = Source { index, sql_type: SqlType::from_field(field) };
            if field.name() == OWNER_COLUMN {
                may_name_owners(table, caller)?;
                check_type(field.data_type(), &source.sql_type, &SqlType::Text, OWNER_COLUMN, table)?;
                set_once(&mut owners, source, OWNER_COLUMN)?;
                continue;
            }
            let at = table.column_index(field.name())?;
            let (Some(column), Some(place)) = (table.columns().get(at), sources.get_mut(at)) else {
                return Err(Error::internal("a column without a place"));
            };
            check_type(field.data_type(), &source.sql_type, &column.sql_type, column.name.as_str(), table)?;
            set_once(place, source, column.name.as_str())?;
        }
        for (column, source) in table.columns().iter().zip(&sources) {
            if source.is_none() && column.default.is_none() && !column.nullable {
                return Err(missing(table, column));
            }
        }
        Ok(Self { table: Arc::clone(table), sources, owners })
    }

    /// The table.
    pub(super) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Whether every row's key is made by a generator.
    pub(super) fn generates_keys(&self) -> bool {
        let from_default = self.sources.get(self.table.key_index()).is_some_and(Option::is_none);
        from_default && self.table.key_column().default.as_ref().is_some_and(Default::is_generated_key)
    }

    /// The generated keys of so many rows. They are made while rows still come one after the other, so that they ascend as
    /// the rows do.
    pub(super) fn keys_for(
        &self,
        shared: &Shared,
        context: &StatementContext,
        rows: usize,
    ) -> Result<Option<ArrayRef>> {
        if !self.generates_keys() {
            return Ok(None);
        }
        default_column(shared, context, self.table.key_column(), rows).map(Some)
    }

    /// The rows of a batch, whose first one has the number `first_row`.
    ///
    /// # Errors
    /// INVALID_VALUE, NOT_NULL_VIOLATION with the number of the row.
    pub(super) fn convert(
        &self,
        shared: &Shared,
        context: &StatementContext,
        data: &RecordBatch,
        keys: Option<ArrayRef>,
        first_row: u64,
    ) -> Result<Converted> {
        let rows = data.num_rows();
        let owners = match &self.owners {
            Some(source) => {
                let owners = cast(data, source, &SqlType::Text, OWNER_COLUMN)
                    .map_err(|error| in_rows(error, first_row, rows))?;
                check_not_null(owners.as_ref(), OWNER_COLUMN, first_row)?;
                Some(owners)
            }
            None => None,
        };
        let mut columns = Vec::with_capacity(self.sources.len());
        for (index, (column, source)) in self.table.columns().iter().zip(&self.sources).enumerate() {
            let values = match (source, &keys, &owners) {
                (Some(source), ..) => cast(data, source, &column.sql_type, column.name.as_str())
                    .map_err(|error| in_rows(error, first_row, rows))?,
                (None, Some(keys), _) if index == self.table.key_index() => Arc::clone(keys),
                // CURRENT_USER() is the user acted for.
                (None, _, Some(owners)) if column.default == Some(Default::CurrentUser) => Arc::clone(owners),
                (None, ..) => default_column(shared, context, column, rows)?,
            };
            if !column.nullable {
                check_not_null(values.as_ref(), column.name.as_str(), first_row)?;
            }
            columns.push(values);
        }
        // After the check that is said to the caller: with NULLs where none may be there is no such batch.
        let batch = batch_of(self.table.schema(), columns, rows).map_err(Error::internal)?;
        Ok(Converted { batch, owners })
    }
}

fn cast(data: &RecordBatch, source: &Source, to: &SqlType, name: &str) -> Result<ArrayRef> {
    let values = data.columns().get(source.index).ok_or_else(|| Error::internal("a batch without a column"))?;
    cast_untrusted(values, &source.sql_type, to, name)
}

/// The error of a value, with the rows that were looked at.
fn in_rows(error: Error, first_row: u64, rows: usize) -> Error {
    let last_row = first_row + (rows as u64).saturating_sub(1);
    error.saying(&format!("It is in one of the rows {first_row} to {last_row} of the data."))
}

fn set_once(place: &mut Option<Source>, source: Source, name: &str) -> Result<()> {
    if place.replace(source).is_some() {
        let message = format!("Column \"{name}\" is in the data twice. Leave one of them out.");
        return Err(Error::new(Reason::InvalidRequest, message).with("column", name));
    }
    Ok(())
}

/// Checks that a column is of an Arrow type that is taken.
fn check_encoding(field: &Field) -> Result<()> {
    if is_taken(field.data_type()) {
        return Ok(());
    }
    let message = format!(
        "Column \"{}\" is {}, which an ingest does not take. Convert it before it is sent.",
        field.name().escape_debug(),
        field.data_type()
    );
    Err(Error::new(Reason::NotSupported, message).with("column", field.name().as_str()))
}

/// Whether values of an Arrow type are taken. Of some types few bytes say any number of values, as they show parts of others
/// again and again; of dictionaries that is so, too, but their values are short enough to be counted before.
fn is_taken(data_type: &DataType) -> bool {
    match data_type {
        DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::RunEndEncoded(..)
        | DataType::Union(..)
        | DataType::Map(..) => false,
        DataType::Dictionary(_, values) => {
            !values.is_nested() && !matches!(**values, DataType::Dictionary(..)) && is_taken(values)
        }
        DataType::List(element) | DataType::LargeList(element) => is_taken(element.data_type()),
        // A client says the sizes, which may be below zero.
        DataType::FixedSizeList(element, size) => *size >= 0 && is_taken(element.data_type()),
        DataType::FixedSizeBinary(size) => *size >= 0,
        DataType::Struct(fields) => fields.iter().all(|field| is_taken(field.data_type())),
        _ => true,
    }
}

/// Checks that values of one type can be stored as another: what INSERT would convert from an expression.
fn check_type(data_type: &DataType, from: &SqlType, to: &SqlType, name: &str, table: &Table) -> Result<()> {
    let none = new_empty_array(data_type);
    if cast_untrusted(&none, from, to, name).is_ok() {
        return Ok(());
    }
    let message = format!(
        "Column \"{name}\" of table {} is {to}, but the data has {from} ({data_type}) for it. Convert it before it is sent.",
        table.full_name()
    );
    let error = Error::new(Reason::InvalidValue, message);
    Err(error.with("column", name).with("expected", to.to_string()).with("given", from.to_string()))
}

/// Checks that a column that must have values has one in each row.
fn check_not_null(values: &dyn Array, name: &str, first_row: u64) -> Result<()> {
    if values.logical_null_count() == 0 {
        return Ok(());
    }
    let nulls = values.logical_nulls();
    let first = nulls.and_then(|nulls| nulls.iter().position(|is_valid| !is_valid)).unwrap_or_default();
    let row = first_row + first as u64;
    let message = format!("Column \"{name}\" must not be NULL, but is in row {row} of the data.");
    Err(Error::new(Reason::NotNullViolation, message).with("column", name).with("row", row.to_string()))
}

fn missing(table: &Table, column: &Column) -> Error {
    let message = format!(
        "Column \"{}\" of table {} is NOT NULL and has no DEFAULT, and the data has no such column. Add it.",
        column.name,
        table.full_name()
    );
    Error::new(Reason::NotNullViolation, message).with("column", column.name.as_str()).with("table", table.full_name())
}

/// Checks that a caller may say in the data whose rows they are.
fn may_name_owners(table: &Table, caller: &Caller) -> Result<()> {
    if table.kind() == TableKind::Shared {
        let message = format!(
            "The data has a column \"{OWNER_COLUMN}\", but table {} is SHARED and has no partitions of users. Leave the \
             column out.",
            table.full_name()
        );
        return Err(Error::new(Reason::ColumnNotFound, message).with("column", OWNER_COLUMN));
    }
    if !caller.role.crosses_users() {
        let message = format!(
            "The data says in \"{OWNER_COLUMN}\" whose rows they are. Writing the rows of other users needs role service, dba \
             or system; without the column all rows are your own."
        );
        return Err(Error::new(Reason::PermissionDenied, message).with("column", OWNER_COLUMN));
    }
    Ok(())
}

/// The user that a row of the data names.
pub(super) fn owner_of(text: &str, row: u64) -> Result<UserId> {
    UserId::new(text).map_err(|error| {
        let message = format!("Row {row} of the data has a \"{OWNER_COLUMN}\" that no user can have: {error}.");
        Error::new(Reason::InvalidUserId, message).with("column", OWNER_COLUMN).with("row", row.to_string())
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Fields;

    use super::*;

    fn item(data_type: DataType) -> Arc<Field> {
        Arc::new(Field::new("item", data_type, true))
    }

    fn dictionary(values: DataType) -> DataType {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(values))
    }

    #[test]
    fn types_of_which_few_bytes_say_any_number_of_values_are_refused() {
        let run_ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
        let refused = [
            DataType::ListView(item(DataType::Int8)),
            DataType::LargeListView(item(DataType::Utf8)),
            DataType::RunEndEncoded(run_ends, item(DataType::Utf8)),
            dictionary(DataType::List(item(DataType::Int8))),
            dictionary(DataType::Struct(Fields::empty())),
            dictionary(dictionary(DataType::Utf8)),
            DataType::FixedSizeBinary(-1),
            DataType::FixedSizeList(item(DataType::Int8), -1),
        ];
        for refused in refused {
            let deep =
                DataType::Struct(Fields::from(vec![Field::new("a", DataType::List(item(refused.clone())), true)]));
            for data_type in [refused, deep] {
                let error = check_encoding(&Field::new("c", data_type.clone(), true)).unwrap_err();
                assert_eq!((error.reason(), error.metadata()["column"].as_str()), (Reason::NotSupported, "c"));
                assert!(error.message().contains(&data_type.to_string()), "{error}");
            }
        }
        for taken in [
            DataType::Null,
            DataType::Utf8View,
            DataType::FixedSizeBinary(0),
            DataType::FixedSizeList(item(DataType::Int8), 3),
            DataType::LargeList(item(dictionary(DataType::Utf8))),
            dictionary(DataType::Decimal256(76, 0)),
        ] {
            assert!(is_taken(&taken), "{taken}");
        }
    }
}
