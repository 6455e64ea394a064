//! What one user, and one address, may have of the server.

use std::time::Duration;

use kalamdb_proto::v1::{LiveQuery, SubscribeRequest, subscribe_service_client::SubscribeServiceClient};
use kalamdb_tests::{
    access::Secured,
    client::{Client, Failure},
    http,
    server::server_with,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    streaming::ENDLESS,
    support::{client_of, eventually},
};

const HERE: (&str, &str) = ("limits.exempt_loopback", "false");

/// The limit that refuses a call, and how long to wait.
fn refused(failure: &Failure) -> (String, u64) {
    assert_eq!((failure.reason.as_str(), failure.code), ("TOO_MANY_REQUESTS", Code::ResourceExhausted), "{failure:#?}");
    let wait = failure.meta("retry_after_ms").parse().expect("when to try again");
    assert!(failure.message.contains(failure.meta("limit")), "{failure:#?}");
    (failure.meta("limit").to_owned(), wait)
}

#[tokio::test]
async fn an_address_has_so_many_calls_in_a_second() {
    let server = server_with(&[HERE, ("limits.address_calls_per_s", "50"), ("limits.address_call_burst", "20")]).await;
    let client = Client::connect(&server.endpoint()).await;
    let mut answered = 0;
    let failure = loop {
        match client.try_run("SELECT 1").await {
            Ok(_) => answered += 1,
            Err(failure) => break failure,
        }
        assert!(answered < 2_000, "no call was refused");
    };
    assert!(answered >= 20, "the burst may come at once: {answered}");
    let (limit, wait) = refused(&failure);
    assert_eq!(limit, "limits.address_calls_per_s");
    assert!((1..=1_000).contains(&wait), "{wait}");
    // The status has it as google.rpc.RetryInfo.
    let status = loop {
        let request = client.request(client.execute_request("SELECT 1", Default::default()));
        if let Err(status) = client.query_service().execute(request).await {
            break status;
        }
    };
    assert!(status.get_details_retry_info().and_then(|info| info.retry_delay).is_some(), "{status:?}");
    // Whoever waits is let in.
    eventually("a call is let in again", Duration::from_secs(10), || async {
        client.try_run("SELECT 1").await.is_ok()
    })
    .await;
    // JSON says so in HTTP's own words, too.
    let address = server.address().to_string();
    let refusal = loop {
        let json = [("content-type", "application/json")];
        let answer =
            http::request(&address, "POST", "/kalamdb.v1.QueryService/Execute", &json, b"{\"sql\": \"SELECT 1\"}")
                .await;
        let answer = answer.unwrap();
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refusal.status, 429, "{}", refusal.text());
    assert!(refusal.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{refusal:?}");
}

#[tokio::test]
async fn this_machine_is_exempt_by_default() {
    let server = server_with(&[
        ("limits.address_calls_per_s", "1"),
        ("limits.address_call_burst", "1"),
        ("limits.address_connections", "1"),
        ("limits.user_calls_per_s", "1"),
        ("limits.user_call_burst", "1"),
        ("server.dev_role", "user"),
    ])
    .await;
    for _ in 0..5 {
        let client = Client::connect(&server.endpoint()).await;
        for _ in 0..20 {
            client.run("SELECT 1").await;
        }
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let server = server_with(&[HERE, ("limits.address_connections", "3")]).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = Client::connect(&server.endpoint()).await;
        client.run("SELECT 1").await;
        clients.push(client);
    }
    // Closed at once, whatever the client makes of that.
    let answer = http::request(&server.address().to_string(), "GET", "/healthz", &[], b"").await;
    assert!(answer.is_err(), "{answer:?}");
    drop(clients.pop());
    eventually("the place is free again", Duration::from_secs(10), || async {
        http::request(&server.address().to_string(), "GET", "/healthz", &[], b"").await.is_ok()
    })
    .await;
    clients[0].run("SELECT 1").await;
}

#[tokio::test]
async fn users_share_fairly_and_services_are_not_limited() {
    let settings = [
        HERE,
        ("limits.user_concurrent_calls", "2"),
        ("limits.user_streams", "1"),
        ("limits.address_calls_per_s", "0"),
    ];
    let users = [("ana", "ROLE user"), ("bob", "ROLE user"), ("helper", "ROLE service")];
    let secured = Secured::start(&settings, &users, async |root| {
        root.run("CREATE NAMESPACE n").await;
        root.run("CREATE USER TABLE n.t (id BIGINT PRIMARY KEY)").await;
    })
    .await;
    let ana = secured.client("ana").await;
    let running: Vec<_> = (0..2)
        .map(|_| {
            let ana = ana.clone();
            tokio::spawn(
                async move { while ana.try_run(ENDLESS).await.is_err_and(|f| f.reason == "TOO_MANY_REQUESTS") {} },
            )
        })
        .collect();
    eventually("a call beyond the limit is refused", Duration::from_secs(10), || async {
        match ana.try_run("SELECT 1").await {
            Ok(_) => false,
            Err(failure) => {
                assert_eq!(refused(&failure).0, "limits.user_concurrent_calls");
                true
            }
        }
    })
    .await;
    // By whatever connection, but nobody else.
    let elsewhere = secured.client("ana").await;
    assert_eq!(refused(&elsewhere.try_run("SELECT 1").await.unwrap_err()).0, "limits.user_concurrent_calls");
    secured.client("bob").await.run("SELECT 1").await;
    let helper = secured.client("helper").await;
    let calls: Vec<_> = (0..10).map(|_| helper.try_run("SELECT 1")).collect();
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    running.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("the places are free again", Duration::from_secs(10), || async {
        ana.try_run("SELECT 1").await.is_ok()
    })
    .await;

    // Streams have places of their own.
    let subscribe = async || {
        let query = LiveQuery { sql: "SUBSCRIBE TO n.t".to_owned(), ..Default::default() };
        let request = SubscribeRequest { queries: vec![query], namespace: String::new() };
        SubscribeServiceClient::new(ana.channel()).subscribe(ana.request(request)).await
    };
    let stream = subscribe().await.unwrap();
    assert_eq!(refused(&Failure::from(subscribe().await.unwrap_err())).0, "limits.user_streams");
    ana.run("SELECT 1").await;
    drop(stream);
    eventually("the stream's place is free again", Duration::from_secs(10), || async { subscribe().await.is_ok() })
        .await;
}

#[tokio::test]
async fn what_is_refused_is_counted() {
    let server = server_with(&[HERE, ("limits.address_calls_per_s", "1"), ("limits.address_call_burst", "2")]).await;
    let client = Client::connect(&server.endpoint()).await;
    for _ in 0..10 {
        let _ = client.try_run("SELECT 1").await;
    }
    let metrics = http::request(&server.address().to_string(), "GET", "/metrics", &[], b"").await.unwrap().text();
    let line = "kalamdb_limited_total{limit=\"limits.address_calls_per_s\"}";
    assert!(metrics.contains(line), "{metrics}");
    assert!(metrics.contains("kalamdb_limits_tracked{whose=\"address\"} 1"), "{metrics}");
}

#[tokio::test]
async fn without_limits_there_are_none() {
    let mut settings = vec![HERE];
    settings.extend(
        [
            "limits.user_calls_per_s",
            "limits.user_concurrent_calls",
            "limits.user_streams",
            "limits.address_calls_per_s",
            "limits.address_concurrent_calls",
            "limits.address_streams",
            "limits.address_connections",
        ]
        .map(|limit| (limit, "0")),
    );
    let server = server_with(&settings).await;
    let client = client_of(&server.endpoint()).await;
    let calls: Vec<_> = (0..500).map(|_| client.try_run("SELECT 1")).collect();
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
}
