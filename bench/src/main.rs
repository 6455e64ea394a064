//! `kalam-bench`: throughput and latency of KalamDB under load, beside what the machine allows.
//!
//! Closed-loop clients run a workload against a server over gRPC, and, in alternating slices of the same run, against
//! the workload's physical limit: a bare tonic echo of the same bytes, a bare arrow-flight server of the same batches, a
//! bare RocksDB put loop with group commit, DataFusion on the same rows in memory or on the same files. `kalam-bench --help` lists workloads and options.
//!
//! * [`driver`]: clients, slices, histograms.
//! * [`workloads`]: what is measured. [`limits`]: what it is compared with.
//! * [`wire`]: SQL over gRPC. [`servers`]: the server under test. [`data`]: the rows. [`report`] and [`progress`]: the
//!   output.
//!
//! All processes share the machine's cores: the clients take their part of them both from the server and from its
//! limit, so ratios say more than absolute figures.

mod args;
mod data;
mod driver;
mod error;
mod limits;
mod progress;
mod report;
mod servers;
mod wire;
mod workloads;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    args::{Args, Workload},
    error::{BenchError, Result},
    limits::{broadcast, echo, flight},
    workloads::Context,
};

// The server's allocator, so that the limits measured here have the same one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(response_file) = echo::subcommand_argument(std::env::args_os()) {
        return match echo::serve(&response_file).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    if let Some(script_file) = broadcast::subcommand_argument(std::env::args_os()) {
        return match broadcast::serve(&script_file).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    if let Some(batches_file) = flight::subcommand_argument(std::env::args_os()) {
        return match flight::serve(&batches_file).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    let args = Args::parse();
    let workloads = args.workloads().unwrap_or_else(|error| error.exit());
    let mut context = Context::new(args);
    let outcome = tokio::select! {
        outcome = run(&mut context, &workloads) => outcome,
        // Leaving this function ends the child processes and removes their folders.
        _ = tokio::signal::ctrl_c() => Err(BenchError::Process("interrupted".to_owned())),
    };
    if let Some(table) = report::table(&context.records) {
        println!("{table}");
    }
    match outcome {
        Ok(()) if context.has_errors() => {
            eprintln!("kalam-bench: calls failed under load");
            ExitCode::from(FAILED)
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Runs the workloads; what was found before a failure stays in the context.
async fn run(context: &mut Context, workloads: &[Workload]) -> Result<()> {
    let mut outcome = Ok(());
    for workload in workloads {
        outcome = context.run(workload).await;
        if outcome.is_err() {
            break;
        }
    }
    let cleaned = context.servers.clean_up().await;
    outcome.and(cleaned)
}

fn failed(error: &BenchError) -> ExitCode {
    eprintln!("kalam-bench: {error}");
    ExitCode::from(if matches!(error, BenchError::Usage(_)) { USAGE } else { FAILED })
}
