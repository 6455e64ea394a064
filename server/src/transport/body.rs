//! Bodies of answers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use kalamdb_engine::Error;
use tonic::{Code, Status};

use crate::{errors, identity::Grant, limits::CallPermit, telemetry::rpc::CallRecord};

/// The body of any answer.
#[allow(clippy::large_enum_variant, reason = "nearly all bodies are those of calls")]
pub(crate) enum ResponseBody {
    /// Bytes that are there already.
    Full(Full<Bytes>),
    /// What a gRPC service answers, while it does.
    Call(CallBody),
    /// What the gRPC-web translation makes of the same.
    Translated(tonic::body::Body),
}

/// The answer of a gRPC service. The call lasts as long as this body: until its trailers are read, or until the
/// connection drops it because the client went away. If the caller's right to go on goes before, so does the answer, and
/// the trailers say why.
pub(crate) struct CallBody {
    /// `None` once it was given up.
    inner: Option<tonic::body::Body>,
    record: CallRecord,
    _permit: Option<CallPermit>,
    /// Held for its place among the calls under way.
    _grant: Option<Arc<Grant>>,
    withdrawn: Option<Pin<Box<dyn Future<Output = Error> + Send>>>,
}

impl CallBody {
    /// `cut`: the answer lasts, and is to end with the grant.
    pub(crate) fn new(
        inner: tonic::body::Body,
        record: CallRecord,
        permit: Option<CallPermit>,
        grant: Option<Arc<Grant>>,
        cut: bool,
    ) -> Self {
        let watched = grant.clone().filter(|grant| cut && grant.can_end());
        let withdrawn = watched.map(|grant| Box::pin(async move { grant.withdrawn().await }) as Pin<Box<_>>);
        Self { inner: Some(inner), record, _permit: permit, _grant: grant, withdrawn }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        if let Some(Poll::Ready(why)) = self.withdrawn.as_mut().map(|withdrawn| withdrawn.as_mut().poll(cx)) {
            self.inner = None;
            self.withdrawn = None;
            let status = errors::to_status(&why, self.record.trace());
            self.record.set_code(status.code());
            let mut trailers = status.into_http::<()>().into_parts().0.headers;
            trailers.remove(header::CONTENT_TYPE);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = Pin::new(inner).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(grpc_code) {
                    self.record.set_code(code);
                    self.withdrawn = None;
                }
            }
            Poll::Ready(Some(Err(status))) => self.record.set_code(status.code()),
            Poll::Ready(None) => self.withdrawn = None,
            Poll::Pending => {}
        }
        frame
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
            Self::Call(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Call(body) => body.inner.as_ref().is_none_or(Body::is_end_stream),
            Self::Translated(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Call(body) => body.inner.as_ref().map(Body::size_hint).unwrap_or_default(),
            Self::Translated(body) => body.size_hint(),
        }
    }
}

/// The status code in headers or trailers of gRPC, if they have one.
pub(crate) fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}
