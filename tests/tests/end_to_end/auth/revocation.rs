//! Calls under way end when the right to them does: within a second, and soon after in most cases.

use std::time::{Duration, Instant};

use kalamdb_proto::v1::{
    ExecuteStreamRequest, LiveQuery, LoginRequest, LogoutRequest, SubscribeRequest, SubscribeResponse,
    subscribe_response::Event, subscribe_service_client::SubscribeServiceClient,
};
use kalamdb_tests::client::{Client, Failure};
use tonic::{Code, Streaming};

use super::{key_of, server};

/// What must hold. What is measured is printed, and mostly some hundredths of it.
const LIMIT: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "correct horse battery staple";

async fn with_table() -> (kalam_link::process::ServerProcess, Client, Client) {
    let (server, admin) = server(&[]).await;
    admin.run("CREATE NAMESPACE n").await;
    admin.run("CREATE USER TABLE n.t (id BIGINT PRIMARY KEY, body TEXT)").await;
    let stranger = Client::connect(&server.endpoint()).await.namespace("n");
    (server, admin, stranger)
}

/// A live query that was told of everything so far.
async fn subscribe(client: &Client) -> Streaming<SubscribeResponse> {
    let queries = vec![LiveQuery { sql: "SUBSCRIBE TO t".to_owned(), ..LiveQuery::default() }; 2];
    let request = client.request(SubscribeRequest { queries, namespace: "n".to_owned() });
    let mut call = SubscribeServiceClient::new(client.channel()).subscribe(request).await.unwrap().into_inner();
    let mut ready = 0;
    while ready < 2 {
        let message = tokio::time::timeout(PATIENCE, call.message()).await.expect("in time").unwrap();
        if matches!(message.unwrap().event, Some(Event::Ready(_))) {
            ready += 1;
        }
    }
    call
}

/// Reads a live query to its end: how long that took, the reasons and tokens of its queries, and the status.
async fn ends(mut call: Streaming<SubscribeResponse>) -> (Duration, Vec<(String, String)>, Failure) {
    let started = Instant::now();
    let mut ended = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, call.message()).await.expect("an end") {
            Ok(Some(SubscribeResponse { event: Some(Event::Ended(end)), .. })) => {
                ended.push((end.reason, end.resume_token));
            }
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended without a status, after {ended:?}"),
            Err(status) => return (started.elapsed(), ended, status.into()),
        }
    }
}

/// Ends everything of `ana` by `how`, while it follows two live queries.
async fn live_queries_end(reason: &str, how: impl AsyncFnOnce(&Client, &str)) {
    let (_server, admin, stranger) = with_table().await;
    admin.run("CREATE USER ana").await;
    admin.run("CREATE USER bob").await;
    let key = key_of(&admin, "ana").await;
    let ana = stranger.api_key(&key);
    let bob = stranger.api_key(&key_of(&admin, "bob").await);
    let call = subscribe(&ana).await;
    let _other = subscribe(&bob).await;
    how(&admin, &key).await;
    let (took, ended, failure) = ends(call).await;
    println!("live queries ended {took:?} after {reason}");
    assert!(took < LIMIT, "{took:?}");
    assert_eq!(ended.len(), 2, "each is told");
    for (why, token) in &ended {
        assert_eq!(why, reason);
        assert!(!token.is_empty(), "it can be resumed by whoever may");
    }
    assert_eq!((failure.code, failure.reason.as_str()), (Code::Unauthenticated, reason));
    let refused = ana.try_run("SELECT 1").await.unwrap_err();
    assert_eq!(refused.code, Code::Unauthenticated);
    let left = admin.rows("SELECT user_id FROM system.live_queries ORDER BY 1").await;
    assert_eq!(left, ["bob", "bob"], "others go on");
}

#[tokio::test]
async fn live_queries_end_when_their_key_is_revoked() {
    live_queries_end("CREDENTIAL_REVOKED", async |admin, key| {
        admin.run(&format!("REVOKE API KEY '{key}'")).await;
    })
    .await;
}

#[tokio::test]
async fn live_queries_end_when_their_user_is_disabled() {
    live_queries_end("USER_DISABLED", async |admin, _| {
        admin.run("ALTER USER ana DISABLE").await;
    })
    .await;
}

#[tokio::test]
async fn live_queries_end_when_their_user_is_deleted() {
    live_queries_end("CREDENTIAL_REVOKED", async |admin, _| {
        admin.run("DROP USER ana CASCADE").await;
    })
    .await;
}

#[tokio::test]
async fn live_queries_end_with_their_session_and_the_logout_is_answered() {
    let (_server, admin, stranger) = with_table().await;
    admin.run(&format!("CREATE USER ana PASSWORD '{PASSWORD}'")).await;
    let request = LoginRequest { username: "ana".to_owned(), password: PASSWORD.to_owned() };
    let answer = stranger.auth().login(request).await.unwrap().into_inner();
    let ana = stranger.token(&answer.tokens.unwrap().access_token);
    let call = subscribe(&ana).await;
    ana.auth().logout(ana.request(LogoutRequest {})).await.expect("the call that ends the session is answered");
    let (took, ended, failure) = ends(call).await;
    assert!(took < LIMIT, "{took:?}");
    assert_eq!((ended.len(), failure.reason.as_str()), (2, "CREDENTIAL_REVOKED"));
}

#[tokio::test]
async fn live_queries_for_a_user_end_when_that_user_is_disabled() {
    let (_server, admin, stranger) = with_table().await;
    admin.run("CREATE USER ana").await;
    admin.run("CREATE USER bot ROLE service").await;
    let bot = stranger.api_key(&key_of(&admin, "bot").await);
    let call = subscribe(&bot.user("ana")).await;
    let _own = subscribe(&bot.user("bot")).await;
    admin.run("ALTER USER ana DISABLE").await;
    let (took, _, failure) = ends(call).await;
    assert!(took < LIMIT && failure.reason == "CREDENTIAL_REVOKED", "{took:?} {failure:?}");
    bot.run("SELECT 1").await;
    let failure = bot.user("ana").try_run("SELECT 1").await.unwrap_err();
    assert_eq!(failure.code, Code::PermissionDenied);
}

#[tokio::test]
async fn a_stream_of_rows_ends_in_the_midst() {
    let (_server, admin, stranger) = with_table().await;
    admin.run("CREATE USER ana").await;
    let ana = stranger.api_key(&key_of(&admin, "ana").await);
    // More rows than any buffer holds, of a client that reads slowly.
    let sql =
        "SELECT a.v, b.v, repeat('x', 1000) FROM generate_series(1, 100000) AS a(v), generate_series(1, 1000) AS b(v)";
    let request = ExecuteStreamRequest { sql: sql.to_owned(), ..Default::default() };
    let mut rows = ana.query_service().execute_stream(ana.request(request)).await.unwrap().into_inner();
    for _ in 0..3 {
        rows.message().await.unwrap().expect("rows");
    }
    let started = Instant::now();
    admin.run("ALTER USER ana DISABLE").await;
    let failure = loop {
        match tokio::time::timeout(PATIENCE, rows.message()).await.expect("an end") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the rows ended as if nothing had happened"),
            Err(status) => break Failure::from(status),
        }
    };
    println!("a stream of rows ended {:?} after its user was disabled", started.elapsed());
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    assert_eq!((failure.code, failure.reason.as_str()), (Code::Unauthenticated, "USER_DISABLED"));
}

#[tokio::test]
async fn a_long_statement_ends_too() {
    let (_server, admin, stranger) = with_table().await;
    admin.run("CREATE USER ana").await;
    let ana = stranger.api_key(&key_of(&admin, "ana").await);
    let running = tokio::spawn(async move {
        let sql = "SELECT sum(a.v * b.v) FROM generate_series(1, 1000000) AS a(v), generate_series(1, 1000000) AS b(v)";
        ana.try_run(sql).await
    });
    // Until it runs.
    crate::support::eventually("the statement runs", PATIENCE, || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        !running.is_finished()
    })
    .await;
    let started = Instant::now();
    admin.run("ALTER USER ana DISABLE").await;
    let failure = tokio::time::timeout(PATIENCE, running).await.expect("an end").unwrap().unwrap_err();
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    assert_eq!((failure.code, failure.reason.as_str()), (Code::Unauthenticated, "USER_DISABLED"));
}

#[tokio::test]
async fn a_change_of_role_ends_calls_and_one_of_metadata_does_not() {
    let (_server, admin, stranger) = with_table().await;
    admin.run("CREATE USER ana").await;
    let ana = stranger.api_key(&key_of(&admin, "ana").await);
    let mut call = subscribe(&ana).await;
    admin.run("ALTER USER ana METADATA '{\"a\": 1}'").await;
    ana.run("INSERT INTO t VALUES (1, 'after the change')").await;
    loop {
        let message = tokio::time::timeout(PATIENCE, call.message()).await.expect("in time").unwrap().unwrap();
        match message.event.unwrap() {
            Event::Changes(_) => break,
            Event::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    admin.run("ALTER USER ana ROLE service").await;
    let (took, _, failure) = ends(call).await;
    assert!(took < LIMIT && failure.reason == "CREDENTIAL_REVOKED", "{took:?} {failure:?}");
    assert_eq!(ana.scalar("SELECT CURRENT_USER()").await, "ana", "with its new role");
}
