//! Log entries as Arrow rows.

use datafusion::arrow::{
    array::{Array, RecordBatch},
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
        let (mut new_rows, mut old_rows) = (decoder(table, schema)?, decoder(table, schema)?);
        let mut commits = Vec::with_capacity(entries.len());
        let mut changes = Vec::new();
        for entry in entries {
            for change in entry.changes {
                debug_assert!(change.op != ChangeOp::Insert || change.old.is_none());
                let at = row_key(partition, &change.key);
                let append = |rows: &mut BatchDecoder, image: &Option<Vec<u8>>| match image {
                    Some(image) => {
                        rows.append(&at, image).map_err(corrupt)?;
                        Ok::<_, Error>(Some(rows.len() - 1))
                    }
                    None => Ok(None),
                };
                let (new, old) = (append(&mut new_rows, &change.new)?, append(&mut old_rows, &change.old)?);
                changes.push(DecodedChange { commit: commits.len(), key: change.key, new, old });
            }
            commits.push(CommitHead { seq: entry.commit_seq, time_us: entry.commit_time_us });
        }
        Ok(Self { commits, changes, new_rows: finish(new_rows, schema)?, old_rows: finish(old_rows, schema)? })
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
