//! Which queries a change can concern, without asking each of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::{
    arrow::array::{Array, RecordBatch},
    common::ScalarValue,
};

use kalamdb_store::{codec::LogEntry, ids::Partition};

use super::{decoded::DecodedChanges, matcher::Equality};
use crate::{catalog::Table, error::Result};

/// Queries by an equality that they ask for, and the rest.
///
/// A change concerns a query with `column = value` only if the row has the value in the column before or after it.
#[derive(Debug, Default)]
pub(super) struct QueryIndex {
    /// By column index, then by value.
    equal: HashMap<usize, HashMap<ScalarValue, BTreeSet<u64>>>,
    /// Queries that any change can concern.
    rest: BTreeSet<u64>,
}

impl QueryIndex {
    /// Adds a query.
    pub(super) fn insert(&mut self, query: u64, equality: Option<&Equality>) {
        match equality {
            Some(Equality { column, value }) => {
                self.equal.entry(*column).or_default().entry(value.clone()).or_default().insert(query);
            }
            None => {
                self.rest.insert(query);
            }
        }
    }

    /// Takes a query out.
    pub(super) fn remove(&mut self, query: u64, equality: Option<&Equality>) {
        let Some(Equality { column, value }) = equality else {
            self.rest.remove(&query);
            return;
        };
        let Some(values) = self.equal.get_mut(column) else { return };
        if let Some(queries) = values.get_mut(value) {
            queries.remove(&query);
            if queries.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.equal.remove(column);
        }
    }

    /// Whether any query can be concerned by what `entries` of `partition` changed. Decodes no more than it must.
    pub(super) fn concerns_any(&self, table: &Table, partition: &Partition, entries: &[LogEntry]) -> Result<bool> {
        if !self.rest.is_empty() {
            return Ok(true);
        }
        for (column, queries) in &self.equal {
            let values = DecodedChanges::decode_column(table, partition, entries, *column)?;
            let asked_for = |row| ScalarValue::try_from_array(&values, row).is_ok_and(|v| queries.contains_key(&v));
            if (0..values.len()).any(asked_for) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The queries that any change can concern.
    pub(super) fn rest(&self) -> impl Iterator<Item = u64> {
        self.rest.iter().copied()
    }

    /// The other queries that some of these changes can concern, each with those changes.
    pub(super) fn concerned(&self, decoded: &DecodedChanges) -> BTreeMap<u64, Vec<usize>> {
        let mut concerned: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (column, queries) in &self.equal {
            for (index, change) in decoded.changes.iter().enumerate() {
                let new = value(&decoded.new_rows, *column, change.new);
                let old = value(&decoded.old_rows, *column, change.old).filter(|old| Some(old) != new.as_ref());
                for value in [new, old].into_iter().flatten() {
                    for query in queries.get(&value).into_iter().flatten() {
                        concerned.entry(*query).or_default().push(index);
                    }
                }
            }
        }
        concerned
    }
}

/// The value of a row's column; `None` for no row and for NULL, which equals nothing.
fn value(rows: &RecordBatch, column: usize, row: Option<usize>) -> Option<ScalarValue> {
    let (column, row) = (rows.columns().get(column)?, row?);
    if column.is_null(row) {
        return None;
    }
    ScalarValue::try_from_array(column, row).ok()
}
