//! The queue between the callers of [`Committer::commit`](super::Committer::commit) and the committer's thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{CommitError, CommitSettings, Committed, PreparedCommit};

/// No setting allows more, so that lengths in log entries and batches stay within 32 bits.
const MAX_COMMIT_BYTES: usize = 1 << 30;

pub(super) type Answer = Result<Committed, CommitError>;

/// A commit that waits for its answer.
pub(super) struct Request {
    pub(super) commit: PreparedCommit,
    pub(super) bytes: usize,
    pub(super) queued_at: Instant,
    pub(super) reply: oneshot::Sender<Answer>,
    /// Its places in the queue, held until it is answered.
    pub(super) places: OwnedSemaphorePermit,
}

/// A queue bounded in commits and in bytes: each of its places stands for one commit and an equal share of the bytes,
/// and a large commit takes several.
pub(super) struct Queue {
    places: Arc<Semaphore>,
    capacity: u32,
    bytes_per_place: usize,
    max_commit_bytes: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    closed: bool,
    /// Whether the committer sleeps on `wake`; spares the others a system call when it does not.
    idle: bool,
}

impl Queue {
    pub(super) fn new(settings: &CommitSettings) -> Self {
        let capacity = settings.queue_capacity.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            places: Arc::new(Semaphore::new(capacity)),
            capacity: capacity as u32,
            bytes_per_place: (settings.max_queue_bytes / capacity).max(1),
            max_commit_bytes: settings.max_commit_bytes.min(MAX_COMMIT_BYTES),
            state: Mutex::new(State::default()),
            wake: Condvar::new(),
        }
    }

    /// Queues a commit, after waiting for places. If the future is dropped while it waits, nothing is queued.
    pub(super) async fn push(&self, commit: PreparedCommit) -> Result<oneshot::Receiver<Answer>, CommitError> {
        let queued_at = Instant::now();
        let bytes = commit.byte_size();
        // How large a segment and how many rows at once may be is bounded by who makes them, and they have to get in.
        let is_bounded = !commit.segments.is_empty() || commit.bulk.is_some();
        let limit = if is_bounded { MAX_COMMIT_BYTES } else { self.max_commit_bytes };
        if bytes > limit && commit.segments.is_empty() {
            return Err(CommitError::TooLarge { limit });
        }
        let wanted = u32::try_from(bytes.div_ceil(self.bytes_per_place)).unwrap_or(u32::MAX).clamp(1, self.capacity);
        let places = self.places.clone().acquire_many_owned(wanted).await.map_err(|_| CommitError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let mut state = self.state.lock();
        if state.closed {
            return Err(CommitError::Closed);
        }
        state.requests.push_back(Request { commit, bytes, queued_at, reply, places });
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(answer)
    }

    /// Takes what is queued, up to `max_bytes` (but at least one commit), into `group`; waits for the first. Returns
    /// false when the queue is closed and empty.
    pub(super) fn take(&self, group: &mut VecDeque<Request>, max_bytes: usize) -> bool {
        let mut state = self.state.lock();
        while state.requests.is_empty() {
            if state.closed {
                return false;
            }
            state.idle = true;
            self.wake.wait(&mut state);
        }
        let mut bytes = 0;
        while let Some(request) =
            state.requests.pop_front_if(|request| bytes == 0 || bytes + request.bytes <= max_bytes)
        {
            bytes += request.bytes;
            group.push_back(request);
        }
        true
    }

    /// Refuses commits from now on. Those queued before are still taken.
    pub(super) fn close(&self) {
        self.places.close();
        let mut state = self.state.lock();
        state.closed = true;
        state.idle = false;
        drop(state);
        self.wake.notify_one();
    }

    /// Drops what is queued, unanswered.
    pub(super) fn clear(&self) {
        let unanswered = std::mem::take(&mut self.state.lock().requests);
        drop(unanswered);
    }
}
