//! The live queries of one call, as one stream of frames.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::SelectAll};
use kalamdb_engine::{Error, IdleProgress, Reason};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::{
    feed::{FeedStream, Output, QueryFeed},
    frame::Frame,
};
use crate::{call::TraceId, errors};

/// Queries without changes are told this often that there are none.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A call. The queries take turns; one that has nothing to say costs nothing, but to be told of with all others once a
/// second.
pub(super) struct LiveCall {
    feeds: SelectAll<FeedStream>,
    idle: Vec<(u32, IdleProgress)>,
    tick: Pin<Box<Sleep>>,
    /// Of the last tick, to be sent before what the queries give from then on.
    progress: VecDeque<Frame>,
    deadline: Option<Pin<Box<Sleep>>>,
    trace: TraceId,
    /// Why the last of those queries ended that have.
    last_end: Option<Status>,
    ended: bool,
}

impl LiveCall {
    pub(super) fn new(feeds: impl Iterator<Item = QueryFeed>, timeout: Option<Duration>, trace: TraceId) -> Self {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut idle = Vec::new();
        let feeds = feeds.inspect(|feed| idle.push(feed.idle_progress())).map(QueryFeed::into_stream).collect();
        Self {
            feeds,
            idle,
            tick: Box::pin(sleep_until(Instant::now() + PROGRESS_INTERVAL)),
            progress: VecDeque::new(),
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
        self.idle = Vec::new();
        Poll::Ready(status.map(Err))
    }

    /// Looks at the queries that wait for changes, when it is time to.
    fn tell_progress(&mut self, cx: &mut Context<'_>) {
        while self.tick.as_mut().poll(cx).is_ready() {
            self.progress.extend(self.idle.iter().filter_map(|(index, idle)| {
                let (commit_seq, token) = idle.now()?;
                let frame = Frame::Progress { query_index: *index, commit_seq: commit_seq.get(), token };
                idle.note_sent(frame.message_len());
                Some(frame)
            }));
            self.tick.as_mut().reset(Instant::now() + PROGRESS_INTERVAL);
        }
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
        this.tell_progress(cx);
        if let Some(frame) = this.progress.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
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
