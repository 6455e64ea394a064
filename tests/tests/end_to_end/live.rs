//! Live queries over the wire: what comes, how it ends, and what is left behind.
//!
//! | module | what it shows |
//! | --- | --- |
//! | `leaving` | clients that go, vanish, or do not read |
//! | `kills` | SIGKILL over and over: what subscribers hold is what there is |
//! | `soak` | many writers and subscribers, memory, coming and going |
//! | `web` | from a browser |

mod held;
mod kills;
mod leaving;
mod soak;
mod web;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures::StreamExt;
use kalam_link::{Change, ErrorKind, InitialRows, LiveQuery as LinkQuery, SlowConsumer, SubscriptionEvent, params};
use kalamdb_proto::v1::{
    self, ChangeType, LiveCommit, LiveQuery, SubscribeRequest, SubscribeResponse, initial_rows::Kind,
    subscribe_response::Event, subscribe_service_client::SubscribeServiceClient,
};
use kalamdb_tests::{
    client::{Client, Failure, expect_failure},
    server::{binary, server_with, shared_url, signal},
    values::{int, show_row},
};
use tonic::{Code, Streaming};

use crate::support::{client_of, client_with_rows, eventually};

/// How long something may take that is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// After a client has gone, nothing of it may be left for longer.
const CLEANUP_LIMIT: Duration = Duration::from_secs(5);

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn query(sql: &str) -> LiveQuery {
    LiveQuery { sql: sql.to_owned(), ..LiveQuery::default() }
}

fn resumed(sql: &str, token: &str) -> LiveQuery {
    LiveQuery { resume_token: token.to_owned(), ..query(sql) }
}

fn subscribe_request(client: &Client, queries: Vec<LiveQuery>) -> SubscribeRequest {
    SubscribeRequest { queries, namespace: client.namespace_name().to_owned() }
}

/// One call of `Subscribe`, as the wire has it.
struct Call(Streaming<SubscribeResponse>);

impl Call {
    async fn try_open(client: &Client, queries: Vec<LiveQuery>) -> Result<Self, Failure> {
        let request = client.request(subscribe_request(client, queries));
        let response = SubscribeServiceClient::new(client.channel()).subscribe(request).await?;
        Ok(Self(response.into_inner()))
    }

    async fn open(client: &Client, queries: Vec<LiveQuery>) -> Self {
        Self::try_open(client, queries).await.unwrap_or_else(|failure| panic!("{failure:#?}"))
    }

    /// The next message, or the status of the call.
    async fn message(&mut self) -> Result<Option<SubscribeResponse>, Failure> {
        let message = tokio::time::timeout(LIMIT, self.0.message()).await.expect("a message in time");
        Ok(message?)
    }

    /// The next event that is no progress, and its query.
    async fn next(&mut self) -> (u32, Event) {
        loop {
            let response = self.message().await.unwrap_or_else(|failure| panic!("{failure:#?}")).expect("an event");
            match response.event.expect("a kind of event") {
                Event::Progress(_) => {}
                event => return (response.query_index, event),
            }
        }
    }

    /// Up to `ready` of a call with one query: its id, its rows, and the token.
    async fn ready(&mut self) -> (String, Vec<String>, String) {
        let (_, Event::Started(started)) = self.next().await else { panic!("started comes first") };
        let mut rows = Vec::new();
        loop {
            match self.next().await.1 {
                Event::Rows(batch) => rows.extend(batch.rows.iter().map(show_row)),
                Event::Ready(ready) => {
                    assert_eq!(ready.row_count, rows.len() as u64);
                    return (started.live_id, rows, ready.resume_token);
                }
                other => panic!("rows were expected: {other:?}"),
            }
        }
    }

    /// The commits of the next event.
    async fn commits(&mut self) -> Vec<LiveCommit> {
        match self.next().await {
            (_, Event::Changes(changes)) => changes.commits,
            other => panic!("changes were expected: {other:?}"),
        }
    }
}

/// Changes as short texts: `+ row`, `~ old -> row`, `- old`.
fn shown(commit: &LiveCommit) -> Vec<String> {
    let row = |row: &Option<v1::Row>| row.as_ref().map(show_row);
    let change = |change: &v1::LiveChange| match (change.r#type(), row(&change.old_row), row(&change.new_row)) {
        (ChangeType::Insert, None, Some(new)) => format!("+ {new}"),
        (ChangeType::Update, Some(old), Some(new)) => format!("~ {old} -> {new}"),
        (ChangeType::Update, None, Some(new)) => format!("~ -> {new}"),
        (ChangeType::Delete, Some(old), None) => format!("- {old}"),
        other => panic!("a change of another shape: {other:?}"),
    };
    commit.changes.iter().map(change).collect()
}

/// Live queries on the tables of a client's namespace.
async fn live_count(client: &Client) -> u64 {
    let namespace = client.namespace_name();
    let sql = format!("SELECT count(*) FROM system.live_queries WHERE namespace = '{namespace}'");
    client.scalar(&sql).await.parse().unwrap()
}

async fn all_gone(client: &Client, what: &str, limit: Duration) {
    let began = Instant::now();
    eventually(what, limit, || async { live_count(client).await == 0 }).await;
    println!("{what}: gone after {:?}", began.elapsed());
}

async fn link(url: &str, client: &Client) -> kalam_link::Client {
    kalam_link::Client::builder(url).user("alice").namespace(client.namespace_name()).connect().await.unwrap()
}

#[tokio::test]
async fn events_of_several_queries() {
    let client = client_with_rows().await;
    let mut call = Call::open(
        &client,
        vec![
            LiveQuery { parameters: vec![int(30)], ..query("SUBSCRIBE SELECT id, n FROM t WHERE n > $1") },
            LiveQuery {
                initial_rows: Some(v1::InitialRows { kind: Some(Kind::None(v1::NoRows {})) }),
                before_images: Some(false),
                ..query("SUBSCRIBE TO t WHERE name = 'one'")
            },
            LiveQuery {
                initial_rows: Some(v1::InitialRows { kind: Some(Kind::LastRows(2)) }),
                ..query("SUBSCRIBE SELECT name FROM t")
            },
        ],
    )
    .await;
    let (mut ids, mut rows, mut kinds): (Vec<String>, Vec<Vec<String>>, Vec<Vec<&str>>) =
        (vec![String::new(); 3], vec![Vec::new(); 3], vec![Vec::new(); 3]);
    while kinds.iter().any(|kinds| kinds.last() != Some(&"ready")) {
        let (index, event) = call.next().await;
        let index = index as usize;
        kinds[index].push(match event {
            Event::Started(started) => {
                ids[index] = started.live_id;
                assert_eq!(started.columns.len(), [2, 3, 1][index]);
                "started"
            }
            Event::Rows(batch) => {
                rows[index].extend(batch.rows.iter().map(show_row));
                "rows"
            }
            Event::Ready(ready) => {
                assert!(ready.commit_seq > 0 && !ready.resume_token.is_empty());
                "ready"
            }
            other => panic!("{other:?}"),
        });
    }
    assert!(kinds.iter().all(|kinds| kinds[0] == "started"), "{kinds:?}");
    rows[0].sort();
    assert_eq!(rows[0], ["4 | 40", "5 | 50"]);
    assert!(rows[1].is_empty());
    assert_eq!(rows[2].len(), 2);
    assert_eq!(live_count(&client).await, 3);

    client.run("UPDATE t SET n = 99 WHERE id = 1").await;
    let mut seen: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    while seen.len() < 3 {
        let (index, Event::Changes(changes)) = call.next().await else { panic!("changes were expected") };
        seen.entry(index).or_default().extend(changes.commits.iter().flat_map(shown));
    }
    assert_eq!(seen[&0], ["+ 1 | 99"]);
    assert_eq!(seen[&1], ["~ -> 1 | one | 99"]);
    assert_eq!(seen[&2], ["~ one -> one"]);

    // One ends; the others go on. When all have, the call ends, with the reason of the last.
    client.run(&format!("KILL LIVE QUERY {}", ids[1])).await;
    let (1, Event::Ended(ended)) = call.next().await else { panic!("the end of the second query was expected") };
    assert_eq!(ended.reason, "LIVE_QUERY_KILLED");
    assert!(!ended.resume_token.is_empty() && !ended.message.is_empty());
    client.run("DELETE FROM t WHERE id = 5").await;
    let mut left = vec![0, 2];
    while !left.is_empty() {
        let (index, Event::Changes(_)) = call.next().await else { panic!("changes were expected") };
        left.retain(|waiting| *waiting != index);
    }
    for index in [0, 2] {
        client.run(&format!("KILL LIVE QUERY '{}'", ids[index])).await;
    }
    let mut ends = 0;
    let failure = loop {
        match call.message().await {
            Ok(Some(response)) => ends += u32::from(matches!(response.event, Some(Event::Ended(_)))),
            Ok(None) => panic!("a call whose queries were killed has not succeeded"),
            Err(failure) => break failure,
        }
    };
    assert_eq!(ends, 2);
    expect_failure("the call", failure, "LIVE_QUERY_KILLED", Code::Cancelled);
    all_gone(&client, "killed queries", CLEANUP_LIMIT).await;
}

#[tokio::test]
async fn through_the_client_library() {
    let client = client_with_rows().await;
    let link = link(shared_url(), &client).await;
    let big = 9_007_199_254_740_993_i64;
    client.run("CREATE USER TABLE big (id BIGINT PRIMARY KEY, n BIGINT)").await;
    let mut events = link.subscribe("SUBSCRIBE TO big WHERE n >= $1").params(params![big]).open().await.unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert!(matches!(first, SubscriptionEvent::Started { .. }), "{first:?}");
    loop {
        match events.next().await.unwrap().unwrap() {
            SubscriptionEvent::Rows(rows) => assert!(rows.is_empty(), "{rows:?}"),
            SubscriptionEvent::Ready { row_count: 0, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    client.run(&format!("INSERT INTO big VALUES (1, {big}), (2, {})", big - 1)).await;
    client.run(&format!("UPDATE big SET n = {} WHERE id = 1", big + 1)).await;
    client.run("DELETE FROM big").await;
    let mut changes = Vec::new();
    while changes.len() < 3 {
        if let SubscriptionEvent::Changes(commit) = events.next().await.unwrap().unwrap() {
            assert!(!commit.merged && commit.commit_time_us > 0);
            changes.extend(commit.changes);
        }
    }
    let number = |row: &kalam_link::Row| row.get::<i64>("n").unwrap();
    let texts: Vec<String> = changes
        .iter()
        .map(|change| match change {
            Change::Insert { row } => format!("+ {}", number(row)),
            Change::Update { old, row } => format!("~ {} -> {}", number(old.as_ref().unwrap()), number(row)),
            Change::Delete { row } => format!("- {}", number(row)),
        })
        .collect();
    assert_eq!(texts, [format!("+ {big}"), format!("~ {big} -> {}", big + 1), format!("- {}", big + 1)]);

    // A killed one does not come back by itself.
    let live_id = events.live_id().to_owned();
    let began = Instant::now();
    client.run(&format!("KILL LIVE QUERY {live_id}")).await;
    let error = loop {
        match tokio::time::timeout(LIMIT, events.next()).await.expect("the end in time").expect("an error first") {
            Ok(SubscriptionEvent::Progress { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    assert_eq!(error.reason(), Some("LIVE_QUERY_KILLED"));
    assert!(events.next().await.is_none());
    client.fails(&format!("KILL LIVE QUERY {live_id}"), "LIVE_QUERY_NOT_FOUND", Code::NotFound).await;

    let shared = client.run("CREATE SHARED TABLE s (id BIGINT PRIMARY KEY) ACCESS public").await;
    assert_eq!(shared.affected().row_count, 0);
    let error = link.subscribe("SUBSCRIBE TO s").open().await.unwrap_err();
    assert!(error.to_string().contains("Live query subscriptions not supported on shared tables"), "{error}");
    assert_eq!(error.kind(), ErrorKind::NotSupported, "{error:?}");
}

#[tokio::test]
async fn what_is_wrong_is_found_before_the_first_event() {
    let client = client_with_rows().await;
    let good = || query("SUBSCRIBE TO t");
    let delayed =
        |seconds, nanos| LiveQuery { max_batch_delay: Some(pbjson_types::Duration { seconds, nanos }), ..good() };
    let last = |rows| LiveQuery { initial_rows: Some(v1::InitialRows { kind: Some(Kind::LastRows(rows)) }), ..good() };
    let wrong = [
        (vec![], "INVALID_REQUEST", Code::InvalidArgument),
        (vec![good(); 101], "TOO_MANY_LIVE_QUERIES", Code::ResourceExhausted),
        (vec![last(-1)], "INVALID_REQUEST", Code::InvalidArgument),
        (vec![last(i64::MIN)], "INVALID_REQUEST", Code::InvalidArgument),
        (vec![delayed(-1, 0)], "INVALID_REQUEST", Code::InvalidArgument),
        (vec![delayed(0, -1)], "INVALID_REQUEST", Code::InvalidArgument),
        (vec![delayed(10, 1)], "INVALID_REQUEST", Code::InvalidArgument),
        (vec![delayed(i64::MAX, i32::MAX)], "INVALID_REQUEST", Code::InvalidArgument),
        (vec![LiveQuery { slow_consumer: 99, ..good() }], "INVALID_REQUEST", Code::InvalidArgument),
        (vec![LiveQuery { slow_consumer: -1, ..good() }], "INVALID_REQUEST", Code::InvalidArgument),
        (vec![resumed("SUBSCRIBE TO t", "nonsense")], "INVALID_RESUME_TOKEN", Code::InvalidArgument),
        (vec![resumed("SUBSCRIBE TO t", &"A".repeat(100_000))], "INVALID_RESUME_TOKEN", Code::InvalidArgument),
        (vec![query("SUBSCRIBE TO missing")], "TABLE_NOT_FOUND", Code::NotFound),
        (vec![query("SUBSCRIBE TO t WHERE nme = 1")], "COLUMN_NOT_FOUND", Code::InvalidArgument),
        (vec![query("SELECT * FROM t")], "INVALID_STATEMENT", Code::InvalidArgument),
        (vec![query("SUBSCRIBE TO t WHERE id = $1")], "PARAMETER_COUNT_MISMATCH", Code::InvalidArgument),
        (vec![query("SUBSCRIBE SELECT count(*) FROM t")], "NOT_SUPPORTED", Code::Unimplemented),
        // What is wrong with one fails all, whichever it is.
        (vec![good(), good(), query("SUBSCRIBE TO missing")], "TABLE_NOT_FOUND", Code::NotFound),
        (vec![last(-1), good()], "INVALID_REQUEST", Code::InvalidArgument),
    ];
    for (queries, reason, code) in wrong {
        let what = format!("{} queries, the last {:?}", queries.len(), queries.last());
        let failure = match Call::try_open(&client, queries).await {
            Err(failure) => failure,
            // The status may come in the body; but nothing before it.
            Ok(mut call) => match call.message().await {
                Err(failure) => failure,
                Ok(event) => panic!("{what}: must fail with {reason}: {event:?}"),
            },
        };
        expect_failure(&what, failure, reason, code);
    }
    assert_eq!(live_count(&client).await, 0, "nothing is subscribed");
    // The greatest that is allowed.
    let mut call = Call::open(&client, vec![last(i64::MAX), delayed(10, 0), last(0)]).await;
    assert!(matches!(call.next().await.1, Event::Started(_)));
    drop(call);
    let hundred = Call::open(&client, vec![good(); 100]).await;
    eventually("a hundred of one call", LIMIT, || async { live_count(&client).await == 100 }).await;
    drop(hundred);
    all_gone(&client, "a hundred queries of one call", CLEANUP_LIMIT).await;
    // Bytes that are no message.
    let long: Vec<u8> = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f].to_vec();
    for bytes in [vec![0xff; 50], vec![0x08], long] {
        client.raw("/kalamdb.v1.SubscribeService/Subscribe", bytes).await.unwrap_err();
    }
    client.fails("SUBSCRIBE TO t", "NOT_SUPPORTED", Code::Unimplemented).await;
}

#[tokio::test]
async fn one_user_knows_nothing_of_anothers() {
    let client = client_with_rows().await;
    let bob = client.user("bob");
    let mut of_bob = Call::open(&bob, vec![query("SUBSCRIBE TO t")]).await;
    let (_, rows, token) = of_bob.ready().await;
    assert!(rows.is_empty());
    client.run("UPDATE t SET n = 0").await;
    bob.run("INSERT INTO t VALUES (1, 'of bob', 1)").await;
    let commits = of_bob.commits().await;
    assert_eq!(commits.iter().flat_map(shown).collect::<Vec<_>>(), ["+ 1 | of bob | 1"]);
    // A token of another is not one of one's own.
    let stolen =
        Call::try_open(&client, vec![resumed("SUBSCRIBE TO t", &token)]).await.err().expect("another user's token");
    expect_failure("another user's token", stolen, "INVALID_RESUME_TOKEN", Code::InvalidArgument);
}

#[tokio::test]
async fn changes_wait_for_others_if_they_may() {
    let client = client_with_rows().await;
    let asked = LiveQuery {
        max_batch_delay: Some(pbjson_types::Duration { seconds: 1, nanos: 0 }),
        ..query("SUBSCRIBE SELECT id FROM t")
    };
    let mut call = Call::open(&client, vec![asked]).await;
    call.ready().await;
    for id in 10..30 {
        client.run(&format!("INSERT INTO t VALUES ({id}, 'x', 1)")).await;
    }
    let (mut events, mut commits) = (0, Vec::new());
    while commits.len() < 20 {
        commits.extend(call.commits().await);
        events += 1;
    }
    // Slow machines may need more than a second for the statements.
    assert!(events < 20, "{events} messages for 20 commits");
    assert!(commits.iter().all(|commit| commit.changes.len() == 1 && !commit.merged));
    assert!(commits.windows(2).all(|two| two[0].commit_seq < two[1].commit_seq));
    // Each of them has its token, and each goes on behind itself.
    let mut again = Call::open(&client, vec![resumed("SUBSCRIBE SELECT id FROM t", &commits[9].resume_token)]).await;
    again.ready().await;
    let mut missing = Vec::new();
    while missing.len() < 10 {
        missing.extend(again.commits().await.iter().map(|commit| commit.commit_seq));
    }
    assert_eq!(missing, commits[10..].iter().map(|commit| commit.commit_seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn shutdown_ends_with_a_token_that_is_good_afterwards() {
    let mut server = server_with(&[]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    let mut call = Call::open(&client, vec![query("SUBSCRIBE TO t"), query("SUBSCRIBE TO t WHERE id > 1")]).await;
    let mut ready = 0;
    while ready < 2 {
        ready += u32::from(matches!(call.next().await.1, Event::Ready(_)));
    }
    client.run("INSERT INTO t VALUES (1)").await;
    assert_eq!(call.commits().await.iter().flat_map(shown).collect::<Vec<_>>(), ["+ 1"]);
    let began = Instant::now();
    signal(server.pid(), "TERM");
    let mut tokens = BTreeMap::new();
    let failure = loop {
        match call.message().await {
            Ok(Some(response)) => match response.event.unwrap() {
                Event::Progress(_) => {}
                Event::Ended(ended) => {
                    assert_eq!(ended.reason, "SHUTTING_DOWN");
                    tokens.insert(response.query_index, ended.resume_token);
                }
                other => panic!("{other:?}"),
            },
            Ok(None) => panic!("the call has not succeeded"),
            Err(failure) => break failure,
        }
    };
    assert_eq!(tokens.len(), 2, "each query ends with its token before the call does: {failure:?}");
    expect_failure("the call", failure, "SHUTTING_DOWN", Code::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
    let status = server.wait(LIMIT).await.unwrap().expect("the server ends");
    assert_eq!(status.code(), Some(0), "{}", server.stderr_tail());
    server.restart().await.unwrap();
    let client = Client::connect(&server.endpoint()).await.user("alice").namespace(client.namespace_name());
    client.run("INSERT INTO t VALUES (2)").await;
    for (index, sql) in [(0, "SUBSCRIBE TO t"), (1, "SUBSCRIBE TO t WHERE id > 1")] {
        let mut call = Call::open(&client, vec![resumed(sql, &tokens[&index])]).await;
        assert!(call.ready().await.1.is_empty());
        assert_eq!(call.commits().await.iter().flat_map(shown).collect::<Vec<_>>(), ["+ 2"]);
    }
}

#[tokio::test]
async fn limits_are_those_of_the_configuration() {
    let server = server_with(&[
        ("live.max_queries", "4"),
        ("live.max_queries_per_user", "3"),
        ("live.max_queries_per_call", "2"),
    ])
    .await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    let refused = async |client: &Client, count: usize, limit: &str| {
        let failure = Call::try_open(client, vec![query("SUBSCRIBE TO t"); count]).await.err().expect("too many");
        let failure = expect_failure("too many", failure, "TOO_MANY_LIVE_QUERIES", Code::ResourceExhausted);
        assert_eq!(failure.meta("limit"), limit);
    };
    refused(&client, 3, "live.max_queries_per_call").await;
    let two = Call::open(&client, vec![query("SUBSCRIBE TO t"); 2]).await;
    // All or nothing: the first of them had a place.
    refused(&client, 2, "live.max_queries_per_user").await;
    assert_eq!(live_count(&client).await, 2);
    let more = Call::open(&client, vec![query("SUBSCRIBE TO t")]).await;
    let bob = client.user("bob");
    refused(&bob, 2, "live.max_queries").await;
    let last = Call::open(&bob, vec![query("SUBSCRIBE TO t")]).await;
    refused(&client.user("eve"), 1, "live.max_queries").await;
    drop((two, more, last));
    all_gone(&client, "all of them", CLEANUP_LIMIT).await;
    Call::open(&client.user("eve"), vec![query("SUBSCRIBE TO t")]).await.ready().await;
}

#[tokio::test]
async fn metrics_and_the_system_table_know_them() {
    let server = server_with(&[]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    let mut call = Call::open(&client, vec![query("SUBSCRIBE TO t WHERE id > 0")]).await;
    let (live_id, ..) = call.ready().await;
    client.run("INSERT INTO t VALUES (1), (2), (0)").await;
    call.commits().await;
    let row = client.run("SELECT * FROM system.live_queries").await;
    let shown = row.shown();
    assert_eq!(shown.len(), 1);
    assert!(shown[0].contains(&live_id) && shown[0].contains("alice"), "{shown:?}");
    assert_eq!(client.scalar("SELECT changes FROM system.live_queries").await, "2");
    let address = server.address().to_string();
    let metrics = kalamdb_tests::http::request(&address, "GET", "/metrics", &[], b"").await.unwrap().text();
    assert!(metrics.contains("kalamdb_live_changes_total 2"), "{metrics}");
    assert!(!metrics.contains("alice"), "no user in a metric");
    // Nobody else learns of it.
    assert_eq!(live_count(&client).await, 1);
}

#[tokio::test]
async fn several_queries_of_the_client_library() {
    let client = client_with_rows().await;
    let link = link(shared_url(), &client).await;
    let queries = vec![
        LinkQuery::new("SUBSCRIBE TO t WHERE n > 20"),
        LinkQuery::new("SUBSCRIBE SELECT id FROM t WHERE id = $1")
            .params(params![1])
            .initial_rows(InitialRows::Last(5)),
        LinkQuery::new("SUBSCRIBE TO t").initial_rows(InitialRows::None).slow_consumer(SlowConsumer::Coalesce),
    ];
    let mut call = link.subscribe_many(queries).await.unwrap();
    let mut ready = [None; 3];
    while ready.iter().any(Option::is_none) {
        let (index, event) = call.next().await.unwrap().unwrap();
        if let SubscriptionEvent::Ready { row_count, .. } = event {
            ready[index] = Some(row_count);
        }
    }
    assert_eq!(ready, [Some(3), Some(1), Some(0)]);
    client.run("DELETE FROM t WHERE id = 1").await;
    let mut told = [0; 3];
    while told != [0, 1, 1] {
        if let (index, SubscriptionEvent::Changes(commit)) = call.next().await.unwrap().unwrap() {
            told[index] += commit.changes.len();
        }
    }
    assert!((0..3).all(|index| call.token(index).is_some()));
    assert_eq!(live_count(&client).await, 3);
    drop(call);
    all_gone(&client, "a call of the client library", CLEANUP_LIMIT).await;
}

#[tokio::test]
async fn from_the_command_line() {
    let client = client_with_rows().await;
    let home = tempfile::tempdir().unwrap();
    let cli = |arguments: &[&str]| {
        let mut command = Command::new(binary("kalam-cli"));
        command.env("HOME", home.path()).env_remove("KALAM_TOKEN").env("NO_COLOR", "1").stdin(Stdio::null());
        command.args(["-h", shared_url(), "-u", "alice", "-n", client.namespace_name()]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut child =
        cli(&["--json", "--live-changes", "2", "--live-timeout", "60", "-c", "SUBSCRIBE TO t WHERE n > 40"])
            .spawn()
            .expect("run kalam-cli");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reading = tokio::task::spawn_blocking(move || {
        let mut events = Vec::new();
        let mut next = || lines.next().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
        while let Some(event) = next() {
            let is_ready = event["event"] == "ready";
            events.push(event);
            if is_ready {
                break;
            }
        }
        (events, lines)
    });
    let (events, lines) = tokio::time::timeout(LIMIT, reading).await.expect("ready in time").unwrap();
    assert!(events.iter().any(|event| event["event"] == "row" && event["row"]["name"] == "five"), "{events:?}");
    client.run("INSERT INTO t VALUES (6, 'six', 60)").await;
    client.run("DELETE FROM t WHERE id = 5").await;
    let reading = tokio::task::spawn_blocking(move || {
        let changes: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        (changes, child.wait().unwrap())
    });
    let (changes, status) = tokio::time::timeout(LIMIT, reading).await.expect("its end in time").unwrap();
    assert_eq!(status.code(), Some(0));
    let names: Vec<String> = changes.iter().map(|c| c["event"].as_str().unwrap_or_default().to_lowercase()).collect();
    assert_eq!(names, ["insert", "delete"], "{changes:?}");
    assert_eq!((&changes[0]["row"]["name"], &changes[1]["old"]["name"]), (&"six".into(), &"five".into()));
    all_gone(&client, "the command line", CLEANUP_LIMIT).await;

    // An end by time, and an error.
    let run = |arguments: &[&str]| cli(arguments).output().expect("run kalam-cli");
    let output = run(&["--csv", "--live-timeout", "0.5", "-c", "SUBSCRIBE SELECT id, name FROM t WHERE id = 1"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("one"));
    let output = run(&["-c", "SUBSCRIBE TO missing"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing"));
    std::io::stdout().flush().unwrap();
}
