//! Several live queries in one call.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, StreamExt};
use kalamdb_proto::v1::{SubscribeRequest, SubscribeResponse, subscribe_service_client::SubscribeServiceClient};
use tonic::{Response, Streaming};

use super::{LiveQuery, decode::Decoder, event::SubscriptionEvent};
use crate::{
    client::Client,
    error::{Error, Result},
    retry::{RetryPolicy, Safety},
};

/// A call that was accepted: its first message, and those that follow.
pub(super) type Accepted = (SubscribeResponse, Streaming<SubscribeResponse>);

/// Several live queries in one call, made by [`Client::subscribe_many`]: a stream of events with the place, from 0, of
/// the query each belongs to.
///
/// It is the plain call: it is not resumed. When it breaks, it ends with the error, and whoever wants to go on
/// subscribes again with the last [token](LiveCall::token) of each query, where [`Subscription`](crate::Subscription)
/// does so itself. A query that ends, with [`SubscriptionEvent::Ended`], does not end the others; when all have, so
/// has the stream.
pub struct LiveCall {
    inner: Streaming<SubscribeResponse>,
    endpoint: Arc<str>,
    queries: Vec<QueryState>,
    pending: VecDeque<(usize, SubscriptionEvent)>,
    done: bool,
}

#[derive(Debug, Default)]
struct QueryState {
    decoder: Decoder,
    token: Option<String>,
    ended: bool,
}

impl LiveCall {
    pub(crate) async fn open(client: &Client, queries: Vec<LiveQuery>) -> Result<LiveCall> {
        let states = queries
            .iter()
            .map(|query| QueryState { token: query.resume_token.clone(), ..QueryState::default() })
            .collect();
        let request = SubscribeRequest {
            queries: queries.into_iter().map(LiveQuery::into_proto).collect(),
            namespace: client.namespace().to_owned(),
        };
        let (first, inner) = accept(client, client.retry_policy(), request).await?;
        let endpoint = client.endpoint_shared();
        let mut call = LiveCall { inner, endpoint, queries: states, pending: VecDeque::new(), done: false };
        call.receive(first)?;
        Ok(call)
    }

    /// The token of the last event of a query that was handed out, or the one it began with. None after a reset or the
    /// first rows until the query is ready, since it then begins anew.
    pub fn token(&self, query: usize) -> Option<&str> {
        self.queries.get(query).and_then(|query| query.token.as_deref())
    }

    fn receive(&mut self, response: SubscribeResponse) -> Result<()> {
        let index = response.query_index as usize;
        let Some(query) = self.queries.get_mut(index) else {
            return Err(Error::protocol(format!("an event of query {index}, of which there is none")));
        };
        query.decoder.read(response.event, |event| self.pending.push_back((index, event)))
    }

    fn note(&mut self, index: usize, event: &SubscriptionEvent) {
        let Some(query) = self.queries.get_mut(index) else { return };
        match token_after(event) {
            TokenAfter::New(token) => query.token = Some(token.to_owned()),
            TokenAfter::Void => query.token = None,
            TokenAfter::Same => {}
        }
        if let SubscriptionEvent::Ended { .. } = event {
            query.ended = true;
        }
    }
}

impl Stream for LiveCall {
    type Item = Result<(usize, SubscriptionEvent)>;

    /// After an error the stream ends.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some((index, event)) = this.pending.pop_front() {
                this.note(index, &event);
                return Poll::Ready(Some(Ok((index, event))));
            }
            // Each query has said how it ended; the status of the call says no more.
            if this.done || this.queries.iter().all(|query| query.ended) {
                return Poll::Ready(None);
            }
            let outcome = match ready!(this.inner.poll_next_unpin(context)) {
                Some(Ok(response)) => this.receive(response),
                Some(Err(status)) => Err(Error::from_status(status, &this.endpoint, None)),
                None => Err(broken_off(&this.endpoint)),
            };
            if let Err(error) = outcome {
                this.done = true;
                this.pending.clear();
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

/// What an event that is handed out makes of the token.
pub(super) enum TokenAfter<'a> {
    New(&'a str),
    /// Rows begin anew, or have begun: nothing can be resumed until they are complete.
    Void,
    Same,
}

pub(super) fn token_after(event: &SubscriptionEvent) -> TokenAfter<'_> {
    match event {
        SubscriptionEvent::Ready { token, .. } | SubscriptionEvent::Progress { token, .. } => TokenAfter::New(token),
        SubscriptionEvent::Changes(commit) => TokenAfter::New(&commit.token),
        SubscriptionEvent::Reset { .. } | SubscriptionEvent::Rows(_) => TokenAfter::Void,
        _ => TokenAfter::Same,
    }
}

/// Makes the call, and waits for its first message: what is wrong with the request comes before it.
pub(super) fn accept(
    client: &Client,
    policy: &RetryPolicy,
    request: SubscribeRequest,
) -> impl Future<Output = Result<Accepted>> + Send + use<> {
    let (client, policy) = (client.clone(), *policy);
    async move {
        let limit = client.default_timeout();
        let accepted =
            client.call_with(&policy, Safety::Repeatable, None, request, |channel, limits, request| async move {
                let mut messages =
                    limits.apply(SubscribeServiceClient::new(channel)).subscribe(request).await?.into_inner();
                let first = messages.message().await?;
                Ok(Response::new((first, messages)))
            });
        let (first, messages) = within(limit, accepted).await?;
        Ok((first.ok_or_else(|| broken_off(client.endpoint()))?, messages))
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    match limit {
        None => work.await,
        Some(after) => tokio::time::timeout(after, work).await.unwrap_or(Err(Error::Timeout { after })),
    }
}

/// A call without a status, though queries of it have not ended.
pub(super) fn broken_off(endpoint: &str) -> Error {
    let message = "the call ended before its queries did".to_owned();
    Error::ConnectionLost { endpoint: endpoint.to_owned(), message }
}
