//! Gives up the oldest part of the change log: by age, and by size.
//!
//! ```text
//!  every few seconds: sample (time, last commit, bytes of log written up to it)
//!
//!  samples    ●─────●─────●─────●─────●─────●  now
//!             └ too old ──┘                    the newest sample that is old enough
//!                         └── small enough ─┘  the oldest sample since which no more was written than may be kept
//!             the floor goes to the later of the two, but not past what somebody still reads
//! ```
//!
//! The log lies by partition, so its oldest entries are scattered over all of it. Samples make both questions a look into a
//! short list. They are stored now and then, so that age counts through restarts.

mod samples;

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use kalamdb_store::{
    commit::{ChangeLog, Committer},
    kv::{Durability, Keyspace, KvError, StorageBackend},
};
use metrics::{Counter, Gauge};
use parking_lot::{Condvar, Mutex};

use self::samples::{Limits, Sample, Samples};
use crate::{
    env::Env,
    error::{Error, Result},
    exec::{LogPins, SnapshotRegistry, from_store},
    jobs::threads::lower_priority,
    settings::LiveSettings,
};

/// How often the floor is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// How often samples are stored at most.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Garbage from which on it is removed at once, if there is as much of it as of the rest. Less, or a smaller part, goes when
/// the store rewrites its files anyway.
const RECLAIM_FROM_BYTES: u64 = 64 * 1024 * 1024;

/// The longest rest between two steps of a removal. Otherwise it rests for as long as it works.
const LONGEST_REST: Duration = Duration::from_secs(10);

const SAMPLES_KEY: &[u8] = b"log/samples";

/// Raises the change log's floor in the background, until it is stopped.
#[derive(Debug)]
pub(crate) struct LogRetention {
    work: Arc<Work>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the retention of the log works with.
#[derive(Debug)]
pub(crate) struct LogRetentionParts {
    pub(crate) backend: Arc<dyn StorageBackend>,
    pub(crate) committer: Committer,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) change_log: ChangeLog,
    /// A snapshot's reader may go on with the changes since.
    pub(crate) snapshots: SnapshotRegistry,
    pub(crate) pins: LogPins,
}

#[derive(Debug)]
struct Work {
    parts: LogRetentionParts,
    limits: Limits,
    book: Mutex<Book>,
    stopping: Mutex<bool>,
    wake: Condvar,
}

/// Bytes are counted from the beginning of the log, through restarts.
#[derive(Debug)]
struct Book {
    samples: Samples,
    /// Bytes written before the committer was started.
    base: u64,
    /// Bytes up to the floor.
    floor_bytes: u64,
    /// Garbage up to here is gone.
    reclaimed_bytes: u64,
    /// What the store had removed when that was so.
    removed_then: u64,
    saved_at: Option<Instant>,
    is_saved: bool,
    metrics: Metrics,
}

impl LogRetention {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn start(parts: LogRetentionParts, settings: &LiveSettings) -> Result<Self> {
        let limits = Limits::new(settings.log_retention_s, settings.log_retention_bytes);
        let book = Mutex::new(Book::open(&parts).map_err(from_store)?);
        let work = Arc::new(Work { parts, limits, book, stopping: Mutex::new(false), wake: Condvar::new() });
        let in_thread = Arc::clone(&work);
        let thread = std::thread::Builder::new().name("kalamdb-log".to_owned()).spawn(move || in_thread.run());
        Ok(Self { work, thread: Mutex::new(Some(thread.map_err(Error::internal)?)) })
    }

    /// Does now what the thread does every few seconds, but for the removal of garbage. Blocks for a disk sync.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn apply(&self) -> Result<()> {
        self.work.apply().map_err(from_store)
    }

    /// Ends the thread. Blocks, for some seconds if garbage is being removed.
    pub(crate) fn stop(&self) {
        *self.work.stopping.lock() = true;
        self.work.wake.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that trims the change log panicked");
        }
    }
}

impl Drop for LogRetention {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
    fn run(&self) {
        lower_priority();
        let mut is_failing = false;
        while !self.rest(INTERVAL) {
            match self.apply().and_then(|()| self.reclaim()) {
                Ok(()) => is_failing = false,
                // Said once, not every few seconds.
                Err(error) if !is_failing => {
                    tracing::warn!(%error, "the change log cannot be trimmed; trying again every few seconds");
                    is_failing = true;
                }
                Err(_) => {}
            }
        }
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "how old the changes are cannot be stored; they are kept for longer");
        }
    }

    /// Waits; answers whether to stop.
    fn rest(&self, time: Duration) -> bool {
        let mut stopping = self.stopping.lock();
        if !*stopping {
            self.wake.wait_for(&mut stopping, time);
        }
        *stopping
    }

    fn now(&self, book: &Book) -> Sample {
        let Sample { time_us, seq, bytes } = moment(&self.parts);
        Sample { time_us, seq, bytes: book.base.saturating_add(bytes) }
    }

    /// After a failed write nothing more is written.
    fn may_write(&self) -> bool {
        self.parts.committer.is_poisoned().is_none()
    }

    fn apply(&self) -> Result<(), KvError> {
        if !self.may_write() {
            return Ok(());
        }
        let mut book = self.book.lock();
        let now = self.now(&book);
        book.samples.not_after(now.time_us);
        if let Some(wanted) = book.samples.wanted(&now, book.floor_bytes, &self.limits) {
            // Only now. Every sample is older than this round, so whoever is about to register a snapshot and has looked up
            // the last commit, but is not in the registry yet, has a later one: a commit that is seconds old is not the
            // last for anybody, unless he was held up that long. Even then nothing is lost without notice: reads of the log
            // and commits of segments compare with the floor.
            let held = [self.parts.snapshots.oldest(), self.parts.pins.oldest()].into_iter().flatten().min();
            let floor = book.samples.newest_until(held.map_or(wanted, |held| held.min(wanted)));
            if let Some(floor) = floor.filter(|floor| floor.seq > self.parts.change_log.floor()) {
                self.parts.change_log.raise_floor(floor.seq)?;
                tracing::debug!(floor = %floor.seq, "changes up to here can no longer be resumed from");
                book.samples.forget_before(floor.seq);
                book.floor_bytes = floor.bytes;
                book.is_saved = false;
            }
        }
        if book.samples.note(now, &self.limits) {
            book.is_saved = false;
        }
        if book.saved_at.is_none_or(|at| at.elapsed() >= SAVE_INTERVAL) {
            book.save(self.parts.backend.as_ref())?;
        }
        let removed = self.parts.backend.log_removed().entries;
        book.metrics.show(self.parts.change_log.floor().get(), now.bytes.saturating_sub(book.floor_bytes), removed);
        Ok(())
    }

    /// Removes what was given up if it is much.
    fn reclaim(&self) -> Result<(), KvError> {
        let backend = self.parts.backend.as_ref();
        let up_to = {
            let book = self.book.lock();
            let given_up = book.floor_bytes.saturating_sub(book.reclaimed_bytes);
            let garbage = given_up.saturating_sub(backend.log_removed().bytes.saturating_sub(book.removed_then));
            let kept = self.now(&book).bytes.saturating_sub(book.floor_bytes);
            if garbage < RECLAIM_FROM_BYTES.max(kept) || !self.may_write() {
                return Ok(());
            }
            book.floor_bytes
        };
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            let began = Instant::now();
            from = backend.reclaim_log(&key)?;
            if from.is_some() && self.rest(began.elapsed().min(LONGEST_REST)) {
                return Ok(());
            }
        }
        let mut book = self.book.lock();
        // Also for what was removed otherwise, with its table: the count begins anew.
        book.reclaimed_bytes = up_to;
        book.removed_then = backend.log_removed().bytes;
        Ok(())
    }

    /// Notes what there is at the end, so that the next start goes on there.
    fn finish(&self) -> Result<(), KvError> {
        if !self.may_write() {
            return Ok(());
        }
        let mut book = self.book.lock();
        let now = self.now(&book);
        book.samples.not_after(now.time_us);
        if book.samples.push(now) {
            book.is_saved = false;
        }
        book.save(self.parts.backend.as_ref())
    }
}

/// The last commit as of now, and the bytes of log written since the committer was started.
fn moment(parts: &LogRetentionParts) -> Sample {
    let seq = parts.committer.last_commit_seq();
    Sample { time_us: parts.env.now_us(), seq, bytes: parts.committer.log_bytes() }
}

impl Book {
    /// Goes on with the stored samples. What was written between the last of them and a crash, a minute's worth at most,
    /// is not counted. Without any, what there is counts as written now.
    fn open(parts: &LogRetentionParts) -> Result<Self, KvError> {
        let now = moment(parts);
        let stored = parts.backend.get(Keyspace::System, SAMPLES_KEY)?;
        let found = stored.as_deref().and_then(|stored| Samples::decode(stored, now.seq));
        if stored.is_some() && found.is_none() {
            tracing::warn!("how old the changes in the log are is not known; they count as made now");
        }
        let floor = parts.change_log.floor();
        let (mut samples, base, floor_bytes) = match found {
            Some(mut samples) => {
                let base = samples.last_bytes();
                let floor_bytes = if floor.get() == 0 { 0 } else { samples.bytes_at(floor) };
                samples.forget_before(floor);
                (samples, base, floor_bytes)
            }
            None => {
                let size = parts.backend.size(Keyspace::Log)?;
                (Samples::default(), size.disk_bytes + size.memory_bytes, 0)
            }
        };
        samples.not_after(now.time_us);
        let bytes = base.saturating_add(now.bytes);
        samples.push(Sample { bytes, ..now });
        let metrics = Metrics::register();
        metrics.show(floor.get(), bytes.saturating_sub(floor_bytes), parts.backend.log_removed().entries);
        Ok(Self {
            samples,
            base,
            floor_bytes,
            reclaimed_bytes: floor_bytes,
            removed_then: parts.backend.log_removed().bytes,
            saved_at: None,
            is_saved: false,
            metrics,
        })
    }

    fn save(&mut self, backend: &dyn StorageBackend) -> Result<(), KvError> {
        if !self.is_saved {
            backend.put(Keyspace::System, SAMPLES_KEY, &self.samples.encode(), Durability::Async)?;
            self.is_saved = true;
            self.saved_at = Some(Instant::now());
        }
        Ok(())
    }
}

struct Metrics {
    floor: Gauge,
    bytes: Gauge,
    removed: Counter,
}

impl Metrics {
    fn register() -> Self {
        metrics::describe_gauge!("kalamdb_change_log_floor", "The commit after which live queries can be resumed.");
        metrics::describe_gauge!("kalamdb_change_log_bytes", "Changes that are kept, before compression.");
        metrics::describe_counter!(
            "kalamdb_change_log_removed_entries_total",
            "Entries of the change log that were removed because they were given up."
        );
        Self {
            floor: metrics::gauge!("kalamdb_change_log_floor"),
            bytes: metrics::gauge!("kalamdb_change_log_bytes"),
            removed: metrics::counter!("kalamdb_change_log_removed_entries_total"),
        }
    }

    fn show(&self, floor: u64, bytes: u64, removed: u64) {
        self.floor.set(floor as f64);
        self.bytes.set(bytes as f64);
        self.removed.absolute(removed);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
