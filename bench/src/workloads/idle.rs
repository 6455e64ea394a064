//! An empty server: how long it takes to serve, and what it holds in memory when nothing happens.

use std::time::{Duration, Instant};

use kalamdb_proto::v1::ExecuteResponse;
use tokio::time::sleep;

use super::{Context, ECHO};
use crate::{
    error::{BenchError, Result},
    limits::echo::EchoServer,
    report::{IdleRecord, Record},
    servers::{Durability, Server},
    wire,
};

/// From serving to looking at the memory.
const SETTLE: Duration = Duration::from_secs(2);

/// Starts a server on an empty folder, then the echo server.
pub(super) async fn idle(context: &mut Context) -> Result<()> {
    let begin = Instant::now();
    let server = Server::start(Durability::Sync, &context.folder()).await?;
    let start_ms = milliseconds(begin);
    sleep(SETTLE).await;
    let resident_bytes = resident_bytes(server.pid())?;
    drop(server);

    let begin = Instant::now();
    let echo = EchoServer::start(&ExecuteResponse::default()).await?;
    wire::connect(echo.url()).await?;
    let limit_start_ms = milliseconds(begin);
    sleep(SETTLE).await;
    let limit_resident_bytes = self::resident_bytes(echo.pid())?;
    context.report(Record::Idle(IdleRecord {
        workload: "idle",
        start_ms,
        resident_bytes,
        limit: ECHO,
        limit_start_ms,
        limit_resident_bytes,
    }))
}

fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1_000.0
}

/// Resident memory of a process, as Linux tells it.
pub(super) fn resident_bytes(pid: Option<u32>) -> Result<u64> {
    let pid = pid.ok_or_else(|| BenchError::Process("the process ended".to_owned()))?;
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(BenchError::io(format!("cannot read {path}")))?;
    vm_rss_bytes(&status).ok_or_else(|| BenchError::Process(format!("{path} has no VmRSS")))
}

fn vm_rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(vm_rss_bytes("Name:\tx\nVmRSS:\t   2048 kB\nThreads: 3\n"), Some(2_097_152));
        assert_eq!(vm_rss_bytes("Name:\tx\n"), None);
    }
}
