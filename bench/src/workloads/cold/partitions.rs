//! Aggregates over the flushed partitions of very many users: over one of them, and over all.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use kalam_link::Value;
use kalamdb_proto::v1::query_service_client::QueryServiceClient;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    ColdServer, USER_TABLE,
    scan::{LIMIT_FILES, answer, check, expected_of},
};
use crate::{
    data::{FILL_COLUMN_COUNT, FILL_COLUMNS, Message, ROLE_COUNT},
    driver::{Client, Pool, Reply},
    error::{BenchError, Result, status_text},
    limits::datafusion::{DataFusionClient, IN_FILES},
    progress::Progress,
    wire::{self, Expect, Requests, Traffic, statement},
    workloads::{
        Context, echo_limit, limit,
        scan::{aggregate, figures},
    },
};

const CLIENTS: [usize; 2] = [1, 16];
const DEFAULT_ROWS: u64 = 200_000;
const USER_ROWS: u64 = 20;
/// Users that rows are written for at the same time.
const FILL_CONCURRENCY: usize = 64;
/// Users whose partitions are read one at a time.
const READ_USERS: u64 = 100;
const OPERATOR: &str = "operator";

/// Count, sum and average by role over 20 rows of one user, and over those of all users.
pub(in crate::workloads) async fn partitions_scan(context: &mut Context) -> Result<()> {
    let users = (context.args.rows.unwrap_or(DEFAULT_ROWS) / USER_ROWS).max(1);
    let cold = ColdServer::start(context, &[]).await?;
    fill(&cold, users).await?;
    let files = cold.files_by_user(USER_TABLE).await?;
    if files.len() as u64 != users || files.values().any(|files| files.len() != 1) {
        return Err(BenchError::WrongAnswer(format!("{} users have segments, not {users} one each", files.len())));
    }
    one_user(context, &cold, users, &files).await?;
    all_users(context, &cold, users, files.into_values().flatten().collect()).await?;
    // Some file systems take as long for it as for the rest.
    eprintln!("partitions-scan: ending the server and removing its files");
    Ok(())
}

fn name(user: u64) -> String {
    format!("user-{user:06}")
}

fn indexes(user: u64) -> Range<u64> {
    user * USER_ROWS..(user + 1) * USER_ROWS
}

/// Writes every user's rows and flushes them.
async fn fill(cold: &ColdServer, users: u64) -> Result<()> {
    let rows = users * USER_ROWS;
    eprintln!("partitions-scan: filling and flushing {rows} rows of {users} users");
    cold.create_user_table().await?;
    let groups = wire::values_clause(USER_ROWS as usize, FILL_COLUMN_COUNT);
    let sql = format!("INSERT INTO {} ({FILL_COLUMNS}) VALUES {groups}", cold.qualified(USER_TABLE));
    let mut progress = Progress::new("partitions-scan: filling".to_owned(), "users", users);
    let mut inserts = stream::iter(0..users)
        .map(|user| {
            let values: Vec<Value> = indexes(user).flat_map(|index| Message::new(index, rows).values()).collect();
            let (client, sql) = (cold.client().for_user(name(user)), sql.clone());
            async move { client.execute(sql, values).await }
        })
        .buffer_unordered(FILL_CONCURRENCY);
    while inserts.try_next().await.map_err(BenchError::client("filling partitions"))?.is_some() {
        progress.add(1);
    }
    let flushed = cold.flush(USER_TABLE).await?;
    if (flushed.rows, flushed.partitions) != (rows, users) {
        let (rows, users) = (flushed.rows, flushed.partitions);
        return Err(BenchError::WrongAnswer(format!("{rows} rows of {users} users were flushed")));
    }
    eprintln!("partitions-scan: {users} partitions flushed in {:.2} s", flushed.took_ms / 1_000.0);
    cold.quiet().await
}

async fn one_user(
    context: &mut Context,
    cold: &ColdServer,
    users: u64,
    files: &BTreeMap<String, Vec<PathBuf>>,
) -> Result<()> {
    let sql: Arc<str> = aggregate(&cold.qualified(USER_TABLE)).into();
    let (mut alone, mut readers) = (Vec::new(), Vec::new());
    for number in 0..READ_USERS.min(users) {
        let user = number * users / READ_USERS.min(users);
        let (name, expected) = (name(user), expected_of(indexes(user)));
        check(&name, &answer(&cold.client().for_user(&name), &sql).await?, &expected)?;
        let files = files.get(&name).map(Vec::as_slice).unwrap_or_default();
        let client = DataFusionClient::on_files(files, &aggregate(IN_FILES), ROLE_COUNT).await?;
        check("DataFusion alone", &figures(&client.run().await?)?, &expected)?;
        readers.push(wire::user_metadata(&name)?);
        alone.push(client);
    }
    let (readers, alone): (Arc<[_]>, Arc<[_]>) = (readers.into(), alone.into());
    let sample = |_: usize| -> Requests {
        let sql = sql.to_string();
        Box::new(move || statement(sql.clone(), Vec::new()))
    };
    for clients in context.args.clients(&CLIENTS) {
        let traffic = Traffic {
            clients,
            connections: context.args.connections(),
            user: &|_| name(0),
            requests: &sample,
            expect: Expect::Rows(ROLE_COUNT),
        };
        let (_echo, echo) = echo_limit(&traffic, &traffic.sample(&cold.url()).await?).await?;
        let (mut subject, mut limits) = (Vec::new(), Vec::new());
        for channel in traffic.channels(&cold.url()).await?.iter().cycle().take(clients) {
            let seed = subject.len() as u64;
            limits.push(AnyDataFusion { clients: Arc::clone(&alone), random: StdRng::seed_from_u64(seed) });
            subject.push(AnyUser {
                query: QueryServiceClient::new(channel.clone()),
                users: Arc::clone(&readers),
                sql: Arc::clone(&sql),
                random: StdRng::seed_from_u64(seed),
            });
        }
        let mut limits = [echo, limit(LIMIT_FILES, Pool::new(limits))];
        context.compete("partitions-scan, one user", clients, USER_ROWS, &mut Pool::new(subject), &mut limits).await?;
    }
    Ok(())
}

async fn all_users(context: &mut Context, cold: &ColdServer, users: u64, files: Vec<PathBuf>) -> Result<()> {
    let rows = users * USER_ROWS;
    let sql = aggregate(&cold.qualified(&format!("all_users.{USER_TABLE}")));
    let expected = expected_of(0..rows);
    check("the server", &answer(cold.client(), &sql).await?, &expected)?;
    eprintln!("partitions-scan: DataFusion alone looks at {} files", files.len());
    let alone = DataFusionClient::on_files(&files, &aggregate(IN_FILES), ROLE_COUNT).await?;
    check("DataFusion alone", &figures(&alone.run().await?)?, &expected)?;
    let requests = |_: usize| -> Requests {
        let sql = sql.clone();
        Box::new(move || statement(sql.clone(), Vec::new()))
    };
    let traffic = Traffic {
        clients: 1,
        connections: 1,
        user: &|_| OPERATOR.to_owned(),
        requests: &requests,
        expect: Expect::Rows(ROLE_COUNT),
    };
    let limits = vec![limit(LIMIT_FILES, Pool::new(vec![alone]))];
    context.measure("partitions-scan, all users", rows, &cold.url(), &traffic, limits).await
}

/// Asks as a random user each time.
struct AnyUser {
    query: QueryServiceClient<Channel>,
    users: Arc<[MetadataValue<Ascii>]>,
    sql: Arc<str>,
    random: StdRng,
}

impl Client for AnyUser {
    async fn call(&mut self) -> Result<Reply, String> {
        let user = &self.users[self.random.random_range(0..self.users.len())];
        let request = wire::as_user(statement(&*self.sql, Vec::new()), user);
        let response = self.query.execute(request).await.map_err(|status| status_text(&status))?;
        Expect::Rows(ROLE_COUNT).check(response.get_ref())
    }
}

/// Runs the query of a random one of several.
struct AnyDataFusion {
    clients: Arc<[DataFusionClient]>,
    random: StdRng,
}

impl Client for AnyDataFusion {
    async fn call(&mut self) -> Result<Reply, String> {
        let mut client = self.clients[self.random.random_range(0..self.clients.len())].clone();
        client.call().await
    }
}
