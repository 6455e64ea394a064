//! A bare tonic server that answers every call with one prepared response, in a process of its own.
//!
//! It speaks the same service with the same messages over the same transport as the database, so a call costs the
//! network, HTTP/2 and the encoding of the very bytes that the database would have sent; and with the server in another
//! process, as many processes share the cores as when the database is measured. It is this program itself, started with
//! a hidden subcommand.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use futures::stream;
use kalamdb_proto::v1::{
    ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse,
    query_service_server::{QueryService, QueryServiceServer},
};
use prost::Message;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::oneshot,
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use crate::error::{BenchError, Result};

/// The hidden subcommand; its one argument is the file with the encoded response.
pub(crate) const SUBCOMMAND: &str = "echo-server";
/// The largest message either side takes, as large as the database allows or larger.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The echo server's process; it ends when this is dropped.
pub(crate) struct EchoServer {
    url: String,
    child: Child,
    _response: tempfile::NamedTempFile,
}

impl EchoServer {
    /// Starts a server that answers with `response`.
    pub(crate) async fn start(response: &ExecuteResponse) -> Result<Self> {
        let failed = "cannot start the echo server";
        let file = tempfile::NamedTempFile::new().map_err(BenchError::io(failed))?;
        std::fs::write(file.path(), response.encode_to_vec()).map_err(BenchError::io(failed))?;
        let program = std::env::current_exe().map_err(BenchError::io(failed))?;
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            .arg(file.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::io(failed))?;
        let stdout = child.stdout.take().ok_or_else(|| BenchError::Process(failed.to_owned()))?;
        let mut line = String::new();
        let mut reader = BufReader::new(stdout);
        timeout(START_TIMEOUT, reader.read_line(&mut line))
            .await
            .map_err(|_| BenchError::Process(format!("{failed}: no address within {} s", START_TIMEOUT.as_secs())))?
            .map_err(BenchError::io(failed))?;
        let address: SocketAddr =
            line.trim().parse().map_err(|_| BenchError::Process(format!("{failed}: it ended before listening")))?;
        Ok(Self { url: format!("http://{address}"), child, _response: file })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Process id; `None` once it ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Runs the echo server in this process until its standard input is closed, which happens when its parent ends.
pub(crate) async fn serve(response_file: &Path) -> Result<()> {
    let failed = || "the echo server failed";
    let bytes = std::fs::read(response_file).map_err(BenchError::io(failed()))?;
    let response = ExecuteResponse::decode(bytes.as_slice())
        .map_err(|error| BenchError::Input(format!("{}: {error}", response_file.display())))?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(BenchError::io(failed()))?;
    println!("{}", listener.local_addr().map_err(BenchError::io(failed()))?);
    let service = QueryServiceServer::new(Echo { response })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
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
    let server = Server::builder().add_service(service);
    // No graceful shutdown: a client's open connection must not keep an orphan alive.
    tokio::select! {
        served = server.serve_with_incoming(connections) => {
            served.map_err(|error| BenchError::Process(format!("{}: {error}", failed())))
        }
        _ = parent_ended => Ok(()),
    }
}

/// The hidden subcommand's argument, if the program was started with it.
pub(crate) fn subcommand_argument(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<PathBuf> {
    (arguments.nth(1)? == SUBCOMMAND).then(|| arguments.next().map(PathBuf::from)).flatten()
}

struct Echo {
    response: ExecuteResponse,
}

#[tonic::async_trait]
impl QueryService for Echo {
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        drop(request);
        Ok(Response::new(self.response.clone()))
    }

    type ExecuteStreamStream = stream::Empty<Result<ExecuteStreamResponse, Status>>;

    async fn execute_stream(
        &self,
        _request: Request<ExecuteStreamRequest>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        Err(Status::unimplemented("the echo server answers Execute only"))
    }
}
