//! Flush: rows of a table from the hot tier to segments.
//!
//! ```text
//! survey ─▶ for each partition worth it: note a pending file ─▶ write a segment from a snapshot ─▶ store the file
//!                                                        ─▶ commit: segment in, its hot rows and the note out
//! ```
//!
//! Each segment has a snapshot of its own, so that none is held for long. Before the commit the segment exists for
//! nobody, after it its rows are cold; what changed in between stays hot, which the committer sees to. A partition that
//! fails keeps its rows in the hot tier, and does not keep others from being flushed.

mod build;
mod read;
mod store;
mod survey;

pub(super) use self::read::HotRows;

use std::{sync::Arc, time::Duration};

use kalamdb_store::ids::{CommitSeq, Owner, Partition, TableId};

use self::{
    build::{Built, build},
    read::hot_range,
    store::{Failures, SegmentStore},
    survey::{Survey, Worth},
};
use crate::{
    engine::Shared,
    jobs::{
        core::{Core, Slot},
        fault::{Fault, FaultKind},
        hooks::JobStep,
        live::{LiveJob, Outcome},
        pending::Pending,
        record::{FailedPartition, JobEvent, JobProgress},
        segment::SegmentPlan,
        view::View,
    },
    settings::FlushSettings,
    sql::TableKind,
};

/// Partitions whose files are noted with one commit.
const PARTITIONS_AT_ONCE: usize = 64;

const SECOND_US: i64 = 1_000_000;

/// The longest wait before failed partitions are tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Users named in the result of a job that failed for some.
const NAMED_IN_RESULT: usize = 5;

/// Flushes a table.
pub(super) async fn run(
    shared: &Arc<Shared>,
    core: &Arc<Core>,
    job: &Arc<LiveJob>,
    slot: &mut Slot,
    table: TableId,
    force: bool,
) -> Outcome {
    let state = shared.catalog.state();
    if state.all_tables().any(|other| other.id() == table && other.kind() == TableKind::Stream) {
        return Outcome::completed("Flushed 0 row(s): those of a STREAM table expire, and are never flushed.");
    }
    drop(state);
    let settings = shared.settings.flush.clone();
    let mut wait = Duration::from_millis(settings.retry_interval_ms);
    for attempt in 0.. {
        let is_last = attempt >= settings.max_retries;
        let round = Round { shared, core, job, table, force, settings: &settings, plan: None };
        let end = round.run(is_last).await;
        job.set_failed(end.failures.named.clone(), end.failures.count);
        match end.stopped {
            Some(Stopped::Dropped) => return Outcome::cancelled("The table was dropped."),
            Some(Stopped::Failed(fault)) => return Outcome::failed(&fault),
            None => {}
        }
        if end.failures.count == 0 {
            return Outcome::completed(done(&job.record().progress));
        }
        if is_last || !end.failures.any_transient {
            // Told at the end: what failed before may have succeeded since.
            end.failures.named.iter().for_each(|failed| job.tell(JobEvent::PartitionFailed(failed.clone())));
            return Outcome::failed_in_part(not_all(&job.record().progress, &end.failures), end.failures.last.as_ref());
        }
        tracing::warn!(table = %table, partitions = end.failures.count, "a flush failed in part; trying again");
        slot.rest(core, wait).await;
        wait = wait.saturating_mul(2).min(LONGEST_WAIT);
    }
    Outcome::interrupted()
}

/// One walk over the table. A further one finds what the one before could not flush.
struct Round<'a> {
    shared: &'a Arc<Shared>,
    core: &'a Arc<Core>,
    job: &'a Arc<LiveJob>,
    table: TableId,
    force: bool,
    settings: &'a FlushSettings,
    plan: Option<Arc<SegmentPlan>>,
}

struct RoundEnd {
    failures: Failures,
    stopped: Option<Stopped>,
}

/// Why a walk did not come to its end.
enum Stopped {
    Dropped,
    Failed(Fault),
}

impl Round<'_> {
    async fn run(mut self, is_last: bool) -> RoundEnd {
        let mut store = SegmentStore::new(self.shared, self.core, self.job, self.table);
        let walked = self.walk(&mut store, is_last).await;
        store.finish().await;
        let stopped = match (walked, store.failures.stop.take()) {
            (Ok(()), None) => None,
            (Ok(()), Some(fault)) => Some(Stopped::from(fault)),
            (Err(stopped), _) => Some(stopped),
        };
        RoundEnd { failures: store.failures, stopped }
    }

    async fn walk(&mut self, store: &mut SegmentStore, is_last: bool) -> Result<(), Stopped> {
        let view = self.view()?;
        let mut survey = Survey::new(self.table, self.worth(view.table.kind()));
        drop(view);
        while !survey.is_done() && store.failures.stop.is_none() {
            let owners = self.survey(&mut survey)?;
            tokio::task::yield_now().await;
            if !store.must_stop() {
                self.flush(store, owners).await?;
            } else if is_last || !store.failures.any_transient {
                // They would fail as well; they are to be counted all the same.
                owners.into_iter().for_each(|owner| not_tried(store, owner));
            } else {
                break;
            }
            self.job.advance(|progress| progress.partitions_kept_hot = survey.kept_hot());
        }
        Ok(())
    }

    fn worth(&self, kind: TableKind) -> Worth {
        let min_rows = if self.force || kind == TableKind::Shared { 1 } else { self.settings.min_partition_rows };
        let age_us = i64::try_from(self.settings.max_partition_age_s).unwrap_or(i64::MAX).saturating_mul(SECOND_US);
        Worth { min_rows, old_us: self.shared.env.now_us().saturating_sub(age_us) }
    }

    fn view(&self) -> Result<View, Stopped> {
        match View::now(self.shared, self.table) {
            Ok(Some(view)) => Ok(view),
            Ok(None) => Err(Stopped::Dropped),
            Err(error) => Err(Stopped::Failed(Fault::engine("take a snapshot", &error))),
        }
    }

    fn survey(&self, survey: &mut Survey) -> Result<Vec<Owner>, Stopped> {
        let snapshot = self.shared.backend.snapshot();
        self.job
            .busy(|| survey.step(snapshot.as_ref(), PARTITIONS_AT_ONCE))
            .map_err(|error| Stopped::Failed(Fault::engine("look for partitions to flush", &error)))
    }

    /// Flushes some partitions.
    async fn flush(&mut self, store: &mut SegmentStore, owners: Vec<Owner>) -> Result<(), Stopped> {
        if owners.is_empty() {
            return Ok(());
        }
        let mut reserved = match self.reserve(&owners).await {
            Ok(reserved) => reserved.into_iter(),
            Err(fault) if matches!(fault.kind, FaultKind::Transient | FaultKind::Lasting) => {
                store.attempted(false);
                for owner in owners {
                    let number = store.begin(owner);
                    store.complete(number, Some(fault.clone()));
                }
                return Ok(());
            }
            Err(fault) => return Err(Stopped::from(fault)),
        };
        let mut unused = Vec::new();
        let mut stopped = None;
        for owner in owners {
            let mut pending = reserved.next();
            if store.must_stop() {
                not_tried(store, owner);
            } else if let Err(stop) = self.flush_partition(store, owner, &mut pending).await {
                stopped = Some(stop);
            }
            unused.extend(pending);
            if stopped.is_some() {
                break;
            }
        }
        unused.extend(reserved);
        let released = self.core.pending.release(self.shared, unused).await;
        match (stopped, released) {
            (Some(stopped), _) => Err(stopped),
            (None, Ok(())) => Ok(()),
            (None, Err(error)) => match Fault::commit("take back the notes of files", error) {
                fault if fault.kind == FaultKind::Closed => Err(Stopped::from(fault)),
                // They stay noted until the server is started again.
                _ => Ok(()),
            },
        }
    }

    async fn reserve(&self, owners: &[Owner]) -> Result<Vec<Pending>, Fault> {
        self.core.reached(JobStep::BeforePending)?;
        let view = View::now(self.shared, self.table).map_err(|error| Fault::engine("take a snapshot", &error))?;
        let Some(view) = view else { return Err(Fault::dropped("note files")) };
        let folders = owners.iter().map(|owner| self.shared.storages.partition_path(view.table.record(), owner));
        self.core
            .pending
            .reserve(self.shared, view.table.storage(), folders)
            .await
            .map_err(|error| Fault::commit("note files", error))
    }

    /// Flushes one partition, to as many segments as it needs. The first of them takes `pending`.
    async fn flush_partition(
        &mut self,
        store: &mut SegmentStore,
        owner: Owner,
        pending: &mut Option<Pending>,
    ) -> Result<(), Stopped> {
        let number = store.begin(owner.clone());
        let partition = Partition { table: self.table, owner: owner.clone() };
        let mut view = self.view()?;
        let mut range = match hot_range(view.snapshot.as_ref(), &partition) {
            Ok(range) => range,
            Err(error) => {
                store.complete(number, Some(Fault::engine("read hot rows", &error)));
                return Ok(());
            }
        };
        while let Some(next) = range.take() {
            let built = match self.build(store, &view, &owner, next).await {
                Ok(built) => built,
                Err(fault) if fault.kind == FaultKind::Closed => return Err(Stopped::from(fault)),
                Err(fault) => {
                    store.complete(number, Some(fault));
                    return Ok(());
                }
            };
            let Some((mut built, based_on)) = built else { break };
            let rest = built.rest.take();
            let place = match pending.take() {
                Some(pending) => Ok(Some(pending)),
                None => self.reserve(std::slice::from_ref(&owner)).await.map(|mut reserved| reserved.pop()),
            };
            match place {
                Ok(Some(place)) => store.push(number, place, built, based_on).await,
                Ok(None) => break,
                Err(fault) if matches!(fault.kind, FaultKind::Transient | FaultKind::Lasting) => {
                    store.complete(number, Some(fault));
                    return Ok(());
                }
                Err(fault) => return Err(Stopped::from(fault)),
            }
            tokio::task::yield_now().await;
            if store.failures.stop.is_some() {
                break;
            }
            range = rest;
            if range.is_some() {
                view = self.view()?;
            }
        }
        store.complete(number, None);
        Ok(())
    }

    async fn build(
        &mut self,
        store: &SegmentStore,
        view: &View,
        owner: &Owner,
        range: kalamdb_store::kv::KeyRange,
    ) -> Result<Option<(Built, CommitSeq)>, Fault> {
        let plan = SegmentPlan::of(&mut self.plan, &view.table, self.settings)?;
        let built = build(self.job, view, &plan, owner, range, store.held_bytes()).await?;
        Ok(built.map(|built| (built, view.seq)))
    }
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::Dropped => Stopped::Dropped,
            FaultKind::Transient | FaultKind::Lasting | FaultKind::Closed => Stopped::Failed(fault),
        }
    }
}

/// Counts a partition that was not tried because too many before it had failed.
fn not_tried(store: &mut SegmentStore, owner: Owner) {
    let fault = store.failures.last.clone();
    let number = store.begin(owner);
    store.complete(number, fault);
}

fn done(progress: &JobProgress) -> String {
    let JobProgress { rows, bytes, partitions, segments, partitions_kept_hot: kept_hot, .. } = progress;
    let kept = match kept_hot {
        0 => String::new(),
        _ => format!(" {kept_hot} partition(s) have too few rows to be worth a file and stay in the hot tier."),
    };
    format!("Flushed {rows} row(s) of {partitions} partition(s) to {segments} segment(s) of {bytes} bytes.{kept}")
}

fn not_all(progress: &JobProgress, failures: &Failures) -> String {
    let named = failures.named.iter().take(NAMED_IN_RESULT);
    let named: Vec<String> = named
        .map(|FailedPartition { user_id, .. }| {
            user_id
                .as_ref()
                .map_or_else(|| "the table's own".to_owned(), |user| format!("'{}'", user.as_str().escape_debug()))
        })
        .collect();
    let more = match failures.count.saturating_sub(named.len() as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let why = failures.last.as_ref().map_or("", |fault| &fault.message);
    format!(
        "{} partition(s) could not be flushed and stay in the hot tier: {}{more}. {why} {}",
        failures.count,
        named.join(", "),
        done(progress)
    )
}
