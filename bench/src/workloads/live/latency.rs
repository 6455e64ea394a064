//! From an INSERT's call to its change at a subscriber.

use std::sync::Arc;

use super::{
    STREAMS, start_server,
    traffic::{Mode, Pace, Plan, Side, Slice, record_script},
};
use crate::{
    driver::{Contest, Window},
    error::Result,
    limits::broadcast::BroadcastServer,
    report::{LoadRecord, Record},
    workloads::Context,
};

const SUBSCRIPTIONS: [usize; 3] = [1, 1_000, 10_000];

pub(super) async fn live_latency(context: &mut Context) -> Result<()> {
    let subscriptions = context.args.live.subscriptions(&SUBSCRIPTIONS);
    let server = start_server(context, &[]).await?;
    let script = record_script(server.url(), &context.args.namespace).await?;
    let limit = BroadcastServer::start(&script).await?;
    for mode in Mode::ALL {
        for (number, subscriptions) in subscriptions.iter().enumerate() {
            let plan = Plan {
                mode,
                subscriptions: *subscriptions,
                namespace: context.args.namespace.clone(),
                prefix: format!("{}-{number}", mode.name().replace(' ', "-")),
            };
            let rate = context.args.live.commits_per_s(plan.subscribers());
            let workload = format!("live-latency, {}", mode.name());
            eprintln!("{workload}: {rate:.1} commits/s, each to {} of {subscriptions}", plan.subscribers());
            compete(context, &workload, plan, Pace::Rate(rate), server.url(), limit.url()).await?;
        }
    }
    Ok(())
}

/// Runs the server between two halves of its limit, and reports the deliveries and the INSERTs.
///
/// The server has no subscribers while the limit is measured: what it tells idle ones every second would be in the way.
pub(super) async fn compete(
    context: &mut Context,
    workload: &str,
    plan: Plan,
    pace: Pace,
    server_url: &str,
    limit_url: &str,
) -> Result<()> {
    let (window, connections) = (context.args.window(), context.args.connections());
    let half = Window { warmup: window.warmup / 2, measure: window.measure / 2 };
    let (subscriptions, plan) = (plan.subscriptions, Arc::new(plan));
    let mut limit = Side::open(limit_url, &plan, connections).await?;
    let mut bare = Slice::new();
    bare.merge(limit.run(half, pace).await?);

    let mut subject = Side::open(server_url, &plan, connections).await?;
    let found = subject.run(window, pace).await?;
    subject.close().await;

    bare.merge(limit.run(half, pace).await?);
    limit.close().await;
    let inserts = format!("{workload}: INSERT");
    for (name, clients, subject, limit) in [
        (workload, subscriptions, found.deliveries, bare.deliveries),
        (&inserts, super::traffic::WRITERS, found.inserts, bare.inserts),
    ] {
        let contest = Contest { subject, limits: vec![(STREAMS, limit)] };
        context.report(Record::Load(Box::new(LoadRecord::new(name, clients, 1, &contest))))?;
    }
    Ok(())
}
