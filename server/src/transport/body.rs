//! Bodies of answers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tonic::{Code, Status};

use crate::{limits::CallPermit, telemetry::rpc::CallRecord};

/// The body of any answer.
pub(crate) enum ResponseBody {
    /// Bytes that are there already.
    Full(Full<Bytes>),
    /// What a gRPC service answers, while it does.
    Call(CallBody),
    /// What the gRPC-web translation makes of the same.
    Translated(tonic::body::Body),
}

/// The answer of a gRPC service. The call lasts as long as this body: until its trailers are read, or until the
/// connection drops it because the client went away.
pub(crate) struct CallBody {
    inner: tonic::body::Body,
    record: CallRecord,
    _permit: Option<CallPermit>,
}

impl CallBody {
    pub(crate) fn new(inner: tonic::body::Body, record: CallRecord, permit: Option<CallPermit>) -> Self {
        Self { inner, record, _permit: permit }
    }
}

impl ResponseBody {
    /// A body of these bytes.
    pub(crate) fn of(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(bytes.into()))
    }
}

impl Default for ResponseBody {
    fn default() -> Self {
        Self::Full(Full::default())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Self::Full(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Translated(body) => Pin::new(body).poll_frame(cx),
            Self::Call(body) => {
                let frame = Pin::new(&mut body.inner).poll_frame(cx);
                match &frame {
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Some(code) = frame.trailers_ref().and_then(grpc_code) {
                            body.record.set_code(code);
                        }
                    }
                    Poll::Ready(Some(Err(status))) => body.record.set_code(status.code()),
                    Poll::Ready(None) | Poll::Pending => {}
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Call(body) => body.inner.is_end_stream(),
            Self::Translated(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Call(body) => body.inner.size_hint(),
            Self::Translated(body) => body.size_hint(),
        }
    }
}

/// The status code in headers or trailers of gRPC, if they have one.
pub(crate) fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}
