//! A live query that outlives its connection.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use kalamdb_proto::v1::{SubscribeRequest, SubscribeResponse, subscribe_response::Event};
use tokio::time::Sleep;
use tonic::Streaming;

use super::{
    Subscribe,
    call::{self, Accepted, TokenAfter},
    decode::Decoder,
    event::SubscriptionEvent,
};
use crate::{
    client::Client,
    error::{Error, Result},
    retry::RetryPolicy,
};

/// The reason of a reset that the client itself gives.
const INTERRUPTED: &str = "INTERRUPTED";

/// A live query: a stream of [`SubscriptionEvent`]s, made by [`Subscribe::open`].
///
/// # Resuming
///
/// When the connection breaks, the server shuts down, does not wait for a slow reader any longer, or the table's
/// columns change, the subscription waits, connects again, and goes on behind the last event that was handed out:
/// every change comes exactly once. Only if that is not possible, or if the first rows were not complete, a
/// [`SubscriptionEvent::Reset`] says that all rows handed out before are void, and rows follow.
/// [`Subscribe::reconnect`] sets how long this goes on.
///
/// So it is when the client's token has expired and it has where to get another
/// ([`ClientBuilder::login`](crate::ClientBuilder::login),
/// [`ClientBuilder::token_provider`](crate::ClientBuilder::token_provider)).
///
/// Anything else ends it with the error and then `None`: `LIVE_QUERY_KILLED`, `TABLE_NOT_FOUND`, a right or a
/// credential that was taken away (`CREDENTIAL_REVOKED`, `USER_DISABLED`). To go on later, also in another process, keep [`Subscription::token`] and
/// give it to [`Subscribe::resume_token`].
///
/// # Reading slowly
///
/// Nothing is read ahead of the caller but what the connection's flow control lets through, up to 4 MiB; then the
/// server's bounded queue fills, and [`Subscribe::slow_consumer`] says what follows. Since several unread streams can
/// take the connection's whole window of 16 MiB, whoever does not want the events any more should drop the
/// subscription, not ignore it. Dropping it ends the live query on the server.
pub struct Subscription {
    client: Client,
    request: SubscribeRequest,
    reconnect: RetryPolicy,
    report_reconnects: bool,
    state: State,
    decoder: Decoder,
    /// Events read but not handed out.
    pending: VecDeque<SubscriptionEvent>,
    live_id: String,
    /// Resumes behind the last event that was handed out.
    token: Option<String>,
    /// First rows were handed out, and they are not complete.
    rows_open: bool,
    /// Attempts in a row to resume, since it last worked.
    attempts: u32,
}

enum State {
    Reading(Box<Streaming<SubscribeResponse>>),
    Waiting(Pin<Box<Sleep>>),
    Connecting(BoxFuture<'static, Result<Accepted>>),
    Ended,
}

impl Subscription {
    pub(super) async fn open(subscribe: Subscribe) -> Result<Subscription> {
        let Subscribe { client, query, namespace, reconnect, report_reconnects } = subscribe;
        let token = query.resume_token.clone();
        let request = SubscribeRequest { queries: vec![query.into_proto()], namespace };
        let (first, messages) = call::accept(&client, client.retry_policy(), request.clone()).await?;
        let mut subscription = Subscription {
            client,
            request,
            reconnect,
            report_reconnects,
            state: State::Reading(Box::new(messages)),
            decoder: Decoder::default(),
            pending: VecDeque::new(),
            live_id: String::new(),
            token,
            rows_open: false,
            attempts: 0,
        };
        match subscription.receive(first) {
            Some(error) => Err(error),
            None => Ok(subscription),
        }
    }

    /// Resumes behind the last event that was handed out; of a subscription that was resumed itself and has had no
    /// event yet, the token that it was given. None where nothing can be resumed: before
    /// [`SubscriptionEvent::Ready`], and after [`SubscriptionEvent::Reset`] until then. It is still there after the
    /// end.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The live query's id, which is another after each [`SubscriptionEvent::Started`].
    pub fn live_id(&self) -> &str {
        &self.live_id
    }

    /// Ends it, here and on the server; no further event comes. Dropping it does the same.
    pub fn close(&mut self) {
        self.state = State::Ended;
        self.pending.clear();
    }

    /// Takes a message in. Answers the error that ends the subscription, if one does.
    fn receive(&mut self, response: SubscribeResponse) -> Option<Error> {
        if response.query_index != 0 {
            return self.end(Error::protocol("an event of a query that was not asked for"));
        }
        let starts = matches!(response.event, Some(Event::Started(_)));
        let pending = &mut self.pending;
        if let Err(error) = self.decoder.read(response.event, |event| pending.push_back(event)) {
            return self.end(error);
        }
        // Rows of the call before this one were handed out, and this one sends all of them again.
        if starts && self.rows_open {
            let message = "The connection broke before the first rows were complete. They begin anew.".to_owned();
            self.pending.push_back(SubscriptionEvent::Reset { reason: INTERRUPTED.to_owned(), message });
        }
        match self.pending.pop_back_if(|event| matches!(event, SubscriptionEvent::Ended { .. })) {
            Some(SubscriptionEvent::Ended { error }) => self.interrupted(error),
            _ => None,
        }
    }

    /// The call is over. Answers the error if it is not to be resumed.
    fn interrupted(&mut self, error: Error) -> Option<Error> {
        // Where the server has just been given another token, one more does not help.
        let was_reading = matches!(self.state, State::Reading(_));
        let expired = was_reading && self.client.renews_tokens() && error.asks_for_another_token();
        if !(expired || can_resume(&error)) || self.attempts.saturating_add(1) >= self.reconnect.max_attempts {
            return self.end(error);
        }
        self.attempts += 1;
        let (attempt, delay) = (self.attempts, self.reconnect.delay(self.attempts));
        self.state = State::Waiting(Box::pin(tokio::time::sleep(delay)));
        if self.report_reconnects {
            self.pending.push_back(SubscriptionEvent::Disconnected { error, attempt, delay });
        }
        None
    }

    fn end(&mut self, error: Error) -> Option<Error> {
        self.state = State::Ended;
        self.pending.clear();
        Some(error)
    }

    /// Keeps in mind what the application is given.
    fn note(&mut self, event: &SubscriptionEvent) {
        match event {
            SubscriptionEvent::Started { live_id, .. } => self.live_id.clone_from(live_id),
            SubscriptionEvent::Reset { .. } => self.rows_open = false,
            SubscriptionEvent::Rows(_) => self.rows_open = true,
            SubscriptionEvent::Ready { .. } => self.rows_open = false,
            _ => {}
        }
        match call::token_after(event) {
            TokenAfter::New(token) => {
                self.attempts = 0;
                match &mut self.token {
                    Some(kept) => token.clone_into(kept),
                    None => self.token = Some(token.to_owned()),
                }
            }
            TokenAfter::Void => self.token = None,
            TokenAfter::Same => {}
        }
    }

    fn connect(&mut self) -> BoxFuture<'static, Result<Accepted>> {
        for query in &mut self.request.queries {
            query.resume_token = self.token.clone().unwrap_or_default();
        }
        call::accept(&self.client, &RetryPolicy::NONE, self.request.clone()).boxed()
    }
}

/// Whether trying again can help. The last two can be true for a moment: the server still counts the broken
/// subscription, or all its clients come back at once.
fn can_resume(error: &Error) -> bool {
    const RESUMABLE: [&str; 5] =
        ["SHUTTING_DOWN", "SLOW_CONSUMER", "SCHEMA_CHANGED", "TOO_MANY_LIVE_QUERIES", "TOO_MANY_REQUESTS"];
    error.is_transient()
        || matches!(error, Error::Timeout { .. } | Error::Credential { .. })
        || error.reason().is_some_and(|reason| RESUMABLE.contains(&reason))
}

impl Stream for Subscription {
    type Item = Result<SubscriptionEvent>;

    /// After an error the stream ends.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // What was read is handed out before anything else is looked at, so that a break is always behind it.
            if let Some(event) = this.pending.pop_front() {
                this.note(&event);
                return Poll::Ready(Some(Ok(event)));
            }
            let failure = match &mut this.state {
                State::Ended => return Poll::Ready(None),
                State::Waiting(pause) => {
                    ready!(pause.as_mut().poll(context));
                    this.state = State::Connecting(this.connect());
                    None
                }
                State::Connecting(call) => match ready!(call.poll_unpin(context)) {
                    Ok((first, messages)) => {
                        this.state = State::Reading(Box::new(messages));
                        if this.report_reconnects {
                            this.pending.push_back(SubscriptionEvent::Reconnected);
                        }
                        this.receive(first)
                    }
                    Err(error) => this.interrupted(error),
                },
                State::Reading(messages) => match ready!(messages.poll_next_unpin(context)) {
                    Some(Ok(response)) => this.receive(response),
                    Some(Err(status)) => {
                        let error = Error::from_status(status, this.client.endpoint(), None);
                        this.interrupted(error)
                    }
                    None => {
                        let error = call::broken_off(this.client.endpoint());
                        this.interrupted(error)
                    }
                },
            };
            if let Some(error) = failure {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("live_id", &self.live_id)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
