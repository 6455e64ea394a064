//! A limit that is a server: this program itself, in a process of its own, started with a hidden subcommand.
//!
//! With the server in another process, as many processes share the cores as when the database is measured.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::Stdio, thread, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::oneshot,
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::transport::server::Router;

use crate::error::{BenchError, Result};

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's process; it ends when this is dropped.
pub(super) struct ServerChild {
    url: String,
    child: Child,
    _input: tempfile::NamedTempFile,
}

impl ServerChild {
    /// Starts this program with a subcommand, whose one argument is a file with `input`.
    pub(super) async fn start(subcommand: &str, input: &[u8]) -> Result<Self> {
        let failed = || format!("cannot start the {subcommand}");
        let file = tempfile::NamedTempFile::new().map_err(BenchError::io(failed()))?;
        std::fs::write(file.path(), input).map_err(BenchError::io(failed()))?;
        let program = std::env::current_exe().map_err(BenchError::io(failed()))?;
        let mut child = Command::new(program)
            .arg(subcommand)
            .arg(file.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::io(failed()))?;
        let stdout = child.stdout.take().ok_or_else(|| BenchError::Process(failed()))?;
        let mut line = String::new();
        let mut reader = BufReader::new(stdout);
        timeout(START_TIMEOUT, reader.read_line(&mut line))
            .await
            .map_err(|_| BenchError::Process(format!("{}: no address within {} s", failed(), START_TIMEOUT.as_secs())))?
            .map_err(BenchError::io(failed()))?;
        let address: SocketAddr =
            line.trim().parse().map_err(|_| BenchError::Process(format!("{}: it ended before listening", failed())))?;
        Ok(Self { url: format!("http://{address}"), child, _input: file })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Process id; `None` once it ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Serves in this process until its standard input is closed, which happens when its parent ends.
pub(super) async fn serve(router: Router) -> Result<()> {
    let failed = || "the limit's server failed";
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(BenchError::io(failed()))?;
    println!("{}", listener.local_addr().map_err(BenchError::io(failed()))?);
    let (ended, parent_ended) = oneshot::channel();
    // Reading blocks, so it gets a thread of its own, which ends with the process.
    thread::spawn(move || {
        // An error of reading means the same as the end: nobody is there.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    // `Server::tcp_nodelay` is for listeners that tonic opens itself; without it small answers wait for 40 ms.
    let connections = TcpListenerStream::new(listener).map(|connection| {
        let connection = connection?;
        connection.set_nodelay(true)?;
        std::io::Result::Ok(connection)
    });
    // No graceful shutdown: a client's open connection must not keep an orphan alive.
    tokio::select! {
        served = router.serve_with_incoming(connections) => {
            served.map_err(|error| BenchError::Process(format!("{}: {error}", failed())))
        }
        _ = parent_ended => Ok(()),
    }
}

/// The subcommand's argument, if the program was started with it.
pub(super) fn argument(subcommand: &str, mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    (arguments.nth(1)? == subcommand).then(|| arguments.next().map(PathBuf::from)).flatten()
}
