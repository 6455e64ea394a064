//! One live query's events as frames.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use kalamdb_engine::{CommitChanges, Error, IdleProgress, LiveEnd, LiveEvent, LiveQuery};
use kalamdb_proto::v1::{
    LiveEnded, LiveProgress, LiveReady, LiveReset, LiveStarted, ResultFormat, RowBatch, subscribe_response::Event,
};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::frame::Frame;
use crate::{
    call::TraceId,
    convert::{self, Pieces},
    errors,
    identity::Grant,
    services::stream::{MAX_MESSAGE_BYTES, into_messages, pieces},
};

/// A message with changes is closed when it has so many bytes. A commit is never divided.
const MESSAGE_BYTES: usize = 256 * 1024;

/// Changes are held back no longer once they have so many bytes.
const HELD_BYTES: usize = 1024 * 1024;

/// A frame, and the status of the call if the query's end is that of the call.
pub(super) struct Output {
    pub(super) frame: Frame,
    pub(super) end: Option<Status>,
}

/// A feed as a stream of its own.
pub(super) type FeedStream = Pin<Box<dyn Stream<Item = Output> + Send>>;

/// A live query that is served.
pub(super) struct QueryFeed {
    query: LiveQuery,
    index: u32,
    delay: Duration,
    node_id: u16,
    trace: TraceId,
    grant: Arc<Grant>,
    state: State,
    /// Initial rows, in pieces that are converted one at a time.
    rows: Pieces,
    /// Messages of the piece before.
    messages: VecDeque<RowBatch>,
    /// Changes, encoded.
    commits: Vec<Bytes>,
    /// What came behind the changes.
    next: Option<LiveEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Started,
    Ended,
}

impl QueryFeed {
    /// `delay`: how long changes may wait for others.
    pub(super) fn new(
        query: LiveQuery,
        index: u32,
        delay: Duration,
        node_id: u16,
        trace: TraceId,
        grant: Arc<Grant>,
    ) -> Self {
        Self {
            query,
            index,
            delay,
            node_id,
            trace,
            grant,
            state: State::New,
            rows: pieces(ResultFormat::Rows),
            messages: VecDeque::new(),
            commits: Vec::new(),
            next: None,
        }
    }

    /// The place of the query in the request, and what tells of it while it has no events.
    pub(super) fn idle_progress(&self) -> (u32, IdleProgress) {
        (self.index, self.query.idle_progress())
    }

    pub(super) fn into_stream(self) -> FeedStream {
        Box::pin(stream::unfold(Box::new(self), |mut feed| async move {
            let output = feed.output().await?;
            feed.query.note_sent(output.frame.message_len());
            Some((output, feed))
        }))
    }

    /// The next frame; `None` after the end.
    async fn output(&mut self) -> Option<Output> {
        match self.state {
            State::New => {
                self.state = State::Started;
                Some(Output { frame: self.started(), end: None })
            }
            State::Started => match self.frame().await {
                Ok(frame) => Some(Output { frame: frame?, end: None }),
                Err(end) => Some(self.ended(end)),
            },
            State::Ended => None,
        }
    }

    fn started(&self) -> Frame {
        let started = LiveStarted {
            live_id: self.query.id().to_string(),
            columns: convert::to_columns(self.query.columns()),
            node_id: u32::from(self.node_id),
        };
        Frame::event(self.index, Event::Started(started))
    }

    /// The next frame between the first and the last. `Err`: the query has ended.
    async fn frame(&mut self) -> Result<Option<Frame>, LiveEnd> {
        loop {
            if self.grant.ended().is_some() {
                // Rows that wait for a client that may not see them any more. Changes are told: the token comes after them.
                self.rows.clear();
                self.messages.clear();
            }
            if let Some(frame) = self.frame_at_hand().map_err(cannot_be_told)? {
                return Ok(Some(frame));
            }
            let event = match self.next.take() {
                Some(event) => event,
                // Nothing is held back here, so that whoever serves the call may tell its progress.
                None => match self.query.next_unless_idle().await {
                    Some(event) => event,
                    None => return Ok(None),
                },
            };
            let event = match event {
                LiveEvent::Rows(batch) => {
                    self.rows.begin(batch);
                    continue;
                }
                LiveEvent::Changes(commits) => {
                    self.hold(&commits);
                    if !self.delay.is_zero() {
                        self.gather().await;
                    }
                    continue;
                }
                LiveEvent::Ready { commit_seq, token, row_count } => {
                    Event::Ready(LiveReady { commit_seq: commit_seq.get(), resume_token: token, row_count })
                }
                LiveEvent::Progress { commit_seq, token } => {
                    Event::Progress(LiveProgress { commit_seq: commit_seq.get(), resume_token: token })
                }
                LiveEvent::Reset { why } => Event::Reset(LiveReset {
                    reason: why.reason().as_str().to_owned(),
                    message: why.message().to_owned(),
                }),
                LiveEvent::Ended(end) => return Err(end),
            };
            return Ok(Some(Frame::event(self.index, event)));
        }
    }

    /// What can be said without asking the query.
    fn frame_at_hand(&mut self) -> Result<Option<Frame>, Error> {
        if !self.commits.is_empty() {
            return Ok(Some(self.changes()));
        }
        loop {
            if let Some(rows) = self.messages.pop_front() {
                return Ok(Some(Frame::event(self.index, Event::Rows(rows))));
            }
            let Some(piece) = self.rows.next() else { return Ok(None) };
            let rows = convert::to_rows(&piece?, self.query.columns())?;
            self.messages = into_messages(rows, MAX_MESSAGE_BYTES).into();
        }
    }

    /// Some of the changes that are held.
    fn changes(&mut self) -> Frame {
        let mut bytes = 0;
        let full = self.commits.iter().position(|commit| {
            bytes += commit.len();
            bytes >= MESSAGE_BYTES
        });
        let rest = full.map(|last| self.commits.split_off(last + 1)).unwrap_or_default();
        Frame::Changes { query_index: self.index, commits: std::mem::replace(&mut self.commits, rest) }
    }

    /// Holds changes to be told, encoded. One that cannot be encoded ends the query behind those before it.
    fn hold(&mut self, commits: &[Arc<CommitChanges>]) {
        let columns = self.query.columns();
        for commit in commits {
            let mut failure = None;
            let bytes = commit.encoded(|commit| {
                convert::to_encoded_commit(commit, columns).unwrap_or_else(|error| {
                    failure = Some(error);
                    Bytes::new()
                })
            });
            if bytes.is_empty() {
                // Somebody else may have found out before.
                let why = failure.or_else(|| convert::to_encoded_commit(commit, columns).err());
                let why = why.unwrap_or_else(|| Error::internal("a commit was encoded as nothing"));
                self.next = Some(LiveEvent::Ended(cannot_be_told(why)));
                return;
            }
            self.commits.push(bytes);
        }
    }

    /// Waits for more changes as long as those at hand may be held back.
    async fn gather(&mut self) {
        let until = Instant::now() + self.delay;
        while self.next.is_none() && self.commits.iter().map(Bytes::len).sum::<usize>() < HELD_BYTES {
            match timeout_at(until, self.query.next()).await {
                Ok(Some(LiveEvent::Changes(commits))) => self.hold(&commits),
                // It must not overtake the changes, and there will be another.
                Ok(Some(LiveEvent::Progress { .. })) => {}
                Ok(event) => {
                    self.next = event;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    fn ended(&mut self, end: LiveEnd) -> Output {
        self.state = State::Ended;
        let LiveEnd { why, token } = end;
        let why = why.with("query_index", self.index.to_string());
        let ended = LiveEnded {
            reason: why.reason().as_str().to_owned(),
            message: why.message().to_owned(),
            resume_token: token.unwrap_or_default(),
        };
        let status = errors::to_status(&why, self.trace);
        Output { frame: Frame::event(self.index, Event::Ended(ended)), end: Some(status) }
    }
}

/// The end of a query with rows that have no form on the wire: it would be the same again.
fn cannot_be_told(why: Error) -> LiveEnd {
    LiveEnd { why, token: None }
}
