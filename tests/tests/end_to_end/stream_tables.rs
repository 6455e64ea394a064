//! STREAM tables: per-user rows that end with their time to live.

use std::time::Duration;

use kalamdb_tests::{
    client::Client,
    server::{server_with, shared_url},
};
use tonic::Code;

use crate::support::{client, client_of, eventually};

#[tokio::test]
async fn rows_are_private_and_gone_after_their_time() {
    let client = client().await;
    client
        .run("CREATE STREAM TABLE typing (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), state TEXT) TTL '1 second'")
        .await;
    client.run("INSERT INTO typing (state) VALUES ('typing'), ('stopped')").await;
    assert_eq!(client.rows("SELECT state FROM typing ORDER BY id").await, ["typing", "stopped"]);
    assert_eq!(client.user("bob").rows("SELECT * FROM typing").await, Vec::<String>::new());

    eventually("the rows expire", Duration::from_secs(10), || async {
        client.scalar("SELECT count(*) FROM typing").await == "0"
    })
    .await;
    // They are as good as gone for every kind of statement.
    assert_eq!(client.run("UPDATE typing SET state = 'back'").await.affected().row_count, 0);
    assert_eq!(client.run("DELETE FROM typing").await.affected().row_count, 0);
    client.run("INSERT INTO typing (state) VALUES ('again')").await;
    assert_eq!(client.rows("SELECT state FROM typing").await, ["again"]);
}

#[tokio::test]
async fn the_time_to_live_can_be_changed() {
    let client = client().await;
    client.run("CREATE STREAM TABLE s (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), n INT) TTL '1 hour'").await;
    client.run("INSERT INTO s (n) VALUES (1)").await;
    assert_eq!(client.scalar("SELECT count(*) FROM s").await, "1");
    client.run("ALTER TABLE s SET TTL '1 second'").await;
    eventually("the row expires", Duration::from_secs(10), || async {
        client.scalar("SELECT count(*) FROM s").await == "0"
    })
    .await;
    for ttl in ["'0 seconds'", "'-1 hour'", "'soon'", "''"] {
        let failure = client.try_run(&format!("ALTER TABLE s SET TTL {ttl}")).await.expect_err(ttl);
        assert_eq!(failure.code, Code::InvalidArgument, "{ttl}: {failure:#?}");
    }
}

#[tokio::test]
async fn expired_rows_are_swept_from_disk_and_stay_gone_after_a_restart() {
    let mut server = server_with(&[("storage.stream_expiry_interval_ms", "100")]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE STREAM TABLE s (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), n INT) TTL '1 second'").await;
    client.run("INSERT INTO s (n) SELECT x FROM (VALUES (1), (2), (3)) AS v(x)").await;
    let everything = format!("SELECT count(*) FROM {}.all_users.s", client.namespace_name());
    eventually("the rows expire", Duration::from_secs(10), || async { client.scalar(&everything).await == "0" }).await;
    server.restart().await.unwrap();
    let client = Client::connect(&server.endpoint()).await.user("alice").namespace(client.namespace_name());
    assert_eq!(client.scalar("SELECT count(*) FROM s").await, "0");
    assert_ne!(shared_url(), server.endpoint());
}
