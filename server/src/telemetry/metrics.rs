//! Prometheus metrics.

use std::{sync::OnceLock, time::Instant};

use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::{build, process};

/// Upper bounds of the buckets of every histogram of seconds: from a point read to a long query.
const SECONDS: [f64; 20] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
    20.0, 30.0, 60.0,
];
/// Upper bounds of the buckets of every histogram of sizes of groups.
const SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

/// The process's metrics. There is one recorder in a process, shared by the servers in it.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    started: Instant,
}

impl Metrics {
    /// Installs the recorder, once.
    ///
    /// # Errors
    /// A text when the program has another recorder already.
    pub(crate) fn install() -> Result<Self, String> {
        static INSTALLED: OnceLock<Result<Metrics, String>> = OnceLock::new();
        INSTALLED
            .get_or_init(|| {
                let handle = recorder().map_err(|error| format!("metrics cannot be recorded: {error}"))?;
                describe_gauge!("kalamdb_build_info", "1, with version and git commit as labels");
                describe_gauge!("kalamdb_uptime_seconds", "Seconds since the start");
                describe_gauge!("process_resident_memory_bytes", "Resident memory");
                gauge!("kalamdb_build_info", "version" => build::VERSION, "commit" => build::GIT_COMMIT).set(1.0);
                Ok(Metrics { handle, started: Instant::now() })
            })
            .clone()
    }

    /// All metrics as Prometheus' text.
    pub(crate) fn render(&self) -> String {
        gauge!("kalamdb_uptime_seconds").set(self.started.elapsed().as_secs_f64());
        if let Some(bytes) = process::resident_memory_bytes() {
            gauge!("process_resident_memory_bytes").set(bytes as f64);
        }
        self.handle.render()
    }

    /// Folds what was recorded into the histograms; until then each record takes memory.
    pub(crate) fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn recorder() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZES)?
        .install_recorder()
}
