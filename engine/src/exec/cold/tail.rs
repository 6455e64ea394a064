//! The end of a table: `ORDER BY key DESC LIMIT n`.
//!
//! Rows of a segment are in key order, and are decoded in that order. Of a scan for the last rows DataFusion reads the row
//! groups from the last to the first, and then of each all rows, since the best ones come last. So the last row group is
//! given to it in pieces, as if each were a file of its own: first the last pages, then twice as many before them, and so
//! on. Once the sort has its `n` rows, its dynamic filter rules out the pages of all other pieces.

use std::{ops::Range, sync::Arc};

use datafusion::{
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, ParquetSource,
            parquet::{ParquetAccessPlan, RowGroupAccess},
        },
        source::DataSourceExec,
    },
    parquet::arrow::arrow_reader::RowSelection,
    physical_expr::expressions::Column,
    physical_plan::{ExecutionPlan, sorts::sort::SortExec},
};
use kalamdb_store::codec::SegmentEntry;

/// The rows of the first piece: one page of each column, mostly.
const FIRST_PIECE_ROWS: usize = 8_192;
/// Of more rows than this a sort wants more than the first pieces have.
const MAX_WANTED_ROWS: usize = FIRST_PIECE_ROWS;
/// The files of each group that are cut; they are the ones with the greatest keys.
const CUT_FILES: usize = 2;

/// What a scan says of each of its files.
#[derive(Debug)]
pub(super) struct ScannedSegment {
    pub(super) entry: SegmentEntry,
    /// The name of the key.
    pub(super) key: String,
}

/// A sort for the last rows of segments by key, over a scan that begins with the last pages; `None`: it is another sort.
pub(crate) fn last_rows_first(sort: &SortExec) -> Option<SortExec> {
    let fetch = sort.fetch().filter(|fetch| *fetch <= MAX_WANTED_ROWS)?;
    let order = sort.expr().first();
    let column = order.expr.downcast_ref::<Column>().filter(|_| order.options.descending)?;
    let scan = sort.input().downcast_ref::<DataSourceExec>()?;
    let (config, _) = scan.downcast_to_file_source::<ParquetSource>()?;
    let by_key = |file: &PartitionedFile| {
        file.extension::<Arc<ScannedSegment>>().is_some_and(|segment| segment.key == column.name())
    };
    if !config.file_groups.iter().all(|group| group.iter().all(by_key)) {
        return None;
    }
    let groups = config.file_groups.iter().map(|group| {
        let files = group.iter().enumerate().flat_map(|(at, file)| match at {
            ..CUT_FILES => pieces(file),
            _ => vec![file.clone()],
        });
        FileGroup::new(files.collect())
    });
    let config = FileScanConfigBuilder::from(config.clone()).with_file_groups(groups.collect()).build();
    let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
    let cut = SortExec::new(sort.expr().clone(), scan)
        .with_fetch(Some(fetch))
        .with_preserve_partitioning(sort.preserve_partitioning());
    Some(cut)
}

/// A file in pieces, the last rows first.
fn pieces(file: &PartitionedFile) -> Vec<PartitionedFile> {
    let Some(segment) = file.extension::<Arc<ScannedSegment>>() else { return vec![file.clone()] };
    let entry = &segment.entry;
    let whole = match file.extension::<ParquetAccessPlan>() {
        Some(plan) => plan.clone(),
        None => ParquetAccessPlan::new_all(entry.row_groups()),
    };
    let statistics = file.statistics.as_ref().map(|statistics| Arc::new(statistics.as_ref().clone().to_inexact()));
    cut(entry, &whole)
        .into_iter()
        .map(|plan| {
            let mut piece = file.clone().with_extension(plan);
            piece.statistics.clone_from(&statistics);
            piece
        })
        .collect()
}

/// The rows of a file in pieces of the last row group, each before the one before it, and then all other row groups.
fn cut(entry: &SegmentEntry, whole: &ParquetAccessPlan) -> Vec<ParquetAccessPlan> {
    let Some(last) = entry.row_groups().checked_sub(1) else { return Vec::new() };
    let rows = (entry.rows - last as u64 * u64::from(entry.row_group_rows)) as usize;
    let mut plans = Vec::new();
    let (mut end, mut wanted) = (rows, FIRST_PIECE_ROWS);
    while end > 0 {
        // Pages begin at multiples of their size.
        let start = end.saturating_sub(wanted).next_multiple_of(FIRST_PIECE_ROWS);
        let start = if start < end { start } else { end.saturating_sub(wanted) };
        if let Some(access) = part(whole.inner().get(last), start..end, rows) {
            let mut plan = ParquetAccessPlan::new_none(entry.row_groups());
            plan.set(last, access);
            plans.push(plan);
        }
        end = start;
        wanted *= 2;
    }
    if last > 0 {
        let mut rest = whole.clone();
        rest.skip(last);
        plans.push(rest);
    }
    plans
}

/// Those rows of a row group that are wanted and in a range; `None`: none.
fn part(whole: Option<&RowGroupAccess>, range: Range<usize>, rows: usize) -> Option<RowGroupAccess> {
    let selection = RowSelection::from_consecutive_ranges(std::iter::once(range), rows);
    let selection = match whole {
        None | Some(RowGroupAccess::Skip) => return None,
        Some(RowGroupAccess::Selection(live)) => live.intersection(&selection),
        Some(_) => selection,
    };
    selection.selects_any().then_some(RowGroupAccess::Selection(selection))
}

#[cfg(test)]
mod tests {
    use kalamdb_store::{
        codec::PrimaryKey,
        ids::{CommitSeq, SchemaVersion, SegmentId, StorageId},
    };

    use super::*;
    use crate::exec::cold::files::access_plan;

    /// The rows of each piece, by their positions in the file.
    fn pieces_of(rows: u64, row_group_rows: u32, marks: &[u32]) -> Vec<Vec<u64>> {
        let entry = SegmentEntry {
            id: SegmentId::new(1),
            storage: StorageId::new(0),
            path: "0000000000000001.parquet".to_owned(),
            file_bytes: 100,
            rows,
            row_group_rows,
            schema_version: SchemaVersion::new(1),
            min_key: PrimaryKey::from_i64(0),
            max_key: PrimaryKey::from_i64(9),
            min_seq: CommitSeq::new(1),
            max_seq: CommitSeq::new(1),
            created_at_us: 0,
        };
        let plans = cut(&entry, &access_plan(&entry, marks));
        plans.into_iter().map(|plan| rows_of(&entry, plan)).collect()
    }

    fn rows_of(entry: &SegmentEntry, plan: ParquetAccessPlan) -> Vec<u64> {
        let mut rows = Vec::new();
        for (group, access) in plan.into_inner().into_iter().enumerate() {
            let first = group as u64 * u64::from(entry.row_group_rows);
            let end = entry.rows.min(first + u64::from(entry.row_group_rows));
            match access {
                RowGroupAccess::Scan => rows.extend(first..end),
                RowGroupAccess::Selection(selection) => {
                    let mut at = first;
                    for selector in selection.iter() {
                        let next = at + selector.row_count as u64;
                        rows.extend((at..next).filter(|_| !selector.skip));
                        at = next;
                    }
                    assert_eq!(at, end, "a selection says of each row of its row group whether it is wanted");
                }
                _ => {}
            }
        }
        rows
    }

    #[test]
    fn pieces_are_the_rows_of_the_file_the_last_ones_first() {
        for (rows, group, marks) in [
            (1, 131_072, vec![]),
            (8_192, 131_072, vec![8_191]),
            (100_000, 131_072, vec![]),
            (131_072, 131_072, (90_000..131_072).collect()),
            (131_073, 131_072, vec![131_072, 4, 5].into_iter().rev().collect::<Vec<u32>>()),
            (300_000, 131_072, (0..300_000).step_by(3).collect()),
        ] {
            let mut marks = marks;
            marks.sort_unstable();
            let pieces = pieces_of(rows, group, &marks);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            let last_group = (rows - 1) / u64::from(group) * u64::from(group);
            for pair in pieces.windows(2) {
                assert!(pair[1].last() < pair[0].first(), "{rows} rows");
            }
            if let Some(first) = pieces.first().filter(|first| first[0] >= last_group) {
                assert!(first.len() <= 2 * FIRST_PIECE_ROWS, "{rows} rows");
            }
            let mut found: Vec<u64> = pieces.into_iter().flatten().collect();
            found.sort_unstable();
            let live: Vec<u64> = (0..rows).filter(|row| marks.binary_search(&(*row as u32)).is_err()).collect();
            assert_eq!(found, live, "{rows} rows");
        }
    }
}
