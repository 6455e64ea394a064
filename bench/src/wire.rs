//! SQL over gRPC in the hot loop.
//!
//! It uses the generated stub directly on a plain channel, so that what is measured is the server and not a client
//! library's comfort, and the very same code drives the bare echo. Preparing and checking go through `kalam-link`.

use kalamdb_proto::v1::{
    ExecuteRequest, ExecuteResponse, Value, query_service_client::QueryServiceClient, statement_result, value::Kind,
};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    driver::{Client, Pool, Reply},
    error::{BenchError, Result, status_text},
};

/// Makes a client's next request.
pub(crate) type Requests = Box<dyn FnMut() -> ExecuteRequest + Send>;

/// What a right answer has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect {
    /// Exactly this many rows.
    Rows(u64),
    /// Exactly this many rows inserted.
    Affected(u64),
}

impl Expect {
    pub(crate) fn check(self, response: &ExecuteResponse) -> Result<Reply, String> {
        let result = response.results.first().ok_or("an answer without a result")?;
        let reply = Reply { server_us: Some(result.took_ms * 1_000.0) };
        match (self, &result.result) {
            (Self::Rows(expected), Some(statement_result::Result::Rows(rows))) => {
                let found = rows.rows.len() as u64;
                if found == expected { Ok(reply) } else { Err(format!("{found} rows where {expected} are stored")) }
            }
            (Self::Affected(expected), Some(statement_result::Result::Affected(affected))) => {
                let found = affected.row_count;
                if found == expected { Ok(reply) } else { Err(format!("{found} rows written instead of {expected}")) }
            }
            _ => Err("an answer of the wrong kind".to_owned()),
        }
    }
}

/// One closed-loop client that runs SQL.
pub(crate) struct SqlClient {
    query: QueryServiceClient<Channel>,
    user: MetadataValue<Ascii>,
    requests: Requests,
    expect: Expect,
}

impl Client for SqlClient {
    async fn call(&mut self) -> Result<Reply, String> {
        let request = as_user((self.requests)(), &self.user);
        let response = self.query.execute(request).await.map_err(|status| status_text(&status))?;
        self.expect.check(response.get_ref())
    }
}

/// The calls of a workload's clients, whoever answers them.
pub(crate) struct Traffic<'a> {
    pub(crate) clients: usize,
    /// HTTP/2 connections that the clients share evenly.
    pub(crate) connections: usize,
    /// The user that a client acts as.
    pub(crate) user: &'a (dyn Fn(usize) -> String + Sync),
    pub(crate) requests: &'a (dyn Fn(usize) -> Requests + Sync),
    pub(crate) expect: Expect,
}

impl Traffic<'_> {
    /// Connects the clients to a server.
    pub(crate) async fn connect(&self, url: &str) -> Result<Pool<SqlClient>> {
        let channels = self.channels(url).await?;
        let client = |(index, channel): (usize, &Channel)| {
            Ok(SqlClient {
                query: QueryServiceClient::new(channel.clone()),
                user: user_metadata(&(self.user)(index))?,
                requests: (self.requests)(index),
                expect: self.expect,
            })
        };
        let clients = channels.iter().cycle().take(self.clients).enumerate().map(client).collect::<Result<_>>()?;
        Ok(Pool::new(clients))
    }

    /// Opens the connections that the clients share.
    pub(crate) async fn channels(&self, url: &str) -> Result<Vec<Channel>> {
        let mut channels = Vec::new();
        for _ in 0..self.connections.min(self.clients).max(1) {
            channels.push(connect(url).await?);
        }
        Ok(channels)
    }

    /// Makes one call and answers with the whole response, checked.
    pub(crate) async fn sample(&self, url: &str) -> Result<ExecuteResponse> {
        let request = as_user((self.requests)(0)(), &user_metadata(&(self.user)(0))?);
        let action = BenchError::call("the first call of a workload");
        let response = QueryServiceClient::new(connect(url).await?).execute(request).await.map_err(action)?;
        self.expect.check(response.get_ref()).map_err(BenchError::WrongAnswer)?;
        Ok(response.into_inner())
    }
}

/// Opens one HTTP/2 connection.
pub(crate) async fn connect(url: &str) -> Result<Channel> {
    let refused = |error: tonic::transport::Error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        BenchError::Process(format!("cannot connect to {url}: {error}{cause}"))
    };
    Endpoint::from_shared(url.to_owned()).map_err(refused)?.tcp_nodelay(true).connect().await.map_err(refused)
}

/// A request of one statement with parameters.
pub(crate) fn statement(sql: impl Into<String>, parameters: Vec<Value>) -> ExecuteRequest {
    ExecuteRequest { sql: sql.into(), parameters, ..ExecuteRequest::default() }
}

/// Adds the user that the call acts for.
pub(crate) fn as_user<T>(message: T, user: &MetadataValue<Ascii>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-user-id", user.clone());
    request
}

/// A user id as metadata; any id but one with control characters.
pub(crate) fn user_metadata(user: &str) -> Result<MetadataValue<Ascii>> {
    MetadataValue::try_from(user.as_bytes())
        .map_err(|_| BenchError::Input(format!("the user id {user:?} cannot be sent as metadata")))
}

pub(crate) fn int(value: i64) -> Value {
    Value { kind: Some(Kind::IntValue(value)) }
}

pub(crate) fn text(value: impl Into<String>) -> Value {
    Value { kind: Some(Kind::TextValue(value.into())) }
}

/// The parameter groups `($1, $2), ($3, $4), …` of an INSERT.
pub(crate) fn values_clause(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let parameters: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", parameters.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_row_by_row() {
        assert_eq!(values_clause(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }
}
