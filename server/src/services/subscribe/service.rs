//! The method `Subscribe` of gRPC, in place of the generated service.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use kalamdb_proto::v1::SubscribeRequest;
use prost::Message;
use tonic::{
    Status, Streaming,
    codec::{DecodeBuf, Decoder},
};

use super::{SubscribeApi, body::FrameBody, call::LiveCall};
use crate::{call::CallContext, errors};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The name of the service.
pub(crate) use kalamdb_proto::v1::subscribe_service_server::SERVICE_NAME;

/// Answers calls of `Subscribe`.
#[derive(Clone)]
pub(crate) struct SubscribeServer {
    api: Arc<SubscribeApi>,
    max_request_bytes: usize,
}

impl SubscribeServer {
    pub(crate) fn new(api: SubscribeApi, max_request_bytes: usize) -> Self {
        Self { api: Arc::new(api), max_request_bytes }
    }

    /// Answers a call. A status in the headers without details is for the caller to amend, as with generated services.
    pub(crate) fn call<B>(&self, request: Request<B>) -> BoxFuture<Result<Response<tonic::body::Body>, Infallible>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let Self { api, max_request_bytes } = self.clone();
        Box::pin(async move {
            let answer = answer(&api, max_request_bytes, request).await;
            Ok(answer.unwrap_or_else(Status::into_http))
        })
    }
}

async fn answer<B>(
    api: &SubscribeApi,
    max_request_bytes: usize,
    request: Request<B>,
) -> Result<Response<tonic::body::Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    let (mut parts, body) = request.into_parts();
    let encoding = parts.headers.get("grpc-encoding").map_or(&b"identity"[..], HeaderValue::as_bytes);
    if encoding != b"identity" {
        return Err(Status::unimplemented("Compressed requests are not supported; leave grpc-encoding out."));
    }
    let mut messages = Box::pin(Streaming::new_request(RequestDecoder, body, None, Some(max_request_bytes)));
    let message = messages.message().await?;
    let message = message.ok_or_else(|| Status::internal("the request has no message"))?;
    // To the end, so that a connection of HTTP/1.1 can be used again.
    messages.trailers().await?;
    drop(messages);

    let context = parts.extensions.remove::<CallContext>();
    let context = context.ok_or_else(|| {
        errors::refusal(&kalamdb_engine::Error::internal("a call reached its service without a context"))
    })?;
    let call: LiveCall = api.subscribe(&context, message).await?;
    let mut response = Response::new(tonic::body::Body::new(FrameBody::new(call)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

struct RequestDecoder;

impl Decoder for RequestDecoder {
    type Item = SubscribeRequest;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<SubscribeRequest>, Status> {
        SubscribeRequest::decode(source).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
