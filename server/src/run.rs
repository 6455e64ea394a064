//! The program: from the command line to an exit status.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use kalamdb_engine::{JobHooks, SystemEnv};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    cli::{Cli, CliCommand, ConfigCommand},
    config::{self, LoadedConfig},
    failpoint,
    server::Server,
    telemetry::logs,
};

/// Exit status when the server could not run.
const FAILED: u8 = 1;
/// Exit status for wrong usage or configuration.
const USAGE: u8 = 2;
/// Read when `--config` is not given, if it exists.
const DEFAULT_FILE: &str = "config.toml";

/// Runs `kalamdb-server` with the process's arguments and environment, until it is told to stop.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let loaded = match load(&cli) {
        Ok(loaded) => loaded,
        Err(reason) => {
            for line in reason.lines() {
                complain(line);
            }
            return ExitCode::from(USAGE);
        }
    };
    match cli.command {
        Some(CliCommand::Config(ConfigCommand::Check)) => say("the configuration is valid"),
        Some(CliCommand::Config(ConfigCommand::Print)) => say(loaded.to_toml().trim_end()),
        None => match run(&loaded) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                complain(&reason);
                ExitCode::from(FAILED)
            }
        },
    }
}

fn load(cli: &Cli) -> Result<LoadedConfig, String> {
    let flags = cli.flags()?;
    let default = Path::new(DEFAULT_FILE);
    let file = cli.config.as_deref().or_else(|| default.exists().then_some(default));
    LoadedConfig::load(file, std::env::vars_os(), &flags).map_err(|errors| errors.to_string())
}

fn run(loaded: &LoadedConfig) -> Result<(), String> {
    let filter = config::parse_level(&loaded.config.log.level)?;
    logs::start(loaded.config.log.format, filter);
    logs::log_panics();
    let hooks = failpoint::hooks(&loaded.config)?;

    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_name("kalamdb-io");
    if loaded.config.server.worker_threads > 0 {
        runtime.worker_threads(loaded.config.server.worker_threads);
    }
    let runtime = runtime.build().map_err(|error| format!("cannot start threads: {error}"))?;
    let outcome = runtime.block_on(serve(loaded, hooks));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(loaded: &LoadedConfig, hooks: Arc<dyn JobHooks>) -> Result<(), String> {
    // Before anything else, so that a signal during the start is not lost.
    let mut signals = Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let mut server = tokio::select! {
        started = Server::start_with_hooks(loaded, Arc::new(SystemEnv), hooks) => started.map_err(|error| error.to_string())?,
        name = signals.next() => {
            tracing::info!("{name} during the start");
            return Ok(());
        }
    };
    if let Some(key) = server.take_first_key() {
        // To the terminal and not to the log, which is kept.
        complain("the first start: the administrator 'admin' was created. Its API key, which is shown this once:");
        complain(&key);
        complain("use it with `authorization: Bearer <key>` or `x-api-key: <key>`, and create users with CREATE USER");
    }
    say(&format!("kalamdb-server listening on {}", server.address()));

    let name = signals.next().await;
    tracing::info!("{name}: shutting down; a second signal exits at once");
    tokio::spawn(async move {
        let name = signals.next().await;
        // Nothing acknowledged is lost: it is on disk, or with the operating system, already.
        tracing::warn!("{name}: exiting at once");
        std::process::exit(i32::from(FAILED));
    });
    server.stop().await;
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Writes a line for programs and people. Nobody may be listening any more, which is no reason to stop.
fn say(line: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    ExitCode::SUCCESS
}

fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "kalamdb-server: {line}");
}
