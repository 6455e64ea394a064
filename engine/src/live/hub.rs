//! All live queries of an engine: who there is, which feeds serve them, and what the committer tells.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    },
};

use kalamdb_store::{
    commit::{ChangeLog, Changed, CommitListener, Committer},
    ids::{CommitSeq, Partition, TableId, UserId},
};
use metrics::Counter;
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    compile::{CompileKey, Compiled},
    feed::{Feed, Joined},
    info::{LiveQueryId, LiveQueryInfo},
    query_class::QueryClass,
    subscriber::Subscriber,
    tail::Tail,
};
use crate::{
    catalog::{Catalog, Table},
    error::{Error, Reason, Result},
    settings::LiveSettings,
};

/// Compiled queries that are kept for the next who subscribe to the same.
const COMPILED_ENTRIES: u64 = 1_024;

/// The live queries of an engine.
pub(crate) struct LiveHub {
    settings: LiveSettings,
    node_id: u16,
    pub(super) database_id: u64,
    committer: Committer,
    catalog: Catalog,
    log: ChangeLog,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    queries: RwLock<Queries>,
    feeds: RwLock<HashMap<Partition, Arc<Feed>>>,
    feed_count: AtomicUsize,
    /// Whether the store may be read. Held while it is.
    open: RwLock<bool>,
    /// What commits up to this one changed is in the tails of the feeds.
    told: AtomicU64,
    /// Every partition that changed up to this commit was noted.
    noted: AtomicU64,
    /// Bytes in the tails of all feeds.
    tail_bytes: Arc<AtomicUsize>,
    pub(super) compiled: Cache<CompileKey, Arc<Compiled>>,
    pub(super) counters: Counters,
}

#[derive(Default)]
struct Queries {
    by_id: HashMap<LiveQueryId, Arc<Subscriber>>,
    by_user: HashMap<UserId, usize>,
    by_table: HashMap<TableId, usize>,
    /// Why no more are let in.
    closed: bool,
}

/// What live queries have done since the start.
pub(super) struct Counters {
    pub(super) changes: Counter,
    pub(super) bytes: Counter,
    pub(super) evaluated: Counter,
}

/// How much live queries do, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveCounters {
    /// Live queries there are.
    pub active: u64,
    /// Partitions that have any.
    pub partitions: u64,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// How many commits the one that is furthest behind has still to be told of.
    pub lag_commits: u64,
}

impl fmt::Debug for LiveHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveHub").field("feeds", &self.feed_count).finish_non_exhaustive()
    }
}

impl LiveHub {
    /// Makes the hub and lets the committer tell it of commits.
    pub(crate) fn start(
        settings: LiveSettings,
        node_id: u16,
        database_id: u64,
        committer: Committer,
        catalog: Catalog,
        log: ChangeLog,
    ) -> Result<Arc<Self>> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads(&settings))
            .thread_name("kalamdb-live")
            .enable_time()
            .build()
            .map_err(Error::internal)?;
        let last_seq = committer.last_commit_seq().get();
        let hub = Arc::new(Self {
            settings,
            node_id,
            database_id,
            committer,
            catalog,
            log,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            queries: RwLock::default(),
            feeds: RwLock::default(),
            feed_count: AtomicUsize::new(0),
            open: RwLock::new(true),
            told: AtomicU64::new(last_seq),
            noted: AtomicU64::new(last_seq),
            tail_bytes: Arc::default(),
            compiled: Cache::builder().max_capacity(COMPILED_ENTRIES).build(),
            counters: Counters::register(),
        });
        // The committer outlives nothing by this: a strong reference would be a circle.
        hub.committer.listen(Arc::new(Notes(Arc::downgrade(&hub))));
        Ok(hub)
    }

    /// The last commit that readers see.
    pub(super) fn published(&self) -> CommitSeq {
        self.committer.last_commit_seq()
    }

    /// Every partition that changed up to this commit has been noted.
    pub(super) fn noted(&self) -> CommitSeq {
        CommitSeq::new(self.noted.load(Ordering::Acquire))
    }

    /// What commits up to this one changed is in the tails of the feeds.
    pub(super) fn told(&self) -> CommitSeq {
        CommitSeq::new(self.told.load(Ordering::Acquire))
    }

    pub(super) fn log(&self) -> &ChangeLog {
        &self.log
    }

    /// Threads for the reading of the log and the matching of changes.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn max_queue_bytes(&self) -> usize {
        self.settings.queue_bytes
    }

    /// The table as it is now; `None`: it was dropped.
    pub(super) fn current_table(&self, table: &Table) -> Option<Arc<Table>> {
        let state = self.catalog.state();
        let now = state.tables.get(table.namespace())?.get(table.name())?;
        (now.id() == table.id()).then(|| Arc::clone(now))
    }

    /// Lets a subscriber in.
    ///
    /// # Errors
    /// TOO_MANY_LIVE_QUERIES, SHUTTING_DOWN.
    pub(super) fn register(&self, subscriber: &Arc<Subscriber>) -> Result<()> {
        let mut queries = self.queries.write();
        if queries.closed {
            return Err(shutting_down());
        }
        if queries.by_id.len() >= self.settings.max_queries {
            return Err(too_many("The server has", self.settings.max_queries, "live.max_queries"));
        }
        let of_user = queries.by_user.entry(subscriber.user.clone()).or_default();
        if *of_user >= self.settings.max_queries_per_user {
            return Err(too_many("The user has", self.settings.max_queries_per_user, "live.max_queries_per_user"));
        }
        *of_user += 1;
        *queries.by_table.entry(subscriber.table).or_default() += 1;
        queries.by_id.insert(subscriber.id, Arc::clone(subscriber));
        Ok(())
    }

    /// Frees what there is of a subscriber, but for its place in a feed.
    pub(super) fn unregister(&self, subscriber: &Subscriber) {
        let mut queries = self.queries.write();
        if queries.by_id.remove(&subscriber.id).is_none() {
            return;
        }
        decrement(&mut queries.by_user, &subscriber.user);
        decrement(&mut queries.by_table, &subscriber.table);
    }

    /// Lets a subscriber into the feed of its partition, which is made if there is none. `None`: not now.
    pub(super) fn join(
        self: &Arc<Self>,
        partition: &Partition,
        query: &Arc<QueryClass>,
        subscriber: &Arc<Subscriber>,
        position: CommitSeq,
    ) -> Option<Arc<Feed>> {
        loop {
            let known = self.feeds.read().get(partition).cloned();
            let feed = match known {
                Some(feed) => feed,
                None => {
                    let tail = Tail::new(Arc::clone(&self.tail_bytes));
                    let new = Arc::new(Feed::new(partition.clone(), Arc::clone(&query.table), position, tail));
                    let mut feeds = self.feeds.write();
                    let feed = Arc::clone(feeds.entry(partition.clone()).or_insert(new));
                    self.feed_count.store(feeds.len(), Ordering::SeqCst);
                    feed
                }
            };
            match feed.join(query, subscriber, position) {
                Joined::Closed => self.forget(&feed),
                joined => {
                    // Commits after `position` may have been noted before the feed was there; and a feed of before a change
                    // of the schema notices it only when it runs.
                    self.note(&feed);
                    return (joined == Joined::Yes).then_some(feed);
                }
            }
        }
    }

    /// Takes a subscriber out of its feed.
    pub(super) fn leave(&self, feed: &Arc<Feed>, query: &QueryClass, subscriber: &Subscriber) {
        if feed.leave(query, subscriber) {
            self.forget(feed);
        }
    }

    /// Something about a table has changed: its feeds look at it.
    pub(crate) fn table_changed(self: &Arc<Self>, table: TableId) {
        if self.feed_count.load(Ordering::Acquire) == 0 {
            return;
        }
        let feeds: Vec<Arc<Feed>> =
            self.feeds.read().values().filter(|feed| feed.partition.table == table).cloned().collect();
        for feed in feeds {
            self.note(&feed);
        }
    }

    /// Live queries on a table.
    pub(crate) fn count_of_table(&self, table: TableId) -> usize {
        self.queries.read().by_table.get(&table).copied().unwrap_or(0)
    }

    /// Live queries, of one user or of all, by their ids.
    pub(crate) fn list(&self, user: Option<&UserId>) -> Vec<LiveQueryInfo> {
        let mut infos: Vec<LiveQueryInfo> = {
            let queries = self.queries.read();
            let visible = queries.by_id.values().filter(|s| user.is_none_or(|user| s.user == *user));
            visible.map(|subscriber| subscriber.info(self.node_id)).collect()
        };
        infos.sort_unstable_by_key(|info| info.id);
        infos
    }

    /// Ends a live query, of `user` or of anybody.
    ///
    /// # Errors
    /// LIVE_QUERY_NOT_FOUND.
    pub(crate) fn kill(&self, id: LiveQueryId, user: Option<&UserId>) -> Result<()> {
        let found = self.queries.read().by_id.get(&id).filter(|s| user.is_none_or(|user| s.user == *user)).cloned();
        let subscriber = found.ok_or_else(|| {
            Error::new(
                Reason::LiveQueryNotFound,
                format!("There is no live query {id}: it has ended, or there never was one. SELECT * FROM system.live_queries lists those there are."),
            )
            .with("live_id", id.to_string())
        })?;
        self.end(&subscriber, Error::new(Reason::LiveQueryKilled, "The live query was ended by KILL LIVE QUERY."));
        Ok(())
    }

    /// Ends a live query. It counts no longer from now on, not from when its client hears of it: one that does not read
    /// must not keep its table from being dropped.
    pub(super) fn end(&self, subscriber: &Subscriber, why: Error) {
        subscriber.end(why);
        self.unregister(subscriber);
    }

    /// The right to read the store for live queries, until it is dropped; `None` when there is none any more.
    pub(super) fn working(&self) -> Option<impl Sized + '_> {
        Some(self.open.read()).filter(|open| **open)
    }

    /// Ends every live query and lets no more in.
    pub(crate) fn end_all(&self) {
        let subscribers: Vec<Arc<Subscriber>> = {
            let mut queries = self.queries.write();
            queries.closed = true;
            queries.by_user.clear();
            queries.by_table.clear();
            queries.by_id.drain().map(|(_, subscriber)| subscriber).collect()
        };
        for subscriber in subscribers {
            subscriber.end(shutting_down());
        }
    }

    /// Ends every live query and the threads.
    pub(crate) fn shutdown(&self) {
        self.end_all();
        // Waits for those who are reading the store, which is closed next.
        *self.open.write() = false;
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }

    /// How much there is.
    pub(crate) fn counters(&self) -> LiveCounters {
        let published = self.published().get();
        let queries = self.queries.read();
        let mut counters = LiveCounters {
            active: queries.by_id.len() as u64,
            partitions: self.feed_count.load(Ordering::Relaxed) as u64,
            ..LiveCounters::default()
        };
        for subscriber in queries.by_id.values() {
            let queued = subscriber.queued_bytes() as u64;
            counters.queued_bytes += queued;
            if queued > 0 {
                let lag = published.saturating_sub(subscriber.position().get());
                counters.lag_commits = counters.lag_commits.max(lag);
            }
        }
        counters
    }

    fn note(self: &Arc<Self>, feed: &Arc<Feed>) {
        // What the committer published without telling of it, because it saw no feed, is seen by the run: `CommitListener`
        // says why.
        fence(Ordering::SeqCst);
        if feed.note() {
            self.handle.spawn(Arc::clone(feed).run(Arc::clone(self)));
        }
    }

    fn forget(&self, feed: &Arc<Feed>) {
        let mut feeds = self.feeds.write();
        if feeds.get(&feed.partition).is_some_and(|known| Arc::ptr_eq(known, feed)) {
            feeds.remove(&feed.partition);
        }
        self.feed_count.store(feeds.len(), Ordering::SeqCst);
    }
}

impl Drop for LiveHub {
    fn drop(&mut self) {
        // Dropping a runtime would block, which asynchronous code must not.
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

/// What the committer tells.
struct Notes(Weak<LiveHub>);

impl CommitListener for Notes {
    fn wants_changes(&self) -> bool {
        self.0.upgrade().is_some_and(|hub| hub.feed_count.load(Ordering::SeqCst) > 0)
    }

    fn committed(&self, changes: &[Changed], after: CommitSeq, last_seq: CommitSeq) {
        let Some(hub) = self.0.upgrade() else { return };
        let mut changed: Vec<Arc<Feed>> = Vec::new();
        if !changes.is_empty() {
            let feeds = hub.feeds.read();
            for change in changes {
                let Some(feed) = feeds.get(&change.partition) else { continue };
                feed.remember(after, change);
                if !changed.last().is_some_and(|last| Arc::ptr_eq(last, feed)) {
                    changed.push(Arc::clone(feed));
                }
            }
        }
        // In this order: a run that is asked for by a note finds in the tail what the note is about, and what was noted has
        // asked for a run.
        hub.told.store(last_seq.get(), Ordering::Release);
        for feed in changed {
            hub.note(&feed);
        }
        hub.noted.store(last_seq.get(), Ordering::Release);
    }
}

impl Counters {
    fn register() -> Self {
        metrics::describe_counter!("kalamdb_live_changes_total", "Changes given to subscribers of live queries.");
        metrics::describe_counter!("kalamdb_live_sent_bytes_total", "Bytes sent to subscribers of live queries.");
        metrics::describe_counter!(
            "kalamdb_live_evaluated_total",
            "Changes that were matched against a live query, each once for all subscribers of the same query."
        );
        Self {
            changes: metrics::counter!("kalamdb_live_changes_total"),
            bytes: metrics::counter!("kalamdb_live_sent_bytes_total"),
            evaluated: metrics::counter!("kalamdb_live_evaluated_total"),
        }
    }
}

fn threads(settings: &LiveSettings) -> usize {
    match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
        threads => threads,
    }
}

fn decrement<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn too_many(who: &str, limit: usize, setting: &str) -> Error {
    let message = format!("{who} {limit} live queries, as many as {setting} allows. End some, or raise the limit.");
    Error::new(Reason::TooManyLiveQueries, message).with("limit", setting)
}

pub(super) fn shutting_down() -> Error {
    Error::new(Reason::ShuttingDown, "The server is shutting down. Resume with the last token when it is back.")
}

/// The end of live queries whose table is gone.
pub(super) fn table_gone() -> Error {
    Error::new(Reason::TableNotFound, "The table of the live query was dropped.")
}
