//! The feed of a partition: reads its part of the change log as it grows, and deals the changes out to subscribers.
//!
//! ```text
//! committer ── "partition p changed" ──▶ feed of p ── reads the log from its position on ──▶ match ──▶ queues
//! ```
//!
//! What is delivered is what the log has, from the feed's position on. The committer leaves the newest entries with its
//! news, in a bounded [`Tail`] that spares a feed which keeps up the reading; where it does not reach, the log is read. So a
//! feed that lags holds little memory, and a subscriber that catches up from the log by itself and then joins the feed at
//! the very position it has reached can neither miss a change nor see one twice.

use std::{
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use kalamdb_store::{
    codec::LogEntry,
    commit::{Changed, LogError, LogPage},
    ids::{CommitSeq, Partition},
    kv::KvError,
};
use parking_lot::Mutex;

use super::{
    decoded::DecodedChanges,
    event::CommitChanges,
    hub::LiveHub,
    index::QueryIndex,
    matcher::MatchedCommit,
    query_class::{ClassKey, QueryClass},
    subscriber::{Pushed, Subscriber},
    tail::Tail,
};
use crate::{catalog::Table, error::Error};

/// Bytes of log entries read and dealt out at a time.
pub(super) const PAGE_BYTES: usize = 256 * 1024;

/// The feed of one partition.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) partition: Partition,
    status: AtomicU8,
    state: Mutex<State>,
    /// A copy of the state's position, for those who cannot wait.
    position: AtomicU64,
    tail: Mutex<Tail>,
}

/// A run was asked for or is under way.
const BUSY: u8 = 1;
/// The partition has changed since the run last looked.
const CHANGED: u8 = 2;

#[derive(Debug)]
struct State {
    /// Everything up to this commit was dealt out.
    position: CommitSeq,
    table: Arc<Table>,
    next_class: u64,
    classes: HashMap<u64, Class>,
    by_key: HashMap<ClassKey, u64>,
    index: QueryIndex,
    /// Nobody may join any more: the feed is no longer among those that the committer tells.
    closed: bool,
}

/// Subscribers of the same query.
#[derive(Debug)]
struct Class {
    query: Arc<QueryClass>,
    members: BTreeMap<super::LiveQueryId, Member>,
}

#[derive(Debug)]
struct Member {
    subscriber: Arc<Subscriber>,
    /// It has had everything up to this commit.
    from: CommitSeq,
}

/// Whether a subscriber could join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    Yes,
    /// The feed is ahead.
    Behind,
    /// The feed is of another schema version.
    OtherSchema,
    /// The feed has closed; there may be another.
    Closed,
}

/// Whether a run goes on.
enum Step {
    More,
    Done,
}

impl Feed {
    /// A feed that has dealt out everything up to `position`.
    pub(super) fn new(partition: Partition, table: Arc<Table>, position: CommitSeq, tail: Tail) -> Self {
        let state = State {
            position,
            table,
            next_class: 0,
            classes: HashMap::new(),
            by_key: HashMap::new(),
            index: QueryIndex::default(),
            closed: false,
        };
        let position = AtomicU64::new(position.get());
        let (state, tail) = (Mutex::new(state), Mutex::new(tail));
        Self { partition, status: AtomicU8::new(0), state, position, tail }
    }

    /// Lets a subscriber in that has had everything up to `position`.
    pub(super) fn join(&self, query: &Arc<QueryClass>, subscriber: &Arc<Subscriber>, position: CommitSeq) -> Joined {
        let mut state = self.state.lock();
        if state.closed {
            return Joined::Closed;
        }
        if state.table.schema_version() != query.table.schema_version() {
            return Joined::OtherSchema;
        }
        if state.position > position {
            return Joined::Behind;
        }
        let id = match state.by_key.get(&query.key) {
            Some(id) => *id,
            None => {
                let id = state.next_class;
                state.next_class += 1;
                state.by_key.insert(query.key.clone(), id);
                state.index.insert(id, query.matcher.equality.as_ref());
                state.classes.insert(id, Class { query: Arc::clone(query), members: BTreeMap::new() });
                id
            }
        };
        if let Some(class) = state.classes.get_mut(&id) {
            class.members.insert(subscriber.id, Member { subscriber: Arc::clone(subscriber), from: position });
        }
        Joined::Yes
    }

    /// Takes a subscriber out, if it is still in. Answers whether the feed has closed.
    pub(super) fn leave(&self, query: &QueryClass, subscriber: &Subscriber) -> bool {
        let mut state = self.state.lock();
        if let Some(id) = state.by_key.get(&query.key).copied() {
            state.remove_member(id, subscriber.id);
        }
        state.close_if_empty()
    }

    /// Keeps what a commit changed in the partition, one of a group of commits after `group_after`.
    pub(super) fn remember(&self, group_after: CommitSeq, changed: &Changed) {
        self.tail.lock().push(group_after, changed);
    }

    /// Notes that the partition has changed. True: a run is to be started.
    pub(super) fn note(&self) -> bool {
        // Always a write, and so is the run's: whichever comes first, the run sees what was published before the note.
        self.status.fetch_or(BUSY | CHANGED, Ordering::SeqCst) & BUSY == 0
    }

    /// Deals out what the log has. To be called once for each [`Feed::note`] that asked for it.
    pub(super) async fn run(self: Arc<Self>, hub: Arc<LiveHub>) {
        loop {
            self.status.fetch_and(!CHANGED, Ordering::SeqCst);
            // A feed that stopped silently would be the worst of all: its subscribers would wait for ever.
            let step = catch_unwind(AssertUnwindSafe(|| self.step(&hub))).unwrap_or_else(|_| {
                tracing::error!("the feed of a partition panicked; its live queries end");
                self.state.lock().end_all(&hub, &|| Error::internal("the feed panicked"));
                Step::Done
            });
            match step {
                Step::More => {}
                Step::Done => {
                    if self.status.compare_exchange(BUSY, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                        return;
                    }
                }
            }
            // Other feeds get their turn.
            tokio::task::yield_now().await;
        }
    }

    /// A commit up to which everything was dealt out.
    pub(super) fn settled(&self, hub: &LiveHub) -> CommitSeq {
        // In this order: whatever was noted up to here has set the status before.
        let noted = hub.noted();
        if let Some(state) = self.state.try_lock()
            && self.status.load(Ordering::SeqCst) == 0
            && !state.closed
        {
            return state.position.max(noted);
        }
        CommitSeq::new(self.position.load(Ordering::Acquire))
    }

    fn step(&self, hub: &LiveHub) -> Step {
        let Some(_working) = hub.working() else { return Step::Done };
        let mut state = self.state.lock();
        if state.classes.is_empty() {
            return Step::Done;
        }
        // Before the table is looked up: entries up to here have no newer schema than what is found then.
        let (told, upto) = (hub.told(), hub.published());
        match hub.current_table(&state.table) {
            None => {
                state.end_all(hub, &super::hub::table_gone);
                return Step::Done;
            }
            Some(table) if table.schema_version() != state.table.schema_version() => {
                // They compile their queries anew and come back, or end.
                state.let_all_go();
                return Step::Done;
            }
            Some(table) => state.table = table,
        }
        if upto <= state.position {
            return Step::Done;
        }
        match self.read(hub, state.position, told, upto) {
            Ok(LogPage { entries, read_to, complete }) => {
                if !entries.is_empty() {
                    match state.decode(&self.partition, entries) {
                        Ok(Some(decoded)) => state.deal(hub, &decoded),
                        Ok(None) => {}
                        Err(error) => {
                            tracing::error!(%error, "the changes of a partition cannot be read for live queries");
                            state.end_all(hub, &|| error.clone());
                            return Step::Done;
                        }
                    }
                }
                state.position = read_to;
                self.position.store(read_to.get(), Ordering::Release);
                if complete { Step::Done } else { Step::More }
            }
            // Each finds out for itself that its changes are gone.
            Err(LogError::Trimmed { .. }) => {
                state.let_all_go();
                Step::Done
            }
            Err(LogError::Storage(error)) => {
                let error = crate::exec::from_store(error);
                state.end_all(hub, &|| error.clone());
                Step::Done
            }
        }
    }

    /// What changed after `position`: what was `told`, where the tail has it, else what is in the log.
    fn read(&self, hub: &LiveHub, position: CommitSeq, told: CommitSeq, upto: CommitSeq) -> Result<LogPage, LogError> {
        let taken = self.tail.lock().take(position, told);
        let Some(taken) = taken else { return hub.log().read(&self.partition, position, upto, PAGE_BYTES) };
        let entries = taken.iter().map(|entry| LogEntry::decode(entry)).collect::<Result<_, _>>();
        let entries = entries.map_err(|error| LogError::Storage(KvError::Corruption(error.to_string())))?;
        // Whatever was published and not told yet will be noted.
        Ok(LogPage { entries, read_to: told.max(position), complete: true })
    }
}

impl State {
    /// `None`: nobody is concerned.
    fn decode(&self, partition: &Partition, entries: Vec<LogEntry>) -> Result<Option<DecodedChanges>, Error> {
        if !self.index.concerns_any(&self.table, partition, &entries)? {
            return Ok(None);
        }
        DecodedChanges::decode(&self.table, partition, entries).map(Some)
    }

    fn deal(&mut self, hub: &LiveHub, decoded: &DecodedChanges) {
        let mut failed = Vec::new();
        let mut gone = Vec::new();
        let concerned = self.index.concerned(decoded);
        let rest = self.index.rest().map(|id| (id, None));
        let some = concerned.iter().map(|(id, among)| (*id, Some(among.as_slice())));
        for (id, among) in rest.chain(some) {
            let Some(class) = self.classes.get(&id) else { continue };
            hub.counters.evaluated.increment(among.map_or(decoded.changes.len(), <[usize]>::len) as u64);
            match class.query.changes(decoded, among) {
                Ok(commits) => class.give(&commits, |member| gone.push((id, member))),
                Err(error) => failed.push((id, error)),
            }
        }
        for (id, member) in gone {
            if let Some(member) = self.remove_member(id, member) {
                hub.unregister(&member.subscriber);
            }
        }
        for (id, error) in failed {
            if let Some(class) = self.remove_class(id) {
                for member in class.members.values() {
                    hub.end(&member.subscriber, error.clone());
                }
            }
        }
        self.close_if_empty();
    }

    fn remove_member(&mut self, id: u64, member: super::LiveQueryId) -> Option<Member> {
        let class = self.classes.get_mut(&id)?;
        let member = class.members.remove(&member);
        if class.members.is_empty() {
            self.remove_class(id);
        }
        member
    }

    fn remove_class(&mut self, id: u64) -> Option<Class> {
        let class = self.classes.remove(&id)?;
        self.by_key.remove(&class.query.key);
        self.index.remove(id, class.query.matcher.equality.as_ref());
        Some(class)
    }

    fn close_if_empty(&mut self) -> bool {
        self.closed |= self.classes.is_empty();
        self.closed
    }

    fn end_all(&mut self, hub: &LiveHub, why: &dyn Fn() -> Error) {
        self.for_all(|subscriber, _| hub.end(subscriber, why()));
    }

    fn let_all_go(&mut self) {
        let position = self.position;
        self.for_all(|subscriber, from| subscriber.leave(position.max(from)));
    }

    fn for_all(&mut self, tell: impl Fn(&Subscriber, CommitSeq)) {
        for class in std::mem::take(&mut self.classes).into_values() {
            for member in class.members.values() {
                tell(&member.subscriber, member.from);
            }
        }
        self.by_key.clear();
        self.index = QueryIndex::default();
        self.closed = true;
    }
}

impl Class {
    /// Puts commits into the queues of all members. `gone` is told of those who take no more.
    fn give(&self, commits: &[Arc<CommitChanges>], mut gone: impl FnMut(super::LiveQueryId)) {
        for (id, member) in &self.members {
            for commit in commits.iter().filter(|commit| commit.commit_seq > member.from) {
                if member.subscriber.push(commit) == Pushed::No {
                    gone(*id);
                    break;
                }
            }
        }
    }
}

/// What commits did to a query's result, ready for subscribers.
pub(super) fn commit_changes(
    matched: Vec<MatchedCommit>,
    decoded: &DecodedChanges,
    token: impl Fn(CommitSeq) -> String,
) -> Vec<Arc<CommitChanges>> {
    let commits = matched.into_iter().filter_map(|matched| {
        let head = decoded.commits.get(matched.commit)?;
        let MatchedCommit { changes, bytes, .. } = matched;
        Some(Arc::new(CommitChanges::new(head.seq, head.time_us, changes, token(head.seq), false, bytes)))
    });
    commits.collect()
}
