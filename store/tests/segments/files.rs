//! Segment files to test with.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use kalamdb_store::codec::{PrimaryKey, SegmentEntry, checksums_key, encode_checksums};
use kalamdb_store::ids::*;
use kalamdb_store::kv::{Durability, Keyspace, MemoryBackend, StorageBackend};
use kalamdb_store::segment::*;
use object_store::ObjectStore;
use object_store::memory::InMemory;

/// One object store for every storage.
#[derive(Debug)]
pub(crate) struct OneStore(pub(crate) Arc<dyn ObjectStore>);

impl SegmentStores for OneStore {
    fn store(&self, _: StorageId) -> Result<Arc<dyn ObjectStore>, SegmentError> {
        Ok(self.0.clone())
    }
}

/// Segments over an object store, and the records about them.
pub(crate) struct World {
    pub(crate) backend: Arc<MemoryBackend>,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) segments: Segments,
}

impl World {
    pub(crate) fn over(store: Arc<dyn ObjectStore>) -> Self {
        let backend = Arc::new(MemoryBackend::new());
        let segments = Segments::new(backend.clone(), Arc::new(OneStore(store.clone())), SegmentSettings::default());
        Self { backend, store, segments }
    }

    pub(crate) fn in_memory() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    /// The same files and records, nothing cached.
    pub(crate) fn restarted(&self) -> Segments {
        Segments::new(self.backend.clone(), Arc::new(OneStore(self.store.clone())), SegmentSettings::default())
    }

    /// Stores a file as a segment.
    pub(crate) async fn add(&self, id: u64, file: &SegmentFile) -> SegmentEntry {
        let id = SegmentId::new(id);
        let path = format!("chat/users/ana/messages/{}", segment_file_name(id));
        let entry = file.entry(id, StorageId::new(0), path, 5);
        self.segments.write(entry.storage, &entry.path, file).await.unwrap();
        let checksums = encode_checksums(&file.checksums);
        self.backend.put(Keyspace::System, &checksums_key(id), &checksums, Durability::Async).unwrap();
        entry
    }
}

/// Small row groups and pages, so that a few thousand rows have many.
pub(crate) fn small() -> WriterSettings {
    WriterSettings { row_group_rows: 1_000, data_page_rows: 64, ..WriterSettings::default() }
}

pub(crate) fn origin() -> SegmentOrigin {
    SegmentOrigin {
        namespace: "chat".to_owned(),
        table: "messages".to_owned(),
        owner: Owner::User(UserId::new("ana").unwrap()),
        schema_version: SchemaVersion::new(3),
    }
}

/// Fields of a table with these columns, with the ids 0, 3, 6, …
pub(crate) fn fields_of(columns: impl IntoIterator<Item = Field>, key_index: usize) -> SegmentFields {
    let columns = columns.into_iter().enumerate();
    let columns = columns.map(|(at, field)| (ColumnId::new(at as u16 * 3), Arc::new(field)));
    SegmentFields::new(columns, key_index).unwrap()
}

/// A batch with the columns of a table, `_seq` and `_updated` behind them. Row `n` of a file has the sequence
/// `7 * n + 1` and the time `1,000 * n`.
pub(crate) fn batch_of(fields: &SegmentFields, mut columns: Vec<ArrayRef>, rows: Range<i64>) -> RecordBatch {
    columns.push(Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| 7 * row + 1))));
    let times = TimestampMicrosecondArray::from_iter_values(rows.map(|row| 1_000 * row));
    columns.push(Arc::new(times.with_timezone("+00:00")));
    RecordBatch::try_new(fields.schema.clone(), columns).unwrap()
}

/// A file of one batch, given to the writer in slices.
pub(crate) fn file_of(fields: &SegmentFields, batch: &RecordBatch, settings: &WriterSettings) -> SegmentFile {
    let mut writer = SegmentWriter::new(fields.clone(), &origin(), settings).unwrap();
    let mut at = 0;
    while at < batch.num_rows() {
        let rows = (at / 3 + 100).min(batch.num_rows() - at);
        writer.write(&batch.slice(at, rows)).unwrap();
        at += rows;
    }
    writer.finish().unwrap()
}

/// A table `(id BIGINT or TEXT NOT NULL, body TEXT, n INT)` with these keys; the key is its second column.
pub(crate) fn messages(keys: &[PrimaryKey], text_keys: bool) -> (SegmentFields, RecordBatch) {
    let (key_type, key_column): (DataType, ArrayRef) = if text_keys {
        let keys = keys.iter().map(|key| key.to_str().unwrap());
        (DataType::Utf8View, Arc::new(StringViewArray::from_iter_values(keys)))
    } else {
        let keys = keys.iter().map(|key| key.to_i64().unwrap());
        (DataType::Int64, Arc::new(Int64Array::from_iter_values(keys)))
    };
    let columns = [
        Field::new("body", DataType::Utf8View, true),
        Field::new("id", key_type, false),
        Field::new("n", DataType::Int32, true),
    ];
    let fields = fields_of(columns, 1);
    let rows = 0..keys.len() as i64;
    let body = rows.clone().map(|row| (row % 5 != 0).then(|| format!("the text of message {row}, {}", "x".repeat(30))));
    let n = rows.clone().map(|row| (row % 3 != 0).then_some(row as i32));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringViewArray::from_iter(body)), key_column, Arc::new(Int32Array::from_iter(n))];
    let batch = batch_of(&fields, columns, rows);
    (fields, batch)
}
