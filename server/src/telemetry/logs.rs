//! Log lines, on standard error.

use std::{
    io::{self, IsTerminal},
    panic,
};

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogFormat;

/// Begins to write log lines that pass `filter`. A program that has set up `tracing` already keeps its own.
pub(crate) fn start(format: LogFormat, filter: EnvFilter) {
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Pretty => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!("log settings are not used: {error}");
    }
}

/// Writes panics as log lines, without a backtrace.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic: {}", info.payload_as_str().unwrap_or("no message"));
    }));
}
