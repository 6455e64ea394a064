//! Repeating what may be repeated.

use std::{future::Future, time::Duration};

use crate::error::Result;

/// How often, and after which pauses, a failed call is repeated.
///
/// Only what cannot do harm is repeated: any call whose connection could not be made (nothing was sent), and, when
/// the server answered UNAVAILABLE, calls that read, ask for health or list, and calls that the caller declared
/// idempotent with [`Query::idempotent`](crate::Query::idempotent).
///
/// The pause before repetition `n` (from 1) is a random time between half of and the full
/// `min(base_delay * 2^(n - 1), max_delay)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; 0 and 1 both mean that nothing is repeated.
    pub max_attempts: u32,
    /// The pause before the first repetition.
    pub base_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// 4 attempts, with pauses of up to 50, 100 and 200 ms.
    fn default() -> Self {
        RetryPolicy { max_attempts: 4, base_delay: Duration::from_millis(50), max_delay: Duration::from_secs(2) }
    }
}

impl RetryPolicy {
    /// Nothing is repeated.
    pub const NONE: RetryPolicy =
        RetryPolicy { max_attempts: 1, base_delay: Duration::ZERO, max_delay: Duration::ZERO };

    /// The pause before repetition `repetition` (from 1).
    pub(crate) fn delay(&self, repetition: u32) -> Duration {
        let factor = 1u32.checked_shl(repetition.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.base_delay.saturating_mul(factor).min(self.max_delay);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// Whether a call may be repeated although the server may have acted on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safety {
    /// Repeating it changes nothing.
    Repeatable,
    /// It may write: only repeated when nothing was sent.
    Once,
}

/// Runs `attempt` until it succeeds, its error forbids a repetition, or the attempts are used up. `attempt` is told
/// whether it is the last one, so that it can give its input away instead of copying it.
pub(crate) async fn with_retries<T, F>(
    policy: &RetryPolicy,
    safety: Safety,
    mut attempt: impl FnMut(bool) -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut repetition = 0;
    loop {
        repetition += 1;
        let last = repetition >= policy.max_attempts;
        match attempt(last).await {
            Err(error)
                if !last && (error.nothing_was_sent() || (safety == Safety::Repeatable && error.is_transient())) =>
            {
                tokio::time::sleep(policy.delay(repetition)).await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use tonic::{Code, Status};

    use super::{RetryPolicy, Safety, with_retries};
    use crate::error::{Error, Result};

    const QUICK: RetryPolicy =
        RetryPolicy { max_attempts: 4, base_delay: Duration::from_micros(1), max_delay: Duration::from_micros(2) };

    fn refused() -> Error {
        Error::Connection { endpoint: "http://h".into(), message: "refused".into() }
    }

    fn unavailable() -> Error {
        Error::from_status(Status::new(Code::Unavailable, "later"), "http://h", None)
    }

    async fn attempts(policy: &RetryPolicy, safety: Safety, error: fn() -> Error) -> u32 {
        let count = Cell::new(0);
        let outcome: Result<()> = with_retries(policy, safety, |last| {
            count.set(count.get() + 1);
            assert_eq!(last, count.get() == policy.max_attempts.max(1));
            async { Err(error()) }
        })
        .await;
        assert!(outcome.is_err());
        count.get()
    }

    #[tokio::test]
    async fn what_was_not_sent_is_repeated_and_what_may_have_been_done_is_not() {
        assert_eq!(attempts(&QUICK, Safety::Once, refused).await, 4);
        assert_eq!(attempts(&QUICK, Safety::Once, unavailable).await, 1);
        assert_eq!(attempts(&QUICK, Safety::Repeatable, unavailable).await, 4);
        assert_eq!(attempts(&RetryPolicy::NONE, Safety::Repeatable, refused).await, 1);
    }

    #[tokio::test]
    async fn success_ends_it() {
        let count = Cell::new(0);
        let outcome = with_retries(&QUICK, Safety::Once, |_| {
            count.set(count.get() + 1);
            let failed = count.get() < 3;
            async move { if failed { Err(refused()) } else { Ok(7) } }
        })
        .await;
        assert_eq!((outcome.unwrap(), count.get()), (7, 3));
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let policy = RetryPolicy { max_attempts: 9, ..RetryPolicy::default() };
        for (repetition, full_ms) in [(1, 50), (2, 100), (3, 200), (6, 1600), (7, 2000), (64, 2000), (u32::MAX, 2000)] {
            let delay = policy.delay(repetition);
            let full = Duration::from_millis(full_ms);
            assert!(delay >= full / 2 && delay <= full, "{repetition}: {delay:?}");
        }
    }
}
