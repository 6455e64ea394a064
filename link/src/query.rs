//! SQL with options.

use std::time::Duration;

use kalamdb_proto::v1::{ExecuteRequest, ExecuteStreamRequest, query_service_client::QueryServiceClient};

use crate::{
    client::Client,
    convert,
    error::{Error, Result},
    result::StatementResult,
    retry::Safety,
    row::Rows,
    sql,
    stream::{Batch, ResultStream},
    value::{ConversionError, IntoParams},
};

/// One or more statements on their way to the server. Made by [`Client::query`]; nothing runs before
/// [`Query::execute`], [`Query::execute_batch`] or [`Query::stream`].
///
/// ```no_run
/// use std::time::Duration;
///
/// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
/// let written = client.execute("INSERT INTO chat.messages (content) VALUES ('hi')", ()).await?;
/// let count = client
///     .query("SELECT count(*) FROM chat.messages")
///     .min_commit_seq(written.commit_seq())
///     .timeout(Duration::from_secs(2))
///     .execute()
///     .await?
///     .value::<i64>(0)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing runs before `execute`, `execute_batch` or `stream`"]
pub struct Query<'c> {
    client: &'c Client,
    request: ExecuteRequest,
    timeout: Option<Duration>,
    idempotent: bool,
}

impl<'c> Query<'c> {
    pub(crate) fn new(client: &'c Client, sql: String) -> Self {
        let request = ExecuteRequest { sql, namespace: client.namespace().to_owned(), ..Default::default() };
        Query { client, request, timeout: client.default_timeout(), idempotent: false }
    }

    /// Values of `$1`, `$2`, …, shared by all statements.
    pub fn params(mut self, params: impl IntoParams) -> Self {
        self.request.parameters = params.into_params().into_iter().map(convert::to_proto).collect();
        self
    }

    /// Namespace of unqualified table names, instead of the client's.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.request.namespace = namespace.into();
        self
    }

    /// The longest time the statements may take together, on the server's clock; it stops their work. The client
    /// itself gives up a second later, so that the server's own error arrives when the connection is alive.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The least commit sequence the statements must see, as an earlier write answered, through any connection.
    pub fn min_commit_seq(mut self, commit_seq: u64) -> Self {
        self.request.min_commit_seq = commit_seq;
        self
    }

    /// Declares that running the statements twice does what running them once does, so that they may be repeated
    /// when it is not known whether they ran. Statements that only read need no declaration.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// Those of the server; [`ConversionError::NotOneStatement`] when the text has none or several. Of several, all
    /// took effect.
    pub async fn execute(self) -> Result<StatementResult> {
        one(self.run().await?)
    }

    /// Runs statements separated by `;` in order, each atomic on its own.
    ///
    /// # Errors
    /// The first failure: [`Error::statement_index`] says which statement it was. Those before it took effect, those
    /// after it were not run. Use [`Query::stream`] to have the results before a failure.
    pub async fn execute_batch(self) -> Result<Vec<StatementResult>> {
        self.run().await
    }

    /// Runs one statement, with its rows as Arrow record batches.
    ///
    /// # Errors
    /// As [`Query::execute`].
    #[cfg(feature = "arrow")]
    pub async fn execute_arrow(self) -> Result<StatementResult<crate::ArrowRows>> {
        one(self.run().await?)
    }

    /// Runs statements and delivers their results while they are computed, without a bound on their size.
    ///
    /// # Errors
    /// When the call cannot be made. Failures of statements arrive in the stream, after the results before them.
    pub async fn stream(self) -> Result<ResultStream<Rows>> {
        self.open().await
    }

    /// As [`Query::stream`], with rows as Arrow record batches.
    ///
    /// # Errors
    /// As [`Query::stream`].
    #[cfg(feature = "arrow")]
    pub async fn stream_arrow(self) -> Result<ResultStream<crate::ArrowRows>> {
        self.open().await
    }

    async fn run<B: Batch>(mut self) -> Result<Vec<StatementResult<B>>> {
        let (client, timeout, safety) = (self.client, self.timeout, self.safety());
        self.request.set_format(B::FORMAT);
        self.request.timeout = timeout.map(Into::into);
        let response = client
            .call(safety, timeout, self.request, |channel, limits, request| async move {
                limits.apply(QueryServiceClient::new(channel)).execute(request).await
            })
            .await?;
        response.results.into_iter().map(convert::statement_result).collect()
    }

    async fn open<B: Batch>(self) -> Result<ResultStream<B>> {
        let (client, timeout, safety) = (self.client, self.timeout, self.safety());
        let ExecuteRequest { sql, parameters, namespace, min_commit_seq, .. } = self.request;
        let timeout_field = timeout.map(Into::into);
        let format = B::FORMAT.into();
        let request =
            ExecuteStreamRequest { sql, parameters, namespace, timeout: timeout_field, format, min_commit_seq };
        let stream = client
            .call(safety, timeout, request, |channel, limits, request| async move {
                limits.apply(QueryServiceClient::new(channel)).execute_stream(request).await
            })
            .await?;
        Ok(ResultStream::new(stream, client.endpoint_shared()))
    }

    fn safety(&self) -> Safety {
        if self.idempotent || sql::is_read_only(&self.request.sql) { Safety::Repeatable } else { Safety::Once }
    }
}

fn one<R>(mut results: Vec<StatementResult<R>>) -> Result<StatementResult<R>> {
    match (results.pop(), results.len()) {
        (Some(result), 0) => Ok(result),
        (last, before) => {
            let found = before + usize::from(last.is_some());
            Err(Error::Conversion(ConversionError::NotOneStatement { found }))
        }
    }
}
