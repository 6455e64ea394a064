//! Hot rows of a table to files of a backup, of all its partitions together: most of them have few.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use kalamdb_store::{
    codec::table_range,
    kv::{KeyRange, Snapshot},
    segment::RowsFileWriter,
};
use tokio::task::JoinHandle;

use super::copy::lost;
use crate::{
    catalog::{OWNER_COLUMN, Table},
    engine::Shared,
    error::{Error, Result},
    exec::from_segment,
    jobs::{core::Core, flush::HotRows, live::LiveJob, segment::SegmentPlan},
    sql::TableKind,
};

/// The hot rows of a table, file by file.
pub(super) struct HotFiles {
    core: Arc<Core>,
    job: Arc<LiveJob>,
    snapshot: Arc<dyn Snapshot>,
    plan: SegmentPlan,
    schema: SchemaRef,
    with_owner: bool,
    rest: Option<KeyRange>,
}

/// A finished file.
pub(super) struct HotFile {
    pub(super) bytes: Bytes,
    pub(super) rows: u64,
}

impl HotFiles {
    pub(super) fn new(
        shared: &Shared,
        core: &Arc<Core>,
        job: &Arc<LiveJob>,
        snapshot: &Arc<dyn Snapshot>,
        table: &Arc<Table>,
    ) -> Result<Self> {
        let plan = SegmentPlan::new(table, &shared.settings.flush);
        let plan = plan.map_err(|fault| Error::new(fault.reason, fault.message))?;
        let with_owner = table.kind() != TableKind::Shared;
        let mut fields: Vec<_> = plan.fields.schema.fields().iter().cloned().collect();
        fields.extend(with_owner.then(|| Arc::new(Field::new(OWNER_COLUMN, DataType::Utf8View, true))));
        Ok(Self {
            core: Arc::clone(core),
            job: Arc::clone(job),
            snapshot: Arc::clone(snapshot),
            plan,
            schema: Arc::new(Schema::new(fields)),
            with_owner,
            rest: Some(table_range(table.id())),
        })
    }

    /// The next file; `None`: there are no more rows. While a batch is written, the next one is read on another thread.
    pub(super) async fn next(&mut self) -> Result<Option<HotFile>> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let (snapshot, schema) = (Arc::clone(&self.snapshot), Arc::clone(&self.schema));
        let batch_rows = self.plan.batch_rows();
        let rows = HotRows::with_owner(snapshot, &self.plan.table, schema, range, batch_rows, self.with_owner)?;
        let mut rows = Box::new(rows);
        let Some(first) = self.job.busy(|| rows.next())? else { return Ok(None) };
        let mut writer = self.writer()?;
        let mut batch = Some(first);
        while let Some(current) = batch.take() {
            let written = writer.row_count() + current.num_rows() as u64;
            let reading = if rows.has_more() && self.plan.has_room(written, writer.buffered_bytes()) {
                Ahead::Reading(self.read_next(rows))
            } else {
                Ahead::Nothing(rows)
            };
            self.job.busy(|| writer.write(&current)).map_err(|error| from_segment(&error))?;
            self.job.holds(writer.memory_bytes() + current.get_array_memory_size());
            (rows, batch) = match reading {
                Ahead::Nothing(rows) => (rows, None),
                Ahead::Reading(reading) => {
                    let (rows, next) = reading.await.map_err(|error| lost(&error))?;
                    (rows, next?)
                }
            };
        }
        self.rest = rows.into_rest();
        let rows = writer.row_count();
        let bytes = self.job.busy(|| writer.finish()).map_err(|error| from_segment(&error))?;
        Ok(Some(HotFile { bytes, rows }))
    }

    fn writer(&self) -> Result<RowsFileWriter> {
        let table = &self.plan.table;
        let metadata = [
            ("kalamdb.namespace", table.namespace().to_string()),
            ("kalamdb.table", table.name().to_string()),
            ("kalamdb.schema_version", table.schema_version().to_string()),
        ];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value)).into();
        let owner = self.with_owner.then_some(OWNER_COLUMN);
        RowsFileWriter::rows(self.plan.fields.clone(), owner, metadata).map_err(|error| from_segment(&error))
    }

    fn read_next(&self, mut rows: Box<HotRows>) -> JoinHandle<(Box<HotRows>, Result<Option<RecordBatch>>)> {
        let job = Arc::clone(&self.job);
        self.core.threads.spawn(async move {
            let next = job.busy(|| rows.next());
            (rows, next)
        })
    }
}

enum Ahead {
    Nothing(Box<HotRows>),
    Reading(JoinHandle<(Box<HotRows>, Result<Option<RecordBatch>>)>),
}
