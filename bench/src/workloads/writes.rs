//! INSERTs of one row and of many, with generated keys, each client as a user of its own.

use kalamdb_proto::v1::Value;

use super::{Context, write_limits};
use crate::{
    data,
    error::Result,
    limits::rocks::Writes,
    servers::Durability,
    wire::{Expect, Requests, Traffic, statement, text, values_clause},
};

const INSERT_CLIENTS: [usize; 4] = [1, 16, 64, 256];
const BATCH_CLIENTS: [usize; 2] = [1, 16];
/// Rows of one statement of `batch-insert`.
const BATCH_ROWS: u64 = 100;
/// Distance between the clients' message numbers, so that no two write the same text.
const CLIENT_STRIDE: u64 = 1 << 40;
const ROLE: &str = "user";

/// One row a statement, with the server's durability as asked for.
pub(super) async fn insert(context: &mut Context, durability: Durability) -> Result<()> {
    let workload = match durability {
        Durability::Sync => "insert",
        Durability::Async => "insert-async",
    };
    write(context, workload, durability, 1, &INSERT_CLIENTS).await
}

/// A hundred rows a statement, durable.
pub(super) async fn batch_insert(context: &mut Context) -> Result<()> {
    write(context, "batch-insert", Durability::Sync, BATCH_ROWS, &BATCH_CLIENTS).await
}

async fn write(
    context: &mut Context,
    workload: &str,
    durability: Durability,
    rows: u64,
    default_clients: &[usize],
) -> Result<()> {
    let url = context.servers.with_durability(durability).await?.url().to_owned();
    let groups = values_clause(rows as usize, 3);
    let sql =
        format!("INSERT INTO {}.messages (conversation_id, role, content) VALUES {groups}", context.args.namespace);
    let requests = |client: usize| -> Requests {
        let sql = sql.clone();
        let mut next = client as u64 * CLIENT_STRIDE;
        Box::new(move || {
            let from = next;
            next += rows;
            statement(sql.clone(), (from..next).flat_map(parameters).collect())
        })
    };
    let writes = Writes {
        rows,
        value_bytes: data::stored_row_bytes(&[&data::conversation(0), ROLE, &data::content(0)]),
        sync: durability == Durability::Sync,
    };
    for clients in context.args.clients(default_clients) {
        let traffic = Traffic {
            clients,
            connections: context.args.connections(),
            user: &|client| format!("writer-{client}"),
            requests: &requests,
            expect: Expect::Affected(rows),
        };
        let response = traffic.sample(&url).await?;
        let (_echo, limits) = write_limits(context, &traffic, &response, writes).await?;
        context.measure(workload, rows, &url, &traffic, limits).await?;
    }
    Ok(())
}

fn parameters(number: u64) -> [Value; 3] {
    let conversation = number % data::CONVERSATION_ROWS;
    [text(data::conversation(conversation)), text(ROLE), text(data::content(number))]
}
