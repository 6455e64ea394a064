//! The columns of an exported file: each of a type that a table's column can have, each of another name.

use std::{collections::HashSet, sync::Arc};

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{CastOptions, can_cast_types, cast_with_options},
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use crate::{
    error::{Error, Reason, Result},
    types::{SqlType, StructField},
};

/// The columns of a file.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) schema: SchemaRef,
    pub(super) types: Arc<[SqlType]>,
}

impl Columns {
    /// The columns of a file with the rows of a query.
    ///
    /// # Errors
    /// NOT_SUPPORTED, naming a column whose values no file can have.
    pub(super) fn of(query: &Schema) -> Result<Self> {
        let mut used = HashSet::new();
        let (mut fields, mut types) = (Vec::new(), Vec::new());
        for field in query.fields() {
            let sql_type = stored(SqlType::from_field(field));
            let to = sql_type.to_arrow();
            let is_odd = has_no_fields(&to) || has_negative_scale(&sql_type);
            if is_odd || (*field.data_type() != to && !can_cast_types(field.data_type(), &to)) {
                let message = format!(
                    "Column {} is of type {}, which cannot be exported. CAST it, for example to TEXT.",
                    field.name(),
                    SqlType::from_field(field)
                );
                return Err(Error::new(Reason::NotSupported, message).with("column", field.name()));
            }
            fields.push(sql_type.to_field(&unused_name(field.name(), &mut used), field.is_nullable()));
            types.push(sql_type);
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), types: types.into() })
    }

    /// A batch of the query as rows of the file.
    pub(super) fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let fits = CastOptions { safe: false, ..CastOptions::default() };
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast_with_options(column, field.data_type(), &fits).map_err(|error| unfit(field, &error)),
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(Error::internal)
    }
}

/// Memory that the rows of a batch need, without what else is in the buffers that they share with others.
pub(super) fn bytes_of(batch: &RecordBatch) -> usize {
    let of = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => column.len() * 16 + column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.len() * 16 + column.as_binary_view().total_buffer_bytes_used(),
        DataType::List(_) | DataType::Struct(_) => column.get_array_memory_size(),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    };
    batch.columns().iter().map(of).sum()
}

/// A column of a file cannot be of no type: one that has nothing but NULL is a text.
fn stored(sql_type: SqlType) -> SqlType {
    match sql_type {
        SqlType::Null => SqlType::Text,
        SqlType::List(element) => SqlType::List(Box::new(stored(*element))),
        SqlType::Struct(fields) => SqlType::Struct(
            fields.into_iter().map(|field| StructField { sql_type: stored(field.sql_type), ..field }).collect(),
        ),
        other => other,
    }
}

fn has_no_fields(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.is_empty() || fields.iter().any(|field| has_no_fields(field.data_type())),
        DataType::List(element) => has_no_fields(element.data_type()),
        _ => false,
    }
}

fn has_negative_scale(sql_type: &SqlType) -> bool {
    match sql_type {
        SqlType::Decimal { scale, .. } => *scale < 0,
        SqlType::List(element) => has_negative_scale(element),
        SqlType::Struct(fields) => fields.iter().any(|field| has_negative_scale(&field.sql_type)),
        _ => false,
    }
}

/// The name itself or, if a column before it has it, with a number.
fn unused_name(name: &str, used: &mut HashSet<String>) -> String {
    let mut unused = name.to_owned();
    let mut number = 2;
    while !used.insert(unused.clone()) {
        unused = format!("{name}_{number}");
        number += 1;
    }
    unused
}

fn unfit(field: &Field, error: &dyn std::fmt::Display) -> Error {
    let message = format!("A value of column {} cannot be exported as {}.", field.name(), SqlType::from_field(field));
    Error::new(Reason::InvalidValue, message).with("column", field.name()).with_detail(error)
}
