//! One record for each call: counted, timed and logged when it ends.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Instant,
};

use kalamdb_engine::{Caller, UserId};
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use tonic::Code;

use crate::{call::TraceId, limits::Share, transport::METHODS};

/// Of the lines of calls.
const LOG_TARGET: &str = "kalamdb_server::rpc";

/// The codes by number, from 0 on.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Counters and histograms of every method, each looked up once, so that a call takes no lock and allocates nothing.
pub(crate) struct RpcMetrics {
    methods: Vec<MethodMetrics>,
    under_way: Gauge,
}

struct MethodMetrics {
    /// By code; most codes never happen, and are not worth a line of the metrics until they do.
    ended: [OnceLock<Counter>; CODES.len()],
    seconds: Histogram,
}

impl RpcMetrics {
    /// The recorder must be installed before.
    pub(crate) fn new() -> Self {
        describe_counter!("kalamdb_rpc_total", "Calls that ended, by method and gRPC code");
        describe_histogram!("kalamdb_rpc_seconds", "Time of a call until its answer was sent, by method");
        describe_gauge!("kalamdb_rpc_under_way", "Calls under way");
        let methods = METHODS
            .iter()
            .map(|method| MethodMetrics {
                ended: CODES.map(|_| OnceLock::new()),
                seconds: histogram!("kalamdb_rpc_seconds", "method" => method.name),
            })
            .collect();
        Self { methods, under_way: gauge!("kalamdb_rpc_under_way") }
    }
}

/// A call under way.
pub(crate) struct CallRecord {
    metrics: Arc<RpcMetrics>,
    method: usize,
    peer: SocketAddr,
    trace: TraceId,
    started: Instant,
    code: Code,
    caller: Option<Caller>,
    /// The shares of its address and its user, which it has until it ends.
    shares: [Option<Share>; 2],
}

impl CallRecord {
    /// A call of the method with this index in [`METHODS`] begins.
    pub(crate) fn begin(metrics: Arc<RpcMetrics>, method: usize, peer: SocketAddr, trace: TraceId) -> Self {
        metrics.under_way.increment(1.0);
        // Until the call says otherwise: one that is dropped half way was cancelled.
        Self {
            metrics,
            method,
            peer,
            trace,
            started: Instant::now(),
            code: Code::Cancelled,
            caller: None,
            shares: [None, None],
        }
    }

    /// The call has a share of what its address may have.
    pub(crate) fn hold_of_address(&mut self, share: Option<Share>) {
        self.shares[0] = share;
    }

    /// The call has a share of what its user may have.
    pub(crate) fn hold_of_user(&mut self, share: Option<Share>) {
        self.shares[1] = share;
    }

    /// Who makes the call, and for whom.
    pub(crate) fn set_caller(&mut self, caller: &Caller) {
        // Only for the line of the log, which few want.
        if tracing::enabled!(target: LOG_TARGET, tracing::Level::DEBUG) {
            self.caller = Some(caller.clone());
        }
    }

    /// The span of the call, whose lines say who calls and for whom; none unless debug lines are wanted.
    pub(crate) fn span(&self) -> tracing::Span {
        tracing::debug_span!(
            target: LOG_TARGET,
            "call",
            trace_id = %self.trace,
            user_id = self.caller.as_ref().map(|caller| caller.user_id.as_str()),
            acting_as = self.caller.as_ref().and_then(|caller| caller.acting_as.as_ref()).map(UserId::as_str),
        )
    }

    /// What became of the call.
    pub(crate) fn set_code(&mut self, code: Code) {
        self.code = code;
    }

    pub(crate) fn trace(&self) -> TraceId {
        self.trace
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let code = usize::try_from(i32::from(self.code)).unwrap_or_default();
        let name = METHODS.get(self.method).map_or("", |method| method.name);
        self.metrics.under_way.decrement(1.0);
        if let Some(method) = self.metrics.methods.get(self.method) {
            method.seconds.record(took.as_secs_f64());
            if let (Some(ended), Some(code)) = (method.ended.get(code), CODES.get(code)) {
                ended.get_or_init(|| counter!("kalamdb_rpc_total", "method" => name, "code" => *code)).increment(1);
            }
        }
        tracing::debug!(
            target: LOG_TARGET,
            trace_id = %self.trace,
            method = name,
            code = CODES.get(code),
            took_us = took.as_micros() as u64,
            peer = %self.peer,
            user_id = self.caller.as_ref().map(|caller| caller.user_id.as_str()),
            acting_as = self.caller.as_ref().and_then(|caller| caller.acting_as.as_ref()).map(UserId::as_str),
            "call"
        );
    }
}
