//! A bare tonic server that answers every call with one prepared response, in a process of its own.
//!
//! It speaks the same service with the same messages over the same transport as the database, so a call costs the
//! network, HTTP/2 and the encoding of the very bytes that the database would have sent.

use std::path::{Path, PathBuf};

use futures::stream;
use kalamdb_proto::v1::{
    ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse,
    query_service_server::{QueryService, QueryServiceServer},
};
use prost::Message;
use tonic::{Request, Response, Status, transport::Server};

use super::child::{self, ServerChild};
use crate::error::{BenchError, Result};

/// The hidden subcommand; its one argument is the file with the encoded response.
const SUBCOMMAND: &str = "echo-server";
/// The largest message either side takes, as large as the database allows or larger.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The echo server's process; it ends when this is dropped.
pub(crate) struct EchoServer(ServerChild);

impl EchoServer {
    /// Starts a server that answers with `response`.
    pub(crate) async fn start(response: &ExecuteResponse) -> Result<Self> {
        ServerChild::start(SUBCOMMAND, &response.encode_to_vec()).await.map(Self)
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url()
    }

    /// Process id; `None` once it ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.pid()
    }
}

/// Runs the echo server in this process until its standard input is closed, which happens when its parent ends.
pub(crate) async fn serve(response_file: &Path) -> Result<()> {
    let bytes = std::fs::read(response_file).map_err(BenchError::io("the echo server failed"))?;
    let response = ExecuteResponse::decode(bytes.as_slice())
        .map_err(|error| BenchError::Input(format!("{}: {error}", response_file.display())))?;
    let service = QueryServiceServer::new(Echo { response })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    child::serve(Server::builder().add_service(service)).await
}

/// The hidden subcommand's argument, if the program was started with it.
pub(crate) fn subcommand_argument(arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<PathBuf> {
    child::argument(SUBCOMMAND, arguments)
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
