//! Workloads of who calls and what they may see. Each starts a server of its own, with `--dev`, so that the same server
//! answers calls with a credential and, as what they are compared with, calls without.

mod caller;
mod point_read;
mod revocation;
mod row_rules;
mod users;

use kalam_link::Client;

use super::Context;
use crate::{
    data,
    error::{BenchError, Result},
    servers::{Durability, Server},
};

/// One of these workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessWorkload {
    PointRead,
    RowRules,
    Users,
    Revocation,
}

/// What the tokens of a foreign issuer are signed with.
const JWT_SECRET: &str = "a secret of the benchmark, of 32 bytes or more";
/// Limits of a user and of an address are not what is measured.
const SETTINGS: [(&str, &str); 3] = [
    ("limits.user_calls_per_s", "0"),
    ("limits.address_calls_per_s", "0"),
    ("auth.max_failures_per_address", "1000000"),
];

/// Runs one of the workloads.
pub(super) async fn run(context: &mut Context, workload: AccessWorkload) -> Result<()> {
    match workload {
        AccessWorkload::PointRead => point_read::auth_point_read(context).await,
        AccessWorkload::RowRules => row_rules::row_rules(context).await,
        AccessWorkload::Users => users::users(context).await,
        AccessWorkload::Revocation => revocation::revocation(context).await,
    }
}

/// A durable server with the USER table of messages, which knows tokens of a foreign issuer.
async fn start_server(context: &Context) -> Result<Server> {
    let secret = [("auth.jwt_secret", JWT_SECRET)];
    let settings: Vec<_> = SETTINGS.iter().chain(&secret).copied().collect();
    let server = Server::start_with(Durability::Sync, &context.folder(), &settings).await?;
    let tables = server.client().execute_batch(data::create_messages(&context.args.namespace), ());
    tables.await.map_err(BenchError::client("making the tables"))?;
    Ok(server)
}

/// Runs a statement of the preparation.
async fn prepare(client: &Client, sql: String) -> Result<()> {
    let action = format!("running {sql}");
    client.execute(sql, ()).await.map(|_| ()).map_err(BenchError::client(action))
}

/// A new API key of a user.
async fn api_key(client: &Client, user: &str) -> Result<String> {
    let failed = || BenchError::client(format!("making an API key of {user}"));
    let result = client.execute(format!("CREATE API KEY FOR USER {user}"), ()).await.map_err(failed())?;
    let key = result.one().and_then(|row| row.get::<String>("key"));
    key.map_err(|error| failed()(error.into()))
}
