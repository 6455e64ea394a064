//! Reads of a few rows: one by its key, and the last of a conversation.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Context, echo_limit};
use crate::{
    data::{self, CONVERSATION_ROWS},
    error::Result,
    wire::{Expect, Requests, Traffic, int, statement, text},
};

const CLIENTS: [usize; 2] = [1, 16];
const DEFAULT_ROWS: u64 = 10_000;
/// Rows that a conversation read asks for.
const LAST_ROWS: u64 = 50;
const USER: &str = "reader";

/// `SELECT *` of one row, by a random key that exists.
pub(super) async fn point_read(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let sql = format!("SELECT * FROM {}.messages WHERE id = $1", context.args.namespace);
    let last_id = i64::try_from(rows).unwrap_or(i64::MAX);
    let requests = |client: usize| -> Requests {
        let (sql, mut random) = (sql.clone(), StdRng::seed_from_u64(client as u64));
        Box::new(move || statement(sql.clone(), vec![int(random.random_range(1..=last_id))]))
    };
    read(context, "point-read", rows, 1, &requests).await
}

/// The last rows of a random conversation, newest first.
pub(super) async fn conversation_read(context: &mut Context) -> Result<()> {
    let rows = context.args.rows.unwrap_or(DEFAULT_ROWS);
    let sql = format!(
        "SELECT * FROM {}.messages WHERE conversation_id = $1 ORDER BY id DESC LIMIT {LAST_ROWS}",
        context.args.namespace
    );
    let conversations = data::conversations(rows);
    let requests = |client: usize| -> Requests {
        let (sql, mut random) = (sql.clone(), StdRng::seed_from_u64(client as u64));
        Box::new(move || statement(sql.clone(), vec![text(data::conversation(random.random_range(0..conversations)))]))
    };
    const { assert!(LAST_ROWS <= CONVERSATION_ROWS) }
    read(context, "conversation-read", rows, LAST_ROWS, &requests).await
}

async fn read(
    context: &mut Context,
    workload: &str,
    rows: u64,
    answer_rows: u64,
    requests: &(dyn Fn(usize) -> Requests + Sync),
) -> Result<()> {
    let server = context.servers.any().await?;
    server.fill(USER, rows).await?;
    let url = server.url().to_owned();
    for clients in context.args.clients(&CLIENTS) {
        let traffic = Traffic {
            clients,
            connections: context.args.connections(),
            user: &|_| USER.to_owned(),
            requests,
            expect: Expect::Rows(answer_rows),
        };
        let response = traffic.sample(&url).await?;
        let (_echo, limit) = echo_limit(&traffic, &response).await?;
        context.measure(workload, answer_rows, &url, &traffic, vec![limit]).await?;
    }
    Ok(())
}
