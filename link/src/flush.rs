//! Flushes: moving rows from the hot tier to Parquet files, with progress.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, StreamExt};
use kalamdb_proto::v1::{
    self, flush_all_tables_response::Event as AllEvent, flush_service_client::FlushServiceClient,
    flush_table_response::Event as TableEvent,
};
use tonic::Status;

use crate::{
    admin::{FailedPartition, JobStatus, failed_partition, job_status},
    client::Client,
    error::{Error, Result},
    retry::Safety,
};

/// A flush of one table, on its way to the server. Made by [`Client::flush_table`]; nothing happens before
/// [`FlushTable::wait`], [`FlushTable::stream`] or [`FlushTable::start`].
///
/// The flush is a job of the server: it goes on when the stream is dropped or the time is over. The time-out of the
/// client's settings does not apply to it.
///
/// ```no_run
/// use futures::StreamExt;
/// use kalam_link::FlushEvent;
///
/// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
/// let done = client.flush_table("chat", "messages").wait().await?;
/// println!("{} rows are in {} files now", done.rows, done.segments);
///
/// let mut events = client.flush_table("chat", "messages").force(true).stream().await?;
/// while let Some(event) = events.next().await {
///     if let FlushEvent::PartitionFlushed(partition) = event? {
///         println!("{}: {} rows", partition.user_id.as_deref().unwrap_or("shared"), partition.rows);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before `wait`, `stream` or `start`"]
pub struct FlushTable<'c> {
    client: &'c Client,
    namespace: String,
    table: String,
    force: bool,
    timeout: Option<Duration>,
}

/// A flush of all tables, on its way to the server. Made by [`Client::flush_all`]; nothing happens before
/// [`FlushAll::wait`] or [`FlushAll::stream`].
///
/// ```no_run
/// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
/// let done = client.flush_all().wait().await?;
/// println!("{} tables, {} rows", done.tables, done.rows);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before `wait` or `stream`"]
pub struct FlushAll<'c> {
    client: &'c Client,
    namespace: String,
    force: bool,
    timeout: Option<Duration>,
}

/// What happens in a flush, as it happens. A reader that is more than a thousand events behind misses the oldest. After
/// an error the stream ends; the job on the server may go on.
pub struct FlushStream {
    inner: Pin<Box<dyn Stream<Item = Result<FlushEvent, Status>> + Send>>,
    endpoint: Arc<str>,
    done: bool,
}

/// One step of a [`FlushStream`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FlushEvent {
    /// The job of a table exists.
    Started(FlushStarted),
    /// The rows of one partition are in the cold tier, durably.
    PartitionFlushed(PartitionFlushed),
    /// One partition could not be flushed; its rows stay in the hot tier.
    PartitionFailed(PartitionFailed),
    /// The job of a table has ended.
    Finished(FlushFinished),
    /// Of [`FlushAll`]: all jobs have ended.
    AllFinished(AllTablesFlushed),
}

/// A flush of a table has its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushStarted {
    /// The job, as in `system.jobs`.
    pub job_id: String,
    /// The table's namespace.
    pub namespace: String,
    /// The table's name.
    pub table: String,
}

/// One partition was flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFlushed {
    /// The job that did it.
    pub job_id: String,
    /// The user whose partition it is; none for a SHARED table.
    pub user_id: Option<String>,
    /// Rows that left the hot tier.
    pub rows: u64,
    /// Size of the files written.
    pub bytes: u64,
    /// Files written.
    pub segments: u32,
    /// Name of the storage they are in.
    pub storage: String,
    /// The first of the files, relative to the root of the storage.
    pub path: String,
}

/// One partition could not be flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFailed {
    /// The job that tried.
    pub job_id: String,
    /// The user whose partition it is; none for a SHARED table.
    pub user_id: Option<String>,
    /// Why, and what to do about it.
    pub message: String,
}

/// A flush of a table has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct FlushFinished {
    /// The job that ended.
    pub job_id: String,
    /// The table's namespace.
    pub namespace: String,
    /// The table's name.
    pub table: String,
    /// How the job ended: [`JobStatus::Failed`] when a partition could not be flushed, [`JobStatus::Cancelled`] when
    /// the table was dropped meanwhile.
    pub status: JobStatus,
    /// Rows that left the hot tier.
    pub rows: u64,
    /// Size of the files written.
    pub bytes: u64,
    /// Files written.
    pub segments: u64,
    /// Partitions flushed.
    pub partitions: u64,
    /// Partitions left in the hot tier because they have too few rows to be worth a file.
    pub partitions_kept_hot: u64,
    /// Partitions that could not be flushed.
    pub partitions_failed: u64,
    /// The first 100 of them.
    pub failed_partitions: Vec<FailedPartition>,
    /// The job's result, for a person.
    pub message: String,
    /// Time from the beginning of the job to its end, in milliseconds.
    pub took_ms: f64,
}

/// All tables have been flushed, or tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllTablesFlushed {
    /// Tables whose job completed, those with nothing to flush included.
    pub tables: u32,
    /// Tables whose job failed.
    pub tables_failed: u32,
    /// Rows that left the hot tier.
    pub rows: u64,
    /// Size of the files written.
    pub bytes: u64,
    /// Files written.
    pub segments: u64,
}

impl<'c> FlushTable<'c> {
    pub(crate) fn new(client: &'c Client, namespace: String, table: String) -> Self {
        FlushTable { client, namespace, table, force: false, timeout: None }
    }

    /// Whether to flush partitions, too, that have too few rows to be worth a file.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// The longest time to wait. Default: as long as it takes. The job goes on after it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Flushes, and answers when the job has ended.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`. A job that failed is no error: see [`FlushFinished::status`].
    pub async fn wait(self) -> Result<FlushFinished> {
        let mut events = self.stream().await?;
        while let Some(event) = events.next().await {
            if let FlushEvent::Finished(finished) = event? {
                return Ok(finished);
            }
        }
        Err(Error::protocol("a flush ended without a summary"))
    }

    /// Flushes, and delivers what happens: [`FlushEvent::Started`], the partitions, [`FlushEvent::Finished`].
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`.
    pub async fn stream(self) -> Result<FlushStream> {
        self.open(true).await
    }

    /// Starts the job without waiting for its end. Answers its id.
    ///
    /// # Errors
    /// Those of the server, such as `TABLE_NOT_FOUND`.
    pub async fn start(self) -> Result<String> {
        let mut events = self.open(false).await?;
        match events.next().await {
            Some(Ok(FlushEvent::Started(started))) => Ok(started.job_id),
            Some(Err(error)) => Err(error),
            _ => Err(Error::protocol("a flush did not begin with its job")),
        }
    }

    async fn open(self, wait: bool) -> Result<FlushStream> {
        let FlushTable { client, namespace, table, force, timeout } = self;
        let request = v1::FlushTableRequest { namespace, table, force, wait: Some(wait) };
        // Flushing twice leaves what flushing once does.
        let events = client
            .call(Safety::Repeatable, timeout, request, |channel, limits, request| async move {
                limits.apply(FlushServiceClient::new(channel)).flush_table(request).await
            })
            .await?;
        Ok(FlushStream::new(client, events.map(|event| event.map(|event| event.event.map(of_table)))))
    }
}

impl<'c> FlushAll<'c> {
    pub(crate) fn new(client: &'c Client) -> Self {
        FlushAll { client, namespace: String::new(), force: false, timeout: None }
    }

    /// Only the tables of this namespace. Default: of every one.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Whether to flush partitions, too, that have too few rows to be worth a file.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// The longest time to wait. Default: as long as it takes. The jobs go on after it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Flushes, and answers when all jobs have ended.
    ///
    /// # Errors
    /// Those of the server, such as `PERMISSION_DENIED`. Jobs that failed are no error: see
    /// [`AllTablesFlushed::tables_failed`].
    pub async fn wait(self) -> Result<AllTablesFlushed> {
        let mut events = self.stream().await?;
        while let Some(event) = events.next().await {
            if let FlushEvent::AllFinished(finished) = event? {
                return Ok(finished);
            }
        }
        Err(Error::protocol("a flush ended without a summary"))
    }

    /// Flushes, and delivers what happens: for each table [`FlushEvent::Started`], its partitions and
    /// [`FlushEvent::Finished`], the tables in no order, and then [`FlushEvent::AllFinished`].
    ///
    /// # Errors
    /// Those of the server, such as `PERMISSION_DENIED`.
    pub async fn stream(self) -> Result<FlushStream> {
        let FlushAll { client, namespace, force, timeout } = self;
        let request = v1::FlushAllTablesRequest { namespace, force, wait: Some(true) };
        let events = client
            .call(Safety::Repeatable, timeout, request, |channel, limits, request| async move {
                limits.apply(FlushServiceClient::new(channel)).flush_all_tables(request).await
            })
            .await?;
        Ok(FlushStream::new(client, events.map(|event| event.map(|event| event.event.map(of_all)))))
    }
}

impl FlushStream {
    fn new(client: &Client, events: impl Stream<Item = Result<Option<FlushEvent>, Status>> + Send + 'static) -> Self {
        // Kinds of events that this client does not know are left out.
        let known = events.filter_map(async |event| event.transpose());
        FlushStream { inner: Box::pin(known), endpoint: client.endpoint_shared(), done: false }
    }
}

impl Stream for FlushStream {
    type Item = Result<FlushEvent>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let event = ready!(this.inner.poll_next_unpin(context));
        let outcome = event.map(|event| event.map_err(|status| Error::from_status(status, &this.endpoint, None)));
        this.done = !matches!(outcome, Some(Ok(_)));
        Poll::Ready(outcome)
    }
}

fn of_table(event: TableEvent) -> FlushEvent {
    match event {
        TableEvent::Started(event) => FlushEvent::Started(started(event)),
        TableEvent::PartitionFlushed(event) => FlushEvent::PartitionFlushed(partition_flushed(event)),
        TableEvent::PartitionFailed(event) => FlushEvent::PartitionFailed(partition_failed(event)),
        TableEvent::Finished(event) => FlushEvent::Finished(finished(event)),
    }
}

fn of_all(event: AllEvent) -> FlushEvent {
    match event {
        AllEvent::Started(event) => FlushEvent::Started(started(event)),
        AllEvent::PartitionFlushed(event) => FlushEvent::PartitionFlushed(partition_flushed(event)),
        AllEvent::PartitionFailed(event) => FlushEvent::PartitionFailed(partition_failed(event)),
        AllEvent::Finished(event) => FlushEvent::Finished(finished(event)),
        AllEvent::AllFinished(event) => FlushEvent::AllFinished(all_finished(event)),
    }
}

fn started(event: v1::FlushStarted) -> FlushStarted {
    let v1::FlushStarted { job_id, namespace, table } = event;
    FlushStarted { job_id, namespace, table }
}

fn partition_flushed(event: v1::PartitionFlushed) -> PartitionFlushed {
    let v1::PartitionFlushed { job_id, user_id, rows, bytes, segments, storage, path } = event;
    PartitionFlushed { job_id, user_id: filled(user_id), rows, bytes, segments, storage, path }
}

fn partition_failed(event: v1::PartitionFailed) -> PartitionFailed {
    let v1::PartitionFailed { job_id, user_id, message } = event;
    PartitionFailed { job_id, user_id: filled(user_id), message }
}

fn finished(event: v1::FlushFinished) -> FlushFinished {
    FlushFinished {
        status: job_status(event.status()),
        job_id: event.job_id,
        namespace: event.namespace,
        table: event.table,
        rows: event.rows,
        bytes: event.bytes,
        segments: event.segments,
        partitions: event.partitions,
        partitions_kept_hot: event.partitions_kept_hot,
        partitions_failed: event.partitions_failed,
        failed_partitions: event.failed_partitions.into_iter().map(failed_partition).collect(),
        message: event.message,
        took_ms: event.took_ms,
    }
}

fn all_finished(event: v1::AllTablesFlushed) -> AllTablesFlushed {
    let v1::AllTablesFlushed { tables, tables_failed, rows, bytes, segments } = event;
    AllTablesFlushed { tables, tables_failed, rows, bytes, segments }
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
