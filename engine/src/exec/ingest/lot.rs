//! A number of rows that are converted and encoded together, on one of the query threads.

use std::{collections::HashMap, ops::Range, sync::Arc};

use datafusion::arrow::{
    array::{Array, ArrayData, ArrayRef, AsArray, RecordBatch, StringViewArray},
    buffer::Buffer,
    compute::concat_batches,
    datatypes::DataType,
};
use kalamdb_store::{
    codec::PackedInserts,
    ids::{Owner, UserId},
};

use super::{
    columns::{Columns, owner_of},
    size::value_bytes,
};
use crate::{
    access::{RowRule, may_act_for},
    engine::Shared,
    error::{Error, Reason, Result},
    exec::StatementContext,
};

/// Small batches are put together until they have so many rows.
const MIN_ROWS: usize = 8_192;

/// Large batches are cut into lots of so many rows, or of about so many bytes.
const MAX_ROWS: usize = 65_536;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// So many batches are put together at the most.
const MAX_BATCHES: usize = 1_024;

/// Batches are gathered until they are a lot.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

/// Rows on their way to being encoded.
#[derive(Debug)]
pub(super) struct Lot {
    pub(super) batches: Vec<RecordBatch>,
    /// The number of its first row among all that are ingested.
    pub(super) first_row: u64,
    /// Generated keys of the rows.
    pub(super) keys: Option<ArrayRef>,
}

impl Gathering {
    /// Adds a batch; answers what is a lot by now.
    pub(super) fn add(&mut self, batch: RecordBatch) -> Vec<Vec<RecordBatch>> {
        if batch.num_rows() == 0 {
            return Vec::new();
        }
        let mut pieces = Vec::new();
        cut(batch, &mut pieces);
        let mut lots = Vec::new();
        // What is left of a large batch keeps all of it in memory; dictionaries may not fit into one another.
        let is_small = matches!(pieces.as_slice(), [only] if !has_dictionary(only));
        let Some(batch) = pieces.pop_if(|_| is_small) else {
            lots.extend(self.take());
            lots.extend(pieces.into_iter().map(|piece| vec![piece]));
            return lots;
        };
        self.rows += batch.num_rows();
        self.bytes = self.bytes.saturating_add(bytes_of(&batch).max(kept_bytes(&batch)));
        self.batches.push(batch);
        if self.rows >= MIN_ROWS || self.bytes >= MAX_BYTES || self.batches.len() >= MAX_BATCHES {
            lots.extend(self.take());
        }
        lots
    }

    /// What is left.
    pub(super) fn take(&mut self) -> Option<Vec<RecordBatch>> {
        (self.rows, self.bytes) = (0, 0);
        Some(std::mem::take(&mut self.batches)).filter(|batches| !batches.is_empty())
    }
}

/// Cuts a batch into pieces that are lots.
fn cut(batch: RecordBatch, pieces: &mut Vec<RecordBatch>) {
    let most = rows_of_lot(&batch);
    let mut rest = batch;
    while rest.num_rows() > most {
        cut_uneven(rest.slice(0, most), pieces);
        rest = rest.slice(most, rest.num_rows() - most);
    }
    cut_uneven(rest, pieces);
}

/// Halves a piece whose rows have much more than those of its batch on average.
fn cut_uneven(piece: RecordBatch, pieces: &mut Vec<RecordBatch>) {
    let rows = piece.num_rows();
    if rows <= 1 || bytes_of(&piece) <= 4 * MAX_BYTES {
        pieces.push(piece);
        return;
    }
    cut_uneven(piece.slice(0, rows / 2), pieces);
    cut_uneven(piece.slice(rows / 2, rows - rows / 2), pieces);
}

/// How many rows of a batch are a lot.
fn rows_of_lot(batch: &RecordBatch) -> usize {
    let bytes_per_row = bytes_of(batch) / batch.num_rows().max(1);
    (MAX_BYTES / bytes_per_row.max(1)).clamp(1, MAX_ROWS)
}

/// Bytes of the values of a batch, each written out.
pub(super) fn bytes_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| value_bytes(column.as_ref())).fold(0, usize::saturating_add)
}

/// Bytes that a batch keeps in memory, however few of them it shows: the columns of a message are parts of one buffer.
fn kept_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| largest_buffer(&column.to_data())).max().unwrap_or_default()
}

fn largest_buffer(data: &ArrayData) -> usize {
    let own = data.buffers().iter().map(Buffer::capacity);
    own.chain(data.child_data().iter().map(largest_buffer)).max().unwrap_or_default()
}

fn has_dictionary(batch: &RecordBatch) -> bool {
    fn is_or_has(data_type: &DataType) -> bool {
        match data_type {
            DataType::Dictionary(..) => true,
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
                is_or_has(field.data_type())
            }
            DataType::Struct(fields) => fields.iter().any(|field| is_or_has(field.data_type())),
            _ => false,
        }
    }
    batch.schema_ref().fields().iter().any(|field| is_or_has(field.data_type()))
}

/// Rows encoded, those of one owner one behind the other.
#[derive(Debug)]
pub(super) struct EncodedLot {
    pub(super) rows: PackedInserts,
    /// The number of its first row among all that are ingested.
    pub(super) first_row: u64,
    /// The rows of each owner, by their places. A lot can have several runs of one owner.
    pub(super) runs: Vec<Run>,
    /// The number of the row at each place, from `first_row`; `None`: they are in their order.
    pub(super) numbers: Option<Vec<u32>>,
}

/// Rows of one owner.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) owner: Owner,
    pub(super) rows: Range<usize>,
}

/// What all lots of an ingest are encoded by.
pub(super) struct Encoder {
    pub(super) shared: Arc<Shared>,
    pub(super) context: Arc<StatementContext>,
    pub(super) columns: Columns,
    pub(super) rule: Option<Arc<RowRule>>,
    /// Whose rows they are that do not say so themselves.
    pub(super) owner: Owner,
}

impl Encoder {
    /// Converts, checks and encodes a lot.
    ///
    /// # Errors
    /// INVALID_VALUE, NOT_NULL_VIOLATION; PERMISSION_DENIED for rows that the caller's rules do not let it write, and for
    /// those of users that it may not act for; INVALID_USER_ID, USER_NOT_FOUND; WRITE_TOO_LARGE for a row that no other
    /// statement could change.
    pub(super) fn encode(&self, lot: Lot) -> Result<EncodedLot> {
        let table = self.columns.table();
        let data = match lot.batches.as_slice() {
            [] => return Err(Error::internal("a lot without rows")),
            [one] => one.clone(),
            [first, ..] => concat_batches(first.schema_ref(), &lot.batches).map_err(Error::internal)?,
        };
        let first_row = lot.first_row;
        let converted = self.columns.convert(&self.shared, &self.context, &data, lot.keys, first_row)?;
        drop(data);
        if let Some(rule) = &self.rule {
            rule.check_written(&self.context.caller, table, &converted.batch)?;
        }
        let (order, runs) = match &converted.owners {
            Some(owners) => by_owner(owners.as_string_view(), first_row, |user, row| self.check_owner(user, row))?,
            None => (None, vec![Run { owner: self.owner.clone(), rows: 0..converted.batch.num_rows() }]),
        };
        let columns = converted.batch.columns();
        let Some(keys) = columns.get(table.key_index()) else { return Err(Error::internal("rows without keys")) };
        let stored: Vec<ArrayRef> = table.stored_columns().filter_map(|i| columns.get(i).cloned()).collect();
        let mut rows = PackedInserts::new();
        rows.push_rows(table.layout(), table.schema_version(), keys, &stored, order.as_deref())
            .map_err(Error::internal)?;
        let limit_bytes = self.shared.settings.max_write_bytes;
        if let Some(place) = rows.first_larger_than(limit_bytes) {
            let row = order.as_ref().and_then(|order| order.get(place)).map_or(place as u64, |row| u64::from(*row));
            return Err(row_too_large(first_row + row, limit_bytes));
        }
        Ok(EncodedLot { rows, first_row, runs, numbers: order })
    }

    /// Checks that the caller may write the rows of a user.
    fn check_owner(&self, user: &UserId, row: u64) -> Result<()> {
        let caller = &self.context.caller;
        if user == caller.effective_user() || *user == caller.user_id {
            return Ok(());
        }
        may_act_for(&self.shared.users, caller, user).map(drop).map_err(|error| {
            error.saying(&format!("Row {row} of the data is that user's.")).with("row", row.to_string())
        })
    }
}

/// The error for a row with more bytes than a statement may write.
pub(super) fn row_too_large(row: u64, limit_bytes: usize) -> Error {
    let message = format!(
        "Row {row} of the data has more than {limit_bytes} bytes, the most that a statement writes. Make it smaller, or raise \
         limits.max_write_bytes."
    );
    Error::new(Reason::WriteTooLarge, message).with("limit", "limits.max_write_bytes").with("row", row.to_string())
}

/// The rows ordered so that those of one owner are together, as they were among each other; `None`: they are all of one.
/// `check`: is asked of each of them, with the number of its first row.
fn by_owner(
    owners: &StringViewArray,
    first_row: u64,
    check: impl Fn(&UserId, u64) -> Result<()>,
) -> Result<(Option<Vec<u32>>, Vec<Run>)> {
    let mut known: HashMap<&str, u32> = HashMap::new();
    let mut found: Vec<(Owner, usize)> = Vec::new();
    let mut of_rows: Vec<u32> = Vec::with_capacity(owners.len());
    let mut last: Option<(u128, u32)> = None;
    for (row, view) in owners.views().iter().enumerate() {
        // The same view is the same text; rows of one user often follow each other.
        if let Some((same, index)) = last
            && same == *view
        {
            of_rows.push(index);
            found[index as usize].1 += 1;
            continue;
        }
        let text = owners.value(row);
        let index = match known.get(text) {
            Some(index) => *index,
            None => {
                let index = found.len() as u32;
                let user = owner_of(text, first_row + row as u64)?;
                check(&user, first_row + row as u64)?;
                found.push((Owner::User(user), 0));
                known.insert(text, index);
                index
            }
        };
        found[index as usize].1 += 1;
        of_rows.push(index);
        last = Some((*view, index));
    }
    let mut runs = Vec::with_capacity(found.len());
    let mut next: Vec<usize> = Vec::with_capacity(found.len());
    let mut start = 0;
    for (owner, rows) in found {
        next.push(start);
        runs.push(Run { owner, rows: start..start + rows });
        start += rows;
    }
    if runs.len() <= 1 {
        return Ok((None, runs));
    }
    let mut order = vec![0; owners.len()];
    for (row, owner) in of_rows.into_iter().enumerate() {
        let place = &mut next[owner as usize];
        order[*place] = row as u32;
        *place += 1;
    }
    Ok((Some(order), runs))
}

/// Checks that a batch has the columns that were announced.
///
/// # Errors
/// INVALID_REQUEST.
pub(super) fn check_schema(batch: &RecordBatch, announced: &datafusion::arrow::datatypes::Schema) -> Result<()> {
    let fields = batch.schema_ref().fields();
    let same = fields.len() == announced.fields().len()
        && fields.iter().zip(announced.fields()).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
    if same {
        return Ok(());
    }
    Err(Error::new(Reason::InvalidRequest, "A batch of rows has other columns than the data began with."))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{DictionaryArray, Int64Array, StringArray, StringViewBuilder},
        datatypes::{Field, Int8Type, Schema},
    };

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(0..rows as i64))]).unwrap()
    }

    fn sizes(lots: &[Vec<RecordBatch>]) -> Vec<usize> {
        lots.iter().map(|lot| lot.iter().map(RecordBatch::num_rows).sum()).collect()
    }

    #[test]
    fn small_batches_are_put_together_and_large_ones_cut() {
        let mut gathering = Gathering::default();
        assert!(gathering.add(batch(0)).is_empty());
        assert!(gathering.add(batch(MIN_ROWS - 1)).is_empty());
        assert_eq!(sizes(&gathering.add(batch(1))), [MIN_ROWS]);
        assert!(gathering.add(batch(5)).is_empty());
        assert_eq!(sizes(&gathering.add(batch(MAX_ROWS * 2 + 7))), [5, MAX_ROWS, MAX_ROWS, 7]);
        assert!(gathering.add(batch(7)).is_empty());
        assert_eq!(sizes(&[gathering.take().unwrap()]), [7]);
        assert!(gathering.take().is_none());
        let lots: Vec<_> = (0..MAX_BATCHES).flat_map(|_| gathering.add(batch(1))).collect();
        assert_eq!(sizes(&lots), [MAX_BATCHES]);
    }

    fn texts(values: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("body", values)]).unwrap()
    }

    #[test]
    fn lots_are_bounded_by_what_their_values_are_written_out() {
        // A thousand rows that all show one value, which is in memory once.
        let value = "x".repeat(MAX_BYTES / 4);
        let mut views = StringViewBuilder::new().with_deduplicate_strings();
        (0..1_000).for_each(|_| views.append_value(&value));
        let lots = Gathering::default().add(texts(Arc::new(views.finish())));
        assert!(lots.len() >= 250, "{} lots", lots.len());
        assert_eq!(sizes(&lots).iter().sum::<usize>(), 1_000);
        // Large values behind many small ones.
        let uneven = (0..60_000).map(|row| if row < 59_900 { "" } else { value.as_str() });
        let lots = Gathering::default().add(texts(Arc::new(StringViewArray::from_iter_values(uneven))));
        assert!(lots.iter().flatten().all(|piece| bytes_of(piece) <= 4 * MAX_BYTES));
        assert_eq!(sizes(&lots).iter().sum::<usize>(), 60_000);
    }

    #[test]
    fn small_parts_of_large_messages_do_not_pile_up() {
        let value = "x".repeat(MAX_BYTES / 4);
        let message = texts(Arc::new(StringArray::from(vec![value.as_str(), "small"])));
        let mut gathering = Gathering::default();
        let lots: Vec<_> = (0..4).flat_map(|_| gathering.add(message.slice(1, 1))).collect();
        assert!(!lots.is_empty());
    }

    #[test]
    fn dictionaries_are_not_put_together() {
        let batch = |from: usize| {
            let values: Vec<String> = (from..from + 100).map(|value| value.to_string()).collect();
            let values: DictionaryArray<Int8Type> = values.iter().map(String::as_str).collect();
            texts(Arc::new(values))
        };
        let mut gathering = Gathering::default();
        assert_eq!(sizes(&gathering.add(batch(0))), [100]);
        assert_eq!(sizes(&gathering.add(batch(100))), [100]);
    }

    #[test]
    fn rows_of_one_owner_come_together_in_their_order() {
        let long = "a user whose id is longer than a view";
        let owners = StringViewArray::from(vec!["b", "a", "b", long, "a", "b"]);
        let (order, runs) = by_owner(&owners, 0, |_, _| Ok(())).unwrap();
        assert_eq!(order.unwrap(), [0, 2, 5, 1, 4, 3]);
        let runs: Vec<(String, Range<usize>)> = runs
            .into_iter()
            .map(|run| match run.owner {
                Owner::User(user) => (user.as_str().to_owned(), run.rows),
                Owner::Shared => (String::new(), run.rows),
            })
            .collect();
        assert_eq!(runs, [("b".to_owned(), 0..3), ("a".to_owned(), 3..5), (long.to_owned(), 5..6)]);
        let (order, runs) = by_owner(&StringViewArray::from(vec!["a", "a"]), 0, |_, _| Ok(())).unwrap();
        assert_eq!((order, runs.len()), (None, 1));
        let error = by_owner(&StringViewArray::from(vec!["a", ""]), 40, |_, _| Ok(())).unwrap_err();
        assert_eq!((error.reason(), error.metadata()["row"].as_str()), (Reason::InvalidUserId, "41"));
    }
}
