//! One user never sees, changes or learns of another user's rows. Here are the rules one by one; `adversary` tries
//! everything there is against them.

mod adversary;
mod calls;
mod flight;
mod stage;
mod statements;

use kalamdb_tests::values::{int, text};
use tonic::Code;

use crate::support::client_with_rows;

#[tokio::test]
async fn the_same_sql_means_different_rows() {
    let alice = client_with_rows().await;
    let bob = alice.user("bob");
    assert_eq!(bob.rows("SELECT * FROM t").await, Vec::<String>::new());
    bob.run("INSERT INTO t VALUES (1, 'bob''s', 1)").await;
    assert_eq!(bob.rows("SELECT name FROM t WHERE id = 1").await, ["bob's"]);
    assert_eq!(alice.rows("SELECT name FROM t WHERE id = 1").await, ["one"]);

    bob.run("UPDATE t SET n = 999").await;
    bob.run("DELETE FROM t WHERE id >= 0").await;
    assert_eq!(alice.rows("SELECT n FROM t ORDER BY id").await, ["10", "20", "30", "40", "50"]);
    assert_eq!(bob.scalar("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn a_cached_statement_belongs_to_its_caller() {
    let alice = client_with_rows().await;
    for round in 0..3 {
        for (n, user) in ["alice", "bob", "carol"].into_iter().enumerate() {
            let client = alice.user(user);
            client.run_with("INSERT INTO t VALUES ($1, $2, 0)", vec![int(100 + round), text(user)]).await;
            let seen = client.run_with("SELECT DISTINCT name FROM t WHERE id >= $1", vec![int(100)]).await;
            assert_eq!(seen.shown(), [user]);
            let own = client.scalar("SELECT count(*) FROM t WHERE n > -1 AND id >= 100").await;
            assert_eq!(
                (own, client.scalar("SELECT CURRENT_USER()").await),
                ((round + 1).to_string(), user.to_owned()),
                "{n}"
            );
        }
    }
}

#[tokio::test]
async fn no_user_id_however_odd_reaches_another_partition() {
    let alice = client_with_rows().await;
    // Prefixes of one another, paths, wildcards, separators: each is a user of its own.
    let odd =
        ["a", "al", "alic", "alice ", "alice/", "alice/..", "../alice", "*", "%", "alice' OR '1'='1", "Alice", "alicé"];
    for user in odd {
        // A header is trimmed of blanks at its ends, so that one comes in the `-bin` form.
        let client = alice.user(user.trim_end());
        if user.trim_end() == "alice" {
            continue;
        }
        assert_eq!(client.scalar("SELECT count(*) FROM t").await, "0", "{user:?}");
        client.run_with("INSERT INTO t VALUES (1, $1, 0)", vec![text(user)]).await;
        client.run("UPDATE t SET n = n + 1").await;
    }
    for user in odd.iter().filter(|user| user.trim_end() != "alice") {
        assert_eq!(alice.user(user.trim_end()).rows("SELECT name, n FROM t").await, [format!("{user} | 1")]);
    }
    assert_eq!(alice.scalar("SELECT sum(n) FROM t").await, "150");
}

#[tokio::test]
async fn qualifiers_name_partitions() {
    let alice = client_with_rows().await;
    let namespace = alice.namespace_name().to_owned();
    let bob = alice.user("bob");
    bob.run("INSERT INTO t VALUES (7, 'bob', 70)").await;

    assert_eq!(bob.rows(&format!("SELECT id FROM {namespace}.user.t")).await, ["7"]);
    let everybody = format!("SELECT _user_id, count(*) FROM {namespace}.all_users.t GROUP BY 1 ORDER BY 1");
    assert_eq!(bob.rows(&everybody).await, ["alice | 5", "bob | 1"]);
    let star = bob.run(&format!("SELECT * FROM {namespace}.all_users.t WHERE _user_id = 'bob'")).await;
    assert!(star.names().contains(&"_user_id"), "{:?}", star.names());
    assert_eq!(star.rows().row_count, 1);

    // Without x-user-id the caller is `system`, who acts for nobody.
    let nobody =
        kalamdb_tests::client::Client::connect(kalamdb_tests::server::shared_url()).await.namespace(&namespace);
    nobody.fails(&format!("SELECT * FROM {namespace}.user.t"), "PERMISSION_DENIED", Code::PermissionDenied).await;
    assert_eq!(nobody.scalar("SELECT count(*) FROM t").await, "0", "its own partition");

    let write = format!("DELETE FROM {namespace}.all_users.t");
    let failure = nobody.try_run(&write).await.unwrap_err();
    assert!(
        ["INVALID_STATEMENT", "NOT_SUPPORTED", "PERMISSION_DENIED"].contains(&failure.reason.as_str()),
        "{failure:#?}"
    );
    assert_eq!(alice.scalar("SELECT count(*) FROM t").await, "5");
}

#[tokio::test]
async fn shared_tables_are_one_partition() {
    let alice = client_with_rows().await;
    alice.run("CREATE SHARED TABLE board (id BIGINT PRIMARY KEY, who TEXT DEFAULT CURRENT_USER()) ACCESS public").await;
    let bob = alice.user("bob");
    alice.run("INSERT INTO board (id) VALUES (1)").await;
    bob.run("INSERT INTO board (id) VALUES (2)").await;
    for client in [&alice, &bob] {
        assert_eq!(client.rows("SELECT * FROM board ORDER BY id").await, ["1 | alice", "2 | bob"]);
    }
    bob.fails("INSERT INTO board (id) VALUES (1)", "PRIMARY_KEY_VIOLATION", Code::AlreadyExists).await;
    let qualified = format!("SELECT * FROM {}.all_users.board", alice.namespace_name());
    alice.fails(&qualified, "INVALID_STATEMENT", Code::InvalidArgument).await;
}

#[tokio::test]
async fn joins_stay_within_the_partition() {
    let alice = client_with_rows().await;
    let bob = alice.user("bob");
    bob.run("INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2)").await;
    let self_join = "SELECT count(*) FROM t a CROSS JOIN t b";
    assert_eq!((alice.scalar(self_join).await, bob.scalar(self_join).await), ("25".to_owned(), "4".to_owned()));
    let union = "SELECT count(*) FROM (SELECT id FROM t UNION ALL SELECT id FROM t WHERE id IN (SELECT id FROM t)) u";
    assert_eq!(bob.scalar(union).await, "4");
}
