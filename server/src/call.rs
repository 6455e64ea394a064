//! What is known of a call before its service runs: who calls, how long it may take, and its trace id.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use kalamdb_engine::{Caller, Env, Error, Reason};
use tonic::Status;

use crate::{errors, identity::Grant, transport::Peer};

/// Travels with a request, in its extensions.
#[derive(Clone)]
pub(crate) struct CallContext {
    pub(crate) caller: Caller,
    /// The caller's right to go on.
    pub(crate) grant: Arc<Grant>,
    /// The time that the client gives the call, if it says so.
    pub(crate) timeout: Option<Duration>,
    pub(crate) trace: TraceId,
}

/// Travels with a request that needs no credential.
#[derive(Clone)]
pub(crate) struct OpenCall {
    /// Where the call comes from.
    pub(crate) peer: Peer,
    pub(crate) trace: TraceId,
}

impl CallContext {
    /// Runs `work` within the call's time.
    ///
    /// For calls whose work knows no time-out of its own; statements have theirs in the engine.
    pub(crate) async fn within_deadline<T>(
        &self,
        work: impl Future<Output = kalamdb_engine::Result<T>>,
    ) -> Result<T, Status> {
        let outcome = match self.timeout {
            None => work.await,
            Some(timeout) => tokio::time::timeout(timeout, work)
                .await
                .unwrap_or_else(|_| Err(Error::new(Reason::StatementTimeout, "The call was stopped at its deadline."))),
        };
        outcome.map_err(|error| errors::to_status(&error, self.trace))
    }
}

/// Finds one call in the log. Taken from the caller's `traceparent` (W3C Trace Context) when it sends one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId(u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Makes trace ids: a random part for the process, and a count.
#[derive(Debug)]
pub(crate) struct TraceIds {
    process: u64,
    count: AtomicU64,
}

impl TraceIds {
    pub(crate) fn new(env: &dyn Env) -> Self {
        Self { process: env.random_u64(), count: AtomicU64::new(1) }
    }

    /// The trace id of a call with these headers.
    pub(crate) fn of(&self, headers: &HeaderMap) -> TraceId {
        headers.get("traceparent").and_then(|value| parse_traceparent(value.as_bytes())).unwrap_or_else(|| {
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            TraceId(u128::from(self.process) << 64 | u128::from(count))
        })
    }
}

/// The trace id of `version-traceid-parentid-flags`.
fn parse_traceparent(value: &[u8]) -> Option<TraceId> {
    let text = std::str::from_utf8(value).ok()?;
    let id = text.split('-').nth(1).filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u128::from_str_radix(id, 16).ok().filter(|id| *id != 0).map(TraceId)
}

/// The time that the client gives the call, from `grpc-timeout` or Connect's `connect-timeout-ms`.
///
/// # Errors
/// INVALID_REQUEST when a header is not a time.
pub(crate) fn client_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let wrong = |name: &str, form: &str| {
        Error::new(Reason::InvalidRequest, format!("The header {name} is not a time-out; write it as {form}."))
    };
    if let Some(value) = headers.get("grpc-timeout") {
        let timeout = parse_grpc_timeout(value.as_bytes());
        return timeout.map(Some).ok_or_else(|| wrong("grpc-timeout", "1 to 8 digits and a unit, such as 500m"));
    }
    if let Some(value) = headers.get("connect-timeout-ms") {
        let digits = std::str::from_utf8(value.as_bytes()).ok().filter(|text| is_digits(text, 10));
        let timeout = digits.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        return timeout.map(Some).ok_or_else(|| wrong("connect-timeout-ms", "1 to 10 digits"));
    }
    Ok(None)
}

fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| is_digits(text, 8))?;
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3_600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

fn is_digits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
