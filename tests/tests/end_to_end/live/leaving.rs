//! Clients that go, vanish, or do not read: nothing of them is left, and nobody is held up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kalamdb_proto::v1::subscribe_response::Event;
use kalamdb_tests::{
    client::{Client, expect_failure},
    server::{server_with, shared_url},
    values::{int, text},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tonic::Code;

use super::{CLEANUP_LIMIT, Call, LIMIT, all_gone, link, live_count, query, resumed, shown};
use crate::support::{client_of, client_with_rows, eventually};

#[tokio::test]
async fn a_client_that_goes_leaves_nothing() {
    let client = client_with_rows().await;
    let url = shared_url();
    // It drops its call.
    let mut call = Call::open(&client, vec![query("SUBSCRIBE TO t"), query("SUBSCRIBE SELECT id FROM t")]).await;
    call.next().await;
    assert_eq!(live_count(&client).await, 2);
    drop(call);
    all_gone(&client, "a dropped call", CLEANUP_LIMIT).await;
    // It closes its connection.
    let other = Client::connect(url).await.user("alice").namespace(client.namespace_name());
    let mut call = Call::open(&other, vec![query("SUBSCRIBE TO t")]).await;
    call.ready().await;
    assert_eq!(live_count(&client).await, 1);
    drop((call, other));
    all_gone(&client, "a closed connection", CLEANUP_LIMIT).await;
    // It drops a subscription of the client library, or closes it.
    for closes in [true, false] {
        let mut events = link(url, &client).await.subscribe("SUBSCRIBE TO t").open().await.unwrap();
        assert_eq!(live_count(&client).await, 1);
        if closes {
            events.close();
            all_gone(&client, "a closed subscription", CLEANUP_LIMIT).await;
        }
        drop(events);
        all_gone(&client, "a dropped subscription", CLEANUP_LIMIT).await;
    }
    client.run("DROP TABLE t").await;
}

/// A way to the server that can be cut so that neither side hears of it.
struct Way {
    address: String,
    open: Arc<AtomicBool>,
}

impl Way {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let open = Arc::new(AtomicBool::new(true));
        let is_open = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, is_open) = (server.clone(), Arc::clone(&is_open));
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    let cut = async {
                        while is_open.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        // Both stay open, and nothing passes any more.
                        () = cut => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, open }
    }

    fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
    }
}

/// Its system goes on acknowledging what arrives, so that only HTTP/2's ping can tell.
#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing() {
    let server =
        server_with(&[("server.keepalive_interval_ms", "1000"), ("server.keepalive_timeout_ms", "1000")]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY)").await;
    let way = Way::to(server.address().to_string()).await;
    let far = Client::connect(&way.address).await.user("alice").namespace(client.namespace_name());
    let mut call = Call::open(&far, vec![query("SUBSCRIBE TO t"), query("SUBSCRIBE TO t WHERE id > 5")]).await;
    call.next().await;
    eventually("both are there", LIMIT, || async { live_count(&client).await == 2 }).await;
    client.run("INSERT INTO t VALUES (1)").await;
    way.cut();
    all_gone(&client, "a client behind a cut", CLEANUP_LIMIT).await;
}

/// Also one that reads nothing while there are many changes for it; others go on meanwhile.
#[tokio::test]
async fn a_client_that_does_not_read_holds_nobody_up() {
    let server = server_with(&[("live.queue_bytes", "100000")]).await;
    let client = client_of(&server.endpoint()).await;
    client.run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, body TEXT)").await;
    let stuck = Client::connect(&server.endpoint()).await.user("alice").namespace(client.namespace_name());
    let mut deaf = Call::open(&stuck, vec![query("SUBSCRIBE TO t")]).await;
    deaf.ready().await;
    let mut hears = Call::open(&client, vec![query("SUBSCRIBE SELECT id FROM t")]).await;
    hears.ready().await;
    let body = "x".repeat(20_000);
    for id in 0..600 {
        client.run_with("INSERT INTO t VALUES ($1, $2)", vec![int(id), text(body.as_str())]).await;
        let began = Instant::now();
        let commits = hears.commits().await;
        assert_eq!(commits.iter().flat_map(shown).collect::<Vec<_>>(), [format!("+ {id}")]);
        assert!(began.elapsed() < Duration::from_secs(5), "held up for {:?}", began.elapsed());
    }
    let queued: u64 = client.scalar("SELECT max(queued_bytes) FROM system.live_queries").await.parse().unwrap();
    assert!(queued <= 200_000, "{queued} bytes wait");
    // What it has to hear when it listens again: changes, then that it was too slow, and where it can go on.
    let mut next = 0;
    let token = loop {
        match deaf.next().await.1 {
            Event::Changes(changes) => {
                for commit in changes.commits {
                    assert!(shown(&commit)[0].starts_with(&format!("+ {next} | ")), "commit {next}");
                    next += 1;
                }
                assert!(next < 600, "it was never too slow");
            }
            Event::Ended(ended) => {
                assert_eq!(ended.reason, "SLOW_CONSUMER");
                break ended.resume_token;
            }
            other => panic!("{other:?}"),
        }
    };
    let failure = deaf.message().await.unwrap_err();
    expect_failure("the slow call", failure, "SLOW_CONSUMER", Code::ResourceExhausted);
    let mut call = Call::open(&client, vec![resumed("SUBSCRIBE TO t", &token)]).await;
    assert!(call.ready().await.1.is_empty());
    while next < 600 {
        for commit in call.commits().await {
            assert!(shown(&commit)[0].starts_with(&format!("+ {next} | ")), "commit {next}");
            next += 1;
        }
    }
}
