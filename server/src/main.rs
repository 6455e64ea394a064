//! The `kalamdb-server` binary. Exit status: 0 after an orderly stop, 1 when the server could not run, 2 for wrong
//! usage or configuration.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kalamdb_server::main()
}
