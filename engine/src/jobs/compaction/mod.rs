//! Compaction: segments of a partition merged into fewer, without the rows that are gone.
//!
//! The protocol is that of a flush: files are noted, written, and come with one commit, which also takes the merged
//! segments out. Marks that they got meanwhile move to the new segments, which the committer sees to. Readers of the old
//! files finish undisturbed: the sweep deletes those only when no snapshot needs them.

mod merge;
mod pick;
mod source;
mod walk;

use std::{collections::HashSet, sync::Arc};

use kalamdb_store::{
    codec::SegmentEntry,
    commit::{NewSegment, PreparedCommit, SegmentChange},
    ids::{Partition, TableId},
    kv::WriteBatch,
    segment::SegmentFile,
};

use self::{
    merge::Merge,
    pick::{Rules, pick},
    source::Source,
    walk::ManifestWalk,
};
use crate::{
    engine::Shared,
    error::Result,
    exec::cold::marks_of,
    jobs::{
        core::Core,
        fault::{Fault, FaultKind},
        hooks::JobStep,
        live::{LiveJob, Outcome},
        pending::Pending,
        record::{FailedPartition, JobEvent, JobRecord},
        segment::SegmentPlan,
        view::View,
    },
    settings::{CompactionSettings, FlushSettings},
    sql::TableKind,
};

/// Bounds of one merge.
const MAX_MERGED_ROWS: u64 = 4 * 1024 * 1024;
const MAX_MERGED_BYTES: u64 = 256 * 1024 * 1024;
const MAX_MERGED_SEGMENTS: usize = 64;

/// The most merges of one partition in one job.
const MAX_MERGES: usize = 256;

/// So many partitions failing one after the other mean that the storage is not there.
const MAX_FAILURES_IN_A_ROW: u32 = 8;

/// What is worth merging; with `force`, whatever can be merged.
fn rules(settings: &CompactionSettings, flush: &FlushSettings, force: bool) -> Rules {
    Rules {
        min_segments: if force { 2 } else { settings.min_segments },
        // Small ones must become fewer when they are merged.
        small_bytes: settings.small_segment_bytes.min(flush.segment_bytes as u64 / 4),
        small_rows: u64::from(flush.segment_rows / 4).max(1),
        max_deleted_percent: if force { 0 } else { settings.max_deleted_percent },
        max_rows: MAX_MERGED_ROWS,
        max_bytes: MAX_MERGED_BYTES,
        max_segments: MAX_MERGED_SEGMENTS,
    }
}

/// Whether a table has anything that is worth merging.
pub(super) async fn is_worth_it(shared: &Arc<Shared>, core: &Core, table: TableId) -> Result<bool> {
    let rules = rules(&shared.settings.compaction, &shared.settings.flush, false);
    let mut walk = ManifestWalk::table(table, rules);
    while !walk.is_done() && !core.stopping.is_cancelled() {
        let partition = walk.step(shared.backend.snapshot().as_ref())?;
        if partition.is_some_and(|(_, segments)| !pick(&segments, &rules).is_empty()) {
            return Ok(true);
        }
        tokio::task::yield_now().await;
    }
    Ok(false)
}

/// Compacts a table.
pub(super) async fn run(
    shared: &Arc<Shared>,
    core: &Arc<Core>,
    job: &Arc<LiveJob>,
    table: TableId,
    force: bool,
) -> Outcome {
    let rules = rules(&shared.settings.compaction, &shared.settings.flush, force);
    let mut compaction =
        Compaction { shared, core, job, rules, plan: None, removed: 0, failures_in_a_row: 0, last_fault: None };
    match compaction.run(table).await {
        Ok(()) => compaction.outcome(),
        Err(fault) if fault.kind == FaultKind::Dropped => Outcome::cancelled("The table was dropped."),
        Err(fault) => Outcome::failed(&fault),
    }
}

struct Compaction<'a> {
    shared: &'a Arc<Shared>,
    core: &'a Arc<Core>,
    job: &'a Arc<LiveJob>,
    rules: Rules,
    plan: Option<Arc<SegmentPlan>>,
    /// Segments merged.
    removed: u64,
    failures_in_a_row: u32,
    last_fault: Option<Fault>,
}

impl Compaction<'_> {
    async fn run(&mut self, table: TableId) -> Result<(), Fault> {
        if self.view(table)?.table.kind() == TableKind::Stream {
            return Ok(());
        }
        let mut walk = ManifestWalk::table(table, self.rules);
        let mut failed: Vec<FailedPartition> = Vec::new();
        let mut failures = 0;
        while !walk.is_done() && self.failures_in_a_row < MAX_FAILURES_IN_A_ROW {
            let snapshot = self.shared.backend.snapshot();
            let step = self.job.busy(|| walk.step(snapshot.as_ref()));
            drop(snapshot);
            tokio::task::yield_now().await;
            let found = step.map_err(|error| Fault::engine("look for segments to merge", &error))?;
            let Some((partition, segments)) = found else { continue };
            if pick(&segments, &self.rules).is_empty() {
                continue;
            }
            match self.compact(&partition).await {
                Ok(()) => self.failures_in_a_row = 0,
                Err(fault) if matches!(fault.kind, FaultKind::Transient | FaultKind::Lasting) => {
                    self.failures_in_a_row += 1;
                    failures += 1;
                    let failure = FailedPartition { user_id: user_of(&partition), message: fault.message.clone() };
                    self.job.tell(JobEvent::PartitionFailed(failure.clone()));
                    if failed.len() < JobRecord::MAX_FAILED_PARTITIONS {
                        failed.push(failure);
                    }
                    self.job.note_fault(fault.trace());
                    self.last_fault = Some(fault);
                }
                Err(fault) => return Err(fault),
            }
            self.job.set_failed(failed.clone(), failures);
        }
        Ok(())
    }

    fn outcome(&self) -> Outcome {
        let record = self.job.record();
        let progress = record.progress;
        let done = format!(
            "Merged {} segment(s) of {} partition(s) into {} of {} row(s) and {} bytes.",
            self.removed, progress.partitions, progress.segments, progress.rows, progress.bytes
        );
        match record.failed_partitions.first() {
            None => Outcome::completed(done),
            Some(first) => {
                let result = format!(
                    "{} partition(s) could not be compacted and stay as they are. {} {done}",
                    progress.partitions_failed, first.message
                );
                Outcome::failed_in_part(result, self.last_fault.as_ref())
            }
        }
    }

    fn view(&self, table: TableId) -> Result<View, Fault> {
        match View::now(self.shared, table) {
            Ok(Some(view)) => Ok(view),
            Ok(None) => Err(Fault::dropped("take a snapshot")),
            Err(error) => Err(Fault::engine("take a snapshot", &error)),
        }
    }

    /// Merges segments of a partition until nothing is worth it.
    async fn compact(&mut self, partition: &Partition) -> Result<(), Fault> {
        for _ in 0..MAX_MERGES {
            let view = self.view(partition.table)?;
            let mut walk = ManifestWalk::partition(partition, self.rules);
            let mut segments = Vec::new();
            while !walk.is_done() {
                let step = self.job.busy(|| walk.step(view.snapshot.as_ref()));
                if let Some((_, found)) = step.map_err(|error| Fault::engine("read the manifest", &error))? {
                    segments = found;
                }
                tokio::task::yield_now().await;
            }
            let picked: HashSet<_> = pick(&segments, &self.rules).into_iter().collect();
            if picked.is_empty() {
                break;
            }
            let picked = segments.into_iter().map(|segment| segment.entry).filter(|entry| picked.contains(&entry.id));
            self.merge(view, partition, picked.collect()).await?;
        }
        self.job.advance(|progress| progress.partitions += 1);
        Ok(())
    }

    /// Merges these segments, in one commit.
    async fn merge(&mut self, view: View, partition: &Partition, segments: Vec<SegmentEntry>) -> Result<(), Fault> {
        let plan = SegmentPlan::of(&mut self.plan, &view.table, &self.shared.settings.flush)?;
        let mut sources = Vec::with_capacity(segments.len());
        for entry in &segments {
            let reader = self.shared.cold.segments.open(entry).await;
            let reader = reader.map_err(|error| Fault::storage("open a segment", &error))?;
            let marks = marks_of(view.snapshot.as_ref(), partition, entry.id)
                .map_err(|error| Fault::engine("read the manifest", &error))?;
            sources.push(Source::new(reader, Arc::clone(&plan), marks, segments.len()));
        }
        let mut written: Vec<(Pending, NewSegment)> = Vec::new();
        let outcome =
            match self.write(&view, partition, &plan, Merge::new(sources, plan.batch_rows()), &mut written).await {
                Ok(()) => self.commit(&view, partition, segments, &mut written).await,
                Err(fault) => Err(fault),
            };
        match &outcome {
            Ok(()) => written.into_iter().for_each(|(pending, _)| pending.settled()),
            // Whether the commit was made is unknown: the files are left alone.
            Err(fault) if fault.kind == FaultKind::Closed => {}
            Err(_) => written.into_iter().for_each(|(pending, _)| pending.abandon()),
        }
        self.core.sweep_soon();
        outcome
    }

    /// Writes all rows of the merge to new files.
    async fn write(
        &self,
        view: &View,
        partition: &Partition,
        plan: &SegmentPlan,
        mut merge: Merge,
        written: &mut Vec<(Pending, NewSegment)>,
    ) -> Result<(), Fault> {
        let mut next = merge.next(self.job).await?;
        while let Some(first) = next.take() {
            let mut writer = plan.writer(&partition.owner)?;
            let mut batch = Some(first);
            while let Some(current) = batch.take() {
                let full = |error| Fault::storage("write rows to a segment", &error);
                self.job.busy(|| writer.write(&current)).map_err(full)?;
                let keys: usize = written.iter().map(|(_, new)| new.keys.byte_size()).sum();
                self.job.holds(writer.memory_bytes() + merge.memory_bytes() + keys);
                tokio::task::yield_now().await;
                next = merge.next(self.job).await?;
                if plan.has_room(writer.rows(), writer.buffered_bytes()) {
                    batch = next.take();
                }
            }
            let finished = self.job.busy(|| writer.finish());
            let file = finished.map_err(|error| Fault::storage("finish a segment", &error))?;
            self.store(view, partition, file, written).await?;
        }
        Ok(())
    }

    async fn store(
        &self,
        view: &View,
        partition: &Partition,
        file: SegmentFile,
        written: &mut Vec<(Pending, NewSegment)>,
    ) -> Result<(), Fault> {
        self.core.reached(JobStep::BeforePending)?;
        let folder = self.shared.storages.partition_path(view.table.record(), &partition.owner);
        let reserved = self.core.pending.reserve(self.shared, view.table.storage(), [folder]).await;
        let mut reserved = reserved.map_err(|error| Fault::commit("note files", error))?;
        let Some(pending) = reserved.pop() else { return Ok(()) };
        self.core.reached(JobStep::BeforeUpload)?;
        let stored = self.shared.cold.segments.write(pending.storage, &pending.path, &file).await;
        let created_at_us = self.shared.env.now_us();
        let entry = file.entry(pending.id, pending.storage, pending.path.clone(), created_at_us);
        // Entered whatever came of it, so that the file is given up if the merge fails.
        written.push((pending, NewSegment { entry, checksums: file.checksums, keys: file.keys, hot_bytes: 0 }));
        stored.map_err(|error| Fault::storage("write a segment file", &error))?;
        self.core.reached(JobStep::AfterUpload)
    }

    async fn commit(
        &mut self,
        view: &View,
        partition: &Partition,
        segments: Vec<SegmentEntry>,
        written: &mut [(Pending, NewSegment)],
    ) -> Result<(), Fault> {
        self.core.reached(JobStep::BeforeCommit)?;
        let mut kv = WriteBatch::new();
        let mut add = Vec::with_capacity(written.len());
        let (mut rows, mut bytes) = (0, 0);
        for (pending, new) in written.iter_mut() {
            pending.forget_in(&mut kv);
            rows += new.entry.rows;
            bytes += new.entry.file_bytes;
            let keys = std::mem::take(&mut new.keys);
            add.push(NewSegment {
                entry: new.entry.clone(),
                checksums: std::mem::take(&mut new.checksums),
                keys,
                hot_bytes: 0,
            });
        }
        let removed = segments.len() as u64;
        let change = SegmentChange {
            partition: partition.clone(),
            based_on: view.seq,
            add,
            remove: segments,
            takes_hot_rows: false,
        };
        let commit = PreparedCommit {
            commit_time_us: self.shared.env.now_us(),
            kv,
            segments: vec![change],
            ..PreparedCommit::default()
        };
        let committed = self.shared.committer.commit(commit).await;
        committed.map_err(|error| Fault::commit("commit the segments", error))?;
        self.removed += removed;
        self.job.advance(|progress| {
            progress.rows += rows;
            progress.bytes += bytes;
            progress.segments += written.len() as u64;
        });
        self.core.metrics.compacted(rows, bytes);
        // It has been committed, whatever is to be made of that.
        let _ = self.core.reached(JobStep::AfterCommit);
        Ok(())
    }
}

fn user_of(partition: &Partition) -> Option<kalamdb_store::ids::UserId> {
    match &partition.owner {
        kalamdb_store::ids::Owner::Shared => None,
        kalamdb_store::ids::Owner::User(user) => Some(user.clone()),
    }
}
