//! Writers and subscribers whose changes are measured and checked: the same for the server and for its limit.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kalamdb_proto::v1::{
    ExecuteResponse, LiveCommit, SubscribeResponse, query_service_client::QueryServiceClient, subscribe_response::Event,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, Interval, interval_at, sleep, timeout_at},
};
use tonic::transport::Channel;

use super::{
    message::{self, Sent, now_ns},
    streams::{AT_ONCE, Call, Reader, Recording, Streams, lock, only_changes, unexpected},
    subscribe_filtered_sql, subscribe_sql,
};
use crate::{
    data,
    driver::{Measurement, Reply, Window},
    error::{BenchError, Result, status_text},
    limits::broadcast::Script,
    wire::{self, Expect, as_user, statement, text, user_metadata},
};

/// Connections of the benchmark that write at the same time.
pub(super) const WRITERS: usize = 16;
/// Commits that each writer adds to a batch; see [`Pace::Received`].
const BATCH_COMMITS: u32 = 2;
/// Batches that are under way, or counted, at the same time; one more than there can be.
const BATCHES: usize = 4;
/// Subscriptions of one filter.
const FILTER_SUBSCRIPTIONS: usize = 10;
/// Latencies are recorded in so many places, so that subscribers do not wait for each other.
const SHARDS: usize = 8;
/// How long changes may be under way after the last commit was acknowledged.
const DELIVERY_LIMIT: Duration = Duration::from_secs(60);
/// After the last change that is expected: time for one that is not.
const SETTLE: Duration = Duration::from_millis(200);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Who subscribes to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All to all rows of one user.
    SameUser,
    /// Each to all rows of another user.
    ManyUsers,
    /// All to rows of one user, by filters of which each row matches one.
    Filters,
}

impl Mode {
    pub(super) const ALL: [Self; 3] = [Self::SameUser, Self::ManyUsers, Self::Filters];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SameUser => "one user",
            Self::ManyUsers => "many users",
            Self::Filters => "filters",
        }
    }
}

/// Who subscribes, and whom a commit reaches. Subscriptions that the same commits reach are a group.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    pub(super) subscriptions: usize,
    pub(super) namespace: String,
    /// Begins the names of users, so that no two plans share rows.
    pub(super) prefix: String,
}

impl Plan {
    fn groups(&self) -> usize {
        match self.mode {
            Mode::SameUser => 1,
            Mode::ManyUsers => self.subscriptions,
            Mode::Filters => self.subscriptions.div_ceil(FILTER_SUBSCRIPTIONS),
        }
    }

    /// Number of subscriptions of the largest group.
    pub(super) fn subscribers(&self) -> usize {
        self.subscriptions.div_ceil(self.groups())
    }

    /// Number of subscriptions of a group: they are dealt out one by one.
    fn subscribers_of(&self, group: usize) -> usize {
        let (each, more) = (self.subscriptions / self.groups(), self.subscriptions % self.groups());
        each + usize::from(group < more)
    }

    fn user(&self, group: usize) -> String {
        match self.mode {
            Mode::SameUser | Mode::Filters => self.prefix.clone(),
            Mode::ManyUsers => format!("{}-{group}", self.prefix),
        }
    }

    fn conversation(group: usize) -> String {
        data::conversation(group as u64)
    }

    fn call(&self, subscription: usize) -> Call {
        let group = subscription % self.groups();
        let query = match self.mode {
            Mode::SameUser | Mode::ManyUsers => only_changes(&subscribe_sql(&self.namespace), Vec::new()),
            Mode::Filters => {
                only_changes(&subscribe_filtered_sql(&self.namespace), vec![text(Self::conversation(group))])
            }
        };
        Call { user: self.user(group), queries: vec![query] }
    }
}

/// Records what the server says to a subscriber and to a writer, for the limit to say the same.
pub(super) async fn record_script(url: &str, namespace: &str) -> Result<Script> {
    const USER: &str = "sample";
    let queries = vec![only_changes(&subscribe_sql(namespace), Vec::new())];
    let mut recording = Recording::start(url, Call { user: USER.to_owned(), queries }).await?;
    let beginning = recording.until_ready(1).await?;
    let sent = Sent { writer: 0, sequence: 0, at_ns: now_ns() };
    let insert = statement(message::insert_sql(namespace, 1), sent.parameters(0, Plan::conversation(0)));
    let mut query = QueryServiceClient::new(wire::connect(url).await?);
    let answer = query.execute(as_user(insert, &user_metadata(USER)?)).await.map_err(BenchError::call("an INSERT"))?;
    let answer: ExecuteResponse = answer.into_inner();
    Expect::Affected(1).check(&answer).map_err(BenchError::WrongAnswer)?;
    let changed = |message: &SubscribeResponse| matches!(message.event, Some(Event::Changes(_)));
    let change = recording.until(changed).await?.pop().unwrap_or_default();
    match &change.event {
        Some(Event::Changes(changes)) if changes.commits.iter().map(|commit| commit.changes.len()).eq([1]) => {}
        other => return Err(BenchError::WrongAnswer(format!("an INSERT of one row arrived as {other:?}"))),
    }
    Ok(Script { answer, change, beginning })
}

/// When writers commit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// So many times a second, all together.
    Rate(f64),
    /// As fast as all subscribers receive: a batch of commits is begun when all have received the one before the last.
    /// For plans of one group.
    Received,
}

/// A contestant with its subscribers.
pub(super) struct Side {
    plan: Arc<Plan>,
    streams: Streams,
    sink: Arc<Sink>,
    writers: Vec<Writer>,
    expected: u64,
}

/// What a contestant did in a slice.
pub(super) struct Slice {
    /// Changes, from the beginning of their INSERT's call to the subscriber.
    pub(super) deliveries: Measurement,
    /// The calls.
    pub(super) inserts: Measurement,
}

impl Slice {
    pub(super) fn new() -> Self {
        Self { deliveries: Measurement::new(), inserts: Measurement::new() }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.deliveries.merge(other.deliveries);
        self.inserts.merge(other.inserts);
    }
}

impl Side {
    /// Connects writers and subscribers, and waits until all are ready.
    pub(super) async fn open(url: &str, plan: &Arc<Plan>, connections: usize) -> Result<Self> {
        let sink = Arc::new(Sink::new(plan.subscriptions));
        let streams = Streams::open(url, plan.subscriptions, AT_ONCE, |subscription| {
            (plan.call(subscription), InOrder::new(Arc::clone(&sink), subscription))
        });
        let streams = streams.await?;
        let mut channels = Vec::new();
        for _ in 0..connections.clamp(1, WRITERS) {
            channels.push(wire::connect(url).await?);
        }
        let insert = message::insert_sql(&plan.namespace, 1);
        let writers = channels.iter().cycle().take(WRITERS).enumerate().map(|(number, channel)| Writer {
            number,
            query: QueryServiceClient::new(channel.clone()),
            insert: insert.clone(),
            commits: 0,
            sequences: vec![0; plan.groups()],
        });
        Ok(Self { plan: Arc::clone(plan), streams, sink, writers: writers.collect(), expected: 0 })
    }

    /// Writes for a while, and waits until every change has arrived where it must.
    pub(super) async fn run(&mut self, window: Window, pace: Pace) -> Result<Slice> {
        let begin = Instant::now();
        let (from, until) = (begin + window.warmup, begin + window.warmup + window.measure);
        let from_ns = now_ns() + u64::try_from(window.warmup.as_nanos()).unwrap_or(u64::MAX);
        self.sink.measure_from(from_ns);
        let mut tasks = JoinSet::new();
        for writer in self.writers.drain(..) {
            let pacer = Pacer::new(pace, writer.number, begin, &self.sink);
            tasks.spawn(writer.write(Arc::clone(&self.plan), pacer, from, until));
        }
        let mut slice = Slice::new();
        while let Some(ended) = tasks.join_next().await {
            let (writer, wrote) = ended.map_err(|error| BenchError::Process(format!("a writer: {error}")))?;
            let wrote = wrote.map_err(BenchError::WrongAnswer)?;
            self.writers.push(writer);
            self.expected += wrote.expected;
            slice.inserts.merge(wrote.inserts);
        }
        slice.inserts.finish_slice(slice.inserts.operations() as f64 / window.measure.as_secs_f64());
        self.settle().await?;
        slice.deliveries = self.sink.take();
        let took_s = self.sink.last_ns().saturating_sub(from_ns) as f64 / 1e9;
        let rate = if took_s > 0.0 { slice.deliveries.operations() as f64 / took_s } else { 0.0 };
        slice.deliveries.finish_slice(rate);
        Ok(slice)
    }

    /// Waits for the last change. That each is the one after the one before is known already, so that there are neither
    /// too few nor too many says that all are right.
    async fn settle(&self) -> Result<()> {
        let until = Instant::now() + DELIVERY_LIMIT;
        let wrong = |what: &str| {
            let (received, expected) = (self.sink.received(), self.expected);
            Err(BenchError::WrongAnswer(format!("{received} changes arrived {what}; {expected} should have")))
        };
        while self.sink.received() < self.expected {
            self.streams.check()?;
            if Instant::now() > until {
                return wrong(&format!("within {} s of the last commit", DELIVERY_LIMIT.as_secs()));
            }
            sleep(POLL_INTERVAL).await;
        }
        sleep(SETTLE).await;
        self.streams.check()?;
        if self.sink.received() == self.expected { Ok(()) } else { wrong("in all") }
    }

    pub(super) async fn close(self) {
        self.streams.close().await;
    }
}

/// Says when a writer may commit.
enum Pacer {
    Rate(Interval),
    Received(watch::Receiver<u64>),
}

impl Pacer {
    fn new(pace: Pace, writer: usize, begin: Instant, sink: &Sink) -> Self {
        match pace {
            Pace::Rate(commits_per_s) => {
                let step = 1.0 / commits_per_s;
                let first = begin + Duration::from_secs_f64(step * writer as f64);
                Self::Rate(interval_at(first, Duration::from_secs_f64(step * WRITERS as f64)))
            }
            Pace::Received => Self::Received(sink.complete.subscribe()),
        }
    }

    /// Waits for the time of the writer's commit; false: not before the end.
    async fn wait(&mut self, commit: u32, until: Instant) -> bool {
        let time = async {
            match self {
                Self::Rate(interval) => interval.tick().await.elapsed() >= Duration::ZERO,
                Self::Received(complete) => {
                    let batch = u64::from(commit / BATCH_COMMITS);
                    complete.wait_for(|complete| batch < complete + 2).await.is_ok()
                }
            }
        };
        timeout_at(until, time).await.unwrap_or(false)
    }
}

struct Writer {
    number: usize,
    query: QueryServiceClient<Channel>,
    insert: String,
    /// How many it has made.
    commits: u32,
    /// The same, by group.
    sequences: Vec<u32>,
}

/// What a writer did in a slice.
struct Wrote {
    /// Changes that must arrive.
    expected: u64,
    inserts: Measurement,
}

impl Writer {
    async fn write(
        mut self,
        plan: Arc<Plan>,
        mut pacer: Pacer,
        from: Instant,
        until: Instant,
    ) -> (Self, Result<Wrote, String>) {
        let mut wrote = Wrote { expected: 0, inserts: Measurement::new() };
        while Instant::now() < until && pacer.wait(self.commits, until).await {
            let begin = Instant::now();
            match self.commit(&plan).await {
                Ok(subscribers) => wrote.expected += subscribers as u64,
                Err(error) => return (self, Err(error)),
            }
            if begin >= from {
                wrote.inserts.record(begin.elapsed(), Reply::default());
            }
        }
        (self, Ok(wrote))
    }

    /// Makes a commit, and says how many subscriptions it concerns.
    async fn commit(&mut self, plan: &Plan) -> Result<usize, String> {
        let group = (self.number + self.commits as usize * WRITERS) % self.sequences.len();
        let user = user_metadata(&plan.user(group)).map_err(|error| error.to_string())?;
        let sent = Sent { writer: self.number, sequence: self.sequences[group], at_ns: now_ns() };
        let insert = statement(self.insert.clone(), sent.parameters(self.commits, Plan::conversation(group)));
        let answer = self.query.execute(as_user(insert, &user)).await;
        let answer = answer.map_err(|status| format!("an INSERT: {}", status_text(&status)))?;
        // The limit answers with one recorded answer, which is as right.
        Expect::Affected(1).check(answer.get_ref())?;
        self.commits += 1;
        self.sequences[group] += 1;
        Ok(plan.subscribers_of(group))
    }
}

/// Where subscribers say what has arrived.
struct Sink {
    subscriptions: u64,
    /// Changes sent from then on are measured.
    from_ns: AtomicU64,
    received: AtomicU64,
    last_ns: AtomicU64,
    shards: [Mutex<Measurement>; SHARDS],
    /// Changes of the batches under way.
    batches: [AtomicU64; BATCHES],
    /// How many batches all subscribers have received.
    complete: watch::Sender<u64>,
}

impl Sink {
    fn new(subscriptions: usize) -> Self {
        Self {
            subscriptions: subscriptions as u64,
            from_ns: AtomicU64::new(u64::MAX),
            received: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            shards: std::array::from_fn(|_| Mutex::new(Measurement::new())),
            batches: std::array::from_fn(|_| AtomicU64::new(0)),
            complete: watch::Sender::new(0),
        }
    }

    fn measure_from(&self, from_ns: u64) {
        self.from_ns.store(from_ns, Ordering::Relaxed);
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    fn last_ns(&self) -> u64 {
        self.last_ns.load(Ordering::Acquire)
    }

    /// What was measured since the last time.
    fn take(&self) -> Measurement {
        let mut total = Measurement::new();
        for shard in &self.shards {
            total.merge(std::mem::replace(&mut *lock(shard), Measurement::new()));
        }
        total
    }

    fn arrived(&self, shard: usize, sent: Sent) {
        let now = now_ns();
        if sent.at_ns >= self.from_ns.load(Ordering::Relaxed) {
            let latency = Duration::from_nanos(now.saturating_sub(sent.at_ns));
            lock(&self.shards[shard % SHARDS]).record(latency, Reply::default());
        }
        self.last_ns.store(now, Ordering::Release);
        let batch = u64::from(sent.sequence / BATCH_COMMITS);
        let place = &self.batches[(batch % BATCHES as u64) as usize];
        let of_batch = self.subscriptions * WRITERS as u64 * u64::from(BATCH_COMMITS);
        if place.fetch_add(1, Ordering::AcqRel) + 1 == of_batch {
            place.store(0, Ordering::Release);
            self.complete.send_replace(batch + 1);
        }
        self.received.fetch_add(1, Ordering::AcqRel);
    }
}

/// Checks that a subscriber receives every writer's messages in their order, each once.
struct InOrder {
    sink: Arc<Sink>,
    subscription: usize,
    /// The number of each writer's next message.
    next: [u32; WRITERS],
    last_commit: u64,
}

impl InOrder {
    fn new(sink: Arc<Sink>, subscription: usize) -> Self {
        Self { sink, subscription, next: [0; WRITERS], last_commit: 0 }
    }

    fn commit(&mut self, commit: &LiveCommit) -> Result<(), String> {
        if commit.commit_seq <= self.last_commit {
            return Err(format!("commit {} arrived after commit {}", commit.commit_seq, self.last_commit));
        }
        if commit.merged || commit.changes.len() != 1 {
            return Err(format!("commit {} of one row has {} changes", commit.commit_seq, commit.changes.len()));
        }
        self.last_commit = commit.commit_seq;
        for change in &commit.changes {
            let sent = Sent::read(change)?;
            let next = self.next.get_mut(sent.writer).ok_or_else(|| format!("a change by writer {}", sent.writer))?;
            if sent.sequence != *next {
                return Err(format!(
                    "subscription {}: message {} of writer {} arrived where message {next} is the next",
                    self.subscription, sent.sequence, sent.writer
                ));
            }
            *next += 1;
            self.sink.arrived(self.subscription, sent);
        }
        Ok(())
    }
}

impl Reader for InOrder {
    fn event(&mut self, _query: usize, event: Event) -> Result<ControlFlow<()>, String> {
        match event {
            Event::Changes(changes) => changes.commits.iter().try_for_each(|commit| self.commit(commit))?,
            Event::Started(_) | Event::Ready(_) | Event::Progress(_) => {}
            Event::Rows(_) | Event::Reset(_) | Event::Ended(_) => return Err(unexpected(&event)),
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mode: Mode, subscriptions: usize) -> Plan {
        Plan { mode, subscriptions, namespace: "bench".to_owned(), prefix: "u".to_owned() }
    }

    #[test]
    fn every_subscription_is_in_one_group() {
        for mode in Mode::ALL {
            for subscriptions in [1, 7, 10, 1_000, 1_003] {
                let plan = plan(mode, subscriptions);
                let in_groups: usize = (0..plan.groups()).map(|group| plan.subscribers_of(group)).sum();
                assert_eq!(in_groups, subscriptions, "{plan:?}");
                assert_eq!((0..plan.groups()).map(|group| plan.subscribers_of(group)).max(), Some(plan.subscribers()));
            }
        }
        assert_eq!(plan(Mode::Filters, 1_000).subscribers(), 10);
        assert_eq!(plan(Mode::ManyUsers, 1_000).call(3).user, "u-3");
    }

    #[test]
    fn a_batch_is_complete_when_all_have_received_it() {
        let sink = Sink::new(2);
        let all = (0..BATCH_COMMITS).flat_map(|sequence| (0..WRITERS).map(move |writer| (writer, sequence)));
        for (writer, sequence) in all {
            assert_eq!(*sink.complete.borrow(), 0);
            sink.arrived(0, Sent { writer, sequence, at_ns: 0 });
            assert_eq!(*sink.complete.borrow(), 0);
            sink.arrived(1, Sent { writer, sequence, at_ns: 0 });
        }
        assert_eq!(*sink.complete.borrow(), 1);
    }

    #[test]
    fn a_gap_a_double_and_another_order_are_noticed() {
        let commit = |commit_seq: u64, sequence: u32| {
            let values = Sent { writer: 0, sequence, at_ns: 1 }.parameters(sequence, "c".to_owned());
            let mut row = vec![kalamdb_proto::v1::Value::default(); 6];
            for (place, value) in crate::limits::broadcast::PLACES.into_iter().zip(values) {
                row[place] = value;
            }
            let mut change = kalamdb_proto::v1::LiveChange {
                new_row: Some(kalamdb_proto::v1::Row { values: row }),
                ..Default::default()
            };
            change.set_type(kalamdb_proto::v1::ChangeType::Insert);
            LiveCommit { commit_seq, changes: vec![change], ..LiveCommit::default() }
        };
        let reader = || {
            let mut reader = InOrder::new(Arc::new(Sink::new(1)), 0);
            assert_eq!(reader.commit(&commit(5, 0)), Ok(()));
            reader
        };
        assert_eq!(reader().commit(&commit(6, 1)), Ok(()));
        assert!(reader().commit(&commit(6, 2)).is_err());
        assert!(reader().commit(&commit(6, 0)).is_err());
        assert!(reader().commit(&commit(5, 1)).is_err());
        assert!(reader().commit(&LiveCommit { merged: true, ..commit(6, 1) }).is_err());
    }
}
