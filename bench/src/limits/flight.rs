//! A bare arrow-flight server, in a process of its own: it streams prepared batches from memory to whoever asks for
//! anything, and takes whatever is put, decodes it and forgets it.
//!
//! It speaks Arrow Flight with arrow-flight's own encoder and decoder, so a read costs the network, HTTP/2 and the encoding
//! of the very batches that the database would have sent, and a write the same and their decoding.

use std::{
    iter,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
    decode::FlightRecordBatchStream,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_server::{FlightService, FlightServiceServer},
    sql::DoPutUpdateResult,
};
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use prost::Message;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{
    child::{self, ServerChild},
    echo::MAX_MESSAGE_BYTES,
};
use crate::error::{BenchError, Result};

/// The hidden subcommand; its one argument is the file with the batches.
const SUBCOMMAND: &str = "flight-server";
const FAILED: &str = "the arrow-flight server failed";

/// What the server streams.
#[derive(Clone)]
struct Rows {
    schema: SchemaRef,
    batches: Arc<[RecordBatch]>,
    /// Rows of an answer. When the batches have fewer, they come again and again.
    count: u64,
}

impl Rows {
    fn encode(&self) -> Result<Vec<u8>, ArrowError> {
        let mut writer = StreamWriter::try_new(self.count.to_le_bytes().to_vec(), &self.schema)?;
        for batch in self.batches.iter() {
            writer.write(batch)?;
        }
        writer.into_inner()
    }

    fn decode(bytes: &[u8]) -> Result<Self, ArrowError> {
        let short = || ArrowError::ParseError("there is no number of rows".to_owned());
        let (count, stream) = bytes.split_first_chunk().ok_or_else(short)?;
        let reader = StreamReader::try_new(stream, None)?;
        let schema = reader.schema();
        let batches: Vec<RecordBatch> =
            reader.filter(|batch| !matches!(batch, Ok(batch) if batch.num_rows() == 0)).collect::<Result<_, _>>()?;
        let count = if batches.is_empty() { 0 } else { u64::from_le_bytes(*count) };
        Ok(Self { schema, batches: batches.into(), count })
    }

    /// The batches of one answer.
    fn answer(&self) -> impl Iterator<Item = RecordBatch> + Send + use<> {
        let (batches, mut place, mut left) = (Arc::clone(&self.batches), 0, self.count);
        iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let batch = batches.get(place)?;
            place = (place + 1) % batches.len();
            let rows = left.min(batch.num_rows() as u64);
            left -= rows;
            Some(batch.slice(0, rows as usize))
        })
    }
}

/// The server's process; it ends when this is dropped.
pub(crate) struct FlightServer(ServerChild);

impl FlightServer {
    /// Starts a server whose answers have so many rows, of these batches.
    pub(crate) async fn start(schema: &SchemaRef, batches: &[RecordBatch], count: u64) -> Result<Self> {
        let rows = Rows { schema: Arc::clone(schema), batches: batches.into(), count };
        let input = rows.encode().map_err(|error| BenchError::Process(format!("{FAILED}: {error}")))?;
        ServerChild::start(SUBCOMMAND, &input).await.map(Self)
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url()
    }

    /// Process id; `None` once it ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.pid()
    }
}

/// Runs the server in this process until its standard input is closed, which happens when its parent ends.
pub(crate) async fn serve(file: &Path) -> Result<()> {
    let bytes = std::fs::read(file).map_err(BenchError::io(FAILED))?;
    let rows = Rows::decode(&bytes).map_err(|error| BenchError::Input(format!("{}: {error}", file.display())))?;
    drop(bytes);
    let service = FlightServiceServer::new(Bare(rows))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    child::serve(Server::builder().add_service(service)).await
}

/// The hidden subcommand's argument, if the program was started with it.
pub(crate) fn subcommand_argument(arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<PathBuf> {
    child::argument(SUBCOMMAND, arguments)
}

struct Bare(Rows);

fn not_offered<T>() -> Result<T, Status> {
    Err(Status::unimplemented("the bare arrow-flight server answers GetFlightInfo, DoGet and DoPut only"))
}

#[tonic::async_trait]
impl FlightService for Bare {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new("rows"));
        let info = FlightInfo::new()
            .try_with_schema(&self.0.schema)
            .map_err(|error| Status::internal(error.to_string()))?
            .with_endpoint(endpoint)
            .with_descriptor(request.into_inner());
        Ok(Response::new(info))
    }

    async fn do_get(&self, _request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(Arc::clone(&self.0.schema))
            .build(stream::iter(self.0.answer().map(Ok)));
        Ok(Response::new(encoded.map_err(Status::from).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let mut batches =
            FlightRecordBatchStream::new_from_flight_data(request.into_inner().map_err(FlightError::from));
        let mut rows = 0;
        while let Some(batch) = batches.next().await {
            rows += batch.map_err(Status::from)?.num_rows() as i64;
        }
        let result = DoPutUpdateResult { record_count: rows };
        let answer = PutResult { app_metadata: result.encode_to_vec().into() };
        Ok(Response::new(stream::iter([Ok(answer)]).boxed()))
    }

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        not_offered()
    }

    async fn list_flights(&self, _request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_offered()
    }

    async fn poll_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        not_offered()
    }

    async fn get_schema(&self, _request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        not_offered()
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        not_offered()
    }

    async fn do_action(&self, _request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        not_offered()
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        not_offered()
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Int64Array, RecordBatch},
        datatypes::{DataType, Field, Schema},
    };

    use super::*;

    fn rows(counts: &[i64], count: u64) -> Rows {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let batch = |rows: &i64| {
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from_iter_values(0..*rows))]).unwrap()
        };
        Rows { batches: counts.iter().map(batch).collect(), count, schema }
    }

    fn answered(rows: &Rows) -> Vec<usize> {
        rows.answer().map(|batch| batch.num_rows()).collect()
    }

    #[test]
    fn batches_come_again_until_there_are_enough_rows() {
        assert_eq!(answered(&rows(&[3, 2], 9)), [3, 2, 3, 1]);
        assert_eq!(answered(&rows(&[3, 2], 2)), [2]);
        assert_eq!(answered(&rows(&[3], 0)), [0_usize; 0]);
    }

    #[test]
    fn rows_survive_their_file() {
        let decoded = Rows::decode(&rows(&[3, 0, 2], 9).encode().unwrap()).unwrap();
        assert_eq!((answered(&decoded), decoded.schema.fields().len()), (vec![3, 2, 3, 1], 1));
        // Without a row to repeat there is none, and no endless answer.
        let empty = Rows::decode(&rows(&[0], 9).encode().unwrap()).unwrap();
        assert_eq!(answered(&empty), [0_usize; 0]);
        assert!(Rows::decode(&[1, 2]).is_err());
    }
}
