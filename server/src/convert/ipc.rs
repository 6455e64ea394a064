//! Record batches as Arrow IPC streams, with types that every Arrow library can read.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, FixedSizeListArray, GenericByteBuilder, GenericByteViewArray, GenericListArray,
        MapArray, OffsetSizeTrait, RecordBatch, RecordBatchOptions, StructArray,
    },
    buffer::OffsetBuffer,
    compute::{cast, take},
    datatypes::{
        BinaryType, BinaryViewType, ByteArrayType, ByteViewType, DataType, Field, FieldRef, Fields, Schema, SchemaRef,
        StringViewType, Utf8Type,
    },
    ipc::writer::StreamWriter,
};
use bytes::Bytes;
use kalamdb_engine::Error;

use super::pieces::{lengths, shown_elements};

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

/// A batch with the types of `schema`, such as [`without_views`] makes of the batch's own. All that it shows is copied,
/// which may be far more than it holds: batches are taken apart by [`Pieces`](super::Pieces) first.
pub(crate) fn to_plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal("a batch does not have the columns of its result"));
    }
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| converted(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::internal)
}

/// An array as one of another type, with nothing but what it shows. Arrow's own casts convert all elements that the
/// lists of a slice have in their buffers, and make room for what the views of NULLs say.
fn converted(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), to) {
        (DataType::Utf8View, DataType::Utf8) => Ok(in_a_row::<StringViewType, Utf8Type>(array.as_string_view())),
        (DataType::BinaryView, DataType::Binary) => Ok(in_a_row::<BinaryViewType, BinaryType>(array.as_binary_view())),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let structure = array.as_struct();
            let both = structure.columns().iter().zip(fields);
            let columns: Vec<ArrayRef> =
                both.map(|(column, field)| converted(column, field.data_type())).collect::<Result<_>>()?;
            let nulls = structure.nulls().cloned();
            let made = StructArray::try_new_with_length(fields.clone(), columns, nulls, structure.len());
            Ok(Arc::new(made.map_err(Error::internal)?))
        }
        (DataType::List(_), DataType::List(item)) => converted_list::<i32, i32>(array.as_list(), item),
        (DataType::LargeList(_), DataType::List(item)) => converted_list::<i64, i32>(array.as_list(), item),
        (DataType::LargeList(_), DataType::LargeList(item)) => converted_list::<i64, i64>(array.as_list(), item),
        (DataType::FixedSizeList(_, _), DataType::FixedSizeList(item, length)) => {
            let list = array.as_fixed_size_list();
            let elements = converted(list.values(), item.data_type())?;
            let nulls = list.nulls().cloned();
            let made = FixedSizeListArray::try_new_with_length(Arc::clone(item), *length, elements, nulls, list.len());
            Ok(Arc::new(made.map_err(Error::internal)?))
        }
        (DataType::Map(_, _), DataType::Map(field, sorted)) => {
            let map = array.as_map();
            let entries = converted(&shown_elements(map.offsets(), map.entries()), field.data_type())?;
            let offsets = OffsetBuffer::from_lengths(map.offsets().lengths());
            let (entries, nulls) = (entries.as_struct().clone(), map.nulls().cloned());
            let made = MapArray::try_new(Arc::clone(field), offsets, entries, nulls, *sorted);
            Ok(Arc::new(made.map_err(Error::internal)?))
        }
        // Without its encoding, and then as any other.
        (DataType::Dictionary(_, _), to) if !matches!(to, DataType::Dictionary(_, _)) => {
            let dictionary = array.as_any_dictionary();
            let values = take(dictionary.values(), dictionary.keys(), None).map_err(Error::internal)?;
            converted(&values, to)
        }
        (DataType::RunEndEncoded(_, value), to) => converted(&arrow_cast(array, value.data_type())?, to),
        (DataType::ListView(item), to) => converted(&arrow_cast(array, &DataType::List(Arc::clone(item)))?, to),
        (DataType::LargeListView(item), to) => {
            converted(&arrow_cast(array, &DataType::LargeList(Arc::clone(item)))?, to)
        }
        (_, to) => arrow_cast(array, to),
    }
}

fn arrow_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    cast(array, to).map_err(Error::internal)
}

/// The values of views, one behind the other.
fn in_a_row<V: ByteViewType, B: ByteArrayType>(views: &GenericByteViewArray<V>) -> ArrayRef
where
    V::Native: AsRef<B::Native>,
{
    let mut values = GenericByteBuilder::<B>::with_capacity(views.len(), lengths(views).sum());
    for value in views.iter() {
        values.append_option(value);
    }
    Arc::new(values.finish())
}

fn converted_list<I, O>(list: &GenericListArray<I>, item: &FieldRef) -> Result<ArrayRef>
where
    I: OffsetSizeTrait,
    O: OffsetSizeTrait,
{
    let elements = converted(&shown_elements(list.offsets(), list.values()), item.data_type())?;
    if O::from_usize(elements.len()).is_none() {
        return Err(Error::internal("lists have more elements than those that are sent can have"));
    }
    let offsets = OffsetBuffer::<O>::from_lengths(list.offsets().lengths());
    let made = GenericListArray::<O>::try_new(Arc::clone(item), offsets, elements, list.nulls().cloned());
    Ok(Arc::new(made.map_err(Error::internal)?))
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

    /// Adds a piece of a batch.
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

/// One batch, of types without views, as a complete stream.
pub(crate) fn to_ipc(batch: &RecordBatch) -> Result<Bytes> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).map_err(Error::internal)?;
    writer.write(batch).map_err(Error::internal)?;
    writer.into_inner().map(Bytes::from).map_err(Error::internal)
}
