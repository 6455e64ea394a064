//! Progress of live queries that wait for changes.
//!
//! Most live queries are idle most of the time, and every second each is told that nothing has happened. A timer and a
//! waking for each would be most of the work of a server with many of them. So a query that waits leaves a note of where
//! it waits, and whoever serves several asks all of them at once.

use std::sync::Arc;

use kalamdb_store::ids::CommitSeq;

use super::{feed::Feed, hub::LiveHub, query_class::QueryClass, subscriber::Subscriber, token::ResumeToken};

/// Tells how far a live query is while it waits in [`LiveQuery::next_unless_idle`](super::LiveQuery::next_unless_idle).
#[derive(Debug)]
pub struct IdleProgress {
    hub: Arc<LiveHub>,
    subscriber: Arc<Subscriber>,
}

/// Where a query waits for changes.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) feed: Arc<Feed>,
    pub(super) class: Arc<QueryClass>,
}

impl IdleProgress {
    pub(super) fn new(hub: Arc<LiveHub>, subscriber: Arc<Subscriber>) -> Self {
        Self { hub, subscriber }
    }

    /// The commit up to which the query has had all changes, and the token that resumes after it; `None` if it does not
    /// wait, or has something to say itself.
    ///
    /// It is true of all that the query gave before, and comes before all that it gives afterwards: it is to be asked by
    /// the task that also waits for the query.
    pub fn now(&self) -> Option<(CommitSeq, ResumeToken)> {
        let idle = self.subscriber.idle.lock();
        let Idle { feed, class } = idle.as_ref()?;
        // Before the queue: what is settled now is in the queue already.
        let settled = feed.settled(&self.hub);
        if !self.subscriber.has_nothing() {
            return None;
        }
        self.subscriber.told(settled, 0);
        let at = self.subscriber.position();
        Some((at, class.key.tokens.resume_token(at)))
    }

    /// How many bytes the progress took on its way to the subscriber; for statistics.
    pub fn note_sent(&self, bytes: usize) {
        self.subscriber.note_sent(bytes);
        self.hub.counters.bytes.increment(bytes as u64);
    }
}
