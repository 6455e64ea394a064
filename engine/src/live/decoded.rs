//! Log entries as Arrow rows.

use datafusion::arrow::{
    array::{Array, ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
use kalamdb_store::{
    codec::{BatchDecoder, ChangeOp, LogEntry, PrimaryKey, row_key},
    ids::{CommitSeq, Partition},
};
use std::sync::Arc;

use crate::{
    catalog::Table,
    error::{Error, Result},
    exec::{batch_of, corrupt, decode_column, from_datafusion},
};

/// What some commits changed in one partition, decoded once for all who want to know.
pub(super) struct DecodedChanges {
    pub(super) commits: Vec<CommitHead>,
    /// Of all commits, in order.
    pub(super) changes: Vec<DecodedChange>,
    /// The rows as they became, in [`Table::schema_with_system`].
    pub(super) new_rows: RecordBatch,
    /// The rows as they were.
    pub(super) old_rows: RecordBatch,
}

/// A commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitHead {
    pub(super) seq: CommitSeq,
    pub(super) time_us: i64,
}

/// A change of one row.
pub(super) struct DecodedChange {
    /// The place of its commit.
    pub(super) commit: usize,
    pub(super) key: PrimaryKey,
    /// Its place in `new_rows`.
    pub(super) new: Option<usize>,
    /// Its place in `old_rows`.
    pub(super) old: Option<usize>,
}

impl DecodedChanges {
    /// Decodes entries of `partition`, of whatever schema versions that `table` knows.
    pub(super) fn decode(table: &Table, partition: &Partition, entries: Vec<LogEntry>) -> Result<Self> {
        let schema = table.schema_with_system();
        let has_old = entries.iter().any(|entry| entry.changes.iter().any(|change| change.old.is_some()));
        let mut new_rows = decoder(table, schema)?;
        // Most changes are INSERTs.
        let mut old_rows = if has_old { Some(decoder(table, schema)?) } else { None };
        let mut commits = Vec::with_capacity(entries.len());
        let mut changes = Vec::new();
        for entry in entries {
            for change in entry.changes {
                debug_assert!(change.op != ChangeOp::Insert || change.old.is_none());
                let at = row_key(partition, &change.key);
                let append = |rows: Option<&mut BatchDecoder>, image: &Option<Vec<u8>>| match (rows, image) {
                    (Some(rows), Some(image)) => {
                        rows.append(&at, image).map_err(corrupt)?;
                        Ok::<_, Error>(Some(rows.len() - 1))
                    }
                    _ => Ok(None),
                };
                let new = append(Some(&mut new_rows), &change.new)?;
                let old = append(old_rows.as_mut(), &change.old)?;
                changes.push(DecodedChange { commit: commits.len(), key: change.key, new, old });
            }
            commits.push(CommitHead { seq: entry.commit_seq, time_us: entry.commit_time_us });
        }
        let old_rows = match old_rows {
            Some(old_rows) => finish(old_rows, schema)?,
            None => RecordBatch::new_empty(Arc::clone(schema)),
        };
        Ok(Self { commits, changes, new_rows: finish(new_rows, schema)?, old_rows })
    }

    /// One column of all rows as they became and as they were, in no order.
    pub(super) fn decode_column(
        table: &Table,
        partition: &Partition,
        entries: &[LogEntry],
        column: usize,
    ) -> Result<ArrayRef> {
        let schema = table.schema_with_system();
        let name =
            schema.fields().get(column).ok_or_else(|| Error::internal("a column that the table has not"))?.name();
        let column = decode_column(table, column, name)?;
        let mut values = BatchDecoder::new(Arc::clone(table.history()), vec![column]).map_err(Error::internal)?;
        for change in entries.iter().flat_map(|entry| &entry.changes) {
            let at = row_key(partition, &change.key);
            for image in [&change.new, &change.old].into_iter().flatten() {
                values.append(&at, image).map_err(corrupt)?;
            }
        }
        values.finish().map_err(corrupt)?.pop().ok_or_else(|| Error::internal("a column was not decoded"))
    }
}

fn decoder(table: &Table, schema: &SchemaRef) -> Result<BatchDecoder> {
    let columns = schema.fields().iter().enumerate().map(|(index, field)| decode_column(table, index, field.name()));
    BatchDecoder::new(Arc::clone(table.history()), columns.collect::<Result<Vec<_>>>()?).map_err(Error::internal)
}

fn finish(mut decoder: BatchDecoder, schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = decoder.len();
    let columns = decoder.finish().map_err(corrupt)?;
    debug_assert!(columns.iter().all(|column| column.len() == rows));
    batch_of(schema, columns, rows).map_err(from_datafusion)
}
