//! `slt PATH…` runs the files named and every `.slt` and `.test` file below the folders named, against a `--dev` server
//! of its own or the one of `KALAMDB_TEST_SERVER`. The exit status is 0 when every record passed, 1 when one failed, 2
//! for a usage error.

use std::{path::Path, process::ExitCode};

use kalamdb_tests::{
    server,
    slt::{self, Tier},
};

const USAGE: &str = "\
usage: slt [--tier hot|cold|mixed] [--seed N] PATH…   (files, or folders with .slt and .test files)
  --tier hot    rows stay where they are written (default)
  --tier cold   after each statement that writes, the tables written are flushed
  --tier mixed  after each, at random, some are flushed or compacted
  --seed N      repeats a run with --tier mixed";

/// The tier and the paths; `None` when the arguments cannot be understood.
fn arguments(given: impl IntoIterator<Item = String>) -> Option<(Tier, Vec<String>)> {
    let (mut tier, mut seed, mut paths) = ("hot".to_owned(), None, Vec::new());
    let mut given = given.into_iter();
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--tier" => tier = given.next()?,
            "--seed" => seed = Some(given.next()?.parse().ok()?),
            option if option.starts_with('-') => return None,
            _ => paths.push(argument),
        }
    }
    let tier = match (tier.as_str(), seed) {
        ("hot", None) => Tier::Hot,
        ("cold", None) => Tier::Cold,
        ("mixed", seed) => Tier::Mixed { seed: seed.unwrap_or_else(rand::random) },
        _ => return None,
    };
    (!paths.is_empty()).then_some((tier, paths))
}

fn main() -> ExitCode {
    let Some((tier, paths)) = arguments(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut files = Vec::new();
    for path in &paths {
        match slt::files(Path::new(path)) {
            Ok(found) => files.extend(found),
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    if files.is_empty() {
        eprintln!("no .slt or .test file below {}", paths.join(", "));
        return ExitCode::from(2);
    }

    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    println!("rows are {tier}");
    let reports = runtime.block_on(slt::run_files(server::shared_url(), files, tier, at_once, |report| {
        for failure in &report.failures {
            println!("{failure}");
        }
        println!("{report}");
    }));

    let sum = |count: fn(&slt::Report) -> usize| reports.iter().map(count).sum::<usize>();
    let (passed, failed, skipped) = (sum(|r| r.passed), sum(|r| r.failed), sum(|r| r.skipped));
    println!("{} files: {passed} records passed, {failed} failed, {skipped} skipped", reports.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
