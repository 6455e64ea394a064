//! Everybody comes back: what many subscribers have missed, from their resume tokens.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use kalamdb_proto::v1::{
    LiveCommit, LiveQuery, SubscribeResponse, query_service_client::QueryServiceClient, subscribe_response::Event,
};
use tokio::time::sleep;
use tonic::transport::Channel;

use super::{
    STREAMS, message, start_server,
    streams::{AT_ONCE, Call, Reader, Recording, Streams, lock, only_changes, unexpected},
    subscribe_sql,
};
use crate::{
    error::{BenchError, Result},
    limits::broadcast::{BroadcastServer, Script},
    report::{Record, live::LiveResumeRecord, quotient},
    wire::{self, Expect, as_user, int, statement, user_metadata},
    workloads::Context,
};

const SUBSCRIPTIONS: [usize; 1] = [1_000];
/// Changes missed, of all subscribers together.
const DEFAULT_CHANGES: u64 = 100_000;
/// Rows of a commit.
const COMMIT_ROWS: i64 = 10;
/// How long everybody may take to have everything.
const RESUME_LIMIT: Duration = Duration::from_secs(600);
/// After the last change that is expected: time for one that is not.
const SETTLE: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Nothing else is measured here: the tables stay as they are.
const SETTINGS: [(&str, &str); 1] = [("shutdown.flush_timeout_s", "0")];

pub(super) async fn live_resume(context: &mut Context) -> Result<()> {
    let changes = context.args.rows.unwrap_or(DEFAULT_CHANGES);
    for subscriptions in context.args.live.subscriptions(&SUBSCRIPTIONS) {
        let commits = (changes / subscriptions as u64 / COMMIT_ROWS as u64).max(1);
        let crowd = Crowd {
            namespace: context.args.namespace.clone(),
            same_user: context.args.live.same_user,
            subscriptions,
            missed: i64::try_from(commits).unwrap_or(i64::MAX).saturating_mul(COMMIT_ROWS),
        };
        resume(context, &crowd).await?;
    }
    Ok(())
}

async fn resume(context: &mut Context, crowd: &Crowd) -> Result<()> {
    let mut server = start_server(context, &SETTINGS).await?;
    let url = server.url().to_owned();
    let places = crowd.places();
    let mut streams = crowd.open(&url, &places, AT_ONCE, COMMIT_ROWS).await?;
    crowd.write(&url, 1, COMMIT_ROWS).await?;
    places.wait(crowd.subscriptions as u64 * COMMIT_ROWS as u64, &streams).await?;

    eprintln!("live-resume: restarting, writing {} rows of each user, restarting", crowd.missed);
    // What the streams say about their end is not what is measured; the tokens are those of the last events.
    server.process()?.restart().await?;
    streams.finished(RESUME_LIMIT).await?;
    crowd.write(&server.process()?.endpoint(), COMMIT_ROWS + 1, crowd.missed).await?;
    server.process()?.restart().await?;
    let url = server.process()?.endpoint();
    let before = places.tokens();

    let last = COMMIT_ROWS + crowd.missed;
    let took = crowd.catch_up(&url, &places, last).await?;

    // The first subscriber's messages again, for the limit to say the same to all.
    let first = before.first().cloned().unwrap_or_default();
    let beginning = crowd.record(&url, first).await?;
    let limit = BroadcastServer::start(&Script { beginning, ..Script::default() }).await?;
    let bare = crowd.catch_up(limit.url(), &Arc::new(Places::new(before)), last).await?;
    let select = crowd.select(&url).await?;

    let changes = crowd.subscriptions as u64 * crowd.missed.unsigned_abs();
    context.report(Record::LiveResume(LiveResumeRecord {
        workload: "live-resume",
        subscriptions: crowd.subscriptions,
        same_user: crowd.same_user,
        changes,
        took_ms: milliseconds(took),
        changes_per_s: changes as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE),
        limit: STREAMS,
        limit_took_ms: milliseconds(bare),
        ratio: quotient(bare.as_secs_f64(), took.as_secs_f64()),
        select_took_ms: milliseconds(select),
    }))
}

/// Subscribers, and what they miss.
struct Crowd {
    namespace: String,
    same_user: bool,
    subscriptions: usize,
    /// Changes that each misses.
    missed: i64,
}

impl Crowd {
    fn places(&self) -> Arc<Places> {
        let place = Place { token: String::new(), next: 1 };
        Arc::new(Places::new(vec![place; self.subscriptions]))
    }

    fn user(&self, subscription: usize) -> String {
        format!("user-{}", if self.same_user { 0 } else { subscription })
    }

    fn users(&self) -> usize {
        if self.same_user { 1 } else { self.subscriptions }
    }

    fn call(&self, subscription: usize, resume_token: String) -> Call {
        let query = only_changes(&subscribe_sql(&self.namespace), Vec::new());
        Call { user: self.user(subscription), queries: vec![LiveQuery { resume_token, ..query }] }
    }

    /// Subscribes everybody from where they are; each reads up to row `last`, or the end of the server.
    async fn open(&self, url: &str, places: &Arc<Places>, at_once: usize, last: i64) -> Result<Streams> {
        let call = |subscription: usize| {
            let token = lock(&places.all[subscription]).token.clone();
            (self.call(subscription, token), Resuming { places: Arc::clone(places), subscription, last })
        };
        Streams::open(url, self.subscriptions, at_once, call).await
    }

    /// Resumes everybody at once, and says how long it took until all had everything up to row `last`.
    async fn catch_up(&self, url: &str, places: &Arc<Places>, last: i64) -> Result<Duration> {
        let expected = places.received() + self.subscriptions as u64 * self.missed.unsigned_abs();
        let begin = Instant::now();
        let streams = self.open(url, places, self.subscriptions, last).await?;
        places.wait(expected, &streams).await?;
        let took = begin.elapsed();
        sleep(SETTLE).await;
        streams.check()?;
        if places.received() != expected || places.all.iter().any(|place| lock(place).next != last + 1) {
            return Err(BenchError::WrongAnswer(format!(
                "{} changes arrived where {expected} were to arrive",
                places.received()
            )));
        }
        streams.close().await;
        Ok(took)
    }

    /// Writes rows of each user, in the order of their ids.
    async fn write(&self, url: &str, first: i64, rows: i64) -> Result<()> {
        let channel = wire::connect(url).await?;
        let sql = message::insert_sql(&self.namespace, COMMIT_ROWS as usize);
        let users = stream::iter(0..self.users()).map(|user| {
            let (mut query, sql) = (QueryServiceClient::new(channel.clone()), sql.clone());
            async move {
                let user = user_metadata(&self.user(user))?;
                for from in (first..first + rows).step_by(COMMIT_ROWS as usize) {
                    let parameters = (from..from + COMMIT_ROWS).flat_map(message::parameters).collect();
                    let request = as_user(statement(sql.clone(), parameters), &user);
                    let answer = query.execute(request).await.map_err(BenchError::call("an INSERT"))?;
                    let written = Expect::Affected(COMMIT_ROWS.unsigned_abs()).check(answer.get_ref());
                    written.map_err(BenchError::WrongAnswer)?;
                }
                Ok(())
            }
        });
        users.buffer_unordered(AT_ONCE).try_for_each(|()| std::future::ready(Ok(()))).await
    }

    /// What the first subscriber is told when it resumes, up to the last change.
    async fn record(&self, url: &str, place: Place) -> Result<Vec<SubscribeResponse>> {
        let mut left = self.missed;
        let complete = |message: &SubscribeResponse| {
            if let Some(Event::Changes(changes)) = &message.event {
                left -= changes.commits.iter().map(|commit| commit.changes.len() as i64).sum::<i64>();
            }
            left <= 0
        };
        Recording::start(url, self.call(0, place.token)).await?.until(complete).await
    }

    /// Reads the missed rows by SELECT, once for each subscriber, and says how long that took.
    async fn select(&self, url: &str) -> Result<Duration> {
        let channel: Channel = wire::connect(url).await?;
        let sql = format!("SELECT * FROM {}.messages WHERE id > $1", self.namespace);
        let begin = Instant::now();
        let selects = stream::iter(0..self.subscriptions).map(|subscription| {
            let (mut query, sql) = (QueryServiceClient::new(channel.clone()), sql.clone());
            async move {
                let request = statement(sql, vec![int(COMMIT_ROWS)]);
                let request = as_user(request, &user_metadata(&self.user(subscription))?);
                let answer = query.execute(request).await.map_err(BenchError::call("a SELECT"))?;
                let read = Expect::Rows(self.missed.unsigned_abs()).check(answer.get_ref());
                read.map(drop).map_err(BenchError::WrongAnswer)
            }
        });
        selects.buffer_unordered(AT_ONCE).try_for_each(|()| std::future::ready(Ok(()))).await?;
        Ok(begin.elapsed())
    }
}

/// How far a subscriber has read.
#[derive(Debug, Clone, Default)]
struct Place {
    token: String,
    /// The id of its next row.
    next: i64,
}

/// How far all have read.
struct Places {
    all: Vec<Mutex<Place>>,
    received: AtomicU64,
}

impl Places {
    fn new(all: Vec<Place>) -> Self {
        Self { all: all.into_iter().map(Mutex::new).collect(), received: AtomicU64::new(0) }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    fn tokens(&self) -> Vec<Place> {
        self.all.iter().map(|place| lock(place).clone()).collect()
    }

    /// Waits until so many changes have arrived.
    async fn wait(&self, expected: u64, streams: &Streams) -> Result<()> {
        let begin = Instant::now();
        while self.received() < expected {
            streams.check()?;
            if begin.elapsed() > RESUME_LIMIT {
                let received = self.received();
                return Err(BenchError::WrongAnswer(format!(
                    "{received} of {expected} changes arrived within {} s",
                    RESUME_LIMIT.as_secs()
                )));
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

/// Checks that a subscriber goes on exactly where it was.
struct Resuming {
    places: Arc<Places>,
    subscription: usize,
    /// No row after this one was written.
    last: i64,
}

impl Resuming {
    fn commit(&self, place: &mut Place, commit: LiveCommit) -> Result<(), String> {
        if commit.merged || commit.changes.len() as i64 != COMMIT_ROWS {
            return Err(format!("commit {} of {COMMIT_ROWS} rows has {}", commit.commit_seq, commit.changes.len()));
        }
        for change in &commit.changes {
            message::check(change, place.next)
                .map_err(|error| format!("subscription {}: {error}", self.subscription))?;
            place.next += 1;
        }
        if place.next > self.last + 1 {
            return Err(format!("row {} was never written", place.next - 1));
        }
        place.token = commit.resume_token;
        self.places.received.fetch_add(commit.changes.len() as u64, Ordering::AcqRel);
        Ok(())
    }
}

impl Reader for Resuming {
    fn event(&mut self, _query: usize, event: Event) -> Result<ControlFlow<()>, String> {
        let mut place = lock(&self.places.all[self.subscription]);
        match event {
            Event::Started(_) => {}
            Event::Ready(ready) => place.token = ready.resume_token,
            Event::Progress(progress) => place.token = progress.resume_token,
            Event::Changes(changes) => {
                changes.commits.into_iter().try_for_each(|commit| self.commit(&mut place, commit))?;
            }
            Event::Ended(ended) if ended.reason.ends_with("SHUTTING_DOWN") && !ended.resume_token.is_empty() => {
                place.token = ended.resume_token;
                return Ok(ControlFlow::Break(()));
            }
            Event::Rows(_) | Event::Reset(_) | Event::Ended(_) => return Err(unexpected(&event)),
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use kalamdb_proto::v1::{ChangeType, LiveChange, LiveChanges, LiveEnded, Row, Value};

    use super::*;
    use crate::limits::broadcast::PLACES;

    fn commit(first: i64) -> Event {
        let change = |id| {
            let mut values = vec![Value::default(); 6];
            for (place, value) in PLACES.into_iter().zip(message::parameters(id)) {
                values[place] = value;
            }
            let mut change = LiveChange { new_row: Some(Row { values }), ..LiveChange::default() };
            change.set_type(ChangeType::Insert);
            change
        };
        let changes = (first..first + COMMIT_ROWS).map(change).collect();
        let commit = LiveCommit { changes, resume_token: format!("after-{first}"), ..LiveCommit::default() };
        Event::Changes(LiveChanges { commits: vec![commit] })
    }

    #[test]
    fn a_subscriber_goes_on_where_it_was() {
        let places = Arc::new(Places::new(vec![Place { token: String::new(), next: 1 }]));
        let mut reader = Resuming { places: Arc::clone(&places), subscription: 0, last: 20 };
        assert!(reader.event(0, commit(1)).unwrap().is_continue());
        let ended =
            LiveEnded { reason: "SHUTTING_DOWN".to_owned(), resume_token: "t".to_owned(), ..Default::default() };
        assert!(reader.event(0, Event::Ended(ended)).unwrap().is_break());
        assert_eq!(places.tokens()[0].token, "t");
        assert!(reader.event(0, commit(1)).is_err());
        assert!(reader.event(0, commit(11)).is_ok());
        assert!(reader.event(0, commit(21)).is_err());
        assert_eq!(places.received(), 20);
    }
}
