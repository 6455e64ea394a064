//! The columns and bounds of the segments that jobs make.

use std::sync::Arc;

use kalamdb_store::{
    ids::Owner,
    segment::{SegmentFields, SegmentOrigin, SegmentWriter, WriterSettings},
};

use crate::{catalog::Table, jobs::fault::Fault, settings::FlushSettings};

/// Rows read and written in one go.
pub(super) const BATCH_ROWS: usize = 8_192;

/// How segments of a table are made, as of one schema version.
#[derive(Debug, Clone)]
pub(super) struct SegmentPlan {
    pub(super) table: Arc<Table>,
    pub(super) fields: SegmentFields,
    pub(super) writer: WriterSettings,
    pub(super) max_rows: u64,
    pub(super) max_bytes: usize,
}

impl SegmentPlan {
    pub(super) fn new(table: &Arc<Table>, settings: &FlushSettings) -> Result<Self, Fault> {
        let fields = table.schema().fields().iter().cloned();
        let columns = table.columns().iter().map(|column| column.id).zip(fields);
        let fields = SegmentFields::new(columns, table.key_index())
            .map_err(|error| Fault::storage("prepare the columns of a segment", &error))?;
        Ok(Self {
            table: Arc::clone(table),
            fields,
            writer: WriterSettings::default(),
            max_rows: u64::from(settings.segment_rows),
            max_bytes: settings.segment_bytes,
        })
    }

    /// The plan itself if it is still that of `table`, or the one that is.
    pub(super) fn of(
        current: &mut Option<Arc<Self>>,
        table: &Arc<Table>,
        settings: &FlushSettings,
    ) -> Result<Arc<Self>, Fault> {
        match current {
            Some(plan) if Arc::ptr_eq(&plan.table, table) => Ok(Arc::clone(plan)),
            _ => Ok(Arc::clone(current.insert(Arc::new(Self::new(table, settings)?)))),
        }
    }

    /// A segment without rows.
    pub(super) fn writer(&self, owner: &Owner) -> Result<SegmentWriter, Fault> {
        let origin = SegmentOrigin {
            namespace: self.table.namespace().to_string(),
            table: self.table.name().to_string(),
            owner: owner.clone(),
            schema_version: self.table.schema_version(),
        };
        SegmentWriter::new(self.fields.clone(), &origin, &self.writer)
            .map_err(|error| Fault::storage("begin a segment", &error))
    }

    /// The most rows of a batch.
    pub(super) fn batch_rows(&self) -> usize {
        usize::try_from(self.max_rows).unwrap_or(usize::MAX).clamp(1, BATCH_ROWS)
    }

    /// Whether a segment with so many rows and bytes has room for another batch.
    pub(super) fn has_room(&self, rows: u64, bytes: usize) -> bool {
        rows + self.batch_rows() as u64 <= self.max_rows && bytes < self.max_bytes
    }
}
