//! `kalam-cli`: SQL at the terminal and in scripts, over `kalam-link`.
//!
//! Exit status: 0 when all went well, 1 when a statement failed, 2 for wrong usage, 3 when there is no connection or no
//! valid credential.

mod args;
mod completion;
mod config;
mod credential;
mod escape;
mod exit;
mod export;
mod flush;
mod highlight;
mod history;
mod live;
mod meta;
mod password;
mod prompt;
mod render;
mod repl;
mod report;
mod script;
mod session;
mod settings;
mod style;

use std::{io, process::ExitCode, time::Duration};

use clap::Parser;
use kalam_link::Client;

use crate::{
    args::Args,
    exit::{Failure, Status},
    script::Source,
    session::Session,
    settings::{Input, Settings},
};

/// How long background tasks may take to end after the last statement; none holds anything that matters.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    // Wrong flags end the process here, with status 2.
    let args = Args::parse();
    let status = run(args).unwrap_or_else(|failure| failure.report());
    status.into()
}

fn run(args: Args) -> Result<Status, Failure> {
    let mut settings = Settings::new(args)?;
    settings.credential.complete()?;
    // Two threads: the connection must stay alive while the main one waits for a line.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Usage(format!("cannot start: {error}")))?;
    let outcome = with_runtime(&runtime, settings);
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    outcome
}

fn with_runtime(runtime: &tokio::runtime::Runtime, settings: Settings) -> Result<Status, Failure> {
    let client = runtime.block_on(connect(&settings))?;
    let interactive = matches!(settings.input, Input::Terminal);
    let (input, history) = (settings.input.clone(), settings.history.clone());
    let mut session = Session::new(client, settings, interactive);
    match &input {
        Input::Terminal => repl::run(runtime, &mut session, history.as_deref()),
        Input::Commands(commands) => {
            for command in commands {
                let status = runtime.block_on(script::run(&mut session, Source::text(command)))?;
                if status != Status::Success {
                    return Ok(status);
                }
            }
            Ok(Status::Success)
        }
        Input::Stdin => runtime.block_on(script::run(&mut session, Source::read(io::stdin(), None))),
        Input::File(path) => {
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
            let name = path.display().to_string();
            runtime.block_on(script::run(&mut session, Source::read(file, Some(name))))
        }
    }
}

async fn connect(settings: &Settings) -> Result<Client, Failure> {
    settings.client().connect().await.map_err(Failure::Connection)
}
