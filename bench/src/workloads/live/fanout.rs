//! Changes delivered a second when many subscribe to the same rows.

use super::{
    latency::compete,
    start_server,
    traffic::{Mode, Pace, Plan, record_script},
};
use crate::{error::Result, limits::broadcast::BroadcastServer, workloads::Context};

const SUBSCRIPTIONS: [usize; 1] = [1_000];

pub(super) async fn live_fanout(context: &mut Context) -> Result<()> {
    let server = start_server(context, &[]).await?;
    let script = record_script(server.url(), &context.args.namespace).await?;
    let limit = BroadcastServer::start(&script).await?;
    for (number, subscriptions) in context.args.live.subscriptions(&SUBSCRIPTIONS).into_iter().enumerate() {
        let plan = Plan {
            mode: Mode::SameUser,
            subscriptions,
            namespace: context.args.namespace.clone(),
            prefix: format!("fanout-{number}"),
        };
        compete(context, "live-fanout", plan, Pace::Received, server.url(), limit.url()).await?;
    }
    Ok(())
}
