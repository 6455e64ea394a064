//! Failpoints: steps of background work at which the server kills itself, so that tests can see what a crash leaves.
//!
//! `KALAMDB_FAILPOINT=after_upload:2` ends the process as soon as a job reaches its step `after_upload` for the second
//! time since the start. Only with `--dev`: anywhere else the server does not start. The steps are those of [`JobStep`]
//! and [`StorageStep`].

use std::{
    env::VarError,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kalamdb_engine::{JobHooks, JobStep, NoHooks, StorageStep};

use crate::config::Config;

const VARIABLE: &str = "KALAMDB_FAILPOINT";

/// The hooks of the failpoint that the environment names; none that do anything if it names none.
///
/// # Errors
/// One line for the operator: the server must not start.
pub(crate) fn hooks(config: &Config) -> Result<Arc<dyn JobHooks>, String> {
    let text = match std::env::var(VARIABLE) {
        Ok(text) => text,
        Err(VarError::NotPresent) => return Ok(Arc::new(NoHooks)),
        Err(VarError::NotUnicode(_)) => return Err(format!("{VARIABLE} is not text")),
    };
    let failpoint = Failpoint::parse(&text, config.server.dev)?;
    tracing::warn!(
        "{VARIABLE} IS SET: this server kills itself at step {} number {}. It is for tests; never set it for a server \
         whose data you need",
        failpoint.step,
        failpoint.left.load(Ordering::Relaxed)
    );
    Ok(Arc::new(failpoint))
}

/// Ends the process at a step.
#[derive(Debug)]
struct Failpoint {
    step: &'static str,
    /// How often it is still to be reached.
    left: AtomicU64,
}

impl Failpoint {
    fn parse(text: &str, is_dev: bool) -> Result<Self, String> {
        if !is_dev {
            return Err(format!(
                "{VARIABLE} is set, which ends the server in the middle of its work. It is for tests and needs --dev; \
                 unset it"
            ));
        }
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let left = count.parse().ok().filter(|count| *count > 0);
        let left: u64 = left.ok_or_else(|| format!("{VARIABLE}: {count:?} is not how often a step is reached"))?;
        let Some(step) = steps().find(|step| *step == name) else {
            let known = steps().collect::<Vec<_>>().join(", ");
            return Err(format!("{VARIABLE}: {name:?} is no step; there are {known}"));
        };
        Ok(Self { step, left: AtomicU64::new(left) })
    }

    /// Whether this is the time.
    fn is_due(&self, step: &str) -> bool {
        step == self.step && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }

    fn at(&self, step: &'static str) {
        if self.is_due(step) {
            tracing::warn!(step, "{VARIABLE}: the server kills itself");
            // What SIGKILL does: nothing is flushed, closed or told.
            std::process::abort();
        }
    }
}

impl JobHooks for Failpoint {
    fn reached(&self, step: JobStep) -> Result<(), String> {
        self.at(step.as_str());
        Ok(())
    }

    fn storages_change(&self, step: StorageStep) {
        self.at(step.as_str());
    }
}

/// The names of all steps.
fn steps() -> impl Iterator<Item = &'static str> {
    let of_jobs = JobStep::ALL.into_iter().map(JobStep::as_str);
    of_jobs.chain(StorageStep::ALL.into_iter().map(StorageStep::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_due_once() {
        let failpoint = Failpoint::parse("after_upload:2", true).unwrap();
        let due: Vec<bool> =
            ["after_upload", "before_upload", "after_upload", "after_upload"].map(|step| failpoint.is_due(step)).into();
        assert_eq!(due, [false, false, true, false]);
        assert!(Failpoint::parse("before_storage_commit", true).unwrap().is_due("before_storage_commit"));
    }

    #[test]
    fn what_is_no_failpoint_is_refused() {
        for text in ["", "upload", "after_upload:0", "after_upload:x", "after_upload:", "after_upload:1:1"] {
            assert!(Failpoint::parse(text, true).is_err(), "{text}");
        }
        let error = Failpoint::parse("after_upload", false).unwrap_err();
        assert!(error.contains("--dev"), "{error}");
    }
}
