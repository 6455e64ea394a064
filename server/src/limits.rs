//! Bounds on what is under way at once, and on the size of an answer.

mod fair;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use kalamdb_engine::{Error, Reason};

pub(crate) use self::fair::{FairShares, RETRY_AFTER_MS, Share};

/// Counts the calls under way.
#[derive(Debug)]
pub(crate) struct CallLimit {
    under_way: AtomicUsize,
    max: usize,
}

/// A call under way; ends when dropped.
#[derive(Debug)]
pub(crate) struct CallPermit(Arc<CallLimit>);

impl CallLimit {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { under_way: AtomicUsize::new(0), max })
    }

    /// Lets one more call begin.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when as many as allowed are under way.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<CallPermit, Error> {
        // The permit exists before the check, so that a refusal gives the place back by being dropped.
        let permit = CallPermit(Arc::clone(self));
        if self.under_way.fetch_add(1, Ordering::AcqRel) < self.max {
            return Ok(permit);
        }
        Err(Error::new(
            Reason::TooManyRequests,
            format!("The server has limits.max_concurrent_calls ({}) calls under way. Try again later.", self.max),
        )
        .with("limit", "limits.max_concurrent_calls"))
    }

    /// Number of calls under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Acquire)
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What `Execute` may answer with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResultLimits {
    pub(crate) max_rows: u64,
    pub(crate) max_bytes: usize,
}

/// What is left of the limits while one answer is built.
#[derive(Debug)]
pub(crate) struct ResultBudget {
    limits: ResultLimits,
    rows: u64,
    bytes: usize,
}

impl ResultBudget {
    pub(crate) fn new(limits: ResultLimits) -> Self {
        Self { limits, rows: 0, bytes: 0 }
    }

    /// Takes `rows` more rows.
    ///
    /// # Errors
    /// RESULT_TOO_LARGE.
    pub(crate) fn take_rows(&mut self, rows: usize) -> Result<(), Error> {
        self.rows = self.rows.saturating_add(rows as u64);
        if self.rows > self.limits.max_rows {
            return Err(too_large("limits.max_result_rows", "rows", self.limits.max_rows));
        }
        Ok(())
    }

    /// Takes `bytes` more bytes.
    ///
    /// # Errors
    /// RESULT_TOO_LARGE.
    pub(crate) fn take_bytes(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.max_bytes {
            return Err(too_large("limits.max_result_bytes", "bytes", self.limits.max_bytes as u64));
        }
        Ok(())
    }
}

fn too_large(limit: &'static str, unit: &str, max: u64) -> Error {
    Error::new(
        Reason::ResultTooLarge,
        format!(
            "The result has more than {max} {unit}, which is {limit}. Add a LIMIT, or use ExecuteStream, which has no \
             such limit."
        ),
    )
    .with("limit", limit)
}

#[cfg(test)]
mod tests;
