//! Configured limits, each named by the error that it causes.

use std::time::Duration;

use kalamdb_tests::{
    client::Options,
    server::server_with,
    values::{int, text},
};
use tonic::Code;

use crate::{
    streaming::ENDLESS,
    support::{client_of, eventually},
};

#[tokio::test]
async fn results_are_bounded_in_rows_and_bytes() {
    let server = server_with(&[("limits.max_result_rows", "100"), ("limits.max_result_bytes", "10000")]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    let values: Vec<String> = (0..150).map(|id| format!("({id}, '{}')", "x".repeat(100))).collect();
    client.run(&format!("INSERT INTO t VALUES {}", values.join(", "))).await;

    assert_eq!(client.run("SELECT id FROM t LIMIT 100").await.rows().row_count, 100);
    let failure = client.fails("SELECT id FROM t", "RESULT_TOO_LARGE", Code::ResourceExhausted).await;
    assert_eq!(failure.meta("limit"), "limits.max_result_rows");
    assert!(failure.message.contains("ExecuteStream"), "says what to do: {}", failure.message);
    let failure = client.fails("SELECT body FROM t LIMIT 99", "RESULT_TOO_LARGE", Code::ResourceExhausted).await;
    assert_eq!(failure.meta("limit"), "limits.max_result_bytes");
    // Together, too: the bound is on the answer.
    let twice = client.execute("SELECT id FROM t LIMIT 60; SELECT id FROM t LIMIT 60", Options::default()).await;
    assert_eq!(twice.unwrap_err().reason, "RESULT_TOO_LARGE");

    let (events, failure) = client.stream("SELECT * FROM t", Options::default()).await;
    assert!(failure.is_none() && !events.is_empty(), "a stream is not bounded");
}

#[tokio::test]
async fn a_write_that_answers_too_much_says_so_before_it_is_done_or_is_done() {
    // RETURNING of more rows than an answer may hold: whatever the answer, the rows and the answer must agree.
    let server = server_with(&[("limits.max_result_rows", "10")]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    let values: Vec<String> = (0..20).map(|id| format!("({id})")).collect();
    let insert = format!("INSERT INTO t VALUES {} RETURNING id", values.join(", "));
    let failure = client.fails(&insert, "RESULT_TOO_LARGE", Code::ResourceExhausted).await;
    let stored = client.scalar("SELECT count(*) FROM t").await;
    assert!(["0", "20"].contains(&stored.as_str()), "entirely or not at all: {stored}");
    if stored == "20" {
        // A client that is told of a failure must be able to find out that the rows are there.
        assert!(!failure.message.is_empty());
    }
}

#[tokio::test]
async fn statements_batches_parameters_nesting_and_requests_are_bounded() {
    let server = server_with(&[
        ("limits.max_statement_bytes", "1000"),
        ("limits.max_statements_per_batch", "3"),
        ("limits.max_parameters", "4"),
        ("limits.max_nesting_depth", "20"),
        ("limits.max_request_bytes", "100000"),
        ("limits.max_write_bytes", "20000"),
    ])
    .await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;

    let long = format!("SELECT '{}'", "x".repeat(1_000));
    let failure = client.fails(&long, "STATEMENT_TOO_LARGE", Code::ResourceExhausted).await;
    assert_eq!(failure.meta("limit"), "limits.max_statement_bytes");

    let failure =
        client.execute("SELECT 1; SELECT 2; INSERT INTO t VALUES (1, 'x'); SELECT 4", Options::default()).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.meta("limit"), "limits.max_statements_per_batch", "{failure:#?}");
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "0", "refused before the first statement runs");

    let five = vec![int(1), int(2), int(3), int(4), int(5)];
    let failure = client.try_run_with("SELECT $1 + $2 + $3 + $4 + $5", five).await.unwrap_err();
    assert_eq!(failure.meta("limit"), "limits.max_parameters", "{failure:#?}");

    let deep = format!("SELECT {}1{}", "(".repeat(30), ")".repeat(30));
    let failure = client.fails(&deep, "NESTING_TOO_DEEP", Code::InvalidArgument).await;
    assert_eq!(failure.meta("limit"), "limits.max_nesting_depth");

    let failure = client.try_run_with("SELECT $1", vec![text("x".repeat(200_000))]).await.unwrap_err();
    assert_eq!((failure.code, failure.meta("limit")), (Code::ResourceExhausted, "limits.max_request_bytes"));

    let insert = "INSERT INTO t VALUES (1, $1), (2, $2)";
    let values = vec![text("x".repeat(15_000)), text("y".repeat(15_000))];
    let failure = client.fails_with(insert, values, "WRITE_TOO_LARGE", Code::ResourceExhausted).await;
    assert_eq!(failure.meta("limit"), "limits.max_write_bytes");
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn a_query_over_its_memory_fails_and_only_it() {
    // No disk to spill to.
    let server = server_with(&[("query.memory_mb", "8"), ("query.max_spill_mb", "0")]).await;
    let client = client_of(&server.endpoint()).await;
    let hungry = "WITH d AS (SELECT column1 AS x FROM (VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)) AS v) \
                  SELECT max(s), count(*) FROM (SELECT concat(a.x, b.x, c.x, e.x, f.x, g.x) AS s, count(*) \
                  FROM d a, d b, d c, d e, d f, d g GROUP BY 1) AS q";
    let failure = client.fails(hungry, "QUERY_MEMORY_EXCEEDED", Code::ResourceExhausted).await;
    assert!(failure.meta("limit").starts_with("query."), "{failure:#?}");
    assert_eq!(client.scalar("SELECT 1 + 1").await, "2");
}

#[tokio::test]
async fn a_query_spills_when_it_may() {
    // 50 MB to sort in 40 MB of memory.
    let server = server_with(&[("query.memory_mb", "40"), ("query.threads", "2")]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE big (id BIGINT PRIMARY KEY, body TEXT)").await;
    let thousand: Vec<String> = (0..1_000).map(|id| format!("({id}, '{}')", format!("{id:03}-").repeat(100))).collect();
    client.run(&format!("INSERT INTO big VALUES {}", thousand.join(", "))).await;
    for round in 0..7 {
        let rows = 1_000 << round;
        client.run(&format!("INSERT INTO big SELECT id + {rows}, concat(body, '{round}') FROM big")).await;
    }
    let sorted = "SELECT n, length(body), left(body, 4) FROM (SELECT body, row_number() OVER (ORDER BY body DESC) AS n \
                  FROM big) AS q WHERE n IN (1, 128000) ORDER BY n";
    assert_eq!(client.rows(sorted).await, ["1 | 401 | 999-", "128000 | 400 | 000-"]);
}

#[tokio::test]
async fn queries_at_once_are_bounded_and_further_ones_told_so() {
    let server = server_with(&[("limits.max_concurrent_calls", "3")]).await;
    let client = client_of(&server.endpoint()).await;
    let running: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            // Refused itself while a `SELECT 1` below takes the last place, it tries again.
            tokio::spawn(async move {
                while client.try_run(ENDLESS).await.is_err_and(|failure| failure.reason == "TOO_MANY_REQUESTS") {}
            })
        })
        .collect();
    eventually("a call beyond the limit is refused", Duration::from_secs(10), || async {
        match client.try_run("SELECT 1").await {
            Ok(_) => false,
            Err(failure) => {
                assert_eq!((failure.reason.as_str(), failure.code), ("TOO_MANY_REQUESTS", Code::ResourceExhausted));
                assert_eq!(failure.meta("limit"), "limits.max_concurrent_calls");
                true
            }
        }
    })
    .await;
    running.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("the place is free again", Duration::from_secs(10), || async {
        client.try_run("SELECT 1").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn the_servers_time_out_bounds_the_requests() {
    let server = server_with(&[("limits.statement_timeout_ms", "400")]).await;
    let client = client_of(&server.endpoint()).await;
    for timeout in [None, Some(Duration::from_secs(3_600))] {
        let failure = client.execute(ENDLESS, Options { timeout, ..Options::default() }).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.code), ("STATEMENT_TIMEOUT", Code::DeadlineExceeded));
    }
    // gRPC's own deadline, which the client enforces as well.
    let mut request = client.request(client.execute_request(ENDLESS, Options::default()));
    request.set_timeout(Duration::from_millis(100));
    let status = client.query_service().execute(request).await.unwrap_err();
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status:?}");

    // A commit sequence that never comes is waited for no longer than that.
    let options = Options { min_commit_seq: u64::MAX - 1, ..Options::default() };
    let failure = client.execute("SELECT 1", options).await.unwrap_err();
    assert!([Code::DeadlineExceeded, Code::InvalidArgument, Code::Unavailable].contains(&failure.code), "{failure:#?}");
}
