//! Housekeeping: finds tables whose segments are worth merging, and has them merged.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    engine::Shared,
    jobs::{
        compaction,
        core::{Core, Order},
        record::{JobTrigger, JobType},
    },
    sql::TableKind,
};

/// How often every table is looked at: rows can be deleted without any flush.
const INTERVAL: Duration = Duration::from_secs(600);

/// Runs until the job system stops.
pub(super) async fn run(core: Arc<Core>, shared: Weak<Shared>) {
    let mut all_at = Instant::now() + INTERVAL;
    loop {
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = core.check.notified() => {}
            () = tokio::time::sleep_until(all_at) => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        let state = shared.catalog.state();
        if Instant::now() >= all_at {
            all_at = Instant::now() + INTERVAL;
            let tables = state.all_tables().filter(|table| table.kind() != TableKind::Stream);
            core.unchecked.lock().extend(tables.map(|table| table.id()));
        }
        if !shared.settings.compaction.automatic {
            core.unchecked.lock().clear();
        }
        loop {
            let next = core.unchecked.lock().pop_first();
            let Some(next) = next.filter(|_| !core.stopping.is_cancelled()) else { break };
            let Some(table) = state.all_tables().find(|table| table.id() == next) else { continue };
            match compaction::is_worth_it(&shared, &core, next).await {
                Ok(false) => {}
                Ok(true) => {
                    let trigger = JobTrigger::Housekeeping;
                    let order = Order { job_type: JobType::Compaction, force: false, trigger, resumes: None };
                    if let Err(error) = core.order(table, order) {
                        tracing::warn!(table = table.full_name(), %error, "a compaction could not be queued");
                    }
                }
                Err(error) => tracing::warn!(table = table.full_name(), %error, "the segments could not be looked at"),
            }
        }
    }
}
