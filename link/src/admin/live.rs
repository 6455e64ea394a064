//! Live queries that are under way.

use kalamdb_proto::v1;

use super::{Admin, PAGE_SIZE};
use crate::{convert, error::Result};

/// A live query that is under way, as in `system.live_queries`.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveQueryInfo {
    /// Its id.
    pub live_id: String,
    /// The user whose rows it sees.
    pub user_id: String,
    /// Namespace of its table.
    pub namespace: String,
    /// Its table.
    pub table: String,
    /// Its text, in a normal form and without the values of parameters.
    pub query: String,
    /// How its subscriber wants to be served, as a JSON object.
    pub options: String,
    /// The node that serves it.
    pub node_id: u32,
    /// When it was made, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// Changes delivered.
    pub changes: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes a second, over the last seconds.
    pub bytes_per_second: f64,
    /// The last commit sequence that it has been told of; 0 before its rows were sent.
    pub position: u64,
    /// Commits that wait to be sent.
    pub queued_commits: u64,
    /// About how many bytes they have.
    pub queued_bytes: u64,
}

impl Admin {
    /// The live queries that are under way: of role user the caller's own, of dba and system all.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn live_queries(&self) -> Result<Vec<LiveQueryInfo>> {
        self.pages(async |page_token| {
            let request = v1::ListLiveQueriesRequest { page_size: PAGE_SIZE, page_token };
            let page = self.read(request, |mut client, request| async move { client.list_live_queries(request).await });
            let page = page.await?;
            Ok((page.live_queries.into_iter().map(live_query).collect(), page.next_page_token))
        })
        .await
    }

    /// Ends a live query: its subscriber gets `LIVE_QUERY_KILLED`, and a [`Subscription`](crate::Subscription) does not
    /// resume.
    ///
    /// # Errors
    /// Those of the server, such as `LIVE_QUERY_NOT_FOUND`.
    pub async fn kill_live_query(&self, live_id: impl Into<String>) -> Result<()> {
        let request = v1::KillLiveQueryRequest { live_id: live_id.into() };
        let answer = self.write(request, |mut client, request| async move { client.kill_live_query(request).await });
        answer.await.map(|_| ())
    }
}

fn live_query(info: v1::LiveQueryInfo) -> LiveQueryInfo {
    LiveQueryInfo {
        created_at_us: convert::micros(info.created_at.map(|time| (time.seconds, time.nanos))),
        live_id: info.live_id,
        user_id: info.user_id,
        namespace: info.namespace,
        table: info.table,
        query: info.query,
        options: info.options,
        node_id: info.node_id,
        changes: info.changes,
        bytes_sent: info.bytes_sent,
        bytes_per_second: info.bytes_per_second,
        position: info.position,
        queued_commits: info.queued_commits,
        queued_bytes: info.queued_bytes,
    }
}
