//! The live queries of one call, as one stream of frames.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::SelectAll};
use kalamdb_engine::{Error, Reason};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::{
    feed::{FeedStream, Output, QueryFeed},
    frame::Frame,
};
use crate::{call::TraceId, errors};

/// A call. The queries take turns; one that has nothing to say costs nothing.
pub(super) struct LiveCall {
    feeds: SelectAll<FeedStream>,
    deadline: Option<Pin<Box<Sleep>>>,
    trace: TraceId,
    /// Why the last of those queries ended that have.
    last_end: Option<Status>,
    ended: bool,
}

impl LiveCall {
    pub(super) fn new(feeds: impl Iterator<Item = QueryFeed>, timeout: Option<Duration>, trace: TraceId) -> Self {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self {
            feeds: feeds.map(QueryFeed::into_stream).collect(),
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
            trace,
            last_end: None,
            ended: false,
        }
    }

    /// Frees the queries, and ends with `status`.
    fn end(&mut self, status: Option<Status>) -> Poll<Option<Result<Frame, Status>>> {
        self.ended = true;
        self.deadline = None;
        self.feeds.clear();
        Poll::Ready(status.map(Err))
    }
}

impl Stream for LiveCall {
    type Item = Result<Frame, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            let error = Error::new(
                Reason::StatementTimeout,
                "The call was stopped at its deadline. Subscribe again with the last resume tokens, or without a deadline.",
            );
            return this.end(Some(errors::to_status(&error, this.trace)));
        }
        match this.feeds.poll_next_unpin(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Output { frame, end })) => {
                if end.is_some() {
                    this.last_end = end;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                let status = this.last_end.take();
                this.end(status)
            }
        }
    }
}
