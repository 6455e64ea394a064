//! Making an image from what a scan of the store decodes.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use kalamdb_store::{
    codec::DecodeColumn,
    commit::committed_seq,
    ids::{CommitSeq, Partition, SegmentId},
};

use crate::{
    catalog::Table,
    error::Result,
    exec::{
        StatementContext, from_store,
        hot_image::{
            ImageColumn,
            cache::{HotImages, Making, Room},
            decode,
            image::{Chunk, HotImage},
            segment_ids, wanted,
        },
        scan::ScanSpec,
    },
};

/// A scan of all hot rows of a partition, from the first to the last. The first one of a partition is only noted; a
/// later one makes an image, as it goes, of the rows as they are before they are filtered.
pub(crate) struct FullScan {
    images: Arc<HotImages>,
    partition: Partition,
    rows: u64,
    collector: Option<Collector>,
}

struct Collector {
    making: Making,
    room: Room,
    table: Arc<Table>,
    as_of: CommitSeq,
    segments: Vec<SegmentId>,
    /// Ascending.
    columns: Vec<ImageColumn>,
    /// Where each of them is among the arrays of the scan.
    places: Vec<usize>,
    /// Those that the scan itself does not decode.
    extra: Vec<ImageColumn>,
    chunks: Vec<Arc<Chunk>>,
}

impl FullScan {
    /// Begins, before the first row is read; `None` for a scan that images are not for.
    pub(crate) fn begin(context: &StatementContext, spec: &ScanSpec, decoded: &[usize]) -> Result<Option<Self>> {
        let images = context.hot_images();
        if !images.is_enabled() {
            return Ok(None);
        }
        let Some((partition, needed)) = wanted(spec, decoded) else { return Ok(None) };
        let version = spec.table.schema_version();
        let current = images.get(&partition).filter(|current| current.schema_version() == version);
        // One that would do, but for some reason this scan cannot use, is as good as one that it makes.
        let is_there = current.as_ref().is_some_and(|current| current.has(&needed));
        let collector = match images.begin(&partition).filter(|_| !is_there) {
            Some(making) => Some(Collector::new(context, spec, &partition, &needed, current, making)?),
            None => None,
        };
        Ok(Some(Self { images: Arc::clone(images), partition, rows: 0, collector }))
    }

    /// What is to be decoded behind the scan's own columns.
    pub(crate) fn extra(&self) -> Result<Vec<DecodeColumn>> {
        let Some(collector) = &self.collector else { return Ok(Vec::new()) };
        collector.extra.iter().map(|column| decode(&collector.table, *column)).collect()
    }

    /// Takes the next rows: the scan's columns and the extra ones.
    pub(crate) fn push(&mut self, arrays: &mut [ArrayRef], rows: usize) {
        self.rows += rows as u64;
        if let Some(collector) = self.collector.take_if(|_| rows > 0) {
            self.collector = collector.push(arrays, rows, self.images.settings().chunk_rows);
        }
    }

    /// Ends, after the last row.
    pub(crate) fn finish(self) {
        if self.rows < self.images.settings().min_rows {
            return;
        }
        self.images.count(false);
        if let Some(collector) = self.collector {
            collector.finish();
        }
        self.images.was_scanned(self.partition);
    }
}

impl Collector {
    fn new(
        context: &StatementContext,
        spec: &ScanSpec,
        partition: &Partition,
        needed: &[ImageColumn],
        current: Option<Arc<HotImage>>,
        making: Making,
    ) -> Result<Self> {
        let images = context.hot_images();
        let mut columns = needed.to_vec();
        columns.push(spec.table.key_index());
        // What others asked for stays.
        if let Some(current) = current {
            columns.extend_from_slice(current.columns());
        }
        columns.sort_unstable();
        columns.dedup();
        let mut extra = Vec::new();
        let places = columns.iter().map(|column| {
            needed.iter().position(|needed| needed == column).unwrap_or_else(|| {
                extra.push(*column);
                needed.len() + extra.len() - 1
            })
        });
        let places = places.collect();
        Ok(Self {
            making,
            room: images.room(),
            table: Arc::clone(&spec.table),
            as_of: committed_seq(context.snapshot().as_ref()).map_err(from_store)?,
            segments: segment_ids(context, partition)?,
            columns,
            places,
            extra,
            chunks: Vec::new(),
        })
    }

    /// `None` when there is no room for more.
    fn push(mut self, arrays: &mut [ArrayRef], rows: usize, chunk_rows: usize) -> Option<Self> {
        for place in &self.places {
            // They were just made, so nobody else has them, and builders leave up to half of them empty.
            if let Some(array) = arrays.get_mut(*place).and_then(Arc::get_mut) {
                array.shrink_to_fit();
            }
        }
        let columns: Vec<ArrayRef> =
            self.places.iter().map(|place| arrays.get(*place).map(Arc::clone)).collect::<Option<_>>()?;
        for at in (0..rows).step_by(chunk_rows.max(1)) {
            let len = chunk_rows.min(rows - at);
            let chunk = Chunk::new(columns.clone(), rows);
            let chunk = if len == rows { chunk } else { chunk.slice(at, len) };
            if self.room.is_too_small_for(chunk.bytes()) {
                self.making.note_too_large();
                return None;
            }
            if !self.room.grow(chunk.bytes()) {
                return None;
            }
            self.chunks.push(Arc::new(chunk));
        }
        Some(self)
    }

    fn finish(self) {
        let image = HotImage::new(&self.table, self.as_of, self.segments, self.columns, self.chunks);
        self.making.finish(image);
    }
}
