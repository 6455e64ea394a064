//! A table's columns in files of any of its schema versions.
//!
//! A file has the columns that the table had when it was written, under the names that they had then. Which of them is
//! which column of the table is said by their ids alone: a column may have been renamed since, and another may have
//! taken its name. What a file does not have is a constant: the value that older rows have in a newer column.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    arrow::{
        array::ArrayRef,
        compute::CastOptions,
        datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef},
    },
    common::{
        Result as DataFusionResult, ScalarValue, internal_err,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    physical_expr::{
        PhysicalExpr,
        expressions::{CastExpr, Column, lit},
    },
    physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory},
};
use kalamdb_store::{
    ids::{ColumnId, SchemaVersion},
    segment::{SegmentFields, column_of_field, restore_column},
};

use crate::{
    catalog::{self, Table},
    error::{Error, Result},
    exec::corrupt,
};

/// The columns of files of a schema version, as the Parquet reader is to return them: in the types of the table's
/// columns, but for intervals, which are texts in a file.
pub(super) fn file_schema(table: &Table, version: SchemaVersion) -> Result<SchemaRef> {
    let record = table.record().versions.iter().find(|v| v.version == version);
    let record = record.ok_or_else(|| corrupt(kalamdb_store::codec::CodecError::UnknownSchemaVersion(version)))?;
    let key = record.columns.iter().position(|c| c.primary_key);
    let key = key.ok_or_else(|| Error::internal(format!("schema version {version} has no key")))?;
    let columns = record.columns.iter().map(|c| {
        let field: FieldRef = Arc::new(c.sql_type.to_field(c.name.as_str(), c.nullable));
        (c.id, field)
    });
    let fields = SegmentFields::new(columns, key).map_err(|e| super::from_segment(&e))?;
    let fields: Fields = fields.schema.fields().iter().map(in_file).collect();
    Ok(Arc::new(Schema::new(fields)))
}

fn in_file(field: &FieldRef) -> FieldRef {
    let data_type = type_in_file(field.data_type());
    if data_type == *field.data_type() {
        return Arc::clone(field);
    }
    Arc::new(Field::clone(field).with_data_type(data_type))
}

fn type_in_file(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Interval(_) => DataType::Utf8View,
        DataType::List(element) => DataType::List(in_file(element)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(in_file).collect()),
        other => other.clone(),
    }
}

/// The values of a table's column in some rows of a file; `read` is what the file has of it, if it has the column.
pub(crate) fn column_values(column: &catalog::Column, read: Option<&ArrayRef>, rows: usize) -> Result<ArrayRef> {
    match read {
        Some(array) => restore_column(array, &column.data_type).map_err(corrupt),
        None => constant(column)?.to_array_of_size(rows).map_err(Error::internal),
    }
}

/// What rows older than a column have in it.
fn constant(column: &catalog::Column) -> Result<ScalarValue> {
    match &column.fill {
        Some(fill) => Ok(fill.clone()),
        None => ScalarValue::try_from(&column.data_type).map_err(Error::internal),
    }
}

/// Finds a table's columns in files by their ids: conditions and projections of a scan are on the table's columns, and
/// this rewrites them for each file.
#[derive(Debug)]
pub(super) struct ColumnsById(pub(super) Arc<Table>);

impl PhysicalExprAdapterFactory for ColumnsById {
    fn create(&self, of_table: SchemaRef, of_file: SchemaRef) -> DataFusionResult<Arc<dyn PhysicalExprAdapter>> {
        let by_id: HashMap<ColumnId, usize> =
            of_file.fields().iter().enumerate().filter_map(|(i, field)| Some((column_of_field(field)?, i))).collect();
        let mut columns: HashMap<String, Arc<dyn PhysicalExpr>> = HashMap::with_capacity(of_table.fields().len());
        for (index, field) in of_table.fields().iter().enumerate() {
            let column = self.0.columns().get(index);
            let place = match column {
                Some(column) => by_id.get(&column.id).copied(),
                // Every file has the hidden columns, under their own names.
                None => Some(of_file.index_of(field.name())?),
            };
            let expr = match (place, column) {
                (Some(place), _) => in_type(place, of_file.field(place), field.data_type()),
                (None, Some(column)) => {
                    lit(constant(column).map_err(|e| datafusion::error::DataFusionError::External(Box::new(e)))?)
                }
                (None, None) => return internal_err!("a segment without its column {}", field.name()),
            };
            columns.insert(field.name().clone(), expr);
        }
        Ok(Arc::new(FileColumns(columns)))
    }
}

fn in_type(index: usize, field: &Field, data_type: &DataType) -> Arc<dyn PhysicalExpr> {
    let column = Arc::new(Column::new(field.name(), index));
    if field.data_type() == data_type {
        return column;
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Arc::new(CastExpr::new(column, data_type.clone(), Some(options)))
}

/// For each name of a column of the table what it is in one file.
#[derive(Debug)]
struct FileColumns(HashMap<String, Arc<dyn PhysicalExpr>>);

impl PhysicalExprAdapter for FileColumns {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        expr.transform(|expr| {
            let column = expr.downcast_ref::<Column>().and_then(|column| self.0.get(column.name()));
            Ok(match column {
                Some(in_file) => Transformed::yes(Arc::clone(in_file)),
                None => Transformed::no(expr),
            })
        })
        .data()
    }
}
