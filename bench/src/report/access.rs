//! What the workloads of users and rights find, where it is neither throughput nor latency of calls.

use std::time::Duration;

use serde::Serialize;

use super::number;
use crate::driver::Contest;

/// What row rules add to a statement.
#[derive(Debug, Serialize)]
pub(crate) struct RowRulesRecord {
    pub(crate) workload: String,
    pub(crate) clients: usize,
    /// Rules of the user for the table.
    pub(crate) rules: u64,
    /// Of the statement on the restricted table, and of that on the public one.
    pub(crate) p50_us: f64,
    pub(crate) limit_p50_us: f64,
    /// Their difference.
    pub(crate) added_p50_us: f64,
    /// The same of the server's own time, if it tells.
    pub(crate) added_server_p50_us: Option<f64>,
}

/// How fast users are made.
#[derive(Debug, Serialize)]
pub(crate) struct UsersRecord {
    pub(crate) workload: &'static str,
    pub(crate) users: u64,
    pub(crate) took_ms: f64,
    pub(crate) users_per_s: f64,
}

/// How long access outlives its end.
#[derive(Debug, Serialize)]
pub(crate) struct RevocationRecord {
    pub(crate) workload: &'static str,
    /// The statement that takes access away.
    pub(crate) statement: &'static str,
    pub(crate) streams: usize,
    /// From sending the statement to the end of the stream, as its reader sees it.
    pub(crate) p50_ms: f64,
    pub(crate) max_ms: f64,
    /// From the answer to the statement; 0 when the stream ended before it.
    pub(crate) after_answer_max_ms: f64,
}

/// The end of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revoked {
    /// After the statement was sent.
    pub(crate) ended: Duration,
    /// After it was answered.
    pub(crate) after_answer: Duration,
}

impl RowRulesRecord {
    /// Compares a subject with its only limit.
    pub(crate) fn new(workload: &str, clients: usize, rules: u64, found: &Contest) -> Self {
        let p50_us = found.subject.latency_us(0.5);
        let public = found.limits.first().map(|(_, limit)| limit);
        let limit_p50_us = public.map_or(0.0, |limit| limit.latency_us(0.5));
        let server = found.subject.server_us(0.5).zip(public.and_then(|limit| limit.server_us(0.5)));
        Self {
            workload: format!("{workload}, added"),
            clients,
            rules,
            p50_us,
            limit_p50_us,
            added_p50_us: p50_us - limit_p50_us,
            added_server_p50_us: server.map(|(guarded, public)| guarded - public),
        }
    }

    pub(super) fn summary(&self) -> String {
        let server = self.added_server_p50_us.map(|added| format!(", {} µs on the server", number(added)));
        format!(
            "{}: {} rules add {} µs to {} µs (p50){}",
            self.workload,
            self.rules,
            number(self.added_p50_us),
            number(self.limit_p50_us),
            server.unwrap_or_default()
        )
    }
}

impl UsersRecord {
    pub(crate) fn new(users: u64, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        Self { workload: "users, making", users, took_ms: seconds * 1_000.0, users_per_s: users as f64 / seconds }
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{}: {} in {:.1} s, {} a second",
            self.workload,
            number(self.users as f64),
            self.took_ms / 1_000.0,
            number(self.users_per_s)
        )
    }
}

impl RevocationRecord {
    pub(crate) fn new(statement: &'static str, revoked: &[Revoked]) -> Self {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        let mut ends: Vec<f64> = revoked.iter().map(|revoked| milliseconds(revoked.ended)).collect();
        ends.sort_by(f64::total_cmp);
        Self {
            workload: "revocation",
            statement,
            streams: revoked.len(),
            p50_ms: ends.get(ends.len() / 2).copied().unwrap_or_default(),
            max_ms: ends.last().copied().unwrap_or_default(),
            after_answer_max_ms: revoked.iter().map(|one| milliseconds(one.after_answer)).fold(0.0, f64::max),
        }
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{}: {} ends a stream after {:.1} ms (p50), {:.1} ms at most; {:.1} ms at most after its answer ({} streams)",
            self.workload, self.statement, self.p50_ms, self.max_ms, self.after_answer_max_ms, self.streams
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{RevocationRecord, Revoked, UsersRecord};

    #[test]
    fn the_slowest_end_is_kept() {
        let of_ms =
            |ended, after| Revoked { ended: Duration::from_millis(ended), after_answer: Duration::from_millis(after) };
        let record = RevocationRecord::new("REVOKE API KEY", &[of_ms(9, 0), of_ms(2, 1), of_ms(3, 0)]);
        assert_eq!((record.p50_ms, record.max_ms, record.after_answer_max_ms, record.streams), (3.0, 9.0, 1.0, 3));
        assert_eq!(RevocationRecord::new("REVOKE API KEY", &[]).max_ms, 0.0);
        assert_eq!(UsersRecord::new(100, Duration::from_secs(2)).users_per_s, 50.0);
    }
}
