//! A query compiled for matching: which changes concern it, and what of them it shows.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, RecordBatch, StringViewArray, UInt32Array},
        compute::{cast, take_record_batch},
        datatypes::{DataType, SchemaRef},
    },
    common::ScalarValue,
    physical_expr::PhysicalExpr,
};

use super::{
    decoded::{DecodedChange, DecodedChanges},
    event::{ChangeKind, LiveChange, RowImage},
};
use crate::{
    error::{Error, Result},
    exec::{batch_of, from_datafusion},
};

/// A filter and a projection over the columns of a table, hidden ones included.
#[derive(Debug)]
pub(super) struct Matcher {
    /// `None`: every row matches.
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// A condition `column = value` that the filter implies.
    pub(super) equality: Option<Equality>,
    /// Whether the filter is no more than that condition.
    pub(super) equality_is_all: bool,
    pub(super) outputs: Vec<Arc<dyn PhysicalExpr>>,
    /// The columns that `outputs` give.
    pub(super) schema: SchemaRef,
    /// The index of `_deleted` among the table's columns, if it is shown.
    pub(super) deleted_column: Option<usize>,
}

/// A condition `column = value`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Equality {
    /// The column's index among the table's columns.
    pub(super) column: usize,
    /// In the column's type, not NULL.
    pub(super) value: ScalarValue,
}

/// The changes of one commit that concern a query.
pub(super) struct MatchedCommit {
    /// The commit's place in [`DecodedChanges::commits`].
    pub(super) commit: usize,
    pub(super) changes: Vec<LiveChange>,
    /// About how many bytes they have.
    pub(super) bytes: usize,
}

impl Matcher {
    /// What of `decoded` concerns the query, commit by commit. `among`: the changes that can; `None`: all.
    pub(super) fn matches(
        &self,
        decoded: &DecodedChanges,
        among: Option<&[usize]>,
        before_images: bool,
    ) -> Result<Vec<MatchedCommit>> {
        let candidates: Vec<&DecodedChange> = match among {
            Some(among) => among.iter().filter_map(|index| decoded.changes.get(*index)).collect(),
            None => decoded.changes.iter().collect(),
        };
        let now = self.hold(&decoded.new_rows, candidates.iter().map(|c| c.new))?;
        let before = self.hold(&decoded.old_rows, candidates.iter().map(|c| c.old))?;
        let mut matched = Vec::new();
        for ((change, now), before) in candidates.into_iter().zip(now).zip(before) {
            let kind = match (before, now) {
                (false, true) => ChangeKind::Insert,
                (true, true) => ChangeKind::Update,
                (true, false) => ChangeKind::Delete,
                (false, false) => continue,
            };
            matched.push((change, kind));
        }
        if matched.is_empty() {
            return Ok(Vec::new());
        }
        let new_of = |change: &DecodedChange, kind| if kind == ChangeKind::Delete { None } else { change.new };
        let old_of = |change: &DecodedChange, kind| match kind {
            ChangeKind::Insert => None,
            ChangeKind::Update if !before_images => None,
            ChangeKind::Update | ChangeKind::Delete => change.old,
        };
        let new_rows: Vec<usize> = matched.iter().filter_map(|(change, kind)| new_of(change, *kind)).collect();
        let new_batch = Arc::new(self.show(&decoded.new_rows, &new_rows, None)?);
        let olds: Vec<(usize, bool)> = matched
            .iter()
            .filter_map(|(change, kind)| old_of(change, *kind).map(|row| (row, *kind == ChangeKind::Delete)))
            .collect();
        let (old_rows, deleted): (Vec<usize>, Vec<bool>) = olds.into_iter().unzip();
        let old_batch = Arc::new(self.show(&decoded.old_rows, &old_rows, Some(deleted))?);

        // What waits for a slow reader is what the query shows, be it more or less than what was written.
        let row_bytes = |batch: &RecordBatch| batch.get_array_memory_size() / batch.num_rows().max(1);
        let (new_bytes, old_bytes) = (row_bytes(&new_batch), row_bytes(&old_batch));
        let (mut next_new, mut next_old) = (0, 0);
        let image = |batch: &Arc<RecordBatch>, is_there: bool, next: &mut usize| {
            is_there.then(|| {
                *next += 1;
                RowImage { batch: Arc::clone(batch), row: *next - 1 }
            })
        };
        let mut commits: Vec<MatchedCommit> = Vec::new();
        for (change, kind) in matched {
            let live = LiveChange {
                kind,
                key: change.key.clone(),
                new: image(&new_batch, new_of(change, kind).is_some(), &mut next_new),
                old: image(&old_batch, old_of(change, kind).is_some(), &mut next_old),
            };
            let image_bytes = live.new.as_ref().map_or(0, |_| new_bytes) + live.old.as_ref().map_or(0, |_| old_bytes);
            let bytes = CHANGE_BYTES + change.key.as_bytes().len() + image_bytes;
            match commits.last_mut().filter(|last| last.commit == change.commit) {
                Some(last) => {
                    last.changes.push(live);
                    last.bytes += bytes;
                }
                None => commits.push(MatchedCommit { commit: change.commit, changes: vec![live], bytes }),
            }
        }
        Ok(commits)
    }

    /// For each place whether the row there matches; no place, no match.
    fn hold(&self, rows: &RecordBatch, places: impl Iterator<Item = Option<usize>> + Clone) -> Result<Vec<bool>> {
        let Some(filter) = self.filter.as_ref().filter(|_| !self.equality_is_all) else {
            return Ok(places
                .map(|place| place.is_some_and(|row| !self.equality_is_all || self.equals(rows, row)))
                .collect());
        };
        let wanted: Vec<usize> = places.clone().flatten().collect();
        if wanted.is_empty() {
            return Ok(places.map(|_| false).collect());
        }
        let chosen = choose(rows, &wanted)?;
        let values = filter.evaluate(&chosen).and_then(|v| v.into_array(wanted.len())).map_err(from_datafusion)?;
        let holds: Vec<bool> = match values.as_boolean_opt() {
            Some(values) => values.iter().map(|value| value.unwrap_or(false)).collect(),
            // `WHERE NULL`, whose nulls are not counted.
            None if *values.data_type() == DataType::Null => vec![false; wanted.len()],
            None => return Err(Error::internal("the filter of a live query is not boolean")),
        };
        let mut holds = holds.into_iter();
        Ok(places.map(|place| place.is_some() && holds.next().unwrap_or(false)).collect())
    }

    fn equals(&self, rows: &RecordBatch, row: usize) -> bool {
        let Some(equality) = &self.equality else { return true };
        let Some(column) = rows.columns().get(equality.column) else { return false };
        ScalarValue::try_from_array(column, row).is_ok_and(|value| value == equality.value)
    }

    /// What the query shows of some rows. `deleted`: what `_deleted` is in each.
    fn show(&self, rows: &RecordBatch, wanted: &[usize], deleted: Option<Vec<bool>>) -> Result<RecordBatch> {
        if wanted.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let mut chosen = choose(rows, wanted)?;
        if let (Some(index), Some(deleted)) = (self.deleted_column, deleted) {
            let mut columns = chosen.columns().to_vec();
            if let Some(column) = columns.get_mut(index) {
                *column = Arc::new(BooleanArray::from(deleted));
            }
            chosen = batch_of(&chosen.schema(), columns, wanted.len()).map_err(from_datafusion)?;
        }
        let is_part = wanted.len() < rows.num_rows();
        let columns = self
            .outputs
            .iter()
            .zip(self.schema.fields())
            .map(|(output, field)| {
                let values =
                    output.evaluate(&chosen).and_then(|v| v.into_array(wanted.len())).map_err(from_datafusion)?;
                let values = if values.data_type() == field.data_type() {
                    values
                } else {
                    cast(&values, field.data_type()).map_err(|e| from_datafusion(e.into()))?
                };
                Ok(if is_part { compacted(values) } else { values })
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        batch_of(&self.schema, columns, wanted.len()).map_err(from_datafusion)
    }
}

/// What a change takes beside its images.
const CHANGE_BYTES: usize = 128;

fn choose(rows: &RecordBatch, wanted: &[usize]) -> Result<RecordBatch> {
    if wanted.len() == rows.num_rows() && wanted.iter().enumerate().all(|(place, row)| place == *row) {
        return Ok(rows.clone());
    }
    let indexes: UInt32Array = wanted.iter().map(|row| *row as u32).collect();
    take_record_batch(rows, &indexes).map_err(Error::internal)
}

/// The same values without the bytes of others: what waits for a slow reader must not hold more than it says.
pub(super) fn compacted(values: ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Utf8View => values.as_any().downcast_ref::<StringViewArray>().map(|v| Arc::new(v.gc()) as ArrayRef),
        DataType::BinaryView => values.as_any().downcast_ref::<BinaryViewArray>().map(|v| Arc::new(v.gc()) as ArrayRef),
        _ => None,
    }
    .unwrap_or(values)
}
