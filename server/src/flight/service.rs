//! The calls of `FlightService`.

use std::pin::Pin;

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket, flight_service_server::FlightService,
};
use futures::{Stream, stream};
use kalamdb_engine::Error;
use tonic::{Request, Response, Status, Streaming, metadata::AsciiMetadataValue};

use super::{FlightApi, actions, command::not_supported, info::InfoStream, stream::DataStream};
use crate::errors;

/// Messages, one by one.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One message.
fn one<T: Send + 'static>(message: T) -> Messages<T> {
    Box::pin(stream::iter([Ok(message)]))
}

#[tonic::async_trait]
impl FlightService for FlightApi {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = InfoStream;
    type DoGetStream = DataStream;
    type DoPutStream = Messages<PutResult>;
    type DoExchangeStream = DataStream;
    type DoActionStream = Messages<ActionResult>;
    type ListActionsStream = Messages<ActionType>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Ok(self.shake_hands(request).await?.map(one))
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let (call, criteria) = self.split(request)?;
        let listing = async { self.flights(&call, &criteria.expression) };
        self.run(&call, listing).await.map(Response::new)
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let (call, descriptor) = self.split(request)?;
        self.run(&call, self.info(&call, descriptor)).await.map(Response::new)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let (call, descriptor) = self.split(request)?;
        self.run(&call, self.poll_info(&call, descriptor)).await.map(Response::new)
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let (call, descriptor) = self.split(request)?;
        self.run(&call, self.schema(&call, &descriptor)).await.map(Response::new)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let (call, ticket) = self.split(request)?;
        self.run(&call, self.rows(&call, ticket.ticket)).await.map(Response::new)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let (call, messages) = self.split(request)?;
        self.run(&call, self.put(&call, messages)).await.map(one).map(Response::new)
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let (call, _) = self.split(request)?;
        let error = not_supported("DoExchange is not supported. Read with DoGet, and write with DoPut.");
        Err(errors::to_status(&error, call.context.trace))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let (call, action) = self.split(request)?;
        let answer = self.run(&call, self.act(&call, action)).await?;
        let results: Self::DoActionStream = match answer.body {
            Some(body) => one(ActionResult { body }),
            None => Box::pin(stream::empty()),
        };
        let mut response = Response::new(results);
        if let Some(cookie) = answer.cookie {
            let value = AsciiMetadataValue::try_from(cookie)
                .map_err(|error| errors::to_status(&Error::internal(error), call.context.trace))?;
            response.metadata_mut().insert("set-cookie", value);
        }
        Ok(response)
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        self.split(request)?;
        let types: Vec<Result<ActionType, Status>> = actions::types().map(Ok).collect();
        Ok(Response::new(Box::pin(stream::iter(types))))
    }
}
