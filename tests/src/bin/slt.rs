//! `slt PATH…` runs every `.slt` and `.test` file at or below the paths, against a `--dev` server of its own or the one
//! of `KALAMDB_TEST_SERVER`. The exit status is 0 when every record passed, 1 when one failed, 2 for a usage error.

use std::{path::Path, process::ExitCode};

use kalamdb_tests::{server, slt};

fn main() -> ExitCode {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() || paths.iter().any(|path| path.starts_with('-')) {
        eprintln!("usage: slt PATH…   (.slt and .test files, or folders of them)");
        return ExitCode::from(2);
    }
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
        eprintln!("no .slt or .test file at or below {}", paths.join(", "));
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
    let reports = runtime.block_on(slt::run_files(server::shared_url(), files, at_once, |report| {
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
