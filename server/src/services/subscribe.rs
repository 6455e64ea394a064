//! `SubscribeService`: live queries of the engine as messages.
//!
//! ```text
//!  LiveQuery ─▶ feed: events to frames ─┐
//!  LiveQuery ─▶ feed                    ├─▶ call: one stream of frames ─▶ body: frames to bytes ─▶ HTTP
//!  LiveQuery ─▶ feed                    ┘
//! ```
//!
//! Nothing of it runs by itself: the connection polls the body when the client has room, and drops it when the client is
//! gone, which ends the live queries. What a commit changed is encoded once for all who are told the same; a message is a
//! few bytes of its own before bytes that are shared. That is why the service is not the generated one, whose messages
//! are values of their own, and whose buffers stay as large as the largest message while a subscription is quiet.

mod body;
mod call;
mod feed;
mod frame;
mod service;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use kalamdb_engine::{Engine, Error, LiveQuery, Reason, Session};
use kalamdb_proto::v1::{self, SubscribeRequest};
use tokio::task::yield_now;
use tonic::Status;

pub(crate) use self::service::{SERVICE_NAME, SubscribeServer};
use self::{call::LiveCall, feed::QueryFeed};
use crate::{call::CallContext, convert, errors};

/// Subscribes to queries.
pub(crate) struct SubscribeApi {
    engine: Arc<Engine>,
    max_queries_per_call: usize,
    node_id: u16,
}

impl SubscribeApi {
    pub(crate) fn new(engine: Arc<Engine>, max_queries_per_call: usize, node_id: u16) -> Self {
        Self { engine, max_queries_per_call, node_id }
    }

    /// Subscribes to all queries of a request, or to none.
    async fn subscribe(&self, context: &CallContext, request: SubscribeRequest) -> Result<LiveCall, Status> {
        let queries = self.queries(context, request).await.map_err(|error| errors::to_status(&error, context.trace))?;
        // From now on they end when the caller's right to them does, even if nobody reads.
        context.grant.hold(queries.iter().map(|(query, _)| query.handle()));
        let feeds = queries.into_iter().zip(0..).map(|((query, delay), index)| {
            QueryFeed::new(query, index, delay, self.node_id, context.trace, Arc::clone(&context.grant))
        });
        Ok(LiveCall::new(feeds, context.timeout, context.trace))
    }

    async fn queries(
        &self,
        context: &CallContext,
        request: SubscribeRequest,
    ) -> Result<Vec<(LiveQuery, Duration)>, Error> {
        let SubscribeRequest { queries, namespace } = request;
        self.check_count(queries.len())?;
        let session = self.engine.session(context.caller.clone());
        let mut subscribed = Vec::with_capacity(queries.len());
        for (index, query) in queries.into_iter().enumerate() {
            if index > 0 {
                // Compiling takes time that other calls want too.
                yield_now().await;
            }
            let query = subscribe(&session, query, &namespace);
            subscribed.push(query.map_err(|error| error.with("query_index", index.to_string()))?);
        }
        Ok(subscribed)
    }

    fn check_count(&self, count: usize) -> Result<(), Error> {
        let most = self.max_queries_per_call;
        if count == 0 {
            let text = "queries is empty; give at least one query to subscribe to.";
            return Err(Error::new(Reason::InvalidRequest, text).with("field", "queries"));
        }
        if count > most {
            let text = format!(
                "The call has {count} live queries; live.max_queries_per_call is {most}. Use several calls, which can share \
                 a connection."
            );
            return Err(Error::new(Reason::TooManyLiveQueries, text).with("limit", "live.max_queries_per_call"));
        }
        Ok(())
    }
}

fn subscribe(session: &Session, query: v1::LiveQuery, namespace: &str) -> Result<(LiveQuery, Duration), Error> {
    let (request, delay) = convert::to_live_request(query, namespace)?;
    Ok((session.subscribe(request)?, delay))
}
