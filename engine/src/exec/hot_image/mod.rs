//! Images of busy partitions: their hot rows as Arrow columns in memory, so that a scan need not decode them again.
//!
//! ```text
//!   commit S                                          commit S', a reader's snapshot
//!      │  image: columns of all hot rows, by key         │
//!      ├─────────────── change log of the partition ─────┤
//!      │                keys that changed since S        │
//!      ▼                                                 ▼
//!   chunk │ chunk │ chunk   with these keys' rows, as the snapshot has them, in place of the image's
//! ```
//!
//! Nothing tells an image of a write. Each scan asks its own snapshot what has changed since the image was made: the
//! change log has the keys of every change of rows, and the partition's list of segments has another member when rows
//! moved to the cold tier, which is not logged. So what a scan answers is exact by construction; an image that is too
//! far behind is thrown away, and the rows are read as if there were none.
//!
//! | module | what is there |
//! | --- | --- |
//! | [`cache`] | the images, as many as fit |
//! | [`collect`] | making one from what a scan decodes anyway |
//! | [`image`] | one of them, and what it is with changes |
//! | [`changes`] | what has changed between an image and a snapshot |
//! | [`scan`] | the operator of DataFusion |

mod cache;
mod changes;
mod collect;
mod image;
mod scan;

use std::sync::Arc;

use datafusion::{arrow::datatypes::DataType, common::Result as DataFusionResult, physical_plan::ExecutionPlan};
use kalamdb_store::{
    codec::{BatchDecoder, DecodeColumn, SegmentsKey, segment_range, split_segments_key},
    ids::{Partition, SegmentId},
    kv::{Direction, Keyspace, Snapshot},
};

pub(crate) use cache::HotImages;
pub(crate) use collect::FullScan;

use crate::{
    catalog::{OWNER_COLUMN, Table},
    error::{Error, Result},
    exec::{
        StatementContext, corrupt, from_store,
        key_filter::KeySet,
        scan::{RowsScan, ScanSpec},
        source::decode_column,
    },
    sql::TableKind,
};

/// The scan of a table's hot rows: over an image where there is one that helps, else of the store.
pub(crate) fn hot_rows(
    context: Arc<StatementContext>,
    spec: ScanSpec,
    limit: Option<usize>,
    partitions: usize,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let rows = RowsScan::try_new(context, spec, limit)?;
    // A scan that stops early reads less of the store than bringing an image up to date may cost.
    if limit.is_none()
        && let Some(scan) = scan::HotImageScan::over(&rows, partitions)
    {
        return Ok(Arc::new(scan));
    }
    Ok(Arc::new(rows))
}

/// A column of an image: its index in [`Table::schema_with_system`].
type ImageColumn = usize;

/// The partition that a scan reads all of, and the columns of it that it needs; `None` for scans that images are not for.
fn wanted(spec: &ScanSpec, decoded: &[usize]) -> Option<(Partition, Vec<ImageColumn>)> {
    use std::ops::Bound::Unbounded;
    let owner = spec.owner.clone()?;
    let all = matches!(spec.keys, KeySet::Range(Unbounded, Unbounded));
    if !all || spec.expired_at_us.is_some() || spec.table.kind() == TableKind::Stream {
        return None;
    }
    let columns = decoded.iter().map(|index| image_column(spec, *index)).collect::<Option<_>>()?;
    Some((Partition { table: spec.table.id(), owner }, columns))
}

fn image_column(spec: &ScanSpec, index: usize) -> Option<ImageColumn> {
    let field = spec.full_schema.field(index);
    let table = &spec.table;
    if index < table.columns().len() {
        return is_flat(field.data_type()).then_some(index);
    }
    if field.name() == OWNER_COLUMN {
        return None;
    }
    let all = table.schema_with_system().fields().iter().enumerate();
    all.skip(table.columns().len()).find(|(_, other)| other.name() == field.name()).map(|(index, _)| index)
}

/// Lists and structs are left out: their rows are not put together as cheaply.
fn is_flat(data_type: &DataType) -> bool {
    !data_type.is_nested()
}

/// How a column of an image is read from a stored row.
fn decode(table: &Table, column: ImageColumn) -> Result<DecodeColumn> {
    decode_column(table, column, table.schema_with_system().field(column).name())
}

/// A decoder of the columns of an image.
fn decoder(table: &Table, columns: &[ImageColumn]) -> Result<BatchDecoder> {
    let columns = columns.iter().map(|column| decode(table, *column)).collect::<Result<Vec<_>>>()?;
    BatchDecoder::new(Arc::clone(table.history()), columns).map_err(Error::internal)
}

/// The segments that a partition has in a statement's snapshot.
fn segment_ids(context: &StatementContext, partition: &Partition) -> Result<Vec<SegmentId>> {
    // Segments are noted before they become visible: none is missed by asking after the snapshot was taken.
    let snapshot: &dyn Snapshot = context.snapshot().as_ref();
    if !context.cold().tables.contains(partition.table) {
        return Ok(Vec::new());
    }
    let range = segment_range(partition);
    let mut cursor = snapshot.cursor(Keyspace::Segments, range, Direction::Forward).map_err(from_store)?;
    let mut ids = Vec::new();
    while cursor.valid() {
        if let (_, SegmentsKey::Entry(id)) = split_segments_key(cursor.key()).map_err(corrupt)? {
            ids.push(id);
        }
        cursor.advance().map_err(from_store)?;
    }
    Ok(ids)
}
