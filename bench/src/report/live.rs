//! What the workloads of live queries find, where it is neither throughput nor latency of calls.

use serde::Serialize;

use super::{megabytes, number};

/// What idle subscriptions cost, beside as many bare streams.
#[derive(Debug, Serialize)]
pub(crate) struct LiveMemoryRecord {
    pub(crate) workload: &'static str,
    pub(crate) subscriptions: usize,
    pub(crate) queries_per_call: usize,
    /// Of the server, before and with the subscriptions.
    pub(crate) resident_before_bytes: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) bytes_per_subscription: f64,
    /// From the first call until all are ready.
    pub(crate) subscribe_ms: f64,
    pub(crate) subscriptions_per_s: f64,
    /// From KILL LIVE QUERY to the end of the subscription, as its client sees it.
    pub(crate) kill_p50_ms: f64,
    pub(crate) kill_max_ms: f64,
    /// From the end of the clients until `system.live_queries` is empty.
    pub(crate) clean_up_ms: f64,
    pub(crate) limit: &'static str,
    pub(crate) limit_bytes_per_subscription: f64,
    pub(crate) limit_subscriptions_per_s: f64,
    /// Memory divided by the limit's: 1 is the best possible.
    pub(crate) bytes_ratio: Option<f64>,
    /// Subscriptions a second divided by the limit's: 1 is the best possible.
    pub(crate) subscribe_ratio: Option<f64>,
}

/// How long it takes until everybody has what they missed.
#[derive(Debug, Serialize)]
pub(crate) struct LiveResumeRecord {
    pub(crate) workload: &'static str,
    pub(crate) subscriptions: usize,
    /// Whether all subscribe to the rows of one user.
    pub(crate) same_user: bool,
    /// Changes missed, of all subscribers together.
    pub(crate) changes: u64,
    /// From the first call until the last change has arrived.
    pub(crate) took_ms: f64,
    pub(crate) changes_per_s: f64,
    pub(crate) limit: &'static str,
    pub(crate) limit_took_ms: f64,
    /// The limit's time divided by the time: 1 is the best possible.
    pub(crate) ratio: Option<f64>,
    /// The time in which as many clients read the same rows by SELECT.
    pub(crate) select_took_ms: f64,
}

/// What a long time of changes and queries does to the server's memory.
#[derive(Debug, Serialize)]
pub(crate) struct LiveSoakRecord {
    pub(crate) workload: &'static str,
    pub(crate) seconds: f64,
    pub(crate) writers: usize,
    pub(crate) subscriptions: usize,
    pub(crate) commits: u64,
    /// Changes that arrived, each where and when it must.
    pub(crate) changes: u64,
    pub(crate) delivery_p99_ms: f64,
    pub(crate) queries: u64,
    pub(crate) query_p95_ms: f64,
    /// Of the server, warm, before the measured time.
    pub(crate) resident_before_bytes: u64,
    pub(crate) resident_most_bytes: u64,
    /// How much more that is, as a fraction.
    pub(crate) growth: f64,
    /// After some rest, a minute at most; the subscriptions are still there.
    pub(crate) resident_rested_bytes: u64,
    pub(crate) rested_growth: f64,
    pub(crate) rest_s: f64,
}

impl LiveMemoryRecord {
    pub(super) fn summary(&self) -> String {
        let mut line = format!(
            "{}: {} subscriptions, {} a call: {} bytes each ({:.1} MB resident), {} subscribed a second; KILL p50 {:.1} \
             ms, at most {:.1} ms; gone after {:.0} ms",
            self.workload,
            number(self.subscriptions as f64),
            self.queries_per_call,
            number(self.bytes_per_subscription),
            megabytes(self.resident_bytes),
            number(self.subscriptions_per_s),
            self.kill_p50_ms,
            self.kill_max_ms,
            self.clean_up_ms
        );
        line.push_str(&format!(
            "; {}: {} bytes each, {} subscribed a second",
            self.limit,
            number(self.limit_bytes_per_subscription),
            number(self.limit_subscriptions_per_s)
        ));
        if let (Some(bytes), Some(subscribe)) = (self.bytes_ratio, self.subscribe_ratio) {
            line.push_str(&format!("; bytes {bytes:.2} and rate {subscribe:.2} of it"));
        }
        line
    }
}

impl LiveResumeRecord {
    pub(super) fn summary(&self) -> String {
        format!(
            "{}: {} subscribers of {} received {} missed changes in {:.0} ms; {}: {:.0} ms; {:.2} of it; the same rows \
             by SELECT: {:.0} ms",
            self.workload,
            number(self.subscriptions as f64),
            if self.same_user { "one user" } else { "as many users" },
            number(self.changes as f64),
            self.took_ms,
            self.limit,
            self.limit_took_ms,
            self.ratio.unwrap_or_default(),
            self.select_took_ms
        )
    }
}

impl LiveSoakRecord {
    pub(super) fn summary(&self) -> String {
        format!(
            "{}: {:.0} s, {} commits of {} writers, {} changes to {} subscribers (p99 {:.1} ms), {} queries (p95 {:.1} ms); \
             memory {:.1} MB, at most {:.1} MB ({:+.1} %), {:.1} MB ({:+.1} %) after {:.0} s of rest",
            self.workload,
            self.seconds,
            number(self.commits as f64),
            self.writers,
            number(self.changes as f64),
            self.subscriptions,
            self.delivery_p99_ms,
            number(self.queries as f64),
            self.query_p95_ms,
            megabytes(self.resident_before_bytes),
            megabytes(self.resident_most_bytes),
            self.growth * 100.0,
            megabytes(self.resident_rested_bytes),
            self.rested_growth * 100.0,
            self.rest_s
        )
    }
}
