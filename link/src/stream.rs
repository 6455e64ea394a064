//! Results delivered while they are computed.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt};
use kalamdb_proto::v1::{ExecuteStreamResponse, execute_stream_response::Event};
use tonic::Streaming;

use crate::{
    column::Columns,
    convert,
    error::{Error, Result},
    row::{Row, Rows},
};

/// The results of [`Client::execute_stream`](crate::Client::execute_stream): for each statement in order
/// [`StreamEvent::Started`], any number of [`StreamEvent::Rows`], [`StreamEvent::Finished`].
///
/// Back-pressure: the server computes no further ahead than the flow-control window of the connection, so a result
/// of any size needs little memory. Dropping the stream cancels the statement on the server.
///
/// ```no_run
/// use futures::StreamExt;
/// use kalam_link::StreamEvent;
///
/// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
/// let mut stream = client.execute_stream("SELECT * FROM chat.messages", ()).await?;
/// while let Some(event) = stream.next().await {
///     if let StreamEvent::Rows(rows) = event? {
///         println!("{} more rows", rows.len());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct ResultStream<B: Batch = Rows> {
    inner: Streaming<ExecuteStreamResponse>,
    endpoint: Arc<str>,
    columns: Arc<Columns>,
    done: bool,
    batch: std::marker::PhantomData<fn() -> B>,
}

/// One step of a [`ResultStream`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StreamEvent<B = Rows> {
    /// A statement began to answer.
    Started {
        /// Index of the statement in the batch, from 0.
        statement_index: usize,
        /// Columns of its rows; empty for a statement that returns none.
        columns: Arc<Columns>,
    },
    /// Some rows of the current statement.
    Rows(B),
    /// The current statement has answered completely.
    Finished(StatementEnd),
}

/// What is known when a statement has answered completely.
#[derive(Clone, Debug, PartialEq)]
pub struct StatementEnd {
    /// Rows returned, or inserted, updated or deleted.
    pub row_count: u64,
    /// Short text for a person; none for a statement that returns rows.
    pub message: Option<String>,
    /// Time the server took, in milliseconds.
    pub took_ms: f64,
    /// Of a write, the commit sequence at which it is visible; 0 otherwise.
    pub commit_seq: u64,
}

/// How the rows of a result are held: [`Rows`], or [`ArrowRows`](crate::ArrowRows).
pub trait Batch: sealed::Decode {}

pub(crate) mod sealed {
    use std::sync::Arc;

    use kalamdb_proto::v1::{ResultFormat, RowBatch};

    use crate::{column::Columns, error::Result};

    /// What a representation of rows must be able to do.
    pub trait Decode: Default {
        /// The format to ask the server for.
        const FORMAT: ResultFormat;

        /// Reads rows of the given columns.
        fn decode(columns: Arc<Columns>, batch: RowBatch) -> Result<Self>;
    }

    impl Decode for crate::Rows {
        const FORMAT: ResultFormat = ResultFormat::Rows;

        fn decode(columns: Arc<Columns>, batch: RowBatch) -> Result<Self> {
            crate::convert::rows(columns, batch.rows)
        }
    }
}

impl Batch for Rows {}

impl<B: Batch> ResultStream<B> {
    pub(crate) fn new(inner: Streaming<ExecuteStreamResponse>, endpoint: Arc<str>) -> Self {
        ResultStream { inner, endpoint, columns: Arc::default(), done: false, batch: std::marker::PhantomData }
    }

    fn event(&mut self, event: Option<Event>) -> Result<StreamEvent<B>> {
        Ok(match event {
            Some(Event::Started(started)) => {
                self.columns = convert::columns(started.columns);
                StreamEvent::Started {
                    statement_index: started.statement_index as usize,
                    columns: Arc::clone(&self.columns),
                }
            }
            Some(Event::Rows(batch)) => StreamEvent::Rows(B::decode(Arc::clone(&self.columns), batch)?),
            Some(Event::Finished(finished)) => {
                let returns_rows = !self.columns.is_empty();
                StreamEvent::Finished(convert::statement_end(finished, returns_rows))
            }
            None => return Err(Error::protocol("an event that this client does not know")),
        })
    }
}

impl ResultStream<Rows> {
    /// Only the rows, one by one, of all statements of the batch.
    pub fn rows(self) -> RowStream {
        RowStream { events: self, buffered: VecDeque::new() }
    }
}

impl<B: Batch> Stream for ResultStream<B> {
    type Item = Result<StreamEvent<B>>;

    /// After an error the stream ends.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let outcome = match ready!(this.inner.poll_next_unpin(context)) {
            None => None,
            Some(Ok(response)) => Some(this.event(response.event)),
            Some(Err(status)) => Some(Err(Error::from_status(status, &this.endpoint, None))),
        };
        this.done = !matches!(outcome, Some(Ok(_)));
        Poll::Ready(outcome)
    }
}

/// The rows of a [`ResultStream`], one by one.
pub struct RowStream {
    events: ResultStream<Rows>,
    buffered: VecDeque<Row>,
}

impl Stream for RowStream {
    type Item = Result<Row>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(row) = this.buffered.pop_front() {
                return Poll::Ready(Some(Ok(row)));
            }
            match ready!(this.events.poll_next_unpin(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(StreamEvent::Rows(rows))) => this.buffered.extend(rows),
                Some(Ok(_)) => {}
            }
        }
    }
}
