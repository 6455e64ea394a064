//! Record batches as Arrow IPC streams, with types that every Arrow library can read.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{Array, RecordBatch, RecordBatchOptions},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef},
    ipc::writer::StreamWriter,
};
use bytes::Bytes;
use kalamdb_engine::Error;

type Result<T> = std::result::Result<T, Error>;

/// A schema without view types, which many Arrow libraries cannot read yet.
pub(crate) fn without_views(schema: &SchemaRef) -> SchemaRef {
    match plain_fields(schema.fields()) {
        Cow::Borrowed(_) => Arc::clone(schema),
        Cow::Owned(fields) => Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
    }
}

fn plain_fields(fields: &Fields) -> Cow<'_, Fields> {
    if fields.iter().all(|field| matches!(plain_type(field.data_type()), Cow::Borrowed(_))) {
        return Cow::Borrowed(fields);
    }
    Cow::Owned(fields.iter().map(plain_field).collect())
}

fn plain_field(field: &FieldRef) -> FieldRef {
    match plain_type(field.data_type()) {
        Cow::Borrowed(_) => Arc::clone(field),
        Cow::Owned(data_type) => Arc::new(Field::clone(field).with_data_type(data_type)),
    }
}

fn plain_type(data_type: &DataType) -> Cow<'_, DataType> {
    let nested = |field: &FieldRef, wrap: &dyn Fn(FieldRef) -> DataType| match plain_type(field.data_type()) {
        Cow::Borrowed(_) => None,
        Cow::Owned(_) => Some(wrap(plain_field(field))),
    };
    let changed = match data_type {
        DataType::Utf8View => Some(DataType::Utf8),
        DataType::BinaryView => Some(DataType::Binary),
        DataType::List(field) => nested(field, &DataType::List),
        DataType::LargeList(field) => nested(field, &DataType::LargeList),
        DataType::FixedSizeList(field, length) => nested(field, &|field| DataType::FixedSizeList(field, *length)),
        DataType::ListView(field) => Some(DataType::List(plain_field(field))),
        DataType::LargeListView(field) => Some(DataType::LargeList(plain_field(field))),
        DataType::Map(field, sorted) => nested(field, &|field| DataType::Map(field, *sorted)),
        DataType::Struct(fields) => match plain_fields(fields) {
            Cow::Borrowed(_) => None,
            Cow::Owned(fields) => Some(DataType::Struct(fields)),
        },
        DataType::Dictionary(key, value) => match plain_type(value) {
            Cow::Borrowed(_) => None,
            Cow::Owned(value) => Some(DataType::Dictionary(key.clone(), Box::new(value))),
        },
        _ => None,
    };
    changed.map_or(Cow::Borrowed(data_type), Cow::Owned)
}

/// A batch with the types of `schema`, which [`without_views`] made of the batch's own.
fn to_plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal("a batch does not have the columns of its result"));
    }
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()).map_err(Error::internal),
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::internal)
}

/// One Arrow IPC stream in the making.
pub(crate) struct IpcStream {
    schema: SchemaRef,
    writer: StreamWriter<Vec<u8>>,
}

impl IpcStream {
    /// A stream of batches of this schema.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self> {
        let schema = without_views(schema);
        let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(Error::internal)?;
        Ok(Self { schema, writer })
    }

    /// Adds a batch.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(&to_plain(batch, &self.schema)?).map_err(Error::internal)
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.writer.get_ref().len()
    }

    /// The complete stream.
    pub(crate) fn finish(self) -> Result<Bytes> {
        self.writer.into_inner().map(Bytes::from).map_err(Error::internal)
    }
}

/// A batch as pieces, each of which makes a message of at most about `max_bytes`, unless a single row has more.
///
/// `schema` is what [`without_views`] made of the batch's schema; the pieces have it.
pub(crate) fn split_for_messages(
    batch: &RecordBatch,
    schema: &SchemaRef,
    max_bytes: usize,
) -> Result<Vec<RecordBatch>> {
    let batch = to_plain(batch, schema)?;
    let mut pieces = Vec::new();
    halve(batch, max_bytes, &mut pieces)?;
    Ok(pieces)
}

fn halve(batch: RecordBatch, max_bytes: usize, pieces: &mut Vec<RecordBatch>) -> Result<()> {
    let rows = batch.num_rows();
    if rows <= 1 || slice_bytes(&batch)? <= max_bytes {
        pieces.push(batch);
        return Ok(());
    }
    let middle = rows / 2;
    halve(batch.slice(0, middle), max_bytes, pieces)?;
    halve(batch.slice(middle, rows - middle), max_bytes, pieces)
}

/// Bytes of the rows that a batch shows, of buffers that may hold more.
fn slice_bytes(batch: &RecordBatch) -> Result<usize> {
    let mut bytes = 0usize;
    for column in batch.columns() {
        bytes = bytes.saturating_add(column.to_data().get_slice_memory_size().map_err(Error::internal)?);
    }
    Ok(bytes)
}

/// One batch, of types without views, as a complete stream.
pub(crate) fn to_ipc(batch: &RecordBatch) -> Result<Bytes> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).map_err(Error::internal)?;
    writer.write(batch).map_err(Error::internal)?;
    writer.into_inner().map(Bytes::from).map_err(Error::internal)
}
