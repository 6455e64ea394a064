//! Many users: how fast they are made, and how fast one, or those whose names begin alike, are found.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::start_server;
use crate::{
    error::{BenchError, Result},
    progress::Progress,
    report::{Record, access::UsersRecord},
    wire::{Expect, Requests, Traffic, statement, text},
    workloads::{Context, echo_limit},
};

const CLIENTS: [usize; 2] = [1, 16];
const DEFAULT_USERS: u64 = 100_000;
/// Users that one statement makes.
const STATEMENT_USERS: u64 = 500;
/// Statements under way at the same time.
const CONCURRENCY: usize = 4;
/// Users whose names begin alike.
const ALIKE: u64 = 10;

pub(super) async fn users(context: &mut Context) -> Result<()> {
    let users = context.args.rows.unwrap_or(DEFAULT_USERS);
    let server = start_server(context).await?;
    let client = server.client();
    let mut progress = Progress::new("users: making them".to_owned(), "users", users);
    let begin = Instant::now();
    let statements =
        (0..users).step_by(STATEMENT_USERS as usize).map(|first| insert(first..(first + STATEMENT_USERS).min(users)));
    let mut inserts = stream::iter(statements).map(|sql| client.execute(sql, ())).buffer_unordered(CONCURRENCY);
    let mut made = 0;
    while let Some(result) = inserts.try_next().await.map_err(BenchError::client("making users"))? {
        made += result.row_count();
        progress.add(result.row_count());
    }
    drop((inserts, progress));
    if made != users {
        return Err(BenchError::WrongAnswer(format!("{made} users were made of {users}")));
    }
    context.report(Record::Users(UsersRecord::new(users, begin.elapsed())))?;

    let by_id = |client: usize| -> Requests {
        let mut random = StdRng::seed_from_u64(client as u64);
        let sql = "SELECT * FROM system.users WHERE user_id = $1";
        Box::new(move || statement(sql, vec![text(user_id(random.random_range(0..users)))]))
    };
    // Names of a fixed width: cutting the last digit leaves what ten of them begin with.
    let by_prefix = |client: usize| -> Requests {
        let mut random = StdRng::seed_from_u64(client as u64);
        let sql = "SELECT user_id, username, role FROM system.users WHERE username LIKE $1";
        Box::new(move || {
            let mut name = username(random.random_range(0..users / ALIKE) * ALIKE);
            name.pop();
            statement(sql, vec![text(name + "%")])
        })
    };
    type Reads<'a> = &'a (dyn Fn(usize) -> Requests + Sync);
    let reads: [(&str, u64, Reads<'_>); 2] = [("users, by id", 1, &by_id), ("users, by prefix", ALIKE, &by_prefix)];
    for (name, rows, requests) in reads {
        for clients in context.args.clients(&CLIENTS) {
            let traffic = Traffic {
                clients,
                connections: context.args.connections(),
                user: &|_| "operator".to_owned(),
                requests,
                expect: Expect::Rows(rows),
            };
            let response = traffic.sample(server.url()).await?;
            let (_echo, limit) = echo_limit(&traffic, &response).await?;
            context.measure(name, rows, server.url(), &traffic, vec![limit]).await?;
        }
    }
    Ok(())
}

fn user_id(number: u64) -> String {
    format!("id-{number:09}")
}

fn username(number: u64) -> String {
    format!("user_{number:09}")
}

fn insert(numbers: std::ops::Range<u64>) -> String {
    let row = |number| format!("('{}', '{}', 'user', '{{\"plan\": \"free\"}}')", user_id(number), username(number));
    let rows: Vec<String> = numbers.map(row).collect();
    format!("INSERT INTO system.users (user_id, username, role, metadata) VALUES {}", rows.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{ALIKE, insert, username};

    #[test]
    fn so_many_names_begin_alike() {
        let mut prefix = username(120);
        prefix.pop();
        assert_eq!((0..1_000).filter(|number| username(*number).starts_with(&prefix)).count() as u64, ALIKE);
        assert!(insert(7..9).ends_with("('id-000000008', 'user_000000008', 'user', '{\"plan\": \"free\"}')"));
    }
}
