//! Rows to the committer: encoding, and trying again after a conflict.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use datafusion::{
    arrow::array::{Array, ArrayRef, AsArray, RecordBatch},
    arrow::datatypes::{DataType, Int64Type},
};
use kalamdb_store::{
    codec::{EncodedRow, PrimaryKey, encode_rows},
    commit::{CommitError, Committed, PreparedCommit, RowChange, RowOp},
    ids::{CommitSeq, Owner, Partition},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    catalog::Table,
    engine::Shared,
    error::{Error, Reason, Result},
    exec::{StatementContext, errors::from_commit},
    sql::TableScope,
    values::check_not_null,
};

/// How often a statement is tried before it is refused. After the first conflict it holds its partition's turn, so
/// only statements that try for the first time can still get ahead of it.
const MAX_ATTEMPTS: usize = 100;

/// Turns of partitions in which statements conflict; partitions share them by hash.
#[derive(Debug)]
pub(crate) struct ConflictTurns(Vec<Arc<Mutex<()>>>);

impl ConflictTurns {
    pub(crate) fn new() -> Self {
        Self((0..1024).map(|_| Arc::default()).collect())
    }

    async fn wait(&self, partition: &Partition) -> OwnedMutexGuard<()> {
        let mut hasher = DefaultHasher::new();
        (partition.table, &partition.owner).hash(&mut hasher);
        let index = hasher.finish() as usize % self.0.len();
        Arc::clone(&self.0[index]).lock_owned().await
    }
}

/// The attempts of one statement.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    shared: &'a Shared,
    partition: &'a Partition,
    count: usize,
    turn: Option<OwnedMutexGuard<()>>,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(shared: &'a Shared, partition: &'a Partition) -> Self {
        Self { shared, partition, count: 1, turn: None }
    }

    /// Waits until another attempt makes sense.
    ///
    /// # Errors
    /// WRITE_CONFLICT when there were too many.
    pub(crate) async fn again(&mut self) -> Result<()> {
        if self.count >= MAX_ATTEMPTS {
            return Err(from_commit(CommitError::VersionChanged { change: 0 }));
        }
        self.count += 1;
        if self.turn.is_none() {
            self.turn = Some(self.shared.conflicts.wait(self.partition).await);
        }
        Ok(())
    }
}

/// Commits changes of rows by a statement.
pub(crate) async fn commit(
    shared: &Shared,
    context: &StatementContext,
    changes: Vec<RowChange>,
) -> Result<Committed, CommitError> {
    commit_checked(shared, context, changes, None).await
}

/// Commits changes of rows for whose keys the cold tier was searched at or after the commit `cold_checked_at`.
pub(crate) async fn commit_checked(
    shared: &Shared,
    context: &StatementContext,
    changes: Vec<RowChange>,
    cold_checked_at: Option<CommitSeq>,
) -> Result<Committed, CommitError> {
    let written = |change: &&RowChange| !matches!(change.op, RowOp::Delete { .. });
    let rows = changes.iter().filter(written).count() as u64;
    // The rows of a statement are of one table.
    let table = changes.first().map(|change| change.partition.table);
    let prepared = PreparedCommit {
        commit_time_us: context.now_us,
        changes,
        cold_checked_at,
        began_at: Some(context.began_at),
        ..PreparedCommit::default()
    };
    let committed = shared.committer.commit(prepared).await?;
    if let Some(table) = table.filter(|_| rows > 0) {
        shared.jobs.rows_written(table, rows);
    }
    Ok(committed)
}

/// Checks NOT NULL and encodes whole rows, given by the table's columns in order.
///
/// # Errors
/// NOT_NULL_VIOLATION; WRITE_TOO_LARGE beyond `max_bytes`.
pub(crate) fn encode(
    table: &Table,
    columns: &[ArrayRef],
    rows: usize,
    max_bytes: usize,
) -> Result<(Vec<PrimaryKey>, Vec<EncodedRow>)> {
    check_nulls(table, columns)?;
    let keys = primary_keys(table, columns)?;
    let stored: Vec<ArrayRef> = table.stored_columns().filter_map(|i| columns.get(i).cloned()).collect();
    let encoded = encode_rows(table.layout(), table.schema_version(), &stored, rows).map_err(Error::internal)?;
    let bytes: usize = encoded.iter().map(EncodedRow::byte_size).sum();
    if bytes > max_bytes {
        return Err(too_large(max_bytes));
    }
    Ok((keys, encoded))
}

/// Checks NOT NULL of whole rows, given by the table's columns in order.
///
/// # Errors
/// NOT_NULL_VIOLATION, naming the column.
pub(crate) fn check_nulls(table: &Table, columns: &[ArrayRef]) -> Result<()> {
    for (column, values) in table.columns().iter().zip(columns) {
        if !column.nullable {
            check_not_null(values.as_ref(), column.name.as_str())?;
        }
    }
    Ok(())
}

/// The keys of whole rows.
pub(crate) fn primary_keys(table: &Table, columns: &[ArrayRef]) -> Result<Vec<PrimaryKey>> {
    let Some(values) = columns.get(table.key_index()) else {
        return Err(Error::internal("rows without their key column"));
    };
    keys_of(values)
}

/// The keys in a key column without NULLs.
pub(crate) fn keys_of(values: &ArrayRef) -> Result<Vec<PrimaryKey>> {
    match values.data_type() {
        DataType::Int64 => {
            Ok(values.as_primitive::<Int64Type>().values().iter().map(|v| PrimaryKey::from_i64(*v)).collect())
        }
        DataType::Utf8View => Ok(values.as_string_view().iter().flatten().map(PrimaryKey::from_str).collect()),
        other => Err(Error::internal(format!("a key column of type {other}"))),
    }
}

/// A key as a person writes it.
pub(crate) fn display_key(table: &Table, key: &PrimaryKey) -> String {
    let text = match table.key_column().data_type {
        DataType::Int64 => key.to_i64().map(|v| v.to_string()),
        _ => key.to_str().map(|v| format!("'{}'", v.escape_debug())),
    };
    text.unwrap_or_else(|_| "?".to_owned())
}

/// The error of an INSERT whose key exists.
pub(crate) fn key_exists(table: &Table, key: &PrimaryKey) -> Error {
    let shown = display_key(table, key);
    Error::new(
        Reason::PrimaryKeyViolation,
        format!(
            "Table {} has a row with {} = {shown} already. Use another key, or ON CONFLICT.",
            table.full_name(),
            table.key_column().name
        ),
    )
    .with("table", table.full_name())
    .with("column", table.key_column().name.as_str())
    .with("key", shown)
}

/// The error of a statement that writes too much.
pub(crate) fn too_large(limit_bytes: usize) -> Error {
    Error::new(
        Reason::WriteTooLarge,
        format!("The statement writes more than {limit_bytes} bytes of rows at once. Split it into several."),
    )
    .with("limit", "limits.max_write_bytes")
}

/// The one partition that a statement may write.
///
/// # Errors
/// INVALID_STATEMENT for every user's at once.
pub(crate) fn written_partition(table: &Table, scope: TableScope, owner: Option<Owner>) -> Result<Partition> {
    match owner {
        Some(owner) => Ok(Partition { table: table.id(), owner }),
        None => {
            debug_assert_eq!(scope, TableScope::AllUsers);
            Err(Error::new(
                Reason::InvalidStatement,
                format!(
                    "{}.all_users.{} can be read only. To write a user's rows, send x-user-id and name the table as {}.",
                    table.namespace(),
                    table.name(),
                    table.full_name()
                ),
            ))
        }
    }
}

/// The rows of several batches as one.
pub(crate) fn concatenated(
    batches: &[RecordBatch],
    schema: &datafusion::arrow::datatypes::SchemaRef,
) -> Result<RecordBatch> {
    match batches {
        [one] => Ok(one.clone()),
        many => datafusion::arrow::compute::concat_batches(schema, many).map_err(Error::internal),
    }
}
