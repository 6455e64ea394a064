//! INSERT, UPDATE, DELETE: what they change, what they answer, and that they are atomic.

use kalamdb_proto::v1::value::Kind;
use kalamdb_tests::{
    client::{Options, now_us},
    values::{bytes, int, list, null, text},
};
use tonic::Code;

use crate::support::{client, client_with_rows};

#[tokio::test]
async fn each_statement_tells_how_many_rows_how_long_and_which_commit() {
    let client = client_with_rows().await;
    let mut last_seq = 0;
    for (sql, rows, message) in [
        ("INSERT INTO t VALUES (6, 'six', 60), (7, 'seven', 70)", 2, "INSERT 0 2"),
        ("UPDATE t SET n = n + 1 WHERE id >= 6", 2, "UPDATE 2"),
        ("DELETE FROM t WHERE id = 7", 1, "DELETE 1"),
    ] {
        let answer = client.run(sql).await;
        assert_eq!((answer.affected().row_count, answer.affected().message.as_str()), (rows, message));
        assert!(answer.0.commit_seq > last_seq, "commit sequences grow");
        last_seq = answer.0.commit_seq;
        assert!(answer.0.took_ms > 0.0 && answer.0.took_ms < 60_000.0);
    }
    let nothing = client.run("UPDATE t SET n = 0 WHERE id = 99").await;
    assert_eq!((nothing.affected().row_count, nothing.0.commit_seq), (0, 0));
    let read = client.run("SELECT n FROM t WHERE id = 6").await;
    assert_eq!((read.shown(), read.0.commit_seq), (vec!["61".to_owned()], 0));
}

#[tokio::test]
async fn a_statement_is_atomic() {
    let client = client_with_rows().await;
    // The last row fails each time.
    for (sql, reason, code) in [
        ("INSERT INTO t VALUES (10, 'a', 1), (11, 'b', 2), (3, 'c', 3)", "PRIMARY_KEY_VIOLATION", Code::AlreadyExists),
        ("INSERT INTO t VALUES (10, 'a', 1), (10, 'b', 2)", "PRIMARY_KEY_VIOLATION", Code::AlreadyExists),
        ("INSERT INTO t SELECT id + 4, name, n FROM t", "PRIMARY_KEY_VIOLATION", Code::AlreadyExists),
        ("UPDATE t SET n = 2000000000 + n * 10000000", "INVALID_VALUE", Code::InvalidArgument),
    ] {
        client.fails(sql, reason, code).await;
    }
    let rows = client.rows("SELECT id, n FROM t ORDER BY id").await;
    assert_eq!(rows, ["1 | 10", "2 | 20", "3 | 30", "4 | 40", "5 | 50"]);
}

#[tokio::test]
async fn defaults_are_evaluated_for_each_row() {
    let client = client().await;
    client
        .run(
            "CREATE USER TABLE d (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), at TIMESTAMP DEFAULT NOW(), \
             uid TEXT DEFAULT UUID_V7(), ul TEXT DEFAULT ULID(), who TEXT DEFAULT CURRENT_USER(), \
             n INT NOT NULL DEFAULT 7, note TEXT)",
        )
        .await;
    let before = now_us();
    client.run("INSERT INTO d (note) VALUES ('a'), ('b'), ('c')").await;
    client.run("INSERT INTO d (n, note) VALUES (DEFAULT, 'd')").await;
    client.run("INSERT INTO d DEFAULT VALUES").await;
    let after = now_us();

    assert_eq!(client.scalar("SELECT count(DISTINCT id) FROM d").await, "5");
    assert_eq!(client.scalar("SELECT count(DISTINCT uid) FROM d").await, "5");
    assert_eq!(client.scalar("SELECT count(DISTINCT ul) FROM d").await, "5");
    assert_eq!(client.rows("SELECT DISTINCT who, n FROM d").await, ["alice | 7"]);
    let times = client.run("SELECT at FROM d").await;
    for row in &times.rows().rows {
        let Some(Kind::TimestampValue(at)) = &row.values[0].kind else { panic!("a timestamp: {row:?}") };
        assert!((before - 1_000..=after + 1_000).contains(at), "{at} is between {before} and {after}");
    }
    let order = client.rows("SELECT note FROM d WHERE note IS NOT NULL ORDER BY id").await;
    assert_eq!(order, ["a", "b", "c", "d"], "generated keys grow in insertion order");
}

#[tokio::test]
async fn auto_increment_is_shorthand_for_a_generated_key() {
    let client = client().await;
    client.run("CREATE USER TABLE a (id BIGINT PRIMARY KEY AUTO_INCREMENT, x INT)").await;
    client.run("CREATE USER TABLE b (id TEXT PRIMARY KEY AUTO_INCREMENT, x INT)").await;
    client.run("INSERT INTO a (x) VALUES (1), (2)").await;
    client.run("INSERT INTO b (x) VALUES (1), (2)").await;
    assert_eq!(client.scalar("SELECT count(DISTINCT id) FROM a WHERE id > 1000000").await, "2");
    assert_eq!(client.scalar("SELECT count(DISTINCT id) FROM b WHERE length(id) = 36").await, "2");
}

#[tokio::test]
async fn on_conflict_does_nothing_or_updates() {
    let client = client_with_rows().await;
    let answer = client.run("INSERT INTO t VALUES (1, 'uno', 0), (6, 'six', 60) ON CONFLICT DO NOTHING").await;
    assert_eq!(answer.affected().row_count, 1);
    assert_eq!(client.scalar("SELECT name FROM t WHERE id = 1").await, "one");

    let upsert = "INSERT INTO t VALUES (1, 'uno', 5), (7, 'seven', 70) \
                  ON CONFLICT (id) DO UPDATE SET name = excluded.name, n = t.n + excluded.n";
    assert_eq!(client.run(upsert).await.affected().row_count, 2);
    assert_eq!(client.rows("SELECT * FROM t WHERE id IN (1, 7) ORDER BY id").await, ["1 | uno | 15", "7 | seven | 70"]);

    let filtered = "INSERT INTO t VALUES (1, 'eins', 0), (2, 'zwei', 0) \
                    ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE t.n >= 20";
    assert_eq!(client.run(filtered).await.affected().row_count, 1);
    assert_eq!(client.rows("SELECT name FROM t WHERE id IN (1, 2) ORDER BY id").await, ["uno", "zwei"]);
}

#[tokio::test]
async fn returning_answers_with_the_rows() {
    let client = client_with_rows().await;
    let inserted = client.run("INSERT INTO t (id, n) VALUES (8, 80) RETURNING *").await;
    assert_eq!((inserted.names(), inserted.shown()), (vec!["id", "name", "n"], vec!["8 | NULL | 80".to_owned()]));
    assert!(inserted.0.commit_seq > 0);
    let updated = client.run("UPDATE t SET n = n * 2 WHERE id = 8 RETURNING id, n + 1 AS more").await;
    assert_eq!((updated.names(), updated.shown()), (vec!["id", "more"], vec!["8 | 161".to_owned()]));
    assert_eq!(client.rows("DELETE FROM t WHERE id = 8 RETURNING n").await, ["160"]);
    assert_eq!(client.rows("DELETE FROM t WHERE id = 8 RETURNING n").await, Vec::<String>::new());
}

#[tokio::test]
async fn updates_use_the_old_row_and_deletes_any_predicate() {
    let client = client_with_rows().await;
    client.run("UPDATE t SET name = upper(name), n = n + id WHERE n > 20 AND name IS NOT NULL").await;
    assert_eq!(client.rows("SELECT name, n FROM t WHERE id IN (3, 5) ORDER BY id").await, ["THREE | 33", "FIVE | 55"]);
    client.run("UPDATE t SET n = (SELECT max(n) FROM t) WHERE id = 1").await;
    assert_eq!(client.scalar("SELECT n FROM t WHERE id = 1").await, "55");
    client.run("DELETE FROM t WHERE id IN (SELECT id FROM t WHERE n > 50)").await;
    assert_eq!(client.rows("SELECT id FROM t ORDER BY id").await, ["2", "3", "4"]);
    client.run("DELETE FROM t").await;
    assert_eq!(client.scalar("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn changing_a_key_is_refused() {
    let client = client_with_rows().await;
    let failure = client.try_run("UPDATE t SET id = 100 WHERE id = 1").await.unwrap_err();
    assert!(["INVALID_STATEMENT", "NOT_SUPPORTED"].contains(&failure.reason.as_str()), "{failure:#?}");
    assert!(failure.message.to_lowercase().contains("key"), "{}", failure.message);
    assert_eq!(client.scalar("SELECT count(*) FROM t WHERE id = 1").await, "1");
}

#[tokio::test]
async fn parameters_carry_every_kind_of_value() {
    let client = client_with_rows().await;
    let insert = "INSERT INTO t (id, name, n) VALUES ($1, $2, $3)";
    client.run_with(insert, vec![int(20), text("O'Hara; DROP TABLE t --"), null()]).await;
    assert_eq!(
        client.run_with("SELECT name, n FROM t WHERE id = $1", vec![int(20)]).await.shown(),
        ["O'Hara; DROP TABLE t -- | NULL"]
    );
    let used_twice = "SELECT id FROM t WHERE n = $1 OR n = $1 + $2 ORDER BY id";
    assert_eq!(client.run_with(used_twice, vec![int(10), int(20)]).await.shown(), ["1", "3"]);
    let any = "SELECT count(*) FROM t WHERE array_has($1, id)";
    assert_eq!(client.run_with(any, vec![list([int(1), int(2), int(77)])]).await.scalar(), "2");
    client.run("CREATE USER TABLE b (id BIGINT PRIMARY KEY, raw BYTES)").await;
    client.run_with("INSERT INTO b VALUES (1, $1)", vec![bytes([0, 255, 10])]).await;
    assert_eq!(client.rows("SELECT raw FROM b").await, ["00ff0a"]);
}

#[tokio::test]
async fn a_batch_runs_in_order_and_stops_at_its_first_failure() {
    let client = client_with_rows().await;
    let options = Options::default;
    let answers = client
        .execute("INSERT INTO t VALUES (6, 'six', 60); SELECT count(*) FROM t; DELETE FROM t WHERE id = 6;", options())
        .await
        .unwrap();
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[1].scalar(), "6", "a statement sees the writes before it");

    let failing = "INSERT INTO t VALUES (6, 'six', 60); UPDATE t SET n = 0 WHERE id = 1; \
                   INSERT INTO t VALUES (7, 'x', 0), (1, 'y', 0); DELETE FROM t";
    let failure = client.execute(failing, options()).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.meta("statement_index")), ("PRIMARY_KEY_VIOLATION", "2"));
    let rows = client.rows("SELECT id, n FROM t ORDER BY id").await;
    assert_eq!(rows, ["1 | 0", "2 | 20", "3 | 30", "4 | 40", "5 | 50", "6 | 60"]);
}

#[tokio::test]
async fn a_read_sees_the_commit_it_asks_for_through_any_connection() {
    let writer = client_with_rows().await;
    let reader =
        crate::support::client_of(kalamdb_tests::server::shared_url()).await.namespace(writer.namespace_name());
    for round in 0..50 {
        let written = writer.run(&format!("UPDATE t SET n = {round} WHERE id = 1")).await;
        let options = Options { min_commit_seq: written.0.commit_seq, ..Options::default() };
        let read = reader.execute("SELECT n FROM t WHERE id = 1", options).await.unwrap();
        assert_eq!(read[0].scalar(), round.to_string());
    }
}

#[tokio::test]
async fn system_columns_are_hidden_but_can_be_named() {
    let client = client_with_rows().await;
    let written = client.run("UPDATE t SET n = 11 WHERE id = 1").await;
    let row = client.run("SELECT _seq, _deleted, _updated IS NOT NULL FROM t WHERE id = 1").await;
    assert_eq!(row.shown(), [format!("{} | false | true", written.0.commit_seq)]);
    assert_eq!(client.run("SELECT * FROM t").await.names(), ["id", "name", "n"]);
}

#[tokio::test]
async fn concurrent_writers_lose_no_update() {
    let client = client_with_rows().await;
    let writers = (0..8).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while done < 25 {
                match client.try_run("UPDATE t SET n = n + 1 WHERE id = 1").await {
                    Ok(_) => done += 1,
                    Err(failure) => assert_eq!(failure.reason, "WRITE_CONFLICT", "{failure:#?}"),
                }
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    assert_eq!(client.scalar("SELECT n FROM t WHERE id = 1").await, (10 + 8 * 25).to_string());
}
