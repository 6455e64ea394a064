//! Live queries as metrics.

use kalamdb_engine::LiveCounters;
use metrics::{Gauge, describe_gauge, gauge};

/// What there is of live queries now. What they have done is counted by the engine.
pub(crate) struct LiveGauges {
    active: Gauge,
    partitions: Gauge,
    queued_bytes: Gauge,
    lag_commits: Gauge,
}

impl LiveGauges {
    /// The recorder must be installed before.
    pub(crate) fn new() -> Self {
        describe_gauge!("kalamdb_live_queries", "Active live queries");
        describe_gauge!("kalamdb_live_partitions", "Partitions with live queries that follow their changes");
        describe_gauge!("kalamdb_live_queued_bytes", "Changes that wait for clients to read them, in bytes");
        describe_gauge!("kalamdb_live_lag_commits", "Commits that the live query furthest behind was not told of");
        Self {
            active: gauge!("kalamdb_live_queries"),
            partitions: gauge!("kalamdb_live_partitions"),
            queued_bytes: gauge!("kalamdb_live_queued_bytes"),
            lag_commits: gauge!("kalamdb_live_lag_commits"),
        }
    }

    pub(crate) fn publish(&self, counters: &LiveCounters) {
        self.active.set(counters.active as f64);
        self.partitions.set(counters.partitions as f64);
        self.queued_bytes.set(counters.queued_bytes as f64);
        self.lag_commits.set(counters.lag_commits as f64);
    }
}
