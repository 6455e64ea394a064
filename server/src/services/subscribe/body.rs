//! The body of an answer of `Subscribe`: frames to bytes, and the status as trailers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, header};
use http_body::{Body, Frame as HttpFrame};
use kalamdb_engine::{Error, Reason};
use tonic::Status;

use super::frame::{Frame, Written};
use crate::errors;

/// Frames are gathered until they have so many bytes, as long as there are some without waiting.
const GATHERED_BYTES: usize = 32 * 1024;

/// The body.
pub(super) struct FrameBody<S> {
    /// `None` once it has ended.
    frames: Option<S>,
    written: Written,
    trailers: Option<HeaderMap>,
}

impl<S> FrameBody<S> {
    pub(super) fn new(frames: S) -> Self {
        Self { frames: Some(frames), written: Written::default(), trailers: None }
    }

    /// Drops the frames, and with them the live queries, before the client has read the end.
    fn end(&mut self, status: Status) {
        self.frames = None;
        let mut trailers = status.into_http::<()>().into_parts().0.headers;
        trailers.remove(header::CONTENT_TYPE);
        self.trailers = Some(trailers);
    }
}

impl<S: Stream<Item = Result<Frame, Status>> + Unpin> FrameBody<S> {
    /// Writes what there is; pending if there is nothing.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(frames) = &mut self.frames {
            match Pin::new(frames).poll_next(cx) {
                Poll::Pending if self.written.len() == 0 => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => {
                    if !frame.write(&mut self.written) {
                        self.end(too_long());
                    }
                }
                Poll::Ready(Some(Err(status))) => self.end(status),
                Poll::Ready(None) => self.end(Status::ok("")),
            }
            if self.written.len() >= GATHERED_BYTES {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl<S: Stream<Item = Result<Frame, Status>> + Unpin> Body for FrameBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<HttpFrame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.written.len() == 0 && this.gather(cx).is_pending() {
            return Poll::Pending;
        }
        if let Some(piece) = this.written.take() {
            return Poll::Ready(Some(Ok(HttpFrame::data(piece))));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(HttpFrame::trailers(trailers))))
    }
}

fn too_long() -> Status {
    let text = "One commit changed more rows than a message can hold. Subscribe with a narrower filter.";
    errors::refusal(&Error::new(Reason::ResultTooLarge, text))
}
