//! Exports to files where the server writes, with progress.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, StreamExt};
use kalamdb_proto::v1::{self, admin_service_client::AdminServiceClient, export_response::Event};
use tonic::Streaming;

use super::Admin;
use crate::{
    client::Client,
    convert,
    error::{Error, Result},
    retry::Safety,
    value::IntoParams,
};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExportFormat {
    /// Apache Parquet.
    Parquet,
    /// CSV with a header.
    Csv,
    /// JSON, one object a line.
    Json,
}

/// An export, on its way to the server. Made by [`Admin::export`]; nothing happens before [`Export::wait`] or
/// [`Export::stream`].
///
/// The file is made where the *server* can write; what it may read and where it may write is the caller's. The time-out of
/// the client's settings does not apply, that of the server does.
///
/// ```no_run
/// use futures::StreamExt;
/// use kalam_link::ExportEvent;
///
/// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
/// let done = client.admin().export("chat.messages", "messages.parquet").wait().await?;
/// println!("{} rows, {} bytes", done.rows, done.bytes);
///
/// let newest = "(SELECT * FROM chat.messages WHERE id > $1)";
/// let mut events = client.admin().export(newest, "newest.csv").params((7,)).stream().await?;
/// while let Some(event) = events.next().await {
///     if let ExportEvent::Progress { rows, .. } = event? {
///         println!("{rows} rows so far");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before `wait` or `stream`"]
pub struct Export {
    client: Client,
    request: v1::ExportRequest,
    timeout: Option<Duration>,
}

/// How far an export is, as it happens. Dropping it stops the export, and then nothing is left of it.
pub struct ExportStream {
    inner: Streaming<v1::ExportResponse>,
    endpoint: Arc<str>,
    done: bool,
}

/// One step of an [`ExportStream`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ExportEvent {
    /// The job exists; it may wait for other exports.
    Started {
        /// The job, as in `system.jobs`.
        job_id: String,
    },
    /// Some of the file is written.
    Progress {
        /// Rows written so far.
        rows: u64,
        /// Bytes written so far.
        bytes: u64,
    },
    /// The file is there, whole and durable.
    Finished(Exported),
}

/// A file that was exported.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The job that did it.
    pub job_id: String,
    /// Where the file is: a relative path as it was asked for, a uri always written in the same way.
    pub uri: String,
    /// What it is; none for a format that this version of the client does not know.
    pub format: Option<ExportFormat>,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Time that it took, in milliseconds.
    pub took_ms: f64,
}

impl Admin {
    /// Writes the rows of a table, or of a query in parentheses, to a file where the server can write.
    pub fn export(&self, from: impl Into<String>, uri: impl Into<String>) -> Export {
        let request = v1::ExportRequest {
            from: from.into(),
            uri: uri.into(),
            namespace: self.client.namespace().to_owned(),
            ..Default::default()
        };
        Export { client: self.client.clone(), request, timeout: None }
    }
}

impl Export {
    /// What the file is. Default: what the end of its name says.
    pub fn format(mut self, format: ExportFormat) -> Self {
        self.request.format = match format {
            ExportFormat::Parquet => v1::ExportFormat::Parquet,
            ExportFormat::Csv => v1::ExportFormat::Csv,
            ExportFormat::Json => v1::ExportFormat::Json,
        }
        .into();
        self
    }

    /// Values of `$1`, `$2`, … of the query.
    pub fn params(mut self, params: impl IntoParams) -> Self {
        self.request.parameters = params.into_params().into_iter().map(convert::to_proto).collect();
        self
    }

    /// The longest time that it may take. Default: what the server allows.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self.request.timeout = Some(timeout.into());
        self
    }

    /// Exports, and answers when the file is there.
    ///
    /// # Errors
    /// Those of the server, such as `PATH_NOT_ALLOWED` and `FILE_EXISTS`. Then nothing is left of the file.
    pub async fn wait(self) -> Result<Exported> {
        let mut events = self.stream().await?;
        while let Some(event) = events.next().await {
            if let ExportEvent::Finished(exported) = event? {
                return Ok(exported);
            }
        }
        Err(Error::protocol("an export ended without a result"))
    }

    /// Exports, and delivers how far it is: [`ExportEvent::Started`], progress, [`ExportEvent::Finished`].
    ///
    /// # Errors
    /// Those of the server; later ones arrive in the stream.
    pub async fn stream(self) -> Result<ExportStream> {
        // Not again by itself: the first attempt may have made the file.
        let inner = self
            .client
            .call(Safety::Once, self.timeout, self.request, |channel, limits, request| async move {
                limits.apply(AdminServiceClient::new(channel)).export(request).await
            })
            .await?;
        Ok(ExportStream { inner, endpoint: self.client.endpoint_shared(), done: false })
    }
}

impl Stream for ExportStream {
    type Item = Result<ExportEvent>;

    /// After an error the stream ends.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let event = match ready!(this.inner.poll_next_unpin(context)) {
            None => {
                this.done = true;
                return Poll::Ready(None);
            }
            Some(Ok(answer)) => {
                answer.event.map(event).ok_or_else(|| Error::protocol("an event of an export is empty"))
            }
            Some(Err(status)) => Err(Error::from_status(status, &this.endpoint, None)),
        };
        this.done = event.is_err();
        Poll::Ready(Some(event))
    }
}

fn event(event: Event) -> ExportEvent {
    match event {
        Event::Started(started) => ExportEvent::Started { job_id: started.job_id },
        Event::Progress(progress) => ExportEvent::Progress { rows: progress.rows, bytes: progress.bytes },
        Event::Finished(finished) => {
            let format = match finished.format() {
                v1::ExportFormat::Parquet => Some(ExportFormat::Parquet),
                v1::ExportFormat::Csv => Some(ExportFormat::Csv),
                v1::ExportFormat::Json => Some(ExportFormat::Json),
                v1::ExportFormat::Unspecified => None,
            };
            let v1::ExportFinished { job_id, uri, rows, bytes, took_ms, .. } = finished;
            ExportEvent::Finished(Exported { job_id, uri, format, rows, bytes, took_ms })
        }
    }
}
