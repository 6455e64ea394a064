//! Hot rows of a partition to a segment file.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use kalamdb_store::{ids::Owner, kv::KeyRange, segment::SegmentFile};
use tokio::task::JoinHandle;

use super::read::HotRows;
use crate::{
    error::Result,
    jobs::{fault::Fault, live::LiveJob, segment::SegmentPlan, view::View},
};

/// What became of a range of hot rows.
pub(super) struct Built {
    pub(super) file: SegmentFile,
    /// Bytes of the keys and values of its rows.
    pub(super) hot_bytes: u64,
    /// The rows that the segment had no room for.
    pub(super) rest: Option<KeyRange>,
}

/// Writes hot rows of a range to one file; `None`: there are none.
///
/// While a batch is written, the next one is read on another thread.
pub(super) async fn build(
    job: &Arc<LiveJob>,
    view: &View,
    plan: &SegmentPlan,
    owner: &Owner,
    range: KeyRange,
    held_bytes: usize,
) -> Result<Option<Built>, Fault> {
    let schema = Arc::clone(&plan.fields.schema);
    let unreadable = |error| Fault::engine("read hot rows", &error);
    let rows = HotRows::new(Arc::clone(&view.snapshot), &view.table, schema, range, plan.batch_rows());
    // Boxed because it goes to another thread and back with each batch.
    let mut rows = Box::new(rows.map_err(unreadable)?);
    let Some(first) = job.busy(|| rows.next()).map_err(unreadable)? else { return Ok(None) };
    let mut writer = plan.writer(owner)?;
    let mut batch = Some(first);
    while let Some(current) = batch.take() {
        let written = writer.rows() + current.num_rows() as u64;
        let ahead = if rows.has_more() && plan.has_room(written, writer.buffered_bytes()) {
            Ahead::Reading(read_next(Arc::clone(job), rows))
        } else {
            Ahead::Nothing(rows)
        };
        job.busy(|| writer.write(&current)).map_err(|error| Fault::storage("write rows to a segment", &error))?;
        job.holds(held_bytes + writer.memory_bytes() + current.get_array_memory_size());
        (rows, batch) = match ahead {
            Ahead::Nothing(rows) => (rows, None),
            Ahead::Reading(reading) => {
                let (rows, next) = reading.await.map_err(|error| Fault::lost("read hot rows", &error))?;
                (rows, next.map_err(unreadable)?)
            }
        };
    }
    let file = job.busy(|| writer.finish()).map_err(|error| Fault::storage("finish a segment", &error))?;
    Ok(Some(Built { file, hot_bytes: rows.read_bytes(), rest: rows.into_rest() }))
}

enum Ahead {
    Nothing(Box<HotRows>),
    Reading(JoinHandle<(Box<HotRows>, Result<Option<RecordBatch>>)>),
}

fn read_next(job: Arc<LiveJob>, mut rows: Box<HotRows>) -> JoinHandle<(Box<HotRows>, Result<Option<RecordBatch>>)> {
    tokio::spawn(async move {
        let next = job.busy(|| rows.next());
        (rows, next)
    })
}
