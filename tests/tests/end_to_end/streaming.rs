//! ExecuteStream: events in order, results beyond the bound of Execute, cancellation.

use std::time::Duration;

use kalamdb_proto::v1::{ExecuteStreamResponse, ResultFormat, execute_stream_response::Event};
use kalamdb_tests::{client::Options, values::show_row};

use crate::support::{client, client_with_rows, eventually};

fn kinds(events: &[ExecuteStreamResponse]) -> Vec<String> {
    let kind = |event: &ExecuteStreamResponse| match event.event.as_ref().unwrap() {
        Event::Started(started) => format!("started {} ({})", started.statement_index, started.columns.len()),
        Event::Rows(batch) => format!("rows {}", batch.row_count),
        Event::Finished(finished) => format!("finished {} {}", finished.row_count, finished.message),
    };
    events.iter().map(kind).collect()
}

#[tokio::test]
async fn events_come_statement_by_statement() {
    let client = client_with_rows().await;
    let sql = "INSERT INTO t VALUES (6, 'six', 60); SELECT id FROM t WHERE id > 4 ORDER BY id; SELECT 1 WHERE false";
    let (events, failure) = client.stream(sql, Options::default()).await;
    assert!(failure.is_none(), "{failure:#?}");
    assert_eq!(
        kinds(&events),
        [
            "started 0 (0)",
            "finished 1 INSERT 0 1",
            "started 1 (1)",
            "rows 2",
            "finished 2 ",
            "started 2 (1)",
            "finished 0 "
        ]
    );
    let finished: Vec<_> = events
        .iter()
        .filter_map(|event| match event.event.as_ref().unwrap() {
            Event::Finished(finished) => Some((finished.commit_seq > 0, finished.took_ms > 0.0)),
            _ => None,
        })
        .collect();
    assert_eq!(finished, [(true, true), (false, true), (false, true)]);
}

#[tokio::test]
async fn results_before_a_failure_are_delivered() {
    let client = client_with_rows().await;
    let sql = "SELECT 1; INSERT INTO t VALUES (6, 'six', 60); SELECT * FROM missing; DELETE FROM t";
    let (events, failure) = client.stream(sql, Options::default()).await;
    assert_eq!(kinds(&events), ["started 0 (1)", "rows 1", "finished 1 ", "started 1 (0)", "finished 1 INSERT 0 1"]);
    let failure = failure.unwrap();
    assert_eq!((failure.reason.as_str(), failure.meta("statement_index")), ("TABLE_NOT_FOUND", "2"));
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "6");
}

/// 600,000 rows, more than Execute may answer with, without a table of that size.
const MANY: &str = "WITH d AS (SELECT column1 AS x FROM (VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)) AS v) \
                    SELECT a.x, b.x AS y, c.x AS z FROM d a, d b, d c, d e, d f, d g WHERE a.x < 6";

#[tokio::test]
async fn a_stream_has_no_bound() {
    let client = client().await;
    for format in [ResultFormat::Rows, ResultFormat::ArrowIpc] {
        let options = Options { format: format as i32, ..Options::default() };
        let (events, failure) = client.stream(MANY, options).await;
        assert!(failure.is_none(), "{failure:#?}");
        let mut total = 0;
        let mut sum = 0;
        for event in &events {
            if let Some(Event::Rows(batch)) = &event.event {
                total += batch.row_count;
                match format {
                    ResultFormat::ArrowIpc => {
                        let reader = arrow::ipc::reader::StreamReader::try_new(batch.arrow_ipc.as_ref(), None).unwrap();
                        sum += reader.map(|batch| batch.unwrap().num_rows() as u64).sum::<u64>();
                    }
                    _ => sum += batch.rows.len() as u64,
                }
            }
        }
        assert_eq!((total, sum), (600_000, 600_000));
    }
}

#[tokio::test]
async fn rows_of_a_large_table_stream_in_key_order() {
    let client = client().await;
    client.run("CREATE USER TABLE big (id BIGINT PRIMARY KEY, body TEXT)").await;
    for chunk in 0..20 {
        let values: Vec<String> = (0..1_000).map(|i| format!("({}, 'row {i}')", chunk * 1_000 + i)).collect();
        client.run(&format!("INSERT INTO big VALUES {}", values.join(", "))).await;
    }
    let (events, failure) = client.stream("SELECT id, body FROM big ORDER BY id", Options::default()).await;
    assert!(failure.is_none(), "{failure:#?}");
    let rows: Vec<String> = events
        .iter()
        .filter_map(|event| match event.event.as_ref().unwrap() {
            Event::Rows(batch) => Some(batch.rows.iter().map(show_row)),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(rows.len(), 20_000);
    assert!(rows.iter().enumerate().all(|(id, row)| *row == format!("{id} | row {}", id % 1_000)));
}

/// A query that runs for ever in little memory.
pub const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x > 0) SELECT count(*) FROM n";

/// Queries that take minutes, each busy in another operator; `big` has 64,000 rows.
const LONG: [&str; 4] = [
    ENDLESS,
    "WITH d AS (SELECT column1 AS x FROM (VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)) AS v) SELECT \
     sum(a.x * b.x + c.x * e.x + f.x) FROM d a, d b, d c, d e, d f, d g, d h, d i, d j, d k, d l, d m",
    "SELECT count(*) FROM big a JOIN big b ON a.id * b.id % 1000 < 7",
    "SELECT sum(length(a.body)) FROM big a, big b WHERE a.body < b.body",
];

/// CPU time that the server's process has used so far, in clock ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_work_of_a_cancelled_query_stops() {
    let server = kalamdb_tests::server::server_with(&[]).await;
    let client = crate::support::client_of(&server.endpoint()).await;
    let pid = server.pid();
    let idle = |sql: &'static str| async move {
        // Idle: less than 2 ticks (20 ms) of CPU in 200 ms.
        eventually(&format!("the server is idle after the end of {sql}"), Duration::from_secs(10), || async {
            let before = cpu_ticks(pid);
            tokio::time::sleep(Duration::from_millis(200)).await;
            cpu_ticks(pid) - before < 2
        })
        .await;
    };
    let busy = || {
        let before = cpu_ticks(pid);
        eventually("the query runs", Duration::from_secs(10), move || async move { cpu_ticks(pid) > before + 10 })
    };

    client.run("CREATE USER TABLE big (id BIGINT PRIMARY KEY, body TEXT)").await;
    client.run("INSERT INTO big VALUES (0, 'a'), (1, 'b')").await;
    for doubling in 1..16 {
        client.run(&format!("INSERT INTO big SELECT id + {0}, concat(body, {0}) FROM big", 1 << doubling)).await;
    }

    // The caller goes away: of a unary call and of a stream.
    for (sql, stream) in LONG.into_iter().flat_map(|sql| [(sql, false), (sql, true)]) {
        let client = client.clone();
        let call = tokio::spawn(async move {
            if stream {
                client.stream(sql, Options::default()).await;
            } else {
                let _ = client.try_run(sql).await;
            }
        });
        busy().await;
        assert!(!call.is_finished(), "it runs: {sql}");
        call.abort();
        idle(sql).await;
    }

    // The time-out of the request ends it.
    for sql in LONG {
        let options = Options { timeout: Some(Duration::from_millis(300)), ..Options::default() };
        let failure = client.execute(sql, options).await.unwrap_err();
        assert_eq!(
            (failure.reason.as_str(), failure.code),
            ("STATEMENT_TIMEOUT", tonic::Code::DeadlineExceeded),
            "{sql}"
        );
        idle(sql).await;
    }
    assert_eq!(client.scalar("SELECT 1").await, "1");
}
