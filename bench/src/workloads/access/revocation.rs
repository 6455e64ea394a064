//! How long somebody still sees what they may see no longer.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kalam_link::{Client, ErrorKind, RetryPolicy, Subscription, SubscriptionEvent};
use tokio::time::timeout;

use super::{api_key, prepare, start_server};
use crate::{
    error::{BenchError, Result},
    report::{
        Record,
        access::{RevocationRecord, Revoked},
    },
    workloads::Context,
};

/// Streams that are ended, one after the other, in each way.
const STREAMS: usize = 50;
/// After it, a stream counts as not ended at all.
const END_LIMIT: Duration = Duration::from_secs(30);

/// How access is taken away.
#[derive(Debug, Clone, Copy)]
enum Way {
    Disable,
    RevokeKey,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Disable => "ALTER USER … DISABLE",
            Way::RevokeKey => "REVOKE API KEY",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Way::Disable => "USER_DISABLED",
            Way::RevokeKey => "CREDENTIAL_REVOKED",
        }
    }

    fn statement(self, user: &str, key: &str) -> String {
        match self {
            Way::Disable => format!("ALTER USER {user} DISABLE"),
            Way::RevokeKey => {
                let id = key.split('_').nth(1).unwrap_or_default();
                format!("REVOKE API KEY '{id}'")
            }
        }
    }
}

/// From sending the statement until the stream of the user ends.
pub(super) async fn revocation(context: &mut Context) -> Result<()> {
    let server = start_server(context).await?;
    let namespace = context.args.namespace.clone();
    for (place, way) in [Way::Disable, Way::RevokeKey].into_iter().enumerate() {
        let mut revoked = Vec::new();
        for number in 0..STREAMS {
            let user = format!("follower_{place}_{number}");
            prepare(server.client(), format!("CREATE USER {user} ROLE user")).await?;
            let key = api_key(server.client(), &user).await?;
            let events = subscribe(server.url(), &key, &namespace).await?;
            revoked.push(end(server.client(), way, events, way.statement(&user, &key)).await?);
        }
        context.report(Record::Revocation(RevocationRecord::new(way.name(), &revoked)))?;
    }
    Ok(())
}

/// A live query that has its rows.
async fn subscribe(url: &str, key: &str, namespace: &str) -> Result<Subscription> {
    let failed = || BenchError::client("subscribing");
    let client = Client::builder(url).api_key(key).connect().await.map_err(failed())?;
    let query = client.subscribe(format!("SUBSCRIBE TO {namespace}.messages")).reconnect(RetryPolicy::NONE);
    let mut events = query.open().await.map_err(failed())?;
    while let Some(event) = events.next().await {
        if let SubscriptionEvent::Ready { .. } = event.map_err(failed())? {
            return Ok(events);
        }
    }
    Err(BenchError::WrongAnswer("a live query ended before it was ready".to_owned()))
}

/// Takes access away, and waits for the end of the stream.
async fn end(client: &Client, way: Way, mut events: Subscription, sql: String) -> Result<Revoked> {
    let begin = Instant::now();
    let statement = async {
        let outcome = client.execute(sql, ()).await.map_err(BenchError::client(way.name()));
        outcome.map(|_| begin.elapsed())
    };
    let ending = async {
        loop {
            match events.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Ok((error, begin.elapsed())),
                None => return Err(BenchError::WrongAnswer("a live query ended without saying why".to_owned())),
            }
        }
    };
    let late =
        || BenchError::WrongAnswer(format!("{} did not end a stream within {} s", way.name(), END_LIMIT.as_secs()));
    let both = async { tokio::try_join!(statement, ending) };
    let (answered, (error, ended)) = timeout(END_LIMIT, both).await.map_err(|_| late())??;
    if error.kind() != ErrorKind::Unauthenticated || error.reason() != Some(way.reason()) {
        return Err(BenchError::WrongAnswer(format!("{} ended a stream with: {error}", way.name())));
    }
    Ok(Revoked { ended, after_answer: ended.saturating_sub(answered) })
}
