//! Closed-loop clients and the contest between a server and its limits.
//!
//! Every client is a task that sends its next call when the one before has been answered, as pgbench does. A subject
//! and its limits run in alternating slices of the same length, so that a slow spell of the machine hits all of them.

use std::{future::Future, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

/// How many slices each contestant runs.
const ROUNDS: u32 = 3;
/// How long calls under way may take after the end of their slice before they count as failed.
const GRACE: Duration = Duration::from_secs(30);
/// Pause of a client after a failed call, so that a dead server does not make it spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);
const NANOS_PER_MICRO: f64 = 1_000.0;

/// One closed-loop client.
pub(crate) trait Client: Send + 'static {
    /// Does one operation and waits for its answer.
    fn call(&mut self) -> impl Future<Output = Result<Reply, String>> + Send;
}

/// What an operation answered, beyond having succeeded.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Reply {
    /// The time the other side says the operation took, in microseconds.
    pub(crate) server_us: Option<f64>,
}

/// A warm-up that is not measured, then the measured time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) warmup: Duration,
    pub(crate) measure: Duration,
}

/// What one contestant achieved over all its slices.
#[derive(Debug, Clone)]
pub(crate) struct Measurement {
    latency_ns: Histogram<u64>,
    server_ns: Histogram<u64>,
    rate_sum: f64,
    slices: u32,
    failures: u64,
    first_error: Option<String>,
}

impl Measurement {
    pub(crate) fn new() -> Self {
        Self {
            latency_ns: new_histogram(),
            server_ns: new_histogram(),
            rate_sum: 0.0,
            slices: 0,
            failures: 0,
            first_error: None,
        }
    }

    pub(crate) fn record(&mut self, latency: Duration, reply: Reply) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.latency_ns.saturating_record(nanos);
        if let Some(server_us) = reply.server_us {
            // `as` saturates, and a negative or missing time becomes 0.
            self.server_ns.saturating_record((server_us * NANOS_PER_MICRO) as u64);
        }
    }

    pub(crate) fn fail(&mut self, error: String) {
        self.failures += 1;
        self.first_error.get_or_insert(error);
    }

    /// Ends a slice in which this much was done in a second.
    pub(crate) fn finish_slice(&mut self, ops_per_s: f64) {
        self.rate_sum += ops_per_s;
        self.slices += 1;
    }

    /// Adds what other clients, or the same ones in another slice, measured.
    pub(crate) fn merge(&mut self, other: Self) {
        // Adding to a histogram that resizes itself cannot fail.
        let _ = self.latency_ns.add(&other.latency_ns);
        let _ = self.server_ns.add(&other.server_ns);
        self.rate_sum += other.rate_sum;
        self.slices += other.slices;
        self.failures += other.failures;
        if self.first_error.is_none() {
            self.first_error = other.first_error;
        }
    }

    /// Operations that succeeded within the measured time.
    pub(crate) fn operations(&self) -> u64 {
        self.latency_ns.len()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    pub(crate) fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    pub(crate) fn ops_per_s(&self) -> f64 {
        if self.slices == 0 { 0.0 } else { self.rate_sum / f64::from(self.slices) }
    }

    pub(crate) fn mean_us(&self) -> f64 {
        self.latency_ns.mean() / NANOS_PER_MICRO
    }

    /// Latency at a quantile from 0 to 1, in microseconds.
    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        self.latency_ns.value_at_quantile(quantile) as f64 / NANOS_PER_MICRO
    }

    /// The other side's own time at a quantile from 0 to 1, in microseconds, if it tells.
    pub(crate) fn server_us(&self, quantile: f64) -> Option<f64> {
        (!self.server_ns.is_empty()).then(|| self.server_ns.value_at_quantile(quantile) as f64 / NANOS_PER_MICRO)
    }
}

fn new_histogram() -> Histogram<u64> {
    // Bounded: recording saturates at an hour, it does not resize.
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("three significant digits are within the allowed range")
}

/// Something that runs slices: a pool of clients against a server, or a limit.
pub(crate) trait Contestant: Send {
    fn slice(&mut self, window: Window) -> BoxFuture<'_, Measurement>;
}

/// Clients that run at the same time.
pub(crate) struct Pool<C> {
    clients: Vec<C>,
}

impl<C> Pool<C> {
    pub(crate) fn new(clients: Vec<C>) -> Self {
        Self { clients }
    }
}

impl<C: Client> Contestant for Pool<C> {
    fn slice(&mut self, window: Window) -> BoxFuture<'_, Measurement> {
        async move {
            let from = Instant::now() + window.warmup;
            let until = from + window.measure;
            let mut tasks = JoinSet::new();
            for client in self.clients.drain(..) {
                tasks.spawn(drive(client, from, until));
            }
            let mut total = Measurement::new();
            let mut ops_per_s = 0.0;
            loop {
                match timeout_at(until + GRACE, tasks.join_next()).await {
                    Ok(Some(Ok((client, part, rate)))) => {
                        ops_per_s += rate;
                        total.merge(part);
                        self.clients.push(client);
                    }
                    Ok(Some(Err(error))) => total.fail(format!("a client task ended: {error}")),
                    Ok(None) => break,
                    Err(_) => {
                        total.fail(format!("{} calls had no answer after {} s", tasks.len(), GRACE.as_secs()));
                        tasks.abort_all();
                        break;
                    }
                }
            }
            total.finish_slice(ops_per_s);
            total
        }
        .boxed()
    }
}

/// Runs one client through a window and answers with its operations a second.
///
/// The rate counts from the first measured call's beginning to the last one's end, so that calls as long as a good
/// part of the window are not rounded.
async fn drive<C: Client>(mut client: C, from: Instant, until: Instant) -> (C, Measurement, f64) {
    let mut part = Measurement::new();
    while Instant::now() < from {
        if let Err(error) = client.call().await {
            part.fail(error);
            sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
    let begin = Instant::now();
    let mut at = begin;
    // One call at least, even if those of the warm-up took all of the time.
    loop {
        let outcome = client.call().await;
        let now = Instant::now();
        match outcome {
            Ok(reply) => part.record(now - at, reply),
            Err(error) => {
                part.fail(error);
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
        at = now;
        if at >= until {
            break;
        }
    }
    let seconds = (at - begin).as_secs_f64();
    let rate = if seconds > 0.0 { part.operations() as f64 / seconds } else { 0.0 };
    (client, part, rate)
}

/// A contestant that is the bound of another one.
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    pub(crate) contestant: Box<dyn Contestant>,
}

/// What a subject and its limits achieved.
pub(crate) struct Contest {
    pub(crate) subject: Measurement,
    pub(crate) limits: Vec<(&'static str, Measurement)>,
}

/// Runs a subject and its limits in alternating slices; `total` is the whole time of each.
pub(crate) async fn contest(subject: &mut dyn Contestant, limits: &mut [Limit], total: Window) -> Contest {
    let slice = Window { warmup: total.warmup / ROUNDS, measure: total.measure / ROUNDS };
    let mut result =
        Contest { subject: Measurement::new(), limits: limits.iter().map(|l| (l.name, Measurement::new())).collect() };
    for round in 0..ROUNDS {
        let subject_first = round % 2 == 1;
        if subject_first {
            result.subject.merge(subject.slice(slice).await);
        }
        for (limit, (_, measured)) in limits.iter_mut().zip(&mut result.limits) {
            measured.merge(limit.contestant.slice(slice).await);
        }
        if !subject_first {
            result.subject.merge(subject.slice(slice).await);
        }
    }
    result
}

#[cfg(test)]
mod tests;
