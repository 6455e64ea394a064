//! Which partitions of a table are worth a flush.

use std::ops::Bound;

use kalamdb_store::{
    codec::{RowHeader, partition_prefix_len, split_row_key, table_range},
    ids::{Owner, TableId},
    kv::{Direction, KeyRange, Keyspace, Snapshot},
};

use crate::{
    error::Result,
    exec::{corrupt, from_store},
};

/// Rows looked at before others get their turn.
const ROWS_PER_STEP: usize = 8_192;

/// What makes a partition worth a flush.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worth {
    /// So many rows are.
    pub(super) min_rows: u64,
    /// A row that was written at or before this time is.
    pub(super) old_us: i64,
}

/// A walk over the hot rows of a table that finds the partitions that are worth a flush, in the order of their keys. Of
/// a partition it reads no more rows than it needs to know.
#[derive(Debug)]
pub(super) struct Survey {
    worth: Worth,
    /// What was not looked at; `None`: nothing is left.
    rest: Option<KeyRange>,
    /// The partition that the last step ended in.
    begun: Option<Begun>,
    kept_hot: u64,
}

#[derive(Debug)]
struct Begun {
    prefix: Vec<u8>,
    rows: u64,
}

impl Survey {
    pub(super) fn new(table: TableId, worth: Worth) -> Self {
        Self { worth, rest: Some(table_range(table)), begun: None, kept_hot: 0 }
    }

    /// Whether the whole table was looked at.
    pub(super) fn is_done(&self) -> bool {
        self.rest.is_none()
    }

    /// Partitions with rows that were not worth a flush.
    pub(super) fn kept_hot(&self) -> u64 {
        self.kept_hot
    }

    /// Looks at some more rows; the owners found, at most `limit`.
    pub(super) fn step(&mut self, snapshot: &dyn Snapshot, limit: usize) -> Result<Vec<Owner>> {
        let mut found = Vec::new();
        let Some(range) = self.rest.take() else { return Ok(found) };
        let mut cursor = snapshot.cursor(Keyspace::Rows, range.clone(), Direction::Forward).map_err(from_store)?;
        for _ in 0..ROWS_PER_STEP {
            let Some((key, value)) = cursor.item() else {
                self.finish_partition();
                return Ok(found);
            };
            if !self.begun.as_ref().is_some_and(|begun| key.starts_with(&begun.prefix)) {
                self.finish_partition();
                if found.len() >= limit {
                    break;
                }
                let prefix_len = partition_prefix_len(key).ok_or_else(|| corrupt("a row's key without a partition"))?;
                self.begun = Some(Begun { prefix: key[..prefix_len].to_vec(), rows: 0 });
            }
            let Some(begun) = &mut self.begun else { continue };
            begun.rows += 1;
            let header = RowHeader::decode(value).map_err(corrupt)?;
            if begun.rows < self.worth.min_rows && header.commit_time_us > self.worth.old_us {
                cursor.advance().map_err(from_store)?;
                continue;
            }
            found.push(split_row_key(key).map_err(corrupt)?.1);
            // No partition's prefix begins another's, and its last byte is not the greatest there is.
            let behind = KeyRange::prefix(&begun.prefix).end;
            self.begun = None;
            match behind {
                Bound::Excluded(behind) => cursor.seek(&behind).map_err(from_store)?,
                Bound::Included(_) | Bound::Unbounded => return Ok(found),
            }
        }
        self.rest = cursor.item().map(|(key, _)| KeyRange::new(Bound::Included(key.to_vec()), range.end));
        if self.rest.is_none() {
            self.finish_partition();
        }
        Ok(found)
    }

    /// A partition that ended before it was found to be worth a flush is not.
    fn finish_partition(&mut self) {
        if self.begun.take().is_some() {
            self.kept_hot += 1;
        }
    }
}

#[cfg(test)]
mod tests;
