//! A live query from the subscriber's side: its rows, then its changes, whatever happens to the feed meanwhile.
//!
//! ```text
//!             ┌───────────── token too old, or other columns ◀──┐
//!             ▼                                                 │
//! new ──▶ snapshot S ──▶ rows of S ──▶ ready ──▶ catch up: log after S ──▶ member of the feed
//!                                        ▲              ▲                        │
//! token T ───────────────────────────────┘              └── the feed let go ◀────┘
//! ```
//!
//! Nothing waits in memory while rows are sent or the log is read: what happens meanwhile is in the log. The feed is
//! joined at exactly the position that was reached, so there is neither a gap nor a double.

use std::{sync::Arc, time::Duration};

use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use kalamdb_store::{
    commit::{LogError, LogPage, committed_seq},
    ids::{CommitSeq, Partition},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    compile::Compiled,
    decoded::DecodedChanges,
    event::{CommitChanges, LiveEnd, LiveEvent},
    feed::{Feed, PAGE_BYTES},
    handle::LiveQueryHandle,
    hub::{LiveHub, shutting_down, table_gone},
    idle::IdleProgress,
    info::LiveQueryId,
    query_class::QueryClass,
    subscribe::Subscription,
    subscriber::{Subscriber, Taken},
};
use crate::{
    engine::Shared,
    error::{Error, ErrorKind, Reason, Result},
    exec::{ResultColumn, RowStream, from_store, run_on_snapshot},
    session,
    sql::TableKind,
};

/// Without changes, a subscriber is told this often that there were none.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A live query. Dropping it ends it, and frees everything that it has.
#[derive(Debug)]
pub struct LiveQuery {
    shared: Arc<Shared>,
    subscription: Subscription,
    subscriber: Arc<Subscriber>,
    partition: Partition,
    class: Arc<QueryClass>,
    columns: Arc<[ResultColumn]>,
    schema: SchemaRef,
    columns_id: [u8; 4],
    phase: Phase,
    /// It gave everything up to here itself; `None` while it gives rows. See [`LiveQuery::position`].
    position: Option<CommitSeq>,
    /// When the next progress is due.
    progress_at: Instant,
}

#[derive(Debug)]
enum Phase {
    /// What was given is void.
    Reset(Error),
    /// The snapshot is to be taken.
    Begin(Arc<Compiled>),
    /// The rows of the snapshot are being given.
    Rows { rows: RowStream, snapshot: CommitSeq, count: u64 },
    /// Everything up to the commit was given.
    Ready { at: CommitSeq, count: u64 },
    /// The log is read from the position on.
    CatchUp(Option<JoinHandle<Caught>>),
    /// The feed serves it.
    Member(Arc<Feed>),
    /// It has ended.
    Ended,
}

/// Who tells how far an idle query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenIdle {
    /// The query itself.
    Tells,
    /// Whoever asks its [`IdleProgress`].
    IsAsked,
}

/// What came of reading the log.
#[derive(Debug)]
enum Caught {
    Page {
        commits: Vec<Arc<CommitChanges>>,
        read_to: CommitSeq,
        complete: bool,
    },
    /// The changes after the position are gone.
    Expired,
    /// The table has another schema now.
    OtherSchema,
    Failed(Error),
}

/// How a live query begins.
pub(super) enum Beginning {
    /// With rows.
    Anew(Arc<Compiled>),
    /// With rows, although a token was given.
    AnewBecause(Error),
    /// After a commit.
    After(CommitSeq),
}

impl LiveQuery {
    pub(super) fn new(
        shared: Arc<Shared>,
        subscription: Subscription,
        subscriber: Arc<Subscriber>,
        class: Arc<QueryClass>,
        compiled: &Compiled,
        beginning: Beginning,
    ) -> Self {
        let position = match beginning {
            Beginning::After(at) => Some(at),
            Beginning::Anew(_) | Beginning::AnewBecause(_) => None,
        };
        let phase = match beginning {
            Beginning::Anew(compiled) => Phase::Begin(compiled),
            Beginning::AnewBecause(why) => Phase::Reset(why),
            Beginning::After(at) => Phase::Ready { at, count: 0 },
        };
        Self {
            partition: compiled.partition(&subscription.caller),
            columns: Arc::clone(&compiled.columns),
            schema: Arc::clone(&compiled.schema),
            columns_id: compiled.columns_id,
            shared,
            subscription,
            subscriber,
            class,
            phase,
            position,
            progress_at: Instant::now() + PROGRESS_INTERVAL,
        }
    }

    /// Its id.
    pub fn id(&self) -> LiveQueryId {
        self.subscriber.id
    }

    /// With which it can be ended by somebody else.
    pub fn handle(&self) -> LiveQueryHandle {
        LiveQueryHandle::new(Arc::clone(self.hub()), Arc::clone(&self.subscriber))
    }

    /// The columns of its rows.
    pub fn columns(&self) -> &[ResultColumn] {
        &self.columns
    }

    /// The Arrow schema of its rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many bytes the events took on their way to the subscriber; for statistics.
    pub fn note_sent(&self, bytes: usize) {
        self.subscriber.note_sent(bytes);
        self.hub().counters.bytes.increment(bytes as u64);
    }

    /// The next event; `None` after [`LiveEvent::Ended`]. Without changes there is a progress at least every second.
    ///
    /// Cancel-safe: no event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        self.event(WhenIdle::Tells).await
    }

    /// The next event, but no progress while the query is idle: that is what its [`IdleProgress`] is for.
    ///
    /// Cancel-safe: no event is lost when the future is dropped.
    pub async fn next_unless_idle(&mut self) -> Option<LiveEvent> {
        self.event(WhenIdle::IsAsked).await
    }

    /// What tells how far the query is while [`LiveQuery::next_unless_idle`] waits.
    pub fn idle_progress(&self) -> IdleProgress {
        IdleProgress::new(Arc::clone(self.hub()), Arc::clone(&self.subscriber))
    }

    async fn event(&mut self, when_idle: WhenIdle) -> Option<LiveEvent> {
        if matches!(self.phase, Phase::Ended) {
            return None;
        }
        let event = match self.step(when_idle).await {
            Ok(event) => event,
            Err(why) => {
                self.leave();
                self.phase = Phase::Ended;
                self.hub().unregister(&self.subscriber);
                LiveEvent::Ended(LiveEnd { token: self.token_at_end(&why), why })
            }
        };
        self.progress_at = Instant::now() + PROGRESS_INTERVAL;
        Some(event)
    }

    fn hub(&self) -> &Arc<LiveHub> {
        &self.shared.live
    }

    /// A subscriber that was told nothing yet has nothing to resume from. Where the table is gone nobody has, and where the
    /// query fails on a change it would fail on it again.
    fn token_at_end(&self, why: &Error) -> Option<String> {
        let is_final = matches!(why.kind(), ErrorKind::InvalidRequest | ErrorKind::NotFound | ErrorKind::NotSupported);
        let position = self.position().filter(|_| !is_final)?;
        Some(self.class.key.tokens.token(position))
    }

    async fn step(&mut self, when_idle: WhenIdle) -> Result<LiveEvent> {
        loop {
            if let Some(why) = self.subscriber.ended() {
                return Err(why);
            }
            match &mut self.phase {
                Phase::Reset(_) => return self.reset(),
                Phase::Begin(compiled) => {
                    let compiled = Arc::clone(compiled);
                    // Large, and soon over: it must not take room in what waits for changes.
                    self.phase = match Box::pin(self.begin(&compiled)).await? {
                        Some(phase) => phase,
                        // The snapshot may have rows that the query as compiled cannot read.
                        None => Phase::Begin(self.recompile()?),
                    };
                }
                Phase::Rows { rows, snapshot, count } => {
                    let next = tokio::select! {
                        biased;
                        () = self.subscriber.wake.notified() => continue,
                        next = rows.next() => next,
                    };
                    match next {
                        Some(batch) => {
                            let batch = batch?;
                            *count += batch.num_rows() as u64;
                            return Ok(LiveEvent::Rows(batch));
                        }
                        None => self.phase = Phase::Ready { at: *snapshot, count: *count },
                    }
                }
                Phase::Ready { at, count } => {
                    let (commit_seq, row_count) = (*at, *count);
                    self.phase = Phase::CatchUp(None);
                    self.told(commit_seq, 0);
                    let token = self.class.key.tokens.token(commit_seq);
                    return Ok(LiveEvent::Ready { commit_seq, token, row_count });
                }
                Phase::CatchUp(_) => {
                    if let Some(event) = self.catch_up().await? {
                        return Ok(event);
                    }
                }
                Phase::Member(feed) => {
                    let feed = Arc::clone(feed);
                    if let Some(event) = self.follow(&feed, when_idle).await? {
                        return Ok(event);
                    }
                }
                Phase::Ended => return Err(shutting_down()),
            }
        }
    }

    fn reset(&mut self) -> Result<LiveEvent> {
        let compiled = self.recompile()?;
        // What it has is void: there is nothing to resume from before it is ready again.
        self.position = None;
        match std::mem::replace(&mut self.phase, Phase::Begin(compiled)) {
            Phase::Reset(why) => Ok(LiveEvent::Reset { why }),
            _ => Err(Error::internal("a reset without a reason")),
        }
    }

    /// Takes the snapshot. `None`: the table has another schema in it.
    async fn begin(&self, compiled: &Compiled) -> Result<Option<Phase>> {
        let context = self.shared.context(self.subscription.caller.clone());
        if compiled.table.kind() == TableKind::Stream {
            // Rows that the snapshot hides because they have expired must not end a second time, by their removal.
            crate::jobs::expire_partition(&self.shared, &context, &compiled.table, &self.partition).await?;
        }
        let context = Arc::new(context.renewed());
        let snapshot = committed_seq(context.snapshot().as_ref()).map_err(from_store)?;
        // Rows of a new schema are written only after the catalog has it.
        let now = self.hub().current_table(&compiled.table).ok_or_else(table_gone)?;
        if now.schema_version() != compiled.table.schema_version() {
            return Ok(None);
        }
        if !self.subscription.wants_rows() {
            return Ok(Some(Phase::Ready { at: snapshot, count: 0 }));
        }
        let parameters = &self.subscription.parameters;
        let deadline = session::deadline(None, self.shared.settings.statement_timeout_ms);
        let rows = run_on_snapshot(&self.shared, context, &compiled.initial, parameters, deadline).await?;
        Ok(Some(Phase::Rows { rows, snapshot, count: 0 }))
    }

    /// Reads the log until the feed can be joined. `None`: look again.
    async fn catch_up(&mut self) -> Result<Option<LiveEvent>> {
        let position = self.position().ok_or_else(|| Error::internal("a live query without a position"))?;
        let Phase::CatchUp(reading) = &mut self.phase else { return Ok(None) };
        let reading = match reading {
            Some(reading) => reading,
            None => {
                let (hub, class) = (Arc::clone(&self.shared.live), Arc::clone(&self.class));
                let (partition, handle) = (self.partition.clone(), self.shared.live.handle().clone());
                reading.insert(handle.spawn(async move { read_log(&hub, &class, &partition, position) }))
            }
        };
        let caught = tokio::select! {
            biased;
            () = self.subscriber.wake.notified() => return Ok(None),
            caught = reading => caught,
        };
        self.phase = Phase::CatchUp(None);
        let caught = caught.map_err(|error| if error.is_panic() { Error::internal(error) } else { shutting_down() })?;
        match caught {
            Caught::Page { commits, read_to, complete } => {
                if complete {
                    self.join(read_to);
                }
                let changes = commits.iter().map(|commit| commit.changes.len() as u64).sum();
                self.told(read_to, changes);
                if !commits.is_empty() {
                    return Ok(Some(LiveEvent::Changes(commits)));
                }
                Ok((Instant::now() >= self.progress_at).then(|| self.progress(read_to)))
            }
            Caught::Expired => {
                self.phase = Phase::Reset(changes_expired());
                Ok(None)
            }
            Caught::OtherSchema => self.recompile().map(|_| None),
            Caught::Failed(error) => Err(error),
        }
    }

    /// Becomes a member of the feed at `position`, if the feed is not ahead and of no other schema. If it is, the log is
    /// read on, which finds out more.
    fn join(&mut self, position: CommitSeq) {
        let joined = self.hub().join(&self.partition, &self.class, &self.subscriber, position);
        if let Some(feed) = joined {
            self.phase = Phase::Member(feed);
        }
    }

    /// Takes what the feed has given. `None`: look again.
    async fn follow(&mut self, feed: &Arc<Feed>, when_idle: WhenIdle) -> Result<Option<LiveEvent>> {
        // Before the queue: what is settled now is in the queue already.
        let due = when_idle == WhenIdle::Tells && Instant::now() >= self.progress_at;
        let settled = if due { feed.settled(self.hub()) } else { CommitSeq::new(0) };
        match self.subscriber.take() {
            Taken::Commits(commits) => {
                if let Some(last) = commits.last() {
                    let changes = commits.iter().map(|commit| commit.changes.len() as u64).sum();
                    self.told(last.commit_seq, changes);
                }
                return Ok(Some(LiveEvent::Changes(commits)));
            }
            Taken::LeftAt(position) => {
                self.leave();
                self.phase = Phase::CatchUp(None);
                self.told(position, 0);
                return Ok(None);
            }
            Taken::Ended(why) => return Err(why),
            Taken::Nothing => {}
        }
        if due {
            let at = self.position().map_or(settled, |position| position.max(settled));
            return Ok(Some(self.progress(at)));
        }
        if when_idle == WhenIdle::IsAsked {
            let _idle = self.subscriber.idle(feed, &self.class);
            self.subscriber.wake.notified().await;
            return Ok(None);
        }
        let due = sleep_until(self.progress_at);
        tokio::select! {
            biased;
            () = self.subscriber.wake.notified() => {}
            () = due => {}
        }
        Ok(None)
    }

    fn progress(&mut self, at: CommitSeq) -> LiveEvent {
        self.told(at, 0);
        LiveEvent::Progress { commit_seq: at, token: self.class.key.tokens.token(at) }
    }

    /// The subscriber was given everything up to here, or told that there was nothing; `None` while it is given rows.
    fn position(&self) -> Option<CommitSeq> {
        self.position.map(|position| position.max(self.subscriber.position()))
    }

    fn told(&mut self, seq: CommitSeq, changes: u64) {
        self.position = Some(self.position.map_or(seq, |position| position.max(seq)));
        self.subscriber.told(seq, changes);
        self.hub().counters.changes.increment(changes);
    }

    /// Compiles the query for the table as it is now. It goes on if its columns are the same; else it ends, so that
    /// whoever resumes it is told of the new ones.
    fn recompile(&mut self) -> Result<Arc<Compiled>> {
        let compiled = self.subscription.compile(&self.shared)?;
        if compiled.columns_id != self.columns_id {
            return Err(Error::new(
                Reason::SchemaChanged,
                "ALTER TABLE has changed the columns of the live query. Subscribe again to get the new ones.",
            ));
        }
        self.take_over(&compiled);
        Ok(compiled)
    }

    fn take_over(&mut self, compiled: &Arc<Compiled>) {
        self.class = self.subscription.class(&self.shared, compiled);
        self.columns = Arc::clone(&compiled.columns);
        self.schema = Arc::clone(&compiled.schema);
    }

    fn leave(&mut self) {
        if let Phase::Member(feed) = &self.phase {
            self.hub().leave(feed, &self.class, &self.subscriber);
        }
    }
}

/// Why a live query begins again.
pub(super) fn changes_expired() -> Error {
    Error::new(
        Reason::ChangesExpired,
        "The changes after the resume token are no longer kept; see live.log_retention_s and live.log_retention_bytes. The \
         rows follow as they are now.",
    )
}

impl Drop for LiveQuery {
    fn drop(&mut self) {
        self.leave();
        self.hub().unregister(&self.subscriber);
    }
}

/// A page of what happened after `position`.
fn read_log(hub: &LiveHub, class: &QueryClass, partition: &Partition, position: CommitSeq) -> Caught {
    let Some(_working) = hub.working() else { return Caught::Failed(shutting_down()) };
    // Before the table is looked up: entries up to here have no newer schema than what is found then.
    let upto = hub.published();
    match hub.current_table(&class.table) {
        None => return Caught::Failed(table_gone()),
        Some(table) if table.schema_version() != class.table.schema_version() => return Caught::OtherSchema,
        Some(_) => {}
    }
    match hub.log().read(partition, position, upto.max(position), PAGE_BYTES) {
        Ok(LogPage { entries, read_to, complete }) => {
            let commits = if entries.is_empty() {
                Ok(Vec::new())
            } else {
                DecodedChanges::decode(&class.table, partition, entries).and_then(|decoded| {
                    hub.counters.evaluated.increment(decoded.changes.len() as u64);
                    class.changes(&decoded, None)
                })
            };
            match commits {
                Ok(commits) => Caught::Page { commits, read_to, complete },
                Err(error) => Caught::Failed(error),
            }
        }
        Err(LogError::Trimmed { .. }) => Caught::Expired,
        Err(LogError::Storage(error)) => Caught::Failed(from_store(error)),
    }
}
