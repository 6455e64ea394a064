//! Scripts in Python, with the Arrow clients that users have: `scripts/python_clients.sh` installs and runs them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// How long a script may take, the installation of the clients among it.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a script of `tests/python/` against a server, with further arguments and environment variables.
///
/// # Panics
/// With all that it printed, when it fails or takes too long.
pub async fn run_script(script: &str, server: &str, arguments: &[&str], variables: &[(&str, &str)]) {
    let address = server.strip_prefix("http://").unwrap_or(server);
    let mut command = Command::new(in_repository("scripts/python_clients.sh"));
    command.arg(in_repository("tests/python").join(script)).arg(address).args(arguments);
    command.envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match timeout(LIMIT, command.output()).await {
        Ok(output) => output.expect("run scripts/python_clients.sh"),
        Err(_) => panic!("{script} has not ended within {} s", LIMIT.as_secs()),
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} failed ({}):\n{out}\n{err}", output.status);
    println!("{script}:\n{out}");
}

/// A path of this repository.
pub fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
