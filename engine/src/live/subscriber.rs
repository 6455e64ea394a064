//! A subscriber as others see it: its queue, its end, what is known about it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kalamdb_store::ids::{CommitSeq, TableId, UserId};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    coalesce::coalesce,
    event::CommitChanges,
    feed::Feed,
    idle::Idle,
    info::{LiveQueryId, LiveQueryInfo},
    query_class::QueryClass,
    request::SlowConsumer,
};
use crate::error::{Error, Reason};

/// A live query's place among all. The feed of its partition puts changes into its queue; whoever has the
/// [`LiveQuery`](super::LiveQuery) takes them out.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) id: LiveQueryId,
    pub(super) user: UserId,
    pub(super) table: TableId,
    pub(super) description: Description,
    policy: SlowConsumer,
    before_images: bool,
    max_queue_bytes: usize,
    queue: Mutex<Queue>,
    /// Woken when the queue has something, and at the end.
    pub(super) wake: Notify,
    /// Where the query waits, while it does and may be asked.
    pub(super) idle: Mutex<Option<Idle>>,
    position: AtomicU64,
    changes: AtomicU64,
    sent: Mutex<Sent>,
}

/// What is shown of a live query and never changes.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) namespace: String,
    pub(super) table_name: String,
    pub(super) query: Arc<str>,
    pub(super) options: String,
    pub(super) created_at_us: i64,
}

#[derive(Debug, Default)]
struct Queue {
    commits: VecDeque<Arc<CommitChanges>>,
    bytes: usize,
    /// What the feed says when it lets go of the subscriber.
    left_at: Option<CommitSeq>,
    end: Option<Error>,
}

/// What a subscriber finds when it looks.
pub(super) enum Taken {
    /// Changes.
    Commits(Vec<Arc<CommitChanges>>),
    /// The feed let go after this commit, all of whose changes were taken: go on from the log.
    LeftAt(CommitSeq),
    /// It is over.
    Ended(Error),
    /// Nothing yet.
    Nothing,
}

/// Whether a subscriber goes on receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    Yes,
    /// It has ended, or ends by this.
    No,
}

impl Subscriber {
    pub(super) fn new(
        id: LiveQueryId,
        user: UserId,
        table: TableId,
        description: Description,
        (policy, before_images): (SlowConsumer, bool),
        max_queue_bytes: usize,
    ) -> Self {
        Self {
            id,
            user,
            table,
            description,
            policy,
            before_images,
            max_queue_bytes,
            queue: Mutex::new(Queue::default()),
            wake: Notify::new(),
            idle: Mutex::new(None),
            position: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            sent: Mutex::new(Sent::default()),
        }
    }

    /// Puts a commit's changes into the queue. The first one always finds a place, however large it is, and does not count.
    pub(super) fn push(&self, commit: &Arc<CommitChanges>) -> Pushed {
        let mut queue = self.queue.lock();
        if queue.end.is_some() {
            return Pushed::No;
        }
        let first = queue.commits.front().map(|first| first.bytes);
        if first.is_some_and(|first| queue.bytes - first + commit.bytes > self.max_queue_bytes) {
            if self.policy == SlowConsumer::Coalesce {
                let merged = coalesce(queue.commits.iter().chain([commit]), self.before_images);
                queue.bytes = merged.iter().map(|commit| commit.bytes).sum();
                queue.commits = merged.into_iter().collect();
            }
            // Half of the room has to be free again, so that not every change makes all be merged anew.
            if self.policy == SlowConsumer::Disconnect || queue.bytes > self.max_queue_bytes / 2 {
                queue.end = Some(too_slow(self.max_queue_bytes));
                // What it resumes from is what it was given: nothing is lost by forgetting what it was not.
                queue.commits = VecDeque::new();
                queue.bytes = 0;
                drop(queue);
                self.wake.notify_one();
                return Pushed::No;
            }
        } else {
            queue.bytes += commit.bytes;
            queue.commits.push_back(Arc::clone(commit));
        }
        drop(queue);
        self.wake.notify_one();
        Pushed::Yes
    }

    /// The feed no longer serves this subscriber: it has been given everything up to `position`.
    pub(super) fn leave(&self, position: CommitSeq) {
        self.queue.lock().left_at = Some(position);
        self.wake.notify_one();
    }

    /// Ends it; the first reason stands.
    pub(super) fn end(&self, why: Error) {
        let mut queue = self.queue.lock();
        queue.end.get_or_insert(why);
        queue.commits = VecDeque::new();
        queue.bytes = 0;
        drop(queue);
        self.wake.notify_one();
    }

    /// Takes what is there.
    pub(super) fn take(&self) -> Taken {
        let mut queue = self.queue.lock();
        if let Some(why) = &queue.end {
            return Taken::Ended(why.clone());
        }
        if !queue.commits.is_empty() {
            queue.bytes = 0;
            let commits = std::mem::take(&mut queue.commits);
            return Taken::Commits(commits.into());
        }
        queue.left_at.take().map_or(Taken::Nothing, Taken::LeftAt)
    }

    /// Whether there is nothing to take.
    pub(super) fn has_nothing(&self) -> bool {
        let queue = self.queue.lock();
        queue.commits.is_empty() && queue.left_at.is_none() && queue.end.is_none()
    }

    /// Notes that the query waits for changes from `feed`, until the guard is dropped.
    pub(super) fn idle(&self, feed: &Arc<Feed>, class: &Arc<QueryClass>) -> Waiting<'_> {
        *self.idle.lock() = Some(Idle { feed: Arc::clone(feed), class: Arc::clone(class) });
        Waiting(self)
    }

    /// Why it has ended, if it has.
    pub(super) fn ended(&self) -> Option<Error> {
        self.queue.lock().end.clone()
    }

    pub(super) fn position(&self) -> CommitSeq {
        CommitSeq::new(self.position.load(Ordering::Relaxed))
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// The subscriber was told of everything up to `seq`.
    pub(super) fn told(&self, seq: CommitSeq, changes: u64) {
        self.position.fetch_max(seq.get(), Ordering::Relaxed);
        self.changes.fetch_add(changes, Ordering::Relaxed);
    }

    pub(super) fn note_sent(&self, bytes: usize) {
        self.sent.lock().add(bytes as u64);
    }

    pub(super) fn info(&self, node_id: u16) -> LiveQueryInfo {
        let (queued_commits, queued_bytes) = {
            let queue = self.queue.lock();
            (queue.commits.len() as u64, queue.bytes as u64)
        };
        let (bytes_sent, bytes_per_second) = self.sent.lock().figures();
        LiveQueryInfo {
            id: self.id,
            user_id: self.user.clone(),
            namespace: self.description.namespace.clone(),
            table: self.description.table_name.clone(),
            query: self.description.query.to_string(),
            options: self.description.options.clone(),
            node_id,
            created_at_us: self.description.created_at_us,
            changes: self.changes.load(Ordering::Relaxed),
            bytes_sent,
            bytes_per_second,
            position: CommitSeq::new(self.position.load(Ordering::Relaxed)),
            queued_commits,
            queued_bytes,
        }
    }
}

/// Takes back the note of where a query waits.
pub(super) struct Waiting<'a>(&'a Subscriber);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.0.idle.lock() = None;
    }
}

fn too_slow(max_queue_bytes: usize) -> Error {
    Error::new(
        Reason::SlowConsumer,
        format!(
            "Changes were not read in time: more than {max_queue_bytes} bytes of them waited. Resume with the last token, \
             read faster, or subscribe with the slow-consumer policy coalesce."
        ),
    )
    .with("limit", "live.queue_bytes")
}

/// Bytes sent, and how many a second.
#[derive(Debug)]
struct Sent {
    total: u64,
    /// When the window began.
    since: Instant,
    in_window: u64,
    before: f64,
}

/// Rates are of the last whole window and the one under way.
const WINDOW_S: f64 = 5.0;

impl Default for Sent {
    fn default() -> Self {
        Self { total: 0, since: Instant::now(), in_window: 0, before: 0.0 }
    }
}

impl Sent {
    fn add(&mut self, bytes: u64) {
        self.turn();
        self.total += bytes;
        self.in_window += bytes;
    }

    fn turn(&mut self) {
        let passed = self.since.elapsed().as_secs_f64();
        if passed >= WINDOW_S {
            self.before = if passed >= 2.0 * WINDOW_S { 0.0 } else { self.in_window as f64 / passed };
            self.in_window = 0;
            self.since = Instant::now();
        }
    }

    fn figures(&mut self) -> (u64, f64) {
        self.turn();
        let passed = self.since.elapsed().as_secs_f64();
        let rate = self.before * (1.0 - passed / WINDOW_S).max(0.0) + self.in_window as f64 / WINDOW_S;
        (self.total, rate)
    }
}
