//! Asking a process to end.

use std::{
    io,
    process::{Command, Stdio},
};

/// Sends SIGTERM. The process must be a child that was not waited for, so that its id is still its own.
///
/// The standard library only knows SIGKILL; the shell's own `kill` is on every Unix, and spares this crate a
/// dependency.
pub(super) fn terminate(pid: u32) -> io::Result<()> {
    let output = Command::new("sh")
        .args(["-c", "kill -TERM \"$1\"", "sh"])
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
