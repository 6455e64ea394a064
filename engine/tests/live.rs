//! Live queries: their rows, their changes, and that both together are the truth.
//!
//! | module | what it shows |
//! | --- | --- |
//! | `basics`, `filters`, `streams`, `cold` | what arrives, of which rows |
//! | `refusals` | what cannot be subscribed to, and what is said about it |
//! | `resume`, `schema`, `lifecycle`, `slow` | what happens when something happens |
//! | `race` | INSERT against SUBSCRIBE |
//! | `oracle` | everything at once, against an independent model; `checker` compares, `planted` checks the checker |

mod basics;
mod checker;
mod cold;
mod filters;
mod lifecycle;
mod oracle;
mod planted;
mod race;
mod refusals;
mod resume;
mod schema;
mod slow;
mod streams;

use std::time::{Duration, Instant};

use kalamdb_engine::{
    ChangeKind, CommitChanges, Error, LiveChange, LiveEvent, LiveOptions, LiveQuery, LiveQueryRequest, Parameter,
    Reason, RowImage, SlowConsumer,
};

use self::checker::{Change, Seen};
use crate::harness::{Client, Db, texts};

/// How long something may take that is waited for; reached only when it never happens.
const LIMIT: Duration = Duration::from_secs(30);

/// The values of a row as texts.
type Row = Vec<String>;

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(otherwise)
}

/// The seed of a test that chance has a part in: `KALAMDB_LIVE_SEED`, or a new one. Printed either way.
fn seed(test: &str) -> u64 {
    let seed = number("KALAMDB_LIVE_SEED", rand::random());
    println!("{test}: KALAMDB_LIVE_SEED={seed}");
    seed
}

/// A database with a table `t (id BIGINT, n BIGINT, name TEXT)` of users.
async fn db() -> Db {
    with_table(Db::memory().await).await
}

async fn with_table(db: Db) -> Db {
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, n BIGINT, name TEXT)").await;
    db
}

fn request(sql: &str) -> LiveQueryRequest {
    LiveQueryRequest { sql: sql.to_owned(), namespace: Some("app".to_owned()), ..LiveQueryRequest::default() }
}

fn coalescing() -> LiveOptions {
    LiveOptions { slow_consumer: SlowConsumer::Coalesce, ..LiveOptions::default() }
}

/// A live query and what was seen of it.
struct Live {
    query: LiveQuery,
    /// What was received and not looked at yet.
    ahead: std::collections::VecDeque<Seen>,
    /// The last token.
    token: Option<String>,
    /// The last position.
    at: u64,
}

impl Live {
    fn try_open(client: &Client, request: LiveQueryRequest) -> Result<Self, Error> {
        let query = client.session.subscribe(request)?;
        Ok(Self { query, ahead: std::collections::VecDeque::new(), token: None, at: 0 })
    }

    #[track_caller]
    fn open(client: &Client, request: LiveQueryRequest) -> Self {
        let sql = request.sql.clone();
        Self::try_open(client, request).unwrap_or_else(|error| panic!("{sql}\n  failed: {error}"))
    }

    /// A query with the usual options.
    #[track_caller]
    fn of(client: &Client, sql: &str) -> Self {
        Self::open(client, request(sql))
    }

    #[track_caller]
    fn with(client: &Client, sql: &str, options: LiveOptions) -> Self {
        Self::open(client, LiveQueryRequest { options, ..request(sql) })
    }

    #[track_caller]
    fn with_parameters(client: &Client, sql: &str, parameters: &[Parameter]) -> Self {
        Self::open(client, LiveQueryRequest { parameters: parameters.to_vec(), ..request(sql) })
    }

    #[track_caller]
    fn resumed(client: &Client, sql: &str, token: &str) -> Self {
        Self::open(client, LiveQueryRequest { resume_token: Some(token.to_owned()), ..request(sql) })
    }

    /// The next event, commits one by one.
    async fn next(&mut self) -> Seen {
        while self.ahead.is_empty() {
            let event = tokio::time::timeout(LIMIT, self.query.next()).await.expect("an event in time");
            let event = event.expect("an event after the end");
            self.ahead.extend(seen(&event, u64::MAX));
        }
        let seen = self.ahead.pop_front().unwrap();
        match &seen {
            Seen::Ready { seq, token, .. } | Seen::Commit { seq, token, .. } | Seen::Progress { seq, token } => {
                self.token = Some(token.clone());
                self.at = *seq;
            }
            _ => {}
        }
        seen
    }

    fn token(&self) -> String {
        self.token.clone().expect("a token")
    }

    /// The rows it begins with, to the end.
    async fn rows(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        loop {
            match self.next().await {
                Seen::Rows(batch) => rows.extend(batch),
                Seen::Ready { row_count, .. } => {
                    assert_eq!(row_count, rows.len() as u64, "the number of rows that `Ready` says");
                    return rows;
                }
                other => panic!("rows were expected: {other:?}"),
            }
        }
    }

    /// Its beginning, of which nothing is expected but that it comes.
    async fn ready(mut self) -> Self {
        self.rows().await;
        self
    }

    /// The changes of the next commit, sorted.
    async fn commit(&mut self) -> Vec<String> {
        loop {
            match self.next().await {
                Seen::Commit { changes, merged: false, .. } => {
                    let mut changes: Vec<String> = changes.iter().map(shown).collect();
                    changes.sort();
                    return changes;
                }
                Seen::Progress { .. } => {}
                other => panic!("changes were expected: {other:?}"),
            }
        }
    }

    /// Nothing has come up to the last commit of the database, nor comes.
    async fn is_quiet(&mut self, db: &Db) {
        let last = db.engine().last_commit_seq().get();
        let began = Instant::now();
        loop {
            match self.next().await {
                Seen::Progress { seq, .. } if seq >= last => return,
                Seen::Progress { .. } => assert!(began.elapsed() < LIMIT, "no progress up to {last}"),
                other => panic!("nothing was expected: {other:?}"),
            }
        }
    }

    /// Its end: the reason, and the token.
    async fn end(&mut self) -> (Reason, Option<String>) {
        let began = Instant::now();
        loop {
            match self.next().await {
                Seen::Ended { reason, token } => {
                    assert!(self.query.next().await.is_none(), "nothing comes after the end");
                    return (reason, token);
                }
                Seen::Progress { .. } => assert!(began.elapsed() < LIMIT, "it does not end"),
                other => panic!("the end was expected: {other:?}"),
            }
        }
    }
}

/// A change as text: `+ 1 | a`, `~ 1 | a -> 1 | b`, `~ -> 1 | b` without the row as it was, `- 1 | b`.
fn shown(change: &Change) -> String {
    let row = |row: &Option<Row>| row.as_ref().map(|row| row.join(" | "));
    match (change.kind, row(&change.old), row(&change.new)) {
        (ChangeKind::Insert, None, Some(new)) => format!("+ {new}"),
        (ChangeKind::Update, Some(old), Some(new)) => format!("~ {old} -> {new}"),
        (ChangeKind::Update, None, Some(new)) => format!("~ -> {new}"),
        (ChangeKind::Delete, Some(old), None) => format!("- {old}"),
        other => panic!("a change of another shape: {other:?}"),
    }
}

/// An event as it is compared. `published`: the last commit that was visible when it had come.
fn seen(event: &LiveEvent, published: u64) -> Vec<Seen> {
    vec![match event {
        LiveEvent::Reset { why } => Seen::Reset { reason: why.reason() },
        LiveEvent::Rows(batch) => Seen::Rows(texts(batch)),
        LiveEvent::Ready { commit_seq, token, row_count } => {
            Seen::Ready { seq: commit_seq.get(), token: token.clone(), row_count: *row_count }
        }
        LiveEvent::Changes(commits) => return commits.iter().map(|commit| seen_commit(commit, published)).collect(),
        LiveEvent::Progress { commit_seq, token } => Seen::Progress { seq: commit_seq.get(), token: token.clone() },
        LiveEvent::Ended(end) => Seen::Ended { reason: end.reason(), token: end.token.clone() },
    }]
}

fn seen_commit(commit: &CommitChanges, published: u64) -> Seen {
    Seen::Commit {
        seq: commit.commit_seq.get(),
        token: commit.token.clone(),
        merged: commit.merged,
        changes: commit.changes.iter().map(change).collect(),
        published,
    }
}

fn change(change: &LiveChange) -> Change {
    let row = |image: &RowImage| texts(&image.batch.slice(image.row, 1)).remove(0);
    Change { kind: change.kind, new: change.new.as_ref().map(row), old: change.old.as_ref().map(row) }
}

/// Waits for what nothing announces.
async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !check().await {
        assert!(began.elapsed() < LIMIT, "{what}: in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
