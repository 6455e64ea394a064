//! What the plan cache saves: one SELECT repeated, and the same SELECT with a text that is new each time.

use super::{Context, limit};
use crate::{
    data::{self, ROLE_COUNT},
    error::Result,
    wire::{Expect, Requests, Traffic, int, statement, text},
};

const CLIENTS: [usize; 1] = [1];
/// Few rows, so that planning is most of the work.
const ROWS: u64 = data::CONVERSATION_ROWS;
const USER: &str = "planner";
const UNCACHED: &str = "same, plan not cached";
/// Distance between the clients' aliases, so that no two use the same one.
const CLIENT_STRIDE: u64 = 1 << 40;

/// The cached SELECT is the subject, the uncached one is what it is compared with.
pub(super) async fn cached_plan(context: &mut Context) -> Result<()> {
    let server = context.servers.any().await?;
    server.fill(USER, ROWS).await?;
    let url = server.url().to_owned();
    let namespace = context.args.namespace.clone();
    let cached = |_: usize| -> Requests {
        let sql = select(&namespace, 0);
        Box::new(move || statement(sql.clone(), parameters()))
    };
    let uncached = |client: usize| -> Requests {
        let (namespace, mut alias) = (namespace.clone(), client as u64 * CLIENT_STRIDE);
        Box::new(move || {
            alias += 1;
            statement(select(&namespace, alias), parameters())
        })
    };
    for clients in context.args.clients(&CLIENTS) {
        let traffic = Traffic {
            clients,
            connections: context.args.connections(),
            user: &|_| USER.to_owned(),
            requests: &cached,
            expect: Expect::Rows(ROLE_COUNT),
        };
        let other = Traffic { requests: &uncached, ..traffic };
        let limits = vec![limit(UNCACHED, other.connect(&url).await?)];
        context.measure("cached-plan", ROLE_COUNT, &url, &traffic, limits).await?;
    }
    Ok(())
}

/// The alias changes the plan's output, so that no normalisation of the text can take two for the same.
fn select(namespace: &str, alias: u64) -> String {
    format!(
        "SELECT role, COUNT(*) AS messages, MAX(id) AS last_{alias:020} FROM {namespace}.messages \
         WHERE conversation_id = $1 AND files_changed >= $2 GROUP BY role"
    )
}

fn parameters() -> Vec<kalamdb_proto::v1::Value> {
    vec![text(data::conversation(0)), int(0)]
}
