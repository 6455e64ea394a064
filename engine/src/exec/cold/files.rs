//! Segment files for DataFusion's Parquet source.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::{
    common::{Result as DataFusionResult, internal_datafusion_err},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            ParquetFileReaderFactory,
            parquet::{ParquetAccessPlan, RowGroupAccess},
        },
    },
    object_store::{ObjectStore, ObjectStoreExt, path::Path},
    parquet::{
        arrow::{
            arrow_reader::{ArrowReaderOptions, RowSelection},
            async_reader::AsyncFileReader,
        },
        errors::{ParquetError, Result as ParquetResult},
        file::metadata::ParquetMetaData,
    },
    physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder},
};
use futures::{FutureExt, future::BoxFuture};
use kalamdb_store::{codec::SegmentEntry, segment::Segments};

use crate::exec::cold::tail::ScannedSegment;

/// Opens segments with the metadata that reads by key use too, so that a footer is read and parsed once for both.
#[derive(Debug)]
pub(super) struct SegmentFiles {
    pub(super) segments: Arc<Segments>,
    pub(super) store: Arc<dyn ObjectStore>,
}

impl ParquetFileReaderFactory for SegmentFiles {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DataFusionResult<Box<dyn AsyncFileReader + Send>> {
        let segment = file.extension::<Arc<ScannedSegment>>().map(Arc::clone);
        let segment = segment.ok_or_else(|| internal_datafusion_err!("a file that is no segment"))?;
        Ok(Box::new(SegmentBytes {
            segments: Arc::clone(&self.segments),
            store: Arc::clone(&self.store),
            path: file.object_meta.location,
            segment,
            bytes_scanned: MetricBuilder::new(metrics).counter("bytes_scanned", partition),
        }))
    }
}

/// One segment file.
struct SegmentBytes {
    segments: Arc<Segments>,
    store: Arc<dyn ObjectStore>,
    path: Path,
    segment: Arc<ScannedSegment>,
    bytes_scanned: Count,
}

impl AsyncFileReader for SegmentBytes {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.bytes_scanned.add((range.end - range.start) as usize);
        async move { self.store.get_range(&self.path, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.bytes_scanned.add(ranges.iter().map(|range| (range.end - range.start) as usize).sum());
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let reader = self.segments.open(&self.segment.entry).await.map_err(external)?;
            Ok(Arc::clone(reader.metadata()))
        }
        .boxed()
    }
}

/// The error itself is kept: what is wrong with which file is found in it later.
fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// Which rows of a file are read: all but the marked ones, which are given in ascending order.
pub(super) fn access_plan(entry: &SegmentEntry, marks: &[u32]) -> ParquetAccessPlan {
    let group_rows = entry.row_group_rows.max(1);
    let mut plan = ParquetAccessPlan::new_all(entry.row_groups());
    for marks in marks.chunk_by(|a, b| a / group_rows == b / group_rows) {
        let Some(group) = marks.first().map(|row| row / group_rows) else { continue };
        let before = u64::from(group) * u64::from(group_rows);
        let rows = entry.rows.saturating_sub(before).min(u64::from(group_rows)) as usize;
        if rows == 0 {
            continue;
        }
        let mut live: Vec<Range<usize>> = Vec::with_capacity(marks.len() + 1);
        let mut next = 0;
        for mark in marks {
            let row = (mark % group_rows) as usize;
            if row > next {
                live.push(next..row);
            }
            next = row + 1;
        }
        if next < rows {
            live.push(next..rows);
        }
        let access = if live.is_empty() {
            RowGroupAccess::Skip
        } else {
            RowGroupAccess::Selection(RowSelection::from_consecutive_ranges(live.into_iter(), rows))
        };
        plan.set(group as usize, access);
    }
    plan
}

#[cfg(test)]
mod tests {
    use datafusion::parquet::arrow::arrow_reader::RowSelector;
    use kalamdb_store::{
        codec::PrimaryKey,
        ids::{CommitSeq, SchemaVersion, SegmentId, StorageId},
    };

    use super::*;

    fn plan(rows: u64, marks: &[u32]) -> Vec<RowGroupAccess> {
        let entry = SegmentEntry {
            id: SegmentId::new(1),
            storage: StorageId::new(0),
            path: "0000000000000001.parquet".to_owned(),
            file_bytes: 100,
            rows,
            row_group_rows: 4,
            schema_version: SchemaVersion::new(1),
            min_key: PrimaryKey::from_i64(0),
            max_key: PrimaryKey::from_i64(9),
            min_seq: CommitSeq::new(1),
            max_seq: CommitSeq::new(1),
            created_at_us: 0,
        };
        access_plan(&entry, marks).into_inner()
    }

    fn selection(selectors: Vec<RowSelector>) -> RowGroupAccess {
        RowGroupAccess::Selection(selectors.into())
    }

    #[test]
    fn marked_rows_are_left_out() {
        use RowGroupAccess::{Scan, Skip};
        assert_eq!(plan(10, &[]), [Scan, Scan, Scan]);
        let (skip, select) = (RowSelector::skip, RowSelector::select);
        let first = selection(vec![skip(1), select(2), skip(1)]);
        assert_eq!(plan(10, &[0, 3]), [first.clone(), Scan, Scan]);
        assert_eq!(plan(10, &[0, 3, 4, 5, 6, 7, 9]), [first, Skip, selection(vec![select(1), skip(1)])]);
        assert_eq!(plan(10, &[8, 9]), [Scan, Scan, Skip]);
        assert_eq!(plan(8, &[5]), [Scan, selection(vec![select(1), skip(1), select(2)])]);
    }
}
