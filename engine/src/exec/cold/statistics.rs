//! What is known of segments without reading them.

use datafusion::{
    arrow::datatypes::{DataType, Schema},
    common::{ColumnStatistics, ScalarValue, Statistics, stats::Precision},
};
use kalamdb_store::codec::PrimaryKey;

use crate::{
    catalog::Table,
    error::Result,
    exec::{cold::manifest::LiveSegment, corrupt},
};

/// A key as a value.
pub(super) fn key_value(table: &Table, key: &PrimaryKey) -> Result<ScalarValue> {
    match table.key_column().data_type {
        DataType::Int64 => Ok(ScalarValue::Int64(Some(key.to_i64().map_err(corrupt)?))),
        _ => Ok(ScalarValue::Utf8View(Some(key.to_str().map_err(corrupt)?.to_owned()))),
    }
}

/// The statistics of some segments together, for a schema that begins with the table's columns.
pub(super) fn of_segments<'a>(
    table: &Table,
    schema: &Schema,
    segments: impl IntoIterator<Item = &'a LiveSegment>,
) -> Result<Statistics> {
    let mut rows = 0;
    let mut bytes = 0;
    let mut marked = false;
    let mut range: Option<(&PrimaryKey, &PrimaryKey)> = None;
    for segment in segments {
        rows += segment.live_rows();
        bytes += segment.entry.file_bytes;
        marked |= !segment.marks.is_empty();
        let (min, max) = (&segment.entry.min_key, &segment.entry.max_key);
        range = Some(range.map_or((min, max), |(least, greatest)| (least.min(min), greatest.max(max))));
    }
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX));
    statistics.total_byte_size = Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX));
    if let (Some((min, max)), Some(column)) = (range, statistics.column_statistics.get_mut(table.key_index())) {
        // The first or last row may be a marked one.
        let bound = |value| if marked { Precision::Inexact(value) } else { Precision::Exact(value) };
        *column = ColumnStatistics {
            null_count: Precision::Exact(0),
            min_value: bound(key_value(table, min)?),
            max_value: bound(key_value(table, max)?),
            ..ColumnStatistics::new_unknown()
        };
    }
    Ok(statistics)
}
