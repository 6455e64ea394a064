//! The mark of snowflake ids that are ahead of the clock: a later process, which knows the clock alone, would hand them
//! out again. [`IdSource`](crate::ids::IdSource) says when.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use kalamdb_store::{
    commit::{CommitError, PreparedCommit},
    kv::{Keyspace, WriteBatch},
};

use crate::{
    engine::Shared,
    ids::MARK_KEY,
    jobs::{core::Core, pending},
};

/// How often the ids are compared with the clock. A mark leaves room for more than are handed out meanwhile.
const INTERVAL: Duration = Duration::from_secs(1);

/// Sees to it that there is a mark while one is needed, until the job system stops.
pub(super) async fn run(core: Arc<Core>, shared: Weak<Shared>) {
    loop {
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = keep(&core, &shared).await {
            tracing::warn!(%error, "the ids that are ahead of the clock cannot be noted now");
        }
    }
}

/// Puts a mark in the store if one is due. When this returns, it is durable.
pub(super) async fn keep(core: &Core, shared: &Arc<Shared>) -> Result<(), CommitError> {
    // A mark never takes the place of a later one.
    let _turn = core.id_mark.lock().await;
    let Some(mark) = shared.ids.due_mark() else { return Ok(()) };
    let mut kv = WriteBatch::new();
    kv.put(Keyspace::System, MARK_KEY, mark.to_be_bytes());
    let commit = PreparedCommit { commit_time_us: shared.env.now_us(), kv, ..PreparedCommit::default() };
    shared.committer.commit(commit).await?;
    pending::sync(shared).await?;
    shared.ids.marked(mark);
    Ok(())
}
