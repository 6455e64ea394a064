//! Reading the cold tier: rows that were flushed into segments.
//!
//! Each key has exactly one live copy: a row of the hot tier, or one row of one segment that has no deletion mark. So
//! nothing is merged; a table is its hot rows and what its segments have beside their marks:
//!
//! ```text
//!                  UnionExec
//!            ┌─────────┴──────────┐
//!        RowsScan          DataSourceExec
//!        hot rows     segments, without marked rows
//! ```
//!
//! | module | what is there |
//! | --- | --- |
//! | [`tables`] | which tables have segments at all, so that others pay nothing |
//! | [`manifest`] | segments and marks as of a snapshot; `marks` keeps in memory what was read of them |
//! | [`scan`] | segments as DataFusion plans; `files`, `columns`, `statistics`, `groups` and `tail` are its parts |
//! | [`lookup`] | rows of segments by key |

mod columns;
mod files;
mod groups;
mod lookup;
mod manifest;
mod marks;
mod scan;
mod statistics;
mod tables;
mod tail;

use std::sync::Arc;

use kalamdb_store::{
    ids::SchemaVersion,
    segment::{SegmentError, Segments},
};

pub(crate) use columns::column_values;
pub(crate) use lookup::{ColdColumn, ColdRows, FoundColumns, find_columns, find_keys, find_rows};
pub(crate) use manifest::{live_segments, live_segments_of_table, marks_of};
pub(crate) use marks::MarkCache;
pub(crate) use scan::segment_scans;
pub(crate) use tables::ColdTables;
pub(crate) use tail::last_rows_first;

use crate::{
    catalog::Table,
    engine::Shared,
    error::{Error, Result},
    exec::scan::corrupt,
};

/// The cold tier of an engine.
#[derive(Debug)]
pub(crate) struct ColdTier {
    /// The files of segments.
    pub(crate) segments: Arc<Segments>,
    /// The tables that have any.
    pub(crate) tables: ColdTables,
    /// Deletion marks that were read.
    pub(crate) marks: MarkCache,
}

/// Whether a table may have segments. A snapshot must be taken before this is asked, if its segments are what matters.
pub(crate) fn has_segments(shared: &Shared, table: &Table) -> bool {
    shared.cold.tables.contains(table.id())
}

/// Says that a segment is of a schema version that the statement's state of the catalog does not have. The statement
/// then begins again with a newer state.
fn check_version(table: &Table, version: SchemaVersion) -> Result<()> {
    if version > table.schema_version() {
        return Err(corrupt(kalamdb_store::codec::CodecError::UnknownSchemaVersion(version)));
    }
    Ok(())
}

/// Says an error of reading a segment.
fn from_segment(error: &SegmentError) -> Error {
    crate::exec::errors::from_segment(error)
}
