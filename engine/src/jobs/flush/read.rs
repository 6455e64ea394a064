//! Hot rows of one partition, as batches of a segment's columns.

use std::{ops::Bound, sync::Arc};

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};
use kalamdb_store::{
    codec::{BatchDecoder, DecodeColumn, row_prefix},
    ids::Partition,
    kv::{Direction, KeyRange, Keyspace, Snapshot},
};

use crate::{
    catalog::Table,
    error::{Error, Result},
    exec::{corrupt, decode_column, from_store},
};

/// Bound of a batch: reading and writing one must not keep others waiting for long.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The rows of a range of keys, in their order.
pub(in crate::jobs) struct HotRows {
    snapshot: Arc<dyn Snapshot>,
    decoder: BatchDecoder,
    schema: SchemaRef,
    batch_rows: usize,
    rest: Option<KeyRange>,
    read_bytes: u64,
}

/// The keys of a partition's hot rows; `None`: it has none. Rows with greater keys, that come later, are not in it.
pub(super) fn hot_range(snapshot: &dyn Snapshot, partition: &Partition) -> Result<Option<KeyRange>> {
    let whole = KeyRange::prefix(&row_prefix(partition));
    let cursor = snapshot.cursor(Keyspace::Rows, whole.clone(), Direction::Reverse).map_err(from_store)?;
    Ok(cursor.item().map(|(last, _)| KeyRange::new(whole.start, Bound::Included(last.to_vec()))))
}

impl HotRows {
    /// `schema` has the table's columns, then those of the commit's sequence and time.
    pub(super) fn new(
        snapshot: Arc<dyn Snapshot>,
        table: &Table,
        schema: SchemaRef,
        range: KeyRange,
        batch_rows: usize,
    ) -> Result<Self> {
        Self::with_owner(snapshot, table, schema, range, batch_rows, false)
    }

    /// The same; `with_owner`: the user that owns each row comes behind the other columns. The range can be of several
    /// partitions.
    pub(in crate::jobs) fn with_owner(
        snapshot: Arc<dyn Snapshot>,
        table: &Table,
        schema: SchemaRef,
        range: KeyRange,
        batch_rows: usize,
        with_owner: bool,
    ) -> Result<Self> {
        let columns = table.columns().iter().enumerate();
        let mut columns = columns
            .map(|(index, column)| decode_column(table, index, column.name.as_str()))
            .collect::<Result<Vec<DecodeColumn>>>()?;
        columns.extend([DecodeColumn::CommitSeq, DecodeColumn::CommitTime]);
        columns.extend(with_owner.then_some(DecodeColumn::Owner));
        let decoder = BatchDecoder::new(Arc::clone(table.history()), columns).map_err(Error::internal)?;
        Ok(Self { snapshot, decoder, schema, batch_rows, rest: Some(range), read_bytes: 0 })
    }

    /// The next rows; none when there are no more.
    pub(in crate::jobs) fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let mut cursor = self.snapshot.bulk_cursor(Keyspace::Rows, range.clone()).map_err(from_store)?;
        while let Some((key, value)) = cursor.item() {
            if self.decoder.len() == self.batch_rows || self.decoder.memory_size() >= BATCH_BYTES {
                self.rest = Some(KeyRange::new(Bound::Included(key.to_vec()), range.end));
                break;
            }
            self.decoder.append(key, value).map_err(corrupt)?;
            self.read_bytes += (key.len() + value.len()) as u64;
            cursor.advance().map_err(from_store)?;
        }
        drop(cursor);
        if self.decoder.is_empty() {
            return Ok(None);
        }
        let columns = self.decoder.finish().map_err(corrupt)?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map(Some).map_err(Error::internal)
    }

    /// Whether there is more to read.
    pub(in crate::jobs) fn has_more(&self) -> bool {
        self.rest.is_some()
    }

    /// Bytes of the keys and values that were read.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// What was not read.
    pub(in crate::jobs) fn into_rest(self) -> Option<KeyRange> {
        self.rest
    }
}
