//! The committer: the handle that callers have, and the thread behind it.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::background_sync::BackgroundSync;
use super::disk_guard::DiskGuard;
use super::group::{Group, Remembered, Tell};
use super::hot_counts::HotCounts;
use super::left_owners::LeftOwners;
use super::manifest::ManifestChanges;
use super::queue::{Answer, Queue, Request};
use super::{
    Changed, CommitError, CommitListener, CommitSettings, Committed, FreeSpace, PreparedCommit, committed_seq,
};
use crate::ids::{CommitSeq, TableId};
use crate::kv::{Durability, KvError, StorageBackend};

/// Orders commits and makes them durable. See [the module](super) for how.
///
/// A handle: clones share one committer. When the last is dropped the committer is stopped.
///
/// Its metrics are registered when it starts, so a recorder must be installed before.
///
/// ```
/// use std::sync::Arc;
/// use kalamdb_store::commit::*;
/// use kalamdb_store::kv::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let backend: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
/// let committer = Committer::start(backend.clone(), CommitSettings::default(), None)?;
/// let mut commit = PreparedCommit::default();
/// commit.kv.put(Keyspace::Catalog, b"namespace/1", b"chat");
/// let committed = committer.commit(commit).await?;
/// assert_eq!(committed.commit_seq, committed_seq(backend.snapshot().as_ref())?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Committer {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Queue,
    published: watch::Sender<Published>,
    poison: OnceLock<String>,
    listener: OnceLock<Arc<dyn CommitListener>>,
    log_bytes: AtomicU64,
}

#[derive(Clone, Copy)]
struct Published {
    seq: CommitSeq,
    /// No commit will follow.
    ended: bool,
}

impl Committer {
    /// Starts the committer's thread. It goes on from the last commit in the store.
    ///
    /// `free_space` serves the guard that [`CommitSettings::min_free_bytes`] describes; without it there is none.
    pub fn start(
        backend: Arc<dyn StorageBackend>,
        settings: CommitSettings,
        free_space: Option<FreeSpace>,
    ) -> Result<Self, KvError> {
        let last_seq = committed_seq(backend.snapshot().as_ref())?;
        let (published, _) = watch::channel(Published { seq: last_seq, ended: false });
        let shared = Arc::new(Shared {
            queue: Queue::new(&settings),
            published,
            poison: OnceLock::new(),
            listener: OnceLock::new(),
            log_bytes: AtomicU64::new(0),
        });
        let no_thread = |error: std::io::Error| KvError::Other(format!("cannot start a thread: {error}"));
        let background_sync = match settings.durability {
            Durability::Sync => None,
            Durability::Async => {
                let in_thread = shared.clone();
                let on_failure = move |error: KvError| in_thread.poison(&error.to_string());
                let interval = Duration::from_millis(settings.async_sync_interval_ms);
                Some(BackgroundSync::start(backend.clone(), interval, on_failure).map_err(no_thread)?)
            }
        };
        let hot = HotCounts::open(backend.as_ref(), settings.durability)?;
        let worker = Worker {
            guard: DiskGuard::new(free_space, settings.min_free_bytes),
            shared: shared.clone(),
            backend,
            background_sync,
            durability: settings.durability,
            max_group_bytes: settings.max_group_bytes,
            last_seq,
            dropped: HashSet::new(),
            left: LeftOwners::default(),
            manifest: ManifestChanges::new(last_seq),
            hot,
            metrics: Metrics::register(),
        };
        let thread = std::thread::Builder::new().name("kalamdb-commit".to_owned()).spawn(move || worker.run());
        let thread = Mutex::new(Some(thread.map_err(no_thread)?));
        Ok(Self { handle: Arc::new(Handle { shared, thread }) })
    }

    /// Makes a commit. When it returns `Ok`, the commit is visible to every snapshot taken from now on, and durable as
    /// [`CommitSettings::durability`] says.
    ///
    /// If the future is dropped before it is ready, the commit may have been made or not, but never in part.
    pub async fn commit(&self, commit: PreparedCommit) -> Result<Committed, CommitError> {
        let shared = &self.handle.shared;
        if let Some(reason) = shared.poison.get() {
            return Err(CommitError::Poisoned(reason.clone()));
        }
        let answer = shared.queue.push(commit).await.map_err(|error| match error {
            CommitError::Closed => shared.end_reason(),
            other => other,
        })?;
        // The other side goes without an answer only if the committer's thread died of a bug.
        answer.await.unwrap_or_else(|_| Err(shared.end_reason()))
    }

    /// The last commit that is visible and acknowledged.
    pub fn last_commit_seq(&self) -> CommitSeq {
        self.handle.shared.published.borrow().seq
    }

    /// Waits until commit `seq` is visible. Fails if it cannot become so any more, because the committer was stopped or
    /// poisoned.
    pub async fn wait_for(&self, seq: CommitSeq) -> Result<(), CommitError> {
        let mut published = self.handle.shared.published.subscribe();
        match published.wait_for(|published| published.seq >= seq || published.ended).await {
            Ok(published) if published.seq >= seq => Ok(()),
            _ => Err(self.handle.shared.end_reason()),
        }
    }

    /// Tells `listener` of every group of commits from now on, as [`CommitListener`] says. There can be one, which stays;
    /// a second is ignored. It must not own this committer.
    pub fn listen(&self, listener: Arc<dyn CommitListener>) {
        let is_first = self.handle.shared.listener.set(listener).is_ok();
        debug_assert!(is_first, "a committer has one listener");
    }

    /// Bytes of the log entries that were written since the start, keys included.
    pub fn log_bytes(&self) -> u64 {
        self.handle.shared.log_bytes.load(Ordering::Acquire)
    }

    /// Why no more commits are made, if a write failed.
    pub fn is_poisoned(&self) -> Option<String> {
        self.handle.shared.poison.get().cloned()
    }

    /// Refuses further commits, makes those that were queued, syncs the store and ends the thread. Blocks until that is
    /// done; does nothing the second time.
    pub fn stop(&self) {
        self.handle.stop();
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").field("last_commit_seq", &self.last_commit_seq()).finish_non_exhaustive()
    }
}

impl Handle {
    fn stop(&self) {
        self.shared.queue.close();
        // Held while joining, so that a second caller also waits for the end.
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the committer's thread panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn poison(&self, reason: &str) {
        if self.poison.set(reason.to_owned()).is_ok() {
            tracing::error!(reason, "a write failed; the store accepts no more writes until it is opened again");
        }
        self.end();
    }

    /// Lets go of those who wait for later commits.
    fn end(&self) {
        self.published.send_modify(|published| published.ended = true);
    }

    fn end_reason(&self) -> CommitError {
        self.poison.get().map_or(CommitError::Closed, |reason| CommitError::Poisoned(reason.clone()))
    }
}

/// What the committer's thread works with.
struct Worker {
    shared: Arc<Shared>,
    backend: Arc<dyn StorageBackend>,
    background_sync: Option<BackgroundSync>,
    guard: DiskGuard,
    durability: Durability,
    max_group_bytes: usize,
    last_seq: CommitSeq,
    /// The tables dropped since the start. Their ids are never used again, and what was prepared before the start is
    /// gone, so this needs neither removal nor storing.
    dropped: HashSet<TableId>,
    left: LeftOwners,
    manifest: ManifestChanges,
    hot: HotCounts,
    metrics: Metrics,
}

/// A commit that was accepted into the group being written.
struct Accepted {
    seq: CommitSeq,
    queued_at: Instant,
    reply: oneshot::Sender<Answer>,
}

impl Worker {
    fn run(mut self) {
        let _end = EndOfThread(self.shared.clone());
        let mut group = VecDeque::new();
        while !group.is_empty() || self.shared.queue.take(&mut group, self.max_group_bytes) {
            self.commit_group(&mut group);
        }
        if self.shared.poison.get().is_none()
            && let Err(error) = self.backend.sync()
        {
            self.shared.poison(&error.to_string());
        }
    }

    /// Commits requests from the front of `group`: mostly all, but none after one that must end its group.
    fn commit_group(&mut self, group: &mut VecDeque<Request>) {
        if let Some(reason) = self.shared.poison.get() {
            for request in group.drain(..) {
                answer(request.reply, Err(CommitError::Poisoned(reason.clone())));
            }
            return;
        }
        let mut accepted = Vec::with_capacity(group.len());
        // The places in the queue are free again when the group is answered, not when it is taken.
        let mut places = Vec::with_capacity(group.len());
        let bytes = group.iter().map(|request| request.commit.byte_size() as u64).sum();
        let room = self.guard.room(bytes);
        // The partitions are noted whether or not anybody wants to know yet: that is asked when the group is published.
        let tell = match self.shared.listener.get() {
            None => Tell::Nothing,
            Some(listener) if listener.wants_changes() => Tell::Entries,
            Some(_) => Tell::Partitions,
        };
        let remembered = Remembered {
            dropped: &mut self.dropped,
            left: &mut self.left,
            manifest: &mut self.manifest,
            hot: &mut self.hot,
        };
        let mut batch = Group::new(self.backend.as_ref(), remembered, room, self.last_seq, tell);
        while let Some(request) = group.pop_front_if(|r| accepted.is_empty() || !Group::must_begin_group(&r.commit)) {
            let ends_group = Group::must_end_group(&request.commit);
            match batch.add(request.commit) {
                Ok(seq) => accepted.push(Accepted { seq, queued_at: request.queued_at, reply: request.reply }),
                Err(error) => answer(request.reply, Err(error)),
            }
            places.push(request.places);
            if ends_group {
                break;
            }
        }
        if accepted.is_empty() {
            return;
        }
        let (last_seq, batch, logged) = batch.finish();
        let started = Instant::now();
        if let Err(error) = self.backend.write(batch, self.durability) {
            let reason = error.to_string();
            self.shared.poison(&reason);
            for commit in accepted {
                answer(commit.reply, Err(CommitError::Poisoned(reason.clone())));
            }
            return;
        }
        match &self.background_sync {
            Some(background_sync) => background_sync.wrote(),
            None => self.metrics.sync_seconds.record(started.elapsed()),
        }
        let after = std::mem::replace(&mut self.last_seq, last_seq);
        self.shared.log_bytes.fetch_add(logged.bytes, Ordering::AcqRel);
        self.shared.published.send_modify(|published| published.seq = last_seq);
        self.tell(&logged.changes, after, last_seq);
        self.metrics.groups.increment(1);
        self.metrics.group_size.record(accepted.len() as f64);
        self.metrics.commits.increment(accepted.len() as u64);
        for commit in accepted {
            answer(commit.reply, Ok(Committed { commit_seq: commit.seq }));
            self.metrics.commit_seconds.record(commit.queued_at.elapsed());
        }
    }

    /// Tells the listener of a group that was published.
    fn tell(&self, changes: &[Changed], after: CommitSeq, last_seq: CommitSeq) {
        let Some(listener) = self.shared.listener.get() else { return };
        // Publishing comes before asking, for every thread: see `CommitListener`.
        fence(Ordering::SeqCst);
        listener.committed(if listener.wants_changes() { changes } else { &[] }, after, last_seq);
    }
}

fn answer(reply: oneshot::Sender<Answer>, answer: Answer) {
    // The caller may have gone; the outcome stands all the same.
    let _ = reply.send(answer);
}

/// Makes sure, should the thread panic, that nobody waits for it for ever.
struct EndOfThread(Arc<Shared>);

impl Drop for EndOfThread {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison("the committer failed unexpectedly");
        }
        self.0.queue.close();
        self.0.queue.clear();
        self.0.end();
    }
}

struct Metrics {
    commits: Counter,
    groups: Counter,
    group_size: Histogram,
    commit_seconds: Histogram,
    sync_seconds: Histogram,
}

impl Metrics {
    fn register() -> Self {
        metrics::describe_counter!("kalamdb_commits_total", "Commits made.");
        metrics::describe_counter!("kalamdb_commit_groups_total", "Groups of commits written, each with one batch.");
        metrics::describe_histogram!("kalamdb_commit_group_size", "Commits in a group.");
        metrics::describe_histogram!("kalamdb_commit_seconds", "Time from a commit's submission to its answer.");
        metrics::describe_histogram!("kalamdb_wal_sync_seconds", "Time of a group's write with its disk sync.");
        Self {
            commits: metrics::counter!("kalamdb_commits_total"),
            groups: metrics::counter!("kalamdb_commit_groups_total"),
            group_size: metrics::histogram!("kalamdb_commit_group_size"),
            commit_seconds: metrics::histogram!("kalamdb_commit_seconds"),
            sync_seconds: metrics::histogram!("kalamdb_wal_sync_seconds"),
        }
    }
}
